package liveness_test

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
)

// The contract of OnSilence, with exact times: a net.Pipe in a bubble has its own clock. The
// clock of silence runs while a Read waits.

const (
	silence   = 10 * time.Second
	coarsely  = silence/32 + 20*time.Millisecond // what the library adds: kernels count in ticks, and wake-ups are shared
	beyondAll = 100 * silence
)

// A quietPipe is a wrapped end of a net.Pipe, in which a Read waits.
type quietPipe struct {
	*testing.T
	conn  *liveness.Conn
	peer  net.Conn
	calls atomic.Int32
}

func inBubble(t *testing.T, f func(p *quietPipe)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c, err := liveness.Wrap(near, nil)
		testutil.Must(t, err)
		read := make(chan struct{})
		go func() {
			defer close(read)
			for b := make([]byte, 1); ; {
				if _, err := c.Read(b); err != nil {
					return
				}
			}
		}()
		synctest.Wait()
		f(&quietPipe{T: t, conn: c, peer: far})
		c.Close()
		far.Close()
		<-read
	})
}

// speak has the peer send a byte, which is received.
func (p *quietPipe) speak() {
	p.Helper()
	if _, err := p.peer.Write([]byte("x")); err != nil {
		p.Error(err)
	}
	synctest.Wait()
}

// called checks how often f was called so far.
func (p *quietPipe) called(want int) {
	p.Helper()
	synctest.Wait()
	if got := int(p.calls.Load()); got != want {
		p.Errorf("f was called %d times; want %d", got, want)
	}
}

func (p *quietPipe) count() { p.calls.Add(1) }

func TestOnSilenceCallsOnceForEachSilence(t *testing.T) {
	inBubble(t, func(p *quietPipe) {
		p.conn.OnSilence(silence, p.count)
		for n := range 3 {
			time.Sleep(silence - time.Millisecond)
			p.called(n)
			time.Sleep(coarsely + 2*time.Millisecond)
			p.called(n + 1)
			time.Sleep(beyondAll)
			p.called(n + 1)
			p.speak()
		}
		for range 10 { // data in time put it off
			time.Sleep(silence - time.Second)
			p.speak()
		}
		p.called(3)
	})
}

// The answer to the application's own ping comes in less time than a kernel can tell.
func TestOnSilenceCallsAgainAfterAnAnswerAtOnce(t *testing.T) {
	inBubble(t, func(p *quietPipe) {
		p.conn.OnSilence(silence, func() { p.count(); p.peer.Write([]byte("pong")) })
		time.Sleep(10*silence + 10*coarsely + time.Second)
		p.called(10)
	})
}

func TestOnSilenceNeverCallsTwiceAtATime(t *testing.T) {
	inBubble(t, func(p *quietPipe) {
		var running, most atomic.Int32
		p.conn.OnSilence(silence, func() {
			most.Store(max(most.Load(), running.Add(1)))
			p.count()
			time.Sleep(3 * silence)
			running.Add(-1)
		})
		time.Sleep(silence + time.Second)
		p.called(1)
		p.speak()
		time.Sleep(2*silence - 3*time.Second) // the next silence is due, and f runs
		p.called(1)
		time.Sleep(silence + 4*time.Second) // it has returned, so the call is made
		p.called(2)
		time.Sleep(4 * silence)
		if most.Load() > 1 {
			t.Errorf("f ran %d times at once", most.Load())
		}
		p.called(2)
	})
}

func TestOnSilenceKeepsRegistrationsApart(t *testing.T) {
	inBubble(t, func(p *quietPipe) {
		began := time.Now()
		took := make(chan time.Duration, 3)
		for _, d := range []time.Duration{7, 1, 4} {
			p.conn.OnSilence(d*time.Second, func() { took <- time.Since(began).Round(time.Second) })
		}
		for _, want := range []time.Duration{1, 4, 7} {
			if got := <-took; got != want*time.Second {
				t.Errorf("called after %v; want %v s", got, want)
			}
		}
	})
}

func TestOnSilenceStops(t *testing.T) {
	inBubble(t, func(p *quietPipe) {
		stop := p.conn.OnSilence(silence, p.count)
		if first, second := stop(), stop(); !first || second {
			t.Errorf("stop returned %t and %t; want true and false", first, second)
		}
		registered := make(chan func() bool, 1)
		registered <- p.conn.OnSilence(silence, func() {
			within := <-registered
			if p.count(); !within() {
				t.Error("stop returned false within f")
			}
		})
		time.Sleep(beyondAll)
		p.speak()
		time.Sleep(beyondAll)
		p.called(1)
		if p.conn.OnSilence(silence, nil)() {
			t.Error("stop returned true for a nil f")
		}
	})
}

func TestOnSilenceNeverCallsAfterTheEnd(t *testing.T) {
	inBubble(t, func(p *quietPipe) {
		stop := p.conn.OnSilence(silence, p.count)
		time.Sleep(silence - time.Second)
		p.peer.Close()
		<-p.conn.Done()
		late := p.conn.OnSilence(silence, p.count)
		if stop() || late() {
			t.Error("stop returned true after the end")
		}
		time.Sleep(beyondAll)
		p.called(0)
	})
}

func TestOnSilenceTakesLessThan100msAsThat(t *testing.T) {
	inBubble(t, func(p *quietPipe) {
		for _, d := range []time.Duration{-1, 0, time.Millisecond} {
			p.conn.OnSilence(d, p.count)
		}
		time.Sleep(99 * time.Millisecond)
		p.called(0)
		time.Sleep(coarsely + 2*time.Millisecond)
		p.called(3)
	})
}

// A time-out of Config keeps the same clock, and ends what waits.
func TestReadIdleTimeoutCountsWhileAReadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c, err := liveness.Wrap(near, &liveness.Config{ReadIdleTimeout: silence})
		testutil.Must(t, err)
		defer far.Close()
		defer c.Close()
		began := time.Now()
		for range 4 {
			c.SetReadDeadline(time.Now().Add(silence / 5))
			c.Read(make([]byte, 1))
			time.Sleep(beyondAll) // in which no Read waits
		}
		if !c.Alive() {
			t.Fatal(c.Err())
		}
		c.SetReadDeadline(time.Time{})
		idleFrom := time.Now()
		_, err = c.Read(make([]byte, 1))
		if took := time.Since(idleFrom); !errors.Is(err, liveness.ErrPeerIdle) || took < silence/5 || took > silence/5+coarsely {
			t.Errorf("Read returned %v after %v, %v after Wrap", err, took, time.Since(began))
		}
	})
}
