package liveness

import (
	"io"
	"net"
	"os"
	"time"

	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/sock"
	"github.com/go-liveness/liveness/internal/supervise"
)

// Read reads from the wrapped connection and returns what that returns, with two
// exceptions. A stream that a reset or a time-out cut off ends with that error, and never
// with io.EOF. And after a verdict of the library (ErrPeerLost, ErrPeerStalled,
// ErrPeerIdle), Read returns what had been received at the moment of the verdict, and
// then an error that wraps the verdict. That error's Timeout method reports false, so
// that a loop that goes on after its own deadlines ends.
//
// Read waits until there is something to return. Close, a deadline and a verdict end
// the wait.
func (c *Conn) Read(b []byte) (int, error) {
	if e := c.end.Load(); e != nil {
		c.snapshot(e)
		if c.drainsAfter(e) {
			return c.readRest(b, e)
		}
	}
	if !c.sock.counted {
		return c.readUncounted(b)
	}
	if !c.sock.direct {
		// A connection in between may write meanwhile, as TLS does for a handshake.
		defer c.endWrite(c.beginWrite())
	}
	if c.sock.family == familyMPTCP {
		defer c.beginIO().endIO()
	}
	n, err := c.inner.Read(b)
	if err != nil {
		return c.readFailed(b, n, err)
	}
	return n, nil
}

// readUncounted is Read where the kernel does not tell what was received, nor how a
// connection ended once its error was taken.
func (c *Conn) readUncounted(b []byte) (n int, err error) {
	c.beginRead()
	defer c.beginIO().endIO()
	n, err = c.inner.Read(b)
	c.handle.readers.End(c.timeouts.Load().ReadClock(), n)
	if err != nil {
		return c.readFailed(b, n, err)
	}
	return n, nil
}

// beginRead has the clock run while a Read waits. OnSilence may be called meanwhile, and be
// the first to need it.
func (c *Conn) beginRead() {
	first, since := c.handle.readers.Begin(c.timeouts.Load().ReadClock())
	if first {
		c.timeouts.Load().ReadBegan((*supervised)(c), since)
	}
}

// beginIO and endIO go around whatever may take the error of a socket that keeps no
// other trace of how it ended. An event waits for them; see [sock.History].
func (c *Conn) beginIO() *Conn {
	if c.sock.counted && c.sock.family != familyMPTCP { // then the kernel keeps the state
		return nil
	}
	c.sock.history.BeginIO()
	return c
}

func (c *Conn) endIO() {
	if c != nil && c.sock.history.EndIO() && c.end.Load() == nil {
		c.check(trigger{event: unspecified})
	}
}

// Write writes to the wrapped connection and returns what that returns, or, after a
// verdict of the library, an error that wraps it; see Read. It waits while the send
// buffer is full. Close, a deadline and a verdict end the wait.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.writeErr(); err != nil {
		return 0, err
	}
	if io := c.beginIO(); io != nil {
		defer io.endIO()
	}
	t := c.beginWrite()
	var n int
	var err error
	if t.InPieces() {
		n, err = t.WriteInPieces(c.inner, b)
	} else {
		n, err = c.inner.Write(b)
	}
	c.endWrite(t)
	if err != nil {
		err = c.writeFailed(err, err)
	}
	return n, err
}

// checkAfterIO checks the connection after an I/O method that may have met its end. A
// deadline is no trigger, and an error that may be another connection's is not in t.
func (c *Conn) checkAfterIO(t trigger) observation {
	if isDeadline(t.err) || c.end.Load() != nil {
		return observation{}
	}
	return c.check(t)
}

// writeFailed returns the error that a write returns: err itself, unless it comes from a
// verdict. own is err if it is certainly of this connection.
func (c *Conn) writeFailed(own, err error) error {
	c.checkAfterIO(trigger{err: own, wrote: true})
	e := c.end.Load()
	if e != nil && (c.interrupts(e) && isDeadline(err) || errno.In(own) != nil && c.foundLost(e)) {
		return c.verdictError("write", e)
	}
	return err
}

// foundLost reports whether e is what PeerTimeout was to find, and the kernel's probes
// have found it. The application need not know who was first.
func (c *Conn) foundLost(e *ending) bool {
	return c.timeouts.Load().Peer() > 0 && !c.sock.byWatch && !e.byTimeout && e.cause != nil && e.cause.reason == ErrPeerLost
}

