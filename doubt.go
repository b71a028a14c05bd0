package liveness

import (
	"cmp"
	"slices"
	"time"

	"github.com/go-liveness/liveness/internal/poller"
)

// A watcher tells which sockets may have ended: a poller.Poller, or a poller.Sweep
// in its place.
type watcher interface {
	Add(fd uintptr, id uint64) error
	Replace(fd uintptr, id uint64) error
	Remove(fd uintptr, id uint64)
	Wait() ([]uint64, error)
	Close() error
}

// Not every system that says it watches does: emulators and sandboxes are known to
// take the request and to forget it. So the hub believes traffic. If a Read or a
// Write shows an end that the system must have told of, and does not within a
// second, everything is looked at periodically from then on, for good.

// A doubt is an end that was shown before any event told of it, as now and then it
// is everywhere: whoever waits in Read may run before the hub does.
type doubt struct {
	token *token
	since time.Time
}

const (
	// announceTime is how long the system may take to tell of an end.
	announceTime = time.Second
	// restTime is how long the hub must have had nothing to do before what it was not
	// told counts for anything, and how late the clock may be at that time: a process
	// that stood still, or was short of processors, was told nothing either.
	restTime = announceTime / 10
	// maxDoubts is how many connections are waited for at a time; one is enough.
	maxDoubts = 64
)

// doubt waits for the event that must tell of the end of t.
func (h *hub) doubt(t *token) {
	if t.told.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sweeps || h.tokens[t.id] != t || len(h.doubts) == maxDoubts {
		return
	}
	h.doubts = append(h.doubts, doubt{t, time.Now()})
	if len(h.doubts) == 1 {
		h.resolveIn(announceTime)
	}
}

// resolveIn has the doubts resolved in a while; mu is held.
func (h *hub) resolveIn(wait time.Duration) {
	h.resolveDue = time.Now().Add(wait)
	if h.resolver == nil {
		h.resolver = time.AfterFunc(wait, h.resolve)
	} else {
		h.resolver.Reset(wait)
	}
}

// resolve drops the doubts about what was told of meanwhile, or is not watched any
// more, and draws the conclusion from the others.
func (h *hub) resolve() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.doubts = slices.DeleteFunc(h.doubts, func(d doubt) bool {
		return d.token.told.Load() || h.tokens[d.token.id] != d.token
	})
	if len(h.doubts) == 0 || h.sweeps {
		h.doubts = nil
		return
	}
	switch wait := h.doubts[0].since.Add(announceTime).Sub(now); {
	case wait > 0:
		h.resolveIn(wait)
	case now.Sub(h.resolveDue) > restTime || h.resting() < restTime:
		h.resolveIn(restTime)
	default:
		h.doubts = nil
		h.sweep()
	}
}

// resting is for how long the hub has been waiting to be told something.
func (h *hub) resting() time.Duration {
	if since := h.rests.Load(); since > 0 {
		return time.Since(h.began) - time.Duration(since)
	}
	return 0
}

// sweep replaces the watcher; mu is held. The old one is kept until the hub stops:
// somebody may be about to add to it.
func (h *hub) sweep() {
	h.sweeps = true
	s := poller.NewSweep()
	// A descriptor that two have is that of the younger.
	tokens := make([]*token, 0, len(h.tokens))
	for _, t := range h.tokens {
		tokens = append(tokens, t)
	}
	slices.SortFunc(tokens, func(a, b *token) int { return cmp.Compare(a.id, b.id) })
	for _, t := range tokens {
		_ = s.Replace(t.fd, t.id) // which is only noted
	}
	h.distrusted, h.poller = h.poller, s
	go h.run(s)
}
