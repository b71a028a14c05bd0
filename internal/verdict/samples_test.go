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

// idle has nothing outstanding, and keep-alive probes unanswered.
func idle(at, heard time.Duration, probes int) sample {
	s := calm()
	s.at, s.info.Probes, s.info.SinceAck = at, probes, at-heard
	return s
}

func (s sample) rto(d time.Duration) sample { s.info.RTO = d; return s }
func (s sample) rtt(d time.Duration) sample { s.info.RTT = d; return s }
func (s sample) sacked() sample             { s.info.Sacked = 1; return s }
func (s sample) acked(unasked bool) sample  { s.info.AllAcked, s.info.Unasked = true, unasked; return s }
func (s sample) segments(n uint32) sample   { s.info.Segments = n; return s }

const s = time.Second

type samplesCase struct {
	s       Supervisor
	samples []sample
	want    Reason // for the last of them
}

func askAll(t *testing.T, cases map[string]samplesCase) {
	for name, c := range cases {
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

// What counts for ErrPeerLost is what happened since the peer was last heard, and since
// the clock last jumped.
func TestLostCountsNothingFromBefore(t *testing.T) {
	lost, unacked := Supervisor{Peer: 60 * s}, Supervisor{Peer: 10 * s}
	askAll(t, map[string]samplesCase{
		"solicited for long":              {lost, []sample{retransmitting(200*s, 8, 150*s, 110*s).rto(120 * s)}, Lost},
		"most of it before it was heard":  {lost, []sample{retransmitting(200*s, 8, 165*s, 139*s).rto(80 * s)}, None},
		"a jump before all of it":         {lost, []sample{retransmitting(200*s, 8, 190*s, 100*s).afterJump(100 * s)}, Lost},
		"most of it before the jump":      {lost, []sample{retransmitting(200*s, 8, 190*s, 100*s).afterJump(185 * s)}, None},
		"the last before the jump":        {lost, []sample{retransmitting(200*s, 8, 180*s, 100*s).afterJump(185 * s)}, None},
		"two samples":                     {lost, []sample{retransmitting(160*s, 7, 150*s, 110*s), retransmitting(200*s, 8, 190*s, 110*s)}, Lost},
		"the same count of segments":      {lost, []sample{retransmitting(160*s, 7, 150*s, 110*s).segments(5), retransmitting(200*s, 8, 190*s, 110*s).segments(5)}, Lost},
		"one that moved no age":           {lost, []sample{retransmitting(160*s, 7, 150*s, 110*s).segments(5), retransmitting(200*s, 8, 190*s, 110*s).segments(6)}, None},
		"then none for long":              {lost, []sample{retransmitting(160*s, 7, 150*s, 110*s).segments(5), retransmitting(200*s, 8, 190*s, 110*s).segments(6), retransmitting(270*s, 9, 260*s, 110*s).segments(6)}, Lost},
		"two samples, a jump between":     {lost, []sample{retransmitting(160*s, 7, 150*s, 110*s), retransmitting(200*s, 8, 190*s, 110*s).afterJump(185 * s)}, None},
		"two samples, heard between":      {lost, []sample{retransmitting(160*s, 7, 150*s, 90*s), retransmitting(235*s, 8, 190*s, 174*s)}, None},
		"nothing sent since the jump":     {lost, []sample{retransmitting(155*s, 0, 149*s, 100*s).afterJump(150 * s), retransmitting(200*s, 1, 185*s, 100*s).afterJump(150 * s)}, None},
		"nothing sent since it was heard": {lost, []sample{retransmitting(155*s, 0, 149*s, 150*s), retransmitting(215*s, 1, 190*s, 150*s)}, None},
		"the last one just now":           {lost, []sample{retransmitting(160*s, 7, 150*s, 110*s), retransmitting(200*s, 9, 200*s-100*ms, 110*s).rto(15 * s)}, Lost},
		"the last one just now, and late": {lost, []sample{retransmitting(163*s, 9, 163*s-100*ms, 100*s).rto(30 * s)}, None},
		"the only one just now":           {lost, []sample{retransmitting(160*s, 1, 160*s-100*ms, 90*s).rto(15 * s)}, None},
		// With D of 60 s a probe is sent after 28 s, and then every 2 s.
		"the last probe just now":          {lost, []sample{idle(200*s, 139*s, 16)}, None},
		"that probe had time":              {lost, []sample{idle(200*s, 139*s, 16), idle(200*s+300*ms, 139*s, 16)}, Lost},
		"three probes had no time":         {lost, []sample{idle(200*s, 137*s, 18).rtt(3 * s)}, None},
		"as many, and the peer is nearer":  {lost, []sample{idle(200*s, 137*s, 18)}, Lost},
		"unacknowledged for long":          {unacked, []sample{retransmitting(100*s, 1, 99*s, 99*s), retransmitting(130*s, 6, 125*s, 129*s)}, Lost},
		"the same, selectively":            {unacked, []sample{retransmitting(100*s, 1, 99*s, 99*s).sacked(), retransmitting(130*s, 6, 125*s, 129*s).sacked()}, Lost},
		"the same, after a jump":           {unacked, []sample{retransmitting(100*s, 1, 99*s, 99*s).sacked(), retransmitting(130*s, 6, 125*s, 129*s).sacked().afterJump(128 * s)}, None},
		"unacknowledged before the jump":   {unacked, []sample{retransmitting(130*s, 8, 125*s, 129*s).afterJump(112 * s)}, None},
		"MPTCP acknowledged it elsewhere":  {unacked, []sample{retransmitting(100*s, 1, 99*s, 99*s).acked(false), retransmitting(130*s, 6, 125*s, 129*s).acked(false)}, None},
		"another path is not asked":        {lost, []sample{retransmitting(160*s, 7, 150*s, 110*s).acked(true), retransmitting(200*s, 8, 190*s, 110*s).acked(true)}, None},
		"no other path is left":            {lost, []sample{retransmitting(160*s, 7, 150*s, 110*s).acked(true), retransmitting(200*s, 8, 190*s, 110*s).acked(false)}, Lost},
		"unacknowledged before the sample": {unacked, []sample{retransmitting(130*s, 8, 125*s, 129*s)}, Lost},
	})
}

// What counts for ErrPeerStalled is a window that stays closed for longer than a steady
// reader needs, of which the peer has told.
func TestStalledAllowsForTheWindow(t *testing.T) {
	change := func(m sample, f func(*tcpinfo.Info)) sample { f(&m.info); return m }
	announced := func(window, mss int64) sample {
		return change(calm(), func(i *tcpinfo.Info) { i.PeerWindow, i.MSS = window, mss })
	}
	small := func(at time.Duration, window int64) sample { // below a segment
		return change(blocked(at, at), func(i *tcpinfo.Info) { i.PeerWindow = window })
	}
	probed := func(at, heard time.Duration, inFlight, probes int) sample {
		return change(blocked(at, heard), func(i *tcpinfo.Info) { i.InFlight, i.Probes = inFlight, probes })
	}
	short, steady, stall, longStall := Supervisor{Stall: 2 * s}, Supervisor{Stall: 4 * s}, Supervisor{Stall: 8 * s}, Supervisor{Stall: 60 * s}
	askAll(t, map[string]samplesCase{
		"stalled, and told so late":  {stall, []sample{blocked(100*s, 100*s), blocked(103*s, 103*s), blocked(106*s, 103*s), blocked(109*s, 103*s)}, Stalled},
		"told only at the beginning": {stall, []sample{blocked(100*s, 100*s), blocked(103*s, 101*s), blocked(106*s, 101*s), blocked(109*s, 101*s)}, None},
		"not sampled for long":       {stall, []sample{blocked(100*s, 100*s), blocked(109*s, 103*s)}, None},
		"stalled for a minute":       {longStall, []sample{blocked(100*s, 100*s), blocked(125*s, 120*s), blocked(150*s, 150*s), blocked(161*s, 150*s)}, Stalled},
		"a jump in that minute":      {longStall, []sample{blocked(100*s, 100*s), blocked(125*s, 120*s), blocked(150*s, 150*s), blocked(161*s, 150*s).afterJump(145 * s)}, None},
		// A peer that reads 100 kB/s may take so long to open a window that was so large.
		"a small buffer":                   {steady, []sample{announced(64_000, 1000), blocked(100*s, 100*s), blocked(102*s, 102*s), blocked(104*s, 102*s)}, Stalled},
		"a buffer of 2.4 MB":               {steady, []sample{announced(2_400_000, 1000), blocked(100*s, 100*s), blocked(102*s, 102*s), blocked(104*s, 102*s), blocked(105*s, 102*s)}, None},
		"the same, later smaller":          {steady, []sample{announced(2_400_000, 1000), announced(64_000, 1000), blocked(100*s, 100*s), blocked(102*s, 102*s), blocked(104*s, 102*s), blocked(105*s, 102*s)}, None},
		"a buffer of 2 MB in large pieces": {steady, []sample{announced(2_000_000, 32<<10), change(blocked(100*s, 100*s), func(i *tcpinfo.Info) { i.MSS = 32 << 10 }), blocked(102*s, 102*s), change(blocked(104*s, 103*s), func(i *tcpinfo.Info) { i.MSS = 32 << 10 })}, None},
		"a short time-out, 6.4 MB":         {short, []sample{announced(6_400_000, 1000), blocked(100*s, 100*s), blocked(101*s, 101*s), blocked(102*s, 102*s), blocked(103*s, 103*s)}, None},
		"a short time-out":                 {short, []sample{announced(64_000, 1000), blocked(100*s, 100*s), blocked(101*s, 101*s), blocked(102*s, 102*s)}, Stalled},
		"a window that grows a little":     {steady, []sample{small(100*s, 1), small(102*s, 1), small(104*s, 2), small(105*s, 2)}, None},
		"a window that does not":           {steady, []sample{small(100*s, 1), small(102*s, 1), small(104*s, 1)}, Stalled},
		"blocked only at the end":          {steady, []sample{retransmitting(100*s, 0, 100*s, 100*s), retransmitting(102*s, 0, 102*s, 102*s), blocked(104*s, 104*s), blocked(105*s, 105*s)}, None},
		"retransmissions unanswered":       {steady, []sample{probed(100*s, 100*s, 1, 0), probed(102*s, 102*s, 1, 0), probed(104*s, 103*s, 1, 0)}, None},
		"one probe unanswered so far":      {steady, []sample{blocked(100*s, 100*s), blocked(102*s, 102*s), probed(104*s, 103*s, 0, 1)}, None},
		"two probes unanswered":            {steady, []sample{blocked(100*s, 100*s), blocked(102*s, 102*s), probed(104*s, 103*s, 0, 2)}, None},
	})
}

// A verdict that is not due yet asks again when it may be, and when it must be known since
// when the kernel has solicited an answer.
func TestLostAsksAgain(t *testing.T) {
	const d = 60 * s
	now, l := stampOf(200*s), limitsFor(d, oldRTO)
	inFlight := func(silence, sent, rto time.Duration) tcpinfo.Info {
		return tcpinfo.Info{InFlight: 1, Retransmits: 1, RTT: 10 * ms, RTO: rto, SinceAck: silence, SinceData: silence, SinceSent: sent}
	}
	for name, c := range map[string]struct {
		i         tcpinfo.Info
		solicited time.Duration // since the first; 0 is not known
		want      time.Duration
	}{
		"heard just now":                  {tcpinfo.Info{InFlight: 1, RTT: 10 * ms, RTO: s, SinceAck: 5 * s, SinceData: 5 * s, SinceSent: s}, s, 25 * s},
		"retransmitted since":             {inFlight(5*s, s, s), s, d / 8},
		"heard an eighth of D ago":        {inFlight(8*s, s, s), s, d / 8},
		"heard almost half of D ago":      {inFlight(29*s, s, s), s, d / 8},
		"nothing sent, D not over":        {inFlight(55*s, 54*s, s), 0, 5*s + TickSlack},
		"nothing sent, due":               {inFlight(61*s, 60*s, s), 0, s / 4},
		"nothing sent, due much later":    {inFlight(61*s, 10*s, d), 0, d / 8},
		"solicited for long, D not over":  {inFlight(55*s, 5*s, 15*s), 54 * s, 5*s + TickSlack},
		"solicited shortly, D not over":   {inFlight(58*s, 5*s, 8*s), 20 * s, 3*s + s/4 + TickSlack},
		"the next is due after D":         {inFlight(61*s, 5*s, 8*s), 20 * s, 3*s + s/4 + TickSlack},
		"the next is due very much later": {inFlight(61*s, 5*s, 100*s), 20 * s, d / 8},
	} {
		sup, a := Supervisor{Peer: d}, Answer{}
		if c.solicited > 0 {
			sup.first = now.add(-c.solicited)
		}
		if sup.askLost(now, &c.i, &l, &a) || a.Again != c.want+TickSlack {
			t.Errorf("%s: %+v, want %v", name, a, c.want+TickSlack)
		}
	}
}
