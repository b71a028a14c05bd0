package liveness

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

// A winsockErrno is an errno of Winsock. It is also what package syscall calls it
// on other systems: on Windows that package invents numbers for ECONNRESET and its
// like, which no system call returns and package net does not match.
type winsockErrno struct{ syscall.Errno }

func (e winsockErrno) Unwrap() error { return e.Errno }

func (e winsockErrno) Is(target error) bool {
	if target, ok := target.(syscall.Errno); ok && target == posixErrnos[e.Errno] {
		return true
	}
	return e.Errno.Is(target)
}

// posixErrnos has what may end a connection.
var posixErrnos = map[syscall.Errno]syscall.Errno{
	windows.WSAECONNRESET:   syscall.ECONNRESET,
	windows.WSAECONNABORTED: syscall.ECONNABORTED,
	windows.WSAETIMEDOUT:    syscall.ETIMEDOUT,
	windows.WSAENETRESET:    syscall.ENETRESET,
	windows.WSAEHOSTUNREACH: syscall.EHOSTUNREACH,
	windows.WSAENETUNREACH:  syscall.ENETUNREACH,
	windows.WSAEHOSTDOWN:    syscall.EHOSTDOWN,
	windows.WSAENETDOWN:     syscall.ENETDOWN,
	windows.WSAECONNREFUSED: syscall.ECONNREFUSED,
}

var (
	errReset    error = winsockErrno{windows.WSAECONNRESET}
	errTimedOut error = winsockErrno{windows.WSAETIMEDOUT}
	errAborted  error = winsockErrno{windows.WSAECONNABORTED}
)

// isEnd reports whether an errno is one that ends a connection.
func isEnd(errno error) bool {
	e, ok := errno.(winsockErrno)
	return ok && posixErrnos[e.Errno] != 0
}

// isLost reports whether an errno that ended a connection means that the peer's
// host could not be reached. WSAECONNABORTED and WSAENETRESET are the stack's own
// retransmission and keep-alive time-outs.
func isLost(errno error) bool { return isEnd(errno) && errno != errReset }

// errnoIn digs the system's errno out of what an I/O method returned; nil if it
// has none.
func errnoIn(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	return winsockErrno{errno}
}

// isShut reports whether errno is that of a Write after our own CloseWrite.
func isShut(errno error) bool { return errno == error(winsockErrno{windows.WSAESHUTDOWN}) }

// noResources reports whether err says that the system ran out of something that
// others may give back.
func noResources(err error) bool {
	for _, errno := range []error{windows.WSAENOBUFS, windows.WSAEMFILE, windows.ERROR_NOT_ENOUGH_MEMORY,
		windows.ERROR_NO_SYSTEM_RESOURCES, windows.STATUS_INSUFFICIENT_RESOURCES, windows.STATUS_NO_MEMORY,
		windows.STATUS_QUOTA_EXCEEDED, windows.STATUS_TOO_MANY_OPENED_FILES} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
