package liveness_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

func TestGroupCountsItsConnectionsAndFindsThem(t *testing.T) {
	testutil.Deadline(t)
	testutil.NeedsNotices(t)
	group, before := &liveness.Group{Name: "clients"}, liveness.Totals()
	cfg := &liveness.Config{Group: group}
	var conns []*liveness.Conn
	ends := []func(*livenesstest.Peer) error{(*livenesstest.Peer).Close, (*livenesstest.Peer).Reset, nil}
	for _, end := range ends {
		conn, peer := livenesstest.Pair(t, "tcp4")
		c := wrap(t, conn, cfg)
		if conns = append(conns, c); end != nil {
			testutil.Must(t, end(peer))
			testutil.Await(t, c.Done())
		}
	}
	near, _ := net.Pipe()
	conns = append(conns, wrap(t, near, cfg))
	if s := group.Stats(); s != (liveness.Stats{Open: 4, Wrapped: 4, Closed: 1, Reset: 1}) {
		t.Errorf("%+v", s)
	}
	checkConns(t, group, conns...)
	missing := map[*liveness.Conn]bool{conns[0]: true, conns[1]: true, conns[2]: true, conns[3]: true}
	for c := range liveness.Conns() {
		if delete(missing, c); len(missing) == 0 {
			break // the body may stop
		}
	}
	if len(missing) != 0 {
		t.Error("Conns does not have what Group.Conns has")
	}
	for _, c := range conns {
		c.Close()
		c.Close() // counts once
	}
	if s := group.Stats(); s != (liveness.Stats{Wrapped: 4, Closed: 1, Reset: 1, Local: 2}) {
		t.Errorf("%+v", s)
	}
	if after := liveness.Totals(); after.Wrapped-before.Wrapped < 4 || after.Local-before.Local < 2 {
		t.Errorf("%+v, then %+v", before, after)
	}
	checkConns(t, group)
	// A connection that could not be wrapped is not counted.
	closed, _ := livenesstest.Pair(t, "tcp4")
	closed.Close()
	liveness.Wrap(closed, cfg)
	if s := group.Stats(); s.Wrapped != 4 {
		t.Errorf("%+v", s)
	}
}

func TestNilGroupHasNoConnections(t *testing.T) {
	var group *liveness.Group
	for range group.Conns() {
		t.Error("a connection")
	}
	if group.Stats() != (liveness.Stats{}) || group.Wait(t.Context()) != nil || group.Close() != nil {
		t.Error("not empty")
	}
}

// TestGroupShutsDown as a server does: the listener first, then the connections that are left.
func TestGroupShutsDown(t *testing.T) {
	testutil.Deadline(t)
	group := new(liveness.Group)
	l := liveness.NewListener(testutil.Listen(t, "tcp4"), &liveness.Config{Group: group})
	leaves, err := livenesstest.Dial("tcp4", l.Addr().String())
	testutil.Must(t, err)
	c, err := l.AcceptConn()
	testutil.Must(t, err)
	stays, err := livenesstest.Dial("tcp4", l.Addr().String())
	testutil.Must(t, err)
	defer stays.Close()
	_, err = l.Accept()
	testutil.Must(t, err)
	c.OnDisconnect(func(error) { c.Close() })

	testutil.Must(t, l.Close())
	waited := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { waited <- group.Wait(ctx) }()
	leaves.Close()
	testutil.Until(t, "one is open", func() bool { c.Alive(); return group.Stats().Open == 1 })
	cancel()
	if err := testutil.Await(t, waited); err != context.Canceled {
		t.Errorf("Wait = %v", err)
	}
	go func() { waited <- group.Wait(t.Context()) }()
	testutil.Must(t, group.Close())
	testutil.Must(t, testutil.Await(t, waited))
}

