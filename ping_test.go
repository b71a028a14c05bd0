//go:build linux

package liveness_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// ping pings, and gives up after a while.
func ping(l *testutil.Line, patience time.Duration) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	err = l.Conn.Ping(ctx)
	return time.Since(began), err
}

// pinged checks that a Ping is answered.
func pinged(l *testutil.Line, within time.Duration) {
	l.Helper()
	if took, err := ping(l, testutil.Patience); err != nil || took > within+testutil.Late {
		l.Errorf("Ping returned %v after %v; %+v", err, took, l.Conn.Status())
	}
}

// unanswered checks that a Ping gets no answer, and does not end the connection.
func unanswered(l *testutil.Line, patience time.Duration) {
	l.Helper()
	_, err := ping(l, patience)
	if oe, ok := err.(*net.OpError); !ok || oe.Op != "ping" || !errors.Is(err, context.DeadlineExceeded) {
		l.Errorf("Ping returned %v (%T); want the error of the context in a *net.OpError", err, err)
	}
	l.Lives()
}

// quiet waits until nothing has been heard for so long that a Ping has to ask.
func quiet(l *testutil.Line) {
	l.Helper()
	l.Wait("quiet", func(s liveness.Status) bool { return s.Silence >= 1100*time.Millisecond })
}

// restored waits until the options are as they were.
func restored(l *testutil.Line, before string) {
	l.Helper()
	testutil.Until(l.TB, "as it was: "+before, func() bool { return testutil.Options(l.TB, l.Bare) == before })
}

// segments counts what the peer's host has received.
func segments(l *testutil.Line) uint32 { return tcpInfo(l.TB, l.Peer.NetConn()).Segs_in }

// An optioned connection has options that the application has set.
type optioned struct {
	keepAlive             int // SO_KEEPALIVE
	idle, interval, count int // in seconds; 0 is unchanged
	userTimeout           int // in milliseconds
}

func (o optioned) String() string {
	return fmt.Sprintf("SO_KEEPALIVE %d, %d/%d/%d, TCP_USER_TIMEOUT %d", o.keepAlive, o.idle, o.interval, o.count, o.userTimeout)
}

func (o optioned) line(tb testing.TB, cfg *liveness.Config) *testutil.Line {
	tb.Helper()
	conn, peer := testutil.Pair(tb, "tcp4", testutil.Small)
	testutil.SetOption(tb, conn, unix.SOL_SOCKET, unix.SO_KEEPALIVE, o.keepAlive)
	for option, value := range map[int]int{unix.TCP_KEEPIDLE: o.idle, unix.TCP_KEEPINTVL: o.interval, unix.TCP_KEEPCNT: o.count, unix.TCP_USER_TIMEOUT: o.userTimeout} {
		if value > 0 {
			testutil.SetOption(tb, conn, unix.IPPROTO_TCP, option, value)
		}
	}
	return testutil.LineOf(tb, conn, peer, cfg)
}

func TestPingIsHarmlessWithWhateverOptions(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	for _, o := range []optioned{
		{},
		{userTimeout: 2000},
		{keepAlive: 1, idle: 8, interval: 2, count: 3},
		{keepAlive: 1, idle: 8, interval: 2, count: 3, userTimeout: 2000},
		{keepAlive: 1, idle: 3, interval: 1, count: 3, userTimeout: 30_000}, // under which the kernel heeds no count
		{count: 127}, {keepAlive: 1, count: 127}, // to which the kernel counts
	} {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			l := o.line(t, nil)
			before, within := testutil.Options(t, l.Bare), l.Conn.Status().DetectWithin
			l.Heard()
			received := segments(l)
			pinged(l, 0)
			if n := segments(l) - received; n > 0 && time.Since(l.Sent) < time.Second {
				t.Errorf("%d probes were sent although the peer was heard just before", n)
			}
			quiet(l)
			pinged(l, 50*time.Millisecond)
			if s := l.Conn.Status(); s.Probes != 0 || s.State != liveness.Connected {
				t.Errorf("after an answer: %+v", s)
			}
			restored(l, before)
			quiet(l)
			mend := l.Cut([]testutil.Direction{testutil.ToPeer, testutil.FromPeer}[o.keepAlive])
			for range 3 {
				unanswered(l, time.Second)
			}
			if got := l.Conn.Status().DetectWithin; got != within {
				t.Errorf("DetectWithin was %v and is %v in a Ping", within, got)
			}
			l.LivesFor(time.Second) // in which the kernel might count
			mend()
			pinged(l, time.Second)
			l.Lives()
			restored(l, before)
			l.Heard()
		})
	}
}

