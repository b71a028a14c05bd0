package liveness

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
)

// The range of Config.PeerTimeout.
const (
	minPeerTimeout = keepalive.MinPeerTimeout
	maxPeerTimeout = keepalive.MaxPeerTimeout
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
func KeepAlive(within time.Duration) net.KeepAliveConfig { return keepalive.For(within) }

// check reports the first field that no connection can keep.
func (cfg *Config) check() error {
	if d := cfg.PeerTimeout; d != 0 && (d < minPeerTimeout || d > maxPeerTimeout) {
		return badConfig("PeerTimeout", "%v is not in the range of %v to %v", d, minPeerTimeout, maxPeerTimeout)
	}
	if !cfg.KeepAlive.Enable && cfg.KeepAlive != (net.KeepAliveConfig{}) {
		return badConfig("KeepAlive", "values without Enable")
	}
	if d := cfg.KeepAlive.Idle; d > keepalive.MaxProbeTime {
		return badConfig("KeepAlive.Idle", "%v is more than %v", d, keepalive.MaxProbeTime)
	}
	if d := cfg.KeepAlive.Interval; d > keepalive.MaxProbeTime {
		return badConfig("KeepAlive.Interval", "%v is more than %v", d, keepalive.MaxProbeTime)
	}
	if n := cfg.KeepAlive.Count; n > keepalive.MaxProbeCount {
		return badConfig("KeepAlive.Count", "%d is more than %d", n, keepalive.MaxProbeCount)
	}
	if d := cfg.StallTimeout; d != 0 && d < minStallTimeout {
		return badConfig("StallTimeout", "%v is less than %v", d, minStallTimeout)
	}
	if d := cfg.ReadIdleTimeout; d != 0 && d < minReadIdleTimeout {
		return badConfig("ReadIdleTimeout", "%v is less than %v", d, minReadIdleTimeout)
	}
	return nil
}

// limitsNow returns the options of the socket, which it reads the first time: a
// Conn that changes none does not pay for knowing them.
func (s *socket) limitsNow() *keepalive.Limits {
	if l := s.limits.Load(); l != nil {
		return l
	}
	l := new(keepalive.Limits)
	_ = s.raw.Control(func(fd uintptr) { l = s.remember(keepalive.Read(fd)) })
	return l
}

// lastLimits are those of the socket that was asked last: most have them in common.
var lastLimits atomic.Pointer[keepalive.Limits]

func (s *socket) remember(l *keepalive.Limits) *keepalive.Limits {
	if last := lastLimits.Load(); last != nil && *last == *l {
		l = last
	} else {
		lastLimits.Store(l)
	}
	s.limits.Store(l)
	return l
}

// tune does what cfg asks for, inside the first look.
func (s *socket) tune(fd uintptr, cfg *Config) (*keepalive.Tuning, error) {
	if s.family == familyStream && !streamsMayBeTCP || cfg.PeerTimeout == 0 && !cfg.KeepAlive.Enable {
		return nil, nil
	}
	tuned, err := keepalive.Tune(fd, s.family == familyMPTCP, &keepalive.Want{PeerTimeout: cfg.PeerTimeout, KeepAlive: cfg.KeepAlive})
	switch {
	case err != nil && s.lookAt(fd, hint{}).outcome > finSeen:
		return nil, nil // it is over, and nothing is left to be found
	case err != nil:
		return nil, err
	}
	s.ownRTO = tuned.MaxRTO
	if tuned.Limits != nil {
		s.remember(tuned.Limits)
	}
	return tuned, nil
}

// A deferral is what tune leaves to the clock.
type deferral struct {
	*keepalive.Later
	since time.Time
}

// put has the clock do what is left to do when it is due.
func (c *Conn) put(later *keepalive.Later) {
	t := c.timersOf()
	d := &deferral{later, time.Now()}
	t.checking.Lock()
	t.deferred = d
	t.checking.Unlock()
	c.wake(t, d.since.Add(d.After))
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
	if wait := d.since.Add(d.After).Sub(now); wait > 0 {
		return wait
	}
	t.deferred = nil
	if !d.UntilFIN || !c.sock.writeShut.Load() {
		_ = c.sock.raw.Control(d.Do)
	}
	return 0
}
