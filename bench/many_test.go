//go:build linux

package bench

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cloudwego/gopkg/net/connstate"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
)

type attachFunc func(net.Conn) (io.Closer, error)

// A subject is a watch that does no more than report ends.
type subject struct {
	name   string
	attach func(ended func()) attachFunc
	serve  serveFunc
	silent bool // it reports nothing
}

var bare = &subject{name: "bare", silent: true, attach: func(func()) attachFunc {
	return func(conn net.Conn) (io.Closer, error) { return conn, nil }
}}

var subjects = []*subject{
	bare,
	{name: "watch", silent: true, attach: func(func()) attachFunc {
		return func(conn net.Conn) (io.Closer, error) { return liveness.Wrap(conn, nil) }
	}},
	{name: "callback", attach: withConfig(liveness.Config{})},
	{name: "PeerTimeout", attach: withConfig(liveness.Config{PeerTimeout: time.Minute})},
	{name: "connstate", attach: func(ended func()) attachFunc {
		return func(conn net.Conn) (io.Closer, error) {
			state, err := connstate.ListenConnState(conn, connstate.WithOnRemoteClosed(ended))
			return stated{conn, state}, err
		}
	}},
	{name: "parked-Read", attach: func(ended func()) attachFunc {
		return func(conn net.Conn) (io.Closer, error) {
			go func() {
				var b [1]byte
				conn.Read(b[:])
				ended()
			}()
			return conn, nil
		}
	}},
	{name: "net/http", serve: serveHTTP},
	{name: "netpoll", serve: serveNetpoll},
	{name: "gnet", serve: serveGnet},
	{name: "nbio", serve: serveNbio},
}

func withConfig(cfg liveness.Config) func(func()) attachFunc {
	return func(ended func()) attachFunc {
		cfg := cfg
		cfg.OnDisconnect = func(*liveness.Conn, error) { ended() }
		return func(conn net.Conn) (io.Closer, error) { return liveness.Wrap(conn, &cfg) }
	}
}

// A stated connection is watched by connstate, which demands Close before that of the connection.
type stated struct {
	conn  net.Conn
	state connstate.ConnStater
}

func (s stated) Close() error {
	s.state.Close()
	return s.conn.Close()
}

// many are connections of a subject, with the clients in processes of their own.
type many struct {
	subject  *subject
	addr     string
	farms    []*farm
	accepted chan struct{}
	ended    chan int64 // by now
	kept     []io.Closer
	stop     func()
}

const (
	mostEnds = 20000 // more than descriptors
	farmSize = 6000
)

// listen starts the subject's server, and processes for n clients.
func (s *subject) listen(n int) *many {
	m := &many{subject: s, accepted: make(chan struct{}, mostEnds), ended: make(chan int64, mostEnds)}
	for ; n > 0; n -= farmSize {
		m.farms = append(m.farms, startFarm())
	}
	ended := func() {
		select {
		case m.ended <- now():
		default: // our own Close
		}
	}
	if s.serve != nil {
		m.addr, m.stop = s.serve(options{lean: true, ended: ended}, func(*watched) { m.accepted <- struct{}{} })
		return m
	}
	l := listenTCP()
	m.addr, m.stop = l.Addr().String(), func() { l.Close() }
	attach := s.attach(ended)
	m.kept = make([]io.Closer, 0, mostEnds)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.kept = append(m.kept, must(attach(conn)))
			m.accepted <- struct{}{}
		}
	}()
	return m
}

// dial opens n connections, spread over the clients' processes.
func (m *many) dial(n int) {
	prelude := ""
	if m.subject.name == "net/http" {
		prelude = httpPrelude(false)
	}
	for i, f := range m.farms {
		f.do("dial", min(n-i*farmSize, farmSize), m.addr, prelude)
	}
	await(m.accepted, n)
}

// forget closes what was accepted, which the servers with a listener of their own do by themselves, and the reports of that.
func (m *many) forget() {
	for _, c := range m.kept {
		c.Close()
	}
	clear(m.kept)
	m.kept = m.kept[:0]
	for time.Sleep(time.Millisecond); len(m.ended) > 0; {
		<-m.ended
	}
}

