//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/cloudwego/gopkg/net/connstate"
	"github.com/murfffi/conncheck"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// A costReport is what cost measures.
type costReport struct {
	Machine    machine
	Quick      bool
	Probes     []probeCost
	Registers  []registerCost
	Idle       []idleResult
	Latency    []latencyResult
	Throughput []flowResult
	Paced      []pacedResult
}

type progressFunc func(string, ...any)

// sizes are how much is measured.
type sizes struct {
	probeRounds, registerRounds, registerBatch int
	probeTime                                  time.Duration
	idle                                       []int
	idleFor                                    time.Duration
	idleRounds                                 int
	latencyRounds, latencyBatch                int
	flowRounds                                 int
	pacedFor                                   time.Duration
	pings                                      int
	bytes                                      int
}

func sizesOf(set settings) sizes {
	switch {
	case set.tiny:
		return sizes{2, 1, 20, time.Millisecond, []int{1, 50}, 200 * time.Millisecond, 1, 1, 10, 1, 100 * time.Millisecond, 50, 1 << 20}
	case set.quick:
		return sizes{25, 3, 200, 3 * time.Millisecond, []int{1, 1000, 9000}, time.Second, 1, 5, 60, 5, 500 * time.Millisecond, 2000, 64 << 20}
	}
	return sizes{101, 7, 500, 3 * time.Millisecond, []int{1, 1000, 9000}, 2 * time.Second, 3, 20, 100, 11, time.Second, 5000, 256 << 20}
}

// costParts are what -rows chooses from.
const costParts = "looks, register, latency, throughput, paced, idle"

func cost(subjects []*subject, set settings, progress progressFunc) (*costReport, error) {
	rep := &costReport{}
	if set.rows != "" {
		if err := kept(set.jsonFile, rep); err != nil {
			return nil, err
		}
	}
	rep.Machine, rep.Quick = thisMachine(), set.quick || set.tiny
	sz := sizesOf(set)
	picked := pickLeans(subjects)
	wanted := func(part string) bool { return strings.Contains(part, set.rows) }
	var err error
	if wanted("looks") {
		progress("looks\n")
		if rep.Probes, err = probeCosts(sz); err != nil {
			return nil, err
		}
	}
	if wanted("register") {
		progress("register and release\n")
		if rep.Registers, err = registerCosts(picked, sz); err != nil {
			return nil, err
		}
	}
	if wanted("latency") {
		if rep.Latency, err = latencies(picked, sz, progress); err != nil {
			return nil, err
		}
	}
	if wanted("throughput") {
		if rep.Throughput, err = flows(sz, progress); err != nil {
			return nil, err
		}
	}
	if wanted("paced") {
		if rep.Paced, err = paced(sz, progress); err != nil {
			return nil, err
		}
	}
	if !wanted("idle") {
		return rep, nil
	}
	rep.Idle = nil
	for _, n := range sz.idle {
		rep.Idle = append(rep.Idle, idles(picked, idleOrder{N: n, For: sz.idleFor}, sz.idleRounds, progress)...)
	}
	return rep, nil
}

