package liveness

import (
	"io"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/verdict"
)

// identify finds out what fd is.
func identify(fd uintptr) (family, error) {
	kind, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return familyUnfit, errNoSocket
	}
	if kind != unix.SOCK_STREAM {
		return familyUnfit, errNoStream
	}
	protocol, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
	switch {
	case err == nil && protocol == unix.IPPROTO_TCP:
		return familyTCP, nil
	case err == nil && protocol == unix.IPPROTO_MPTCP:
		return familyMPTCP, nil
	default:
		return familyStream, nil
	}
}

// lookAt asks poll first: one system call, no lock, nothing consumed, and silent
// for a live connection, because it reports POLLERR and POLLHUP unasked and
// POLLRDHUP behind unread data. Whatever it shows is confirmed by the TCP state,
// which our own shutdown does not fool. Neither SO_ERROR nor MSG_PEEK: both take
// the socket's error from the application (sock_error in include/net/sock.h).
func (s *socket) lookAt(fd uintptr, h hint) sight {
	var state tcpinfo.State
	if (h.event || h.err != nil) && s.family == familyTCP {
		// The poller, or a Read, has seen what poll would tell. And where poll is as blind
		// as a poller that is not believed, the state may not be.
		if state, _ = tcpinfo.GetState(fd); state != tcpinfo.Closed && state != tcpinfo.Unknown {
			return sightOf(state)
		}
	}
	events, ok := pollNow(fd)
	switch {
	case !ok:
		return s.peekAt(fd)
	case events == 0 && state != tcpinfo.Closed:
		return sight{outcome: open}
	}
	family := s.family
	if family == familyInet {
		family, _ = identify(fd)
	}
	if family != familyTCP {
		return s.lookStream(events, h)
	}
	if state == tcpinfo.Unknown {
		state, _ = tcpinfo.GetState(fd)
	}
	switch {
	case state == tcpinfo.Closed && s.watch != nil && s.short.Load() && events&unix.POLLPRI != 0:
		// gVisor has poll say everything of a closed socket, so that POLLERR is no news,
		// and TCP_INFO no more than that it is. What we take, Conn.Read hands on.
		return s.ended(h, s.takeError(fd), true)
	case state == tcpinfo.Closed:
		return s.autopsy(fd, events, h.err)
	case state != tcpinfo.Unknown:
		return sightOf(state)
	case events&unix.POLLHUP == 0 && events&unix.POLLRDHUP != 0:
		return s.lookStream(events, h)
	default: // an emulator
		return s.lookWithoutState(fd, events, h)
	}
}

// calmAt reports whether nothing has ended, by all that a look at a live connection
// costs.
func (s *socket) calmAt(fd uintptr) bool {
	events, ok := pollNow(fd)
	return ok && events == 0
}

// lookWithoutState tells what poll showed of a TCP socket that is over, where the
// state is not told: emulators are known to return zero. The errno has to be taken
// from the socket, which keeps it for the application.
func (s *socket) lookWithoutState(fd uintptr, events int16, h hint) sight {
	if events&unix.POLLHUP == 0 {
		return sight{outcome: open} // something in the error queue
	}
	if why := errno.In(h.err); why == errno.Reset || errno.IsLost(why) {
		taken := why // see lookStream
		s.stolen.CompareAndSwap(nil, &taken)
	}
	seen := s.peekAt(fd)
	switch {
	case seen.outcome == aborted:
		return seen
	case events&unix.POLLERR != 0 || !s.writeShut.Load():
		// Behind unread data, or the errno was taken before. End of file beside an error
		// followed a FIN (tcp_recvmsg_locked in net/ipv4/tcp.c).
		fin := s.finSeen.Load() || events&unix.POLLERR != 0 && seen.outcome != open
		return sight{outcome: aborted, fin: fin, errno: errno.Reset}
	default:
		return sight{outcome: finished}
	}
}

// lookStream tells what poll showed of a socket that has no TCP state. Here our
// own shutdowns have to be remembered: to the kernel, one side's SHUT_RD is the
// other's SHUT_WR (unix_shutdown in net/unix/af_unix.c).
func (s *socket) lookStream(events int16, h hint) sight {
	if why := errno.In(h.err); why == errno.Reset || errno.IsLost(why) {
		taken := why // a variable of its own: its address is all that allocates
		s.stolen.CompareAndSwap(nil, &taken)
	}
	hup, rdhup := events&unix.POLLHUP != 0, events&unix.POLLRDHUP != 0
	fin := s.finSeen.Load()
	switch {
	case hup && s.stolen.Load() != nil:
		return sight{outcome: aborted, fin: fin, errno: *s.stolen.Load()}
	case hup && events&unix.POLLERR != 0:
		return sight{outcome: aborted, fin: fin, errno: errno.Reset}
	case hup && s.deferToIO(h):
		return sight{outcome: open}
	case hup && s.readShut.Load() && s.writeShut.Load():
		return sight{outcome: open} // we did all of this ourselves, and the peer's part is not to be seen
	case hup && !rdhup: // MPTCP without a path (mptcp_poll); it never comes for others
		return sight{outcome: aborted, fin: fin, errno: errno.TimedOut}
	case hup && s.family == familyMPTCP && fin && !s.writeShut.Load():
		// More than the FIN that was seen, and not ours: a RST whose error was taken.
		return sight{outcome: aborted, fin: fin, errno: errno.Reset}
	case hup:
		return sight{outcome: finished}
	case rdhup && !s.readShut.Load():
		return sight{outcome: finSeen}
	default:
		return sight{outcome: open}
	}
}

