//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package poller

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// A Poller is a kqueue with a goroutine, and with it a thread, in kevent.
type Poller = kqueuePoller

// New makes a Poller; it takes three descriptors.
func New() (*Poller, error) {
	q, err := newKqueue()
	if err != nil {
		return nil, err
	}
	return newKqueuePoller(q), nil
}

// A kqueue is the queue of the kernel. The runtime's own is another, and each socket
// tells both.
type kqueue struct {
	fd         int
	woken, tap *os.File // a pipe: EVFILT_USER, which is made to wake, is not everywhere
	pipe       uintptr  // the descriptor of woken

	events [fetched]unix.Kevent_t // of wait
}

func newKqueue() (*kqueue, error) {
	fd, err := unix.Kqueue()
	if err != nil {
		return nil, os.NewSyscallError("kqueue", err)
	}
	// A fork does not inherit a kqueue (kqueue(2)), so no lock is needed around this.
	unix.CloseOnExec(fd)
	q := &kqueue{fd: fd}
	if q.woken, q.tap, err = os.Pipe(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	raw, err := q.woken.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(pipe uintptr) {
			var change unix.Kevent_t
			unix.SetKevent(&change, int(pipe), unix.EVFILT_READ, unix.EV_ADD)
			err = q.change(&change)
			q.pipe = pipe
		})
		if err == nil {
			err = cerr
		}
	}
	if err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

// attach asks for what can be read, but for more of it than any buffer holds, so that
// data wake no goroutine. The end does all the same: each filt_soread tests for it first.
// EV_CLEAR has it told once, and a RST or time-out behind it once more.
func (q *kqueue) attach(fd uintptr, w *watch) error {
	w.mark = markOf(w)
	return q.register(fd, w, unix.EV_ADD|unix.EV_CLEAR)
}

// attached changes nothing of a registration, which fails if there is none. Some
// kernels take the values over even without EV_ADD, so they are those of attach.
func (q *kqueue) attached(fd uintptr, w *watch) (bool, error) {
	switch err := q.register(fd, w, unix.EV_ENABLE|unix.EV_CLEAR); err {
	case nil:
		return true, nil
	case unix.ENOENT:
		return false, nil
	default:
		return false, os.NewSyscallError("kevent", err)
	}
}

func (q *kqueue) register(fd uintptr, w *watch, flags int) error {
	var change unix.Kevent_t
	unix.SetKevent(&change, int(fd), unix.EVFILT_READ, flags)
	change.Fflags = unix.NOTE_LOWAT
	change.Data = math.MaxInt32 // the kernel's is 32 bits wide on some
	setMark(&change, w)
	return q.change(&change)
}

// detach fails with ENOENT if there is nothing to delete.
func (q *kqueue) detach(fd uintptr) {
	var change unix.Kevent_t
	unix.SetKevent(&change, int(fd), unix.EVFILT_READ, unix.EV_DELETE)
	_ = q.change(&change)
}

// change makes one change, and does not wait. To make it twice is no different.
func (q *kqueue) change(c *unix.Kevent_t) error {
	changes := [1]unix.Kevent_t{*c}
	for {
		_, err := unix.Kevent(q.fd, changes[:], nil, nil)
		if err != unix.EINTR {
			return err
		}
	}
}

func (q *kqueue) wait(events []event) (int, error) {
	for {
		n, err := unix.Kevent(q.fd, nil, q.events[:len(events)], nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, os.NewSyscallError("kevent", err)
		}
		for i := range n {
			e := &q.events[i]
			if uintptr(e.Ident) == q.pipe {
				q.woken.Read(make([]byte, 1)) // of a nudge, or the end of file, which stays
			}
			events[i] = event{uintptr(e.Ident), markIn(e), e.Flags&unix.EV_EOF != 0, e.Fflags != 0}
		}
		return n, nil
	}
}

// nudge makes the pipe readable until the next wait has seen it.
func (q *kqueue) nudge() { q.tap.Write(make([]byte, 1)) }

// wake makes the pipe readable, and so it stays.
func (q *kqueue) wake() { q.tap.Close() }

func (q *kqueue) close() {
	unix.Close(q.fd)
	q.woken.Close()
	q.tap.Close()
}
