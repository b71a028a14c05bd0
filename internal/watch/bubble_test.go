package watch

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-liveness/liveness/internal/poller"
	"github.com/go-liveness/liveness/livenesstest"
)

// useInBubble makes a connection, has its client noticed and checked by the clock of
// the bubble, and closes it.
func useInBubble(t *testing.T, end func(*livenesstest.Peer) error) {
	for _, behindBack := range []bool{false, true} {
		conn, peer := livenesstest.Pair(t, "tcp4")
		f := newFake()
		events := f.noticing()
		checks, closed := make(chan time.Time), make(chan struct{})
		f.check = func(now, jumped time.Time) time.Time {
			if !jumped.IsZero() {
				t.Error("a jump in a bubble")
			}
			checks <- now
			return time.Time{}
		}
		f.closed = func() { close(closed) }
		f.add(t, conn)
		if err := tryAdd(t, &newFake().Token, conn); err != ErrWatched {
			t.Errorf("second Add: %v", err)
		}
		begin := time.Now()
		const wait = 30 * time.Second
		f.Wake(begin.Add(wait))
		if late := (<-checks).Sub(begin) - wait; late < 0 || late > wait/32 {
			t.Errorf("a Check came %v late", late)
		}
		end(peer)
		begin = time.Now()
		for len(events) > 0 {
			<-events // of the time before
		}
		if e := <-events; e != Periodic || time.Since(begin) > 2*poller.Period {
			t.Errorf("told %#b after %v", e, time.Since(begin))
		}
		time.Sleep(time.Minute) // the clock of the bubble is not held up
		if behindBack {
			f.FollowClose()
			begin = time.Now()
			conn.Close()
			if <-closed; time.Since(begin) > 2*time.Second {
				t.Errorf("a close was noticed after %v", time.Since(begin))
			}
		} else {
			f.Remove(rawOf(t, conn))
		}
	}
}

// Connections that are made and closed in a bubble work, several bubbles at once, while
// the process uses the hub, and before and after.
func TestBubbles(t *testing.T) {
	ends := map[string]func(*livenesstest.Peer) error{"FIN": (*livenesstest.Peer).CloseWrite, "reset": (*livenesstest.Peer).Reset}
	for _, during := range []bool{true, false} {
		conn, peer := livenesstest.Pair(t, "tcp4")
		f := newFake()
		f.check = func(now, _ time.Time) time.Time { return now.Add(5 * time.Millisecond) }
		events := f.noticing()
		f.add(t, conn)
		f.FollowClose()
		f.Wake(time.Now())
		if !during {
			f.Remove(rawOf(t, conn))
			checkStopped(t)
		}
		for name, end := range ends {
			t.Run(name, func(t *testing.T) {
				var all sync.WaitGroup
				for range 4 {
					all.Go(func() { synctest.Test(t, func(t *testing.T) { useInBubble(t, end) }) })
				}
				all.Wait()
			})
		}
		if during {
			peer.Close()
			receive(t, "FIN outside", events)
			f.Remove(rawOf(t, conn))
		}
		checkStopped(t)
	}
}

// A cleanup runs outside all bubbles, during one and after it: Forget of a token that
// was added in a bubble touches no timer of it. Neither does a Wake from outside.
func TestForgetFromOutsideOfTheBubble(t *testing.T) {
	var left, pipe *fake
	forget := make(chan *fake) // made outside, so that it may be used on both sides
	done := make(chan struct{})
	go func() {
		for f := range forget {
			f.Wake(time.Now())
			f.Forget()
			f.Wake(time.Now())
			done <- struct{}{}
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		conn, _ := livenesstest.Pair(t, "tcp4")
		for range 2 {
			f := newFake()
			f.notice = func(Event) {}
			f.add(t, conn)
			f.FollowClose()
			f.Wake(time.Now().Add(time.Hour))
			forget <- f
			<-done
		}
		time.Sleep(time.Minute)
		pipe = newFake() // never added: a clock of its own
		pipe.Wake(time.Now().Add(time.Hour))
		left = newFake()
		left.add(t, conn)
	})
	for _, f := range []*fake{left, pipe} {
		forget <- f
		<-done
	}
	close(forget)
	checkStopped(t)
}

// A connection from outside may be used and closed inside a bubble.
func TestOutsideConnectionInsideABubble(t *testing.T) {
	conn, _ := livenesstest.Pair(t, "tcp4")
	other, _ := livenesstest.Pair(t, "tcp4")
	f, pipe, last := newFake(), newFake(), newFake()
	checked, piped := make(chan struct{}, 1), make(chan struct{}, 1)
	f.check = func(time.Time, time.Time) time.Time { checked <- struct{}{}; return time.Time{} }
	pipe.check = func(time.Time, time.Time) time.Time { piped <- struct{}{}; return time.Time{} }
	f.add(t, conn)
	last.add(t, other)
	last.Wake(time.Now().Add(time.Hour))
	pipe.Wake(time.Now().Add(20 * time.Millisecond))
	synctest.Test(t, func(t *testing.T) {
		f.Wake(time.Now().Add(time.Millisecond))
		f.FollowClose()
		last.Remove(rawOf(t, other))
	})
	receive(t, "a Check", piped)
	last.Wake(time.Now()) // is gone
	f.Wake(time.Now())    // what was asked for in the bubble is armed outside
	receive(t, "a Check", checked)
	synctest.Test(t, func(t *testing.T) { f.Remove(rawOf(t, conn)) })
	pipe.Forget()
	checkStopped(t)
}

// A token that was never added has a clock of its own, by which FollowClose works too.
func TestNeverAdded(t *testing.T) {
	before := State()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		begin := time.Now()
		checks := make(chan time.Duration, 1)
		f.check = func(now, _ time.Time) time.Time {
			select {
			case checks <- now.Sub(begin):
			default:
			}
			return now.Add(time.Second)
		}
		f.Wake(begin.Add(time.Second))
		f.Wake(begin.Add(time.Hour)) // is no later
		for i := range 3 {
			want := time.Duration(i+1) * time.Second
			if at := <-checks; at < want || at > want+want/16 {
				t.Errorf("Check %d after %v", i, at)
			}
		}
		var open atomic.Bool
		open.Store(true)
		f.open = open.Load
		closed := make(chan struct{})
		f.closed = func() { close(closed) }
		f.Join()
		f.FollowClose()
		if all := slices.Collect(Clients); len(all) != 1 || all[0] != f {
			t.Errorf("Clients yields %v", all)
		}
		time.Sleep(5 * time.Second)
		open.Store(false)
		<-closed
		time.Sleep(time.Hour) // Closed is called once

		f = newFake()
		f.open = func() bool { f.Forget(); return false }
		f.closed = func() { t.Error("a client that is gone is told of its close") }
		f.FollowClose()
		time.Sleep(time.Hour)
	})
	before.Serial++ // by Join
	if after := State(); after != before {
		t.Errorf("the hub was used: %+v, before %+v", after, before)
	}
}
