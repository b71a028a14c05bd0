package liveness_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	rig "github.com/go-liveness/liveness/internal/link"
	"github.com/go-liveness/liveness/internal/testutil"
)

// linkSlack is what a busy machine may add to an upper limit.
const linkSlack = 1500 * time.Millisecond

// clockGrain is how much less than a time-out the log may show: the kernel counts in
// jiffies, and tcp_info in milliseconds.
const clockGrain = 20 * time.Millisecond

// TestLink holds the library to its promises on paths that lose, delay and hide. The
// log of what the relay delivered decides what is right. LIVENESS_LINK runs the long set.
func TestLink(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	if !rig.Require(t) {
		return
	}
	for name, f := range map[string]func(*testing.T){
		"Live":          testLinkLive,
		"Vanished":      func(t *testing.T) { testLinkVanished(t, 0, 4*time.Second, -1, 0.2) },
		"Vanished, 5 %": func(t *testing.T) { testLinkVanished(t, 0.05, 4*time.Second, 0, 0.33) },
		"Vanished,20 %": func(t *testing.T) { testLinkVanished(t, 0.2, 4*time.Second, -1, 0.1, 0.33) },
		"BlackHole":     testLinkBlackHole,
		"NoRoute":       testLinkNoRoute,
		"Flapping":      testLinkFlapping,
		"Outage":        testLinkOutageBeyondRetries,
		"WindowUpdate":  func(t *testing.T) { testLinkWindowUpdate(t, 1400*time.Millisecond, time.Second) },
		"MPTCP":         testLinkMPTCP,
		"SlowReader":    func(t *testing.T) { testLinkSlowReader(t, 10*time.Second) },
		"KernelTimeout": testLinkKernelTimeout,
		"Orphan":        testLinkOrphan,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); f(t) })
	}
}

func newLink(t *testing.T, o rig.Options) *rig.Link {
	t.Helper()
	l, err := rig.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	return l
}

// A linked connection has its ends on both sides of a link.
type linked struct {
	*rig.Link
	conn  *liveness.Conn
	bare  *net.TCPConn // beneath conn
	peer  *net.TCPConn
	ended chan linkEnd
}

type linkEnd struct {
	at  time.Time
	err error
}

func connectLinked(t *testing.T, l *rig.Link, cfg liveness.Config) *linked {
	t.Helper()
	bare, peer, err := l.Connect()
	require.NoError(t, err)
	t.Cleanup(func() { bare.Close(); peer.Close() })
	return wrapLinked(t, l, cfg, bare, peer)
}

func wrapLinked(t *testing.T, l *rig.Link, cfg liveness.Config, bare, peer *net.TCPConn) *linked {
	t.Helper()
	c := &linked{Link: l, bare: bare, peer: peer, ended: make(chan linkEnd, 1)}
	cfg.OnDisconnect = func(_ *liveness.Conn, err error) { c.ended <- linkEnd{time.Now(), err} }
	var err error
	c.conn, err = liveness.Wrap(bare, &cfg)
	require.NoError(t, err)
	t.Cleanup(func() { c.conn.Close() })
	return c
}

// exchange carries bytes each way until both kernels have measured the round trip: the
// first measurement on a busy machine may make retransmissions rare.
func (c *linked) exchange(t *testing.T) {
	t.Helper()
	for n := 0; n < 4 || n < 50 && c.conn.Status().RTT > 100*time.Millisecond; n++ {
		bothWays(t, c.conn, c.peer)
	}
}

// bothWays carries a byte each way.
func bothWays(t *testing.T, a, b net.Conn) {
	t.Helper()
	for _, d := range [][2]net.Conn{{a, b}, {b, a}} {
		_, err := d[0].Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(d[1], make([]byte, 1))
		require.NoError(t, err)
	}
}

// stream carries 50 kB/s each way on each connection.
func stream(t *testing.T, lasts time.Duration, conns ...*linked) {
	t.Helper()
	for _, c := range conns {
		go io.Copy(io.Discard, c.conn)
		go io.Copy(io.Discard, c.peer)
	}
	for began := time.Now(); time.Since(began) < lasts; time.Sleep(100 * time.Millisecond) {
		for _, c := range conns {
			for _, conn := range []net.Conn{c.conn, c.peer} {
				_, err := conn.Write(make([]byte, 5000))
				require.NoError(t, err)
			}
		}
	}
}

