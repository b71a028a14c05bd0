package liveness

import (
	"testing"
	"time"

	"github.com/go-liveness/liveness/internal/testutil/race"
	"github.com/go-liveness/liveness/livenesstest"
)

// A check of the clock allocates nothing, also while data are in flight.
func TestAllocationsOfTheClock(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	bare, peer := livenesstest.Pair(t, "tcp4")
	c, err := Wrap(bare, &Config{PeerTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, state := range []string{"idle", "in flight"} {
		if state == "in flight" {
			livenesstest.Cut(peer)
			c.Write(make([]byte, 10))
		}
		if n := testing.AllocsPerRun(100, func() { c.checkTimeouts(time.Now(), time.Time{}) }); n > 0 {
			t.Errorf("%s: a check allocates %v times", state, n)
		}
	}
}
