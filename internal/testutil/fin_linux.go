package testutil

import (
	"sync"

	"golang.org/x/sys/unix"
)

// RemembersFIN reports whether this system shows, once a connection is over, that a FIN came before the reset. Linux does
// so by TCP_ZEROCOPY_RECEIVE (4.18), which emulators of it lack.
var RemembersFIN = sync.OnceValue(func() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ZEROCOPY_RECEIVE)
	return err != unix.ENOPROTOOPT && err != unix.EOPNOTSUPP
})