// flush waits until the peer has acknowledged all that was written.
func (c *linked) flush(t *testing.T) {
	t.Helper()
	for began := time.Now(); c.conn.Status().Unacked > 0; time.Sleep(time.Millisecond) {
		require.Less(t, time.Since(began), time.Minute)
	}
}

// heartbeat has the peer send a byte every 200 ms, which conn reads, until the test ends.
func (c *linked) heartbeat(t *testing.T) {
	go io.Copy(io.Discard, c.conn)
	go func() {
		for {
			if _, err := c.peer.Write([]byte("x")); err != nil {
				return
			}
			select {
			case <-t.Context().Done():
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
}

// end waits for the end of conn, at most until within after since.
func (c *linked) end(t *testing.T, since time.Time, within time.Duration) linkEnd {
	t.Helper()
	end, ok := testutil.AwaitBy(c.ended, since, since.Add(within))
	require.True(t, ok, "no end was reported within %v + %v: %+v", within, testutil.Late, c.conn.Status())
	t.Logf("after %.2f s: %v", end.at.Sub(since).Seconds(), end.err)
	return end
}

// silent returns what the log says: for how long nothing had been delivered, and nothing acknowledged.
func (c *linked) silent(end linkEnd) (silence, unacknowledged time.Duration) {
	// A packet may have come between the verdict and the callback that took its time.
	for _, before := range []time.Duration{0, 20, 50, 100, 200} {
		at := end.at.Add(-before * time.Millisecond)
		silence = max(silence, c.Heard(c.bare).SilentFor(at))
		unacknowledged = max(unacknowledged, c.Heard(c.bare).UnacknowledgedFor(at))
	}
	return silence, unacknowledged
}

// right compares an end with the log: a peer is lost after timeout without anything that
// was delivered, or twice that without an acknowledgement.
func (c *linked) right(end linkEnd, timeout time.Duration) error {
	silence, unacknowledged := c.silent(end)
	lost := errors.Is(end.err, liveness.ErrPeerLost)
	// The kernel's keep-alive does not hear a segment that repeats what was received
	// (tcp_validate_incoming in net/ipv4/tcp_input.c).
	if lost && strings.Contains(end.err.Error(), "keep-alive") && unacknowledged >= timeout-clockGrain {
		return nil
	}
	if lost && (silence >= timeout-clockGrain || unacknowledged >= 2*timeout-clockGrain) {
		return nil
	}
	return fmt.Errorf("%.1f s of silence, %.1f s without acknowledgement: %w", silence.Seconds(), unacknowledged.Seconds(), end.err)
}

// testLinkVanished has the peers of connections vanish together. writes are the parts of timeout after the cut at which
// one of them writes; negative, as only the first may be, is never.
func testLinkVanished(t *testing.T, loss float64, timeout time.Duration, writes ...float64) {
	l := newLink(t, rig.Options{Seed: 2, Paths: rig.Both(rig.Path{Delay: 20 * time.Millisecond})})
	conns := make([]*linked, len(writes))
	for i := range conns {
		conns[i] = connectLinked(t, l, liveness.Config{PeerTimeout: timeout})
		conns[i].exchange(t)
	}
	require.NoError(t, l.Set(rig.Path{Loss: loss, Delay: 20 * time.Millisecond}))
	stream(t, 2*time.Second, conns...)
	if writes[0] < 0 {
		require.NoError(t, l.Set(rig.Path{Delay: 20 * time.Millisecond})) // or it may take minutes
		conns[0].flush(t)
	}
	l.Cut()
	cut := time.Now()
	t.Run("cut", func(t *testing.T) {
		for i, write := range writes {
			t.Run(fmt.Sprintf("written at %g %% of D", 100*write), func(t *testing.T) {
				t.Parallel()
				conns[i].vanished(t, cut, loss, timeout, write)
			})
		}
	})
}

// vanished checks the end of a connection whose link was cut.
func (c *linked) vanished(t *testing.T, cut time.Time, loss float64, timeout time.Duration, write float64) {
	within := timeout*105/100 + 2*time.Second
	if write >= 0 {
		within = timeout*125/100 + time.Second
		time.Sleep(time.Until(cut.Add(time.Duration(write * float64(timeout)))))
		_, err := c.conn.Write([]byte("in flight"))
		require.NoError(t, err)
	}
	least := timeout
	if loss > 0 {
		within += timeout / 4 // a retransmission or a probe before the cut was lost
		least -= timeout / 8  // a repeated segment that comes right after an acknowledgement is not seen
	}
	end := c.end(t, cut, within)
	assert.NoError(t, c.right(end, least))
}

// unacknowledged waits for the verdict on a peer that is heard and acknowledges nothing
// that was written after since.
func (c *linked) unacknowledged(t *testing.T, since time.Time, timeout time.Duration) {
	t.Helper()
	end := c.end(t, since, 2*timeout+time.Second+timeout/2)
	assert.GreaterOrEqual(t, end.at.Sub(since), 2*timeout-clockGrain)
	assert.ErrorIs(t, end.err, liveness.ErrPeerLost)
	assert.ErrorContains(t, end.err, "nothing acknowledged for ")
}

// testLinkBlackHole has a router that drops large packets and says nothing.
func testLinkBlackHole(t *testing.T) {
	for _, probing := range []string{"0", "1"} {
		t.Run("tcp_mtu_probing="+probing, func(t *testing.T) {
			t.Parallel()
			timeout := 4 * time.Second
			l := newLink(t, rig.Options{Paths: [2]rig.Path{rig.Local: {MaxSize: 1100, Delay: 20 * time.Millisecond}}})
			require.NoError(t, l.Sysctl(rig.Local, "net.ipv4.tcp_mtu_probing", probing))
			if probing == "1" {
				// The kernel suspects a black hole at the fourth retransmission
				// (tcp_write_timeout in net/ipv4/tcp_timer.c), which must come in time.
				timeout = 6 * time.Second
				require.NoError(t, l.Sysctl(rig.Local, "net.ipv4.tcp_retries1", "1"))
			}
			c := connectLinked(t, l, liveness.Config{PeerTimeout: timeout})
			c.exchange(t)
			since := time.Now()
			_, err := c.conn.Write(make([]byte, 50_000))
			require.NoError(t, err)
			if probing == "0" {
				c.heartbeat(t)
				c.unacknowledged(t, since, timeout)
				return
			}
			c.peer.SetReadDeadline(since.Add(2*timeout + linkSlack))
			_, err = io.ReadFull(c.peer, make([]byte, 50_000))
			assert.NoError(t, err, "%+v", c.conn.Status())
			assert.NoError(t, c.conn.Err())
		})
	}
}

// testLinkFlapping has a path that is up again before half of D has passed.
func testLinkFlapping(t *testing.T) {
	const timeout = 6 * time.Second
	flap := func(t *testing.T, down, up time.Duration, write bool) {
		t.Parallel()
		l := newLink(t, rig.Options{Paths: rig.Both(rig.Path{Delay: 20 * time.Millisecond})})
		c := connectLinked(t, l, liveness.Config{PeerTimeout: timeout})
		c.exchange(t)
		if write {
			c.heartbeat(t)
		}
		stop, err := l.Flap(down, up)
		require.NoError(t, err)
		defer stop()
		for began := time.Now(); time.Since(began) < 9*time.Second; time.Sleep(100 * time.Millisecond) {
			if write {
				c.conn.Write([]byte("x"))
			}
			select {
			case end := <-c.ended:
				require.NoError(t, c.right(end, timeout))
			default:
			}
		}
	}
	t.Run("idle", func(t *testing.T) { flap(t, 1800*time.Millisecond, 1200*time.Millisecond, false) })
	t.Run("writing", func(t *testing.T) { flap(t, 2700*time.Millisecond, 500*time.Millisecond, true) })
}

// testLinkOutageBeyondRetries has a kernel whose own patience is shorter than an outage
// that PeerTimeout allows for.
func testLinkOutageBeyondRetries(t *testing.T) {
	l := newLink(t, rig.Options{Paths: rig.Both(rig.Path{Delay: 20 * time.Millisecond})})
	c := connectLinked(t, l, liveness.Config{PeerTimeout: time.Minute})
	c.exchange(t)
	require.NoError(t, l.Sysctl(rig.Local, "net.ipv4.tcp_retries2", "3"))
	l.Cut()
	_, err := c.conn.Write([]byte("x"))
	require.NoError(t, err)
	time.Sleep(5 * time.Second) // a bare connection ends after 3.6 s
	require.NoError(t, c.conn.Err(), "the kernel gave up first")
	l.Restore()
	c.peer.SetReadDeadline(time.Now().Add(time.Minute))
	_, err = io.ReadFull(c.peer, make([]byte, 1))
	assert.NoError(t, err)
}

// testLinkWindowUpdate loses the segment that tells the peer that it may send again. The
// window opens after a probe that came probed after the one before, so that the next is
// due after twice that (tcp_send_probe0 in net/ipv4/tcp_output.c).
func testLinkWindowUpdate(t *testing.T, probed, idle time.Duration) {
	// A probe that the relay still had when the link was cut tells the peer nothing, and
	// the library that it knows.
	testutil.Again(t, func() bool { return tryWindowUpdate(t, probed, idle) })
}

func tryWindowUpdate(t *testing.T, probed, idle time.Duration) (valid bool) {
	const total = 520_000
	l := newLink(t, rig.Options{Paths: rig.Both(rig.Path{Delay: 10 * time.Millisecond})})
	require.NoError(t, l.Sysctl(rig.Local, "net.ipv4.tcp_rmem", "4096 65536 65536"))
	bare, peer, err := l.Connect()
	require.NoError(t, err)
	defer peer.Close()
	for range 10 {
		bothWays(t, bare, peer)
	}
	// The next probe is due after twice the last pause, which is as long as the window was closed and one retransmission
	// time-out of the peer. The library does not know that one.
	rto := func() time.Duration { return time.Duration(tcpInfo(t, peer).Rto) * time.Microsecond }
	idle = max(idle, 2*rto())
	probed = max(probed, idle*14/10)
	c := wrapLinked(t, l, liveness.Config{ReadIdleTimeout: idle}, bare, peer)
	go c.peer.Write(make([]byte, total))
	for last := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		heard := l.Heard(c.bare).LastHeard(time.Now())
		if heard.Sub(last) >= probed {
			break
		}
		last = heard
	}
	if rto() > idle*3/4 {
		return false // the relay had no processor
	}
	select {
	case end := <-c.ended:
		if silence, _ := c.silent(end); silence >= idle {
			return false // not even probes came
		}
		require.NoError(t, end.err, "the clock ran while the window was closed")
	default:
	}
	l.Cut()
	received := 0
	opened := time.Now()
	for buf := make([]byte, 1<<16); err == nil && time.Since(opened) < 300*time.Millisecond; {
		var n int
		c.conn.SetReadDeadline(opened.Add(200 * time.Millisecond))
		n, err = c.conn.Read(buf)
		received += n
	}
	time.Sleep(time.Until(opened.Add(300 * time.Millisecond)))
	if l.Heard(c.bare).LastHeard(time.Now()).After(opened) {
		return false
	}
	l.Restore()
	require.Less(t, received, total)
	c.conn.SetReadDeadline(opened.Add(4*probed + 10*time.Second))
	n, err := io.ReadFull(c.conn, make([]byte, total-received))
	t.Logf("%d bytes before the outage, %d after %.1f s", received, n, time.Since(opened).Seconds())
	assert.NoError(t, err)
	return true
}

// testLinkSlowReader has a peer whose buffer has grown large before it reads slowly, so
// that it opens its window in steps of 1/16 of that.
func testLinkSlowReader(t *testing.T, lasts time.Duration) {
	l := newLink(t, rig.Options{Paths: rig.Both(rig.Path{Delay: 20 * time.Millisecond})})
	require.NoError(t, l.Sysctl(rig.Remote, "net.ipv4.tcp_rmem", "4096 131072 33554432"))
	require.NoError(t, l.Sysctl(rig.Local, "net.ipv4.tcp_wmem", "4096 131072 33554432"))
	c := connectLinked(t, l, liveness.Config{StallTimeout: 4 * time.Second})
	go func() {
		for chunk := make([]byte, 1<<20); ; {
			if _, err := c.conn.Write(chunk); err != nil {
				return
			}
		}
	}()
	fast := 0
	buf := make([]byte, 1<<20)
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		n, err := c.peer.Read(buf)
		require.NoError(t, err)
		fast += n
	}
	t.Logf("%d bytes at full speed", fast)
	for began := time.Now(); time.Since(began) < lasts; time.Sleep(100 * time.Millisecond) {
		_, err := io.ReadFull(c.peer, buf[:10_000])
		require.NoError(t, err)
		require.NoError(t, c.conn.Err(), "after %v at 100 kB/s: %+v", time.Since(began), c.conn.Status())
	}
}

// testLinkKernelTimeout has a kernel that gives up by itself.
func testLinkKernelTimeout(t *testing.T) {
	for name, loss := range map[string]float64{"retries": 0, "retries after loss": 0.2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLink(t, rig.Options{Seed: 3, Paths: rig.Both(rig.Path{Loss: loss, Delay: 10 * time.Millisecond})})
			c := connectLinked(t, l, liveness.Config{})
			go io.Copy(io.Discard, c.peer)
			for range 20 {
				c.conn.Write(make([]byte, 1000))
				time.Sleep(20 * time.Millisecond)
			}
			require.NoError(t, l.Sysctl(rig.Local, "net.ipv4.tcp_retries2", "2"))
			l.Cut()
			c.conn.Write([]byte("in flight"))
			c.timedOut(t)
		})
	}
	t.Run("Fast Open in SYN_RECV", func(t *testing.T) {
		t.Parallel()
		c := fastOpen(t)
		c.timedOut(t)
	})
}

