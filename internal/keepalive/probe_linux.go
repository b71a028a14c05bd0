package keepalive

import (
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxUserTimeout is the longest that TCP_USER_TIMEOUT takes: an int of milliseconds.
const maxUserTimeout = math.MaxInt32 * time.Millisecond

// Send has the kernel send one keep-alive probe now. Setting TCP_KEEPIDLE moves
// the timer of a socket whose SO_KEEPALIVE is on to that long after the last sign
// of life, which for less than the silence is at once (tcp_sock_set_keepidle_locked
// in net/ipv4/tcp.c).
//
// The kernel cannot be made to forget that a probe was unanswered. So the number
// that ends the connection is raised by each of ours, and a user timeout, which
// would end it at the second probe whatever their number (tcp_keepalive_timer in
// net/ipv4/tcp_timer.c), is put aside or moved on.
func (p *Probe) Send(fd uintptr, silence time.Duration, probes int) error {
	if p.Sent.IsZero() {
		p.Original = *Read(fd)
	}
	o := &p.Original
	count, aside := o.Count+p.Unheard+1, time.Duration(-1)
	switch {
	case count > MaxProbeCount:
		// It can be raised no more. A user timeout takes its place: that of the
		// application's own probes, or one that never comes.
		count, aside = MaxProbeCount, maxUserTimeout
		if o.On {
			aside = min(aside, o.IdleBound())
		}
	case o.UserTimeout > 0 && o.On:
		// Without one the count would begin to matter, and the kernel may be beyond it
		// already. So it is moved on instead, by each of ours.
		aside = min(maxUserTimeout, max(o.UserTimeout, o.IdleBound()+time.Duration(p.Unheard+1)*o.Interval))
	case o.UserTimeout > 0:
		aside = 0
	}
	if err := setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, count); err != nil {
		return err
	}
	if aside >= 0 {
		if err := setOption(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(aside/time.Millisecond)); err != nil {
			return err
		}
	}
	p.Sent, p.Counted = time.Now(), probes
	p.Unheard++
	if !o.On {
		// Before the idle time: it arms the timer with the whole of that.
		if err := setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1); err != nil {
			return err
		}
	}
	idle := 1
	if o.On && silence >= o.Idle {
		idle = settableIdle(o.Idle)
	} else {
		p.Armed = true
	}
	return setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, idle)
}

// Disarm puts the idle time back once the probe has gone out, so that the kernel's
// own probes keep their times. It would send another at once if that idle time had
// passed meanwhile; then it waits for Restore.
func (p *Probe) Disarm(fd uintptr, silence time.Duration) {
	o := &p.Original
	switch {
	case !o.On:
		_ = setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, settableIdle(o.Idle))
	case silence+Interval/2 < o.Idle:
		_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, settableIdle(o.Idle))
	default:
		return
	}
	p.Armed = false
}

// Restore puts everything back; the peer was heard, so no count is left to matter.
func (p *Probe) Restore(fd uintptr) {
	o := &p.Original
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, min(o.Count, MaxProbeCount))
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.UserTimeout/time.Millisecond))
	if !o.On {
		_ = setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	}
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, settableIdle(o.Idle))
}

// settableIdle is what can be set of an idle time: the sysctl may have given a longer
// one, which no option can.
func settableIdle(d time.Duration) int { return seconds(min(d, MaxProbeTime)) }

func setOption(fd uintptr, level, name, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, name, value))
}
