package keepalive

import (
	"time"

	"golang.org/x/sys/unix"
)

// systemOptions: whether probes go on while data are unacknowledged is not known. So
// PeerTimeout is refused, and KeepAlive is not.
func systemOptions() options {
	return options{
		idle: unix.TCP_KEEPIDLE, interval: unix.TCP_KEEPINTVL, count: unix.TCP_KEEPCNT, tick: time.Second,
	}
}
