//go:build unix

package errno

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

// Each errno that ends a connection is a RST or a time-out, and no other is either.
func TestReasons(t *testing.T) {
	for errno, want := range map[error][2]bool{
		syscall.ECONNRESET: {true, false}, syscall.EPIPE: {true, false}, syscall.ECONNABORTED: {true, false},
		syscall.ETIMEDOUT: {false, true}, syscall.EHOSTUNREACH: {false, true}, syscall.ENETUNREACH: {false, true}, syscall.EHOSTDOWN: {false, true},
		syscall.ENETDOWN: {false, true}, syscall.ECONNREFUSED: {false, true}, syscall.ENOTCONN: {false, true},
		syscall.EAGAIN: {}, syscall.EBADF: {}, io.EOF: {}, os.ErrDeadlineExceeded: {},
	} {
		if got := [2]bool{IsReset(errno), IsLost(errno)}; got != want {
			t.Errorf("%v: %v; want %v", errno, got, want)
		}
		wrapped := &net.OpError{Op: "read", Err: os.NewSyscallError("read", errno)}
		if e, ok := errno.(syscall.Errno); ok && In(wrapped) != error(e) || !ok && In(wrapped) != nil {
			t.Errorf("%v: In returns %v", errno, In(wrapped))
		}
	}
	if In(nil) != nil || !IsShut(syscall.EPIPE) || !NoResources(syscall.EMFILE) || NoResources(syscall.EPIPE) {
		t.Error("nil, EPIPE or EMFILE")
	}
}
