//go:build unix || windows

package liveness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/sock"
	"github.com/go-liveness/liveness/internal/supervise"
	"github.com/go-liveness/liveness/internal/testutil/race"
)

// This file is the model of a connection: every order of event, check, I/O error, verdict of
// the clock, Close and deadline, on a fake kernel.

// What follows, to the next rule, is all that the model needs of the library's internals.

// newModelConn returns a Conn on a fake socket. direct says that the socket is that of the wrapped
// connection itself, socketless that only results of I/O tell of it.
func newModelConn(s *fakeSocket, allowHalfClose, direct, socketless bool) *Conn {
	c := &Conn{inner: fakeConn{s}, handle: new(handle)}
	c.foreign = &foreign{named: beneath.NamedOf(c.inner), checker: s}
	c.sock.direct, c.sock.allowHalfClose = direct, allowHalfClose
	c.timeoutsOf() // a verdict needs time-outs
	c.handle.Init(c.handle)
	if socketless {
		c.foreign.checker = new(pipe)
	}
	return c
}

// modelEvent is an event of the poller, and modelLost a verdict of the clock.
func modelEvent(c *Conn) { c.check(trigger{event: unspecified}) }
func modelLost(c *Conn) {
	c.endByTimeout(&cause{reason: ErrPeerLost, err: errno.TimedOut}, new(supervise.Sample))
}

// beginCheck asks the fake kernel, and end hands over what it showed then.
func beginCheck(c *Conn, s *fakeSocket) (end func()) {
	o := s.check(trigger{})
	return func() { c.observe(o) }
}

// check is that of a fake socket: an ideal one, which tells the truth.
func (s *fakeSocket) check(trigger) observation {
	if f := s.between; f != nil {
		s.between = nil
		f()
	}
	o := observation{outcome: connected, fin: s.fin}
	switch {
	case s.closed:
		return observation{outcome: closedLocally}
	case s.over != nil:
		o.outcome, o.errno = aborted, s.over
	case s.fin && s.writeShut:
		o.outcome = bothFinished
	case s.fin:
		o.outcome = peerFinished
	}
	return o
}

func (s *fakeSocket) shut(sock.Direction) (undo func()) { return func() {} }

// ------------------------------------------------------------------------------------

// A fakeSocket is one end of a TCP connection, reduced to what tells how it ended, by the rules
// of tcp_recvmsg, tcp_sendmsg, tcp_fin and tcp_reset. It never waits.
type fakeSocket struct {
	unread    int   // bytes received that nobody has read
	fin       bool  // the peer's FIN is here
	over      error // errno.Reset or errno.TimedOut: what ended the connection other than two FINs
	pending   error // what the next call takes of that
	readShut  bool  // we have shut down reading
	writeShut bool  // we have sent our FIN
	closed    bool  // the descriptor is gone

	expired atomic.Bool // the deadline has passed; the library may set it in a goroutine of its own
	result  error       // of the last Read or Write
	between func()      // happens once, after an I/O method has returned and before the check that it triggers
}

func (s *fakeSocket) fails() bool { return s.closed || s.over != nil }
func (s *fakeSocket) done() bool  { return s.fails() || s.fin && s.writeShut }
func (s *fakeSocket) mayRead() bool {
	return s.fails() || s.expired.Load() || s.unread > 0 || s.fin || s.readShut
}

func (s *fakeSocket) dies(cause error) {
	if s.over, s.pending = cause, cause; s.fin && cause == errno.Reset {
		s.pending = syscall.EPIPE
	}
}

// ended is the oracle: the reason for which a check must report an end now.
func (s *fakeSocket) ended(allowHalfClose bool) error {
	switch {
	case s.closed:
		return net.ErrClosed
	case s.fin && !allowHalfClose:
		return ErrPeerClosed // whatever came behind
	case s.over == errno.Reset:
		return ErrPeerReset
	case s.over == errno.TimedOut:
		return ErrPeerLost
	case s.fin && s.writeShut:
		return ErrPeerClosed
	}
	return nil
}

// A fakeConn is a fakeSocket as package net presents it.
type fakeConn struct{ *fakeSocket }

func fakeError(op string, err error) error {
	if _, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: "fake", Err: err}
}

// do is what Read and Write have in common: nil means that they go on.
func (c fakeConn) do(op string) error {
	switch {
	case c.closed:
		return fakeError(op, net.ErrClosed)
	case c.expired.Load():
		return fakeError(op, os.ErrDeadlineExceeded)
	case op == "read" && (c.unread > 0 || c.fin):
		return nil // whatever came behind
	case c.pending != nil:
		err := c.pending
		c.pending = nil
		return fakeError(op, err)
	case op == "write" && (c.over != nil || c.writeShut):
		return fakeError(op, syscall.EPIPE)
	}
	return nil
}

