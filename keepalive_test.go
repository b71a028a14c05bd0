package liveness

import (
	"errors"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, c := range []struct {
		within, idle, interval time.Duration
		count                  int
	}{
		{4 * s, 1 * s, 1 * s, 3},
		{5 * s, 1 * s, 1 * s, 4},
		{6 * s, 2 * s, 1 * s, 4},
		{7 * s, 2 * s, 1 * s, 5},
		{10 * s, 4 * s, 1 * s, 6},
		{12 * s, 4 * s, 2 * s, 4},
		{15 * s, 5 * s, 2 * s, 5},
		{30 * s, 10 * s, 5 * s, 4},
		{60 * s, 20 * s, 10 * s, 4},
		{5 * time.Minute, 100 * s, 50 * s, 4},
		{65534 * s, 10924 * s, 10922 * s, 5},

		// Rounded up to a second, and to what is possible.
		{59*s + 1, 20 * s, 10 * s, 4},
		{4*s + 1, 1 * s, 1 * s, 4},
		{1, 1 * s, 1 * s, 3},
		{3 * s, 1 * s, 1 * s, 3},
		{4*s - 1, 1 * s, 1 * s, 3},
		{65534*s + 1, 10924 * s, 10922 * s, 5},
		{math.MaxInt64, 10924 * s, 10922 * s, 5},
	} {
		want := net.KeepAliveConfig{Enable: true, Idle: c.idle, Interval: c.interval, Count: c.count}
		if got := KeepAlive(c.within); got != want {
			t.Errorf("KeepAlive(%v) = %+v; want %+v", c.within, got, want)
		}
	}
	for _, within := range []time.Duration{0, -1, -time.Hour, math.MinInt64} {
		// Zero fields would set package net's defaults, even where it is disabled.
		want := net.KeepAliveConfig{Idle: -1, Interval: -1, Count: -1}
		if got := KeepAlive(within); got != want {
			t.Errorf("KeepAlive(%v) = %+v; want %+v", within, got, want)
		}
	}
}

// What the tuning is to keep, for all whole seconds there are.
func TestKeepAliveArithmetic(t *testing.T) {
	t.Parallel()
	for n := 4; n <= 65534; n++ {
		within := time.Duration(n) * time.Second
		k := KeepAlive(within - time.Duration(n%3)*time.Second/3)
		count := time.Duration(k.Count)
		switch {
		case !k.Enable:
			t.Fatalf("%v: not enabled", within)
		case k.Idle+count*k.Interval != within:
			t.Fatalf("%v: %+v finds a peer after %v", within, k, k.Idle+count*k.Interval)
		case k.Idle < time.Second || k.Interval < time.Second || k.Idle > maxProbeTime || k.Interval > maxProbeTime || k.Count > maxProbeCount || k.Count < 2:
			t.Fatalf("%v: %+v is out of the kernel's range", within, k)
		case k.Idle%time.Second != 0 || k.Interval%time.Second != 0:
			t.Fatalf("%v: %+v is no whole seconds", within, k)
		case count*k.Interval < within/2+min(k.Interval, within/2):
			t.Fatalf("%v: %+v: the probes last for %v", within, k, count*k.Interval)
		}
		// The last probe that may be lost is sent an interval before the end. An
		// outage begins at the earliest just before a probe, or it had been heard.
		if first, last := k.Idle, k.Idle+(count-1)*k.Interval; last-first < within/2 {
			t.Fatalf("%v: %+v: an outage of %v that begins before the first probe takes all %d", within, k, within/2, k.Count)
		}
	}
}

// An outage of less than half is survived at any phase: played out, in tenths of a
// second.
func TestKeepAliveOutages(t *testing.T) {
	t.Parallel()
	const step = 100 * time.Millisecond
	for _, n := range []int{4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17, 18, 23, 24, 30, 60} {
		within := time.Duration(n) * time.Second
		k := KeepAlive(within)
		outage := within/2 - step
		for began := time.Duration(0); began < 2*within; began += step {
			heard, probes := time.Duration(0), 0
			next := k.Idle
			for next < 4*within {
				now := next
				if probes >= k.Count {
					t.Fatalf("%v: an outage of %v after %v is fatal at %v", within, outage, began, now)
				}
				if now < began || now >= began+outage {
					heard, probes = now, 0
					next = heard + k.Idle
				} else {
					probes++
					next = now + k.Interval
				}
			}
		}
	}
}

