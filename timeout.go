package liveness

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/readclock"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/verdict"
	"github.com/go-liveness/liveness/internal/watch"
)

// The shortest time-outs: the kernel's ages are as coarse as its tick.
const (
	minStallTimeout    = 100 * time.Millisecond
	minReadIdleTimeout = 100 * time.Millisecond
)

// maxTimeout stands for never, with room for what is added to it.
const maxTimeout = math.MaxInt64 / 4

const tickSlack = verdict.TickSlack

// timeouts is what the clock checks a connection for. A Conn has none until one is
// asked for.
type timeouts struct {
	writes writeMarks
	reads  *readclock.Clock // nil where the kernel counts

	// shortest is the shortest silence that is asked for, in nanoseconds; 0 if none.
	shortest atomic.Int64

	// deadlines is held while a deadline of the wrapped connection is set, so that none
	// that the application sets can revive what a verdict has interrupted.
	deadlines sync.Mutex

	silences []*silence // of OnSilence; Conn.mu guards it

	checking   sync.Mutex         // one check at a time; guards the fields below
	supervisor verdict.Supervisor // its time-outs are constant
	patience   keepalive.Patience
	maxRTO     atomic.Int64     // of patience; read without checking
	sampled    uint32           // writes.finished at the last sample
	probe      *keepalive.Probe // of Ping; nil before the first
	later      *laterChange     // nil if nothing is left to do to the socket
}

// writeMarks have a connection checked after it was written to. They are safe to use
// without a lock.
type writeMarks struct {
	awake      atomic.Bool  // a check for outstanding data is due
	inProgress atomic.Int32 // writes that have not returned
	finished   atomic.Int64 // writes that have, and pieces of those that have not
	pieces     sync.Mutex   // held by a Write in pieces; see Conn.writeInPieces
}

// timeoutsOf returns the timeouts of c, which it makes if need be.
func (c *Conn) timeoutsOf() *timeouts {
	if t := c.timeouts.Load(); t != nil {
		return t
	}
	now := time.Now()
	t := new(timeouts)
	if !c.counted() {
		t.reads = new(readclock.Clock)
		t.reads.Start(now)
	}
	t.supervisor.Start(now.Sub(started))
	c.timeouts.CompareAndSwap(nil, t)
	return c.timeouts.Load()
}

// configure takes over the time-outs of cfg.
func (c *Conn) configure(cfg *Config) {
	if cfg.PeerTimeout == 0 && cfg.StallTimeout == 0 && cfg.ReadIdleTimeout == 0 {
		return
	}
	t := c.timeoutsOf()
	t.supervisor.Peer = cfg.PeerTimeout
	t.supervisor.Stall = min(cfg.StallTimeout, maxTimeout)
	t.supervisor.Idle = min(cfg.ReadIdleTimeout, maxTimeout)
	t.supervisor.WritesUnseen = c.sock.watched
	t.shortest.Store(int64(t.supervisor.Idle))
}

// counted reports whether the kernel tells what was received and what is outstanding.
func (c *Conn) counted() bool { return c.sock.counted }

// started is the moment from which the supervisors count.
var started = time.Now()

// beginWrite and endWrite go around whatever may leave data outstanding. Both have the
// connection checked: a check that finds nothing outstanding lets it sleep, and must
// not do so while a write is on its way to the kernel.
func (c *Conn) beginWrite() *timeouts {
	t := c.timeouts.Load()
	if t == nil || t.supervisor.Stall == 0 && (t.supervisor.Peer == 0 || !c.counted()) {
		return nil
	}
	t.writes.inProgress.Add(1)
	c.mark(t)
	return t
}

func (c *Conn) endWrite(t *timeouts) {
	if t != nil {
		t.writes.finished.Add(1)
		t.writes.inProgress.Add(-1)
		c.mark(t)
	}
}

// mark has the connection checked soon, unless it will be already. Until then the kernel
// must not give it up.
func (c *Conn) mark(t *timeouts) {
	if t.writes.awake.Load() || !t.writes.awake.CompareAndSwap(false, true) {
		return
	}
	if t.supervisor.Peer > 0 && !c.sock.mayBlock {
		t.checking.Lock()
		c.extendPatience(t, 0)
		t.checking.Unlock()
	}
	c.handle.Wake(time.Now().Add(t.supervisor.Pace()))
}

// checkTimeouts is called by the clock, and returns when to call it again; zero is
// never. at is when it was called, and jumped when the clock last came much too late.
func (c *Conn) checkTimeouts(at, jumped time.Time) (next time.Time) {
	t := c.timeouts.Load()
	if t == nil {
		return next
	}
	t.checking.Lock()
	defer t.checking.Unlock()
	if c.end.Load() != nil {
		return c.settleAfterEnd(t)
	}
	t.writes.awake.Store(false) // before the sample: a write that comes later marks again
	s := sample{lean: c.leanSamples(t)}
	if !c.sample(t, &s) {
		c.check(trigger{})
		return next
	}
	if s.answered.Sub(at) > watch.Late {
		jumped = s.answered // the question was under way for that long
	}
	return c.judge(t, &s, jumped)
}

// leanSamples reports whether the clock needs no count of unread bytes: only the silence
// that the peer's program keeps is judged by it.
func (c *Conn) leanSamples(t *timeouts) bool {
	return c.sock.family == familyTCP && t.shortest.Load() == 0
}

