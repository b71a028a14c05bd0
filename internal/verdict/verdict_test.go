package verdict

import (
	"testing"
	"time"
	"unsafe"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// Every supervised connection has a Supervisor.
func TestSupervisorIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Supervisor{}); n > 136 {
		t.Errorf("%d bytes", n)
	}
}

// An idler samples the read-idle clock.
type idler struct {
	s   Supervisor
	now time.Duration
	e   Evidence
}

func newIdler(idle time.Duration) *idler {
	d := &idler{now: time.Hour, s: Supervisor{Idle: idle}}
	d.e = Evidence{Counted: true, Info: tcpinfo.Info{State: tcpinfo.Open, OurWindow: 10_000, PeerMSS: 1460}}
	d.s.Start(0)
	d.e.Info.SinceAck = time.Minute
	return d
}

func (d *idler) sample() Answer {
	d.e.Asked, d.e.Answered = d.now, d.now
	return d.s.Ask(&d.e, nil)
}

func (d *idler) pass(t time.Duration) {
	d.now += t
	d.e.Info.SinceData += t
	d.e.Info.SinceAck += t
}

// wait samples as asked for until there is a verdict, at most for so long.
func (d *idler) wait(limit time.Duration) time.Duration {
	for start := d.now; ; {
		a := d.sample()
		if took := d.now - start; a.Reason == Idle || took >= limit {
			return took
		}
		if a.Again <= 0 {
			return limit
		}
		d.pass(a.Again)
	}
}

// ReadIdleTimeout comes in time, whatever is unread, unless the peer cannot send.
func TestIdle(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Evidence)
		idle   time.Duration
		ends   bool
	}{
		"nothing unread":           {func(*Evidence) {}, time.Second, true},
		"one byte unread":          {func(e *Evidence) { e.Unread = 1 }, time.Second, true},
		"window not told, unread":  {func(e *Evidence) { e.Unread, e.Info.OurWindow = 60_000, -1 }, time.Second, true},
		"window below a segment":   {func(e *Evidence) { e.Unread, e.Info.OurWindow = 60_000, 100 }, time.Second, true},
		"the same, short time-out": {func(e *Evidence) { e.Unread, e.Info.OurWindow = 60_000, 100 }, 100 * time.Millisecond, true},
		"window closed":            {func(e *Evidence) { e.Unread, e.Info.OurWindow = 60_000, 0 }, time.Second, false},
		"after the FIN":            {func(e *Evidence) { e.Info.State = tcpinfo.CloseWait }, time.Second, false},
		"no Read waits":            {func(e *Evidence) { e.NoReader = true }, time.Second, false},
	} {
		d := newIdler(c.idle)
		c.change(&d.e)
		took := d.wait(time.Minute)
		bound := max(c.idle, smallWindowTime)*11/10 + 100*time.Millisecond
		if c.ends != (took <= bound) || took < c.idle {
			t.Errorf("%s: idle after %v", name, took)
		}
	}
}

// After the local window was closed, the clock stands still until the peer can know that
// it is open.
func TestIdleAfterClosedWindow(t *testing.T) {
	const idle, slack = 4 * time.Second, 200 * ms
	for name, c := range map[string]struct {
		peer      time.Duration
		unsampled bool            // when the window opens
		change    func(*Evidence) // 100 ms after the window opened
		knows     bool            // by that, the peer knows
	}{
		"nothing":                     {0, true, func(*Evidence) {}, false},
		"the peer answers":            {0, false, func(e *Evidence) { e.Info.SinceAck = 0 }, true},
		"data before the sample":      {0, true, func(e *Evidence) { e.Info.SinceData = 50 * ms }, true},
		"a segment that moves no age": {time.Minute, false, func(e *Evidence) { e.Info.Segments++ }, false}, // a window probe, sent before
	} {
		for _, closed := range []time.Duration{time.Second, 25 * time.Second, time.Hour} {
			d := newIdler(idle)
			d.e.Info.OurWindow = 0
			d.wait(closed)
			d.e.Info.OurWindow = 10_000
			d.s.Peer = c.peer
			if !c.unsampled {
				d.sample()
			}
			d.pass(100 * ms)
			c.change(&d.e)
			least, most := idle-slack, idle*11/10+slack
			if gap := min(closed, maxProbeGap); !c.knows {
				least, most = gap+least, gap*9/8+most+time.Second
			}
			if took := d.wait(time.Hour); took < least || took > most {
				t.Errorf("closed for %v, then %s: idle after %v, want %v to %v", closed, name, took, least, most)
			}
		}
	}
}

