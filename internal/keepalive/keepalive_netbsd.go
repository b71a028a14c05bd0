package keepalive

import (
	"time"

	"golang.org/x/sys/unix"
)

// systemOptions: tcp_timer_keep in sys/netinet/tcp_timer.c goes by the age of the last
// segment alone. The manual says that the options count seconds, but tcp_ctloutput
// takes their values for ticks of the slow timer, of which a second has two
// (PR_SLOWHZ). Should a kernel do as the manual says, detection takes twice as long, and
// the grace lasts for that in any case.
func systemOptions() options {
	return options{
		idle: unix.TCP_KEEPIDLE, interval: unix.TCP_KEEPINTVL, count: unix.TCP_KEEPCNT, tick: time.Second / 2,
		probesFindData: true,
		sendQueue: func(fd uintptr) int {
			const fionwrite = 0x40046679 // _IOR('f', 121, int), which x/sys does not name
			n, _ := unix.IoctlGetInt(int(fd), fionwrite)
			return cInt(n)
		},
	}
}
