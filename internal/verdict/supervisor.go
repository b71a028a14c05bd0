package verdict

import (
	"math"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
)

// A Supervisor judges one connection by its samples. The zero value judges nothing.
type Supervisor struct {
	// Peer, Stall and Idle are the time-outs, which do not change; 0 is none.
	Peer, Stall, Idle time.Duration

	// WritesUnseen means that nothing tells when the application writes, so the
	// connection is sampled by the clock, and Pace after a write is unknown.
	WritesUnseen bool

	blocked     bool   // since counts behind a closed window
	probes      uint8  // the unanswered probes of the last sample
	retransmits uint8  // and its retransmissions
	rto         uint32 // microseconds of the time-out before it was doubled; 0 is unknown
	asked       stamp  // the last sample

	segments uint32 // that had arrived then
	delivery uint32 // of progress, as below
	repeated stamp  // when a segment had arrived that moved no age; 0 is never

	// Progress is what the peer acknowledges, and what it opens its window for.
	acked   int64
	since   stamp  // when progress was last seen; 0 while nothing waits for it
	window  uint32 // the peer's window at the last sample
	largest uint32 // the largest window that the peer announced

	first  stamp // the first solicitation since the peer was heard, or later; 0 is none
	probed stamp // when the count of probes last changed
	tried  stamp // the last sample before the count of retransmissions grew; 0 is unknown
	busy   stamp // since when a retransmission or a window probe has always been under way

	// The read-idle clock.
	from   stamp // when the peer could send, at the earliest
	closed stamp // when the local window was closed; 0 if it is open and the peer can know
	opened stamp // when it opened again; 0 if it has not
}

// A stamp is a time as Evidence counts it, moved so that zero is earlier than all.
type stamp int64

func stampOf(d time.Duration) stamp { return stamp(d) + math.MaxInt64/2 }

func (s stamp) add(d time.Duration) stamp     { return s + stamp(d) }
func (s stamp) sub(other stamp) time.Duration { return time.Duration(s - other) }
func (a *Answer) again(wait time.Duration)    { a.Again = Sooner(a.Again, wait) }

// Sooner returns the shorter of two waits; 0 is for ever.
func Sooner(a, b time.Duration) time.Duration {
	if b <= 0 || a > 0 && a < b {
		return a
	}
	return b
}

// Start records that the peer could send from now on.
func (s *Supervisor) Start(now time.Duration) { s.from = stampOf(now) }

// Pace returns how soon after a write the connection must be sampled.
func (s *Supervisor) Pace() time.Duration { return Sooner(s.Peer/4, s.Stall/10) }

// Ask returns what e means. l has the options of the socket; it may be nil if Peer is 0
// or e is not Counted.
func (s *Supervisor) Ask(e *Evidence, l *keepalive.Limits) (a Answer) {
	now, jumped := stampOf(e.Asked), stamp(0)
	if e.HasJumped {
		jumped = stampOf(e.Jumped)
	}
	defer func() { s.asked = now }()
	i, peer := &e.Info, s.Peer > 0 && e.Counted
	if (e.Writing || i.Outstanding()) && (s.Stall > 0 || peer) {
		a.Awake = true
		if !i.Outstanding() {
			a.again(s.Pace())
		}
	} else if e.Written && peer && s.Stall == 0 {
		// It is likely to be written to again. What Awake keeps in force need not be set
		// again then, and the next write asks for no sample of its own.
		a.Awake = true
		a.again(s.Peer / 2)
	}
	s.noteProgress(now, jumped, i)
	if peer {
		kernels := i.SinceAck // noteSegments corrects it for askLost and askUnacked alone
		s.noteSegments(now, i)
		s.noteSolicitations(now, jumped, i, l)
		if s.WritesUnseen {
			a.again(s.Peer / 4)
		}
		if s.askLost(now, i, l, &a) || s.askUnacked(now, i, &a) {
			return a
		}
		a.UserTimeout = s.userTimeout(now, i)
		i.SinceAck = kernels
	}
	if s.Stall > 0 && s.askStalled(now, i, &a) {
		return a
	}
	a.Quiet, a.Since = s.askQuiet(jumped, e)
	if s.Idle > 0 {
		s.askIdle(e, &a)
	}
	return a
}
