package liveness_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// noEndingsLinux need the descriptor, or are known to Linux alone.
var noEndingsLinux = []noEnding{
	{name: "SHUT_RD of the descriptor", act: func(s *scene) { s.shutdown(unix.SHUT_RD) }, on: []string{"tcp4"}, then: "close reset own"},
	{name: "SHUT_WR of the descriptor", act: func(s *scene) { s.feed(); s.shutdown(unix.SHUT_WR) }, on: []string{"tcp4", "unix", "mptcp"}, then: "reset own"},
	{name: "SHUT_RDWR of the descriptor", act: func(s *scene) { s.shutdown(unix.SHUT_RDWR) }, on: []string{"tcp4"}, then: "close reset own", needsState: true},
	{name: "time stamps in the error queue", act: func(s *scene) {
		setOrSkip(s.T, s.bare, unix.SO_TIMESTAMPING, timestamping)
		s.passes(s.conn, s.peer)
		testutil.Until(s.T, "POLLERR", func() bool { return polls(s.T, s.bare)&unix.POLLERR != 0 })
		s.passes(s.conn, s.peer)
	}, on: []string{"tcp4", "tcp6 tls"}, then: "close reset own"},
	{name: "completions of MSG_ZEROCOPY in the error queue", act: func(s *scene) {
		setOrSkip(s.T, s.bare, unix.SO_ZEROCOPY, 1)
		b := bytes.Repeat(message, 10)
		sendTo(s.T, s.bare, b, unix.MSG_ZEROCOPY)
		_, err := io.ReadFull(s.wire, make([]byte, len(b)))
		testutil.Must(s.T, err)
		testutil.Until(s.T, "POLLERR", func() bool { return polls(s.T, s.bare)&unix.POLLERR != 0 })
		s.passes(s.conn, s.peer)
	}, on: []string{"tcp4"}, then: "close reset own"},
	{name: "urgent data", act: func(s *scene) { sendTo(s.T, s.wire.NetConn(), []byte("!"), unix.MSG_OOB); s.send(message) },
		on: []string{"tcp4"}, then: "close reset own"},
	{name: "signals during checks", act: (*scene).checkUnderSignals, on: []string{"tcp4"}, then: "reset"},
}

const timestamping = unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_TX_ACK | unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_OPT_TSONLY

func TestNoEndingsLinux(t *testing.T) { playNoEndings(t, noEndingsLinux) }

func (s *scene) shutdown(how int) {
	s.Helper()
	testutil.Control(s.T, s.bare, func(fd int) error { return unix.Shutdown(fd, how) })
}

func sendTo(t *testing.T, conn net.Conn, b []byte, flags int) {
	t.Helper()
	testutil.Control(t, conn, func(fd int) error { return unix.Sendto(fd, b, flags, nil) })
}

// setOrSkip sets an option that old kernels and emulators do not have.
func setOrSkip(t *testing.T, conn net.Conn, option, value int) {
	t.Helper()
	var err error
	testutil.Control(t, conn, func(fd int) error { err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, value); return nil })
	if err == unix.ENOPROTOOPT {
		t.Skipf("this system has no socket option %d: %v", option, err)
	}
	testutil.Must(t, err)
}

// polls returns what poll reports of conn.
func polls(t *testing.T, conn net.Conn) int16 {
	t.Helper()
	fds := []unix.PollFd{{}}
	testutil.Control(t, conn, func(fd int) error { fds[0].Fd = int32(fd); unix.Poll(fds, 0); return nil })
	return fds[0].Revents
}

// checkUnderSignals checks while signals interrupt the thread, as those of a scheduler that preempts. A check that failed
// would go on to peek, which takes the socket's error.
func (s *scene) checkUnderSignals() {
	var over atomic.Bool
	thread, failed := make(chan int, 1), make(chan int, 1)
	go func() {
		n := 0
		testutil.Control(s.T, s.bare, func(int) error { thread <- unix.Gettid(); return nil })
		for !over.Load() {
			if !s.watched().Alive() {
				n++
			}
		}
		failed <- n
	}()
	id := testutil.Await(s.T, thread)
	for range 20_000 {
		unix.Tgkill(unix.Getpid(), id, unix.SIGURG)
	}
	over.Store(true)
	if n := testutil.Await(s.T, failed); n > 0 {
		s.Errorf("%d checks failed", n)
	}
}

// TestErrorQueueDoesNotHideAnOrderlyEnd leaves time stamps unread while both sides close.
func TestErrorQueueDoesNotHideAnOrderlyEnd(t *testing.T) {
	testutil.Deadline(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	setOrSkip(t, conn, unix.SO_TIMESTAMPING, timestamping)
	w := watch(t, conn, liveness.Config{AllowHalfClose: true})
	w.conn.Write(message)
	w.conn.CloseWrite()
	testutil.ReadAll(peer)
	testutil.Until(t, "POLLERR", func() bool { return polls(t, conn)&unix.POLLERR != 0 })
	peer.Close()
	w.ended(liveness.ErrPeerClosed)
	if _, err := w.conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read = %v", err)
	}
}

// A kernelTimeout is a timer of the kernel that ends a connection.
type kernelTimeout struct {
	name  string
	timer func(*scene)
	on    string
	fin   bool // the peer's FIN came before
	write bool // data are in flight
}

