package livenesstest_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/livenesstest"
)

func control(t *testing.T, conn net.Conn, f func(fd int)) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { f(int(fd)) }))
}

// unacked returns how many bytes were written to conn and not acknowledged.
func unacked(t *testing.T, conn net.Conn) (n int) {
	t.Helper()
	control(t, conn, func(fd int) {
		count, err := unix.IoctlGetUint32(fd, unix.SIOCOUTQ)
		require.NoError(t, err)
		n = int(count)
	})
	return n
}

func requireAcked(t *testing.T, conn net.Conn) {
	t.Helper()
	require.Eventually(t, func() bool { return unacked(t, conn) == 0 }, patience, time.Millisecond)
}

// requireSilence waits a moment in vain.
func requireSilence(t *testing.T, conns ...net.Conn) {
	t.Helper()
	for _, conn := range conns {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err := conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		limit(t, conn)
	}
}

func TestKeepAliveOff(t *testing.T) {
	conn, peer := pair(t, "tcp4")
	dialled, err := net.Dial("tcp", listen(t, "tcp4").Addr().String())
	require.NoError(t, err)
	defer dialled.Close()
	for _, end := range []net.Conn{conn, peer.NetConn(), livenesstest.NewPeer(dialled).NetConn()} {
		control(t, end, func(fd int) {
			on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			require.NoError(t, err)
			require.Zero(t, on)
		})
	}
}

// The FIN of a Close that discarded is not followed by a reset.
func TestCloseIsOrderly(t *testing.T) {
	t.Parallel()
	conn, peer := pair(t, "tcp4")
	leaveUnread(t, conn, peer)
	require.NoError(t, peer.Close())
	requireEOF(t, conn)
	control(t, conn, func(fd int) {
		state, err := tcpinfo.GetState(uintptr(fd))
		require.NoError(t, err)
		require.Equal(t, tcpinfo.CloseWait, state)
	})
}

func TestResetUnix(t *testing.T) {
	t.Parallel()
	conn, peer := pair(t, "unix")
	err := peer.Reset()
	require.ErrorIs(t, err, errors.ErrUnsupported)
	write(t, peer, "alive")
	requireRead(t, conn, "alive")
	leaveUnread(t, conn, peer)
	require.NoError(t, peer.Reset())
	requireReset(t, conn)
}

func TestProcessKillUnread(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, process := process(t, network)
		write(t, conn, "unread")
		if network != "unix" { // where written is received
			requireAcked(t, conn)
		}
		require.NoError(t, process.Kill())
		requireReset(t, conn)
	})
}

// The kernel of a hung program answers.
func TestProcessStopIsAcknowledged(t *testing.T) {
	t.Parallel()
	conn, process := process(t, "tcp4")
	require.NoError(t, process.Drain())
	require.NoError(t, process.Stop())
	n, err := conn.Write(make([]byte, 1<<10))
	require.NoError(t, err)
	requireAcked(t, conn)
	// Nobody reads: what is more than the buffers hold is not taken.
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	for err == nil {
		n, err = conn.Write(make([]byte, 1<<20))
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Less(t, n, 1<<20)
	require.NoError(t, process.Continue())
	requireAcked(t, conn)
}

// needsCut skips a test where no cable can be cut, as under an emulator.
func needsCut(t *testing.T) {
	t.Helper()
	_, peer := pair(t, "tcp4")
	mend, err := livenesstest.Cut(peer)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, mend())
}

func TestCut(t *testing.T) {
	t.Parallel()
	needsCut(t)
	for _, network := range []string{"tcp4", "tcp6"} {
		t.Run("far end "+network, func(t *testing.T) {
			t.Parallel()
			conn, peer := pair(t, network)
			mend, err := livenesstest.Cut(peer)
			require.NoError(t, err)
			write(t, conn, "hello")
			requireSilence(t, peer)
			require.Equal(t, 5, unacked(t, conn))
			write(t, peer, "still passes")
			requireRead(t, conn, "still passes")
			require.NoError(t, mend())
			requireRead(t, peer, "hello")
			requireAcked(t, conn)
			require.NoError(t, mend())
		})
		t.Run("both ends "+network, func(t *testing.T) {
			t.Parallel()
			conn, peer := pair(t, network)
			mend, err := livenesstest.Cut(conn, peer)
			require.NoError(t, err)
			write(t, conn, "hello")
			write(t, peer, "there")
			requireSilence(t, conn, peer)
			require.Equal(t, 5, unacked(t, conn))
			require.Equal(t, 5, unacked(t, peer.NetConn()))
			require.NoError(t, mend())
			requireRead(t, peer, "hello")
			requireRead(t, conn, "there")
		})
	}
}

// A server that listens on every address has IPv4 connections in IPv6 sockets.
func TestCutMapped(t *testing.T) {
	t.Parallel()
	needsCut(t)
	listener, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer listener.Close()
	peer, err := livenesstest.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", listener.Addr().(*net.TCPAddr).Port))
	require.NoError(t, err)
	defer peer.Close()
	conn, err := listener.Accept()
	require.NoError(t, err)
	defer conn.Close()
	mend, err := livenesstest.Cut(conn)
	require.NoError(t, err)
	write(t, peer, "hello")
	requireSilence(t, conn)
	require.NoError(t, mend())
	requireRead(t, conn, "hello")
}

