package liveness

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/go-liveness/liveness/internal/errno"
)

// Read reads from the wrapped connection and returns what that one returns, with
// two exceptions. An end of file on a stream that was cut off by a reset or a
// time-out, whose error a Write has taken meanwhile, is returned as that error: a
// reset stream never reads as complete. And after a verdict of the library's own
// (ErrPeerLost, ErrPeerStalled, ErrPeerIdle), which ends a Read that waits, what was
// received before is still returned, and then an error that wraps the verdict; with
// PeerTimeout also where it was the kernel's own probes that found the peer lost. Its
// Timeout method reports false, so that a loop that goes on after the time-outs of
// its own deadlines ends. A Read waits until there is something to return; Close, a
// deadline and a verdict end the wait. Of a wrapped connection that is not package net's
// own, what was received before is what its Read returns beside an expired deadline.
func (c *Conn) Read(b []byte) (int, error) {
	c.record()
	if !c.counted() {
		return c.readUncounted(b)
	}
	if !c.direct {
		// Whatever is in between may write meanwhile, as TLS does for a handshake.
		defer c.endWrite(c.beginWrite())
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
	c.endRead(n)
	if err != nil {
		return c.readFailed(b, n, err)
	}
	return n, nil
}

// beginIO and endIO go around whatever may take the error of a socket that keeps no
// other trace of how it ended. An event waits for them; see socket.deferToIO.
func (c *Conn) beginIO() *Conn {
	if c.counted() { // then the kernel keeps one
		return nil
	}
	c.sock.inIO.Add(1)
	return c
}

func (c *Conn) endIO() {
	if c != nil && c.sock.inIO.Add(-1) == 0 && c.sock.deferred.Swap(false) && c.end.Load() == nil {
		c.look(hint{event: true})
	}
}

// Write writes to the wrapped connection and returns what that one returns, or,
// after a verdict of the library's own, an error that wraps it; see Read. It waits
// while the send buffer is full; Close, a deadline and a verdict end the wait.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.refused(); err != nil {
		return 0, err
	}
	if io := c.beginIO(); io != nil {
		defer io.endIO()
	}
	t := c.beginWrite()
	var n int
	var err error
	if c.inPieces(t) {
		t.pieces.Lock()
		n, err = pieceWriter{c.inner, t}.Write(b)
		t.pieces.Unlock()
	} else {
		n, err = c.inner.Write(b)
	}
	c.endWrite(t)
	if err != nil {
		err = c.writeFailed(err, err)
	}
	return n, err
}

// ioFailed takes the error of an I/O method as a hint; one look decides. Nil
// stands for an error that may be another connection's.
func (c *Conn) ioFailed(err error, wrote bool) sight {
	if err != nil && isDeadline(err) || c.end.Load() != nil {
		return sight{}
	}
	s := c.look(hint{err: err, wrote: wrote})
	if err != nil && s.outcome > open && s.outcome != closed && c.sock.family == familyTCP && !c.sock.watch.foreign {
		theHub.Doubt(&c.sock.watch.Token) // unless the system tells of it too
	}
	return s
}

// writeFailed returns the error that a write returns: err itself, unless it comes
// from a verdict of ours. own is err if it is certainly of this connection.
func (c *Conn) writeFailed(own, err error) error {
	c.ioFailed(own, true)
	if e := c.end.Load(); e != nil && (e.ours && isDeadline(err) || errno.In(own) != nil && c.foundLost(e)) {
		return c.verdictError("write", e)
	}
	return err
}

// foundLost reports whether e is what PeerTimeout was to find, and the kernel's probes
// have found it: a Read or Write need not know who was first.
func (c *Conn) foundLost(e *ending) bool {
	t := c.timers.Load()
	return t != nil && t.asks.Peer > 0 && !e.ours && e.cause != nil && e.cause.reason == ErrPeerLost
}

// readFailed returns what Read(b) returns after the wrapped Read has returned n
// and err.
func (c *Conn) readFailed(b []byte, n int, err error) (int, error) {
	s := c.ioFailed(err, false)
	e := c.end.Load()
	if e != nil {
		e.contexts.Lock()
		//lint:ignore SA2001 to wait is all
		e.contexts.Unlock()
	}
	switch {
	case e != nil && e.ours && isDeadline(err):
		// Another's Read may have changed what the socket gave it, as a cipher does.
		if n == 0 && c.direct && !c.sock.watch.foreign {
			switch n, err := c.sock.drain(b); {
			case n > 0:
				return n, nil
			case err == io.EOF && c.kernel.look(hint{err: err}).fin:
				return 0, io.EOF
			}
		}
		return n, c.verdictError("read", e)
	case e != nil && errno.IsLost(errno.In(err)) && c.foundLost(e):
		return n, c.verdictError("read", e)
	case err != io.EOF || !c.direct:
		return n, err
	}
	if e != nil && e.cutOff != nil {
		s = sight{outcome: aborted, errno: e.cutOff}
		if c.counted() {
			// Now that all is read, a FIN shows that could not be seen behind data.
			s = c.kernel.look(hint{err: err})
		}
	}
	if s.outcome != aborted || s.fin {
		return n, io.EOF
	}
	if e != nil && c.foundLost(e) {
		return n, c.verdictError("read", e)
	}
	return n, opError("read", c.inner, &cutOff{os.NewSyscallError("read", s.errno)})
}