func median[T int | int64 | float64 | time.Duration](v []T) T {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// ---- looks

type probeCost struct {
	Name        string
	NS          float64 // median of the rounds
	Ratio       float64 // median of the rounds' ratios to the raw peek
	Allocs, Mem float64
}

// local is a pair of ends in this process.
func local() (*net.TCPConn, *livenesstest.Peer, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	peer, err := livenesstest.Dial("tcp4", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	conn, err := l.Accept()
	if err != nil {
		peer.Close()
		return nil, nil, err
	}
	return conn.(*net.TCPConn), peer, nil
}

func probeCosts(sz sizes) ([]probeCost, error) {
	conn, peer, err := local()
	if err != nil {
		return nil, err
	}
	defer peer.Close()
	defer conn.Close()
	other, otherPeer, err := local()
	if err != nil {
		return nil, err
	}
	defer otherPeer.Close()
	c, err := liveness.Wrap(other, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	third, thirdPeer, err := local()
	if err != nil {
		return nil, err
	}
	defer thirdPeer.Close()
	defer third.Close()
	st, err := connstate.ListenConnState(third)
	if err != nil {
		return nil, err
	}
	defer st.Close()

	fd := descriptor(conn)
	peek := make([]byte, 1)
	pollFD := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	var bad error
	must := func(fine bool, name string) {
		if !fine && bad == nil {
			bad = fmt.Errorf("%s says that a live connection is gone", name)
		}
	}
	// Each has a loop of its own, for a call through a variable costs as much as a flag.
	type op struct {
		name string
		run  func(n int)
		slow bool
	}
	ops := []op{
		{name: "raw recvfrom(MSG_PEEK)", run: func(n int) {
			for range n {
				rawPeek(fd, peek)
			}
		}},
		{name: "raw recvfrom, RawSyscall", run: func(n int) {
			for range n {
				rawestPeek(fd, peek)
			}
		}},
		{name: "raw poll(POLLRDHUP)", run: func(n int) {
			for range n {
				pollFD[0].Revents = 0
				unix.Poll(pollFD, 0)
			}
		}},
		{name: "raw poll, RawSyscall", run: func(n int) {
			for range n {
				pollFD[0].Revents = 0
				rawestPoll(&pollFD[0])
			}
		}},
		{name: "liveness Conn.Alive", run: func(n int) {
			for range n {
				if !c.Alive() {
					must(false, "Alive")
				}
			}
		}},
		{name: "liveness Conn.Err (flag)", run: func(n int) {
			for range n {
				if c.Err() != nil {
					must(false, "Err")
				}
			}
		}},
		{name: "liveness Check, wrapped", run: func(n int) {
			for range n {
				if liveness.Check(c) != nil {
					must(false, "Check")
				}
			}
		}},
		{name: "liveness Check, bare", run: func(n int) {
			for range n {
				if liveness.Check(conn) != nil {
					must(false, "Check")
				}
			}
		}},
		{name: "liveness Conn.Status", run: func(n int) {
			for range n {
				if c.Status().State != liveness.Connected {
					must(false, "Status")
				}
			}
		}},
		{name: "connstate State (flag)", run: func(n int) {
			for range n {
				if st.State() != connstate.StateOK {
					must(false, "connstate")
				}
			}
		}},
		{name: "conncheck.Do", run: func(n int) {
			for range n {
				if conncheck.Do(conn) != conncheck.StatusOpen {
					must(false, "conncheck")
				}
			}
		}},
		{name: "mysql check", run: func(n int) {
			for range n {
				if mysqlCheck(raw) != nil {
					must(false, "mysql check")
				}
			}
		}},
		{name: "go-redis check", run: func(n int) {
			for range n {
				if redisCheck(conn, raw) != nil {
					must(false, "go-redis check")
				}
			}
		}},
		{name: "1 ms read", slow: true, run: func(n int) {
			for range n {
				if deadlineCheck(conn) != nil {
					must(false, "1 ms read")
				}
			}
		}},
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ns := make([][]float64, len(ops))
	ratios := make([][]float64, len(ops))
	out := make([]probeCost, len(ops))
	for round := range sz.probeRounds {
		first := 0.0
		for i, o := range ops {
			var n int
			var took time.Duration
			if o.slow {
				n = 3
				start := time.Now()
				o.run(n)
				took = time.Since(start)
			} else {
				// Time of the processor and not of the clock: nothing here waits, and what
				// others do on the machine is theirs.
				start := threadTime()
				for took < sz.probeTime {
					o.run(200)
					n += 200
					took = threadTime() - start
				}
			}
			each := float64(took) / float64(n)
			ns[i] = append(ns[i], each)
			if i == 0 {
				first = each
			}
			ratios[i] = append(ratios[i], each/first)
			if round == 0 {
				count := 1000
				if o.slow {
					count = 10
				}
				out[i].Name = o.name
				out[i].Allocs, out[i].Mem = allocations(count, o.run)
			}
		}
	}
	for i := range ops {
		out[i].NS, out[i].Ratio = median(ns[i]), median(ratios[i])
	}
	return out, bad
}

// threadTime is what this thread has had of its processor.
func threadTime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

// rawPeek is the system call as x/sys makes it, but for the address that it allocates.
func rawPeek(fd int, b []byte) {
	unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
}

// rawestPeek does not tell the scheduler of it, as Alive does not.
func rawestPeek(fd int, b []byte) {
	unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
}

// allocations is what one round of run allocates.
func allocations(n int, run func(int)) (count, size float64) {
	run(1)
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	run(n)
	runtime.ReadMemStats(&b)
	// Somebody in the background allocates now and then.
	return math.Floor(float64(b.Mallocs-a.Mallocs)/float64(n) + 0.05), math.Round(float64(b.TotalAlloc-a.TotalAlloc) / float64(n))
}

// ---- register and release

type registerCost struct {
	Name              string
	Register, Release time.Duration // for one connection, median; Release with Close
	Allocs, Bytes     float64       // of Register
}

func registerCosts(picked []*lean, sz sizes) ([]registerCost, error) {
	var names []string
	reg, rel := make(map[string][]time.Duration), make(map[string][]time.Duration)
	allocs, bytes := make(map[string]float64), make(map[string]float64)
	for round := range sz.registerRounds {
		for _, l := range picked {
			if l.attach == nil {
				continue
			}
			if round == 0 {
				names = append(names, l.name)
			}
			conns := make([]net.Conn, sz.registerBatch)
			peers := make([]*livenesstest.Peer, sz.registerBatch)
			kept := make([]any, sz.registerBatch)
			for i := range conns {
				var err error
				if conns[i], peers[i], err = local(); err != nil {
					return nil, err
				}
			}
			var a, b runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&a)
			start := time.Now()
			for i, conn := range conns {
				var err error
				if kept[i], err = l.attach(conn, func() {}); err != nil {
					return nil, err
				}
			}
			took := time.Since(start)
			runtime.ReadMemStats(&b)
			n := time.Duration(sz.registerBatch)
			reg[l.name] = append(reg[l.name], took/n)
			allocs[l.name] = float64(b.Mallocs-a.Mallocs) / float64(n)
			bytes[l.name] = float64(b.TotalAlloc-a.TotalAlloc) / float64(n)
			start = time.Now()
			for _, k := range kept {
				k.(io.Closer).Close()
			}
			rel[l.name] = append(rel[l.name], time.Since(start)/n)
			for _, p := range peers {
				p.Close()
			}
		}
	}
	var out []registerCost
	for _, name := range names {
		out = append(out, registerCost{name, median(reg[name]), median(rel[name]), math.Round(allocs[name]*10) / 10, math.Round(bytes[name])})
	}
	return out, nil
}

// ---- notice latency

type latencyResult struct {
	Name          string
	P50, P99, Max time.Duration
	RatioP50      float64 // median of the rounds' ratios of medians, to a parked Read
	Samples       int
	Quantiles     []time.Duration // from 0 to 100 percent
}

func latencies(picked []*lean, sz sizes, progress progressFunc) ([]latencyResult, error) {
	f, err := startFarm()
	if err != nil {
		return nil, err
	}
	defer f.stop()
	samples := make(map[string][]time.Duration)
	ratios := make(map[string][]float64)
	for round := range sz.latencyRounds {
		progress("notice latency, round %d of %d\n", round+1, sz.latencyRounds)
		medians := make(map[string]time.Duration)
		for _, l := range picked {
			if l.silent {
				continue
			}
			s, err := latencyRound(l, f, sz.latencyBatch)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.name, err)
			}
			samples[l.name] = append(samples[l.name], s...)
			medians[l.name] = median(s)
		}
		for name, m := range medians {
			if base := medians[nameParked]; base > 0 {
				ratios[name] = append(ratios[name], float64(m)/float64(base))
			}
		}
	}
	var out []latencyResult
	for _, l := range picked {
		if s := samples[l.name]; len(s) > 0 {
			slices.Sort(s)
			quantiles := make([]time.Duration, 101)
			for i := range quantiles {
				quantiles[i] = s[(len(s)-1)*i/100]
			}
			out = append(out, latencyResult{l.name, s[len(s)/2], s[len(s)*99/100], s[len(s)-1], median(ratios[l.name]), len(s), quantiles})
		}
	}
	return out, nil
}

func latencyRound(l *lean, f *farm, n int) ([]time.Duration, error) {
	accepted, told := make(chan struct{}, n), make(chan int64, n)
	srv, err := l.listen(func() { accepted <- struct{}{} }, func() {
		at := now()
		select {
		case told <- at:
		default: // our own Close
		}
	})
	if err != nil {
		return nil, err
	}
	defer srv.stop()
	prelude := ""
	if l.name == nameHTTP {
		prelude = httpPrelude(false)
	}
	if err := f.dial(srv.addr, prelude, n); err != nil {
		return nil, err
	}
	for range n {
		select {
		case <-accepted:
		case <-time.After(10 * time.Second):
			return nil, errors.New("not all were accepted")
		}
	}
	time.Sleep(20 * time.Millisecond)
	var out []time.Duration
	for range n {
		// Or each end would come just after connstate has looked.
		time.Sleep(rand.N(11 * time.Millisecond))
		a, err := f.do(farmOrder{Op: "close", N: 1})
		if err != nil {
			return nil, err
		}
		select {
		case at := <-told:
			out = append(out, time.Duration(at-a.Times[0]))
		case <-time.After(5 * time.Second):
			return nil, errors.New("an end was not told")
		}
	}
	return out, nil
}

// ---- throughput

type flowResult struct {
	Flow, Name string
	Value      float64 // median
	Unit       string
	Ratio      float64 // of the time it takes, to bare; median of the rounds' ratios
	CPU        float64 // this process's CPU, ms for each GB; 0 if not measured
	CPURatio   float64
}

// embedded is what a wrapper is that only embeds: ReadFrom and the like are gone.
type embedded struct{ net.Conn }

type flowKind struct {
	name string
	wrap func(conn net.Conn) (net.Conn, error)
	stop func(conn net.Conn) // before Close, if not nil
}

// states are the connections that connstate watches: it wraps nothing.
var states sync.Map

var flowKinds = []flowKind{
	{"bare", func(conn net.Conn) (net.Conn, error) { return conn, nil }, nil},
	{"liveness", func(conn net.Conn) (net.Conn, error) { return liveness.Wrap(conn, nil) }, nil},
	{"liveness, all time-outs", func(conn net.Conn) (net.Conn, error) {
		return liveness.Wrap(conn, &liveness.Config{PeerTimeout: time.Minute, StallTimeout: time.Minute, ReadIdleTimeout: time.Minute})
	}, nil},
	{"connstate beside it", func(conn net.Conn) (net.Conn, error) {
		st, err := connstate.ListenConnState(conn)
		states.Store(conn, st)
		return conn, err
	}, func(conn net.Conn) {
		if st, ok := states.LoadAndDelete(conn); ok {
			st.(connstate.ConnStater).Close()
		}
	}},
	{"struct{net.Conn}", func(conn net.Conn) (net.Conn, error) { return embedded{conn}, nil }, nil},
}

// flowEnds are two connections with their clients in processes of their own.
type flowEnds struct {
	ln   net.Listener
	a, b *farm
}

func (e *flowEnds) dial(f *farm) (net.Conn, error) {
	if err := f.dial(e.ln.Addr().String(), "", 1); err != nil {
		return nil, err
	}
	return e.ln.Accept()
}

func flows(sz sizes, progress progressFunc) ([]flowResult, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	ln, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	e := &flowEnds{ln: ln}
	if e.a, err = startFarm(); err != nil {
		return nil, err
	}
	defer e.a.stop()
	if e.b, err = startFarm(); err != nil {
		return nil, err
	}
	defer e.b.stop()
	file, err := os.CreateTemp("", "liveness-bench")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := file.Truncate(int64(sz.bytes)); err != nil {
		return nil, err
	}

	const (
		pingpong = "64-byte ping-pong"
		reading  = "Read, 256 KiB"
		writing  = "Write, 64 KiB"
		buffers  = "net.Buffers, 16 × 1 KiB"
		copyFile = "io.Copy, file to connection"
		copyConn = "io.Copy, connection to connection"
	)
	type run struct {
		took time.Duration
		cpu  time.Duration
	}
	one := func(flow string, kind flowKind) (r run, err error) {
		closing := func(conn net.Conn) {
			if kind.stop != nil {
				kind.stop(conn)
			}
			conn.Close()
		}
		bare, err := e.dial(e.a)
		if err != nil {
			return r, err
		}
		conn, err := kind.wrap(bare)
		if err != nil {
			bare.Close()
			return r, err
		}
		defer e.a.do(farmOrder{Op: "close", N: 1})
		defer closing(conn)
		cpu, _ := usageNow()
		start := time.Now()
		done := func() {
			r.took = time.Since(start)
			c, _ := usageNow()
			r.cpu = c - cpu
		}
		switch flow {
		case pingpong:
			go func() {
				b := make([]byte, 64)
				for {
					n, err := conn.Read(b)
					if err != nil {
						return
					}
					if _, err := conn.Write(b[:n]); err != nil {
						return
					}
				}
			}()
			a, err := e.a.do(farmOrder{Op: "pingpong", N: sz.pings, Size: 64})
			if err != nil {
				return r, err
			}
			done()
			r.took = time.Duration(a.Times[1] - a.Times[0])
		case reading:
			order := make(chan error, 1)
			go func() {
				_, err := e.a.do(farmOrder{Op: "stream", N: sz.bytes >> 18, Size: 1 << 18})
				order <- err
			}()
			buf := make([]byte, 1<<18)
			for left := sz.bytes >> 18 << 18; left > 0; {
				n, err := conn.Read(buf)
				if err != nil {
					return r, err
				}
				left -= n
			}
			done()
			return r, <-order
		case copyConn:
			bare2, err := e.dial(e.b)
			if err != nil {
				return r, err
			}
			to, err := kind.wrap(bare2)
			if err != nil {
				bare2.Close()
				return r, err
			}
			defer e.b.do(farmOrder{Op: "close", N: 1})
			defer closing(to)
			if _, err := e.b.do(farmOrder{Op: "drain"}); err != nil {
				return r, err
			}
			order := make(chan error, 1)
			go func() {
				_, err := e.a.do(farmOrder{Op: "stream", N: sz.bytes >> 18, Size: 1 << 18})
				order <- err
			}()
			cpu, _ = usageNow()
			start = time.Now()
			if _, err := io.CopyN(to, conn, int64(sz.bytes>>18<<18)); err != nil {
				return r, err
			}
			done()
			return r, <-order
		default:
			if _, err := e.a.do(farmOrder{Op: "drain"}); err != nil {
				return r, err
			}
			cpu, _ = usageNow()
			start = time.Now()
			switch flow {
			case writing:
				b := make([]byte, 64<<10)
				for range sz.bytes >> 16 {
					if _, err := conn.Write(b); err != nil {
						return r, err
					}
				}
			case buffers:
				block := make([]byte, 1<<10)
				for range sz.bytes >> 16 { // a quarter of the bytes
					v := make(net.Buffers, 16)
					for i := range v {
						v[i] = block
					}
					var err error
					switch c := conn.(type) {
					case *liveness.Conn:
						_, err = c.WriteBuffers(&v)
					default:
						_, err = v.WriteTo(conn)
					}
					if err != nil {
						return r, err
					}
				}
			case copyFile:
				if _, err := file.Seek(0, io.SeekStart); err != nil {
					return r, err
				}
				if _, err := io.Copy(conn, file); err != nil {
					return r, err
				}
			}
			done()
		}
		return r, nil
	}
	type key struct{ flow, name string }
	values, ratios := make(map[key][]float64), make(map[key][]float64)
	cpus, cpuRatios := make(map[key][]float64), make(map[key][]float64)
	flowsInOrder := []string{pingpong, reading, writing, buffers, copyFile, copyConn}
	loops := []*lean{leanNamed(nameNetpoll), leanNamed(nameGnet), leanNamed(nameNbio)}
	echo.Store(true)
	defer echo.Store(false)
	for round := range sz.flowRounds {
		for _, flow := range flowsInOrder {
			progress("round %d of %d: %s\n", round+1, sz.flowRounds, flow)
			var base run
			note := func(name string, r run) {
				k := key{flow, name}
				if name == "bare" {
					base = r
				}
				gb := float64(sz.bytes) / 1e9
				if flow == buffers {
					gb /= 4
				}
				if flow == pingpong {
					values[k] = append(values[k], float64(r.took)/1e3/float64(sz.pings))
				} else {
					values[k] = append(values[k], gb*1e3/r.took.Seconds())
					cpus[k] = append(cpus[k], float64(r.cpu)/1e6/gb)
					cpuRatios[k] = append(cpuRatios[k], float64(r.cpu)/float64(max(base.cpu, 1)))
				}
				ratios[k] = append(ratios[k], float64(r.took)/float64(base.took))
			}
			// bare goes first; the others take turns at being second.
			order := []flowKind{flowKinds[0]}
			for i := range flowKinds[1:] {
				order = append(order, flowKinds[1+(i+round)%(len(flowKinds)-1)])
			}
			for _, k := range order {
				r, err := one(flow, k)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", flow, k.name, err)
				}
				note(k.name, r)
			}
			if flow == pingpong {
				for _, l := range loops {
					took, err := loopPingpong(l, e.a, sz.pings)
					if err != nil {
						return nil, fmt.Errorf("%s, %s: %w", flow, l.name, err)
					}
					note(l.name, run{took: took})
				}
			}
		}
	}
	var out []flowResult
	for _, flow := range flowsInOrder {
		names := []string{}
		for _, k := range flowKinds {
			names = append(names, k.name)
		}
		if flow == pingpong {
			names = append(names, nameNetpoll, nameGnet, nameNbio)
		}
		for _, name := range names {
			k := key{flow, name}
			unit := "MB/s"
			if flow == pingpong {
				unit = "µs"
			}
			out = append(out, flowResult{flow, name, median(values[k]), unit, median(ratios[k]), median(cpus[k]), median(cpuRatios[k])})
		}
	}
	return out, nil
}

