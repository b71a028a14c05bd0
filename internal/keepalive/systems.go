package keepalive

import (
	"runtime"
	"time"
)

// A system is how one operating system takes the tuning of its TCP timers. Numbers are
// literal, so that every row is compiled and tested everywhere; constants_*_test.go
// compares each system's row with golang.org/x/sys. All options but SO_KEEPALIVE are of
// level IPPROTO_TCP. Zero means that the system has no such option, or no such limit.
type system struct {
	name string

	idle, interval, count int           // the names of the probe options
	tick                  time.Duration // what the values of idle and interval count

	minIdle, maxInterval time.Duration // the kernel takes no less, and no more
	fixedCount           int           // the count of probes, where it cannot be set
	oneCall              bool          // idle and interval are set together, by SIO_KEEPALIVE_VALS

	counting counting
	inFlight inFlight

	dataLimit int           // the option that limits for how long data may be unacknowledged
	dataTick  time.Duration // what its value counts

	userTimeout, maxRTO int  // TCP_USER_TIMEOUT and TCP_RTO_MAX_MS
	timerWheel          bool // timers are late as latestExpiry says
	probesOnRequest     bool // setting the idle time can send a probe at once

	older *system // an earlier version of the system, which lacks options of this one
}

// counting is how a kernel finds out that keep-alive has failed.
type counting uint8

const (
	byProbes counting = iota // it counts probes without an answer
	byAge                    // it compares the age of the last segment with idle + count · interval
)

// inFlight is what finds a peer that vanishes while data are in flight.
type inFlight uint8

const (
	nothingFinds inFlight = iota // nothing that can be set
	libraryFinds                 // the library, from TCP_INFO; see package verdict
	probesFind                   // keep-alive, which goes on beside retransmissions
	limitFinds                   // dataLimit
	limitMayFind                 // dataLimit, or where it is missing the system's own count of retransmissions
)

// systems is the table, in alphabetical order.
var systems = [...]system{
	{
		// The numbers are those of AIX's netinet/tcp.h. Whether probes go on while data
		// are unacknowledged is not known, so PeerTimeout is refused and KeepAlive is not.
		name: "aix",
		idle: 0x11, interval: 0x12, count: 0x13, tick: time.Second,
		counting: byAge,
	},
	{
		// tcp_timers in bsd/netinet/tcp_timer.c of xnu. TCP_RXT_CONNDROPTIME counts from
		// the first retransmission and is compared at each, so it comes later than the
		// probes. It is for a peer that answers probes while the data never arrive.
		name: "darwin",
		idle: 0x10, interval: 0x101, count: 0x102, tick: time.Second,
		counting: byAge, inFlight: probesFind,
		dataLimit: 0x80, dataTick: time.Second,
	},
	{
		// tcp_timer_keep_handler in sys/netinet/tcp_timer.c. The options count seconds
		// since DragonFly 5.8.
		name: "dragonfly",
		idle: 0x100, interval: 0x200, count: 0x400, tick: time.Second,
		counting: byAge, inFlight: probesFind,
	},
	{
		// tcp_timer_keep in sys/netinet/tcp_timer.c. TCP_MAXUNACKTIME stays as it is: it
		// would find nothing more, and tcp_timer_persist ends by it a connection whose
		// peer answers and only keeps its window closed.
		name: "freebsd",
		idle: 0x100, interval: 0x200, count: 0x400, tick: time.Second,
		counting: byAge, inFlight: probesFind,
	},
	{
		// The ranges are those of the tunables tcp_keepalive_interval and tcp_rto_max.
		// TCP_ABORT_THRESHOLD is the second_threshold of tcp_timer in
		// uts/common/inet/tcp/tcp_timers.c, which spares a closed window that is answered.
		name: "illumos",
		idle: 0x22, interval: 0x24, count: 0x23, tick: time.Second,
		minIdle: 10 * time.Second, maxInterval: time.Minute,
		counting: byAge, inFlight: limitFinds,
		dataLimit: 0x11, dataTick: time.Millisecond,
	},
	{
		// include/uapi/linux/tcp.h; tcp_keepalive_timer in net/ipv4/tcp_timer.c, which
		// pauses while data are in flight. TCP_RTO_MAX_MS is there since Linux 6.15.
		name: "linux",
		idle: 4, interval: 5, count: 6, tick: time.Second,
		counting: byProbes, inFlight: libraryFinds,
		userTimeout: 18, maxRTO: 44,
		timerWheel: true, probesOnRequest: true,
	},
	{
		// tcp_timer_keep in sys/netinet/tcp_timer.c. The manual says that the options
		// count seconds, but tcp_ctloutput takes them for ticks of the slow timer, of
		// which a second has two (PR_SLOWHZ). Should a kernel do as the manual says,
		// detection takes twice as long.
		name: "netbsd",
		idle: 3, interval: 5, count: 6, tick: time.Second / 2,
		counting: byAge, inFlight: probesFind,
	},
	{
		// A socket has keep-alive on or off. When it probes is one setting for the whole
		// system (net.inet.tcp.keepidle).
		name: "openbsd",
	},
	{
		// As illumos, with the numbers of Solaris 11.4, the first to have these options.
		// x/sys has those of illumos under the same names.
		name: "solaris",
		idle: 0x1d, interval: 0x1e, count: 0x1f, tick: time.Second,
		minIdle: 10 * time.Second, maxInterval: time.Minute,
		counting: byAge, inFlight: limitFinds,
		dataLimit: 0x11, dataTick: time.Millisecond,
	},
	{
		// ws2ipdef.h. TCP_MAXRT is for how long the stack retransmits; Wine lacks it.
		// Microsoft does not say whether an answered probe of a closed window counts.
		name: "windows",
		idle: 3, interval: 17, count: 16, tick: time.Second,
		counting: byProbes, inFlight: limitMayFind,
		dataLimit: 5, dataTick: time.Second,
		older: &windowsBefore1709,
	},
}

// windowsBefore1709 lacks TCP_KEEPIDLE and TCP_KEEPINTVL, and before 1703 TCP_KEEPCNT.
// SIO_KEEPALIVE_VALS counts milliseconds, and the count of probes is 10.
var windowsBefore1709 = system{
	name: "windows before 1709",
	tick: time.Millisecond, fixedCount: 10, oneCall: true,
	counting: byProbes, inFlight: limitMayFind,
	dataLimit: 5, dataTick: time.Second,
}

// own is the row of the system that the program was built for.
var own = systemFor(runtime.GOOS)

// systemFor returns the row for a GOOS. A system without one can be tuned in no way.
func systemFor(goos string) *system {
	switch goos {
	case "android":
		goos = "linux"
	case "ios":
		goos = "darwin"
	}
	for i := range systems {
		if systems[i].name == goos {
			return &systems[i]
		}
	}
	return &system{name: goos}
}
