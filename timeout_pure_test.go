package liveness

import (
	"bytes"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/livenesstest"
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

	end     otherEnd
	lost    lostQuestion
	stalled stallQuestion
	awake   bool
	due     time.Duration // 0 is never
	jumped  time.Duration

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
	t := timers{peer: s.peer, stall: s.stall}
	return t.pace()
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
	i := s.end.info()
	s.awake = i.Outstanding()
	again := func(wait time.Duration) {
		if wait > 0 {
			if at := now + max(wait, time.Millisecond); s.due == 0 || at < s.due {
				s.due = at
			}
		}
	}
	if s.peer > 0 {
		lost, wait := s.lost.ask(s.time(now), s.time(s.jumped), &i, s.peer, &limits{idle: s.end.idle, interval: s.end.interval, maxRTO: s.end.limit})
		if lost {
			s.verdict, s.at = ErrPeerLost, now
			return
		}
		again(wait)
	}
	if s.stall > 0 {
		stalled, wait := s.stalled.ask(s.time(now), s.time(s.jumped), &i, s.stall)
		if stalled {
			s.verdict, s.at = ErrPeerStalled, now
			return
		}
		again(wait)
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
		{"4 s", 4 * time.Second, 0, rtoLimit(4*time.Second, 15), KeepAlive(4 * time.Second), 700 * time.Millisecond},
		{"7 s", 7 * time.Second, 0, rtoLimit(7*time.Second, 15), KeepAlive(7 * time.Second), 1700 * time.Millisecond},
		{"60 s", time.Minute, 0, rtoLimit(time.Minute, 15), KeepAlive(time.Minute), 11 * time.Second},
		{"60 s, own keep-alive", time.Minute, 0, rtoLimit(time.Minute, 15), hour, 23 * time.Second},
		{"8 s, own keep-alive", 8 * time.Second, 0, rtoLimit(8*time.Second, 15), hour, 1900 * time.Millisecond},
		{"20 s, own keep-alive", 20 * time.Second, 0, rtoLimit(20*time.Second, 15), hour, 4900 * time.Millisecond},
		{"4 s, old kernel", 4 * time.Second, 0, maxRTO, KeepAlive(4 * time.Second), 1100 * time.Millisecond},
		{"4 s, old kernel, for long", 4 * time.Second, 0, maxRTO, KeepAlive(4 * time.Second), 25 * time.Second},
		{"4 s and stalled 2 s", 4 * time.Second, 2 * time.Second, rtoLimit(4*time.Second, 15), KeepAlive(4 * time.Second), 900 * time.Millisecond},
		{"stalled 2 s", 0, 2 * time.Second, maxRTO, hour, 900 * time.Millisecond},
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
			t.Logf("%d sequences; %d lost, %d stalled", played, verdicts[ErrPeerLost], verdicts[ErrPeerStalled])
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
	case s.verdict == ErrPeerStalled:
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
		l := limits{keepAlive: true, idle: s.end.idle, interval: s.end.interval, count: s.end.probesAllowed, maxRTO: s.end.limit, retries: defaultRetries2}
		within = l.detectWithin(s.peer)
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
		if s.verdict != ErrPeerStalled && s.end.limit < time.Minute && s.end.acked == acked {
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
					s := &supervisor{peer: 4 * time.Second, stall: stall, end: newOtherEnd(time.Second, KeepAlive(4*time.Second), 100*time.Millisecond)}
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
		q       quietQuestion
		jumped  time.Time
		sample  sample
		state   quietState
		silence time.Duration
	}{
		{what: "data a second ago", sample: sample{info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 1000, PeerMSS: 100}}, silence: second},
		{what: "wrapped a second ago", q: quietQuestion{from: now.Add(-second)}, sample: sample{info: tcpinfo.Info{State: tcpinfo.Open, SinceData: time.Minute, OurWindow: 1000, PeerMSS: 100}}, silence: second},
		{what: "unread, and room for more", sample: sample{unread: 10, info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 1000, PeerMSS: 100}}, silence: second},
		{what: "the window not told, all read", sample: sample{info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: -1, PeerMSS: 100}}, silence: second},
		{what: "a jump long ago", jumped: now.Add(-late), sample: sample{info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 1000}}, silence: second},

		{what: "our window closed", sample: sample{unread: 1, info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 0}}, state: quietHeld},
		{what: "our window too small", sample: sample{unread: 1, info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 99, PeerMSS: 100}}, state: quietHeld},
		{what: "the window not told, data unread", sample: sample{unread: 1, info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: -1, PeerMSS: 100}}, state: quietHeld},
		{what: "a jump", jumped: now.Add(-late + 1), sample: sample{info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: 1000}}, silence: late - 1},

		{what: "after the FIN", sample: sample{unread: 1, info: tcpinfo.Info{State: tcpinfo.CloseWait, SinceData: second}}, state: quietOver},
		{what: "nobody reads", sample: sample{deaf: true, info: tcpinfo.Info{State: tcpinfo.Open, SinceData: second, OurWindow: -1}}, state: quietDeaf},
	} {
		state, silence := c.q.ask(now, c.jumped, &c.sample)
		if state != c.state || silence != c.silence {
			t.Errorf("%s: %v, %v; want %v, %v", c.what, state, silence, c.state, c.silence)
		}
		wait := state.wait(second, silence)
		switch {
		case state == quietRuns && silence >= second && wait <= 0, (state == quietOver || state == quietDeaf) && wait != 0:
			t.Errorf("%s: wait %v", c.what, wait)
		case state == quietHeld && (wait <= 0 || wait > second/10):
			t.Errorf("%s: looks again after %v, too late for what may come", c.what, wait)
		}
	}
	// It counts from when the peer could send again, which is no earlier than when it
	// was last seen that it could not, and perhaps not before this look.
	var q quietQuestion
	closed := sample{unread: 1, info: tcpinfo.Info{State: tcpinfo.Open, SinceData: time.Minute}}
	opened := sample{info: tcpinfo.Info{State: tcpinfo.Open, SinceData: time.Minute, OurWindow: 1000, PeerMSS: 100}}
	q.ask(now, time.Time{}, &closed)
	now = now.Add(second / 20)
	opened.answered = now
	if state, silence := q.ask(now.Add(-time.Millisecond), time.Time{}, &opened); state != quietRuns || silence > 0 {
		t.Errorf("our window has just been opened: %v, %v", state, silence)
	}
	now = now.Add(second)
	if state, silence := q.ask(now, time.Time{}, &opened); state != quietRuns || silence != second {
		t.Errorf("a second after our window was opened: %v, %v", state, silence)
	}
}

