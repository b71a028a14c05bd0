package watch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

// BenchmarkAddRemove is the registration of a connection: alone, so that the hub starts
// and stops for it, and beside another.
func BenchmarkAddRemove(b *testing.B) {
	for _, beside := range []bool{false, true} {
		b.Run(fmt.Sprintf("beside=%t", beside), func(b *testing.B) {
			if beside {
				conn, _ := livenesstest.Pair(b, "tcp4")
				f := newFake()
				f.add(b, conn)
				defer f.Remove(rawOf(b, conn))
			}
			conn, _ := livenesstest.Pair(b, "tcp4")
			raw := rawOf(b, conn)
			f := newFake()
			var err error
			add := func(fd uintptr) { err = Add(&f.Token, fd) }
			b.ReportAllocs()
			for b.Loop() {
				f.Token = Token{}
				f.Init(f)
				if raw.Control(add); errors.Is(err, errors.ErrUnsupported) {
					b.Skip(err)
				} else if err != nil {
					b.Fatal(err)
				}
				f.Remove(raw)
			}
		})
	}
}

// BenchmarkWake is a Wake of a token that is due earlier, and of one that is due later.
func BenchmarkWake(b *testing.B) {
	for _, earlier := range []bool{false, true} {
		b.Run(fmt.Sprintf("earlier=%t", earlier), func(b *testing.B) {
			k := newClock(b)
			f := newFake()
			when := time.Now().Add(1_000_000 * time.Hour)
			k.wake(&f.Token, when)
			for b.Loop() {
				if earlier {
					when = when.Add(-2 * time.Second) // another bucket
				} else {
					when = when.Add(time.Microsecond)
				}
				k.wake(&f.Token, when)
			}
			k.remove(&f.Token)
		})
	}
}

// BenchmarkTick is what the clock itself needs for one check, of as many clients as the
// name says, which are due again after seconds.
func BenchmarkTick(b *testing.B) {
	for _, clients := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			k := newClock(b)
			fakes := make([]tickClient, clients)
			var now time.Time
			for i := range fakes {
				fakes[i].Init(&fakes[i])
				fakes[i].wait = time.Second + time.Duration(rand.Int64N(int64(29*time.Second)))
				k.wake(&fakes[i].Token, time.Now().Add(time.Hour))
			}
			for _, i := range rand.Perm(clients) {
				k.wake(&fakes[i].Token, time.Now().Add(fakes[i].wait))
			}
			b.ResetTimer()
			for n := 0; n < b.N; { // as work does, with time that passes at once
				k.mu.Lock()
				first := k.due[0]
				now = k.epoch.Add(time.Duration(first.due))
				for k.due[0] == first && n < b.N {
					t := first.first
					k.unlink(t)
					t.state = checking
					k.call(now)
					k.mu.Unlock()
					next := t.client.Check(now, now)
					_ = time.Now()
					k.mu.Lock()
					k.returned(now, k.holder)
					k.checked(t, next, k.since(now))
					n++
				}
				k.mu.Unlock()
			}
			b.StopTimer()
			for i := range fakes {
				k.remove(&fakes[i].Token)
			}
		})
	}
}

type tickClient struct {
	Token
	wait time.Duration
}

func (c *tickClient) Check(now, _ time.Time) time.Time { return now.Add(c.wait) }
func (c *tickClient) Notice(Event)                     {}
func (c *tickClient) Settle()                          {}
func (c *tickClient) Open() bool                       { return true }
func (c *tickClient) Closed()                          {}

// BenchmarkFollow is one turn of 10 000 clients that asked for FollowClose, which comes
// once a second.
func BenchmarkFollow(b *testing.B) {
	const clients = 10_000
	conn, _ := livenesstest.Pair(b, "tcp4")
	raw := rawOf(b, conn)
	h := new(hub)
	h.clock.init(time.Now())
	fakes := make([]followed, clients)
	for i := range fakes {
		fakes[i].raw = raw
		fakes[i].Init(&fakes[i])
		h.tokens.add(&fakes[i].Token, uintptr(i))
		h.followClose(&fakes[i].Token)
	}
	now := time.Now()
	for b.Loop() {
		for range (clients + followBatch - 1) / followBatch {
			h.followers.Check(now, now)
		}
	}
	h.clock.remove(&h.followers.Token)
}

type followed struct {
	tickClient
	raw syscall.RawConn
}

func (f *followed) Open() bool { return f.raw.Control(func(uintptr) {}) == nil }

// BenchmarkNow is the part of BenchmarkTick that is the system's.
func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		time.Now()
	}
}
