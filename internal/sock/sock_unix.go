//go:build unix

package sock

import (
	"io"
	"syscall"
)

// Peek asks for the next byte to read and leaves it in place. Zero bytes are the
// orderly end. Some systems give the socket's pending error away with it.
func Peek(fd uintptr) (n int, err error) {
	var buf [1]byte
	n, _, err = syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|msgDontWait)
	if err != nil {
		n = -1 // on s390x it is 0
	}
	return n, err
}

// Drain reads what was received. It works beside an expired deadline.
func Drain(fd uintptr, b []byte) (int, error) {
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

// AbortOnClose makes the next close send a RST and free the send queue.
func AbortOnClose(fd uintptr) {
	_ = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
}
