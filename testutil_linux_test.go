package liveness

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/livenesstest"
)

// NeedsTCPInfo skips a test whose subject the kernel's counters are, where there are
// none: emulators return the state of the connection and no more, or not even that.
func NeedsTCPInfo(t *testing.T) {
	t.Helper()
	if !HasTCPInfo(t) {
		t.Skip("TCP_INFO tells the state of a connection and no more on this system")
	}
}

// HasTCPInfo asks the kernel, once.
func HasTCPInfo(t *testing.T) bool {
	t.Helper()
	return tellsOf(t).Full
}

// NeedsTCPState skips a test for which the state of a connection must be told.
func NeedsTCPState(t *testing.T) {
	t.Helper()
	if info := tellsOf(t); info.State == tcpinfo.Unknown {
		t.Skip("TCP_INFO does not tell the state on this system")
	}
}

// NeedsMemoryOfFIN skips a test in which the only look comes when a FIN and something
// behind it have both arrived, where the kernel does not tell then that there was a FIN.
func NeedsMemoryOfFIN(t *testing.T) {
	t.Helper()
	if !RemembersFIN() {
		t.Skip("once a connection is over, this system does not tell that a FIN came before")
	}
}

// RemembersFIN asks a connection that saw a FIN and a reset: TCP_ZEROCOPY_RECEIVE came
// with Linux 4.18, and emulators do not have it.
var RemembersFIN = sync.OnceValue(func() bool {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return true
	}
	defer listener.Close()
	peer, err := livenesstest.Dial("tcp4", listener.Addr().String())
	if err != nil {
		return true
	}
	conn, err := listener.AcceptTCP()
	if err != nil {
		return true
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	peer.CloseWrite()
	peer.Reset()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var state tcpinfo.State
		known := true
		_ = raw.Control(func(fd uintptr) {
			if state, _ = tcpinfo.GetState(fd); state == tcpinfo.Closed {
				_, known = tcpinfo.FINArrived(fd)
			}
		})
		if state == tcpinfo.Closed {
			return known
		}
	}
	return true
})

// tells is what TCP_INFO says of a socket without a connection, which needs no network.
var tells = sync.OnceValues(func() (info tcpinfo.Info, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return info, err
	}
	defer unix.Close(fd)
	if err := tcpinfo.Get(uintptr(fd), &info); err != nil && !errors.Is(err, tcpinfo.ErrShort) {
		return info, err
	}
	return info, nil
})

func tellsOf(t *testing.T) tcpinfo.Info {
	t.Helper()
	info, err := tells()
	if err != nil {
		t.Fatal(err)
	}
	return info
}
