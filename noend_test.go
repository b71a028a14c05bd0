package liveness_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// A noEnding is what does not end a connection, whatever it looks like. After it come, on a connection each, the endings of
// then, which must still be seen.
type noEnding struct {
	name  string
	act   func(*scene)
	state liveness.State // zero is Connected
	on    []string
	then  string // of "close", "reset" and "own Close"

	needsState bool // only the state of TCP tells it from an end
}

var noEndings = []noEnding{
	{name: "expired deadline", act: (*scene).expireDeadlines, on: []string{"tcp4", "unix", "mptcp", "tcp4 tls", "tcp4 over"}, then: "close reset own"},
	{name: "expired deadline under a reader and a writer", act: func(s *scene) {
		s.fill()
		reads, writes := testutil.GoReadAll(s.conn), testutil.GoWrite(s.conn)
		s.conn.SetDeadline(time.Now().Add(time.Millisecond))
		s.wantDeadline(testutil.Await(s.T, reads).Err)
		s.wantDeadline(testutil.Await(s.T, writes))
	}, on: []string{"tcp4", "unix", "mptcp"}, then: "close reset own"},
	{name: "unread bytes", act: func(s *scene) { s.send(message); s.send(message) },
		on: []string{"tcp4", "tcp6", "unix", "mptcp", "tcp4 tls", "tcp4 foreign"}, then: "close reset own"},
	{name: "TLS session tickets", act: func(s *scene) { s.swap() }, on: []string{"tcp4", "unix"}, then: "reset own"},
	{name: "own CloseRead", act: func(s *scene) { testutil.Must(s.T, s.watched().CloseRead()) },
		on: []string{"tcp4", "unix", "tcp4 tls"}, then: "close reset own"},
	// MPTCP then shows nothing of the peer's FIN.
	{name: "own CloseRead on MPTCP", act: func(s *scene) { testutil.Must(s.T, s.watched().CloseRead()) }, on: []string{"mptcp"}, then: "reset own"},
	{name: "own CloseWrite", act: func(s *scene) { s.feed(); testutil.Must(s.T, s.watched().CloseWrite()) },
		on: []string{"tcp4", "tcp4 half", "unix", "mptcp"}, then: "close reset own"},
	{name: "own CloseRead and CloseWrite", act: func(s *scene) {
		s.feed()
		testutil.Must(s.T, s.watched().CloseWrite())
		testutil.Must(s.T, s.watched().CloseRead())
	}, on: []string{"tcp4", "tcp6 half"}, then: "close reset own"},
	// Elsewhere no end is seen after it: documented.
	{name: "own CloseRead and CloseWrite on others", act: func(s *scene) {
		s.feed()
		testutil.Must(s.T, s.watched().CloseWrite())
		testutil.Must(s.T, s.watched().CloseRead())
	}, on: []string{"unix", "mptcp"}, then: "own"},
	{name: "own CloseRead through NetConn", act: func(s *scene) {
		testutil.Must(s.T, s.bare.(*net.TCPConn).CloseRead())
		s.lives(liveness.Connected) // it is an event, and so is what comes next
		s.send(message)
	}, on: []string{"tcp4"}, then: "close reset own", needsState: true},
	{name: "own CloseWrite through NetConn", act: func(s *scene) {
		s.feed()
		testutil.Must(s.T, s.bare.(interface{ CloseWrite() error }).CloseWrite())
	}, on: []string{"tcp4", "unix", "mptcp"}, then: "reset own"},
	{name: "both through NetConn", act: func(s *scene) {
		testutil.Must(s.T, s.bare.(*net.TCPConn).CloseWrite())
		testutil.Must(s.T, s.bare.(*net.TCPConn).CloseRead())
	}, on: []string{"tcp4"}, then: "close reset own", needsState: true},
	// It takes no bytes any more in place of which AF_UNIX could reset.
	{name: "CloseRead of the peer", act: func(s *scene) {
		testutil.Must(s.T, s.wire.NetConn().(interface{ CloseRead() error }).CloseRead())
	}, on: []string{"tcp4", "unix"}, then: "close own"},
	{name: "zero window", act: func(s *scene) { s.fill(); s.fill() }, on: []string{"tcp4", "unix", "mptcp", "tcp4 tls"}, then: "close reset own"},
	{name: "short outage", act: func(s *scene) {
		mend, err := livenesstest.Cut(s.bare, s.wire)
		testutil.MustOrSkip(s.T, err)
		s.lives(liveness.Connected)
		testutil.Must(s.T, mend())
	}, on: []string{"tcp4", "tcp6"}, then: "close reset own"},
	{name: "reset of the source of a ReadFrom", act: func(s *scene) {
		source, peer := livenesstest.Pair(s.T, "tcp4")
		w := watch(s.T, source, liveness.Config{})
		peer.Reset()
		w.ended(liveness.ErrPeerReset)
		if n, err := s.watched().ReadFrom(w.conn); n != 0 || !errors.Is(err, testutil.ErrnoReset()) {
			s.Errorf("ReadFrom = %d, %v, want the errno of the source", n, err)
		}
	}, on: []string{"tcp4", "unix"}, then: "close reset own", needsState: true},
	{name: "reset of the destination of a WriteTo", act: func(s *scene) {
		destination, peer := livenesstest.Pair(s.T, "tcp4")
		w := watch(s.T, destination, liveness.Config{})
		peer.Reset()
		w.ended(liveness.ErrPeerReset)
		s.send(message)
		if _, err := s.watched().WriteTo(w.conn); err == nil {
			s.Error("WriteTo a connection that was reset returned no error")
		}
	}, on: []string{"tcp4", "unix"}, then: "close reset own"},
	{name: "half-close that is allowed", act: func(s *scene) {
		s.peerClosesWrite()
		if got := testutil.ReadAll(s.conn); got.Err != io.EOF {
			s.Errorf("Read returned %v after the FIN, want EOF", got.Err)
		}
		s.passes(s.conn, s.peer) // the response still gets there
	}, state: liveness.HalfClosed, on: []string{"tcp4 half", "tcp6 half tls", "unix half", "mptcp half"}, then: "reset own"},
}

