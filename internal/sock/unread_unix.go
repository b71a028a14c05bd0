//go:build unix && !linux

package sock

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Unread counts the bytes received that the application has not read.
func Unread(fd uintptr) int {
	const fionread = 0x4004667f // _IOR('f', 127, int), which x/sys does not name
	n, err := unix.IoctlGetInt(int(fd), fionread)
	if err != nil {
		return 0
	}
	return int(*(*int32)(unsafe.Pointer(&n)))
}
