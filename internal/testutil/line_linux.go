package testutil

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil/race"
	"github.com/go-liveness/liveness/internal/watch"
	"github.com/go-liveness/liveness/livenesstest"
)

// Late is what a busy machine may add to the time within which something must happen: more
// under the race detector. Nothing is ever subtracted from the time before which it must
// not happen.
var Late = map[bool]time.Duration{false: 2 * time.Second, true: 6 * time.Second}[race.Enabled]

// Tick is the granularity of the kernel's ages (jiffies, with CONFIG_HZ of 100).
const Tick = 10 * time.Millisecond

// A Line is a wrapped connection over a cable that the test can cut.
type Line struct {
	testing.TB
	Conn    *liveness.Conn
	Above   net.Conn           // what the application writes to: Conn, or what is above it
	Bare    *net.TCPConn       // the socket of Conn; nil if it is not TCP
	Peer    *livenesstest.Peer // nil if the peer is a process
	Wrapped time.Time          // just before Wrap
	Sent    time.Time          // just before the peer sent its last byte by Heard or Receive, or Wrapped
	Written atomic.Int64       // by Fill
	Taken   atomic.Int64       // by Take

	ended          chan time.Time
	reader, writer chan error
}

// NewLine connects a Line over TCP on loopback.
func NewLine(tb testing.TB, cfg *liveness.Config) *Line {
	tb.Helper()
	conn, peer := Pair(tb, "tcp4", Small)
	return LineOf(tb, conn, peer, cfg)
}

// LineOf wraps conn. A nil peer is one that the test drives by other means.
func LineOf(tb testing.TB, conn net.Conn, peer *livenesstest.Peer, cfg *liveness.Config) *Line {
	tb.Helper()
	lastStandstill()
	l := &Line{TB: tb, Peer: peer, ended: make(chan time.Time, 1), Wrapped: time.Now()}
	l.Sent = l.Wrapped
	l.Bare, _ = conn.(*net.TCPConn)
	if peer != nil {
		Must(tb, peer.SetDeadline(time.Now().Add(time.Minute)))
	}
	c, err := liveness.Wrap(conn, cfg)
	Must(tb, err)
	l.Conn, l.Above = c, c
	c.OnDisconnect(func(error) { l.ended <- time.Now() })
	tb.Cleanup(func() { c.Close() })
	return l
}

// Must ends the test if err is not nil.
func (l *Line) Must(err error) { l.Helper(); Must(l.TB, err) }

// A Direction says which way nothing passes.
type Direction string

const (
	Both     Direction = "both ways"
	ToPeer   Direction = "to the peer"
	FromPeer Direction = "from the peer"
)

// Cut pulls the cable.
func (l *Line) Cut(d Direction) (mend func()) {
	l.Helper()
	ends := map[Direction][]net.Conn{Both: {l.Bare, l.Peer}, ToPeer: {l.Peer}, FromPeer: {l.Bare}}[d]
	undo, err := livenesstest.Cut(ends...)
	if errors.Is(err, errors.ErrUnsupported) {
		l.Skip(err)
	}
	l.Must(err)
	return func() { l.Helper(); l.Must(undo()) }
}

// Park has a Read wait, and discards what it reads.
func (l *Line) Park() {
	l.reader = make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, struct{ io.Reader }{l.Conn})
		l.reader <- err
	}()
}

// Fill writes without end, so that a Write waits once the buffers are full.
func (l *Line) Fill() {
	l.writer = make(chan error, 1)
	go func() {
		for block := make([]byte, 64<<10); ; {
			n, err := l.Conn.Write(block)
			l.Written.Add(int64(n))
			if err != nil {
				l.writer <- err
				return
			}
		}
	}()
}

// Take has the peer read n bytes every pause, until its connection ends. A peer that had no
// processor for a while makes up for that.
func (l *Line) Take(n int, pause time.Duration) (ended <-chan error) {
	result := make(chan error, 1)
	go func() {
		tick := time.NewTicker(max(pause, 1))
		defer tick.Stop()
		block, began, taken := make([]byte, n), time.Now(), 0
		for {
			got, err := io.ReadAtLeast(l.Peer, block, 1)
			taken += got
			l.Taken.Add(int64(got))
			if err != nil {
				result <- err
				return
			}
			for pause > 0 && taken >= n*(1+int(time.Since(began)/pause)) {
				<-tick.C
			}
		}
	}()
	return result
}

// Heard has a byte of the peer arrive and be read.
func (l *Line) Heard() {
	l.Helper()
	l.Sent = time.Now()
	_, err := l.Peer.Write([]byte("x"))
	l.Must(err)
	_, err = io.ReadFull(l.Conn, make([]byte, 1))
	l.Must(err)
}

// Receive has n bytes more of the peer arrive and stay unread.
func (l *Line) Receive(n int) {
	l.Helper()
	want := l.Conn.Status().Unread + n
	l.Sent = time.Now()
	_, err := l.Peer.Write(make([]byte, n))
	l.Must(err)
	l.Wait("received", func(s liveness.Status) bool { return s.Unread == want })
}

