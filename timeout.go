package liveness

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// The least that can be asked for: the kernel's ages are as coarse as its tick.
const (
	minStallTimeout    = 100 * time.Millisecond
	minReadIdleTimeout = 100 * time.Millisecond
)

// maxTimeout is never, with room for what is added to it.
const maxTimeout = math.MaxInt64 / 4

// tickSlack covers the coarseness of the kernel's ages, which are counted in ticks
// of at most 10 ms, so that no time-out is reported too early.
const tickSlack = 10 * time.Millisecond

// timers are what the clock watches a connection for. A Conn has none until it is
// asked for one.
type timers struct {
	peer, stall, idle time.Duration // constant; 0 = not asked for

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

	checking sync.Mutex    // one check at a time; guards the rest, and is taken before Conn.mu
	spared   time.Duration // the TCP_RTO_MAX_MS that the socket has by Conn.spare; 0 before
	lost     lostQuestion
	stalled  stallQuestion
	quiet    quietQuestion
	deferred *deferral // nil if nothing is

	own atomic.Pointer[ownClock] // of a connection that shares nothing with others; nil before it is needed
}

// An ownClock is for one connection alone.
type ownClock struct {
	clock
	token token
}

// timersOf returns the timers of c, which it makes if need be.
func (c *Conn) timersOf() *timers {
	if t := c.timers.Load(); t != nil {
		return t
	}
	now := time.Now()
	t := &timers{lastRead: now, readsAt: now}
	t.quiet.from = now
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
	if c.sock.watch != nil && c.sock.watch.id != 0 {
		theHub.clock.wake(c.sock.watch, when)
	} else {
		own := c.ownClockOf(t)
		own.wake(&own.token, when)
	}
}

func (c *Conn) ownClockOf(t *timers) *ownClock {
	if own := t.own.Load(); own != nil {
		return own
	}
	t.own.CompareAndSwap(nil, &ownClock{token: token{conn: weak.Make(c)}})
	return t.own.Load()
}

// beginWrite and endWrite go around whatever may leave data outstanding. Both have
// the connection checked: a check that finds nothing outstanding lets it sleep,
// and must not do so while a write is on its way to the kernel.
func (c *Conn) beginWrite() *timers {
	t := c.timers.Load()
	if t == nil || t.stall == 0 && (t.peer == 0 || !c.counted()) {
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
		c.wake(t, time.Now().Add(t.pace()))
	}
}

// pace is how soon after a write the connection is first checked.
func (t *timers) pace() time.Duration {
	p := t.peer / 8
	if s := t.stall / 10; s > 0 && (p == 0 || s < p) {
		p = s
	}
	return p
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
	if s.answered.Sub(at) > late {
		jumped = s.answered // it was on the way to the kernel that we stood still
	}
	now := s.asked
	again := func(wait time.Duration) {
		if when := now.Add(max(wait, time.Millisecond)); next.IsZero() || when.Before(next) {
			next = when
		}
	}
	writing := t.writing.Load() > 0
	if (writing || s.info.Outstanding()) && (t.stall > 0 || t.peer > 0 && c.counted()) {
		t.awake.Store(true)
		if !s.info.Outstanding() {
			again(t.pace())
		}
	}
	if t.peer > 0 && c.counted() {
		if wait := c.spare(t, &s.info); wait > 0 {
			again(wait)
		}
		lost, wait := t.lost.ask(now, jumped, &s.info, t.peer, c.sock.limitsNow())
		if lost {
			c.overrule(ErrPeerLost, errTimedOut, &s, s.info.Silence())
			return time.Time{}
		}
		if !t.lost.first.IsZero() && !s.info.Outstanding() {
			c.promptPing(&s)
		}
		if wait > 0 {
			again(wait)
		}
	}
	if t.stall > 0 {
		stalled, wait := t.stalled.ask(now, jumped, &s.info, t.stall)
		if stalled {
			c.overrule(ErrPeerStalled, nil, &s, now.Sub(t.stalled.since))
			return time.Time{}
		}
		if wait > 0 {
			again(wait)
		}
	}
	state, silence := t.quiet.ask(now, jumped, &s)
	if t.idle > 0 {
		limit := t.idle + tickSlack
		if state == quietRuns && silence >= limit {
			c.overrule(ErrPeerIdle, nil, &s, silence)
			return time.Time{}
		}
		if wait := state.wait(limit, silence); wait > 0 {
			if s.unread > 0 {
				wait = min(wait, max(limit/10, time.Millisecond)) // it may fill our buffer, and be read, before long
			}
			again(wait)
		}
	}
	for wait := range c.askSilences(now, s.heard, state, silence) {
		again(wait)
	}
	if wait := c.settlePing(&s); wait > 0 {
		again(wait)
	}
	if wait := c.doDeferred(t, now, jumped); wait > 0 {
		again(wait)
	}
	return next
}