// timedOut waits until the kernel gives up.
func (c *linked) timedOut(t *testing.T) {
	t.Helper()
	end := c.end(t, time.Now(), 20*time.Second)
	assert.ErrorIs(t, end.err, liveness.ErrPeerLost)
	assert.ErrorIs(t, end.err, unix.ETIMEDOUT)
}

// fastOpen returns a connection whose peer vanished behind its SYN, which carried data
// (RFC 7413): it is accepted in SYN_RECV.
func fastOpen(t *testing.T) *linked {
	l := newLink(t, rig.Options{})
	// TFO_SERVER_COOKIE_NOT_REQD, TFO_SERVER_WO_SOCKOPT1 and TFO_CLIENT_NO_COOKIE: net/tcp.h.
	require.NoError(t, l.Sysctl(rig.Local, "net.ipv4.tcp_fastopen", "1539"))
	require.NoError(t, l.Sysctl(rig.Remote, "net.ipv4.tcp_fastopen", "5"))
	require.NoError(t, l.Sysctl(rig.Local, "net.ipv4.tcp_synack_retries", "1"))
	require.NoError(t, l.Sysctl(rig.Local, "net.ipv4.tcp_retries2", "2"))
	listener, err := l.Listen(rig.Local)
	require.NoError(t, err)
	defer listener.Close()
	l.Cut(rig.Local) // the SYN-ACK
	address := listener.Addr().(*net.TCPAddr)
	require.NoError(t, l.In(rig.Remote, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		to := &unix.SockaddrInet4{Port: address.Port, Addr: [4]byte(address.IP.To4())}
		if err := unix.Sendto(fd, []byte("data"), unix.MSG_FASTOPEN, to); err != nil && err != unix.EINPROGRESS {
			return err
		}
		return nil
	}))
	listener.SetDeadline(time.Now().Add(10 * time.Second))
	bare, err := listener.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { bare.Close() })
	l.Cut()
	sockets, err := l.Sockets(rig.Local)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(sockets, func(s rig.Socket) bool { return s.State == 3 }), "no SYN_RECV: %+v", sockets)
	return wrapLinked(t, l, liveness.Config{}, bare, nil)
}

