package liveness_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/internal/testutil/race"
)

// pollFD is what a live connection costs at least: one system call.
func pollFD(tb testing.TB, c *liveness.Conn) func() {
	raw, err := c.SyscallConn()
	testutil.Must(tb, err)
	fds := make([]unix.PollFd, 1)
	poll := func(fd uintptr) {
		fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
		unix.Poll(fds, 0)
	}
	return func() { _ = raw.Control(poll) }
}

// The yardstick of Alive and Check.
func BenchmarkPoll(b *testing.B) {
	c := benchConn(b)
	for poll := pollFD(b, c); b.Loop(); {
		poll()
	}
}

// TestMemoryOfAConnection counts what a connection keeps beyond the bare one, in a process of its own, and what Wrap allocates:
// the Conn, its handle, and three objects of the runtime for what is freed without Close; and the time-outs, and what they
// are set by. A tenth is for tables that grow.
func TestMemoryOfAConnection(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector needs memory of its own")
	}
	if !tcpinfo.Told() {
		t.Skip("TCP_INFO has the state of a connection and nothing else here, as under emulators, so Reads are counted")
	}
	if !testutil.Alone(t) {
		return
	}
	for name, limit := range map[string]struct {
		cfg           *liveness.Config
		bytes, allocs float64
	}{
		"watched":     {nil, 320, 5},
		"callback":    {&liveness.Config{OnDisconnect: func(*liveness.Conn, error) {}}, 400, 5},
		"PeerTimeout": {&liveness.Config{PeerTimeout: time.Minute}, 560, 7},
	} {
		bytes, allocs, goroutines := benchRetained(t, 1000, limit.cfg)
		t.Logf("%s: %.0f bytes and %.2f allocations for each of 1000, %d goroutines; limit %.0f, %.0f and 0", name, bytes, allocs, goroutines, limit.bytes, limit.allocs)
		if bytes > limit.bytes || allocs > limit.allocs+0.1 || goroutines > 0 {
			t.Errorf("%s: beyond the limit", name)
		}
	}
}

// TestTargets compares in turns what the library must reach. It needs a machine with nothing
// else to do.
func TestTargets(t *testing.T) {
	if os.Getenv("LIVENESS_TARGETS") == "" || race.Enabled {
		t.Skip("LIVENESS_TARGETS is not set, or the race detector slows things down")
	}
	c := benchConn(t)
	ratio := func(what string, limit float64, n int, f, yardstick func()) {
		var took [2][]float64
		for round := range 41 {
			for i := range 2 {
				i := (i + round) % 2
				begin := time.Now()
				for range n {
					[]func(){f, yardstick}[i]()
				}
				took[i] = append(took[i], float64(time.Since(begin).Nanoseconds())/float64(n))
			}
		}
		slices.Sort(took[0])
		slices.Sort(took[1])
		got := took[0][20] / took[1][20]
		t.Logf("%s: %.3f (%.0f ns / %.0f ns); limit %.2f", what, got, took[0][20], took[1][20], limit)
		if got > limit {
			t.Errorf("%s: %.3f is beyond %.2f", what, got, limit)
		}
	}
	ratio("Alive / poll", 1.10, 2000, func() { c.Alive() }, pollFD(t, c))
	ratio("Check / poll", 1.50, 2000, func() { liveness.Check(c.NetConn()) }, pollFD(t, c))
	conns, _, closeAll := benchMany(t, 1000)
	defer closeAll()
	for _, conn := range conns {
		wrap(t, conn, &liveness.Config{OnDisconnect: func(*liveness.Conn, error) {}})
	}
	used := func() time.Duration {
		var r unix.Rusage
		unix.Getrusage(unix.RUSAGE_SELF, &r)
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	time.Sleep(200 * time.Millisecond) // the collector comes to rest
	before := used()
	time.Sleep(4 * time.Second)
	if cpu := used() - before; cpu > 8*time.Millisecond {
		t.Errorf("1000 connections that are only watched use %v in 4 s", cpu)
	}
}
