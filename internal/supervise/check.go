package supervise

import (
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/verdict"
	"github.com/go-liveness/liveness/internal/watch"
)

// Check takes a sample and judges it. The clock calls it; at is when it did, and jumped when
// the clock last came much too late. It returns when to call it again; zero is not before the
// next Wake.
func (t *Timeouts) Check(conn Connection, at, jumped time.Time) (next time.Time) {
	t.checking.Lock()
	defer t.checking.Unlock()
	if conn.Err() != nil {
		return t.settleAfterEnd(conn)
	}
	t.awake.Store(false) // before the sample: a write that comes later marks again
	s, ok := t.sample(conn, t.Detail())
	if !ok { // the connection has ended, as a rule; then no time-out is left to judge
		conn.Check()
		return next
	}
	if s.Answered.Sub(at) > watch.Late {
		jumped = s.Answered // the question was under way for that long
	}
	return t.judge(conn, &s, jumped)
}

// Start is the first check, by a sample that may be taken already.
func (t *Timeouts) Start(conn Connection, first *Sample) (next time.Time) {
	if !first.Taken {
		return t.Check(conn, time.Now(), time.Time{})
	}
	t.checking.Lock()
	defer t.checking.Unlock()
	if conn.Err() != nil || !t.complete(conn, first) {
		return next
	}
	return t.judge(conn, first, time.Time{})
}

// judge acts on what a sample means, and returns when to check again.
func (t *Timeouts) judge(conn Connection, s *Sample, jumped time.Time) (next time.Time) {
	if s.Info.State == tcpinfo.NotEstablished {
		return s.Asked.Add(time.Second) // supervised from when it is
	}
	var limits keepalive.Limits
	evidence := t.evidenceOf(s, jumped)
	a := t.supervisor.Ask(&evidence, t.limitsFor(conn, &limits))
	if a.Awake {
		t.awake.Store(true)
	}
	switch {
	case a.UserTimeout > 0:
		t.extendPatience(conn, a.UserTimeout)
	case !t.awake.Load():
		t.restorePatience(conn)
	}
	if a.Reason != verdict.None {
		conn.EndByTimeout(a, *s)
		return next
	}
	if a.Prompt {
		t.promptPing(conn, s)
	}
	wait := verdict.Sooner(a.Again, t.askSilences(conn, s, &a))
	wait = verdict.Sooner(wait, t.settlePing(conn, s))
	wait = verdict.Sooner(wait, t.makeLaterChange(s.Asked, jumped))
	if wait > 0 {
		next = s.Asked.Add(max(wait, time.Millisecond))
	}
	return next
}

// settleAfterEnd puts back what a Ping has changed, also behind the peer's FIN; checking
// is held.
func (t *Timeouts) settleAfterEnd(conn Connection) (next time.Time) {
	if t.probe == nil {
		return next
	}
	if s, ok := t.sample(conn, Full); ok {
		if wait := t.settlePing(conn, &s); wait > 0 {
			next = s.Asked.Add(wait)
		}
	}
	return next
}

// evidenceOf is s for the supervisor.
func (t *Timeouts) evidenceOf(s *Sample, jumped time.Time) verdict.Evidence {
	finished, sampled := t.finished.Load(), t.sampled
	t.sampled = finished
	e := verdict.Evidence{
		Written: finished != sampled,
		Info:    s.Info, Counted: t.uncounted == nil, NoReader: s.noReader,
		Writing: t.inProgress.Load() > 0, Asked: s.Asked.Sub(started), Answered: s.Answered.Sub(started),
		Jumped: jumped.Sub(started), HasJumped: !jumped.IsZero(),
	}
	if e.Counted {
		e.Unread = s.Unread
	}
	return e
}

// sample takes the evidence of the clock. It returns false if the connection has ended or
// shows none.
func (t *Timeouts) sample(conn Connection, d Detail) (Sample, bool) {
	asked := time.Now()
	s := conn.Sample(d)
	s.Asked, s.Answered = asked, time.Now()
	return s, t.complete(conn, &s)
}

// complete adds to s what the kernel did not tell.
func (t *Timeouts) complete(conn Connection, s *Sample) bool {
	if t.uncounted != nil {
		return t.compose(conn, s)
	}
	s.heard = s.Asked.Add(-s.Info.SinceData)
	switch s.Info.State {
	case tcpinfo.NotEstablished, tcpinfo.Open, tcpinfo.CloseWait:
		if t.tcp {
			t.arrivals.Store(uint64(arrivalsOf(s)))
		}
		return s.Taken
	}
	return false
}

// compose replaces Info, of which the kernel tells too little, by what Reads and Writes
// show.
func (t *Timeouts) compose(conn Connection, s *Sample) bool {
	state := conn.Check()
	if state == tcpinfo.Closed {
		return false
	}
	s.Info = tcpinfo.Info{State: state, Sent: -1, PeerWindow: -1, OurWindow: -1}
	// Reads tell what was received. A process that is stopped from here on adds no silence.
	s.Info.SinceData, s.heard, s.noReader = t.uncounted.reads.Silence(s.Asked)
	if s.Unread > 0 {
		s.Info.SinceData, s.heard = 0, s.Asked // the Read that waits is about to return, however late it runs
	}
	// A Write that waits while the socket's send queue stays as it is tells that the peer
	// takes nothing. If the queue is empty, it is the Write that is late. Acked only has to
	// change with each piece written and each byte sent, and to grow with both.
	if s.Taken && t.inProgress.Load() > 0 && !s.Drained {
		s.Info.Unsent, s.Info.PeerWindow = 1, 0
		s.Info.Acked = int64(t.finished.Load())<<32 - int64(s.Queued)
	}
	return true
}
