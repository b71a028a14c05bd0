package verdict

import (
	"testing"
	"time"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// A reader is a peer that first reads all, and then a segment of 1000 bytes every so often.
func newReader(seed uint64, buffer int, overhead bool, timeout, maxRTO time.Duration) *rig {
	r := newRig(seed, 20*time.Millisecond, time.Minute, maxRTO)
	r.s.Peer, r.s.Stall = 0, timeout
	r.capacity, r.overhead = buffer/1000, overhead
	r.edge = r.window()
	r.every = 8 * time.Millisecond
	r.play(3 * time.Second)
	return r
}

// fill has the peer read slowly, and writes until its window is closed.
func (r *rig) fill(each time.Duration) {
	r.readEvery, r.every = each, time.Millisecond
	r.cwnd = 2000
	for n := 0; r.edge > r.una && !r.over() && n < 10_000; n++ {
		if r.unsent < 1000 {
			r.write(100)
		}
		r.play(20 * time.Millisecond)
	}
}

// A peer that reads 100 kB/s is never stalled, whatever its buffer, if the time-out is steadyTimeout or longer. One that stops is
// reported within the bound of the documentation.
func TestReaderIsStalledOnceItStops(t *testing.T) {
	t.Parallel()
	play := func(buffer int, overhead bool, timeout time.Duration) {
		r := newReader(1, buffer, overhead, timeout, oldRTO)
		r.fill(10 * time.Millisecond)
		if timeout >= steadyTimeout {
			began := r.una
			r.play(2 * time.Minute)
			if got := r.una - began; r.over() || got < 10_000 {
				t.Errorf("buffer %d, overhead %v, T %v: %+v; took %d segments", buffer, overhead, timeout, r.verdict, got)
			}
		}
		if r.over() {
			return
		}
		r.readEvery, r.readAt = 0, 0
		r.play(5 * time.Minute)
		step := r.s.stepTime(&tcpinfo.Info{MSS: 1000})
		within := max(timeout, 2*step+time.Second/2)*11/10 + time.Second
		if took := r.at - r.progressed; r.verdict.Reason != Stalled || took > within || took < timeout {
			t.Errorf("buffer %d, T %v: %+v after %v; want %v", buffer, timeout, r.verdict, took, within)
		}
	}
	for _, buffer := range []int{64_000, 500_000, 2_000_000, 6_000_000, 32_000_000} {
		for _, timeout := range []time.Duration{minTimeout, time.Second, 4 * time.Second, 60 * time.Second} {
			play(buffer, false, timeout)
		}
		play(buffer, true, 10*time.Second)
	}
}

// A peer that vanished is not stalled, and a time-out that is late is no stall.
func TestNoStall(t *testing.T) {
	t.Parallel()
	r := newReader(1, 64_000, false, 4*time.Second, oldRTO)
	r.fill(10 * time.Millisecond)
	r.readEvery, r.readAt = 0, 0
	r.down = func(time.Duration, bool) bool { return true }
	r.play(10 * time.Minute)
	if r.over() {
		t.Errorf("vanished behind a closed window: %+v", r.verdict)
	}
	for _, timeout := range []time.Duration{minTimeout, time.Second / 2, time.Second, time.Minute} {
		s := Supervisor{Stall: timeout}
		e := Evidence{Info: tcpinfo.Info{Unsent: 1}}
		now := time.Hour
		pause, resumed := now+timeout*4/10, now+timeout*4/10+max(timeout*7/10, minTimeout+1)
		var a Answer
		for a.Reason == None {
			if now > pause && now < resumed {
				now = resumed
			}
			e.Asked, e.Answered = now, now
			if a = s.Ask(&e, nil); a.Reason == None && (a.Again <= 0 || a.Again > timeout/10) {
				t.Fatalf("%v: samples again after %v", timeout, a.Again)
			}
			now += a.Again
		}
		if took := now - resumed; took < timeout*4/10 || took > timeout*11/10 {
			t.Errorf("%v: stalled %v after a pause", timeout, took)
		}
	}
}
