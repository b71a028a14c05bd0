//go:build !windows && !plan9

package liveness_test

import (
	"syscall"

	"github.com/go-liveness/liveness"
)

var errnoReasons = map[error]error{
	syscall.ECONNRESET: liveness.ErrPeerReset, syscall.EPIPE: liveness.ErrPeerReset, syscall.ECONNABORTED: liveness.ErrPeerReset,
	syscall.EIO: liveness.ErrPeerReset, syscall.ETIMEDOUT: liveness.ErrPeerLost, syscall.EHOSTUNREACH: liveness.ErrPeerLost,
	syscall.ENETUNREACH: liveness.ErrPeerLost, syscall.EHOSTDOWN: liveness.ErrPeerLost, syscall.ENETDOWN: liveness.ErrPeerLost,
	syscall.ECONNREFUSED: liveness.ErrPeerLost,
}
