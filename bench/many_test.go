//go:build linux

package bench

import (
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/cloudwego/gopkg/net/connstate"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
)

type closer interface{ Close() error }

// A subject is a watch that does no more than report ends.
type subject struct {
	name   string
	attach func(ended func()) func(net.Conn) (closer, error)
	serve  serveFunc
	silent bool // it reports nothing
}

var subjects = []*subject{
	{name: "bare", silent: true, attach: func(func()) func(net.Conn) (closer, error) {
		return func(conn net.Conn) (closer, error) { return conn, nil }
	}},
	{name: "watch", silent: true, attach: func(func()) func(net.Conn) (closer, error) {
		return func(conn net.Conn) (closer, error) { return liveness.Wrap(conn, nil) }
	}},
	{name: "callback", attach: withConfig(liveness.Config{})},
	{name: "PeerTimeout", attach: withConfig(liveness.Config{PeerTimeout: time.Minute})},
	{name: "connstate", attach: func(ended func()) func(net.Conn) (closer, error) {
		return func(conn net.Conn) (closer, error) {
			state, err := connstate.ListenConnState(conn, connstate.WithOnRemoteClosed(ended))
			return stated{conn, state}, err
		}
	}},
	{name: "parked-Read", attach: func(ended func()) func(net.Conn) (closer, error) {
		return func(conn net.Conn) (closer, error) {
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

func withConfig(cfg liveness.Config) func(func()) func(net.Conn) (closer, error) {
	return func(ended func()) func(net.Conn) (closer, error) {
		cfg := cfg
		cfg.OnDisconnect = func(*liveness.Conn, error) { ended() }
		return func(conn net.Conn) (closer, error) { return liveness.Wrap(conn, &cfg) }
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
	tb       testing.TB
	subject  *subject
	addr     string
	farms    []*farm
	accepted chan struct{}
	ended    chan int64 // by now
	kept     []closer
	stop     func()
}

const (
	mostEnds = 20000 // more than descriptors
	farmSize = 6000
)

// listen starts the subject's server, and processes for n clients.
func (s *subject) listen(tb testing.TB, n int) *many {
	m := &many{tb: tb, subject: s, accepted: make(chan struct{}, mostEnds), ended: make(chan int64, mostEnds)}
	for ; n > 0; n -= farmSize {
		m.farms = append(m.farms, startFarm(tb))
	}
	ended := func() {
		select {
		case m.ended <- now():
		default: // our own Close
		}
	}
	var err error
	if s.serve != nil {
		m.addr, m.stop, err = s.serve(options{lean: true, ended: ended}, func(*watched) { m.accepted <- struct{}{} })
		fatal(tb, err)
		return m
	}
	l, err := listenTCP()
	fatal(tb, err)
	m.addr, m.stop = l.Addr().String(), func() { l.Close() }
	attach := s.attach(ended)
	m.kept = make([]closer, 0, mostEnds)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if c, err := attach(conn); err == nil {
				m.kept = append(m.kept, c)
				m.accepted <- struct{}{}
			}
		}
	}()
	return m
}

// dial opens n connections, spread over the clients' processes.
func (m *many) dial(n int) {
	prelude := ""
	if m.subject.name == nameHTTP {
		prelude = httpPrelude(false)
	}
	for i, f := range m.farms {
		f.must(m.tb, order{Op: "dial", Addr: m.addr, Prelude: prelude, N: min(n-i*farmSize, farmSize)})
	}
	m.await(len(m.accepted), n, func() { <-m.accepted })
}

// await calls next n times within a minute.
func (m *many) await(_, n int, next func()) {
	limit := time.AfterFunc(time.Minute, func() { panic(m.subject.name + ": not all connections were accepted or reported") })
	defer limit.Stop()
	for range n {
		next()
	}
}

// reset ends all n connections and returns when each end was reported. took is from the first reset to the last report.
func (m *many) reset(n int) (took, cpu, resetting time.Duration) {
	for len(m.ended) > 0 {
		<-m.ended
	}
	before, _ := usage()
	var first, last, reported int64
	for _, f := range m.farms {
		a := f.must(m.tb, order{Op: "reset", N: farmSize})
		if first == 0 {
			first = a.Begin
		}
		last = a.Done
	}
	m.await(0, n, func() { reported = <-m.ended })
	after, _ := usage()
	return time.Duration(reported - first), after - before, time.Duration(last - first)
}

// forget closes what was accepted, which the servers with a listener of their own do by themselves.
func (m *many) forget() {
	for _, c := range m.kept {
		c.Close()
	}
	m.kept = m.kept[:0]
	clear(m.kept[:cap(m.kept)])
}

func (m *many) close() {
	m.stop()
	m.forget()
	for _, f := range m.farms {
		f.cmd.Process.Kill()
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

// bytesEach is what each of n connections takes.
func (s *subject) bytesEach(tb testing.TB, n int) float64 {
	m := s.listen(tb, n)
	defer m.close()
	before := memory()
	m.dial(n)
	time.Sleep(50 * time.Millisecond)
	return (memory() - before) / float64(n)
}

// BenchmarkMemory reports what an idle connection takes above a bare one.
func BenchmarkMemory(b *testing.B) {
	const n = 2000
	for _, s := range subjects[1:] {
		b.Run(s.name, func(b *testing.B) {
			total, rounds := 0.0, 0.0
			for b.Loop() {
				total, rounds = total+s.bytesEach(b, n)-subjects[0].bytesEach(b, n), rounds+1
			}
			b.ReportMetric(total/rounds, "B/conn")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkIdle reports what 1000 idle connections take of the processors.
func BenchmarkIdle(b *testing.B) {
	for _, s := range subjects {
		b.Run(s.name, func(b *testing.B) {
			m := s.listen(b, 1000)
			defer m.close()
			m.dial(1000)
			runtime.GC()
			time.Sleep(500 * time.Millisecond)
			start := time.Now()
			cpu, switches := usage()
			for b.Loop() {
				time.Sleep(time.Second)
			}
			cpu2, switches2 := usage()
			seconds := time.Since(start).Seconds()
			b.ReportMetric(float64(cpu2-cpu)/1e3/seconds, "cpu-µs/s")
			b.ReportMetric(float64(switches2-switches)/seconds, "switches/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkReset resets 1000 connections at once. cpu-ns/end is what this process takes for one.
func BenchmarkReset(b *testing.B) {
	const n = 1000
	for _, s := range subjects {
		if s.silent {
			continue
		}
		b.Run(s.name, func(b *testing.B) {
			m := s.listen(b, n)
			defer m.close()
			var took, cpu time.Duration
			ends := 0.0
			for b.Loop() {
				m.dial(n)
				t, c, _ := m.reset(n)
				took, cpu, ends = took+t, cpu+c, ends+n
				m.forget()
			}
			b.ReportMetric(float64(cpu)/ends, "cpu-ns/end")
			b.ReportMetric(float64(took)/ends, "ns/end")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkFIN measures from the close of a client in another process to the report, on an idle machine.
func BenchmarkFIN(b *testing.B) { benchmarkFIN(b, 0) }

// BenchmarkFINBusy has every processor busy with another process.
func BenchmarkFINBusy(b *testing.B) { benchmarkFIN(b, runtime.NumCPU()) }

func benchmarkFIN(b *testing.B, spinning int) {
	for _, s := range subjects {
		if s.silent {
			continue
		}
		b.Run(s.name, func(b *testing.B) {
			m := s.listen(b, 1)
			defer m.close()
			if spinning > 0 {
				startFarm(b).must(b, order{Op: "spin", N: spinning})
			}
			var took []float64
			for b.Loop() {
				m.dial(1)
				// A multiple of connstate's 10 ms would show it better or worse than it is.
				time.Sleep(2*time.Millisecond + rand.N(10*time.Millisecond))
				a := m.farms[0].must(b, order{Op: "close", N: 1})
				took = append(took, float64(<-m.ended-a.Begin))
				m.forget()
				for len(m.ended) > 0 { // our own Close
					<-m.ended
				}
			}
			for name, q := range map[string]float64{"p10-ns": 0.1, "p50-ns": 0.5, "p90-ns": 0.9, "p99-ns": 0.99} {
				b.ReportMetric(quantile(took, q), name)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

