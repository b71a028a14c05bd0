package poller

import "golang.org/x/sys/unix"

// markOf returns a number: x/sys has one here where other systems have an address, and
// on some processors one of 32 bits.
func markOf(w *watch) uintptr { return uintptr(w.serial) }

func setMark(e *unix.Kevent_t, w *watch) { setNumber(&e.Udata, w.serial) }

func markIn(e *unix.Kevent_t) uintptr { return uintptr(uint32(e.Udata)) }

func setNumber[T int32 | int64](to *T, n uint32) { *to = T(n) }
