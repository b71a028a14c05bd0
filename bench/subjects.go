//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cloudwego/gopkg/net/connstate"
	"github.com/cloudwego/netpoll"
	"github.com/lesismal/nbio"
	nbiolog "github.com/lesismal/nbio/logging"
	"github.com/murfffi/conncheck"
	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
)

// A subject is one way to learn that the peer of a connection is gone.
type subject struct {
	name   string
	module string // in go.mod, for the version; empty if it is our own words or the standard library
	how    string

	// watch takes any connection. Subjects that bring a connection type and a
	// listener of their own have serve instead.
	watch func(conn net.Conn, o options) (*attached, error)
	serve func(o options, accepted chan<- *attached) (addr string, stop func(), err error)

	prelude func(unread bool) string // what a client says first
}

// options are what a row asks for. A subject that lacks one does what it can.
type options struct {
	peerTimeout    time.Duration // a peer that vanished is to be found within this
	readIdle       time.Duration // a peer that sends nothing
	allowHalfClose bool
	quiet          bool // nobody registers for the end
}

// An attached subject is a connection on which a subject is at work.
type attached struct {
	net.Conn                    // what the application uses; nil if it cannot
	gone     <-chan struct{}    // closed when the subject tells of the end; nil if it only answers when asked
	probe    func() error       // asks; nil if it is alive
	write    func([]byte) error // how the application writes; Conn.Write if nil
	received func() int         // bytes that a subject that reads for itself handed to the application
	closeErr func() error       // what it said of the end, if it says anything
	release  func()             // what its contract demands before Close
}

func (s *attached) send(b []byte) error {
	if s.write != nil {
		return s.write(b)
	}
	_, err := s.Conn.Write(b)
	return err
}

func (s *attached) close() {
	if s.release != nil {
		s.release()
	}
	if s.Conn != nil {
		s.Conn.Close()
	}
}

var errGone = errors.New("not alive")

// tune gives a socket the keep-alive that the library would derive: everybody can
// do that much with the standard library.
func tune(raw syscall.RawConn, o options, userTimeout bool) {
	if o.peerTimeout == 0 || raw == nil {
		return
	}
	raw.Control(func(fd uintptr) { tuneFD(int(fd), o, userTimeout) })
}

func tuneFD(fd int, o options, userTimeout bool) {
	if o.peerTimeout == 0 {
		return
	}
	k := liveness.KeepAlive(o.peerTimeout)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(k.Interval/time.Second))
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, k.Count)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(k.Idle/time.Second))
	if userTimeout {
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.peerTimeout/time.Millisecond))
	}
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

func tuned(watch func(net.Conn, options) (*attached, error)) func(net.Conn, options) (*attached, error) {
	return func(conn net.Conn, o options) (*attached, error) {
		if raw, err := rawOf(conn); err == nil {
			tune(raw, o, false)
		}
		return watch(conn, o)
	}
}

const (
	nameLiveness  = "liveness"
	nameCheck     = "liveness.Check"
	nameConnstate = "connstate"
	nameConncheck = "conncheck"
	nameMySQL     = "mysql check"
	nameRedis     = "go-redis check"
	nameDeadline  = "1 ms read"
	nameParked    = "parked Read"
	nameOptions   = "socket options"
	nameHTTP      = "net/http"
	nameDup       = "blockuntilclosed"
	nameNetpoll   = "netpoll"
	nameGnet      = "gnet"
	nameNbio      = "nbio"
)

