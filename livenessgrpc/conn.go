package livenessgrpc

import (
	"errors"
	"net"
	"reflect"
	"syscall"
)

// A conn is what gRPC uses in wrapped mode. gRPC cancels the contexts of its streams after
// a Read has failed and Close has returned, so the conn cancels them before, with the
// reason.
type conn struct {
	net.Conn // a *liveness.Conn, or what covers one
	tag      *tag
}

func newConn(inner net.Conn, t *tag) net.Conn {
	c := &conn{Conn: inner, tag: t}
	if p := pooled(c); p != nil {
		return p
	}
	return c
}

// RemoteAddr returns the address that TagConn recognizes, the same pointer every time.
func (c *conn) RemoteAddr() net.Addr { return c.tag.remote }

// NetConn returns what the conn covers, for liveness.From.
func (c *conn) NetConn() net.Conn { return c.Conn }

// SyscallConn is for channelz, which shows the options of sockets.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.tag.cancelIfEnded()
	}
	return n, err
}

// Close checks the connection first, so that an end that has arrived is the reason, and not
// the Close that gRPC does because of it.
func (c *conn) Close() error {
	c.tag.live.Alive()
	c.tag.cancelIfEnded()
	pending.remove(c.tag)
	err := c.Conn.Close()
	c.tag.cancelIfEnded()
	return err
}

// ownAddr returns a copy of addr that no other connection has. Package net makes an address
// for each connection and returns the same pointer every time, but promises neither.
func ownAddr(addr net.Addr) net.Addr {
	switch a := addr.(type) {
	case nil:
		return nil
	case *net.TCPAddr:
		b := *a
		return &b
	case *net.UnixAddr:
		b := *a
		return &b
	}
	if reflect.TypeOf(addr).Kind() == reflect.Pointer {
		return addr // its type may be asserted for
	}
	return &address{addr} // all connections of a bufconn.Listener have the same address
}

type address struct{ net.Addr }
