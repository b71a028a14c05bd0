package liveness_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness"
	rig "github.com/go-liveness/liveness/internal/link"
)

// A linkRow is a row of the table of live peers on lossy links.
type linkRow struct {
	loss    float64 // each way
	rtt     time.Duration
	timeout time.Duration
	conns   int
	idle    bool   // nothing is sent; otherwise 50 kB/s, from and to every second peer
	retries string // tcp_retries2, if the kernel is to be impatient
	all     bool   // all connections must live, though each of their probes may be lost
}

func (r linkRow) String() string {
	kind := "stream"
	if r.idle {
		kind = "idle"
	}
	return fmt.Sprintf("%s %g %%, RTT %v, D %v", kind, 100*r.loss, r.rtt, r.timeout)
}

// run fails the test for every live peer that was reported gone.
func (r linkRow) run(t *testing.T, lasts time.Duration) {
	l := newLink(t, rig.Options{Seed: 1, Paths: rig.Both(rig.Path{Delay: r.rtt / 2})})
	bares, conns := make([]*net.TCPConn, (r.conns+3)/4), make([]*linked, r.conns)
	var connecting sync.WaitGroup
	for i := range r.conns + len(bares) {
		connecting.Go(func() {
			bare, peer, err := l.Connect()
			if !assert.NoError(t, err) {
				return
			}
			t.Cleanup(func() { bare.Close(); peer.Close() })
			if i < r.conns {
				conns[i] = wrapLinked(t, l, liveness.Config{PeerTimeout: r.timeout}, bare, peer)
				r.carry(conns[i].conn, peer, i)
				return
			}
			bares[i-r.conns] = bare
			r.carry(bare, peer, i)
		})
	}
	connecting.Wait()
	if t.Failed() {
		return
	}
	if r.retries != "" {
		require.NoError(t, l.Sysctl(rig.Local, "net.ipv4.tcp_retries2", r.retries))
	}
	require.NoError(t, l.Set(rig.Path{Loss: r.loss, Delay: r.rtt / 2, Jitter: r.rtt / 20}))
	time.Sleep(lasts)
	now, controls := time.Now(), 0
	for _, bare := range bares {
		if liveness.Check(bare) != nil {
			controls++
		}
		bare.Close()
	}
	wrong, ended, longest := []error(nil), 0, time.Duration(0)
	for _, c := range conns {
		until := now
		select {
		case end := <-c.ended:
			until = end.at
			ended++
			if err := c.right(end, r.timeout); err != nil {
				wrong = append(wrong, err)
			}
		default:
		}
		longest = max(longest, l.Heard(c.bare).LongestSilence(until))
		c.conn.Close()
		c.peer.Close()
	}
	t.Logf("| %g %% | %v | %v | %v | %d of %d, %d wrong | longest silence %.1f s | control %d of %d | relay at most %v late |", 100*r.loss,
		r.rtt, r.timeout, lasts, ended, r.conns, len(wrong), longest.Seconds(), controls, len(bares), l.Late().Round(time.Millisecond))
	assert.NoError(t, errors.Join(wrong...), "live peers were reported gone")
	if r.all {
		assert.Zero(t, ended, "live peers were reported gone")
	}
}

// carry sends 50 kB/s until the connection is closed.
func (r linkRow) carry(conn, peer net.Conn, i int) {
	go io.Copy(io.Discard, conn)
	go io.Copy(io.Discard, peer)
	if r.idle {
		return
	}
	if i%2 == 1 {
		conn = peer
	}
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := conn.Write(make([]byte, 5000)); err != nil {
				return
			}
		}
	}()
}

func testLinkLive(t *testing.T) {
	for _, r := range []linkRow{
		{loss: 0.05, rtt: 600 * time.Millisecond, timeout: 4 * time.Second, conns: 12},
		{loss: 0.4, rtt: 60 * time.Millisecond, timeout: 20 * time.Second, conns: 16, retries: "1"},
		{loss: 0.2, rtt: 50 * time.Millisecond, timeout: 6 * time.Second, conns: 12, idle: true},
		{loss: 0, rtt: 2400 * time.Millisecond, timeout: 4 * time.Second, conns: 4},
	} {
		t.Run(r.String(), func(t *testing.T) { t.Parallel(); r.run(t, 9*time.Second) })
	}
}

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
	// Alone: the peer's buffer only grows if the relay is fast.
	t.Run("slow reader", func(t *testing.T) { testLinkSlowReader(t, min(lasts, time.Minute)) })
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
			t.Run(fmt.Sprintf("vanished, loss %g %%, D %v", 100*loss, timeout), func(t *testing.T) {
				t.Parallel()
				testLinkVanished(t, loss, timeout, -1, 0, 0.1, 0.2, 0.33)
			})
		}
	}
	t.Run("window update, probed every 12 s", func(t *testing.T) {
		t.Parallel()
		testLinkWindowUpdate(t, 12*time.Second, 4*time.Second)
	})
}
