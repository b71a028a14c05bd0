package liveness

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/livenesstest"
)

// options are those that a Config may touch.
var options = []sockopt{
	{level: windows.SOL_SOCKET, name: windows.SO_KEEPALIVE},
	{level: windows.IPPROTO_TCP, name: windows.TCP_KEEPIDLE},
	{level: windows.IPPROTO_TCP, name: windows.TCP_KEEPINTVL},
	{level: windows.IPPROTO_TCP, name: windows.TCP_KEEPCNT},
	{level: windows.IPPROTO_TCP, name: windows.TCP_MAXRT},
}

// optionsOf reads them; -1 is one that this Windows does not have.
func optionsOf(t *testing.T, conn *net.TCPConn) (values [5]int) {
	t.Helper()
	at(t, conn, func(fd uintptr) {
		for i, o := range options {
			v, err := getOption(fd, o.level, o.name)
			switch {
			case errors.Is(err, windows.WSAENOPROTOOPT):
				v = -1
			case err != nil:
				t.Fatal(err)
			}
			values[i] = v
		}
	})
	return values
}

func hasMaxRT(t *testing.T, conn *net.TCPConn) bool { return optionsOf(t, conn)[4] != -1 }

// PeerTimeout and KeepAlive set what they say and nothing else.
func TestWindowsOptions(t *testing.T) {
	s := time.Second
	for name, test := range map[string]struct {
		cfg  Config
		want [5]int // -2 is unchanged
	}{
		"nothing":                  {Config{}, [5]int{-2, -2, -2, -2, -2}},
		"idle alone":               {Config{ReadIdleTimeout: s}, [5]int{-2, -2, -2, -2, -2}},
		"PeerTimeout":              {Config{PeerTimeout: 60 * s}, [5]int{1, 20, 10, 4, 60}},
		"a fraction":               {Config{PeerTimeout: 4*s + 1}, [5]int{1, 1, 1, 4, 5}},
		"KeepAlive":                {Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 7 * s, Interval: 3 * s, Count: 4}}, [5]int{1, 7, 3, 4, -2}},
		"KeepAlive, defaults":      {Config{KeepAlive: net.KeepAliveConfig{Enable: true}}, [5]int{1, 15, 15, 9, -2}},
		"KeepAlive, unchanged":     {Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}}, [5]int{1, -2, -2, -2, -2}},
		"KeepAlive in PeerTimeout": {Config{PeerTimeout: 30 * s, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 7 * s, Interval: 3 * s, Count: 4}}, [5]int{1, 7, 3, 4, 30}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, _ := windowsPair(t)
			want := optionsOf(t, conn)
			if want[0] != 0 {
				t.Fatal("keep-alive is on already")
			}
			for i, v := range test.want {
				if v != -2 && want[i] != -1 {
					want[i] = v
				}
			}
			if _, err := Wrap(conn, &test.cfg); err != nil {
				t.Fatal(err)
			}
			if got := optionsOf(t, conn); got != want {
				t.Errorf("%v; want %v", got, want)
			}
		})
	}
}

// What fails leaves the socket as it was, and is no failure once the connection has
// ended.
func TestWindowsOptionsFail(t *testing.T) {
	conn, peer := windowsPair(t)
	before := optionsOf(t, conn)
	tune := func(cfg Config) (err error) {
		s := &socket{family: familyStream, setup: &setup{cfg: &cfg}}
		at(t, conn, func(fd uintptr) { err = s.tune(fd, &cfg) })
		if len(s.setup.undo) != 0 {
			t.Errorf("%d options are left to undo", len(s.setup.undo))
		}
		return err
	}
	// More than Windows takes, and than check lets pass.
	impossible := Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 7 * time.Second, Interval: time.Second, Count: 1 << 20}}
	err := tune(impossible)
	if err == nil || errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "KeepAlive") {
		t.Errorf("%v", err)
	}
	if got := optionsOf(t, conn); got != before {
		t.Errorf("%v; was %v", got, before)
	}
	peer.Reset()
	eventually(t, "reset", func() bool { return Check(conn) != nil })
	if err := tune(impossible); err != nil {
		t.Errorf("after the end: %v", err)
	}
	if _, err := Wrap(conn, &Config{PeerTimeout: time.Minute}); err != nil {
		t.Errorf("after the end: %v", err)
	}
}

// DetectWithin is the time in which the stack gives up, if it says so of data in
// flight: with less, there is no bound.
func TestWindowsDetectWithin(t *testing.T) {
	conn, _ := windowsPair(t)
	c, err := Wrap(conn, &Config{PeerTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	within := c.Status().DetectWithin
	if hasMaxRT(t, conn) {
		// The probes, a twentieth and two seconds more; then what is written just before the
		// last of them is given up, and a retransmission.
		if within < time.Minute || within > 65*time.Second+61*time.Second {
			t.Errorf("%v", within)
		}
	} else if within != 0 {
		t.Errorf("%v, and nothing is known of data in flight", within)
	}
	conn, _ = windowsPair(t)
	if c, err = Wrap(conn, nil); err != nil {
		t.Fatal(err)
	}
	if within := c.Status().DetectWithin; within != 0 {
		t.Errorf("%v without keep-alive", within)
	}
}

// What Windows cannot do is said, with the name of the field.
func TestWindowsUnsupported(t *testing.T) {
	conn, peer := windowsPair(t)
	c, err := Wrap(conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(context.Background()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Ping: %v", err)
	}
	peer.Reset()
	waitEnd(t, c)
}

// There is no host to lose behind an AF_UNIX socket.
func TestWindowsUnix(t *testing.T) {
	conn, peer := livenesstest.Pair(t, "unix")
	c, err := Wrap(conn, &Config{PeerTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Alive() || c.Status().DetectWithin != 0 {
		t.Errorf("%v, %+v", c.Err(), c.Status())
	}
	peer.Close()
	if err := waitEnd(t, c); !errors.Is(err, ErrPeerClosed) {
		t.Error(err)
	}
}
