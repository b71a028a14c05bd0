package liveness_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// What is allocated is exact, on every machine.
func TestAllocs(t *testing.T) {
	if liveness.RaceBuild {
		t.Skip("the race detector allocates")
	}
	c, peer := benchConn(t)
	bare, _ := benchBare(t)
	const n = 200
	conns, _, closeAll := benchMany(t, n+1) // AllocsPerRun has one for itself
	defer closeAll()
	wrapped := make([]*liveness.Conn, 0, n+1)
	for _, test := range []struct {
		name  string
		limit float64
		f     func()
	}{
		{"Alive", 0, func() { c.Alive() }},
		{"Err", 0, func() { c.Err() }},
		{"Check of a wrapped connection", 0, func() { liveness.Check(c) }},
		{"Check of a bare connection", 2, func() { liveness.Check(bare) }},
		{"Wrap", 8, func() {
			w, err := liveness.Wrap(conns[len(wrapped)], nil)
			if err != nil {
				t.Fatal(err)
			}
			wrapped = append(wrapped, w)
		}},
	} {
		if allocs := testing.AllocsPerRun(n, test.f); allocs > test.limit {
			t.Errorf("%s allocates %v; want %v at most", test.name, allocs, test.limit)
		} else {
			t.Logf("%s allocates %v", test.name, allocs)
		}
	}
	for _, w := range wrapped {
		w.Close()
	}

	// Unread data, and our own shutdown, are looked at for nothing too.
	peer.Write([]byte("x"))
	for c.Status().Unread == 0 {
		runtime.Gosched()
	}
	c.CloseWrite()
	if allocs := testing.AllocsPerRun(n, func() { c.Alive() }); allocs != 0 {
		t.Errorf("Alive with unread data allocates %v", allocs)
	}
}

// benchFD is the descriptor of conn, which must stay open meanwhile.
func benchFD(tb testing.TB, conn net.Conn) (fd int) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	raw.Control(func(n uintptr) { fd = int(n) })
	return fd
}

// benchPeek is the classic answer, without what unix.Recvfrom spends on an address:
// one system call that looks at the next byte.
func benchPeek(fd int, buf *[1]byte) syscall.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(buf)), 1,
		unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return errno
}

// benchRawPeek is benchPeek without a word to the scheduler.
func benchRawPeek(fd int, buf *[1]byte) syscall.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(buf)), 1,
		unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return errno
}

// The yardstick of Alive and Check.
func BenchmarkPeek(b *testing.B) {
	bare, _ := benchBare(b)
	fd := benchFD(b, bare)
	buf := new([1]byte)
	b.Run("raw", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if errno := benchPeek(fd, buf); errno != unix.EAGAIN {
				b.Fatal(errno)
			}
		}
	})
	b.Run("in Control", func(b *testing.B) {
		raw, err := bare.SyscallConn()
		if err != nil {
			b.Fatal(err)
		}
		var got syscall.Errno
		peek := func(fd uintptr) { got = benchPeek(int(fd), buf) }
		b.ReportAllocs()
		for b.Loop() {
			if err := raw.Control(peek); err != nil || got != unix.EAGAIN {
				b.Fatal(err, got)
			}
		}
	})
}

// benchUsage is what the process has used.
type benchUsage struct {
	cpu      time.Duration
	switches int64
}

func benchUsed(tb testing.TB) benchUsage {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		tb.Fatal(err)
	}
	return benchUsage{time.Duration(r.Utime.Nano() + r.Stime.Nano()), int64(r.Nvcsw) + int64(r.Nivcsw)}
}

// benchIdle returns what the process uses while nothing happens to n connections.
func benchIdle(tb testing.TB, n int, wrap bool, length time.Duration) benchUsage {
	conns, _, closeAll := benchMany(tb, n)
	defer closeAll()
	if wrap {
		for _, conn := range conns {
			c, err := liveness.Wrap(conn, &liveness.Config{OnDisconnect: func(*liveness.Conn, error) {}})
			if err != nil {
				tb.Fatal(err)
			}
			defer c.Close()
		}
	}
	runtime.GC()
	time.Sleep(200 * time.Millisecond) // the collector comes to rest
	before := benchUsed(tb)
	time.Sleep(length)
	after := benchUsed(tb)
	return benchUsage{after.cpu - before.cpu, after.switches - before.switches}
}