// cutOff is the error of a stream that ended without a FIN, delivered in place of
// an end of file. It is no time-out even if its errno says so: there may be a loop
// that goes on after the time-outs of its own deadlines, and the errno comes again.
type cutOff struct{ error }

func (*cutOff) Timeout() bool   { return false }
func (e *cutOff) Unwrap() error { return e.error }

// verdictError is the verdict as Read and Write return it.
func (c *Conn) verdictError(op string, e *ending) error {
	return opError(op, c.inner, &interrupted{*e.cause})
}

// interrupted is a cause that is no time-out, for that would mean a deadline that
// the user set.
type interrupted struct{ cause }

func (*interrupted) Timeout() bool { return false }

// refused is the error of a write that begins after a verdict of ours: the deadline
// that would end it is set a moment after the verdict is told.
func (c *Conn) refused() error {
	if e := c.end.Load(); e != nil && e.ours && !e.closing.Load() {
		return c.verdictError("write", e)
	}
	return nil
}

// interrupt ends the Reads and Writes that wait, and those to come. The methods of
// a foreign connection may block, and nobody here may wait for them.
func (c *Conn) interrupt() {
	expire := func() {
		c.deadlines.Lock()
		defer c.deadlines.Unlock()
		c.inner.SetDeadline(longAgo)
	}
	if !c.direct || c.sock.watch.foreign {
		go expire()
	} else {
		expire()
	}
}

var longAgo = time.Unix(1, 0)

// deadline returns the deadline to set for one that the user asks for: his, unless
// a verdict of ours has overruled it. deadlines is held.
func (c *Conn) deadline(t time.Time) time.Time {
	if e := c.end.Load(); e != nil && e.ours {
		return longAgo
	}
	return t
}

// Close closes the wrapped connection and returns what its Close returns: it ends
// the Reads and Writes that wait, and a second Close is an error as it is for the wrapped
// connection. Unless the connection has ended already, this is the end, with
// net.ErrClosed as its reason.
//
// After ErrPeerLost and ErrPeerStalled, where the library has given the connection
// up and the kernel not, Close frees the kernel's buffers at once: the peer, if it
// comes back, gets a RST. This overrides SetLinger.
func (c *Conn) Close() error {
	c.judge(sight{outcome: closed})
	e := c.end.Load()
	c.evidence(e) // the last moment to take it
	if e.ours && e.cause.reason != ErrPeerIdle && c.sock.raw != nil {
		c.sock.abortOnClose()
	}
	e.closing.Store(true) // from here on, writes return what the wrapped connection returns
	if c.sock.watch != nil {
		theHub.Remove(&c.sock.watch.Token, c.sock.raw)
	}
	return c.inner.Close()
}

// CloseRead shuts down the reading side of the wrapped connection. If that has no
// CloseRead, the error wraps errors.ErrUnsupported and nothing was done.
func (c *Conn) CloseRead() error {
	half, ok := c.inner.(interface{ CloseRead() error })
	if !ok {
		return opError("close", c.inner, errors.ErrUnsupported)
	}
	c.kernel.shut(true, false)
	return half.CloseRead()
}

// CloseWrite shuts down the writing side of the wrapped connection: the peer gets
// a FIN. If the peer has sent its own before, this is the end (ErrPeerClosed). A
// wrapped *[crypto/tls.Conn] sends a close notification and no FIN, so that only Close
// is the end then.
//
// If the wrapped connection has no CloseWrite, the error wraps
// errors.ErrUnsupported and nothing was done; a copy loop must then call Close, or
// its peer waits for ever. A type assertion for CloseWrite does not tell, because
// a Conn always has the method.
func (c *Conn) CloseWrite() error {
	half, ok := c.inner.(interface{ CloseWrite() error })
	if !ok {
		return opError("close", c.inner, errors.ErrUnsupported)
	}
	c.kernel.shut(false, true)
	t := c.beginWrite() // a FIN wants to be acknowledged too
	err := half.CloseWrite()
	c.endWrite(t)
	c.ioFailed(nil, true)
	return err
}

// LocalAddr returns the local address of the wrapped connection.
func (c *Conn) LocalAddr() net.Addr { return c.inner.LocalAddr() }

// RemoteAddr returns the remote address of the wrapped connection.
func (c *Conn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }

// SetDeadline sets the deadlines of the wrapped connection. They are the user's:
// the library sets none while connected, and an expired one is no end. After a
// verdict of the library's own no deadline revives a Read or a Write.
func (c *Conn) SetDeadline(t time.Time) error {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	return c.inner.SetDeadline(c.deadline(t))
}

// SetReadDeadline sets the read deadline; see SetDeadline.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	return c.inner.SetReadDeadline(c.deadline(t))
}

// SetWriteDeadline sets the write deadline; see SetDeadline.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	return c.inner.SetWriteDeadline(c.deadline(t))
}
