package liveness

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/sock"
	"github.com/go-liveness/liveness/internal/supervise"
	"github.com/go-liveness/liveness/internal/watch"
)

// An outcome is what one check of a connection shows.
type outcome uint8

const (
	unknown       outcome = iota // the system, or this connection, shows nothing
	connected                    // nothing has ended
	peerFinished                 // the peer's FIN is here, and the local side may still send
	bothFinished                 // both sides have sent their FIN
	aborted                      // over, and not by two FINs
	closedLocally                // the descriptor is closed
)

// An observation is the evidence of one check, whatever triggered it.
type observation struct {
	outcome outcome
	fin     bool  // a FIN of the peer came before the end
	errno   error // with aborted: the cause, by the system's name for it

	evidence *supervise.Sample // with aborted: what the check has taken of the connection; nil if nothing
}

// endOf returns what an observation means as an end, nil if it is none. Nothing else
// decides that.
func (s *socket) endOf(o observation) error {
	switch o.outcome {
	case peerFinished:
		if s.allowHalfClose {
			return nil
		}
		return &cause{reason: ErrPeerClosed}
	case bothFinished:
		return &cause{reason: ErrPeerClosed}
	case aborted:
		// Where a FIN alone is the end, what followed it has ended nothing.
		if o.fin && !s.allowHalfClose {
			return &cause{reason: ErrPeerClosed}
		}
		return &cause{reason: reasonFor(o.errno), err: o.errno}
	case closedLocally:
		return net.ErrClosed
	}
	return nil
}

// event is what the poller told of a socket.
type event = watch.Event

// unspecified is an event of which nothing is known.
const unspecified = watch.Periodic

// observationOfEvent is what an event alone shows, where no check can be made any more.
func observationOfEvent(e event) observation {
	switch {
	case e&watch.Failed != 0:
		return observation{outcome: aborted, errno: errno.Reset}
	case e&watch.FIN != 0 && e&watch.Hangup == 0: // with it, a Read may have taken the errno of a RST
		return observation{outcome: peerFinished, fin: true}
	default:
		return observation{outcome: closedLocally}
	}
}

// A trigger is why a check is made. The zero trigger is a caller who asks.
type trigger struct {
	err      error // what a Read or a Write of the connection has just returned; nil otherwise
	wrote    bool  // err is a Write's
	event    event // what the poller has told
	overtime bool  // the Read or Write that may have taken the errno has had time to bring it

	arrivals supervise.Arrivals // of the last sample; set by Conn.check
}

// A checker shows how a connection is: a *socket, a *pipe where there is none.
type checker interface {
	// check never blocks, and allocates nothing while the connection is open.
	check(t trigger) observation

	// shut remembers a local CloseRead or CloseWrite, before it is made. Its undo is
	// for one that failed.
	shut(d sock.Direction) (undo func())
}

// A family says what a check may rely on.
type family uint8

const (
	familyUnknown   family = iota
	familyInet             // TCP or MPTCP, to be asked when it matters
	familyTCP              // TCP_INFO tells the state
	familyMPTCP            // TCP_INFO is that of one subflow, and no evidence
	familyStateOnly        // TCP under an emulator whose TCP_INFO tells the state at most
	familyStream           // AF_UNIX and other streams: no state
)

// A socket is the kernel's side of a connection.
type socket struct {
	raw     beneath.Raw // nil if no socket was found
	history sock.History
	limits  keepalive.Cache
	quick   atomic.Pointer[quickCheck] // made by the first Alive

	family   family
	mayBlock bool // raw belongs to a connection that is not package net's: its methods may block
	direct   bool // raw belongs to the wrapped connection itself, not to one beneath it
	counted  bool // the kernel tells what was received and what is outstanding

	// These two belong to the Conn. They stand here because they take no memory here.
	allowHalfClose bool
	byWatch        bool // made by Watch: the application uses the connection itself
}

func (s *socket) shut(d sock.Direction) (undo func()) { return s.history.Shut(d) }

// deferTime is how long an event waits for a Read or a Write that may have taken the
// errno. One that has taken it returns at once; a copy that has not may wait for its other
// side.
const deferTime = 100 * time.Millisecond

// deferToIO leaves the decision to Reads and Writes that may have taken the errno.
func (s *socket) deferToIO(t trigger) bool {
	var own int32
	if t.err != nil {
		own = 1
	}
	return !t.overtime && s.history.Defer(own)
}

// A quickCheck is the closure for the common case, a live connection. It is created
// once, because creating it in every call would allocate.
type quickCheck struct {
	at       func(fd uintptr)
	notQuick atomic.Uint32 // how often the quick check did not suffice
}

// remember notes a FIN, which a later check may not show any more.
func (s *socket) remember(o observation) observation {
	if o.outcome == peerFinished || o.outcome == bothFinished {
		o.fin = true
	}
	if o.fin {
		s.history.NoteFIN()
	}
	return o
}
