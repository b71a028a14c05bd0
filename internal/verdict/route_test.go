package verdict

import (
	"testing"
	"time"
)

// loseRoute has the local host without a route to the peer for a while: the kernel counts
// retransmissions that it cannot send.
func (r *rig) loseRoute(from, lasts time.Duration) {
	r.unrouted = func(at time.Duration) bool { return at >= from && at < from+lasts }
}

// A peer that vanishes is found also if the local host has no route any more.
func playPeerWithoutRoute(t *testing.T, r *rig, seed uint64) {
	d := r.s.Peer
	r.link(time.Duration(seed) * ms)
	r.every = r.between(20*ms, 2020*ms)
	r.loss = float64(seed%2) * 0.1
	r.play(r.between(0, 3*d))
	r.writeAt = r.now
	r.play(r.delay + 10*ms)
	cut := r.cutAfter(0)
	r.loseRoute(r.now+r.between(0, d/2), time.Hour)
	r.play(cut - r.now + 6*d + 2*r.limits.MaxRTO)
	within := r.within(r.every) + d/4 // it is sampled now and then, not when the kernel tries to send
	if r.loss > 0 {
		within += min(d, r.limits.MaxRTO)
	}
	r.lostWithin(t, cut, within)
}

// A peer that is heard, and gets nothing because there is no route, is lost after twice the
// time, and not sooner.
func playHeardPeerWithoutRoute(t *testing.T, r *rig, seed uint64) {
	d := r.s.Peer
	r.link(time.Duration(seed) * ms)
	r.beatEvery = max(d/time.Duration(2+r.random.IntN(30)), 20*ms)
	r.beatAt = r.now
	r.play(r.between(0, 3*d))
	cut := r.now
	r.down = func(at time.Duration, toPeer bool) bool { return toPeer && at >= cut }
	r.write(1)
	r.loseRoute(cut+1+r.between(0, d), r.between(0, 4*d))
	r.play(8 * d)
	r.lostWithin(t, cut, 2*d+time.Second+min(d, r.limits.MaxRTO))
}

// An outage shorter than half of D is survived, also if there is no route for a part of it.
func playShortLossOfRoute(t *testing.T, r *rig, _ uint64) {
	d := r.s.Peer
	r.link(r.between(0, 100*ms))
	r.every = r.between(20*ms, r.limits.Idle) // keep-alive probes would count for the window probes
	start := r.now + r.between(d, 3*d)
	end := start + d/2 - 50*ms
	r.down = func(at time.Duration, _ bool) bool { return at >= start && at < end }
	from := start + r.between(0, d/2-50*ms)
	r.loseRoute(from, min(end-from, r.between(0, d/2)))
	r.writeAt = start - r.between(0, d)
	if r.play(end - r.now + 5*d); r.over() {
		t.Errorf("%v after the outage began", r.at-start)
	}
}
