//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package sock

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// EndBehind reports whether an end follows the data that can be read, and the errno that
// the socket keeps, if it has one. A kqueue made for the question tells: its filter
// looks for the end before it looks at the data, and leaves the errno where it is
// (filt_soread in uipc_socket.c). If none can be made, EndBehind reports no end.
func EndBehind(fd uintptr) (ended bool, errno error) {
	kq, err := unix.Kqueue()
	if err != nil {
		return false, nil
	}
	defer unix.Close(kq)
	var change [1]unix.Kevent_t
	unix.SetKevent(&change[0], int(fd), unix.EVFILT_READ, unix.EV_ADD|unix.EV_ONESHOT)
	change[0].Fflags = unix.NOTE_LOWAT
	change[0].Data = math.MaxInt32
	var event [1]unix.Kevent_t
	n, err := unix.Kevent(kq, change[:], event[:], &unix.Timespec{})
	if err != nil || n != 1 || event[0].Flags&unix.EV_ERROR != 0 || event[0].Flags&unix.EV_EOF == 0 {
		return false, nil
	}
	if event[0].Fflags != 0 {
		errno = syscall.Errno(event[0].Fflags)
	}
	return true, errno
}
