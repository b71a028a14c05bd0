//go:build linux

package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
)

// An alternative is one way to learn that the peer of a connection is gone.
type alternative struct {
	name string
	how  string

	// watch takes any connection. Alternatives with a connection type and a listener of their own have serve instead.
	watch func(conn net.Conn, o options) *watched
	serve serveFunc

	prelude func(unread bool) string // what a client sends first
	noTLS   bool
}

// A serveFunc starts a server on loopback, which calls accepted for each connection. With options.lean it passes nil, and
// calls report for each connection that ended, so that a benchmark measures the alternative alone.
type serveFunc func(o options, accepted func(*watched)) (addr string, stop func())

// options are what a row asks for. An alternative that cannot do it does what it can.
type options struct {
	peerTimeout    time.Duration // find a peer that vanished within this
	readIdle       time.Duration // find a peer that sends nothing within this
	allowHalfClose bool
	quiet          bool // nobody registers for the end
	lean           bool
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

const (
	nameLiveness = "liveness"
	nameCheck    = "liveness.Check"
)

var alternatives = []*alternative{
	{name: nameLiveness, how: "this library: Wrap, Done", watch: watchLiveness},
	{name: nameCheck, how: "this library: Check of a bare connection", watch: func(conn net.Conn, o options) *watched {
		return &watched{Conn: conn, probe: func() error { return liveness.Check(conn) }}
	}},
	{name: "connstate", how: "net/connstate: a shared epoll, polled every 10 ms", watch: watchConnstate, noTLS: true},
	{name: "conncheck", how: "MSG_PEEK under RawConn.Read", watch: watchConncheck},
	{name: "mysql check", how: "the system calls of go-sql-driver/mysql: read of 1 byte under RawConn.Read, beneath TLS", watch: watchMySQL},
	{name: "go-redis check", how: "the system calls of go-redis: MSG_PEEK under RawConn.Read, deadlines cleared; TLS is not checked", watch: watchRedis},
	{name: "1 ms read", how: "old pgx, mongo: a Read of 1 byte with a deadline of 1 ms", watch: watchDeadline},
	{name: "parked Read", how: "a goroutine in a Read of 1 byte, which it keeps", watch: watchParked},
	{name: "socket options", how: "keep-alive and TCP_USER_TIMEOUT, as grpc-go sets them, with a parked Read", watch: watchOptions},
	{name: "net/http", how: "the request's context, by net/http's background Read", serve: serveHTTP, prelude: httpPrelude},
	{name: "blockuntilclosed", how: "as wizardishungry/blockuntilclosed: a wait for IN or RDHUP on a duplicate of the descriptor", watch: watchDup, noTLS: true},
	{name: "netpoll", how: "an event loop in the place of package net", serve: serveNetpoll},
	{name: "gnet", how: "an event loop in the place of package net", serve: serveGnet},
	{name: "nbio", how: "an event loop in the place of package net", serve: serveNbio},
}

// check and must panic. In a trial, that makes the cell a failed measurement.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

// listen starts a server on loopback.
func (a *alternative) listen(o options) (addr string, accept func() *watched, stop func()) {
	if a.serve != nil {
		conns := make(chan *watched, 100)
		addr, stop = a.serve(o, func(w *watched) { conns <- w })
		return addr, func() *watched { return await(conns, 1) }, stop
	}
	l := listenTCP()
	return l.Addr().String(), func() *watched {
		conn := must(l.Accept())
		if a.name != nameLiveness {
			tune(conn, o)
		}
		return a.watch(conn, o)
	}, func() { l.Close() }
}

// listenTCP leaves keep-alive off: no probes but those that a row asks for.
func listenTCP() net.Listener {
	lc := net.ListenConfig{KeepAlive: -1}
	return must(lc.Listen(context.Background(), "tcp4", "127.0.0.1:0"))
}

// await receives n times within a minute.
func await[T any](c <-chan T, n int) (last T) {
	limit := time.After(time.Minute)
	for i := range n {
		select {
		case last = <-c:
		case <-limit:
			panic(fmt.Errorf("only %d of %d were accepted or reported", i, n))
		}
	}
	return last
}

// tune gives a socket the keep-alive that the library would set: every program can do that much with package net.
func tune(conn net.Conn, o options) {
	check(rawOf(conn).Control(func(fd uintptr) { tuneFD(int(fd), o) }))
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
func rawOf(conn net.Conn) syscall.RawConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	return must(conn.(syscall.Conn).SyscallConn())
}

func descriptor(conn net.Conn) (fd int) {
	check(rawOf(conn).Control(func(f uintptr) { fd = int(f) }))
	return fd
}
