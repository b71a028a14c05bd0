package keepalive

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/windows"
)

func getOption(fd uintptr, name int) (int, error) {
	level, name := numbers(name)
	return windows.GetsockoptInt(windows.Handle(fd), level, name)
}

func setOption(fd uintptr, o option) error {
	if o.name == keepAliveVals {
		vals := [3]uint32{1, uint32(o.value), uint32(o.second)} // struct tcp_keepalive of mstcpip.h
		returned := uint32(0)
		return windows.WSAIoctl(windows.Handle(fd), windows.SIO_KEEPALIVE_VALS,
			(*byte)(unsafe.Pointer(&vals)), uint32(unsafe.Sizeof(vals)), nil, 0, &returned, nil, 0)
	}
	level, name := numbers(o.name)
	return windows.SetsockoptInt(windows.Handle(fd), level, name, o.value)
}

func numbers(name int) (level, number int) {
	if name == switchOn {
		return windows.SOL_SOCKET, windows.SO_KEEPALIVE
	}
	return windows.IPPROTO_TCP, name
}

// isMissing reports whether err says that the socket has no such option.
func isMissing(err error) bool {
	return errors.Is(err, windows.WSAENOPROTOOPT) || errors.Is(err, errMissing)
}

// isTCP asks for an option that every TCP socket has, and no other.
func isTCP(fd uintptr) bool {
	_, err := getOption(fd, windows.TCP_NODELAY)
	return err == nil
}

// onOwnSocket is not needed: the table has nothing to ask for.
func onOwnSocket(func(uintptr) error) (made bool, err error) { return true, errMissing }