func BenchmarkIdle(b *testing.B) {
	benchEither(b, func(b *testing.B, wrap bool) {
		for b.Loop() {
			used := benchIdle(b, 1000, wrap, 4*time.Second)
			b.ReportMetric(used.cpu.Seconds()*1e3, "ms-CPU")
			b.ReportMetric(float64(used.switches), "switches")
		}
		b.ReportMetric(0, "ns/op")
	})
}

// A rival is one of several things to measure in turns.
type rival func() time.Duration

// inTurns measures each rival in each round, so that whatever slows the machine
// down slows all of them, and returns the median of each.
func inTurns(rounds int, rivals ...rival) []time.Duration {
	took := make([][]time.Duration, len(rivals))
	for round := range rounds {
		for i := range rivals {
			i := (i + round) % len(rivals)
			took[i] = append(took[i], rivals[i]())
		}
	}
	medians := make([]time.Duration, len(rivals))
	for i := range took {
		slices.Sort(took[i])
		medians[i] = benchQuantile(took[i], 0.5)
	}
	return medians
}

// each measures f, called n times.
func each(n int, f func()) rival {
	return func() time.Duration {
		begin := time.Now()
		for range n {
			f()
		}
		return time.Since(begin)
	}
}

// fresh has each turn measured on a new connection, since some are faster than
// others from the beginning to the end.
func fresh(t *testing.T, on func(net.Conn, *livenesstest.Peer) rival) func(wrap bool) rival {
	return func(wrap bool) rival {
		return func() (took time.Duration) {
			t.Run("", func(t *testing.T) {
				conn, peer := benchMaybe(t, wrap)
				took = on(conn, peer)()
			})
			return took
		}
	}
}