// autopsy tells how a TCP connection came to its state CLOSE. The socket may still
// have its error, and would tell the cause, but part with it. So the cause follows
// from what TCP_INFO keeps, unless err, which the application was given, brought it
// along.
func (s *socket) autopsy(fd uintptr, events int16, err error) sight {
	pending := events&unix.POLLERR != 0
	fin, known := tcpinfo.FINArrived(fd)
	if events&unix.POLLPRI != 0 {
		known = fin && known && err == io.EOF // the count of FINArrived stops at urgent data
	}
	if !known {
		// An end of file with the error still there followed a FIN: recv would have
		// given the error first (tcp_recvmsg_locked in net/ipv4/tcp.c).
		fin = s.finSeen.Load() || pending && err == io.EOF || !pending && s.writeShut.Load()
	}
	if fin && s.sentFIN(fd) && (!pending || allAcked(fd)) {
		return sight{outcome: finished}
	}
	why := errno.In(err)
	if why == nil || why == unix.EPIPE { // EPIPE says that something ended, not what
		why = errno.Reset
		if s.kernelGaveUp(fd) {
			why = errno.TimedOut
		}
	}
	return sight{outcome: aborted, fin: fin, errno: why}
}

// allAcked reports whether the peer has acknowledged all that we sent. If our FIN is
// among that, and the peer's came, no RST can have ended the connection; what poll
// shows is in the error queue, such as time stamps that nobody has read.
func allAcked(fd uintptr) bool {
	n, err := unix.IoctlGetUint32(int(fd), unix.SIOCOUTQ)
	return err == nil && n == 0
}

// takeError takes the socket's error from it, if it says how the connection ended. A
// RST after a FIN is EPIPE (tcp_reset in net/ipv4/tcp_input.c).
func (s *socket) takeError(fd uintptr) error {
	n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	switch why := unix.Errno(n); {
	case err != nil:
		return nil
	case why == unix.EPIPE:
		s.finSeen.Store(true)
		return errno.Reset
	case why == errno.Reset || errno.IsLost(why):
		return why
	default: // such as what our own shutdown leaves
		return nil
	}
}

// kernelGaveUp reports whether a closed connection died of a timer of its own,
// and not of a RST. One in the middle of an outage leaves counters too, but comes a
// round trip after what asked for it, and a timer later than that. The rules are those
// of tcp_keepalive_timer, tcp_probe_timer and tcp_write_timeout in
// net/ipv4/tcp_timer.c; how long ago the last thing happened counts on, so a look that
// comes late takes the counters for all.
func (s *socket) kernelGaveUp(fd uintptr) bool {
	var info tcpinfo.Info
	if tcpinfo.Get(fd, &info) != nil {
		return false
	}
	if info.Solicitations() == 0 {
		if info.PeerWindow != 0 {
			return false
		}
		// What is retransmitted into a closed window is not counted, and is given up
		// after this long without an answer (tcp_rtx_probe0_timed_out).
		n, err := unix.IoctlGetUint32(int(fd), unix.SIOCOUTQ)
		return err == nil && n > 0 && info.Silence()+tickSlack >= 2*keepalive.Read(fd).MaxRTO
	}
	// A Ping changes some of them, and has had the others remembered.
	before := s.limits.Load()
	return verdict.Exhausted(keepalive.Read(fd), &info) || before != nil && verdict.Exhausted(before, &info)
}

// peekAt is the look where there is neither poll nor a TCP state. It is blind to a FIN
// behind unread data, and takes the socket's error from the application; what it took
// is kept, and Conn.Read hands it on.
func (s *socket) peekAt(fd uintptr) sight {
	if stolen := s.stolen.Load(); stolen != nil {
		return sight{outcome: aborted, fin: s.finSeen.Load(), errno: *stolen}
	}
	n, err := peek(fd)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return sight{outcome: open}
	case err != nil:
		kept := err // see lookStream
		s.stolen.CompareAndSwap(nil, &kept)
		return sight{outcome: aborted, fin: s.finSeen.Load(), errno: err}
	case n > 0 || s.readShut.Load():
		return sight{outcome: open}
	case s.writeShut.Load():
		return sight{outcome: finished}
	default:
		return sight{outcome: finSeen}
	}
}
