package verdict

import (
	"time"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// A QuietState tells whether the read-idle clock runs.
type QuietState uint8

const (
	Runs     QuietState = iota
	Paused              // the peer cannot send, or cannot know yet that it may
	Over                // the peer has sent its FIN, and can send nothing more
	NoReader            // no Read waits, and only a Read would show data
)

// Wait returns how long until a silence may reach limit; 0 is for ever.
func (q QuietState) Wait(limit, silence time.Duration) time.Duration {
	switch q {
	case Runs:
		return max(limit-silence, time.Millisecond)
	case Paused:
		return max(limit/20, time.Millisecond)
	default:
		return 0
	}
}

const (
	// maxProbeGap is the longest time between two window probes of a peer (TCP_RTO_MAX).
	maxProbeGap = 120 * time.Second

	// smallWindowTime is how long a window smaller than a segment may keep a peer from
	// sending: its first window probe carries as much as fits (tcp_write_wakeup in
	// net/ipv4/tcp_output.c).
	smallWindowTime = time.Second / 2
)

// askQuiet returns for how long the peer could have sent and did not.
func (s *Supervisor) askQuiet(jumped stamp, e *Evidence) (QuietState, time.Duration) {
	i, now := &e.Info, stampOf(e.Asked)
	switch {
	case i.State == tcpinfo.CloseWait || i.State == tcpinfo.Finishing:
		return Over, 0
	case e.NoReader:
		return NoReader, 0
	case i.OurWindow == 0:
		if s.closed == 0 {
			// Perhaps it was closed right after the last sample.
			s.closed = max(s.asked, now.add(-i.SinceData))
		}
		s.opened = 0
		return Paused, 0
	case i.OurWindow > 0 && i.OurWindow < i.PeerMSS && e.Unread > 0 && i.SinceData < smallWindowTime+2*i.RTT:
		return Paused, 0
	case s.closed != 0:
		until, known := s.windowKnown(e)
		if !known {
			return Paused, 0
		}
		s.closed, s.opened, s.from = 0, 0, max(s.from, until)
	case jumped > s.from:
		// While this host stood still, a peer that only answers had nothing to answer.
		s.from = jumped
	}
	return Runs, min(i.SinceData, max(0, now.sub(s.from)))
}

// windowKnown reports whether the peer can know that the local window is open again, and
// since when. The segment that told it may have been lost. The peer then probes the
// window, after no more time than it was closed for.
func (s *Supervisor) windowKnown(e *Evidence) (since stamp, known bool) {
	i, now := &e.Info, stampOf(e.Asked)
	if s.opened == 0 {
		s.opened = stampOf(e.Answered)
		if data := now.add(-i.SinceData); data > s.asked.add(TickSlack) {
			return data, true // the window was closed at the last sample
		}
	}
	if heard := now.add(-i.Silence()); heard > s.opened.add(TickSlack) {
		return heard, true
	}
	gap := s.opened.sub(s.closed)
	gap = min(gap+gap/8+200*time.Millisecond, maxProbeGap) // its timer may be late
	if until := s.opened.add(gap); until <= now {
		return until, true
	}
	return 0, false
}

// askIdle judges whether the peer sends nothing though it could.
func (s *Supervisor) askIdle(e *Evidence, a *Answer) {
	limit := s.Idle + TickSlack
	if a.Quiet == Runs && a.Since >= limit {
		a.Reason, a.For = Idle, a.Since
		return
	}
	wait := a.Quiet.Wait(limit, a.Since)
	if wait > 0 && e.Unread > 0 {
		// It may fill the receive buffer, and be read, before long.
		wait = min(wait, max(limit/10, time.Millisecond))
	}
	a.again(wait)
}
