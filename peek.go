package liveness

import (
	"errors"
	"net"
	"sync"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/supervise"
)

// A check asks the kernel once how a connection is; socket.go has its types. A file
// peek_*.go implements it for a system, with these functions. They run inside
// RawConn.Control, so fd stays open. None of them may block, consume a byte, take the
// socket's pending error where the kernel offers another way, or change what the
// application sees.
//
//	identify(fd uintptr) (family, error)
//		Finds out what fd is. The error wraps errors.ErrUnsupported if fd is no
//		stream socket.
//	identifyStream(fd uintptr) (family, error)
//		Is identify for an fd that is a stream socket.
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

// sample returns one with Taken unset if there is no socket, or it is closed or shows
// nothing.
func (s *socket) sample(d supervise.Detail) supervise.Sample {
	if s.raw == nil {
		return supervise.Sample{}
	}
	c := sampleCalls.Get().(*sampleCall)
	defer sampleCalls.Put(c)
	c.sock, c.Sample = s, supervise.Sample{Detail: d}
	_ = s.raw.Control(c.at) // after an error, nothing is taken
	c.sock = nil
	return c.Sample
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
// and Writes. It allocates nothing for a *[net.TCPConn] or a Conn of this package, and one
// small object for other connections.
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
		s.history.Reset()
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
	return s.endOf(o)
}
