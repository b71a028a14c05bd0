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
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

// A fakeSocket is one end of a TCP connection, reduced to what tells how it ended:
// the rules are those of tcp_recvmsg, tcp_sendmsg, tcp_fin and tcp_reset. It is
// the kernel of a Conn, and by way of fakeConn what the Conn wraps. It never
// waits: a call that would is one that the test must not make.
type fakeSocket struct {
	unread    int   // bytes received that nobody has read
	fin       bool  // the peer's FIN is here
	over      error // errReset or errTimedOut: what ended the connection other than two FINs
	pending   error // what the next call takes of that
	readShut  bool  // we have shut down reading
	writeShut bool  // we have sent our FIN
	closed    bool  // the descriptor is gone

	expired atomic.Bool // the deadline has passed; the library may set it in a goroutine of its own

	result  error  // of the last Read or Write
	between func() // happens once, after an I/O method has returned to the Conn and before the Conn looks
}

func (s *fakeSocket) fails() bool { return s.closed || s.over != nil }

// The steps of the network.

func (s *fakeSocket) dataArrives() { s.unread++ }
func (s *fakeSocket) finArrives()  { s.fin = true }

func (s *fakeSocket) dies(errno error) {
	s.over, s.pending = errno, errno
	if s.fin && errno == errReset {
		s.pending = errBrokenPipe
	}
}

var errBrokenPipe error = syscall.EPIPE

// look is an ideal one: it tells the truth.
func (s *fakeSocket) look(hint) sight {
	if f := s.between; f != nil {
		s.between = nil
		f()
	}
	seen := sight{outcome: open, fin: s.fin}
	switch {
	case s.closed:
		return sight{outcome: closed}
	case s.over != nil:
		seen.outcome, seen.errno = aborted, s.over
	case s.fin && s.writeShut:
		seen.outcome = finished
	case s.fin:
		seen.outcome = finSeen
	}
	return seen
}

func (s *fakeSocket) shut(read, write bool) {}

// ended is the oracle: the reason for which a look must report an end now, nil
// while the connection lives. It knows nothing of sights.
func (s *fakeSocket) ended(allowHalfClose bool) error {
	switch {
	case s.closed:
		return net.ErrClosed
	case s.fin && !allowHalfClose:
		return ErrPeerClosed // whatever came behind
	case s.over == errReset:
		return ErrPeerReset
	case s.over == errTimedOut:
		return ErrPeerLost
	case s.fin && s.writeShut:
		return ErrPeerClosed
	}
	return nil
}

// A fakeConn is a fakeSocket as package net would present it.
type fakeConn struct{ *fakeSocket }

var _ interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
} = fakeConn{}

func fakeError(op string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "fake", Err: err}
}

// mayRead reports whether a Read returns now.
func (s *fakeSocket) mayRead() bool {
	return s.fails() || s.expired.Load() || s.unread > 0 || s.fin || s.readShut
}

func (c fakeConn) Read(b []byte) (n int, err error) {
	defer func() { c.result = err }()
	switch {
	case c.closed:
		return 0, fakeError("read", net.ErrClosed)
	case c.expired.Load():
		return 0, fakeError("read", os.ErrDeadlineExceeded)
	case c.unread > 0:
		c.unread--
		return 1, nil
	case c.fin:
		return 0, io.EOF // whatever came behind
	case c.pending != nil:
		err := c.pending
		c.pending = nil
		return 0, fakeError("read", err)
	case c.over != nil || c.readShut:
		return 0, io.EOF
	}
	panic("Read would wait")
}

func (c fakeConn) Write(b []byte) (n int, err error) {
	defer func() { c.result = err }()
	switch {
	case c.closed:
		return 0, fakeError("write", net.ErrClosed)
	case c.expired.Load():
		return 0, fakeError("write", os.ErrDeadlineExceeded)
	case c.pending != nil:
		err := c.pending
		c.pending = nil
		return 0, fakeError("write", err)
	case c.over != nil || c.writeShut:
		return 0, fakeError("write", errBrokenPipe)
	}
	return len(b), nil
}

func (c fakeConn) Close() error {
	if c.closed {
		return fakeError("close", net.ErrClosed)
	}
	c.closed = true
	return nil
}

func (c fakeConn) CloseRead() error {
	if c.closed {
		return fakeError("close", net.ErrClosed)
	}
	c.readShut = true
	return nil
}

