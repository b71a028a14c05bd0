// Package livenessprom exports the counts of package liveness to Prometheus:
//
//	prometheus.MustRegister(livenessprom.NewCollector())
//
// It exports the whole process, or a series for each [liveness.Group]. docs/metrics.md
// describes the metrics, alerts for them, and a dashboard.
package livenessprom

import (
	"iter"

	"github.com/go-liveness/liveness"
	"github.com/prometheus/client_golang/prometheus"
)

// An Option changes what a Collector exports.
type Option func(*Collector)

// WithGroups exports the connections of groups, each with its name as the label group, in
// place of those of the whole process. One Collector takes all groups, and their names
// must differ. A nil Group has no connections and the name "".
func WithGroups(groups ...*liveness.Group) Option {
	return func(c *Collector) {
		for _, g := range groups {
			if g == nil {
				g = &liveness.Group{}
			}
			c.sources = append(c.sources, source{[]string{g.Name}, g.Stats, g.Conns})
		}
		c.labels = []string{"group"}
	}
}

// WithSample also exports what up to limit connections show at each scrape, the longest
// lasting as a rule: their states, silence, and bytes that wait. Each costs two system
// calls, about 5 µs. Groups share the limit. A limit below 1 turns the sample off.
func WithSample(limit int) Option { return func(c *Collector) { c.limit = limit } }

// A source is what one set of series counts.
type source struct {
	labels []string // the name of the group, if there are groups
	stats  func() liveness.Stats
	conns  func() iter.Seq[*liveness.Conn]
}

// A Collector implements [prometheus.Collector]. Multiple goroutines may use it
// simultaneously.
type Collector struct {
	labels  []string
	sources []source
	limit   int // of connections in a sample; 0 is no sample

	open, wrapped, ended              *prometheus.Desc
	sampled, silence, unread, unacked *prometheus.Desc
}

// NewCollector returns a Collector for the connections of the whole process, or those of
// [WithGroups]. Collectors of the whole process describe the same metrics, so the second
// one that is registered is a [prometheus.AlreadyRegisteredError].
func NewCollector(options ...Option) *Collector {
	c := &Collector{}
	for _, o := range options {
		o(c)
	}
	if c.labels == nil {
		c.sources = []source{{nil, liveness.Totals, liveness.Conns}}
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("liveness_"+name, help, append(c.labels[:len(c.labels):len(c.labels)], labels...), nil)
	}
	c.open = desc("connections", "Connections that the local side has not closed, those that have ended included.")
	c.wrapped = desc("connections_wrapped_total", "Connections that were wrapped or watched.")
	c.ended = desc("connections_ended_total", "Connections that have ended, by reason.", "reason")
	c.sampled = desc("sampled_connections", "Connections that this scrape has asked, by state.", "state")
	c.silence = desc("sampled_longest_silence_seconds", "Longest time since anything was heard from a peer's host, of sampled connections that last.")
	c.unread = desc("sampled_unread_bytes", "Bytes received that the application has not read, of sampled connections.")
	c.unacked = desc("sampled_unacknowledged_bytes", "Bytes written that the peer's host has not acknowledged, of sampled connections.")
	return c
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	out <- c.open
	out <- c.wrapped
	out <- c.ended
	if c.limit > 0 {
		for _, d := range []*prometheus.Desc{c.sampled, c.silence, c.unread, c.unacked} {
			out <- d
		}
	}
}

// Collect implements [prometheus.Collector]. The counts cost no system call and take no
// lock; see [WithSample] for what that costs.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	left := c.limit
	for i, src := range c.sources {
		c.collectCounts(out, src)
		if c.limit > 0 {
			share := left / (len(c.sources) - i)
			left -= c.collectSample(out, src, share)
		}
	}
}

func (c *Collector) collectCounts(out chan<- prometheus.Metric, src source) {
	s := src.stats()
	out <- prometheus.MustNewConstMetric(c.open, prometheus.GaugeValue, float64(s.Open), src.labels...)
	out <- prometheus.MustNewConstMetric(c.wrapped, prometheus.CounterValue, float64(s.Wrapped), src.labels...)
	for _, e := range []struct {
		reason liveness.Reason
		count  uint64
	}{
		{liveness.ReasonClosed, s.Closed}, {liveness.ReasonReset, s.Reset}, {liveness.ReasonLost, s.Lost},
		{liveness.ReasonStalled, s.Stalled}, {liveness.ReasonIdle, s.Idle}, {liveness.ReasonLocal, s.Local},
	} {
		out <- prometheus.MustNewConstMetric(c.ended, prometheus.CounterValue, float64(e.count), src.with(string(e.reason))...)
	}
}

// with returns the labels of src and one more.
func (src *source) with(label string) []string {
	return append(src.labels[:len(src.labels):len(src.labels)], label)
}
