//go:build linux

package bench

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/go-liveness/liveness"
)

var growth = flag.Bool("growth", false, "run BenchmarkGrowth up to 16000 connections, half a minute each")

const (
	clockFor     = 8 * time.Second
	clockTimeout = 4 * time.Second        // PeerTimeout
	clockWrites  = 500 * time.Millisecond // between two writes to a connection
)

// BenchmarkGrowth reports how memory, resetting all, and the checks of connections that are written to all the time grow with
// the number of connections. million-% is the part of a processor that the checks of a
// million such connections would take with PeerTimeout 60 s.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{100, 1000, 2000, 5000, 10000, 16000} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			if n > 100 && !*growth {
				b.Skip("takes half a minute, and is run with -growth")
			}
			without, _, _, _, _ := bare.measure(n)
			bytes, _, _, took, cpu := subjects[2].measure(n)
			checks, wakeups, cost := clock(n)
			b.ReportMetric((bytes-without)/1024, "KiB")
			b.ReportMetric(took/1e6, "reset-ms")
			b.ReportMetric(cpu/1e6, "reset-cpu-ms")
			b.ReportMetric(checks/clockFor.Seconds(), "checks/s")
			b.ReportMetric(checks/wakeups, "checks/wakeup")
			b.ReportMetric(cost/1e6/clockFor.Seconds(), "clock-ms/s")
			b.ReportMetric(cost/checks, "ns/check")
			b.ReportMetric(cost/clockFor.Seconds()/float64(n)*1e6/1e9*clockTimeout.Minutes()*100, "million-%")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// A counted connection counts the checks, each of which is one call of RawConn.Control or a few in a row.
type counted struct {
	*net.TCPConn
	raw countedRaw
}

type countedRaw struct {
	syscall.RawConn
	last   atomic.Int64
	checks *atomic.Int64
}

func (c *counted) SyscallConn() (syscall.RawConn, error) { return &c.raw, nil }

func (r *countedRaw) Control(f func(uintptr)) error {
	if t := now(); t-r.last.Swap(t) > int64(time.Millisecond) {
		r.checks.Add(1)
	}
	return r.RawConn.Control(f)
}

// clock returns how many checks the library made of n connections that were written to for clockFor, how many wake-ups it
// needed, and the nanoseconds of all checks. The checks are counted in a run of their own.
func clock(n int) (checks, wakeups, cost float64) {
	var counter atomic.Int64
	written(n, func(conn net.Conn) net.Conn {
		return &counted{conn.(*net.TCPConn), countedRaw{RawConn: rawOf(conn), checks: &counter}}
	}, func(write func() int) {
		before := counter.Load()
		write()
		checks = float64(counter.Load() - before)
	})
	written(n, func(conn net.Conn) net.Conn { return conn }, func(write func() int) {
		var buf bytes.Buffer
		runtime.SetCPUProfileRate(1000) // StartCPUProfile keeps it, and says so; its own 100 are too few
		check(pprof.StartCPUProfile(&buf))
		before := schedules()
		own := write()
		wakeups = max(schedules()-before-float64(own), 1)
		pprof.StopCPUProfile()
		cost = background(must(profile.Parse(&buf)))
	})
	return checks, wakeups, cost
}

// written calls measure with a function that writes to n connections for clockFor, and returns how often it slept.
func written(n int, conn func(net.Conn) net.Conn, measure func(write func() (sleeps int))) {
	s := &subject{attach: func(func()) attachFunc {
		return func(c net.Conn) (io.Closer, error) {
			return liveness.Wrap(conn(c), &liveness.Config{PeerTimeout: clockTimeout})
		}
	}}
	m := s.listen(n)
	defer m.close()
	m.dial(n)
	for _, f := range m.farms {
		f.do("drain", 0, "", "")
	}
	write := func(d time.Duration) (sleeps int) {
		for start := time.Now(); time.Since(start) < d; {
			round := time.Now()
			for i, c := range m.kept {
				must(c.(*liveness.Conn).Write(make([]byte, 64)))
				if i%100 == 99 || i == n-1 {
					time.Sleep(clockWrites*time.Duration(i+1)/time.Duration(n) - time.Since(round))
					sleeps++
				}
			}
		}
		return sleeps
	}
	write(clockTimeout / 2) // until the due times have spread
	measure(func() int { return write(clockFor) })
}

// schedules is about how often goroutines became runnable and ran. The runtime samples one in eight.
func schedules() (n float64) {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(sample)
	for _, c := range sample[0].Value.Float64Histogram().Counts {
		n += 8 * float64(c)
	}
	return n
}

// background is the time, in nanoseconds, of what the library did in goroutines of its own.
func background(p *profile.Profile) (ns float64) {
	const library = "github.com/go-liveness/liveness"
	for _, s := range p.Sample {
		own, called := false, false
		for _, l := range s.Location {
			for _, line := range l.Line {
				called = called || strings.HasPrefix(line.Function.Name, library+"/bench.")
				own = own || strings.HasPrefix(line.Function.Name, library)
			}
		}
		if own && !called {
			ns += float64(s.Value[1])
		}
	}
	return ns
}