func (c fakeConn) CloseWrite() error {
	switch {
	case c.closed:
		return fakeError("close", net.ErrClosed)
	case c.over != nil:
		return fakeError("shutdown", syscall.ENOTCONN)
	}
	c.writeShut = true
	return nil
}

func (c fakeConn) LocalAddr() net.Addr  { return &net.UnixAddr{Net: "fake", Name: "here"} }
func (c fakeConn) RemoteAddr() net.Addr { return &net.UnixAddr{Net: "fake", Name: "there"} }

func (c fakeConn) SetDeadline(t time.Time) error {
	c.expired.Store(!t.IsZero())
	return nil
}
func (c fakeConn) SetReadDeadline(t time.Time) error  { return c.SetDeadline(t) }
func (c fakeConn) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }

// An episode is one life of one Conn, step by step, and what the Conn must have
// told so far.
type episode struct {
	t      *testing.T
	sock   *fakeSocket
	conn   *Conn
	allow  bool // Config.AllowHalfClose
	moves  []move
	steps  path
	failed bool

	want  error // the reason that must have been reported; nil as long as none has to be
	first error // the first Err that was not nil
	held  sight // taken by a look that has not judged it yet, if holds
	holds bool
	hold  error // the reason in held, by the oracle

	overruled bool // want is a verdict of the library's own

	// On a connection without a socket: what results of I/O have shown.
	socketless bool
	finKnown   bool

	told *callbacks

	*realEnd // nil if all is fake
}

// A realEnd is a connection of the kernel, which the fakeSocket foretells.
type realEnd struct {
	size int // of each Write of the peer
	bare *net.TCPConn
	raw  syscall.RawConn
	peer *livenesstest.Peer
}

// A path is the moves that were made, by their index.
type path struct {
	move [8]uint8
	n    int
}

func (p *path) String(moves []move) string {
	var names []string
	for _, i := range p.move[:p.n] {
		names = append(names, moves[i].name)
	}
	return strings.Join(names, "; ")
}

// callbacks are counted in goroutines that outlive the episode.
type callbacks struct {
	steps   path
	want    error        // the reason that must be told; nil if there was no end
	n       atomic.Int32 // of the one callback that nobody stopped
	stopped atomic.Int32 // of the one that was stopped
	err     error        // what was told; set before n
	early   atomic.Bool  // Err or Done were not set before the callback
}

func (e *episode) fail(format string, args ...any) {
	if !e.failed {
		e.failed = true
		e.t.Errorf("AllowHalfClose %t, direct %t: %s:\n\t%s", e.allow, e.conn.direct, e.steps.String(e.moves), fmt.Sprintf(format, args...))
	}
}

// looked says that the Conn has just looked: what the truth is now must be told.
func (e *episode) looked() {
	if e.want == nil {
		e.want = e.truth()
	}
}

// truth is the oracle: the reason for an end that may be reported now.
func (e *episode) truth() error {
	if !e.socketless {
		return e.sock.ended(e.allow)
	}
	if e.finKnown && (!e.allow || e.sock.writeShut) {
		return ErrPeerClosed
	}
	return nil
}

var sentinels = []error{ErrPeerClosed, ErrPeerReset, ErrPeerLost, ErrPeerStalled, ErrPeerIdle, net.ErrClosed}

// check holds after every step.
func (e *episode) check() {
	err := e.conn.Err()
	if e.want == nil && err != nil {
		// Sooner than it had to, but perhaps true.
		if e.want = e.truth(); e.want == nil {
			e.fail("reported while alive: %v", err)
			return
		}
	}
	if e.want != nil && err == nil {
		e.fail("not reported: want %v", e.want)
		return
	}
	if err != nil {
		if e.first == nil {
			e.first = err
			for _, reason := range sentinels {
				if errors.Is(err, reason) != (reason == e.want) {
					e.fail("Err is %v; want %v", err, e.want)
				}
			}
			if _, ok := err.(*net.OpError); !ok {
				e.fail("Err is a %T", err)
			}
		}
		if err != e.first {
			e.fail("Err was %v and is %v", e.first, err)
		}
	}
	select {
	case <-e.conn.Done():
		if err == nil {
			e.fail("Done is closed and Err is nil")
		}
	default:
		if err != nil {
			e.fail("Err is %v and Done is not closed", err)
		}
	}
}

