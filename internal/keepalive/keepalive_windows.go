package keepalive

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/windows"
)

// Tune sets what cfg asks for and reads back what the socket has then. If it
// fails, the socket is as it was. On AF_UNIX there is no host to lose.
//
// Keep-alive finds a peer that vanishes while nothing is outstanding, TCP_MAXRT one
// that leaves data unacknowledged: it is for how long the stack retransmits. Each
// begins afresh when the other takes over, so what is written just before the last
// probe would be given up makes it twice PeerTimeout. Microsoft does not say whether
// probes of a closed window, which a peer that only stopped reading answers, count
// as retransmissions. Where TCP_MAXRT is missing, as under Wine, the stack's own
// number of retransmissions is left to decide.
func Tune(fd uintptr, _ bool, cfg *Want) (*Tuning, error) {
	tuned := new(Tuning)
	p := cfg.probes()
	if !p.Enable || !isTCP(fd) {
		return tuned, nil
	}
	var opts []sockopt
	add := func(level, name, value int) {
		if value > 0 {
			opts = append(opts, sockopt{level, name, value})
		}
	}
	if _, err := getOption(fd, windows.IPPROTO_TCP, windows.TCP_MAXRT); !errors.Is(err, windows.WSAENOPROTOOPT) {
		add(windows.IPPROTO_TCP, windows.TCP_MAXRT, seconds(cfg.PeerTimeout))
	}
	add(windows.IPPROTO_TCP, windows.TCP_KEEPINTVL, seconds(p.Interval))
	add(windows.IPPROTO_TCP, windows.TCP_KEEPCNT, p.Count)
	add(windows.SOL_SOCKET, windows.SO_KEEPALIVE, 1)
	add(windows.IPPROTO_TCP, windows.TCP_KEEPIDLE, seconds(p.Idle))
	for _, o := range opts {
		before, err := getOption(fd, o.level, o.name)
		if err == nil {
			err = setOption(fd, o)
		}
		if err == nil {
			tuned.undo = append(tuned.undo, sockopt{o.level, o.name, before})
			continue
		}
		tuned.Undo(fd)
		if errors.Is(err, windows.WSAENOPROTOOPT) {
			// TCP_KEEPCNT is there since Windows 10 version 1703, the others since 1709.
			err = fmt.Errorf("%w on this %s: %w", errors.ErrUnsupported, runtime.GOOS, err)
		}
		return nil, bad(cfg.field(), "%w", err)
	}
	tuned.Limits = Read(fd)
	return tuned, nil
}

// Undo puts back what Tune has changed, in the opposite order.
func (t *Tuning) Undo(fd uintptr) {
	for _, o := range slices.Backward(t.undo) {
		_ = setOption(fd, o)
	}
	t.undo = nil
}

// Read asks what the socket has, whoever set it. There is a bound only if
// there is one for data in flight, and that only if TCP_MAXRT tells: then it stands
// in the place of a number of retransmissions.
func Read(fd uintptr) *Limits {
	get := func(level, name int) time.Duration {
		n, err := getOption(fd, level, name)
		if err != nil {
			return 0
		}
		return time.Duration(n)
	}
	l := &Limits{
		Idle:     get(windows.IPPROTO_TCP, windows.TCP_KEEPIDLE) * time.Second,
		Interval: get(windows.IPPROTO_TCP, windows.TCP_KEEPINTVL) * time.Second,
		Count:    int(get(windows.IPPROTO_TCP, windows.TCP_KEEPCNT)),
		MaxRTO:   max(0, get(windows.IPPROTO_TCP, windows.TCP_MAXRT)) * time.Second,
	}
	l.On = l.MaxRTO > 0 && get(windows.SOL_SOCKET, windows.SO_KEEPALIVE) != 0
	return l
}

// isTCP asks for an option that every TCP socket has, and no other.
func isTCP(fd uintptr) bool {
	_, err := getOption(fd, windows.IPPROTO_TCP, windows.TCP_NODELAY)
	return err == nil
}

func seconds(d time.Duration) int { return int(wholeSeconds(d) / time.Second) }

func getOption(fd uintptr, level, name int) (int, error) {
	value, err := windows.GetsockoptInt(windows.Handle(fd), level, name)
	return value, os.NewSyscallError("getsockopt", err)
}

func setOption(fd uintptr, o sockopt) error {
	return os.NewSyscallError("setsockopt", windows.SetsockoptInt(windows.Handle(fd), o.level, o.name, o.value))
}
