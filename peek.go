package liveness

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/sock"
	"github.com/go-liveness/liveness/internal/supervise"
	"github.com/go-liveness/liveness/internal/watch"
)

// A check asks the kernel once how a connection is. A file peek_*.go implements it for
// a system, with these functions. They run inside RawConn.Control, so fd stays open.
// None of them may block, consume a byte, take the socket's pending error where the
// kernel offers another way, or change what the application sees.
//
//	identify(fd uintptr) (family, error)
//		Finds out what fd is. The error wraps errors.ErrUnsupported if fd is no
//		stream socket.
//	(*socket) checkAt(fd uintptr, t trigger) observation
//		Makes one check. For a connection that is open it allocates nothing.
//	(*socket) quickCheckAt(fd uintptr) bool
//		Reports whether nothing has ended, at the cost of a check of a live
//		connection. After false, checkAt finds out what has happened.
//	(*socket) countsAt(fd uintptr) bool
//		Reports whether the kernel counts for this connection.
//	(*socket) sampleAt(fd uintptr, s *supervise.Sample) bool
//		Fills s with what the kernel counts. False: it tells nothing now.
//
// and with these constants:
//
//	kernelCounts
//		The kernel tells of some connections when something was last received and
//		what is unacknowledged, so the library judges them. Elsewhere the kernel's own
//		timers keep PeerTimeout, and silence is counted while a Read waits.
//	streamsMayBeTCP
//		identify does not tell TCP from other streams.

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

// event is what the poller told of a socket.
type event = watch.Event

// unspecified is an event of which nothing is known.
const unspecified = watch.Periodic

// observationOfEvent is what an event alone shows, where no check can be made any more.
func observationOfEvent(e event) observation {
	switch {
	case e&watch.Failed != 0:
		return observation{outcome: aborted, fin: false, errno: errno.Reset}
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
}

// A checker shows how a connection is: a *socket, a *pipe where there is none, and a
// fake in tests.
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
	raw      syscall.RawConn
	family   family
	mayBlock bool // raw belongs to a connection that is not package net's: its methods may block
	direct   bool // raw belongs to the wrapped connection itself, not to one beneath it
	counted  bool // the kernel tells what was received and what is outstanding

	// Of the Conn, where the two take no memory.
	allowHalfClose bool
	watched        bool // made by Watch: the application uses the connection itself

	history sock.History
	taken   sock.TakenErrors
	limits  limitsCache
	quick   atomic.Pointer[quickCheck] // made by the first Alive
}

func (s *socket) shut(d sock.Direction) (undo func()) { return s.history.Shut(d) }

// deferTime is how long an event waits for a Read or a Write that may have taken the
// errno, and then returns at once. A copy may have taken nothing, and wait for its
// other side.
const deferTime = 100 * time.Millisecond

// deferToIO leaves the decision to Reads and Writes that may have taken the errno.
func (s *socket) deferToIO(t trigger) bool {
	var own int32
	if t.err != nil {
		own = 1
	}
	return !t.overtime && s.taken.Defer(own)
}

// limitsCache keeps the options that the socket had when they were last asked for.
type limitsCache = atomic.Pointer[keepalive.Limits]

// A quickCheck is the closure for the common case, a live connection. It is created
// once, because creating it in every call would allocate.
type quickCheck struct {
	at       func(fd uintptr)
	notQuick atomic.Uint32 // how often the quick check did not suffice
}

// quickCheck reports whether nothing has ended. If it returns false, check tells more.
func (s *socket) quickCheck() bool {
	if s.family != familyTCP && s.family != familyInet {
		return false
	}
	q := s.quick.Load()
	if q == nil {
		q = new(quickCheck)
		q.at = func(fd uintptr) {
			if !s.quickCheckAt(fd) {
				q.notQuick.Add(1)
			}
		}
		s.quick.Store(q) // two at once do no harm
	}
	before := q.notQuick.Load()
	return s.raw.Control(q.at) == nil && q.notQuick.Load() == before
}

// A checkCall is the reusable closure that carries one check through RawConn.Control,
// which keeps the descriptor from being closed and reused meanwhile.
type checkCall struct {
	at      func(fd uintptr)
	sock    *socket
	trigger trigger
	err     error // of identify, for a socket of an unknown family
	observation
}

var checkCalls = sync.Pool{New: func() any {
	c := new(checkCall)
	c.at = func(fd uintptr) {
		if c.sock.family == familyUnknown {
			c.sock.family, c.err = identify(fd)
		}
		if c.err == nil {
			c.observation = c.sock.checkAt(fd, c.trigger)
		}
	}
	return c
}}

