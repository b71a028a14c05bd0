package liveness

import (
	"net"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
)

// KeepAlive returns the tuning of keep-alive probes that finds a peer that vanished, while
// the connection is idle, within about that time. It is the tuning of
// [Config.PeerTimeout]: an outage shorter than half of within is survived, and a live peer
// survives heavy loss, because many probes are sent in the second half: 16 for a minute, two
// seconds apart. Fewer probes with longer intervals cost less traffic during an outage and
// end more live connections on a lossy link; while the peer answers, one probe is sent
// every Idle.
//
// Kernels count in whole seconds, so the sum of what is returned is within, rounded up to
// one. Less than 4 s is taken as 4 s, and more than 65534 s as that. Zero or less returns
// a configuration that turns keep-alive off and leaves its parameters unchanged.
func KeepAlive(within time.Duration) net.KeepAliveConfig { return keepalive.For(within) }

// check reports the first field that no connection can keep.
func (cfg *Config) check() error {
	if d := cfg.PeerTimeout; d != 0 && (d < keepalive.MinPeerTimeout || d > keepalive.MaxPeerTimeout) {
		return badConfig("PeerTimeout", "%v is not in the range of %v to %v", d, keepalive.MinPeerTimeout, keepalive.MaxPeerTimeout)
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

// limitsNow returns the options of the socket, which it reads the first time: a Conn that
// changes none does not pay for knowing them.
func (s *socket) limitsNow() *keepalive.Limits {
	if l := s.limits.Load(); l != nil {
		return l
	}
	l := new(keepalive.Limits)
	_ = s.raw.Control(func(fd uintptr) { l = s.keepLimits(keepalive.Read(fd)) })
	return l
}

// lastLimits are those of the socket that was asked last: most have them in common.
var lastLimits limitsCache

func (s *socket) keepLimits(l *keepalive.Limits) *keepalive.Limits {
	if last := lastLimits.Load(); last != nil && *last == *l {
		l = last
	} else {
		lastLimits.Store(l)
	}
	s.limits.Store(l)
	return l
}

// tune sets the options that cfg asks for.
func (s *socket) tune(fd uintptr, cfg *Config, unanswered int, onFailure keepalive.Failure) (keepalive.Tuning, error) {
	if cfg.PeerTimeout == 0 && !cfg.KeepAlive.Enable || s.family == familyStream && !streamsMayBeTCP {
		return keepalive.Tuning{}, nil
	}
	tuned, err := keepalive.Tune(fd, &keepalive.Want{
		PeerTimeout: cfg.PeerTimeout, KeepAlive: cfg.KeepAlive,
		MPTCP: s.family == familyMPTCP, Unanswered: unanswered, OnFailure: onFailure,
	})
	switch {
	case err != nil && s.checkAt(fd, trigger{}).outcome > peerFinished:
		return tuned, nil // it is over, and nothing is left to be found
	case err != nil:
		return tuned, err
	}
	if cfg.PeerTimeout > 0 && tuned.Limits.On {
		s.keepLimits(&tuned.Limits)
	}
	return tuned, nil
}

// A laterChange is what tune leaves to the clock. timeouts.checking guards it.
type laterChange struct {
	*keepalive.Later
	since time.Time
}

// schedule has the clock make a change when it is due.
func (c *Conn) schedule(later *keepalive.Later) {
	t := c.timeoutsOf()
	change := &laterChange{later, time.Now()}
	t.checking.Lock()
	t.later = change
	t.checking.Unlock()
	c.handle.Wake(change.since.Add(change.After))
}

// makeLaterChange makes the change that is due, or returns how long it is until then. The
// time begins anew after a jump of the clock: perhaps the kernel stood still, too.
func (c *Conn) makeLaterChange(t *timeouts, now, jumped time.Time) (wait time.Duration) {
	d := t.later
	if d == nil {
		return 0
	}
	if jumped.After(d.since) {
		d.since = now
	}
	if wait := d.since.Add(d.After).Sub(now); wait > 0 {
		return wait
	}
	t.later = nil
	if !d.UntilFIN || !c.sock.history.WriteShut.Load() {
		_ = c.sock.raw.Control(d.Do)
	}
	return 0
}

// extendPatience has the kernel wait for at least that long; t.checking is held.
func (c *Conn) extendPatience(t *timeouts, atLeast time.Duration) {
	userTimeout, maxRTO := keepalive.PatienceFor(t.supervisor.Peer)
	userTimeout = max(userTimeout, atLeast)
	if c.sock.family != familyTCP || t.patience.Suffices(userTimeout) {
		return
	}
	if c.sock.watched {
		maxRTO = 0 // it would outlive a Close that the library does not see
	}
	_ = c.sock.raw.Control(func(fd uintptr) { t.patience.Extend(fd, userTimeout, maxRTO) })
	t.maxRTO.Store(int64(t.patience.MaxRTO()))
}

// restorePatience has the kernel wait as long as it would without the library;
// t.checking is held.
func (c *Conn) restorePatience(t *timeouts) {
	if t.patience.InForce() {
		_ = c.sock.raw.Control(t.patience.Restore)
		t.maxRTO.Store(0)
	}
}

// limitsInForce returns l with what extendPatience has set. It takes no lock.
func (t *timeouts) limitsInForce(l *keepalive.Limits) keepalive.Limits {
	inForce := *l
	if limit := t.maxRTO.Load(); limit > 0 {
		inForce.MaxRTO = time.Duration(limit)
	}
	return inForce
}

// limitsFor is what the supervisor needs to know of the socket's options.
func (c *Conn) limitsFor(t *timeouts, l *keepalive.Limits) *keepalive.Limits {
	if t.supervisor.Peer == 0 || !c.counted() {
		return nil
	}
	*l = t.limitsInForce(c.sock.limitsNow())
	return l
}