func TestDialerWrapsWhatItDials(t *testing.T) {
	testutil.Deadline(t)
	l := testutil.Listen(t, "tcp4")
	group := new(liveness.Group)
	d := &liveness.Dialer{Config: &liveness.Config{Group: group}}
	conn, err := d.Dial("tcp4", l.Addr().String())
	testutil.Must(t, err)
	if _, ok := conn.(*liveness.Conn); !ok || group.Stats().Open != 1 {
		t.Errorf("%T, %+v", conn, group.Stats())
	}
	testutil.Must(t, conn.Close())
	conn, err = new(liveness.Dialer).Dial("tcp4", l.Addr().String())
	testutil.Must(t, err)
	testutil.Must(t, conn.Close())

	before := liveness.Totals().Open
	bad := &liveness.Dialer{Config: &liveness.Config{PeerTimeout: time.Millisecond}}
	if conn, err := bad.Dial("tcp4", l.Addr().String()); conn != nil || err == nil || !strings.Contains(err.Error(), "PeerTimeout") {
		t.Errorf("%v, %v", conn, err)
	}
	address := l.Addr().String()
	l.Close()
	if conn, err := d.Dial("tcp4", address); conn != nil || err == nil {
		t.Errorf("%v, %v", conn, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.DialContext(ctx, "tcp4", address); !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "cancel") {
		t.Error(err)
	}
	if open := liveness.Totals().Open; open != before {
		t.Errorf("%d open; want %d", open, before)
	}
}

func TestMethodsAreHandedOn(t *testing.T) {
	testutil.Deadline(t)
	conn, _ := livenesstest.Pair(t, "tcp4")
	c := wrap(t, conn, nil)
	near, _ := net.Pipe()
	pipe := wrap(t, near, nil)
	calls := map[string]func(*liveness.Conn) error{
		"SetNoDelay":         func(c *liveness.Conn) error { return c.SetNoDelay(true) },
		"SetLinger":          func(c *liveness.Conn) error { return c.SetLinger(-1) },
		"SetKeepAlive":       func(c *liveness.Conn) error { return c.SetKeepAlive(true) },
		"SetKeepAlivePeriod": func(c *liveness.Conn) error { return c.SetKeepAlivePeriod(time.Minute) },
		"SetKeepAliveConfig": func(c *liveness.Conn) error { return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}) },
		"SetReadBuffer":      func(c *liveness.Conn) error { return c.SetReadBuffer(1 << 16) },
		"SetWriteBuffer":     func(c *liveness.Conn) error { return c.SetWriteBuffer(1 << 16) },
		"MultipathTCP":       func(c *liveness.Conn) error { _, err := c.MultipathTCP(); return err },
		"File": func(c *liveness.Conn) error {
			f, err := c.File()
			if err == nil {
				err = f.Close()
			}
			return err
		},
	}
	for name, call := range calls {
		if err := call(c); err != nil && !testutil.Wine() {
			t.Errorf("%s: %v", name, err)
		}
		if err := call(pipe); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s on a net.Pipe: %v", name, err)
		}
	}
	l := liveness.NewListener(testutil.Listen(t, "tcp4"), nil)
	testutil.Must(t, l.SetDeadline(time.Now().Add(-time.Second)))
	if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Accept = %v", err)
	}
	if _, err := l.SyscallConn(); err != nil {
		t.Error(err)
	}
	if _, ok := net.Listener(l).(interface{ File() (*os.File, error) }); !ok {
		t.Error("no File")
	}
}

// TestKeepAliveSettersSucceedWithPeerTimeout on every stream, because servers are known to stop accepting on an error.
func TestKeepAliveSettersSucceedWithPeerTimeout(t *testing.T) {
	testutil.Deadline(t)
	for _, network := range []string{"tcp4", "unix"} {
		conn, _ := livenesstest.Pair(t, network)
		c, err := liveness.Wrap(conn, &liveness.Config{PeerTimeout: time.Minute})
		testutil.MustOrSkip(t, err)
		for _, err := range []error{c.SetKeepAlive(false), c.SetKeepAlivePeriod(time.Hour), c.SetKeepAliveConfig(net.KeepAliveConfig{})} {
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
		}
		c.Close()
	}
}
