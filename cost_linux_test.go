package liveness

import (
	"testing"
	"time"

	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/testutil/race"
	"github.com/go-liveness/liveness/livenesstest"
)

// What Wrap allocates: the Conn, its handle, and three objects of the runtime for what is
// freed without Close; and the time-outs, and what they are set by.
func TestAllocationsOfWrap(t *testing.T) {
	if !tcpinfo.Told() {
		t.Skip("TCP_INFO has the state of a connection and nothing else here, as under emulators")
	}
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	for name, c := range map[string]struct {
		cfg   *Config
		limit float64
	}{
		"nil":         {nil, 5},
		"callback":    {&Config{OnDisconnect: func(*Conn, error) {}}, 5},
		"PeerTimeout": {&Config{PeerTimeout: time.Minute}, 7},
	} {
		const runs = 100
		var conns []*Conn
		bare := make(chan func() (*Conn, error), runs+1)
		for range runs + 1 {
			conn, _ := livenesstest.Pair(t, "tcp4")
			bare <- func() (*Conn, error) { return Wrap(conn, c.cfg) }
		}
		conns = make([]*Conn, 0, runs+1)
		// AllocsPerRun rounds down, so that tables that grow do not count.
		n := testing.AllocsPerRun(runs, func() {
			conn, err := (<-bare)()
			if err != nil {
				t.Error(err)
			}
			conns = append(conns, conn)
		})
		if n > c.limit {
			t.Errorf("%s: Wrap allocates %v times; want %v", name, n, c.limit)
		}
		for _, conn := range conns {
			conn.Close()
		}
	}
}

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
