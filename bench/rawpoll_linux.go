//go:build !arm64 && !loong64 && !riscv64

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawestPoll does not tell the scheduler of its system call, as Alive does not.
func rawestPoll(p *unix.PollFd) {
	unix.RawSyscall(unix.SYS_POLL, uintptr(unsafe.Pointer(p)), 1, 0)
}
