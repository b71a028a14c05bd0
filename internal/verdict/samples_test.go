package verdict

import (
	"testing"
	"time"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// A sample is what TCP_INFO shows at a time.
type sample struct {
	at     time.Duration
	info   tcpinfo.Info
	jumped time.Duration // 0 is never
}

// calm has nothing outstanding.
func calm() sample {
	return sample{info: tcpinfo.Info{State: tcpinfo.Open, Full: true, RTT: 10 * ms, RTO: 210 * ms, PeerWindow: 64_000, MSS: 1000, SinceData: time.Hour}}
}

// retransmitting has a segment in flight for the nth time, which was sent at last.
func retransmitting(at time.Duration, n int, last, heard time.Duration) sample {
	s := calm()
	s.at, s.info.InFlight, s.info.Retransmits, s.info.Backoff = at, 1, n, n
	s.info.RTO, s.info.SinceSent, s.info.SinceAck = s.info.RTO<<n, at-last, at-heard
	return s
}

// blocked has data wait behind the peer's closed window, whose probes are answered.
func blocked(at, heard time.Duration) sample {
	s := calm()
	s.at, s.info.Unsent, s.info.PeerWindow, s.info.Backoff = at, 1, 0, 1
	s.info.SinceAck = at - heard
	return s
}

func (s sample) afterJump(jumped time.Duration) sample { s.jumped = jumped; return s }
func (s sample) sacked() sample                        { s.info.Sacked = 1; return s }

// What counts for a verdict is what happened since the peer was last heard, and since the
// clock last jumped.
func TestVerdictCountsNothingFromBefore(t *testing.T) {
	const s = time.Second
	lost, unacked, stall := Supervisor{Peer: 60 * s}, Supervisor{Peer: 10 * s}, Supervisor{Stall: 8 * s}
	longStall := Supervisor{Stall: 60 * s}
	for name, c := range map[string]struct {
		s       Supervisor
		samples []sample
		want    Reason
	}{
		"solicited for long":               {lost, []sample{retransmitting(200*s, 8, 150*s, 110*s)}, Lost},
		"most of it before it was heard":   {lost, []sample{retransmitting(200*s, 8, 150*s, 139*s)}, None},
		"a jump before all of it":          {lost, []sample{retransmitting(200*s, 8, 190*s, 100*s).afterJump(100 * s)}, Lost},
		"most of it before the jump":       {lost, []sample{retransmitting(200*s, 8, 190*s, 100*s).afterJump(185 * s)}, None},
		"the last before the jump":         {lost, []sample{retransmitting(200*s, 8, 180*s, 100*s).afterJump(185 * s)}, None},
		"two samples":                      {lost, []sample{retransmitting(160*s, 7, 150*s, 110*s), retransmitting(200*s, 8, 190*s, 110*s)}, Lost},
		"two samples, a jump between":      {lost, []sample{retransmitting(160*s, 7, 150*s, 110*s), retransmitting(200*s, 8, 190*s, 110*s).afterJump(185 * s)}, None},
		"two samples, heard between":       {lost, []sample{retransmitting(160*s, 7, 150*s, 90*s), retransmitting(235*s, 8, 190*s, 174*s)}, None},
		"nothing sent since the jump":      {lost, []sample{retransmitting(155*s, 0, 149*s, 100*s).afterJump(150 * s), retransmitting(200*s, 1, 185*s, 100*s).afterJump(150 * s)}, None},
		"nothing sent since it was heard":  {lost, []sample{retransmitting(155*s, 0, 149*s, 150*s), retransmitting(215*s, 1, 190*s, 150*s)}, None},
		"unacknowledged for long":          {unacked, []sample{retransmitting(100*s, 1, 99*s, 99*s), retransmitting(130*s, 6, 125*s, 129*s)}, Lost},
		"the same, selectively":            {unacked, []sample{retransmitting(100*s, 1, 99*s, 99*s).sacked(), retransmitting(130*s, 6, 125*s, 129*s).sacked()}, Lost},
		"the same, after a jump":           {unacked, []sample{retransmitting(100*s, 1, 99*s, 99*s).sacked(), retransmitting(130*s, 6, 125*s, 129*s).sacked().afterJump(128 * s)}, None},
		"unacknowledged before the jump":   {unacked, []sample{retransmitting(130*s, 8, 125*s, 129*s).afterJump(112 * s)}, None},
		"unacknowledged before the sample": {unacked, []sample{retransmitting(130*s, 8, 125*s, 129*s)}, Lost},
		"stalled, and told so late":        {stall, []sample{blocked(100*s, 100*s), blocked(103*s, 103*s), blocked(106*s, 103*s), blocked(109*s, 103*s)}, Stalled},
		"told only at the beginning":       {stall, []sample{blocked(100*s, 100*s), blocked(103*s, 101*s), blocked(106*s, 101*s), blocked(109*s, 101*s)}, None},
		"not sampled for long":             {stall, []sample{blocked(100*s, 100*s), blocked(109*s, 103*s)}, None},
		"stalled for a minute":             {longStall, []sample{blocked(100*s, 100*s), blocked(125*s, 120*s), blocked(150*s, 150*s), blocked(161*s, 150*s)}, Stalled},
		"a jump in that minute":            {longStall, []sample{blocked(100*s, 100*s), blocked(125*s, 120*s), blocked(150*s, 150*s), blocked(161*s, 150*s).afterJump(145 * s)}, None},
	} {
		var a Answer
		for _, at := range append([]sample{calm()}, c.samples...) {
			if a.Reason != None {
				t.Errorf("%s: %+v before %v", name, a, at.at)
			}
			l := limitsFor(max(4*s, c.s.Peer), oldRTO)
			a = c.s.Ask(&Evidence{Info: at.info, Counted: true, Asked: at.at, Answered: at.at, Jumped: at.jumped, HasJumped: at.jumped > 0}, &l)
		}
		if a.Reason != c.want {
			t.Errorf("%s: %+v, want %d", name, a, c.want)
		}
	}
}
