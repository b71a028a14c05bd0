package liveness_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// An ending is one way in which a connection ends, the loads on which it is played, and what must be reported.
type ending struct {
	name   string
	act    func(*scene)
	reason error   // nil: the connection does not end, and is HalfClosed
	read   lastErr // what Read returns behind the data
	on     []string
	finRST bool // a FIN and a reset may both be there at the first check
}

// A lastErr is the error behind the last byte that Read returns.
type lastErr string

const (
	eof       lastErr = "EOF"
	reset     lastErr = "the errno of a reset"
	closedErr lastErr = "net.ErrClosed"
	anyErr    lastErr = "any error" // the kernel's own answer differs from run to run
)

// TestEndings plays every ending on real sockets. A load is a network, and any of: tls (the application has a *tls.Conn above
// the Conn), over (the Conn wraps a *tls.Conn), foreign (it wraps a type of the application's), reader, writer (goroutines that
// wait), unread (bytes that nobody reads), half (AllowHalfClose), early (it happens before Wrap), process (the peer is one).
func TestEndings(t *testing.T) {
	for _, e := range endings {
		for _, on := range e.on {
			t.Run(strings.ReplaceAll(e.name+"/"+on, " ", "_"), func(t *testing.T) {
				t.Parallel()
				testutil.Deadline(t)
				e.play(t, on)
			})
		}
	}
}

var endings = []ending{
	{"peer closes", (*scene).peerCloses, liveness.ErrPeerClosed, eof, []string{
		"tcp4", "tcp6 reader", "unix", "unix reader", "mptcp", "mptcp reader", "tcp4 tls reader", "tcp4 over", "tcp4 foreign",
		"tcp4 unread", "unix unread", "mptcp unread", "tcp4 tls unread", "tcp6 over unread", "unix half", "tcp4 early unread", "unix early",
	}, false},
	{"peer closes under a writer", (*scene).peerCloses, liveness.ErrPeerClosed, eof, []string{
		"tcp4 writer", "tcp4 reader writer", "tcp4 unread writer",
	}, true},
	// tcp_reset sets EPIPE in CLOSE_WAIT. MPTCP returns it in place of the end of file if Read comes before Write.
	{"peer closes under a writer, two orders", (*scene).peerCloses, liveness.ErrPeerClosed, anyErr, []string{
		"mptcp writer", "mptcp unread writer", "mptcp tls unread writer", "unix writer",
	}, true},
	{"peer closes, half-close allowed", (*scene).peerCloses, nil, eof, []string{"tcp4 half", "tcp4 half unread", "tcp6 tls half", "mptcp half"}, false},
	{"peer closes, half-close allowed, under a writer", (*scene).peerCloses, liveness.ErrPeerReset, anyErr, []string{"tcp4 half writer", "tcp6 half writer"}, false},
	{"peer closes one half", (*scene).peerClosesWrite, liveness.ErrPeerClosed, eof, []string{
		"tcp4", "tcp6 unread", "unix", "mptcp", "tcp4 reader writer", "unix writer", "tcp4 tls", "tcp4 over",
	}, false},
	{"peer closes one half, half-close allowed", (*scene).peerClosesWrite, nil, eof, []string{
		"tcp4 half", "tcp4 half writer", "unix half reader", "mptcp half", "tcp4 half unread", "tcp4 tls half",
	}, false},
	{"both close one half", (*scene).bothCloseWrite, liveness.ErrPeerClosed, eof, []string{"tcp4 half", "unix half", "mptcp half", "tcp4 half unread", "tcp6"}, false},
	{"both close one half, ours first", func(s *scene) { s.shut(); s.wire.CloseWrite() }, liveness.ErrPeerClosed, eof, []string{
		"tcp4", "tcp4 half", "unix half", "mptcp", "tcp4 reader",
	}, false},
	{"peer resets", (*scene).peerResets, liveness.ErrPeerReset, reset, []string{
		"tcp4", "tcp6", "unix", "mptcp", "tcp4 reader", "tcp4 writer", "tcp6 reader writer", "unix writer", "unix reader writer", "tcp4 tls", "tcp4 over", "tcp4 foreign",
		"tcp4 unread", "unix unread", "mptcp unread", "tcp4 unread writer", "tcp4 half", "unix half", "mptcp half", "tcp4 early unread", "unix early unread", "mptcp early",
	}, false},
	{"peer closes one half, then resets", func(s *scene) { s.peerClosesWrite(); s.noticesFIN(); s.peerResets() }, liveness.ErrPeerReset, anyErr, []string{
		"tcp4 half", "mptcp half", "tcp6 half unread",
	}, false},
	{"FIN and reset at once", func(s *scene) { s.peerClosesWrite(); s.peerResets() }, liveness.ErrPeerClosed, anyErr, []string{
		"tcp4", "tcp6", "tcp4 unread", "tcp4 early", "tcp4 early unread",
	}, true},
	{"FIN and reset at once, half-close allowed", func(s *scene) { s.peerClosesWrite(); s.peerResets() }, liveness.ErrPeerReset, anyErr, []string{
		"tcp4 half", "tcp4 early half unread",
	}, false},
	{"peer is killed", func(s *scene) { s.process.Drain(); s.process.Kill() }, liveness.ErrPeerClosed, eof, []string{
		"tcp4 process", "unix process reader", "mptcp process",
	}, false},
	{"peer is killed with unread data", func(s *scene) { s.feed(); s.process.Kill() }, liveness.ErrPeerReset, reset, []string{
		"tcp4 process", "tcp4 process writer", "unix process", "tcp6 process reader half",
	}, false},
	{"own Close", func(s *scene) { s.watched().Close() }, net.ErrClosed, closedErr, []string{
		"tcp4", "unix reader", "mptcp reader writer", "tcp4 tls reader", "tcp4 over writer", "tcp4 unread", "tcp4 half", "tcp4 foreign reader",
	}, false},
}

