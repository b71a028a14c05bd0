package liveness

import (
	"sync"
	"sync/atomic"
	"time"
)

// A readClock counts silence by the Reads of a connection, where the kernel does not
// tell when something was received. It runs while a Read waits, and stands still
// between two of them.
type readClock struct {
	shortest atomic.Int64 // nanoseconds of the shortest silence that is asked for; 0 if none

	mu         sync.Mutex // guards the fields below, and Conn.reading with them; no other lock is taken while it is held
	lastData   time.Time  // when the last byte came; zero before
	lastActive time.Time  // lastData, moved forward by the time spent outside Read
	changed    time.Time  // when a Read last began or ended
}

// beginRead and endRead go around a Read. OnSilence may be called meanwhile, and be the
// first to need the clock.
func (c *Conn) beginRead() {
	t := c.timeouts.Load()
	if t == nil {
		c.reading.Add(1)
		return
	}
	r := &t.reads
	r.mu.Lock()
	first := c.reading.Add(1) == 1
	if first {
		now := time.Now()
		r.lastActive = r.lastActive.Add(now.Sub(r.changed))
		r.changed = now
	}
	last := r.lastActive
	r.mu.Unlock()
	if shortest := r.shortest.Load(); first && shortest > 0 {
		c.handle.Wake(last.Add(time.Duration(shortest) + tickSlack))
	}
}

func (c *Conn) endRead(n int) {
	t := c.timeouts.Load()
	if t == nil {
		c.reading.Add(-1)
		return
	}
	r := &t.reads
	r.mu.Lock()
	r.changed = time.Now()
	if n > 0 {
		r.lastActive, r.lastData = r.changed, r.changed
	}
	c.reading.Add(-1)
	r.mu.Unlock()
}

// silence returns the silence up to now, and when the last byte came. noReader says that
// no Read waits, so that nothing would be heard.
func (r *readClock) silence(c *Conn, now time.Time) (silence time.Duration, lastData time.Time, noReader bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, now.Sub(r.lastActive)), r.lastData, c.reading.Load() == 0
}
