//go:build darwin || freebsd || openbsd

package tcpinfo

import "golang.org/x/sys/unix"

// GetState asks for the state alone.
func GetState(fd uintptr) (State, error) {
	return stateIn(unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option))
}