func (s *socket) check(t trigger) observation {
	o, _ := s.identifyAndCheck(t)
	return o
}

// identifyAndCheck is check also for a socket of an unknown family. It returns the error of
// identify.
func (s *socket) identifyAndCheck(t trigger) (observation, error) {
	c := checkCalls.Get().(*checkCall)
	c.sock, c.trigger = s, t
	err := s.raw.Control(c.at)
	o, identifyErr := c.observation, c.err
	c.sock, c.trigger, c.err, c.observation = nil, trigger{}, nil, observation{}
	checkCalls.Put(c)
	switch {
	case errors.Is(err, net.ErrClosed):
		return observation{outcome: closedLocally}, nil
	case err != nil || identifyErr != nil:
		return observation{}, identifyErr
	}
	return s.remember(o), nil
}

// A sampleCall is to a sample what a checkCall is to a check.
type sampleCall struct {
	at   func(fd uintptr)
	sock *socket
	supervise.Sample
}

var sampleCalls = sync.Pool{New: func() any {
	c := new(sampleCall)
	c.at = func(fd uintptr) { c.Taken = c.sock.sampleAt(fd, &c.Sample) }
	return c
}}

// sample returns one with Taken unset if the descriptor is closed or shows nothing.
func (s *socket) sample(d supervise.Detail) supervise.Sample {
	c := sampleCalls.Get().(*sampleCall)
	defer sampleCalls.Put(c)
	c.sock, c.Sample = s, supervise.Sample{Detail: d}
	_ = s.raw.Control(c.at) // after an error, nothing is taken
	c.sock = nil
	return c.Sample
}

// remember notes a FIN, which a later check may not show any more.
func (s *socket) remember(o observation) observation {
	if o.outcome == peerFinished || o.outcome == bothFinished {
		o.fin = true
	}
	if o.fin {
		s.history.FINSeen.Store(true)
	}
	return o
}

// end returns what an observation means as an end, nil if it is none. Nothing else
// decides that.
func (o observation) end(allowHalfClose bool) error {
	switch o.outcome {
	case peerFinished:
		if allowHalfClose {
			return nil
		}
		return &cause{reason: ErrPeerClosed}
	case bothFinished:
		return &cause{reason: ErrPeerClosed}
	case aborted:
		// Where a FIN alone is the end, what followed it has ended nothing.
		if o.fin && !allowHalfClose {
			return &cause{reason: ErrPeerClosed}
		}
		return &cause{reason: reasonFor(o.errno), err: o.errno}
	case closedLocally:
		return net.ErrClosed
	}
	return nil
}

// checked has the sockets of Check, used again and again.
var checked = sync.Pool{New: func() any { return new(socket) }}

// Check asks the kernel once and returns how conn has ended, or nil if it has not.
// It is for pools, before a connection is used again. It takes any connection, and
// looks for the socket beneath conn as [Wrap] does.
//
// A FIN of the peer is an end; unread bytes are not. On a connection of this package
// Check is [Conn.Alive] and then [Conn.Err]; on any other the error is as that of
// Conn.Err. A connection that the application closed is [net.ErrClosed]. Where there
// is nothing to ask, as for a [net.Pipe], the error wraps [errors.ErrUnsupported],
// and a pool may then use the connection and see.
//
// Check never blocks, reads nothing and changes no deadline. It may run beside Reads
// and Writes, and allocates one small object for a connection that is not wrapped.
func Check(conn net.Conn) error {
	if _, bare := conn.(*net.TCPConn); !bare { // the usual case, and nothing to search
		if c, ok := From(conn); ok {
			c.Alive()
			return c.Err()
		}
	}
	if beneath.IsNil(conn) {
		return errNilConn
	}
	raw, owner, _ := beneath.RawConn(conn)
	if raw == nil {
		return beneath.NamedOf(conn).OpError(opWatch, errNoSocket)
	}
	s := checked.Get().(*socket)
	defer func() {
		s.raw, s.family = nil, familyUnknown
		s.history.FINSeen.Store(false)
		s.taken.Forget()
		checked.Put(s)
	}()
	s.raw = raw
	if err := s.checkOnce(owner); err != nil {
		return beneath.NamedOf(conn).OpError(opWatch, err)
	}
	return nil
}

// checkOnce checks a socket that is not watched.
func (s *socket) checkOnce(owner net.Conn) error {
	if _, ok := owner.(*net.TCPConn); ok {
		s.family = familyInet
		if s.quickCheck() {
			return nil
		}
	}
	s.family = familyUnknown
	o, err := s.identifyAndCheck(trigger{})
	switch {
	case err != nil:
		return err
	case o.outcome == unknown:
		return errNoSocket
	}
	return o.end(false)
}
