package verdict

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// An otherEnd is our kernel, the cable and the peer, reduced to what TCP_INFO shows
// of them, in a time of its own. The rules are those of Linux: tcp_keepalive_timer,
// tcp_retransmit_timer and tcp_probe_timer in net/ipv4/tcp_timer.c, tcp_ack and
// tcp_ack_probe in tcp_input.c. It is copied to explore what may happen next.
type otherEnd struct {
	now time.Duration

	// What the application asked for, and what the library set.
	limit          time.Duration // TCP_RTO_MAX_MS
	idle, interval time.Duration // of the keep-alive
	probesAllowed  int

	// The world.
	cut     bool          // nothing arrives, in either direction
	reading bool          // the peer's program takes what comes
	travel  time.Duration // from a segment to the answer to it
	held    int           // what the peer's buffer holds
	answers [4]answer     // on their way

	// The kernel.
	unsent, flight        int
	sent, acked           int64
	window                int
	heard, data           time.Duration
	retransmits, probes   int
	backoff               int
	retransmitAt, probeAt time.Duration // 0 is never
	keepAliveAt           time.Duration
	givenUp               bool // by the kernel
}

// peerBuffer is how many segments the peer's buffer holds.
const peerBuffer = 2

type answer struct {
	at     time.Duration // 0 is none
	window int
	acks   bool // what was in flight
}

const firstRTO = 200 * time.Millisecond

func newOtherEnd(limit time.Duration, k net.KeepAliveConfig, travel time.Duration) otherEnd {
	e := otherEnd{now: time.Hour, limit: limit, idle: k.Idle, interval: k.Interval, probesAllowed: k.Count, travel: travel, reading: true, window: peerBuffer}
	e.heard, e.data = e.now, e.now
	e.keepAliveAt = e.now + e.idle
	return e
}

func (e *otherEnd) outstanding() bool { return e.unsent > 0 || e.flight > 0 }

func (e *otherEnd) rto() time.Duration { return min(firstRTO<<min(e.backoff, 20), e.limit) }

// write is one segment's worth.
func (e *otherEnd) write() {
	e.unsent++
	e.push()
}

// push sends what the window lets through, or has it probed.
func (e *otherEnd) push() {
	n := min(e.unsent, e.window-e.flight)
	if n > 0 {
		e.unsent -= n
		e.flight += n
		e.sent += int64(n)
		e.transmit(n)
		if e.retransmitAt == 0 {
			e.backoff = 0
			e.retransmitAt = e.now + e.rto()
		}
	} else if e.flight == 0 && e.unsent > 0 && e.probeAt == 0 {
		e.backoff = 0
		e.probeAt = e.now + e.rto()
	}
}

// transmit has n segments arrive at the peer, and its answer be on the way. With
// none, it is a probe.
func (e *otherEnd) transmit(n int) {
	if e.cut {
		return
	}
	e.held = min(e.held+n, peerBuffer)
	if e.reading {
		e.held = 0
	}
	e.answer(n > 0)
}

func (e *otherEnd) answer(acks bool) {
	for i := range e.answers {
		if a := &e.answers[i]; a.at == 0 {
			*a = answer{at: e.now + e.travel, window: peerBuffer - e.held, acks: acks}
			return
		}
	}
}

func (e *otherEnd) read(on bool) {
	e.reading = on
	if on && e.held > 0 {
		e.held = 0
		if !e.cut {
			e.answer(false)
		}
	}
}

// next is when something happens in the kernel.
func (e *otherEnd) next() time.Duration {
	next := time.Duration(1 << 62)
	for _, at := range []time.Duration{e.retransmitAt, e.probeAt, e.keepAliveAt} {
		if at > 0 {
			next = min(next, at)
		}
	}
	for _, a := range e.answers {
		if a.at > 0 {
			next = min(next, a.at)
		}
	}
	return next
}

// run goes on until then.
func (e *otherEnd) run(until time.Duration) {
	for !e.givenUp && e.next() <= until {
		e.now = max(e.now, e.next()) // after a jump it is late
		e.happen()
	}
	e.now = until
}

