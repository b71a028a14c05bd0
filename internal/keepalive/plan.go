package keepalive

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// An option is a socket option and its value.
type option struct {
	name   int // of level IPPROTO_TCP, or one of the two below
	value  int
	second int // the interval, with keepAliveVals
}

const (
	switchOn      = -1 // SO_KEEPALIVE, whose level and number differ by processor on Linux
	keepAliveVals = -2 // Windows' SIO_KEEPALIVE_VALS: milliseconds of idle time and interval
)

// A plan is what is to be set, in this order.
type plan struct {
	options [5]option
	n       int
	probes  net.KeepAliveConfig // as wanted; what is not positive stays unchanged
	grace   grace
}

func (p *plan) add(o option) {
	p.options[p.n] = o
	p.n++
}

// A grace is a count of probes for the time after the tuning, for a connection that was
// silent before. Where the wanted count would apply to that silence already, a live peer
// that had nothing to say would be given up without being asked.
//
// A kernel that counts by age ends the connection when its timer comes and the age is
// idle + count · interval or more, before it probes. The first count therefore spans ten
// days of silence, and the wanted one is set when the timer and all wanted probes have
// had their time. If one was answered, the age has begun anew. If none was, the next
// timer ends the connection, one interval later at most.
//
// A kernel that counts probes has counted those without an answer so far. The first
// count is larger by these.
type grace struct {
	option      int           // the name of the count option
	count, then int           // its values: at first, and afterwards
	lasts       time.Duration // until it is over; 0 if there is none
	untilFIN    bool          // the count must not be set after the local FIN
}

// longestSilence is in a kernel's ticks, mostly of a millisecond, well within an int32.
const longestSilence = 10 * 24 * time.Hour

// plan returns how w is set on a socket, or the error of Wrap. current asks the socket
// for an option.
func (s *system) plan(w *Want, current func(name int) (int, error)) (p plan, err error) {
	if p.probes, err = s.probesFor(w); err != nil {
		return p, err
	}
	if w.PeerTimeout > 0 {
		if err := s.planDataLimit(&p, w, current); err != nil {
			return p, err
		}
	}
	if s.oneCall {
		if p.add(option{switchOn, 1, 0}); p.probes.Idle <= 0 {
			return p, nil
		}
		p.add(option{keepAliveVals, ticks(p.probes.Idle, s.tick), ticks(p.probes.Interval, s.tick)})
		return p, nil
	}
	p.grace = s.grace(p.probes, w.Unanswered, current)
	switch {
	case p.grace.lasts > 0: // before the interval, with which the old count may be too few
		p.add(option{s.count, p.grace.count, 0})
	case p.probes.Count > 0:
		p.add(option{s.count, p.probes.Count, 0})
	}
	if p.probes.Interval > 0 {
		p.add(option{s.interval, ticks(p.probes.Interval, s.tick), 0})
	}
	p.add(option{switchOn, 1, 0})
	// The idle time comes last. It starts the timer with the values that are set by then,
	// on macOS only if SO_KEEPALIVE is; and on Linux it alone moves a timer that runs
	// already, and may fire it at once (tcp_sock_set_keepidle_locked in net/ipv4/tcp.c).
	if p.probes.Idle > 0 {
		p.add(option{s.idle, ticks(p.probes.Idle, s.tick), 0})
	}
	return p, nil
}

// probesFor returns the probes that w asks for, as near as the system goes.
func (s *system) probesFor(w *Want) (net.KeepAliveConfig, error) {
	p := w.KeepAlive
	if !p.Enable {
		var err error
		if p, err = s.fit(w.PeerTimeout); err != nil {
			return p, bad("PeerTimeout", "%w", err)
		}
	} else {
		// As package net has it.
		if p.Idle == 0 {
			p.Idle = 15 * time.Second
		}
		if p.Interval == 0 {
			p.Interval = 15 * time.Second
		}
		if p.Count == 0 {
			p.Count = 9
		}
	}
	switch {
	case s.oneCall && p.Idle > 0 && p.Interval > 0 && (!w.KeepAlive.Enable || p.Count < 0):
		p.Count = s.fixedCount
	case s.count == 0 && (p.Idle >= 0 || p.Interval >= 0 || p.Count >= 0):
		return p, bad(w.field(), "no tuning of probes for a connection: %w on %s", errors.ErrUnsupported, s.name)
	}
	return p, nil
}

