package liveness_test

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// TestWrapAndCheckRefuseWhatIsNoLiveStream also checks that a Conn that was not returned is never reported.
func TestWrapAndCheckRefuseWhatIsNoLiveStream(t *testing.T) {
	testutil.Deadline(t)
	needsChecks(t)
	closed, _ := livenesstest.Pair(t, "tcp4")
	closed.Close()
	closedUnix, _ := livenesstest.Pair(t, "unix")
	closedUnix.Close()
	packets, err := net.Dial("udp", "127.0.0.1:9")
	testutil.Must(t, err)
	defer packets.Close()
	for name, c := range map[string]struct {
		conn   net.Conn
		reason error // nil is any
	}{
		"nil":                   {nil, nil},
		"nil *net.TCPConn":      {(*net.TCPConn)(nil), nil},
		"nil *liveness.Conn":    {(*liveness.Conn)(nil), nil},
		"nil *tls.Conn":         {(*tls.Conn)(nil), nil},
		"never connected":       {new(net.TCPConn), nil},
		"never connected, unix": {new(net.UnixConn), nil},
		"closed by us":          {closed, net.ErrClosed},
		"closed by us, unix":    {closedUnix, net.ErrClosed},
		"UDP":                   {packets, errors.ErrUnsupported},
		"datagrams of AF_UNIX":  {unixgram(t), errors.ErrUnsupported},
	} {
		if c.conn == nil && name != "nil" {
			continue // this system has none
		}
		conn, err := liveness.Wrap(c.conn, &liveness.Config{PeerTimeout: time.Minute, OnDisconnect: func(*liveness.Conn, error) { t.Errorf("%s: a Conn that was not returned was reported", name) }})
		if conn != nil || err == nil || err.Error() == "" || c.reason != nil && !errors.Is(err, c.reason) {
			t.Errorf("%s: Wrap = %v, %v, want %v", name, conn, err, c.reason)
		}
		if err := liveness.Check(c.conn); err == nil || err.Error() == "" || c.reason != nil && !errors.Is(err, c.reason) {
			t.Errorf("%s: Check = %v, want %v", name, err, c.reason)
		}
	}
}

func unixgram(t *testing.T) net.Conn {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(testutil.ShortTempDir(t), "s"), Net: "unixgram"})
	if err != nil {
		return nil
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestImpossibleConfigIsRefusedByField also goes through a listener, whose first Accept says so before it accepts a peer.
func TestImpossibleConfigIsRefusedByField(t *testing.T) {
	testutil.Deadline(t)
	for _, c := range []struct {
		field string
		cfg   liveness.Config
	}{
		{"PeerTimeout", liveness.Config{PeerTimeout: -1}}, {"PeerTimeout", liveness.Config{PeerTimeout: 4*time.Second - 1}},
		{"PeerTimeout", liveness.Config{PeerTimeout: 65535 * time.Second}}, {"StallTimeout", liveness.Config{StallTimeout: -1}},
		{"StallTimeout", liveness.Config{StallTimeout: 1}}, {"ReadIdleTimeout", liveness.Config{ReadIdleTimeout: 99 * time.Millisecond}},
		{"KeepAlive", liveness.Config{KeepAlive: net.KeepAliveConfig{Count: 3}}},
		{"KeepAlive.Count", liveness.Config{KeepAlive: net.KeepAliveConfig{Enable: true, Count: 128}}},
		{"KeepAlive.Idle", liveness.Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 32768 * time.Second}}},
	} {
		conn, _ := livenesstest.Pair(t, "tcp4")
		got, err := liveness.Wrap(conn, &c.cfg)
		var op *net.OpError
		if got != nil || !errors.As(err, &op) || !strings.Contains(err.Error(), c.field) {
			t.Errorf("Wrap = %v, %v, want a *net.OpError that names %s", got, err, c.field)
		}
		if _, err := conn.Write(message); err != nil {
			t.Errorf("the connection that was not wrapped: %v", err)
		}
		inner := testutil.Listen(t, "tcp4")
		peer, err := livenesstest.Dial("tcp", inner.Addr().String())
		testutil.Must(t, err)
		l := liveness.NewListener(inner, &c.cfg)
		for range 2 {
			wantPermanent(t, l, c.field)
		}
		first, err := inner.Accept()
		testutil.Must(t, err)
		if first.RemoteAddr().String() != peer.LocalAddr().String() {
			t.Error("a peer was lost to an Accept that could not succeed")
		}
		first.Close()
		peer.Close()
	}
}

// wantPermanent checks that Accept fails for good.
func wantPermanent(t *testing.T, l net.Listener, text string) {
	t.Helper()
	conn, err := l.Accept()
	var op *net.OpError
	if conn != nil || !errors.As(err, &op) || op.Temporary() || op.Timeout() || op.Op != "accept" || !strings.Contains(err.Error(), text) {
		t.Errorf("Accept = %v, %v, want a permanent error with %q", conn, err, text)
	}
}

