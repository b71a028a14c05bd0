//go:build unix

package liveness_test

import (
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/go-liveness/liveness"
)

var errnoReasons = map[error]error{
	syscall.ECONNRESET: liveness.ErrPeerReset, syscall.EPIPE: liveness.ErrPeerReset, syscall.ECONNABORTED: liveness.ErrPeerReset,
	syscall.EIO: liveness.ErrPeerReset, syscall.ETIMEDOUT: liveness.ErrPeerLost, syscall.EHOSTUNREACH: liveness.ErrPeerLost,
	syscall.ENETUNREACH: liveness.ErrPeerLost, syscall.EHOSTDOWN: liveness.ErrPeerLost, syscall.ENETDOWN: liveness.ErrPeerLost,
	syscall.ECONNREFUSED: liveness.ErrPeerLost,
}

func TestReasonOfErrno(t *testing.T) {
	for errno, want := range map[syscall.Errno]liveness.Reason{
		syscall.ECONNRESET: liveness.ReasonReset, syscall.EPIPE: liveness.ReasonReset, syscall.ECONNABORTED: liveness.ReasonReset,
		syscall.ETIMEDOUT: liveness.ReasonLost, syscall.EHOSTUNREACH: liveness.ReasonLost, syscall.ENETUNREACH: liveness.ReasonLost,
		syscall.EAGAIN: "", syscall.EINTR: "",
	} {
		err := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", errno)}
		if got := liveness.ReasonOf(err); got != want {
			t.Errorf("ReasonOf(%v) = %q; want %q", errno, got, want)
		}
	}
}