func (e *ending) play(t *testing.T, on string) {
	s := newScene(t, on)
	if e.finRST && !testutil.RemembersFIN() {
		t.Skip("once a connection is over, this system does not show that a FIN came before")
	}
	if s.has("unread") && !testutil.Notices && !s.has("reader") {
		t.Skip("this system shows no end behind unread data")
	}
	if s.has("unread") && testutil.Wine() && e.reason != liveness.ErrPeerReset {
		t.Skip("Wine, unlike Windows, shows no FIN behind unread data")
	}
	if s.has("writer") && testutil.Wine() && e.reason == liveness.ErrPeerReset {
		t.Skip("Wine, unlike Windows, tells of no reset once a Write has its errno")
	}
	e.act(s)
	if s.has("early") {
		s.settle()
		s.wrap()
	}
	if e.reason == nil {
		s.noticesFIN()
		s.lives(liveness.HalfClosed, liveness.Stalled)
	} else {
		reason := e.reason
		if s.has("mptcp") && s.has("writer") && reason == liveness.ErrPeerClosed {
			// The RST that answers the writer may be seen together with the FIN before it, and
			// MPTCP keeps no state that tells them apart.
			testutil.Await(t, s.watched().Done())
			if errors.Is(s.watched().Err(), liveness.ErrPeerReset) {
				reason = liveness.ErrPeerReset
			}
		}
		s.ended(reason)
	}
	before := s.watched().Err()
	if s.has("unread") && before != net.ErrClosed && runtime.GOOS == "linux" && !errors.Is(before, net.ErrClosed) {
		if n := s.watched().Status().Unread; n < len(message) || !s.has("tls") && !s.has("over") && n > len(message) {
			t.Errorf("Status().Unread = %d, the peer sent %d", n, len(message))
		}
	}
	s.checkRead(e.read)
	s.watched().Close()
	s.conn.Close()
	if s.writes != nil && testutil.Await(t, s.writes) == nil {
		t.Error("the Write that waited returned no error")
	}
	if before == nil {
		s.ended(net.ErrClosed)
	} else if after := s.watched().Err(); after != before {
		t.Errorf("Err was %v and became %v", before, after)
	}
}

