package tcpinfo

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const option = unix.TCP_INFO

// tcpInfo is the beginning of struct tcp_info in tcp.h, which has not changed since
// FreeBSD 6. What FreeBSD leaves at zero has no name.
type tcpInfo struct {
	state uint8
	_     [7]uint8
	rto   uint32
	_     [10]uint32
	// The age of the last segment, in microseconds, and so back at 0 after 72 minutes:
	// nothing to go by.
	_   uint32
	_   [3]uint32
	rtt uint32 // microseconds
}

// Get fills in the state and the round-trip time.
func Get(fd uintptr, info *Info) error {
	var raw tcpInfo
	size := uint32(unsafe.Sizeof(raw))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, option,
		uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	*info = Info{State: bsdState(raw.state), Sent: -1, Received: -1, PeerWindow: -1, OurWindow: -1}
	if size < uint32(unsafe.Sizeof(raw)) {
		return ErrShort
	}
	info.RTT = time.Duration(raw.rtt) * time.Microsecond
	return nil
}

// The offsets of FreeBSD's tcp.h.
var (
	_ [8]byte  = [unsafe.Offsetof(tcpInfo{}.rto)]byte{}
	_ [68]byte = [unsafe.Offsetof(tcpInfo{}.rtt)]byte{}
)
