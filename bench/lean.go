//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/gopkg/net/connstate"
	"github.com/cloudwego/netpoll"
	"github.com/lesismal/nbio"
	nbiolog "github.com/lesismal/nbio/logging"
	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
)

// A lean subject does the least that it takes to be told of an end, so that what it
// costs is its own. Only those that tell by themselves are here.
type lean struct {
	name   string
	silent bool // it only answers when asked
	attach func(conn net.Conn, told func()) (any, error)
	serve  func(accepted, told func()) (addr string, stop func(), err error)
}

const (
	leanBare   = "bare (told of nothing)"
	leanAsked  = "liveness, no callback"
	leanTimers = "liveness, PeerTimeout"
)

var leans = []*lean{
	{name: leanBare, silent: true, attach: func(conn net.Conn, told func()) (any, error) { return conn, nil }},
	{name: leanAsked, silent: true, attach: func(conn net.Conn, told func()) (any, error) { return liveness.Wrap(conn, nil) }},
	{name: nameLiveness, attach: func(conn net.Conn, told func()) (any, error) {
		return liveness.Wrap(conn, &liveness.Config{OnDisconnect: func(*liveness.Conn, error) { told() }})
	}},
	{name: leanTimers, attach: func(conn net.Conn, told func()) (any, error) {
		return liveness.Wrap(conn, &liveness.Config{PeerTimeout: time.Minute, OnDisconnect: func(*liveness.Conn, error) { told() }})
	}},
	{name: nameConnstate, attach: func(conn net.Conn, told func()) (any, error) {
		st, err := connstate.ListenConnState(conn, connstate.WithOnRemoteClosed(told))
		return watched{conn, st}, err
	}},
	{name: nameParked, attach: func(conn net.Conn, told func()) (any, error) {
		go func() {
			var b [1]byte
			conn.Read(b[:])
			told()
		}()
		return conn, nil
	}},
	{name: nameHTTP, serve: leanHTTP},
	{name: nameNetpoll, serve: leanNetpoll},
	{name: nameGnet, serve: leanGnet},
	{name: nameNbio, serve: leanNbio},
}

type watched struct {
	net.Conn
	connstate.ConnStater
}

func (w watched) Close() error {
	w.ConnStater.Close()
	return w.Conn.Close()
}

func leanNamed(name string) *lean {
	for _, l := range leans {
		if l.name == name {
			return l
		}
	}
	return nil
}

// pickLeans returns those that belong to subjects.
func pickLeans(subjects []*subject) []*lean {
	var picked []*lean
	for _, l := range leans {
		for _, s := range subjects {
			if l.name == s.name || s.name == nameLiveness && (l.name == leanBare || l.name == leanAsked || l.name == leanTimers) {
				picked = append(picked, l)
			}
		}
	}
	return picked
}

// attaching sums up how long attach took.
var attaching atomic.Int64

// A leanServer is the server of a lean subject.
type leanServer struct {
	addr   string
	stop   func()
	forget func() // closes what was accepted, which the event loops do by themselves
}

func (l *lean) listen(accepted, told func()) (*leanServer, error) {
	if l.serve != nil {
		addr, stop, err := l.serve(accepted, told)
		return &leanServer{addr, stop, func() {}}, err
	}
	lc := net.ListenConfig{KeepAlive: -1}
	ln, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var all []any
	forget := func() {
		mu.Lock()
		defer mu.Unlock()
		for _, k := range all {
			k.(io.Closer).Close()
		}
		all = nil
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			start := time.Now()
			kept, err := l.attach(conn, told)
			attaching.Add(int64(time.Since(start)))
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", l.name, err)
				conn.Close()
				continue
			}
			mu.Lock()
			all = append(all, kept)
			mu.Unlock()
			accepted()
		}
	}()
	return &leanServer{ln.Addr().String(), func() { ln.Close(); forget() }, forget}, nil
}

func leanHTTP(accepted, told func()) (string, func(), error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accepted()
		<-r.Context().Done()
		told()
	})}
	go srv.Serve(l)
	return l.Addr().String(), func() { srv.Close() }, nil
}

