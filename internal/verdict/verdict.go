// Package verdict decides what the evidence of the kernel means: whether a peer is
// lost, takes no data, or sends none, and how a connection came to its end. It makes no
// system call and reads no clock.
package verdict

import (
	"time"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// TickSlack covers the coarseness of the kernel's ages, which are counted in ticks
// of at most 10 ms, so that no time-out is reported too early.
const TickSlack = 10 * time.Millisecond

// A Reason is the library's own reason to end a connection that the kernel still has.
type Reason uint8

const (
	None    Reason = iota
	Lost           // the peer's host gave no sign of life, or acknowledged nothing
	Stalled        // the peer's host answers, and its application takes no data
	Idle           // the peer could have sent, and sent nothing
)

// Evidence is one sample of a connection. Its times are durations since a moment that
// is the same for all samples of a Supervisor.
type Evidence struct {
	Info     tcpinfo.Info
	Counted  bool // Info is the kernel's own; else it is composed of what Read and Write show
	Unread   int  // bytes received that the application has not read
	NoReader bool // not Counted, and no Read waits, so silence cannot be measured
	Writing  bool // a Write has not returned
	Written  bool // one has returned since the last sample

	// Before and after the system call: the process may have been suspended there.
	Asked, Answered time.Duration

	// Jumped is when the clock last came much too late, if HasJumped.
	Jumped    time.Duration
	HasJumped bool
}

// An Answer is what one sample means.
type Answer struct {
	Reason Reason
	For    time.Duration // how long what Reason states has lasted

	// NothingAcked belongs to Lost: the peer was heard within PeerTimeout, and has
	// acknowledged nothing for For. If it is false, nothing was heard for For.
	NothingAcked bool

	Again time.Duration // when to ask again; 0 is at the next event
	Awake bool          // data are outstanding, or may be soon; the UserTimeout in force stays

	// Prompt reports that a verdict about an idle connection waits for a keep-alive probe.
	Prompt bool

	// UserTimeout is the TCP_USER_TIMEOUT to set. 0 leaves the option alone while Awake, and
	// otherwise restores the application's own.
	UserTimeout time.Duration

	Quiet QuietState    // whether the read-idle clock runs
	Since time.Duration // how long the peer could have sent and did not
}

// answerTime returns how long an answer may take.
func answerTime(i *tcpinfo.Info) time.Duration { return max(time.Second/4, 2*i.RTT) }

// unanswered reports whether retransmissions into a closed window go unanswered:
// longer than until the next one is due.
func unanswered(i *tcpinfo.Info) bool {
	return i.Retransmitting() && i.Silence() > i.RTO+answerTime(i)
}

// Suspect reports whether the peer's host owes an answer. One retransmission is
// ordinary loss. One keep-alive without an answer is not, because the kernel sent it
// after a silence and its answer takes a round trip. Of window probes, the last one
// is always without an answer for that long.
func Suspect(i *tcpinfo.Info) bool {
	switch {
	case !i.Outstanding():
		return i.Probes >= 1
	case i.InFlight == 0:
		return i.Probes >= 2
	default:
		return i.Retransmits >= 2 || i.Probes >= 2 || unanswered(i)
	}
}
