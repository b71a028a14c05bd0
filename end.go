package liveness

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/recent"
	"github.com/go-liveness/liveness/internal/supervise"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// Lock order: rest.mu or pieces of supervise.Timeouts, then its checking, then Conn.mu. Its
// Deadlines and the locks of its silences, of readclock.Clock, the hub and groups come last.

// An ending is how and when a connection ended, with its evidence. A verdict is an end that
// the library decided; see byTimeout.
type ending struct {
	err       error
	cause     *cause      // in err; nil for a local Close
	truncated error       // the errno, if no FIN of the peer was seen: an end of file would be a lie
	byTimeout bool        // the library ended it by a time-out of the Config; the kernel still has the connection
	closing   atomic.Bool // Close is about to close the wrapped connection

	contexts chan struct{} // closed when the contexts are cancelled; nil if there are none
	rest     rest          // with byTimeout: what may still be read

	age      time.Duration // of the connection
	once     sync.Once     // fills snapshot; see Conn.snapshot
	snapshot Status
}

// observe is the one entrance for evidence: an event, a check, the result of an I/O
// method. If it shows an end, the end is published, once.
func (c *Conn) observe(o observation) {
	if o.outcome <= connected {
		return
	}
	if why := c.sock.endOf(o); why != nil {
		c.endByPeer(why, o)
	}
}

// check asks the kernel and observes what it shows.
func (c *Conn) check(t trigger) observation {
	before := c.sock.history.Deferred()
	t.arrivals = c.timeouts.Load().Arrivals()
	o := c.checker().check(t)
	closed := o.outcome == closedLocally
	if closed && t.event != 0 {
		o = observationOfEvent(t.event)
	}
	if !before && c.sock.history.Deferred() {
		// An io.Copy that waits for its other connection does not return when this one ends.
		// So check again after deferTime, and then do not wait for I/O.
		time.AfterFunc(deferTime, func() {
			if c.end.Load() == nil {
				c.check(trigger{event: t.event, overtime: true})
			}
		})
	}
	c.observe(o)
	if closed {
		c.handle.leave() // after the end is counted
	}
	return o
}

// observeSample observes what a sample shows, and makes a check where it shows too little.
func (c *Conn) observeSample(s *supervise.Sample) observation {
	switch {
	case !s.Taken || !c.sock.counted || c.sock.family != familyTCP:
	case s.Info.State == tcpinfo.Open, s.Info.State == tcpinfo.NotEstablished:
		return observation{outcome: connected}
	case s.Info.State == tcpinfo.CloseWait && c.sock.allowHalfClose:
		return c.sock.remember(observation{outcome: peerFinished})
	}
	return c.check(trigger{})
}

// endByPeer ends the connection for a reason that the kernel shows, or for a local
// Close.
func (c *Conn) endByPeer(why error, o observation) {
	e := &ending{}
	e.cause, _ = why.(*cause)
	e.err = c.opError(opWatch, why)
	switch o.outcome {
	case closedLocally:
		e.once.Do(func() { e.setSnapshot(&supervise.Sample{}) })
	case aborted:
		// Before anything is published: a callback might close the socket, and with it
		// the evidence.
		if o.evidence != nil {
			e.once.Do(func() { e.setSnapshot(o.evidence) })
		}
		c.snapshot(e)
		if e.cause.reason == ErrPeerLost {
			e.cause.silence = e.snapshot.Silence
		}
		e.cause.evidence = e.snapshot.evidence
		if !o.fin {
			e.truncated = o.errno
		}
	}
	c.publish(e)
}

