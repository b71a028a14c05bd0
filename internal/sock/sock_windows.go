package sock

import (
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/internal/afd"
)

// Drain reads what was received. Sockets of package net are in blocking mode, so it
// asks the driver, which does not wait.
func Drain(fd uintptr, b []byte) (int, error) { return afd.Recv(fd, b, 0) }

// AbortOnClose makes the next close send a RST and free the send queue.
func AbortOnClose(fd uintptr) {
	_ = windows.SetsockoptLinger(windows.Handle(fd), windows.SOL_SOCKET, windows.SO_LINGER, &windows.Linger{Onoff: 1})
}

// Unread counts the bytes received that the application has not read.
func Unread(fd uintptr) int {
	const fionread = 0x4004667f // x/sys does not name it
	var n, length uint32
	if windows.WSAIoctl(windows.Handle(fd), fionread, nil, 0, (*byte)(unsafe.Pointer(&n)), uint32(unsafe.Sizeof(n)),
		&length, nil, 0) != nil {
		return 0
	}
	return int(n)
}
