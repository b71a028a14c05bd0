package poller

import (
	"sync"

	"golang.org/x/sys/unix"
)

// selfTest reports, once for the process, whether epoll tells what it is asked for.
// epoll_ctl takes flags that it does not know without a word, so an emulator of Linux
// may watch for nothing.
var selfTest = sync.OnceValue(func() bool { return tells(mask) })

// tells reports whether an epoll registration with that mask tells of a FIN. It takes
// a pair of AF_UNIX sockets for it, which no other code can see. If it cannot be
// tried, it is believed.
func tells(mask uint32) bool {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return true
	}
	defer unix.Close(epfd)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	event := unix.EpollEvent{Events: mask}
	if unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, pair[0], &event) != nil || unix.Shutdown(pair[1], unix.SHUT_WR) != nil {
		return true
	}
	var events [1]unix.EpollEvent
	for {
		n, err := unix.EpollWait(epfd, events[:], 0)
		if err != unix.EINTR {
			return err != nil || n == 1 && events[0].Events&unix.EPOLLRDHUP != 0
		}
	}
}