// Bad values are refused before anything is touched, by an error that names the
// field, and good ones are not.
func TestConfigCheck(t *testing.T) {
	t.Parallel()
	const s = time.Second
	enabled := func(idle, interval time.Duration, count int) net.KeepAliveConfig {
		return net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: count}
	}
	for _, c := range []struct {
		cfg   Config
		field string // "" if it is good
	}{
		{Config{}, ""},
		{Config{PeerTimeout: 4 * s}, ""},
		{Config{PeerTimeout: 65534 * s}, ""},
		{Config{PeerTimeout: 4*s + 1}, ""},
		{Config{StallTimeout: minStallTimeout, ReadIdleTimeout: 100 * time.Millisecond}, ""},
		{Config{StallTimeout: math.MaxInt64, ReadIdleTimeout: math.MaxInt64}, ""},
		{Config{KeepAlive: enabled(0, 0, 0)}, ""},
		{Config{KeepAlive: enabled(-1, -1, -1)}, ""},
		{Config{KeepAlive: enabled(1, 1, 1)}, ""}, // rounded up
		{Config{KeepAlive: enabled(32767*s, 32767*s, 127)}, ""},
		{Config{KeepAlive: enabled(s, s, 3), PeerTimeout: time.Minute}, ""},

		{Config{PeerTimeout: -1}, "PeerTimeout"},
		{Config{PeerTimeout: 1}, "PeerTimeout"},
		{Config{PeerTimeout: 4*s - 1}, "PeerTimeout"},
		{Config{PeerTimeout: 65534*s + 1}, "PeerTimeout"},
		{Config{PeerTimeout: math.MaxInt64}, "PeerTimeout"},
		{Config{PeerTimeout: math.MinInt64}, "PeerTimeout"},
		{Config{StallTimeout: -1}, "StallTimeout"},
		{Config{StallTimeout: minStallTimeout - 1}, "StallTimeout"},
		{Config{ReadIdleTimeout: -time.Second}, "ReadIdleTimeout"},
		{Config{ReadIdleTimeout: 100*time.Millisecond - 1}, "ReadIdleTimeout"},
		{Config{KeepAlive: net.KeepAliveConfig{Idle: s}}, "KeepAlive"},
		{Config{KeepAlive: net.KeepAliveConfig{Interval: -1}}, "KeepAlive"},
		{Config{KeepAlive: net.KeepAliveConfig{Count: 3}}, "KeepAlive"},
		{Config{KeepAlive: KeepAlive(0)}, "KeepAlive"},
		{Config{KeepAlive: enabled(32767*s+1, 0, 0)}, "KeepAlive.Idle"},
		{Config{KeepAlive: enabled(0, 32768*s, 0)}, "KeepAlive.Interval"},
		{Config{KeepAlive: enabled(0, 0, 128)}, "KeepAlive.Count"},
		{Config{KeepAlive: enabled(0, math.MaxInt64, 0)}, "KeepAlive.Interval"},
		{Config{KeepAlive: enabled(0, 0, math.MaxInt), PeerTimeout: time.Minute}, "KeepAlive.Count"},
	} {
		err := c.cfg.check()
		if (err == nil) != (c.field == "") {
			t.Errorf("%+v: %v; want a complaint of %q", c.cfg, err, c.field)
			continue
		}
		if err != nil && !strings.HasPrefix(err.Error(), "Config."+c.field+": ") {
			t.Errorf("%+v: %v; want it to name %s", c.cfg, err, c.field)
		}
		if err == nil {
			continue
		}
		// Whatever it would be for; and the connection is the caller's as before.
		conn, peer := livenesstest.Pair(t, "tcp4")
		cfg := c.cfg
		cfg.OnDisconnect = func(*Conn, error) { t.Errorf("%+v: called for a Conn that nobody has", c.cfg) }
		wrapped, err := Wrap(conn, &cfg)
		var oe *net.OpError
		if wrapped != nil || !errors.As(err, &oe) || !strings.Contains(err.Error(), "Config."+c.field+": ") {
			t.Errorf("Wrap: %v, %v; want a *net.OpError that names %s", wrapped, err, c.field)
		}
		peer.Write([]byte("x"))
		if n, err := conn.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Errorf("%+v: afterwards Read: %d, %v", c.cfg, n, err)
		}
		if wrapped, err := Wrap(conn, nil); err != nil {
			t.Errorf("%+v: Wrap afterwards: %v", c.cfg, err)
		} else if !wrapped.Alive() {
			t.Errorf("%+v: ended: %v", c.cfg, wrapped.Err())
		}
		conn.Close()
		pipe, far := net.Pipe()
		if _, err := Wrap(pipe, &c.cfg); err == nil {
			t.Errorf("%+v: good for a pipe", c.cfg)
		}
		pipe.Close()
		far.Close()
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, c := range []struct {
		cfg  Config
		want net.KeepAliveConfig
	}{
		{Config{}, net.KeepAliveConfig{}},
		{Config{StallTimeout: s, ReadIdleTimeout: s}, net.KeepAliveConfig{}},
		{Config{PeerTimeout: 60 * s}, KeepAlive(60 * s)},
		{Config{KeepAlive: net.KeepAliveConfig{Enable: true}}, net.KeepAliveConfig{Enable: true, Idle: 15 * s, Interval: 15 * s, Count: 9}},
		{Config{PeerTimeout: 60 * s, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: 3 * s, Count: -1}}, net.KeepAliveConfig{Enable: true, Idle: -1, Interval: 3 * s, Count: -1}},
	} {
		if got := c.cfg.probes(); got != c.want {
			t.Errorf("%+v: %+v; want %+v", c.cfg, got, c.want)
		}
	}
}