var kernelTimeouts = []kernelTimeout{
	{"keep-alive", keepAliveTimer, "tcp4", false, false},
	{"keep-alive under a reader", keepAliveTimer, "tcp6 reader", false, false},
	{"keep-alive behind unread data", keepAliveTimer, "tcp4 unread", false, false},
	{"keep-alive after a half-close", keepAliveTimer, "tcp4 half", true, false},
	{"user timeout behind a closed window", userTimeoutTimer, "tcp4 writer", false, false},
	{"user timeout with data in flight", userTimeoutTimer, "tcp4", false, true},
	{"user timeout with data in flight, half-close allowed", userTimeoutTimer, "tcp6 half", false, true},
}

func keepAliveTimer(s *scene) {
	config := net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 1} // sooner is not to be had
	testutil.Must(s.T, s.bare.(*net.TCPConn).SetKeepAliveConfig(config))
}

func userTimeoutTimer(s *scene) {
	testutil.SetOption(s.T, s.bare, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 500)
}

// TestKernelTimeoutIsLost cuts the cable and leaves it to the kernel's own timers to give up. Their errno is ETIMEDOUT, which
// is never a reset, and a loop that retries after time-outs must come to an end.
func TestKernelTimeoutIsLost(t *testing.T) {
	t.Parallel()
	for _, c := range kernelTimeouts {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			t.Parallel() // they wait for a second
			testutil.Deadline(t)
			s := newScene(t, c.on)
			c.timer(s)
			if c.fin {
				s.peerClosesWrite()
				s.noticesFIN()
			}
			_, err := livenesstest.Cut(s.wire, s.bare)
			testutil.MustOrSkip(t, err)
			if c.write {
				s.bare.Write(message)
			}
			s.ended(liveness.ErrPeerLost)
			if !errors.Is(s.watched().Err(), syscall.ETIMEDOUT) {
				t.Errorf("Err() = %v, without ETIMEDOUT", s.watched().Err())
			}
			if c.fin {
				s.checkRead(eof)
			} else {
				s.checkRead(anyErr)
			}
			for n := 0; ; n++ {
				_, err := s.conn.Read(make([]byte, 1))
				if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
					break
				}
				if n == 100 {
					t.Fatalf("Read goes on to return %v, whose Timeout() is true", err)
				}
			}
		})
	}
}

// An askedInVain connection is one whose kernel has had no answer.
type askedInVain struct {
	option, value int // of TCP
	keepAlive     net.KeepAliveConfig
	write         bool
}

// TestResetAfterUnansweredProbesIsAReset resets while the kernel has asked in vain, which leaves the counters of a time-out.
func TestResetAfterUnansweredProbesIsAReset(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]askedInVain{
		"retransmissions":              {write: true},
		"keep-alive, many probes":      {keepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 5}},
		"keep-alive, one probe":        {keepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: 30 * time.Second, Count: 1}},
		"keep-alive and user timeout":  {unix.TCP_USER_TIMEOUT, 900, net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: 30 * time.Second, Count: 9}, false},
		"data in flight, user timeout": {unix.TCP_USER_TIMEOUT, 60_000, net.KeepAliveConfig{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for a second
			testutil.Deadline(t)
			testutil.Again(t, func() bool { return c.isReset(t) })
		})
	}
}

// isReset is not valid if the library could not look before the next retransmission was due: the counters are then those of a
// time-out.
func (c askedInVain) isReset(t *testing.T) (valid bool) {
	s := newScene(t, "tcp4")
	if c.keepAlive.Enable {
		testutil.Must(t, s.bare.(*net.TCPConn).SetKeepAliveConfig(c.keepAlive))
	}
	if c.option != 0 {
		testutil.SetOption(t, s.bare, unix.IPPROTO_TCP, c.option, c.value)
	}
	mend, err := livenesstest.Cut(s.wire)
	testutil.MustOrSkip(t, err)
	written := time.Now()
	if c.write {
		s.conn.Write(message)
	}
	testutil.Until(t, "something is unanswered", func() bool { st := s.watched().Status(); return st.Probes+st.Retransmits > 0 || st.Err != nil })
	testutil.Must(t, mend())
	s.wire.Reset()
	testutil.Await(t, s.watched().Done())
	if c.write && time.Since(written) > 3*keepalive.MinRTO && !errors.Is(s.watched().Err(), liveness.ErrPeerReset) {
		return false // the second retransmission was due
	}
	s.ended(liveness.ErrPeerReset)
	s.checkRead(reset)
	return true
}

// TestCloseWriteBeforeWrapDoesNotMakeAFINAReset wraps a connection whose own FIN went before, on either side of the dial.
func TestCloseWriteBeforeWrapDoesNotMakeAFINAReset(t *testing.T) {
	testutil.Deadline(t)
	testutil.NeedsTCPInfo(t)
	for _, dialled := range []bool{false, true} {
		accepted, peer := livenesstest.Pair(t, "tcp4")
		conn, far := accepted, peer.Conn
		if dialled {
			conn, far = far, conn
		}
		conn.(*net.TCPConn).CloseWrite()
		if got := testutil.ReadAll(far); got.Err != io.EOF {
			t.Fatal(got.Err)
		}
		w := watch(t, conn, liveness.Config{AllowHalfClose: true})
		w.lives(liveness.Connected)
		far.Close()
		w.ended(liveness.ErrPeerClosed)
	}
}