// judge acts on what a sample means, and returns when to check again.
func (c *Conn) judge(t *timeouts, s *sample, jumped time.Time) (next time.Time) {
	if s.info.State == tcpinfo.NotEstablished {
		return s.asked.Add(time.Second) // supervised from when it is
	}
	again := func(wait time.Duration) {
		if wait > 0 {
			if when := s.asked.Add(max(wait, time.Millisecond)); next.IsZero() || when.Before(next) {
				next = when
			}
		}
	}
	var limits keepalive.Limits
	evidence := s.evidenceFor(c, t, jumped)
	a := t.supervisor.Ask(&evidence, c.limitsFor(t, &limits))
	if a.Awake {
		t.writes.awake.Store(true)
	}
	switch {
	case a.UserTimeout > 0:
		c.extendPatience(t, a.UserTimeout)
	case !t.writes.awake.Load():
		c.restorePatience(t)
	}
	if why := causeOf(&a); why != nil {
		c.endByTimeout(why, s)
		return time.Time{}
	}
	if a.Prompt {
		c.promptPing(t, s)
	}
	again(a.Again)
	for wait := range c.askSilences(s.asked, s.heard, a.Quiet, a.Since) {
		again(wait)
	}
	again(c.settlePing(t, s))
	again(c.makeLaterChange(t, s.asked, jumped))
	return next
}

// causeOf returns the cause of the end that a says, nil if it says none.
func causeOf(a *verdict.Answer) *cause {
	switch a.Reason {
	case verdict.Lost:
		why := &cause{reason: ErrPeerLost, err: errno.TimedOut, silence: a.For}
		if a.NothingAcked {
			why.absent = "acknowledged"
		}
		return why
	case verdict.Stalled:
		return &cause{reason: ErrPeerStalled, silence: a.For}
	case verdict.Idle:
		return &cause{reason: ErrPeerIdle, silence: a.For}
	}
	return nil
}

// settleAfterEnd puts back what a Ping has changed, also behind the peer's FIN;
// t.checking is held.
func (c *Conn) settleAfterEnd(t *timeouts) (next time.Time) {
	var s sample
	if t.probe != nil && c.sample(t, &s) {
		if wait := c.settlePing(t, &s); wait > 0 {
			next = s.asked.Add(wait)
		}
	}
	return next
}

// evidenceFor is s for the supervisor of c.
func (s *sample) evidenceFor(c *Conn, t *timeouts, jumped time.Time) verdict.Evidence {
	finished, sampled := uint32(t.writes.finished.Load()), t.sampled
	t.sampled = finished
	return verdict.Evidence{
		Written: finished != sampled,
		Info:    s.info, Counted: c.counted(), Unread: s.unread, NoReader: s.noReader,
		Writing: t.writes.inProgress.Load() > 0, Asked: s.asked.Sub(started), Answered: s.answered.Sub(started),
		Jumped: jumped.Sub(started), HasJumped: !jumped.IsZero(),
	}
}

// startTimeouts is the first check, by a sample that may be taken already.
func (c *Conn) startTimeouts(t *timeouts, first *sample) (next time.Time) {
	if !first.taken {
		return c.checkTimeouts(time.Now(), time.Time{})
	}
	t.checking.Lock()
	defer t.checking.Unlock()
	if c.end.Load() != nil || !c.complete(t, first) {
		return next
	}
	return c.judge(t, first, time.Time{})
}

// sample takes the evidence of the clock. It returns false if the connection has ended
// or shows none.
func (c *Conn) sample(t *timeouts, s *sample) bool {
	asked := time.Now()
	if c.sock.raw != nil {
		c.sock.sample(s)
	}
	s.asked, s.answered = asked, time.Now()
	return c.complete(t, s)
}

// complete adds to s what the kernel did not tell.
func (c *Conn) complete(t *timeouts, s *sample) bool {
	s.heard, s.readable = s.asked.Add(-s.info.SinceData), s.unread
	if c.counted() {
		switch s.info.State {
		case tcpinfo.NotEstablished, tcpinfo.Open, tcpinfo.CloseWait:
			return s.taken
		}
		return false
	}
	state := tcpinfo.Open
	switch o := c.checker.check(trigger{}); o.outcome {
	case peerFinished:
		state = tcpinfo.CloseWait
	case unknown, connected:
	default:
		return false
	}
	s.info = tcpinfo.Info{State: state, Sent: -1, PeerWindow: -1, OurWindow: -1}
	// Reads tell what was received. A process that is stopped from here on adds no silence.
	s.info.SinceData, s.heard, s.noReader = t.reads.Silence(&c.handle.readers, s.asked)
	if s.unread > 0 {
		s.info.SinceData, s.heard = 0, s.asked // the Read that waits is about to return, however late it runs
	}
	// A Write that waits while the socket's send queue stays as it is tells that the peer
	// takes nothing. If the queue is empty, it is the Write that is late.
	if s.taken && t.writes.inProgress.Load() > 0 && !s.drained {
		s.info.Unsent, s.info.PeerWindow = 1, 0
		s.info.Acked = t.writes.finished.Load()<<32 - int64(s.queued)
	}
	s.unread = 0
	return true
}
