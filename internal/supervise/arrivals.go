package supervise

import (
	"time"

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

// More reports whether a segment has arrived between the sample and i, which was taken just
// now. A RST is one, and moves no age. It does not know if the ages of i tell of another.
func (a Arrivals) More(i *tcpinfo.Info) (more, known bool) {
	now := uint32(time.Since(started).Milliseconds())
	age := time.Duration(now-uint32(a>>32)) * time.Millisecond
	if a == 0 || i.Silence() <= age+verdict.TickSlack {
		return false, false
	}
	return i.Segments != uint32(a), true
}
