package livenesstest

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// cutSocket makes the kernel drop every segment that arrives at the socket: those with a lower time to live than this are
// refused, and only routing protocols send with the highest. The check (tcp_v4_rcv, tcp_v6_rcv) comes before TCP sees the
// segment, so not even an acknowledgement is noticed, and ICMP errors are dropped alike. A socket filter would do the same, but
// for TCP has come to need CAP_NET_ADMIN (commit 5d39580f68e6).
func cutSocket(fd int) error {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if protocol != unix.IPPROTO_TCP {
		return fmt.Errorf("not a TCP socket (protocol %d): %w", protocol, errors.ErrUnsupported)
	}
	return setMinTTL(fd, 255)
}

// mendSocket undoes cutSocket.
func mendSocket(fd int) error {
	return setMinTTL(fd, 0)
}

func setMinTTL(fd, ttl int) error {
	// An IPv6 socket needs both: it may have an IPv4 connection.
	err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL, ttl)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, ttl)
		if err == unix.ENOPROTOOPT { // an IPv4 socket
			err = nil
		}
	}
	if err == nil { // what poses as Linux may take any option without a word, and do nothing
		_, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL)
	}
	if err == unix.ENOPROTOOPT { // every Linux has it, emulators do not
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, os.NewSyscallError("setsockopt", err))
	}
	return os.NewSyscallError("setsockopt", err)
}

// unread returns how many received bytes wait to be read.
func unread(conn net.Conn) (n int, err error) {
	err = control(conn, func(fd int) error {
		count, err := unix.IoctlGetUint32(fd, unix.SIOCINQ) // the kernel's int has 32 bits
		n = int(count)
		return os.NewSyscallError("ioctl", err)
	})
	return n, err
}
