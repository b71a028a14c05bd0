package liveness

import (
	"testing"
	"time"
)

// Timers of the kernel are late, and more so the longer they are: the bound holds for
// every time all the same.
func TestLateProbes(t *testing.T) {
	t.Parallel()
	if got, want := lapse(17*time.Second), 18432*time.Millisecond; got < want {
		t.Errorf("17 s lapse in %v; measured were %v", got, want)
	}
	for d := minPeerTimeout; d <= maxPeerTimeout; d += time.Second {
		p := KeepAlive(d)
		l := limits{keepAlive: true, idle: punctual(p, d), interval: p.Interval, count: p.Count}
		bound := d + d/20 + 2*time.Second
		if late := l.lateIdleBound(); late > bound || l.idle < time.Second || l.idle > p.Idle {
			t.Errorf("%v: found after %v; idle %v of %v", d, late, l.idle, p.Idle)
		}
		if d <= 80*time.Second && l.idle != p.Idle {
			t.Errorf("%v: idle %v in place of %v", d, l.idle, p.Idle)
		}
	}
}
