package liveness

import (
	"errors"
	"net"
	"os"
	"time"
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
	t := c.timeouts.Load()
	return t != nil && t.supervisor.Peer > 0
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
	if _, unix := c.inner.(*net.UnixConn); !unix && c.keepAliveDecided() {
		return nil
	}
	return handOn(c, func(t interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}) error {
		return t.SetKeepAliveConfig(config)
	})
}

// File is that of [net.TCPConn]: a duplicate of the descriptor, which the caller closes.
// While it is open, the peer sees no end of the connection.
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