func (e *otherEnd) happen() {
	for i := range e.answers {
		if a := e.answers[i]; a.at > 0 && a.at <= e.now {
			e.answers[i] = answer{}
			if !e.cut {
				e.hear(a)
			}
		}
	}
	if at := e.retransmitAt; at > 0 && at <= e.now {
		e.retransmits++
		e.backoff++
		e.retransmitAt = e.now + e.rto()
		e.transmit(e.flight)
	}
	if at := e.probeAt; at > 0 && at <= e.now {
		e.probes++
		e.backoff++
		e.probeAt = e.now + e.rto()
		e.transmit(0)
	}
	if e.keepAliveAt <= e.now {
		silence := e.now - max(e.heard, e.data)
		switch {
		case e.outstanding():
			e.keepAliveAt = e.now + e.idle
		case silence < e.idle:
			e.keepAliveAt = e.now + e.idle - silence
		case e.probes >= e.probesAllowed:
			e.givenUp = true
		default:
			e.probes++
			e.keepAliveAt = e.now + e.interval
			e.transmit(0)
		}
	}
}

func (e *otherEnd) hear(a answer) {
	e.heard = e.now
	e.probes = 0
	if a.acks && e.flight > 0 {
		e.acked += int64(e.flight)
		e.flight, e.retransmits, e.backoff, e.retransmitAt = 0, 0, 0, 0
	}
	e.window = a.window
	if e.probeAt > 0 {
		if e.window > 0 {
			e.probeAt, e.backoff = 0, 0
		} else {
			e.probeAt = e.now + e.rto()
		}
	}
	if e.unsent > 0 {
		e.push()
	}
}

// info is what TCP_INFO shows, as coarse as there.
func (e *otherEnd) info() tcpinfo.Info {
	const tick = 4 * time.Millisecond
	age := func(at time.Duration) time.Duration { return e.now.Truncate(tick) - at.Truncate(tick) }
	return tcpinfo.Info{
		State: tcpinfo.Open, Full: true,
		SinceAck: age(e.heard), SinceData: age(e.data), SinceSent: time.Hour, RTT: e.travel, RTO: e.rto(),
		Retransmits: e.retransmits, Probes: e.probes, Backoff: e.backoff,
		InFlight: e.flight, Unsent: int64(e.unsent), Sent: e.sent, Acked: e.acked,
		PeerWindow: int64(e.window), OurWindow: 1 << 16, PeerMSS: 1460,
	}
}

// A supervisor asks the questions when they want to be asked, as Conn.check does.
type supervisor struct {
	peer, stall time.Duration

	end    otherEnd
	asks   Supervisor
	awake  bool
	due    time.Duration // 0 is never
	jumped time.Duration

	verdict error
	at      time.Duration // of the verdict

	// To judge the verdict by.
	cutSince time.Duration // the first outage after which nothing was heard; 0 if there is none
	mended   time.Duration // when the last one ended
	closed   time.Duration // since when the peer's program has taken nothing
	opened   time.Duration // when it last began to take them
}

// epoch makes a time of what the model counts.
var epoch = time.Unix(1e9, 0)

func (s *supervisor) time(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return epoch.Add(d)
}

func (s *supervisor) pace() time.Duration {
	s.asks.Peer, s.asks.Stall = s.peer, s.stall
	return s.asks.Pace()
}

func (s *supervisor) mark() {
	if !s.awake {
		s.awake = true
		if at := s.end.now + s.pace(); s.due == 0 || at < s.due {
			s.due = at
		}
	}
}

func (s *supervisor) check() {
	now := s.end.now
	if now-s.due > late {
		s.jumped = now
	}
	s.due, s.awake = 0, false
	s.asks.Peer, s.asks.Stall = s.peer, s.stall
	e := Evidence{Info: s.end.info(), Counted: true, Asked: s.time(now), Answered: s.time(now)}
	a := s.asks.Ask(&e, s.time(s.jumped), &keepalive.Limits{Idle: s.end.idle, Interval: s.end.interval, MaxRTO: s.end.limit})
	s.awake = a.Awake
	switch {
	case a.Reason != None:
		s.verdict, s.at = map[Reason]error{Lost: errLost, Stalled: errStalled}[a.Reason], now
	case a.Again > 0:
		s.due = now + max(a.Again, time.Millisecond)
	}
}

