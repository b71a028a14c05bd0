//go:build linux

package liveness_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

var states = map[string]func(t *testing.T){
	"data in flight": func(t *testing.T) {
		l := testutil.NewLine(t, nil)
		l.WaitState(liveness.Connected)
		mend := l.Cut(testutil.Both)
		write(l)
		if s := l.WaitState(liveness.Suspect); s.Retransmits == 0 || s.Unacked != 9 {
			t.Errorf("suspect by %+v", s)
		}
		mend()
		l.Wait("connected", func(s liveness.Status) bool {
			return s.State == liveness.Connected && s.Retransmits == 0 && s.Unacked == 0 && s.Silence < time.Second
		})
	},
	"keep-alive": func(t *testing.T) {
		l := testutil.NewLine(t, &liveness.Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 9}})
		mend := l.Cut(testutil.Both)
		if s := l.WaitState(liveness.Suspect); s.Probes == 0 || s.Silence < time.Second-testutil.Tick {
			t.Errorf("suspect by %+v", s)
		}
		mend()
		l.WaitState(liveness.Connected)
	},
	"closed window": func(t *testing.T) {
		l := testutil.NewLine(t, &liveness.Config{PeerTimeout: 10 * time.Second})
		closedWindowAndBack(t, l, liveness.Connected)
	},
	"half-closed": func(t *testing.T) {
		l := testutil.NewLine(t, &liveness.Config{PeerTimeout: 10 * time.Second, AllowHalfClose: true})
		l.Must(l.Peer.CloseWrite())
		l.WaitState(liveness.HalfClosed)
		closedWindowAndBack(t, l, liveness.HalfClosed)
		l.Lives()
	},
	"half-closed, then reset in a Write": func(t *testing.T) {
		for range 20 {
			l := testutil.NewLine(t, &liveness.Config{AllowHalfClose: true})
			l.Must(l.Peer.CloseWrite())
			l.WaitState(liveness.HalfClosed)
			l.Fill()
			l.WaitState(liveness.Stalled)
			l.Must(l.Peer.Reset())
			l.Ended()
			if s := l.Conn.Status(); s.State != liveness.Disconnected || !errors.Is(s.Err, liveness.ErrPeerReset) {
				t.Fatalf("reset: %+v", s)
			}
		}
	},
	"corked": func(t *testing.T) {
		l := testutil.NewLine(t, nil)
		testutil.SetOption(t, l.Bare, unix.IPPROTO_TCP, unix.TCP_CORK, 1)
		write(l)
		for began := time.Now(); time.Since(began) < 150*time.Millisecond; {
			if s := l.Conn.Status(); s.State != liveness.Connected {
				t.Fatalf("%+v", s)
			}
		}
	},
	"unix and pipe": func(t *testing.T) {
		conn, peer := livenesstest.Pair(t, "unix")
		l := testutil.LineOf(t, conn, peer, &liveness.Config{AllowHalfClose: true})
		l.WaitState(liveness.Connected)
		l.Must(l.Peer.CloseWrite())
		if _, err := l.Conn.Read(make([]byte, 1)); err != io.EOF || l.Conn.Status().State != liveness.HalfClosed {
			t.Errorf("Read returned %v, and the state is %v", err, l.Conn.Status().State)
		}
		pipe, _ := net.Pipe()
		testutil.LineOf(t, pipe, nil, nil).WaitState(liveness.Unknown)
	},
}

func TestStatusShowsTheStateThereAndBack(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	for name, play := range states {
		t.Run(name, func(t *testing.T) { t.Parallel(); play(t) })
	}
}

func closedWindowAndBack(t *testing.T, l *testutil.Line, back liveness.State) {
	l.Fill()
	l.WaitState(liveness.Stalled)
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(10 * time.Millisecond) {
		if s := l.Conn.Status(); s.State != liveness.Stalled { // probes that are answered are no suspicion
			t.Fatalf("%+v", s)
		}
	}
	mend := l.Cut(testutil.Both)
	l.WaitState(liveness.Suspect)
	mend()
	l.WaitState(liveness.Stalled)
	l.Take(64<<10, 0)
	l.WaitState(back)
}

// sameQueues checks that Status counts as the kernel does.
func sameQueues(l *testutil.Line, what string, fins int) liveness.Status {
	l.Helper()
	var s liveness.Status
	testutil.Until(l.TB, "counted as by the kernel: "+what, func() bool {
		s = l.Conn.Status()
		out := 0
		testutil.Control(l.TB, l.Bare, func(fd int) error {
			count, err := unix.IoctlGetUint32(fd, unix.SIOCOUTQ) // the kernel's int has 32 bits
			out = int(count)
			return err
		})
		return s.Unread == received(l.TB, l.Bare) && s.Unacked == out-fins
	})
	return s
}

