//go:build unix

package keepalive

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

func getOption(fd uintptr, name int) (int, error) {
	level, name := numbers(name)
	return unix.GetsockoptInt(int(fd), level, name)
}

func setOption(fd uintptr, o option) error {
	level, name := numbers(o.name)
	return unix.SetsockoptInt(int(fd), level, name, o.value)
}

func numbers(name int) (level, number int) {
	if name == switchOn {
		return unix.SOL_SOCKET, unix.SO_KEEPALIVE
	}
	return unix.IPPROTO_TCP, name
}

// isMissing reports whether err says that the socket has no such option. MPTCP says
// EOPNOTSUPP.
func isMissing(err error) bool {
	return errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, errMissing)
}

// isTCP does not ask: the caller knows the family.
func isTCP(uintptr) bool { return true }

// onOwnSocket calls try with a new TCP socket, if one can be made.
func onOwnSocket(try func(fd uintptr) error) (made bool, err error) {
	syscall.ForkLock.RLock() // a child that is started meanwhile would inherit it
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == unix.EAFNOSUPPORT {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	}
	if err != nil {
		return false, nil
	}
	defer unix.Close(fd)
	return true, try(uintptr(fd))
}
