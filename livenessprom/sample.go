package livenessprom

import (
	"time"

	"github.com/go-liveness/liveness"
	"github.com/prometheus/client_golang/prometheus"
)

// states are all words of the label state, so that each has a series from the start.
var states = [...]liveness.State{
	liveness.Unknown, liveness.Connected, liveness.HalfClosed,
	liveness.Stalled, liveness.Suspect, liveness.Disconnected,
}

// A sample is what connections show at one scrape. It is exported as gauges: a histogram of
// Prometheus counts what has happened since the process began.
type sample struct {
	size            int
	byState         [len(states)]int
	silence         time.Duration // the longest
	unread, unacked int           // of all together
}

// take asks up to limit connections.
func (s *sample) take(src source, limit int) {
	if limit <= 0 {
		return
	}
	for conn := range src.conns() {
		s.add(conn.Status())
		if s.size == limit {
			return
		}
	}
}

func (s *sample) add(st liveness.Status) {
	s.size++
	if i := int(st.State); i < len(s.byState) {
		s.byState[i]++
	} else { // a state that is newer than this package
		s.byState[liveness.Connected]++
	}
	s.unread += st.Unread
	s.unacked += st.Unacked
	if st.Err == nil {
		s.silence = max(s.silence, st.Silence)
	}
}

// collectSample returns how many connections it has asked.
func (c *Collector) collectSample(out chan<- prometheus.Metric, src source, limit int) int {
	var s sample
	s.take(src, limit)
	gauge := func(d *prometheus.Desc, v float64, labels []string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for i, n := range s.byState {
		gauge(c.sampled, float64(n), src.with(states[i].String()))
	}
	gauge(c.silence, s.silence.Seconds(), src.labels)
	gauge(c.unread, float64(s.unread), src.labels)
	gauge(c.unacked, float64(s.unacked), src.labels)
	return s.size
}