// checkRead checks what the application reads after the end.
func (s *scene) checkRead(want lastErr) {
	s.Helper()
	if s.reads == nil {
		s.reads = testutil.GoReadAll(s.conn)
	}
	got := testutil.Await(s.T, s.reads)
	switch ok := true; want {
	case eof:
		if ok = got.Err == io.EOF; !ok {
			s.Errorf("Read returned %v, want EOF", got.Err)
		}
	case reset:
		if ok = errors.Is(got.Err, testutil.ErrnoReset()); !ok {
			s.Errorf("Read returned %v at the end of a stream that was cut off", got.Err)
		}
	case closedErr:
		if ok = errors.Is(got.Err, net.ErrClosed); !ok {
			s.Errorf("Read returned %v after our own Close", got.Err)
		}
		return
	}
	if !bytes.Equal(got.Data, s.sent) && (testutil.KeepsUnread || want == eof) {
		s.Errorf("read %d bytes, the peer sent %d", len(got.Data), len(s.sent))
	}
}

// message is what the peer sends. The smallest receive buffer has room for it.
var message = bytes.Repeat([]byte("last words "), 90)

// A scene is one connection, its two ends, and who waits in ours.
type scene struct {
	*testing.T
	load    []string
	bare    net.Conn              // our socket
	conn    net.Conn              // what the application has
	w       *witness              // of the Conn; nil before wrap
	wire    *livenesstest.Peer    // the peer's socket
	peer    net.Conn              // what the peer's application has
	process *livenesstest.Process // instead of both
	full    bool                  // nothing more can be written
	sent    []byte                // by the peer
	reads   <-chan testutil.Stream
	writes  <-chan error
}

// A foreignConn has a socket, and is not a type of package net.
type foreignConn struct{ *net.TCPConn }

// newScene makes the connection and its load.
func newScene(t *testing.T, load string) *scene {
	t.Helper()
	s := &scene{T: t, load: strings.Fields(load)}
	network := s.load[0]
	if s.has("process") {
		s.bare, s.process = testutil.PairWithProcess(t, network)
	} else {
		s.bare, s.wire = livenesstest.Pair(t, network)
		s.peer = s.wire
	}
	s.conn = s.bare
	if s.has("foreign") {
		s.conn = foreignConn{s.bare.(*net.TCPConn)}
	}
	if s.has("over") {
		s.secure()
	}
	if !s.has("early") {
		s.wrap()
	}
	if s.has("tls") {
		s.secure()
	}
	if s.has("writer") {
		s.fill()
		s.writes = testutil.GoWrite(s.conn)
	}
	if s.has("reader") {
		s.reads = testutil.GoReadAll(s.conn)
	}
	if s.has("unread") {
		s.send(message)
	}
	return s
}

func (s *scene) has(word string) bool    { return slices.Contains(s.load, word) }
func (s *scene) watched() *liveness.Conn { return s.w.conn }

func (s *scene) wrap() {
	s.w = watch(s.T, s.conn, liveness.Config{AllowHalfClose: s.has("half")})
	s.conn = s.w.conn
}

func (s *scene) secure() {
	s.Helper()
	var theirs *tls.Conn
	s.conn, theirs = testutil.Secure(s.T, s.conn, s.wire.Conn)
	s.peer = theirs
}

// socket is our end beneath TLS: the Conn where it is there, else the bare socket.
func (s *scene) socket() net.Conn {
	if s.w != nil && !s.has("over") {
		return s.w.conn
	}
	return s.bare
}

// fill leaves no room for another Write. Beneath TLS the peer will not look.
func (s *scene) fill() {
	testutil.Fill(s.socket())
	s.full = true
}

func (s *scene) send(b []byte) {
	s.Helper()
	_, err := s.peer.Write(b)
	testutil.Must(s.T, err)
	s.sent = append(s.sent, b...)
}

// feed makes sure that the peer has something unread, in place of which AF_UNIX can reset.
func (s *scene) feed() {
	if !s.full {
		s.bare.Write([]byte{0})
	}
}

func (s *scene) peerCloses()      { testutil.Must(s.T, s.wire.Close()) }
func (s *scene) peerClosesWrite() { testutil.Must(s.T, s.wire.CloseWrite()) }
func (s *scene) bothCloseWrite()  { s.peerClosesWrite(); s.noticesFIN(); s.shut() }
func (s *scene) shut() {
	testutil.Must(s.T, s.socket().(interface{ CloseWrite() error }).CloseWrite())
}

