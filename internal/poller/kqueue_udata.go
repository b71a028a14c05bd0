//go:build darwin || dragonfly || freebsd || openbsd

package poller

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// markOf returns the address of w, by which the events of a watch are told from those
// of an earlier one of the same descriptor.
func markOf(w *watch) uintptr { return uintptr(unsafe.Pointer(w)) }

func setMark(e *unix.Kevent_t, w *watch) { e.Udata = (*byte)(unsafe.Pointer(w)) }

func markIn(e *unix.Kevent_t) uintptr { return uintptr(unsafe.Pointer(e.Udata)) }
