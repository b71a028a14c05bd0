package errno

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

// A winsockErrno is an errno of Winsock. It also matches what package syscall calls
// it on other systems: for Windows that package invents numbers for ECONNRESET and
// its like, which no system call returns, and package net does not match them.
type winsockErrno struct{ syscall.Errno }

func (e winsockErrno) Unwrap() error { return e.Errno }

func (e winsockErrno) Is(target error) bool { return target == error(e.posix()) }

// posix returns the portable name.
func (e winsockErrno) posix() syscall.Errno {
	if errno, ok := posixErrnos[e.Errno]; ok {
		return errno
	}
	return e.Errno
}

// posixErrnos has what ends a connection, or a side of it.
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
	windows.WSAESHUTDOWN:    syscall.EPIPE,
}

var (
	Reset    error = winsockErrno{windows.WSAECONNRESET}
	TimedOut error = winsockErrno{windows.WSAETIMEDOUT}
	Aborted  error = winsockErrno{windows.WSAECONNABORTED}
)

// portable returns the portable name of an errno, 0 if it is none.
func portable(errno error) syscall.Errno {
	var e syscall.Errno
	if !errors.As(errno, &e) {
		return 0
	}
	return winsockErrno{e}.posix()
}

// IsEnd reports whether an errno is one that ends a connection.
func IsEnd(errno error) bool { return IsReset(errno) || IsLost(errno) }

// IsReset reports whether an errno that ended a connection means a RST of the peer.
func IsReset(errno error) bool { return portable(errno) == syscall.ECONNRESET }

// IsLost reports whether an errno that ended a connection means that the peer's
// host could not be reached. WSAECONNABORTED and WSAENETRESET are the stack's own
// retransmission and keep-alive time-outs.
func IsLost(errno error) bool {
	switch portable(errno) {
	case syscall.ETIMEDOUT, syscall.ECONNABORTED, syscall.ENETRESET, syscall.EHOSTUNREACH,
		syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.ECONNREFUSED:
		return true
	}
	return false
}

// In returns the system's errno in what an I/O method returned; nil if it has none.
func In(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	return winsockErrno{errno}
}

// IsShut reports whether errno is that of a Write after a local CloseWrite.
func IsShut(errno error) bool { return portable(errno) == syscall.EPIPE }

// NoResources reports whether err says that the system ran out of something that
// others may give back.
func NoResources(err error) bool {
	for _, errno := range []error{windows.WSAENOBUFS, windows.WSAEMFILE, windows.ERROR_NOT_ENOUGH_MEMORY,
		windows.ERROR_NO_SYSTEM_RESOURCES, windows.STATUS_INSUFFICIENT_RESOURCES, windows.STATUS_NO_MEMORY,
		windows.STATUS_QUOTA_EXCEEDED, windows.STATUS_TOO_MANY_OPENED_FILES} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