// TestNoEndings plays what does not end a connection, and then an end.
func TestNoEndings(t *testing.T) { playNoEndings(t, noEndings) }

func playNoEndings(t *testing.T, list []noEnding) {
	for _, n := range list {
		for _, on := range n.on {
			for _, end := range strings.Fields(n.then) {
				t.Run(strings.ReplaceAll(n.name+"/"+on+"/"+end, " ", "_"), func(t *testing.T) {
					t.Parallel()
					testutil.Deadline(t)
					n.play(t, on, end)
				})
			}
		}
	}
}

func (n *noEnding) play(t *testing.T, on, end string) {
	if !testutil.Notices && (n.needsState || end != "own") {
		t.Skipf("no check on %s sees behind unread data, or tells the two apart", runtime.GOOS)
	}
	if n.needsState && end == "close" && !testutil.RemembersFIN() {
		t.Skip("once a connection is over, this system does not show that a FIN came before")
	}
	s := newScene(t, on)
	n.act(s)
	state := max(n.state, liveness.Connected)
	switch s.lives(state, liveness.Stalled, liveness.Suspect); end {
	case "close":
		if len(s.sent) > 0 && testutil.Wine() {
			t.Skip("Wine, unlike Windows, shows no FIN behind unread data")
		}
		s.peerCloses()
		if s.has("half") {
			s.watched().CloseWrite() // both directions are finished then
		}
		s.ended(liveness.ErrPeerClosed)
	case "reset":
		s.peerResets()
		s.ended(liveness.ErrPeerReset)
	case "own":
		s.watched().Close()
		s.ended(net.ErrClosed)
	}
}

func (s *scene) wantDeadline(err error) {
	s.Helper()
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		s.Errorf("got %v behind a deadline", err)
	}
}

func (s *scene) expireDeadlines() {
	for _, ahead := range []time.Duration{-time.Second, time.Millisecond} {
		s.conn.SetReadDeadline(time.Now().Add(ahead))
		_, err := s.conn.Read(make([]byte, 1))
		s.wantDeadline(err)
	}
	s.conn.SetReadDeadline(time.Time{})
	s.passes(s.conn, s.peer)
	s.passes(s.peer, s.conn)
}

// passes checks that bytes get from one end to the other.
func (s *scene) passes(from, to net.Conn) {
	s.Helper()
	got := make(chan string, 1)
	go func() {
		buf := make([]byte, len(message))
		io.ReadFull(to, buf)
		got <- string(buf)
	}()
	if _, err := from.Write(message); err != nil {
		s.Error(err)
	}
	if got := testutil.Await(s.T, got); got != string(message) {
		s.Errorf("got %d other bytes", len(got))
	}
}

// swap puts TLS above with our end as the client. Go's server sends tickets to a client that keeps them, and only behind the
// client's certificate are they not in the flight that the handshake reads.
func (s *scene) swap() {
	s.Helper()
	serverConfig, clientConfig := testutil.TLSConfigs(s.T)
	serverConfig, clientConfig = serverConfig.Clone(), clientConfig.Clone()
	serverConfig.ClientAuth = tls.RequestClientCert
	clientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	ours, theirs := tls.Client(s.conn, clientConfig), tls.Server(s.wire.Conn, serverConfig)
	done := make(chan error, 1)
	go func() { done <- theirs.Handshake() }()
	testutil.Must(s.T, ours.Handshake())
	testutil.Must(s.T, testutil.Await(s.T, done))
	s.conn, s.peer = ours, theirs
	if runtime.GOOS == "linux" {
		testutil.Until(s.T, "the tickets have come", func() bool { return s.watched().Status().Unread > 0 })
	}
}
