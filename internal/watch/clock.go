package watch

import (
	"container/heap"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Due times are rounded up to a multiple of a power of two, the largest that is at most
// 1/32 of the wait, so that many clients share a wake-up. Of each power but the largest at
// most 64 multiples are in use, so the number of different due times is small, whatever the
// number of clients.
const (
	minPart = 15 // 33 µs: waits below a millisecond are rounded to this
	maxPart = 31 // 2 s: no wait is rounded to more, so waits above 137 s are rounded by less
)

// A clock calls Check of its clients when they are due. It has one timer for all of
// them, and none while nothing is due. Its zero value is ready after init.
type clock struct {
	bubbled bool      // its timers belong to a bubble; set by init
	epoch   time.Time // what due times count from; set by init

	role              // one goroutine calls Check
	mu     sync.Mutex // guards the fields below, the fields of role, and those of tokens
	due    bucketHeap
	bucket map[int64]*bucket // by due time: those in due
	spare  *bucket           // one that is empty, for the next use
	timer  *time.Timer       // calls tick; made by the first arm
	armed  int64             // when timer fires; 0 if it is not armed
	seen   int64             // the last time that work has read
	ticks  uint64            // how often the timer has fired with something due; for tests

	unarmed atomic.Bool // wake was called inside a bubble, and left arm to the next call outside
}

// checkState is what the clock does with a token.
type checkState uint8

const (
	asleep   checkState = iota
	queued              // in the bucket of its due time
	checking            // Check is under way; due is what Wake asked for meanwhile
	canceled            // the same, and what Check returns does not count
)

// A bucket is a list of the tokens with one due time.
type bucket struct {
	due   int64
	first *Token
	index int // in the heap
}

// init makes k ready; mu is not needed, for k is not shared yet.
func (k *clock) init(now time.Time) {
	k.bubbled = inBubble(now)
	k.epoch = now.Add(-time.Second) // so that due times are never 0
	k.role.init(&k.mu, k.work)
}

func (k *clock) since(t time.Time) int64 { return int64(t.Sub(k.epoch)) }

// round returns when a client is due whose wait ends at due.
func round(due, wait int64) int64 {
	power := min(max(bits.Len64(uint64(wait)/32)-1, minPart), maxPart)
	part := int64(1) << power
	return (due + part - 1) &^ (part - 1)
}

// wake has Check of t called at when, or earlier if it is due earlier.
func (k *clock) wake(t *Token, when time.Time) {
	due := k.since(when)
	if d := t.due.Load(); d != 0 && d <= due && !k.unarmed.Load() {
		return // without asking for the time
	}
	now := time.Now()
	here := inBubble(now)
	if k.bubbled && !here {
		return // the timers of a bubble cannot be touched from outside
	}
	wait := max(0, int64(when.Sub(now)))
	at := k.since(now)
	due = round(at+wait, wait)
	if d := t.due.Load(); here == k.bubbled && d != 0 && d <= due && !k.unarmed.Load() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if here != k.bubbled {
		due = round(k.seen+wait, wait) // inside a bubble, the time outside is unknown
	}
	if d := t.due.Load(); !t.gone && (d == 0 || due < d) {
		k.schedule(t, due)
	}
	switch {
	case here != k.bubbled:
		k.unarmed.Store(true) // a timer that is set in a bubble would count from its clock
	case !k.active:
		k.arm(at)
	}
}

// schedule makes t due at due; mu is held.
func (k *clock) schedule(t *Token, due int64) {
	switch t.state {
	case checking, canceled:
		t.due.Store(due)
		return
	case queued:
		k.unlink(t)
	}
	t.due.Store(due)
	t.state = queued
	b := k.bucket[due]
	if b == nil {
		b = k.newBucket(due)
	}
	t.prev, t.next = nil, b.first
	if b.first != nil {
		b.first.prev = t
	}
	b.first = t
}

func (k *clock) newBucket(due int64) *bucket {
	b := k.spare
	if k.spare = nil; b == nil {
		b = new(bucket)
	}
	b.due = due
	if k.bucket == nil {
		k.bucket = make(map[int64]*bucket)
	}
	k.bucket[due] = b
	heap.Push(&k.due, b)
	return b
}

// unlink takes t out of its bucket; mu is held.
func (k *clock) unlink(t *Token) {
	if t.next != nil {
		t.next.prev = t.prev
	}
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		b := k.bucket[t.due.Load()]
		if b.first = t.next; b.first == nil {
			heap.Remove(&k.due, b.index)
			delete(k.bucket, b.due)
			k.spare = b
		}
	}
	t.prev, t.next = nil, nil
	t.state = asleep
	t.due.Store(0)
}

