//go:build unix

package liveness

import (
	"errors"
	"maps"
	"net"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/livenesstest"
)

// What systems are like, with numbers of our own.
var (
	bsdLike    = options{idle: 1, interval: 2, count: 3, tick: time.Second, probesFindData: true}
	netbsdLike = options{idle: 1, interval: 2, count: 3, tick: time.Second / 2, probesFindData: true}
	darwinLike = options{idle: 1, interval: 2, count: 3, tick: time.Second, probesFindData: true, dataLimit: 4, dataTick: time.Second}
	sunLike    = options{idle: 1, interval: 2, count: 3, tick: time.Second, minIdle: 10 * time.Second, maxInterval: time.Minute,
		dataLimit: 4, dataTick: time.Millisecond}
	openbsdLike = options{}
	aixLike     = options{idle: 1, interval: 2, count: 3, tick: time.Second}
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
	const day = 24 * 60 * 60
	patient := grace{count: day, then: 4, lasts: 62 * time.Second}
	defaults := map[int]int{1: 7200, 2: 75, 3: 8}
	for _, test := range []struct {
		name    string
		options options
		cfg     Config
		has     map[int]int
		want    []sockopt
		grace   grace
	}{
		{"PeerTimeout", bsdLike, minute, nil, []sockopt{tcp(3, day), tcp(2, 10), on, tcp(1, 20)}, patient},
		{"parts of a second", bsdLike, Config{PeerTimeout: 59*time.Second + 1}, nil, []sockopt{tcp(3, day), tcp(2, 10), on, tcp(1, 20)}, patient},
		{"half seconds, or whole ones", netbsdLike, minute, nil, []sockopt{tcp(3, day), tcp(2, 20), on, tcp(1, 40)}, grace{day, 4, 122 * time.Second}},
		{"seconds for data", darwinLike, minute, map[int]int{4: 0}, []sockopt{tcp(4, 60), tcp(3, day), tcp(2, 10), on, tcp(1, 20)}, patient},
		{"milliseconds for data", sunLike, minute, map[int]int{4: 300_000}, []sockopt{tcp(4, 60_000), tcp(3, day), tcp(2, 10), on, tcp(1, 20)}, patient},
		{"a lower limit for data", sunLike, minute, map[int]int{4: 59_999}, []sockopt{tcp(3, day), tcp(2, 10), on, tcp(1, 20)}, patient},
		{"no limit for data after all", darwinLike, minute, nil, []sockopt{tcp(3, day), tcp(2, 10), on, tcp(1, 20)}, patient},
		{"KeepAlive", darwinLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 7 * time.Second}}, map[int]int{4: 0},
			[]sockopt{tcp(3, 10*day/15), tcp(2, 15), on, tcp(1, 7)}, grace{10 * day / 15, 9, 146500 * time.Millisecond}},
		{"KeepAlive where data have no limit", aixLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true}}, nil,
			[]sockopt{tcp(3, 10*day/15), tcp(2, 15), on, tcp(1, 15)}, grace{10 * day / 15, 9, 154500 * time.Millisecond}},
		{"parts of KeepAlive", bsdLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: 2 * time.Second, Count: -1}}, defaults,
			[]sockopt{tcp(3, 5*day), tcp(2, 2), on}, grace{5 * day, 8, 7220 * time.Second}},
		{"nothing but KeepAlive", bsdLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}}, defaults,
			[]sockopt{tcp(3, 10*day/75), on}, grace{10 * day / 75, 8, 7804 * time.Second}},
		{"both", darwinLike, Config{PeerTimeout: time.Minute, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: 5}},
			map[int]int{1: 7200, 2: 75, 3: 8, 4: 0}, []sockopt{tcp(4, 60), tcp(3, 10*day/75), on}, grace{10 * day / 75, 5, 7577500 * time.Millisecond}},
		{"KeepAlive out of range", sunLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Hour, Count: 5}}, nil,
			[]sockopt{tcp(3, 240), tcp(2, 3600), on, tcp(1, 1)}, grace{240, 5, 18003500 * time.Millisecond}}, // for the kernel to refuse
		{"patient enough", bsdLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: 3 * time.Hour, Count: 80}}, nil,
			[]sockopt{tcp(3, 80), tcp(2, 10800), on, tcp(1, 1)}, grace{}},
		{"an interval that is not known", bsdLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 7 * time.Second, Interval: -1, Count: 5}}, map[int]int{2: 0},
			[]sockopt{tcp(3, 5), on, tcp(1, 7)}, grace{}},
		{"nothing to tune", openbsdLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}}, nil, []sockopt{on}, grace{}},
	} {
		got, err := test.options.plan(&test.cfg, has(test.has))
		if got.lasts == 0 {
			got.grace = grace{} // the rest tells nothing then
		}
		if err != nil || !slices.Equal(got.opts, test.want) || got.grace != test.grace {
			t.Errorf("%s: %v, %v; want %v, %v", test.name, got, err, test.want, test.grace)
		}
	}
	unchanged := net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}
	for _, test := range []struct {
		field   string
		options options
		cfg     Config
	}{
		{"PeerTimeout", openbsdLike, minute},
		{"PeerTimeout", openbsdLike, Config{PeerTimeout: time.Minute, KeepAlive: unchanged}},
		{"KeepAlive", openbsdLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true}}},
		{"KeepAlive", openbsdLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 1, Interval: -1, Count: -1}}},
		{"KeepAlive", openbsdLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: 1, Count: -1}}},
		{"KeepAlive", openbsdLike, Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: 1}}},
		{"PeerTimeout", aixLike, minute},
		{"PeerTimeout", aixLike, Config{PeerTimeout: time.Minute, KeepAlive: net.KeepAliveConfig{Enable: true}}},
		{"PeerTimeout", sunLike, minute}, // which has no limit for data after all
		{"PeerTimeout", sunLike, Config{PeerTimeout: 20 * time.Second}},
	} {
		got, err := test.options.plan(&test.cfg, has(nil))
		if !errors.Is(err, errors.ErrUnsupported) || !strings.HasPrefix(err.Error(), "Config."+test.field+": ") || !strings.Contains(err.Error(), runtime.GOOS) {
			t.Errorf("%+v, %+v: %v, %v", test.options, test.cfg, got, err)
		}
	}
}

