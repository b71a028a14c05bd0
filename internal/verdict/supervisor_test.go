package verdict

import (
	"cmp"
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
	written bool
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

const (
	oldRTO = keepalive.MaxRTO
	ms     = time.Millisecond
)

func (r *rig) write(n int) {
	r.written = true
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
	e := Evidence{Info: r.info(), Counted: true, Asked: r.now, Answered: r.now, Jumped: r.jumped, HasJumped: r.jumped > 0, Writing: r.unsent > 64, Written: r.written}
	r.written = false
	a := r.s.Ask(&e, &r.limits)
	r.awake = a.Awake
	if a.UserTimeout > 0 || !a.Awake {
		r.limits.UserTimeout = a.UserTimeout
	}
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
	const coarse = 20 * ms
	silence, unacked := r.at-r.arrived, r.at-r.progressed
	switch v := &r.verdict; {
	case r.gaveUp == "keep-alive" && r.now-r.arrived >= r.s.Peer-time.Second:
		// The keep-alive is the one that judges an idle connection.
	case r.gaveUp != "":
		t.Errorf("the kernel gave up %s after a silence of %v, patience %v", r.gaveUp, r.now-r.arrived, r.limits.UserTimeout)
	case v.Reason == Lost && !v.NothingAcked && (silence < r.s.Peer || r.solicited <= r.arrived):
		t.Errorf("lost after a silence of %v; the last segment was sent %v before it", silence, r.arrived-r.solicited)
	case v.Reason == Lost && v.NothingAcked && (unacked < 2*r.s.Peer || v.For > unacked+coarse):
		t.Errorf("lost after %v without an acknowledgement (For %v)", unacked, v.For)
	case v.Reason == Lost && !v.NothingAcked && (v.For < silence-coarse && !r.repeated || v.For > silence+coarse):
		t.Errorf("a silence of %v, told as %v", silence, v.For)
	}
}

// TestLives plays each life with many seeds, for each time-out, with the tuning of old kernels and of new ones. No verdict may be
// false, and the kernel may never be the first to give up.
func TestLives(t *testing.T) {
	for _, life := range lives {
		t.Run(life.name, func(t *testing.T) {
			t.Parallel()
			for _, seconds := range []time.Duration{4, 6, 10, 13, 24, 60, 600} {
				d, seeds := seconds*time.Second, life.seeds
				if d >= time.Minute { // which takes long to play
					seeds = min(seeds, max(10, seeds/5))
				}
				for _, maxRTO := range []time.Duration{newRTO(d), oldRTO} {
					for seed := range seeds {
						r := newRig(seed, 0, d, maxRTO)
						life.play(t, r, seed)
						r.verify(t)
						if t.Failed() {
							t.Fatalf("PeerTimeout %v, RTO_MAX %v, seed %d: %+v %s; RTT %v, written each %v",
								d, maxRTO, seed, r.verdict, r.gaveUp, 2*r.delay, r.every)
						}
					}
				}
			}
		})
	}
}

// between returns a random duration.
func (r *rig) between(low, high time.Duration) time.Duration {
	return low + time.Duration(r.random.Int64N(int64(high-low)))
}

// link sets the delay of the link, one way.
func (r *rig) link(delay time.Duration) { r.delay = delay; r.rto = r.baseRTO() }

// cutAfter has nothing arrive any more after a time, in the next moment if it is 0.
func (r *rig) cutAfter(wait time.Duration) (cut time.Duration) {
	cut = r.now + wait
	r.down = func(at time.Duration, _ bool) bool { return at >= cut }
	return cut
}

// lostWithin fails unless the peer is lost at most for so long after the cut.
func (r *rig) lostWithin(t *testing.T, cut, within time.Duration) {
	t.Helper()
	if r.verdict.Reason != Lost || r.at-cut > within {
		t.Errorf("reason %d %v after the cut, want %v", r.verdict.Reason, r.at-cut, within)
	}
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

var lives = []struct {
	name  string
	seeds uint64
	play  func(t *testing.T, r *rig, seed uint64)
}{
	{"a live peer on a lossy link is not lost", 60, func(_ *testing.T, r *rig, _ uint64) {
		r.link(r.between(25*ms, 1225*ms))
		r.loss = r.random.Float64() * 0.4
		r.every = r.between(50*ms, 3050*ms)
		r.play(20 * max(r.s.Peer, 30*time.Second))
	}},
	{"a peer that vanishes is found, whether the library sees what is written to it or not", 100, func(t *testing.T, r *rig, seed uint64) {
		r.link(r.between(0, 300*ms))
		r.s.WritesUnseen = seed%4 == 0
		r.every = r.between(20*ms, 2020*ms)
		cut := r.cutAfter(r.between(0, 3*r.s.Peer))
		r.play(cut - r.now + 3*r.s.Peer)
		r.lostWithin(t, cut, r.within(r.every))
	}},
	{"a peer that data are first written to after it vanished is found", 300, func(t *testing.T, r *rig, seed uint64) {
		r.link(time.Duration(seed/5) * ms)
		r.run(r.now + time.Second)
		r.write(1)
		r.play(3 * r.delay)
		cut := r.cutAfter(0)
		r.play(r.s.Peer * []time.Duration{0, 10, 20, 33, 45}[seed%5] / 100)
		within := r.within(r.now - cut)
		r.write(1)
		r.play(4 * r.s.Peer)
		r.lostWithin(t, cut, within)
	}},
	{"a peer that is heard and acknowledges nothing is lost after twice the time", 100, func(t *testing.T, r *rig, seed uint64) {
		d := r.s.Peer
		r.link(time.Duration(seed) * ms)
		r.beatEvery = max(d/time.Duration(2+r.random.IntN(30)), 20*ms)
		r.beatAt = r.now
		r.every = r.between(20*ms, 2020*ms)
		cut := r.now + r.between(0, 3*d)
		r.down = func(at time.Duration, toPeer bool) bool { return toPeer && at >= cut }
		r.play(cut - r.now + 6*d)
		r.lostWithin(t, cut, r.every+2*d+time.Second+min(d, r.limits.MaxRTO)/2) // half of a retransmission
		if !r.verdict.NothingAcked {
			t.Error("told as silence")
		}
	}},
	// On kernels before 6.15 after two more window probes, which may be two minutes apart.
	{"a peer that vanishes behind its closed window is found", 50, func(t *testing.T, r *rig, seed uint64) {
		d := r.s.Peer
		r.link(time.Duration(seed) * ms)
		r.readEvery, r.every = 0, d/20
		cut := r.cutAfter(r.between(4*d, 24*d))
		r.play(cut - r.now + 3*d + 3*r.limits.MaxRTO)
		gap := r.limits.MaxRTO * 9 / 8
		r.lostWithin(t, cut, max(d*5/4, gap+d/2*9/8+gap)+2*time.Second)
	}},
	{"a peer that hears nothing, repeats a segment more and more rarely and then vanishes is found", 8, func(t *testing.T, r *rig, seed uint64) {
		d, last := r.s.Peer, 400*ms<<seed
		if r.limits.MaxRTO == oldRTO || last >= d*5/8 { // later it is lost because it acknowledges nothing
			return
		}
		r.link(10 * ms)
		r.run(r.now + time.Second)
		cut := r.cutAfter(0)
		r.write(1)
		for at := 200 * ms; at <= last; at *= 2 {
			r.play(cut + at - r.now)
			r.receiveRepeated()
		}
		r.play(2 * d)
		r.lostWithin(t, r.arrived, d*3/2+time.Second) // it is noticed at the next sample
	}},
	{"what was sent before a repeated segment solicits no answer after it", 4, func(t *testing.T, r *rig, seed uint64) {
		if r.limits.MaxRTO < oldRTO || r.s.Peer > time.Minute {
			return // the kernel gives up after 15 window probes; or no sample is made while the peer repeats itself
		}
		r.link(10 * ms)
		r.readEvery = 0
		r.write(200)
		r.play(time.Second) // until the window is closed
		r.cutAfter(0)
		for range 70 + 20*seed { // while window probes get more and more rare
			r.play(time.Second)
			r.receiveRepeated()
		}
		r.play(3*r.s.Peer + 3*r.limits.MaxRTO)
		gap := r.limits.MaxRTO * 9 / 8
		r.lostWithin(t, r.arrived, r.s.Peer*3/2+2*gap+2*time.Second)
	}},
	{"an outage shorter than half of D is survived, whenever it begins", 300, func(t *testing.T, r *rig, _ uint64) {
		d := r.s.Peer
		r.link(r.between(0, 100*ms))
		if r.random.IntN(2) == 0 {
			r.every = max(r.between(0, d*3/2), 20*ms)
		}
		start := r.now + r.between(d, 3*d)
		end := start + d/2 - 50*ms
		r.down = func(at time.Duration, _ bool) bool { return at >= start && at < end }
		r.writeAt = start - r.between(0, d)
		if r.play(end - r.now + 5*d); r.over() {
			t.Errorf("%v after the outage began", r.at-start)
		}
	}},
	{"a peer that vanishes is found, also without a route to it", 100, playPeerWithoutRoute},
	{"a peer that is heard and gets nothing without a route is lost after twice the time", 100, playHeardPeerWithoutRoute},
	{"an outage shorter than half of D is survived, also without a route for a part of it", 300, playShortLossOfRoute},
	{"a peer that answers and does not read, or little, is neither lost nor given up", 10, func(t *testing.T, r *rig, seed uint64) {
		r.link(time.Duration(seed) * 10 * ms)
		r.readEvery = 0
		if seed%2 == 1 {
			r.readEvery = r.between(time.Second, r.s.Peer) * 2
		}
		r.loss = float64(seed%3) * 0.05
		r.every = r.s.Peer / 20
		if r.play(2 * time.Hour); r.gaveUp != "" || r.loss == 0 && r.over() {
			t.Errorf("after %v", r.now-time.Hour)
		}
	}},
	{"a jump of the clock makes no verdict about a peer that answers", 20, func(t *testing.T, r *rig, seed uint64) {
		d := r.s.Peer
		r.link(50 * ms)
		r.s.Stall, r.s.Idle = d/2, d/2
		r.every, r.beatEvery, r.beatAt = d/80, d/4, r.now
		r.play(r.between(0, 2*d))
		r.now += []time.Duration{d / 4, d * 3 / 4, d * 5 / 4, 15 * d, 24 * time.Hour}[seed%5]
		r.jumped = r.now // the kernel stood still too: everything on its way comes late
		if r.play(5 * d); r.over() {
			t.Errorf("%v after the jump", r.at-r.jumped)
		}
	}},
	{"a connection that is written to all the time is sampled twice in D", 2, func(t *testing.T, r *rig, seed uint64) {
		if r.every = r.s.Peer / 50; seed == 1 { // something is always outstanding
			r.every /= 10
			r.link(2 * r.every)
		}
		if r.play(20 * r.s.Peer); r.over() || r.checks > 2*20+2 {
			t.Errorf("%d checks in 20 · PeerTimeout", r.checks)
		}
	}},
	{"the user timeout stays far ahead of a closed window, and is taken back behind it", 1, func(t *testing.T, r *rig, _ uint64) {
		patience := max(924*time.Second, 4*r.s.Peer)
		r.readEvery = 0
		r.write(200)
		for range 100 {
			r.play(r.s.Peer)
			elapsed := time.Duration(0)
			if r.probesStamp > 0 {
				elapsed = r.now - r.probesStamp
			}
			if left := r.limits.UserTimeout - elapsed; r.over() || left < patience/2 || left > 2*patience {
				t.Errorf("%v left of %v after %v with a closed window", left, r.limits.UserTimeout, elapsed)
				return
			}
		}
		r.readEvery, r.held = time.Nanosecond, 0
		r.answer(false)
		r.play(10*r.s.Peer + 2*r.limits.MaxRTO)
		if r.outstanding() || r.limits.UserTimeout != 0 {
			t.Errorf("outstanding %v, user timeout %v after all was acknowledged", r.outstanding(), r.limits.UserTimeout)
		}
	}},
}

// A window that was closed for a month leaves the kernel its own patience.
func TestUserTimeoutHasAnEnd(t *testing.T) {
	s := Supervisor{Peer: time.Minute}
	i := newKernel(1, 0, limitsFor(time.Minute, oldRTO)).info()
	i.Unsent, i.PeerWindow, i.Backoff = 1, 0, 9
	for _, at := range []time.Duration{0, 30 * 24 * time.Hour} {
		if got := s.userTimeout(stampOf(at), &i); (got == 0) != (at > 0) {
			t.Errorf("after %v: %v", at, got)
		}
	}
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
	if verdicts[Lost] < 100 || verdicts[Stalled] < 100 || verdicts[None] < 100 {
		t.Errorf("the seeds do not play everything: %v", verdicts)
	}
}
