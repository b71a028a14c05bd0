package liveness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"runtime"
	"sync"
	"time"

	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/watch"
)

// The reasons for an end that the peer or the path caused. They are what
// [Conn.Err], the callbacks of [Conn.OnDisconnect], [context.Cause] and [Check]
// report, always inside a *[net.OpError] and beside the system's errno, so test
// for them with [errors.Is]. The end that our own Close makes is [net.ErrClosed],
// and what cannot be done on a system or a connection is [errors.ErrUnsupported].
//
// Timeout reports true for ErrPeerLost, ErrPeerStalled and ErrPeerIdle, and false
// for the other two. None of them is temporary, and none matches
// [os.ErrDeadlineExceeded], which is the user's own deadline and no end at all.
//
// Unless a Read or a Write brought the errno along, it is derived: asking the
// socket for it would take it away from the application.
var (
	// ErrPeerClosed is the FIN of the peer: it closed in order, or finished
	// sending (see [Config.AllowHalfClose]). It also matches io.EOF.
	ErrPeerClosed error = &reason{text: "peer closed the connection"}

	// ErrPeerReset is a RST: the peer, or something on the path in its name,
	// reset the connection.
	ErrPeerReset error = &reason{text: "peer reset the connection"}

	// ErrPeerLost is a peer whose host gave no sign of life in time, or to which
	// there is no route.
	ErrPeerLost error = &reason{text: "peer lost", timeout: true, missing: "heard"}

	// ErrPeerStalled is a peer whose host answers while its program took no data
	// for [Config.StallTimeout].
	ErrPeerStalled error = &reason{text: "peer stalled", timeout: true, missing: "taken"}

	// ErrPeerIdle is a peer that could have sent and sent nothing for
	// [Config.ReadIdleTimeout].
	ErrPeerIdle error = &reason{text: "peer idle", timeout: true, missing: "received"}
)

// opWatch is the Op of every net.OpError that is the library's own.
const opWatch = "watch"

// A reason is one of the sentinels above.
type reason struct {
	text    string
	timeout bool
	missing string // what there was nothing of
}

func (r *reason) Error() string   { return r.text }
func (r *reason) Timeout() bool   { return r.timeout }
func (r *reason) Temporary() bool { return false }

// Is makes the orderly end match io.EOF, which is how a Read would tell it.
func (r *reason) Is(target error) bool {
	return target == io.EOF && error(r) == ErrPeerClosed
}

// A cause joins a reason with the errno behind it and the evidence for it. It is
// the Err of the net.OpError that users see.
type cause struct {
	reason   error         // a sentinel, or net.ErrClosed
	err      error         // what the system said: a syscall.Errno, or what Read or Write of a connection without a socket returned; may be nil
	silence  time.Duration // how long what the reason speaks of has lasted; 0 if it speaks of none
	evidence func() string // puts more evidence into words when somebody prints it; may be nil
}

func (c *cause) Error() string {
	s := c.reason.Error()
	sep := ": "
	if c.silence > 0 {
		s += fmt.Sprintf(": nothing %s for %.1f s", c.reason.(*reason).missing, c.silence.Seconds())
		sep = ", "
	}
	if c.evidence != nil {
		if e := c.evidence(); e != "" {
			s += sep + e
		}
	}
	if c.err != nil {
		s += ": " + c.err.Error()
	}
	return s
}

func (c *cause) Unwrap() []error {
	if c.err == nil {
		return []error{c.reason}
	}
	return []error{c.reason, c.err}
}

// Timeout and Temporary come from the reason alone: ETIMEDOUT says of itself
// that it is temporary, and a loop that believes it would never end.
func (c *cause) Timeout() bool {
	t, ok := c.reason.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

func (c *cause) Temporary() bool { return false }

var (
	errNilConn  = &net.OpError{Op: opWatch, Err: errors.New("nil connection")}
	errWrapped  = watch.ErrWatched
	errNoStream = fmt.Errorf("not a stream socket: %w", errors.ErrUnsupported)
	errNoSocket = fmt.Errorf("no socket to look at on %s: %w", runtime.GOOS, errors.ErrUnsupported)
)

// opError puts err where users of package net look for it. The addresses are those of
// package net's own connection in or beneath conn, if one can be found. Anybody else's
// are asked for when somebody prints them: a method may block, as it does where it
// waits for the peer to send the header of the PROXY protocol.
func opError(op string, conn net.Conn, err error) *net.OpError {
	for under, depth := conn, 0; under != nil && depth < maxDepth; under, depth = beneath(under), depth+1 {
		if isNetsOwn(under) {
			e := &net.OpError{Op: op, Source: under.LocalAddr(), Addr: under.RemoteAddr(), Err: err}
			if e.Source != nil {
				e.Net = e.Source.Network()
			}
			return e
		}
	}
	return &net.OpError{Op: op, Source: &lateAddr{conn.LocalAddr}, Addr: &lateAddr{conn.RemoteAddr}, Err: err}
}

// isNetsOwn reports whether conn is one of package net, whose methods do not block.
func isNetsOwn(conn net.Conn) bool {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn, *net.UDPConn, *net.IPConn:
		return true
	}
	return reflect.TypeOf(conn) == pipeType()
}

// pipeType is the type of a net.Pipe, which has no name for us.
var pipeType = sync.OnceValue(func() reflect.Type {
	p, _ := net.Pipe()
	return reflect.TypeOf(p)
})

// A lateAddr asks for an address when it is used.
type lateAddr struct{ ask func() net.Addr }

func (a *lateAddr) Network() string {
	if addr := a.ask(); addr != nil {
		return addr.Network()
	}
	return ""
}

func (a *lateAddr) String() string {
	if addr := a.ask(); addr != nil {
		return addr.String()
	}
	return "?"
}

// reasonOf says which end an errno speaks of, once the kernel has said that the
// connection is over.
func reasonOf(err error) error {
	if errno.IsLost(err) {
		return ErrPeerLost
	}
	return ErrPeerReset
}

// isDeadline reports whether err is a deadline that the user set. It is no sign
// of anything; the kernel's own ETIMEDOUT, which is one, does not match.
func isDeadline(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// A configError is that of Wrap for a Config that cannot be kept.
type configError = keepalive.Error

func badConfig(field, format string, args ...any) error {
	return &configError{Field: field, Err: fmt.Errorf(format, args...)}
}
