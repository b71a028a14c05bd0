package keepalive

import (
	"time"

	"golang.org/x/sys/unix"
)

// systemOptions: tcp_timer_keep in sys/netinet/tcp_timer.c goes by the age of the last
// segment alone. So TCP_MAXUNACKTIME is left alone: it would find nothing more, and
// tcp_timer_persist ends by it a connection whose peer answers and only keeps its
// window closed.
func systemOptions() options {
	return options{
		idle: unix.TCP_KEEPIDLE, interval: unix.TCP_KEEPINTVL, count: unix.TCP_KEEPCNT, tick: time.Second,
		probesFindData: true,
		sendQueue: func(fd uintptr) int {
			const fionwrite = 0x40046677 // _IOR('f', 119, int), which x/sys does not name
			n, _ := unix.IoctlGetInt(int(fd), fionwrite)
			return cInt(n)
		},
	}
}
