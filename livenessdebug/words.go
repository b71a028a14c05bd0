package livenessdebug

import (
	"fmt"
	"strconv"
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

// countText separates thousands by a narrow space that does not break.
func countText(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteRune('\u202f')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// reasonText is the reason of an end, empty while there is none.
func reasonText(st *liveness.Status) string { return string(liveness.ReasonOf(st.Err)) }

// evidenceText puts what the kernel said at the end into words.
func evidenceText(st *liveness.Status) string {
	var parts []string
	add := func(n int64, one, many string) {
		if n == 1 {
			parts = append(parts, "1 "+one)
		} else if n > 1 {
			parts = append(parts, countText(uint64(n))+" "+many)
		}
	}
	if st.Silence >= time.Second {
		parts = append(parts, "silent for "+durationText(st.Silence))
	}
	add(int64(st.Retransmits), "retransmission unanswered", "retransmissions unanswered")
	add(int64(st.Probes), "probe unanswered", "probes unanswered")
	add(int64(st.Unacked), "byte unacknowledged", "bytes unacknowledged")
	add(int64(st.Unread), "byte unread", "bytes unread")
	add(st.Received, "byte received", "bytes received")
	add(st.Acked, "byte acknowledged", "bytes acknowledged")
	if st.RTT > 0 {
		parts = append(parts, "round trip "+durationText(st.RTT))
	}
	return strings.Join(parts, ", ")
}
