//go:build linux

package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
)

// An alternative is one way to learn that the peer of a connection is gone.
type alternative struct {
	name   string
	module string // in go.mod, for the version; empty if it is the standard library or a copy of the system calls
	how    string

	// watch takes any connection. Alternatives with a connection type and a listener of their own have serve instead.
	watch func(conn net.Conn, o options) (*watched, error)
	serve serveFunc

	prelude func(unread bool) string // what a client sends first
}

// A serveFunc starts a server on loopback, which calls accepted for each connection. With options.lean it passes nil and
// calls options.ended for each connection that ended, so that a benchmark measures the alternative alone.
type serveFunc func(o options, accepted func(*watched)) (addr string, stop func(), err error)

// options are what a row asks for. An alternative that cannot do it does what it can.
type options struct {
	peerTimeout    time.Duration // find a peer that vanished within this
	readIdle       time.Duration // find a peer that sends nothing within this
	allowHalfClose bool
	quiet          bool // nobody registers for the end
	lean           bool
	ended          func()
}

// A watched connection is one on which an alternative is at work.
type watched struct {
	net.Conn                    // what the application uses; nil if the alternative gives it none
	gone     <-chan struct{}    // closed when the alternative reports the end; nil if it only answers when asked
	probe    func() error       // asks; nil if the peer is there
	write    func([]byte) error // Conn.Write if nil
	received func() int         // bytes that an alternative which reads by itself handed to the application
	closeErr func() error       // the reason that it reported, if it reports one
	release  func()             // what its contract demands before Close
}

func (w *watched) send(b []byte) error {
	if w.write != nil {
		return w.write(b)
	}
	_, err := w.Conn.Write(b)
	return err
}

func (w *watched) close() {
	if w.release != nil {
		w.release()
	}
	if w.Conn != nil {
		w.Conn.Close()
	}
}

var errGone = errors.New("not alive")

// Names that rows or benchmarks refer to.
const (
	nameLiveness  = "liveness"
	nameCheck     = "liveness.Check"
	nameConnstate = "connstate"
	nameConncheck = "conncheck"
	nameMySQL     = "mysql check"
	nameRedis     = "go-redis check"
	nameParked    = "parked Read"
	nameHTTP      = "net/http"
	nameDup       = "blockuntilclosed"
	nameNetpoll   = "netpoll"
	nameGnet      = "gnet"
	nameNbio      = "nbio"
)

var alternatives = []*alternative{
	{name: nameLiveness, how: "this library: Wrap, Done", watch: watchLiveness},
	{name: nameCheck, how: "this library: Check of a bare connection", watch: tuned(watchCheck)},
	{name: nameConnstate, module: "github.com/cloudwego/gopkg", how: "net/connstate: a shared epoll, polled every 10 ms", watch: tuned(watchConnstate)},
	{name: nameConncheck, module: "github.com/murfffi/conncheck", how: "MSG_PEEK under RawConn.Read", watch: tuned(watchConncheck)},
	{name: nameMySQL, how: "the system calls of go-sql-driver/mysql: read of 1 byte under RawConn.Read, beneath TLS", watch: tuned(watchMySQL)},
	{name: nameRedis, how: "the system calls of go-redis: MSG_PEEK under RawConn.Read, deadlines cleared; TLS is not checked", watch: tuned(watchRedis)},
	{name: "1 ms read", how: "old pgx, mongo: a Read of 1 byte with a deadline of 1 ms", watch: tuned(watchDeadline)},
	{name: nameParked, how: "a goroutine in a Read of 1 byte, which it keeps", watch: tuned(watchParked)},
	{name: "socket options", how: "keep-alive and TCP_USER_TIMEOUT, as grpc-go sets them, with a parked Read", watch: watchOptions},
	{name: nameHTTP, how: "the request's context, by net/http's background Read", serve: serveHTTP, prelude: httpPrelude},
	{name: nameDup, how: "as wizardishungry/blockuntilclosed: a wait for IN or RDHUP on a duplicate of the descriptor", watch: tuned(watchDup)},
	{name: nameNetpoll, module: "github.com/cloudwego/netpoll", how: "an event loop in the place of package net", serve: serveNetpoll},
	{name: nameGnet, module: "github.com/panjf2000/gnet/v2", how: "an event loop in the place of package net", serve: serveGnet},
	{name: nameNbio, module: "github.com/lesismal/nbio", how: "an event loop in the place of package net", serve: serveNbio},
}

func alternativeNamed(name string) *alternative {
	for _, a := range alternatives {
		if a.name == name {
			return a
		}
	}
	panic("no alternative " + name)
}

// version is that of the module that was compiled in.
func (a *alternative) version() string {
	info, ok := debug.ReadBuildInfo()
	for _, dep := range info.Deps {
		if ok && a.module != "" && dep.Path == a.module {
			return " " + dep.Version
		}
	}
	return ""
}

// listen starts a server on loopback. The channel receives nil for a connection that could not be watched.
func (a *alternative) listen(o options) (addr string, accepted <-chan *watched, stop func(), err error) {
	conns := make(chan *watched, 100)
	if a.serve != nil {
		addr, stop, err = a.serve(o, func(w *watched) { conns <- w })
		return addr, conns, stop, err
	}
	l, err := listenTCP()
	if err != nil {
		return "", nil, nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w, err := a.watch(conn, o)
			if err != nil {
				conn.Close()
			}
			conns <- w
		}
	}()
	return l.Addr().String(), conns, func() { l.Close() }, nil
}

// listenTCP leaves keep-alive off: no probes but those that a row asks for.
func listenTCP() (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	return lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
}

// tuned gives a socket the keep-alive that the library would set: every program can do that much with package net.
func tuned(watch func(net.Conn, options) (*watched, error)) func(net.Conn, options) (*watched, error) {
	return func(conn net.Conn, o options) (*watched, error) {
		tune(conn, o)
		return watch(conn, o)
	}
}

func tune(conn net.Conn, o options) {
	if raw, err := rawOf(conn); err == nil {
		raw.Control(func(fd uintptr) { tuneFD(int(fd), o) })
	}
}

func tuneFD(fd int, o options) {
	if o.peerTimeout == 0 {
		return
	}
	k := liveness.KeepAlive(o.peerTimeout)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(k.Interval/time.Second))
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, k.Count)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(k.Idle/time.Second))
}

// rawOf finds the socket beneath TLS as the drivers do.
func rawOf(conn net.Conn) (syscall.RawConn, error) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("%T has no SyscallConn", conn)
	}
	return s.SyscallConn()
}

// descriptor returns the number of conn's descriptor, or -1.
func descriptor(conn net.Conn) int {
	if p, ok := conn.(*parked); ok {
		conn = p.Conn
	}
	fd := -1
	if raw, err := rawOf(conn); err == nil {
		raw.Control(func(f uintptr) { fd = int(f) })
	}
	return fd
}
