//go:build unix

package errno

import (
	"errors"
	"syscall"
)

var Reset, TimedOut error = syscall.ECONNRESET, syscall.ETIMEDOUT

// IsLost reports whether an errno that ended a connection means that the peer's
// host could not be reached. ECONNREFUSED is among them because it can only be an
// ICMP error that was held back until the kernel gave up (tcp_write_err in
// net/ipv4/tcp_timer.c), ENOTCONN because MPTCP says so when its last path failed.
func IsLost(errno error) bool {
	switch errno {
	case syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN,
		syscall.ENETDOWN, syscall.ECONNREFUSED, syscall.ENOTCONN:
		return true
	}
	return false
}

// IsReset reports whether an errno that ended a connection means a RST: of the peer, and
// EPIPE is one behind its FIN, or of this host for both sides, as ECONNABORTED is that
// of ss -K (tcp_abort in net/ipv4/tcp.c of Linux).
func IsReset(errno error) bool {
	return errno == syscall.ECONNRESET || errno == syscall.EPIPE || errno == syscall.ECONNABORTED
}

// In returns the system's errno in what an I/O method returned; nil if it has none.
func In(err error) error {
	if err == nil {
		return nil // without an allocation
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	return errno
}

// IsShut reports whether errno is that of a Write after a local CloseWrite.
func IsShut(errno error) bool { return errno == syscall.EPIPE }

// NoResources reports whether err says that the system ran out of something that
// others may give back.
func NoResources(err error) bool {
	for _, errno := range []error{syscall.ENOSPC, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
