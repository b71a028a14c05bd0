package liveness

import (
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxUserTimeout is the longest that TCP_USER_TIMEOUT takes: an int of milliseconds.
const maxUserTimeout = math.MaxInt32 * time.Millisecond

// send has the kernel send one keep-alive probe now. Setting TCP_KEEPIDLE moves
// the timer of a socket whose SO_KEEPALIVE is on to that long after the last sign
// of life, which for less than the silence is at once (tcp_sock_set_keepidle_locked
// in net/ipv4/tcp.c).
//
// The kernel cannot be made to forget that a probe was unanswered. So the number
// that ends the connection is raised by each of ours, and a user timeout, which
// would end it at the second probe whatever their number (tcp_keepalive_timer in
// net/ipv4/tcp_timer.c), is put aside or moved on.
func (p *probe) send(fd uintptr, s *sample) error {
	if p.sent.IsZero() {
		p.original = *readLimits(fd)
	}
	o := &p.original
	count, aside := o.count+p.unheard+1, time.Duration(-1)
	switch {
	case count > maxProbeCount:
		// It can be raised no more. A user timeout takes its place: that of the
		// application's own probes, or one that never comes.
		count, aside = maxProbeCount, maxUserTimeout
		if o.keepAlive {
			aside = min(aside, o.idleBound())
		}
	case o.userTimeout > 0 && o.keepAlive:
		// Without one the count would begin to matter, and the kernel may be beyond it
		// already. So it is moved on instead, by each of ours.
		aside = min(maxUserTimeout, max(o.userTimeout, o.idleBound()+time.Duration(p.unheard+1)*o.interval))
	case o.userTimeout > 0:
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
	p.sent, p.counted = time.Now(), s.info.Probes
	p.unheard++
	if !o.keepAlive {
		// Before the idle time: it arms the timer with the whole of that.
		if err := setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1); err != nil {
			return err
		}
	}
	idle := 1
	if o.keepAlive && s.info.Silence() >= o.idle {
		idle = settableIdle(o.idle)
	} else {
		p.armed = true
	}
	return setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, idle)
}

// disarm puts the idle time back once the probe has gone out, so that the kernel's
// own probes keep their times. It would send another at once if that idle time had
// passed meanwhile; then it waits for restore.
func (p *probe) disarm(fd uintptr, s *sample) {
	o := &p.original
	switch {
	case !o.keepAlive:
		_ = setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, settableIdle(o.idle))
	case s.info.Silence()+pingInterval/2 < o.idle:
		_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, settableIdle(o.idle))
	default:
		return
	}
	p.armed = false
}

// restore puts everything back; the peer was heard, so no count is left to matter.
func (p *probe) restore(fd uintptr) {
	o := &p.original
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, min(o.count, maxProbeCount))
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.userTimeout/time.Millisecond))
	if !o.keepAlive {
		_ = setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	}
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, settableIdle(o.idle))
}

// settableIdle is what can be set of an idle time: the sysctl may have given a longer
// one, which no option can.
func settableIdle(d time.Duration) int { return seconds(min(d, maxProbeTime)) }

func setOption(fd uintptr, level, name, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, name, value))
}