var allSubjects = []*subject{
	{name: nameLiveness, how: "this library: Wrap, Done", watch: watchLiveness},
	{name: nameCheck, how: "this library: Check on a bare connection", watch: tuned(watchCheck)},
	{name: nameConnstate, module: "github.com/cloudwego/gopkg", how: "net/connstate: a shared epoll, polled every 10 ms", watch: tuned(watchConnstate)},
	{name: nameConncheck, module: "github.com/murfffi/conncheck", how: "MSG_PEEK under RawConn.Read", watch: tuned(watchConncheck)},
	{name: nameMySQL, how: "our words for go-sql-driver/mysql: read(fd, 1 byte) under RawConn.Read, beneath TLS; no deadline is set, as by default (with readTimeout, it is set anew)", watch: tuned(watchMySQL)},
	{name: nameRedis, how: "our words for go-redis: MSG_PEEK under RawConn.Read, deadlines cleared; TLS is not checked", watch: tuned(watchRedis)},
	{name: nameDeadline, how: "pgx (old), mongo: one Read of 1 byte with a 1 ms deadline", watch: tuned(watchDeadline)},
	{name: nameParked, how: "a goroutine parked in a Read of 1 byte, which it keeps", watch: tuned(func(c net.Conn, o options) (*attached, error) { return watchParked(c, o) })},
	{name: nameOptions, how: "keep-alive and TCP_USER_TIMEOUT, as grpc-go sets them, with a parked Read", watch: watchOptions},
	{name: nameHTTP, how: "net/http: the request's context, by its background Read", serve: serveHTTP, prelude: httpPrelude},
	{name: nameDup, how: "our words for wizardishungry/blockuntilclosed (not on the module proxy): epoll IN|RDHUP|ONESHOT on a dup", watch: tuned(watchDup)},
	{name: nameNetpoll, module: "github.com/cloudwego/netpoll", how: "an event loop in the place of package net", serve: serveNetpoll},
	{name: nameGnet, module: "github.com/panjf2000/gnet/v2", how: "an event loop in the place of package net", serve: serveGnet},
	{name: nameNbio, module: "github.com/lesismal/nbio", how: "an event loop in the place of package net", serve: serveNbio},
}

func subjectNamed(name string) *subject {
	for _, s := range allSubjects {
		if s.name == name {
			return s
		}
	}
	return nil
}

// pick returns the subjects of a comma-separated list; ours is always among them.
func pick(list string) ([]*subject, error) {
	if list == "" {
		return allSubjects, nil
	}
	picked := []*subject{allSubjects[0]}
	for _, name := range strings.Split(list, ",") {
		s := subjectNamed(strings.TrimSpace(name))
		if s == nil {
			var names []string
			for _, s := range allSubjects {
				names = append(names, s.name)
			}
			return nil, fmt.Errorf("no peer %q; there are: %s", name, strings.Join(names, ", "))
		}
		if s != picked[0] {
			picked = append(picked, s)
		}
	}
	return picked, nil
}

// version is that of the module that was built in.
func (s *subject) version() string {
	if s.module == "" {
		return ""
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == s.module {
				return dep.Version
			}
		}
	}
	return "?"
}

// A server accepts connections for a subject.
type server struct {
	addr     string
	accepted chan *attached
	stop     func()
}

func (s *server) accept() (*attached, error) {
	select {
	case c := <-s.accepted:
		if c == nil {
			return nil, errors.New("the connection could not be watched")
		}
		return c, nil
	case <-time.After(20 * time.Second):
		return nil, errors.New("no connection was accepted")
	}
}

// listen starts a server on loopback.
func (s *subject) listen(o options) (*server, error) {
	accepted := make(chan *attached, 20000)
	if s.serve != nil {
		addr, stop, err := s.serve(o, accepted)
		return &server{addr, accepted, stop}, err
	}
	lc := net.ListenConfig{KeepAlive: -1} // nobody's probes but those that a row asks for
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c, err := s.watch(conn, o)
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", s.name, err)
				conn.Close()
			}
			accepted <- c
		}
	}()
	return &server{l.Addr().String(), accepted, func() { l.Close() }}, nil
}

// ---- this library

func watchLiveness(conn net.Conn, o options) (*attached, error) {
	c, err := liveness.Wrap(conn, &liveness.Config{
		PeerTimeout: o.peerTimeout, ReadIdleTimeout: o.readIdle, AllowHalfClose: o.allowHalfClose,
	})
	if err != nil {
		return nil, err
	}
	s := &attached{Conn: c, probe: func() error {
		if !c.Alive() {
			return c.Err()
		}
		return nil
	}, closeErr: c.Err}
	if !o.quiet {
		s.gone = c.Done()
	}
	return s, nil
}

func watchCheck(conn net.Conn, o options) (*attached, error) {
	return &attached{Conn: conn, probe: func() error { return liveness.Check(conn) }}, nil
}

// ---- watchers and checks

func watchConnstate(conn net.Conn, o options) (*attached, error) {
	gone := make(chan struct{})
	var opts []connstate.Option
	if !o.quiet {
		opts = append(opts, connstate.WithOnRemoteClosed(func() { close(gone) }))
	}
	st, err := connstate.ListenConnState(conn, opts...)
	if err != nil {
		return nil, err
	}
	return &attached{Conn: conn, gone: gone, release: func() { st.Close() }, probe: func() error {
		if st.State() != connstate.StateOK {
			return errGone
		}
		return nil
	}}, nil
}