// The kernel's model, for values that were worked out and measured elsewhere.
func TestRetransmitTime(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, c := range []struct {
		n     int
		limit time.Duration
		want  time.Duration
	}{
		{15, 1 * s, 14400 * time.Millisecond},
		{15, 3 * s, 39 * s},
		{15, 5 * s, 61200 * time.Millisecond},
		{15, 120 * s, 924600 * time.Millisecond},
		{0, 120 * s, 200 * time.Millisecond},
		{1, 120 * s, 600 * time.Millisecond},
		{8, 120 * s, 102200 * time.Millisecond},
	} {
		if got := retransmitTime(c.n, c.limit); got != c.want {
			t.Errorf("retransmitTime(%d, %v) = %v; want %v", c.n, c.limit, got, c.want)
		}
		// And as tcp_model_timeout has it.
		n := int(math.Log2(float64(c.limit) / float64(200*time.Millisecond)))
		var model time.Duration
		if c.n <= n {
			model = time.Duration(1<<(c.n+1)-1) * 200 * time.Millisecond
		} else {
			model = time.Duration(1<<(n+1)-1)*200*time.Millisecond + time.Duration(c.n-n)*c.limit
		}
		if model != c.want {
			t.Errorf("the table is wrong: T(%d) with %v is %v, not %v", c.n, c.limit, model, c.want)
		}
	}
}

// The kernel must not give up first, nor wait for longer than it must.
func TestRTOLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		timeout time.Duration
		retries int
		want    time.Duration
	}{
		{4 * time.Second, 15, time.Second},
		{11 * time.Second, 15, time.Second},
		{12 * time.Second, 15, 1100 * time.Millisecond},
		{60 * time.Second, 15, 6300 * time.Millisecond},
		{65534 * time.Second, 15, 0},
		{60 * time.Second, 8, 24800 * time.Millisecond},
		{60 * time.Second, 7, 0},
		{60 * time.Second, 0, 0},
		{4 * time.Second, 4, 2 * time.Second},
	} {
		got := rtoLimit(c.timeout, c.retries)
		if got != c.want {
			t.Errorf("rtoLimit(%v, %d) = %v; want %v", c.timeout, c.retries, got, c.want)
		}
	}
	for retries := range 20 {
		for timeout := minPeerTimeout; timeout < 20*time.Minute; timeout += 7 * time.Second {
			want := timeout + timeout/4
			limit := rtoLimit(timeout, retries)
			switch {
			case limit == 0:
				if retransmitTime(retries, maxRTO) >= want {
					t.Fatalf("%v, %d retries: no limit", timeout, retries)
				}
			case limit < time.Second || limit > maxRTO || limit%time.Millisecond != 0:
				t.Fatalf("%v, %d retries: %v is out of the kernel's range", timeout, retries, limit)
			case retransmitTime(retries, limit) < want:
				t.Fatalf("%v, %d retries: with %v the kernel gives up after %v", timeout, retries, limit, retransmitTime(retries, limit))
			case limit > time.Second && retransmitTime(retries, limit-100*time.Millisecond) >= want:
				t.Fatalf("%v, %d retries: %v is not the smallest", timeout, retries, limit)
			}
		}
	}
}