// spare keeps the kernel from giving up a peer too early whose window has closed on
// data in flight: it does so when a retransmission is due and nothing was heard for two
// TCP_RTO_MAX_MS (tcp_rtx_probe0_timed_out in net/ipv4/tcp_timer.c), and ours is so
// small that this would take two lost segments. So it is raised while they go
// unanswered, by no more than the next one needs, since they would be as far apart, and
// to what still lets the verdict come in time. It returns when to look again.
func (c *Conn) spare(t *timers, i *tcpinfo.Info) time.Duration {
	own := c.sock.ownRTO
	if own == 0 {
		return 0
	}
	want, again := own, time.Duration(0)
	if i.Retransmitting() {
		next := i.Silence() + max(0, i.RTO-i.SinceSent)
		// Timers come late by up to an eighth (kernel/time/timer.c).
		want = max(own, min(next/2+i.RTO/16+100*time.Millisecond, t.peer*5/8, maxRTO)).Round(100 * time.Millisecond)
		again = own / 2
	}
	if t.spared == 0 {
		t.spared = own
	}
	if want != t.spared {
		t.spared = want
		_ = c.sock.raw.Control(func(fd uintptr) { setMaxRTO(fd, want) })
	}
	return again
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

// A lostQuestion asks whether a peer has vanished while data are outstanding.
// Nothing heard for the time-out is not enough: the kernel must have been asking for
// half of it, and it takes two samples with a solicitation between them that had the
// time to be answered, all after the last jump of the clock. While nothing is
// outstanding the kernel's keep-alive asks in its own time, and counts better.
type lostQuestion struct {
	since time.Time // since when the kernel has been soliciting, as far as is known; zero if it is not
	first time.Time // the first sample of enough silence
	count int       // the solicitations up to then
	grown time.Time // the first sample with more
}

func (q *lostQuestion) ask(now, jumped time.Time, i *tcpinfo.Info, timeout time.Duration, l *limits) (lost bool, wait time.Duration) {
	if !i.Outstanding() && i.Probes == 0 {
		*q = lostQuestion{}
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
		missing = min(timeout/2-silence, l.maxRTO)
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
		return false, missing + tickSlack
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
func asking(i *tcpinfo.Info, silence time.Duration, l *limits) time.Duration {
	d := time.Duration(-1)
	switch {
	case i.InFlight > 0:
		d = i.RetransmitTime()
	case i.Unsent > 0 && i.Probes > 0:
		// Between window probes the time doubles, too (tcp_probe0_when).
		d = 0
		for n := 1; n < i.Probes; n++ {
			d += min(minRTO<<min(max(i.Backoff-n, 0), 10), l.maxRTO)
		}
	}
	if i.Probes > 0 && (i.InFlight > 0 || i.Unsent == 0) {
		// The keep-alive has asked, perhaps before there was anything to send, and once
		// more after each interval: what is longer ago was one lost probe.
		d = max(d, min(silence-l.idle, time.Duration(i.Probes-1)*l.interval))
	}
	return d
}

// answerTime is how long an answer may take.
func answerTime(i *tcpinfo.Info) time.Duration { return max(time.Second/4, 2*i.RTT) }

// A stallQuestion asks whether the peer's program takes data, while its host
// answers. What it takes is what its kernel acknowledges or opens the window for.
type stallQuestion struct {
	since  time.Time // no progress since; zero while nothing waits to be taken
	acked  int64
	looked time.Time // the last sample
}

func (q *stallQuestion) ask(now, jumped time.Time, i *tcpinfo.Info, timeout time.Duration) (stalled bool, wait time.Duration) {
	pace := timeout / 10
	if now.Sub(q.looked) > max(timeout/2, minStallTimeout) {
		jumped = now // a time-out may be shorter than what the clock takes for a jump
	}
	defer func() { q.looked = now }()
	switch {
	case !i.Outstanding():
		*q = stallQuestion{}
		return false, 0
	case !windowClosed(i):
		*q = stallQuestion{}
		return false, pace
	case q.since.IsZero() || q.acked != i.Acked || q.since.Before(jumped):
		*q = stallQuestion{since: now, acked: i.Acked}
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

// windowClosed reports whether data wait because the peer takes none: its window
// is shut, or too small for what is next, so that the kernel probes it. Corked data
// wait too, but behind an open window and without a probe.
func windowClosed(i *tcpinfo.Info) bool {
	return i.PeerWindow == 0 || i.InFlight == 0 && i.Unsent > 0 && i.Backoff > 0
}

// A quietQuestion asks for how long the peer could have sent and did not.
type quietQuestion struct {
	from time.Time // since when it could, as far as is known
	held bool      // it could not, at the last look
}

type quietState int

const (
	quietRuns quietState = iota
	quietHeld            // the clock stands still for the moment
	quietOver            // the peer has sent its FIN, and can send nothing more
	quietDeaf            // nobody reads, and only a Read would tell
)

func (q *quietQuestion) ask(now, jumped time.Time, s *sample) (quietState, time.Duration) {
	i := &s.info
	switch {
	case i.State == tcpinfo.CloseWait:
		return quietOver, 0
	case s.deaf:
		return quietDeaf, 0
	case i.OurWindow == 0, s.unread > 0 && i.OurWindow < i.PeerMSS:
		// The peer would wait behind our full buffer. Where the kernel does not tell
		// the window, any unread data may be what fills it.
		q.held = true
		return quietHeld, 0
	case q.held:
		// Perhaps the window was opened just now.
		q.held, q.from = false, s.answered
	case jumped.After(q.from):
		// While we stood still, a peer that answers what it is asked had nothing to say.
		q.from = jumped
	}
	return quietRuns, min(i.SinceData, now.Sub(q.from))
}

// wait is how long until a silence may reach limit.
func (q quietState) wait(limit, silence time.Duration) time.Duration {
	switch q {
	case quietRuns:
		return max(limit-silence, time.Millisecond)
	case quietHeld:
		return max(limit/20, time.Millisecond)
	default:
		return 0
	}
}

// OnSilence arranges to call f, in a goroutine of its own, whenever nothing was
// received for d: the place for a protocol's own ping. f runs once for each
// silence, and again after data have come and another silence of d has passed. It
// never runs twice at a time, a call that comes due meanwhile is made when f has
// returned, and it never starts after the end. f closes over whatever it writes to:
// above TLS, that is not this Conn.
//
// The silence counts as for [Config.ReadIdleTimeout]: from now or the last byte
// received, whoever read it. It stands still while our own receive buffer is full,
// and is over for good with the peer's FIN. d is at least 100 ms; less is taken as
// that.
//
// Calling stop ends the calls; it returns true if it did, and false if the
// connection has ended or stop was called before. It does not wait for an f that is
// running. Until then the Conn is kept, as by OnDisconnect. A nil f is never called.
func (c *Conn) OnSilence(d time.Duration, f func()) (stop func() bool) {
	if f == nil {
		return func() bool { return false }
	}
	t := c.timersOf()
	s := &silence{after: min(max(d, minReadIdleTimeout), maxTimeout), f: f, from: time.Now()}
	c.mu.Lock()
	if c.end.Load() == nil {
		c.silences = append(c.silences, s)
		if least := t.least.Load(); least == 0 || int64(s.after) < least {
			t.least.Store(int64(s.after))
		}
		c.pin()
	}
	c.mu.Unlock()
	c.wake(t, s.from.Add(s.after+tickSlack))
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, other := range c.silences {
			if other == s {
				c.silences = append(c.silences[:i:i], c.silences[i+1:]...)
				c.pin()
				return true
			}
		}
		return false
	}
}

// A silence is one registration of OnSilence. Its Conn's mu guards what changes.
type silence struct {
	after   time.Duration
	f       func()
	from    time.Time // when it was registered
	called  time.Time // when f was last started; zero before
	running bool
}

// askSilences starts what is due, and yields when to ask again.
func (c *Conn) askSilences(now, heard time.Time, state quietState, quiet time.Duration) func(yield func(time.Duration) bool) {
	return func(yield func(time.Duration) bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.end.Load() != nil {
			return
		}
		for _, s := range c.silences {
			limit := s.after + tickSlack
			age := min(quiet, now.Sub(s.from))
			// The kernel's age may make a byte that answered f look a tick older than the
			// call; what came before the call is older by all of the silence.
			answered := s.called.IsZero() || heard.After(s.called.Add(-s.after/2))
			wait := state.wait(limit, age)
			switch {
			case state == quietRuns && !answered:
				// One call for each silence; what breaks it is seen in time for the next.
				wait = limit
			case state == quietRuns && age >= limit && !s.running:
				s.called, s.running = now, true
				go c.callSilence(s)
				wait = limit
			case s.running:
				wait = 0 // callSilence will wake us
			}
			if wait > 0 && !yield(wait) {
				return
			}
		}
	}
}

func (c *Conn) callSilence(s *silence) {
	c.mu.Lock()
	registered := slices.Contains(c.silences, s) // and neither stopped nor at the end
	c.mu.Unlock()
	if registered {
		s.f()
	}
	c.mu.Lock()
	s.running = false
	c.mu.Unlock()
	c.wake(c.timersOf(), time.Now())
}
