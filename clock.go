package liveness

import (
	"container/heap"
	"sync"
	"time"
)

// A clock checks connections when they are due: one heap and one runtime timer for
// all of the process, and neither while nothing is due. It takes a look at each of
// them then, instead of being told of every Read and Write.
type clock struct {
	mu      sync.Mutex // guards the fields below and the fields due and index of tokens; never held while checking
	due     dueHeap
	timer   *time.Timer
	running bool      // tick is at work
	jumped  time.Time // when the clock last came much too late; evidence from before is void
}

// late is how much too late a tick makes a jump: a machine that was suspended or
// stopped for a while. What the kernel counted meanwhile says nothing of the peer.
const late = time.Second

// wake has t checked at when, or earlier if it is due earlier.
func (k *clock) wake(t *token, when time.Time) {
	if now := time.Now(); when.Before(now) {
		when = now // who asks late does not make the clock late
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

// remove forgets t, for good.
func (k *clock) remove(t *token) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t.gone = true
	if t.index > 0 {
		heap.Remove(&k.due, t.index-1)
	}
}

// set has the timer fire when the first is due; mu is held.
func (k *clock) set() {
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

// tick checks all that are due. A timer that is reset while it is firing may
// start it a second time; that one leaves the work to the first.
func (k *clock) tick() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running {
		return
	}
	k.running = true
	for now := time.Now(); len(k.due) > 0 && !k.due[0].due.After(now); {
		t := heap.Pop(&k.due).(*token)
		if now.Sub(t.due) > late {
			k.jumped = now
		}
		jumped := k.jumped
		k.mu.Unlock()
		next := t.check(now, jumped)
		if !next.IsZero() {
			k.wake(t, next)
		}
		k.mu.Lock()
		before := now
		if now = time.Now(); now.Sub(before) > late {
			k.jumped = now
		}
	}
	k.running = false
	k.set()
}

// A dueHeap has the token that is due first in front; index is the place in it,
// counted from 1.
type dueHeap []*token

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}
func (h *dueHeap) Push(x any) {
	t := x.(*token)
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