// remove forgets t for good. It reports whether it is the first to do so.
func (k *clock) remove(t *Token) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := !t.gone
	t.gone = true
	k.unschedule(t)
	return first
}

// cancel takes back what made t due, also what a Check that is under way returns.
func (k *clock) cancel(t *Token) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t.state == checking {
		t.state = canceled
		t.due.Store(0)
	}
	k.unschedule(t)
}

// unschedule takes t out of its bucket if it is in one, and stops the timer if nothing
// is due any more; mu is held.
func (k *clock) unschedule(t *Token) {
	if t.state != queued {
		return
	}
	k.unlink(t)
	// A bubble's timer cannot be stopped from outside. It then fires once for nothing.
	if len(k.due) == 0 && k.armed != 0 && (!k.bubbled || inBubble(time.Now())) {
		k.timer.Stop()
		k.armed = 0
	}
}

// arm sets the timer for the first bucket; mu is held, and the caller is where the
// timer belongs. A timer that fires too early does no harm, so it is only ever set to
// an earlier time.
func (k *clock) arm(now int64) {
	if k.unarmed.Load() {
		k.unarmed.Store(false)
	}
	if len(k.due) == 0 {
		if k.armed != 0 {
			k.timer.Stop()
			k.armed = 0
		}
		return
	}
	at := max(k.due[0].due, now) // a time in the past must not look like a late tick
	if k.armed != 0 && k.armed <= at {
		return
	}
	k.armed = at
	if wait := time.Duration(at - now); k.timer == nil {
		k.timer = time.AfterFunc(wait, k.tick)
	} else {
		k.timer.Reset(wait)
	}
}

// tick is called by the timer. It may be called twice if the timer was set again while
// it fired; the second call leaves the work to the first.
func (k *clock) tick() {
	now := time.Now()
	k.mu.Lock()
	if k.active || k.armed == 0 {
		k.mu.Unlock()
		return
	}
	late := k.since(now) - k.armed
	k.armed = 0
	if late > int64(Late) {
		k.jumped = now
	}
	if len(k.due) > 0 && k.due[0].due <= k.since(now) {
		k.ticks++
	}
	k.work(now, k.begin(now))
}

// work calls Check of all that are due, for as long as holder has the role. mu is held
// at the beginning, and released at the end.
func (k *clock) work(now time.Time, holder uint64) {
	defer k.mu.Unlock()
	for {
		k.seen = k.since(now)
		if len(k.due) == 0 || k.due[0].due > k.seen {
			break
		}
		t := k.due[0].first
		k.unlink(t)
		t.state = checking
		jumped := k.jumped
		k.call(now)
		k.mu.Unlock()
		next := t.client.Check(now, jumped)
		now = time.Now()
		k.mu.Lock()
		mine := k.returned(now, holder)
		k.checked(t, next, k.since(now))
		if !mine {
			if !k.active { // the goroutine that took over has ended its work already
				k.arm(k.since(now))
			}
			return
		}
	}
	k.end()
	k.arm(k.seen)
}

// checked schedules t for what Check returned, or for what Wake asked for meanwhile if
// that is earlier; mu is held.
func (k *clock) checked(t *Token, next time.Time, now int64) {
	asked := t.due.Load()
	t.due.Store(0)
	if !next.IsZero() && t.state != canceled {
		at := max(k.since(next), now)
		if due := round(at, at-now); asked == 0 || due < asked {
			asked = due
		}
	}
	t.state = asleep
	if asked != 0 && !t.gone {
		k.schedule(t, asked)
	}
}

// A bucketHeap has the bucket that is due first in front.
type bucketHeap []*bucket

func (h bucketHeap) Len() int           { return len(h) }
func (h bucketHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h bucketHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *bucketHeap) Push(x any) {
	b := x.(*bucket)
	b.index = len(*h)
	*h = append(*h, b)
}
func (h *bucketHeap) Pop() any {
	old := *h
	n := len(old) - 1
	b := old[n]
	old[n] = nil
	*h = old[:n]
	return b
}