// judge compares what Read or Write returned with what the wrapped connection did.
func (e *episode) judge(read bool, inner, err error) {
	switch {
	case e.overruled && isDeadline(inner):
		if !errors.Is(err, e.want) || isDeadline(err) {
			e.fail("%v became %v after %v", inner, err, e.want)
		}
		if timeout, ok := err.(net.Error); !ok || timeout.Timeout() {
			e.fail("%v, and its Timeout() keeps a retry loop going", err)
		}
		return
	case inner == nil || isDeadline(inner):
		if err != inner {
			e.fail("%v became %v", inner, err)
		}
		return // no look is asked for
	case e.socketless:
		switch {
		case errors.Is(inner, io.EOF):
			e.finKnown = e.finKnown || !e.sock.readShut // or it is our own doing, for all that can be known
		case errors.Is(inner, errReset):
			e.expect(ErrPeerReset)
		case errors.Is(inner, errTimedOut):
			e.expect(ErrPeerLost)
		case errors.Is(inner, errBrokenPipe) && !e.sock.writeShut:
			e.expect(ErrPeerReset)
		case errors.Is(inner, net.ErrClosed):
			e.expect(net.ErrClosed)
		}
	}
	e.looked()
	cutOff := inner == io.EOF && e.conn.direct && !e.sock.fin && e.sock.over != nil
	switch {
	case !read || !cutOff:
		if err != inner {
			e.fail("%v became %v", inner, err)
		}
	case e.want == net.ErrClosed || e.sock.closed:
		// Nobody can know any more what happened, and nobody is misled by either.
	case !errors.Is(err, e.sock.over):
		e.fail("Read of a stream that was cut off by %v: %v", e.sock.over, err)
	default:
		if timeout, ok := err.(net.Error); !ok || timeout.Timeout() {
			e.fail("Read returns %v for ever, and its Timeout() keeps a retry loop going", err)
		}
	}
}

func (e *episode) expect(reason error) {
	if e.want == nil {
		e.want = reason
	}
}

// A move is one step of an episode.
type move struct {
	name   string
	silent bool                // nothing looks, so the library cannot tell anything
	may    func(*episode) bool // whether the step says something new; nil for always
	do     func(*episode)
}

// clockMove is a verdict of the library's own, and the end of whatever waits. A
// foreign connection is interrupted in a goroutine.
var clockMove = move{"clock: lost", false, alive, func(e *episode) {
	e.conn.overrule(ErrPeerLost, errTimedOut, new(sample), 0)
	e.expect(ErrPeerLost)
	e.overruled = true
	for deadline := time.Now().Add(10 * time.Second); !e.sock.expired.Load() && time.Now().Before(deadline); {
		runtime.Gosched()
	}
}}

// alive is for moves that say nothing new once the end has been told.
func alive(e *episode) bool { return e.conn.Err() == nil }

// The network moves. A connection that both sides have finished is no more.
var networkMoves = []move{
	{"data arrives", true,
		func(e *episode) bool { return !e.sock.fails() && !e.sock.fin && e.sock.unread == 0 },
		func(e *episode) { e.sock.dataArrives() }},
	{"FIN arrives", true,
		func(e *episode) bool { return !e.sock.fails() && !e.sock.fin },
		func(e *episode) { e.sock.finArrives() }},
	{"RST arrives", true,
		func(e *episode) bool { return !e.sock.fails() && !(e.sock.fin && e.sock.writeShut) },
		func(e *episode) { e.sock.dies(errReset) }},
	{"kernel gives up", true,
		func(e *episode) bool { return !e.sock.fails() && !(e.sock.fin && e.sock.writeShut) },
		func(e *episode) { e.sock.dies(errTimedOut) }},
}

