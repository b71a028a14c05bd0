package watch

import (
	"time"

	"github.com/go-liveness/liveness/internal/poller"
)

// A solo serves one token without a hub: one that was never added, or that was added in
// a bubble. There a poller cannot be used. Its goroutine would wait for the network, and
// as long as a goroutine does, the clock of the bubble stands still. So a solo asks its
// client periodically, by the clock of the bubble.
type solo struct {
	clock  clock
	token  *Token
	rounds Token // in clock; its client is the solo

	// Guarded by clock.mu.
	sweeps  bool      // the client is to be noticed in each poller.Period
	follows bool      // it asked for FollowClose
	open    time.Time // when Open is to be called next
}

// ownSolo returns the solo of t. The first call makes it, in the bubble of the caller.
func (t *Token) ownSolo() *solo {
	if s := t.solo.Load(); s != nil {
		return s
	}
	s := &solo{token: t}
	s.rounds.Init((*soloRounds)(s))
	s.clock.init(time.Now())
	t.solo.CompareAndSwap(nil, s)
	return t.solo.Load()
}

// addSolo registers t, which a solo serves.
func (h *hub) addSolo(t *Token, fd uintptr) error {
	s := t.ownSolo()
	h.mu.Lock()
	others := h.register(t, fd)
	h.mu.Unlock()
	if anyOpen(others) {
		h.forget(t)
		return ErrWatched
	}
	s.start(&s.sweeps, poller.Period)
	return nil
}

func (s *solo) followClose() { s.start(&s.follows, followPeriod) }

// start sets a flag of s, and has the rounds begin.
func (s *solo) start(flag *bool, period time.Duration) {
	now := time.Now()
	s.clock.mu.Lock()
	*flag = true
	if s.follows && s.open.IsZero() {
		s.open = now.Add(followPeriod)
	}
	s.clock.mu.Unlock()
	s.clock.wake(&s.rounds, now.Add(period))
}

// forget ends the rounds and the checks. It reports whether it is the first to do so.
func (s *solo) forget() bool {
	s.clock.remove(&s.rounds)
	return s.clock.remove(s.token)
}

// soloRounds is a solo as the client of its own clock.
type soloRounds solo

// Check does what a hub's poller and followers do.
func (r *soloRounds) Check(now, _ time.Time) (next time.Time) {
	r.clock.mu.Lock()
	sweeps, asks := r.sweeps, r.follows && !now.Before(r.open)
	if asks {
		r.open = now.Add(followPeriod)
	}
	next = r.open
	r.clock.mu.Unlock()
	client := r.token.client
	if asks && !client.Open(FollowPatience) {
		process.forget(r.token)
		if (*solo)(r).forget() {
			client.Closed()
		}
		return time.Time{}
	}
	if sweeps {
		client.Notice(Periodic)
		client.Settle()
		next = now.Add(poller.Period)
	}
	return next
}

// The rounds have no socket.
func (r *soloRounds) Notice(Event)            {}
func (r *soloRounds) Settle()                 {}
func (r *soloRounds) Closed()                 {}
func (r *soloRounds) Open(time.Duration) bool { return true }
