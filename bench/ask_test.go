//go:build linux

package bench

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"runtime"
	runtimemetrics "runtime/metrics"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/pprof/profile"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// BenchmarkAsk asks about a live, idle connection. raw-poll-Control is the least that a check can cost: one system call,
// while the descriptor cannot be closed.
func BenchmarkAsk(b *testing.B) {
	conn, _ := livenesstest.Pair(b, "tcp4")
	other, _ := livenesstest.Pair(b, "tcp4")
	c := must(liveness.Wrap(other, nil))
	defer c.Close()
	fd := descriptor(conn)
	type way struct {
		name  string
		alive func() bool
	}
	asking := func(watch func(net.Conn, options) *watched) func() bool {
		ask := watch(conn, options{quiet: true}).probe
		return func() bool { return ask() == nil }
	}
	ways := []way{
		{"raw-peek", func() bool { return rawPeek(fd) }},
		{"raw-poll", func() bool { return rawPoll(fd) }},
		{"raw-poll-Control", pollUnderControl(rawOf(conn))},
		{"Alive", c.Alive},
		{"Err", func() bool { return c.Err() == nil }},
		{"Check", func() bool { return liveness.Check(c) == nil }},
		{"Check-bare", func() bool { return liveness.Check(conn) == nil }},
		{"Status", func() bool { return c.Status().State == liveness.Connected }},
		{"conncheck", asking(watchConncheck)},
		{"mysql", asking(watchMySQL)},
		{"go-redis", asking(watchRedis)},
		{"1-ms-read", asking(watchDeadline)},
	}
	if *polling {
		ways = []way{{"connstate", asking(watchConnstate)}}
	}
	for _, way := range ways {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !way.alive() {
					b.Fatal("a live connection is not alive")
				}
			}
		})
	}
}

// rawPeek and rawPoll do not tell Go's scheduler of the system call, as Alive does not.
func rawPeek(fd int) bool {
	var b [1]byte
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return errno == unix.EAGAIN
}

// sysPoll is SYS_POLL, which x/sys has only where the kernel has it.
var sysPoll = map[string]uintptr{"amd64": 7, "386": 168, "arm": 168, "s390x": 168, "ppc64le": 167}[runtime.GOARCH]

// rawPoll asks again after a signal, such as Go's scheduler sends: it interrupts even a poll that does not wait.
func rawPoll(fd int) bool {
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
	for {
		if sysPoll == 0 {
			if n, err := unix.Poll([]unix.PollFd{p}, 0); err != unix.EINTR {
				return n == 0 && err == nil
			}
			continue
		}
		if n, _, errno := unix.RawSyscall(sysPoll, uintptr(unsafe.Pointer(&p)), 1, 0); errno != unix.EINTR {
			return n == 0 && errno == 0
		}
	}
}

func pollUnderControl(raw syscall.RawConn) func() bool {
	var alive bool
	control := func(fd uintptr) { alive = rawPoll(int(fd)) }
	return func() bool { return raw.Control(control) == nil && alive }
}

// BenchmarkWrap registers one connection.
func BenchmarkWrap(b *testing.B) {
	eachSubject(b, func(b *testing.B, s *subject) {
		if s.attach == nil {
			b.Skip("has no connections of package net")
		}
		b.ReportAllocs()
		first, _ := livenesstest.Pair(b, "tcp4") // so that the library has started what it starts for the first connection
		defer must(liveness.Wrap(first, nil)).Close()
		var took time.Duration
		var before, after runtime.MemStats
		var mallocs, size uint64
		n := 0.0
		for b.Loop() {
			conns, peers, kept := make([]net.Conn, 200), make([]*livenesstest.Peer, 200), make([]io.Closer, 200)
			for i := range conns {
				conns[i], peers[i] = livenesstest.Pair(b, "tcp4")
			}
			runtime.ReadMemStats(&before)
			start := time.Now()
			for i, conn := range conns {
				kept[i] = must(s.attach(conn))
			}
			took += time.Since(start)
			runtime.ReadMemStats(&after)
			mallocs, size, n = mallocs+after.Mallocs-before.Mallocs, size+after.TotalAlloc-before.TotalAlloc, n+float64(len(conns))
			for i := range kept {
				kept[i].Close()
				peers[i].Close()
			}
		}
		metrics(b, "ns/op allocs/op B/op", float64(took)/n, float64(mallocs)/n, float64(size)/n)
	})
}

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
			bytes, _, _, took, cpu := callback.measure(n)
			checks, wakeups, cost := clock(n)
			million := cost / clockFor.Seconds() / float64(n) * 1e6 / 1e9 * clockTimeout.Minutes()
			metrics(b, "KiB reset-ms reset-cpu-ms checks/s checks/wakeup clock-ms/s ns/check million-%", (bytes-without)/1024, took/1e6, cpu/1e6,
				checks/clockFor.Seconds(), checks/wakeups, cost/1e6/clockFor.Seconds(), cost/checks, million*100)
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
	s := &subject{attach: func(c net.Conn) (io.Closer, error) {
		return liveness.Wrap(conn(c), &liveness.Config{PeerTimeout: clockTimeout})
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
	sample := []runtimemetrics.Sample{{Name: "/sched/latencies:seconds"}}
	runtimemetrics.Read(sample)
	for _, c := range sample[0].Value.Float64Histogram().Counts {
		n += 8 * float64(c)
	}
	return n
}

// background is the time, in nanoseconds, of what the library did in goroutines of its own.
func background(p *profile.Profile) (ns float64) {
	const library = "github.com/go-liveness/liveness"
	for _, s := range p.Sample {
		stack := ""
		for _, l := range s.Location {
			for _, line := range l.Line {
				stack += line.Function.Name + "\n"
			}
		}
		if strings.Contains(stack, library) && !strings.Contains(stack, library+"/bench.") {
			ns += float64(s.Value[1])
		}
	}
	return ns
}