// An optionSet is what a socket has. refuse may say that it does not take one, or make
// another of it.
type optionSet struct {
	values map[sockopt]int // by level and name
	sets   []sockopt
	refuse func(*sockopt) error
}

func (f *optionSet) get(level, name int) (int, error) {
	if value, ok := f.values[sockopt{level: level, name: name}]; ok {
		return value, nil
	}
	return 0, syscall.ENOPROTOOPT
}

func (f *optionSet) set(o sockopt) error {
	f.sets = append(f.sets, o)
	if f.refuse != nil {
		if err := f.refuse(&o); err != nil {
			return err
		}
	}
	f.values[sockopt{level: o.level, name: o.name}] = o.value
	return nil
}

func (f *optionSet) tcp(name int) (int, error) { return f.get(unix.IPPROTO_TCP, name) }

// What is set can be put back, whatever the kernel makes of it.
func TestGrace(t *testing.T) {
	refuseIf := func(name, above int) func(*sockopt) error {
		return func(o *sockopt) error {
			if o.level == unix.IPPROTO_TCP && o.name == name && o.value > above {
				return syscall.EINVAL
			}
			return nil
		}
	}
	for _, test := range []struct {
		name   string
		count  int // of the Config
		refuse func(*sockopt) error
		fails  bool
		first  int // the count at first
		then   int // and after the grace, if there is one
	}{
		{"taken", 4, nil, false, 86400, 4},
		{"unchanged", -1, nil, false, 86400, 8},
		{"refused", 4, refuseIf(3, 127), false, 4, 0},
		{"refused, unchanged", -1, refuseIf(3, 127), false, 8, 0},
		{"taken in part", 4, func(o *sockopt) error {
			if o.name == 3 {
				o.value &= 0xff
			}
			return nil
		}, false, 4, 0},
		{"refused altogether", 4, refuseIf(3, 0), true, 8, 0},
		{"another is refused", 4, refuseIf(1, 0), true, 8, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			was := map[sockopt]int{
				{unix.IPPROTO_TCP, 1, 0}:                7200,
				{unix.IPPROTO_TCP, 2, 0}:                75,
				{unix.IPPROTO_TCP, 3, 0}:                8,
				{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0}: 0,
			}
			f := &optionSet{values: maps.Clone(was), refuse: test.refuse}
			cfg := &Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 20 * time.Second, Interval: 10 * time.Second, Count: test.count}}
			p, err := bsdLike.plan(cfg, f.tcp)
			if err != nil {
				t.Fatal(err)
			}
			undo, err := bsdLike.set(&p, f.get, f.set)
			if (err != nil) != test.fails {
				t.Fatal(err)
			}
			if count, _ := f.tcp(3); !test.fails && count != test.first {
				t.Errorf("%d probes at first; want %d", count, test.first)
			}
			if has := p.lasts > 0; !test.fails && has != (test.then != 0) {
				t.Errorf("%+v", p.grace)
			}
			if test.then != 0 {
				p.grace.end(3, f.tcp, f.set)
				if count, _ := f.tcp(3); count != test.then {
					t.Errorf("%d probes in the end; want %d", count, test.then)
				}
				// Another count is somebody's own.
				f.values[sockopt{level: unix.IPPROTO_TCP, name: 3}] = 5
				p.grace.end(3, f.tcp, f.set)
				if count, _ := f.tcp(3); count != 5 {
					t.Errorf("%d probes; were 5", count)
				}
			}
			for _, o := range slices.Backward(undo) {
				f.refuse = nil
				_ = f.set(o)
			}
			if !maps.Equal(f.values, was) {
				t.Errorf("%v; were %v", f.values, was)
			}
		})
	}
}

