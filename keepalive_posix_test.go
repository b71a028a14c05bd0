//go:build unix && !linux

package liveness

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/livenesstest"
)

// A connection has more probes at first than were asked for, and these later; the
// bound is that of those from the beginning.
func TestGraceOfSystem(t *testing.T) {
	o := systemOptions()
	if o.count == 0 || o.minIdle > 0 {
		t.Skip("nothing to tune, or nothing in a few seconds")
	}
	bare, _ := livenesstest.Pair(t, "tcp4")
	count := func() (n int) {
		raw, err := bare.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, o.count) })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	cfg := &Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}}
	c, err := Wrap(bare, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n := count(); n == 2 {
		t.Errorf("%d probes at first", n)
	}
	if within := c.Status().DetectWithin; o.probesFindData && (within < 3*time.Second || within > 6*time.Second) {
		t.Errorf("detects within %v", within)
	}
	for deadline := time.Now().Add(time.Minute); count() != 2; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d probes after a minute", count())
		}
	}
	if !c.Alive() {
		t.Error(c.Err())
	}
}