// ---- one connection at a steady gigabyte a second

type pacedResult struct {
	Name  string
	Rate  float64       // bytes for each second, median
	CPU   time.Duration // of this process for each second, median
	Ratio float64       // of the CPU for each byte, to bare; median of the rounds' ratios
}

const (
	pacedRate  = 1e9
	pacedChunk = 256 << 10
)

// paced reads what a client in another process sends at pacedRate, or at what the
// machine can.
func paced(sz sizes, progress progressFunc) ([]pacedResult, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	ln, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	f, err := startFarm()
	if err != nil {
		return nil, err
	}
	defer f.stop()
	e := &flowEnds{ln: ln, a: f}
	chunks := int(sz.pacedFor.Seconds() * pacedRate / pacedChunk)
	one := func(kind flowKind) (took, cpu time.Duration, err error) {
		bare, err := e.dial(f)
		if err != nil {
			return 0, 0, err
		}
		conn, err := kind.wrap(bare)
		if err != nil {
			bare.Close()
			return 0, 0, err
		}
		defer f.do(farmOrder{Op: "close", N: 1})
		defer func() {
			if kind.stop != nil {
				kind.stop(conn)
			}
			conn.Close()
		}()
		order := make(chan error, 1)
		go func() {
			_, err := f.do(farmOrder{Op: "stream", N: chunks, Size: pacedChunk, Gap: time.Duration(pacedChunk * 1e9 / pacedRate)})
			order <- err
		}()
		buf := make([]byte, pacedChunk)
		cpu, _ = usageNow()
		start := time.Now()
		for left := chunks * pacedChunk; left > 0; {
			n, err := conn.Read(buf)
			if err != nil {
				return 0, 0, err
			}
			left -= n
		}
		took = time.Since(start)
		cpu2, _ := usageNow()
		return took, cpu2 - cpu, <-order
	}
	rates, ratios := make(map[string][]float64), make(map[string][]float64)
	cpus := make(map[string][]time.Duration)
	for round := range sz.flowRounds {
		progress("round %d of %d: paced\n", round+1, sz.flowRounds)
		var base time.Duration
		for i := range flowKinds {
			k := flowKinds[0] // bare goes first; the others take turns at being second
			if i > 0 {
				k = flowKinds[1+(i-1+round)%(len(flowKinds)-1)]
			}
			took, cpu, err := one(k)
			if err != nil {
				return nil, fmt.Errorf("paced, %s: %w", k.name, err)
			}
			if i == 0 {
				base = max(cpu, 1)
			}
			rates[k.name] = append(rates[k.name], float64(chunks*pacedChunk)/took.Seconds())
			cpus[k.name] = append(cpus[k.name], time.Duration(float64(cpu)/took.Seconds()))
			ratios[k.name] = append(ratios[k.name], float64(cpu)/float64(base))
		}
	}
	var out []pacedResult
	for _, k := range flowKinds {
		out = append(out, pacedResult{k.name, median(rates[k.name]), median(cpus[k.name]), median(ratios[k.name])})
	}
	return out, nil
}

// loopPingpong has an event loop echo.
func loopPingpong(l *lean, f *farm, pings int) (time.Duration, error) {
	accepted := make(chan struct{}, 1)
	srv, err := l.listen(sync.OnceFunc(func() { close(accepted) }), func() {})
	if err != nil {
		return 0, err
	}
	defer srv.stop()
	if err := f.dial(srv.addr, "", 1); err != nil {
		return 0, err
	}
	defer f.do(farmOrder{Op: "close", N: 1})
	<-accepted
	a, err := f.do(farmOrder{Op: "pingpong", N: pings, Size: 64})
	if err != nil {
		return 0, err
	}
	return time.Duration(a.Times[1] - a.Times[0]), nil
}
