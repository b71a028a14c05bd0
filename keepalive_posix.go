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
	o := systemOptions()
	p, err := o.plan(cfg, optionsOf(fd))
	if err != nil {
		return err
	}
	get := func(level, name int) (int, error) { return unix.GetsockoptInt(int(fd), level, name) }
	if s.setup.undo, err = o.set(&p, get, setterOf(fd)); err != nil {
		s.untune(fd)
		if s.lookAt(fd, hint{}).outcome > finSeen {
			return nil // it is over, and nothing is left to be found
		}
		if err == unix.ENOPROTOOPT {
			err = fmt.Errorf("%w on this %s: %w", errors.ErrUnsupported, runtime.GOOS, err)
		}
		field := "PeerTimeout"
		if cfg.KeepAlive.Enable {
			field = "KeepAlive"
		}
		return badConfig(field, "%w", os.NewSyscallError("setsockopt", err))
	}
	l := readLimits(fd)
	if g := p.grace; g.lasts > 0 {
		l.count = g.then
		s.setup.grace = &deferral{lasts: g.lasts, do: func(fd uintptr) {
			// After our FIN, to set the count starts a timer on macOS, FreeBSD and NetBSD
			// that ends the connection after count · interval (FIN_WAIT_2 in tcp_ctloutput and
			// change_keepalive), on macOS even if the peer speaks.
			if !s.writeShut.Load() {
				g.end(o.count, optionsOf(fd), setterOf(fd))
			}
		}}
	}
	s.remember(l)
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

func setterOf(fd uintptr) func(sockopt) error {
	return func(o sockopt) error { return unix.SetsockoptInt(int(fd), o.level, o.name, o.value) }
}
