package liveness

import (
	"cmp"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// tune sets what cfg asks for and reads back what the socket has then. If it
// fails, the socket is as it was. On AF_UNIX there is no host to lose.
func (s *socket) tune(fd uintptr, cfg *Config) error {
	if s.family == familyStream || cfg.PeerTimeout == 0 && !cfg.KeepAlive.Enable {
		return nil
	}
	opts := make([]sockopt, 0, 5)
	limit := s.rtoLimit(fd, cfg.PeerTimeout)
	if limit > 0 {
		opts = append(opts, sockopt{unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, int(limit.Milliseconds())})
	}
	field := "PeerTimeout"
	if cfg.KeepAlive.Enable {
		field = "KeepAlive"
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
			if s.family == familyTCP && tcpinfo.Get(fd, &info) == nil {
				unanswered = min(info.Probes, maxProbeCount-p.Count)
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
	s.setup.undo = make([]sockopt, 0, len(opts))
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
					before = min(before, seconds(maxProbeTime))
				case unix.TCP_KEEPCNT:
					before = min(before, maxProbeCount)
				}
			}
			s.setup.undo = append(s.setup.undo, sockopt{o.level, o.name, before})
		case s.family == familyMPTCP && (err == unix.ENOPROTOOPT || err == unix.EOPNOTSUPP):
			// Not every option exists there.
		default:
			s.untune(fd)
			return badConfig(field, "%w", os.NewSyscallError("setsockopt", err))
		}
	}
	s.ownRTO = limit
	l := readLimits(fd)
	if unanswered > 0 {
		// In an outage that has begun already the count would be reached at once.
		raised := l.count
		l.count = p.Count
		s.setup.grace = &deferral{lasts: l.idleBound(), do: func(fd uintptr) {
			// Unless the application, or a Ping that would be fatal then, has set another.
			if now, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPCNT); err == nil && now == raised {
				_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, p.Count)
			}
		}}
	}
	s.remember(l)
	return nil
}

// punctual returns the idle time with which probes tuned as p find a peer within 1.05 of
// peerTimeout and two seconds, however late they are: that adds up to a tenth where the
// intervals are longer than some 16 s. To ask sooner does no harm.
func punctual(p net.KeepAliveConfig, peerTimeout time.Duration) time.Duration {
	l := limits{keepAlive: true, idle: p.Idle, interval: p.Interval, count: p.Count}
	for limit := peerTimeout + peerTimeout/20 + 2*time.Second; l.lateIdleBound() > limit && l.idle > time.Second; {
		l.idle -= wholeSeconds(min(l.idle-time.Second, max(time.Second, (l.lateIdleBound()-limit)/2)))
	}
	return l.idle
}

// rtoLimit returns the TCP_RTO_MAX_MS to set, or 0 to leave it alone: the kernel
// is too old, the sysctl unknown, or the socket has a lower one already.
// Retransmissions and window probes are otherwise as far apart as the time that has
// passed, and the verdict waits for one.
func (s *socket) rtoLimit(fd uintptr, peerTimeout time.Duration) time.Duration {
	if peerTimeout == 0 || s.family != familyTCP {
		return 0
	}
	now, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS)
	limit := rtoLimit(peerTimeout, sysctlRetries2())
	if err != nil || limit.Milliseconds() >= int64(now) {
		return 0
	}
	return limit
}

func setMaxRTO(fd uintptr, d time.Duration) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, int(d.Milliseconds()))
}

func seconds(d time.Duration) int { return int(wholeSeconds(d) / time.Second) }

// readLimits asks what the socket has, whoever set it.
func readLimits(fd uintptr) *limits {
	get := func(level, name int) time.Duration {
		n, err := unix.GetsockoptInt(int(fd), level, name)
		if err != nil {
			return 0
		}
		return time.Duration(n)
	}
	l := &limits{
		keepAlive:   get(unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0,
		idle:        get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) * time.Second,
		interval:    get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL) * time.Second,
		count:       int(get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT)),
		userTimeout: get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) * time.Millisecond,
		maxRTO:      get(unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS) * time.Millisecond,
		retries:     cmp.Or(sysctlRetries2(), defaultRetries2),
	}
	if l.maxRTO == 0 {
		l.maxRTO = maxRTO
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