func watchConncheck(conn net.Conn, o options) (*attached, error) {
	return &attached{Conn: conn, probe: func() error {
		if conncheck.Do(conn) == conncheck.StatusNotOpen {
			return errGone
		}
		return nil
	}}, nil
}

func watchMySQL(conn net.Conn, o options) (*attached, error) {
	raw, err := rawOf(conn)
	if err != nil {
		return nil, err
	}
	return &attached{Conn: conn, probe: func() error { return mysqlCheck(raw) }}, nil
}

var errUnexpectedRead = errors.New("unexpected read from socket")

// mysqlCheck touches no deadline: the driver sets one first only if readTimeout is
// set, which it is not by default.
func mysqlCheck(raw syscall.RawConn) error {
	var verdict error
	err := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, err := unix.Read(int(fd), b[:])
		switch {
		case n == 0 && err == nil:
			verdict = io.EOF
		case n > 0:
			verdict = errUnexpectedRead
		case err == unix.EAGAIN:
		default:
			verdict = err
		}
		return true
	})
	if err != nil {
		return err
	}
	return verdict
}

func watchRedis(conn net.Conn, o options) (*attached, error) {
	if _, ok := conn.(*tls.Conn); ok {
		return &attached{Conn: conn, probe: func() error { return nil }}, nil
	}
	raw, err := rawOf(conn)
	if err != nil {
		return nil, err
	}
	return &attached{Conn: conn, probe: func() error { return redisCheck(conn, raw) }}, nil
}

func redisCheck(conn net.Conn, raw syscall.RawConn) error {
	conn.SetDeadline(time.Time{})
	var verdict error
	err := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case n == 0 && err == nil:
			verdict = io.EOF
		case n > 0:
			verdict = errUnexpectedRead
		case err == unix.EAGAIN:
		default:
			verdict = err
		}
		return true
	})
	if err != nil {
		return err
	}
	return verdict
}

func watchDeadline(conn net.Conn, o options) (*attached, error) {
	// A driver takes any byte for a broken connection; none keeps it.
	return &attached{Conn: conn, probe: func() error { return deadlineCheck(conn) }}, nil
}

