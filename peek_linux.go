package liveness

import (
	"io"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/sock"
	"github.com/go-liveness/liveness/internal/supervise"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/watch"
)

const (
	kernelCounts    = true
	streamsMayBeTCP = false
)

// identifyStream tells stream sockets apart.
func identifyStream(fd uintptr) (family, error) {
	protocol, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
	switch {
	case err == nil && protocol == unix.IPPROTO_TCP && !tcpinfo.Told():
		return familyStateOnly, nil
	case err == nil && protocol == unix.IPPROTO_TCP:
		return familyTCP, nil
	case err == nil && protocol == unix.IPPROTO_MPTCP:
		return familyMPTCP, nil
	default:
		return familyStream, nil
	}
}

// checkAt asks poll: one system call that takes no lock and consumes nothing. A live
// connection shows nothing there; POLLRDHUP shows behind unread data, and POLLERR and
// POLLHUP unasked. The TCP state confirms what poll shows, because a local shutdown shows
// there too. After an event, or an error of a Read or Write, poll would only repeat it, so
// the state is asked at once. SO_ERROR and MSG_PEEK would take the socket's pending error
// from the application (sock_error in include/net/sock.h), so nothing here uses them.
func (s *socket) checkAt(fd uintptr, t trigger) observation {
	if s.family == familyStateOnly {
		return s.checkStateOnlyAt(fd, t)
	}
	var evidence *supervise.Sample
	var state tcpinfo.State
	switch {
	case s.family != familyTCP || t.event == 0 && t.err == nil:
	case t.event&watch.Hangup != 0: // over, as a rule: the state and the evidence come by one call
		evidence, state = infoAt(fd)
	default:
		state, _ = tcpinfo.GetState(fd)
	}
	if state != tcpinfo.Closed && state != tcpinfo.Unknown {
		return observationOf(state)
	}
	events, ok := sock.Poll(fd)
	switch {
	case !ok:
		return observation{}
	case events == 0 && state != tcpinfo.Closed:
		return observation{outcome: connected}
	case s.family != familyTCP:
		return s.checkStream(events, t)
	}
	if state == tcpinfo.Unknown {
		if state, _ = tcpinfo.GetState(fd); state != tcpinfo.Closed {
			return observationOf(state)
		}
		events, _ = sock.Poll(fd) // a RST may have come since
	}
	if evidence == nil {
		evidence, _ = infoAt(fd)
	}
	return s.causeOfEnd(fd, events, t, evidence)
}

// infoAt returns what TCP_INFO tells as a sample, and the state, which may be Unknown.
func infoAt(fd uintptr) (*supervise.Sample, tcpinfo.State) {
	out := new(supervise.Sample)
	out.Taken = tcpinfo.Get(fd, &out.Info) == nil
	return out, out.Info.State
}

func (s *socket) quickCheckAt(fd uintptr) bool {
	events, ok := sock.Poll(fd)
	return ok && events == 0
}

// checkStream interprets what poll showed of a socket without a TCP state. The history
// has the local shutdowns: to the kernel, one side's SHUT_RD is the other's SHUT_WR
// (unix_shutdown in net/unix/af_unix.c).
func (s *socket) checkStream(events int16, t trigger) observation {
	if why := errno.In(t.err); endsConnection(why) {
		s.history.KeepErrno(why)
	}
	h := &s.history
	if t.err == io.EOF && !t.wrote && !h.ReadShut() {
		h.NoteFIN() // a pending error would have come first
	}
	hup, rdhup := events&unix.POLLHUP != 0, events&unix.POLLRDHUP != 0
	fin := h.FINSeen()
	switch {
	case hup && s.history.KeptErrno() != nil:
		return observation{outcome: aborted, fin: fin, errno: s.history.KeptErrno()}
	case hup && events&unix.POLLERR != 0:
		return observation{outcome: aborted, fin: fin, errno: errno.Reset}
	case hup && s.deferToIO(t):
		if fin {
			return observation{outcome: peerFinished}
		}
		return observation{outcome: connected}
	case hup && h.ReadShut() && h.WriteShut():
		return observation{outcome: connected} // both shutdowns are local, and hide the peer's
	case hup && !rdhup: // MPTCP without a path (mptcp_poll); it never comes for others
		return observation{outcome: aborted, fin: fin, errno: errno.TimedOut}
	case hup && s.family == familyMPTCP && fin && !h.WriteShut():
		// More than the FIN that was seen, and not local: a RST whose error was taken.
		return observation{outcome: aborted, fin: fin, errno: errno.Reset}
	case hup:
		return observation{outcome: bothFinished}
	case rdhup && !h.ReadShut():
		return observation{outcome: peerFinished}
	default:
		return observation{outcome: connected}
	}
}

