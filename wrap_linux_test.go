package liveness_test

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// fileConn makes a net.Conn of a socket that is in an unusual state.
func fileConn(t *testing.T, fd int) net.Conn {
	t.Helper()
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	conn, err := net.FileConn(file)
	testutil.Must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func tcpSocket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	testutil.Must(t, err)
	return fd
}

// listening is a listening socket as a net.Conn.
func listening(t *testing.T) net.Conn {
	fd := tcpSocket(t)
	testutil.Must(t, unix.Listen(fd, 1))
	return fileConn(t, fd)
}

// synSent is a connection in SYN-SENT: TCP_FASTOPEN_CONNECT puts the SYN off to the first Write.
func synSent(t *testing.T) net.Conn {
	port := testutil.Listen(t, "tcp4").Addr().(*net.TCPAddr).Port
	fd := tcpSocket(t)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1); err != nil {
		t.Skip("TCP_FASTOPEN_CONNECT: ", err)
	}
	err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	if err != nil && err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	return fileConn(t, fd)
}

// TestOneOddConnectionChangesNothingForOthers wraps it first, in a process of its own. The next connection must be supervised
// as if it were the first: DetectWithin has a bound, and Ping works.
func TestOneOddConnectionChangesNothingForOthers(t *testing.T) {
	for name, odd := range map[string]func(*testing.T){
		"SYN-SENT": func(t *testing.T) { wrapOdd(t, synSent(t)) },
		"LISTEN":   func(t *testing.T) { wrapOdd(t, listening(t)) },
		"EMFILE":   wrapWithoutDescriptors,
	} {
		t.Run(name, func(t *testing.T) {
			if !testutil.Alone(t) {
				return
			}
			odd(t)
			conn, _ := livenesstest.Pair(t, "tcp4")
			c := wrap(t, conn, &liveness.Config{PeerTimeout: 10 * time.Second})
			// 1.25 PeerTimeout + 1 s, or 2 PeerTimeout + 1 s on the oldest kernels.
			if within := c.Status().DetectWithin; within <= 0 || within > 21*time.Second {
				t.Errorf("DetectWithin = %v after %s", within, name)
			}
			if err := c.Ping(t.Context()); err != nil {
				t.Errorf("Ping = %v after %s", err, name)
			}
		})
	}
}

func wrapOdd(t *testing.T, conn net.Conn) {
	t.Helper()
	cfg := &liveness.Config{PeerTimeout: 10 * time.Second}
	if c, err := liveness.Wrap(conn, cfg); err == nil {
		c.Status()
		c.Alive()
		c.Close()
	}
	liveness.Check(conn)
}

// wrapWithoutDescriptors wraps while the process has none left, and frees them again.
func wrapWithoutDescriptors(t *testing.T) {
	conn, _ := livenesstest.Pair(t, "tcp4")
	free := exhaust(t, 0)
	c, err := liveness.Wrap(conn, &liveness.Config{PeerTimeout: 10 * time.Second})
	free()
	if err == nil {
		c.Status()
		c.Close()
	} else if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("Wrap = %v without a descriptor", err)
	}
}

// exhaust uses up the descriptors but for spare ones.
func exhaust(t *testing.T, spare int) (free func()) {
	t.Helper()
	var limit unix.Rlimit
	testutil.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	limit.Cur = 64
	testutil.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	var all []int
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == unix.EMFILE {
			break
		}
		testutil.Must(t, err)
		all = append(all, fd)
	}
	for range spare {
		unix.Close(all[0])
		all = all[1:]
	}
	return func() {
		for _, fd := range all {
			unix.Close(fd)
		}
	}
}

// TestAcceptWithoutDescriptorsIsTemporary runs out of descriptors between accept and the first watch, which takes one.
func TestAcceptWithoutDescriptorsIsTemporary(t *testing.T) {
	t.Parallel()
	if !testutil.Alone(t) {
		return
	}
	inner := testutil.Listen(t, "tcp4")
	l := liveness.NewListener(inner, nil)
	var peers [2]*livenesstest.Peer
	for i := range peers {
		var err error
		peers[i], err = livenesstest.Dial("tcp", inner.Addr().String())
		testutil.Must(t, err)
		defer peers[i].Close()
	}
	free := exhaust(t, 1) // for the connection
	conn, err := l.Accept()
	var op *net.OpError
	if conn != nil || !errors.Is(err, syscall.EMFILE) || !errors.As(err, &op) || !op.Temporary() {
		t.Errorf("Accept = %v, %v, want EMFILE in a *net.OpError that is temporary", conn, err)
	}
	free()
	if got := testutil.ReadAll(peers[0]); len(got.Data) > 0 {
		t.Errorf("the peer that was lost read %q", got.Data)
	}
	conn, err = l.Accept()
	testutil.Must(t, err)
	if conn.RemoteAddr().String() != peers[1].LocalAddr().String() {
		t.Errorf("accepted %v", conn.RemoteAddr())
	}
	conn.Close()
}