// run lets time pass, and asks when it is time.
func (s *supervisor) run(d time.Duration) {
	until := s.end.now + d
	for s.verdict == nil && !s.end.givenUp && s.due > 0 && s.due <= until {
		s.end.run(max(s.due, s.end.now))
		if !s.end.givenUp {
			s.check()
		}
	}
	if s.verdict == nil && !s.end.givenUp {
		s.end.run(max(until, s.end.now))
	}
}

// A deed is what may happen next.
type deed struct {
	name string
	do   func(*supervisor)
}

var deeds = []deed{
	{"wait", func(s *supervisor) {}},
	{"write", (*supervisor).write},
	{"cut", (*supervisor).cut},
	{"cut and write", func(s *supervisor) { s.cut(); s.write() }},
	{"mend", func(s *supervisor) {
		s.end.cut = false
		s.mended = s.end.now
	}},
	{"stop reading", func(s *supervisor) {
		s.end.read(false)
		s.closed = s.end.now
	}},
	{"read", func(s *supervisor) {
		s.end.read(true)
		s.closed, s.opened = 0, s.end.now
	}},
	{"jump", func(s *supervisor) { s.end.now += 20*time.Second + 2*s.peer }},
}

func (s *supervisor) write() {
	s.end.write()
	s.mark()
}

func (s *supervisor) cut() {
	s.end.cut = true
	if s.cutSince == 0 || s.end.heard > s.mended {
		s.cutSince = s.end.now
	}
}

// possible says whether it makes sense.
func (d *deed) possible(s *supervisor) bool {
	switch d.name {
	case "cut":
		return !s.end.cut
	case "mend":
		return s.end.cut
	case "stop reading":
		return s.end.reading
	case "read":
		return !s.end.reading
	case "write":
		return s.end.unsent < 3
	case "cut and write":
		return !s.end.cut && s.end.unsent < 3
	}
	return true
}

// TestSupervisor plays all sequences of what may happen to a connection, to a small
// depth, and then lets the peer stay there or stay away.
func TestSupervisor(t *testing.T) {
	t.Parallel()
	deep := 6
	switch {
	case slowBuild():
		deep = 4
	case os.Getenv("LIVENESS_STORM") != "":
		deep = 8
	}
	hour := net.KeepAliveConfig{Enable: true, Idle: time.Hour, Interval: time.Minute, Count: 9}
	for _, c := range []struct {
		name        string
		peer, stall time.Duration
		limit       time.Duration
		keepAlive   net.KeepAliveConfig
		step        time.Duration
	}{
		{"4 s", 4 * time.Second, 0, keepalive.RTOLimit(4*time.Second, 15), keepalive.For(4 * time.Second), 700 * time.Millisecond},
		{"7 s", 7 * time.Second, 0, keepalive.RTOLimit(7*time.Second, 15), keepalive.For(7 * time.Second), 1700 * time.Millisecond},
		{"60 s", time.Minute, 0, keepalive.RTOLimit(time.Minute, 15), keepalive.For(time.Minute), 11 * time.Second},
		{"60 s, own keep-alive", time.Minute, 0, keepalive.RTOLimit(time.Minute, 15), hour, 23 * time.Second},
		{"8 s, own keep-alive", 8 * time.Second, 0, keepalive.RTOLimit(8*time.Second, 15), hour, 1900 * time.Millisecond},
		{"20 s, own keep-alive", 20 * time.Second, 0, keepalive.RTOLimit(20*time.Second, 15), hour, 4900 * time.Millisecond},
		{"4 s, old kernel", 4 * time.Second, 0, keepalive.MaxRTO, keepalive.For(4 * time.Second), 1100 * time.Millisecond},
		{"4 s, old kernel, for long", 4 * time.Second, 0, keepalive.MaxRTO, keepalive.For(4 * time.Second), 25 * time.Second},
		{"4 s and stalled 2 s", 4 * time.Second, 2 * time.Second, keepalive.RTOLimit(4*time.Second, 15), keepalive.For(4 * time.Second), 900 * time.Millisecond},
		{"stalled 2 s", 0, 2 * time.Second, keepalive.MaxRTO, hour, 900 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var sequence []string
			played, verdicts := 0, map[error]int{}
			var explore func(s *supervisor, depth int)
			explore = func(s *supervisor, depth int) {
				if t.Failed() {
					return
				}
				if s.verdict != nil || s.end.givenUp || depth == 0 {
					played++
					last := *s
					last.finish(t, sequence)
					verdicts[last.verdict]++
					return
				}
				for i := range deeds {
					d := &deeds[i]
					if !d.possible(s) || d.name == "jump" && slices.Contains(sequence, "jump") {
						continue
					}
					next := *s
					d.do(&next)
					next.run(c.step)
					sequence = append(sequence, d.name)
					next.judge(t, sequence)
					explore(&next, depth-1)
					sequence = sequence[:len(sequence)-1]
				}
			}
			s := &supervisor{peer: c.peer, stall: c.stall, end: newOtherEnd(c.limit, c.keepAlive, 100*time.Millisecond)}
			explore(s, deep)
			t.Logf("%d sequences; %d lost, %d stalled", played, verdicts[errLost], verdicts[errStalled])
		})
	}
}

