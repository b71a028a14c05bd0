package liveness

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
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

// Read reads from the wrapped connection and returns what that one returns, with
// one exception: an end of file on a stream that was cut off by a reset or a
// time-out, whose error a Write has taken meanwhile, is returned as that error. A
// reset stream never reads as complete.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.inner.Read(b)
	if err != nil {
		err = c.readFailed(err)
	}
	return n, err
}

// Write writes to the wrapped connection and returns what that one returns.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.inner.Write(b)
	if err != nil {
		c.ioFailed(err)
	}
	return n, err
}

// WriteBuffers writes the contents of v and consumes it, as v.WriteTo would do on
// the wrapped connection: with writev where that has it. [net.Buffers.WriteTo]
// cannot reach through a wrapper, and makes one Write for each buffer.
func (c *Conn) WriteBuffers(v *net.Buffers) (int64, error) {
	n, err := v.WriteTo(c.inner)
	if err != nil {
		c.ioFailed(err)
	}
	return n, err
}

// ReadFrom implements io.ReaderFrom by that of the wrapped connection, with
// sendfile and splice where it has them; r may be a *Conn itself, or one in an
// *io.LimitedReader.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	to, ok := c.inner.(io.ReaderFrom)
	if !ok {
		return io.Copy(writerOnly{c}, r)
	}
	var n int64
	var err error
	if limited, ok := r.(*io.LimitedReader); ok {
		from := splicable(limited.R)
		if from == nil {
			n, err = to.ReadFrom(r)
		} else {
			// package net recognises its own types in a LimitedReader, not ours.
			bare := io.LimitedReader{R: from.inner, N: limited.N}
			n, err = to.ReadFrom(&bare)
			if bare.N > 0 || err != nil {
				err = from.copied(err)
			}
			limited.N = bare.N
		}
	} else if from := splicable(r); from != nil {
		n, err = to.ReadFrom(from.inner)
		err = from.copied(err)
	} else {
		n, err = to.ReadFrom(r)
	}
	if err != nil {
		c.ioFailed(nil) // or it is the error of r; the look tells
	}
	return n, err
}

// WriteTo implements io.WriterTo. Data go through splice where package net would
// do so between the wrapped connections.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if splicable(c) == nil {
		return io.Copy(w, readerOnly{c})
	}
	to, isConn := w.(*Conn)
	if isConn {
		if _, ok := to.inner.(io.ReaderFrom); ok {
			return to.ReadFrom(c)
		}
		if splicable(to) != nil {
			w = to.inner
		}
	}
	var n int64
	var err error
	if from, ok := c.inner.(io.WriterTo); ok {
		n, err = from.WriteTo(w)
	} else if rf, ok := w.(io.ReaderFrom); ok {
		n, err = rf.ReadFrom(c.inner)
	} else {
		return io.Copy(w, readerOnly{c})
	}
	if err != nil && isConn {
		to.ioFailed(nil)
	}
	return n, c.copied(err)
}

// splicable returns r as a *Conn if what it wraps is package net's own, which
// copies between sockets without user space if it recognises them.
func splicable(r any) *Conn {
	c, ok := r.(*Conn)
	if !ok {
		return nil
	}
	switch c.inner.(type) {
	case *net.TCPConn, *net.UnixConn:
		return c
	}
	return nil
}

// copied looks at c after a copy out of the wrapped connection, which ended with
// c's end of file if err is nil, and otherwise with an error of either side. It
// returns what the copy is to return.
func (c *Conn) copied(err error) error {
	if err == nil {
		if err = c.readFailed(io.EOF); err == io.EOF {
			err = nil
		}
		return err
	}
	c.ioFailed(nil)
	return err
}

// writerOnly and readerOnly hide ReadFrom and WriteTo from io.Copy.
type writerOnly struct{ io.Writer }
type readerOnly struct{ io.Reader }

// ioFailed takes the error of an I/O method as a hint; one look decides. A nil
// hint stands for an error that may be another connection's.
func (c *Conn) ioFailed(hint error) sight {
	if hint != nil && isDeadline(hint) || c.end.Load() != nil {
		return sight{}
	}
	return c.look(hint)
}

// readFailed is ioFailed for a Read, and returns the error that Read returns.
func (c *Conn) readFailed(err error) error {
	s := c.ioFailed(err)
	if err != io.EOF || !c.direct {
		return err
	}
	errno := s.errno
	if e := c.end.Load(); e != nil {
		errno = e.cutOff
	} else if s.outcome != aborted || s.fin {
		errno = nil
	}
	if errno == nil {
		return io.EOF
	}
	return opError("read", c.inner, os.NewSyscallError("read", errno))
}

// Close closes the wrapped connection and returns what its Close returns. Unless
// the connection has ended already, this is the end, with net.ErrClosed as its
// reason.
func (c *Conn) Close() error {
	c.judge(sight{outcome: closed})
	if c.sock.watch != nil {
		theHub.unwatch(&c.sock)
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
// a FIN, or under TLS a close notification. If the peer has sent its own before,
// this is the end (ErrPeerClosed).
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
	err := half.CloseWrite()
	c.ioFailed(nil)
	return err
}

// LocalAddr returns the local address of the wrapped connection.
func (c *Conn) LocalAddr() net.Addr { return c.inner.LocalAddr() }

// RemoteAddr returns the remote address of the wrapped connection.
func (c *Conn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }

// SetDeadline sets the deadlines of the wrapped connection. They are the user's:
// the library sets none, and an expired one is no end.
func (c *Conn) SetDeadline(t time.Time) error { return c.inner.SetDeadline(t) }

// SetReadDeadline sets the read deadline; see SetDeadline.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.inner.SetReadDeadline(t) }

// SetWriteDeadline sets the write deadline; see SetDeadline.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.inner.SetWriteDeadline(t) }

// SyscallConn returns a raw connection to the socket of the wrapped connection
// itself, never to one further beneath: what is written beneath TLS would go out
// in plain text. If the wrapped connection has none, the error wraps
// errors.ErrUnsupported.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	s, ok := c.inner.(syscall.Conn)
	if !ok {
		return nil, opError("raw", c.inner, errors.ErrUnsupported)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	return rawConn{raw}, nil
}

// A rawConn hides the PollFD of package net's raw connection. With it, io.Copy
// from an *os.File would go straight to the descriptor, around ReadFrom; without
// it, ReadFrom uses the same sendfile.
type rawConn struct{ syscall.RawConn }