// The probes of a BSD, whose timer goes by the age of the last segment: what was silent
// for long before Wrap lives if an outage is shorter than half of the time, wherever in
// it that begins, and is over in time if it is gone.
func TestGraceOutages(t *testing.T) {
	const silence = time.Hour // before Wrap
	for d := minPeerTimeout; d < 3*time.Minute; d += 3500 * time.Millisecond {
		p, err := bsdLike.plan(&Config{PeerTimeout: d}, has(nil))
		if err != nil {
			t.Fatal(err)
		}
		idle, interval := time.Duration(p.opts[3].value)*time.Second, time.Duration(p.opts[1].value)*time.Second
		// over is when the kernel gives up a peer that hears nothing from begin on, for so
		// long; 0 if it does not. Each timer is late by so much.
		over := func(silence time.Duration, g grace, begin, length, late time.Duration) time.Duration {
			heard := -silence
			for now := idle + late; now < 3*d; {
				count := g.count
				if now >= g.lasts {
					count = g.then
				}
				if age := now - heard; age < idle {
					now += idle - age + late
					continue
				} else if age >= idle+time.Duration(count)*interval {
					return now
				}
				if now < begin || now >= begin+length {
					heard = now
				}
				now += interval + late
			}
			return 0
		}
		for _, late := range []time.Duration{0, 10 * time.Millisecond, time.Second / 2} {
			for begin := -d; begin < d+d/2; begin += d / 40 {
				now := over(silence, p.grace, begin, d/2-1, late)
				// Timers that are late take from what is survived, at any time.
				if now != 0 && (late < time.Second/2 || over(0, grace{then: p.then}, begin, d/2-1, late) == 0) {
					t.Fatalf("%v: an outage from %v on ends it after %v", d, begin, now)
				}
			}
			most := wholeSeconds(d) + interval + time.Duration(p.then)*(time.Second/2+late) + 2*late
			for begin := -d; begin <= 0; begin += d / 10 {
				if now := over(silence, p.grace, begin, 10*d, late); now == 0 || now > most {
					t.Fatalf("%v: gone since %v, over after %v; want %v at most", d, begin, now, most)
				}
			}
		}
		// And this is what it is for.
		if over(silence, grace{then: p.then}, 0, 0, 0) == 0 {
			t.Fatalf("%v: a silent peer lives anyway", d)
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

// What is left to the clock is done once, when it is due, and nothing is due after it,
// whatever the Conn is watched for besides.
func TestDeferral(t *testing.T) {
	const lasts = 150 * time.Millisecond
	for name, test := range map[string]struct {
		network string
		cfg     *Config
		foreign bool
	}{
		"nothing else":    {network: "tcp4"},
		"foreign":         {network: "tcp4", foreign: true},
		"without a state": {network: "unix"},
		"other time-outs": {network: "tcp4", cfg: &Config{PeerTimeout: time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bare, _ := livenesstest.Pair(t, test.network)
			conn := bare
			if test.foreign {
				conn = struct{ *net.TCPConn }{bare.(*net.TCPConn)}
			}
			c, err := Wrap(conn, test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			done := make(chan time.Time, 2)
			began := time.Now()
			c.put(&deferral{lasts: lasts, do: func(fd uintptr) {
				if fd != c.sock.watch.fd {
					t.Errorf("done to %d; want %d", fd, c.sock.watch.fd)
				}
				done <- time.Now()
			}})
			select {
			case when := <-done:
				if when.Sub(began) < lasts {
					t.Errorf("done after %v", when.Sub(began))
				}
			case <-time.After(10 * time.Second):
				t.Fatal("not done")
			}
			timers := c.timers.Load()
			timers.checking.Lock()
			//lint:ignore SA2001 to wait for the check to be over is all
			timers.checking.Unlock()
			if next := c.check(time.Now(), time.Time{}); test.cfg == nil && !next.IsZero() {
				t.Errorf("the next check is in %v", time.Until(next))
			}
			if len(done) != 0 {
				t.Error("done twice")
			}
		})
	}
	for name, end := range map[string]func(*Conn, *livenesstest.Peer){
		"closed":            func(c *Conn, _ *livenesstest.Peer) { c.Close() },
		"closed beneath it": func(c *Conn, _ *livenesstest.Peer) { c.NetConn().Close() },
		"reset":             func(c *Conn, peer *livenesstest.Peer) { peer.Reset(); <-c.Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bare, peer := livenesstest.Pair(t, "tcp4")
			c, err := Wrap(bare, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			done := make(chan struct{}, 1)
			d := &deferral{lasts: 10 * time.Millisecond, do: func(uintptr) { done <- struct{}{} }}
			timers := c.timersOf()
			timers.deferred, d.since = d, time.Now()
			end(c, peer)
			time.Sleep(d.lasts)
			if next := c.check(time.Now(), time.Time{}); !next.IsZero() || len(done) != 0 {
				t.Errorf("done %d times, the next check is at %v", len(done), next)
			}
		})
	}
}

// While a process does not run, nor may the kernel: the time begins anew.
func TestDeferralAndJump(t *testing.T) {
	bare, _ := livenesstest.Pair(t, "tcp4")
	c, err := Wrap(bare, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := 0
	began := time.Now()
	timers := c.timersOf()
	timers.deferred = &deferral{lasts: time.Minute, since: began, do: func(uintptr) { done++ }}
	for _, step := range []struct {
		after, jumped time.Duration
		wait          time.Duration
	}{
		{0, -time.Second, time.Minute}, // it jumped before
		{59 * time.Second, -time.Second, time.Second},
		{time.Hour, time.Hour, time.Minute},
		{time.Hour + 59*time.Second, time.Hour, time.Second},
		{time.Hour + time.Minute, time.Hour, 0},
		{2 * time.Hour, 2 * time.Hour, 0},
	} {
		if wait := c.doDeferred(timers, began.Add(step.after), began.Add(step.jumped)); wait != step.wait {
			t.Errorf("after %v it is due in %v; want %v", step.after, wait, step.wait)
		}
	}
	if done != 1 {
		t.Errorf("done %d times", done)
	}
}
