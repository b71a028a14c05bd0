package verdict

import (
	"math"
	"time"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

const (
	minTimeout = 100 * time.Millisecond // the shortest StallTimeout

	// A peer that reads so many bytes in a second is never stalled, from this time-out on.
	slowestReader = 100_000
	steadyTimeout = 4 * time.Second

	// A buffer of the receive queue holds so many pieces of at most so many bytes, and
	// is freed as a whole (tcp_try_coalesce in net/ipv4/tcp_input.c, SKB_FRAG_PAGE_ORDER).
	maxPieces = 17
	maxPiece  = 32 << 10
)

// noteProgress keeps when the peer last took or acknowledged anything that waits.
func (s *Supervisor) noteProgress(now, jumped stamp, i *tcpinfo.Info) {
	if i.PeerWindow > 0 {
		s.largest = max(s.largest, uint32(min(i.PeerWindow, math.MaxUint32)))
	}
	window := uint32(max(0, min(i.PeerWindow, math.MaxUint32)))
	blocked := i.WindowClosed()
	same := s.acked == i.Acked && s.delivery == i.Delivered
	if blocked {
		same = s.acked == i.Acked && window <= s.window
	}
	// A StallTimeout may be shorter than what the clock takes for a jump. Where the machine
	// stood still for half of it, or is busy, only the usual time between two samples counts.
	since := now.sub(s.asked)
	gap := s.Stall > 0 && s.asked != 0 && since > max(s.Stall/2, minTimeout) && blocked
	switch {
	case !i.Outstanding(), !blocked && i.InFlight == 0, i.AllAcked:
		s.since = 0
	case s.since == 0, !same, blocked != s.blocked, s.since < jumped:
		s.since = now
	case gap:
		s.since = s.since.add(since - s.Stall/10)
	}
	s.acked, s.delivery, s.window, s.blocked = i.Acked, i.Delivered, window, blocked
}

// stepTime returns how long a peer may take that reads slowestReader until its kernel
// opens a closed window. It does so when a sixteenth of its buffer, and a segment, is
// free (__tcp_select_window in net/ipv4/tcp_output.c). The largest window that it
// announced may be half of the memory (tcp_adv_win_scale).
func (s *Supervisor) stepTime(i *tcpinfo.Info) time.Duration {
	window := int64(s.largest)
	bytes := window/8 + min(window, maxPieces*min(i.MSS, maxPiece))
	return time.Duration(bytes) * time.Second / slowestReader
}

// stallTimeout returns how long nothing must be taken, and how long after the last
// progress the peer must have told that its window is still closed: the segment that
// opened it may have been lost.
func (s *Supervisor) stallTimeout(i *tcpinfo.Info) (timeout, told time.Duration) {
	step := s.stepTime(i)
	timeout, told = s.Stall, s.Stall/4
	if s.Stall >= steadyTimeout {
		told = max(told, step)
	}
	if step > steadyTimeout {
		timeout = max(timeout, step)
	}
	return timeout, told
}

// askStalled judges whether the peer's application takes no data, while its host answers.
func (s *Supervisor) askStalled(now stamp, i *tcpinfo.Info, a *Answer) bool {
	if !i.Outstanding() {
		return false
	}
	pace := s.Stall / 10
	if s.since == 0 || !s.blocked {
		a.again(pace)
		return false
	}
	timeout, told := s.stallTimeout(i)
	heard := now.add(-i.Silence())
	switch left := s.since.add(timeout).sub(now); {
	case left > 0:
		a.again(min(left, pace))
	case heard.sub(s.since) < told, unanswered(i), i.Probes > 1:
		// A host that does not answer may be lost, which askLost judges.
		a.again(pace)
	case i.Probes == 1: // its answer may be under way
		a.again(min(answerTime(i), pace))
	default:
		a.Reason, a.For = Stalled, now.sub(s.since)
		return true
	}
	return false
}
