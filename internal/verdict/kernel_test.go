package verdict

import (
	"math/rand/v2"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// A fakeKernel is the local kernel, the link and the peer, in segments, with a time of its
// own. Its rules are those of Linux: tcp_retransmit_timer, tcp_probe_timer and
// tcp_keepalive_timer in net/ipv4/tcp_timer.c, tcp_ack in tcp_input.c.
type fakeKernel struct {
	now    time.Duration
	random *rand.Rand

	// The link. down reports whether a segment that is sent at a time gets lost.
	delay      time.Duration // one way
	loss       float64       // each way
	down       func(at time.Duration, toPeer bool) bool
	unrouted   func(at time.Duration) bool // the local host has no route to the peer
	packets    []packet
	arrived    time.Duration // when the last segment arrived from the peer
	progressed time.Duration // when the last new acknowledgement arrived
	repeated   bool          // segments that move no age have arrived
	solicited  time.Duration // when the last segment was sent to the peer, or found no route

	// The peer.
	capacity, held int
	overhead       bool         // half of its buffer is for overhead, and none is needed
	got            map[int]bool // the segments that it has
	next           int          // the next segment in order
	readEvery      time.Duration
	readAt         time.Duration
	beatEvery      time.Duration // it sends a segment itself
	beatAt         time.Duration

	// The socket's options.
	limits keepalive.Limits

	// The local kernel.
	unsent, una, nxt      int
	edge                  int // the first segment that the peer's window does not allow
	cwnd                  int
	sacked                uint64 // the segments behind una that the peer has
	delivered             uint32
	recoverTo             int // the end of the recovery; 0 is none
	retransStamp          time.Duration
	probesStamp           time.Duration
	retransmits, probes   int
	backoff               int
	rto                   time.Duration
	heard, data, sent     time.Duration
	segments              uint32        // that arrived
	retransmitAt, probeAt time.Duration // 0 is never
	keepAliveAt           time.Duration
	gaveUp                string
}

type packet struct {
	at     time.Duration
	toPeer bool
	seq    int // of the segment to the peer; -1 for a probe
	ack    int
	window int
	sacked uint64
	data   bool // the peer sends data
}

func newKernel(seed uint64, delay time.Duration, limits keepalive.Limits) *fakeKernel {
	k := &fakeKernel{
		now: time.Hour, random: rand.New(rand.NewPCG(seed, 1)), delay: delay, limits: limits,
		capacity: 64, edge: 64, cwnd: 10, got: map[int]bool{}, readEvery: time.Nanosecond,
		down:     func(time.Duration, bool) bool { return false },
		unrouted: func(time.Duration) bool { return false },
	}
	k.heard, k.data, k.sent, k.arrived, k.progressed = k.now, k.now, k.now, k.now, k.now
	k.rto = k.baseRTO()
	k.keepAliveAt = k.now + limits.Idle
	return k
}

func (k *fakeKernel) baseRTO() time.Duration {
	return min(2*k.delay+keepalive.MinRTO, k.limits.MaxRTO)
}

// late returns when a timer fires that is set for d: up to an eighth later.
func (k *fakeKernel) late(d time.Duration) time.Duration {
	return k.now + d + time.Duration(k.random.Float64()*float64(d)/8)
}

func (k *fakeKernel) inFlight() int     { return k.nxt - k.una }
func (k *fakeKernel) outstanding() bool { return k.unsent > 0 || k.inFlight() > 0 }

func (k *fakeKernel) send(p packet) {
	if p.toPeer {
		k.solicited = k.now
	}
	if !k.down(k.now, p.toPeer) && !(p.toPeer && k.unrouted(k.now)) && k.random.Float64() >= k.loss {
		p.at = k.now + k.delay
		k.packets = append(k.packets, p)
	}
}

// transmit sends a segment. Without a route it moves no age.
func (k *fakeKernel) transmit(seq int) {
	if !k.unrouted(k.now) {
		k.sent = k.now
	}
	k.send(packet{toPeer: true, seq: seq})
}

func (k *fakeKernel) write(n int) {
	k.unsent += n
	k.push()
}

// push sends what the windows allow, or has the peer's window probed.
func (k *fakeKernel) push() {
	for k.unsent > 0 && k.nxt < k.edge && k.inFlight() < k.cwnd && k.recoverTo == 0 && !k.unrouted(k.now) {
		k.transmit(k.nxt)
		k.nxt, k.unsent = k.nxt+1, k.unsent-1
		if k.retransmitAt == 0 {
			k.retransmitAt = k.late(k.rto)
		}
	}
	if k.inFlight() == 0 && k.unsent > 0 && k.probeAt == 0 {
		k.probeAt = k.late(k.rto << k.backoff)
	}
}

// due returns when something happens next.
func (k *fakeKernel) due() time.Duration {
	next := time.Duration(1 << 62)
	for _, at := range []time.Duration{k.retransmitAt, k.probeAt, k.keepAliveAt, k.readAt, k.beatAt} {
		if at > 0 {
			next = min(next, at)
		}
	}
	for _, p := range k.packets {
		next = min(next, p.at)
	}
	return max(next, k.now)
}

// run lets time pass.
func (k *fakeKernel) run(until time.Duration) {
	for k.gaveUp == "" && k.due() <= until {
		k.now = k.due()
		k.happen()
	}
	k.now = max(k.now, until)
}

func (k *fakeKernel) happen() {
	for n := 0; n < len(k.packets); n++ {
		if p := k.packets[n]; p.at <= k.now {
			k.packets = append(k.packets[:n], k.packets[n+1:]...)
			n--
			if p.toPeer {
				k.peerReceives(p.seq)
			} else {
				k.receive(p)
			}
		}
	}
	if k.readAt > 0 && k.readAt <= k.now {
		k.peerReads()
	}
	if k.beatAt > 0 && k.beatAt <= k.now {
		k.beatAt = k.now + k.beatEvery
		k.answer(true)
	}
	if k.retransmitAt > 0 && k.retransmitAt <= k.now {
		k.retransmit()
	}
	if k.probeAt > 0 && k.probeAt <= k.now {
		k.probe()
	}
	if k.keepAliveAt > 0 && k.keepAliveAt <= k.now {
		k.keepAlive()
	}
}

func (k *fakeKernel) peerReceives(seq int) {
	if seq >= 0 && k.held < k.capacity {
		if seq >= k.next {
			k.got[seq] = true
		}
		for k.got[k.next] && k.held < k.capacity {
			delete(k.got, k.next)
			k.next, k.held = k.next+1, k.held+1
		}
		if k.readEvery == time.Nanosecond {
			k.held = 0
		} else if k.readEvery > 0 && k.readAt == 0 {
			k.readAt = k.now + k.readEvery
		}
	}
	k.answer(false)
}

// window returns what the peer announces; see __tcp_select_window.
func (k *fakeKernel) window() int {
	free := k.capacity - k.held
	switch {
	case free < max(1, k.capacity/16):
		return 0
	case k.overhead: // tcp_adv_win_scale of 1
		return (free + 1) / 2
	default:
		return free
	}
}

func (k *fakeKernel) peerReads() {
	before := k.window()
	k.held = max(0, k.held-1)
	k.readAt = k.now + k.readEvery
	if before == 0 && k.window() > 0 {
		k.answer(false)
	}
}

func (k *fakeKernel) answer(data bool) {
	p := packet{ack: k.next, window: k.window(), data: data}
	for n := range 64 {
		if k.got[k.next+n] {
			p.sacked |= 1 << n
		}
	}
	k.send(p)
}

func (k *fakeKernel) receive(p packet) {
	k.heard, k.arrived, k.probes = k.now, k.now, 0
	k.segments++
	if p.data {
		k.data = k.now
	}
	if p.ack < k.una {
		return
	}
	k.edge = max(k.edge, p.ack+p.window)
	if p.window == 0 {
		k.edge = p.ack
	}
	progress := p.ack - k.una
	k.acknowledge(p)
	if progress > 0 {
		k.retransmits, k.backoff, k.rto = 0, 0, k.baseRTO()
		k.retransmitAt = 0
		if k.inFlight() > 0 {
			k.retransmitAt = k.late(k.rto)
		}
		k.cwnd = min(k.cwnd+1, 32)
	}
	switch {
	case k.recoverTo > 0 && k.una >= k.recoverTo, k.inFlight() == 0:
		k.recoverTo, k.retransStamp = 0, 0
	case k.recoverTo > 0 && progress > 0, k.recoverTo == 0 && p.sacked>>3 != 0:
		k.enterRecovery()
		k.transmit(k.una)
	}
	if k.nxt < k.edge && k.probeAt > 0 {
		k.probeAt, k.backoff, k.probesStamp = 0, 0, 0
	}
	k.push()
}

// acknowledge takes over what the peer has.
func (k *fakeKernel) acknowledge(p packet) {
	before := k.delivered
	old := k.sacked
	for ; k.una < p.ack; k.una++ {
		if old&1 == 0 {
			k.delivered++
		}
		old >>= 1
	}
	for n := range 64 {
		if p.sacked&^old>>n&1 != 0 {
			k.delivered++
		}
	}
	k.sacked = old | p.sacked
	if k.delivered != before {
		k.progressed = k.now
	}
}

// receiveRepeated receives a segment that the peer sent before, which moves no age (tcp_validate_incoming).
func (k *fakeKernel) receiveRepeated() {
	k.segments++
	k.arrived, k.repeated = k.now, true
}

func (k *fakeKernel) enterRecovery() {
	if k.recoverTo == 0 {
		k.recoverTo = k.nxt
	}
	if k.retransStamp == 0 {
		k.retransStamp = k.now
	}
}

func (k *fakeKernel) retransmit() {
	patience := k.limits.UserTimeout
	if k.edge <= k.una { // tcp_rtx_probe0_timed_out
		if patience == 0 {
			patience = 2 * k.limits.MaxRTO
		}
		if k.now-k.heard > patience && k.now-k.sent < k.now-k.heard {
			k.gaveUp = "retransmissions into a closed window"
			return
		}
		k.enterRecovery()
		k.transmit(k.una)
		k.rto = min(2*k.rto, k.limits.MaxRTO)
		k.retransmitAt = k.late(k.rto)
		return
	}
	if patience == 0 {
		patience = keepalive.RetransmitTime(keepalive.DefaultRetries2, k.limits.MaxRTO)
	}
	if k.retransmits > 0 && k.now-k.retransStamp >= patience {
		k.gaveUp = "retransmissions"
		return
	}
	k.enterRecovery()
	k.cwnd = 1
	k.transmit(k.una)
	k.retransmits, k.backoff = k.retransmits+1, k.backoff+1
	k.rto = min(2*k.rto, k.limits.MaxRTO)
	k.retransmitAt = k.late(k.rto)
}

func (k *fakeKernel) probe() {
	if k.probesStamp == 0 {
		k.probesStamp = k.now
	}
	if t := k.limits.UserTimeout; t > 0 && k.now-k.probesStamp > t || k.probes >= keepalive.DefaultRetries2 {
		k.gaveUp = "window probes"
		return
	}
	k.probes, k.backoff = k.probes+1, min(k.backoff+1, keepalive.DefaultRetries2)
	k.probeAt = k.late(min(k.rto<<k.backoff, k.limits.MaxRTO))
	k.send(packet{toPeer: true, seq: -1})
}

func (k *fakeKernel) keepAlive() {
	silence := k.now - max(k.heard, k.data)
	switch t := k.limits.UserTimeout; {
	case !k.limits.On:
		k.keepAliveAt = 0
	case k.outstanding():
		k.keepAliveAt = k.late(k.limits.Idle)
	case silence < k.limits.Idle:
		k.keepAliveAt = k.late(k.limits.Idle - silence)
	case t == 0 && k.probes >= k.limits.Count, t > 0 && silence >= t && k.probes > 0:
		k.gaveUp = "keep-alive"
	default:
		k.probes++
		k.keepAliveAt = k.late(k.limits.Interval)
		k.send(packet{toPeer: true, seq: -1})
	}
}

// info is what TCP_INFO shows, as coarse as there.
func (k *fakeKernel) info() tcpinfo.Info {
	const tick = 4 * time.Millisecond
	age := func(at time.Duration) time.Duration { return k.now.Truncate(tick) - at.Truncate(tick) }
	sacked := 0
	for n := range 64 {
		sacked += int(k.sacked >> n & 1)
	}
	return tcpinfo.Info{
		State: tcpinfo.Open, Full: true,
		SinceAck: age(k.heard), SinceData: age(k.data), SinceSent: age(k.sent), RTT: 2 * k.delay, RTO: k.rto,
		Retransmits: k.retransmits, Probes: k.probes, Backoff: k.backoff, Recovering: k.recoverTo > 0,
		InFlight: k.inFlight(), Sacked: sacked, Unsent: int64(k.unsent) * 1000, Sent: int64(k.nxt) * 1000, Acked: int64(k.una) * 1000,
		Delivered: k.delivered, Segments: k.segments, PeerWindow: int64(max(0, k.edge-k.una)) * 1000, OurWindow: 1 << 16, MSS: 1000, PeerMSS: 1460,
	}
}
