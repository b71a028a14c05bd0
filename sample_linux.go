package liveness

import (
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// streamsMayBeTCP: only on Windows.
const streamsMayBeTCP = false

// kernelCounts says that TCP_INFO tells what was received and what is outstanding.
const kernelCounts = true

// sampleAt takes two system calls: TCP_INFO and SIOCINQ. Where the former tells too
// little, what is outstanding is asked for as on MPTCP.
func (s *socket) sampleAt(fd uintptr, out *sample) bool {
	out.unread = s.unreadAt(fd)
	if s.family == familyTCP && !s.short.Load() {
		if tcpinfo.Get(fd, &out.info) == nil && out.info.Full {
			if out.info.FINSent {
				s.writeShut.Store(true) // by whomever, perhaps before Wrap
			}
			out.unacked = s.unackedAt(fd, &out.info)
			return true
		}
		s.short.Store(true)
	}
	out.info = tcpinfo.Info{State: tcpinfo.Open}
	if n, err := unix.IoctlGetUint32(int(fd), unix.SIOCOUTQ); err == nil {
		out.queued, out.drained = int(n), n == 0
		if s.family != familyStream { // there it is memory rather than bytes
			out.unacked = int(n)
		}
	}
	return true
}

func (s *socket) unreadAt(fd uintptr) int {
	n, err := unix.IoctlGetUint32(int(fd), unix.SIOCINQ) // the kernel subtracts the FIN
	if err != nil {
		return 0
	}
	if s.family == familyMPTCP && n > 0 {
		// There the FIN counts, and so does any end once all is read (mptcp_inq_hint in
		// net/mptcp/protocol.c).
		events, _ := pollNow(fd)
		if s.finSeen.Load() || events&unix.POLLHUP != 0 && n == 1 {
			n--
		}
	}
	return int(n)
}

// unackedAt computes what SIOCOUTQ would tell, to save the call. Only if it is not
// known whether a SYN counts is the kernel asked.
func (s *socket) unackedAt(fd uintptr, i *tcpinfo.Info) int {
	switch syn := int64(s.synCounts.Load()) - 1; {
	case i.InFlight == 0 && i.State == tcpinfo.Open:
		s.learnSYN(i.Acked - i.Sent)
		return int(i.Unsent)
	case i.InFlight == 0 && i.State == tcpinfo.CloseWait: // and not at the end, when none is in flight any more
		return int(i.Unsent)
	case syn >= 0 && i.Sent >= 0:
		return int(max(0, i.Sent-i.Acked+syn) + i.Unsent)
	}
	// Nothing is learned from that: meanwhile more may have been sent or acknowledged.
	n, _ := unix.IoctlGetUint32(int(fd), unix.SIOCOUTQ)
	return int(n)
}

// learnSYN notes whether the kernel counts a SYN among the bytes acknowledged, as
// it does if we were the one to connect. extra is by how much they exceed the data.
func (s *socket) learnSYN(extra int64) {
	if !s.writeShut.Load() && (extra == 0 || extra == 1) { // a FIN would count, too
		s.synCounts.CompareAndSwap(0, int32(extra)+1)
	}
}

// sentFIN reports whether a closed connection had sent our FIN, whoever shut it down.
// The kernel counts it as a byte, like a SYN.
func (s *socket) sentFIN(fd uintptr) bool {
	var i tcpinfo.Info
	n, err := unix.IoctlGetUint32(int(fd), unix.SIOCOUTQ)
	syn := int64(s.synCounts.Load()) - 1
	if err != nil || tcpinfo.Get(fd, &i) != nil || i.Sent < 0 || syn < 0 {
		return s.writeShut.Load()
	}
	return int64(n)-i.Unsent-i.Sent+i.Acked > syn
}
