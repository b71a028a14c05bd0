package supervise

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/readclock"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/verdict"
)

// A fake is a connection without a kernel, and the clock that calls its Timeouts.
type fake struct {
	*Timeouts
	heard   atomic.Int64 // when, in nanoseconds
	sample  func() Sample
	readers readclock.Readers

	answer verdict.Answer // the verdict
	at     time.Time      // when it came
	ends   int            // how many came
	ended  chan struct{}
	awake  bool // a check was asked for after the verdict

	mu  sync.Mutex // guards the fields below
	err error
	due time.Time
}

// newFake returns a fake that was last heard now and has nothing outstanding.
func newFake(cfg Config) *fake {
	f := &fake{ended: make(chan struct{})}
	f.hear(time.Now())
	f.sample = func() Sample { return quiet(time.Since(time.Unix(0, f.heard.Load()))) }
	cfg.Readers = &f.readers
	f.Timeouts = New(&cfg)
	return f
}

func (f *fake) hear(at time.Time) { f.heard.Store(at.UnixNano()) }

func quiet(silence time.Duration) Sample {
	return Sample{Taken: true, Info: tcpinfo.Info{
		State: tcpinfo.Open, Full: true, SinceData: silence, SinceAck: silence, SinceSent: silence,
		RTT: time.Millisecond, RTO: 200 * time.Millisecond, PeerWindow: 1 << 16, OurWindow: 1 << 16, MSS: 1460, PeerMSS: 1460,
	}}
}

func (f *fake) Sample(d Detail) Sample {
	s := f.sample()
	s.Detail = d
	return s
}

func (f *fake) EndByTimeout(a verdict.Answer, _ Sample) {
	f.answer, f.at, f.ends = a, time.Now(), f.ends+1
	f.end(errors.New("a verdict"))
}

func (f *fake) end(err error) {
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
	f.EndSilences()
	close(f.ended)
}

func (f *fake) OnEnd(call func()) (stop func() bool) {
	stopped := make(chan struct{})
	go func() {
		select {
		case <-f.ended:
			call()
		case <-stopped:
		}
	}()
	return func() bool { close(stopped); return true }
}

func (f *fake) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *fake) Check() tcpinfo.State        { return tcpinfo.Open }
func (f *fake) Control(func(uintptr)) error { return nil }
func (f *fake) Limits() *keepalive.Limits {
	return &keepalive.Limits{On: true, Idle: time.Second, Interval: time.Second, Count: 3, MaxRTO: keepalive.MaxRTO}
}

func (f *fake) Wake(when time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.due.IsZero() || when.Before(f.due) {
		f.due = when
	}
}

const tick = 10 * time.Millisecond

// run lets d pass, with jumped as the time at which the clock came too late.
func (f *fake) run(d time.Duration, jumped time.Time) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(tick) {
		f.mu.Lock()
		due := f.due
		if due.After(time.Now()) {
			due = time.Time{}
		}
		if !due.IsZero() {
			f.due = time.Time{}
		}
		f.mu.Unlock()
		if due.IsZero() {
			continue
		}
		if next := f.Timeouts.Check(f, time.Now(), jumped); !next.IsZero() {
			f.awake = f.ends > 0
			f.Wake(next)
		}
	}
}

// start makes the first check.
func (f *fake) start() {
	if next := f.Start(f, new(Sample)); !next.IsZero() {
		f.Wake(next)
	}
}

