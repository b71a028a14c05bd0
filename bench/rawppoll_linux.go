//go:build arm64 || loong64 || riscv64

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawestPoll is that of rawpoll_linux.go, for the architectures that never had poll.
func rawestPoll(p *unix.PollFd) {
	var zero unix.Timespec
	unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(p)), 1, uintptr(unsafe.Pointer(&zero)), 0, 0, 0)
}
