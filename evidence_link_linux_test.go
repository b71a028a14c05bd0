package liveness_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	rig "github.com/go-liveness/liveness/internal/link"
	"github.com/go-liveness/liveness/internal/testutil"
)

// A RST may arrive when the retransmission time-out has passed and the kernel's timer, which
// may be late by an eighth, has not fired yet. That of a long time-out is late for longer.
func TestResetLateInARetransmissionTimeoutIsAReset(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	if !rig.Require(t) {
		return
	}
	for i := range 3 { // each may come at another moment
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			testutil.Again(t, func() bool { return resetLate(t) })
		})
	}
}

func resetLate(t *testing.T) (valid bool) {
	l := newLink(t, rig.Options{})
	c := connectLinked(t, l, liveness.Config{PeerTimeout: time.Minute})
	c.exchange(t)
	l.Cut()
	_, err := c.conn.Write([]byte("x"))
	require.NoError(t, err)
	before := tcpInfo(t, c.bare)
	for before.Rto < 2_500_000 || before.Last_data_sent*1000 < before.Rto {
		left := time.Duration(before.Rto)*time.Microsecond - time.Duration(before.Last_data_sent)*time.Millisecond
		time.Sleep(max(left/2, time.Millisecond))
		before = tcpInfo(t, c.bare)
	}
	l.Restore()
	require.NoError(t, c.peer.SetLinger(0))
	c.peer.Close()
	end := c.end(t, time.Now(), 20*time.Second)
	if tcpInfo(t, c.bare).Retransmits != before.Retransmits {
		return false // the RST answers another retransmission
	}
	assert.ErrorIs(t, end.err, liveness.ErrPeerReset)
	assert.ErrorIs(t, end.err, unix.ECONNRESET)
	return true
}

// The unanswered probes of a closed window look as if the kernel gave up after a few. A RST is
// told by the segments that arrived.
func TestResetAfterUnansweredWindowProbesIsAReset(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	if !rig.Require(t) {
		return
	}
	l := newLink(t, rig.Options{Paths: rig.Both(rig.Path{Delay: 5 * time.Millisecond})})
	c := connectLinked(t, l, liveness.Config{PeerTimeout: 16 * time.Second})
	c.exchange(t)
	require.NoError(t, c.conn.SetWriteDeadline(time.Now().Add(time.Second)))
	for err := error(nil); err == nil; {
		_, err = c.conn.Write(make([]byte, 64<<10))
	}
	testutil.Until(t, "a closed window", func() bool { return tcpInfo(t, c.bare).Snd_wnd == 0 && tcpInfo(t, c.bare).Unacked == 0 })
	l.Cut(rig.Local)
	testutil.Until(t, "probes", func() bool { i := tcpInfo(t, c.bare); return i.Probes >= 2 && i.Last_ack_recv*1000 > 16*i.Rto })
	require.NoError(t, c.peer.SetLinger(0))
	c.peer.Close()
	end := c.end(t, time.Now(), time.Second)
	assert.ErrorIs(t, end.err, liveness.ErrPeerReset)
	assert.ErrorIs(t, end.err, unix.ECONNRESET)
}

// A peer that hears nothing, and has sent two segments, is heard by its retransmissions of the
// first. The kernel's ages do not show them.
func TestPeerThatRepeatsItselfIsHeard(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	if !rig.Require(t) {
		return
	}
	const timeout = 4 * time.Second
	l := newLink(t, rig.Options{Paths: rig.Both(rig.Path{Delay: 20 * time.Millisecond})})
	if err := l.Sysctl(rig.Remote, "net.ipv4.tcp_rto_max_ms", "1000"); err != nil {
		t.Skip("the peer would retransmit more and more rarely: ", err) // before Linux 6.15
	}
	c := connectLinked(t, l, liveness.Config{PeerTimeout: timeout})
	c.exchange(t)
	l.Cut(rig.Local)
	since := time.Now()
	for _, conn := range []net.Conn{c.peer, c.conn} {
		_, err := conn.Write(make([]byte, 2500))
		require.NoError(t, err)
	}
	c.unacknowledged(t, since, timeout)
}

// An administrator's ss -K ends a connection here (sock_diag_destroy in net/core/sock_diag.c).
// Only who takes the kernel's error learns that it was no RST.
func TestDestroyedSocketIsReportedAsReset(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	if !rig.Require(t) {
		return
	}
	for name, c := range map[string]struct {
		timeout       time.Duration
		reads, writes bool
	}{
		"nobody reads":         {0, false, false},
		"a Read waits":         {0, true, false},
		"PeerTimeout":          {time.Minute, false, false},
		"after retransmitting": {time.Minute, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, rig.Options{})
			conn := connectLinked(t, l, liveness.Config{PeerTimeout: c.timeout})
			conn.exchange(t)
			read := make(chan error, 1)
			if c.reads {
				go func() { _, err := conn.conn.Read(make([]byte, 1)); read <- err }()
			}
			if c.writes {
				l.Cut()
				_, err := conn.conn.Write([]byte("x"))
				require.NoError(t, err)
				for tcpInfo(t, conn.bare).Retransmits < 3 {
					time.Sleep(time.Millisecond)
				}
			}
			if err := l.In(rig.Local, func() error { return destroy(conn.bare) }); err == unix.EOPNOTSUPP || err == unix.EPERM {
				t.Skip("SOCK_DESTROY: ", err)
			} else {
				require.NoError(t, err)
			}
			end := conn.end(t, time.Now(), time.Second)
			assert.ErrorIs(t, end.err, liveness.ErrPeerReset)
			if c.reads {
				assert.ErrorIs(t, testutil.Await(t, read), unix.ECONNABORTED)
			}
		})
	}
}

// destroy does what ss -K does. It runs in the namespace of the socket.
func destroy(conn *net.TCPConn) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const size, sockDestroy = 72, 21 // struct nlmsghdr and inet_diag_req_v2: linux/inet_diag.h, sock_diag.h
	request := make([]byte, size)
	native, here, there := binary.NativeEndian, conn.LocalAddr().(*net.TCPAddr), conn.RemoteAddr().(*net.TCPAddr)
	native.PutUint32(request, size)
	native.PutUint16(request[4:], sockDestroy)
	native.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	request[16], request[17] = unix.AF_INET, unix.IPPROTO_TCP
	native.PutUint32(request[20:], 1<<32-1) // every state
	binary.BigEndian.PutUint16(request[24:], uint16(here.Port))
	binary.BigEndian.PutUint16(request[26:], uint16(there.Port))
	copy(request[28:], here.IP.To4())
	copy(request[44:], there.IP.To4())
	native.PutUint64(request[64:], 1<<64-1) // INET_DIAG_NOCOOKIE
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 128)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil || n < 20 {
		return err
	}
	if code := int32(native.Uint32(answer[16:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
