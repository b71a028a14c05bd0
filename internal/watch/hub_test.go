package watch

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/go-liveness/liveness/internal/poller"
	"github.com/go-liveness/liveness/livenesstest"
)

func rawOf(tb testing.TB, conn net.Conn) syscall.RawConn {
	tb.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// tryAdd adds t for conn.
func tryAdd(tb testing.TB, t *Token, conn net.Conn) (err error) {
	tb.Helper()
	if cerr := rawOf(tb, conn).Control(func(fd uintptr) { err = Add(t, fd) }); cerr != nil {
		tb.Fatal(cerr)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		tb.Skip(err)
	}
	return err
}

// add adds f for conn.
func (f *fake) add(tb testing.TB, conn net.Conn) {
	tb.Helper()
	raw := rawOf(tb, conn)
	f.open = func() bool { return raw.Control(func(uintptr) {}) == nil }
	if err := tryAdd(tb, &f.Token, conn); err != nil {
		tb.Fatal(err)
	}
}

// noticing has the Notices of f sent to the channel that it returns.
func (f *fake) noticing() <-chan Event {
	events := make(chan Event, 16)
	f.notice = func(e Event) {
		select {
		case events <- e:
		default: // of a sweep, which comes again and again
		}
	}
	return events
}

// goroutines returns the stacks of those that run code of this package, apart from
// tests.
func goroutines() (stacks []string) {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(stack, "/watch.(*loop)") || strings.Contains(stack, "/watch.(*clock)") || strings.Contains(stack, "/watch.(*role)") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// checkStopped fails unless nothing of the hub is left. The goroutine of the poller may
// be about to return.
func checkStopped(tb testing.TB) {
	tb.Helper()
	s := State()
	if s.Poller != nil || s.Clients != 0 || s.Due {
		tb.Errorf("after the last client: %+v", s)
	}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		left := goroutines()
		if len(left) == 0 && State().Loops == 0 {
			return
		}
		if time.Since(begin) > longWait {
			tb.Fatalf("left behind:\n%s", strings.Join(left, "\n\n"))
		}
	}
}

// Nothing is left right after the last client is gone, and it starts again.
func TestNothingOutlivesTheLastClient(t *testing.T) {
	for n := range 30 {
		conn, peer := livenesstest.Pair(t, "tcp4")
		f := newFake()
		closed := make(chan struct{}, 1)
		f.closed = func() { closed <- struct{}{} }
		events := f.noticing()
		f.check = func(now, _ time.Time) time.Time { return now.Add(time.Minute) }
		f.add(t, conn)
		f.Join() // it is there already
		f.FollowClose()
		f.Wake(time.Now().Add(time.Minute))
		if n%3 == 0 {
			peer.CloseWrite()
			if e := receive(t, "FIN", events); e != FIN && e != Periodic {
				t.Errorf("a FIN was told as %#b", e)
			}
		}
		if s := State(); s.Poller == nil || s.Clients != 1 || s.Loops != 1 || !s.Due {
			t.Fatalf("with one client: %+v", s)
		}
		if all := slices.Collect(Clients); len(all) != 1 || all[0] != f {
			t.Fatalf("Clients yields %v", all)
		}
		switch {
		case n == 0: // the hub learns of it
			conn.Close()
			receive(t, "Closed", closed)
		case n%2 > 0:
			f.Remove(rawOf(t, conn))
		default:
			f.Forget()
			f.Forget() // the second time does nothing
		}
		checkStopped(t)
	}
}

// Clients come and go on many goroutines, so that the hub starts and stops under them.
// Whatever ends while it is watched is told to its own client.
func TestHubStartsAndStopsUnderLoad(t *testing.T) {
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for range 40 {
				conn, peer := livenesstest.Pair(t, "tcp4")
				f := newFake()
				var gone atomic.Bool
				noticed := f.noticing()
				f.check = func(now, _ time.Time) time.Time {
					if gone.Load() {
						t.Error("a Check of a client that is gone")
					}
					return now.Add(time.Millisecond)
				}
				f.add(t, conn)
				f.Wake(time.Now().Add(time.Millisecond))
				if rand.IntN(2) == 0 {
					f.FollowClose()
				}
				if rand.IntN(2) == 0 {
					peer.Close()
					receive(t, "FIN", noticed)
				}
				f.Remove(rawOf(t, conn))
				for busy := true; busy; runtime.Gosched() { // a Check that has begun goes on
					process.clock.mu.Lock()
					busy = f.state != asleep
					process.clock.mu.Unlock()
				}
				gone.Store(true)
				conn.Close()
			}
		})
	}
	all.Wait()
	checkStopped(t)
}

func TestTokenIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Token{}); size > 64 {
		t.Errorf("a Token has %d bytes", size)
	}
}

// One socket has one client, unless the one before is gone.
func TestOneSocketHasOneClient(t *testing.T) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	first, second := newFake(), newFake()
	first.add(t, conn)
	for range 3 {
		if err := tryAdd(t, &second.Token, conn); !errors.Is(err, ErrWatched) {
			t.Fatalf("second Add: %v", err)
		}
	}
	first.open = func() bool { return false }
	third := newFake()
	events := third.noticing()
	third.add(t, conn)
	peer.Close()
	receive(t, "FIN", events)
	third.Remove(rawOf(t, conn))
	first.Forget()
	checkStopped(t)

	// Of many that are added at once, one wins.
	conn, _ = livenesstest.Pair(t, "tcp4")
	var won atomic.Int32
	var all sync.WaitGroup
	fakes := make([]*fake, 8)
	for i := range fakes {
		fakes[i] = newFake()
		all.Go(func() {
			if tryAdd(t, &fakes[i].Token, conn) == nil {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if n := won.Load(); n > 1 {
		t.Errorf("%d clients watch one socket", n)
	}
	for _, f := range fakes {
		f.Forget()
	}
	checkStopped(t)
}

// A batches is a watcher whose events come from the test.
type batches chan []poller.Event

func (b batches) Add(uintptr, uint64) error     { return nil }
func (b batches) Replace(uintptr, uint64) error { return nil }
func (b batches) Remove(uintptr, uint64)        {}
func (b batches) Close() error                  { close(b); return nil }
func (b batches) Wait() ([]poller.Event, error) {
	if events, ok := <-b; ok {
		return events, nil
	}
	return nil, os.ErrClosed
}

// newHub makes a hub of its own with those clients. forget ends it.
func newHub(t *testing.T, clients ...*fake) (h *hub, b batches) {
	h, b = new(hub), make(batches)
	h.clock.init(time.Now())
	h.loop = &loop{hub: h, poller: b}
	h.loop.role.init(&h.mu, h.loop.work)
	h.loops++
	for fd, f := range clients {
		if err := h.add(&f.Token, uintptr(fd)); err != nil {
			t.Fatal(err)
		}
	}
	go h.loop.run()
	return h, b
}

// A client that blocks in Notice or Settle delays no other by more than 200 ms. What
// happens to it meanwhile is told when it returns, by the goroutine that was blocked
// alone, and no two of its methods run at once. Time in a bubble is exact.
func TestBlockedNoticeDelaysNoOther(t *testing.T) {
	for _, c := range []struct {
		name             string
		batches          []string // s: the client that blocks, q: another
		blocks           int32    // which call of its methods
		notices, settles int32
	}{
		{"in Notice", []string{"s", "sq"}, 1, 2, 1}, // Settle follows both Notices
		{"in Settle", []string{"s", "sq"}, 2, 2, 2},
		{"in the second Notice of a batch", []string{"ssq"}, 2, 2, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			slow, quick := newFake(), newFake()
			h, b := newHub(t, slow, quick)
			release, noticed := make(chan struct{}), make(chan struct{}, 1)
			var inside, calls, notices, settles atomic.Int32
			method := func(count *atomic.Int32) {
				if inside.Add(1) != 1 {
					t.Errorf("%s: two methods of a client at once", c.name)
				}
				if calls.Add(1) == c.blocks {
					<-release
				}
				inside.Add(-1)
				count.Add(1)
			}
			slow.notice = func(Event) { method(&notices) }
			slow.settle = func() { method(&settles) }
			quick.notice = func(Event) { noticed <- struct{}{} }
			begin := time.Now()
			for _, batch := range c.batches {
				var events []poller.Event
				for _, f := range batch {
					events = append(events, poller.Event{ID: map[rune]uint64{'s': slow.id, 'q': quick.id}[f], What: FIN})
				}
				b <- events
			}
			<-noticed
			if took := time.Since(begin); took < patience || took > 200*time.Millisecond {
				t.Errorf("%s: the other was noticed after %v", c.name, took)
			}
			synctest.Wait() // the batch is done
			close(release)
			synctest.Wait()
			if n, s := notices.Load(), settles.Load(); n != c.notices || s != c.settles {
				t.Errorf("%s: Notice %d times, Settle %d times; want %d and %d", c.name, n, s, c.notices, c.settles)
			}
			h.forget(&slow.Token)
			h.forget(&quick.Token)
		})
	}
}

// The close of a descriptor behind our back is noticed within two seconds, once, of any
// number of clients, and stops the hub if it was the last.
func TestFollowClose(t *testing.T) {
	for _, clients := range []int{1, 20, 3*followBatch + 100} {
		synctest.Test(t, func(t *testing.T) {
			fakes := make([]*fake, clients)
			for i := range fakes {
				fakes[i] = newFake()
			}
			h, _ := newHub(t, fakes...)
			told, want := make(map[int]int), make(map[int]int)
			var shut atomic.Bool
			for i, f := range fakes {
				stays, forgotten := clients > 5 && 0 < i && i < 5, clients > 5 && i == 0
				if !stays && !forgotten {
					want[i] = 1
				}
				f.open = func() bool {
					if shut.Load() && forgotten {
						h.forget(&f.Token) // meanwhile, so it is not told
					}
					return !shut.Load() || stays
				}
				f.closed = func() { told[i]++ }
				h.followClose(&f.Token)
				h.followClose(&f.Token) // is no different
			}
			time.Sleep(time.Minute)
			shut.Store(true)
			time.Sleep(2 * followPeriod)
			synctest.Wait()
			if !maps.Equal(told, want) {
				t.Errorf("Closed was called %d times, of %d clients: %v", len(told), clients, told)
			}
			for _, f := range fakes {
				h.forget(&f.Token)
			}
			synctest.Wait()
			if h.loop != nil || h.loops != 0 || h.clock.armed != 0 {
				t.Errorf("after the last client: %d loops, the timer is due %d", h.loops, h.clock.armed)
			}
		})
	}
}

// A system whose poller does not work gets a sweep.
func TestSweepTakesThePlace(t *testing.T) {
	h := &hub{}
	silent := func() (watcher, error) { return nil, poller.ErrSilent }
	for range 2 {
		w, err := h.newWatcher(silent)
		if _, sweeps := w.(*poller.Sweep); err != nil || !sweeps || !h.sweeps {
			t.Fatalf("%T, %v", w, err)
		}
		w.Close()
		silent = func() (watcher, error) { t.Error("asked again"); return nil, nil }
	}
	failed := errors.New("no descriptor is left")
	if _, err := new(hub).newWatcher(func() (watcher, error) { return nil, failed }); err != failed {
		t.Errorf("%v", err)
	}
	process.sweeps = true
	defer func() { process.sweeps = false }()
	conn, peer := livenesstest.Pair(t, "tcp4")
	f := newFake()
	events := f.noticing()
	f.add(t, conn)
	peer.Close()
	for range 2 { // again and again
		if e := receive(t, "a sweep", events); e != Periodic {
			t.Errorf("a sweep tells %#b", e)
		}
	}
	f.Remove(rawOf(t, conn))
	checkStopped(t)
}
