//go:build unix && !linux

package liveness

import "golang.org/x/sys/unix"

// identify finds out what fd is.
func identify(fd uintptr) (family, error) {
	switch kind, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE); {
	case err != nil:
		return familyUnfit, errNoSocket
	case kind != unix.SOCK_STREAM:
		return familyUnfit, errNoStream
	default:
		return familyStream, nil
	}
}

func (s *socket) lookAt(fd uintptr, h hint) sight {
	if errno := errnoIn(h.err); errno == errReset || isLost(errno) {
		// The application was given the error, so the socket no longer has it.
		s.stolen.CompareAndSwap(nil, &errno)
	}
	return s.peekAt(fd)
}
