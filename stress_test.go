package liveness_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// stressLength is how long TestStress runs, unless LIVENESS_STORM says otherwise.
const stressLength = time.Second

// A stressLife is one connection of TestStress.
type stressLife struct {
	conn   *liveness.Conn
	peer   *livenesstest.Peer
	end    *stressEnd
	half   bool
	heard  chan error   // by Config.OnDisconnect
	others atomic.Int32 // calls of OnDisconnect
	first  error
	ctx    context.Context
	wait   sync.WaitGroup // for who else uses it
}

// A stressEnd ends a connection, and says which reasons are right for that.
type stressEnd struct {
	name string
	act  func(*stressLife)
	want []error
}

var stressEnds = []stressEnd{
	{"FIN", func(l *stressLife) { l.peer.CloseWrite(); l.finish() }, []error{liveness.ErrPeerClosed}},
	{"FIN behind data", func(l *stressLife) { l.peer.Write(message); l.peer.CloseWrite(); l.finish() }, []error{liveness.ErrPeerClosed}},
	{"RST", func(l *stressLife) { l.peer.Reset() }, []error{liveness.ErrPeerReset}},
	{"RST behind data", func(l *stressLife) { l.peer.Write(message); l.peer.Reset() }, []error{liveness.ErrPeerReset}},
	{"RST behind FIN", func(l *stressLife) { l.peer.CloseWrite(); l.peer.Reset() }, []error{liveness.ErrPeerReset, liveness.ErrPeerClosed}},
	{"own Close", func(l *stressLife) { l.conn.Close() }, []error{net.ErrClosed}},
	{"own Close twice", func(l *stressLife) { l.together(func() { l.conn.Close() }) }, []error{net.ErrClosed}},
	{"own Close and FIN", func(l *stressLife) { l.together(func() { l.peer.CloseWrite() }) }, []error{net.ErrClosed, liveness.ErrPeerClosed}},
	{"own Close and RST", func(l *stressLife) { l.together(func() { l.peer.Reset() }) }, []error{net.ErrClosed, liveness.ErrPeerReset}},
	{"Close of NetConn", func(l *stressLife) { l.conn.NetConn().Close(); l.conn.Alive() }, []error{net.ErrClosed}},
}

// finish closes our half too, where the peer's alone does not end the connection.
func (l *stressLife) finish() {
	for l.half && l.conn.Alive() && l.conn.Status().State != liveness.HalfClosed {
		runtime.Gosched()
	}
	if l.half {
		l.conn.CloseWrite()
	}
}

func (l *stressLife) together(f func()) {
	l.wait.Go(f)
	l.conn.Close()
}

// TestStress opens, uses and ends connections as fast as the kernel gives their descriptors to others, and goes on calling the
// methods of dead ones. Each end must be reported once, with a reason that is right for it, to those who asked and no other.
func TestStress(t *testing.T) {
	testutil.Deadline(t)
	testutil.NeedsNotices(t)
	if testutil.Wine() {
		t.Skip("Wine forgets a reset once a Read or Write has its errno")
	}
	length := stressLength
	if s := os.Getenv("LIVENESS_STORM"); s != "" {
		var err error
		length, err = time.ParseDuration(s)
		testutil.Must(t, err)
	}
	seed, end := rand.Uint64(), time.Now().Add(length)
	var workers sync.WaitGroup
	var made atomic.Int64
	for i := range 4 {
		l := testutil.Listen(t, "tcp4")
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			var dead []*stressLife
			for time.Now().Before(end) && !t.Failed() {
				life := newStressLife(t, rng, l)
				if life == nil {
					return
				}
				life.play(t, rng)
				if dead = append(dead, life); len(dead) > 16 {
					dead = slices.Delete(dead, 0, 1)
				}
				dead[rng.IntN(len(dead))].lateCall(t, rng.IntN(8))
				made.Add(1)
			}
		})
	}
	workers.Wait()
	if t.Logf("seed %#x: %d connections", seed, made.Load()); made.Load() == 0 {
		t.Error("no connection")
	}
}

