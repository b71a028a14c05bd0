package verdict

import (
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// A Reason is the library's own reason to end a connection that is still there for the
// kernel.
type Reason uint8

const (
	None    Reason = iota
	Lost           // the host gave no sign of life
	Stalled        // the host answers, and its program takes no data
	Idle           // the peer could have sent, and sent nothing
)

// A Supervisor asks of one connection all that the clock has to ask. Its first three
// fields are constant; zero is not to be asked.
type Supervisor struct {
	Peer, Stall, Idle time.Duration

	// OwnRTO is the TCP_RTO_MAX_MS that was set for Peer; 0 if none was.
	OwnRTO       time.Duration
	WritesUnseen bool

	lost    lost
	stalled stalled
	quiet   quiet
	raised  time.Duration // the TCP_RTO_MAX_MS now in force; 0 before it was first raised
}

// Evidence is one sample of a connection.
type Evidence struct {
	Info     tcpinfo.Info
	Counted  bool // Info is the kernel's own; else it is made up of what Read and Write show
	Unread   int  // bytes received that nobody has read
	NoReader bool // not Counted, and nobody waits in Read, so silence cannot be told
	Writing  bool // a Write has not returned

	// Before and after the kernel was asked: the process may have been suspended there.
	Asked, Answered time.Time
}

// An Answer is what one sample means.
type Answer struct {
	Reason Reason
	For    time.Duration // how long what Reason speaks of has lasted

	Again          time.Duration // when to ask again; 0 is when something happens
	Awake          bool          // data are outstanding, or may be soon
	MaxRTO         time.Duration // TCP_RTO_MAX_MS to set; 0 is none
	UserTimeout    time.Duration
	Unacknowledged bool
	Prompt         bool // a verdict waits for a probe, and the kernel sends none soon

	Quiet QuietState // of the peer, for those who want to know about silences
	Since time.Duration
}

// Start says that the peer could send from now on.
func (s *Supervisor) Start(now time.Time) { s.quiet.from = now }

// Pace is how soon after a write the connection is to be asked about.
func (s *Supervisor) Pace() time.Duration {
	p := s.Peer / 8
	if d := s.Stall / 10; d > 0 && (p == 0 || d < p) {
		p = d
	}
	return p
}

// Ask says what e means. jumped is when the clock last came much too late, and l the
// options of the socket; it may be nil if Peer is 0 or e is not Counted.
func (s *Supervisor) Ask(e *Evidence, jumped time.Time, l *keepalive.Limits) (a Answer) {
	again := func(wait time.Duration) {
		if wait > 0 && (a.Again == 0 || wait < a.Again) {
			a.Again = wait
		}
	}
	now, i := e.Asked, &e.Info
	peer := s.Peer > 0 && e.Counted
	if (e.Writing || i.Outstanding()) && (s.Stall > 0 || peer) {
		a.Awake = true
		if !i.Outstanding() {
			again(s.Pace())
		}
	}
	if peer {
		again(s.raise(i, &a))
		lost, wait := s.lost.ask(now, jumped, i, s.Peer, l)
		if lost {
			a.Reason, a.For = Lost, i.Silence()
			return a
		}
		again(wait)
		a.Prompt = !s.lost.first.IsZero() && !i.Outstanding()
	}
	if s.Stall > 0 {
		stalled, wait := s.stalled.ask(now, jumped, i, s.Stall)
		if stalled {
			a.Reason, a.For = Stalled, now.Sub(s.stalled.since)
			return a
		}
		again(wait)
	}
	a.Quiet, a.Since = s.quiet.ask(jumped, e)
	if s.Idle > 0 {
		limit := s.Idle + TickSlack
		if a.Quiet == Runs && a.Since >= limit {
			a.Reason, a.For = Idle, a.Since
			return a
		}
		wait := a.Quiet.Wait(limit, a.Since)
		if wait > 0 && e.Unread > 0 {
			wait = min(wait, max(limit/10, time.Millisecond)) // it may fill our buffer, and be read, before long
		}
		again(wait)
	}
	return a
}

// raise keeps the kernel from giving up a peer whose window has closed on data in
// flight before the library does. The kernel gives up when a retransmission is due and
// nothing was heard for two TCP_RTO_MAX_MS (tcp_rtx_probe0_timed_out in
// net/ipv4/tcp_timer.c), and ours is so small that two lost segments would be enough.
// So it is raised while retransmissions go unanswered, by no more than the next one
// needs.
func (s *Supervisor) raise(i *tcpinfo.Info, a *Answer) (again time.Duration) {
	own := s.OwnRTO
	if own == 0 {
		return 0
	}
	want := own
	if i.Retransmitting() {
		next := i.Silence() + max(0, i.RTO-i.SinceSent)
		// Timers come late by up to an eighth (kernel/time/timer.c).
		want = max(own, min(next/2+i.RTO/16+100*time.Millisecond, s.Peer*5/8, keepalive.MaxRTO)).Round(100 * time.Millisecond)
		again = own / 2
	}
	if s.raised == 0 {
		s.raised = own
	}
	if want != s.raised {
		s.raised, a.MaxRTO = want, want
	}
	return again
}
