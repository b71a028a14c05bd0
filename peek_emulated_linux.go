package liveness

import (
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/sock"
	"github.com/go-liveness/liveness/internal/supervise"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// An emulator of Linux may tell the TCP state and nothing else (gVisor), or not even
// that (qemu-user before 9). identify finds that out by a socket of the library's own,
// and gives TCP the family familyStateOnly.

// checkStateOnlyAt asks the state first. Where the kernel is not Linux, poll may show as
// little of a FIN as its epoll.
func (s *socket) checkStateOnlyAt(fd uintptr, t trigger) observation {
	var state tcpinfo.State
	if t.event != 0 || t.err != nil {
		if state, _ = tcpinfo.GetState(fd); state != tcpinfo.Closed && state != tcpinfo.Unknown {
			return observationOf(state)
		}
	}
	events, ok := sock.Poll(fd)
	switch {
	case !ok:
		return s.peekAt(fd)
	case events == 0 && state != tcpinfo.Closed:
		return observation{outcome: connected}
	}
	if state == tcpinfo.Unknown {
		state, _ = tcpinfo.GetState(fd)
	}
	switch {
	case state == tcpinfo.Closed && events&unix.POLLPRI != 0 && s.direct:
		// gVisor's poll shows everything of a closed socket, so POLLERR is no news. What
		// this takes, Conn.Read hands on.
		return s.ended(t, s.takeError(fd), true)
	case state == tcpinfo.Closed:
		out := new(supervise.Sample)
		out.Taken = s.sampleAt(fd, out)
		return s.causeOfEnd(fd, events, t, out)
	case state != tcpinfo.Unknown:
		return observationOf(state)
	case events&unix.POLLHUP == 0 && events&unix.POLLRDHUP != 0:
		return s.checkStream(events, t)
	case events&unix.POLLHUP == 0:
		return observation{outcome: connected} // something in the error queue
	default:
		return s.checkWithoutState(fd, events, t)
	}
}

// checkWithoutState interprets what poll showed of a TCP socket that is over, where the
// state is not told. The errno has to be taken from the socket; Conn.Read hands it on.
func (s *socket) checkWithoutState(fd uintptr, events int16, t trigger) observation {
	if why := errno.In(t.err); endsConnection(why) {
		s.history.KeepErrno(why)
	}
	o := s.peekAt(fd)
	switch {
	case o.outcome == aborted:
		return o
	case events&unix.POLLERR != 0 || !s.history.WriteShut():
		// Behind unread data, or the errno was taken before. End of file beside an error
		// followed a FIN (tcp_recvmsg_locked in net/ipv4/tcp.c).
		fin := s.history.FINSeen() || events&unix.POLLERR != 0 && o.outcome != connected
		return observation{outcome: aborted, fin: fin, errno: errno.Reset}
	default:
		return observation{outcome: bothFinished}
	}
}

// takeError takes the socket's pending error from it, if it says how the connection
// ended. A RST after a FIN is EPIPE (tcp_reset in net/ipv4/tcp_input.c).
func (s *socket) takeError(fd uintptr) error {
	n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	switch why := unix.Errno(n); {
	case err != nil:
		return nil
	case why == unix.EPIPE:
		s.history.NoteFIN()
		return errno.Reset
	case endsConnection(why):
		return why
	default: // such as what a local shutdown leaves
		return nil
	}
}

// peekAt is the check where there is neither poll nor a TCP state. It does not see
// a FIN behind unread data.
func (s *socket) peekAt(fd uintptr) observation {
	h := &s.history
	if taken := s.history.KeptErrno(); taken != nil {
		return observation{outcome: aborted, fin: h.FINSeen(), errno: taken}
	}
	n, err := sock.Peek(fd)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return observation{outcome: connected}
	case err != nil:
		s.history.KeepErrno(err)
		return observation{outcome: aborted, fin: h.FINSeen(), errno: err}
	case n > 0 || h.ReadShut():
		return observation{outcome: connected}
	case h.WriteShut():
		return observation{outcome: bothFinished}
	default:
		return observation{outcome: peerFinished}
	}
}
