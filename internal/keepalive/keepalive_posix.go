//go:build unix && !linux

package keepalive

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Tune sets what cfg asks for and reads back what the socket has then. If it
// fails, the socket is as it was.
func Tune(fd uintptr, _ bool, cfg *Want) (*Tuning, error) {
	tuned := new(Tuning)
	o := systemOptions()
	p, err := o.plan(cfg, optionsOf(fd))
	if err != nil {
		return nil, err
	}
	get := func(level, name int) (int, error) { return unix.GetsockoptInt(int(fd), level, name) }
	if tuned.undo, err = o.set(&p, get, setterOf(fd)); err != nil {
		tuned.Undo(fd)
		if err == unix.ENOPROTOOPT {
			err = fmt.Errorf("%w on this %s: %w", errors.ErrUnsupported, runtime.GOOS, err)
		}
		return nil, bad(cfg.field(), "%w", os.NewSyscallError("setsockopt", err))
	}
	l := Read(fd)
	if g := p.grace; g.lasts > 0 {
		l.Count = g.then
		// After our FIN, to set the count starts a timer on macOS, FreeBSD and NetBSD
		// that ends the connection after count · interval (FIN_WAIT_2 in tcp_ctloutput and
		// change_keepalive), on macOS even if the peer speaks.
		tuned.Later = &Later{After: g.lasts, UntilFIN: true, Do: func(fd uintptr) { g.end(o.count, optionsOf(fd), setterOf(fd)) }}
	}
	tuned.Limits = l
	return tuned, nil
}

// Read asks what the socket has, whoever set it.
func Read(fd uintptr) *Limits {
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

// Undo puts back what Tune has changed, in the opposite order.
func (t *Tuning) Undo(fd uintptr) {
	for _, o := range slices.Backward(t.undo) {
		_ = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
	}
	t.undo = nil
}
