// Package tcpinfo reads what the kernel knows of a TCP connection, without a
// trace: no byte, no lock of package net, no pending socket error.
//
// Get is per system. It must be called while fd cannot be closed, as inside
// syscall.RawConn.Control, and it does not block for longer than the kernel holds
// the socket's lock.
package tcpinfo

import (
	"errors"
	"time"
)

// ErrShort means that the kernel, or an emulator of it, told less than the caller
// needs: emulators are known to return the state and nothing else, or zeros.
var ErrShort = errors.New("TCP_INFO is too short")

// A State is a state of RFC 9293 as far as liveness cares.
type State uint8

const (
	// Unknown is a state that the system did not tell.
	Unknown State = iota
	// NotEstablished is LISTEN or SYN-SENT: no connection yet. A TCP Fast Open dialer
	// returns a socket in SYN-SENT.
	NotEstablished
	// Open has seen no FIN of the peer: SYN-RECEIVED, ESTABLISHED, FIN-WAIT-1 and
	// FIN-WAIT-2.
	Open
	// CloseWait has the peer's FIN, and the local side may still send.
	CloseWait
	// Finishing has the FINs of both sides: CLOSING, LAST-ACK, TIME-WAIT.
	Finishing
	// Closed is over, one way or the other.
	Closed
)

// Info is the evidence. Ages are measured by the kernel, from its own clock.
type Info struct {
	State   State
	FINSent bool // State is Open, and the local FIN is sent, or will be behind what is unsent
	Full    bool // whether anything but State was told

	SinceData time.Duration // age of the last data received
	SinceAck  time.Duration // age of the last acknowledgement received
	SinceSent time.Duration // age of the last data sent, retransmissions included
	RTT       time.Duration // smoothed round-trip time
	RTO       time.Duration // retransmission time-out now in force, back-off included

	Recovering  bool // the kernel repairs a loss, or has not seen the end of that yet
	Retransmits int  // retransmission time-outs in a row without progress
	Probes      int  // keep-alive and window probes in a row without an answer
	Backoff     int  // how often the retransmission or window-probe timer doubled

	InFlight int   // segments sent and not acknowledged
	Sacked   int   // of these, segments that the peer has all the same
	Unsent   int64 // bytes written that were not sent yet
	Sent     int64 // bytes sent since the connection began, each counted once; -1 where it is not told
	Acked    int64 // bytes acknowledged since the connection began, a local SYN or FIN counted as one
	Received int64 // bytes received in order since the connection began; -1 where it is not told

	// Delivered counts the segments that arrived at the peer, by an acknowledgement or a
	// SACK. It wraps around.
	Delivered uint32

	// Segments counts all that arrived, also those that moved no age: the kernel takes no
	// notice of a segment that repeats what was received. It wraps around, and is 0 where it is
	// not told.
	Segments uint32

	// Of MPTCP: all data were acknowledged, although a subflow may still repeat some of them;
	// and then, the kernel does not ask for an answer on a subflow that is open.
	AllAcked, Unasked bool

	PeerWindow int64 // bytes that the peer still takes; -1 where it is not told
	OurWindow  int64 // bytes that the peer may send; -1 where it is not told
	MSS        int64 // size of the segments that are sent, at most
	PeerMSS    int64 // size of the segments that the peer sends, as estimated
}

// Outstanding reports whether something that was written is unsent or unacknowledged.
func (i *Info) Outstanding() bool { return i.InFlight > 0 || i.Unsent > 0 }

// ReceivedData is Received without the peer's FIN, which the kernel counts as a byte
// (tcp_rcv_nxt_update in net/ipv4/tcp_input.c).
func (i *Info) ReceivedData() int64 {
	if i.State == CloseWait || i.State == Finishing {
		return i.Received - 1
	}
	return i.Received
}

// Solicitations counts what asked the peer's host for an answer, in a row, and got
// none.
func (i *Info) Solicitations() int { return i.Retransmits + i.Probes }

// RetransmitTime returns how long, at the least, the last retransmission came after
// the retransmission timer was armed first, which is no earlier than the last progress.
// Each time-out was half as long, or more, as the next one will be
// (tcp_retransmit_timer in net/ipv4/tcp_timer.c). Once they have reached their limit,
// that is far too little; rto, the time-out before the first, tells more. It may be 0.
func (i *Info) RetransmitTime(rto, limit time.Duration) (d time.Duration) {
	n := min(i.Retransmits, i.Backoff, 64)
	for k := range n {
		d += i.RTO >> (k + 1)
	}
	var known time.Duration
	for range n {
		known += min(rto, limit)
		rto = min(2*rto, limit)
	}
	return max(d, known)
}

// Silence is the time since anything was heard from the peer's host.
func (i *Info) Silence() time.Duration { return min(i.SinceData, i.SinceAck) }

// WindowClosed reports whether data wait because the peer takes none: its window is closed,
// or too small for the next segment, so that the kernel probes it. Corked data wait too, but
// behind an open window and without a probe.
func (i *Info) WindowClosed() bool {
	return i.PeerWindow == 0 || i.InFlight == 0 && i.Unsent > 0 && i.Backoff > 0
}

// Retransmitting reports whether data were in flight when the peer's window closed.
// Linux retransmits them then instead of probing the window, and counts neither
// (tcp_retransmit_timer in net/ipv4/tcp_timer.c).
func (i *Info) Retransmitting() bool { return i.InFlight > 0 && i.PeerWindow == 0 }