// judge checks that a verdict, or the kernel's own, is right.
func (s *supervisor) judge(t *testing.T, sequence []string) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s: %s\n%+v", strings.Join(sequence, ", "), fmt.Sprintf(format, args...), s.end)
	}
	at := s.at
	switch {
	case s.end.givenUp:
		at = s.end.now
	case s.verdict == errStalled:
		switch {
		case s.closed == 0 && s.end.heard-s.end.travel >= s.opened: // that it reads had arrived here
			fail("a peer that reads was stalled")
		case s.closed > 0 && at-s.closed < s.stall:
			fail("stalled after %v of %v", at-s.closed, s.stall)
		}
		return
	case s.verdict == nil:
		return
	}
	if !s.end.cut {
		if s.cutSince == 0 || s.end.heard > s.mended {
			fail("a live peer was lost")
			return
		}
		at = s.mended
	}
	if at-s.cutSince < s.peer/2 {
		fail("lost in an outage of %v, which is less than half of %v", at-s.cutSince, s.peer)
	}
}

// finish lets all be well and checks that nothing is told, and lets the present
// state last and checks that it is told in time.
func (s *supervisor) finish(t *testing.T, sequence []string) {
	t.Helper()
	if s.verdict != nil || s.end.givenUp {
		return
	}
	within := s.peer + s.peer/4 + time.Second
	if s.end.limit > s.peer/4 {
		// What is said of kernels that leave more time between two probes.
		l := keepalive.Limits{On: true, Idle: s.end.idle, Interval: s.end.interval, Count: s.end.probesAllowed, MaxRTO: s.end.limit, Retries: keepalive.DefaultRetries2}
		within = l.DetectWithin(s.peer)
	}
	well := *s
	if well.end.cut {
		well.end.cut, well.mended = false, well.end.now
	}
	well.end.read(true)
	well.closed, well.opened = 0, well.end.now
	well.run(3 * max(within, s.stall))
	well.judge(t, append(sequence, "all is well"))
	if well.verdict == nil && well.end.outstanding() && s.end.limit < time.Minute {
		t.Errorf("the model is wrong: %s: %+v", strings.Join(sequence, ", "), well.end)
	}

	if s.peer > 0 && s.end.cut && s.end.outstanding() {
		// At the latest, everything began just now.
		s.run(within)
		s.judge(t, sequence)
		if s.verdict == nil && !s.end.givenUp {
			t.Errorf("%s: not lost within %v of outage\n%+v", strings.Join(sequence, ", "), s.end.now-s.cutSince, s.end)
		}
		return
	}
	if s.stall > 0 && !s.end.cut && !s.end.reading && s.end.unsent > 0 {
		acked := s.end.acked
		s.run(s.stall + s.stall/10 + time.Second)
		s.judge(t, sequence)
		if s.verdict != errStalled && s.end.limit < time.Minute && s.end.acked == acked {
			t.Errorf("%s: not stalled within %v: %v\n%+v", strings.Join(sequence, ", "), s.end.now-s.closed, s.verdict, s.end)
		}
	}
}

