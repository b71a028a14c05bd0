package sock

import (
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// Unread counts what a TCP socket has received and the application has not read, without the
// FIN.
func (h *History) Unread(fd uintptr, state tcpinfo.State) int {
	if state == tcpinfo.Closed { // whether a FIN is among it is not known then
		return Unread(fd)
	}
	n, known := tcpinfo.Unread(fd)
	if !known {
		return Unread(fd)
	}
	if n > 0 && (state == tcpinfo.CloseWait || state == tcpinfo.Finishing) {
		n--
	}
	return n
}

// UnreadMPTCP is Unread for MPTCP.
func (h *History) UnreadMPTCP(fd uintptr) int {
	n := Unread(fd)
	if n > 0 {
		// There the FIN counts, and so does any end once all is read (mptcp_inq_hint in
		// net/mptcp/protocol.c).
		events, _ := Poll(fd)
		if h.FINSeen() || events&unix.POLLHUP != 0 && n == 1 {
			n--
		}
	}
	return n
}

// Unacked computes what SIOCOUTQ would tell, to save the call. The kernel is asked
// only if it is not known whether a SYN counts.
func (h *History) Unacked(fd uintptr, i *tcpinfo.Info) int {
	switch syn := h.syn(); {
	case i.InFlight == 0 && i.State == tcpinfo.Open:
		h.learnSYN(i.Acked - i.Sent)
		return int(i.Unsent)
	case i.InFlight == 0 && i.State == tcpinfo.CloseWait: // and not at the end, when none is in flight any more
		return int(i.Unsent)
	case syn >= 0 && i.Sent >= 0:
		return int(max(0, i.Sent-i.Acked+syn) + i.Unsent)
	}
	// Nothing is learned from that: meanwhile more may have been sent or acknowledged.
	n, _ := SendQueue(fd)
	return n
}

// syn is 1 if the kernel counts a SYN among the bytes acknowledged, as it does for the side
// that connected, else 0, and -1 while that is not known.
func (h *History) syn() int64 {
	switch flags := h.flags.Load(); {
	case flags&synKnown == 0:
		return -1
	case flags&synCounted == 0:
		return 0
	}
	return 1
}

// learnSYN notes whether the kernel counts a SYN. extra is by how much the bytes
// acknowledged exceed the data.
func (h *History) learnSYN(extra int64) {
	if !h.WriteShut() && (extra == 0 || extra == 1) { // a FIN would count, too
		h.set(synKnown | uint32(extra)*synCounted)
	}
}

// SentFIN reports whether a closed connection had sent the local FIN, whether the
// Conn or other code shut it down. The kernel counts it as a byte, like a SYN.
func (h *History) SentFIN(fd uintptr) bool {
	var i tcpinfo.Info
	n, ok := SendQueue(fd)
	syn := h.syn()
	if !ok || tcpinfo.Get(fd, &i) != nil || i.Sent < 0 || syn < 0 {
		return h.WriteShut()
	}
	return int64(n)-i.Unsent-i.Sent+i.Acked > syn
}
