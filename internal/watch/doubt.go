package watch

import (
	"cmp"
	"os"
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
//
// A second is nothing to a process that stood still or is short of processors, and
// no clock tells how late a goroutine is run. So the hub has the system tell of
// something else first: a witness that has ended, too, and later. Events come in
// their order; when that one has come, the one that is doubted was forgotten.

// A doubt is an end that was shown before any event told of it, as now and then it
// is everywhere: whoever waits in Read may run before the hub does.
type doubt struct {
	token *Token
	since time.Time
}

// A witness is a socket that has ended at a known time, watched under a token that no
// Conn has.
type witness struct {
	token *Token
	file  *os.File
	since time.Time
}

const (
	// announceTime is how long the system may take to tell of an end.
	announceTime = time.Second

	// maxDoubts is how many connections are waited for at a time; one is enough.
	maxDoubts = 64
)

// Doubt waits for the event that must tell of the end of t.
func (h *Hub) Doubt(t *Token) {
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
func (h *Hub) resolveIn(wait time.Duration) {
	if h.resolver == nil {
		h.resolver = time.AfterFunc(wait, h.resolve)
	} else {
		h.resolver.Reset(wait)
	}
}

// resolve drops the doubts that came to nothing, and draws the conclusion from the
// others once there is a witness.
func (h *Hub) resolve() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.doubts = slices.DeleteFunc(h.doubts, func(d doubt) bool {
		return d.token.told.Load() || h.tokens[d.token.id] != d.token || !d.token.client.Open()
	})
	switch w := h.witness; {
	case len(h.doubts) == 0 || h.sweeps:
		h.dismissWitness()
		h.doubts = nil
	case w != nil && !w.token.told.Load():
		// The hub will call again when it comes.
	case w != nil && h.doubts[0].since.Add(announceTime).Before(w.since):
		h.dismissWitness()
		h.doubts = nil
		h.sweep()
	default:
		h.dismissWitness()
		if wait := time.Until(h.doubts[0].since.Add(announceTime)); wait >= 0 {
			h.resolveIn(wait + 1) // later than that
		} else if h.callWitness() != nil {
			h.doubts = nil // the next doubt may find the means
		}
	}
}

// callWitness makes one; mu is held.
func (h *Hub) callWitness() error {
	file, err := poller.Ended()
	if err != nil {
		return err
	}
	h.lastID++
	t := &Token{id: h.lastID, fd: file.Fd()}
	h.tokens[t.id] = t
	h.witness = &witness{t, file, time.Now()}
	if err := h.poller.Add(t.fd, t.id); err != nil {
		h.dismissWitness()
		return err
	}
	return nil
}

// dismissWitness ends the watch of it, if there is one; mu is held.
func (h *Hub) dismissWitness() {
	w := h.witness
	if w == nil {
		return
	}
	h.witness = nil
	if h.poller != nil {
		h.poller.Remove(w.token.fd, w.token.id)
	}
	w.file.Close()
	h.drop(w.token)
}

// sweep replaces the watcher; mu is held. The old one is kept until the hub stops:
// somebody may be about to add to it.
func (h *Hub) sweep() {
	h.sweeps = true
	s := poller.NewSweep()
	// A descriptor that two have is that of the younger.
	tokens := make([]*Token, 0, len(h.tokens))
	for _, t := range h.tokens {
		tokens = append(tokens, t)
	}
	slices.SortFunc(tokens, func(a, b *Token) int { return cmp.Compare(a.id, b.id) })
	for _, t := range tokens {
		_ = s.Replace(t.fd, t.id) // which is only noted
	}
	h.distrusted, h.poller = h.poller, s
	go h.run(s)
}
