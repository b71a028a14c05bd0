package liveness

import (
	"errors"
	"time"

	"github.com/go-liveness/liveness/internal/sock"
)

// Close closes the wrapped connection and returns what its Close returns. It ends the
// Reads and Writes that wait. Unless the connection has ended already, this is its end,
// with [net.ErrClosed] as the reason.
//
// After ErrPeerLost and ErrPeerStalled, Close frees the kernel's buffers at once, and the
// peer, if it comes back, gets a RST. This overrides SetLinger.
func (c *Conn) Close() error {
	c.observe(observation{outcome: closedLocally})
	e := c.end.Load()
	switch {
	case c.sock.raw == nil:
		c.handle.Forget() // its timer
	case c.sock.mayBlock:
		// Close must not wait for the methods of the wrapped connection.
		released := make(chan struct{})
		go func() {
			defer close(released)
			c.release(e)
		}()
		timer := time.NewTimer(closePatience)
		select {
		case <-released:
		case <-timer.C:
		}
		timer.Stop()
	default:
		c.release(e)
	}
	c.handle.leave()
	e.closing.Store(true) // from here on, writes return what the wrapped connection returns
	return c.inner.Close()
}

// closePatience is for how long Close waits for a connection that is not package net's.
const closePatience = 10 * time.Millisecond

// release lets go of the socket before it is closed.
func (c *Conn) release(e *ending) {
	c.snapshot(e) // the last moment to take it
	if e.byTimeout && e.cause.reason != ErrPeerIdle {
		_ = c.sock.raw.Control(sock.AbortOnClose)
	}
	c.timeouts.Load().Release((*supervised)(c))
	c.handle.Remove(c.sock.raw)
}

// CloseRead shuts down the reading side of the wrapped connection. If that has no
// CloseRead, the error wraps errors.ErrUnsupported and nothing was done.
func (c *Conn) CloseRead() error {
	half, ok := c.inner.(interface{ CloseRead() error })
	if !ok {
		return c.opError("close", errors.ErrUnsupported)
	}
	return c.shut(sock.Reading, half.CloseRead)
}

// CloseWrite shuts down the writing side of the wrapped connection: the peer gets a FIN.
// If the peer has sent its own before, this is the end (ErrPeerClosed). A wrapped
// *[crypto/tls.Conn] sends a close notification and no FIN, so that only Close is the
// end then. A CloseWrite that fails changes nothing.
//
// If the wrapped connection has no CloseWrite, the error wraps errors.ErrUnsupported and
// nothing was done. A copy loop must then call Close, or its peer waits for ever. A type
// assertion for CloseWrite does not tell, because a Conn always has the method.
func (c *Conn) CloseWrite() error {
	half, ok := c.inner.(interface{ CloseWrite() error })
	if !ok {
		return c.opError("close", errors.ErrUnsupported)
	}
	t := c.beginWrite() // a FIN must be acknowledged too
	err := c.shut(sock.Writing, half.CloseWrite)
	c.endWrite(t)
	c.checkAfterIO(trigger{})
	return err
}

// shut shuts down one direction by f, and remembers it if that is the socket's own.
func (c *Conn) shut(d sock.Direction, f func() error) error {
	if c.sock.raw != nil && !c.sock.direct {
		return f()
	}
	undo := c.checker().shut(d)
	err := f()
	if err != nil {
		undo()
	}
	return err
}
