package liveness

import (
	"slices"
	"time"

	"github.com/go-liveness/liveness/internal/verdict"
)

// OnSilence arranges to call f, in a goroutine of its own, whenever nothing was received
// for d: the place for a protocol's own ping. f is called once for each silence, and
// again after data came and another silence of d has passed. It never runs twice at a
// time, and does not start after the end. f closes over what it writes to: above TLS
// that is not this Conn.
//
// The silence counts as for [Config.ReadIdleTimeout], from now or the last byte received.
// It stands still while the local receive buffer is full, and ends for good with the
// peer's FIN. d is at least 100 ms; less is taken as that.
//
// Calling stop ends the calls. It returns false if the connection has ended or stop was
// called before, and does not wait for an f that is running. Until then the Conn is
// kept, as by OnDisconnect. A nil f is never called.
func (c *Conn) OnSilence(d time.Duration, f func()) (stop func() bool) {
	if f == nil {
		return func() bool { return false }
	}
	t := c.timeoutsOf()
	s := &silence{after: min(max(d, minReadIdleTimeout), maxTimeout), f: f, from: time.Now()}
	c.mu.Lock()
	if c.end.Load() == nil {
		t.silences = append(t.silences, s)
		if shortest := t.shortest.Load(); shortest == 0 || int64(s.after) < shortest {
			t.shortest.Store(int64(s.after))
		}
		c.pin()
	}
	c.mu.Unlock()
	c.handle.Wake(s.from.Add(s.after + tickSlack))
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(t.silences, s)
		if i < 0 {
			return false
		}
		t.silences = append(t.silences[:i:i], t.silences[i+1:]...)
		c.pin()
		return true
	}
}

// A silence is one registration of OnSilence. Conn.mu guards what changes.
type silence struct {
	after   time.Duration
	f       func()
	from    time.Time // when it was registered
	called  time.Time // when f was last started; zero before
	running bool
}

// askSilences starts what is due, and yields when to ask again.
func (c *Conn) askSilences(now, heard time.Time, state verdict.QuietState, quiet time.Duration) func(yield func(time.Duration) bool) {
	return func(yield func(time.Duration) bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.end.Load() != nil {
			return
		}
		for _, s := range c.timeouts.Load().silences {
			limit := s.after + tickSlack
			age := min(quiet, now.Sub(s.from))
			// The kernel's age may make a byte that answered f look a tick older than the
			// call. What came before the call is older by all of the silence.
			answered := s.called.IsZero() || heard.After(s.called.Add(-s.after/2))
			wait := state.Wait(limit, age)
			switch {
			case state == verdict.Runs && !answered:
				// One call for each silence; what breaks it is seen in time for the next.
				wait = limit
			case state == verdict.Runs && age >= limit && !s.running:
				s.called, s.running = now, true
				go c.callSilence(s)
				wait = limit
			case s.running:
				wait = 0 // callSilence wakes the clock
			}
			if wait > 0 && !yield(wait) {
				return
			}
		}
	}
}

func (c *Conn) callSilence(s *silence) {
	c.mu.Lock()
	registered := slices.Contains(c.timeouts.Load().silences, s) // neither stopped nor at the end
	c.mu.Unlock()
	if registered {
		s.f()
	}
	c.mu.Lock()
	s.running = false
	c.mu.Unlock()
	c.handle.Wake(time.Now())
}
