// Package verdict decides what the evidence of the kernel means: whether a peer is
// lost, takes no data, or sends none. It asks nobody and keeps no clock; its tests are
// tables and recorded traces.
package verdict

import (
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// TickSlack covers the coarseness of the kernel's ages, which are counted in ticks
// of at most 10 ms, so that no time-out is reported too early.
const TickSlack = 10 * time.Millisecond

// minTimeout is the shortest StallTimeout.
const minTimeout = 100 * time.Millisecond

// lost asks whether a peer has vanished while data are outstanding.
// Nothing heard for the time-out is not enough: the kernel must have been asking for
// half of it, and it takes two samples with a solicitation between them that had the
// time to be answered, all after the last jump of the clock. While nothing is
// outstanding the kernel's keep-alive asks in its own time, and counts better.
type lost struct {
	since time.Time // since when the kernel has been soliciting, as far as is known; zero if it is not
	first time.Time // the first sample of enough silence
	count int       // the solicitations up to then
	grown time.Time // the first sample with more
}

func (q *lost) ask(now, jumped time.Time, i *tcpinfo.Info, timeout time.Duration, l *keepalive.Limits) (isLost bool, wait time.Duration) {
	if !i.Outstanding() && i.Probes == 0 {
		*q = lost{}
		return false, 0
	}
	silence := i.Silence()
	asked := asking(i, silence, l)
	switch {
	case asked < 0:
		q.since = time.Time{}
	case q.since.IsZero() || q.since.Before(now.Add(-silence)) || q.since.After(now.Add(-asked)):
		q.since = now.Add(-asked)
	}
	// Silence from before anybody asked proves little: a keep-alive of hours may
	// have been quiet for hours, and what is asked rarely may be lost on its way.
	missing := timeout - silence
	switch {
	case silence < timeout/2:
		// To see in time that the kernel asks, and that it has to be spared.
		missing = min(timeout/2-silence, l.MaxRTO)
	case q.since.IsZero():
		missing = max(missing, timeout/8)
	default:
		missing = max(missing, timeout/2-now.Sub(q.since))
	}
	if missing > 0 {
		q.first = time.Time{}
		if !i.Outstanding() {
			return false, 0
		}
		return false, missing + TickSlack
	}
	if q.first.IsZero() || q.first.Before(jumped) || now.Add(-silence).After(q.first) {
		q.first, q.count, q.grown = now, i.Solicitations(), time.Time{}
		return false, time.Second
	}
	if q.grown.IsZero() && (i.Solicitations() > q.count || i.Retransmitting() && now.Add(-i.SinceSent).After(q.first)) {
		q.grown = now
	}
	if q.grown.IsZero() {
		return false, time.Second / 4
	}
	if wait := max(q.first.Add(time.Second).Sub(now), q.grown.Add(answerTime(i)).Sub(now)); wait > 0 {
		return false, wait
	}
	return true, 0
}

// asking is for how long, at the least, the kernel has been soliciting an answer that
// did not come, or negative if it is not.
func asking(i *tcpinfo.Info, silence time.Duration, l *keepalive.Limits) time.Duration {
	d := time.Duration(-1)
	switch {
	case i.InFlight > 0:
		d = i.RetransmitTime()
	case i.Unsent > 0 && i.Probes > 0:
		// Between window probes the time doubles, too (tcp_probe0_when).
		d = 0
		for n := 1; n < i.Probes; n++ {
			d += min(keepalive.MinRTO<<min(max(i.Backoff-n, 0), 10), l.MaxRTO)
		}
	}
	if i.Probes > 0 && (i.InFlight > 0 || i.Unsent == 0) {
		// The keep-alive has asked, perhaps before there was anything to send, and once
		// more after each interval: what is longer ago was one lost probe.
		d = max(d, min(silence-l.Idle, time.Duration(i.Probes-1)*l.Interval))
	}
	return d
}

// answerTime is how long an answer may take.
func answerTime(i *tcpinfo.Info) time.Duration { return max(time.Second/4, 2*i.RTT) }

// stalled asks whether the peer's program takes data, while its host
// answers. What it takes is what its kernel acknowledges or opens the window for.
type stalled struct {
	since  time.Time // no progress since; zero while nothing waits to be taken
	acked  int64
	looked time.Time // the last sample
}

func (q *stalled) ask(now, jumped time.Time, i *tcpinfo.Info, timeout time.Duration) (isStalled bool, wait time.Duration) {
	pace := timeout / 10
	if now.Sub(q.looked) > max(timeout/2, minTimeout) {
		jumped = now // a time-out may be shorter than what the clock takes for a jump
	}
	defer func() { q.looked = now }()
	switch {
	case !i.Outstanding():
		*q = stalled{}
		return false, 0
	case !WindowClosed(i):
		*q = stalled{}
		return false, pace
	case q.since.IsZero() || q.acked != i.Acked || q.since.Before(jumped):
		*q = stalled{since: now, acked: i.Acked}
		return false, pace
	}
	switch wait := q.since.Add(timeout).Sub(now); {
	case wait > 0:
		return false, min(wait, pace)
	case unanswered(i):
		return false, pace
	case i.Probes == 0:
		return true, 0
	case i.Probes == 1: // perhaps its answer is still on the way
		return false, min(answerTime(i), pace)
	default: // the host does not answer: whether it is lost is the other question
		return false, pace
	}
}

// unanswered reports whether what is retransmitted into a closed window goes
// unanswered: longer than until the next retransmission is due.
func unanswered(i *tcpinfo.Info) bool {
	return i.Retransmitting() && i.Silence() > i.RTO+answerTime(i)
}

// WindowClosed reports whether data wait because the peer takes none: its window
// is shut, or too small for what is next, so that the kernel probes it. Corked data
// wait too, but behind an open window and without a probe.
func WindowClosed(i *tcpinfo.Info) bool {
	return i.PeerWindow == 0 || i.InFlight == 0 && i.Unsent > 0 && i.Backoff > 0
}

// quiet asks for how long the peer could have sent and did not.
type quiet struct {
	from time.Time // since when it could, as far as is known
	held bool      // it could not, at the last look
}

type QuietState int

const (
	Runs QuietState = iota
	Held            // the clock stands still for the moment
	Over            // the peer has sent its FIN, and can send nothing more
	Deaf            // nobody reads, and only a Read would tell
)

func (q *quiet) ask(jumped time.Time, e *Evidence) (QuietState, time.Duration) {
	i := &e.Info
	switch {
	case i.State == tcpinfo.CloseWait:
		return Over, 0
	case e.NoReader:
		return Deaf, 0
	case i.OurWindow == 0, e.Unread > 0 && i.OurWindow < i.PeerMSS:
		// The peer would wait behind our full buffer. Where the kernel does not tell
		// the window, any unread data may be what fills it.
		q.held = true
		return Held, 0
	case q.held:
		// Perhaps the window was opened just now.
		q.held, q.from = false, e.Answered
	case jumped.After(q.from):
		// While we stood still, a peer that answers what it is asked had nothing to say.
		q.from = jumped
	}
	return Runs, min(i.SinceData, e.Asked.Sub(q.from))
}

// wait is how long until a silence may reach limit.
func (q QuietState) Wait(limit, silence time.Duration) time.Duration {
	switch q {
	case Runs:
		return max(limit-silence, time.Millisecond)
	case Held:
		return max(limit/20, time.Millisecond)
	default:
		return 0
	}
}

// Suspect reports whether the peer's host owes an answer. One retransmission is
// everyday loss. One keep-alive without an answer is not, for it was sent after a
// silence and its answer takes a round trip; but of window probes the last is
// always without one for that long.
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

// Exhausted reports whether the kernel may have given up by these limits.
func TimedOut(l *keepalive.Limits, info *tcpinfo.Info) bool {
	silence := info.Silence() + TickSlack
	switch {
	case info.Retransmits > 0:
		ranOut := info.SinceSent+TickSlack >= info.RTO
		if l.UserTimeout > 0 {
			// It counts from the first retransmission, and shortens the last wait. What the
			// time-outs were is known but for those at their limit.
			before := max(info.RetransmitTime(), keepalive.RetransmitTime(info.Retransmits-1, l.MaxRTO)-keepalive.MinRTO)
			return before+info.SinceSent >= l.UserTimeout*7/8 || ranOut && silence >= l.UserTimeout
		}
		return ranOut && (info.Retransmits >= l.Retries || silence >= keepalive.RetransmitTime(l.Retries, l.MaxRTO))
	case l.UserTimeout > 0 && (info.Backoff > 0 || info.PeerWindow == 0): // the window was probed
		// It counts from the first probe, answered or not.
		return silence >= l.UserTimeout || keepalive.RetransmitTime(info.Backoff, l.MaxRTO)-keepalive.MinRTO >= l.UserTimeout*7/8
	case l.UserTimeout > 0:
		return silence >= max(l.UserTimeout, l.Idle+l.Interval)
	default:
		return info.Probes >= l.Retries || info.Probes >= l.Count && silence >= l.Idle+time.Duration(l.Count)*l.Interval
	}
}
