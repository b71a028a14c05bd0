// Package keepalive tunes the timers by which a kernel finds that a TCP peer has
// vanished: keep-alive probes for an idle connection, and how long the kernel goes on
// with data in flight. What differs by system is the table in systems.go.
//
// Functions that take a descriptor must be called while it cannot be closed, as inside
// syscall.RawConn.Control. They do not block.
package keepalive

import (
	"fmt"
	"net"
	"time"
)

// The range of Config.PeerTimeout. Below, whole seconds leave no room for more
// than one probe; above, the kernel's range for the idle time (32 767 s) ends.
const (
	MinPeerTimeout = 4 * time.Second
	MaxPeerTimeout = 65534 * time.Second
)

// The ranges of the probe options: include/net/tcp.h of Linux, the narrowest.
const (
	MaxProbeTime  = 32767 * time.Second
	MaxProbeCount = 127
)

// For returns the tuning of keep-alive probes that finds a vanished peer of an idle
// connection within about that time: many probes, because each can be lost. An outage
// of less than half of it is survived at any phase of the probe cycle.
//
// Kernels count in whole seconds, so the sum of what is returned is within,
// rounded up to one. Less than 4 s is taken as 4 s, and more than 65534 s as that.
// Zero or less returns a configuration that turns keep-alive off and leaves its
// parameters unchanged.
func For(within time.Duration) net.KeepAliveConfig {
	if within <= 0 {
		return net.KeepAliveConfig{Idle: -1, Interval: -1, Count: -1}
	}
	within = wholeSeconds(min(max(within, MinPeerTimeout), MaxPeerTimeout))
	return spread(within, max(time.Second, (within/24).Truncate(time.Second)))
}

// spread returns the tuning with that interval whose probes span half of within, and
// whose last one is given up after within.
func spread(within, interval time.Duration) net.KeepAliveConfig {
	count := 1 + int((within/2+interval-1)/interval)
	idle := max(time.Second, within-time.Duration(count)*interval)
	return net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: count}
}

// wholeSeconds rounds up, as package net does.
func wholeSeconds(d time.Duration) time.Duration { return roundUp(d, time.Second) }

func roundUp(d, unit time.Duration) time.Duration { return (d + unit - 1) / unit * unit }

// ticks returns how many of them d is, rounded up to whole seconds as by package net.
func ticks(d, tick time.Duration) int {
	return int(roundUp(d, min(tick, time.Second)) / tick)
}

// Want is what a socket is to be tuned for.
type Want struct {
	PeerTimeout time.Duration       // Config.PeerTimeout
	KeepAlive   net.KeepAliveConfig // Config.KeepAlive, which takes precedence

	MPTCP      bool    // options that an MPTCP socket lacks are left out
	Unanswered int     // probes without an answer so far, from TCP_INFO
	OnFailure  Failure // what the caller does if Tune, or something later, fails
}

// A Failure says whether what a socket had before is needed again.
type Failure uint8

const (
	// RestoreOnFailure has Tune remember what the socket had, to undo a part.
	RestoreOnFailure Failure = iota
	// CloseOnFailure is for a caller who closes a connection that cannot be set up. Tune
	// then reads nothing, and undoes nothing.
	CloseOnFailure
)

// field is the one that an error of Tune names.
func (w *Want) field() string {
	if w.KeepAlive.Enable {
		return "KeepAlive"
	}
	return "PeerTimeout"
}

// An Error names the field of the Config that cannot be kept.
type Error struct {
	Field string
	Err   error
}

func (e *Error) Error() string { return "Config." + e.Field + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func bad(field, format string, args ...any) error {
	return &Error{field, fmt.Errorf(format, args...)}
}