var applicationMoves = []move{
	{"Alive, Status", false, nil, func(e *episode) {
		alive := e.conn.Alive()
		if !e.socketless {
			e.looked()
		}
		if err := e.conn.Err(); alive != (err == nil) {
			e.fail("Alive %t, Err %v", alive, err)
		}
		status := e.conn.Status()
		want := Connected
		switch {
		case e.want != nil:
			want = Disconnected
		case e.socketless && e.finKnown, !e.socketless && e.sock.fin:
			want = HalfClosed
		case e.socketless:
			want = Unknown
		}
		if status.State != want || status.Err != e.conn.Err() {
			e.fail("Status is %v, %v; want %v, %v", status.State, status.Err, want, e.conn.Err())
		}
	}},
	{"Read", false,
		func(e *episode) bool { return e.sock.mayRead() },
		func(e *episode) { e.read() }},
	{"Write", false, nil, func(e *episode) { e.write() }},
	{"Close", false, nil, func(e *episode) { e.close() }},
	{"CloseRead", true,
		func(e *episode) bool { return alive(e) && !e.sock.fails() && !e.sock.readShut },
		func(e *episode) { _ = e.conn.CloseRead() }},
	{"CloseWrite", false,
		func(e *episode) bool { return alive(e) && !e.sock.fails() && !e.sock.writeShut },
		func(e *episode) {
			_ = e.conn.CloseWrite()
			e.looked()
		}},
	{"SetDeadline(past)", true,
		func(e *episode) bool { return alive(e) && !e.sock.expired.Load() && !e.sock.closed },
		func(e *episode) { _ = e.conn.SetDeadline(time.Unix(1, 0)) }},
	{"SetDeadline(none)", true,
		func(e *episode) bool { return e.sock.expired.Load() && !e.sock.closed },
		func(e *episode) {
			_ = e.conn.SetDeadline(time.Time{})
			if e.sock.expired.Load() != e.overruled {
				e.fail("a deadline of the user's overruled a verdict")
			}
		}},
}

// socketMoves need a kernel that shows something.
var socketMoves = []move{
	{"event", false, alive, func(e *episode) {
		e.conn.look(hint{event: true})
		e.looked()
	}},
	// A look that is overtaken: between its evidence and its verdict things happen.
	{"look begins", true,
		func(e *episode) bool { return !e.holds && alive(e) },
		func(e *episode) { e.held, e.hold, e.holds = e.sock.look(hint{}), e.truth(), true }},
	{"look ends", false,
		func(e *episode) bool { return e.holds },
		func(e *episode) {
			e.conn.judge(e.held)
			e.expect(e.hold)
			e.holds = false
		}},
	// Behind the library's back.
	{"NetConn().Write", true,
		func(e *episode) bool { return e.sock.pending != nil && !e.sock.closed && !e.sock.expired.Load() },
		func(e *episode) { _, _ = e.conn.NetConn().Write(make([]byte, 1)) }},
	{"NetConn().CloseWrite", true,
		func(e *episode) bool { return !e.sock.fails() && !e.sock.writeShut },
		func(e *episode) { _ = e.conn.NetConn().(fakeConn).CloseWrite() }},
	{"NetConn().Close", true,
		func(e *episode) bool { return !e.sock.closed },
		func(e *episode) { _ = e.conn.NetConn().Close() }},
}

// between are the moves between a Read, or a Write, and the look that its error
// causes, which another goroutine may make.
func between(name string, do func(*episode), errs func(*episode) bool) []move {
	others := append(slices.Clone(networkMoves[1:]), move{"Close", false, nil, func(e *episode) { e.close() }})
	var moves []move
	for _, other := range others {
		moves = append(moves, move{name + " (" + other.name + ")", false,
			func(e *episode) bool {
				return errs(e) && alive(e) && !e.sock.expired.Load() && !e.sock.closed &&
					(other.may == nil || other.may(e))
			},
			func(e *episode) {
				e.sock.between = func() { other.do(e) }
				do(e)
				e.sock.between = nil
			}})
	}
	return moves
}

func (e *episode) read() {
	_, err := e.conn.Read(make([]byte, 1))
	e.judge(true, e.sock.result, err)
}

func (e *episode) write() {
	if e.overruled {
		e.sock.result = fakeError("write", os.ErrDeadlineExceeded) // which need not be asked for
	}
	_, err := e.conn.Write(make([]byte, 1))
	e.judge(false, e.sock.result, err)
}

func (e *episode) close() {
	e.expect(net.ErrClosed) // Close asks nobody
	_ = e.conn.Close()
}

// explore runs every sequence of depth moves, and whatever can be done after an
// end too.
func explore(t *testing.T, depth int, moves []move, begin func() *episode) (all []*callbacks) {
	var choice [8]int // at each depth: which of the moves that can be made
	var doable [8][]uint8
	for failures := 0; failures < 5; {
		e := begin()
		e.moves = moves
		for i := range depth {
			doable[i] = doable[i][:0]
			for n, m := range moves {
				// What happens last must be something that looks.
				if (i < depth-1 || !m.silent) && (m.may == nil || m.may(e)) {
					doable[i] = append(doable[i], uint8(n))
				}
			}
			n := doable[i][choice[i]]
			e.steps.move[i], e.steps.n = n, i+1
			moves[n].do(e)
			e.check()
			if e.failed {
				failures++
				for j := i + 1; j < depth; j++ {
					choice[j], doable[j] = 0, doable[j][:0] // what follows has nothing to add
				}
				break
			}
		}
		if !e.failed {
			e.told.steps, e.told.want = e.steps, e.want
			all = append(all, e.told)
		}
		last := depth - 1
		for last >= 0 && choice[last]+1 >= len(doable[last]) {
			choice[last] = 0
			last--
		}
		if last < 0 {
			break
		}
		choice[last]++
	}
	return all
}

