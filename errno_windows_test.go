package liveness_test

import (
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness"
)

var errnoReasons = map[error]error{
	windows.WSAECONNRESET: liveness.ErrPeerReset, syscall.ECONNRESET: liveness.ErrPeerReset, windows.WSAENOTSOCK: liveness.ErrPeerReset,
	windows.WSAENETRESET: liveness.ErrPeerLost, windows.WSAECONNABORTED: liveness.ErrPeerLost, windows.WSAETIMEDOUT: liveness.ErrPeerLost,
	windows.WSAEHOSTUNREACH: liveness.ErrPeerLost, windows.WSAENETUNREACH: liveness.ErrPeerLost, windows.WSAEHOSTDOWN: liveness.ErrPeerLost,
	windows.WSAENETDOWN: liveness.ErrPeerLost, windows.WSAECONNREFUSED: liveness.ErrPeerLost,
}