var queues = map[string]func(t *testing.T, l *testutil.Line){
	"a conversation": func(t *testing.T, l *testutil.Line) {
		for n := range 20 {
			l.Receive(1 + n*7)
			write(l)
			sameQueues(l, "conversation", 0)
		}
		l.Acknowledged()
		if s := l.Conn.Status(); s.Unread != 20+7*190 {
			t.Errorf("%d bytes unread", s.Unread)
		}
	},
	"in flight, then acknowledged": func(t *testing.T, l *testutil.Line) {
		mend := l.Cut(testutil.ToPeer)
		for _, n := range []int{1, 100, 10_000} {
			l.Conn.Write(make([]byte, n))
		}
		l.Wait("retransmitted", func(s liveness.Status) bool { return s.Retransmits >= 2 })
		if s := sameQueues(l, "in flight", 0); s.Unacked != 10_101 {
			t.Errorf("%+v", s)
		}
		mend()
		l.Acknowledged()
	},
	"closed window": func(t *testing.T, l *testutil.Line) {
		l.Fill()
		l.WaitState(liveness.Stalled)
		if s := sameQueues(l, "closed window", 0); s.Unacked == 0 {
			t.Errorf("%+v", s)
		}
	},
	"after a FIN": func(t *testing.T, l *testutil.Line) {
		l.Receive(100)
		l.Must(l.Peer.CloseWrite())
		l.WaitState(liveness.HalfClosed)
		if s := l.Conn.Status(); s.Unread != 100 {
			t.Errorf("%+v", s)
		}
	},
	"our own FIN": func(t *testing.T, l *testutil.Line) {
		l.Cut(testutil.ToPeer)
		write(l)
		l.Must(l.Conn.CloseWrite())
		sameQueues(l, "own FIN", 1) // which the kernel counts as a byte
	},
	"urgent data": func(t *testing.T, l *testutil.Line) { // at which SIOCINQ stops
		testutil.NeedsCountBehindUrgent(t)
		testutil.Control(t, l.Peer.NetConn(), func(fd int) error { return unix.Sendto(fd, []byte{'!'}, unix.MSG_OOB, nil) })
		l.Peer.Write(make([]byte, 100))
		testutil.Until(t, "received", func() bool { return tcpInfo(l.TB, l.Bare).Bytes_received == 101 })
		if s := l.Conn.Status(); s.Unread < 100 || s.Unread > 101 {
			t.Errorf("%d bytes unread; want 100, or 101 with the urgent one", s.Unread)
		}
	},
}

func TestStatusCountsUnreadAndUnackedExactly(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	for name, play := range queues {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, testutil.NewLine(t, &liveness.Config{AllowHalfClose: true}))
		})
	}
}

func TestStatusSilenceIsSinceAnythingWasHeard(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	l := testutil.NewLine(t, nil)
	for name, exchange := range map[string]func(){"data": l.Heard, "an acknowledgement": func() { write(l); l.Acknowledged() }} {
		from := time.Now()
		exchange()
		to := time.Now()
		for range 2 {
			least := time.Since(to) - testutil.Tick
			s := l.Conn.Status()
			if most := time.Since(from) + testutil.Tick; s.Silence < least || s.Silence > most || s.RTT <= 0 || s.RTT > time.Second {
				t.Errorf("after %s: %+v; want a Silence of %v to %v", name, s, least, most)
			}
			l.LivesFor(300 * time.Millisecond)
		}
	}
}

// What an error says is true, and stays.
func TestEvidenceOfAVerdictStays(t *testing.T) {
	words := map[string]string{
		"lost in flight": `: peer lost: nothing heard for \d+\.\d s, (1 keep-alive probe unanswered, )?\d+ retransmissions unanswered, 9 bytes unacknowledged: connection timed out$`,
		"lost idle":      `: peer lost: nothing heard for \d+\.\d s, \d+ keep-alive probes unanswered: connection timed out$`,
		"stalled":        `: peer stalled: nothing taken for \d+\.\d s, (1 window probe unanswered, )?\d+ bytes unacknowledged$`,
		"idle":           `: peer idle: nothing received for \d+\.\d s$`,
		"closed window":  `: peer lost: nothing heard for \d+\.\d s, \d+ window probes unanswered, \d+ bytes unacknowledged: connection timed out$`,
	}
	behindWindow := verdict{config: liveness.Config{PeerTimeout: shortest}, reason: liveness.ErrPeerLost, begin: func(l *testutil.Line) {
		closedWindow.prepare(l)
		l.Cut(testutil.Both)
	}}
	check := func(t *testing.T, name string, v verdict, l *testutil.Line) {
		v.begin(l)
		v.ends(l)
		before, text := l.Conn.Status(), l.Conn.Err().Error()
		if before.Unread != 6 || (before.Unacked > 0) != (name != "idle" && name != "lost idle") || v.config.PeerTimeout > 0 && before.Silence < shortest-testutil.Tick {
			t.Errorf("the evidence is %+v", before)
		}
		prefix := fmt.Sprintf("watch tcp %v->%v", l.Conn.LocalAddr(), l.Conn.RemoteAddr())
		if !regexp.MustCompile("^" + regexp.QuoteMeta(prefix) + words[name]).MatchString(text) {
			t.Errorf("%q; want %q", text, prefix+words[name])
		}
		time.Sleep(500 * time.Millisecond)
		l.Conn.Close()
		if after := l.Conn.Status(); after != before || l.Conn.Err().Error() != text {
			t.Errorf("%+v became %+v", before, after)
		}
	}
	eachVerdict(t, "unread", func(t *testing.T, v verdict, l *testutil.Line) { check(t, v.name, v, l) })
	t.Run("closed window", func(t *testing.T) {
		t.Parallel()
		check(t, "closed window", behindWindow, behindWindow.line(t, "unread"))
	})
}

func TestStatusCountsTheStream(t *testing.T) {
	testutil.Deadline(t)
	testutil.NeedsTCPInfo(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	c := wrap(t, conn, &liveness.Config{AllowHalfClose: true})
	peer.Write(message)
	testutil.Must(t, peer.CloseWrite())
	c.Write(message[:3])
	testutil.Until(t, "all is counted", func() bool { s := c.Status(); return s.Received == int64(len(message)) && s.Acked == 3 && s.Age > 0 })
}