// TestTargets measures what the library must reach, and compares. It takes a
// minute, and a machine with nothing else to do; LIVENESS_TARGETS=1 asks for it.
func TestTargets(t *testing.T) {
	if os.Getenv("LIVENESS_TARGETS") == "" {
		t.Skip("LIVENESS_TARGETS is not set")
	}
	if liveness.RaceBuild {
		t.Skip("the race detector slows things down")
	}
	const rounds = 41
	line := func(t *testing.T, ok bool, format string, args ...any) {
		t.Helper()
		verdict := "ok     "
		if !ok {
			verdict = "BEYOND "
			t.Fail()
		}
		t.Log(verdict + fmt.Sprintf(format, args...))
	}
	ratio := func(t *testing.T, what string, medians []time.Duration, n int, limit float64) {
		t.Helper()
		r := float64(medians[0]) / float64(medians[1])
		line(t, r <= limit, "%s: %.3f (%v / %v); limit %.2f", what, r, medians[0]/time.Duration(n), medians[1]/time.Duration(n), limit)
	}

	t.Run("looks", func(t *testing.T) {
		c, _ := benchConn(t)
		bare, _ := benchBare(t)
		const n = 2000
		buf := new([1]byte)
		peekOf := func(conn net.Conn) rival {
			fd := benchFD(t, conn)
			return each(n, func() { benchPeek(fd, buf) })
		}
		m := inTurns(rounds, each(n, func() { c.Alive() }), peekOf(c.NetConn()))
		r, more := float64(m[0])/float64(m[1]), (m[0]-m[1])/n
		line(t, r <= 1.10 || more <= 40*time.Nanosecond, "Alive / recvfrom(MSG_PEEK): %.3f, %v more (%v / %v); limit 1.10 or 40ns more", r, more, m[0]/n, m[1]/n)

		// A call that does not block can go around the scheduler, as Alive does.
		fd := benchFD(t, c.NetConn())
		m = inTurns(rounds, each(n, func() { c.Alive() }), each(n, func() { benchRawPeek(fd, buf) }))
		line(t, true, "Alive / recvfrom(MSG_PEEK) around the scheduler: %.3f (%v / %v)", float64(m[0])/float64(m[1]), m[0]/n, m[1]/n)

		m = inTurns(rounds, each(n, func() { liveness.Check(bare) }), peekOf(bare))
		ratio(t, "Check of a bare connection / recvfrom(MSG_PEEK)", m, n, 1.5)

		const many = 1_000_000
		m = inTurns(rounds, each(1, func() {
			for range many {
				if c.Err() != nil {
					t.Fatal(c.Err())
				}
			}
		}))
		line(t, m[0] <= 5*many, "Err: %.1f ns; limit 5", float64(m[0])/many)
	})

	t.Run("retained", func(t *testing.T) {
		bytes, goroutines := benchRetained(t, 5000)
		line(t, bytes <= 512, "retained for each connection: %.0f bytes; limit 512", bytes)
		line(t, goroutines == 0, "goroutines for 5000 connections: %d; limit 0", goroutines)
	})

	t.Run("notice", func(t *testing.T) {
		listener := benchListen(t)
		benchConn(t)
		var done, read []time.Duration
		for range rounds {
			done = append(done, benchNotice(t, listener, true, 50)...)
			read = append(read, benchNotice(t, listener, false, 50)...)
		}
		slices.Sort(done)
		slices.Sort(read)
		for _, q := range []struct{ of, limit float64 }{{0.50, 1.5}, {0.99, 3}} {
			d, r := benchQuantile(done, q.of), benchQuantile(read, q.of)
			line(t, float64(d)/float64(r) <= q.limit, "FIN to Done / FIN to the return of Read, p%.0f: %.2f (%v / %v); limit %.1f",
				q.of*100, float64(d)/float64(r), d, r, q.limit)
		}
	})

	t.Run("resets", func(t *testing.T) {
		var all []time.Duration
		var resetting time.Duration
		for range 5 {
			told, r := benchResets(t, 3000)
			all, resetting = append(all, told), r
		}
		slices.Sort(all)
		told := benchQuantile(all, 0.5)
		line(t, told < 100*time.Millisecond, "3000 resets, all told: %v, of which %v for the resetting; limit 100ms", told, resetting)
	})

	t.Run("ping-pong", func(t *testing.T) {
		const n = 500
		run := fresh(t, func(conn net.Conn, peer *livenesstest.Peer) rival {
			go benchEcho(peer.NetConn())
			benchPingPong(t, conn, 10)
			return each(n, func() { benchPingPong(t, conn, 1) })
		})
		m := inTurns(rounds, run(true), run(false))
		ratio(t, "ping-pong of 64 bytes, wrapped / bare", m, n, 1.05)
	})

	t.Run("file", func(t *testing.T) {
		file := benchFile(t, 16<<20)
		run := fresh(t, func(conn net.Conn, peer *livenesstest.Peer) rival {
			peer.Drain()
			benchSendFile(t, conn, file) // windows and buffers grow
			return each(1, func() { benchSendFile(t, conn, file) })
		})
		m := inTurns(rounds, run(true), run(false))
		ratio(t, "file of 16 MiB to connection, wrapped / bare", m, 1, 1.05)
	})

	t.Run("buffers", func(t *testing.T) {
		const n = 200
		buffers := benchBuffers()
		v := make(net.Buffers, len(buffers))
		run := fresh(t, func(conn net.Conn, peer *livenesstest.Peer) rival {
			peer.Drain()
			return each(n, func() {
				copy(v, buffers)
				v := v
				var err error
				if c, ok := conn.(*liveness.Conn); ok {
					_, err = c.WriteBuffers(&v)
				} else {
					_, err = v.WriteTo(conn)
				}
				if err != nil {
					t.Fatal(err)
				}
			})
		})
		m := inTurns(rounds, run(true), run(false))
		ratio(t, "WriteBuffers / net.Buffers on bare", m, n, 1.1)
	})

	t.Run("idle", func(t *testing.T) {
		bare := benchIdle(t, 1000, false, 4*time.Second)
		wrapped := benchIdle(t, 1000, true, 4*time.Second)
		line(t, wrapped.cpu-bare.cpu <= 4*time.Millisecond, "1000 watched connections, idle for 4 s: %v of CPU (bare %v); limit 4ms more", wrapped.cpu, bare.cpu)
		line(t, wrapped.switches-bare.switches <= 20, "and %d context switches (bare %d); limit 20 more", wrapped.switches, bare.switches)
	})
}
