package keepalive

import (
	"cmp"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// Tune sets what cfg asks for and reads back what the socket has then. If it
// fails, the socket is as it was.
func Tune(fd uintptr, mptcp bool, cfg *Want) (*Tuning, error) {
	tuned := new(Tuning)
	opts := make([]sockopt, 0, 5)
	limit := time.Duration(0)
	if !mptcp {
		limit = wantedRTOLimit(fd, cfg.PeerTimeout)
	}
	if limit > 0 {
		opts = append(opts, sockopt{unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, int(limit.Milliseconds())})
	}
	p, unanswered := cfg.probes(), 0
	if p.Enable {
		if !cfg.KeepAlive.Enable {
			p.Idle = punctual(p, cfg.PeerTimeout)
		}
		if p.Interval > 0 {
			opts = append(opts, sockopt{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(p.Interval)})
		}
		if p.Count > 0 {
			var info tcpinfo.Info
			if !mptcp && tcpinfo.Get(fd, &info) == nil {
				unanswered = min(info.Probes, MaxProbeCount-p.Count)
			}
			opts = append(opts, sockopt{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, p.Count + unanswered})
		}
		opts = append(opts, sockopt{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1})
		// Last: it alone moves a timer that runs already, and may fire it at once
		// (tcp_sock_set_keepidle_locked in net/ipv4/tcp.c).
		if p.Idle > 0 {
			opts = append(opts, sockopt{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(p.Idle)})
		}
	}
	tuned.undo = make([]sockopt, 0, len(opts))
	for _, o := range opts {
		before, err := unix.GetsockoptInt(int(fd), o.level, o.name)
		if err == nil {
			err = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
		}
		switch {
		case err == nil:
			if o.level == unix.IPPROTO_TCP { // the sysctls take more than the options
				switch o.name {
				case unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL:
					before = min(before, seconds(MaxProbeTime))
				case unix.TCP_KEEPCNT:
					before = min(before, MaxProbeCount)
				}
			}
			tuned.undo = append(tuned.undo, sockopt{o.level, o.name, before})
		case mptcp && (err == unix.ENOPROTOOPT || err == unix.EOPNOTSUPP):
			// Not every option exists there.
		default:
			tuned.Undo(fd)
			return nil, bad(cfg.field(), "%w", os.NewSyscallError("setsockopt", err))
		}
	}
	tuned.MaxRTO = limit
	l := Read(fd)
	if unanswered > 0 {
		// In an outage that has begun already the count would be reached at once.
		raised := l.Count
		l.Count = p.Count
		tuned.Later = &Later{After: l.IdleBound(), Do: func(fd uintptr) {
			// Unless the application, or a Ping that would be fatal then, has set another.
			if now, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPCNT); err == nil && now == raised {
				_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, p.Count)
			}
		}}
	}
	tuned.Limits = l
	return tuned, nil
}

// punctual returns the idle time with which probes tuned as p find a peer within 1.05 of
// peerTimeout and two seconds, however late they are: that adds up to a tenth where the
// intervals are longer than some 16 s. To ask sooner does no harm.
func punctual(p net.KeepAliveConfig, peerTimeout time.Duration) time.Duration {
	l := Limits{On: true, Idle: p.Idle, Interval: p.Interval, Count: p.Count}
	for limit := peerTimeout + peerTimeout/20 + 2*time.Second; l.lateIdleBound() > limit && l.Idle > time.Second; {
		l.Idle -= wholeSeconds(min(l.Idle-time.Second, max(time.Second, (l.lateIdleBound()-limit)/2)))
	}
	return l.Idle
}

// wantedRTOLimit returns the TCP_RTO_MAX_MS to set, or 0 to leave it alone: the kernel
// is too old, the sysctl unknown, or the socket has a lower one already.
// Retransmissions and window probes are otherwise as far apart as the time that has
// passed, and the verdict waits for one.
func wantedRTOLimit(fd uintptr, peerTimeout time.Duration) time.Duration {
	if peerTimeout == 0 {
		return 0
	}
	now, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS)
	limit := RTOLimit(peerTimeout, sysctlRetries2())
	if err != nil || limit.Milliseconds() >= int64(now) {
		return 0
	}
	return limit
}

// SetMaxRTO sets TCP_RTO_MAX_MS.
func SetMaxRTO(fd uintptr, d time.Duration) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, int(d.Milliseconds()))
}

func seconds(d time.Duration) int { return int(wholeSeconds(d) / time.Second) }

// Read asks what the socket has, whoever set it.
func Read(fd uintptr) *Limits {
	get := func(level, name int) time.Duration {
		n, err := unix.GetsockoptInt(int(fd), level, name)
		if err != nil {
			return 0
		}
		return time.Duration(n)
	}
	l := &Limits{
		On:          get(unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0,
		Idle:        get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) * time.Second,
		Interval:    get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL) * time.Second,
		Count:       int(get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT)),
		UserTimeout: get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) * time.Millisecond,
		MaxRTO:      get(unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS) * time.Millisecond,
		Retries:     cmp.Or(sysctlRetries2(), DefaultRetries2),
	}
	if l.MaxRTO == 0 {
		l.MaxRTO = MaxRTO
	}
	return l
}

// sysctlRetries2 is the sysctl tcp_retries2 of tcp(7) in our network namespace, or 0
// if it cannot be read. It is read once, because nothing in Wrap may wait.
var sysctlRetries2 = sync.OnceValue(func() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_retries2")
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
})

// Undo puts back what Tune has changed, in the opposite order.
func (t *Tuning) Undo(fd uintptr) {
	for _, o := range slices.Backward(t.undo) {
		_ = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
	}
	t.undo = nil
}
