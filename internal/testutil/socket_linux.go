package testutil

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/livenesstest"
)

// Pair returns both ends of a new connection. Small sets buffers of 32 and 64 kB before
// connecting: a buffer that shrinks later makes kernels before 6.6 drop without an answer.
func Pair(tb testing.TB, network string, size BufferSize) (*net.TCPConn, *livenesstest.Peer) {
	tb.Helper()
	control := func(_, _ string, raw syscall.RawConn) (err error) {
		if size == Autotuned {
			return nil
		}
		cerr := raw.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 32<<10),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<10))
		})
		return errors.Join(cerr, err)
	}
	address := "127.0.0.1:0"
	if network == "tcp6" {
		address = "[::1]:0"
	}
	config := net.ListenConfig{KeepAlive: -1, Control: control}
	config.SetMultipathTCP(false)
	listener, err := config.Listen(context.Background(), network, address)
	if err != nil && network == "tcp6" {
		tb.Skipf("no IPv6 on this system: %v", err)
	}
	Must(tb, err)
	defer listener.Close()
	dialer := net.Dialer{KeepAlive: -1, Timeout: Patience, Control: control}
	dialer.SetMultipathTCP(false)
	far, err := dialer.Dial(network, listener.Addr().String())
	Must(tb, err)
	conn, err := listener.Accept()
	Must(tb, err)
	tb.Cleanup(func() { conn.Close(); far.Close() })
	return conn.(*net.TCPConn), livenesstest.NewPeer(far)
}

// A BufferSize says how large the buffers of both ends are.
type BufferSize int

const (
	Small     BufferSize = iota
	Autotuned            // as large as the kernel makes them
)

// Option reads a socket option. What the kernel does not have is -1.
func Option(tb testing.TB, conn net.Conn, level, name int) (value int) {
	tb.Helper()
	Control(tb, conn, func(fd int) (err error) {
		if value, err = unix.GetsockoptInt(fd, level, name); err == unix.ENOPROTOOPT {
			value, err = -1, nil
		}
		return err
	})
	return value
}

// SetOption sets a socket option, unless the kernel does not have it.
func SetOption(tb testing.TB, conn net.Conn, level, name, value int) {
	tb.Helper()
	Control(tb, conn, func(fd int) error {
		if err := unix.SetsockoptInt(fd, level, name, value); err != unix.ENOPROTOOPT {
			return err
		}
		return nil
	})
}

// Options are what the library may change, in the order of package unix.
func Options(tb testing.TB, conn net.Conn) string {
	tb.Helper()
	return fmt.Sprintf("SO_KEEPALIVE %d, TCP_KEEPIDLE %d, TCP_KEEPINTVL %d, TCP_KEEPCNT %d, TCP_USER_TIMEOUT %d",
		Option(tb, conn, unix.SOL_SOCKET, unix.SO_KEEPALIVE), Option(tb, conn, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE),
		Option(tb, conn, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL), Option(tb, conn, unix.IPPROTO_TCP, unix.TCP_KEEPCNT),
		Option(tb, conn, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT))
}

// NeedsTCPInfo skips a test whose subject is what the kernel counts, where it counts nothing.
func NeedsTCPInfo(tb testing.TB) {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) // a new namespace cannot connect yet
	Must(tb, err)
	defer unix.Close(fd)
	var info tcpinfo.Info
	_ = tcpinfo.Get(uintptr(fd), &info)
	if !info.Full {
		tb.Skip("TCP_INFO has the state of a connection and nothing else here, as under emulators")
	}
}

// NeedsCountBehindUrgent skips a test of what is unread behind urgent data, where the kernel does not count that: SIOCINQ
// stops there, and TCP_ZEROCOPY_RECEIVE wants a mapped page before Linux 5.11.
func NeedsCountBehindUrgent(tb testing.TB) {
	tb.Helper()
	conn, _ := Pair(tb, "tcp4", Small)
	known := false
	Control(tb, conn, func(fd int) error { _, known = tcpinfo.Unread(uintptr(fd)); return nil })
	if !known {
		tb.Skip("before Linux 5.11 the kernel does not count what is unread behind urgent data")
	}
}
