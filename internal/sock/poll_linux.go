//go:build !arm64 && !loong64 && !riscv64

package sock

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poll returns what poll shows of fd at this moment: an end, the peer's FIN, and
// urgent data. ok is false if there is no poll.
//
// The call goes around the Go scheduler. It neither waits nor takes a lock, so it is
// shorter than telling the scheduler of it. A signal, such as the scheduler itself
// sends, interrupts even a poll that does not wait (do_poll in fs/select.c).
func Poll(fd uintptr) (events int16, ok bool) {
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP | unix.POLLPRI}
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_POLL, uintptr(unsafe.Pointer(&p)), 1, 0)
		if errno != unix.EINTR {
			return p.Revents, errno == 0
		}
	}
}
