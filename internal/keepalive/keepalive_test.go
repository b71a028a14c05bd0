package keepalive

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

func TestForReturnsDenseProbes(t *testing.T) {
	for _, c := range []struct {
		within, idle, interval time.Duration
		count                  int
	}{
		{time.Minute, 28 * time.Second, 2 * time.Second, 16},
		{4 * time.Second, time.Second, time.Second, 3},
		{5 * time.Second, time.Second, time.Second, 4},
		{time.Second, time.Second, time.Second, 3}, // taken as 4 s
		{9500 * time.Millisecond, 4 * time.Second, time.Second, 6},
		{350 * time.Second, 154 * time.Second, 14 * time.Second, 14},
		{MaxPeerTimeout + time.Hour, 27314 * time.Second, 2730 * time.Second, 14},
	} {
		assert.Equal(t, net.KeepAliveConfig{Enable: true, Idle: c.idle, Interval: c.interval, Count: c.count}, For(c.within), "%v", c.within)
	}
	assert.Equal(t, net.KeepAliveConfig{Idle: -1, Interval: -1, Count: -1}, For(0))
	assert.Equal(t, For(0), For(-time.Second))
}

// Linux never lets a timer expire early, and its wheel says how late it may.
func TestLatestExpiryIsThatOfTheWheel(t *testing.T) {
	for _, c := range [][2]time.Duration{
		{100 * time.Millisecond, 110 * time.Millisecond},
		{17 * time.Second, 18432 * time.Millisecond}, // 250 ticks a second: 2 s steps above 16.128 s
		{time.Minute, 61440 * time.Millisecond},
	} {
		assert.Equal(t, c[1], latestExpiry(c[0]), "%v", c[0])
	}
	for d := time.Millisecond; d < 40*time.Hour; d += d/7 + time.Millisecond {
		late := latestExpiry(d)
		assert.Greater(t, late, d)
		assert.LessOrEqual(t, late, d+d/7+20*time.Millisecond)
	}
}

func TestDetectWithinIsTheBoundOfTheState(t *testing.T) {
	const second = time.Second
	tuned := func(d time.Duration) Limits {
		p := For(d)
		return Limits{On: true, Idle: p.Idle, Interval: p.Interval, Count: p.Count, MaxRTO: MaxRTO}
	}
	with := func(l Limits, change func(*Limits)) Limits { change(&l); return l }
	idle := tcpinfo.Info{Full: true, PeerWindow: 1000, RTO: MinRTO}
	busy := tcpinfo.Info{Full: true, PeerWindow: 1000, RTO: MinRTO, InFlight: 1}
	slow := tcpinfo.Info{Full: true, PeerWindow: 1000, RTO: 10 * second, InFlight: 1}
	closed := tcpinfo.Info{Full: true, Unsent: 1, RTO: MinRTO, Backoff: 5}
	asked := tcpinfo.Info{Full: true, Unsent: 1, RTO: MinRTO, Backoff: 7, Probes: 2}
	for _, c := range []struct {
		what     string
		l        Limits
		d        time.Duration
		i        *tcpinfo.Info
		min, max time.Duration
	}{
		{"idle, 4 s", tuned(4 * second), 4 * second, &idle, 6200 * time.Millisecond, 6200 * time.Millisecond},
		{"idle, 60 s", tuned(60 * second), 60 * second, &idle, 65 * second, 68 * second},
		{"in flight, 4 s", tuned(4 * second), 4 * second, &busy, 6 * second, 6 * second},
		{"in flight, 60 s", tuned(60 * second), 60 * second, &busy, 76 * second, 76 * second},
		{"in flight, rare retransmissions", tuned(4 * second), 4 * second, &slow, 13 * second, 14500 * time.Millisecond},
		{"window closed for 6 s", tuned(4 * second), 4 * second, &closed, 20 * second, 22 * second},
		{"the same, two probes later", tuned(4 * second), 4 * second, &asked, 20 * second, 22 * second},
		{"window closed, TCP_RTO_MAX_MS", with(tuned(4*second), func(l *Limits) { l.MaxRTO = 2 * second }), 4 * second, &closed, 6 * second, 6 * second},
		{"own user timeout, shorter", with(tuned(60*second), func(l *Limits) { l.UserTimeout = 10 * second }), 60 * second, &busy, 10 * second, 12 * second},
		{"own user timeout, longer", with(tuned(60*second), func(l *Limits) { l.UserTimeout = 1000 * second }), 60 * second, &busy, 76 * second, 76 * second},
		{"own user timeout, idle", with(tuned(60*second), func(l *Limits) { l.UserTimeout = 10 * second }), 60 * second, &idle, 30 * second, 36 * second},
		{"keep-alive off", Limits{MaxRTO: MaxRTO}, 0, &idle, 0, 0},
		{"the kernel's own, in flight", Limits{MaxRTO: MaxRTO}, 0, &busy, 5 * second, 1100 * second}, // tcp_retries2 is the machine's
		{"the kernel's own, user timeout", Limits{MaxRTO: MaxRTO, UserTimeout: 20 * second}, 0, &busy, 20 * second, 24 * second},
		{"BSD", Limits{On: true, Idle: 28 * second, Interval: 2 * second, Count: 16}, 60 * second, &tcpinfo.Info{}, 65 * second, 68 * second},
		{"Windows", Limits{On: true, Idle: 28 * second, Interval: 2 * second, Count: 16, DataLimit: 60 * second}, 60 * second, &tcpinfo.Info{}, 125 * second, 128 * second},
		{"nothing told", Limits{}, 0, nil, 0, 0},
		{"nothing set elsewhere", Limits{}, 0, &busy, 0, 0},
	} {
		got := c.l.DetectWithin(c.d, c.i)
		assert.True(t, c.min <= got && got <= c.max, "%s: %v, want %v to %v", c.what, got, c.min, c.max)
	}
}

func TestPatienceOutlastsTheVerdict(t *testing.T) {
	for d := MinPeerTimeout; d <= MaxPeerTimeout; d += 7 * time.Second {
		userTimeout, maxRTO := PatienceFor(d)
		require.GreaterOrEqual(t, userTimeout, max(DefaultPatience, 4*d))
		// An orphan keeps it, if the application closes the connection beneath.
		require.LessOrEqual(t, userTimeout, min(maxUserTimeout, max(DefaultPatience, 4*d)))
		if maxRTO != 0 {
			require.GreaterOrEqual(t, maxRTO, time.Second)
			require.GreaterOrEqual(t, 2*maxRTO, d) // tcp_rtx_probe0_timed_out
			require.Less(t, maxRTO, MaxRTO)
		} else {
			require.GreaterOrEqual(t, d, 2*MaxRTO)
		}
	}
	assert.Equal(t, int32(1<<31-1), milliseconds(1<<62))
}
