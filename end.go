package liveness

import (
	"sync"
	"sync/atomic"
	"time"
)

// An ending is the verdict, with its evidence.
type ending struct {
	err    error
	cause  *cause // in err; nil for our own Close
	cutOff error  // the errno, if no FIN of the peer was seen: an end of file would be a lie
	ours   bool   // the library's own verdict: to the kernel, the connection is still there

	closing atomic.Bool // Close was called after it

	// contexts is held from before the end is seen until the contexts are cancelled.
	// A Read waits for it before it returns an end of file: net/http, which then
	// cancels its own contexts and gives no reason, must not be the first.
	contexts sync.Mutex

	once   sync.Once // fills status; see Conn.evidence
	status Status
}

// judge is the one entrance for evidence: an event, a look, the result of an I/O
// method, the clock. If it is of an end, everybody is told, once.
func (c *Conn) judge(s sight) {
	if s.outcome <= open {
		return
	}
	if why := s.verdict(c.allowHalfClose); why != nil {
		c.finish(why, s)
	}
}

// look asks the kernel and judges what it shows.
func (c *Conn) look(h hint) sight {
	before := c.sock.deferred.Load()
	s := c.kernel.look(h)
	if !before && c.sock.deferred.Load() {
		// A copy that waits for its other side does not return for the end of this one.
		time.AfterFunc(deferTime, func() {
			if c.end.Load() == nil {
				c.look(hint{event: true, late: true})
			}
		})
	}
	c.judge(s)
	return s
}

// finish ends the connection for a reason that the kernel shows, or for our own
// Close.
func (c *Conn) finish(why error, seen sight) {
	e := &ending{}
	e.cause, _ = why.(*cause)
	e.err = opError(opWatch, c.inner, why)
	switch {
	case seen.outcome == closed:
		e.once.Do(func() { e.freeze(&sample{}) })
	case seen.outcome == aborted:
		// Before anybody is told, who might close the socket and with it the evidence.
		c.evidence(e)
		if e.cause.reason == ErrPeerLost {
			e.cause.silence = e.status.Silence
		}
		e.cause.evidence = e.status.evidence
		if !seen.fin {
			e.cutOff = seen.errno
		}
	}
	c.tell(e)
}

// overrule ends a connection that to the kernel is still there: the peer's host or
// its program kept silent for that long.
func (c *Conn) overrule(reason, errno error, s *sample, silence time.Duration) {
	e := &ending{ours: true, cause: &cause{reason: reason, err: errno, silence: silence}}
	e.err = opError(opWatch, c.inner, e.cause)
	e.once.Do(func() { e.freeze(s) })
	e.cause.evidence = e.status.evidence
	c.tell(e)
}

// record takes the evidence of an end that has been told and is not recorded yet, as
// the hub does a moment later: before the application reads what was unread then.
func (c *Conn) record() {
	if e := c.end.Load(); e != nil {
		c.evidence(e)
	}
}

// evidence returns the Status of e, and takes the sample for it if nobody has yet.
func (c *Conn) evidence(e *ending) Status {
	e.once.Do(func() {
		var s sample
		if c.sock.raw != nil {
			c.sock.sample(&s)
		}
		e.freeze(&s)
	})
	return e.status
}

// freeze makes s the evidence of e.
func (e *ending) freeze(s *sample) {
	e.status = s.status()
	e.status.State, e.status.Err = Disconnected, e.err
}

// tell sets Err, then closes Done, then starts the callbacks, and last interrupts
// whoever waits in Read or Write if the kernel will not. The first end stays and
// later ones are ignored.
func (c *Conn) tell(e *ending) {
	c.mu.Lock()
	if c.end.Load() != nil {
		c.mu.Unlock()
		return
	}
	e.contexts.Lock()
	c.end.Store(e)
	if c.done != nil {
		close(c.done)
	}
	calls := c.calls.takeAll()
	c.silences = nil
	c.pin()
	c.mu.Unlock()
	for call := calls; call != nil; call = call.next {
		if call.inline {
			call.f(e.err)
		}
	}
	e.contexts.Unlock()
	for call := calls; call != nil; call = call.next {
		if !call.inline {
			go call.f(e.err)
		}
	}
	if e.ours {
		c.interrupt()
	}
}

// pin keeps the Conn from being forgotten while somebody waits for its end. It is
// called with mu held, whenever that may have changed.
func (c *Conn) pin() {
	if c.sock.watch == nil {
		return
	}
	if c.end.Load() == nil && (c.done != nil || !c.calls.empty() || len(c.silences) > 0) {
		c.sock.watch.pinned.Store(c)
	} else {
		c.sock.watch.pinned.Store(nil)
	}
}

// A call is one registration of OnDisconnect, in a list of its Conn.
type call struct {
	f          func(error)
	inline     bool // f is the cancel function of a context: it does not block, and is called at once
	prev, next *call
	listed     bool
}

// A callList is a doubly linked list, so that registering and stopping take the
// same time however many there are. Its Conn's mu guards it.
type callList struct{ first *call }

func (l *callList) empty() bool { return l.first == nil }

func (l *callList) add(c *call) {
	c.next, c.listed = l.first, true
	if l.first != nil {
		l.first.prev = c
	}
	l.first = c
}

// remove reports whether c was in the list.
func (l *callList) remove(c *call) bool {
	if !c.listed {
		return false
	}
	if c.prev == nil {
		l.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next, c.listed = nil, nil, false
	return true
}

// takeAll empties the list and returns its first element.
func (l *callList) takeAll() *call {
	first := l.first
	for c := first; c != nil; c = c.next {
		c.listed = false
	}
	l.first = nil
	return first
}
