//go:build unix && !linux

package liveness

import (
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/sock"
	"github.com/go-liveness/liveness/internal/supervise"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

const (
	kernelCounts    = false
	streamsMayBeTCP = false
)

// identifyStream knows a TCP socket by its address. One that is over may have forgotten it,
// which fails with EINVAL; other sockets do not.
func identifyStream(fd uintptr) (family, error) {
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

// checkAt asks for the TCP state where the system tells it: one call, which takes
// nothing, sees a FIN behind unread data, and is not fooled by a local shutdown.
// Elsewhere it peeks and, if there is something to read, asks what is behind it.
func (s *socket) checkAt(fd uintptr, t trigger) observation {
	if s.family == familyTCP || s.family == familyInet {
		switch state, _ := tcpinfo.GetState(fd); state {
		case tcpinfo.Unknown:
		case tcpinfo.Closed:
			_, errno := sock.EndBehind(fd)
			return s.ended(t, errno, true)
		default:
			return observationOf(state)
		}
	}
	n, err := sock.Peek(fd)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return observation{outcome: connected}
	case n <= 0:
		return s.ended(t, err, s.gone(fd))
	}
	behind, err := sock.EndBehind(fd)
	if gone := s.gone(fd); behind || gone {
		return s.ended(t, err, gone)
	}
	return observation{outcome: connected}
}

func (s *socket) quickCheckAt(fd uintptr) bool {
	return s.checkAt(fd, trigger{}).outcome == connected
}

// gone reports whether a socket without a state has no peer any more. Once the
// application has shut down both directions it has none, whatever the peer does
// (tcp_usrclosed).
func (s *socket) gone(fd uintptr) bool {
	if s.history.ReadShut() && s.history.WriteShut() {
		return false
	}
	_, err := unix.Getpeername(int(fd))
	return err == unix.ENOTCONN
}

func (s *socket) sampleAt(fd uintptr, out *supervise.Sample) bool {
	out.Unread = sock.Unread(fd)
	if s.family == familyTCP {
		out.Unacked = keepalive.SendQueue(fd)
		_ = tcpinfo.Get(fd, &out.Info) // not on every system
	}
	return true
}

func (*socket) countsAt(uintptr) bool { return false }
