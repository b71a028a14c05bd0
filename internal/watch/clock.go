package watch

import (
	"container/heap"
	"sync"
	"time"
)

// A Clock calls Check of its clients when they are due: one heap and one timer for
// all of them, and neither while nothing is due.
type Clock struct {
	mu      sync.Mutex // guards the fields below and the fields due, index and gone of tokens; never held during Check
	due     dueHeap
	timer   *time.Timer
	running bool      // tick is at work
	jumped  time.Time // when the clock last came much too late; evidence from before is void
}

// Late is how late a tick must be to count as a jump of the clock: the machine was
// suspended, or the process stopped. What the kernel counted meanwhile says nothing
// about the peer.
const Late = time.Second

// Wake has t checked at when, or earlier if it is due earlier.
func (k *Clock) Wake(t *Token, when time.Time) {
	if now := time.Now(); when.Before(now) {
		when = now // a time in the past must not look like a late tick
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case t.gone:
		return
	case t.index == 0:
		t.due = when
		heap.Push(&k.due, t)
	case when.Before(t.due):
		t.due = when
		heap.Fix(&k.due, t.index-1)
	default:
		return
	}
	if !k.running && t.index == 1 {
		k.set()
	}
}

// remove forgets t for good.
func (k *Clock) remove(t *Token) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t.gone = true
	if t.index > 0 {
		heap.Remove(&k.due, t.index-1)
	}
}

// set arms the timer for the first that is due; mu is held.
func (k *Clock) set() {
	if len(k.due) == 0 {
		return
	}
	wait := time.Until(k.due[0].due)
	if k.timer == nil {
		k.timer = time.AfterFunc(wait, k.tick)
	} else {
		k.timer.Reset(wait)
	}
}

// tick checks all that are due. A timer that is reset while it fires may start it
// twice; the second call leaves the work to the first.
func (k *Clock) tick() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running {
		return
	}
	k.running = true
	for now := time.Now(); len(k.due) > 0 && !k.due[0].due.After(now); {
		t := heap.Pop(&k.due).(*Token)
		if now.Sub(t.due) > Late {
			k.jumped = now
		}
		jumped := k.jumped
		k.mu.Unlock()
		next := t.client.Check(now, jumped)
		if !next.IsZero() {
			k.Wake(t, next)
		}
		k.mu.Lock()
		before := now
		if now = time.Now(); now.Sub(before) > Late {
			k.jumped = now
		}
	}
	k.running = false
	k.set()
}

// A dueHeap has the token that is due first in front; Token.index is the place in it,
// counted from 1.
type dueHeap []*Token

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}
func (h *dueHeap) Push(x any) {
	t := x.(*Token)
	*h = append(*h, t)
	t.index = len(*h)
}
func (h *dueHeap) Pop() any {
	old := *h
	n := len(old) - 1
	t := old[n]
	old[n] = nil
	*h = old[:n]
	t.index = 0
	return t
}
