package poller

import "golang.org/x/sys/unix"

// name sets the mark of w: a number, because here x/sys has one where other systems
// have an address, and on some processors one of 32 bits.
func (q *kqueue) name(w *watch) {
	q.serial++
	w.mark = uintptr(q.serial)
}

func sign(e *unix.Kevent_t, w *watch) { setNumber(&e.Udata, w.mark) }

func signature(e *unix.Kevent_t) uintptr { return uintptr(uint32(e.Udata)) }

func setNumber[T int32 | int64](to *T, n uintptr) { *to = T(n) }