func (c fakeConn) Read(b []byte) (n int, err error) {
	if err = c.do("read"); err == nil && c.unread > 0 {
		c.unread--
		n = 1
	} else if err == nil {
		err = io.EOF
	}
	c.result = err
	return n, err
}

func (c fakeConn) Write(b []byte) (int, error) {
	if c.result = c.do("write"); c.result != nil {
		return 0, c.result
	}
	return len(b), nil
}

func (c fakeConn) shutdown(half *bool, op string) error {
	switch {
	case c.closed:
		return fakeError("close", net.ErrClosed)
	case c.over != nil && op == "shutdown":
		return fakeError(op, syscall.ENOTCONN)
	}
	*half = true
	return nil
}

func (c fakeConn) Close() error                       { return c.shutdown(&c.closed, "close") }
func (c fakeConn) CloseRead() error                   { return c.shutdown(&c.readShut, "close") }
func (c fakeConn) CloseWrite() error                  { return c.shutdown(&c.writeShut, "shutdown") }
func (c fakeConn) LocalAddr() net.Addr                { return &net.UnixAddr{Net: "fake", Name: "here"} }
func (c fakeConn) RemoteAddr() net.Addr               { return &net.UnixAddr{Net: "fake", Name: "there"} }
func (c fakeConn) SetDeadline(t time.Time) error      { c.expired.Store(!t.IsZero()); return nil }
func (c fakeConn) SetReadDeadline(t time.Time) error  { return c.SetDeadline(t) }
func (c fakeConn) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }

// An episode is one life of one Conn, step by step, and what the Conn must have told so far.
type episode struct {
	t                         *testing.T
	sock                      *fakeSocket
	conn                      *Conn
	allow, direct, socketless bool
	steps                     []string
	failed                    bool

	want      error  // the reason that must have been reported; nil as long as none has to be
	first     error  // the first Err that was not nil
	ends      func() // ends the check that has begun; nil if none has
	hold      error  // the reason that it has seen, by the oracle
	byTimeout bool   // want is a verdict of the library's own
	finKnown  bool   // socketless: a Read has returned the end of the stream

	callbacks atomic.Int32
	early     atomic.Bool // a callback came before Err and Done
}

func (e *episode) fail(format string, args ...any) {
	if !e.failed {
		e.failed = true
		e.t.Errorf("%v:\n\t%s", e.steps, fmt.Sprintf(format, args...))
	}
}

// truth is the reason for an end that may be reported now.
func (e *episode) truth() error {
	switch {
	case !e.socketless:
		return e.sock.ended(e.allow)
	case e.finKnown && (!e.allow || e.sock.writeShut):
		return ErrPeerClosed
	}
	return nil
}

func (e *episode) expect(reason error) {
	if e.want == nil {
		e.want = reason
	}
}

// checked says that the Conn has just asked the kernel: what is true now must be told.
func (e *episode) checked() { e.expect(e.truth()) }

var sentinels = []error{ErrPeerClosed, ErrPeerReset, ErrPeerLost, ErrPeerStalled, ErrPeerIdle, net.ErrClosed}

// check holds after every step.
func (e *episode) check() {
	err := e.conn.Err()
	if err != nil {
		e.checked() // it may tell sooner than it has to
	}
	if e.first == nil {
		e.first = err
	}
	if _, ok := err.(*net.OpError); (err == nil) != (e.want == nil) || err != nil && !ok || err != e.first {
		e.fail("Err was %v and is %v (%T); want %v", e.first, err, err, e.want)
	}
	for _, reason := range sentinels {
		if err != nil && errors.Is(err, reason) != (reason == e.want) {
			e.fail("Err is %v; want %v", err, e.want)
		}
	}
	if e.told() != (err != nil) {
		e.fail("Err is %v and Done is closed: %t", err, e.told())
	}
}

func (e *episode) told() bool {
	select {
	case <-e.conn.Done():
		return true
	default:
		return false
	}
}

// compare compares what Read or Write returned with what the wrapped connection did.
func (e *episode) compare(op string, inner, err error) {
	if e.byTimeout && isDeadline(inner) {
		if timeout, ok := err.(net.Error); !errors.Is(err, e.want) || isDeadline(err) || !ok || timeout.Timeout() {
			e.fail("%v became %v after %v", inner, err, e.want)
		}
		return
	}
	if inner != nil && !isDeadline(inner) { // which trigger no check
		if e.socketless {
			e.learn(inner)
		}
		e.checked()
	}
	cutOff := op == "read" && inner == io.EOF && e.direct && !e.sock.fin && e.sock.over != nil
	timeout, ok := err.(net.Error)
	switch {
	case !cutOff && err != inner:
		e.fail("%v became %v", inner, err)
	case !cutOff, e.want == net.ErrClosed, e.sock.closed: // what happened cannot be known any more
	case !errors.Is(err, e.sock.over) || !ok || timeout.Timeout(): // such a stream never reads as complete
		e.fail("Read of a stream that was cut off by %v returned %v", e.sock.over, err)
	}
}

