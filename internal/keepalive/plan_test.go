package keepalive

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A fakeSocket has the options of one system's row.
type fakeSocket struct {
	values  map[int]int
	calls   []string
	failAt  int // which set fails, from 1; 0 is none
	sets    int
	largest int // the largest value that the count takes; 0 is any
	count   int
}

var errRefused = errors.New("refused")

func newFake(s *system) *fakeSocket {
	f := &fakeSocket{values: map[int]int{switchOn: 0, keepAliveVals: 0}, count: s.count}
	for name, value := range map[int]int{s.idle: 7200, s.interval: 75, s.count: 9, s.dataLimit: 0, s.userTimeout: 0, s.maxRTO: 120000} {
		if name != 0 {
			f.values[name] = value
		}
	}
	return f
}

func (f *fakeSocket) access() accessor {
	return accessor{
		get: func(name int) (int, error) {
			value, ok := f.values[name]
			if !ok {
				return 0, errMissing
			}
			f.calls = append(f.calls, fmt.Sprintf("get %#x", name))
			return value, nil
		},
		set: func(o option) error {
			if f.sets++; f.sets == f.failAt {
				return errRefused
			}
			if _, ok := f.values[o.name]; !ok {
				return errMissing
			}
			if o.name == f.count && f.largest > 0 {
				o.value = min(o.value, f.largest)
			}
			f.values[o.name] = o.value
			f.calls = append(f.calls, describe(o))
			return nil
		},
	}
}

func describe(o option) string {
	switch o.name {
	case switchOn:
		return fmt.Sprintf("on %d", o.value)
	case keepAliveVals:
		return fmt.Sprintf("vals %d %d", o.value, o.second)
	}
	return fmt.Sprintf("%#x=%d", o.name, o.value)
}

// everySystem calls f for each row of the table, and for older versions.
func everySystem(f func(*system)) {
	for i := range systems {
		if f(&systems[i]); systems[i].older != nil {
			f(systems[i].older)
		}
	}
	f(systemFor("plan9"))
}

func TestEverySystemHasItsPlan(t *testing.T) {
	minute, short := &Want{PeerTimeout: time.Minute}, &Want{PeerTimeout: 15 * time.Second}
	unchanged := &Want{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}}
	defaults := &Want{KeepAlive: net.KeepAliveConfig{Enable: true}}
	const none = "unsupported operation"
	for _, c := range []struct {
		system string
		want   *Want
		plan   string // or a part of the error
	}{
		{"linux", minute, "0x6=16 0x5=2 on 1 0x4=28"},
		{"android", minute, "0x6=16 0x5=2 on 1 0x4=28"},
		{"linux", &Want{PeerTimeout: time.Minute, Unanswered: 3}, "0x6=19 0x5=2 on 1 0x4=28"},
		{"linux", &Want{PeerTimeout: time.Minute, Unanswered: 200}, "0x6=127 0x5=2 on 1 0x4=28"},
		{"linux", unchanged, "on 1"},
		{"linux", defaults, "0x6=9 0x5=15 on 1 0x4=15"},
		// The first count spans ten days. The data limit is macOS's own.
		{"darwin", minute, "0x80=60 0x102=432000 0x101=2 on 1 0x10=28"},
		{"ios", defaults, "0x102=57600 0x101=15 on 1 0x10=15"},
		{"freebsd", minute, "0x400=432000 0x200=2 on 1 0x100=28"},
		{"dragonfly", minute, "0x400=432000 0x200=2 on 1 0x100=28"},
		{"netbsd", minute, "0x6=432000 0x5=4 on 1 0x3=56"}, // half seconds
		{"illumos", minute, "0x11=60000 0x23=432000 0x24=2 on 1 0x22=28"},
		{"solaris", minute, "0x11=60000 0x1f=432000 0x1e=2 on 1 0x1d=28"},
		{"solaris", &Want{PeerTimeout: time.Hour}, "0x11=3600000 0x1f=14400 0x1e=60 on 1 0x1d=1740"}, // no longer interval
		{"solaris", short, "leaves too little after the 10s of silence"},
		{"windows", minute, "0x5=60 0x10=16 0x11=2 on 1 0x3=28"},
		{"windows", unchanged, "on 1"},
		{"windows before 1709", minute, "0x5=60 on 1 vals 26660 3334"}, // nine intervals span 30 s
		{"windows before 1709", unchanged, "on 1"},
		{"windows before 1709", defaults, none},
		{"aix", minute, none},
		{"aix", defaults, "0x13=57600 0x12=15 on 1 0x11=15"},
		{"openbsd", minute, none},
		{"openbsd", defaults, none},
		{"openbsd", unchanged, "on 1"},
		{"plan9", minute, none},
	} {
		s := systemFor(c.system)
		if c.system == windowsBefore1709.name {
			s = &windowsBefore1709
		}
		p, err := s.plan(c.want, newFake(s).access().get)
		var got []string
		for _, o := range p.options[:p.n] {
			got = append(got, describe(o))
		}
		if err != nil {
			var field *Error
			require.ErrorAs(t, err, &field)
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			assert.Equal(t, c.want.field(), field.Field)
			assert.Contains(t, err.Error(), c.plan, "%s", c.system)
			continue
		}
		assert.Equal(t, c.plan, strings.Join(got, " "), "%s: %+v", c.system, c.want)
	}
}