func newStressLife(t *testing.T, rng *rand.Rand, listener net.Listener) *stressLife {
	l := &stressLife{end: &stressEnds[rng.IntN(len(stressEnds))], half: rng.IntN(3) == 0, heard: make(chan error, 4)}
	peer, err := livenesstest.Dial("tcp4", listener.Addr().String())
	if err != nil {
		t.Error(err)
		return nil
	}
	l.peer = peer
	bare, err := listener.Accept()
	if err == nil && rng.IntN(4) == 0 {
		bare = foreignConn{bare.(*net.TCPConn)}
	}
	if err == nil {
		l.conn, err = liveness.Wrap(bare, &liveness.Config{AllowHalfClose: l.half, OnDisconnect: func(_ *liveness.Conn, err error) { l.heard <- err }})
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	return l
}

// play uses the connection, ends it, and checks what is reported.
func (l *stressLife) play(t *testing.T, rng *rand.Rand) {
	c := l.conn
	stopped := c.OnDisconnect(func(error) { t.Errorf("%s: called, and stopped before", l.end.name) })
	c.OnDisconnect(func(error) { l.others.Add(1) })
	ctx, cancel := c.Context(context.Background())
	l.ctx = ctx
	t.Cleanup(cancel)
	if !stopped() || !c.Alive() || c.Err() != nil || liveness.Check(c) != nil || c.Status().Err != nil {
		t.Errorf("%s: not alive at the beginning: %v", l.end.name, c.Err())
	}
	if rng.IntN(2) == 0 {
		l.wait.Go(func() {
			if _, err := io.Copy(io.Discard, c); err == nil && l.end.want[0] == liveness.ErrPeerReset && len(l.end.want) == 1 {
				t.Errorf("%s: a stream that was cut off was read to its end", l.end.name)
			}
		})
	}
	if rng.IntN(2) == 0 {
		l.wait.Go(func() {
			for c.Alive() {
				runtime.Gosched()
			}
			if c.Err() == nil {
				t.Errorf("%s: not Alive, and no Err", l.end.name)
			}
		})
	}
	l.end.act(l)
	select {
	case l.first = <-l.heard:
	case <-time.After(time.Minute / 2):
		t.Errorf("%s, half-close %t: not reported", l.end.name, l.half)
	}
	if !slices.ContainsFunc(l.end.want, func(reason error) bool { return errors.Is(l.first, reason) }) {
		t.Errorf("%s, half-close %t: reported %v, want one of %v", l.end.name, l.half, l.first, l.end.want)
	}
	c.SetReadDeadline(time.Unix(1, 0)) // a half-closed peer sends nothing more
	l.wait.Wait()
	c.Close()
	if l.peer.Reset() != nil { // leaves no TIME-WAIT
		l.peer.Close()
	}
}

// lateCall calls a method of a dead connection, whose descriptor may be another's by now.
func (l *stressLife) lateCall(t *testing.T, n int) {
	c := l.conn
	switch n {
	case 0:
		c.Close()
	case 1:
		c.NetConn().Close()
	case 2:
		c.CloseWrite()
		c.CloseRead()
	case 3:
		heard := make(chan error, 1)
		if c.OnDisconnect(func(err error) { heard <- err })() || <-heard != l.first {
			t.Errorf("%s: OnDisconnect after the end", l.end.name)
		}
	case 4:
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: Read after Close", l.end.name)
		}
	}
	<-l.ctx.Done()
	for l.others.Load() == 0 {
		runtime.Gosched()
	}
	if c.Alive() || c.Err() != l.first || liveness.Check(c) != l.first || c.Status().Err != l.first || context.Cause(l.ctx) != l.first || len(l.heard) > 0 || l.others.Load() != 1 {
		t.Errorf("%s: after the end Err() = %v, it was %v; cause %v, %d calls more", l.end.name, c.Err(), l.first, context.Cause(l.ctx), len(l.heard))
	}
}
