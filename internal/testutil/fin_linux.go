package testutil

import (
	"sync"

	"golang.org/x/sys/unix"
)

// RemembersFIN reports whether this system shows, once a connection is over, that a FIN came before the reset. Linux does
// so by TCP_ZEROCOPY_RECEIVE (4.18) and TCP_INFO. Emulators lack the one, or have no more than the state in the other.
var RemembersFIN = sync.OnceValue(func() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ZEROCOPY_RECEIVE)
	if err == unix.ENOPROTOOPT || err == unix.EOPNOTSUPP {
		return false
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.Snd_mss != 0 // a new socket has 536 bytes
})
