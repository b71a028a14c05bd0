package livenessgrpc

import (
	"errors"
	"net"

	"github.com/go-liveness/liveness"
)

// A mode is how gRPC's connections are observed.
type mode uint8

const (
	wrapped mode = iota
	watched
)

// An opener wraps or watches connections.
type opener struct {
	cfg       liveness.Config
	mode      mode
	byDefault bool // PeerTimeout is DefaultPeerTimeout
}

func newOpener(cfg *liveness.Config, m mode) opener {
	o := opener{mode: m}
	if cfg != nil {
		o.cfg = *cfg
	}
	o.cfg.AllowHalfClose = false
	if o.cfg.PeerTimeout == 0 {
		o.cfg.PeerTimeout, o.byDefault = DefaultPeerTimeout, true
	}
	return o
}

// open returns the connection that gRPC is to use in place of conn, and what ends its
// context. If open fails, conn is still the caller's.
func (o *opener) open(conn net.Conn) (net.Conn, *tag, error) {
	live, ok := liveness.From(conn)
	if !ok {
		var err error
		if live, err = o.observe(conn); err != nil {
			return nil, nil, err
		}
		if o.mode == wrapped {
			conn = live
		}
	}
	t := &tag{live: live, remote: conn.RemoteAddr(), local: conn.LocalAddr()}
	if o.mode == watched {
		live.OnDisconnect(t.closeAfterTimeout)
		return conn, t, nil
	}
	t.remote = ownAddr(t.remote)
	return newConn(conn, t), t, nil
}

// observe wraps or watches conn. The default is not worth an error where it cannot be kept.
func (o *opener) observe(conn net.Conn) (*liveness.Conn, error) {
	f := liveness.Wrap
	if o.mode == watched {
		f = liveness.Watch
	}
	c, err := f(conn, &o.cfg)
	if o.byDefault && errors.Is(err, errors.ErrUnsupported) {
		cfg := o.cfg
		cfg.PeerTimeout = 0
		c, err = f(conn, &cfg)
	}
	return c, err
}

// check returns the error of a Config that no connection can keep, as a liveness.Listener
// does at its first Accept.
func (o *opener) check(l net.Listener) error {
	_, err := liveness.NewListener(noConns{l}, &o.cfg).Accept()
	if errors.Is(err, errNoConn) || o.byDefault && errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// noConns is a listener that has no connection to accept.
type noConns struct{ net.Listener }

var errNoConn = errors.New("livenessgrpc: no connection")

func (noConns) Accept() (net.Conn, error) { return nil, errNoConn }