// fit is For within what the system takes.
func (s *system) fit(within time.Duration) (net.KeepAliveConfig, error) {
	p := For(within)
	within = wholeSeconds(min(max(within, MinPeerTimeout), MaxPeerTimeout))
	if n := time.Duration(s.fixedCount); n > 0 {
		p.Interval, p.Count = roundUp((within/2+n-2)/(n-1), s.tick), s.fixedCount
		p.Idle = within - n*p.Interval
		return p, nil
	}
	interval := p.Interval
	if s.maxInterval > 0 {
		interval = min(interval, s.maxInterval)
	}
	for ; interval >= time.Second; interval -= time.Second {
		if p = spread(within, interval); p.Idle >= s.minIdle {
			if s.timerWheel {
				p.Idle = idleForBound(p, within)
			}
			return p, nil
		}
	}
	return p, fmt.Errorf("%v leaves too little after the %v of silence that %s waits for before it probes: %w",
		within, s.minIdle, s.name, errors.ErrUnsupported)
}

// planDataLimit adds the limit for data in flight that PeerTimeout needs.
func (s *system) planDataLimit(p *plan, w *Want, current func(name int) (int, error)) error {
	limit, now, err := 0, 0, errMissing
	if s.dataLimit != 0 {
		limit = ticks(wholeSeconds(w.PeerTimeout), s.dataTick)
		now, err = current(s.dataLimit)
	}
	switch {
	case isMissing(err) && (s.inFlight == nothingFinds || s.inFlight == limitFinds):
		return bad("PeerTimeout", "no limit for data in flight: %w on %s", errors.ErrUnsupported, s.name)
	case isMissing(err):
	case err != nil || now <= 0 || now > limit: // a lower one is the application's own
		p.add(option{s.dataLimit, limit, 0})
	}
	return nil
}

// errMissing stands for the answer to an option that the table does not have.
var errMissing = fmt.Errorf("no such option: %w", errors.ErrUnsupported)

// grace returns the one for p.
func (s *system) grace(p net.KeepAliveConfig, unanswered int, current func(name int) (int, error)) grace {
	if s.count == 0 || s.counting == byProbes && (unanswered <= 0 || p.Count <= 0) {
		return grace{}
	}
	value := func(set, name int) int {
		if set <= 0 {
			set, _ = current(name) // unchanged
		}
		return set
	}
	idle, interval := value(ticks(p.Idle, s.tick), s.idle), value(ticks(p.Interval, s.tick), s.interval)
	g := grace{option: s.count, then: value(p.Count, s.count)}
	if idle <= 0 || interval <= 0 || g.then <= 0 {
		return grace{}
	}
	bound := func(tick time.Duration) time.Duration { return time.Duration(idle+g.then*interval) * tick }
	if s.counting == byProbes {
		if g.count = min(g.then+unanswered, MaxProbeCount); g.count > g.then {
			g.lasts = bound(s.tick)
		}
		return g
	}
	// After the local FIN, setting the count starts a timer on macOS, FreeBSD and NetBSD
	// that ends the connection after count · interval (FIN_WAIT_2 in tcp_ctloutput and
	// change_keepalive), on macOS even if the peer speaks.
	g.untilFIN = true
	if g.count = int(longestSilence / (time.Duration(interval) * s.tick)); g.count > g.then {
		// Half a second for each probe is how late timers come on macOS at times. A second
		// is what NetBSD's tick may turn out to be.
		g.lasts = bound(max(s.tick, time.Second)) + time.Duration(g.then)*time.Second/2
	}
	return g
}