func (m *many) close() {
	m.stop()
	m.forget()
	for _, f := range m.farms {
		f.kill()
	}
}

// usage is what this process has had of the processors, and its context switches.
func usage() (cpu time.Duration, switches int64) {
	var r unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), r.Nvcsw + r.Nivcsw
}

// memory is the heap and the stacks.
func memory() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// measure has n connections idle, and then resets them all at once.
func (s *subject) measure(n int) (bytes, idleCPU, switches, took, cpu float64) {
	m := s.listen(n)
	defer m.close()
	before := memory()
	m.dial(n)
	time.Sleep(50 * time.Millisecond)
	bytes = memory() - before
	time.Sleep(200 * time.Millisecond)
	cpu0, switches0 := usage()
	time.Sleep(time.Second)
	cpu1, switches1 := usage()
	idleCPU, switches = float64(cpu1-cpu0), float64(switches1-switches0)
	if s.silent {
		return bytes, idleCPU, switches, 0, 0
	}
	cpu0, _ = usage()
	first := now()
	for _, f := range m.farms {
		f.do("reset", farmSize, "", "")
	}
	took = float64(await(m.ended, n) - first)
	cpu1, _ = usage()
	return bytes, idleCPU, switches, took, float64(cpu1 - cpu0)
}

// BenchmarkMany has 2000 connections. B/conn is the memory of one above that of a bare one. cpu-µs/s and switches/s are
// processor time and context switches of the process while all are idle. Then all are reset: ns/end is the time from the
// first reset to the last report divided by 2000, and cpu-ns/end what this process takes for one.
func BenchmarkMany(b *testing.B) {
	const n = 2000
	eachSubject(b, func(b *testing.B, s *subject) {
		var sum [5]float64
		for b.Loop() {
			without, _, _, _, _ := bare.measure(n)
			bytes, idleCPU, switches, took, cpu := s.measure(n)
			for i, v := range []float64{(bytes - without) / n, idleCPU / 1e3, switches, took / n, cpu / n} {
				sum[i] += v
			}
		}
		for i, unit := range []string{"B/conn", "cpu-µs/s", "switches/s", "ns/end", "cpu-ns/end"} {
			if sum[i] != 0 {
				b.ReportMetric(sum[i]/float64(b.N), unit)
			}
		}
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkFIN measures from the close of a client in another process to the report, on an idle machine.
func BenchmarkFIN(b *testing.B) { benchmarkFIN(b, 0) }

// BenchmarkFINBusy has every processor busy with another process.
func BenchmarkFINBusy(b *testing.B) { benchmarkFIN(b, runtime.NumCPU()) }

func benchmarkFIN(b *testing.B, spinning int) {
	eachSubject(b, func(b *testing.B, s *subject) {
		if s.silent {
			b.Skip("reports nothing")
		}
		m := s.listen(1)
		defer m.close()
		spinner := startFarm()
		defer spinner.kill()
		spinner.do("spin", spinning, "", "")
		var took []float64
		for b.Loop() {
			m.dial(1)
			time.Sleep(2*time.Millisecond + rand.N(10*time.Millisecond)) // at any phase of connstate's 10 ms
			began := m.farms[0].do("close", 1, "", "")
			took = append(took, float64(await(m.ended, 1)-began))
			m.forget()
		}
		slices.Sort(took)
		for _, percent := range []int{10, 50, 90, 99} {
			b.ReportMetric(took[(len(took)-1)*percent/100], fmt.Sprintf("p%d-ns", percent))
		}
		b.ReportMetric(0, "ns/op")
	})
}

var polling = flag.Bool("connstate", false, "benchmark connstate alone, which polls for ever once it was used and so wakes the processors for the others")

// eachSubject runs a benchmark for each subject but the bare connection.
func eachSubject(b *testing.B, run func(*testing.B, *subject)) {
	for _, s := range subjects[1:] {
		if *polling == (s.name == "connstate") {
			b.Run(s.name, func(b *testing.B) { run(b, s) })
		}
	}
}