func deadlineCheck(conn net.Conn) error {
	conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	defer conn.SetReadDeadline(time.Time{})
	var b [1]byte
	_, err := conn.Read(b[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err == nil {
		return errUnexpectedRead
	}
	return err
}

// parked has a goroutine in a Read of one byte, as net/http's background read.
type parked struct {
	net.Conn
	result chan struct{} // closed when the Read returned
	mu     sync.Mutex
	head   []byte
	err    error
}

func watchParked(conn net.Conn, o options) (*attached, error) {
	p := &parked{Conn: conn, result: make(chan struct{})}
	gone := make(chan struct{})
	if o.readIdle > 0 {
		conn.SetReadDeadline(time.Now().Add(o.readIdle))
	}
	go func() {
		var b [1]byte
		n, err := conn.Read(b[:])
		p.head, p.err = b[:n], err
		close(p.result)
		// Its own time-out is an end only if that is what was asked for.
		if err != nil && (o.readIdle > 0 || !errors.Is(err, os.ErrDeadlineExceeded)) && !errors.Is(err, net.ErrClosed) {
			close(gone)
		}
	}()
	return &attached{Conn: p, gone: gone, closeErr: func() error { return p.err }}, nil
}

func (p *parked) Read(b []byte) (int, error) {
	<-p.result
	p.mu.Lock()
	if n := copy(b, p.head); n > 0 {
		p.head = p.head[n:]
		p.mu.Unlock()
		return n, nil
	}
	err := p.err
	p.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	return p.Conn.Read(b)
}

func (p *parked) CloseRead() error { return p.Conn.(interface{ CloseRead() error }).CloseRead() }

func watchOptions(conn net.Conn, o options) (*attached, error) {
	if raw, err := rawOf(conn); err == nil {
		tune(raw, o, true)
	}
	return watchParked(conn, o)
}

// ---- a dup in an epoll of its own

type dupWatcher struct {
	epfd int
	mu   sync.Mutex
	gone map[int32]chan struct{}
}

var dups = sync.OnceValues(func() (*dupWatcher, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	w := &dupWatcher{epfd: epfd, gone: make(map[int32]chan struct{})}
	go func() {
		events := make([]unix.EpollEvent, 128)
		for {
			n, err := unix.EpollWait(epfd, events, -1)
			if err != nil && err != unix.EINTR {
				return
			}
			for _, e := range events[:max(n, 0)] {
				w.mu.Lock()
				if c := w.gone[e.Fd]; c != nil {
					close(c)
					delete(w.gone, e.Fd)
					unix.Close(int(e.Fd))
				}
				w.mu.Unlock()
			}
		}
	}()
	return w, nil
})

func watchDup(conn net.Conn, o options) (*attached, error) {
	w, err := dups()
	if err != nil {
		return nil, err
	}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("%T has no SyscallConn", conn)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	gone := make(chan struct{})
	var dup int
	var dupErr error
	if err := raw.Control(func(fd uintptr) { dup, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, dupErr
	}
	w.mu.Lock()
	w.gone[int32(dup)] = gone
	w.mu.Unlock()
	err = unix.EpollCtl(w.epfd, unix.EPOLL_CTL_ADD, dup, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLERR | unix.EPOLLONESHOT, Fd: int32(dup),
	})
	return &attached{Conn: conn, gone: gone}, err
}

// ---- net/http

func httpPrelude(unread bool) string {
	if unread {
		return "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
	}
	return "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
}

type rawKey struct{}

func serveHTTP(o options, accepted chan<- *attached) (string, func(), error) {
	lc := net.ListenConfig{KeepAlive: -1}
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if raw, err := rawOf(conn); err == nil {
				tune(raw, o, false)
			}
			return context.WithValue(ctx, rawKey{}, conn)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			over := make(chan struct{})
			conn := r.Context().Value(rawKey{}).(net.Conn)
			s := &attached{
				gone: r.Context().Done(),
				write: func(b []byte) error {
					if _, err := w.Write(b); err != nil {
						return err
					}
					return http.NewResponseController(w).Flush()
				},
				release: sync.OnceFunc(func() { close(over); conn.Close() }),
			}
			accepted <- s
			select {
			case <-over:
			case <-time.After(time.Minute):
			}
		}),
	}
	go srv.Serve(l)
	return l.Addr().String(), func() { srv.Close() }, nil
}

// ---- event loops

func freeAddr() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// loopConn is what the application knows of a connection in an event loop.
type loopConn struct {
	gone chan struct{}
	got  atomic.Int64
	mu   sync.Mutex
	err  error
	once sync.Once
}

func (l *loopConn) ended(err error) {
	l.once.Do(func() {
		l.mu.Lock()
		l.err = err
		l.mu.Unlock()
		close(l.gone)
	})
}

func (l *loopConn) attached() *attached {
	return &attached{
		gone:     l.gone,
		received: func() int { return int(l.got.Load()) },
		closeErr: func() error { l.mu.Lock(); defer l.mu.Unlock(); return l.err },
	}
}

var quietNetpoll = sync.OnceFunc(func() { netpoll.SetLoggerOutput(io.Discard) })

func serveNetpoll(o options, accepted chan<- *attached) (string, func(), error) {
	quietNetpoll()
	l, err := netpoll.CreateListener("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	var conns sync.Map
	loop, err := netpoll.NewEventLoop(func(ctx context.Context, c netpoll.Connection) error {
		r := c.Reader()
		n := r.Len()
		if lc, ok := conns.Load(c); ok {
			lc.(*loopConn).got.Add(int64(n))
		}
		if echo.Load() {
			b, err := r.Next(n)
			if err != nil {
				return err
			}
			c.Writer().WriteBinary(b)
			c.Writer().Flush()
			return r.Release()
		}
		return r.Skip(n)
	}, netpoll.WithOnPrepare(func(c netpoll.Connection) context.Context {
		lc := &loopConn{gone: make(chan struct{})}
		conns.Store(c, lc)
		if f, ok := c.(netpoll.Conn); ok {
			tuneFD(f.Fd(), o, false)
		}
		c.AddCloseCallback(func(netpoll.Connection) error { conns.Delete(c); lc.ended(nil); return nil })
		s := lc.attached()
		s.closeErr = nil
		s.write = func(b []byte) error {
			_, err := c.Write(append([]byte(nil), b...))
			return err
		}
		s.probe = func() error {
			if !c.IsActive() {
				return errGone
			}
			return nil
		}
		s.release = func() { c.Close() }
		accepted <- s
		return context.Background()
	}))
	if err != nil {
		return "", nil, err
	}
	go loop.Serve(l)
	return l.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		loop.Shutdown(ctx)
	}, nil
}

