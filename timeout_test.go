//go:build linux

package liveness_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// These tests cut real connections and wait for real timers, on the one system where both
// can be had without privileges.

// shortest is the shortest PeerTimeout.
const shortest = 4 * time.Second

// A load is what is on the way when the cable is cut.
type load string

const (
	idle         load = "idle"
	inFlight     load = "in flight"
	unsent       load = "unsent"
	closedWindow load = "behind a closed window"
)

// within is the time in which PeerTimeout promises ErrPeerLost.
func (what load) within(timeout time.Duration) time.Duration {
	if what == idle {
		return timeout + timeout/20 + 2*time.Second
	}
	return timeout + timeout/4 + time.Second
}

// prepare brings a line to where a load can be put on it.
func (what load) prepare(l *testutil.Line) {
	switch what {
	case unsent:
		l.Take(64<<10, 10*time.Millisecond)
	case closedWindow:
		l.Fill()
		l.WaitState(liveness.Stalled)
	}
}

// put puts the load on a line that is cut.
func (what load) put(l *testutil.Line) {
	switch what {
	case inFlight:
		write(l)
	case unsent:
		l.Fill()
	}
}

func write(l *testutil.Line) {
	l.Helper()
	if _, err := l.Above.Write([]byte("in flight")); err != nil && l.Conn.Alive() {
		l.Fatal(err)
	}
}

// heard is when the last sign of life came, at the latest.
func heard(l *testutil.Line) time.Time { return time.Now().Add(-l.Conn.Status().Silence) }

// A vanishing is one way in which a peer vanishes.
type vanishing struct {
	name    string
	config  liveness.Config                                       // PeerTimeout is 4 s if it is not set
	connect func(testing.TB, *liveness.Config) (l *testutil.Line) // nil is a line over TCP
	load    load                                                  // idle if it is not set
	cut     testutil.Direction                                    // both ways if it is not set
	act     func(*testutil.Line)                                  // after the cut
	from    func(cut, heard time.Time) (notBefore, by time.Time)  // nil is the promise of PeerTimeout for the load
	words   string                                                // in the error
}

func TestVanishedPeerIsLostInTime(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	var cases []vanishing
	for _, what := range []load{idle, inFlight, unsent, closedWindow} {
		for _, d := range []testutil.Direction{testutil.Both, testutil.ToPeer, testutil.FromPeer} {
			cases = append(cases, vanishing{name: string(what) + ", " + string(d), load: what, cut: d})
		}
	}
	for _, percent := range []time.Duration{10, 20, 33, 85} {
		cases = append(cases, vanishing{name: fmt.Sprintf("written %d%% after", percent), load: inFlight, act: writeAfter(shortest * percent / 100)})
	}
	cases = append(cases, whateverWrites...)
	cases = append(cases, otherVanishings...)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { t.Parallel(); c.play(t) })
	}
}

func (c vanishing) play(t *testing.T) {
	if c.config.PeerTimeout == 0 {
		c.config.PeerTimeout = shortest
	}
	if c.connect == nil {
		c.connect = func(tb testing.TB, cfg *liveness.Config) *testutil.Line { return testutil.NewLine(tb, cfg) }
	}
	if c.cut == "" {
		c.cut = testutil.Both
	}
	if c.load == "" {
		c.load = idle
	}
	l := c.connect(t, &c.config)
	c.load.prepare(l)
	last := heard(l)
	cut := time.Now()
	l.Cut(c.cut)
	if c.act != nil {
		c.act(l)
	} else {
		c.load.put(l)
	}
	notBefore, by := last.Add(c.config.PeerTimeout-testutil.Tick), cut.Add(c.load.within(c.config.PeerTimeout))
	if c.from != nil {
		notBefore, by = c.from(cut, last)
	}
	status := l.Ends(liveness.ErrPeerLost, notBefore, by)
	if c.from == nil && status.Silence < c.config.PeerTimeout-testutil.Tick {
		t.Errorf("lost after a silence of %v", status.Silence)
	}
	if text := l.Conn.Err().Error(); !strings.Contains(text, c.words) {
		t.Errorf("%q; want %q in it", text, c.words)
	}
	if c.config.AllowHalfClose {
		if b, err := io.ReadAll(l.Conn); err != nil { // the stream was complete
			t.Errorf("read %q, %v after a FIN", b, err)
		}
	} else {
		l.Refuses(liveness.ErrPeerLost)
	}
	if _, err := l.Conn.Write([]byte("x")); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("Write returned %v; want ETIMEDOUT in it", err)
	}
}

func writeAfter(d time.Duration) func(*testutil.Line) {
	return func(l *testutil.Line) {
		select {
		case <-l.Conn.Done():
		case <-time.After(d):
			write(l)
		}
	}
}