// causeOfEnd returns how a TCP connection came to its state CLOSE. The socket's
// pending error would tell, but would be gone for the application. So the cause
// follows from what TCP_INFO keeps, unless t.err, which the application was given,
// brought it along. out has what TCP_INFO tells; it becomes the evidence.
func (s *socket) causeOfEnd(fd uintptr, events int16, t trigger, out *supervise.Sample) observation {
	pending := events&unix.POLLERR != 0
	fin, unread, known := tcpinfo.FINArrived(fd)
	if events&unix.POLLPRI != 0 {
		known = fin && known && t.err == io.EOF // the count of FINArrived stops at urgent data
	}
	if !known {
		// A check saw the FIN; or an end of file with the error still pending followed one,
		// because recv would have given the error first (tcp_recvmsg_locked in
		// net/ipv4/tcp.c); or no error is pending after a local shutdown, as after two FINs.
		fin = s.history.FINSeen() || pending && t.err == io.EOF || !pending && s.history.WriteShut()
	}
	if fin && s.history.SentFIN(fd) && (!pending || allAcked(fd)) {
		return observation{outcome: bothFinished}
	}
	if s.family == familyTCP {
		if out.Unread = unread; unread < 0 {
			out.Unread = sock.Unread(fd)
		}
		out.Unacked = s.history.Unacked(fd, &out.Info)
	}
	why := errno.In(t.err)
	if why == nil || why == unix.EPIPE { // EPIPE says that something ended, not what
		why = s.deriveErrno(fd, t.arrivals, out)
	}
	return observation{outcome: aborted, fin: fin, errno: why, evidence: out}
}

// allAcked reports whether the peer has acknowledged all data and the local FIN. With both
// FINs exchanged, no RST ended the connection; POLLERR then comes from the error queue, such
// as an unread time stamp.
func allAcked(fd uintptr) bool {
	n, ok := sock.SendQueue(fd)
	return ok && n == 0
}

// deriveErrno returns what the kernel has told, or would tell, the application.
func (s *socket) deriveErrno(fd uintptr, last supervise.Arrivals, out *supervise.Sample) error {
	info := out.Info
	if !out.Taken || s.family != familyTCP && tcpinfo.Get(fd, &info) != nil {
		return errno.Reset
	}
	switch last.WhoEnded(&info, fd, s.limits.Load()) {
	case supervise.KernelTimer:
		return errno.TimedOut
	case supervise.LocalAbort:
		return unix.ECONNABORTED
	default:
		return errno.Reset
	}
}

// sampleAt usually takes two system calls on TCP: TCP_INFO and the count of unread bytes. A
// lean sample omits the second.
func (s *socket) sampleAt(fd uintptr, out *supervise.Sample) bool {
	if s.family == familyTCP {
		if tcpinfo.Get(fd, &out.Info) != nil {
			return false
		}
		if out.Info.FINSent {
			s.history.NoteWriteShut() // perhaps by CloseWrite of the wrapped connection, or before Wrap
		}
		if out.Detail == supervise.Full {
			out.Unread = s.history.Unread(fd, out.Info.State)
		}
		if out.Detail == supervise.Full || out.Info.InFlight == 0 && out.Info.State == tcpinfo.Open { // which teaches something
			out.Unacked = s.history.Unacked(fd, &out.Info)
		}
		return true
	}
	if s.family == familyMPTCP {
		out.Unread = s.history.UnreadMPTCP(fd)
	} else {
		out.Unread = sock.Unread(fd)
	}
	if s.family == familyMPTCP && s.counted {
		return s.sampleSubflows(fd, out)
	}
	out.Info = tcpinfo.Info{State: tcpinfo.Open}
	if n, ok := sock.SendQueue(fd); ok {
		out.Queued, out.Drained = n, n == 0
		if s.family != familyStream { // there it is memory rather than bytes
			out.Unacked = n
		}
	}
	return true
}

// countsAt: MPTCP tells the evidence of its subflows since Linux 5.16.
func (s *socket) countsAt(fd uintptr) bool {
	switch s.family {
	case familyTCP:
		return true
	case familyMPTCP:
		var one [1]tcpinfo.Info
		n, err := tcpinfo.GetSubflows(fd, one[:])
		return err == nil && n > 0
	}
	return false
}

// sampleSubflows fills out for an MPTCP connection.
func (s *socket) sampleSubflows(fd uintptr, out *supervise.Sample) bool {
	var subflows [tcpinfo.MaxSubflows]tcpinfo.Info
	n, err := tcpinfo.GetSubflows(fd, subflows[:])
	if err != nil {
		return false
	}
	unacked, known := sock.SendQueue(fd)
	if out.Unacked = unacked; !known {
		unacked = -1 // Linux before 5.17
	}
	var live bool
	out.Info, live = tcpinfo.Combine(subflows[:n], int64(unacked))
	switch {
	case !live:
		out.Info.State = tcpinfo.NotEstablished // until another path is found, or the end
	case s.history.FINSeen():
		out.Info.State = tcpinfo.CloseWait
	}
	return true
}
