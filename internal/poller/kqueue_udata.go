//go:build darwin || dragonfly || freebsd || openbsd

package poller

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// name sets the mark of w: its address, by which the events of a watch are told from
// those of an earlier one of the same descriptor.
func (q *kqueue) name(w *watch) { w.mark = uintptr(unsafe.Pointer(w)) }

func sign(e *unix.Kevent_t, w *watch) { e.Udata = (*byte)(unsafe.Pointer(w)) }

func signature(e *unix.Kevent_t) uintptr { return uintptr(unsafe.Pointer(e.Udata)) }