// testLinkOrphan compares what Close leaves behind with what a bare connection leaves.
func testLinkOrphan(t *testing.T) {
	l := newLink(t, rig.Options{})
	require.NoError(t, l.Sysctl(rig.Local, "net.ipv4.tcp_orphan_retries", "3"))
	bare, peer, err := l.Connect()
	require.NoError(t, err)
	defer peer.Close()
	c := connectLinked(t, l, liveness.Config{PeerTimeout: 4 * time.Second})
	c.exchange(t)
	l.Cut()
	for _, conn := range []net.Conn{bare, c.conn} {
		_, err = conn.Write([]byte("x"))
		require.NoError(t, err)
	}
	time.Sleep(1200 * time.Millisecond) // the library has looked
	began := time.Now()
	bare.Close()
	c.conn.Close()
	gone := make(map[net.Conn]time.Duration)
	for len(gone) < 2 && time.Since(began) < 30*time.Second {
		sockets, err := l.Sockets(rig.Local)
		require.NoError(t, err)
		for _, conn := range []net.Conn{bare, c.bare} {
			port := uint16(conn.RemoteAddr().(*net.TCPAddr).Port)
			if gone[conn] == 0 && !slices.ContainsFunc(sockets, func(s rig.Socket) bool { return s.RemotePort == port }) {
				gone[conn] = time.Since(began)
			}
		}
		time.Sleep(200 * time.Millisecond) // a list of sockets costs milliseconds
	}
	t.Logf("bare %v, ours %v", gone[bare], gone[c.bare])
	require.Len(t, gone, 2, "an orphan is left")
	// The one may have been closed just before a retransmission, and the other just after.
	assert.LessOrEqual(t, gone[c.bare], 2*gone[bare]+linkSlack)
}
