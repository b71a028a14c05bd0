package keepalive

import (
	"cmp"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

const (
	MinRTO = 200 * time.Millisecond // TCP_RTO_MIN
	MaxRTO = 120 * time.Second      // TCP_RTO_MAX

	DefaultRetries2 = 15 // TCP_RETR2
)

// Limits are the options that a socket has, and with them how long its kernel
// waits for a peer that vanished.
type Limits struct {
	On             bool
	Idle, Interval time.Duration
	Count          int
	UserTimeout    time.Duration // TCP_USER_TIMEOUT; 0 if there is none
	MaxRTO         time.Duration // TCP_RTO_MAX_MS, or the kernel's constant; 0 elsewhere than Linux
	Retries        int           // the sysctl tcp_retries2 when Read asked; 0 is its default, or elsewhere than Linux
	DataLimit      time.Duration // elsewhere, for how long data may be in flight; 0 if Idle and the others say so
}

// IdleBound is when the kernel gives up a peer that vanishes while nothing is
// outstanding, counted from the last sign of life; 0 is never.
func (l *Limits) IdleBound() time.Duration {
	if !l.On {
		return 0
	}
	return l.Idle + time.Duration(l.probes())*l.Interval
}

// probes is how many go unanswered before the kernel gives up. TCP_USER_TIMEOUT
// takes the place of the count (tcp_keepalive_timer in net/ipv4/tcp_timer.c).
func (l *Limits) probes() int {
	if l.UserTimeout > 0 {
		return int(max(1, (l.UserTimeout-l.Idle+l.Interval-1)/max(1, l.Interval)))
	}
	return l.Count
}

// lateIdleBound is IdleBound with what the timers of Linux may be late.
func (l *Limits) lateIdleBound() time.Duration {
	return latestExpiry(l.Idle) + time.Duration(l.probes())*latestExpiry(l.Interval)
}

// latestExpiry is how long, at the most, a timer of Linux takes that is set for d. They
// expire on a wheel, which gets coarser by eight for each turn of 63 of its steps, of
// which the first is a tick (calc_wheel_index in kernel/time/timer.c): 17 s are 18.4 s
// where a second has 250 ticks. The kernel does not say how many it has.
func latestExpiry(d time.Duration) (longest time.Duration) {
	for _, tick := range [...]time.Duration{time.Second / 100, time.Second / 250, time.Second / 300, time.Second / 1000} {
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

// idleBound is what is promised for an idle connection whose kernel is to give up after d.
func idleBound(d time.Duration) time.Duration { return d + d/20 + 2*time.Second }

// idleForBound returns the idle time with which probes tuned as p find a peer within
// idleBound(within), however late they are: that adds up to an eighth where the times
// are longer than some 16 s. An earlier probe does no harm.
func idleForBound(p net.KeepAliveConfig, within time.Duration) time.Duration {
	l := Limits{On: true, Idle: p.Idle, Interval: p.Interval, Count: p.Count}
	for limit := idleBound(within); l.lateIdleBound() > limit && l.Idle > time.Second; {
		l.Idle -= wholeSeconds(min(l.Idle-time.Second, max(time.Second, (l.lateIdleBound()-limit)/2)))
	}
	return l.Idle
}

// DetectWithin is the bound for a peer that vanishes in the state that i shows, counted
// from its last sign of life: by the library's judgement with peerTimeout, else by the
// kernel's. It is 0 if there is none.
func (l *Limits) DetectWithin(peerTimeout time.Duration, i *tcpinfo.Info) time.Duration {
	idle := time.Duration(0)
	if l.On {
		idle = max(idleBound(l.IdleBound()), l.lateIdleBound()+2*time.Second)
	}
	switch {
	case l.MaxRTO == 0 && idle > 0: // not Linux
		return idle + l.DataLimit
	case l.MaxRTO == 0 || i == nil || !i.Full || !i.Outstanding():
		return idle
	case peerTimeout > 0 && l.UserTimeout > 0: // the application's own may be shorter
		return min(l.verdictBound(peerTimeout, i), l.kernelBound(i))
	case peerTimeout > 0:
		return l.verdictBound(peerTimeout, i)
	default:
		return l.kernelBound(i)
	}
}

// verdictBound is when the library gives up a peer while something is outstanding: see
// package verdict. It needs solicitations that span half of peerTimeout.
func (l *Limits) verdictBound(peerTimeout time.Duration, i *tcpinfo.Info) time.Duration {
	bound := peerTimeout + peerTimeout/4 + time.Second
	first, second := l.solicitations(i)
	if i.WindowClosed() {
		return max(bound, latestExpiry(first)+latestExpiry(second)+time.Second)
	}
	if i.Retransmits > 0 {
		first = 0 // it is over
	}
	return max(bound, latestExpiry(first)+peerTimeout/2+time.Second)
}

// solicitations returns how long after the last answer the kernel sends a segment that
// asks for one, and how long after that the second.
func (l *Limits) solicitations(i *tcpinfo.Info) (first, second time.Duration) {
	first = max(i.RTO, MinRTO)
	if i.InFlight == 0 {
		// Between window probes the time doubles as well, and answers do not reset it
		// (tcp_probe0_when in include/net/tcp.h).
		first <<= min(max(0, i.Backoff-i.Probes), 10)
	}
	first = min(first, l.MaxRTO)
	return first, min(2*first, l.MaxRTO)
}

// kernelBound is when the kernel gives up a peer while something is outstanding.
func (l *Limits) kernelBound(i *tcpinfo.Info) time.Duration {
	if l.UserTimeout > 0 { // counted from the first retransmission or window probe
		first, _ := l.solicitations(i)
		return latestExpiry(first) + latestExpiry(l.UserTimeout) + MinRTO
	}
	retries := cmp.Or(l.Retries, DefaultRetries2)
	if i.WindowClosed() {
		return time.Duration(retries+1) * latestExpiry(l.MaxRTO)
	}
	return RetransmitTime(retries, l.MaxRTO) + latestExpiry(l.MaxRTO)
}

// retries2 is the sysctl tcp_retries2 of tcp(7) in the process's network namespace, or
// its default.
func retries2() int {
	if runtime.GOOS != "linux" {
		return DefaultRetries2
	}
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_retries2")
	if err != nil {
		return DefaultRetries2
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return DefaultRetries2
	}
	return n
}

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
