// Package readclock counts the silence of a peer by the Reads of a connection, where the
// kernel does not tell when something was received.
package readclock

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Clock runs while a Read waits, and stands still between two of them. Start makes it
// ready. Multiple goroutines may use it simultaneously.
type Clock struct {
	readers *Readers // set by Start

	mu         sync.Mutex // guards the fields below, and a Readers while it is counted here; no other lock is taken while it is held
	lastData   time.Time  // when the last byte came; zero before
	lastActive time.Time  // lastData, moved forward by the time spent outside Read
	changed    time.Time  // when a Read last ended, or Start
}

// Readers counts the Reads that wait. A connection has one from the beginning, and a Clock
// only once it is needed.
type Readers struct{ n atomic.Int32 }

// Start has the silence count from now, while r counts a Read that waits.
func (k *Clock) Start(now time.Time, r *Readers) { k.readers, k.lastActive, k.changed = r, now, now }

// Begin is called before a Read. first reports that no other Read waits; the silence then
// goes on from since. k may be nil.
func (r *Readers) Begin(k *Clock) (first bool, since time.Time) {
	if k == nil {
		return r.n.Add(1) == 1, since
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if first = r.n.Add(1) == 1; first {
		k.lastActive = k.lastActive.Add(time.Since(k.changed))
	}
	return first, k.lastActive
}

// End is called after a Read of n bytes. k may be nil.
func (r *Readers) End(k *Clock, n int) {
	if k == nil {
		r.n.Add(-1)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changed = time.Now()
	if n > 0 {
		k.lastActive, k.lastData = k.changed, k.changed
	}
	r.n.Add(-1)
}

// Silence returns the silence up to now, and when the last byte came. noReader says that no
// Read waits, so that nothing would be heard.
func (k *Clock) Silence(now time.Time) (silence time.Duration, lastData time.Time, noReader bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return max(0, now.Sub(k.lastActive)), k.lastData, k.readers.n.Load() == 0
}
