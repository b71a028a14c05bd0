package livenessdebug

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-liveness/liveness"
)

// durationText rounds to what an operator reads at a glance; empty for none.
func durationText(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", max(1, d.Microseconds()))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// countText writes an integer with its thousands separated by a narrow space.
func countText[N any](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// evidenceText puts what the kernel said at the end into words, without what the error of a
// reset or a time-out has in it already.
func evidenceText(st *liveness.Status) string {
	var parts []string
	add := func(n int64, one, many string) {
		if n == 1 {
			parts = append(parts, "1 "+one)
		} else if n > 1 {
			parts = append(parts, countText(n)+" "+many)
		}
	}
	if reason := liveness.ReasonOf(st.Err); reason == liveness.ReasonClosed || reason == liveness.ReasonLocal {
		add(int64(st.Retransmits), "retransmission unanswered", "retransmissions unanswered")
		add(int64(st.Probes), "probe unanswered", "probes unanswered")
		add(int64(st.Unacked), "byte unacknowledged", "bytes unacknowledged")
	}
	add(int64(st.Unread), "byte unread", "bytes unread")
	add(st.Received, "byte received", "bytes received")
	add(st.Acked, "byte acknowledged", "bytes acknowledged")
	if st.RTT > 0 {
		parts = append(parts, "round trip "+durationText(st.RTT))
	}
	return strings.Join(parts, ", ")
}