func TestPingsShareProbes(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	l := testutil.NewLine(t, nil)
	quiet(l)
	mend := l.Cut(testutil.FromPeer)
	received, began := segments(l), time.Now()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { unanswered(l, 2500*time.Millisecond) })
	}
	all.Wait()
	if n, most := segments(l)-received, 2+uint32(time.Since(began)/time.Second); n < 2 || n > most {
		t.Errorf("50 Pings of 2.5 s sent %d probes; want 2 to %d", n, most)
	}
	mend()
	pinged(l, time.Second)
}

func TestManyPingsTakeAsLongAsOne(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	lines := make([]*testutil.Line, 300)
	for i := range lines {
		lines[i] = testutil.NewLine(t, nil)
	}
	quiet(lines[len(lines)-1])
	var all sync.WaitGroup
	for _, l := range lines {
		all.Go(func() { pinged(l, time.Second) })
	}
	all.Wait()
}

func TestPingWithDataOutstandingAsksByThese(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	o := optioned{keepAlive: 1, idle: 8, interval: 2, count: 3, userTimeout: 20_000}
	for name, play := range map[string]func(l *testutil.Line, before string){
		"in flight": func(l *testutil.Line, before string) {
			mend := l.Cut(testutil.ToPeer)
			write(l)
			unanswered(l, 1200*time.Millisecond)
			restored(l, before)
			mend()
			pinged(l, 3*time.Second)
		},
		"written while it waits": func(l *testutil.Line, _ string) {
			mend := l.Cut(testutil.ToPeer)
			done := make(chan error, 1)
			go func() { _, err := ping(l, testutil.Patience); done <- err }()
			testutil.Until(l.TB, "probed", func() bool { return l.Conn.Status().Probes > 0 })
			write(l)
			mend()
			l.Must(testutil.Await(l.TB, done))
		},
		"behind a closed window": func(l *testutil.Line, _ string) {
			l.Fill()
			l.WaitState(liveness.Stalled)
			for range 2 {
				quiet(l)
				pinged(l, 3*time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := o.line(t, nil)
			before := testutil.Options(t, l.Bare)
			quiet(l)
			play(l, before)
			l.Lives()
			restored(l, before)
		})
	}
}

func TestPingsDoNotKeepAVanishedPeer(t *testing.T) {
	t.Parallel()
	for name, patience := range map[string]time.Duration{"short ones": 500 * time.Millisecond, "one that waits": testutil.Patience} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var err error
			vanishing{act: func(l *testutil.Line) {
				for ; l.Conn.Err() == nil; time.Sleep(10 * time.Millisecond) {
					_, err = ping(l, patience)
				}
				if _, err := ping(l, patience); err != l.Conn.Err() {
					t.Errorf("Ping after the end returned %v", err)
				}
			}}.play(t)
			if patience == testutil.Patience && !errors.Is(err, liveness.ErrPeerLost) {
				t.Errorf("the Ping that waited returned %v", err)
			}
		})
	}
}

func TestPingEndsWithItsContextAndItsConnection(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	l := optioned{keepAlive: 1, idle: 8, interval: 2, count: 3, userTimeout: 20_000}.line(t, nil)
	before := testutil.Options(t, l.Bare)
	quiet(l)
	received := segments(l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Conn.Ping(ctx); !errors.Is(err, context.Canceled) || segments(l) != received {
		t.Errorf("Ping with a context that has ended returned %v, and sent %d probes", err, segments(l)-received)
	}
	mend := l.Cut(testutil.Both)
	unanswered(l, 300*time.Millisecond)
	mend()
	// What it changed is put back also behind a FIN, when nobody pings any more.
	l.Must(l.Peer.CloseWrite())
	l.Ended()
	restored(l, before)
	if err := l.Conn.Ping(t.Context()); err != l.Conn.Err() || !errors.Is(err, liveness.ErrPeerClosed) {
		t.Errorf("Ping after the end returned %v", err)
	}
	other := testutil.NewLine(t, nil)
	quiet(other)
	other.Cut(testutil.Both)
	time.AfterFunc(200*time.Millisecond, func() { other.Conn.Close() })
	if took, err := ping(other, testutil.Patience); !errors.Is(err, net.ErrClosed) || took > testutil.Late {
		t.Errorf("Close during a Ping: %v after %v", err, took)
	}
}

func TestPingIsUnsupportedWhereNothingCanBeAsked(t *testing.T) {
	t.Parallel()
	pipe, far := net.Pipe()
	defer far.Close()
	conns := map[string]net.Conn{"pipe": pipe}
	conns["unix"], _ = livenesstest.Pair(t, "unix")
	for name, conn := range conns {
		c := wrap(t, conn, nil)
		if err := c.Ping(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: Ping returned %v", name, err)
		}
	}
}
