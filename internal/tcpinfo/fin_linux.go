package tcpinfo

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FINArrived reports whether the peer's FIN came before the end. In state CLOSE
// nothing that is made for the purpose tells: POLLRDHUP is set after a RST too,
// SIOCINQ subtracts the FIN. But a request for zero bytes of zero-copy receive
// says EIO where a read would say 0 because of a FIN, and counts the FIN among
// the bytes to come (tcp_zerocopy_receive, tcp_inq_hint in net/ipv4/tcp.c). It
// moves nothing, and short of the field err it leaves the socket's error alone.
// Behind a page or more of unread data it insists on a mapping of the socket to
// move the zero bytes to. It does not know on a system without the option.
//
// unread is what Unread counts, without the FIN; -1 if that is not known.
func FINArrived(fd uintptr) (fin bool, unread int, known bool) {
	fin, inq, err := zeroCopyZero(fd, 0)
	unread = int(inq)
	if fin && unread > 0 {
		unread--
	}
	if err == unix.EINVAL {
		size := uintptr(os.Getpagesize())
		page, merr := unix.MmapPtr(int(fd), 0, nil, size, unix.PROT_READ, unix.MAP_SHARED)
		if merr != nil {
			return false, -1, false
		}
		fin, _, err = zeroCopyZero(fd, uintptr(page))
		_ = unix.MunmapPtr(page, size)
		unread = -1
	}
	if err != nil {
		return false, -1, false
	}
	return fin, unread, true
}

// Unread counts the bytes received that the application has not read, urgent data and what
// is behind it included, at which SIOCINQ stops. A FIN behind unread bytes counts as one.
// It does not know where a page or more is unread, and on a system without the option.
func Unread(fd uintptr) (n int, known bool) {
	_, inq, err := zeroCopyZero(fd, 0)
	return int(inq), err == nil
}

// zeroCopyZero asks for zero bytes to be mapped at address.
func zeroCopyZero(fd, address uintptr) (fin bool, inq uint32, err error) {
	// struct tcp_zerocopy_receive up to, and without, err.
	request := struct {
		address                   uint64
		length, recvSkipHint, inq uint32
		_                         uint32
	}{address: uint64(address)}
	const size = unsafe.Offsetof(request.inq) + unsafe.Sizeof(request.inq)
	length := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_ZEROCOPY_RECEIVE,
		uintptr(unsafe.Pointer(&request)), uintptr(unsafe.Pointer(&length)), 0)
	switch {
	case errno == unix.EIO:
		return true, 0, nil
	case errno != 0:
		return false, 0, errno
	case length != uint32(size):
		return false, 0, unix.ENOPROTOOPT
	case address != 0:
		return false, 0, nil
	default:
		return request.inq > request.recvSkipHint, request.inq, nil
	}
}
