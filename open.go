package liveness

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/supervise"
	"github.com/go-liveness/liveness/internal/watch"
)

// newConn makes a Conn for inner, which the application uses as how says. The error is
// errWrapped itself if there is one at or beneath inner.
func newConn(inner net.Conn, cfg *Config, how usage, onFailure keepalive.Failure) (*Conn, error) {
	if _, ok := From(inner); ok {
		return nil, errWrapped
	}
	if cfg == nil {
		cfg = &noConfig
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	o := opens.Get().(*opening)
	defer o.free()
	c, err := openSocket(inner, cfg, how, onFailure, o)
	if err == errNoSocket {
		o.first = supervise.Sample{}
		c = unopened(inner, cfg, how)
		err = c.openWithoutSocket(cfg)
	}
	if err != nil {
		return nil, err
	}
	c.start(cfg, o)
	return c, nil
}

// unopened returns the Conn of inner, whose socket is not known yet.
func unopened(inner net.Conn, cfg *Config, how usage) *Conn {
	c := &Conn{
		inner: inner, opened: time.Since(started),
		sock: socket{allowHalfClose: cfg.AllowHalfClose, byWatch: how == beside},
	}
	if !beneath.IsPackageNet(inner) {
		c.foreign = &foreign{named: beneath.NamedOf(inner)}
	}
	c.handle = newHandle(c, cfg.Group)
	return c
}

// openSocket opens the socket of inner or beneath it. If there is none, the error is
// errNoSocket itself.
func openSocket(inner net.Conn, cfg *Config, how usage, onFailure keepalive.Failure, o *opening) (*Conn, error) {
	raw, owner, depth := beneath.RawConn(inner)
	if raw == nil {
		return nil, errNoSocket
	}
	c := unopened(inner, cfg, how)
	c.sock.raw, c.sock.direct, c.sock.mayBlock = raw, depth == 0, !beneath.IsPackageNet(owner)
	o.conn, o.cfg, o.onFailure = c, cfg, onFailure
	return c, c.open(o)
}

var noConfig Config

// A usage says how the application uses a connection.
type usage uint8

const (
	through usage = iota // by the Conn
	beside               // by itself
)

// An opening is the reusable closure that carries open through RawConn.Control, with its
// result.
type opening struct {
	at        func(fd uintptr)
	conn      *Conn
	cfg       *Config
	onFailure keepalive.Failure

	asked bool // a RawConn may have no descriptor to give
	err   error
	live  bool             // a quick check has found nothing
	first supervise.Sample // of a connection with time-outs
	tuned keepalive.Tuning
}

var opens = sync.Pool{New: func() any {
	o := new(opening)
	o.at = func(fd uintptr) {
		o.asked = true
		o.err = o.conn.openAt(fd, o)
	}
	return o
}}

func (o *opening) free() {
	*o = opening{at: o.at}
	opens.Put(o)
}

// open identifies the socket, registers it with the hub and sets the options that the
// Config asks for. If it fails, the socket is as it was, unless onFailure says that it is
// closed. The error is errNoSocket itself if there turns out to be none.
func (c *Conn) open(o *opening) error {
	s := &c.sock
	controlErr := s.raw.Control(o.at)
	switch {
	case errors.Is(controlErr, net.ErrClosed):
		c.handle.Forget()
		return net.ErrClosed
	case controlErr != nil || !o.asked || o.err == errNoSocket:
		c.handle.Forget() // a Control of the application's may fail after it was used
		return errNoSocket
	case o.err != nil:
		c.handle.Remove(s.raw)
		return o.err
	}
	if o.tuned.Later != nil {
		c.schedule(o.tuned.Later)
	}
	return nil
}

func (c *Conn) openAt(fd uintptr, o *opening) (err error) {
	s := &c.sock
	if s.family, err = s.identifyAt(fd, c.inner); err != nil {
		return err
	}
	s.counted = s.countsAt(fd)
	c.configure(o.cfg)
	if err = watch.Add(&c.handle.Token, fd); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	t := c.timeouts.Load()
	if t == nil && !o.cfg.KeepAlive.Enable {
		o.live = s.family == familyTCP && !c.sock.allowHalfClose && s.quickCheckAt(fd)
		return nil
	}
	o.first.Detail = t.Detail()
	o.first.Asked = time.Now()
	o.first.Taken = s.sampleAt(fd, &o.first)
	o.first.Answered = time.Now()
	o.tuned, err = s.tune(fd, o.cfg, o.first.Info.Probes, o.onFailure)
	return err
}

// identifyAt finds out what fd is. A *net.TCPConn is a stream socket for sure.
func (s *socket) identifyAt(fd uintptr, inner net.Conn) (family, error) {
	if _, ok := inner.(*net.TCPConn); ok {
		return identifyStream(fd)
	}
	return identify(fd)
}

// start makes c known, makes its first check, and starts its clock. Where a sample was
// taken, it serves for both.
func (c *Conn) start(cfg *Config, o *opening) {
	// For a Conn that is not closed; after Close there is nothing left to forget.
	runtime.AddCleanup(c, forget, c.handle)
	c.handle.join()
	c.handle.set(ready)
	if cfg.OnDisconnect != nil {
		c.callAtEnd(cfg.OnDisconnect)
	}
	if c.sock.raw != nil {
		if !o.live {
			c.observeSample(&o.first)
		}
		if c.handle.has(early) {
			c.check(trigger{}) // what was shown may be older than the event
		}
		if c.sock.allowHalfClose && !o.first.Taken {
			c.sock.sample(supervise.Full) // to tell the local FIN from a RST later on; see History.SentFIN
		}
		if c.sock.byWatch {
			c.handle.FollowClose()
		}
	}
	if t := c.timeouts.Load(); t != nil {
		if next := t.Start((*supervised)(c), &o.first); !next.IsZero() {
			c.handle.Wake(next)
		}
	}
}
