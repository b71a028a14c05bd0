package liveness

import (
	"net"
	"time"
)

// The range of Config.PeerTimeout. Below, whole seconds leave no room for more
// than one probe; above, the kernel's range for the idle time (32 767 s) ends.
const (
	minPeerTimeout = 4 * time.Second
	maxPeerTimeout = 65534 * time.Second
)

// The ranges of the probe options: include/net/tcp.h of Linux, the narrowest.
const (
	maxProbeTime  = 32767 * time.Second
	maxProbeCount = 127
)

// KeepAlive returns the tuning of keep-alive probes that finds a peer that
// vanished, while the connection is idle, within about that time. An outage of
// less than half of it is survived at any phase of the probe cycle, so no single
// lost probe is fatal.
//
// Kernels count in whole seconds, so the sum of what is returned is within,
// rounded up to one. Less than 4 s is taken as 4 s, and more than 65534 s as that.
// Zero or less returns a configuration that turns keep-alive off and leaves its
// parameters unchanged.
func KeepAlive(within time.Duration) net.KeepAliveConfig {
	if within <= 0 {
		return net.KeepAliveConfig{Idle: -1, Interval: -1, Count: -1}
	}
	within = wholeSeconds(min(max(within, minPeerTimeout), maxPeerTimeout))
	interval := max(time.Second, (within / 6).Truncate(time.Second))
	count := 1 + int((within/2+interval-1)/interval)
	idle := max(time.Second, within-time.Duration(count)*interval)
	return net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: count}
}

// wholeSeconds rounds up, as package net does.
func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

// check reports the first field that no connection can keep.
func (cfg *Config) check() error {
	if d := cfg.PeerTimeout; d != 0 && (d < minPeerTimeout || d > maxPeerTimeout) {
		return badConfig("PeerTimeout", "%v is not in the range of %v to %v", d, minPeerTimeout, maxPeerTimeout)
	}
	if !cfg.KeepAlive.Enable && cfg.KeepAlive != (net.KeepAliveConfig{}) {
		return badConfig("KeepAlive", "values without Enable")
	}
	if d := cfg.KeepAlive.Idle; d > maxProbeTime {
		return badConfig("KeepAlive.Idle", "%v is more than %v", d, maxProbeTime)
	}
	if d := cfg.KeepAlive.Interval; d > maxProbeTime {
		return badConfig("KeepAlive.Interval", "%v is more than %v", d, maxProbeTime)
	}
	if n := cfg.KeepAlive.Count; n > maxProbeCount {
		return badConfig("KeepAlive.Count", "%d is more than %d", n, maxProbeCount)
	}
	if d := cfg.StallTimeout; d != 0 && d < minStallTimeout {
		return badConfig("StallTimeout", "%v is less than %v", d, minStallTimeout)
	}
	if d := cfg.ReadIdleTimeout; d != 0 && d < minReadIdleTimeout {
		return badConfig("ReadIdleTimeout", "%v is less than %v", d, minReadIdleTimeout)
	}
	return nil
}

// probes returns the tuning that cfg asks for, with Enable unset if it asks for
// none. Negative fields stay unchanged, zero ones are package net's defaults.
func (cfg *Config) probes() net.KeepAliveConfig {
	switch {
	case cfg.KeepAlive.Enable:
		p := cfg.KeepAlive
		if p.Idle == 0 {
			p.Idle = 15 * time.Second
		}
		if p.Interval == 0 {
			p.Interval = 15 * time.Second
		}
		if p.Count == 0 {
			p.Count = 9
		}
		return p
	case cfg.PeerTimeout > 0:
		return KeepAlive(cfg.PeerTimeout)
	default:
		return net.KeepAliveConfig{}
	}
}

// A sockopt is the value of a socket option.
type sockopt struct{ level, name, value int }

// limits are the options that a socket has, and with them how long its kernel
// waits for a peer that vanished.
type limits struct {
	keepAlive      bool
	idle, interval time.Duration
	count          int
	userTimeout    time.Duration // TCP_USER_TIMEOUT; 0 if there is none
	maxRTO         time.Duration // TCP_RTO_MAX_MS, or the kernel's constant
	retries        int           // the sysctl tcp_retries2
}

// idleBound is when the kernel gives up a peer that vanishes while nothing is
// outstanding, counted from the last sign of life; 0 is never. TCP_USER_TIMEOUT
// takes the place of the count of probes (tcp_keepalive_timer).
func (l *limits) idleBound() time.Duration {
	if !l.keepAlive {
		return 0
	}
	return l.idle + time.Duration(l.probes())*l.interval
}

// probes is how many go unanswered before the kernel gives up.
func (l *limits) probes() int {
	if l.userTimeout > 0 {
		return int(max(1, (l.userTimeout-l.idle+l.interval-1)/max(1, l.interval)))
	}
	return l.count
}

// lateIdleBound is idleBound with what the timers may be late.
func (l *limits) lateIdleBound() time.Duration {
	return lapse(l.idle) + time.Duration(l.probes())*lapse(l.interval)
}