// On every system, and for every time-out that it takes, the probes span half of it, so that one of them falls behind an outage
// that is shorter, and they end within it; on Linux also with timers that are late.
func TestProbesFitEverySystem(t *testing.T) {
	everySystem(func(s *system) {
		refused := time.Duration(0)
		for within := MinPeerTimeout; within <= MaxPeerTimeout; within += time.Second + within/500/time.Second*time.Second {
			p, err := s.fit(within)
			if err != nil {
				refused = within
				continue
			}
			total := p.Idle + time.Duration(p.Count)*p.Interval
			ok := total <= within && total >= within*9/10 && p.Idle >= max(s.minIdle, time.Second) &&
				(s.maxInterval == 0 || p.Interval <= s.maxInterval) && (s.fixedCount == 0 || p.Count == s.fixedCount) &&
				p.Interval > 0 && p.Interval%max(s.tick, 1) == 0 && time.Duration(p.Count-1)*p.Interval >= within/2
			if s.timerWheel {
				l := Limits{On: true, Idle: p.Idle, Interval: p.Interval, Count: p.Count}
				ok = ok && l.IdleBound() == total && l.lateIdleBound() <= idleBound(within) &&
					p.Interval == max(time.Second, within/24/time.Second*time.Second) && p.Idle <= MaxProbeTime && p.Count <= MaxProbeCount
			}
			require.True(t, ok, "%s, %v: %+v", s.name, within, p)
		}
		assert.True(t, refused == 0 || s.minIdle > 0 && refused < 22*time.Second, "%s refuses %v", s.name, refused)
	})
}

func TestDataLimitOfTheApplicationStays(t *testing.T) {
	for _, c := range []struct {
		system   string
		now, set int
	}{{"darwin", 0, 60}, {"darwin", 61, 60}, {"darwin", 30, 30}, {"windows", -1, 60}, {"windows", 21, 21}, {"illumos", 480000, 60000}} {
		s := systemFor(c.system)
		f := newFake(s)
		f.values[s.dataLimit] = c.now
		_, err := s.tune(f.access(), &Want{PeerTimeout: time.Minute})
		assert.NoError(t, err)
		assert.Equal(t, c.set, f.values[s.dataLimit], "%s, %d", c.system, c.now)
	}
	// Where it is missing, the probes or the system's own count have to do.
	for name, works := range map[string]bool{"darwin": true, "windows": true, "solaris": false} {
		s := systemFor(name)
		f := newFake(s)
		delete(f.values, s.dataLimit)
		_, err := s.tune(f.access(), &Want{PeerTimeout: time.Minute})
		assert.Equal(t, works, err == nil, "%s: %v", name, err)
	}
}

// Whatever fails, a socket has afterwards what it had before, on every system.
func TestFailureRestoresEverySystem(t *testing.T) {
	everySystem(func(s *system) {
		for _, w := range []*Want{{PeerTimeout: time.Minute}, {KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}}} {
			if _, err := s.plan(w, newFake(s).access().get); err != nil {
				continue
			}
			failures := 0
			for failAt := 1; ; failAt++ {
				f := newFake(s)
				f.failAt = failAt
				tuning, err := s.tune(f.access(), w)
				sets := f.sets
				f.failAt = 0
				if err == nil {
					tuning.undo(f.access())
				} else {
					failures++
					assert.ErrorIs(t, err, errRefused)
					assert.Equal(t, Tuning{}, tuning)
				}
				if s.oneCall { // what cannot be read cannot be restored
					f.values[keepAliveVals] = 0
				}
				require.Equal(t, newFake(s).values, f.values, "%s, set %d", s.name, failAt)
				if err == nil && failAt > sets {
					break
				}
			}
			assert.Positive(t, failures, s.name)
		}
	})
}