// learn is what the result of I/O says where there is nothing else.
func (e *episode) learn(inner error) {
	switch {
	case errors.Is(inner, io.EOF):
		e.finKnown = e.finKnown || !e.sock.readShut // or it is our own doing, for all that can be known
	case errors.Is(inner, errno.Reset), errors.Is(inner, syscall.EPIPE) && !e.sock.writeShut:
		e.expect(ErrPeerReset)
	case errors.Is(inner, errno.TimedOut):
		e.expect(ErrPeerLost)
	case errors.Is(inner, net.ErrClosed):
		e.expect(net.ErrClosed)
	}
}

func (e *episode) read() {
	_, err := e.conn.Read(make([]byte, 1))
	e.compare("read", e.sock.result, err)
}

func (e *episode) write() {
	if e.byTimeout {
		e.sock.result = fakeError("write", os.ErrDeadlineExceeded) // which need not be asked for
	}
	_, err := e.conn.Write(make([]byte, 1))
	e.compare("write", e.sock.result, err)
}

func (e *episode) close() {
	e.expect(net.ErrClosed) // Close asks nobody
	_ = e.conn.Close()
}

func (e *episode) status() {
	alive := e.conn.Alive()
	if !e.socketless {
		e.checked()
	}
	status, want := e.conn.Status(), Connected
	switch {
	case e.want != nil:
		want = Disconnected
	case e.socketless && e.finKnown, !e.socketless && e.sock.fin:
		want = HalfClosed
	case e.socketless:
		want = Unknown
	}
	if err := e.conn.Err(); alive != (err == nil) || status.State != want || status.Err != err {
		e.fail("Alive %t, Err %v, Status %v, %v; want %v", alive, err, status.State, status.Err, want)
	}
}

// lose is a verdict of the clock, which may end what waits in a goroutine.
func (e *episode) lose() {
	modelLost(e.conn)
	e.expect(ErrPeerLost)
	e.byTimeout = true
	for deadline := time.Now().Add(10 * time.Second); !e.sock.expired.Load() && time.Now().Before(deadline); {
		runtime.Gosched()
	}
}

// A move is one step of an episode. A silent one has the library ask nothing, and may says whether
// it says something new.
type move struct {
	name   string
	silent bool
	may    func(*episode) bool
	do     func(*episode)
}

func alive(e *episode) bool  { return e.conn.Err() == nil }
func always(e *episode) bool { return true }

var networkMoves = []move{
	{"data arrives", true, func(e *episode) bool { return !e.sock.done() && !e.sock.fin && e.sock.unread == 0 }, func(e *episode) { e.sock.unread++ }},
	{"FIN arrives", true, func(e *episode) bool { return !e.sock.fails() && !e.sock.fin }, func(e *episode) { e.sock.fin = true }},
	{"RST arrives", true, func(e *episode) bool { return !e.sock.done() }, func(e *episode) { e.sock.dies(errno.Reset) }},
	{"kernel gives up", true, func(e *episode) bool { return !e.sock.done() }, func(e *episode) { e.sock.dies(errno.TimedOut) }},
}

var applicationMoves = []move{
	{"Alive, Status", false, always, (*episode).status},
	{"Read", false, func(e *episode) bool { return e.sock.mayRead() }, (*episode).read},
	{"Write", false, always, (*episode).write},
	{"Close", false, always, (*episode).close},
	{"CloseRead", true, func(e *episode) bool { return alive(e) && !e.sock.fails() && !e.sock.readShut }, func(e *episode) { _ = e.conn.CloseRead() }},
	{"CloseWrite", false, func(e *episode) bool { return alive(e) && !e.sock.fails() && !e.sock.writeShut }, func(e *episode) { _ = e.conn.CloseWrite(); e.checked() }},
	{"SetDeadline(past)", true, func(e *episode) bool { return alive(e) && !e.sock.expired.Load() && !e.sock.closed }, func(e *episode) { _ = e.conn.SetDeadline(time.Unix(1, 0)) }},
	{"SetDeadline(none)", true, func(e *episode) bool { return e.sock.expired.Load() && !e.sock.closed }, func(e *episode) {
		if _ = e.conn.SetDeadline(time.Time{}); e.sock.expired.Load() != e.byTimeout {
			e.fail("a deadline of the application revived what a verdict had ended")
		}
	}},
}

