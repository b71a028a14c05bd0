//go:build arm64 || loong64 || riscv64

package sock

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poll is as in poll_linux.go, for the architectures that never had poll. On the
// others ppoll is the slower one.
func Poll(fd uintptr) (events int16, ok bool) {
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP | unix.POLLPRI}
	var zero unix.Timespec
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&zero)), 0, 0, 0)
		if errno != unix.EINTR {
			return p.Revents, errno == 0
		}
	}
}
