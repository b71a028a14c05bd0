package liveness

import (
	"errors"
	"net"
	"reflect"
	"runtime"
	"syscall"
	"time"
	"weak"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/watch"
)

// afterFailure says what becomes of a connection that cannot be opened.
type afterFailure uint8

const (
	keptOpen      afterFailure = iota // the caller still owns it, so it must be unchanged
	closedForGood                     // the caller closes it
)

// newConn makes a Conn for inner, which the application uses as how says.
func newConn(inner net.Conn, cfg *Config, how usage, after afterFailure) (*Conn, error) {
	if cfg == nil {
		cfg = new(Config)
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Conn{
		inner: inner, addresses: addressesOf(inner), opened: time.Now(),
		allowHalfClose: cfg.AllowHalfClose, watched: how == beside,
	}
	c.handle = &handle{conn: weak.Make(c), group: cfg.Group}
	c.handle.Init(c.handle)
	c.configure(cfg)
	raw, owner, depth := findRawConn(inner)
	var err error
	if raw == nil {
		err = c.openWithoutSocket(cfg)
	} else {
		c.sock.raw, c.sock.direct, c.sock.mayBlock = raw, depth == 0, !isPackageNet(owner)
		c.checker, c.handle.mayBlock = &c.sock, c.sock.mayBlock
		err = c.open(cfg, after)
	}
	if err != nil {
		return nil, err
	}
	c.start(cfg)
	return c, nil
}

// A usage says how the application uses a connection.
type usage uint8

const (
	through usage = iota // by the Conn
	beside               // by itself
)

// open identifies the socket, registers it with the hub and sets the options that cfg asks
// for. If it fails, the socket is as it was, unless it is closed for good.
func (c *Conn) open(cfg *Config, after afterFailure) (err error) {
	s := &c.sock
	asked := false // a RawConn may have no descriptor to give
	var tuned *keepalive.Tuning
	controlErr := s.raw.Control(func(fd uintptr) {
		asked = true
		if s.family, err = s.identifyAt(fd, c.inner); err != nil {
			return
		}
		if err = watch.Add(&c.handle.Token, fd); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return
		}
		tuned, err = s.tune(fd, cfg, after)
	})
	switch {
	case errors.Is(controlErr, net.ErrClosed):
		return net.ErrClosed
	case controlErr != nil || !asked || err == errNoSocket:
		s.raw, s.direct, s.mayBlock, s.family = nil, false, false, familyUnknown
		c.handle.mayBlock = false
		return c.openWithoutSocket(cfg)
	case err != nil:
		c.handle.Remove(s.raw)
		return err
	}
	if tuned != nil && tuned.Later != nil {
		c.schedule(tuned.Later)
	}
	return nil
}

// identifyAt finds out what fd is. A *net.TCPConn is a stream socket for sure.
func (s *socket) identifyAt(fd uintptr, inner net.Conn) (family, error) {
	if _, ok := inner.(*net.TCPConn); ok {
		return identifyStream(fd)
	}
	return identify(fd)
}

// start makes c known, makes its first check, and starts its clock.
func (c *Conn) start(cfg *Config) {
	// For a Conn that is not closed; after Close there is nothing left to forget.
	runtime.AddCleanup(c, forget, c.handle)
	c.handle.join()
	c.handle.ready.Store(true)
	if f := cfg.OnDisconnect; f != nil {
		c.onEnd(&call{f: func(err error) { f(c, err) }, kind: callback})
	}
	if c.sock.raw != nil {
		c.check(trigger{})
		if c.allowHalfClose {
			c.sock.sample(new(sample)) // to tell the local FIN from a RST later on; see socket.sentFIN
		}
		if c.watched {
			c.handle.FollowClose()
		}
	}
	if c.timeouts.Load() != nil {
		if next := c.checkTimeouts(time.Now(), time.Time{}); !next.IsZero() {
			c.handle.Wake(next)
		}
	}
}

// maxDepth bounds the search beneath a connection: a NetConn that returns its own receiver
// must not hang the search.
const maxDepth = 32

// From finds the *Conn at or beneath conn. It follows methods NetConn, as of a
// *[crypto/tls.Conn], and in a struct without one its only exported embedded net.Conn, as
// of most wrappers that limit, count or multiplex connections. A Conn that [Watch] made is
// not beneath its connection; see [ConnContext].
func From(conn net.Conn) (*Conn, bool) {
	for range maxDepth {
		if c, ok := conn.(*Conn); ok {
			return c, c != nil
		}
		if conn = beneath(conn); conn == nil {
			break
		}
	}
	return nil, false
}

// beneath returns the connection that conn wraps, nil if it is not known.
func beneath(conn net.Conn) net.Conn {
	switch conn.(type) {
	case nil, *net.TCPConn, *net.UnixConn:
		return nil
	}
	if u, ok := conn.(interface{ NetConn() net.Conn }); ok && !isNil(conn) {
		return u.NetConn()
	}
	return embedded(conn)
}

var connType = reflect.TypeFor[net.Conn]()

// embedded returns the net.Conn that is embedded in the struct of conn, in an exported
// field and the only one of its kind; nil if there is none.
func embedded(conn net.Conn) (found net.Conn) {
	v := reflect.ValueOf(conn)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.Anonymous || !field.Type.Implements(connType) {
			continue
		}
		if !field.IsExported() || found != nil {
			return nil
		}
		under, _ := v.Field(i).Interface().(net.Conn)
		if isNil(under) {
			return nil
		}
		found = under
	}
	return found
}

// findRawConn finds the socket at or beneath conn, and the connection that it belongs to,
// at which depth. Both are nil if there is none.
func findRawConn(conn net.Conn) (raw syscall.RawConn, owner net.Conn, depth int) {
	for depth := range maxDepth {
		if s, ok := conn.(syscall.Conn); ok {
			if raw, err := s.SyscallConn(); err == nil {
				return raw, conn, depth
			}
		}
		if conn = beneath(conn); conn == nil {
			break
		}
	}
	return nil, nil, 0
}

// isNil reports whether conn is nil or holds a nil pointer, for which package net has
// EINVAL and other packages a panic.
func isNil(conn net.Conn) bool {
	if conn == nil {
		return true
	}
	v := reflect.ValueOf(conn)
	return v.Kind() == reflect.Pointer && v.IsNil()
}
