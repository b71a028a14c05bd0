package liveness

import (
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/sock"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// sampleAt takes two system calls on TCP: TCP_INFO and the count of unread bytes.
func (s *socket) sampleAt(fd uintptr, out *sample) bool {
	out.unread = s.unreadAt(fd)
	if s.family == familyTCP {
		if tcpinfo.Get(fd, &out.info) != nil {
			return false
		}
		if out.info.FINSent {
			s.history.writeShut.Store(true) // whoever sent it, perhaps before Wrap
		}
		out.unacked = s.unackedAt(fd, &out.info)
		return true
	}
	if s.family == familyMPTCP && s.counted {
		return s.sampleSubflows(fd, out)
	}
	out.info = tcpinfo.Info{State: tcpinfo.Open}
	if n, ok := sock.SendQueue(fd); ok {
		out.queued, out.drained = n, n == 0
		if s.family != familyStream { // there it is memory rather than bytes
			out.unacked = n
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
func (s *socket) sampleSubflows(fd uintptr, out *sample) bool {
	var subflows [tcpinfo.MaxSubflows]tcpinfo.Info
	n, err := tcpinfo.GetSubflows(fd, subflows[:])
	if err != nil {
		return false
	}
	out.unacked, _ = sock.SendQueue(fd)
	var live bool
	out.info, live = tcpinfo.Combine(subflows[:n], int64(out.unacked))
	switch {
	case !live:
		out.info.State = tcpinfo.NotEstablished // until another path is found, or the end
	case s.history.finSeen.Load():
		out.info.State = tcpinfo.CloseWait
	}
	return true
}

func (s *socket) unreadAt(fd uintptr) int {
	n := sock.Unread(fd)
	if s.family == familyMPTCP && n > 0 {
		// There the FIN counts, and so does any end once all is read (mptcp_inq_hint in
		// net/mptcp/protocol.c).
		events, _ := sock.Poll(fd)
		if s.history.finSeen.Load() || events&unix.POLLHUP != 0 && n == 1 {
			n--
		}
	}
	return n
}

// unackedAt computes what SIOCOUTQ would tell, to save the call. The kernel is asked
// only if it is not known whether a SYN counts.
func (s *socket) unackedAt(fd uintptr, i *tcpinfo.Info) int {
	switch syn := int64(s.history.synCounts.Load()) - 1; {
	case i.InFlight == 0 && i.State == tcpinfo.Open:
		s.learnSYN(i.Acked - i.Sent)
		return int(i.Unsent)
	case i.InFlight == 0 && i.State == tcpinfo.CloseWait: // and not at the end, when none is in flight any more
		return int(i.Unsent)
	case syn >= 0 && i.Sent >= 0:
		return int(max(0, i.Sent-i.Acked+syn) + i.Unsent)
	}
	// Nothing is learned from that: meanwhile more may have been sent or acknowledged.
	n, _ := sock.SendQueue(fd)
	return n
}

// learnSYN notes whether the kernel counts a SYN among the bytes acknowledged, as it
// does for the side that connected: synCounts is then 2, else 1, and 0 while that is
// not known. extra is by how much they exceed the data.
func (s *socket) learnSYN(extra int64) {
	if !s.history.writeShut.Load() && (extra == 0 || extra == 1) { // a FIN would count, too
		s.history.synCounts.CompareAndSwap(0, int32(extra)+1)
	}
}

// sentFIN reports whether a closed connection had sent the local FIN, whoever shut it
// down. The kernel counts it as a byte, like a SYN.
func (s *socket) sentFIN(fd uintptr) bool {
	var i tcpinfo.Info
	n, ok := sock.SendQueue(fd)
	syn := int64(s.history.synCounts.Load()) - 1
	if !ok || tcpinfo.Get(fd, &i) != nil || i.Sent < 0 || syn < 0 {
		return s.history.writeShut.Load()
	}
	return int64(n)-i.Unsent-i.Sent+i.Acked > syn
}
