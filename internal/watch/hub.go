// Package watch is what the watched connections of a process share: one poller, one
// clock, and the registry that leads from their events back to a connection.
//
// It knows connections only as [Client].
package watch

import (
	"errors"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-liveness/liveness/internal/poller"
)

// A Client is one watched connection. Its methods are called on goroutines that all
// clients share: they must not block.
type Client interface {
	// Notice says that the socket may have ended. In a sweep it says so periodically.
	Notice(e Event)

	// Settle follows Notice, once all clients of a batch have been noticed.
	Settle()

	// Check is called when the client is due, at that time. jumped is when the clock
	// last came much too late. It returns when to call again; zero is never.
	Check(at, jumped time.Time) (next time.Time)

	// Open reports whether the client still exists and its descriptor is open.
	Open() bool
	Closed()
}

type Event uint8

const (
	FIN Event = 1 << iota
	Hangup
	Failed
	Periodic
)

var process Hub

func Add(t *Token, fd uintptr) error        { return process.Add(t, fd) }
func (t *Token) Remove(raw syscall.RawConn) { process.Remove(t, raw) }
func (t *Token) Forget()                    { process.Forget(t) }
func (t *Token) FollowClose()               {}
func (t *Token) Wake(when time.Time) {
	if t.Added() {
		process.Clock.Wake(t, when)
		return
	}
	if t.own == nil {
		t.own = new(Clock)
	}
	t.own.Wake(t, when)
}

// A Token is the registration of one Client. It belongs in the client's own memory,
// and keeps nothing alive but the client that it was made with.
type Token struct {
	client Client
	id     uint64      // set once, under Hub.mu
	fd     uintptr     // likewise; only to be compared, for it may have been closed and used again
	told   atomic.Bool // an event has come

	// Guarded by the mu of its clock.
	due   time.Time
	index int // place in the clock's heap, from 1; 0 if it is not in it
	own   *Clock
	gone  bool // nothing is to be checked any more
}

// Init makes t the token of c.
func (t *Token) Init(c Client) { t.client = c }

// Added reports whether t was ever added to a Hub.
func (t *Token) Added() bool { return t.id != 0 }

// ErrWatched is the error of Add for a socket that another client watches.
var ErrWatched = errors.New("the connection is wrapped already")

// A Hub starts with the first client and stops a second after the last, so that a
// server with a connection now and then does not start it for each. Its zero value is
// ready for use.
type Hub struct {
	Clock Clock // has a lock of its own, which is taken after mu

	mu     sync.Mutex        // guards the fields below; held across a system call only to start, to stop, and to resolve doubts
	tokens map[uint64]*Token // by id; nil while stopped
	lastID uint64            // never restarts: an id is used once in the life of the process, so what comes late finds nobody
	poller watcher           // nil while stopped
	idle   *time.Timer       // calls stop; armed while tokens is empty

	// What to do if the system does not tell; see doubt.go.
	sweeps     bool    // it does not, so poller is a Sweep, for good
	distrusted watcher // the poller before it; nil otherwise
	doubts     []doubt
	witness    *witness    // nil unless one has been called
	resolver   *time.Timer // calls resolve
}

// Linger is how long the hub outlives its last connection.
const Linger = time.Second

// Add registers t for fd, which is held open meanwhile.
func (h *Hub) Add(t *Token, fd uintptr) error {
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
			err = ErrWatched
		} else {
			// The Conn that was watched here was forgotten, the connection in it not.
			err = p.Replace(fd, t.id)
		}
	}
	if err != nil {
		h.Forget(t)
	}
	return err
}

// watched reports whether a client other than that of t, whose descriptor is still
// open, is registered for fd.
func (h *Hub) watched(fd uintptr, t *Token) bool {
	var holders []Client
	h.mu.Lock()
	for _, other := range h.tokens {
		if other != t && other.fd == fd && other.client != nil {
			holders = append(holders, other.client)
		}
	}
	h.mu.Unlock()
	for _, c := range holders {
		if c.Open() {
			return true
		}
	}
	return false
}

// Remove ends the watch of t before its descriptor, that of raw, is closed: a duplicate
// would keep the registration, and go on reporting.
func (h *Hub) Remove(t *Token, raw syscall.RawConn) {
	h.mu.Lock()
	p := h.poller
	registered := h.tokens[t.id] == t // and as long as it is, p is not closed
	h.mu.Unlock()
	if registered {
		// If somebody has closed the descriptor already, the kernel did the rest.
		_ = raw.Control(func(fd uintptr) { p.Remove(fd, t.id) })
		h.Forget(t)
	}
}

// Forget drops t. The second time does nothing.
func (h *Hub) Forget(t *Token) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(t)
}

// drop is Forget with mu held.
func (h *Hub) drop(t *Token) {
	if h.tokens[t.id] != t {
		return
	}
	delete(h.tokens, t.id)
	h.Clock.remove(t)
	if len(h.tokens) > 0 {
		return
	}
	if h.idle == nil {
		h.idle = time.AfterFunc(Linger, h.stop)
	} else {
		h.idle.Reset(Linger)
	}
}

// start makes sure that the hub runs; mu is held.
func (h *Hub) start() error {
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
	h.poller, h.tokens = p, make(map[uint64]*Token)
	go h.run(p)
	return nil
}

// newWatcher makes a watcher by open, or what replaces it; mu is held.
func (h *Hub) newWatcher(open func() (watcher, error)) (watcher, error) {
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
func (h *Hub) stop() {
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
func (h *Hub) run(p watcher) {
	_, sweeps := p.(*poller.Sweep)
	var told []*Token
	for {
		ids, err := p.Wait()
		if err != nil {
			return
		}
		h.mu.Lock()
		for _, id := range ids {
			if t := h.tokens[id]; t != nil {
				t.told.Store(true)
				if t.client != nil { // the witness has none
					told = append(told, t)
				}
			}
		}
		if h.witness != nil && h.witness.token.told.Load() {
			h.resolveIn(0)
		}
		h.mu.Unlock()
		for _, t := range told {
			e := FIN
			if sweeps {
				e = Periodic
			}
			t.client.Notice(e)
		}
		// Who was told runs next, before we ask for more.
		runtime.Gosched()
		for _, t := range told {
			t.client.Settle()
		}
		clear(told) // or it would keep what was pinned
		told = told[:0]
	}
}
