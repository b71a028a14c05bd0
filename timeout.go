package liveness

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/verdict"
	"github.com/go-liveness/liveness/internal/watch"
)

// The least that can be asked for: the kernel's ages are as coarse as its tick.
const (
	minStallTimeout    = 100 * time.Millisecond
	minReadIdleTimeout = 100 * time.Millisecond
)

// maxTimeout is never, with room for what is added to it.
const maxTimeout = math.MaxInt64 / 4

const tickSlack = verdict.TickSlack

// timers are what the clock watches a connection for. A Conn has none until it is
// asked for one.
type timers struct {
	// Writes mark the connection for supervision; see Conn.mark.
	awake   atomic.Bool  // a check for outstanding data is due
	writing atomic.Int32 // writes that have not returned
	wrote   atomic.Int64 // writes that have, and pieces of others
	pieces  sync.Mutex   // held by a Write in pieces; not while checking

	// Without counters of the kernel, Reads tell what was received; see Conn.Read.
	least    atomic.Int64 // nanoseconds of the shortest silence that somebody asked for
	reads    sync.Mutex   // guards the next three, and Conn.reading with them; nothing else is taken while it is held
	lastData time.Time    // when the last byte came; zero before
	lastRead time.Time    // the same, later by as long as nobody was in a Read since
	readsAt  time.Time    // when a Read last began or ended

	checking sync.Mutex         // one check at a time; guards the rest, and is taken before Conn.mu
	asks     verdict.Supervisor // its time-outs are constant
	deferred *deferral          // nil if nothing is

	own atomic.Pointer[ownClock] // of a connection that shares nothing with others; nil before it is needed
}

// An ownClock is for one connection alone.
type ownClock struct {
	watch.Clock
	handle handle
}

// timersOf returns the timers of c, which it makes if need be.
func (c *Conn) timersOf() *timers {
	if t := c.timers.Load(); t != nil {
		return t
	}
	now := time.Now()
	t := &timers{lastRead: now, readsAt: now}
	t.asks.Start(now)
	c.timers.CompareAndSwap(nil, t)
	return c.timers.Load()
}

// counted reports whether the kernel tells what was received and what is
// outstanding. MPTCP does not: its TCP_INFO is that of one path among several.
func (c *Conn) counted() bool {
	return kernelCounts && c.sock.family == familyTCP && !c.sock.short.Load()
}

// wake has c checked at when, or earlier.
func (c *Conn) wake(t *timers, when time.Time) {
	if c.sock.watch != nil && c.sock.watch.Added() {
		theHub.Clock.Wake(&c.sock.watch.Token, when)
	} else {
		own := c.ownClockOf(t)
		own.Wake(&own.handle.Token, when)
	}
}

func (c *Conn) ownClockOf(t *timers) *ownClock {
	if own := t.own.Load(); own != nil {
		return own
	}
	own := &ownClock{handle: handle{conn: weak.Make(c)}}
	own.handle.Init(&own.handle)
	t.own.CompareAndSwap(nil, own)
	return t.own.Load()
}

// beginWrite and endWrite go around whatever may leave data outstanding. Both have
// the connection checked: a check that finds nothing outstanding lets it sleep,
// and must not do so while a write is on its way to the kernel.
func (c *Conn) beginWrite() *timers {
	t := c.timers.Load()
	if t == nil || t.asks.Stall == 0 && (t.asks.Peer == 0 || !c.counted()) {
		return nil
	}
	t.writing.Add(1)
	c.mark(t)
	return t
}

func (c *Conn) endWrite(t *timers) {
	if t != nil {
		t.wrote.Add(1)
		t.writing.Add(-1)
		c.mark(t)
	}
}

// mark has the connection checked soon, unless it will be already.
func (c *Conn) mark(t *timers) {
	if !t.awake.Load() && t.awake.CompareAndSwap(false, true) {
		c.wake(t, time.Now().Add(t.asks.Pace()))
	}
}

// beginRead and endRead go around a Read where the kernel counts nothing: the clock
// runs while a Read waits, and stands still between two of them. OnSilence may be
// called meanwhile, and be the first to want it.
func (c *Conn) beginRead() {
	t := c.timers.Load()
	if t == nil {
		c.reading.Add(1)
		return
	}
	t.reads.Lock()
	first := c.reading.Add(1) == 1
	if first {
		now := time.Now()
		t.lastRead = t.lastRead.Add(now.Sub(t.readsAt))
		t.readsAt = now
	}
	last := t.lastRead
	t.reads.Unlock()
	if least := t.least.Load(); first && least > 0 {
		c.wake(t, last.Add(time.Duration(least)+tickSlack))
	}
}

func (c *Conn) endRead(n int) {
	t := c.timers.Load()
	if t == nil {
		c.reading.Add(-1)
		return
	}
	t.reads.Lock()
	t.readsAt = time.Now()
	if n > 0 {
		t.lastRead, t.lastData = t.readsAt, t.readsAt
	}
	c.reading.Add(-1)
	t.reads.Unlock()
}