// A spy is the kernel of a connection that only counts how often it is looked at.
type spy struct {
	looks []time.Duration // when, from the beginning
	began time.Time
	do    func() // in the middle of the next look
}

func (s *spy) look(hint) sight {
	s.looks = append(s.looks, time.Since(s.began))
	if do := s.do; do != nil {
		s.do = nil
		do()
	}
	return sight{outcome: finSeen} // so that nothing is left to ask
}

func (*spy) shut(bool, bool) {}

// newSpy returns a connection that a clock may check.
func newSpy(t *testing.T) (*spy, *Conn, *token) {
	inner, peer := net.Pipe()
	t.Cleanup(func() { inner.Close(); peer.Close() })
	s := &spy{began: time.Now()}
	c := &Conn{inner: inner, kernel: s, allowHalfClose: true}
	c.timersOf()
	return s, c, &token{conn: weak.Make(c)}
}

// Each is checked when it is due, the earlier time wins, and who was removed is not
// checked.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k clock
		rnd := rand.New(rand.NewPCG(1, 2))
		began := time.Now()
		type entry struct {
			*spy
			conn  *Conn
			token *token
			due   time.Duration // 0 is never
			want  []time.Duration
			gone  bool
		}
		var all []*entry
		for range 30 {
			s, c, token := newSpy(t)
			all = append(all, &entry{spy: s, conn: c, token: token})
		}
		for range 2000 {
			e := all[rnd.IntN(len(all))]
			now := time.Since(began)
			switch rnd.IntN(20) {
			case 0:
				if rnd.IntN(5) == 0 {
					k.remove(e.token)
					e.due, e.gone = 0, true
				}
			case 1, 2, 3:
				pause := time.Duration(rnd.IntN(50)) * time.Millisecond
				time.Sleep(pause)
				synctest.Wait()
				for _, e := range all {
					if e.due > 0 && e.due <= now+pause {
						e.want = append(e.want, e.due)
						e.due = 0
					}
				}
			default:
				at := now + time.Duration(1+rnd.IntN(300))*time.Millisecond
				k.wake(e.token, began.Add(at))
				if !e.gone && (e.due == 0 || at < e.due) {
					e.due = at
				}
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		checks := 0
		for i, e := range all {
			if e.due > 0 {
				e.want = append(e.want, e.due)
			}
			checks += len(e.want)
			if !slices.Equal(e.looks, e.want) {
				t.Errorf("%d: checked at %v; want %v", i, e.looks, e.want)
			}
			if e.token.index != 0 {
				t.Errorf("%d is still in the heap", i)
			}
		}
		if len(k.due) != 0 || k.running {
			t.Errorf("left: %+v", k.due)
		}
		t.Logf("%d checks", checks)
	})
}

// A connection may be woken or removed while it is checked.
func TestClockMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k clock
		s, c, token := newSpy(t)
		other, otherConn, otherToken := newSpy(t)
		defer func() { _, _ = c, otherConn }()
		began := time.Now()
		const ms = time.Millisecond
		s.do = func() {
			k.wake(token, began.Add(50*ms))
			k.wake(otherToken, began.Add(30*ms)) // earlier than what the clock has yet
		}
		k.wake(token, began.Add(10*ms))
		time.Sleep(100 * ms)
		synctest.Wait()
		if want := []time.Duration{10 * ms, 50 * ms}; !slices.Equal(s.looks, want) {
			t.Errorf("woken while it was checked: checked at %v; want %v", s.looks, want)
		}
		if want := []time.Duration{30 * ms}; !slices.Equal(other.looks, want) {
			t.Errorf("woken while another was checked: checked at %v; want %v", other.looks, want)
		}
		s.do = func() {
			k.remove(token)
			k.wake(token, began.Add(130*ms))
		}
		k.wake(token, began.Add(120*ms))
		time.Sleep(100 * ms)
		synctest.Wait()
		if want := []time.Duration{10 * ms, 50 * ms, 120 * ms}; !slices.Equal(s.looks, want) {
			t.Errorf("removed while it was checked: checked at %v; want %v", s.looks, want)
		}
		if len(k.due) != 0 || !token.gone {
			t.Errorf("left: %+v", &k)
		}
	})
}

