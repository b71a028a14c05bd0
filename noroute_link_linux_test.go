package liveness_test

import (
	"fmt"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness"
	rig "github.com/go-liveness/liveness/internal/link"
)

// testLinkNoRoute takes the route away from data in flight. The kernel then counts
// retransmissions that it cannot send, and that move no age of TCP_INFO.
func testLinkNoRoute(t *testing.T) {
	const timeout = 4 * time.Second
	path := rig.Path{Delay: 10 * time.Millisecond}
	t.Run("heard", func(t *testing.T) {
		t.Parallel()
		c := connectLinked(t, newLink(t, rig.Options{Paths: rig.Both(path)}), liveness.Config{PeerTimeout: timeout})
		c.exchange(t)
		// Keep-alive probes go on every second. Data that are not acknowledged would be repeated more and more rarely.
		require.NoError(t, c.peer.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 100}))
		_, err := c.conn.Write([]byte("x")) // with the acknowledgement of what the peer has sent
		require.NoError(t, err)
		c.flush(t)
		c.Cut(rig.Local)
		since := time.Now()
		_, err = c.conn.Write([]byte("in flight"))
		require.NoError(t, err)
		c.ip(t, "route", "del", "10.76.0.0/24", "dev", "tun0")
		c.unacknowledged(t, since, timeout)
	})
	t.Run("vanished", func(t *testing.T) {
		t.Parallel()
		c := connectLinked(t, newLink(t, rig.Options{Paths: rig.Both(path)}), liveness.Config{PeerTimeout: timeout})
		c.exchange(t)
		path.MaxSize = 600
		require.NoError(t, c.Set(path, rig.Local))
		for _, size := range []int{1000, 10} { // the peer gets the second and acknowledges it selectively
			_, err := c.conn.Write(make([]byte, size))
			require.NoError(t, err)
		}
		time.Sleep(100 * time.Millisecond)
		c.ip(t, "link", "set", "tun0", "down")
		cut := time.Now()
		end := c.end(t, cut, timeout*125/100+time.Second+timeout/4)
		assert.ErrorIs(t, end.err, liveness.ErrPeerLost)
		assert.NoError(t, c.right(end, timeout))
	})
	t.Run("timed out", func(t *testing.T) {
		t.Parallel()
		c := connectLinked(t, newLink(t, rig.Options{Paths: rig.Both(path)}), liveness.Config{})
		c.exchange(t)
		require.NoError(t, c.Sysctl(rig.Local, "net.ipv4.tcp_retries2", "3"))
		c.ip(t, "link", "set", "tun0", "down")
		_, err := c.conn.Write([]byte("unsent"))
		require.NoError(t, err)
		c.timedOut(t)
	})
}

// ip runs ip(8) on the local side.
func (c *linked) ip(t *testing.T, arguments ...string) {
	t.Helper()
	require.NoError(t, c.In(rig.Local, func() error {
		if out, err := exec.Command("ip", arguments...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip: %w: %s", err, out)
		}
		return nil
	}))
}
