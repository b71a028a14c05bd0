package verdict

import (
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// TimedOut reports whether the kernel gave up a connection that i shows in state CLOSE,
// and not a RST ended it. l has the options of the socket. i must be taken at the moment
// of the event, because the kernel goes on counting the ages.
//
// A timer ends a connection at the moment when it expires. So a retransmission time-out
// has passed since the last segment was sent, whatever tcp_retries2 is. A RST comes
// sooner: it answers the last segment, or arrives before the next. The timer may be late by
// an eighth, and a RST that arrives meanwhile looks the same. But with a user timeout as long
// as that of [keepalive.Patience], the kernel gives up only after that, unless the window
// closed on data in flight. The kernel keeps the counters and ages in state CLOSE, but not
// Backoff and InFlight (tcp_write_queue_purge in net/ipv4/tcp.c).
func TimedOut(l *keepalive.Limits, i *tcpinfo.Info) bool {
	switch {
	case i.Retransmits > 0 && i.RTT == 0 && i.Delivered == 0 && i.Acked == 0:
		return handshakeTimedOut(i)
	case i.Retransmits > 0:
		since := retransmitTime(l, i) + i.SinceSent
		return l.UserTimeout < keepalive.DefaultPatience && ranOut(i) || l.UserTimeout > 0 && since >= l.UserTimeout*7/8 ||
			i.PeerWindow == 0 && closedWindowTimedOut(l, i)
	case i.PeerWindow == 0:
		return closedWindowTimedOut(l, i)
	case i.Probes == 0:
		return false
	case i.Unsent > 0 && i.Probes > 1:
		// What finds no route is sent again as a window probe, and the unanswered probes of
		// keep-alive count, too (tcp_probe_timer).
		return ranOut(i)
	case l.UserTimeout > 0:
		// It takes the place of the count of probes (tcp_keepalive_timer).
		return i.Silence()+TickSlack >= max(l.UserTimeout, l.Idle+l.Interval)
	default:
		return i.Probes >= l.Count && i.Silence()+TickSlack >= l.Idle+time.Duration(l.Count)*l.Interval
	}
}

// ranOut reports whether the retransmission time-out has passed.
func ranOut(i *tcpinfo.Info) bool { return i.SinceSent+TickSlack >= i.RTO }

// retransmitTime returns how long, at the least, the first of Retransmits was before the
// last: TCP_USER_TIMEOUT counts from it, and shortens the last time-out.
func retransmitTime(l *keepalive.Limits, i *tcpinfo.Info) (d time.Duration) {
	for n := 1; n < i.Retransmits; n++ {
		d += i.RTO >> min(n, 62)
	}
	var known time.Duration
	for n, rto := 1, 2*(i.RTT+keepalive.MinRTO); n < i.Retransmits; n++ {
		rto = min(rto, l.MaxRTO)
		known, rto = known+rto, 2*rto
	}
	return max(d, known)
}

// closedWindowTimedOut is TimedOut for a closed window. Linux counts neither the
// retransmissions into it, nor does it keep how often the time between probes doubled.
func closedWindowTimedOut(l *keepalive.Limits, i *tcpinfo.Info) bool {
	silence := i.Silence() + TickSlack
	if l.UserTimeout > 0 && i.SinceSent+TickSlack >= l.UserTimeout {
		return true // it counts from the first probe, even if all are answered
	}
	if i.Probes == 0 {
		// tcp_rtx_probe0_timed_out in net/ipv4/tcp_timer.c.
		return i.SinceSent < i.Silence() && ranOut(i) && silence >= l.MaxRTO
	}
	total := time.Duration(0)
	for n := range i.Probes + 1 {
		total += min(max(i.RTO, keepalive.MinRTO)<<min(n, 10), l.MaxRTO)
	}
	return i.Probes >= 2 && silence >= total
}

// handshakeRTO is the time-out of the first SYN-ACK (TCP_TIMEOUT_INIT).
const handshakeRTO = time.Second

// handshakeTimedOut is TimedOut for SYN_RECV. The application gets such a connection by
// TCP Fast Open. The kernel then counts the retransmissions of its SYN-ACK, but changes
// neither SinceSent nor RTO with them (tcp_fastopen_synack_timer). Nothing was
// acknowledged, not even the SYN, and the data of the peer's SYN are as old as the
// connection.
func handshakeTimedOut(i *tcpinfo.Info) bool {
	total := time.Duration(0)
	for n := range i.Retransmits + 1 {
		total += min(handshakeRTO<<min(n, 10), keepalive.MaxRTO)
	}
	return max(i.SinceSent, i.SinceData)+TickSlack >= total
}
