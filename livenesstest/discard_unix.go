//go:build unix

package livenesstest

import (
	"net"

	"golang.org/x/sys/unix"
)

// discard takes what waits to be read out of the socket. Go's sockets do not block, and Control needs no read lock: a
// goroutine that waits in Read does not delay it. The bound is for a sender that is as fast as the loop.
func discard(conn net.Conn) {
	control(conn, func(fd int) error {
		buffer := make([]byte, 64<<10)
		for range 1024 {
			if n, err := unix.Read(fd, buffer); err != unix.EINTR && n <= 0 {
				return err
			}
		}
		return nil
	})
}
