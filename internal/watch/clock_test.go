package watch

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// longWait is how long a test waits for what must happen.
const longWait = 20 * time.Second

// A fake is a Client whose methods are functions.
type fake struct {
	Token
	notice func(Event)
	settle func()
	check  func(now, jumped time.Time) time.Time
	open   func() bool
	closed func()
}

// newFake returns a fake that is open, and whose other methods do nothing.
func newFake() *fake {
	f := &fake{
		notice: func(Event) {}, settle: func() {}, open: func() bool { return true }, closed: func() {},
		check: func(time.Time, time.Time) (never time.Time) { return never },
	}
	f.Init(f)
	return f
}

func (f *fake) Notice(e Event)                        { f.notice(e) }
func (f *fake) Settle()                               { f.settle() }
func (f *fake) Check(now, jumped time.Time) time.Time { return f.check(now, jumped) }
func (f *fake) Open(time.Duration) bool               { return f.open() }
func (f *fake) Closed()                               { f.closed() }

// newClock makes a clock that stops with the test.
func newClock(tb testing.TB) *clock {
	k := new(clock)
	k.init(time.Now())
	tb.Cleanup(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.active || k.armed != 0 {
			tb.Errorf("with no client left, the clock is active: %t, its timer is armed: %t", k.active, k.armed != 0)
		}
	})
	return k
}

func receive[T any](tb testing.TB, what string, from <-chan T) T {
	tb.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(longWait):
		tb.Fatalf("%s: nothing came in %v", what, longWait)
		panic("unreachable")
	}
}

// A modelClient is a list of the Wakes that are not answered.
type modelClient struct {
	*fake
	t     *testing.T
	clock *clock
	gone  atomic.Bool

	mu    sync.Mutex
	owed  []wake    // by Wake, and due after the last Check
	all   []wake    // by Wake
	last  time.Time // when the last Check was
	next  time.Time // what it returned
	total int
}

type wake struct{ at, when time.Time }

// late is at most how much later than asked for the clock calls Check.
func (w *wake) late() time.Duration { return min(max(w.when.Sub(w.at)/32, 1<<minPart), 1<<maxPart) }

func (m *modelClient) wake(wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asks(wait)
}

// asks wakes m, whose mu is held.
func (m *modelClient) asks(wait time.Duration) {
	w := wake{time.Now(), time.Now().Add(wait)}
	m.clock.wake(&m.Token, w.when)
	m.owed, m.all = append(m.owed, w), append(m.all, w)
}

// check fails unless the last Check asked for it, or a Wake that came no earlier than that.
func (m *modelClient) check(now, _ time.Time) (next time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total++
	asked := !m.next.IsZero() && !m.next.After(now)
	for _, w := range m.all {
		asked = asked || !w.when.After(now) && !w.at.Before(m.last)
	}
	if !asked || m.gone.Load() {
		m.t.Errorf("a Check that nothing asked for; %d are owed; gone: %t", len(m.owed), m.gone.Load())
	}
	left := m.owed[:0]
	m.next = time.Time{}
	for _, w := range m.owed {
		if w.when.After(now) {
			left = append(left, w)
			if m.next.IsZero() || w.when.Before(m.next) {
				m.next = w.when
			}
		} else if late := min(now.Sub(w.when), now.Sub(w.at)); late > w.late() {
			m.t.Errorf("a Check %v late, of a wait of %v", late, w.when.Sub(w.at))
		}
	}
	if sooner := now.Add(time.Duration(rand.Int64N(int64(time.Second)))); rand.IntN(4) == 0 && sooner.Before(m.next) {
		m.next = sooner
	}
	m.owed, m.last = left, now
	next = m.next
	switch during := rand.IntN(16); {
	case during < 2: // what the Check returns does not count
		m.clock.cancel(&m.Token)
		m.owed, m.all, m.next, next = nil, nil, time.Time{}, now.Add(time.Second)
		fallthrough
	case during < 4: // counts with what the Check returns
		m.asks(time.Duration(rand.Int64N(1 << 34)))
	}
	return next
}

// A random sequence of Wakes, Checks, and cancels and Wakes during a Check: no Check comes early, late or for nothing, every Wake
// is answered, and a client that is gone is never checked. Time in a bubble is exact.
func TestClockAgreesWithModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newClock(t)
		var all sync.WaitGroup
		for range 60 {
			m := &modelClient{fake: newFake(), t: t, clock: k}
			m.fake.check = m.check
			all.Go(func() {
				for range 200 {
					m.wake(time.Duration(rand.Int64N(1<<rand.IntN(40))) - time.Millisecond)
					if rand.IntN(4) == 0 { // so that many are due at once
						time.Sleep(time.Duration(rand.Int64N(1<<rand.IntN(10))) * time.Millisecond)
					}
				}
				if rand.IntN(2) == 0 {
					time.Sleep(10 * time.Hour)
					if m.mu.Lock(); len(m.owed) > 0 {
						t.Errorf("%d Wakes were not answered by %d Checks", len(m.owed), m.total)
					}
					m.mu.Unlock()
				}
				k.remove(&m.Token)
				time.Sleep(time.Nanosecond) // a Check that has begun goes on
				m.gone.Store(true)
				k.wake(&m.Token, time.Now())
				time.Sleep(time.Hour)
			})
		}
		all.Wait()
		if len(k.due) != 0 || len(k.bucket) != 0 {
			t.Errorf("%d buckets and %d due times are left", len(k.bucket), len(k.due))
		}
	})
}

