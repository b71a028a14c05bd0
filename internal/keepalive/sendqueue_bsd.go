//go:build darwin || freebsd || netbsd

package keepalive

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SendQueue counts the bytes in the send buffer of a TCP socket; 0 where the system
// does not tell. x/sys names none of these three.
func SendQueue(fd uintptr) int {
	const soNWrite = 0x1024
	request := uint(0x40046677) // FIONWRITE: _IOR('f', 119, int)
	switch runtime.GOOS {
	case "darwin", "ios":
		n, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, soNWrite)
		return n
	case "netbsd":
		request = 0x40046679 // _IOR('f', 121, int)
	}
	n, _ := unix.IoctlGetInt(int(fd), request)
	// The kernel has put a C int into a Go int, which has room for two.
	return int(*(*int32)(unsafe.Pointer(&n)))
}