// echo has the event loops answer what they receive.
var echo atomic.Bool

type gnetHandler struct {
	gnet.BuiltinEventEngine
	o        options
	accepted chan<- *attached
	booted   chan gnet.Engine
}

func (h *gnetHandler) OnBoot(e gnet.Engine) gnet.Action { h.booted <- e; return gnet.None }

func (h *gnetHandler) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	lc := &loopConn{gone: make(chan struct{})}
	c.SetContext(lc)
	tuneFD(c.Fd(), h.o, false)
	s := lc.attached()
	s.write = func(b []byte) error {
		done := make(chan error, 1)
		err := c.AsyncWrite(append([]byte(nil), b...), func(_ gnet.Conn, err error) error { done <- err; return nil })
		if err != nil {
			return err
		}
		select {
		case err := <-done:
			return err
		case <-time.After(time.Second):
			return errors.New("not written")
		}
	}
	s.release = func() { c.Close() }
	h.accepted <- s
	return nil, gnet.None
}

func (h *gnetHandler) OnTraffic(c gnet.Conn) gnet.Action {
	b, _ := c.Next(-1)
	c.Context().(*loopConn).got.Add(int64(len(b)))
	if echo.Load() {
		c.Write(b)
	}
	return gnet.None
}

func (h *gnetHandler) OnClose(c gnet.Conn, err error) gnet.Action {
	if lc, ok := c.Context().(*loopConn); ok {
		lc.ended(err)
	}
	return gnet.None
}

func serveGnet(o options, accepted chan<- *attached) (string, func(), error) {
	addr, err := freeAddr()
	if err != nil {
		return "", nil, err
	}
	h := &gnetHandler{o: o, accepted: accepted, booted: make(chan gnet.Engine, 1)}
	failed := make(chan error, 1)
	go func() {
		failed <- gnet.Run(h, "tcp4://"+addr, gnet.WithLogger(noLog{}), gnet.WithMulticore(true))
	}()
	select {
	case e := <-h.booted:
		waitListening(addr)
		return addr, func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			e.Stop(ctx)
		}, nil
	case err := <-failed:
		return "", nil, err
	}
}

// noLog has gnet say nothing.
type noLog struct{}

func (noLog) Debugf(string, ...any) {}
func (noLog) Infof(string, ...any)  {}
func (noLog) Warnf(string, ...any)  {}
func (noLog) Errorf(string, ...any) {}
func (noLog) Fatalf(string, ...any) {}

// waitListening waits until the address is bound, without a connection that the
// server would see.
func waitListening(addr string) {
	for range 200 {
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			return
		}
		l.Close()
		time.Sleep(time.Millisecond)
	}
}

func serveNbio(o options, accepted chan<- *attached) (string, func(), error) {
	nbiolog.SetLevel(nbiolog.LevelNone)
	addr, err := freeAddr()
	if err != nil {
		return "", nil, err
	}
	e := nbio.NewEngine(nbio.Config{Network: "tcp", Addrs: []string{addr}})
	e.OnOpen(func(c *nbio.Conn) {
		lc := &loopConn{gone: make(chan struct{})}
		c.SetSession(lc)
		if raw, err := c.SyscallConn(); err == nil {
			tune(raw, o, false)
		}
		if o.readIdle > 0 {
			c.SetReadDeadline(time.Now().Add(o.readIdle))
		}
		s := lc.attached()
		s.write = func(b []byte) error { _, err := c.Write(b); return err }
		s.release = func() { c.Close() }
		accepted <- s
	})
	e.OnData(func(c *nbio.Conn, data []byte) {
		c.Session().(*loopConn).got.Add(int64(len(data)))
		if echo.Load() {
			c.Write(append([]byte(nil), data...))
		}
	})
	e.OnClose(func(c *nbio.Conn, err error) {
		if lc, ok := c.Session().(*loopConn); ok {
			lc.ended(err)
		}
	})
	if err := e.Start(); err != nil {
		return "", nil, err
	}
	return addr, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		e.Shutdown(ctx)
	}, nil
}
