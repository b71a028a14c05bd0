// Package livenessgrpc tells the handlers of a gRPC server whether their client is still
// there. Two calls are all that a server needs:
//
//	server := grpc.NewServer(livenessgrpc.ServerOption())
//	listener := livenessgrpc.NewListener(l, &liveness.Config{PeerTimeout: time.Minute})
//	err := server.Serve(listener)
//
// The context of every handler, unary or streaming, then ends with the connection, and its
// [context.Cause] is the reason: [liveness.ErrPeerClosed], [liveness.ErrPeerReset],
// [liveness.ErrPeerLost] and so on, or [net.ErrClosed] after Stop. gRPC alone cancels the
// context without a reason. [liveness.FromContext] finds the connection in a handler or an
// interceptor. Any credentials work, and so do listeners that limit or cover connections,
// beneath or above this one. A handler whose client cancelled only that call gets gRPC's
// plain [context.Canceled] as before.
//
// # Wrapped or watched
//
// [NewListener] wraps each connection. The reason is then in the context before gRPC
// cancels it, every time. gRPC keeps its pooled read buffer, but sets no TCP_USER_TIMEOUT,
// because that needs a *[net.TCPConn]. PeerTimeout takes its place, with the 20 s that are
// gRPC's default, and without its fault: TCP_USER_TIMEOUT also ends live connections on
// links that lose packets.
//
// [WatchListener] leaves gRPC the bare connection, for credentials that need a
// *[net.TCPConn], with its TCP_USER_TIMEOUT. gRPC then reads a FIN, a RST or a time-out of
// the kernel itself and closes at once, often before the library could see why: the reason
// is then [net.ErrClosed], or the context ends without one. On AF_UNIX a reset that gRPC
// has read looks like a close. What the library itself finds, such as data that is not
// acknowledged or a StallTimeout, has its reason every time.
//
// # Clients
//
// [DialOption] and [WatchDialOption] do the same for the connections of a client. A server
// that vanishes then fails the pending calls with codes.Unavailable, within PeerTimeout.
//
// # PeerTimeout
//
// A Config without PeerTimeout gets [DefaultPeerTimeout] where the connection can keep
// it, and none elsewhere. A FIN always ends a connection of gRPC, so
// AllowHalfClose has no effect.
package livenessgrpc

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-liveness/liveness"
)

// DefaultPeerTimeout is the PeerTimeout of a Config that has none. It is how long gRPC
// lets data stay unacknowledged by default.
const DefaultPeerTimeout = 20 * time.Second

// NewListener returns a listener for [google.golang.org/grpc.Server.Serve] that wraps each
// connection of inner, as [liveness.Wrap] does. A nil cfg is the zero Config; see
// [DefaultPeerTimeout]. A connection of inner that is wrapped already keeps its own Config.
//
// The server needs [ServerOption] too. Errors of Accept are those of
// [liveness.Listener.AcceptConn].
func NewListener(inner net.Listener, cfg *liveness.Config) net.Listener {
	return newListener(inner, cfg, wrapped)
}

// WatchListener is NewListener for connections that are watched instead, as
// [liveness.Watch] does: Accept returns the connections of inner themselves. After a
// time-out of cfg the connection is closed, because gRPC does not know of it.
func WatchListener(inner net.Listener, cfg *liveness.Config) net.Listener {
	return newListener(inner, cfg, watched)
}

// A listener hands on the methods of a liveness.Listener, and accepts by itself.
type listener struct {
	*liveness.Listener
	inner net.Listener
	opener
	err    error       // why no connection can ever be accepted
	opened atomic.Bool // one could be, so that another that cannot is an exception
}

func newListener(inner net.Listener, cfg *liveness.Config, m mode) *listener {
	l := &listener{Listener: liveness.NewListener(inner, cfg), inner: inner, opener: newOpener(cfg, m)}
	l.err = l.check(inner)
	return l
}

// Accept waits for the next connection, and remembers it until gRPC tags it.
func (l *listener) Accept() (net.Conn, error) {
	for l.err == nil {
		conn, err := l.inner.Accept()
		if err != nil {
			return nil, err
		}
		use, t, err := l.open(conn)
		if err == nil {
			l.opened.Store(true)
			pending.add(t)
			if l.mode == watched && t.live.Err() != nil {
				pending.remove(t) // its callback may have run before
			}
			return use, nil
		}
		conn.Close()
		unsupported := errors.Is(err, errors.ErrUnsupported)
		switch {
		case unsupported && !l.opened.Load():
			return nil, err
		case !unsupported && !errors.Is(err, net.ErrClosed):
			return nil, temporary{err}
		}
	}
	return nil, l.err
}

// temporary marks an error that the accept loop should wait out.
type temporary struct{ error }

func (temporary) Temporary() bool { return true }
func (t temporary) Unwrap() error { return t.error }