// A process that stood still for more than Late learns of it, whether its clock had nothing to do then or was in the middle of
// its work. Less is no jump. Time in a bubble is exact, so the clock's own notes are moved instead.
func TestStandstillIsAJump(t *testing.T) {
	for _, late := range []time.Duration{0, Late, Late + 1} {
		synctest.Test(t, func(t *testing.T) {
			k := newClock(t)
			f := newFake()
			var jumps []time.Time
			f.check = func(now, jumped time.Time) time.Time {
				if jumps = append(jumps, jumped); len(jumps) == 2 {
					return time.Time{}
				}
				k.mu.Lock()
				k.jumped, k.alive = time.Time{}, now.Add(-late)
				k.mu.Unlock()
				return now
			}
			k.wake(&f.Token, time.Now().Add(time.Minute))
			k.mu.Lock()
			k.epoch = k.epoch.Add(-time.Duration(k.armed-k.since(time.Now())) - late)
			k.mu.Unlock()
			now, want := time.Now(), []time.Time{{}, {}}
			if late > Late {
				want = []time.Time{now, now}
			}
			k.tick()
			time.Sleep(time.Second)
			synctest.Wait()
			if !slices.Equal(jumps, want) {
				t.Errorf("%v late: the jumps were at %v, want %v", late, jumps, want)
			}
		})
	}
}

// Many clients with waits of seconds share a wake-up: at least 50 of 5000.
func TestClientsShareWakeUps(t *testing.T) {
	const clients, wait = 5000, time.Second
	synctest.Test(t, func(t *testing.T) {
		k := newClock(t)
		checks := uint64(0)
		for i := range clients {
			f := newFake()
			f.check = func(now, _ time.Time) time.Time {
				checks++
				return now.Add(wait)
			}
			k.wake(&f.Token, time.Now().Add(wait*time.Duration(i)/clients+40*time.Millisecond)) // one after the other
			defer k.remove(&f.Token)
		}
		time.Sleep(5 * wait / 2)
		if k.mu.Lock(); checks < clients || checks < 50*uint64(k.ticks) {
			t.Errorf("%d wake-ups for %d checks", k.ticks, checks)
		}
		k.mu.Unlock()
	})
}

// A client that blocks delays no other by more than 200 ms, is not checked by two
// goroutines at once, and loses no Wake. It is no jump of the clock.
func TestBlockedCheckDelaysNoOther(t *testing.T) {
	for _, blocked := range []int{1, maxBlocked} {
		synctest.Test(t, func(t *testing.T) {
			k := newClock(t)
			release := make(chan struct{})
			var inside, checks atomic.Int32
			slow := make([]*fake, blocked)
			due := time.Now().Add(10 * time.Millisecond)
			for i := range slow {
				slow[i] = newFake()
				slow[i].check = func(time.Time, time.Time) time.Time {
					inside.Add(1)
					<-release
					inside.Add(-1)
					checks.Add(1)
					return time.Time{}
				}
				k.wake(&slow[i].Token, due)
			}
			checked := make(chan time.Time, 1)
			quick := newFake()
			quick.check = func(now, jumped time.Time) time.Time {
				if !jumped.IsZero() {
					t.Error("a blocked client looked like a jump")
				}
				checked <- now
				return time.Time{}
			}
			wanted := due.Add(time.Millisecond)
			k.wake(&quick.Token, wanted)
			if late := (<-checked).Sub(wanted); late > 200*time.Millisecond {
				t.Errorf("%d blocked clients delayed another by %v", blocked, late)
			}
			time.Sleep(2 * Late) // long enough to look like a jump
			for _, f := range slow {
				k.wake(&f.Token, time.Now())
			}
			time.Sleep(time.Minute)
			if n := inside.Load(); n != int32(blocked) {
				t.Errorf("%d Checks are under way, of %d clients", n, blocked)
			}
			close(release)
			time.Sleep(time.Second)
			if n := checks.Load(); n != 2*int32(blocked) {
				t.Errorf("%d Checks of %d clients; a Wake during a Check asks for another", n, blocked)
			}
			k.wake(&quick.Token, time.Now())
			<-checked
			synctest.Wait()
		})
	}
}

// The clock's own work, and a Wake in the past, are no jumps.
func TestOwnWorkIsNoJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newClock(t)
		var checks atomic.Int32
		begin := time.Now()
		for range 300 {
			f := newFake()
			f.check = func(_, jumped time.Time) time.Time {
				time.Sleep(Late / 100)
				if checks.Add(1); !jumped.IsZero() {
					t.Error("the clock's own work looked like a jump")
				}
				return time.Time{}
			}
			k.wake(&f.Token, begin.Add(-time.Hour))
		}
		time.Sleep(3*Late + time.Millisecond)
		if n := checks.Load(); n != 300 {
			t.Errorf("%d Checks", n)
		}
	})
}
