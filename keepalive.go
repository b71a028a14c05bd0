package liveness

import (
	"net"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/supervise"
)

// KeepAlive returns the tuning of keep-alive probes that finds a peer that vanished, while
// the connection is idle, within about that time. It is the tuning of [Config.PeerTimeout],
// which on Linux shortens Idle where timers may be late. An outage shorter than half of
// within is survived, and a live peer survives heavy loss, because many probes are sent in
// the second half: 16 for a minute, two seconds apart. Fewer probes with longer intervals
// cost less traffic during an outage and end more live connections on a lossy link; while
// the peer answers, one probe is sent every Idle.
//
// Kernels count in whole seconds, so the sum of what is returned is within, rounded up to
// one. Less than 4 s is taken as 4 s, and more than 65534 s as that. Zero or less returns
// a configuration that turns keep-alive off and leaves its parameters unchanged.
func KeepAlive(within time.Duration) net.KeepAliveConfig { return keepalive.For(within) }

// check reports the first field that no connection can keep.
func (cfg *Config) check() error {
	if cfg == nil {
		return nil
	}
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
	if d := cfg.StallTimeout; d != 0 && d < supervise.MinStall {
		return badConfig("StallTimeout", "%v is less than %v", d, supervise.MinStall)
	}
	if d := cfg.ReadIdleTimeout; d != 0 && d < supervise.MinIdle {
		return badConfig("ReadIdleTimeout", "%v is less than %v", d, supervise.MinIdle)
	}
	return nil
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
		s.limits.Keep(&tuned.Limits)
	}
	return tuned, nil
}
