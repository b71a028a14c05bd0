package verdict

import (
	"cmp"
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
		MaxRTO: maxRTO,
	}
}

// newRTO is TCP_RTO_MAX_MS for a PeerTimeout; oldRTO is that of kernels before 6.15.
func newRTO(d time.Duration) time.Duration {
	_, limit := keepalive.PatienceFor(d)
	return cmp.Or(limit, keepalive.MaxRTO)
}

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
	if r.checks == 0 {
		r.check() // as by Wrap
	}
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
	case r.gaveUp == "keep-alive" && r.now-r.arrived >= r.s.Peer-time.Second:
		// The keep-alive is the one that judges an idle connection.
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

// fewer returns how many seeds to play: a long time-out takes long to play.
func fewer(n uint64, d time.Duration) uint64 {
	if d >= time.Minute {
		n /= 5
	}
	return n
}

// A live peer is lost only after PeerTimeout of real silence, or twice that without an
// acknowledgement, and the kernel never gives up first.
func TestLivePeerOnLossyLink(t *testing.T) {
	t.Parallel()
	forEachKernel(t, func(t *testing.T, d, maxRTO time.Duration) {
		lost, unacked := 0, 0
		for seed := range fewer(60, d) {
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
		t.Logf("%d lost by their real silence, %d of them by acknowledgements", lost, unacked)
	})
}

// The links on which a session measured that live peers were ended: here none is.
func TestMeasuredLinks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		loss   float64
		rtt, d time.Duration
	}{{0.05, 1200 * time.Millisecond, 10 * time.Second}, {0.02, 1500 * time.Millisecond, 11 * time.Second}, {0.05, 300 * time.Millisecond, 10 * time.Second}, {0, 2400 * time.Millisecond, 4 * time.Second}} {
		for seed := range uint64(40) {
			r := newRig(seed, c.rtt/2, c.d, newRTO(c.d))
			r.loss, r.every = c.loss, 50*time.Millisecond
			r.play(3 * time.Minute)
			r.verify(t)
			if r.over() && r.at-r.arrived < c.d {
				t.Errorf("%+v, seed %d: %+v %s", c, seed, r.verdict, r.gaveUp)
			}
		}
	}
}

