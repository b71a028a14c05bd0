package liveness

import (
	"errors"
	"net"
	"runtime"
	"time"
	"weak"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/calls"
	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/watch"
)

// newConn makes a Conn for inner, which the application uses as how says.
func newConn(inner net.Conn, cfg *Config, how usage, onFailure keepalive.Failure) (*Conn, error) {
	if cfg == nil {
		cfg = new(Config)
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Conn{
		inner: inner, named: beneath.NamedOf(inner), opened: time.Now(),
		allowHalfClose: cfg.AllowHalfClose, watched: how == beside,
	}
	c.handle = &handle{conn: weak.Make(c), group: cfg.Group}
	c.handle.Init(c.handle)
	c.configure(cfg)
	raw, owner, depth := beneath.RawConn(inner)
	var first sample
	var err error
	if raw == nil {
		err = c.openWithoutSocket(cfg)
	} else {
		c.sock.raw, c.sock.direct, c.sock.mayBlock = raw, depth == 0, !beneath.IsPackageNet(owner)
		c.checker, c.handle.mayBlock = &c.sock, c.sock.mayBlock
		first, err = c.open(cfg, onFailure)
	}
	if err != nil {
		return nil, err
	}
	c.start(cfg, &first)
	return c, nil
}

// A usage says how the application uses a connection.
type usage uint8

const (
	through usage = iota // by the Conn
	beside               // by itself
)

// open identifies the socket, registers it with the hub and sets the options that cfg asks
// for. If it fails, the socket is as it was, unless onFailure says that it is closed. first
// is a sample of a connection with time-outs.
func (c *Conn) open(cfg *Config, onFailure keepalive.Failure) (first sample, err error) {
	s := &c.sock
	asked := false // a RawConn may have no descriptor to give
	var tuned keepalive.Tuning
	controlErr := s.raw.Control(func(fd uintptr) {
		asked = true
		if s.family, err = s.identifyAt(fd, c.inner); err != nil {
			return
		}
		s.counted = s.countsAt(fd)
		if err = watch.Add(&c.handle.Token, fd); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return
		}
		if first.asked = time.Now(); c.timeouts.Load() != nil || cfg.KeepAlive.Enable {
			first.taken = s.sampleAt(fd, &first)
		}
		first.answered = time.Now()
		tuned, err = s.tune(fd, cfg, first.info.Probes, onFailure)
	})
	switch {
	case errors.Is(controlErr, net.ErrClosed):
		return first, net.ErrClosed
	case controlErr != nil || !asked || err == errNoSocket:
		s.raw, s.direct, s.mayBlock, s.family = nil, false, false, familyUnknown
		c.handle.mayBlock = false
		return first, c.openWithoutSocket(cfg)
	case err != nil:
		c.handle.Remove(s.raw)
		return first, err
	}
	if tuned.Later != nil {
		c.schedule(tuned.Later)
	}
	return first, nil
}

// identifyAt finds out what fd is. A *net.TCPConn is a stream socket for sure.
func (s *socket) identifyAt(fd uintptr, inner net.Conn) (family, error) {
	if _, ok := inner.(*net.TCPConn); ok {
		return identifyStream(fd)
	}
	return identify(fd)
}

// start makes c known, makes its first check, and starts its clock. Where first was taken,
// it serves for both.
func (c *Conn) start(cfg *Config, first *sample) {
	// For a Conn that is not closed; after Close there is nothing left to forget.
	runtime.AddCleanup(c, forget, c.handle)
	c.handle.join()
	c.handle.ready.Store(true)
	if f := cfg.OnDisconnect; f != nil {
		c.onEnd(&calls.Call{F: func(err error) { f(c, err) }})
	}
	if c.sock.raw != nil {
		c.observeSample(first)
		if c.handle.early.Load() {
			c.check(trigger{}) // first may be older than the event
		}
		if c.allowHalfClose && !first.taken {
			c.sock.sample(new(sample)) // to tell the local FIN from a RST later on; see History.SentFIN
		}
		if c.watched {
			c.handle.FollowClose()
		}
	}
	if t := c.timeouts.Load(); t != nil {
		if next := c.startTimeouts(t, first); !next.IsZero() {
			c.handle.Wake(next)
		}
	}
}

// From finds the *Conn at or beneath conn. It follows methods NetConn, as of a
// *[crypto/tls.Conn], and in a struct without one its only exported embedded net.Conn, as
// of most wrappers that limit, count or multiplex connections. A Conn that [Watch] made is
// not beneath its connection; see [ConnContext].
func From(conn net.Conn) (*Conn, bool) {
	for range beneath.MaxDepth {
		if c, ok := conn.(*Conn); ok {
			return c, c != nil
		}
		if conn = beneath.Next(conn); conn == nil {
			break
		}
	}
	return nil, false
}
