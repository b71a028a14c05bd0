//go:build linux

package bench

import (
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/gopkg/net/connstate"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// A subject is a watch that does no more than call report at each end.
type subject struct {
	name   string
	attach func(net.Conn) (io.Closer, error)
	serve  serveFunc
	silent bool // it reports nothing
}

var (
	bare     = &subject{name: "bare", silent: true, attach: func(conn net.Conn) (io.Closer, error) { return conn, nil }}
	watch    = &subject{name: "watch", silent: true, attach: wrapping(nil)}
	callback = &subject{name: "callback", attach: wrapping(&liveness.Config{OnDisconnect: func(*liveness.Conn, error) { report() }})}
	subjects = []*subject{
		watch,
		callback,
		{name: "PeerTimeout", attach: wrapping(&liveness.Config{PeerTimeout: time.Minute, OnDisconnect: func(*liveness.Conn, error) { report() }})},
		{name: "connstate", attach: func(conn net.Conn) (io.Closer, error) {
			state, err := connstate.ListenConnState(conn, connstate.WithOnRemoteClosed(report))
			return stated{conn, state}, err
		}},
		{name: "parked-Read", attach: func(conn net.Conn) (io.Closer, error) {
			go func() {
				var b [1]byte
				conn.Read(b[:])
				report()
			}()
			return conn, nil
		}},
		{name: "net/http", serve: serveHTTP},
		{name: "netpoll", serve: serveNetpoll},
		{name: "gnet", serve: serveGnet},
		{name: "nbio", serve: serveNbio},
	}
)

func wrapping(cfg *liveness.Config) func(net.Conn) (io.Closer, error) {
	return func(conn net.Conn) (io.Closer, error) { return liveness.Wrap(conn, cfg) }
}

const (
	farmSize = 6000  // connections of one process of clients
	mostEnds = 20000 // more than descriptors
)

var reported = make(chan int64, mostEnds) // by now

func report() {
	select {
	case reported <- now():
	default:
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
	kept     []io.Closer
	stop     func()
}

// listen starts the subject's server, and processes for n clients.
func (s *subject) listen(n int) *many {
	m := &many{subject: s, accepted: make(chan struct{}, mostEnds)}
	for ; n > 0; n -= farmSize {
		m.farms = append(m.farms, startFarm())
	}
	if s.serve != nil {
		m.addr, m.stop = s.serve(options{lean: true}, func(*watched) { m.accepted <- struct{}{} })
		return m
	}
	l := listenTCP()
	m.addr, m.stop = l.Addr().String(), func() { l.Close() }
	m.kept = make([]io.Closer, 0, mostEnds)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.kept = append(m.kept, must(s.attach(conn)))
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
	for time.Sleep(time.Millisecond); len(reported) > 0; <-reported {
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
	first := now()
	for _, f := range m.farms {
		f.do("reset", farmSize, "", "")
	}
	took = float64(await(reported, n) - first)
	cpu2, _ := usage()
	return bytes, idleCPU, switches, took, float64(cpu2 - cpu1)
}

// BenchmarkMany has 2000 connections; docs/benchmarks.md explains the units. The figures are those of the last of b.N rounds.
func BenchmarkMany(b *testing.B) {
	const n = 2000
	eachSubject(b, func(b *testing.B, s *subject) {
		for b.Loop() {
			without, _, _, _, _ := bare.measure(n)
			bytes, idleCPU, switches, took, cpu := s.measure(n)
			metrics(b, "B/conn cpu-µs/s switches/s ns/end cpu-ns/end", (bytes-without)/n, idleCPU/1e3, switches, took/n, cpu/n)
		}
	})
}

// BenchmarkFIN measures from the close of a client in another process to the report.
func BenchmarkFIN(b *testing.B) {
	eachSubject(b, func(b *testing.B, s *subject) {
		if s.silent {
			b.Skip("reports nothing")
		}
		first, _ := livenesstest.Pair(b, "tcp4") // so that the library has started what it starts for the first connection
		defer must(liveness.Wrap(first, nil)).Close()
		m := s.listen(1)
		defer m.close()
		var took []float64
		for b.Loop() {
			m.dial(1)
			time.Sleep(2*time.Millisecond + rand.N(10*time.Millisecond)) // at any phase of connstate's 10 ms
			began := m.farms[0].do("close", 1, "", "")
			took = append(took, float64(await(reported, 1)-began))
			m.forget()
		}
		slices.Sort(took)
		last := len(took) - 1
		metrics(b, "p10-ns p50-ns p90-ns p99-ns", took[last/10], took[last/2], took[last*9/10], took[last*99/100])
	})
}

// metrics replaces ns/op, and what was not measured is not printed.
func metrics(b *testing.B, units string, values ...float64) {
	b.ReportMetric(0, "ns/op")
	for i, unit := range strings.Fields(units) {
		if values[i] != 0 {
			b.ReportMetric(values[i], unit)
		}
	}
}

var polling = flag.Bool("connstate", false, "benchmark connstate alone, which polls for ever once it was used and so wakes the processors for the others")

// eachSubject runs a benchmark for each subject.
func eachSubject(b *testing.B, run func(*testing.B, *subject)) {
	for _, s := range subjects {
		if *polling == (s.name == "connstate") {
			b.Run(s.name, func(b *testing.B) { run(b, s) })
		}
	}
}