// Wait waits until the status is as wanted.
func (l *Line) Wait(what string, ok func(liveness.Status) bool) liveness.Status {
	l.Helper()
	var status liveness.Status
	Until(l.TB, what, func() bool { status = l.Conn.Status(); return ok(status) })
	return status
}

// WaitState waits for a state.
func (l *Line) WaitState(state liveness.State) liveness.Status {
	l.Helper()
	return l.Wait(state.String(), func(s liveness.Status) bool { return s.State == state })
}

// Acknowledged waits until nothing is in flight.
func (l *Line) Acknowledged() {
	l.Helper()
	l.Wait("acknowledged", func(s liveness.Status) bool { return s.Unacked == 0 })
}

// lastStandstill returns when a goroutine of this process last woke up far too late, in nanoseconds since 1970.
var lastStandstill = sync.OnceValue(func() *atomic.Int64 {
	last := new(atomic.Int64)
	go func() {
		const pace = 100 * time.Millisecond
		for before := time.Now(); ; {
			time.Sleep(pace)
			now := time.Now()
			if now.Sub(before) > pace+watch.Late/2 {
				last.Store(now.UnixNano())
			}
			before = now
		}
	}()
	return last
})

// AwaitBy receives what must come at most Late after by. If the process stood still after began, the library took the
// evidence from before for void, and its time-outs began anew.
func AwaitBy[T any](from <-chan T, began, by time.Time) (value T, ok bool) {
	lastStandstill()
	for limit := by.Add(Late); ; {
		select {
		case value = <-from:
			return value, true
		case <-time.After(time.Until(limit)):
		}
		stood := time.Unix(0, lastStandstill().Load())
		if limit = stood.Add(by.Sub(began) + Late); stood.Before(began) || time.Now().After(limit) {
			return value, false
		}
	}
}

// Ends waits for the end, which must have this reason, and come neither before notBefore
// nor more than Late after by.
func (l *Line) Ends(reason error, notBefore, by time.Time) liveness.Status {
	l.Helper()
	at, ok := AwaitBy(l.ended, l.Wrapped, by)
	if !ok {
		l.Fatalf("nothing was reported %v after the end was due; want %v: %+v", Late, reason, l.Conn.Status())
	}
	err, status := l.Conn.Err(), l.Conn.Status()
	if !errors.Is(err, reason) {
		l.Fatalf("reported %v; want %v", err, reason)
	}
	if at.Before(notBefore) {
		l.Errorf("reported %v too early: %v", notBefore.Sub(at), err)
	}
	if status.State != liveness.Disconnected || status.Err != err {
		l.Errorf("the status is %+v, Err is %v", status, err)
	}
	l.Logf("%.2f s before it was due: %v", by.Sub(at).Seconds(), err)
	return status
}

// Ended waits for the end, whatever it is.
func (l *Line) Ended() error {
	l.Helper()
	Await(l.TB, l.Conn.Done())
	return l.Conn.Err()
}

// Lives checks that nothing has ended.
func (l *Line) Lives() {
	l.Helper()
	if !l.Conn.Alive() {
		l.Fatalf("ended: %v; %+v", l.Conn.Err(), l.Conn.Status())
	}
}

// LivesFor checks that nothing ends for a while.
func (l *Line) LivesFor(d time.Duration) {
	l.Helper()
	select {
	case <-l.Conn.Done():
	case <-time.After(d):
	}
	l.Lives()
}

// Refuses checks that what waited in Read and Write has returned the verdict, and that every
// later Read and Write does. Nothing of it is a time-out, or loops that retry would not end.
func (l *Line) Refuses(reason error) {
	l.Helper()
	for name, waited := range map[string]chan error{"read": l.reader, "write": l.writer} {
		if waited != nil {
			err := Await(l.TB, waited)
			waited <- err
			l.IsVerdict(name, err, reason)
		}
	}
	for range 2 {
		_, err := io.Copy(io.Discard, struct{ io.Reader }{l.Conn}) // past what was received before
		l.IsVerdict("read", err, reason)
		_, err = l.Conn.Write(make([]byte, 1))
		l.IsVerdict("write", err, reason)
	}
}

// IsVerdict checks the error of a Read or a Write after a verdict.
func (l *Line) IsVerdict(op string, err, reason error) {
	l.Helper()
	oe, ok := err.(*net.OpError)
	if !ok || oe.Op != op || !errors.Is(err, reason) {
		l.Errorf("%s returned %v (%T); want %v in a *net.OpError", op, err, err, reason)
	} else if oe.Timeout() || oe.Temporary() || errors.Is(err, os.ErrDeadlineExceeded) {
		l.Errorf("%s returned %v, on which a loop that retries would not end", op, err)
	}
}

// Again calls f until it reports that it kept its own times, on which its verdict depends:
// an outage, say, that was to be shorter than a time-out. It fails the test if f never does.
func Again(tb testing.TB, f func() (valid bool)) {
	tb.Helper()
	for range 5 {
		if f() {
			return
		}
	}
	tb.Fatal("five attempts took longer between two steps than the test allows")
}
