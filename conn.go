package liveness

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/calls"
	"github.com/go-liveness/liveness/internal/supervise"
)

// What callers of *net.TCPConn assert for.
var _ interface {
	net.Conn
	io.ReaderFrom
	io.WriterTo
	syscall.Conn
	CloseRead() error
	CloseWrite() error
} = (*Conn)(nil)

// A Conn is a connection that knows whether its peer is still there. [Wrap], [Dialer]
// and [Listener] return one to use in place of the connection beneath; [Watch] returns
// one to use beside it. The zero value is not usable. Multiple goroutines may invoke
// methods on a Conn simultaneously.
//
// Read and Write return what the wrapped connection returns, and ReadFrom and WriteTo
// keep splice and sendfile. A Conn is no [*net.TCPConn], so package net does not splice
// from a Conn into a bare connection; [net.Buffers] go through WriteBuffers.
//
// A Conn that is forgotten without Close is freed, and its socket closed, as a
// connection of package net is. It is kept while a callback (that of the Config
// included), Done or a Context waits for its end.
type Conn struct {
	inner   net.Conn
	sock    socket
	foreign *foreign // nil for a connection of package net with a socket
	handle  *handle
	opened  time.Duration // since started

	timeouts atomic.Pointer[supervise.Timeouts] // nil until a time-out is asked for
	end      atomic.Pointer[ending]             // nil until the end, constant from then on; set with mu held

	mu    sync.Mutex         // guards the fields below; nothing that waits, and no callback, runs while it is held
	done  chan struct{}      // made by the first Done
	calls calls.List         // to be made at the end
	atEnd func(*Conn, error) // Config.OnDisconnect, until the end; nil if there is none
}

// foreign is what a Conn has besides if its connection is not package net's, or has no
// socket.
type foreign struct {
	named   beneath.Named // for the addresses that errors carry
	checker checker       // in the place of the socket; may be nil
}

// checker returns what shows how the connection is.
func (c *Conn) checker() checker {
	if f := c.foreign; f != nil && f.checker != nil {
		return f.checker
	}
	return &c.sock
}

// started is the moment that opened counts from.
var started = time.Now()

// age returns the time since the connection was wrapped or watched.
func (c *Conn) age() time.Duration { return time.Since(started) - c.opened }

// Alive asks the kernel now and reports whether the connection still is one. It is
// false exactly when Err is not nil, and publishes the end if it finds one. It never
// blocks, and allocates nothing after the first call. On Linux it costs one system call
// while the peer is connected.
func (c *Conn) Alive() bool {
	if c.end.Load() == nil && !c.sock.quickCheck() {
		c.check(trigger{})
	}
	return c.end.Load() == nil
}

// Err returns nil while the connection lasts, and from then on the reason for its end,
// always the same. It asks nothing of the kernel; see Alive for that. The error is a
// *[net.OpError] that wraps one of the reasons of this package, or [net.ErrClosed] after
// a local Close.
func (c *Conn) Err() error {
	if e := c.end.Load(); e != nil {
		return e.err
	}
	return nil
}

// Status asks the kernel now and returns the state with the evidence for it. It publishes
// an end that it finds, as Alive does. After the end it returns the evidence of the end,
// and on a connection without a socket it asks nothing. It never blocks and allocates
// nothing while connected. On Linux it costs two system calls on TCP, the first time a
// few more.
func (c *Conn) Status() Status {
	if e := c.end.Load(); e != nil {
		return c.snapshot(e)
	}
	s := c.sock.sample(supervise.Full)
	o := c.observeSample(&s)
	if e := c.end.Load(); e != nil {
		return c.snapshot(e)
	}
	st := statusOf(&s)
	st.Age = c.age()
	switch {
	case o.outcome == unknown:
		st.State = Unknown
	case o.outcome != connected && st.State == Connected: // a FIN that the sample does not show
		st.State = HalfClosed
	}
	st.DetectWithin = c.detectWithin(&s)
	return st
}

// detectWithin returns the bound for a peer that vanishes after s; 0 if there is none. A
// kernel that counts, but not for this connection, may take longer than its options say.
func (c *Conn) detectWithin(s *supervise.Sample) time.Duration {
	if c.sock.raw == nil || kernelCounts && !c.sock.counted {
		return 0
	}
	t := c.timeouts.Load()
	limits := t.LimitsInForce(c.sock.limits.Of(c.sock.raw))
	bound := limits.DetectWithin(t.Peer(), &s.Info)
	if c.sock.family == familyMPTCP && bound > 0 && !s.Info.Outstanding() {
		bound += time.Minute // net.mptcp.close_timeout
	}
	return bound
}

// Done returns a channel that is closed at the end, when Err becomes non-nil. It
// returns the same channel every time. From the first call on, the Conn is kept until
// its end. Inside a testing/synctest bubble, use Done only of a connection that was
// made in that bubble.
func (c *Conn) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.end.Load() != nil {
			close(c.done)
		}
		c.pin()
	}
	return c.done
}

// OnDisconnect arranges to call f in its own goroutine after the end, whatever ended
// the connection, a local Close included. f is given what Err returns from then on; test
// it for [net.ErrClosed] if a local Close does not matter. The connection is not closed
// for f. If the connection has ended already, f is called at once, in its own goroutine.
// Several calls are independent and run in no particular order.
//
// Calling the returned stop function stops the association. It returns true if the
// call stopped f from being run, and false if the connection has ended and f has been
// started, or f was already stopped. It does not wait for f to complete.
//
// Until then f, and the Conn with it, is kept. A nil f is never called.
func (c *Conn) OnDisconnect(f func(error)) (stop func() bool) {
	if f == nil {
		return func() bool { return false }
	}
	return c.onEnd(&calls.Call{F: f})
}

// onEnd has call made at the end, or now if that is past.
func (c *Conn) onEnd(call *calls.Call) (stop func() bool) {
	c.mu.Lock()
	e := c.end.Load()
	if e == nil {
		c.calls.Add(call)
		c.pin()
	}
	c.mu.Unlock()
	switch {
	case e == nil:
	case call.Kind == calls.Canceler:
		call.F(e.err)
	default:
		go call.F(e.err)
	}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		stopped := c.calls.Remove(call)
		c.pin()
		return stopped
	}
}

// callAtEnd is onEnd for Config.OnDisconnect. Most connections have one, so it takes no
// memory of its own.
func (c *Conn) callAtEnd(f func(*Conn, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.end.Load(); e != nil {
		go f(c, e.err)
		return
	}
	c.atEnd = f
	c.pin()
}

// Context returns a copy of parent that is cancelled at the end of the connection, with
// Err as its [context.Cause], or when parent is. Calling the CancelFunc releases what it
// holds, so call it as soon as the work that ctx is for is done.
func (c *Conn) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := c.onEnd(&calls.Call{F: cancel, Kind: calls.Canceler})
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// NetConn returns the connection that was wrapped or is watched. Use it for the methods
// that only its own type has. What is read, written or shut down through it is seen
// where the kernel shows it. Its Close is seen by the next check, Read or Write of the
// Conn, and by [Watch] within two seconds.
func (c *Conn) NetConn() net.Conn { return c.inner }
