//go:build !arm64 && !loong64 && !riscv64

package liveness

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pollNow returns what poll shows of fd at this moment: an end, the peer's FIN, and
// urgent data, which an autopsy wants to know of. It goes around the
// scheduler: with no time to wait and no lock to take, the call is shorter than
// telling the scheduler of it. A signal, such as the scheduler itself sends,
// interrupts even a poll that does not wait (do_poll in fs/select.c).
func pollNow(fd uintptr) (int16, bool) {
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP | unix.POLLPRI}
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_POLL, uintptr(unsafe.Pointer(&p)), 1, 0)
		if errno != unix.EINTR {
			return p.Revents, errno == 0
		}
	}
}
