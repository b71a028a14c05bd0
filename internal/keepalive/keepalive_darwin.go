package keepalive

import (
	"time"

	"golang.org/x/sys/unix"
)

// systemOptions: tcp_timers of xnu, in bsd/netinet/tcp_timer.c. The limit for data is
// counted from the first retransmission and looked at with each, so it comes later
// than the probes find a peer that vanished. It is for one whose probes are answered
// while its data never arrive.
func systemOptions() options {
	return options{
		idle: unix.TCP_KEEPALIVE, interval: unix.TCP_KEEPINTVL, count: unix.TCP_KEEPCNT, tick: time.Second,
		dataLimit: unix.TCP_RXT_CONNDROPTIME, dataTick: time.Second,
		probesFindData: true,
		sendQueue: func(fd uintptr) int {
			n, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NWRITE)
			return n
		},
	}
}
