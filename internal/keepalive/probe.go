package keepalive

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
)

// Interval is the least time between two probes.
const Interval = time.Second

// A Probe is a keep-alive probe sent on request, and what is to be undone once the
// peer was heard. A Patience must be restored before, and not be extended until then.
type Probe struct {
	Sent     time.Time // of the last one; zero if there is none to undo
	Unheard  int       // how many were sent since the peer was heard
	Armed    bool      // Send has set the timer of the last one, which may not have fired
	Counted  int       // the kernel's count of unanswered probes before the last one
	Original Limits    // what the socket had before the first
}

var errNotTold = fmt.Errorf("not told by %s: %w", runtime.GOOS, errors.ErrUnsupported)

// Send has the kernel send one keep-alive probe now. silence is the time since the peer
// was heard, and probes the kernel's count of unanswered ones. Elsewhere than on Linux the
// error wraps errors.ErrUnsupported.
//
// Setting TCP_KEEPIDLE moves the timer of a socket whose SO_KEEPALIVE is on to that long
// after the last sign of life, which for less than the silence is at once
// (tcp_sock_set_keepidle_locked in net/ipv4/tcp.c).
//
// The kernel cannot be made to forget that a probe was unanswered. So the number
// that ends the connection is raised by each of these probes, and a user timeout, which
// would end it at the second probe whatever their number (tcp_keepalive_timer in
// net/ipv4/tcp_timer.c), is put aside or moved on.
func (p *Probe) Send(fd uintptr, silence time.Duration, probes int) error {
	if !own.probesOnRequest {
		return errNotTold
	}
	if p.Sent.IsZero() {
		p.Original = *Read(fd)
	}
	o := &p.Original
	count, userTimeout := p.raised()
	if err := set(fd, own.count, count); err != nil {
		return err
	}
	if userTimeout >= 0 {
		if err := set(fd, own.userTimeout, int(userTimeout/time.Millisecond)); err != nil {
			return err
		}
	}
	p.Sent, p.Counted = time.Now(), probes
	p.Unheard++
	if !o.On {
		// Before the idle time: it arms the timer with the whole of that.
		if err := set(fd, switchOn, 1); err != nil {
			return err
		}
	}
	idle := 1
	if o.On && silence >= o.Idle {
		idle = settable(o.Idle)
	} else {
		p.Armed = true
	}
	return set(fd, own.idle, idle)
}

// raised returns the count and the user timeout with which another unanswered probe does
// not end the connection. A negative user timeout stays as it is.
func (p *Probe) raised() (count int, userTimeout time.Duration) {
	o := &p.Original
	count, userTimeout = o.Count+p.Unheard+1, -1
	switch {
	case count > MaxProbeCount:
		// It can be raised no more. A user timeout takes its place: that of the
		// application's own probes, or one that never comes.
		count, userTimeout = MaxProbeCount, maxUserTimeout
		if o.On {
			userTimeout = min(userTimeout, o.IdleBound())
		}
	case o.UserTimeout > 0 && o.On:
		// Without one the count would begin to matter, and the kernel may be beyond it
		// already. So it is moved on instead, by each of these probes.
		userTimeout = min(maxUserTimeout, max(o.UserTimeout, o.IdleBound()+time.Duration(p.Unheard+1)*o.Interval))
	case o.UserTimeout > 0:
		userTimeout = 0
	}
	return count, userTimeout
}

// Disarm puts the idle time back once the probe has gone out, so that the kernel's
// own probes keep their times. It would send another at once if that idle time had
// passed meanwhile; then it waits for Restore.
func (p *Probe) Disarm(fd uintptr, silence time.Duration) {
	o := &p.Original
	switch {
	case !o.On:
		_ = set(fd, switchOn, 0)
		_ = set(fd, own.idle, settable(o.Idle))
	case silence+Interval/2 < o.Idle:
		_ = set(fd, own.idle, settable(o.Idle))
	default:
		return
	}
	p.Armed = false
}

// Restore puts everything back; the peer was heard, so no count is left to matter.
func (p *Probe) Restore(fd uintptr) {
	o := &p.Original
	_ = set(fd, own.count, min(o.Count, MaxProbeCount))
	_ = set(fd, own.userTimeout, int(o.UserTimeout/time.Millisecond))
	if !o.On {
		_ = set(fd, switchOn, 0)
	}
	_ = set(fd, own.idle, settable(o.Idle))
}

func seconds(d time.Duration) int { return ticks(d, time.Second) }

// settable is what can be set of an idle time: the sysctl may have given a longer
// one, which no option can.
func settable(d time.Duration) int { return seconds(min(d, MaxProbeTime)) }

func set(fd uintptr, name, value int) error {
	return os.NewSyscallError("setsockopt", setOption(fd, option{name, value, 0}))
}
