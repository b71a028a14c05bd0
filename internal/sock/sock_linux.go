package sock

import "golang.org/x/sys/unix"

// Unread counts the bytes received that the application has not read, without the
// peer's FIN. It stops at urgent data (tcp_inq in include/net/tcp.h).
func Unread(fd uintptr) int {
	n, err := unix.IoctlGetUint32(int(fd), unix.SIOCINQ)
	if err != nil {
		return 0
	}
	return int(n)
}

// SendQueue counts the bytes written that the peer's kernel has not acknowledged,
// with a FIN as one byte. ok is false if the kernel does not tell.
func SendQueue(fd uintptr) (n int, ok bool) {
	u, err := unix.IoctlGetUint32(int(fd), unix.SIOCOUTQ)
	return int(u), err == nil
}