// lapse is how long, at the most, a timer of Linux takes that is set for d. They expire
// on a wheel, which gets coarser by eight for each turn of 63 of its steps, of which the
// first is a tick (calc_wheel_index in kernel/time/timer.c): 17 s are 18.4 s where a
// second has 250 ticks. How many it has nobody tells.
func lapse(d time.Duration) (longest time.Duration) {
	for _, tick := range []time.Duration{time.Second / 100, time.Second / 250, time.Second / 300, time.Second / 1000} {
		step := tick
		for range 8 {
			if d < 63*step {
				break
			}
			step *= 8
		}
		longest = max(longest, (d/step+1)*step)
	}
	return longest
}

// busyBound is the same while data are outstanding, counted from their first
// retransmission.
func (l *limits) busyBound() time.Duration {
	if l.userTimeout > 0 {
		return l.userTimeout + 2*minRTO
	}
	return retransmitTime(l.retries, l.maxRTO) + l.maxRTO
}

// closedBound is the same behind a window that has been closed for long, and so is
// probed as rarely as ever.
func (l *limits) closedBound() time.Duration {
	if l.userTimeout > 0 {
		return l.busyBound()
	}
	return time.Duration(l.retries+1) * lapse(l.maxRTO)
}

// detectWithin is the worst case of both, with what timers may be late; 0 means
// that there is no bound. Without peerTimeout they add up, because the kernel
// begins afresh when the application writes just before the last probe is given up.
func (l *limits) detectWithin(peerTimeout time.Duration) time.Duration {
	idle := l.idleBound()
	if idle == 0 {
		return 0
	}
	idle = max(idle+idle/20, l.lateIdleBound()) + 2*time.Second
	if peerTimeout == 0 {
		return idle + l.busyBound()
	}
	busy := peerTimeout + peerTimeout/4 + time.Second
	if l.maxRTO > peerTimeout/4 {
		// The verdict waits for a retransmission, and these are as far apart as the
		// time that has passed. A window that was closed for long is probed every
		// maxRTO, and the verdict waits for the second probe without an answer, half of
		// peerTimeout after the first was seen.
		busy = max(2*peerTimeout, max(peerTimeout, l.maxRTO+peerTimeout*5/8)+l.maxRTO) + time.Second
	}
	return max(idle, min(busy, idle+l.busyBound()))
}

const (
	minRTO = 200 * time.Millisecond // TCP_RTO_MIN
	maxRTO = 120 * time.Second      // TCP_RTO_MAX

	defaultRetries2 = 15 // TCP_RETR2
)

// retransmitTime is for how long the kernel retransmits at least before it gives
// up after n time-outs in a row, the first after minRTO whatever the round-trip
// time, each twice the one before up to limit (tcp_model_timeout in
// net/ipv4/tcp_timer.c).
func retransmitTime(n int, limit time.Duration) time.Duration {
	total, rto := time.Duration(0), minRTO
	for range n + 1 {
		total += rto
		rto = min(2*rto, limit)
	}
	return total
}

// rtoLimit returns the smallest TCP_RTO_MAX_MS with which the kernel, after its
// retries, gives up no sooner than a quarter beyond peerTimeout: the library is to
// judge, and an outage of half of it is to be survived. 0 means that there is none.
func rtoLimit(peerTimeout time.Duration, retries int) time.Duration {
	want := peerTimeout + peerTimeout/4
	for limit := time.Second; limit <= maxRTO; limit += 100 * time.Millisecond {
		if retransmitTime(retries, limit) >= want {
			return limit
		}
	}
	return 0
}

// limitsNow returns the options of the socket, which it reads the first time: a
// Conn that changes none does not pay for knowing them.
func (s *socket) limitsNow() *limits {
	if l := s.limits.Load(); l != nil {
		return l
	}
	l := new(limits)
	_ = s.raw.Control(func(fd uintptr) { l = s.rememberLimits(fd) })
	return l
}

// rememberLimits reads the options of the socket, for limitsNow.
func (s *socket) rememberLimits(fd uintptr) *limits { return s.remember(readLimits(fd)) }

func (s *socket) remember(l *limits) *limits {
	if last := theHub.limits.Load(); last != nil && *last == *l {
		l = last
	} else {
		theHub.limits.Store(l)
	}
	s.limits.Store(l)
	return l
}

// A deferral is what tune leaves to the clock.
type deferral struct {
	do    func(fd uintptr)
	lasts time.Duration // until it is due
	since time.Time
}

// put has the clock do d when it is due.
func (c *Conn) put(d *deferral) {
	t := c.timersOf()
	t.checking.Lock()
	d.since = time.Now()
	t.deferred = d
	t.checking.Unlock()
	c.wake(t, d.since.Add(d.lasts))
}

// doDeferred does what is due, or returns how long it is until then. It begins anew
// after a jump of the clock: perhaps the kernel stood still, too.
func (c *Conn) doDeferred(t *timers, now, jumped time.Time) (wait time.Duration) {
	d := t.deferred
	if d == nil {
		return 0
	}
	if jumped.After(d.since) {
		d.since = now
	}
	if wait := d.since.Add(d.lasts).Sub(now); wait > 0 {
		return wait
	}
	t.deferred = nil
	_ = c.sock.raw.Control(d.do)
	return 0
}