// A clock that comes much too late says so, and what was counted meanwhile is void.
func TestClockJumped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 2 * time.Second
		for _, c := range []struct{ late, within time.Duration }{
			{0, time.Millisecond},
			{late, time.Millisecond},
			{late + time.Millisecond, late + timeout + timeout/10 + 100*time.Millisecond},
			{time.Hour, late + timeout + timeout/10 + 100*time.Millisecond},
		} {
			inner, peer := net.Pipe()
			defer peer.Close()
			conn, err := Wrap(inner, &Config{ReadIdleTimeout: timeout})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			timers := conn.timersOf()
			conn.reading.Store(1) // as if somebody read, and nobody had woken the clock
			time.Sleep(2 * timeout)
			began := time.Now()
			// It was due then, and comes now.
			own := conn.ownClockOf(timers)
			k, token := &own.clock, &own.token
			k.remove(token)
			k.mu.Lock()
			token.gone, token.due = false, began.Add(-c.late)
			heap.Push(&k.due, token)
			k.set()
			k.mu.Unlock()
			<-conn.Done()
			if took := time.Since(began); took > c.within || c.late > late && took < late {
				t.Errorf("late by %v: the verdict came after %v; want %v", c.late, took, c.within)
			}
		}
	})
}

// Without a socket ReadIdleTimeout runs while a Read waits, in a bubble too.
func TestReadIdleOfPipe(t *testing.T) {
	for _, timeout := range []time.Duration{100 * time.Millisecond, time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			inner, peer := net.Pipe()
			defer peer.Close()
			c, err := Wrap(inner, &Config{ReadIdleTimeout: timeout})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			// Nobody reads, so nobody can tell.
			time.Sleep(10 * timeout)
			synctest.Wait()
			if err := c.Err(); err != nil {
				t.Fatalf("with nobody in Read: %v", err)
			}
			result := make(chan error, 1)
			var began time.Time
			go func() {
				b := make([]byte, 10)
				for {
					began = time.Now()
					if _, err := c.Read(b); err != nil {
						result <- err
						return
					}
				}
			}()
			for range 5 {
				time.Sleep(timeout * 9 / 10)
				if _, err := peer.Write([]byte("x")); err != nil {
					t.Fatalf("%v; %v", err, c.Err())
				}
			}
			<-c.Done()
			took := time.Since(began)
			if took < timeout || took > timeout+timeout/10+100*time.Millisecond {
				t.Errorf("%v: the verdict came after %v", timeout, took)
			}
			if err := c.Err(); !errors.Is(err, ErrPeerIdle) {
				t.Error(err)
			}
			err = <-result
			var ne net.Error
			if !errors.Is(err, ErrPeerIdle) || !errors.As(err, &ne) || ne.Timeout() {
				t.Errorf("Read returned %v", err)
			}
			c.SetDeadline(time.Time{})
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrPeerIdle) {
				t.Errorf("the next Read returned %v", err)
			}
			if _, err := c.Write(make([]byte, 1)); !errors.Is(err, ErrPeerIdle) {
				t.Errorf("a Write returned %v", err)
			}
		})
	}
}

// The user's deadlines are no end there either, and no answer of the peer.
func TestDeadlineOfPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, peer := net.Pipe()
		defer peer.Close()
		c, err := Wrap(inner, &Config{ReadIdleTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 60 {
			began := time.Now()
			c.SetReadDeadline(began.Add(time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
				t.Fatalf("after %v: %v; %v", time.Since(began), err, c.Err())
			}
			time.Sleep(time.Second) // which does not count
		}
		c.SetReadDeadline(time.Time{})
		began := time.Now()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrPeerIdle) || time.Since(began) != tickSlack {
			t.Fatalf("after %v: %v; %v", time.Since(began), err, c.Err())
		}
	})
}

// OnSilence too, to the moment.
func TestOnSilenceOfPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const after = time.Second
		inner, peer := net.Pipe()
		defer peer.Close()
		c, err := Wrap(inner, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var mu sync.Mutex // guards the rest
		last := time.Now()
		var waits []time.Duration
		running := 0
		stop := c.OnSilence(after, func() {
			mu.Lock()
			if running++; running > 1 {
				t.Error("two at a time")
			}
			waits = append(waits, time.Since(last))
			mu.Unlock()
			time.Sleep(3 * after)
			mu.Lock()
			running--
			mu.Unlock()
		})
		calls := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(waits)
		}
		send := func() {
			mu.Lock()
			last = time.Now()
			mu.Unlock()
			peer.Write([]byte("x"))
		}
		go func() {
			b := make([]byte, 10)
			for {
				if _, err := c.Read(b); err != nil {
					return
				}
			}
		}()
		for i := range 5 {
			time.Sleep(10 * after)
			synctest.Wait()
			if n := calls(); n != i+1 {
				t.Fatalf("called %d times for %d silences", n, i+1)
			}
			send()
		}
		mu.Lock()
		for _, took := range waits {
			if took < after || took > after+after/10+100*time.Millisecond {
				t.Errorf("called after %v", took)
			}
		}
		mu.Unlock()
		// What comes due while f runs is made up for.
		time.Sleep(2 * after)
		send()
		time.Sleep(20 * after)
		synctest.Wait()
		if n := calls(); n != 7 {
			t.Errorf("called %d times; want 7", n)
		}
		if !stop() {
			t.Error("stop() = false")
		}
		send()
		time.Sleep(20 * after)
		synctest.Wait()
		if n := calls(); n != 7 {
			t.Errorf("called after stop")
		}
	})
}

