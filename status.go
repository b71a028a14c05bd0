package liveness

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/verdict"
)

// A State is how a connection looks, in one word. More states may be added; treat
// one that you do not know as [Connected] unless [Status.Err] says otherwise.
type State int

const (
	// Unknown is the zero value: no socket was found beneath the connection, or
	// the system shows nothing of it, so nothing can be seen until a Read or a
	// Write fails.
	Unknown State = iota
	// Connected: nothing has ended.
	Connected
	// HalfClosed: the peer has sent its FIN, and Config.AllowHalfClose says that
	// this is not the end. It may still be reading.
	HalfClosed
	// Stalled: the peer's host answers, and its program takes no data.
	Stalled
	// Suspect: something that the peer's host should have answered is unanswered.
	Suspect
	// Disconnected: the end, for good; [Status.Err] tells why.
	Disconnected
)

var stateNames = [...]string{"unknown", "connected", "half-closed", "stalled", "suspect", "disconnected"}

// String returns the state in lower case.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "invalid"
	}
	return stateNames[s]
}

// A Status is a verdict with the evidence for it. A field that a system cannot
// tell is zero.
type Status struct {
	// State is the graver one where several hold at once.
	State State

	// Err is what [Conn.Err] returns: nil until the end, then the reason.
	Err error

	// Silence is the time since anything at all was heard from the peer's host,
	// data or acknowledgement.
	Silence time.Duration

	// RTT is the kernel's smoothed round-trip time.
	RTT time.Duration

	// Unread counts the bytes received that nobody has read yet. Beneath TLS it
	// counts records, session tickets included.
	Unread int

	// Unacked counts the bytes written that the peer's host has not acknowledged,
	// those that were not sent yet included.
	Unacked int

	// Retransmits counts the retransmissions in a row that nothing answered.
	Retransmits int

	// Probes counts the keep-alive or window probes in a row that nothing answered.
	Probes int

	// DetectWithin is the worst case, from the options that the kernel has, until
	// a peer that vanishes now is reported; 0 means that there is no bound. The options
	// are asked for once: by Wrap, if the Config sets some, or else by the first Status.
	DetectWithin time.Duration
}

// A sample is the evidence that a connection shows besides how it ended.
type sample struct {
	info    tcpinfo.Info
	unread  int  // bytes received that nobody has read
	unacked int  // bytes written and not acknowledged, with those not sent yet
	queued  int  // what goes down as the peer takes data, where the kernel counts nothing better
	drained bool // where it does not, it tells at least that the peer has taken all that was written

	// Before and after the kernel was asked: the process may have been suspended there.
	asked, answered time.Time

	heard time.Time // when the last byte came

	deaf bool // nothing was asked of the kernel, and nobody waits in Read to tell
}

// status puts a sample into words. It tells no end.
func (s *sample) status() Status {
	i := &s.info
	st := Status{
		State:       Connected,
		Unread:      s.unread,
		Unacked:     s.unacked,
		RTT:         i.RTT,
		Retransmits: i.Retransmits,
		Probes:      i.Probes,
	}
	if i.Full {
		st.Silence = i.Silence()
	}
	switch {
	case verdict.Suspect(i):
		st.State = Suspect
	case i.Outstanding() && verdict.WindowClosed(i):
		st.State = Stalled
	case i.State == tcpinfo.CloseWait:
		st.State = HalfClosed
	}
	return st
}

// evidence tells in words what is unanswered.
func (st *Status) evidence() string {
	var parts []string
	count := func(n int, one, many string) {
		switch {
		case n == 1:
			parts = append(parts, "1 "+one)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	if st.Unacked == 0 || st.Retransmits > 0 { // a window is probed in place of that
		count(st.Probes, "keep-alive probe unanswered", "keep-alive probes unanswered")
	} else {
		count(st.Probes, "window probe unanswered", "window probes unanswered")
	}
	count(st.Retransmits, "retransmission unanswered", "retransmissions unanswered")
	count(st.Unacked, "byte unacknowledged", "bytes unacknowledged")
	return strings.Join(parts, ", ")
}

// Status asks the kernel now and returns the verdict with the evidence for it.
// What it finds is told to everybody, as by Alive. After the end it returns the
// evidence of the verdict, for ever; then, and on a connection without a socket,
// it asks nobody. It never blocks and allocates nothing while connected; on Linux
// it costs two system calls on a TCP connection, the first time a few more.
func (c *Conn) Status() Status {
	if e := c.end.Load(); e != nil {
		return c.evidence(e)
	}
	var s sample
	sampled := c.sock.raw != nil && c.sock.sample(&s)
	var seen sight
	switch {
	case !sampled || !c.counted():
		seen = c.look(hint{})
	case s.info.State == tcpinfo.Open:
		seen.outcome = open
	case s.info.State == tcpinfo.CloseWait && c.allowHalfClose:
		seen.outcome = finSeen
		c.sock.finSeen.Store(true)
	default:
		seen = c.look(hint{})
	}
	if e := c.end.Load(); e != nil {
		return c.evidence(e)
	}
	st := s.status()
	switch {
	case seen.outcome == blind:
		st.State = Unknown
	case seen.outcome != open && st.State == Connected:
		st.State = HalfClosed
	}
	if c.counted() || !kernelCounts && c.sock.raw != nil {
		var timeout time.Duration
		if t := c.timers.Load(); t != nil {
			timeout = t.asks.Peer
		}
		st.DetectWithin = c.sock.limitsNow().DetectWithin(timeout)
		switch i := &s.info; {
		case st.DetectWithin == 0 || !i.Outstanding() || !verdict.WindowClosed(i):
		case timeout == 0:
			st.DetectWithin = max(st.DetectWithin, c.sock.limitsNow().ClosedBound())
		case i.Retransmitting():
			st.DetectWithin = max(st.DetectWithin, timeout*3/2+time.Second) // see verdict.Supervisor
		}
	}
	return st
}
