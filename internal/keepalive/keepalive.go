package keepalive

import (
	"fmt"
	"net"
	"time"

	"github.com/go-liveness/liveness/internal/tcpinfo"
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

// For returns the tuning of keep-alive probes that finds a peer that
// vanished, while the connection is idle, within about that time. An outage of
// less than half of it is survived at any phase of the probe cycle, so no single
// lost probe is fatal.
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
	interval := max(time.Second, (within / 6).Truncate(time.Second))
	count := 1 + int((within/2+interval-1)/interval)
	idle := max(time.Second, within-time.Duration(count)*interval)
	return net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: count}
}

// wholeSeconds rounds up, as package net does.
func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

// Want is what to tune a socket for; the fields are those of liveness.Config.
type Want struct {
	PeerTimeout time.Duration
	KeepAlive   net.KeepAliveConfig
}

// field is the one that an error of Tune names.
func (cfg *Want) field() string {
	if cfg.KeepAlive.Enable {
		return "KeepAlive"
	}
	return "PeerTimeout"
}

// probes returns the tuning that cfg asks for, with Enable unset if it asks for
// none. Negative fields stay unchanged, zero ones are package net's defaults.
func (cfg *Want) probes() net.KeepAliveConfig {
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
		return For(cfg.PeerTimeout)
	default:
		return net.KeepAliveConfig{}
	}
}

// A Tuning is what Tune did to a socket.
type Tuning struct {
	Limits *Limits
	MaxRTO time.Duration // the TCP_RTO_MAX_MS that was set; 0 if none
	Later  *Later        // what is left to do; nil if nothing

	undo []sockopt
}

// Later is what is to be done to the socket once it has been tuned for that long.
type Later struct {
	Do       func(fd uintptr)
	After    time.Duration
	UntilFIN bool // not after our own FIN
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

// A sockopt is the value of a socket option.
type sockopt struct{ level, name, value int }

// Limits are the options that a socket has, and with them how long its kernel
// waits for a peer that vanished.
type Limits struct {
	On             bool
	Idle, Interval time.Duration
	Count          int
	UserTimeout    time.Duration // TCP_USER_TIMEOUT; 0 if there is none
	MaxRTO         time.Duration // TCP_RTO_MAX_MS, or the kernel's constant
	Retries        int           // the sysctl tcp_retries2
}

// IdleBound is when the kernel gives up a peer that vanishes while nothing is
// outstanding, counted from the last sign of life; 0 is never. TCP_USER_TIMEOUT
// takes the place of the count of probes (tcp_keepalive_timer).
func (l *Limits) IdleBound() time.Duration {
	if !l.On {
		return 0
	}
	return l.Idle + time.Duration(l.probes())*l.Interval
}

// probes is how many go unanswered before the kernel gives up.
func (l *Limits) probes() int {
	if l.UserTimeout > 0 {
		return int(max(1, (l.UserTimeout-l.Idle+l.Interval-1)/max(1, l.Interval)))
	}
	return l.Count
}

// lateIdleBound is IdleBound with what the timers may be late.
func (l *Limits) lateIdleBound() time.Duration {
	return lapse(l.Idle) + time.Duration(l.probes())*lapse(l.Interval)
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
func (l *Limits) busyBound() time.Duration {
	if l.UserTimeout > 0 {
		return l.UserTimeout + 2*MinRTO
	}
	return RetransmitTime(l.Retries, l.MaxRTO) + l.MaxRTO
}

// ClosedBound is the same behind a window that has been closed for long, and so is
// probed as rarely as ever.
func (l *Limits) ClosedBound() time.Duration {
	if l.UserTimeout > 0 {
		return l.busyBound()
	}
	return time.Duration(l.Retries+1) * lapse(l.MaxRTO)
}

// DetectWithin is the worst case of both, with what timers may be late; 0 means
// that there is no bound. Without peerTimeout they add up, because the kernel
// begins afresh when the application writes just before the last probe is given up.
func (l *Limits) DetectWithin(peerTimeout time.Duration, _ *tcpinfo.Info) time.Duration {
	idle := l.IdleBound()
	if idle == 0 {
		return 0
	}
	idle = max(idle+idle/20, l.lateIdleBound()) + 2*time.Second
	if peerTimeout == 0 {
		return idle + l.busyBound()
	}
	busy := peerTimeout + peerTimeout/4 + time.Second
	if l.MaxRTO > peerTimeout/4 {
		// The verdict waits for a retransmission, and these are as far apart as the
		// time that has passed. A window that was closed for long is probed every
		// maxRTO, and the verdict waits for the second probe without an answer, half of
		// peerTimeout after the first was seen.
		busy = max(2*peerTimeout, max(peerTimeout, l.MaxRTO+peerTimeout*5/8)+l.MaxRTO) + time.Second
	}
	return max(idle, min(busy, idle+l.busyBound()))
}

const (
	MinRTO = 200 * time.Millisecond // TCP_RTO_MIN
	MaxRTO = 120 * time.Second      // TCP_RTO_MAX

	DefaultRetries2 = 15 // TCP_RETR2
)

// RetransmitTime is for how long the kernel retransmits at least before it gives
// up after n time-outs in a row, the first after MinRTO whatever the round-trip
// time, each twice the one before up to limit (tcp_model_timeout in
// net/ipv4/tcp_timer.c).
func RetransmitTime(n int, limit time.Duration) time.Duration {
	total, rto := time.Duration(0), MinRTO
	for range n + 1 {
		total += rto
		rto = min(2*rto, limit)
	}
	return total
}

// RTOLimit returns the smallest TCP_RTO_MAX_MS with which the kernel, after its
// retries, gives up no sooner than a quarter beyond peerTimeout: the library is to
// judge, and an outage of half of it is to be survived. 0 means that there is none.
func RTOLimit(peerTimeout time.Duration, retries int) time.Duration {
	want := peerTimeout + peerTimeout/4
	for limit := time.Second; limit <= MaxRTO; limit += 100 * time.Millisecond {
		if RetransmitTime(retries, limit) >= want {
			return limit
		}
	}
	return 0
}

type Patience struct{ on bool }

func (p *Patience) Extend(fd uintptr, userTimeout, maxRTO time.Duration)        {}
func (p *Patience) Restore(fd uintptr)                                          {}
func (p *Patience) InForce() bool                                               { return p.on }
func PatienceFor(peerTimeout time.Duration) (userTimeout, maxRTO time.Duration) { return 0, 0 }
