package liveness

import (
	"slices"
	"time"

	"github.com/go-liveness/liveness/internal/verdict"
)

// OnSilence arranges to call f, in a goroutine of its own, whenever nothing was
// received for d: the place for a protocol's own ping. f runs once for each
// silence, and again after data have come and another silence of d has passed. It
// never runs twice at a time, a call that comes due meanwhile is made when f has
// returned, and it never starts after the end. f closes over whatever it writes to:
// above TLS, that is not this Conn.
//
// The silence counts as for [Config.ReadIdleTimeout]: from now or the last byte
// received, whoever read it. It stands still while our own receive buffer is full,
// and is over for good with the peer's FIN. d is at least 100 ms; less is taken as
// that.
//
// Calling stop ends the calls; it returns true if it did, and false if the
// connection has ended or stop was called before. It does not wait for an f that is
// running. Until then the Conn is kept, as by OnDisconnect. A nil f is never called.
func (c *Conn) OnSilence(d time.Duration, f func()) (stop func() bool) {
	if f == nil {
		return func() bool { return false }
	}
	t := c.timersOf()
	s := &silence{after: min(max(d, minReadIdleTimeout), maxTimeout), f: f, from: time.Now()}
	c.mu.Lock()
	if c.end.Load() == nil {
		c.silences = append(c.silences, s)
		if least := t.least.Load(); least == 0 || int64(s.after) < least {
			t.least.Store(int64(s.after))
		}
		c.pin()
	}
	c.mu.Unlock()
	c.wake(t, s.from.Add(s.after+tickSlack))
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, other := range c.silences {
			if other == s {
				c.silences = append(c.silences[:i:i], c.silences[i+1:]...)
				c.pin()
				return true
			}
		}
		return false
	}
}

// A silence is one registration of OnSilence. Its Conn's mu guards what changes.
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
		for _, s := range c.silences {
			limit := s.after + tickSlack
			age := min(quiet, now.Sub(s.from))
			// The kernel's age may make a byte that answered f look a tick older than the
			// call; what came before the call is older by all of the silence.
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
				wait = 0 // callSilence will wake us
			}
			if wait > 0 && !yield(wait) {
				return
			}
		}
	}
}

func (c *Conn) callSilence(s *silence) {
	c.mu.Lock()
	registered := slices.Contains(c.silences, s) // and neither stopped nor at the end
	c.mu.Unlock()
	if registered {
		s.f()
	}
	c.mu.Lock()
	s.running = false
	c.mu.Unlock()
	c.wake(c.timersOf(), time.Now())
}