func leanNetpoll(accepted, told func()) (string, func(), error) {
	quietNetpoll()
	l, err := netpoll.CreateListener("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	loop, err := netpoll.NewEventLoop(func(ctx context.Context, c netpoll.Connection) error {
		r := c.Reader()
		b, err := r.Next(r.Len())
		if err != nil {
			return err
		}
		if echo.Load() {
			c.Writer().WriteBinary(b)
			c.Writer().Flush()
		}
		return r.Release()
	}, netpoll.WithOnConnect(func(ctx context.Context, c netpoll.Connection) context.Context { accepted(); return ctx }),
		netpoll.WithOnDisconnect(func(context.Context, netpoll.Connection) { told() }))
	if err != nil {
		return "", nil, err
	}
	go loop.Serve(l)
	return l.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		loop.Shutdown(ctx)
	}, nil
}

type leanGnetHandler struct {
	gnet.BuiltinEventEngine
	accepted, told func()
	booted         chan gnet.Engine
}

func (h *leanGnetHandler) OnBoot(e gnet.Engine) gnet.Action { h.booted <- e; return gnet.None }

func (h *leanGnetHandler) OnOpen(gnet.Conn) ([]byte, gnet.Action) {
	h.accepted()
	return nil, gnet.None
}

func (h *leanGnetHandler) OnTraffic(c gnet.Conn) gnet.Action {
	b, _ := c.Next(-1)
	if echo.Load() {
		c.Write(b)
	}
	return gnet.None
}

func (h *leanGnetHandler) OnClose(gnet.Conn, error) gnet.Action { h.told(); return gnet.None }

func leanGnet(accepted, told func()) (string, func(), error) {
	addr, err := freeAddr()
	if err != nil {
		return "", nil, err
	}
	h := &leanGnetHandler{accepted: accepted, told: told, booted: make(chan gnet.Engine, 1)}
	failed := make(chan error, 1)
	go func() { failed <- gnet.Run(h, "tcp4://"+addr, gnet.WithLogger(noLog{}), gnet.WithMulticore(true)) }()
	select {
	case e := <-h.booted:
		waitListening(addr)
		return addr, func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			e.Stop(ctx)
		}, nil
	case err := <-failed:
		return "", nil, err
	}
}

func leanNbio(accepted, told func()) (string, func(), error) {
	nbiolog.SetLevel(nbiolog.LevelNone)
	addr, err := freeAddr()
	if err != nil {
		return "", nil, err
	}
	e := nbio.NewEngine(nbio.Config{Network: "tcp", Addrs: []string{addr}})
	e.OnOpen(func(*nbio.Conn) { accepted() })
	e.OnData(func(c *nbio.Conn, data []byte) {
		if echo.Load() {
			c.Write(append([]byte(nil), data...))
		}
	})
	e.OnClose(func(*nbio.Conn, error) { told() })
	if err := e.Start(); err != nil {
		return "", nil, err
	}
	return addr, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		e.Shutdown(ctx)
	}, nil
}

// ---- idle connections, in a process of their own

// An idleOrder is what the process reads from its standard input.
type idleOrder struct {
	Lean  string
	N     int
	For   time.Duration
	Block time.Duration // each callback blocks for so long

	Profile string // a file for the CPU profile of the resets; none if empty
}

// An idleResult is what N idle connections cost, in all unless it says otherwise.
type idleResult struct {
	Lean       string
	N          int
	Rounds     int           // of which it is the median, each figure by itself
	Err        string        `json:",omitempty"`
	Setup      time.Duration // to dial, accept and register all
	Register   time.Duration // to register one; 0 for event loops
	Heap       float64       // bytes for each connection, with stacks if there is more than one, after a garbage collection; with the connection itself
	RSS        float64       // bytes for each connection, resident
	Goroutines float64       // for each connection
	For        time.Duration // how long it was idle
	CPU        time.Duration // user and system, meanwhile
	Wakeups    int64         // context switches, meanwhile
	GC         time.Duration // one forced garbage collection
	Resets     time.Duration // how long it took the clients to reset all
	ResetCPU   time.Duration // what this process took for all of them
	AllTold    time.Duration // from the first reset until all were told
	Threads    int           // most threads, at the end
	Told       int
}

// usage is what this process has taken from the machine.
func usageNow() (cpu time.Duration, switches int64) {
	var r unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), r.Nvcsw + r.Nivcsw
}

func residentBytes() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident float64
	fmt.Sscan(string(b), &size, &resident)
	return resident * float64(os.Getpagesize())
}

// memory is what n connections take. The stacks of one drown in the 32 KiB by which
// stacks grow, so they are left out there.
func memory(n int) float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if n == 1 {
		return float64(m.HeapAlloc)
	}
	return float64(m.HeapAlloc + m.StackInuse)
}