// newEpisode begins with a connection that is well.
func newEpisode(t *testing.T, allow, direct, socketless bool) *episode {
	s := new(fakeSocket)
	e := &episode{t: t, sock: s, allow: allow, socketless: socketless, told: new(callbacks)}
	e.conn = &Conn{inner: fakeConn{s}, kernel: s, direct: direct, allowHalfClose: allow}
	if socketless {
		e.conn.kernel = new(ioResults)
	}
	e.register()
	return e
}

// register asks to be told.
func (e *episode) register() {
	c, told := e.conn, e.told
	c.OnDisconnect(func(err error) {
		if c.Err() == nil || c.Err() != err {
			told.early.Store(true)
		}
		select {
		case <-c.Done():
		default:
			told.early.Store(true)
		}
		told.err = err
		told.n.Add(1)
	})
	stop := c.OnDisconnect(func(error) { told.stopped.Add(1) })
	if !stop() {
		e.fail("stop of a callback that has not begun returned false")
	}
}

// settle waits for the callbacks of all episodes, and counts them.
func settle(t *testing.T, goroutines int, moves []move, all []*callbacks) {
	for _, c := range all {
		for c.want != nil && c.n.Load() == 0 {
			runtime.Gosched()
		}
	}
	// A second call for one end would still be on its way.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	failures := 0
	for _, c := range all {
		want := int32(0)
		if c.want != nil {
			want = 1
		}
		if n := c.n.Load(); n != want || c.stopped.Load() != 0 || c.early.Load() || !errors.Is(c.err, c.want) {
			t.Errorf("%s: %d callbacks, %d of one that was stopped, before Err and Done: %t, told %v; want %d, %v",
				c.steps.String(moves), n, c.stopped.Load(), c.early.Load(), c.err, want, c.want)
			if failures++; failures == 5 {
				return
			}
		}
	}
}

func joinMoves(lists ...[]move) []move { return slices.Concat(lists...) }

// Everything that can happen to a connection in four steps, or five where nothing
// slows the test down, in every order, is told as it was.
func TestInterleavings(t *testing.T) {
	depth := 5
	if testing.Short() || RaceBuild {
		depth = 4
	}
	readFails := func(e *episode) bool { return e.sock.mayRead() && e.sock.unread == 0 }
	writeFails := func(e *episode) bool { return e.sock.over != nil || e.sock.writeShut }
	moves := joinMoves(networkMoves, applicationMoves, socketMoves,
		between("Read", (*episode).read, readFails), between("Write", (*episode).write, writeFails))

	for _, allow := range []bool{false, true} {
		for _, direct := range []bool{true, false} {
			moves := moves
			if !direct {
				// Beneath one that is not, a verdict of the clock is for a real descriptor to show.
				moves = joinMoves(moves, []move{clockMove})
			}
			t.Run(fmt.Sprintf("AllowHalfClose=%t,direct=%t", allow, direct), func(t *testing.T) {
				goroutines := runtime.NumGoroutine()
				d := depth
				if !direct {
					d-- // it differs in what Read returns alone
				}
				all := explore(t, d, moves, func() *episode { return newEpisode(t, allow, direct, false) })
				settle(t, goroutines, moves, all)
				t.Logf("%d sequences of %d steps", len(all), d)
			})
		}
	}
}

// The same for a connection without a socket, of which results of I/O are all
// that can be known. Reads and Writes of others are then not to be known.
func TestInterleavingsWithoutSocket(t *testing.T) {
	depth := 5
	if testing.Short() || RaceBuild {
		depth = 4
	}
	moves := joinMoves(networkMoves, applicationMoves, []move{clockMove})
	for _, allow := range []bool{false, true} {
		t.Run(fmt.Sprintf("AllowHalfClose=%t", allow), func(t *testing.T) {
			goroutines := runtime.NumGoroutine()
			all := explore(t, depth, moves, func() *episode { return newEpisode(t, allow, false, true) })
			settle(t, goroutines, moves, all)
			t.Logf("%d sequences of %d steps", len(all), depth)
		})
	}
}

