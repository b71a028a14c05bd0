//go:build linux

package bench

import (
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
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

func (s *subject) reports() bool { return !s.silent }

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
	if m.subject.name == nameHTTP {
		prelude = httpPrelude(false)
	}
	for i, f := range m.farms {
		f.do(order{Op: "dial", Addr: m.addr, Prelude: prelude, N: min(n-i*farmSize, farmSize)})
	}
	await(m.accepted, n)
}

// reset ends all n connections. took is from the first reset to the last report, cpu what this process had meanwhile.
func (m *many) reset(n int) (took, cpu time.Duration) {
	before, _ := usage()
	first := now()
	for _, f := range m.farms {
		f.do(order{Op: "reset", N: farmSize})
	}
	last := await(m.ended, n)
	after, _ := usage()
	return time.Duration(last - first), after - before
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

// bytesEach is what each of n connections takes.
func (s *subject) bytesEach(n int) float64 {
	m := s.listen(n)
	defer m.close()
	before := memory()
	m.dial(n)
	time.Sleep(50 * time.Millisecond)
	return (memory() - before) / float64(n)
}

// BenchmarkMemory reports what an idle connection takes above a bare one.
func BenchmarkMemory(b *testing.B) {
	eachSubject(b, func(s *subject) bool { return s != bare }, func(b *testing.B, s *subject) {
		total, rounds := 0.0, 0.0
		for b.Loop() {
			total, rounds = total+s.bytesEach(2000)-bare.bytesEach(2000), rounds+1
		}
		report(b, "B/conn", total/rounds)
	})
}

// BenchmarkIdle reports what 1000 idle connections take of the processors.
func BenchmarkIdle(b *testing.B) {
	eachSubject(b, nil, func(b *testing.B, s *subject) {
		m := s.listen(1000)
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
		report(b, "cpu-µs/s", float64(cpu2-cpu)/1e3/seconds, "switches/s", float64(switches2-switches)/seconds)
	})
}

// BenchmarkReset resets 1000 connections at once. cpu-ns/end is what this process takes for one.
func BenchmarkReset(b *testing.B) {
	eachSubject(b, (*subject).reports, func(b *testing.B, s *subject) {
		m := s.listen(1000)
		defer m.close()
		var took, cpu time.Duration
		ends := 0.0
		for b.Loop() {
			m.dial(1000)
			t, c := m.reset(1000)
			took, cpu, ends = took+t, cpu+c, ends+1000
			m.forget()
		}
		report(b, "cpu-ns/end", float64(cpu)/ends, "ns/end", float64(took)/ends)
	})
}

// BenchmarkFIN measures from the close of a client in another process to the report, on an idle machine.
func BenchmarkFIN(b *testing.B) { benchmarkFIN(b, 0) }

// BenchmarkFINBusy has every processor busy with another process.
func BenchmarkFINBusy(b *testing.B) { benchmarkFIN(b, runtime.NumCPU()) }

func benchmarkFIN(b *testing.B, spinning int) {
	eachSubject(b, (*subject).reports, func(b *testing.B, s *subject) {
		m := s.listen(1)
		defer m.close()
		spinner := startFarm()
		defer spinner.kill()
		spinner.do(order{Op: "spin", N: spinning})
		var took []float64
		for b.Loop() {
			m.dial(1)
			time.Sleep(2*time.Millisecond + rand.N(10*time.Millisecond)) // at any phase of connstate's 10 ms
			a := m.farms[0].do(order{Op: "close", N: 1})
			took = append(took, float64(await(m.ended, 1)-a.Begin))
			m.forget()
		}
		report(b, "p10-ns", quantile(took, 0.1), "p50-ns", quantile(took, 0.5), "p90-ns", quantile(took, 0.9), "p99-ns", quantile(took, 0.99))
	})
}

// report takes pairs of unit and value. Without "ns/op" none is printed.
func report(b *testing.B, pairs ...any) {
	b.ReportMetric(0, "ns/op")
	for p := range slices.Chunk(pairs, 2) {
		b.ReportMetric(p[1].(float64), p[0].(string))
	}
}

// eachSubject runs a benchmark for each subject that want wants; nil wants all.
func eachSubject(b *testing.B, want func(*subject) bool, run func(*testing.B, *subject)) {
	for _, s := range subjects {
		if want == nil || want(s) {
			isolated(b, s.name, func(b *testing.B) { run(b, s) })
		}
	}
}

// isolated runs a benchmark in a process of its own, because connstate polls for ever once it was used, which wakes the
// processors for the others too.
func isolated(b *testing.B, name string, run func(b *testing.B)) {
	b.Run(name, func(b *testing.B) {
		if os.Getenv(isolatedVariable) != "" {
			run(b)
			return
		}
		cmd := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^"+strings.ReplaceAll(b.Name(), "/", "$/^")+"$",
			"-growth", "-test.benchtime="+flag.Lookup("test.benchtime").Value.String())
		cmd.Env = append(os.Environ(), isolatedVariable+"=1")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		_, line, ran := strings.Cut(string(out), "\nBenchmark")
		if !ran {
			b.Fatalf("no benchmark in %s", out)
		}
		fields := strings.Fields(strings.SplitN(line, "\n", 2)[0])
		report(b)
		for i := 2; i+1 < len(fields); i += 2 {
			if fields[i+1] == "allocs/op" {
				b.ReportAllocs()
			}
			b.ReportMetric(must(strconv.ParseFloat(fields[i], 64)), fields[i+1])
		}
	})
}

const isolatedVariable = "LIVENESS_BENCH_ISOLATED"