// childMain carries out the one order that a child is started for.
func childMain[O, R any](do func(O) (R, error)) {
	var o O
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	r, err := do(o)
	a := childAnswer[R]{Result: r}
	if err != nil {
		a.Err = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(a)
}

type childAnswer[R any] struct {
	Result R
	Err    string
}

// settled is when a process has come to rest again after its first connection: the
// library stops a second after the last.
const settled = 1200 * time.Millisecond

// farmSize is how many connections one process of clients holds.
const farmSize = 6000

func idle(o idleOrder) (r idleResult, err error) {
	r = idleResult{Lean: o.Lean, N: o.N}
	l := leanNamed(o.Lean)
	if l == nil {
		return r, fmt.Errorf("no lean subject %q", o.Lean)
	}
	var accepted, told atomic.Int64
	var first atomic.Bool // has come and gone
	allTold := make(chan int64, 1)
	srv, err := l.listen(func() { accepted.Add(1) }, func() {
		if n := told.Add(1); !first.Load() {
			return
		} else if n == int64(o.N) {
			allTold <- now()
		}
		if o.Block > 0 {
			time.Sleep(o.Block)
		}
	})
	if err != nil {
		return r, err
	}
	defer srv.stop()
	until := func(limit time.Duration, n *atomic.Int64, want int) error {
		for deadline := time.Now().Add(limit); n.Load() < int64(want); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				return fmt.Errorf("%d of %d after %v", n.Load(), want, limit)
			}
		}
		return nil
	}
	prelude := ""
	if o.Lean == nameHTTP {
		prelude = httpPrelude(false)
	}
	var farms []*farm
	defer func() {
		for _, f := range farms {
			f.stop()
		}
	}()
	for range (o.N + farmSize - 1) / farmSize {
		f, err := startFarm()
		if err != nil {
			return r, err
		}
		farms = append(farms, f)
	}
	// One connection comes and goes first, so that what starts once has started.
	if err := farms[0].dial(srv.addr, prelude, 1); err != nil {
		return r, err
	}
	if err := until(20*time.Second, &accepted, 1); err != nil {
		return r, fmt.Errorf("accepted: %w", err)
	}
	time.Sleep(20 * time.Millisecond)
	if _, err := farms[0].do(farmOrder{Op: "close", N: 1}); err != nil {
		return r, err
	}
	if !l.silent {
		if err := until(10*time.Second, &told, 1); err != nil {
			return r, fmt.Errorf("told: %w", err)
		}
	}
	srv.forget()
	time.Sleep(settled)
	accepted.Store(0)
	told.Store(0)
	attaching.Store(0)
	first.Store(true)
	mem, rss, goroutines := memory(o.N), residentBytes(), runtime.NumGoroutine()
	start := time.Now()
	left := o.N
	for _, f := range farms {
		n := min(left, farmSize)
		left -= n
		if err := f.dial(srv.addr, prelude, n); err != nil {
			return r, err
		}
	}
	if err := until(20*time.Second, &accepted, o.N); err != nil {
		return r, fmt.Errorf("accepted: %w", err)
	}
	r.Setup = time.Since(start)
	r.Register = time.Duration(attaching.Load()) / time.Duration(o.N)
	time.Sleep(100 * time.Millisecond)
	n := float64(o.N)
	r.Heap = (memory(o.N) - mem) / n
	r.RSS = (residentBytes() - rss) / n
	r.Goroutines = float64(runtime.NumGoroutine()-goroutines) / n
	gc := time.Now()
	runtime.GC()
	r.GC = time.Since(gc)

	time.Sleep(200 * time.Millisecond)
	cpu, switches := usageNow()
	start = time.Now()
	time.Sleep(o.For)
	cpu2, switches2 := usageNow()
	r.For, r.CPU, r.Wakeups = time.Since(start), cpu2-cpu, switches2-switches

	if l.silent {
		return r, nil
	}
	if o.Profile != "" {
		file, err := os.Create(o.Profile)
		if err != nil {
			return r, err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return r, err
		}
		defer pprof.StopCPUProfile()
	}
	cpu, _ = usageNow()
	var began, last int64
	for _, f := range farms {
		a, err := f.do(farmOrder{Op: "reset", N: farmSize})
		if err != nil {
			return r, err
		}
		if began == 0 {
			began = a.Times[0]
		}
		last = a.Times[1]
	}
	r.Resets = time.Duration(last - began)
	select {
	case at := <-allTold:
		r.AllTold = time.Duration(at - began)
	case <-time.After(10 * time.Second):
		err = fmt.Errorf("only %d of %d were told", told.Load(), o.N)
	}
	cpu2, _ = usageNow()
	r.ResetCPU = cpu2 - cpu
	r.Told = int(told.Load())
	if tasks, err := os.ReadDir("/proc/self/task"); err == nil {
		r.Threads = len(tasks)
	}
	return r, err
}