// The verdict, as a table: what a look shows, and whether the peer may have
// finished sending and still be there.
func TestVerdict(t *testing.T) {
	other := errors.New("something else")
	for _, test := range []struct {
		sight       sight
		end, halves error // without and with AllowHalfClose; nil is no end
	}{
		{sight{}, nil, nil},
		{sight{outcome: blind, fin: true, errno: errReset}, nil, nil}, // nothing was seen
		{sight{outcome: open}, nil, nil},
		{sight{outcome: open, errno: errReset}, nil, nil},
		{sight{outcome: finSeen, fin: true}, ErrPeerClosed, nil},
		{sight{outcome: finished, fin: true}, ErrPeerClosed, ErrPeerClosed},
		{sight{outcome: aborted, errno: errReset}, ErrPeerReset, ErrPeerReset},
		{sight{outcome: aborted, errno: errTimedOut}, ErrPeerLost, ErrPeerLost},
		{sight{outcome: aborted, errno: other}, ErrPeerReset, ErrPeerReset},
		{sight{outcome: aborted}, ErrPeerReset, ErrPeerReset},
		{sight{outcome: aborted, fin: true, errno: errReset}, ErrPeerClosed, ErrPeerReset},
		{sight{outcome: aborted, fin: true, errno: errTimedOut}, ErrPeerClosed, ErrPeerLost},
		{sight{outcome: closed}, net.ErrClosed, net.ErrClosed},
	} {
		for allow, want := range map[bool]error{false: test.end, true: test.halves} {
			err := test.sight.verdict(allow)
			if (err != nil) != (want != nil) {
				t.Errorf("%+v, AllowHalfClose %t: %v; want %v", test.sight, allow, err, want)
				continue
			}
			if err == nil {
				continue
			}
			for _, reason := range sentinels {
				if errors.Is(err, reason) != (reason == want) {
					t.Errorf("%+v, AllowHalfClose %t: %v; want %v", test.sight, allow, err, want)
				}
			}
			// The errno is there whenever it is the cause, and never beside another.
			if errno := test.sight.errno; errno != nil && errors.Is(err, errno) != (want != ErrPeerClosed) {
				t.Errorf("%+v, AllowHalfClose %t: %v has the errno: %t", test.sight, allow, err, errors.Is(err, errno))
			}
		}
	}
}

// What each errno says, once the kernel has said that the connection is over.
func TestReasonOf(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("package syscall names the errnos of Windows otherwise")
	}
	for _, test := range []struct {
		errno  error
		reason error
	}{
		{syscall.ECONNRESET, ErrPeerReset},
		{syscall.EPIPE, ErrPeerReset},
		{syscall.ECONNABORTED, ErrPeerReset},
		{syscall.ETIMEDOUT, ErrPeerLost},
		{syscall.EHOSTUNREACH, ErrPeerLost},
		{syscall.ENETUNREACH, ErrPeerLost},
		{syscall.EHOSTDOWN, ErrPeerLost},
		{syscall.ENETDOWN, ErrPeerLost},
		{syscall.ECONNREFUSED, ErrPeerLost},
		{syscall.ENOTCONN, ErrPeerLost}, // MPTCP
		{syscall.EPROTO, ErrPeerReset},
		{errors.New("no errno"), ErrPeerReset},
		{nil, ErrPeerReset},
	} {
		if got := reasonOf(test.errno); got != test.reason {
			t.Errorf("%v: %v; want %v", test.errno, got, test.reason)
		}
		if got, want := isLost(test.errno), test.reason == ErrPeerLost; got != want {
			t.Errorf("isLost(%v) is %t", test.errno, got)
		}
	}
}

// TestCloseAfterFoundLost uses a connection whose peer the kernel found lost after it
// was closed: what fails then is our own doing.
func TestCloseAfterFoundLost(t *testing.T) {
	t.Parallel()
	conn, _ := livenesstest.Pair(t, "tcp4")
	c, err := Wrap(conn, &Config{PeerTimeout: time.Minute})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.judge(sight{outcome: aborted, errno: errTimedOut})
	if err := c.Err(); !errors.Is(err, ErrPeerLost) {
		t.Fatal(err)
	}
	c.Close()
	b := make([]byte, 1)
	if _, err := c.Read(b); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read: %v", err)
	}
	if _, err := c.Write(b); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
	if _, err := c.WriteBuffers(&net.Buffers{b}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("WriteBuffers: %v", err)
	}
}
