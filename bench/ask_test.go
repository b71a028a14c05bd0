//go:build linux

package bench

import (
	"net"
	"runtime"
	"slices"
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
	c, err := liveness.Wrap(conn, cfg)
	fatal(tb, err)
	tb.Cleanup(func() { c.Close() })
	return c, peer
}

// BenchmarkAsk asks about a live, idle connection.
func BenchmarkAsk(b *testing.B) {
	c, _ := wrap(b, nil)
	conn, _ := livenesstest.Pair(b, "tcp4")
	raw, err := rawOf(conn)
	fatal(b, err)
	state, err := connstate.ListenConnState(conn)
	fatal(b, err)
	defer state.Close()
	fd := descriptor(conn)
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
		{"connstate", func() bool { return state.State() == connstate.StateOK }},
		{"conncheck", func() bool { return conncheck.Do(conn) == conncheck.StatusOpen }},
		{"mysql", func() bool { return mysqlCheck(raw) == nil }},
		{"go-redis", func() bool { return redisCheck(conn, raw) == nil }},
		{"1-ms-read", func() bool { return deadlineCheck(conn) == nil }},
	} {
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

// BenchmarkAliveToPoll takes turns, so that what else the machine does meets both. raw-poll-Control is the least that a
// check can cost: one system call while the descriptor cannot be closed.
func BenchmarkAliveToPoll(b *testing.B) {
	c, _ := wrap(b, nil)
	conn, _ := livenesstest.Pair(b, "tcp4")
	raw, err := rawOf(conn)
	fatal(b, err)
	poll := pollUnderControl(raw)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	took := func(alive func() bool) float64 {
		start := threadTime()
		for range 500 {
			alive()
		}
		return float64(threadTime() - start)
	}
	var ratios []float64
	for b.Loop() {
		ratios = append(ratios, took(c.Alive)/took(poll))
	}
	b.ReportMetric(quantile(ratios, 0.5), "ratio")
	b.ReportMetric(0, "ns/op")
}

func threadTime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

func quantile(v []float64, q float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[int(float64(len(v)-1)*q)]
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
	const batch = 200
	for _, s := range subjects {
		if s.attach == nil {
			continue
		}
		b.Run(s.name, func(b *testing.B) {
			wrap(b, nil) // the library starts nothing for the first connection below
			l, err := listenTCP()
			fatal(b, err)
			defer l.Close()
			attach := s.attach(func() {})
			var registered, closed time.Duration
			var before, after runtime.MemStats
			var mallocs, size uint64
			n := 0.0
			for b.Loop() {
				conns, peers, kept := make([]net.Conn, batch), make([]*livenesstest.Peer, batch), make([]closer, batch)
				for i := range conns {
					peers[i], err = livenesstest.Dial("tcp4", l.Addr().String())
					fatal(b, err)
					conns[i], err = l.Accept()
					fatal(b, err)
				}
				runtime.ReadMemStats(&before)
				start := time.Now()
				for i, conn := range conns {
					if kept[i], err = attach(conn); err != nil {
						b.Fatal(err)
					}
				}
				registered += time.Since(start)
				runtime.ReadMemStats(&after)
				mallocs, size, n = mallocs+after.Mallocs-before.Mallocs, size+after.TotalAlloc-before.TotalAlloc, n+batch
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
}
