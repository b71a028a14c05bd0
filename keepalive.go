package liveness

import (
	"errors"
	"net"
	"time"
)

// KeepAlive returns the tuning of keep-alive probes that finds a peer that
// vanished, while the connection is idle, within about that time. An outage of
// less than half of it is survived at any phase of the probe cycle, so that no
// single lost probe is fatal.
//
// Kernels count whole seconds, so within is rounded up to one; less than 4 s is
// taken as 4 s, and more than 65 534 s as that. Zero or less returns a
// configuration that turns keep-alive off and leaves the rest unchanged.
func KeepAlive(within time.Duration) net.KeepAliveConfig {
	if within <= 0 {
		return net.KeepAliveConfig{Idle: -1, Interval: -1, Count: -1}
	}
	within = min(max(within, minPeerTimeout), maxPeerTimeout)
	interval := max(time.Second, (within / 6).Truncate(time.Second))
	count := 1 + int((within/2+interval-1)/interval)
	whole := (within + time.Second - 1).Truncate(time.Second)
	idle := max(time.Second, whole-time.Duration(count)*interval)
	return net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: count}
}

// The range of Config.PeerTimeout. Below, whole seconds leave no room for more
// than one probe; above, the kernel's range for the idle time (32 767 s) ends.
const (
	minPeerTimeout = 4 * time.Second
	maxPeerTimeout = 65534 * time.Second
)

var errNotBuilt = errors.ErrUnsupported

// check reports the first field that no connection can keep.
func (cfg *Config) check() error {
	switch {
	case cfg.PeerTimeout != 0:
		return badConfig("PeerTimeout", "%w", errNotBuilt)
	case cfg.KeepAlive != net.KeepAliveConfig{}:
		return badConfig("KeepAlive", "%w", errNotBuilt)
	}
	return cfg.checkTimeouts()
}
