package watch

import (
	"runtime"
	"time"

	"github.com/go-liveness/liveness/internal/poller"
)

// A loop hands out the events of one poller until the poller is closed. The mu of its
// hub guards the fields below hub.
type loop struct {
	poller watcher
	hub    *hub

	role                   // one goroutine calls Notice and Settle, and waits for events
	events  []poller.Event // of the batch: those that are not handed out yet
	noticed []*Token       // of the batch: those that Settle was not called of
	memory  [32]*Token     // of noticed, as a rule
}

// run is the goroutine of l.
func (l *loop) run() {
	if l.wait() {
		l.hub.mu.Lock()
		now := time.Now()
		l.work(now, l.begin(now))
	}
}

// wait gets the next batch. It reports false if the poller is closed.
func (l *loop) wait() bool {
	events, err := l.poller.Wait()
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	if err != nil {
		l.hub.loops--
		return false
	}
	l.events = events
	return true
}

// work hands out what is left of the batch, and then the batches to come, for as long
// as holder has the role. mu is held at the beginning, and released at the end.
func (l *loop) work(now time.Time, holder uint64) {
	mu := &l.hub.mu
	for {
		if !l.deliver(now, holder) {
			mu.Unlock()
			return
		}
		l.end()
		mu.Unlock()
		if !l.wait() {
			return
		}
		mu.Lock()
		now = time.Now()
		l.begin(now)
	}
}

// deliver calls Notice for the events of the batch, and then Settle. It reports whether
// holder still has the role; mu is held.
func (l *loop) deliver(now time.Time, holder uint64) (mine bool) {
	for len(l.events) > 0 {
		e := l.events[0]
		l.events = l.events[1:]
		switch t := l.hub.tokens.find(e.ID); {
		case t == nil:
		case t.busy:
			t.pending |= e.What
		default:
			if now, mine = l.tell(t, e.What, now, holder); !mine {
				return false
			}
			l.noticed = append(l.noticed, t)
		}
	}
	if len(l.noticed) > 0 {
		// The goroutines that Notice made ready run before the evidence is taken.
		l.hub.mu.Unlock()
		runtime.Gosched()
		l.hub.mu.Lock()
		now = time.Now()
	}
	for len(l.noticed) > 0 {
		t := l.noticed[0]
		l.noticed[0] = nil // or it would keep what the token keeps
		l.noticed = l.noticed[1:]
		if t.busy {
			continue // a goroutine that was blocked settles it
		}
		if now, mine = l.tell(t, 0, now, holder); !mine {
			return false
		}
	}
	l.noticed = l.memory[:0]
	return true
}

// tell calls Notice of t with e, or Settle if e is 0. It reports whether holder still
// has the role; mu is held.
func (l *loop) tell(t *Token, e Event, now time.Time, holder uint64) (then time.Time, mine bool) {
	t.busy = true
	l.call(now)
	l.hub.mu.Unlock()
	if e != 0 {
		t.client.Notice(e)
	} else {
		t.client.Settle()
	}
	then = time.Now()
	l.hub.mu.Lock()
	if l.returned(then, holder) {
		t.busy = false
		return then, true
	}
	l.finish(t, e != 0)
	return then, false
}

// finish does for t alone what a batch does for many, on a goroutine that lost the role
// while it was in a method of t; mu is held.
func (l *loop) finish(t *Token, unsettled bool) {
	l.blocked++ // until it is done
	for unsettled || t.pending != 0 {
		e := t.pending
		t.pending, unsettled = 0, false
		l.hub.mu.Unlock()
		if e != 0 {
			t.client.Notice(e)
		}
		t.client.Settle()
		l.hub.mu.Lock()
	}
	t.busy = false
	l.blocked--
}