// readFailed returns what Read(b) returns after the wrapped Read has returned n and err.
func (c *Conn) readFailed(b []byte, n int, err error) (int, error) {
	o := c.checkAfterIO(trigger{err: err})
	e := c.end.Load()
	if e == nil {
		return n, c.endOfStream(nil, o, err)
	}
	e.awaitContexts()
	switch {
	case c.interrupts(e) && isDeadline(err):
		if n == 0 && c.drainsAfter(e) {
			return c.readRest(b, e)
		}
		return n, c.verdictError("read", e)
	case errno.IsLost(errno.In(err)) && c.foundLost(e):
		return n, c.verdictError("read", e)
	default:
		return n, c.endOfStream(e, o, err)
	}
}

// endOfStream returns err, unless it is an end of file that a check contradicts.
func (c *Conn) endOfStream(e *ending, o observation, err error) error {
	if err != io.EOF || !c.sock.direct {
		return err
	}
	if e != nil && e.truncated != nil {
		o = observation{outcome: aborted, errno: e.truncated}
		if c.sock.family == familyTCP {
			// Now that all is read, a FIN shows that could not be seen behind data.
			o = c.checker().check(trigger{err: err})
		}
	}
	if o.outcome != aborted || o.fin {
		return io.EOF
	}
	if e != nil && c.foundLost(e) {
		return c.verdictError("read", e)
	}
	return c.opError("read", &truncatedError{os.NewSyscallError("read", o.errno)})
}

// A truncatedError is that of a stream that ended without a FIN, delivered in place of an
// end of file. It is no time-out even if its errno is one: a loop may go on after the
// time-outs of its own deadlines, and the errno comes again.
type truncatedError struct{ error }

func (*truncatedError) Timeout() bool   { return false }
func (e *truncatedError) Unwrap() error { return e.error }

// verdictError is the verdict as Read and Write return it.
func (c *Conn) verdictError(op string, e *ending) error {
	return c.opError(op, &interruptedError{*e.cause})
}

// An interruptedError is a cause that is no time-out, for that would mean a deadline that
// the application set.
type interruptedError struct{ cause }

func (*interruptedError) Timeout() bool { return false }

// writeErr is the error of a write that begins after a verdict: the deadline that would
// end it is set a moment after the verdict is published.
func (c *Conn) writeErr() error {
	if e := c.end.Load(); e != nil && c.interrupts(e) && !e.closing.Load() {
		return c.verdictError("write", e)
	}
	return nil
}

// setDeadline passes a deadline on, unless a verdict has overruled it.
func (c *Conn) setDeadline(set func(time.Time) error, deadline time.Time) error {
	t := c.timeouts.Load()
	if t == nil { // no verdict is possible
		return set(deadline)
	}
	t.Deadlines.Lock()
	defer t.Deadlines.Unlock()
	if e := c.end.Load(); e != nil && c.interrupts(e) {
		deadline = longAgo
	}
	return set(deadline)
}

// SetDeadline sets the deadlines of the wrapped connection. The library sets none while
// the connection lasts, and an expired one does not end it. After a verdict of the
// library no deadline revives a Read or a Write.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadline(c.inner.SetDeadline, t) }

// SetReadDeadline sets the read deadline; see SetDeadline.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(c.inner.SetReadDeadline, t) }

// SetWriteDeadline sets the write deadline; see SetDeadline.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(c.inner.SetWriteDeadline, t) }

// LocalAddr returns the local address of the wrapped connection.
func (c *Conn) LocalAddr() net.Addr { return c.inner.LocalAddr() }

// RemoteAddr returns the remote address of the wrapped connection.
func (c *Conn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }

// drainsAfter reports whether Read, after e, bypasses the wrapped connection and reads the
// socket. It does so only for package net's own connections: TLS, for example, transforms
// what it reads.
func (c *Conn) drainsAfter(e *ending) bool {
	return c.interrupts(e) && !e.closing.Load() && c.sock.direct && !c.sock.mayBlock
}

// readRest reads what was unread at the verdict e, and then returns the verdict.
func (c *Conn) readRest(b []byte, e *ending) (n int, err error) {
	r := &e.rest
	r.mu.Lock()
	defer r.mu.Unlock()
	left := c.restUnread(e)
	if len(b) > 0 && left > 0 {
		err = c.sock.raw.Control(func(fd uintptr) { n, _ = sock.Drain(fd, b[:min(len(b), left)]) })
		r.unread -= n
	}
	switch {
	case n > 0 || len(b) == 0 && left > 0:
		return n, nil
	case err != nil:
		return 0, err
	case r.finished:
		return 0, io.EOF
	default:
		return 0, c.verdictError("read", e)
	}
}

// restUnread counts what was received before the verdict e and is still unread; rest.mu is
// held.
func (c *Conn) restUnread(e *ending) int {
	r := &e.rest
	if r.received < 0 {
		return r.unread
	}
	s := c.sock.sample(supervise.Full)
	if !s.Taken {
		return 0
	}
	return s.Unread - int(s.Info.ReceivedData()-r.received)
}
