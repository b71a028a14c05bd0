package liveness

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/errno"
)

// A Reason is why a connection ended, as a word for metrics and logs.
type Reason string

const (
	ReasonClosed  Reason = "closed"  // ErrPeerClosed
	ReasonReset   Reason = "reset"   // ErrPeerReset
	ReasonLost    Reason = "lost"    // ErrPeerLost
	ReasonStalled Reason = "stalled" // ErrPeerStalled
	ReasonIdle    Reason = "idle"    // ErrPeerIdle
	ReasonLocal   Reason = "local"   // net.ErrClosed: the local side closed it
)

var reasons = [...]Reason{ReasonClosed, ReasonReset, ReasonLost, ReasonStalled, ReasonIdle, ReasonLocal}

func (r Reason) index() int { return slices.Index(reasons[:], r) }

// ReasonOf returns the reason that err stands for. It takes what this package returns
// ([Conn.Err], [Check], [context.Cause]) and the error of any Read or Write of any
// connection: io.EOF and io.ErrUnexpectedEOF are "closed", ECONNRESET and EPIPE "reset",
// ETIMEDOUT and a missing route "lost", net.ErrClosed "local". It returns "" for nil and
// for what does not end a connection, such as a deadline or a cancelled context.
//
// It allocates nothing for the errors of this package.
func ReasonOf(err error) Reason {
	if r := ownReason(err); r != "" {
		return r
	}
	switch {
	case err == nil || isDeadline(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return ""
	case errors.Is(err, net.ErrClosed):
		return ReasonLocal
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe):
		return ReasonClosed
	}
	why := errno.In(err)
	switch {
	case why == nil:
		return ""
	case errno.IsLost(why):
		return ReasonLost
	case errno.IsReset(why):
		return ReasonReset
	}
	return ""
}

// ownReason finds a reason of this package in err, along what it wraps.
func ownReason(err error) Reason {
	for depth := 0; err != nil && depth < beneath.MaxDepth; depth++ {
		switch e := err.(type) {
		case *reason:
			return e.word()
		case *cause:
			err = e.reason
		case *interruptedError:
			err = e.reason
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			for _, under := range e.Unwrap() {
				if r := ownReason(under); r != "" {
					return r
				}
			}
			return ""
		default:
			return ""
		}
	}
	return ""
}

// word returns the Reason of a sentinel.
func (r *reason) word() Reason {
	switch error(r) {
	case ErrPeerClosed:
		return ReasonClosed
	case ErrPeerReset:
		return ReasonReset
	case ErrPeerLost:
		return ReasonLost
	case ErrPeerStalled:
		return ReasonStalled
	default:
		return ReasonIdle
	}
}