// endByTimeout ends a connection that to the kernel is still there.
func (c *Conn) endByTimeout(why *cause, s *supervise.Sample) {
	e := &ending{byTimeout: true, cause: why}
	e.err = c.opError(opWatch, why)
	if s.Detail == supervise.Lean {
		full := c.sock.sample(supervise.Full)
		s.Unread, s.Unacked = full.Unread, full.Unacked
	}
	e.once.Do(func() { e.setSnapshot(s) })
	if why.reason == ErrPeerLost && why.absent == "" {
		e.snapshot.Silence = why.silence // the kernel's ages do not show all that was heard
	}
	e.cause.evidence = e.snapshot.evidence
	e.rest.set(s)
	c.publish(e)
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// interrupts reports whether e has ended the Reads and Writes of c.
func (c *Conn) interrupts(e *ending) bool { return e.byTimeout && !c.sock.byWatch }

// interrupt ends the Reads and Writes that wait, and those to come. The methods of a
// connection that is not package net's may block, so they run on their own; mu is held.
func (c *Conn) interrupt() {
	expire := func() {
		t := c.timeouts.Load() // which has ended it
		t.Deadlines.Lock()
		defer t.Deadlines.Unlock()
		c.inner.SetDeadline(longAgo)
	}
	if !c.sock.direct || c.sock.mayBlock {
		go expire()
	} else {
		expire()
	}
}

// takeSnapshot keeps the evidence of an end that is published, if that is not done yet:
// before the application reads what was unread then.
func (c *Conn) takeSnapshot() {
	if e := c.end.Load(); e != nil {
		c.snapshot(e)
	}
}

// snapshot returns the Status of e, and samples the connection for it the first time.
func (c *Conn) snapshot(e *ending) Status {
	e.once.Do(func() {
		s := c.sock.sample(supervise.Full)
		e.setSnapshot(&s)
	})
	st := e.snapshot
	st.Age = e.age
	return st
}

// setSnapshot makes s the evidence of e.
func (e *ending) setSnapshot(s *supervise.Sample) {
	e.snapshot = statusOf(s)
	e.snapshot.State, e.snapshot.Err = Disconnected, e.err
}

// publish sets Err, then closes Done, then starts the callbacks. The first end stays; for a
// later one publish does nothing.
func (c *Conn) publish(e *ending) {
	c.mu.Lock()
	if c.end.Load() != nil {
		c.mu.Unlock()
		return
	}
	contexts, callbacks := c.calls.TakeAll()
	atEnd := c.atEnd
	c.atEnd = nil
	if contexts != nil {
		e.contexts = make(chan struct{})
	}
	e.age = c.age()
	c.handle.count(e) // before anything tells of the end
	c.timeouts.Load().EndSilences()
	c.end.Store(e)
	if c.interrupts(e) {
		c.interrupt() // before Done and the callbacks tell: a copy that waits must not go on
	}
	if c.done != nil {
		close(c.done)
	}
	c.pin()
	c.mu.Unlock()
	c.keepRecent(e)
	if contexts != nil {
		// Cancelling runs code of the application: parents of its own type, and functions
		// that it registered with context.AfterFunc.
		go func() {
			defer close(e.contexts)
			for ; contexts != nil; contexts = contexts.Next {
				contexts.F(e.err)
			}
		}()
	}
	if atEnd != nil {
		go atEnd(c, e.err)
	}
	for ; callbacks != nil; callbacks = callbacks.Next {
		go callbacks.F(e.err)
	}
}

// keepRecent keeps e for livenessdebug, if that is in use. It runs no code of the application,
// and what it keeps does not lead to the Conn.
func (c *Conn) keepRecent(e *ending) {
	if !recent.Started() {
		return
	}
	end := recent.End{At: time.Now(), Err: net.ErrClosed}
	switch {
	case e.cause == nil:
	case c.sock.raw == nil:
		end.Err = e.cause.reason // without the error of a foreign Read or Write
	default:
		end.Err = e.cause
	}
	st := Status{State: Disconnected, Age: e.age}
	if fin := e.cause != nil && e.cause.reason == ErrPeerClosed; !fin || !c.sock.mayBlock {
		st = c.snapshot(e) // at a FIN it asks the kernel, which may block; at other ends it is taken already
		st.Err = nil
	}
	end.Status = st
	if named := c.addresses(); beneath.IsPackageNet(named.Conn) {
		end.Local, end.Peer = named.LocalAddr(), named.RemoteAddr()
	}
	if g := c.handle.group; g != nil {
		end.Group = g.Name
	}
	recent.Add(end)
}

// pin stops the garbage collector from freeing the Conn while the application waits for
// its end. The caller holds mu, and calls pin after each change of what waits.
func (c *Conn) pin() {
	waited := c.done != nil || c.atEnd != nil || !c.calls.Empty() || c.timeouts.Load().WaitsForSilence()
	if c.end.Load() == nil && waited {
		c.handle.pinned.Store(c)
	} else {
		c.handle.pinned.Store(nil)
	}
}

// A rest is what Read may still return after a verdict of the library: what had been
// received at that moment.
type rest struct {
	received int64 // bytes of the stream, where the kernel counts them; -1 elsewhere
	finished bool  // the peer's FIN had come

	mu     sync.Mutex // guards unread; held across a recv that does not wait
	unread int        // bytes that were unread then and are still
}

// set takes over what a sample says.
func (r *rest) set(s *supervise.Sample) {
	r.received, r.unread = -1, s.Unread
	r.finished = s.Info.State == tcpinfo.CloseWait
	if s.Info.Full && s.Info.Received >= 0 {
		r.received = s.Info.ReceivedData()
	}
}
