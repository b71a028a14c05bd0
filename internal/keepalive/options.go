//go:build unix && !linux

package keepalive

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// options is how a system takes the tuning of its timers. Each but Linux says so in
// its keepalive_*.go; what it does not have is zero.
type options struct {
	// The names of the probe options, at level IPPROTO_TCP, and what the first two count.
	idle, interval, count int
	tick                  time.Duration

	// What the system does not take less and more of.
	minIdle, maxInterval time.Duration

	// The name of the option that limits for how long data may be unacknowledged, and
	// what it counts.
	dataLimit int
	dataTick  time.Duration

	// Whether probes go on while data are unacknowledged, and find the peer that
	// vanished then. Linux's stop.
	probesFindData bool

	// Counts the bytes in the send buffer.
	sendQueue func(fd uintptr) int
}

// A plan is what is to be set, in this order, and for how many probes later on.
type plan struct {
	opts []sockopt
	grace
}

// A grace is for a connection that has been silent for longer than it may be from now
// on. None of these systems counts probes (of AIX it is not known). They go by the age
// of the last segment, and do so before they probe: where that is idle + count ·
// interval or more when the timer comes, the connection is over, and no option moves
// it. A live peer that had nothing to say would never be asked.
//
// So at first the count is one that spans ten days of silence; a longer one can still
// be the end of a live peer. The timer and the probes are as wanted. When idle + count ·
// interval has passed, by the wanted count, all the probes have been sent that a peer
// is to have the chance to answer, and the wanted count is set. If one was answered, the
// age has begun anew, and an outage is survived as ever after. If none was, the next
// timer ends the connection: as after an outage of the same length, and one interval
// later at most.
type grace struct {
	count, then int           // values of the count option: at first, and afterwards
	lasts       time.Duration // until it is over; 0 if there is none
}

// longestSilence is in a kernel's ticks, mostly of a millisecond, well within an int32.
const longestSilence = 10 * 24 * time.Hour

// grace returns the one for what is about to be set.
func (o *options) grace(p net.KeepAliveConfig, get func(name int) (int, error)) grace {
	if o.idle == 0 {
		return grace{}
	}
	value := func(set, name int) int {
		if set <= 0 {
			set, _ = get(name) // unchanged
		}
		return set
	}
	idle, interval := value(ticks(p.Idle, o.tick), o.idle), value(ticks(p.Interval, o.tick), o.interval)
	count := value(p.Count, o.count)
	if idle <= 0 || interval <= 0 || count <= 0 {
		return grace{}
	}
	g := grace{count: int(longestSilence / (time.Duration(interval) * o.tick)), then: count}
	if g.count > count {
		// Half a second for each probe is how late timers come on macOS at times. A second
		// is what NetBSD's tick may turn out to be.
		g.lasts = time.Duration(idle+count*interval)*max(o.tick, time.Second) + time.Duration(count)*time.Second/2
	}
	return g
}

