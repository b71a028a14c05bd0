//go:build linux

package bench

import (
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cloudwego/gopkg/net/connstate"
	"github.com/murfffi/conncheck"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

func wrap(tb testing.TB, cfg *liveness.Config) (*liveness.Conn, *livenesstest.Peer) {
	conn, peer := livenesstest.Pair(tb, "tcp4")
	c := must(liveness.Wrap(conn, cfg))
	tb.Cleanup(func() { c.Close() })
	return c, peer
}

// BenchmarkAsk asks about a live, idle connection. raw-poll-Control is the least that a check can cost: one system call,
// while the descriptor cannot be closed.
func BenchmarkAsk(b *testing.B) {
	c, _ := wrap(b, nil)
	conn, _ := livenesstest.Pair(b, "tcp4")
	raw := rawOf(conn)
	fd := descriptor(conn)
	state := sync.OnceValue(func() connstate.ConnStater { return must(connstate.ListenConnState(conn)) })
	for _, way := range []struct {
		name  string
		alive func() bool
	}{
		{"raw-peek", func() bool { return rawPeek(fd) }},
		{"raw-poll", func() bool { return rawPoll(fd) }},
		{"raw-poll-Control", pollUnderControl(raw)},
		{"Alive", c.Alive},
		{"Err", func() bool { return c.Err() == nil }},
		{"Check", func() bool { return liveness.Check(c) == nil }},
		{"Check-bare", func() bool { return liveness.Check(conn) == nil }},
		{"Status", func() bool { return c.Status().State == liveness.Connected }},
		{"connstate", func() bool { return state().State() == connstate.StateOK }},
		{"conncheck", func() bool { return conncheck.Do(conn) == conncheck.StatusOpen }},
		{"mysql", func() bool { return mysqlCheck(raw) == nil }},
		{"go-redis", func() bool { return redisCheck(conn, raw) == nil }},
		{"1-ms-read", func() bool { return deadlineCheck(conn) == nil }},
	} {
		if *polling != (way.name == "connstate") {
			continue
		}
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

func rawPoll(fd int) bool {
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
	if sysPoll == 0 {
		n, err := unix.Poll([]unix.PollFd{p}, 0)
		return n == 0 && err == nil
	}
	n, _, errno := unix.RawSyscall(sysPoll, uintptr(unsafe.Pointer(&p)), 1, 0)
	return n == 0 && errno == 0
}

func pollUnderControl(raw syscall.RawConn) func() bool {
	var alive bool
	control := func(fd uintptr) { alive = rawPoll(int(fd)) }
	return func() bool { return raw.Control(control) == nil && alive }
}

// BenchmarkWrap registers one connection. close-ns is what Close takes then.
func BenchmarkWrap(b *testing.B) {
	eachSubject(b, func(b *testing.B, s *subject) {
		if s.attach == nil {
			b.Skip("has no connections of package net")
		}
		b.ReportAllocs()
		wrap(b, nil) // so that the library has started what it starts for the first connection
		attach := s.attach(func() {})
		var registered, closed time.Duration
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
				kept[i] = must(attach(conn))
			}
			registered += time.Since(start)
			runtime.ReadMemStats(&after)
			mallocs, size, n = mallocs+after.Mallocs-before.Mallocs, size+after.TotalAlloc-before.TotalAlloc, n+float64(len(conns))
			start = time.Now()
			for i := range kept {
				kept[i].Close()
			}
			closed += time.Since(start)
			for _, p := range peers {
				p.Close()
			}
		}
		b.ReportMetric(float64(registered)/n, "ns/op")
		b.ReportMetric(float64(closed)/n, "close-ns")
		b.ReportMetric(float64(mallocs)/n, "allocs/op")
		b.ReportMetric(float64(size)/n, "B/op")
	})
}
