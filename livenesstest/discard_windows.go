package livenesstest

import (
	"net"

	"github.com/go-liveness/liveness/internal/afd"
)

// discard takes what waits to be read out of the socket. A receive of package net would wait, and a deadline to end it would
// end the Read of a goroutine that waits already, too. The bound is for a sender that is as fast as the loop.
func discard(conn net.Conn) {
	control(conn, func(fd int) error {
		buffer := make([]byte, 64<<10)
		for range 1024 {
			if _, err := afd.Recv(uintptr(fd), buffer, 0); err != nil {
				return err
			}
		}
		return nil
	})
}