// plan returns what cfg takes, or the error of Wrap. get asks the socket for an option of
// level IPPROTO_TCP.
func (o *options) plan(cfg *Want, get func(name int) (int, error)) (plan, error) {
	p, field := cfg.probes(), "KeepAlive"
	if !cfg.KeepAlive.Enable {
		var err error
		if p, err = o.fit(cfg.PeerTimeout); err != nil {
			return plan{}, bad("PeerTimeout", "%w", err)
		}
		field = "PeerTimeout"
	}
	if o.idle == 0 && (p.Idle >= 0 || p.Interval >= 0 || p.Count >= 0) {
		return plan{}, bad(field, "no tuning of probes for a connection: %w on %s", errors.ErrUnsupported, runtime.GOOS)
	}
	var opts []sockopt
	add := func(level, name, value int) { opts = append(opts, sockopt{level, name, value}) }
	if cfg.PeerTimeout > 0 {
		limit, now, err := 0, 0, error(unix.ENOPROTOOPT)
		if o.dataLimit != 0 {
			limit = ticks(cfg.PeerTimeout, o.dataTick)
			now, err = get(o.dataLimit)
		}
		switch {
		case err == unix.ENOPROTOOPT && !o.probesFindData:
			return plan{}, bad("PeerTimeout", "no limit for data in flight: %w on %s", errors.ErrUnsupported, runtime.GOOS)
		case err == unix.ENOPROTOOPT:
		case err != nil || now <= 0 || now > limit: // one that is lower is the user's own
			add(unix.IPPROTO_TCP, o.dataLimit, limit)
		}
	}
	g := o.grace(p, get)
	switch {
	case g.lasts > 0: // before the interval, with which the old count may be too few
		add(unix.IPPROTO_TCP, o.count, g.count)
	case p.Count > 0:
		add(unix.IPPROTO_TCP, o.count, p.Count)
	}
	if p.Interval > 0 {
		add(unix.IPPROTO_TCP, o.interval, ticks(p.Interval, o.tick))
	}
	add(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	// Last: it starts the timer with the values that are set by then, and on macOS only
	// if SO_KEEPALIVE is.
	if p.Idle > 0 {
		add(unix.IPPROTO_TCP, o.idle, ticks(p.Idle, o.tick))
	}
	return plan{opts, g}, nil
}

// set does what p says, and returns what was there before, also if it fails. A kernel
// that does not take so many probes, or not all of them, gets those that are wanted.
func (o *options) set(p *plan, get func(level, name int) (int, error), set func(sockopt) error) (undo []sockopt, err error) {
	then := p.then
	for _, opt := range p.opts {
		before, err := get(opt.level, opt.name)
		if err != nil {
			return undo, err
		}
		err = set(opt)
		if err == nil {
			undo = append(undo, sockopt{opt.level, opt.name, before})
		}
		if p.lasts > 0 && opt == (sockopt{unix.IPPROTO_TCP, o.count, p.count}) {
			if now, _ := get(opt.level, opt.name); err == nil && now == p.count {
				continue
			}
			p.grace = grace{}
			undo = append(undo, sockopt{opt.level, opt.name, before}) // once or twice is the same
			opt.value = then
			err = set(opt)
		}
		if err != nil {
			return undo, err
		}
	}
	return undo, nil
}

// end ends g, unless somebody has set another count meanwhile.
func (g *grace) end(name int, get func(name int) (int, error), set func(sockopt) error) {
	if now, err := get(name); err == nil && now == g.count {
		_ = set(sockopt{unix.IPPROTO_TCP, name, g.then})
	}
}

// ticks returns how many of them d is, whole seconds counted, as by package net.
func ticks(d, tick time.Duration) int { return int(wholeSeconds(d) / tick) }

// fit is KeepAlive within what the system takes.
func (o *options) fit(within time.Duration) (net.KeepAliveConfig, error) {
	p := For(within)
	within = wholeSeconds(within)
	interval := p.Interval
	if o.maxInterval > 0 {
		interval = min(interval, o.maxInterval)
	}
	for ; interval >= time.Second; interval -= time.Second {
		// As in KeepAlive, the probes span half of the time, wherever an outage begins.
		p.Interval, p.Count = interval, 1+int((within/2+interval-1)/interval)
		p.Idle = max(time.Second, within-time.Duration(p.Count)*interval)
		if p.Idle >= o.minIdle {
			return p, nil
		}
	}
	return p, fmt.Errorf("%v leaves too little after the %v of silence that %s waits for before it probes: %w",
		within, o.minIdle, runtime.GOOS, errors.ErrUnsupported)
}

// limits puts what the socket has into the words of portable code.
func (o *options) limits(on bool, get func(name int) (int, error)) *Limits {
	read := func(name int) int {
		if name == 0 {
			return 0
		}
		n, err := get(name)
		if err != nil {
			return 0
		}
		return max(0, n)
	}
	l := &Limits{
		Idle:     time.Duration(read(o.idle)) * o.tick,
		Interval: time.Duration(read(o.interval)) * o.tick,
		Count:    read(o.count),
	}
	if !o.probesFindData {
		// It stands in the place of a number of retransmissions.
		l.MaxRTO = time.Duration(read(o.dataLimit)) * o.dataTick
	}
	// There is a bound only if there is one for data in flight, too.
	l.On = on && l.Idle > 0 && l.Interval > 0 && l.Count > 0 && (o.probesFindData || l.MaxRTO > 0)
	return l
}

// SendQueue counts the bytes in the send buffer of a TCP socket; 0 where the system
// does not tell.
func SendQueue(fd uintptr) int {
	if o := systemOptions(); o.sendQueue != nil {
		return o.sendQueue(fd)
	}
	return 0
}

// cInt returns what an ioctl that gives a C int has put into a Go int, which has room
// for two.
func cInt(n int) int { return int(*(*int32)(unsafe.Pointer(&n))) }
