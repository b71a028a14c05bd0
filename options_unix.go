//go:build unix

package liveness

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"time"

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

// plan returns what is to be set for cfg, in this order. get asks the socket for an
// option of level IPPROTO_TCP.
func (o *options) plan(cfg *Config, get func(name int) (int, error)) (opts []sockopt, err error) {
	p := cfg.probes()
	if cfg.PeerTimeout > 0 && !cfg.KeepAlive.Enable {
		if p, err = o.fit(cfg.PeerTimeout); err != nil {
			return nil, err
		}
	}
	if o.idle == 0 && (p.Idle >= 0 || p.Interval >= 0 || p.Count >= 0) {
		return nil, fmt.Errorf("no tuning of probes for a connection: %w on %s", errors.ErrUnsupported, runtime.GOOS)
	}
	add := func(level, name, value int) { opts = append(opts, sockopt{level, name, value}) }
	if o.dataLimit != 0 && cfg.PeerTimeout > 0 {
		// A limit that is lower is the user's own.
		limit := ticks(cfg.PeerTimeout, o.dataTick)
		if now, err := get(o.dataLimit); err == nil && (now <= 0 || now > limit) {
			add(unix.IPPROTO_TCP, o.dataLimit, limit)
		}
	}
	if p.Interval > 0 {
		add(unix.IPPROTO_TCP, o.interval, ticks(p.Interval, o.tick))
	}
	if p.Count > 0 {
		add(unix.IPPROTO_TCP, o.count, p.Count)
	}
	add(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	// Last: it starts the timer with the values that are set by then, and on macOS only
	// if SO_KEEPALIVE is.
	if p.Idle > 0 {
		add(unix.IPPROTO_TCP, o.idle, ticks(p.Idle, o.tick))
	}
	return opts, nil
}

// ticks returns how many of them d is, whole seconds counted, as by package net.
func ticks(d, tick time.Duration) int { return int(wholeSeconds(d) / tick) }

// fit is KeepAlive within what the system takes.
func (o *options) fit(within time.Duration) (net.KeepAliveConfig, error) {
	p := KeepAlive(within)
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
func (o *options) limits(on bool, get func(name int) (int, error)) *limits {
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
	l := &limits{
		idle:     time.Duration(read(o.idle)) * o.tick,
		interval: time.Duration(read(o.interval)) * o.tick,
		count:    read(o.count),
	}
	if !o.probesFindData {
		// It stands in the place of a number of retransmissions.
		l.maxRTO = time.Duration(read(o.dataLimit)) * o.dataTick
	}
	// There is a bound only if there is one for data in flight, too.
	l.keepAlive = on && l.idle > 0 && l.interval > 0 && l.count > 0 && (o.probesFindData || l.maxRTO > 0)
	return l
}

// untune puts back what tune has changed, in the opposite order.
func (s *socket) untune(fd uintptr) {
	for _, o := range slices.Backward(s.setup.undo) {
		_ = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
	}
	s.setup.undo = nil
}