// A peer that answers is never lost nor stalled, whatever the machine does to the
// clock between two of its questions.
func TestJumps(t *testing.T) {
	t.Parallel()
	for _, load := range []string{"in flight", "closed window"} {
		for _, stall := range []time.Duration{0, 2 * time.Second} {
			for _, jump := range []time.Duration{0, time.Second / 2, 999 * time.Millisecond, 1001 * time.Millisecond, 3 * time.Second, 5 * time.Second, time.Minute, 24 * time.Hour} {
				// In steps of the clock's coarsest: before, at, and after each question.
				for offset := time.Duration(0); offset < 8*time.Second; offset += 130 * time.Millisecond {
					s := &supervisor{peer: 4 * time.Second, stall: stall, end: newOtherEnd(time.Second, keepalive.For(4*time.Second), 100*time.Millisecond)}
					if load == "closed window" {
						s.end.read(false)
						s.closed = s.end.now
						for range 2 {
							s.write()
							s.run(time.Second / 2)
						}
					}
					for s.end.now < time.Hour+offset && s.verdict == nil {
						s.write()
						s.run(min(50*time.Millisecond, time.Hour+offset-s.end.now))
						if s.end.unsent > 2 {
							s.end.unsent = 2
						}
					}
					if closed := s.end.now + min(jump, late) + 2*s.end.travel - s.closed; load == "closed window" && stall > 0 && closed >= stall {
						continue // it is right to be stalled
					}
					s.end.now += jump
					if load == "closed window" && stall > 0 {
						s.end.read(true) // and it takes what it was kept from
						s.closed = 0
					}
					for range 200 {
						s.write()
						s.run(50 * time.Millisecond)
						s.end.unsent = min(s.end.unsent, 2)
					}
					if s.verdict != nil || s.end.givenUp {
						t.Fatalf("%s, StallTimeout %v, a jump of %v after %v: %v %v later", load, stall, jump, offset, s.verdict, s.at-time.Hour-offset)
					}
				}
			}
		}
	}
}

// How long a peer has been quiet, and when that says nothing of it.
func TestQuiet(t *testing.T) {
	t.Parallel()
	const second = time.Second
	now := epoch.Add(time.Hour)
	for _, c := range []struct {
		what    string
		q       quiet
		jumped  time.Time
		sample  Evidence
		state   QuietState
		silence time.Duration
	}{
		{what: "data a second ago", sample: Evidence{Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 1000, PeerMSS: 100}}, silence: second},
		{what: "wrapped a second ago", q: quiet{from: now.Add(-second)}, sample: Evidence{Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: time.Minute, OurWindow: 1000, PeerMSS: 100}}, silence: second},
		{what: "unread, and room for more", sample: Evidence{Unread: 10, Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 1000, PeerMSS: 100}}, silence: second},
		{what: "the window not told, all read", sample: Evidence{Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: -1, PeerMSS: 100}}, silence: second},
		{what: "a jump long ago", jumped: now.Add(-late), sample: Evidence{Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 1000}}, silence: second},

		{what: "our window closed", sample: Evidence{Unread: 1, Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 0}}, state: Held},
		{what: "our window too small", sample: Evidence{Unread: 1, Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 99, PeerMSS: 100}}, state: Held},
		{what: "the window not told, data unread", sample: Evidence{Unread: 1, Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: -1, PeerMSS: 100}}, state: Held},
		{what: "a jump", jumped: now.Add(-late + 1), sample: Evidence{Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 1000}}, silence: late - 1},

		{what: "after the FIN", sample: Evidence{Unread: 1, Info: tcpinfo.Info{State: tcpinfo.CloseWait, SinceData: second}}, state: Over},
		{what: "nobody reads", sample: Evidence{Deaf: true, Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: -1}}, state: Deaf},
	} {
		state, silence := c.q.ask(c.jumped, at(now, c.sample))
		if state != c.state || silence != c.silence {
			t.Errorf("%s: %v, %v; want %v, %v", c.what, state, silence, c.state, c.silence)
		}
		wait := state.Wait(second, silence)
		switch {
		case state == Runs && silence >= second && wait <= 0, (state == Over || state == Deaf) && wait != 0:
			t.Errorf("%s: wait %v", c.what, wait)
		case state == Held && (wait <= 0 || wait > second/10):
			t.Errorf("%s: looks again after %v, too late for what may come", c.what, wait)
		}
	}
	// It counts from when the peer could send again, which is no earlier than when it
	// was last seen that it could not, and perhaps not before this look.
	var q quiet
	closed := Evidence{Unread: 1, Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: time.Minute}}
	opened := Evidence{Info: tcpinfo.Info{State: tcpinfo.Open, SinceData: time.Minute, OurWindow: 1000, PeerMSS: 100}}
	q.ask(time.Time{}, at(now, closed))
	now = now.Add(second / 20)
	opened.Answered = now
	if state, silence := q.ask(time.Time{}, at(now.Add(-time.Millisecond), opened)); state != Runs || silence > 0 {
		t.Errorf("our window has just been opened: %v, %v", state, silence)
	}
	now = now.Add(second)
	if state, silence := q.ask(time.Time{}, at(now, opened)); state != Runs || silence != second {
		t.Errorf("a second after our window was opened: %v, %v", state, silence)
	}
}

