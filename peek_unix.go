//go:build unix

package liveness

import (
	"io"
	"syscall"
)

// peekAt is the look where no TCP state is to be had: a recv of one byte that
// leaves it in place. Zero bytes are the orderly close. It is blind to a FIN
// behind unread data, and on some systems it takes the socket's error from the
// application; what it took is kept, and Conn.Read hands it on.
func (s *socket) peekAt(fd uintptr) sight {
	if stolen := s.stolen.Load(); stolen != nil {
		return sight{outcome: aborted, fin: s.finSeen.Load(), errno: *stolen}
	}
	var buf [1]byte
	n, _, err := syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|msgDontWait)
	switch {
	// The error first: on s390x n may be 0 beside one.
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return sight{outcome: open}
	case err != nil:
		s.stolen.CompareAndSwap(nil, &err)
		return sight{outcome: aborted, fin: s.finSeen.Load(), errno: err}
	case n > 0 || s.readShut.Load():
		return sight{outcome: open}
	case s.writeShut.Load():
		return sight{outcome: finished}
	default:
		return sight{outcome: finSeen}
	}
}

// drainAt reads from a descriptor of package net, which is non-blocking, without
// waiting.
func drainAt(fd uintptr, b []byte) (int, error) {
	n, _, err := syscall.Recvfrom(int(fd), b, msgDontWait)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	default:
		return n, nil
	}
}

func lingerZeroAt(fd uintptr) {
	_ = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
}
