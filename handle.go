package liveness

import (
	"net"
	"sync/atomic"
	"time"
	"weak"

	"github.com/go-liveness/liveness/internal/watch"
)

// theHub is the only state that connections share. It runs while there are any.
var theHub watch.Hub

// A handle is how the hub and the clock reach a Conn. By itself it keeps neither the
// Conn nor its socket from being freed.
type handle struct {
	watch.Token
	foreign bool                 // the wrapped connection is not package net's: its methods may block
	looking atomic.Bool          // a look that may block is under way, and makes another of a sweep needless
	conn    weak.Pointer[Conn]   // nil once nobody can reach the Conn
	pinned  atomic.Pointer[Conn] // the same Conn, while it owes somebody a call; see Conn.pin
}

var _ watch.Client = (*handle)(nil)

// newHandle makes the handle of c, whose socket belongs to owner.
func newHandle(c *Conn, owner net.Conn) *handle {
	h := &handle{conn: weak.Make(c)}
	h.Init(h)
	switch owner.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		h.foreign = true
	}
	return h
}

func forget(h *handle) { theHub.Forget(&h.Token) }

// Notice passes an event on. It is a hint, and one look decides. A sweep comes again.
func (h *handle) Notice(sweep bool) {
	c := h.conn.Value()
	switch {
	case c == nil || c.end.Load() != nil:
	case h.foreign && sweep:
		if h.looking.CompareAndSwap(false, true) {
			go func() {
				c.look(hint{event: true})
				h.looking.Store(false)
			}()
		}
	case h.foreign:
		go c.look(hint{event: true})
	default:
		c.look(hint{event: true})
	}
}

// Settle records the evidence of an end, unless somebody's method would be called.
func (h *handle) Settle() {
	if c := h.conn.Value(); c != nil && !h.foreign {
		c.record()
	}
}

// Open reports whether somebody still has the Conn, and its descriptor is open.
func (h *handle) Open() bool {
	c := h.conn.Value()
	return c != nil && c.sock.raw.Control(func(uintptr) {}) == nil
}

// Check is called by the clock, and returns when to call again.
func (h *handle) Check(at, jumped time.Time) (next time.Time) {
	c := h.conn.Value()
	switch {
	case c == nil:
	case h.foreign:
		go func() {
			if next := c.check(at, jumped); !next.IsZero() {
				c.wake(c.timersOf(), next)
			}
		}()
	default:
		return c.check(at, jumped)
	}
	return next
}
