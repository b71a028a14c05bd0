//go:build unix

package liveness

import (
	"errors"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What systems are like, with numbers of our own.
var (
	bsdLike    = options{idle: 1, interval: 2, count: 3, tick: time.Second, probesFindData: true}
	netbsdLike = options{idle: 1, interval: 2, count: 3, tick: time.Second / 2, probesFindData: true}
	darwinLike = options{idle: 1, interval: 2, count: 3, tick: time.Second, probesFindData: true, dataLimit: 4, dataTick: time.Second}
	sunLike    = options{idle: 1, interval: 2, count: 3, tick: time.Second, minIdle: 10 * time.Second, maxInterval: time.Minute,
		dataLimit: 4, dataTick: time.Millisecond}
	openbsdLike = options{}
)

// has is a socket with these values at level IPPROTO_TCP.
func has(values map[int]int) func(int) (int, error) {
	return func(name int) (int, error) {
		if value, ok := values[name]; ok {
			return value, nil
		}
		return 0, syscall.ENOPROTOOPT
	}
}

func TestPlan(t *testing.T) {
	tcp := func(name, value int) sockopt { return sockopt{unix.IPPROTO_TCP, name, value} }
	on := sockopt{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}
	minute := Config{PeerTimeout: time.Minute}
	for _, test := range []struct {
		name    string
		options options
		cfg     Config
		has     map[int]int
		want    []sockopt
	}{
		{"PeerTimeout", bsdLike, minute, nil, []sockopt{tcp(2, 10), tcp(3, 4), on, tcp(1, 20)}},
		{"parts of a second", bsdLike, Config{PeerTimeout: 59*time.Second + 1}, nil, []sockopt{tcp(2, 10), tcp(3, 4), on, tcp(1, 20)}},
		{"half seconds", netbsdLike, minute, nil, []sockopt{tcp(2, 20), tcp(3, 4), on, tcp(1, 40)}},
		{"seconds for data", darwinLike, minute, map[int]int{4: 0}, []sockopt{tcp(4, 60), tcp(2, 10), tcp(3, 4), on, tcp(1, 20)}},
		{"milliseconds for data", sunLike, minute, map[int]int{4: 300_000}, []sockopt{tcp(4, 60_000), tcp(2, 10), tcp(3, 4), on, tcp(1, 20)}},
		{"a lower limit for data", sunLike, minute, map[int]int{4: 59_999}, []sockopt{tcp(2, 10), tcp(3, 4), on, tcp(1, 20)}},
		{"no limit for data after all", sunLike, minute, nil, []sockopt{tcp(2, 10), tcp(3, 4), on, tcp(1, 20)}},
		{"KeepAlive", darwinLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 7 * time.Second}}, map[int]int{4: 0},
			[]sockopt{tcp(2, 15), tcp(3, 9), on, tcp(1, 7)}},
		{"parts of KeepAlive", bsdLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: 2 * time.Second, Count: -1}}, nil,
			[]sockopt{tcp(2, 2), on}},
		{"both", darwinLike, Config{PeerTimeout: time.Minute, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: 5}},
			map[int]int{4: 0}, []sockopt{tcp(4, 60), tcp(3, 5), on}},
		{"KeepAlive out of range", sunLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Hour, Count: 5}}, nil,
			[]sockopt{tcp(2, 3600), tcp(3, 5), on, tcp(1, 1)}}, // for the kernel to refuse
		{"nothing to tune", openbsdLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}}, nil, []sockopt{on}},
	} {
		got, err := test.options.plan(&test.cfg, has(test.has))
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, %v; want %v", test.name, got, err, test.want)
		}
	}
	for name, cfg := range map[string]Config{
		"PeerTimeout":        minute,
		"KeepAlive":          {KeepAlive: net.KeepAliveConfig{Enable: true}},
		"KeepAlive.Idle":     {KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 1, Interval: -1, Count: -1}},
		"KeepAlive.Interval": {KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: 1, Count: -1}},
		"KeepAlive.Count":    {KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: 1}},
	} {
		if opts, err := openbsdLike.plan(&cfg, has(nil)); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s without options: %v, %v", name, opts, err)
		}
	}
}

// Whatever a system takes, a peer that vanishes is found in time, and an outage of
// half of it is survived at any phase.
func TestFit(t *testing.T) {
	for _, o := range []options{bsdLike, sunLike} {
		for d := minPeerTimeout; d < time.Hour; d += 500 * time.Millisecond {
			p, err := o.fit(d)
			if o.minIdle > 0 && d <= 21*time.Second {
				if !errors.Is(err, errors.ErrUnsupported) {
					t.Fatalf("%v: %+v, %v", d, p, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%v: %v", d, err)
			}
			if o.minIdle == 0 && p != KeepAlive(d) {
				t.Errorf("%v: %+v, want %+v", d, p, KeepAlive(d))
			}
			switch found := p.Idle + time.Duration(p.Count)*p.Interval; {
			case d >= 6*time.Second && (found < d || found >= d+time.Second):
				t.Errorf("%v: %+v finds it after %v", d, p, found)
			case time.Duration(p.Count-1)*p.Interval < d/2:
				t.Errorf("%v: %+v survives less than half of it", d, p)
			case p.Idle < o.minIdle || o.maxInterval > 0 && p.Interval > o.maxInterval || !p.Enable:
				t.Errorf("%v: %+v", d, p)
			}
		}
	}
}

func TestLimitsOfOptions(t *testing.T) {
	probes := map[int]int{1: 20, 2: 10, 3: 4}
	all := map[int]int{1: 20, 2: 10, 3: 4, 4: 60_000}
	for _, test := range []struct {
		name    string
		options options
		on      bool
		has     map[int]int
		want    limits
		within  time.Duration // the bound without PeerTimeout
	}{
		{"probes that find everything", bsdLike, true, probes,
			limits{keepAlive: true, idle: 20 * time.Second, interval: 10 * time.Second, count: 4}, 65 * time.Second},
		{"half seconds", netbsdLike, true, probes,
			limits{keepAlive: true, idle: 10 * time.Second, interval: 5 * time.Second, count: 4}, 33 * time.Second},
		{"a limit for data that comes later", darwinLike, true, all,
			limits{keepAlive: true, idle: 20 * time.Second, interval: 10 * time.Second, count: 4}, 65 * time.Second},
		{"a limit for data", sunLike, true, all,
			limits{keepAlive: true, idle: 20 * time.Second, interval: 10 * time.Second, count: 4, maxRTO: time.Minute}, 125 * time.Second},
		{"none for data", sunLike, true, probes,
			limits{idle: 20 * time.Second, interval: 10 * time.Second, count: 4}, 0},
		{"off", bsdLike, false, probes,
			limits{idle: 20 * time.Second, interval: 10 * time.Second, count: 4}, 0},
		{"not told", bsdLike, true, nil, limits{}, 0},
		{"nothing to tune", openbsdLike, true, nil, limits{}, 0},
	} {
		got := test.options.limits(test.on, has(test.has))
		if *got != test.want {
			t.Errorf("%s: %+v; want %+v", test.name, *got, test.want)
		}
		if within := got.detectWithin(0); within < test.within || within > test.within+time.Second {
			t.Errorf("%s: detects within %v; want %v", test.name, within, test.within)
		}
	}
}
