package liveness_test

import (
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// machine tells how much too late goroutines are run. A test of times in which the
// machine stood still for a while says nothing of the library: it skips itself, and
// says so, instead of failing.
var machine busyness

type busyness struct {
	mu     sync.Mutex // guards the rest
	late   []lateness
	queued time.Time // since when the watcher waits for its turn among the goroutines; zero if it does not
}

// lateness is a moment at which a timer, or a goroutine that could run, came late.
type lateness struct {
	at time.Time
	by time.Duration
}

// tolerable is how late they may come without being worth remembering.
const tolerable = 100 * time.Millisecond

// watch begins to look at the machine, until stop is called.
func (b *busyness) watch() (stop func()) {
	if os.Getenv("LIVENESS_TARGETS") != "" {
		return func() {} // it would be all that is measured of an idle process
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		const pace = 20 * time.Millisecond
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			now := time.Now()
			b.mu.Lock()
			if by := now.Sub(last) - pace; by > tolerable {
				b.late = append(b.late, lateness{now, by})
			}
			b.queued = now
			b.mu.Unlock()
			// A timer may be on time while what it starts waits behind all that computes.
			runtime.Gosched()
			last = time.Now()
			b.mu.Lock()
			if by := last.Sub(now); by > tolerable {
				b.late = append(b.late, lateness{last, by})
			}
			b.queued = time.Time{}
			b.mu.Unlock()
		}
	}()
	return func() {
		close(done)
		<-stopped
	}
}

// excuse skips the test if the machine stood still after since.
func (b *busyness) excuse(t testing.TB, since time.Time) {
	t.Helper()
	b.mu.Lock()
	var worst time.Duration
	for _, l := range b.late {
		if l.at.After(since) {
			worst = max(worst, l.by)
		}
	}
	if !b.queued.IsZero() {
		if by := time.Since(b.queued); by > tolerable {
			worst = max(worst, by)
		}
	}
	b.mu.Unlock()
	if worst > 0 {
		t.Skipf("the machine was too busy: something came %v late", worst)
	}
}
