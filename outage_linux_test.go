package liveness_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
)

// An outage is one that a connection survives.
type outage struct {
	name   string
	config liveness.Config
	load   load
	before func(l *testutil.Line) // what happens before the outage; nil is a pause of phase
	phase  time.Duration
	cut    testutil.Direction
}

var probesOfOurOwn = net.KeepAliveConfig{Enable: true, Idle: time.Hour}

func TestOutageOfLessThanHalfIsSurvived(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	var cases []outage
	for i, what := range []load{idle, inFlight, unsent, closedWindow} {
		for phase := range 3 { // of the second that a cycle of probes takes
			cases = append(cases, outage{name: fmt.Sprintf("%s, phase %d", what, phase), load: what,
				phase: time.Duration(3*phase+i) * 110 * time.Millisecond, cut: []testutil.Direction{testutil.Both, testutil.ToPeer, testutil.FromPeer}[phase]})
		}
	}
	cases = append(cases,
		outage{name: "idle, long cycle", config: liveness.Config{PeerTimeout: 7 * time.Second}, phase: 1700 * time.Millisecond},
		// Silence counts from when the library, or the kernel, began to ask.
		outage{name: "written after a long silence", load: inFlight, config: liveness.Config{KeepAlive: probesOfOurOwn}, phase: shortest + time.Second},
		outage{name: "behind a closed window, probed rarely", load: closedWindow, before: probedRarely},
	)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			testutil.Again(t, func() bool { return c.play(t) })
		})
	}
}

func (c outage) play(t *testing.T) (valid bool) {
	timeout := max(c.config.PeerTimeout, shortest)
	c.config.PeerTimeout = timeout
	if c.load == "" {
		c.load = idle
	}
	if c.cut == "" {
		c.cut = testutil.Both
	}
	l := testutil.NewLine(t, &c.config)
	defer l.Conn.Close()
	c.load.prepare(l)
	if c.before != nil {
		c.before(l)
	} else {
		l.LivesFor(c.phase)
	}
	began := time.Now()
	mend := l.Cut(c.cut)
	c.load.put(l)
	select {
	case <-l.Conn.Done():
	case <-time.After(timeout/2 - 500*time.Millisecond):
	}
	mend()
	if time.Since(began) >= timeout/2 {
		return false
	}
	l.LivesFor(time.Until(began.Add(c.load.within(timeout))))
	if c.load == closedWindow {
		l.Take(64<<10, 0)
	}
	l.Wait("connected", func(s liveness.Status) bool { return s.State == liveness.Connected && s.Probes == 0 })
	return true
}

// probedRarely waits until probes are further apart than half of the time-out, and until
// one is about to be sent.
func probedRarely(l *testutil.Line) {
	testutil.SetOption(l.TB, l.Bare, unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, 120_000)
	l.Wait("probed four times", func(s liveness.Status) bool { i := tcpInfo(l.TB, l.Bare); return i.Backoff >= 4 && i.Probes == 0 })
	l.LivesFor(time.Until(heard(l).Add(2800 * time.Millisecond))) // of the 3.2 s to the fifth
}

func TestLivePeerThatReadsNothingIsNeverLost(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	for name, config := range map[string]liveness.Config{
		"closed window":                    {PeerTimeout: shortest},
		"closed window, probes of our own": {PeerTimeout: shortest, KeepAlive: probesOfOurOwn},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := testutil.NewLine(t, &config)
			l.Fill()
			l.WaitState(liveness.Stalled)
			l.LivesFor(3 * shortest)
			before := l.Written.Load()
			l.Take(64<<10, 0)
			l.Wait("going on", func(s liveness.Status) bool { return s.State == liveness.Connected && l.Written.Load() > before })
		})
	}
}

// By the count of PeerTimeout alone the kernel would give up at its next timer, and send no more
// probe that the peer could answer (tcp_keepalive_timer in net/ipv4/tcp_timer.c).
func TestProbesUnansweredBeforeWrapDoNotCount(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	want := liveness.KeepAlive(shortest)
	testutil.Again(t, func() bool {
		conn, peer := testutil.Pair(t, "tcp4", testutil.Small)
		bare := &testutil.Line{TB: t, Bare: conn, Peer: peer}
		bare.Must(conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 100}))
		mend, began := bare.Cut(testutil.Both), time.Now()
		testutil.Until(t, "probed as often as PeerTimeout allows for", func() bool { return tcpInfo(bare.TB, bare.Bare).Probes >= uint8(want.Count) })
		l := testutil.LineOf(t, conn, peer, &liveness.Config{PeerTimeout: shortest})
		defer l.Conn.Close()
		if s := l.Conn.Status(); s.Probes < want.Count || s.DetectWithin > idle.within(shortest) {
			t.Errorf("%+v", s)
		}
		mend()
		if time.Since(began) >= shortest {
			return false
		}
		testutil.Until(t, "heard", func() bool { s := l.Conn.Status(); return s.Probes == 0 || s.Err != nil })
		l.Lives()
		testutil.Until(t, "tuned as by KeepAlive", func() bool {
			return testutil.Option(t, conn, unix.IPPROTO_TCP, unix.TCP_KEEPCNT) == want.Count
		})
		l.Lives()
		return true
	})
}

// The kernel counts from the start of a recovery, and so would give up a connection that was
// acknowledged just now (retransmits_timed_out in net/ipv4/tcp_timer.c).
func TestKernelIsNotTheFirstToGiveUp(t *testing.T) {
	t.Parallel()
	const patience = 924 * time.Second // T(tcp_retries2) of RFC 1122 as tcp_model_timeout computes it
	for _, user := range []time.Duration{0, 20 * time.Second} {
		t.Run(fmt.Sprintf("TCP_USER_TIMEOUT %v", user), func(t *testing.T) {
			t.Parallel()
			conn, peer := testutil.Pair(t, "tcp4", testutil.Small)
			testutil.SetOption(t, conn, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(user/time.Millisecond))
			l := testutil.LineOf(t, conn, peer, &liveness.Config{PeerTimeout: 2 * shortest})
			userTimeout := func() time.Duration {
				return time.Duration(testutil.Option(t, conn, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)) * time.Millisecond
			}
			if got := userTimeout(); got != user {
				t.Errorf("TCP_USER_TIMEOUT is %v while idle", got)
			}
			mend := l.Cut(testutil.ToPeer)
			write(l)
			l.LivesFor(shortest + time.Second) // half of PeerTimeout, after which the library must have looked
			if got := userTimeout(); user == 0 && got < patience || user > 0 && got != user {
				t.Errorf("TCP_USER_TIMEOUT is %v while data are in flight", got)
			}
			mend()
			l.Acknowledged()
			testutil.Until(t, "as it was", func() bool { return userTimeout() == user })
		})
	}
}
