package liveness

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
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

// A Conn is a connection that knows whether its peer is still there. It is used
// in place of the connection that [Wrap] was given, and is as good: Read and Write
// return what that one returns, and ReadFrom, WriteTo, CloseRead, CloseWrite and
// SyscallConn are kept, with splice and sendfile. What a wrapper cannot keep are
// assertions to *[net.TCPConn] itself and what only that type has: SetLinger,
// SetNoDelay, SetKeepAlive, File. Reach those through NetConn; net.Buffers
// through WriteBuffers. Data are spliced between two Conns, but not where package
// net looks for its own types and finds a Conn: from a Conn by ReadFrom of a bare
// *net.TCPConn, and from a bare connection to a Conn that wraps a *net.UnixConn.
//
// A Conn comes from Wrap or Accept; its zero value is not usable. Multiple goroutines
// may invoke methods on a Conn simultaneously.
//
// A Conn that is forgotten without Close is freed and its socket closed, as without
// us. But while it owes somebody a call it is kept: from OnDisconnect (in the Config
// too), Done or Context on, until the end or until the registration is stopped.
type Conn struct {
	inner          net.Conn
	kernel         kernel // what to look at; &sock, if a socket was found
	sock           socket
	direct         bool // sock is of inner itself, so an EOF of inner is the socket's
	allowHalfClose bool

	timers  atomic.Pointer[timers] // what the clock watches for; nil until it is asked to
	reading atomic.Int32           // Reads that wait, where the kernel does not count what they receive

	// end is nil until the end and constant from then on. It is set under mu.
	end atomic.Pointer[ending]

	mu       sync.Mutex    // guards the fields below; never held across a system call or a callback
	done     chan struct{} // made by the first Done
	calls    callList      // who is to be told
	silences []*silence    // of OnSilence
	pinger   *pinger       // made by the first Ping

	// deadlines is held while a deadline of inner is set, so that none that the user
	// sets can revive what a verdict of ours has interrupted.
	deadlines sync.Mutex
}

// Alive asks the kernel now and reports whether the connection still is one. It is
// false exactly when Err is not nil, so what it finds is told to everybody. It
// never blocks and allocates nothing. On Linux it costs one system call while the
// peer is connected.
func (c *Conn) Alive() bool {
	if c.end.Load() == nil && !c.sock.calm() {
		c.look(hint{})
	}
	return c.end.Load() == nil
}

// Err returns nil while connected, and then the reason for the end, the same for
// ever. It asks nobody; see Alive for that. The error is a *[net.OpError] that
// wraps one of the reasons of this package, or net.ErrClosed for our own Close.
func (c *Conn) Err() error {
	if e := c.end.Load(); e != nil {
		return e.err
	}
	return nil
}

// Done returns a channel that is closed at the end, when Err becomes non-nil. It
// returns the same channel every time. From the first call on, the Conn is kept
// until its end.
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

// OnDisconnect arranges to call f in its own goroutine after the end, whatever
// ended the connection, our own Close included; f is given what Err returns from
// then on. If the connection has ended already, f is called at once, in its own
// goroutine. Several calls are independent, and run in no particular order; one
// that blocks delays no other. A panic in f ends the process, as in any goroutine.
//
// Calling the returned stop function stops the association. It returns true if
// the call stopped f from being run. If stop returns false, either the connection
// has ended and f has been started in its own goroutine; or f was already stopped.
// The stop function does not wait for f to complete before returning. If the
// caller needs to know whether f is completed, it must coordinate with f
// explicitly.
//
// Until then f, and the Conn with it, is kept: stop what is for less than the
// life of the connection. A nil f is never called.
func (c *Conn) OnDisconnect(f func(error)) (stop func() bool) {
	if f == nil {
		return func() bool { return false }
	}
	return c.onEnd(&call{f: f})
}

// onEnd has call made at the end, or now if that is past.
func (c *Conn) onEnd(call *call) (stop func() bool) {
	c.mu.Lock()
	e := c.end.Load()
	if e == nil {
		c.calls.add(call)
		c.pin()
	}
	c.mu.Unlock()
	switch {
	case e == nil:
	case call.inline:
		call.f(e.err)
	default:
		go call.f(e.err)
	}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		stopped := c.calls.remove(call)
		c.pin()
		return stopped
	}
}

// Context returns a copy of parent that is cancelled at the end of the
// connection, with Err as its [context.Cause], or when parent is. Calling the
// CancelFunc releases what it holds, so call it as soon as the work that ctx is
// for is done.
func (c *Conn) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := c.onEnd(&call{f: cancel, inline: true})
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// NetConn returns the connection that was wrapped. Use it for the methods that
// only its own type has. What is read, written or shut down through it is seen by
// the library all the same, where the kernel shows it; but Close on it is seen
// only at the next look, Read or Write, and leaves the Conn without an end until
// then.
func (c *Conn) NetConn() net.Conn { return c.inner }
