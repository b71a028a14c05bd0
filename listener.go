package liveness

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/keepalive"
)

// A Listener wraps each connection that another listener accepts. [NewListener] makes it,
// and accept loops stay as they are. Its zero value is not usable. Multiple goroutines may
// invoke methods on a Listener simultaneously.
type Listener struct {
	inner net.Listener
	cfg   Config
	err   error // why no connection can ever be accepted

	succeeded atomic.Bool // a connection could be wrapped, so one that cannot be is an exception
}

// NewListener returns a listener whose Accept returns a *[Conn], as a net.Conn, for each
// connection of inner. A nil cfg is the zero Config.
//
// Listen with it beneath TLS: tls.NewListener(liveness.NewListener(l, cfg), config). Beneath
// or above a listener that limits or multiplexes both work, as far as [From] does.
//
// A cfg that no connection can keep is an error of every Accept, before a connection is
// accepted, and not temporary. So is what only a connection can show, such as an option
// that the system lacks, until one connection could be watched.
func NewListener(inner net.Listener, cfg *Config) *Listener {
	l := &Listener{inner: inner}
	if cfg != nil {
		l.cfg = *cfg
	}
	l.err = l.cfg.check()
	if _, ok := inner.(*Listener); ok {
		l.err = errWrapped
	}
	return l
}

// Accept is AcceptConn with the result as a net.Conn.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptConn()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptConn waits for the next connection and wraps it. It returns the errors of the inner
// listener as they are.
//
// A connection that cannot be watched while others could be is closed, and AcceptConn waits
// for the next. Only if the system is out of what a watch needs does it return, after closing
// the connection, an error whose Temporary method reports true, so that an accept loop waits
// as it does when descriptors run out.
func (l *Listener) AcceptConn() (*Conn, error) {
	for l.err == nil {
		conn, err := l.inner.Accept()
		if err != nil {
			return nil, err
		}
		c, err := newConn(conn, &l.cfg, through, keepalive.CloseOnFailure)
		if err == nil {
			l.succeeded.Store(true)
			return c, nil
		}
		conn.Close()
		var cannot *configError
		switch {
		case errno.NoResources(err):
			return nil, l.opError(temporary{err})
		case l.succeeded.Load():
		case errors.As(err, &cannot), err == errWrapped, errors.Is(err, errors.ErrUnsupported):
			return nil, l.opError(err)
		}
	}
	return nil, l.opError(l.err)
}

// Close closes the inner listener, which unblocks Accept. The connections that were
// accepted live on, watched.
func (l *Listener) Close() error { return l.inner.Close() }

// Addr returns the address of the inner listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// NetListener returns the listener that was wrapped.
func (l *Listener) NetListener() net.Listener { return l.inner }

// SetDeadline is that of [net.TCPListener]; the error wraps errors.ErrUnsupported if the
// inner listener has no such method. The same holds for File and SyscallConn.
func (l *Listener) SetDeadline(t time.Time) error {
	d, ok := l.inner.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return l.opError(errors.ErrUnsupported)
	}
	return d.SetDeadline(t)
}

// File is that of [net.TCPListener].
func (l *Listener) File() (*os.File, error) {
	f, ok := l.inner.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, l.opError(errors.ErrUnsupported)
	}
	return f.File()
}

// SyscallConn is that of [net.TCPListener].
func (l *Listener) SyscallConn() (syscall.RawConn, error) {
	s, ok := l.inner.(syscall.Conn)
	if !ok {
		return nil, l.opError(errors.ErrUnsupported)
	}
	return s.SyscallConn()
}

func (l *Listener) opError(err error) error {
	e := &net.OpError{Op: "accept", Addr: l.inner.Addr(), Err: err}
	if e.Addr != nil {
		e.Net = e.Addr.Network()
	}
	return e
}

// temporary marks an error that an accept loop should wait out.
type temporary struct{ error }

func (temporary) Temporary() bool { return true }
func (t temporary) Unwrap() error { return t.error }