func (s *scene) peerResets() {
	s.Helper()
	if s.load[0] == "unix" {
		s.feed()
	}
	testutil.MustOrSkip(s.T, s.wire.Reset())
}

// noticesFIN waits until the FIN has been seen.
func (s *scene) noticesFIN() {
	s.Helper()
	if s.has("unread") && testutil.Wine() {
		s.Skip("Wine, unlike Windows, shows no FIN behind unread data")
	}
	testutil.Until(s.T, "the FIN is seen", func() bool { return liveness.Check(s.bare) != nil })
	if s.w != nil {
		s.w.conn.Alive()
	}
}

// settle waits until what the peer did has arrived: loopback keeps the order.
func (s *scene) settle() {
	s.Helper()
	testutil.Until(s.T, "the end has arrived", func() bool { return liveness.Check(s.bare) != nil })
	barrier(s.T)
}

func (s *scene) ended(reason error)             { s.Helper(); s.w.ended(reason) }
func (s *scene) lives(states ...liveness.State) { s.Helper(); s.w.lives(states...) }

// A witness hears of the end of one Conn in every way that there is.
type witness struct {
	*testing.T
	conn       *liveness.Conn
	configured chan error // by Config.OnDisconnect
	registered chan error // by the method OnDisconnect
	ordered    chan error // what was wrong in the order of Err, Done and callbacks
	context    context.Context
	heard      bool // ended has received what there was
}

// watch wraps conn, and hears of its end. What is reported twice, or in another order, fails the test.
func watch(t *testing.T, conn net.Conn, cfg liveness.Config) *witness {
	t.Helper()
	w := &witness{T: t, configured: make(chan error, 10), registered: make(chan error, 10), ordered: make(chan error, 10)}
	wrapped := make(chan *liveness.Conn, 1)
	cfg.OnDisconnect = func(c *liveness.Conn, err error) {
		if conn := <-wrapped; c != conn {
			w.ordered <- fmt.Errorf("called for %p, Wrap returned %p", c, conn)
		}
		w.inOrder(c, err)
		w.configured <- err
	}
	c, err := liveness.Wrap(conn, &cfg)
	testutil.Must(t, err)
	cfg = liveness.Config{OnDisconnect: func(*liveness.Conn, error) { w.ordered <- errors.New("the Config was not copied") }}
	wrapped <- c
	w.conn = c
	if !testutil.Notices && c.Err() == nil && c.Status().State == liveness.Unknown {
		t.Skipf("nothing can be seen of %T on %s", conn, runtime.GOOS)
	}
	c.OnDisconnect(func(err error) { w.inOrder(c, err); w.registered <- err })
	ctx, cancel := c.Context(t.Context())
	w.context = ctx
	t.Cleanup(func() {
		cancel()
		c.Close()
		if w.heard && len(w.configured)+len(w.registered) > 0 {
			t.Error("the end was reported twice")
		}
		for len(w.ordered) > 0 {
			t.Error(<-w.ordered)
		}
	})
	return w
}

// inOrder is called in a callback: Err is set before, and Done closed.
func (w *witness) inOrder(c *liveness.Conn, err error) {
	if c.Err() != err {
		w.ordered <- fmt.Errorf("a callback got %v, but Err() = %v", err, c.Err())
	}
	select {
	case <-c.Done():
	default:
		w.ordered <- errors.New("a callback ran before Done was closed")
	}
}

