package livenessprom_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenessprom"
	"github.com/go-liveness/liveness/livenesstest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const patience = 20 * time.Second

// wrap returns a wrapped connection of g and its peer.
func wrap(t testing.TB, g *liveness.Group) (*liveness.Conn, *livenesstest.Peer) {
	t.Helper()
	conn, peer := livenesstest.Pair(t, "tcp4")
	c, err := liveness.Wrap(conn, &liveness.Config{Group: g})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c, peer
}

func waitFor(t testing.TB, c *liveness.Conn) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(patience):
		require.Fail(t, "the connection did not end")
	}
}

func TestCountsOfGroups(t *testing.T) {
	web, db := &liveness.Group{Name: "web"}, &liveness.Group{Name: "db"}
	c := livenessprom.NewCollector(livenessprom.WithGroups(web, db, nil))
	closed, closer := wrap(t, web)
	reset, resetter := wrap(t, web)
	local, _ := wrap(t, db)
	wrap(t, db)
	require.NoError(t, closer.Close())
	require.NoError(t, resetter.Reset())
	waitFor(t, closed)
	waitFor(t, reset)
	require.NoError(t, local.Close())
	assert.NoError(t, testutil.CollectAndCompare(c, strings.NewReader(`
# HELP liveness_connections Connections that the local side has not closed, those that have ended included.
# TYPE liveness_connections gauge
liveness_connections{group=""} 0
liveness_connections{group="db"} 1
liveness_connections{group="web"} 2
# HELP liveness_connections_ended_total Connections that have ended, by reason.
# TYPE liveness_connections_ended_total counter
liveness_connections_ended_total{group="",reason="closed"} 0
liveness_connections_ended_total{group="",reason="idle"} 0
liveness_connections_ended_total{group="",reason="local"} 0
liveness_connections_ended_total{group="",reason="lost"} 0
liveness_connections_ended_total{group="",reason="reset"} 0
liveness_connections_ended_total{group="",reason="stalled"} 0
liveness_connections_ended_total{group="db",reason="closed"} 0
liveness_connections_ended_total{group="db",reason="idle"} 0
liveness_connections_ended_total{group="db",reason="local"} 1
liveness_connections_ended_total{group="db",reason="lost"} 0
liveness_connections_ended_total{group="db",reason="reset"} 0
liveness_connections_ended_total{group="db",reason="stalled"} 0
liveness_connections_ended_total{group="web",reason="closed"} 1
liveness_connections_ended_total{group="web",reason="idle"} 0
liveness_connections_ended_total{group="web",reason="local"} 0
liveness_connections_ended_total{group="web",reason="lost"} 0
liveness_connections_ended_total{group="web",reason="reset"} 1
liveness_connections_ended_total{group="web",reason="stalled"} 0
# HELP liveness_connections_wrapped_total Connections that were wrapped or watched.
# TYPE liveness_connections_wrapped_total counter
liveness_connections_wrapped_total{group=""} 0
liveness_connections_wrapped_total{group="db"} 2
liveness_connections_wrapped_total{group="web"} 2
`)))
}

func TestCountsOfTheProcess(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(livenessprom.NewCollector()))
	before := values(t, registry)
	c, peer := wrap(t, nil)
	require.NoError(t, peer.Reset())
	waitFor(t, c)
	after := values(t, registry)
	assert.Equal(t, before["liveness_connections"]+1, after["liveness_connections"])
	assert.Equal(t, before["liveness_connections_wrapped_total"]+1, after["liveness_connections_wrapped_total"])
	assert.Equal(t, before["liveness_connections_ended_total reset"]+1, after["liveness_connections_ended_total reset"])
}

// values returns metrics by their names and labels.
func values(t testing.TB, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	v := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			v[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return v
}

func TestSample(t *testing.T) {
	g := &liveness.Group{Name: "g"}
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(livenessprom.NewCollector(livenessprom.WithGroups(g), livenessprom.WithSample(3))))
	_, unread := wrap(t, g)
	_, err := unread.Write(make([]byte, 100))
	require.NoError(t, err)
	gone, leaver := wrap(t, g)
	require.NoError(t, leaver.Close())
	waitFor(t, gone)
	require.Eventually(t, func() bool { return values(t, registry)["liveness_sampled_unread_bytes g"] == 100 }, patience, time.Millisecond)
	v := values(t, registry)
	assert.Equal(t, 1., v["liveness_sampled_connections g connected"])
	assert.Equal(t, 1., v["liveness_sampled_connections g disconnected"])
	assert.Zero(t, v["liveness_sampled_connections g suspect"])
	assert.Zero(t, v["liveness_sampled_unacknowledged_bytes g"])
	first := v["liveness_sampled_longest_silence_seconds g"]
	time.Sleep(30 * time.Millisecond)
	second := values(t, registry)["liveness_sampled_longest_silence_seconds g"]
	assert.GreaterOrEqual(t, second, first+0.02)
	for range 4 {
		wrap(t, g)
	}
	v = values(t, registry)
	assert.Equal(t, 6., v["liveness_connections g"])
	sampled := 0.
	for name, n := range v {
		if strings.HasPrefix(name, "liveness_sampled_connections ") {
			sampled += n
		}
	}
	assert.Equal(t, 3., sampled)
}

func TestGroupsShareTheLimitOfASample(t *testing.T) {
	a, b := &liveness.Group{Name: "a"}, &liveness.Group{Name: "b"}
	for range 5 {
		wrap(t, b)
	}
	wrap(t, a)
	c := livenessprom.NewCollector(livenessprom.WithGroups(a, b), livenessprom.WithSample(4))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(c))
	v := values(t, registry)
	assert.Equal(t, 1., v["liveness_sampled_connections a connected"])
	assert.Equal(t, 3., v["liveness_sampled_connections b connected"]) // what a has left too
}

func TestLinterOfPrometheusFindsNothing(t *testing.T) {
	for _, options := range [][]livenessprom.Option{
		nil,
		{livenessprom.WithSample(10)},
		{livenessprom.WithGroups(&liveness.Group{Name: "a"}), livenessprom.WithSample(10)},
	} {
		registry := prometheus.NewPedanticRegistry()
		require.NoError(t, registry.Register(livenessprom.NewCollector(options...)))
		problems, err := testutil.GatherAndLint(registry)
		require.NoError(t, err)
		assert.Empty(t, problems)
	}
}

func TestASecondCollectorIsAlreadyRegistered(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(livenessprom.NewCollector()))
	var already prometheus.AlreadyRegisteredError
	require.ErrorAs(t, registry.Register(livenessprom.NewCollector()), &already)
	assert.IsType(t, &livenessprom.Collector{}, already.ExistingCollector)
}

func TestScrapeOfTenThousandConnections(t *testing.T) {
	g := &liveness.Group{Name: "many"}
	const all, sample = 10_000, 1000
	for range sample { // these are older, so the sample takes them
		wrap(t, g)
	}
	for range all - sample {
		a, b := net.Pipe()
		c, err := liveness.Wrap(a, &liveness.Config{Group: g})
		require.NoError(t, err)
		defer c.Close()
		defer b.Close()
	}
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(livenessprom.NewCollector(livenessprom.WithGroups(g), livenessprom.WithSample(sample))))
	best := time.Hour // the others measure what else the machine does
	for range 10 {
		start := time.Now()
		v := values(t, registry)
		best = min(best, time.Since(start))
		assert.Equal(t, float64(all), v["liveness_connections many"])
		assert.Equal(t, float64(sample), v["liveness_sampled_connections many connected"])
	}
	t.Logf("a scrape took %v", best)
	assert.Less(t, best, 20*time.Millisecond)
}
