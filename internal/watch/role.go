package watch

import (
	"sync"
	"time"
)

// One goroutine, the holder, has the role and calls the clients' methods. While it does, a
// timer, the watchdog, checks it. If a method does not return in time, the timer's goroutine
// becomes the holder and continues the work. The old goroutine finishes its own client once
// its method returns, and exits.
//
// The watchdog also detects that the process stood still: then the watchdog itself runs
// late.
//
// The caller of begin, end, call, returned and ran holds lock; watch acquires it.
type role struct {
	lock *sync.Mutex                        // guards the fields below
	work func(now time.Time, holder uint64) // goes on with the work; called with lock held, and releases it

	active   bool        // a goroutine holds the role
	holder   uint64      // which; increased by each takeover
	calling  bool        // a method runs
	called   time.Time   // when it was called
	blocked  int         // goroutines that have lost the role and have not returned
	alive    time.Time   // when the process was last seen to run while active
	jumped   time.Time   // when the process last ran after it stood still for longer than Late
	watchdog *time.Timer // calls watch; armed while active
}

const (
	// patience is how long a method may run before another goroutine takes over. It is
	// halved with each goroutine that is blocked, so that many blocked clients together
	// delay the others by twice this time and a millisecond for each.
	patience    = 50 * time.Millisecond
	minPatience = time.Millisecond

	// maxBlocked bounds the blocked goroutines of one role. Beyond it none takes over: all
	// clients wait until a method returns.
	maxBlocked = 64
)

func (r *role) init(lock *sync.Mutex, work func(time.Time, uint64)) { r.lock, r.work = lock, work }

// begin takes the role, and returns the number of its holder.
func (r *role) begin(now time.Time) uint64 {
	r.active, r.alive = true, now
	if r.watchdog == nil {
		r.watchdog = time.AfterFunc(r.limit(), r.watch)
	} else {
		r.watchdog.Reset(r.limit())
	}
	return r.holder
}

// end gives the role back.
func (r *role) end() {
	r.active = false
	r.watchdog.Stop()
}

func (r *role) limit() time.Duration { return max(patience>>r.blocked, minPatience) }

// call says that a method is about to be called.
func (r *role) call(now time.Time) { r.calling, r.called = true, now }

// returned says that the method that holder called has returned, and reports whether
// holder still has the role.
func (r *role) returned(now time.Time, holder uint64) bool {
	if r.holder != holder {
		r.blocked--
		return false
	}
	r.calling = false
	r.ran(now)
	return true
}

// ran notes that the process runs.
func (r *role) ran(now time.Time) {
	if now.Sub(r.alive) > Late {
		r.jumped = now
	}
	r.alive = now
}

// watch is called by the watchdog.
func (r *role) watch() {
	now := time.Now()
	r.lock.Lock()
	if !r.active {
		r.lock.Unlock()
		return
	}
	r.ran(now)
	wait := patience
	if r.blocked < maxBlocked {
		wait = r.limit()
		if r.calling {
			wait -= now.Sub(r.called)
		}
	}
	if wait <= 0 {
		r.calling = false
		r.blocked++
		r.holder++
		r.watchdog.Reset(r.limit())
		r.work(now, r.holder)
		return
	}
	r.watchdog.Reset(wait)
	r.lock.Unlock()
}