// The cause of the end follows from TCP_INFO, whatever tcp_retries2 says.
func TestTimedOut(t *testing.T) {
	plain := keepalive.Limits{On: true, Idle: 15 * s, Interval: 15 * s, Count: 9, MaxRTO: oldRTO}
	with := func(d time.Duration) keepalive.Limits { l := plain; l.UserTimeout = d; return l }
	info := func(silence, sent, rto time.Duration, retransmits, probes int, window int64) tcpinfo.Info {
		return tcpinfo.Info{State: tcpinfo.Closed, RTT: 20 * ms, Delivered: 1, SinceAck: silence, SinceData: silence, SinceSent: sent, RTO: rto, Retransmits: retransmits, Probes: probes, PeerWindow: window}
	}
	unsent := func(i tcpinfo.Info) tcpinfo.Info { i.Unsent = 1; return i }
	for name, c := range map[string]struct {
		l    keepalive.Limits
		i    tcpinfo.Info
		want bool
	}{
		"a RST of an idle connection":          {plain, info(3*s, 3*s, 200*ms, 0, 0, 1000), false},
		"retries2 lowered to 3":                {plain, info(6*s, 3200*ms, 3200*ms, 4, 0, 1000), true},
		"retries2 lowered, long ago heard":     {plain, info(60*s, 3200*ms, 3200*ms, 4, 0, 1000), true},
		"a RST answers a retransmission":       {plain, info(6*s, 40*ms, 3200*ms, 4, 0, 1000), false},
		"a RST in the middle of an outage":     {plain, info(60*s, 12*s, 25600*ms, 7, 0, 1000), false},
		"a tick early":                         {plain, info(6*s, 3192*ms, 3200*ms, 4, 0, 1000), true},
		"user timeout shortens the last RTO":   {with(5 * s), info(5500*ms, 2200*ms, 3200*ms, 4, 0, 1000), true},
		"a RST before that":                    {with(5 * s), info(4*s, 700*ms, 3200*ms, 4, 0, 1000), false},
		"user timeout of 10 s":                 {with(10 * s), info(10200*ms, 3600*ms, 12800*ms, 6, 0, 1000), true},
		"a RST far before the user timeout":    {with(924 * s), info(10*s, 3600*ms, 12800*ms, 6, 0, 1000), false},
		"a RST later than the last RTO":        {with(924 * s), info(30*s, 13*s, 12800*ms, 6, 0, 1000), false},
		"a user timeout of 924 s":              {with(924 * s), info(930*s, 120*s, 120*s, 15, 0, 1000), true},
		"keep-alive":                           {plain, info(150*s, 200*s, 200*ms, 0, 9, 1000), true},
		"a RST answers a keep-alive":           {plain, info(120*s, 200*s, 200*ms, 0, 8, 1000), false},
		"keep-alive with a user timeout":       {with(60 * s), info(60*s, 200*s, 200*ms, 0, 4, 1000), true},
		"window probes, all unanswered":        {plain, info(1000*s, 1001*s, 200*ms, 0, 15, 0), true},
		"window probes, retries2 lowered to 5": {plain, info(13*s, 14*s, 200*ms, 0, 5, 0), true},
		"a RST answers a late window probe":    {plain, info(110*s, 900*s, 200*ms, 0, 1, 0), false},
		"user timeout of an answered probe":    {with(10 * s), info(2*s, 10*s, 200*ms, 0, 0, 0), true},
		"a RST of a slow reader":               {with(924 * s), info(2*s, 100*s, 200*ms, 0, 0, 0), false},
		"retransmitted into a closed window":   {plain, info(240*s, 120*s, 120*s, 0, 0, 0), true},
		"the same after retransmissions":       {with(2400 * s), info(250*s, 121*s, 120*s, 2, 0, 0), true},
		"a late RST there":                     {with(2400 * s), info(100*s, 121*s, 120*s, 2, 0, 0), false},
		"a RST there":                          {plain, info(30*s, 3*s, 12*s, 0, 0, 0), false},
		"unsent without a route":               {with(924 * s), unsent(info(41*s, 224*ms, 224*ms, 0, 17, 1000)), true},
		"a RST of a peer that is back":         {with(924 * s), unsent(info(41*s, 20*ms, 224*ms, 0, 17, 1000)), false},
		// Recorded on Linux 6.18.
		"Fast Open, SYN-ACK given up": {plain, tcpinfo.Info{SinceData: 7084 * ms, SinceAck: time.Hour, SinceSent: 7084 * ms, RTO: 3 * s, Retransmits: 2, PeerWindow: 65495}, true},
		"Fast Open, RST":              {plain, tcpinfo.Info{SinceData: 3036 * ms, SinceAck: time.Hour, SinceSent: 3036 * ms, RTO: 3 * s, Retransmits: 2, PeerWindow: 65495}, false},
		"retries2 of 3, recorded":     {plain, info(6728*ms, 3392*ms, 3264*ms, 4, 0, 65536), true},
		"RST in an outage, recorded":  {plain, info(1*s, 168*ms, 816*ms, 2, 0, 65536), false},
		"probes, retries2 of 3":       {plain, info(6784*ms, 8336*ms, 208*ms, 0, 3, 0), true},
	} {
		if got := TimedOut(&c.l, &c.i); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// An application's own TCP_USER_TIMEOUT is a time-out, however long it is and the path.
func TestOwnUserTimeoutIsATimeOut(t *testing.T) {
	for _, timeout := range []time.Duration{10 * s, 900 * s, 924 * s, 1800 * s, 3600 * s} {
		for _, first := range []time.Duration{201 * ms, 300 * ms, s, 2 * s, 5 * s} {
			retransmits, rto, at := 1, min(2*first, oldRTO), time.Duration(0) // since the first retransmission
			for at+rto < timeout {
				at += rto
				rto = min(2*rto, oldRTO)
				retransmits++
			}
			l := keepalive.Limits{UserTimeout: timeout, MaxRTO: oldRTO}
			i := tcpinfo.Info{
				State: tcpinfo.Closed, RTT: first - 200*ms, Delivered: 1, Acked: 10, SinceSent: timeout - at, SinceAck: timeout + first,
				SinceData: timeout + first, RTO: rto, Retransmits: retransmits, PeerWindow: 65000,
			}
			if !TimedOut(&l, &i) {
				t.Errorf("%v, first time-out %v: a reset", timeout, first)
			}
		}
	}
}