// A peer that vanishes while data are written to it is found within D·1.25 + 1 s.
func TestVanishedPeerIsFound(t *testing.T) {
	t.Parallel()
	forEachKernel(t, func(t *testing.T, d, maxRTO time.Duration) {
		worst := time.Duration(0)
		for seed := range fewer(200, d) {
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

// A peer that is heard, and acknowledges nothing, is lost after twice the time, with
// words that say so.
func TestOneWayFailure(t *testing.T) {
	t.Parallel()
	forEachKernel(t, func(t *testing.T, d, maxRTO time.Duration) {
		worst := time.Duration(0)
		for seed := range uint64(100) {
			r := newRig(seed, time.Duration(seed)*time.Millisecond, d, maxRTO)
			r.beatEvery = max(d/time.Duration(2+r.random.IntN(30)), 20*time.Millisecond)
			r.beatAt = r.now
			r.every = time.Duration(20+r.random.IntN(2000)) * time.Millisecond
			cut := r.now + time.Duration(r.random.Int64N(int64(3*d)))
			r.down = func(at time.Duration, toPeer bool) bool { return toPeer && at >= cut }
			r.play(cut - r.now + 6*d)
			worst = max(worst, r.at-cut)
			within := r.every + 2*d + time.Second + min(d, maxRTO)/2 // half of a retransmission
			if !r.verdict.NothingAcked || r.at-cut > within {
				t.Fatalf("seed %d: %+v %v after the cut, want %v", seed, r.verdict, r.at-cut, within)
			}
			r.verify(t)
		}
		t.Logf("at most %v", worst)
	})
}

// A peer that answers and does not read is neither lost nor given up by the kernel, for
// as long as it takes, and also if it reads a little now and then.
func TestClosedWindowIsNotLost(t *testing.T) {
	t.Parallel()
	forEachKernel(t, func(t *testing.T, d, maxRTO time.Duration) {
		for seed := range uint64(10) {
			r := newRig(seed, time.Duration(seed)*10*time.Millisecond, d, maxRTO)
			r.readEvery = 0
			if seed%2 == 1 {
				r.readEvery = time.Duration(1+r.random.Int64N(int64(d))) * 2
			}
			r.loss = float64(seed%3) * 0.05
			r.every = d / 20
			r.play(2 * time.Hour)
			if r.verdict.Reason == Lost {
				r.verify(t)
			}
			if r.gaveUp != "" || r.loss == 0 && r.over() {
				t.Fatalf("seed %d: %+v %s after %v", seed, r.verdict, r.gaveUp, r.now-time.Hour)
			}
		}
	})
}

// A peer that vanishes behind its closed window is found: on kernels before 6.15 after
// two more window probes, which may be two minutes apart.
func TestVanishedBehindClosedWindow(t *testing.T) {
	t.Parallel()
	forEachKernel(t, func(t *testing.T, d, maxRTO time.Duration) {
		worst := time.Duration(0)
		for seed := range uint64(50) {
			r := newRig(seed, time.Duration(seed)*time.Millisecond, d, maxRTO)
			r.readEvery = 0
			r.every = d / 20
			cut := r.now + 4*d + time.Duration(r.random.Int64N(int64(20*d)))
			r.down = func(at time.Duration, _ bool) bool { return at >= cut }
			r.play(cut - r.now + 3*d + 3*maxRTO)
			worst = max(worst, r.at-cut)
			gap := maxRTO * 9 / 8
			within := max(d*5/4, gap+max(d/2*9/8+gap, gap)) + 2*time.Second
			if r.verdict.Reason != Lost || r.at-cut > within {
				t.Fatalf("seed %d: %+v %v after the cut, want %v", seed, r.verdict, r.at-cut, within)
			}
			r.verify(t)
		}
		t.Logf("at most %v", worst)
	})
}

// The kernel is never the first to give up, however long a recovery or a closed window
// lasts, and gets its own patience back when nothing is outstanding.
func TestUserTimeoutStaysFarAhead(t *testing.T) {
	t.Parallel()
	forEachKernel(t, func(t *testing.T, d, maxRTO time.Duration) {
		patience := max(924*time.Second, 4*d)
		r := newRig(1, 10*time.Millisecond, d, maxRTO)
		r.readEvery = 0
		r.write(200)
		for range 100 {
			r.play(d)
			elapsed := time.Duration(0)
			if r.probesStamp > 0 {
				elapsed = r.now - r.probesStamp
			}
			if left := r.limits.UserTimeout - elapsed; r.over() || left < patience/2 || left > 2*patience {
				t.Fatalf("%v left of %v after %v with a closed window: %+v %s", left, r.limits.UserTimeout, elapsed, r.verdict, r.gaveUp)
			}
		}
		r.readEvery = time.Nanosecond
		r.held = 0
		r.answer(false)
		r.play(10*r.s.Peer + 2*maxRTO)
		if r.outstanding() || r.limits.UserTimeout != 0 {
			t.Errorf("outstanding %v, user timeout %v after all was acknowledged", r.outstanding(), r.limits.UserTimeout)
		}
	})
	s := Supervisor{Peer: time.Minute}
	i := newKernel(1, 0, limitsFor(time.Minute, oldRTO)).info()
	i.Unsent, i.PeerWindow, i.Backoff = 1, 0, 9
	for _, at := range []time.Duration{0, 30 * 24 * time.Hour} {
		if got := s.userTimeout(stampOf(at), &i); (got == 0) != (at > 0) {
			t.Errorf("after %v: %v", at, got)
		}
	}
}

// No jump of the clock makes a verdict about a peer that answers.
func TestJumps(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{time.Second, 3 * time.Second, 5 * time.Second, time.Minute, 24 * time.Hour} {
		for seed := range uint64(200) {
			r := newRig(seed, 50*time.Millisecond, 4*time.Second, newRTO(4*time.Second))
			r.s.Stall, r.s.Idle = 2*time.Second, 2*time.Second
			r.every, r.beatEvery, r.beatAt = 50*time.Millisecond, time.Second, r.now
			r.play(time.Duration(r.random.Int64N(int64(8 * time.Second))))
			r.now += jump // the kernel stood still too: everything on its way comes late
			r.jumped = r.now
			r.play(20 * time.Second)
			if r.over() {
				t.Fatalf("jump of %v, seed %d: %+v %s", jump, seed, r.verdict, r.gaveUp)
			}
		}
	}
}

// A connection whose writes the library does not see is found in the same time.
func TestWritesUnseen(t *testing.T) {
	t.Parallel()
	forEachKernel(t, func(t *testing.T, d, maxRTO time.Duration) {
		for seed := range uint64(50) {
			r := newRig(seed, time.Duration(seed)*time.Millisecond, d, maxRTO)
			r.s.WritesUnseen = true
			r.check()
			r.play(time.Duration(r.random.Int64N(int64(d))))
			cut := r.now
			r.down = func(at time.Duration, _ bool) bool { return at >= cut }
			r.every = d / 5
			r.play(3 * d)
			if within := r.within(r.every); r.verdict.Reason != Lost || r.at-cut > within {
				t.Fatalf("seed %d: %+v %v after the cut, want %v", seed, r.verdict, r.at-cut, within)
			}
			r.verify(t)
		}
	})
}

// Whatever happens in whatever order, no verdict is false, and at the end the one that is
// due comes.
func TestRandomLives(t *testing.T) {
	t.Parallel()
	const d = 4 * time.Second
	verdicts := map[Reason]int{}
	for seed := range uint64(4000) {
		r := newRig(seed, time.Duration(seed%200)*time.Millisecond, d, []time.Duration{newRTO(d), oldRTO}[seed%2])
		r.s.Stall, r.capacity, r.edge = 3*time.Second, 8, 8
		cut, stopped, reads := time.Duration(0), time.Duration(0), r.now
		r.down = func(time.Duration, bool) bool { return cut > 0 }
		var deeds []string
		for range 12 {
			switch r.random.IntN(7) {
			case 0:
				deeds, cut = append(deeds, "cut"), max(cut, r.now)
			case 1:
				deeds, cut = append(deeds, "mend"), 0
			case 2:
				deeds, r.readEvery, r.readAt, stopped = append(deeds, "stop reading"), 0, 0, r.now
			case 3:
				deeds, r.readEvery, r.held = append(deeds, "read"), time.Nanosecond, 0
				if stopped > 0 {
					stopped, reads = 0, r.now
				}
				r.answer(false)
			case 4, 5:
				deeds = append(deeds, "write")
				r.write(1 + r.random.IntN(6))
			}
			r.play(time.Duration(r.random.Int64N(int64(2 * time.Second))))
		}
		if !r.over() && r.outstanding() && cut > 0 {
			r.play(3*d + 3*r.limits.MaxRTO)
			if r.verdict.Reason != Lost && r.verdict.Reason != Stalled {
				t.Fatalf("seed %d, %v: not lost: %+v", seed, deeds, r.verdict)
			}
		}
		verdicts[r.verdict.Reason]++
		r.verify(t)
		if r.verdict.Reason == Stalled && stopped == 0 && r.at-reads >= r.s.Stall {
			t.Fatalf("seed %d, %v: %+v", seed, deeds, r.verdict)
		}
	}
	t.Logf("%v", verdicts)
	if verdicts[Lost] < 100 || verdicts[Stalled] < 100 || verdicts[None] < 100 {
		t.Errorf("the seeds do not play everything: %v", verdicts)
	}
}

// A connection that is written to all the time is sampled every half of PeerTimeout.
func TestBusyConnectionIsSampledRarely(t *testing.T) {
	r := newRig(1, 10*time.Millisecond, time.Minute, newRTO(time.Minute))
	r.every = 5 * time.Millisecond
	r.play(10 * time.Minute)
	if r.over() || r.checks > 22 {
		t.Errorf("%d checks in ten minutes, %+v", r.checks, r.verdict)
	}
}
