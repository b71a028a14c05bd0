package liveness

import (
	"sync/atomic"
	"time"
	"weak"

	"github.com/go-liveness/liveness/internal/counters"
	"github.com/go-liveness/liveness/internal/readclock"
	"github.com/go-liveness/liveness/internal/watch"
)

// A handle is how the hub and the clock reach a Conn. By itself it keeps neither the Conn
// nor its socket from being freed.
type handle struct {
	watch.Token
	conn    weak.Pointer[Conn]   // nil once the application cannot reach the Conn any more
	pinned  atomic.Pointer[Conn] // the same Conn, while the application waits for its end; see Conn.pin
	group   *Group               // may be nil
	readers readclock.Readers    // of the Conn, where the kernel does not count what they receive
	flags   atomic.Uint32
}

var _ watch.Client = (*handle)(nil)

// The flags of a handle.
const (
	ready    = 1 << iota // the Conn is open, and may be checked for an event
	early                // an event came before that
	listed               // Conns returns the Conn
	checking             // a check that may block is under way, and makes another needless
)

func (h *handle) has(flag uint32) bool { return h.flags.Load()&flag != 0 }

// set and clear report whether the flag was set.
func (h *handle) set(flag uint32) bool   { return h.flags.Or(flag)&flag != 0 }
func (h *handle) clear(flag uint32) bool { return h.flags.And(^flag)&flag != 0 }

func newHandle(c *Conn, group *Group) *handle {
	h := &handle{conn: weak.Make(c), group: group}
	h.Init(h)
	return h
}

// Notice makes the check that an event asks for.
func (h *handle) Notice(e event) {
	c := h.conn.Value()
	if c == nil || c.end.Load() != nil {
		return
	}
	if !h.has(ready) {
		if h.set(early); !h.has(ready) {
			return // Conn.start makes the check
		}
	}
	if !c.sock.mayBlock {
		c.check(trigger{event: e})
		return
	}
	if e == watch.Periodic && h.set(checking) {
		return // a sweep comes again
	}
	go func() {
		c.check(trigger{event: e})
		h.clear(checking)
	}()
}

// Settle keeps the evidence of an end that Notice has published.
func (h *handle) Settle() {
	if c := h.conn.Value(); c != nil && h.has(ready) && !c.sock.mayBlock {
		c.takeSnapshot()
	}
}

// Check makes the check that is due.
func (h *handle) Check(at, jumped time.Time) (next time.Time) {
	c := h.conn.Value()
	switch {
	case c == nil:
	case c.sock.mayBlock:
		go func() {
			if next := c.checkTimeouts(at, jumped); !next.IsZero() {
				h.Wake(next)
			}
		}()
	default:
		return c.checkTimeouts(at, jumped)
	}
	return next
}

// Open reports whether the Conn still exists and its descriptor is open. A connection whose
// methods may block is taken for open while one of them does.
func (h *handle) Open(within time.Duration) bool {
	c := h.conn.Value()
	if c == nil {
		return false
	}
	if e := c.end.Load(); e != nil && e.closing.Load() {
		return false
	}
	if !c.sock.mayBlock {
		return c.descriptorOpen()
	}
	again := within <= watch.FollowPatience // then at most one goroutine waits
	if again && h.set(checking) {
		return true
	}
	open := make(chan bool, 1)
	go func() {
		open <- c.descriptorOpen()
		if again {
			h.clear(checking)
		}
	}()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case isOpen := <-open:
		return isOpen
	case <-timer.C:
		return true
	}
}

// descriptorOpen reports whether the descriptor is open, without a system call.
func (c *Conn) descriptorOpen() bool {
	return c.sock.raw.Control(func(uintptr) {}) == nil
}

// Closed is called once for a connection of Watch that the application has closed itself.
func (h *handle) Closed() {
	if c := h.conn.Value(); c != nil {
		c.observe(observation{outcome: closedLocally})
		h.leave()
		h.Forget()
	}
}

// forget is for a Conn that was freed without Close.
func forget(h *handle) {
	h.Forget()
	h.leave()
}

// join counts a connection, and makes it one that Conns returns.
func (h *handle) join() {
	h.counts((*counters.Counters).Join)
	h.set(listed)
	h.Join()
}

// leave is the opposite of join. The second time does nothing.
func (h *handle) leave() {
	if h.clear(listed) {
		h.counts((*counters.Counters).Leave)
	}
}

// count counts an end by its reason.
func (h *handle) count(e *ending) {
	i := ReasonOf(e.err).index()
	h.counts(func(k *counters.Counters) { k.End(i) })
}

// counts calls f with all that count the connection.
func (h *handle) counts(f func(*counters.Counters)) {
	f(&totals)
	if g := h.group; g != nil {
		f(&g.counters)
	}
}
