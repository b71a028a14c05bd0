package verdict

import (
	"math"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// noteSolicitations updates s.first and s.since. A solicitation is a segment that the peer
// must answer: data, a retransmission, a keep-alive probe or a window probe. s.first may be
// later than the first unanswered one, but never earlier. s.since, when progress was last
// seen, moves back, because noteProgress sees progress only when it samples.
func (s *Supervisor) noteSolicitations(now, jumped stamp, i *tcpinfo.Info, l *keepalive.Limits) {
	if i.Retransmits == 0 && i.Backoff == 0 {
		s.rto = uint32(min(i.RTO.Microseconds(), math.MaxUint32))
	}
	if n := uint8(i.Probes); n != s.probes {
		s.probes, s.probed = n, now
	}
	last, armed := s.noteAttempts(now, i, l)
	if s.since != 0 && !s.blocked && i.Retransmits > 0 && i.Sacked == 0 {
		// The retransmission timer was armed no earlier than the last progress.
		s.since = max(min(s.since, armed), jumped)
	}
	heard := now.add(-i.Silence())
	if s.first != 0 && (s.first.add(TickSlack) < heard || s.first < jumped) {
		s.first = 0
	}
	first := s.first
	note := func(at stamp) {
		if at = max(at, heard, jumped); first == 0 || at < first {
			first = at
		}
	}
	switch {
	case i.InFlight > 0 && last.add(TickSlack) > heard && last > jumped:
		note(armed)
	case i.InFlight > 0:
		// Nothing was sent since the peer was heard: the retransmission timer runs.
	case i.Outstanding() && i.Probes > 0:
		note(now) // their number tells the rest; see unansweredSpan
	}
	if i.Probes > 0 && (i.InFlight > 0 || !i.Outstanding()) {
		note(now.add(-keepAliveTime(i, l)))
	}
	s.first = first
	if !i.Outstanding() && i.Probes == 0 {
		s.first = 0
	}
}

// noteAttempts returns when the kernel last sent what is in flight or tried to, or earlier,
// and when it armed the retransmission timer first, or later. Without a route a
// retransmission is counted, but not sent, and so moves no age (__tcp_retransmit_skb in
// net/ipv4/tcp_output.c).
func (s *Supervisor) noteAttempts(now stamp, i *tcpinfo.Info, l *keepalive.Limits) (last, armed stamp) {
	if n := uint8(i.Retransmits); n != s.retransmits {
		if s.tried = 0; n > s.retransmits {
			s.tried = s.asked
		}
		s.retransmits = n
	}
	sent := now.add(-i.SinceSent)
	last, armed = max(sent, s.tried), sent
	if i.Retransmits == 0 {
		return last, armed
	}
	if i.SinceSent > i.RTO/2 {
		armed = now // perhaps the last attempt sent nothing: it came half of RTO after another, or later
	}
	return last, armed.add(-i.RetransmitTime(s.firstRTO(i), l.MaxRTO))
}

// noteSegments corrects the ages of i. A segment that repeats what was received moves none
// (tcp_validate_incoming in net/ipv4/tcp_input.c), but is a sign of life: a peer that hears
// nothing sends again what it has sent. When it came since the last sample is not known, so
// the other judges, to which an old segment means less, get the kernel's ages.
func (s *Supervisor) noteSegments(now stamp, i *tcpinfo.Info) {
	if s.asked != 0 && i.Segments != s.segments && i.Silence() > now.sub(s.asked)+TickSlack {
		s.repeated = now
	}
	s.segments = i.Segments
	if s.repeated != 0 {
		i.SinceAck = min(i.SinceAck, now.sub(s.repeated))
	}
}

// firstRTO returns the retransmission time-out before it was doubled, as last seen, or
// less: the round-trip time may have changed since (tcp_set_rto in net/ipv4/tcp_input.c).
func (s *Supervisor) firstRTO(i *tcpinfo.Info) time.Duration {
	return min(time.Duration(s.rto)*time.Microsecond, i.RTT+keepalive.MinRTO)
}

// windowProbeTime returns the least time between the first and the last unanswered window
// probe. The gap doubles each time (tcp_probe0_when in include/net/tcp.h).
func windowProbeTime(i *tcpinfo.Info, l *keepalive.Limits) (d time.Duration) {
	for n := 1; n < i.Probes; n++ {
		d += windowProbeGap(i, l, n)
	}
	return d
}

// windowProbeGap returns the time between the nth-last window probe and the probe before it.
func windowProbeGap(i *tcpinfo.Info, l *keepalive.Limits, n int) time.Duration {
	return min(max(i.RTO, keepalive.MinRTO)<<min(max(i.Backoff-n, 0), 10), l.MaxRTO)
}

// keepAliveTime returns the least time between the first and the last unanswered keep-alive
// probe. The keep-alive may have probed before there was anything to send.
func keepAliveTime(i *tcpinfo.Info, l *keepalive.Limits) time.Duration {
	return max(0, min(i.Silence()-l.Idle, time.Duration(i.Probes-1)*l.Interval))
}

// unansweredSpan returns the time from the first unanswered solicitation to the last one
// that had time to be answered. For data in flight it counts from s.first, for probes it
// follows from their number. wait is when to ask again.
func (s *Supervisor) unansweredSpan(now stamp, i *tcpinfo.Info, l *keepalive.Limits) (d, wait time.Duration) {
	answer := answerTime(i)
	if i.InFlight > 0 {
		return s.retransmitted(now, i).sub(s.first), s.nextRetransmission(i)
	}
	gap, d := l.Interval, keepAliveTime(i, l)
	if i.Outstanding() {
		gap, d = windowProbeGap(i, l, 1), windowProbeTime(i, l)
		if s.repeated != 0 { // the kernel counts the probes before that, too
			d = min(d, max(0, s.probed.sub(s.repeated)))
		}
	}
	if left := s.probed.add(answer).sub(now); left > 0 {
		// The last one may have been sent just now.
		for k := i.Probes; k > 1 && left > 0 && gap > 0; k-- {
			d, left = d-gap, left-gap
		}
		return d, min(s.probed.add(answer).sub(now), gap)
	}
	return d, min(max(gap/8, time.Second/4), time.Second)
}

// retransmitted returns when the kernel sent the last segment that had time to be answered,
// or tried to send one, which needs none. If there is none, it returns s.first, so the span
// is zero. Gaps between retransmissions never shrink, so each earlier gap is at most the
// time-out now in force.
func (s *Supervisor) retransmitted(now stamp, i *tcpinfo.Info) stamp {
	age := i.SinceSent
	if now.add(-age) < s.tried {
		return s.tried
	}
	for n := i.Retransmits; n > 1 && age < answerTime(i) && i.RTO > 0; n-- {
		age += i.RTO + i.RTO/8 // the timer may have been late
	}
	if age < answerTime(i) {
		return s.first
	}
	return now.add(-age)
}

// nextRetransmission returns how long until another segment has had time to be answered.
func (s *Supervisor) nextRetransmission(i *tcpinfo.Info) time.Duration {
	if left := answerTime(i) - i.SinceSent; left > 0 {
		return left + TickSlack
	}
	if due := i.RTO - i.SinceSent; due > 0 {
		return due + answerTime(i) + TickSlack
	}
	// Timers come late by up to an eighth (kernel/time/timer.c).
	return min(max(i.RTO/32, answerTime(i)), time.Second)
}

// askLost judges whether the peer's host has vanished: nothing was heard for PeerTimeout,
// and unanswered solicitations span at least half of it. So an outage shorter than that is
// survived whenever it begins: solicitations before it were answered, or do not count. While
// nothing is outstanding, the kernel's keep-alive ends the connection instead.
func (s *Supervisor) askLost(now stamp, i *tcpinfo.Info, l *keepalive.Limits, a *Answer) bool {
	switch {
	case !i.Outstanding() && i.Probes == 0:
		return false
	case i.Unasked: // one path is broken, and the other need not be
		a.again(s.Peer / 4)
		return false
	}
	silence := i.Silence()
	missing := s.Peer + TickSlack - silence // ages are counted in ticks
	switch {
	case silence < s.Peer/2:
		// To learn in time when the kernel began to solicit.
		missing = max(s.Peer/2-silence, s.Peer/8)
	case s.first == 0:
		missing = max(missing, min(s.nextRetransmission(i), s.Peer/8))
	default:
		spans, wait := s.unansweredSpan(now, i, l)
		if left := s.Peer/2 - spans; left > 0 {
			missing = max(missing, min(wait, s.Peer/2))
		} else if missing <= 0 {
			a.Reason, a.For = Lost, silence
			return true
		}
		a.Prompt = silence >= s.Peer && !i.Outstanding()
	}
	switch closed := i.InFlight == 0 && i.Outstanding(); {
	case closed, silence >= s.Peer/8 && i.InFlight > 0, i.Recovering, i.Retransmits > 0:
		missing = min(missing, s.Peer/8) // to learn when a segment comes that moves no age: a repeated one, or a RST
	}
	if i.Outstanding() || a.Prompt {
		a.again(max(missing, 0) + TickSlack)
	}
	return false
}

// askUnacked judges whether the peer, which may be heard, acknowledges nothing: its data
// arrive here and local data do not arrive there. A lossy link looks the same for a
// while, so everything has to last twice as long as in askLost.
func (s *Supervisor) askUnacked(now stamp, i *tcpinfo.Info, a *Answer) bool {
	if s.since == 0 || s.blocked || i.InFlight == 0 || i.Retransmits == 0 {
		return false
	}
	unacked := now.sub(s.since)
	left := 2*s.Peer + TickSlack - unacked
	if s.retransmitted(now, i).sub(s.since) < s.Peer {
		left = max(left, s.nextRetransmission(i))
	}
	if left > 0 {
		if unacked > s.Peer/2 {
			a.again(left + TickSlack)
		}
		return false
	}
	a.Reason, a.For, a.NothingAcked = Lost, unacked, true
	if silence := i.Silence(); silence >= s.Peer {
		a.For, a.NothingAcked = silence, false
	}
	return true
}

// userTimeout returns the TCP_USER_TIMEOUT with which the kernel does not give up
// first. The kernel does not count it from the last sign of life, but from the first
// retransmission of a recovery, which may last as long as there is loss, or from the
// first probe of a closed window, even if all probes are answered (net/ipv4/tcp_timer.c).
// So it grows with the time that such a thing has lasted.
func (s *Supervisor) userTimeout(now stamp, i *tcpinfo.Info) time.Duration {
	switch {
	case !i.Outstanding():
		s.busy = 0
		return 0
	case !i.Recovering && i.Retransmits == 0 && i.Backoff == 0 && i.Probes == 0 && i.PeerWindow != 0:
		s.busy = 0
	case s.busy == 0:
		s.busy = now
	}
	patience, _ := keepalive.PatienceFor(s.Peer)
	if s.busy != 0 {
		step := patience / 4
		patience += now.sub(s.busy).Truncate(step)
	}
	if patience > math.MaxInt32*time.Millisecond {
		return 0 // too long for the option, which stays as it is while data is outstanding
	}
	return patience.Truncate(time.Millisecond)
}
