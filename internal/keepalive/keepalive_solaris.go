package keepalive

import (
	"time"

	"golang.org/x/sys/unix"
)

// sunOptions are those of Solaris and illumos, which differ in the numbers of the
// first three. The ranges are those of the tunables tcp_keepalive_interval and
// tcp_rto_max. The limit for data is the second_threshold of tcp_timer in
// uts/common/inet/tcp/tcp_timers.c, which spares a peer that keeps its window closed
// and answers.
func sunOptions(idle, interval, count int) options {
	return options{
		idle: idle, interval: interval, count: count, tick: time.Second,
		minIdle: 10 * time.Second, maxInterval: time.Minute,
		dataLimit: unix.TCP_ABORT_THRESHOLD, dataTick: time.Millisecond,
	}
}
