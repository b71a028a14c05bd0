package liveness

import (
	"net"
	"testing"

	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/livenesstest"
)

// NeedsTCPInfo skips a test whose subject the kernel's counters are, where there are
// none: emulators return the state of the connection and no more, or not even that.
func NeedsTCPInfo(t *testing.T) {
	t.Helper()
	if info := tellsOf(t); !info.Full {
		t.Skip("TCP_INFO is short on this system")
	}
}

// NeedsTCPState skips a test for which the state of a connection must be told.
func NeedsTCPState(t *testing.T) {
	t.Helper()
	if info := tellsOf(t); info.State == tcpinfo.Unknown {
		t.Skip("TCP_INFO does not tell the state on this system")
	}
}

func tellsOf(t *testing.T) (info tcpinfo.Info) {
	t.Helper()
	conn, _ := livenesstest.Pair(t, "tcp4")
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { _ = tcpinfo.Get(fd, &info) }); err != nil {
		t.Fatal(err)
	}
	return info
}
