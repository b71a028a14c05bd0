package supervise

import (
	"slices"
	"sync"
	"time"

	"github.com/go-liveness/liveness/internal/verdict"
)

// silences are the registrations of OnSilence.
type silences struct {
	mu  sync.Mutex // guards all, and the fields of each that change
	all []*Silence
}

// A Silence is one registration of OnSilence.
type Silence struct {
	after   time.Duration
	f       func()
	from    time.Time // when it was registered
	called  time.Time // when f was last started; zero before
	running bool
}

// OnSilence has f called, in a goroutine of its own, whenever nothing was received for d.
// The calls of OnSilence, StopSilence, WaitsForSilence and EndSilences come one at a time.
func (t *Timeouts) OnSilence(conn Connection, d time.Duration, f func()) *Silence {
	s := &Silence{after: min(max(d, MinIdle), maxTimeout), f: f, from: time.Now()}
	list := t.silences.Load()
	if list == nil {
		list = new(silences)
		t.silences.Store(list)
	}
	list.mu.Lock()
	list.all = append(list.all, s)
	list.mu.Unlock()
	if shortest := t.shortest.Load(); shortest == 0 || int64(s.after) < shortest {
		t.shortest.Store(int64(s.after))
	}
	conn.Wake(s.from.Add(s.after + verdict.TickSlack))
	return s
}

// StopSilence ends the calls of s. It reports false if they have ended before.
func (t *Timeouts) StopSilence(s *Silence) bool {
	list := t.silences.Load()
	list.mu.Lock()
	defer list.mu.Unlock()
	i := slices.Index(list.all, s)
	if i < 0 {
		return false
	}
	list.all = slices.Delete(list.all, i, i+1)
	return true
}

// EndSilences ends the calls of all.
func (t *Timeouts) EndSilences() {
	if t == nil {
		return
	}
	if list := t.silences.Load(); list != nil {
		list.mu.Lock()
		defer list.mu.Unlock()
		list.all = nil
	}
}

// WaitsForSilence reports whether a function is registered.
func (t *Timeouts) WaitsForSilence() bool {
	if t == nil {
		return false
	}
	list := t.silences.Load()
	if list == nil {
		return false
	}
	list.mu.Lock()
	defer list.mu.Unlock()
	return len(list.all) > 0
}

// askSilences starts what is due, and returns when to ask again; zero is never. checking
// is held.
func (t *Timeouts) askSilences(conn Connection, now *Sample, a *verdict.Answer) (wait time.Duration) {
	list := t.silences.Load()
	if list == nil {
		return 0
	}
	list.mu.Lock()
	defer list.mu.Unlock()
	for _, s := range list.all {
		due, again := s.ask(now, a)
		if due {
			s.called, s.running = now.Asked, true
			go t.callSilence(conn, s)
		}
		wait = verdict.Sooner(wait, again)
	}
	return wait
}

// ask reports whether f is to be called now, and when to ask again; zero is never.
func (s *Silence) ask(now *Sample, a *verdict.Answer) (due bool, wait time.Duration) {
	limit := s.after + verdict.TickSlack
	age := min(a.Since, now.Asked.Sub(s.from))
	// The kernel's age may make a byte that answered f look a tick older than the call.
	// What came before the call is older by all of the silence.
	answered := s.called.IsZero() || now.heard.After(s.called.Add(-s.after/2))
	switch {
	case a.Quiet == verdict.Runs && !answered:
		// One call for each silence; what breaks it is seen in time for the next.
		return false, limit
	case a.Quiet == verdict.Runs && age >= limit && !s.running:
		return true, limit
	case s.running:
		return false, 0 // callSilence wakes the clock
	}
	return false, a.Quiet.Wait(limit, age)
}

func (t *Timeouts) callSilence(conn Connection, s *Silence) {
	list := t.silences.Load()
	list.mu.Lock()
	registered := slices.Contains(list.all, s) // neither stopped nor at the end
	list.mu.Unlock()
	if registered {
		s.f()
	}
	list.mu.Lock()
	s.running = false
	list.mu.Unlock()
	conn.Wake(time.Now())
}
