package liveness

import (
	"errors"
	"io/fs"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/go-liveness/liveness/internal/poller"
)

// A hub is what the watched connections of a process share. It starts with the
// first of them and stops a second after the last, so that a server with a
// connection now and then does not start it for each.
type hub struct {
	mu     sync.Mutex        // guards the fields below; held across a system call only to start, to stop, and to resolve doubts
	tokens map[uint64]*token // by id; nil while stopped
	lastID uint64            // never restarts: an id is used once in the life of the process, so what comes late finds nobody
	poller watcher           // nil while stopped
	idle   *time.Timer       // calls stop; armed while tokens is empty

	// What to do if the system does not tell; see doubt.go.
	sweeps     bool    // it does not, so poller is a Sweep, for good
	distrusted watcher // the poller before it; nil otherwise
	doubts     []doubt
	witness    *witness    // nil unless one has been called
	resolver   *time.Timer // calls resolve

	clock clock // has a lock of its own, which is taken after mu

	limits   atomic.Pointer[limits] // of the socket that was asked last: most have them in common
	counters atomic.Int32           // whether TCP_INFO has them: 0 not asked yet, 1 yes, 2 no
}

var theHub hub

// linger is how long the hub outlives its last connection.
const linger = time.Second

// A token stands for a watched Conn in the hub. By itself it keeps neither the
// Conn nor its socket from being freed.
type token struct {
	id      uint64               // set once, under hub.mu
	fd      uintptr              // likewise; only to be compared, for it may have been closed and used again
	foreign bool                 // the wrapped connection is not package net's: its methods may block
	looking atomic.Bool          // a look that may block is under way, and makes another of a sweep needless
	told    atomic.Bool          // an event has come
	conn    weak.Pointer[Conn]   // nil once nobody can reach the Conn
	pinned  atomic.Pointer[Conn] // the same Conn, while it owes somebody a call; see Conn.pin

	// Guarded by the mu of its clock.
	due   time.Time
	index int  // place in the clock's heap, from 1; 0 if it is not in it
	gone  bool // nothing is to be checked any more
}

// newToken makes the token of c, whose socket belongs to owner.
func newToken(c *Conn, owner net.Conn) *token {
	t := &token{conn: weak.Make(c)}
	switch owner.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		t.foreign = true
	}
	return t
}

// add registers t for fd, which is held open meanwhile.
func (h *hub) add(t *token, fd uintptr) error {
	h.mu.Lock()
	if err := h.start(); err != nil {
		h.mu.Unlock()
		return err
	}
	// The token is known before its socket is, so that no event is lost.
	h.lastID++
	t.id, t.fd = h.lastID, fd
	h.tokens[t.id] = t
	p := h.poller
	h.mu.Unlock()

	err := p.Add(fd, t.id)
	if errors.Is(err, fs.ErrExist) {
		if h.watched(fd, t) {
			err = errWrapped
		} else {
			// The Conn that was watched here was forgotten, the connection in it not.
			err = p.Replace(fd, t.id)
		}
	}
	if err != nil {
		h.forget(t)
	}
	return err
}

// watched reports whether a Conn that somebody still has, other than that of t, is
// registered for fd. One that was closed behind its back is not: it had the
// descriptor before.
func (h *hub) watched(fd uintptr, t *token) bool {
	var holders []*Conn
	h.mu.Lock()
	for _, other := range h.tokens {
		if other != t && other.fd == fd {
			if c := other.conn.Value(); c != nil {
				holders = append(holders, c)
			}
		}
	}
	h.mu.Unlock()
	for _, c := range holders {
		if c.sock.raw.Control(func(uintptr) {}) == nil {
			return true
		}
	}
	return false
}

// unwatch ends the watch of s before its descriptor is closed: a duplicate would
// keep the registration, and go on reporting.
func (h *hub) unwatch(s *socket) {
	h.mu.Lock()
	p := h.poller
	registered := h.tokens[s.watch.id] == s.watch // and as long as it is, p is not closed
	h.mu.Unlock()
	if registered {
		// If somebody has closed the descriptor already, the kernel did the rest.
		_ = s.raw.Control(func(fd uintptr) { p.Remove(fd, s.watch.id) })
		h.forget(s.watch)
	}
}

func forget(t *token) { theHub.forget(t) }

// forget drops t. The second time does nothing.
func (h *hub) forget(t *token) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(t)
}

// drop is forget with mu held.
func (h *hub) drop(t *token) {
	if h.tokens[t.id] != t {
		return
	}
	delete(h.tokens, t.id)
	h.clock.remove(t)
	if len(h.tokens) > 0 {
		return
	}
	if h.idle == nil {
		h.idle = time.AfterFunc(linger, h.stop)
	} else {
		h.idle.Reset(linger)
	}
}

// start makes sure that the hub runs; mu is held.
func (h *hub) start() error {
	if h.idle != nil {
		h.idle.Stop()
	}
	if h.poller != nil {
		return nil
	}
	p, err := h.newWatcher(systemWatcher)
	if err != nil {
		return err
	}
	h.poller, h.tokens = p, make(map[uint64]*token)
	go h.run(p)
	return nil
}

// newWatcher makes a watcher by open, or what replaces it; mu is held.
func (h *hub) newWatcher(open func() (watcher, error)) (watcher, error) {
	if !h.sweeps {
		p, err := open()
		if !errors.Is(err, poller.ErrSilent) {
			return p, err
		}
		h.sweeps = true
	}
	return poller.NewSweep(), nil
}

// systemWatcher makes what the system has.
func systemWatcher() (watcher, error) {
	p, err := poller.New()
	if err != nil {
		return nil, err
	}
	return p, nil
}

// stop ends the hub, unless somebody came back while the timer was on its way.
func (h *hub) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.poller != nil && len(h.tokens) == 0 {
		h.poller.Close()
		if h.distrusted != nil {
			h.distrusted.Close()
		}
		h.poller, h.distrusted, h.tokens = nil, nil, nil
	}
}

// run hands out the events of p until p is closed.
func (h *hub) run(p watcher) {
	_, sweeps := p.(*poller.Sweep)
	var told []*token
	for {
		ids, err := p.Wait()
		if err != nil {
			return
		}
		h.mu.Lock()
		for _, id := range ids {
			if t := h.tokens[id]; t != nil {
				t.told.Store(true)
				told = append(told, t)
			}
		}
		if h.witness != nil && h.witness.token.told.Load() {
			h.resolveIn(0)
		}
		h.mu.Unlock()
		for _, t := range told {
			t.notice(sweeps)
		}
		// Who was told runs next, before we ask for more.
		runtime.Gosched()
		for _, t := range told {
			t.record()
		}
		clear(told) // or it would keep what was pinned
		told = told[:0]
	}
}

// notice passes an event on. It is a hint, and one look decides. A sweep comes again.
func (t *token) notice(sweeps bool) {
	c := t.conn.Value()
	switch {
	case c == nil || c.end.Load() != nil:
	case t.foreign && sweeps:
		if t.looking.CompareAndSwap(false, true) {
			go func() {
				c.look(hint{event: true})
				t.looking.Store(false)
			}()
		}
	case t.foreign:
		go c.look(hint{event: true})
	default:
		c.look(hint{event: true})
	}
}

// record is that of the Conn, unless somebody's method would be called.
func (t *token) record() {
	if c := t.conn.Value(); c != nil && !t.foreign {
		c.record()
	}
}

// check is called by the clock, and returns when to call again.
func (t *token) check(at, jumped time.Time) (next time.Time) {
	c := t.conn.Value()
	switch {
	case c == nil:
	case t.foreign:
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