// ended waits for the end, and checks that every way to hear of it says the same. No check is made before where the
// system reports the end by an event.
func (w *witness) ended(reason error) {
	w.Helper()
	c := w.conn
	if !testutil.Notices {
		testutil.Until(w.T, "Alive() = false", func() bool { return !c.Alive() })
	}
	testutil.Await(w.T, c.Done())
	err := c.Err()
	w.checkError(err, reason)
	late := make(chan error, 1)
	if stop := c.OnDisconnect(func(err error) { late <- err }); stop() {
		w.Error("stop() = true after the end")
	}
	for how, got := range map[string]error{
		"Config.OnDisconnect": testutil.Await(w.T, w.configured), "OnDisconnect": testutil.Await(w.T, w.registered),
		"OnDisconnect after the end": testutil.Await(w.T, late), "Check": liveness.Check(c), "Status": c.Status().Err,
	} {
		if got != err {
			w.Errorf("%s: %v, Err() = %v", how, got, err)
		}
	}
	ctx, cancel := c.Context(context.Background())
	defer cancel()
	for _, ctx := range []context.Context{w.context, ctx} {
		testutil.Await(w.T, ctx.Done())
		if cause := context.Cause(ctx); cause != err {
			w.Errorf("the cause of a context is %v, Err() = %v", cause, err)
		}
	}
	if c.Alive() || c.Status().State != liveness.Disconnected {
		w.Errorf("Alive() = %t, Status() = %+v after the end", c.Alive(), c.Status())
	}
	w.heard = true
}

var reasons = []error{liveness.ErrPeerClosed, liveness.ErrPeerReset, liveness.ErrPeerLost, liveness.ErrPeerStalled, liveness.ErrPeerIdle, net.ErrClosed}

// checkError checks that err has this reason and no other, the errno, and the form of package net.
func (w *witness) checkError(err, reason error) {
	w.Helper()
	for _, r := range reasons {
		if errors.Is(err, r) != (r == reason) {
			w.Fatalf("the end is %v, want %v", err, reason)
		}
	}
	if errors.Is(err, testutil.ErrnoReset()) != (reason == liveness.ErrPeerReset) || errors.Is(err, io.EOF) != (reason == liveness.ErrPeerClosed) {
		w.Errorf("%v: the errno of a reset belongs to a reset, and io.EOF to a close", err)
	}
	op, ok := err.(*net.OpError)
	if !ok {
		w.Fatalf("the end is a %T, want a *net.OpError", err)
	}
	local, remote := w.conn.LocalAddr(), w.conn.RemoteAddr()
	if op.Op != "watch" || op.Net != local.Network() || op.Source.String() != local.String() || op.Addr.String() != remote.String() {
		w.Errorf("the end is %#v, want the addresses of the connection and watch", op)
	}
	timeout := reason == liveness.ErrPeerLost || reason == liveness.ErrPeerStalled || reason == liveness.ErrPeerIdle
	if op.Timeout() != timeout || op.Temporary() || errors.Is(err, os.ErrDeadlineExceeded) {
		w.Errorf("%v: Timeout() = %t, Temporary() = %t", err, op.Timeout(), op.Temporary())
	}
}

// lives checks that nothing reports an end, and that the state is one of these.
func (w *witness) lives(states ...liveness.State) {
	w.Helper()
	barrier(w.T)
	c := w.conn
	if alive, err, check := c.Alive(), c.Err(), liveness.Check(c); !alive || err != nil || check != nil {
		w.Errorf("Alive() = %t, Err() = %v, Check = %v", alive, err, check)
	}
	if status := c.Status(); !slices.Contains(states, status.State) || status.Err != nil {
		w.Errorf("Status() = %+v, want %v", status, states)
	}
	if len(w.configured) > 0 || len(w.registered) > 0 || w.context.Err() != nil {
		w.Error("a callback or a context heard of an end")
	}
	select {
	case <-c.Done():
		w.Error("Done is closed")
	default:
	}
}

// wrap is Wrap, closed with the test.
func wrap(t testing.TB, conn net.Conn, cfg *liveness.Config) *liveness.Conn {
	t.Helper()
	c, err := liveness.Wrap(conn, cfg)
	testutil.Must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// barrier returns when every event that the kernel raised before the call has been handled: the kernel lists them in order.
func barrier(t *testing.T) {
	t.Helper()
	if testutil.Notices {
		conn, peer := livenesstest.Pair(t, "tcp4")
		c := wrap(t, conn, nil)
		done := c.Done()
		peer.Close()
		testutil.Await(t, done)
		c.Close()
	}
}

// needsChecks skips a test of what a check shows, where there is none.
func needsChecks(t *testing.T) {
	t.Helper()
	conn, _ := livenesstest.Pair(t, "tcp4")
	if err := liveness.Check(conn); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
}