// A kernel that counts by age gets the wanted count when its probes have had their time.
func TestGraceEndsWithTheWantedCount(t *testing.T) {
	everySystem(func(s *system) {
		w := &Want{PeerTimeout: time.Minute, KeepAlive: net.KeepAliveConfig{Enable: s.inFlight == nothingFinds, Idle: 28 * time.Second, Interval: 2 * time.Second, Count: 16}}
		f := newFake(s)
		f.values[s.dataLimit] = 1
		w.PeerTimeout *= time.Duration(min(1, int(s.inFlight)))
		tuning, err := s.tune(f.access(), w)
		if s.counting == byProbes {
			assert.Nil(t, tuning.Later, s.name)
			return
		}
		require.NoError(t, err, s.name)
		later := tuning.Later
		require.NotNil(t, later, s.name)
		assert.True(t, later.UntilFIN)
		assert.Equal(t, 16, tuning.Limits.Count)
		first := f.values[s.count]
		assert.GreaterOrEqual(t, time.Duration(first)*2*time.Second, longestSilence)
		assert.GreaterOrEqual(t, later.After, time.Minute)
		assert.LessOrEqual(t, later.After, 2*time.Minute+8*time.Second)

		f.values[s.count] = 5 // by the application
		later.do(f.access())
		assert.Equal(t, 5, f.values[s.count], s.name)
		f.values[s.count] = first
		later.do(f.access())
		assert.Equal(t, 16, f.values[s.count], s.name)
	})
	// A kernel that does not take so many gets the wanted one at once.
	s := systemFor("freebsd")
	f := newFake(s)
	f.largest = 255
	tuning, err := s.tune(f.access(), &Want{PeerTimeout: time.Minute, OnFailure: CloseOnFailure})
	require.NoError(t, err)
	assert.Nil(t, tuning.Later)
	assert.Equal(t, 16, f.values[s.count])
}

func TestWindowsBefore1709HasNoOptions(t *testing.T) {
	f := newFake(&windowsBefore1709)
	f.values[5] = 0 // TCP_MAXRT alone
	_, err := systemFor("windows").tune(f.access(), &Want{PeerTimeout: time.Minute})
	assert.True(t, isMissing(err), "%v", err) // so that Tune takes the older row
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = systemFor("windows").older.tune(f.access(), &Want{PeerTimeout: time.Minute})
	assert.NoError(t, err)
	assert.Equal(t, 1, f.values[switchOn])
	assert.Equal(t, 26660, f.values[keepAliveVals])
}

// What is set on Linux when a connection that cannot be set up is closed: four calls.
func TestTuneMakesFiveCallsOnLinux(t *testing.T) {
	linux := systemFor("linux")
	f := newFake(linux)
	tuning, err := linux.tune(f.access(), &Want{PeerTimeout: time.Minute, OnFailure: CloseOnFailure})
	require.NoError(t, err)
	assert.Equal(t, []string{"0x6=16", "0x5=2", "on 1", "0x4=28", "get 0x12"}, f.calls)
	assert.Equal(t, Limits{On: true, Idle: 28 * time.Second, Interval: 2 * time.Second, Count: 16, MaxRTO: MaxRTO}, tuning.Limits)
}

func TestPatienceOnOtherSystemsDoesNothing(t *testing.T) {
	everySystem(func(s *system) {
		if s.userTimeout != 0 {
			return
		}
		f := newFake(s)
		var p Patience
		p.extend(s, f.access(), 924000, 2000)
		assert.False(t, p.InForce())
		p.restore(s, f.access())
		assert.Empty(t, f.calls, s.name)
	})
}

// sameNumbers compares the row of the system that the test runs on.
func sameNumbers(t *testing.T, idle, interval, count, dataLimit int) {
	t.Helper()
	want := [...]int{idle, interval, count, dataLimit}
	if got := [...]int{own.idle, own.interval, own.count, own.dataLimit}; got != want {
		t.Errorf("%s: %#x, want %#x", own.name, got, want)
	}
}
