//go:build unix && !linux

package liveness

import (
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// identify finds out what fd is. A TCP socket that is over may have forgotten its
// address, which fails with EINVAL; other sockets do not.
func identify(fd uintptr) (family, error) {
	switch kind, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE); {
	case err != nil:
		return familyUnfit, errNoSocket
	case kind != unix.SOCK_STREAM:
		return familyUnfit, errNoStream
	}
	address, err := unix.Getsockname(int(fd))
	switch address.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
		return familyTCP, nil
	}
	if err == unix.EINVAL || err == unix.ECONNRESET || err == unix.ENOTCONN {
		return familyTCP, nil
	}
	return familyStream, nil
}

// lookAt asks for the TCP state where the system tells it: one call, which takes
// nothing, sees a FIN behind unread data and is not fooled by our own shutdown. On
// the others it peeks, and if there is something to read, asks what is behind it. A
// connection that is open costs one call everywhere, unless it has unread data.
func (s *socket) lookAt(fd uintptr, h hint) sight {
	if s.family == familyTCP || s.family == familyInet {
		switch state, _ := tcpinfo.GetState(fd); state {
		case tcpinfo.Unknown:
		case tcpinfo.Closed:
			_, errno := endBehind(fd)
			return s.ended(h, errno, true)
		default:
			return sightOf(state)
		}
	}
	n, err := peek(fd)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return sight{outcome: open}
	case n <= 0:
		return s.ended(h, err, s.gone(fd))
	}
	behind, err := endBehind(fd)
	if gone := s.gone(fd); behind || gone {
		return s.ended(h, err, gone)
	}
	return sight{outcome: open}
}

func (s *socket) calmAt(fd uintptr) bool { return s.lookAt(fd, hint{}).outcome == open }

// gone reports whether a socket without a state has no peer any more. Once we have
// shut down both directions it has none, whatever the peer does (tcp_usrclosed).
func (s *socket) gone(fd uintptr) bool {
	if s.readShut.Load() && s.writeShut.Load() {
		return false
	}
	_, err := unix.Getpeername(int(fd))
	return err == unix.ENOTCONN
}