// A clock that comes late for a short time-out, because nothing ran for a while, does
// not take that while for a stall.
func TestStalledAfterPause(t *testing.T) {
	for _, timeout := range []time.Duration{minTimeout, time.Second / 2, time.Second, time.Minute} {
		var q stalled
		i := tcpinfo.Info{Unsent: 1}
		now := time.Now()
		pause := now.Add(timeout * 4 / 10)
		resumed := pause.Add(max(timeout*7/10, minTimeout+1))
		for {
			if now.After(pause) && now.Before(resumed) {
				now = resumed
			}
			stalled, wait := q.ask(now, time.Time{}, &i, timeout)
			if stalled {
				break
			}
			if wait <= 0 || wait > timeout/10 {
				t.Fatalf("%v: looks again after %v", timeout, wait)
			}
			now = now.Add(wait)
		}
		if took := now.Sub(resumed); took < timeout || took > timeout+timeout/10 {
			t.Errorf("%v: stalled %v after a pause", timeout, took)
		}
	}
}

// One lost keep-alive of a rare tuning is no sign that the kernel has been asking.
func TestOneLostKeepAlive(t *testing.T) {
	const timeout = time.Minute
	l := &keepalive.Limits{On: true, Idle: 15 * time.Second, Interval: 75 * time.Second, Count: 9, MaxRTO: 6300 * time.Millisecond, Retries: keepalive.DefaultRetries2}
	// Heard at 0. The probe at 15 s was lost, and the outage begins when data are sent.
	const sent = 65 * time.Second
	epoch := time.Now()
	var q lost
	for at := time.Duration(sent); ; {
		i := tcpinfo.Info{State: tcpinfo.Open, Full: true, InFlight: 1, Probes: 1, SinceAck: at, SinceData: at, PeerWindow: 1000, RTO: keepalive.MinRTO, SinceSent: at - sent}
		for i.SinceSent >= i.RTO {
			i.SinceSent -= i.RTO
			i.RTO = min(2*i.RTO, l.MaxRTO)
			i.Retransmits++
		}
		lost, wait := q.ask(epoch.Add(at), time.Time{}, &i, timeout, l)
		if lost {
			if outage := at - sent; outage < timeout/2 || outage > timeout+timeout/4 {
				t.Errorf("lost after an outage of %v", outage)
			}
			return
		}
		at += max(wait, time.Millisecond)
	}
}

var errLost, errStalled = fmt.Errorf("lost"), fmt.Errorf("stalled")

const late = time.Second

func slowBuild() bool { return testing.Short() }

// at is e, asked at now.
func at(now time.Time, e Evidence) *Evidence {
	e.Asked = now
	return &e
}
