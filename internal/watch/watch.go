// Package watch is what the connections of a process share: one poller, one clock, and the
// table of all of them, which leads from an event to a connection.
//
// It knows a connection only as a [Client]. All goroutines and timers of the package
// end with the last client. A client that was added inside a testing/synctest bubble
// shares nothing: what it needs runs by the clock of its bubble.
//
// Lock order: hub.mu, then clock.mu or the locks inside a poller. No lock is held while
// a client's method runs.
package watch

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/go-liveness/liveness/internal/poller"
)

// A Client is one watched connection. Its methods run on goroutines that many clients
// share, so they must not block. If one of them does, another goroutine takes over the
// work for the other clients. Notice and Settle of one client never run at the same
// time, and neither do two calls of Check.
type Client interface {
	// Notice says that the socket may have ended. e is what the event told.
	Notice(e Event)

	// Settle follows Notice, once all clients of a batch have been noticed.
	Settle()

	// Check is called when the client is due, for its time-outs. Evidence from before jumped
	// is void: the process did not run for a while. Check returns when to call it again;
	// zero means not before the next Wake.
	Check(now, jumped time.Time) (next time.Time)

	// Open reports whether the client still exists and its descriptor is open. A client
	// whose connection does not answer within that time is taken for open.
	Open(within time.Duration) bool

	// Closed is called once, after Open has returned false, for a client that asked for
	// FollowClose.
	Closed()
}

// An Event is a set of flags that tells what happened to a socket.
type Event = poller.Kind

// The flags of an Event.
const (
	FIN      = poller.FIN
	Hangup   = poller.Hangup
	Failed   = poller.Failed
	Periodic = poller.Periodic
)

// Late is how late a goroutine of the package must be for the process to have stood
// still: the machine was suspended, or the process stopped. What the kernel counted
// meanwhile says nothing about the peer.
const Late = time.Second

// ErrWatched is the error of Add for a socket that another client watches.
var ErrWatched = errors.New("the connection is wrapped already")

// A Token is the registration of one Client. It belongs in the client's own memory,
// and keeps nothing alive but the client.
type Token struct {
	client Client               // set by Init
	id     uint64               // in the table of the hub, once it was there; set before other goroutines use the token
	solo   atomic.Pointer[solo] // serves a token without a hub; nil before it is needed

	// Guarded by the mu of the token's clock.
	due        atomic.Int64 // when Check is to be called, in nanoseconds of the clock; 0 for never. Read without the lock by wake.
	prev, next *Token       // in the list of a bucket
	state      checkState
	gone       bool // Check is not to be called any more

	added bool // set by Add, before other goroutines use the token

	// Guarded by hub.mu.
	busy    bool  // Notice or Settle is under way
	pending Event // what happened meanwhile
	follow  bool  // FollowClose was called
}

// Init makes t the token of c.
func (t *Token) Init(c Client) { t.client = c }

// Join makes t one of Clients, which Add does, too.
func (t *Token) Join() {
	if !t.added {
		process.join(t)
	}
}

// Clients yields all clients that were added or have joined, and were not forgotten. No
// lock is held meanwhile; one that comes or goes meanwhile may be missed or yielded.
func Clients(yield func(Client) bool) {
	var memory [chunkSlots]Client
	for n := 0; ; n++ {
		batch, more := process.clients(n, memory[:0])
		for _, c := range batch {
			if !yield(c) {
				return
			}
		}
		if !more {
			return
		}
	}
}

// hasHub reports whether the hub serves t, and not a solo.
func (t *Token) hasHub() bool { return t.added && t.solo.Load() == nil }

// Add has the socket fd watched for the client of t. The caller holds fd open
// meanwhile. The error wraps errors.ErrUnsupported where the system has no means, and
// is ErrWatched if a client whose descriptor is open watches the socket already.
func Add(t *Token, fd uintptr) error {
	if inBubble(time.Now()) {
		return process.addSolo(t, fd)
	}
	return process.add(t, fd)
}

// Wake has Check called at when or earlier, or at once if when is in the past. The
// clock may round up by 1/32 of the wait. A token that was never added gets a clock of
// its own.
func (t *Token) Wake(when time.Time) {
	if t.hasHub() {
		process.clock.wake(t, when)
	} else {
		t.ownSolo().clock.wake(t, when)
	}
}

// FollowClose has the hub call Open about once a second. When Open returns false, the
// hub forgets t and calls Closed.
func (t *Token) FollowClose() {
	if t.hasHub() {
		process.followClose(t)
	} else {
		t.ownSolo().followClose()
	}
}

// Remove ends the watch of t before its descriptor, that of raw, is closed: a duplicate
// of the descriptor would keep the registration and go on reporting.
func (t *Token) Remove(raw interface{ Control(func(uintptr)) error }) {
	if p := process.pollerOf(t); p != nil {
		// If the application has closed the descriptor already, the kernel did the rest.
		_ = raw.Control(func(fd uintptr) { p.Remove(fd, t.id) })
	}
	t.Forget()
}

// Forget drops t. It may be called from any goroutine, in a bubble or not, and more
// than once.
func (t *Token) Forget() {
	process.forget(t)
	if s := t.solo.Load(); s != nil {
		s.forget()
	} else if t.added {
		process.clock.remove(t)
	}
}

// inBubble reports whether now, which time.Now has just returned, is of a
// testing/synctest bubble. The runtime gives no monotonic clock reading there, and
// everywhere else it does (time_now in runtime/time.go).
func inBubble(now time.Time) bool { return now == now.Round(0) }