// idles has each of leans do it in turns, rounds times, and returns the medians. A
// round that fails is left out if another does not.
func idles(leans []*lean, o idleOrder, rounds int, progress progressFunc) []idleResult {
	took := make([][]idleResult, len(leans))
	failed := make([]error, len(leans))
	for round := range rounds {
		for i := range leans {
			i = (i + round) % len(leans)
			o.Lean = leans[i].name
			progress("%d idle connections, round %d of %d: %s\n", o.N, round+1, rounds, o.Lean)
			r, err := runIdle(o)
			if err != nil {
				progress("  %v\n", err)
				failed[i] = err
				continue
			}
			took[i] = append(took[i], r)
		}
	}
	var out []idleResult
	for i, l := range leans {
		m := medianIdle(took[i])
		m.Lean, m.N = l.name, o.N
		if len(took[i]) == 0 && failed[i] != nil {
			m.Err = failed[i].Error()
		}
		out = append(out, m)
	}
	return out
}

func medianIdle(runs []idleResult) (m idleResult) {
	if len(runs) == 0 {
		return m
	}
	m = runs[0]
	m.Rounds = len(runs)
	medianOf(runs, &m.Setup, func(r *idleResult) time.Duration { return r.Setup })
	medianOf(runs, &m.Register, func(r *idleResult) time.Duration { return r.Register })
	medianOf(runs, &m.Heap, func(r *idleResult) float64 { return r.Heap })
	medianOf(runs, &m.RSS, func(r *idleResult) float64 { return r.RSS })
	medianOf(runs, &m.Goroutines, func(r *idleResult) float64 { return r.Goroutines })
	medianOf(runs, &m.For, func(r *idleResult) time.Duration { return r.For })
	medianOf(runs, &m.CPU, func(r *idleResult) time.Duration { return r.CPU })
	medianOf(runs, &m.Wakeups, func(r *idleResult) int64 { return r.Wakeups })
	medianOf(runs, &m.GC, func(r *idleResult) time.Duration { return r.GC })
	medianOf(runs, &m.Resets, func(r *idleResult) time.Duration { return r.Resets })
	medianOf(runs, &m.ResetCPU, func(r *idleResult) time.Duration { return r.ResetCPU })
	medianOf(runs, &m.AllTold, func(r *idleResult) time.Duration { return r.AllTold })
	medianOf(runs, &m.Threads, func(r *idleResult) int { return r.Threads })
	medianOf(runs, &m.Told, func(r *idleResult) int { return r.Told })
	return m
}

func medianOf[T int | int64 | float64 | time.Duration](runs []idleResult, into *T, of func(*idleResult) T) {
	var v []T
	for i := range runs {
		v = append(v, of(&runs[i]))
	}
	*into = median(v)
}

// runIdle has a process do it.
func runIdle(o idleOrder) (idleResult, error) {
	r, err := ordered[idleResult]("idle", o)
	if err != nil {
		err = fmt.Errorf("%s, %d connections: %w", o.Lean, o.N, err)
		r.Lean, r.N = o.Lean, o.N
	}
	return r, err
}

// ordered has a process of ours carry out an order.
func ordered[R any](what string, order any) (r R, err error) {
	b, err := json.Marshal(order)
	if err != nil {
		return r, err
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return r, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		inR.Close()
		inW.Close()
		return r, err
	}
	defer outR.Close()
	cmd, done, err := startChild(what, inR, outW)
	inR.Close()
	outW.Close()
	if err != nil {
		inW.Close()
		return r, err
	}
	defer func() { cmd.Process.Kill(); <-done }()
	inW.Write(b)
	inW.Close()
	limit := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer limit.Stop()
	var a childAnswer[R]
	if err := json.NewDecoder(bufio.NewReader(outR)).Decode(&a); err != nil {
		return r, err
	}
	if a.Err != "" {
		err = errors.New(a.Err)
	}
	return a.Result, err
}