func TestVerdictComesOnceAndInTime(t *testing.T) {
	const timeout = 4 * time.Second
	for name, c := range map[string]struct {
		cfg     Config
		arrange func(f *fake)
		want    verdict.Reason
	}{
		"idle": {Config{Idle: timeout, Counted: true, TCP: true}, func(*fake) {}, verdict.Idle},
		"idle, by a Read that waits": {Config{Idle: timeout}, func(f *fake) {
			_, since := f.readers.Begin(f.ReadClock())
			f.ReadBegan(f, since)
		}, verdict.Idle},
		"idle, and no Read waits": {Config{Idle: timeout}, func(*fake) {}, verdict.None},
		"stalled, by a Write that waits": {Config{Stall: timeout}, func(f *fake) {
			f.sample = func() Sample { return Sample{Taken: true, Queued: 1 << 10} }
			f.BeginWrite(f)
		}, verdict.Stalled},
		"a Write that waits, with an empty queue": {Config{Stall: timeout}, func(f *fake) {
			f.sample = func() Sample { return Sample{Taken: true, Drained: true} }
			f.BeginWrite(f)
		}, verdict.None},
		"lost": {Config{Peer: timeout, Counted: true}, func(f *fake) {
			began, idle := time.Now(), f.sample
			f.sample = func() Sample {
				s := idle()
				s.Info.InFlight, s.Info.Retransmits, s.Info.Backoff = 1, 1+int(time.Since(began)/time.Second), 1
				s.Info.SinceSent, s.Info.RTO, s.Info.Recovering = time.Since(began)%time.Second, time.Second, true
				return s
			}
			f.EndWrite(f)
		}, verdict.Lost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(c.cfg)
				began, changed := time.Now(), false
				f.Schedule(f, 2*timeout, func() { changed = true })
				f.start()
				c.arrange(f)
				f.run(3*timeout, time.Time{})
				assert.Equal(t, c.want, f.answer.Reason)
				assert.Equal(t, c.want == verdict.None, changed, "a verdict ends what is left to do")
				if c.want == verdict.None {
					assert.Zero(t, f.ends)
					return
				}
				assert.Equal(t, 1, f.ends)
				took := f.at.Sub(began)
				assert.GreaterOrEqual(t, took, timeout)
				assert.LessOrEqual(t, took, timeout*5/4+time.Second)
				assert.False(t, f.awake, "there is nothing left to check")
			})
		})
	}
}

func TestStartOfWhatHasEndedDoesNothing(t *testing.T) {
	f := newFake(Config{Idle: time.Second, Counted: true, TCP: true})
	f.end(net.ErrClosed)
	first := quiet(time.Hour)
	first.Asked, first.Answered = time.Now(), time.Now()
	assert.Zero(t, f.Start(f, &first))
	assert.Zero(t, f.ends)
}

// A check lets the connection sleep if nothing is outstanding, but not if a write came after
// its sample.
func TestWriteDuringASampleIsCheckedAgain(t *testing.T) {
	f := newFake(Config{Stall: time.Second, Counted: true, TCP: true})
	f.BeginWrite(f).EndWrite(f)
	f.due = time.Time{}
	f.sample = func() Sample {
		f.BeginWrite(f).EndWrite(f)
		return quiet(0)
	}
	f.Timeouts.Check(f, time.Now(), time.Time{})
	assert.False(t, f.due.IsZero())
}

// The kernel counts in ticks, so a byte that answered the call may look older than the call.
func TestSilenceIsCalledOnceUntilDataCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const silence = 2 * time.Second
		f := newFake(Config{Counted: true, TCP: true})
		var calls atomic.Int32
		f.OnSilence(f, silence, func() { calls.Add(1) })
		stopped := f.OnSilence(f, silence, func() { t.Error("a call after it was stopped") })
		assert.True(t, f.StopSilence(stopped))
		assert.False(t, f.StopSilence(stopped))
		f.run(3*silence, time.Time{})
		assert.EqualValues(t, 1, calls.Load())
		f.hear(time.Now())
		f.run(silence+4*tick, time.Time{})
		assert.EqualValues(t, 2, calls.Load())
		f.hear(time.Now().Add(-4*tick - tick/2)) // the call was at most so long ago
		f.run(silence+4*tick, time.Time{})
		assert.EqualValues(t, 3, calls.Load())
		assert.True(t, f.WaitsForSilence())
		f.end(net.ErrClosed)
		assert.False(t, f.WaitsForSilence())
		f.hear(time.Now())
		f.run(3*silence, time.Time{})
		assert.EqualValues(t, 3, calls.Load())
	})
}

func TestLaterChangeBeginsAnewAfterAJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(Config{Counted: true, TCP: true})
		var done time.Time
		began := time.Now()
		f.Schedule(f, 10*time.Second, func() { done = time.Now() })
		f.run(5*time.Second, time.Time{})
		f.Wake(time.Now())
		jumped := time.Now()
		f.run(9*time.Second, jumped)
		assert.True(t, done.IsZero(), "%v", done.Sub(began))
		f.run(2*time.Second, jumped)
		assert.Less(t, done.Sub(jumped), 11*time.Second)
		assert.False(t, done.IsZero())
	})
}

func TestPingWaitsForWhatComesFirst(t *testing.T) {
	ended := errors.New("ended")
	for name, c := range map[string]struct {
		silence time.Duration // before the call
		act     func(f *fake, cancel func())
		want    error
		within  time.Duration
	}{
		"heard before":  {time.Second / 2, nil, nil, 0},
		"an answer":     {time.Minute, func(f *fake, _ func()) { f.hear(time.Now()) }, nil, maxPingWait},
		"the end":       {time.Minute, func(f *fake, _ func()) { f.end(ended) }, ended, 0},
		"ctx":           {time.Minute, func(_ *fake, cancel func()) { cancel() }, context.Canceled, 0},
		"ended already": {time.Minute, nil, ended, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(Config{Counted: true, TCP: true})
				f.hear(time.Now().Add(-c.silence))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				acted := time.Now()
				if c.act != nil {
					acted = acted.Add(10 * time.Second)
					time.AfterFunc(10*time.Second, func() { c.act(f, cancel) })
				} else if c.want != nil {
					f.end(c.want)
				}
				assert.Equal(t, c.want, f.Ping(ctx, f))
				assert.LessOrEqual(t, time.Since(acted), c.within)
				assert.GreaterOrEqual(t, time.Since(acted), time.Duration(0))
			})
		})
	}
}

// A shortWriter takes one byte less than it is given, once it was given enough.
type shortWriter struct{ bytes.Buffer }

func (w *shortWriter) Write(b []byte) (int, error) {
	if len(b) == piece {
		return w.Buffer.Write(b)
	}
	return w.Buffer.Write(b[:len(b)-1])
}

func TestPiecesAreCounted(t *testing.T) {
	f := newFake(Config{Stall: time.Second})
	require.True(t, f.InPieces())
	b := bytes.Repeat([]byte("0123456789abcdef"), piece/4)
	var all bytes.Buffer
	n, err := f.WriteInPieces(&all, b)
	assert.NoError(t, err)
	assert.Equal(t, len(b), n)
	assert.Equal(t, b, all.Bytes())
	assert.EqualValues(t, 3, f.finished.Load(), "the last one is counted by EndWrite")
	n64, err := f.WriteBuffersInPieces(new(shortWriter), &net.Buffers{b[:piece], b[:5]})
	assert.Equal(t, io.ErrShortWrite, err)
	assert.EqualValues(t, piece+4, n64)
}

func TestNilHasNoTimeouts(t *testing.T) {
	var none *Timeouts
	assert.Zero(t, none.Peer())
	assert.Nil(t, none.BeginWrite(nil))
	none.EndWrite(nil)
	none.EndSilences()
	none.Release(nil)
	none.ReadBegan(nil, time.Now())
	assert.Nil(t, none.ReadClock())
	assert.Equal(t, Lean, none.Detail())
	assert.False(t, none.InPieces() || none.JudgesSilence() || none.MayEnd() || none.WaitsForSilence())
	l := keepalive.Limits{MaxRTO: time.Second}
	assert.Equal(t, l, none.LimitsInForce(&l))
}
