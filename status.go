package liveness

import "time"

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
	// a peer that vanishes now is reported; 0 means that there is no bound.
	DetectWithin time.Duration
}

// statusOf puts the sight of a connection that has not ended into words.
func statusOf(s sight) Status {
	status := Status{Unread: s.unread}
	switch s.outcome {
	case blind:
		status.State = Unknown
	case open:
		status.State = Connected
	default:
		status.State = HalfClosed
	}
	return status
}
