// Package counters counts connections and their ends.
package counters

import (
	"context"
	"sync"
	"sync/atomic"
)

// Counters count connections. Only Wait, and the Leave of the last one, take a lock. The
// zero value is ready for use.
type Counters struct {
	open  atomic.Int64
	all   atomic.Uint64
	ended [8]atomic.Uint64 // by the index of a reason

	mu    sync.Mutex    // guards empty
	empty chan struct{} // closed when no connection is open; nil if nothing waits for that
}

// Join counts a connection.
func (k *Counters) Join() {
	k.open.Add(1)
	k.all.Add(1)
}

// Leave is the opposite of Join.
func (k *Counters) Leave() {
	if k.open.Add(-1) > 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.empty != nil && k.Open() == 0 {
		close(k.empty)
		k.empty = nil
	}
}

// Wait returns when no connection is open, or with the error of ctx.
func (k *Counters) Wait(ctx context.Context) error {
	for {
		k.mu.Lock()
		if k.Open() == 0 {
			k.mu.Unlock()
			return nil
		}
		if k.empty == nil {
			k.empty = make(chan struct{})
		}
		empty := k.empty
		k.mu.Unlock()
		select {
		case <-empty:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// End counts an end for the reason with that index.
func (k *Counters) End(reason int) { k.ended[reason].Add(1) }

// Open is how many connections have not left.
func (k *Counters) Open() int { return int(k.open.Load()) }

// All is how many have ever joined.
func (k *Counters) All() uint64 { return k.all.Load() }

// Ended is how many have ended for the reason with that index.
func (k *Counters) Ended(reason int) uint64 { return k.ended[reason].Load() }
