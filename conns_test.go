package liveness_test

import (
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// checkConns fails unless the group has want, each once.
func checkConns(t *testing.T, group *liveness.Group, want ...*liveness.Conn) {
	t.Helper()
	times := make(map[*liveness.Conn]int)
	for c := range group.Conns() {
		times[c]++
	}
	for _, c := range want {
		if times[c] != 1 {
			t.Errorf("Conns has %v %d times", c.NetConn().LocalAddr(), times[c])
		}
		delete(times, c)
	}
	if len(times) > 0 {
		t.Errorf("Conns has %d that it should not have", len(times))
	}
}

// TestConnsHasEveryKindUntilClose also those without a socket, and those in a bubble, whose clock and goroutines are its own.
func TestConnsHasEveryKindUntilClose(t *testing.T) {
	testutil.Deadline(t)
	testutil.NeedsNotices(t)
	group := new(liveness.Group)
	cfg := &liveness.Config{Group: group}
	kinds := func(t *testing.T) (conns []*liveness.Conn) {
		near, far := net.Pipe()
		t.Cleanup(func() { far.Close() })
		conn, _ := testutil.Accept(t, testutil.Listen(t, "tcp4"))
		return append(conns, wrap(t, near, cfg), wrap(t, conn, cfg))
	}
	outside := kinds(t)
	synctest.Test(t, func(t *testing.T) {
		inside := kinds(t)
		checkConns(t, group, append(inside, outside...)...)
		for _, c := range inside {
			c.Close()
		}
		checkConns(t, group, outside...)
	})
	for i, c := range outside {
		checkConns(t, group, outside[i:]...)
		c.Close()
	}
	checkConns(t, group)
}

// TestGroupIsSafeBesideWrapAndClose has Conns yield those that stay, once each, while others are added, closed and forgotten,
// and every one is counted once.
func TestGroupIsSafeBesideWrapAndClose(t *testing.T) {
	testutil.Deadline(t)
	group, stay := new(liveness.Group), new(liveness.Group)
	var stays []*liveness.Conn
	add := func(group *liveness.Group) *liveness.Conn {
		near, _ := net.Pipe()
		c, err := liveness.Wrap(near, &liveness.Config{Group: group})
		if err != nil {
			t.Error(err)
		}
		return c
	}
	var work, looks sync.WaitGroup
	for i := range 100 {
		if i%20 == 0 {
			conn, _ := livenesstest.Pair(t, "tcp4")
			stays = append(stays, wrap(t, conn, &liveness.Config{Group: stay}))
		}
		stays = append(stays, add(stay))
		defer stays[len(stays)-1].Close()
	}
	stop := make(chan struct{})
	looks.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				checkConns(t, stay, stays...)
				for c := range group.Conns() {
					c.Err()
				}
				group.Stats()
				runtime.GC()
			}
		}
	})
	const workers, each = 4, 500
	for range workers {
		work.Go(func() {
			for i := range each {
				if c := add(group); i%4 > 0 {
					c.Close()
				}
			}
		})
	}
	work.Wait()
	close(stop)
	looks.Wait()
	testutil.Until(t, "none is open", func() bool { runtime.GC(); return group.Stats().Open == 0 })
	checkConns(t, group)
	if s := group.Stats(); s.Wrapped != workers*each || s.Local < workers*each*3/4 || s.Closed+s.Local > workers*each {
		t.Errorf("%+v", s)
	}
}