// heardOf is the silence up to now as Reads tell it, and since when it has been, unless
// nobody is in one.
func (c *Conn) heardOf(t *timers, now time.Time) (silence time.Duration, heard time.Time, deaf bool) {
	t.reads.Lock()
	defer t.reads.Unlock()
	return max(0, now.Sub(t.lastRead)), t.lastData, c.reading.Load() == 0
}

// check asks the clock's questions, and the kernel for the answers. It returns
// when to ask again, or zero if nothing is left to ask. at is when it was called, and
// jumped when the clock last came much too late.
func (c *Conn) check(at, jumped time.Time) (next time.Time) {
	t := c.timers.Load()
	if t == nil {
		return next
	}
	t.checking.Lock()
	defer t.checking.Unlock()
	if c.end.Load() != nil {
		// What a Ping has changed is put back also behind the peer's FIN.
		var s sample
		if c.hasPinger() && c.sample(t, &s) {
			if wait := c.settlePing(&s); wait > 0 {
				next = s.asked.Add(wait)
			}
		}
		return next
	}
	t.awake.Store(false) // before the sample: a write that comes later marks again
	var s sample
	if !c.sample(t, &s) {
		c.look(hint{})
		return next
	}
	if s.answered.Sub(at) > watch.Late {
		jumped = s.answered // it was on the way to the kernel that we stood still
	}
	again := func(wait time.Duration) {
		if wait > 0 {
			if when := s.asked.Add(max(wait, time.Millisecond)); next.IsZero() || when.Before(next) {
				next = when
			}
		}
	}
	a := t.asks.Ask(s.evidenceFor(c, t), jumped, c.limitsFor(t))
	if a.Awake {
		t.awake.Store(true)
	}
	if a.MaxRTO > 0 {
		_ = c.sock.raw.Control(func(fd uintptr) { keepalive.SetMaxRTO(fd, a.MaxRTO) })
	}
	switch a.Reason {
	case verdict.Lost:
		c.overrule(ErrPeerLost, errno.TimedOut, &s, a.For)
		return time.Time{}
	case verdict.Stalled:
		c.overrule(ErrPeerStalled, nil, &s, a.For)
		return time.Time{}
	case verdict.Idle:
		c.overrule(ErrPeerIdle, nil, &s, a.For)
		return time.Time{}
	}
	if a.Prompt {
		c.promptPing(&s)
	}
	again(a.Again)
	for wait := range c.askSilences(s.asked, s.heard, a.Quiet, a.Since) {
		again(wait)
	}
	again(c.settlePing(&s))
	again(c.doDeferred(t, s.asked, jumped))
	return next
}

// evidenceFor is s for the supervisor of c.
func (s *sample) evidenceFor(c *Conn, t *timers) *verdict.Evidence {
	return &verdict.Evidence{
		Info: s.info, Counted: c.counted(), Unread: s.unread, Deaf: s.deaf,
		Writing: t.writing.Load() > 0, Asked: s.asked, Answered: s.answered,
	}
}

// limitsFor is what the supervisor needs to know of the socket's options.
func (c *Conn) limitsFor(t *timers) *keepalive.Limits {
	if t.asks.Peer == 0 || !c.counted() {
		return nil
	}
	return c.sock.limitsNow()
}

// sample takes the evidence of the clock, or reports false if the connection has
// ended or shows none.
func (c *Conn) sample(t *timers, s *sample) bool {
	asked := time.Now()
	sampled := c.sock.raw != nil && c.sock.sample(s)
	s.asked, s.answered = asked, time.Now()
	s.heard = asked.Add(-s.info.SinceData)
	if c.counted() {
		return sampled && (s.info.State == tcpinfo.Open || s.info.State == tcpinfo.CloseWait)
	}
	state := tcpinfo.Open
	switch seen := c.kernel.look(hint{}); seen.outcome {
	case finSeen:
		state = tcpinfo.CloseWait
	case blind, open:
	default:
		return false
	}
	s.info = tcpinfo.Info{State: state, Sent: -1, PeerWindow: -1, OurWindow: -1}
	// What was received is told by Reads, and nothing while nobody is in one.
	s.info.SinceData, s.heard, s.deaf = c.heardOf(t, asked) // a process that stops from here on adds nothing
	if s.unread > 0 {
		s.info.SinceData, s.heard = 0, asked // the Read that waits is about to return, however late it is run
	}
	// That nothing is taken is told by a Write that waits while the queue of the
	// socket stays as it is. If that is empty, it is our Write that is late.
	if sampled && t.writing.Load() > 0 && !s.drained {
		s.info.Unsent, s.info.PeerWindow = 1, 0
		s.info.Acked = t.wrote.Load()<<32 - int64(s.queued)
	}
	s.unread = 0
	return true
}
