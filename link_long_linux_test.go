package liveness_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	rig "github.com/go-liveness/liveness/internal/link"
)

// TestLinkLong is the long set: LIVENESS_LINK is how long each row of live peers lasts,
// such as 10m. A row logs a line of the table. The rows run side by side, as many as
// -parallel allows; three of them are enough for two processors:
//
//	LIVENESS_LINK=10m go test -run '^TestLinkLong$' -parallel 3 -timeout 3h -v .
func TestLinkLong(t *testing.T) {
	value := os.Getenv("LIVENESS_LINK")
	if value == "" {
		t.Skip("LIVENESS_LINK is not set")
	}
	lasts, err := time.ParseDuration(value)
	require.NoError(t, err, "LIVENESS_LINK")
	require.Positive(t, lasts, "LIVENESS_LINK")
	if !rig.Require(t) {
		return
	}
	for _, r := range []linkRow{
		{loss: 0.05, rtt: 1200 * time.Millisecond, timeout: 10 * time.Second, conns: 40},
		{loss: 0.02, rtt: 1500 * time.Millisecond, timeout: 11 * time.Second, conns: 20},
		{loss: 0.35, rtt: 200 * time.Millisecond, timeout: 60 * time.Second, conns: 40},
		{loss: 0.4, rtt: 60 * time.Millisecond, timeout: 6 * time.Second, conns: 30},
		{loss: 0.05, rtt: 300 * time.Millisecond, timeout: 10 * time.Second, conns: 40},
		{loss: 0, rtt: 2400 * time.Millisecond, timeout: 4 * time.Second, conns: 10},
		{loss: 0.1, rtt: 2500 * time.Millisecond, timeout: 30 * time.Second, conns: 20},
		{loss: 0.02, rtt: 50 * time.Millisecond, timeout: 4 * time.Second, conns: 20},
		{loss: 0.2, rtt: 50 * time.Millisecond, timeout: 60 * time.Second, conns: 100, idle: true, all: true},
		{loss: 0.1, rtt: 50 * time.Millisecond, timeout: 60 * time.Second, conns: 100, idle: true, all: true},
		{loss: 0.2, rtt: 50 * time.Millisecond, timeout: 6 * time.Second, conns: 25, idle: true},
		{loss: 0.1, rtt: 50 * time.Millisecond, timeout: 6 * time.Second, conns: 25, idle: true},
	} {
		t.Run(r.String(), func(t *testing.T) { t.Parallel(); r.run(t, lasts) })
	}
	for _, timeout := range []time.Duration{10 * time.Second, time.Minute} {
		for _, loss := range []float64{0, 0.05, 0.2} {
			for _, write := range []float64{-1, 0, 0.1, 0.2, 0.33} {
				r := vanishRow{loss, timeout, write}
				t.Run(r.String(), func(t *testing.T) { t.Parallel(); r.run(t) })
			}
		}
	}
	t.Run("window update, probed every 12 s", func(t *testing.T) {
		t.Parallel()
		testLinkWindowUpdate(t, 12*time.Second, 4*time.Second)
	})
	t.Run("slow reader", func(t *testing.T) { t.Parallel(); testLinkSlowReader(t, lasts) })
}
