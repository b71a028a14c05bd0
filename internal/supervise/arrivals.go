package supervise

import (
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/verdict"
)

// Arrivals are how many segments had arrived at a sample, and when that was taken: in the
// low 32 bits, and as milliseconds since started in the high ones. Zero if it is not known.
type Arrivals uint64

func arrivalsOf(s *Sample) Arrivals {
	if s.Info.Segments == 0 { // Linux before 4.2
		return 0
	}
	return Arrivals(uint64(s.Asked.Sub(started).Milliseconds())<<32 | uint64(s.Info.Segments))
}

// Arrivals returns those of the last sample of the open connection.
func (t *Timeouts) Arrivals() Arrivals {
	if t == nil {
		return 0
	}
	return Arrivals(t.arrivals.Load())
}

// An Ender is who ended a connection, and not by two FINs.
type Ender uint8

const (
	PeerRST     Ender = iota // or another host in the peer's name
	KernelTimer              // the local kernel gave up
	LocalAbort               // tcp_abort in net/ipv4/tcp.c, as for ss -K
)

// WhoEnded returns that of a connection that i shows in state CLOSE. before has its options
// from before a Ping, which changes what the count of probes means; nil if there was none.
//
// A RST is a segment: if none has arrived since the last sample, this host has ended the
// connection. Its kernel gives up only while it waits for an answer. When, is known to the
// tick for retransmissions, but not for the probes of a closed window: there a single segment
// is taken for a RST, and several for what a peer repeats that hears nothing.
func (a Arrivals) WhoEnded(i *tcpinfo.Info, fd uintptr, before *keepalive.Limits) Ender {
	more, known := a.more(i)
	switch {
	case known && more == 1 && i.PeerWindow == 0 && i.Retransmits == 0:
		return PeerRST
	case i.Solicitations() == 0 && i.PeerWindow != 0: // and no option needs to be read
	case verdict.TimedOut(keepalive.ReadOptions(fd), i), i.Retransmits == 0 && before != nil && verdict.TimedOut(before, i):
		return KernelTimer
	}
	if known && more == 0 {
		return LocalAbort
	}
	return PeerRST
}

// more counts the segments that have arrived between the sample and i, which was taken just
// now. They moved no age, as a RST does not. It does not know if the ages of i tell of others.
func (a Arrivals) more(i *tcpinfo.Info) (n uint32, known bool) {
	now := uint32(time.Since(started).Milliseconds())
	age := time.Duration(now-uint32(a>>32)) * time.Millisecond
	if a == 0 || i.Silence() <= age+verdict.TickSlack {
		return 0, false
	}
	return i.Segments - uint32(a), true
}