// A Read that waits already is one in which nothing is received.
func TestOnSilenceDuringRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const after = time.Second
		inner, peer := net.Pipe()
		defer peer.Close()
		c, err := Wrap(inner, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go c.Read(make([]byte, 1))
		synctest.Wait()
		var calls atomic.Int32
		c.OnSilence(after, func() { calls.Add(1) })
		time.Sleep(5 * after)
		synctest.Wait()
		if n := calls.Load(); n != 1 {
			t.Errorf("called %d times in %v of silence", n, 5*after)
		}
	})
}

// On connections that show no acknowledgements Ping says so. There is no peer's
// host that could vanish, and so no option that must be kept.
func TestTimersWithoutTCP(t *testing.T) {
	t.Parallel()
	pipe, far := net.Pipe()
	t.Cleanup(func() { pipe.Close(); far.Close() })
	conns := map[string]net.Conn{"pipe": pipe}
	t.Run("unix", func(t *testing.T) {
		conn, _ := livenesstest.Pair(t, "unix")
		testWithoutTCP(t, conn)
	})
	for name, conn := range conns {
		t.Run(name, func(t *testing.T) { testWithoutTCP(t, conn) })
	}
	if !kernelCounts {
		t.Run("tcp4", func(t *testing.T) {
			conn, _ := livenesstest.Pair(t, "tcp4")
			c, err := Wrap(conn, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Ping(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("Ping: %v", err)
			}
		})
	}
}

func testWithoutTCP(t *testing.T, conn net.Conn) {
	c, err := Wrap(conn, &Config{PeerTimeout: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Ping: %v", err)
	}
	if s := c.Status(); s.DetectWithin != 0 {
		t.Errorf("Status: %+v", s)
	}
	c.Close()
	if err := c.Ping(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Ping after Close: %v", err)
	}
}

// Only connections with something outstanding are in the clock: a thousand idle
// ones are not, and cost no wake-up.
func TestIdleConnectionsSleep(t *testing.T) {
	t.Parallel()
	if !kernelCounts {
		t.Skip("nothing is counted on this system")
	}
	const n = 500
	var conns []*Conn
	var peers []*livenesstest.Peer
	for range n {
		conn, peer := livenesstest.Pair(t, "tcp4")
		c, err := Wrap(conn, &Config{PeerTimeout: 4 * time.Second, StallTimeout: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		conns, peers = append(conns, c), append(peers, peer)
	}
	awake := func() (n int) {
		theHub.clock.mu.Lock()
		defer theHub.clock.mu.Unlock()
		for _, c := range conns {
			if c.sock.watch.index > 0 {
				n++
			}
		}
		return n
	}
	if n := awake(); n > 0 {
		t.Errorf("%d of %d connections that were never written to are to be checked", n, len(conns))
	}
	for _, c := range conns {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if n := awake(); n == 0 {
		t.Error("nothing is to be checked after a Write")
	}
	deadline := time.Now().Add(10 * time.Second)
	for awake() > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are still to be checked, although all is acknowledged", awake())
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, p := range peers {
		p.Write([]byte("x"))
		p.Read(make([]byte, 1))
	}
	for _, c := range conns {
		c.Read(make([]byte, 1))
	}
	if n := awake(); n > 0 {
		t.Errorf("%d connections are to be checked because something was read", n)
	}
}

// With ReadIdleTimeout, a connection with traffic is checked once in the time-out,
// and not for every Read.
func TestTrafficDoesNotWakeClock(t *testing.T) {
	t.Parallel()
	if !kernelCounts {
		t.Skip("nothing is counted on this system")
	}
	NeedsTCPInfo(t)
	const timeout = time.Minute
	conn, peer := livenesstest.Pair(t, "tcp4")
	began := time.Now()
	c, err := Wrap(conn, &Config{ReadIdleTimeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	due := func() time.Time {
		theHub.clock.mu.Lock()
		defer theHub.clock.mu.Unlock()
		if c.sock.watch.index == 0 {
			t.Fatal("not in the clock")
		}
		return c.sock.watch.due
	}
	before := due()
	if wait := before.Sub(began); wait < timeout || wait > timeout+time.Since(began)+time.Second {
		t.Errorf("first due after %v", wait)
	}
	for range 1000 {
		peer.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	if due() != before {
		t.Error("traffic has moved it")
	}
	began = time.Now()
	next := c.check(time.Now(), time.Time{})
	if wait := next.Sub(began); wait < timeout-time.Second || wait > timeout+time.Since(began)+time.Second {
		t.Errorf("due again after %v", wait)
	}
	// What ten thousand of them would take of a core, each checked once a minute.
	if slowBuild() {
		return
	}
	each := time.Hour
	for range 50 { // the best of them, for others use the processors too
		const n = 100
		began := time.Now()
		for range n {
			c.check(time.Now(), time.Time{})
		}
		each = min(each, time.Since(began)/n)
	}
	t.Logf("figure: a check takes %v: 10 000 connections take %.3f %% of a core", each, 100*10_000*each.Seconds()/timeout.Seconds())
	if each > 60*time.Microsecond {
		t.Errorf("a check takes %v; at 60 µs, 10 000 connections take 1 %% of a core", each)
	}
}

// What a sample says in one word: the graver one where several hold.
func TestStatusPrecedence(t *testing.T) {
	t.Parallel()
	open := tcpinfo.Info{State: tcpinfo.Open, Full: true, PeerWindow: 1000, OurWindow: 1000}
	with := func(change func(*tcpinfo.Info)) tcpinfo.Info {
		i := open
		change(&i)
		return i
	}
	flight := func(i *tcpinfo.Info) { i.InFlight = 3; i.Unsent = 100 }
	closed := func(i *tcpinfo.Info) { i.Unsent, i.PeerWindow = 100, 0 }
	for _, c := range []struct {
		what string
		info tcpinfo.Info
		want State
	}{
		{"idle", open, Connected},
		{"data in flight", with(flight), Connected},
		{"one retransmission, which is everyday loss", with(func(i *tcpinfo.Info) { flight(i); i.Retransmits = 1; i.Backoff = 1 }), Connected},
		{"two retransmissions", with(func(i *tcpinfo.Info) { flight(i); i.Retransmits = 2; i.Backoff = 2 }), Suspect},
		{"a keep-alive", with(func(i *tcpinfo.Info) { i.Probes = 1 }), Suspect},
		{"data in flight after a keep-alive", with(func(i *tcpinfo.Info) { flight(i); i.Probes = 1 }), Connected},
		{"data in flight after two keep-alives", with(func(i *tcpinfo.Info) { flight(i); i.Probes = 2 }), Suspect},
		{"closed window", with(closed), Stalled},
		{"closed window and data in flight", with(func(i *tcpinfo.Info) { flight(i); i.PeerWindow, i.RTO = 0, 3*time.Second }), Stalled},
		{"closed window and data in flight, late", with(func(i *tcpinfo.Info) { flight(i); i.PeerWindow, i.RTO = 0, time.Second }), Suspect},
		{"closed window, its probe on the way", with(func(i *tcpinfo.Info) { closed(i); i.Probes, i.Backoff = 1, 3 }), Stalled},
		{"closed window, two probes unanswered", with(func(i *tcpinfo.Info) { closed(i); i.Probes, i.Backoff = 2, 3 }), Suspect},
		{"closed window, two retransmissions", with(func(i *tcpinfo.Info) { flight(i); i.PeerWindow = 0; i.Retransmits = 2 }), Suspect},
		{"closed window and nothing to send", with(func(i *tcpinfo.Info) { i.PeerWindow = 0 }), Connected},
		{"a window too small", with(func(i *tcpinfo.Info) { i.Unsent, i.PeerWindow, i.Backoff = 100, 10, 1 }), Stalled},
		{"corked", with(func(i *tcpinfo.Info) { i.Unsent = 100 }), Connected},
		{"window not told", with(func(i *tcpinfo.Info) { flight(i); i.PeerWindow = -1 }), Connected},

		{"half-closed", with(func(i *tcpinfo.Info) { i.State = tcpinfo.CloseWait }), HalfClosed},
		{"half-closed, closed window", with(func(i *tcpinfo.Info) { i.State = tcpinfo.CloseWait; closed(i) }), Stalled},
		{"half-closed, a keep-alive", with(func(i *tcpinfo.Info) { i.State = tcpinfo.CloseWait; i.Probes = 1 }), Suspect},
		{"half-closed, closed window, two probes", with(func(i *tcpinfo.Info) { i.State = tcpinfo.CloseWait; closed(i); i.Probes, i.Backoff = 2, 3 }), Suspect},
	} {
		s := sample{info: c.info, unread: 7, unacked: 9}
		s.info.SinceAck, s.info.SinceData, s.info.RTT = 3*time.Second, 2*time.Second, time.Millisecond
		st := s.status()
		if st.State != c.want {
			t.Errorf("%s: %v; want %v", c.what, st.State, c.want)
		}
		want := Status{State: c.want, Silence: 2 * time.Second, RTT: time.Millisecond, Unread: 7, Unacked: 9, Retransmits: c.info.Retransmits, Probes: c.info.Probes}
		if st != want {
			t.Errorf("%s: %+v; want %+v", c.what, st, want)
		}
	}
	// A kernel that tells the state alone, as an emulator may.
	if st := (&sample{info: tcpinfo.Info{State: tcpinfo.Open, SinceAck: time.Hour, SinceData: time.Hour}}).status(); st != (Status{State: Connected}) {
		t.Errorf("a short TCP_INFO: %+v", st)
	}
	names := map[State]string{Unknown: "unknown", Connected: "connected", HalfClosed: "half-closed", Stalled: "stalled", Suspect: "suspect", Disconnected: "disconnected", -1: "invalid", Disconnected + 1: "invalid"}
	for s, want := range names {
		if s.String() != want {
			t.Errorf("State %d: %q; want %q", int(s), s, want)
		}
	}
	if (Status{}).State != Unknown || !(Connected < HalfClosed && HalfClosed < Stalled && Stalled < Suspect && Suspect < Disconnected) {
		t.Error("the states are not in the order of their gravity")
	}
}

// The evidence in words.
func TestEvidence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status Status
		want   string
	}{
		{Status{}, ""},
		{Status{Probes: 1}, "1 keep-alive probe unanswered"},
		{Status{Probes: 3}, "3 keep-alive probes unanswered"},
		{Status{Probes: 2, Unacked: 1}, "2 window probes unanswered, 1 byte unacknowledged"},
		{Status{Retransmits: 1, Unacked: 1448}, "1 retransmission unanswered, 1448 bytes unacknowledged"},
		{Status{Retransmits: 5}, "5 retransmissions unanswered"},
	} {
		if got := c.status.evidence(); got != c.want {
			t.Errorf("%+v: %q; want %q", c.status, got, c.want)
		}
	}
}

// A trace is what TCP_INFO showed of a real connection, and what was done to it.
type trace struct {
	What  string
	Peer  string // PeerTimeout, by which the socket was tuned
	Stall string // StallTimeout
	Idle  string // TCP_KEEPIDLE

	// When things happened, in milliseconds from the beginning; 0 is never.
	Cut, Mended, Closed int64

	// The verdicts and when they are due, in milliseconds from the beginning; 0 is
	// never.
	Lost, Stalled [2]int64

	Columns string
	Rows    [][]int64
}

const traceColumns = "at/ms state sinceData/ms sinceAck/ms rtt/us retransmits probes backoff inFlight unsent sent acked peerWindow ourWindow peerMSS unread"

func traceRow(at time.Duration, s *sample) []int64 {
	i := &s.info
	return []int64{
		at.Milliseconds(), int64(i.State), i.SinceData.Milliseconds(), i.SinceAck.Milliseconds(), i.RTT.Microseconds(),
		int64(i.Retransmits), int64(i.Probes), int64(i.Backoff), int64(i.InFlight), i.Unsent, i.Sent, i.Acked,
		i.PeerWindow, i.OurWindow, i.PeerMSS, int64(s.unread),
	}
}

func readRow(row []int64) (at time.Duration, s sample) {
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	s.info = tcpinfo.Info{
		Full: true, State: tcpinfo.State(row[1]), SinceData: ms(row[2]), SinceAck: ms(row[3]), RTT: time.Duration(row[4]) * time.Microsecond,
		Retransmits: int(row[5]), Probes: int(row[6]), Backoff: int(row[7]), InFlight: int(row[8]), Unsent: row[9], Sent: row[10], Acked: row[11],
		PeerWindow: row[12], OurWindow: row[13], PeerMSS: row[14],
	}
	s.unread = int(row[15])
	return ms(row[0]), s
}

// TestTraces asks the questions of real connections of the past, at the times at
// which the clock would have asked. With LIVENESS_RECORD set it records them anew,
// which takes a kernel that has TCP_RTO_MAX_MS.
func TestTraces(t *testing.T) {
	t.Parallel()
	if os.Getenv("LIVENESS_RECORD") != "" {
		recordTraces(t)
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var tr trace
			if err := json.Unmarshal(text, &tr); err != nil {
				t.Fatal(err)
			}
			if tr.Columns != traceColumns {
				t.Fatalf("columns %q; want %q", tr.Columns, traceColumns)
			}
			tr.replay(t)
		})
	}
}

func (tr *trace) replay(t *testing.T) {
	duration := func(s string) time.Duration {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	peer, stall, idle := duration(tr.Peer), duration(tr.Stall), duration(tr.Idle)
	pace := (&timers{peer: peer, stall: stall}).pace()
	type question func(at time.Duration, i *tcpinfo.Info) (bool, time.Duration)
	verdict := func(name string, want [2]int64, begin func() question) {
		// The clock may come a little later or earlier: it starts with a write.
		for start := range 8 {
			ask := begin()
			var due, told time.Duration
			for _, row := range tr.Rows {
				at, s := readRow(row)
				if due == 0 && s.info.Outstanding() {
					due = at + pace*time.Duration(start)/4
				}
				if due == 0 || at < due {
					continue
				}
				yes, wait := ask(at, &s.info)
				if yes {
					told = at
					break
				}
				due = 0
				if wait > 0 {
					due = at + wait
				}
			}
			switch ms := told.Milliseconds(); {
			case ms == 0 && want[1] > 0:
				t.Errorf("%s: not told; want it at %d to %d ms", name, want[0], want[1])
			case ms > 0 && (ms < want[0] || ms > want[1]):
				t.Errorf("%s: told at %d ms; want it at %d to %d ms", name, ms, want[0], want[1])
			}
		}
	}
	verdict("lost", tr.Lost, func() question {
		var q lostQuestion
		return func(at time.Duration, i *tcpinfo.Info) (bool, time.Duration) {
			return q.ask(epoch.Add(at), time.Time{}, i, peer, &limits{idle: idle, interval: KeepAlive(peer).Interval, maxRTO: rtoLimit(peer, defaultRetries2)})
		}
	})
	verdict("stalled", tr.Stalled, func() question {
		var q stallQuestion
		return func(at time.Duration, i *tcpinfo.Info) (bool, time.Duration) {
			return q.ask(epoch.Add(at), time.Time{}, i, stall)
		}
	})
}

// recordTraces plays what there is to see, and writes it down.
func recordTraces(t *testing.T) {
	if !kernelCounts {
		t.Skip("nothing is counted on this system")
	}
	const peer, stall = 4 * time.Second, 2 * time.Second
	type recording struct {
		trace
		*testing.T
		conn *Conn
		peer *livenesstest.Peer
		mend func() error
		mark func(*int64)
	}
	fill := func(r *recording) {
		go func() {
			for {
				if _, err := r.conn.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
		for r.conn.Status().State != Stalled {
			time.Sleep(time.Millisecond)
		}
		r.mark(&r.Closed)
	}
	cut := func(r *recording) {
		mend, err := livenesstest.Cut(r.peer)
		if err != nil {
			r.Skip(err)
		}
		r.mend = mend
		r.mark(&r.Cut)
	}
	mend := func(r *recording) {
		r.mend()
		r.mark(&r.Mended)
	}
	write := func(r *recording) { r.conn.Write([]byte("x")) }
	pause := func(d time.Duration) func(r *recording) { return func(*recording) { time.Sleep(d) } }
	lost := func(r *recording) {
		r.Lost = [2]int64{r.Cut + peer.Milliseconds(), r.Cut + (peer + peer/4 + time.Second).Milliseconds()}
	}
	stalled := func(r *recording) {
		r.Stalled = [2]int64{r.Closed + (stall - 100*time.Millisecond).Milliseconds(), r.Closed + (stall + stall/10 + time.Second).Milliseconds()}
	}
	var all sync.WaitGroup
	defer all.Wait()
	for name, deeds := range map[string][]func(*recording){
		"idle":              {pause(6 * time.Second)},
		"idle-cut":          {pause(time.Second), cut, pause(3 * time.Second)},
		"idle-mended":       {pause(time.Second), cut, pause(1900 * time.Millisecond), mend, pause(4 * time.Second)},
		"in-flight-cut":     {pause(time.Second), cut, write, pause(7 * time.Second), lost},
		"in-flight-mended":  {pause(time.Second), cut, write, pause(1900 * time.Millisecond), mend, pause(5 * time.Second)},
		"late-write-cut":    {write, pause(100 * time.Millisecond), cut, pause(3500 * time.Millisecond), write, pause(4 * time.Second), lost},
		"closed-window":     {fill, pause(9 * time.Second), stalled},
		"closed-window-cut": {fill, cut, pause(7 * time.Second), lost},
		"closed-window-mended": {fill, cut, pause(1900 * time.Millisecond), mend, pause(6 * time.Second), func(r *recording) {
			stalled(r)
			r.Stalled[1] += time.Second.Milliseconds() // the outage hid that the host is there
		}},
		"slow-reader": {func(r *recording) {
			go func() {
				for {
					if _, err := io.ReadFull(r.peer, make([]byte, 64<<10)); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
		}, fill, pause(8 * time.Second)},
		"busy-mended": {func(r *recording) {
			r.peer.Drain()
			go func() {
				for {
					if _, err := r.conn.Write([]byte("0123456789")); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			}()
		}, pause(time.Second), cut, pause(1900 * time.Millisecond), mend, pause(5 * time.Second)},
	} {
		record := func(t *testing.T) {
			conn, far := livenesstest.Pair(t, "tcp4")
			conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
			far.NetConn().(*net.TCPConn).SetReadBuffer(32 << 10)
			c, err := Wrap(conn, &Config{PeerTimeout: peer})
			if err != nil {
				t.Fatal(err)
			}
			idle := c.sock.limitsNow().idle
			tm := c.timersOf()
			tm.checking.Lock() // no verdict: the recording is to go on
			defer tm.checking.Unlock()
			r := &recording{T: t, conn: c, peer: far}
			r.trace = trace{What: name, Peer: peer.String(), Stall: stall.String(), Idle: idle.String(), Columns: traceColumns}
			began := time.Now()
			r.mark = func(ms *int64) { *ms = time.Since(began).Milliseconds() }
			done := make(chan struct{})
			go func() {
				defer close(done)
				for _, do := range deeds {
					do(r)
				}
			}()
			for recording := true; recording; {
				select {
				case <-done:
					recording = false
				case <-time.After(50 * time.Millisecond):
				}
				var s sample
				if c.sock.sample(&s) {
					r.Rows = append(r.Rows, traceRow(time.Since(began), &s))
				}
			}
			text, err := json.Marshal(r.trace)
			if err != nil {
				t.Fatal(err)
			}
			text = bytes.ReplaceAll(text, []byte("],["), []byte("],\n["))
			if err := os.MkdirAll("testdata", 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join("testdata", name+".json"), append(text, '\n'), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		all.Go(func() { t.Run("record "+name, record) })
	}
}

// slowBuild reports whether the race detector is in this program.
func slowBuild() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

// A clock that comes late for a short time-out, because nothing ran for a while, does
// not take that while for a stall.
func TestStalledAfterPause(t *testing.T) {
	for _, timeout := range []time.Duration{minStallTimeout, time.Second / 2, time.Second, time.Minute} {
		var q stallQuestion
		i := tcpinfo.Info{Unsent: 1}
		now := time.Now()
		pause := now.Add(timeout * 4 / 10)
		resumed := pause.Add(max(timeout*7/10, minStallTimeout+1))
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

// A process that is stopped after the clock has come, and before the kernel is asked,
// has the kernel's ages grow meanwhile: they say nothing of the peer.
func TestStoppedWhileChecking(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	for _, stopped := range []bool{true, false} {
		inner, peer := net.Pipe()
		defer peer.Close()
		c, err := Wrap(inner, &Config{ReadIdleTimeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.reading.Store(1) // as if somebody read, and nobody had woken the clock
		own := c.ownClockOf(c.timersOf())
		own.remove(&own.token)
		time.Sleep(2 * timeout)
		at := time.Now()
		if stopped {
			at = at.Add(-late - time.Millisecond)
		}
		next := c.check(at, time.Time{})
		if err := c.Err(); stopped != (err == nil) || stopped == next.IsZero() {
			t.Errorf("stopped: %t; the verdict is %v, the next check at %v", stopped, err, next)
		}
	}
}

// What is due before it was asked for is not late.
func TestWakeInThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k clock
		spy, c, token := newSpy(t)
		defer runtime.KeepAlive(c)
		time.Sleep(time.Minute)
		k.wake(token, time.Now().Add(-10*late))
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if len(spy.looks) != 1 || !k.jumped.IsZero() {
			t.Errorf("checked at %v, jumped at %v", spy.looks, k.jumped)
		}
	})
}

// One lost keep-alive of a rare tuning is no sign that the kernel has been asking.
func TestOneLostKeepAlive(t *testing.T) {
	const timeout = time.Minute
	l := &limits{keepAlive: true, idle: 15 * time.Second, interval: 75 * time.Second, count: 9, maxRTO: 6300 * time.Millisecond, retries: defaultRetries2}
	// Heard at 0. The probe at 15 s was lost, and the outage begins when data are sent.
	const sent = 65 * time.Second
	epoch := time.Now()
	var q lostQuestion
	for at := time.Duration(sent); ; {
		i := tcpinfo.Info{State: tcpinfo.Open, Full: true, InFlight: 1, Probes: 1, SinceAck: at, SinceData: at, PeerWindow: 1000, RTO: minRTO, SinceSent: at - sent}
		for i.SinceSent >= i.RTO {
			i.SinceSent -= i.RTO
			i.RTO = min(2*i.RTO, l.maxRTO)
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

// In one silence f runs once, also after a jump of the clock, and not at all once it
// was stopped or the connection has ended.
func TestSilencesOnce(t *testing.T) {
	c := &Conn{kernel: new(ioResults)}
	c.timersOf()
	epoch := time.Now()
	calls := make(chan struct{}, 10)
	s := &silence{after: time.Second, f: func() { calls <- struct{}{} }, from: epoch}
	c.silences = []*silence{s}
	var q quietQuestion
	q.from = epoch
	ask := func(at, jumped time.Duration) {
		smp := &sample{info: tcpinfo.Info{State: tcpinfo.Open, OurWindow: 1 << 16, SinceData: at}, heard: epoch}
		smp.asked, smp.answered = epoch.Add(at), epoch.Add(at)
		state, quiet := q.ask(smp.asked, epoch.Add(jumped), smp)
		for range c.askSilences(smp.asked, smp.heard, state, quiet) {
		}
		for running := true; running; time.Sleep(time.Millisecond) {
			c.mu.Lock()
			running = s.running
			c.mu.Unlock()
		}
	}
	ask(1100*time.Millisecond, 0)
	ask(5*time.Second, 4900*time.Millisecond)
	ask(6*time.Second, 4900*time.Millisecond)
	if n := len(calls); n != 1 {
		t.Errorf("f ran %d times", n)
	}
	c.silences = nil
	s.running = true
	c.callSilence(s)
	if n := len(calls); n != 1 || s.running {
		t.Errorf("f ran %d times; running: %t", n, s.running)
	}
}

// What is retransmitted into a closed window is as far apart as ever is of use, and the
// kernel does not give up before the next of it.
func TestSpare(t *testing.T) {
	for timeout := minPeerTimeout; timeout < 3*time.Minute; timeout += 7 * time.Second / 10 {
		own := rtoLimit(timeout, defaultRetries2)
		c := &Conn{}
		c.sock.raw = noRawConn{}
		c.sock.ownRTO = own
		tm := &timers{peer: timeout}
		// Since something was heard, with retransmissions that nothing answers.
		rto, sent, limit := own, time.Duration(0), own
		silence, lookAt := time.Duration(0), time.Duration(0)
		for silence < timeout {
			for ; lookAt < sent+rto; lookAt += own / 2 {
				i := tcpinfo.Info{InFlight: 1, RTO: rto, SinceSent: lookAt - sent, SinceAck: lookAt, SinceData: lookAt}
				if again := c.spare(tm, &i); again != own/2 {
					t.Fatalf("%v: looks again after %v", timeout, again)
				}
				limit = tm.spared
			}
			sent += rto + rto/8
			if silence = sent; silence > 2*limit {
				if silence < timeout {
					t.Errorf("%v: the kernel gives up after %v, with %v", timeout, silence, limit)
				}
				break
			}
			rto = min(2*rto, limit)
		}
		if silence > timeout*3/2+timeout/8 {
			t.Errorf("%v: nothing is asked before %v", timeout, silence)
		}
		i := tcpinfo.Info{InFlight: 1, PeerWindow: 1}
		if c.spare(tm, &i); tm.spared != own {
			t.Errorf("%v: %v is left", timeout, tm.spared)
		}
	}
}

type noRawConn struct{ syscall.RawConn }

func (noRawConn) Control(func(uintptr)) error { return nil }

// Probes with data in flight were keep-alive: a window is probed in the place of a
// retransmission.
func TestEvidenceOfProbes(t *testing.T) {
	for _, test := range []struct {
		status Status
		want   string
	}{
		{Status{Probes: 3}, "3 keep-alive probes unanswered"},
		{Status{Probes: 3, Unacked: 1}, "3 window probes unanswered, 1 byte unacknowledged"},
		{Status{Probes: 4, Retransmits: 5, Unacked: 10}, "4 keep-alive probes unanswered, 5 retransmissions unanswered, 10 bytes unacknowledged"},
	} {
		if got := test.status.evidence(); got != test.want {
			t.Errorf("%q; want %q", got, test.want)
		}
	}
}