// TestWrapTwiceIsRefused watches a connection a second time, in every form.
func TestWrapTwiceIsRefused(t *testing.T) {
	testutil.Deadline(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	w := watch(t, conn, liveness.Config{})
	watched, _ := livenesstest.Pair(t, "tcp4")
	beside(t, watched, nil)
	if again, err := liveness.Wrap(w.conn, nil); again != w.conn || err != nil {
		t.Errorf("Wrap(c, nil) = %p, %v, want c itself, %p", again, err, w.conn)
	}
	server, _ := testutil.TLSConfigs(t)
	never := &liveness.Config{OnDisconnect: func(*liveness.Conn, error) { t.Error("a Conn that was not returned was reported") }}
	for name, c := range map[string]struct {
		how  func(net.Conn, *liveness.Config) (*liveness.Conn, error)
		conn net.Conn
		cfg  *liveness.Config
	}{
		"Wrap of a Conn, with a Config": {liveness.Wrap, w.conn, never},
		"Wrap above a Conn":             {liveness.Wrap, tls.Server(w.conn, server), nil},
		"Wrap of the bare connection":   {liveness.Wrap, conn, never},
		"Wrap of what is watched":       {liveness.Wrap, watched, nil},
		"Watch of a Conn":               {liveness.Watch, w.conn, nil},
		"Watch above a Conn":            {liveness.Watch, tls.Server(w.conn, server), nil},
		"Watch of the bare connection":  {liveness.Watch, conn, nil},
		"Watch of what is watched":      {liveness.Watch, watched, nil},
	} {
		if !testutil.Notices && (c.conn == conn || c.conn == watched) {
			continue // two checks do not meet
		}
		got, err := c.how(c.conn, c.cfg)
		var op *net.OpError
		if got != nil || !errors.As(err, &op) || op.Temporary() || op.Timeout() || !strings.Contains(err.Error(), "wrapped already") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	w.lives(liveness.Connected)
	peer.CloseWrite()
	w.ended(liveness.ErrPeerClosed)
	w.conn.Close()
	if _, err := liveness.Wrap(conn, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Wrap after Close = %v, want net.ErrClosed", err)
	}
	outer := liveness.NewListener(liveness.NewListener(testutil.Listen(t, "tcp4"), nil), nil)
	wantPermanent(t, outer, "wrapped already")
}

// TestListenerHandsOnWhatItWraps also checks that Close ends no connection.
func TestListenerHandsOnWhatItWraps(t *testing.T) {
	testutil.Deadline(t)
	inner := testutil.Listen(t, "tcp4")
	l := liveness.NewListener(inner, nil)
	if l.NetListener() != inner || l.Addr() != inner.Addr() {
		t.Errorf("NetListener() = %v, Addr() = %v", l.NetListener(), l.Addr())
	}
	conn, peer := testutil.Accept(t, l)
	c, ok := conn.(*liveness.Conn)
	if !ok {
		t.Fatalf("Accept returned a %T", conn)
	}
	defer c.Close()
	inner.(*net.TCPListener).SetDeadline(time.Now().Add(-time.Second))
	if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Accept = %v behind a deadline of the inner listener", err)
	}
	inner.(*net.TCPListener).SetDeadline(time.Time{})
	accept := make(chan error, 1)
	go func() { _, err := l.Accept(); accept <- err }()
	testutil.Must(t, l.Close())
	if err := testutil.Await(t, accept); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v after Close", err)
	}
	if barrier(t); !c.Alive() {
		t.Errorf("Err() = %v after the listener was closed", c.Err())
	}
	peer.CloseWrite()
	testutil.Until(t, "the FIN is seen", func() bool { return !c.Alive() })
	if _, err := liveness.NewListener(nowhere{}, &liveness.Config{PeerTimeout: 1}).Accept(); err == nil {
		t.Error("Accept of a listener without an address, and with an impossible Config, succeeded")
	}
}

// A nowhere listener has no address.
type nowhere struct{ net.Listener }

func (nowhere) Addr() net.Addr { return nil }

// A scripted listener accepts what it is given, in this order.
type scripted struct {
	net.Listener
	conns chan net.Conn
}

func (l scripted) Accept() (net.Conn, error) { return <-l.conns, nil }

// TestListenerSaysSoIfItCanWatchNoConnection, and goes on if one among others cannot be watched.
func TestListenerSaysSoIfItCanWatchNoConnection(t *testing.T) {
	testutil.Deadline(t)
	needsChecks(t)
	plain := func() net.Conn { conn, _ := livenesstest.Pair(t, "tcp4"); return conn }
	for _, c := range []struct {
		name string
		cfg  *liveness.Config
		bad  func() net.Conn
		text string // of the permanent error; empty is none
	}{
		{"hidden sockets", &liveness.Config{StallTimeout: time.Minute}, func() net.Conn { return hidden{plain()} }, "StallTimeout"},
		{"a Conn", nil, func() net.Conn { return wrap(t, plain(), nil) }, "wrapped already"},
		{"packet sockets", nil, func() net.Conn { conn, err := net.Dial("udp4", "127.0.0.1:9"); testutil.Must(t, err); return conn }, "not a stream socket"},
		{"closed", nil, func() net.Conn { conn := plain(); conn.Close(); return conn }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "packet sockets" && testutil.Wine() {
				t.Skip("Wine lacks SIO_UDP_NETRESET, without which package net makes none")
			}
			l := scripted{testutil.Listen(t, "tcp4"), make(chan net.Conn, 9)}
			outer := liveness.NewListener(l, c.cfg)
			if c.text != "" {
				bad := c.bad()
				l.conns <- bad
				wantPermanent(t, outer, c.text)
				if _, err := bad.Write(message); !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s: the connection was not closed: %v", c.name, err)
				}
			}
			first, last := plain(), plain()
			for _, conn := range []net.Conn{first, c.bad(), last} {
				l.conns <- conn
			}
			for _, want := range []net.Conn{first, last} {
				got, err := outer.Accept()
				testutil.Must(t, err)
				if got.(*liveness.Conn).NetConn() != want {
					t.Errorf("%s: Accept returned another connection", c.name)
				}
				got.Close()
			}
		})
	}
}