// Data are supervised by whatever way they went out.
var whateverWrites = []vanishing{
	{name: "sent by ReadFrom of a file", load: inFlight, act: func(l *testutil.Line) {
		n, err := l.Conn.ReadFrom(file(l, 1000))
		l.Must(err)
		if n != 1000 {
			l.Fatalf("ReadFrom sent %d bytes", n)
		}
	}},
	{name: "sent by a copy of a large file", load: unsent, act: func(l *testutil.Line) { copyTo(l, file(l, 10<<20)) }},
	{name: "sent by splice", load: inFlight, act: func(l *testutil.Line) {
		from, source := livenesstest.Pair(l.TB, "tcp4")
		_, err := source.Write([]byte("x"))
		l.Must(err)
		go io.Copy(l.Conn, from)
	}},
	{name: "sent by WriteTo of a Conn", load: inFlight, act: func(l *testutil.Line) {
		from := testutil.NewLine(l.TB, nil)
		_, err := from.Peer.Write([]byte("x"))
		l.Must(err)
		go from.Conn.WriteTo(l.Conn)
	}},
	{name: "sent by WriteBuffers", load: inFlight, act: func(l *testutil.Line) {
		_, err := l.Conn.WriteBuffers(&net.Buffers{[]byte("a"), []byte("b")})
		l.Must(err)
	}},
	{name: "sent by SyscallConn", load: inFlight, act: func(l *testutil.Line) {
		raw, err := l.Conn.SyscallConn()
		l.Must(err)
		l.Must(raw.Write(func(fd uintptr) bool { _, err = unix.Write(int(fd), []byte("raw")); return true }))
		l.Must(err)
	}},
	// A FIN is in flight as data are, and keep-alive pauses for it as for these.
	{name: "sent by CloseWrite", load: inFlight, act: func(l *testutil.Line) { l.Must(l.Conn.CloseWrite()) }},
	{name: "sent by TLS above", load: inFlight, act: func(l *testutil.Line) { write(l) }, connect: tlsAbove},
	{name: "sent by TLS beneath", load: inFlight, act: func(l *testutil.Line) { write(l) }, connect: tlsBeneath},
	{name: "sent by a Read that shakes hands", load: inFlight, connect: handshaking, act: (*testutil.Line).Park},
}

var otherVanishings = []vanishing{
	{name: "idle over IPv6", connect: over6},
	{name: "idle, with a Read that waits", act: (*testutil.Line).Park},
	{name: "idle after the peer's FIN", config: liveness.Config{AllowHalfClose: true}, connect: afterFIN},
	{name: "in flight after the peer's FIN", config: liveness.Config{AllowHalfClose: true}, connect: afterFIN, load: inFlight},
	{name: "idle after our FIN", connect: func(tb testing.TB, cfg *liveness.Config) *testutil.Line {
		l := testutil.NewLine(tb, cfg)
		l.Must(l.Conn.CloseWrite())
		testutil.Until(tb, "in FIN_WAIT2", func() bool { return tcpInfo(l.TB, l.Bare).State == unix.BPF_TCP_FIN_WAIT2 })
		return l
	}},
	{name: "in flight before Wrap", load: inFlight, connect: vanishedBefore, act: func(*testutil.Line) {}},
	{name: "in flight, probes of our own", load: inFlight, config: liveness.Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}}},
	{name: "idle, probes of our own",
		config: liveness.Config{PeerTimeout: 10 * time.Second, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}},
		from: func(cut, heard time.Time) (time.Time, time.Time) {
			return heard.Add(3*time.Second - testutil.Tick), cut.Add(4 * time.Second)
		}},
	{name: "behind a closed window, StallTimeout shorter", load: closedWindow, config: liveness.Config{StallTimeout: 3 * time.Second}},
	{name: "behind a closed window, StallTimeout longer", load: closedWindow, config: liveness.Config{StallTimeout: 10 * time.Second}},
	// Kernels before 6.15 have no TCP_RTO_MAX_MS.
	{name: "in flight, retransmitted rarely", load: inFlight, connect: rarely},
	{name: "behind a closed window, probed rarely", load: closedWindow, connect: rarely},
	{name: "written 20% after, retransmitted rarely", load: inFlight, connect: rarely, config: liveness.Config{PeerTimeout: 10 * time.Second}, act: writeAfter(2 * time.Second)},
	// The peer's data arrive, and nothing of ours does.
	{name: "one way", load: inFlight, cut: testutil.ToPeer, words: "nothing acknowledged for ", act: func(l *testutil.Line) {
		// The peer is not acknowledged either, so that it is soon heard by its retransmissions alone. It must not give up first.
		testutil.SetOption(l.TB, l.Peer.NetConn(), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, 1000)
		testutil.SetOption(l.TB, l.Peer.NetConn(), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(time.Minute/time.Millisecond))
		write(l)
		every(l, 200*time.Millisecond, func() error { _, err := l.Peer.Write([]byte("x")); return err })
		l.Park()
	}, from: func(cut, heard time.Time) (time.Time, time.Time) {
		return heard.Add(2*shortest - testutil.Tick), cut.Add(2*shortest + time.Second + shortest/8) // and one retransmission
	}},
	{name: "with data unread", load: inFlight, act: func(l *testutil.Line) { write(l) },
		connect: func(tb testing.TB, cfg *liveness.Config) *testutil.Line {
			l := testutil.NewLine(tb, cfg)
			_, err := l.Peer.Write([]byte("a last word."))
			l.Must(err)
			l.Wait("received", func(s liveness.Status) bool { return s.Unread == 12 })
			return l
		}, words: ": nothing heard for "},
}

