package supervise

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

func TestWhoEnded(t *testing.T) {
	const silence, noSocket = 5 * time.Second, ^uintptr(0)
	sampled := func(ago time.Duration, segments uint32) Arrivals {
		return arrivalsOf(&Sample{Asked: time.Now().Add(-ago), Info: tcpinfo.Info{Segments: segments}})
	}
	open := tcpinfo.Info{State: tcpinfo.Closed, Segments: 7, SinceAck: silence, SinceData: silence, PeerWindow: 1000}
	probed := open
	probed.PeerWindow, probed.Probes, probed.RTO = 0, 3, 200*time.Millisecond
	sent := open // and retransmitted until the time-out had passed
	sent.Retransmits, sent.RTO, sent.SinceSent, sent.RTT = 5, time.Second, time.Second, time.Millisecond
	for name, c := range map[string]struct {
		last Arrivals
		info tcpinfo.Info
		want Ender
	}{
		"a segment came":                    {sampled(time.Second, 6), open, PeerRST},
		"none came":                         {sampled(time.Second, 7), open, LocalAbort},
		"never sampled":                     {0, open, PeerRST},
		"not counted":                       {sampled(time.Second, 0), open, PeerRST},
		"heard after the sample":            {sampled(10*time.Second, 6), open, PeerRST},
		"a segment came behind probes":      {sampled(time.Second, 6), probed, PeerRST},
		"repeated segments behind probes":   {sampled(time.Second, 4), probed, KernelTimer},
		"a segment, and the RTO has passed": {sampled(time.Second, 6), sent, KernelTimer},
		"none came behind probes":           {sampled(time.Second, 7), probed, KernelTimer},
		"never sampled, and probed in time": {0, probed, KernelTimer},
	} {
		assert.Equal(t, c.want, c.last.WhoEnded(&c.info, noSocket, &keepalive.Limits{MaxRTO: keepalive.MaxRTO}), name)
	}
	assert.Zero(t, (*Timeouts)(nil).Arrivals())
}