// Neither FIN nor RST passes a cut cable; a FIN is sent again, an RST is not.
func TestCutHidesTheEnd(t *testing.T) {
	t.Parallel()
	needsCut(t)
	conn, peer := pair(t, "tcp4")
	mend, err := livenesstest.Cut(conn)
	require.NoError(t, err)
	require.NoError(t, peer.Close())
	requireSilence(t, conn)
	require.NoError(t, mend())
	requireEOF(t, conn)

	conn, peer = pair(t, "tcp4")
	mend, err = livenesstest.Cut(conn)
	require.NoError(t, err)
	require.NoError(t, peer.Reset())
	requireSilence(t, conn)
	require.NoError(t, mend())
	requireSilence(t, conn)
	write(t, conn, "anybody there?") // the kernel at the other end does not know the connection
	requireReset(t, conn)
}

// Readers and writers that wait do not keep the cable from being cut and mended.
func TestCutWhileReading(t *testing.T) {
	t.Parallel()
	needsCut(t)
	conn, peer := pair(t, "tcp4")
	server, client, err := livenesstest.TLSConfig()
	require.NoError(t, err)
	serverEnd, clientEnd := tls.Server(conn, server), tls.Client(peer, client)
	go serverEnd.Write([]byte("hello"))
	requireRead(t, clientEnd, "hello")
	read := make(chan string, 1)
	go func() {
		b := make([]byte, 64)
		n, _ := clientEnd.Read(b)
		read <- string(b[:n])
	}()
	mend, err := livenesstest.Cut(clientEnd, serverEnd)
	require.NoError(t, err)
	write(t, serverEnd, "after the cut")
	requireSilence(t, conn)
	select {
	case <-read:
		require.Fail(t, "passed a cut cable")
	default:
	}
	require.NoError(t, mend())
	require.Equal(t, "after the cut", <-read)
}

func TestCutUndoesItself(t *testing.T) {
	t.Parallel()
	needsCut(t)
	conn, peer := pair(t, "tcp4")
	deaf, _ := pair(t, "unix")
	closed, _ := pair(t, "tcp4")
	closed.Close()
	mend, err := livenesstest.Cut(peer, deaf)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Nil(t, mend)
	_, err = livenesstest.Cut(peer, closed)
	require.ErrorIs(t, err, net.ErrClosed)
	write(t, conn, "hello")
	requireRead(t, peer, "hello")
}

func TestCutMultipath(t *testing.T) {
	t.Parallel()
	conn, _ := pair(t, "mptcp")
	_, err := livenesstest.Cut(conn)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

func TestCutTwiceAndClosed(t *testing.T) {
	t.Parallel()
	needsCut(t)
	conn, peer := pair(t, "tcp4")
	first, err := livenesstest.Cut(peer)
	require.NoError(t, err)
	second, err := livenesstest.Cut(peer)
	require.NoError(t, err)
	require.NoError(t, first())
	write(t, conn, "hello")
	requireRead(t, peer, "hello")
	require.NoError(t, second())

	mend, err := livenesstest.Cut(conn, peer)
	require.NoError(t, err)
	require.NoError(t, first()) // has done its work
	write(t, conn, "hello")
	requireSilence(t, peer)
	require.NoError(t, peer.Close())
	require.NoError(t, mend())
}

func TestProcessCut(t *testing.T) {
	t.Parallel()
	conn, process := process(t, "tcp4")
	require.NoError(t, process.Mend())
	require.NoError(t, process.Cut())
	write(t, conn, "hello")
	requireSilence(t, conn)
	require.Equal(t, 5, unacked(t, conn))
	require.NoError(t, process.Mend())
	requireAcked(t, conn)
	require.NoError(t, process.Mend())
}

func TestProcessCutUnsupported(t *testing.T) {
	t.Parallel()
	_, process := process(t, "unix")
	require.ErrorIs(t, process.Cut(), errors.ErrUnsupported)
}

// Stop returns when the process has stopped, not merely been told to.
func TestProcessStopHasStopped(t *testing.T) {
	t.Parallel()
	_, process := process(t, "tcp4")
	for range 20 {
		require.NoError(t, process.Stop())
		require.Equal(t, "T", processState(t, process.Pid()))
		require.NoError(t, process.Continue())
		require.NotEqual(t, "T", processState(t, process.Pid()))
	}
}

func processState(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	require.NoError(t, err)
	_, fields, _ := strings.Cut(string(stat), ") ")
	return fields[:1]
}

// Not parallel: it counts.
func TestNothingLeaks(t *testing.T) {
	needsProcesses(t)
	use := func() {
		for _, network := range []string{"tcp4", "unix"} {
			t.Run(network, func(t *testing.T) {
				_, peer := pair(t, network)
				peer.Drain()
				_, killed := process(t, network)
				require.NoError(t, killed.Kill())
				_, closed := process(t, network)
				require.NoError(t, closed.Close())
				_, stopped := process(t, network)
				require.NoError(t, stopped.Stop())
			})
		}
		_, err := livenesstest.StartProcess("tcp4", "127.0.0.1:1")
		require.Error(t, err)
	}
	use() // and the runtime opens what it keeps
	files := descriptors(t)
	for range 3 {
		use()
	}
	require.Equal(t, files, descriptors(t))
	require.Eventually(t, func() bool { return !strings.Contains(stacks(), "livenesstest.(*") }, patience, time.Millisecond)
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}
