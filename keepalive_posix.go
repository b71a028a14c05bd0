//go:build unix && !linux

package liveness

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// tune sets what cfg asks for and reads back what the socket has then. If it
// fails, the socket is as it was. On AF_UNIX there is no host to lose.
func (s *socket) tune(fd uintptr, cfg *Config) error {
	if s.family != familyTCP || cfg.PeerTimeout == 0 && !cfg.KeepAlive.Enable {
		return nil
	}
	field := "PeerTimeout"
	if cfg.KeepAlive.Enable {
		field = "KeepAlive"
	}
	o := systemOptions()
	opts, err := o.plan(cfg, optionsOf(fd))
	if err != nil {
		return badConfig(field, "%w", err)
	}
	for _, o := range opts {
		before, err := unix.GetsockoptInt(int(fd), o.level, o.name)
		if err == nil {
			err = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
		}
		if err == nil {
			s.setup.undo = append(s.setup.undo, sockopt{o.level, o.name, before})
			continue
		}
		s.untune(fd)
		if s.lookAt(fd, hint{}).outcome > finSeen {
			return nil // it is over, and nothing is left to be found
		}
		if err == unix.ENOPROTOOPT {
			err = fmt.Errorf("%w on this %s: %w", errors.ErrUnsupported, runtime.GOOS, err)
		}
		return badConfig(field, "%w", os.NewSyscallError("setsockopt", err))
	}
	s.rememberLimits(fd)
	return nil
}

// readLimits asks what the socket has, whoever set it.
func readLimits(fd uintptr) *limits {
	on, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
	o := systemOptions()
	return o.limits(err == nil && on != 0, optionsOf(fd))
}

func optionsOf(fd uintptr) func(name int) (int, error) {
	return func(name int) (int, error) { return unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, name) }
}
