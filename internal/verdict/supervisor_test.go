package verdict

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
)

// A rig samples a fakeKernel when the Supervisor wants it, as Conn.check does.
type rig struct {
	*fakeKernel
	s       Supervisor
	every   time.Duration // between two writes; 0 is none
	writeAt time.Duration
	awake   bool
	due     time.Duration // 0 is never
	jumped  time.Duration
	checks  int
	verdict Answer
	at      time.Duration // of the verdict
}

func newRig(seed uint64, delay time.Duration, d time.Duration, maxRTO time.Duration) *rig {
	r := &rig{fakeKernel: newKernel(seed, delay, limitsFor(d, maxRTO))}
	r.s.Peer = d
	return r
}

// limitsFor is the tuning that DESIGN gives a socket for a PeerTimeout of d.
func limitsFor(d, maxRTO time.Duration) keepalive.Limits {
	interval := max(time.Second, (d / 24).Truncate(time.Second))
	count := 1 + int((d/2+interval-1)/interval)
	return keepalive.Limits{
		On: true, Idle: max(time.Second, d-time.Duration(count)*interval), Interval: interval, Count: count,
		MaxRTO: maxRTO, Retries: keepalive.DefaultRetries2,
	}
}

// newRTO is TCP_RTO_MAX_MS for a PeerTimeout; oldRTO is that of kernels before 6.15.
func newRTO(d time.Duration) time.Duration { return max(time.Second, d/24) }

const oldRTO = keepalive.MaxRTO

func (r *rig) write(n int) {
	r.fakeKernel.write(n)
	if !r.awake && !r.s.WritesUnseen {
		r.awake = true
		if at := r.now + r.s.Pace(); r.due == 0 || at < r.due {
			r.due = at
		}
	}
}

func (r *rig) check() {
	r.checks++
	r.due, r.awake = 0, false
	e := Evidence{Info: r.info(), Counted: true, Asked: r.now, Answered: r.now, Jumped: r.jumped, HasJumped: r.jumped > 0, Writing: r.unsent > 64}
	a := r.s.Ask(&e, &r.limits)
	r.awake = a.Awake
	r.limits.UserTimeout = a.UserTimeout
	if a.Reason != None {
		r.verdict, r.at = a, r.now
	} else if a.Again > 0 {
		r.due = r.now + max(a.Again, time.Millisecond)
	}
}

func (r *rig) over() bool { return r.verdict.Reason != None || r.gaveUp != "" }

// play lets time pass, with its writes and checks.
func (r *rig) play(d time.Duration) {
	until := r.now + d
	for !r.over() {
		next := until
		if r.due > 0 {
			next = min(next, max(r.due, r.now))
		}
		if r.every > 0 {
			next = min(next, max(r.writeAt, r.now))
		}
		if r.fakeKernel.run(next); r.gaveUp != "" {
			return
		}
		if r.every > 0 && r.writeAt <= r.now {
			r.writeAt = r.now + r.every
			if r.unsent < 64 {
				r.write(1)
			}
		}
		if r.due > 0 && r.due <= r.now {
			r.check()
		}
		if next == until {
			return
		}
	}
}

// verify fails if what ended the connection is not true of a peer that is there.
func (r *rig) verify(t *testing.T) {
	t.Helper()
	const coarse = 20 * time.Millisecond
	silence, unacked := r.at-r.arrived, r.at-r.progressed
	switch v := &r.verdict; {
	case r.gaveUp != "":
		t.Errorf("the kernel gave up %s after a silence of %v, patience %v", r.gaveUp, r.now-r.arrived, r.limits.UserTimeout)
	case v.Reason == Lost && !v.NothingAcked && silence < r.s.Peer:
		t.Errorf("lost after a silence of %v", silence)
	case v.Reason == Lost && v.NothingAcked && (unacked < 2*r.s.Peer || v.For > unacked+coarse):
		t.Errorf("lost after %v without an acknowledgement (For %v)", unacked, v.For)
	case v.Reason == Lost && !v.NothingAcked && (v.For < silence-coarse || v.For > silence+coarse):
		t.Errorf("a silence of %v, told as %v", silence, v.For)
	}
}

var timeouts = []time.Duration{4 * time.Second, 6 * time.Second, 10 * time.Second, 13 * time.Second, 24 * time.Second, 60 * time.Second, 600 * time.Second}

// forEachKernel runs f with the tuning of old kernels and of new ones.
func forEachKernel(t *testing.T, f func(t *testing.T, d, maxRTO time.Duration)) {
	for _, d := range timeouts {
		t.Run(fmt.Sprint(d, " new"), func(t *testing.T) { f(t, d, newRTO(d)) })
		t.Run(fmt.Sprint(d, " old"), func(t *testing.T) { f(t, d, oldRTO) })
	}
}

