package liveness_test

import (
	"fmt"
	"testing"
	"time"

	"net"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
)

func TestWrapTunesKeepAliveAndNothingElse(t *testing.T) {
	t.Parallel()
	const before = "SO_KEEPALIVE 0, TCP_KEEPIDLE 123, TCP_KEEPINTVL 45, TCP_KEEPCNT 6, TCP_USER_TIMEOUT 7654"
	tuned := func(k net.KeepAliveConfig) string {
		return fmt.Sprintf("SO_KEEPALIVE 1, TCP_KEEPIDLE %d, TCP_KEEPINTVL %d, TCP_KEEPCNT %d, TCP_USER_TIMEOUT 7654",
			int(k.Idle/time.Second), int(k.Interval/time.Second), k.Count)
	}
	cases := map[string]struct {
		config liveness.Config
		want   string
	}{
		"none":         {liveness.Config{StallTimeout: time.Second, ReadIdleTimeout: time.Second}, before},
		"Enable alone": {liveness.Config{KeepAlive: net.KeepAliveConfig{Enable: true}}, tuned(net.KeepAliveConfig{Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 9})},
		"both": {liveness.Config{PeerTimeout: shortest, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 1500 * time.Millisecond, Interval: -1}},
			tuned(net.KeepAliveConfig{Idle: 2 * time.Second, Interval: 45 * time.Second, Count: 9})},
	}
	for _, d := range []time.Duration{4, 5, 7, 10, 12, 60} { // a longer one is tuned for less, since the kernel's timers are late by up to an eighth
		d *= time.Second
		cases[fmt.Sprint("PeerTimeout ", d)] = struct {
			config liveness.Config
			want   string
		}{liveness.Config{PeerTimeout: d}, tuned(liveness.KeepAlive(d))}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := optioned{idle: 123, interval: 45, count: 6, userTimeout: 7654}.line(t, &c.config)
			if got := testutil.Options(t, l.Bare); got != c.want {
				t.Errorf("the socket has %s; want %s", got, c.want)
			}
		})
	}
	for _, d := range []time.Duration{10 * time.Minute, 65534 * time.Second} {
		l := testutil.NewLine(t, &liveness.Config{PeerTimeout: d})
		want := liveness.KeepAlive(d).Idle
		if got := time.Duration(testutil.Option(t, l.Bare, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)) * time.Second; got > want || got < want*3/4 {
			t.Errorf("PeerTimeout %v: TCP_KEEPIDLE is %v; want %v or a little less", d, got, want)
		}
	}
}

func TestWrapThatFailsLeavesTheOptions(t *testing.T) {
	t.Parallel()
	l := optioned{idle: 123, interval: 45, count: 6, userTimeout: 7654}.line(t, nil)
	before := testutil.Options(t, l.Bare)
	for _, cfg := range []liveness.Config{
		{PeerTimeout: shortest}, {PeerTimeout: time.Minute, StallTimeout: time.Second}, {PeerTimeout: time.Second},
		{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: -1, Count: 3}},
	} {
		if _, err := liveness.Wrap(l.Bare, &cfg); err == nil {
			t.Fatalf("%+v: wrapped twice", cfg)
		}
		if got := testutil.Options(t, l.Bare); got != before {
			t.Errorf("%+v: the socket had %s and has %s", cfg, before, got)
		}
	}
	l.Heard()
}

func TestDetectWithinIsTheBoundOfTheState(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	const d = 10 * time.Second
	l := testutil.NewLine(t, &liveness.Config{PeerTimeout: d})
	want := func(what load) {
		t.Helper()
		if got := l.Conn.Status().DetectWithin; got < d || got > what.within(d) {
			t.Errorf("%s: DetectWithin is %v; want %v at most", what, got, what.within(d))
		}
	}
	want(idle)
	mend := l.Cut(testutil.ToPeer)
	write(l)
	want(inFlight)
	mend()
	l.Acknowledged()
	want(idle)
	l.Fill()
	l.WaitState(liveness.Stalled)
	want(closedWindow)
	if got := testutil.NewLine(t, nil).Conn.Status().DetectWithin; got != 0 {
		t.Errorf("without keep-alive DetectWithin is %v; want 0, which is no bound", got)
	}
}

func TestVanishedPeerIsReportedWithinDetectWithin(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	for _, c := range []struct {
		name   string
		o      optioned
		config liveness.Config
		load   load
	}{
		{"keep-alive, idle", optioned{keepAlive: 1, idle: 1, interval: 1, count: 3}, liveness.Config{}, idle},
		{"keep-alive and user timeout, idle", optioned{keepAlive: 1, idle: 1, interval: 1, count: 9, userTimeout: 2500}, liveness.Config{}, idle},
		{"user timeout, in flight", optioned{keepAlive: 1, idle: 1, interval: 1, count: 9, userTimeout: 2500}, liveness.Config{}, inFlight},
		{"user timeout, closed window", optioned{keepAlive: 1, idle: 1, interval: 1, count: 9, userTimeout: 2500}, liveness.Config{}, closedWindow},
		{"PeerTimeout and user timeout, in flight", optioned{userTimeout: 3000}, liveness.Config{PeerTimeout: shortest}, inFlight},
		{"PeerTimeout and longer keep-alive, idle", optioned{}, liveness.Config{PeerTimeout: shortest, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 4 * time.Second, Interval: time.Second, Count: 3}}, idle},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := c.o.line(t, &c.config)
			c.load.prepare(l)
			cut := time.Now()
			l.Cut(testutil.Both)
			c.load.put(l)
			within := l.Conn.Status().DetectWithin
			if within == 0 || c.load != idle && within > 20*time.Second {
				t.Errorf("DetectWithin is %v", within)
			}
			l.Ends(liveness.ErrPeerLost, cut, cut.Add(within))
		})
	}
}
