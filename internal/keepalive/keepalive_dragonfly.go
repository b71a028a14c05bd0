package keepalive

import (
	"time"

	"golang.org/x/sys/unix"
)

// systemOptions: tcp_timer_keep_handler in sys/netinet/tcp_timer.c goes by the age of
// the last segment alone. The options have counted seconds since DragonFly 5.8.
func systemOptions() options {
	return options{
		idle: unix.TCP_KEEPIDLE, interval: unix.TCP_KEEPINTVL, count: unix.TCP_KEEPCNT, tick: time.Second,
		probesFindData: true,
	}
}