func TestDetectWithin(t *testing.T) {
	t.Parallel()
	const s = time.Second
	with := func(l limits, change func(*limits)) limits {
		change(&l)
		return l
	}
	off := limits{idle: 7200 * s, interval: 75 * s, count: 9, maxRTO: maxRTO, retries: 15}
	minute := limits{keepAlive: true, idle: 20 * s, interval: 10 * s, count: 4, maxRTO: 6300 * time.Millisecond, retries: 15}
	for _, c := range []struct {
		what   string
		limits limits
		peer   time.Duration
		idle   time.Duration // the bound of an idle connection
		least  time.Duration
		most   time.Duration
	}{
		{what: "nothing asked for", limits: off},
		{what: "a user timeout does nothing for an idle connection", limits: with(off, func(l *limits) { l.userTimeout = 10 * s })},
		{what: "keep-alive of package net", limits: with(off, func(l *limits) { l.keepAlive, l.idle, l.interval, l.count = true, 15*s, 15*s, 9 }), idle: 150 * s, least: 150*s + 925*s, most: 150*s + 1100*s},
		{what: "PeerTimeout", limits: minute, peer: 60 * s, idle: 60 * s, least: 76 * s, most: 76 * s},
		{what: "PeerTimeout 4 s", limits: limits{keepAlive: true, idle: s, interval: s, count: 3, maxRTO: s, retries: 15}, peer: 4 * s, idle: 4 * s, least: 6 * s, most: 6200 * time.Millisecond},
		{what: "PeerTimeout on an old kernel", limits: with(minute, func(l *limits) { l.maxRTO = maxRTO }), peer: 60 * s, idle: 60 * s, least: 120 * s, most: 361 * s}, // a closed window is probed every two minutes there
		{what: "PeerTimeout and keep-alive of one's own", limits: with(minute, func(l *limits) { l.idle, l.count = 1000*s, 2 }), peer: 60 * s, idle: 1020 * s, least: 1020 * s, most: 1150 * s},
		// As measured: idle + max(1, ceil((UT-idle)/interval))·interval.
		{what: "1/1/9, user timeout 2.5 s", limits: limits{keepAlive: true, idle: s, interval: s, count: 9, userTimeout: 2500 * time.Millisecond, maxRTO: maxRTO, retries: 15}, idle: 3 * s, least: 5 * s, most: 9 * s},
		{what: "1/1/3, user timeout 10 s", limits: limits{keepAlive: true, idle: s, interval: s, count: 3, userTimeout: 10 * s, maxRTO: maxRTO, retries: 15}, idle: 10 * s, least: 20 * s, most: 24 * s},
		{what: "10/2/5, user timeout 3 s", limits: limits{keepAlive: true, idle: 10 * s, interval: 2 * s, count: 5, userTimeout: 3 * s, maxRTO: maxRTO, retries: 15}, idle: 12 * s, least: 15 * s, most: 19 * s},
		{what: "2/5/9, user timeout 1 s", limits: limits{keepAlive: true, idle: 2 * s, interval: 5 * s, count: 9, userTimeout: s, maxRTO: maxRTO, retries: 15}, idle: 7 * s, least: 8 * s, most: 12 * s},
	} {
		if got := c.limits.idleBound(); got != c.idle {
			t.Errorf("%s: idleBound = %v; want %v", c.what, got, c.idle)
		}
		if got := c.limits.detectWithin(c.peer); got < c.least || got > c.most {
			t.Errorf("%s: detectWithin(%v) = %v; want %v to %v", c.what, c.peer, got, c.least, c.most)
		}
	}
}
