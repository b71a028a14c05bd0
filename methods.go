package liveness

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/go-liveness/liveness/internal/sock"
)

// handOn calls f with the wrapped connection if that is a T.
func handOn[T any](c *Conn, f func(T) error) error {
	t, ok := c.inner.(T)
	if !ok {
		return c.opError("set", errors.ErrUnsupported)
	}
	return f(t)
}

// SetNoDelay is that of [net.TCPConn]; the error wraps errors.ErrUnsupported if the wrapped
// connection has no such method. The same holds for the methods that follow.
func (c *Conn) SetNoDelay(noDelay bool) error {
	return handOn(c, func(t interface{ SetNoDelay(bool) error }) error { return t.SetNoDelay(noDelay) })
}

// SetLinger is that of [net.TCPConn].
func (c *Conn) SetLinger(sec int) error {
	return handOn(c, func(t interface{ SetLinger(int) error }) error { return t.SetLinger(sec) })
}

// SetReadBuffer is that of [net.TCPConn].
func (c *Conn) SetReadBuffer(bytes int) error {
	return handOn(c, func(t interface{ SetReadBuffer(int) error }) error { return t.SetReadBuffer(bytes) })
}

// SetWriteBuffer is that of [net.TCPConn].
func (c *Conn) SetWriteBuffer(bytes int) error {
	return handOn(c, func(t interface{ SetWriteBuffer(int) error }) error { return t.SetWriteBuffer(bytes) })
}

// keepAliveDecided reports whether the keep-alive setters change nothing and succeed: with
// PeerTimeout its tuning stays in force, and on AF_UNIX there is no host to probe. Servers
// are known to stop accepting on an error.
func (c *Conn) keepAliveDecided() bool {
	if _, ok := c.inner.(*net.UnixConn); ok {
		return true
	}
	return c.timeouts.Load().Peer() > 0
}

// SetKeepAlive is that of [net.TCPConn]. With [Config.PeerTimeout] set, and on AF_UNIX, it
// changes nothing and returns nil.
func (c *Conn) SetKeepAlive(keepalive bool) error {
	if c.keepAliveDecided() {
		return nil
	}
	return handOn(c, func(t interface{ SetKeepAlive(bool) error }) error { return t.SetKeepAlive(keepalive) })
}

// SetKeepAlivePeriod is that of [net.TCPConn]; see SetKeepAlive.
func (c *Conn) SetKeepAlivePeriod(d time.Duration) error {
	if c.keepAliveDecided() {
		return nil
	}
	return handOn(c, func(t interface{ SetKeepAlivePeriod(time.Duration) error }) error { return t.SetKeepAlivePeriod(d) })
}

// SetKeepAliveConfig is that of [net.TCPConn]. With [Config.PeerTimeout] set it changes
// nothing and returns nil.
func (c *Conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	if c.timeouts.Load().Peer() > 0 {
		return nil
	}
	return handOn(c, func(t interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}) error {
		return t.SetKeepAliveConfig(config)
	})
}

// File is that of [net.TCPConn]: a duplicate of the descriptor, which the caller closes.
// While it is open, Close of the Conn sends the peer no FIN.
func (c *Conn) File() (f *os.File, err error) {
	err = handOn(c, func(t interface{ File() (*os.File, error) }) error {
		f, err = t.File()
		return err
	})
	return f, err
}

// MultipathTCP is that of [net.TCPConn].
func (c *Conn) MultipathTCP() (multipath bool, err error) {
	err = handOn(c, func(t interface{ MultipathTCP() (bool, error) }) error {
		multipath, err = t.MultipathTCP()
		return err
	})
	return multipath, err
}

// SyscallConn returns a raw connection to the socket of the wrapped connection itself,
// never to one further beneath: what is written beneath TLS would go out in plain text.
// If the wrapped connection has none, the error wraps errors.ErrUnsupported. After a
// verdict of the library, Read and Write of the raw connection return the verdict.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	s, ok := c.inner.(syscall.Conn)
	if !ok {
		return nil, c.opError("raw", errors.ErrUnsupported)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	if _, ok := c.inner.(*net.UnixConn); ok && c.timeouts.Load() == nil {
		// It has no ReadFrom to bring io.Copy back to, so let that find the PollFD.
		return raw, nil
	}
	return &rawConn{raw, c}, nil
}

// A rawConn has the connection checked after whatever is written through it. It also hides
// the PollFD of package net's raw connection: with it, io.Copy from an *os.File would go
// straight to the descriptor, around ReadFrom; without it, ReadFrom uses the same sendfile.
type rawConn struct {
	raw syscall.RawConn
	c   *Conn
}

func (r *rawConn) Control(f func(uintptr)) error {
	defer r.c.endWrite(r.c.beginWrite())
	return r.raw.Control(f)
}

func (r *rawConn) Read(f func(uintptr) bool) error {
	if e := r.c.end.Load(); e != nil {
		r.c.snapshot(e)
		if r.c.drainsAfter(e) {
			return r.readRest(f, e)
		}
	}
	return r.verdict("read", r.raw.Read(f))
}

// readRest lets f read once, if anything is left that came before the verdict e.
func (r *rawConn) readRest(f func(uintptr) bool, e *ending) error {
	e.rest.mu.Lock()
	defer e.rest.mu.Unlock()
	if r.c.restUnread(e) <= 0 {
		return r.c.verdictError("read", e)
	}
	return r.raw.Control(func(fd uintptr) {
		before := sock.Unread(fd)
		f(fd)
		e.rest.unread -= before - sock.Unread(fd)
	})
}

func (r *rawConn) Write(f func(uintptr) bool) error {
	if err := r.c.writeErr(); err != nil {
		return err
	}
	defer r.c.endWrite(r.c.beginWrite())
	return r.verdict("write", r.raw.Write(f))
}

// verdict replaces the time-out with which a verdict interrupts a Read or Write.
func (r *rawConn) verdict(op string, err error) error {
	if e := r.c.end.Load(); err != nil && e != nil && r.c.interrupts(e) && isDeadline(err) {
		return r.c.verdictError(op, e)
	}
	return err
}