var clockMove = move{"clock: lost", false, alive, (*episode).lose}

// socketMoves need a kernel that shows something.
var socketMoves = []move{
	{"event", false, alive, func(e *episode) { modelEvent(e.conn); e.checked() }},
	{"check begins", true, func(e *episode) bool { return e.ends == nil && alive(e) }, func(e *episode) { e.ends, e.hold = beginCheck(e.conn, e.sock), e.truth() }},
	{"check ends", false, func(e *episode) bool { return e.ends != nil }, func(e *episode) { e.ends(); e.expect(e.hold); e.ends = nil }},
	{"NetConn().Write", true, func(e *episode) bool { return e.sock.pending != nil && !e.sock.closed && !e.sock.expired.Load() }, func(e *episode) { _, _ = e.conn.NetConn().Write(make([]byte, 1)) }},
	{"NetConn().CloseWrite", true, func(e *episode) bool { return !e.sock.fails() && !e.sock.writeShut }, func(e *episode) { _ = e.conn.NetConn().(fakeConn).CloseWrite() }},
	{"NetConn().Close", true, func(e *episode) bool { return !e.sock.closed }, func(e *episode) { _ = e.conn.NetConn().Close() }},
}

// between are the moves between a Read or a Write that fails, and the check that its error triggers.
func between(name string, do func(*episode), fails func(*episode) bool) (moves []move) {
	for _, other := range append(slices.Clone(networkMoves[1:]), applicationMoves[3]) {
		moves = append(moves, move{name + " (" + other.name + ")", false, func(e *episode) bool {
			return fails(e) && alive(e) && !e.sock.expired.Load() && !e.sock.closed && other.may(e)
		}, func(e *episode) {
			e.sock.between = func() { other.do(e) }
			do(e)
			e.sock.between = nil
		}})
	}
	return moves
}

// play makes the moves of one episode.
func (e *episode) play(steps []move) *episode {
	e.sock = new(fakeSocket)
	e.conn = newModelConn(e.sock, e.allow, e.direct, e.socketless)
	e.conn.OnDisconnect(func(err error) {
		e.early.Store(!e.told() || e.conn.Err() != err)
		e.callbacks.Add(1)
	})
	for i := 0; i < len(steps) && !e.failed; i++ {
		e.steps = append(e.steps, steps[i].name)
		steps[i].do(e)
		e.check()
	}
	return e
}

// explore plays every sequence of moves that continues steps to depth, and returns the episodes.
func explore(begin func() *episode, depth int, moves, steps []move) (all []*episode) {
	e := begin().play(steps)
	if e.failed || len(steps) == depth {
		return []*episode{e}
	}
	for _, m := range moves {
		if (len(steps) < depth-1 || !m.silent) && m.may(e) {
			all = append(all, explore(begin, depth, moves, append(slices.Clone(steps), m))...)
		}
	}
	return all
}

func TestEveryOrderOfEventsIsToldAsItWas(t *testing.T) {
	depth := 4
	if testing.Short() || race.Enabled {
		depth = 3
	}
	readFails := func(e *episode) bool { return e.sock.mayRead() && e.sock.unread == 0 }
	writeFails := func(e *episode) bool { return e.sock.over != nil || e.sock.writeShut }
	socket := slices.Concat(networkMoves, applicationMoves, socketMoves, between("Read", (*episode).read, readFails), between("Write", (*episode).write, writeFails))
	for name, c := range map[string]struct {
		direct, socketless bool
		depth              int
		moves              []move
	}{
		"socket": {true, false, depth, socket},
		// Of a socket beneath another connection, a verdict of the clock ends what waits by a deadline of that one.
		"socket beneath": {false, false, depth - 1, slices.Concat(socket, []move{clockMove})},
		"no socket":      {false, true, depth, slices.Concat(networkMoves, applicationMoves, []move{clockMove})},
	} {
		for _, allow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, AllowHalfClose %t", name, allow), func(t *testing.T) {
				all := explore(func() *episode { return &episode{t: t, allow: allow, direct: c.direct, socketless: c.socketless} }, c.depth, c.moves, nil)
				t.Logf("%d sequences of %d steps", len(all), c.depth)
				for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
					wrong := slices.IndexFunc(all, func(e *episode) bool {
						return !e.failed && (e.callbacks.Load() == 1) != (e.want != nil) || e.callbacks.Load() > 1 || e.early.Load()
					})
					if wrong < 0 {
						break
					}
					if e := all[wrong]; time.Now().After(deadline) {
						t.Fatalf("%v: %d callbacks, before Err and Done: %t", e.steps, e.callbacks.Load(), e.early.Load())
					}
				}
			})
		}
	}
}