// every calls f again and again, in a goroutine that ends with the test.
func every(l *testutil.Line, pause time.Duration, f func() error) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for f() == nil {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	l.Cleanup(func() { close(stop); l.Peer.SetDeadline(time.Unix(1, 0)); <-stopped })
}

func over6(tb testing.TB, cfg *liveness.Config) *testutil.Line {
	conn, peer := testutil.Pair(tb, "tcp6", testutil.Small)
	return testutil.LineOf(tb, conn, peer, cfg)
}

func afterFIN(tb testing.TB, cfg *liveness.Config) *testutil.Line {
	l := testutil.NewLine(tb, cfg)
	l.Must(l.Peer.CloseWrite())
	l.WaitState(liveness.HalfClosed)
	return l
}

func vanishedBefore(tb testing.TB, cfg *liveness.Config) *testutil.Line {
	conn, peer := testutil.Pair(tb, "tcp4", testutil.Small)
	l := &testutil.Line{TB: tb, Bare: conn, Peer: peer}
	l.Cut(testutil.Both)
	_, err := conn.Write([]byte("in flight"))
	l.Must(err)
	return testutil.LineOf(tb, conn, peer, cfg)
}

// rarely has the kernel retransmit as rarely as those do that have no TCP_RTO_MAX_MS.
func rarely(tb testing.TB, cfg *liveness.Config) *testutil.Line {
	l := testutil.NewLine(tb, cfg)
	testutil.SetOption(tb, l.Bare, unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, 120_000)
	return l
}

func tlsAbove(tb testing.TB, cfg *liveness.Config) *testutil.Line {
	l := testutil.NewLine(tb, cfg)
	l.Above, _ = testutil.Secure(l, l.Conn, l.Peer)
	return l
}

func tlsBeneath(tb testing.TB, cfg *liveness.Config) *testutil.Line {
	conn, peer := testutil.Pair(tb, "tcp4", testutil.Small)
	server, client := testutil.Secure(tb, conn, peer)
	l := testutil.LineOf(tb, server, livenesstest.NewPeer(client), cfg)
	l.Bare = conn
	return l
}

// handshaking has a client that has sent its greeting to a server that has not read it.
func handshaking(tb testing.TB, cfg *liveness.Config) *testutil.Line {
	conn, peer := testutil.Pair(tb, "tcp4", testutil.Small)
	forServer, forClient := testutil.TLSConfigs(tb)
	l := testutil.LineOf(tb, tls.Server(conn, forServer), peer, cfg)
	l.Bare = conn
	go tls.Client(peer, forClient).Handshake()
	l.Wait("greeted", func(s liveness.Status) bool { return s.Unread > 0 })
	return l
}

// tcpInfo asks the kernel, around the library.
func tcpInfo(tb testing.TB, conn net.Conn) (info *unix.TCPInfo) {
	tb.Helper()
	testutil.Control(tb, conn, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return info
}

// file is a file of n zeros.
func file(l *testutil.Line, n int64) *os.File {
	l.Helper()
	f, err := os.CreateTemp(l.TempDir(), "")
	l.Must(err)
	l.Cleanup(func() { f.Close() })
	l.Must(f.Truncate(n))
	return f
}

// copyTo copies to l, until a verdict ends the copy.
func copyTo(l *testutil.Line, from io.Reader) {
	done := make(chan error, 1)
	go func() { _, err := io.Copy(l.Conn, from); done <- err }()
	l.Cleanup(func() {
		if err := testutil.Await(l.TB, done); !errors.Is(err, liveness.ErrPeerLost) {
			l.Errorf("the copy returned %v", err)
		}
	})
}
