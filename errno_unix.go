//go:build unix

package liveness

import (
	"errors"
	"syscall"
)

var errReset, errTimedOut error = syscall.ECONNRESET, syscall.ETIMEDOUT

// isLost reports whether an errno that ended a connection means that the peer's
// host could not be reached. ECONNREFUSED is among them because it can only be an
// ICMP error that was held back until the kernel gave up (tcp_write_err in
// net/ipv4/tcp_timer.c), ENOTCONN because MPTCP says so when its last path died.
func isLost(errno error) bool {
	switch errno {
	case syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN,
		syscall.ENETDOWN, syscall.ECONNREFUSED, syscall.ENOTCONN:
		return true
	}
	return false
}

// errnoIn digs the system's errno out of what an I/O method returned; nil if it
// has none.
func errnoIn(err error) error {
	if err == nil {
		return nil // without an allocation
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	return errno
}

// isShut reports whether errno is that of a Write after our own CloseWrite.
func isShut(errno error) bool { return errno == syscall.EPIPE }

// noResources reports whether err says that the system ran out of something that
// others may give back.
func noResources(err error) bool {
	for _, errno := range []error{syscall.ENOSPC, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
