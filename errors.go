package liveness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/verdict"
	"github.com/go-liveness/liveness/internal/watch"
)

// The reasons for an end that the peer or the path caused. [Conn.Err], the callbacks of
// [Conn.OnDisconnect], [context.Cause] and [Check] report them inside a *[net.OpError],
// beside the system's errno, so test for them with [errors.Is]. A local Close is
// [net.ErrClosed]; what a system or connection cannot do is [errors.ErrUnsupported].
//
// Timeout reports true for ErrPeerLost, ErrPeerStalled and ErrPeerIdle, and false for the
// other two. None of them is temporary. None matches [os.ErrDeadlineExceeded]: a deadline
// that the application set does not end a connection.
//
// Unless a Read or a Write brought the errno, the library derives it. To ask the socket
// for it would take it away from the application.
var (
	// ErrPeerClosed: the peer sent a FIN. It closed in order, or finished sending (see
	// [Config.AllowHalfClose]). It also matches io.EOF.
	ErrPeerClosed error = &reason{text: "peer closed the connection"}

	// ErrPeerReset: a RST came from the peer, or from a host on the path in its name.
	ErrPeerReset error = &reason{text: "peer reset the connection"}

	// ErrPeerLost: the peer's host gave no sign of life in time, or acknowledged nothing,
	// or there is no route to it.
	ErrPeerLost error = &reason{text: "peer lost", timeout: true, absent: "heard"}

	// ErrPeerStalled: the peer's host answers, and its program took no data for
	// [Config.StallTimeout].
	ErrPeerStalled error = &reason{text: "peer stalled", timeout: true, absent: "taken"}

	// ErrPeerIdle: the peer could have sent, and sent nothing for [Config.ReadIdleTimeout].
	ErrPeerIdle error = &reason{text: "peer idle", timeout: true, absent: "received"}
)

// opWatch is the Op of every net.OpError that is the library's own.
const opWatch = "watch"

// A reason is one of the sentinels above.
type reason struct {
	text    string
	timeout bool
	absent  string // "heard", "taken" or "received", as in "nothing heard for 61 s"
}

func (r *reason) Error() string   { return r.text }
func (r *reason) Timeout() bool   { return r.timeout }
func (r *reason) Temporary() bool { return false }

// Is makes the orderly end match io.EOF, which is what a Read returns for it.
func (r *reason) Is(target error) bool {
	return target == io.EOF && error(r) == ErrPeerClosed
}

// A cause joins a reason with the errno behind it and the evidence for it. It is the Err
// of the net.OpError that the application sees.
type cause struct {
	reason   error         // a sentinel
	err      error         // what the system said: a syscall.Errno, or what Read or Write of a connection without a socket returned; may be nil
	silence  time.Duration // how long what the reason speaks of has lasted; 0 if it speaks of none
	absent   string        // in place of the reason's, unless empty
	evidence func() string // puts more evidence into words when it is printed; may be nil
}

func (c *cause) Error() string {
	s := c.reason.Error()
	sep := ": "
	if c.silence > 0 {
		absent := c.absent
		if absent == "" {
			absent = c.reason.(*reason).absent
		}
		s += fmt.Sprintf(": nothing %s for %.1f s", absent, c.silence.Seconds())
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

// Timeout and Temporary follow the reason alone. ETIMEDOUT says of itself that it is
// temporary, and a loop that believes it would never end.
func (c *cause) Timeout() bool {
	t, ok := c.reason.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

func (c *cause) Temporary() bool { return false }

var (
	errNilConn  = &net.OpError{Op: opWatch, Err: errors.New("nil connection")}
	errWrapped  = watch.ErrWatched
	errNoStream = fmt.Errorf("not a stream socket: %w", errors.ErrUnsupported)
	errNoSocket = fmt.Errorf("no socket to check on %s: %w", runtime.GOOS, errors.ErrUnsupported)
)

// opError puts err where users of package net look for it.
func (c *Conn) opError(op string, err error) *net.OpError { return c.addresses().OpError(op, err) }

func (c *Conn) addresses() beneath.Named {
	if c.foreign == nil {
		return beneath.Named{Conn: c.inner}
	}
	return c.foreign.named
}

// reasonFor returns the reason that an errno stands for, once the kernel has said that the
// connection is over.
func reasonFor(err error) error {
	if errno.IsLost(err) {
		return ErrPeerLost
	}
	return ErrPeerReset
}

// causeOf returns the cause of an end by time-out.
func causeOf(a *verdict.Answer) *cause {
	why := &cause{silence: a.For}
	switch a.Reason {
	case verdict.Lost:
		why.reason, why.err = ErrPeerLost, errno.TimedOut
		if a.NothingAcked {
			why.absent = "acknowledged"
		}
	case verdict.Stalled:
		why.reason = ErrPeerStalled
	default:
		why.reason = ErrPeerIdle
	}
	return why
}

// isDeadline reports whether err is a deadline that the application set. The kernel's own
// ETIMEDOUT does not match.
func isDeadline(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// A configError is that of Wrap for a Config that cannot be kept.
type configError = keepalive.Error

func badConfig(field, format string, args ...any) error {
	return &configError{Field: field, Err: fmt.Errorf(format, args...)}
}