// A live peer is lost only after PeerTimeout of real silence, or twice that without an
// acknowledgement, and the kernel never gives up first.
func TestLivePeerOnLossyLink(t *testing.T) {
	t.Parallel()
	forEachKernel(t, func(t *testing.T, d, maxRTO time.Duration) {
		lost, unacked := 0, 0
		for seed := range uint64(60) {
			r := newRig(seed, 0, d, maxRTO)
			r.delay = time.Duration(25+r.random.IntN(1200)) * time.Millisecond
			r.rto = r.baseRTO()
			r.loss = r.random.Float64() * 0.4
			r.every = time.Duration(50+r.random.IntN(3000)) * time.Millisecond
			r.play(20 * max(d, 30*time.Second))
			r.verify(t)
			if r.verdict.Reason == Lost {
				lost++
			}
			if r.verdict.NothingAcked {
				unacked++
			}
		}
		t.Logf("%d of 60 lost by their real silence, %d of them by acknowledgements", lost, unacked)
	})
}

// A peer that vanishes while data are written to it is found within D·1.25 + 1 s.
func TestVanishedPeerIsFound(t *testing.T) {
	t.Parallel()
	forEachKernel(t, func(t *testing.T, d, maxRTO time.Duration) {
		worst := time.Duration(0)
		for seed := range uint64(200) {
			r := newRig(seed, 0, d, maxRTO)
			r.delay = time.Duration(r.random.IntN(300)) * time.Millisecond
			r.rto = r.baseRTO()
			r.every = time.Duration(20+r.random.IntN(2000)) * time.Millisecond
			cut := r.now + time.Duration(r.random.Int64N(int64(3*d)))
			r.down = func(at time.Duration, _ bool) bool { return at >= cut }
			r.play(cut - r.now + 3*d)
			worst = max(worst, r.at-cut)
			if within := r.within(r.every); r.verdict.Reason != Lost || r.at-cut > within {
				t.Fatalf("seed %d: %+v %v after the cut, want %v; written each %v, RTT %v", seed, r.verdict, r.at-cut, within, r.every, 2*r.delay)
			}
			r.verify(t)
		}
		t.Logf("at most %v", worst)
	})
}

// So is one that data are first written to some time after it vanished; on kernels
// before 6.15 the retransmission that decides may come later.
func TestWriteAfterCut(t *testing.T) {
	t.Parallel()
	forEachKernel(t, func(t *testing.T, d, maxRTO time.Duration) {
		for _, percent := range []time.Duration{0, 10, 20, 33, 45} {
			worst, bound := time.Duration(0), time.Duration(0)
			for seed := range uint64(100) {
				r := newRig(seed, time.Duration(seed)*time.Millisecond, d, maxRTO)
				r.run(r.now + time.Second)
				r.write(1)
				r.play(3 * r.delay)
				cut := r.now
				r.down = func(at time.Duration, _ bool) bool { return at >= cut }
				r.play(d * percent / 100)
				within := r.within(r.now - cut)
				r.write(1)
				r.play(4 * d)
				worst, bound = max(worst, r.at-cut), within
				if r.verdict.Reason != Lost || r.at-cut > within {
					t.Fatalf("%d %%, seed %d: %+v %v after the cut; want %v", percent, seed, r.verdict, r.at-cut, within)
				}
				r.verify(t)
			}
			t.Logf("%d %%: at most %v; D·1.25 + 1 s is %v, the bound %v", percent, worst, d*5/4+time.Second, bound)
		}
	})
}

// within is the bound of docs/platforms.md for a peer that vanished so long before data
// were sent. The verdict waits for the first retransmission that comes half of D after
// the segment, whose timers may be late by an eighth, and for its answer.
func (r *rig) within(written time.Duration) time.Duration {
	at, rto := time.Duration(0), r.baseRTO()
	for at < r.s.Peer/2 {
		at, rto = at+rto, min(2*rto, r.limits.MaxRTO)
	}
	answer := max(time.Second/4, 4*r.delay)
	return max(r.s.Peer*5/4+time.Second, written+at*9/8+answer+100*time.Millisecond)
}

// An outage shorter than half of D is survived, whenever it begins.
func TestShortOutageIsSurvived(t *testing.T) {
	t.Parallel()
	forEachKernel(t, func(t *testing.T, d, maxRTO time.Duration) {
		for seed := range uint64(300) {
			r := newRig(seed, 0, d, maxRTO)
			r.delay = time.Duration(r.random.IntN(100)) * time.Millisecond
			r.rto = r.baseRTO()
			if r.random.IntN(2) == 0 {
				r.every = time.Duration(20+r.random.Int64N(int64(d)*3/2)) * time.Nanosecond
				r.every = max(r.every, 20*time.Millisecond)
			}
			start := r.now + d + time.Duration(r.random.Int64N(int64(2*d)))
			end := start + d/2 - 50*time.Millisecond
			r.down = func(at time.Duration, _ bool) bool { return at >= start && at < end }
			r.writeAt = start - time.Duration(r.random.Int64N(int64(d)))
			r.play(end - r.now + 5*d)
			if r.over() {
				t.Fatalf("seed %d: %+v %s %v after the outage began, written each %v", seed, r.verdict, r.gaveUp, r.at-start, r.every)
			}
		}
	})
}
