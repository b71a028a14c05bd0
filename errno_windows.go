package liveness

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

var errReset, errTimedOut error = windows.WSAECONNRESET, windows.WSAETIMEDOUT

// isLost reports whether an errno that ended a connection means that the peer's
// host could not be reached. WSAECONNABORTED and WSAENETRESET are the stack's own
// retransmission and keep-alive time-outs.
func isLost(errno error) bool {
	switch errno {
	case windows.WSAETIMEDOUT, windows.WSAECONNABORTED, windows.WSAENETRESET, windows.WSAEHOSTUNREACH,
		windows.WSAENETUNREACH, windows.WSAEHOSTDOWN, windows.WSAENETDOWN, windows.WSAECONNREFUSED:
		return true
	}
	return false
}

// errnoIn digs the system's errno out of what an I/O method returned; nil if it
// has none.
func errnoIn(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	return errno
}

// noResources reports whether err says that the system ran out of something that
// others may give back.
func noResources(err error) bool {
	return errors.Is(err, windows.WSAENOBUFS) || errors.Is(err, windows.ERROR_NOT_ENOUGH_MEMORY) ||
		errors.Is(err, windows.ERROR_NO_SYSTEM_RESOURCES)
}
