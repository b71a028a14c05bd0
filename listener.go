package liveness

import (
	"errors"
	"net"
	"sync/atomic"

	"github.com/go-liveness/liveness/internal/errno"
)

// A Listener wraps each connection that another listener accepts. It is made by
// [NewListener], and accept loops stay as they are. Its zero value is not usable.
//
// Multiple goroutines may invoke methods on a Listener simultaneously.
type Listener struct {
	inner net.Listener
	cfg   Config
	err   error // why no connection can ever be accepted

	watched atomic.Bool // one could be, so that another that cannot is an exception
}

// NewListener returns a listener whose Accept returns a *[Conn], as a net.Conn,
// for each connection of inner, made by [Wrap] with cfg. A nil cfg is the zero
// Config.
//
// Listen with it beneath TLS, tls.NewListener(liveness.NewListener(l, cfg), config),
// and beneath anything else that hides the socket, such as a limiting listener.
//
// A cfg that no connection can keep is an error of the first Accept, before
// anybody is accepted, and of every other; it is not temporary. What only a connection
// can show, such as a socket that is hidden or an option that the system lacks, is an
// error of Accept, too, and not temporary, until one connection could be watched.
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

// Accept waits for the next connection and returns it as a *[Conn]. It returns the
// errors of the inner listener as they are.
//
// A connection that cannot be watched while others could be is closed, and Accept
// goes on to the next.
// Only if the system is out of what a watch needs does it return, after closing
// the connection, an error whose Temporary method reports true, so that an accept
// loop waits as it does when descriptors run out. Unlike then, that one peer is
// lost.
func (l *Listener) Accept() (net.Conn, error) {
	for l.err == nil {
		conn, err := l.inner.Accept()
		if err != nil {
			return nil, err
		}
		c, err := Wrap(conn, &l.cfg)
		if err == nil {
			l.watched.Store(true)
			return c, nil
		}
		conn.Close()
		var cannot *configError
		switch {
		case errno.NoResources(err):
			return nil, l.opError(temporary{err})
		case l.watched.Load():
		case errors.As(err, &cannot):
			return nil, l.opError(cannot)
		case isConn(conn):
			return nil, l.opError(errWrapped)
		}
	}
	return nil, l.opError(l.err)
}

func isConn(conn net.Conn) bool {
	_, ok := From(conn)
	return ok
}

// Close closes the inner listener, which unblocks Accept. The connections that
// were accepted live on, watched.
func (l *Listener) Close() error { return l.inner.Close() }

// Addr returns the address of the inner listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// NetListener returns the listener that was wrapped: for its deadlines, its File,
// and whatever else only its type has.
func (l *Listener) NetListener() net.Listener { return l.inner }

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
