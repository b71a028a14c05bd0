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

// ErrShort means that the kernel, or what poses as one, told less than the caller
// needs: emulators are known to return the state and nothing else, or zeros.
var ErrShort = errors.New("TCP_INFO is too short")

// A State is a state of RFC 9293 as far as liveness cares.
type State uint8

const (
	// Unknown is a state that the system did not tell.
	Unknown State = iota
	// Open has seen no FIN of the peer: SYN-RECEIVED, ESTABLISHED, FIN-WAIT-1 and
	// FIN-WAIT-2.
	Open
	// CloseWait has the peer's FIN, and we may still send.
	CloseWait
	// Finishing has the peer's FIN and sent ours: CLOSING, LAST-ACK, TIME-WAIT.
	Finishing
	// Closed is over, one way or the other.
	Closed
)

// Info is the evidence. Ages are measured by the kernel, from its own clock.
type Info struct {
	State   State
	FINSent bool // State is Open, and our FIN is sent, or will be behind what is unsent
	Full    bool // whether anything but State was told

	SinceData time.Duration // age of the last data received
	SinceAck  time.Duration // age of the last acknowledgement received
	SinceSent time.Duration // age of the last data sent, retransmissions included
	RTT       time.Duration // smoothed round-trip time
	RTO       time.Duration // retransmission time-out now in force, back-off included

	Retransmits int // retransmission time-outs in a row without progress
	Probes      int // keep-alive and window probes in a row without an answer
	Backoff     int // how often the retransmission or window-probe timer doubled

	InFlight int   // segments sent and not acknowledged
	Unsent   int64 // bytes written that were not sent yet
	Sent     int64 // bytes sent since the connection began, each counted once; -1 where it is not told
	Received int64
	Acked    int64 // bytes acknowledged since the connection began, a SYN or FIN of ours counted as one

	PeerWindow int64 // bytes that the peer still lets us send; -1 where it is not told
	OurWindow  int64 // bytes that we let the peer send; -1 where it is not told
	PeerMSS    int64 // size of the segments that the peer sends, as estimated
}

// Outstanding reports whether something that we wrote is unsent or unacknowledged.
func (i *Info) Outstanding() bool { return i.InFlight > 0 || i.Unsent > 0 }

// Solicitations counts what asked the peer's host for an answer, in a row, and got
// none.
func (i *Info) Solicitations() int { return i.Retransmits + i.Probes }

// RetransmitTime is how long, at the least, the first retransmission was before the
// last. Each came half as long, or less, after the one before as the next one will
// (tcp_retransmit_timer in net/ipv4/tcp_timer.c).
func (i *Info) RetransmitTime() (d time.Duration) {
	for n := range i.Retransmits - 1 {
		d += i.RTO >> (n + 1)
	}
	return d
}

// Silence is the time since anything was heard from the peer's host.
func (i *Info) Silence() time.Duration { return min(i.SinceData, i.SinceAck) }

// Retransmitting reports whether data were in flight when the peer's window closed.
// Linux retransmits them then instead of probing the window, and counts neither
// (tcp_retransmit_timer in net/ipv4/tcp_timer.c).
func (i *Info) Retransmitting() bool { return i.InFlight > 0 && i.PeerWindow == 0 }

func (s State) Alive() bool { return s == Open || s == CloseWait }
func Told() bool            { return true }
func SubflowsTold() bool    { return false }
