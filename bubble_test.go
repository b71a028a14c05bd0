package liveness_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// A pipeEnd is one way in which a connection without a socket ends.
type pipeEnd struct {
	name string
	cfg  liveness.Config
	act  func(t *testing.T, c *liveness.Conn, peer net.Conn)
	want error
}

var pipeEnds = []pipeEnd{
	{"end of file", liveness.Config{}, func(t *testing.T, c *liveness.Conn, peer net.Conn) {
		go func() { peer.Write(message); peer.Close() }()
		if got := testutil.ReadAll(c); got.Err != io.EOF || !bytes.Equal(got.Data, message) {
			t.Errorf("read %d bytes and %v", len(got.Data), got.Err)
		}
	}, liveness.ErrPeerClosed},
	{"Write to what was closed", liveness.Config{}, func(t *testing.T, c *liveness.Conn, peer net.Conn) {
		peer.Close()
		if _, err := c.Write(message); err != io.ErrClosedPipe {
			t.Errorf("Write = %v", err)
		}
	}, liveness.ErrPeerClosed},
	{"own Close", liveness.Config{}, func(t *testing.T, c *liveness.Conn, _ net.Conn) {
		read := testutil.GoReadAll(c)
		synctest.Wait()
		c.Close()
		if got := <-read; got.Err != io.ErrClosedPipe {
			t.Errorf("Read = %v", got.Err)
		}
	}, net.ErrClosed},
	{"deadline", liveness.Config{PeerTimeout: time.Minute}, func(t *testing.T, c *liveness.Conn, peer net.Conn) {
		c.SetDeadline(time.Now().Add(time.Hour))
		if got := testutil.ReadAll(c); !isDeadline(got.Err) || !c.Alive() {
			t.Errorf("Read = %v, Err() = %v", got.Err, c.Err())
		}
		c.SetDeadline(time.Time{})
		go peer.Close()
		testutil.ReadAll(c)
	}, liveness.ErrPeerClosed},
	{"half-close allowed", liveness.Config{AllowHalfClose: true}, func(t *testing.T, c *liveness.Conn, peer net.Conn) {
		go peer.Close()
		testutil.ReadAll(c)
		if status := c.Status(); !c.Alive() || status.State != liveness.HalfClosed {
			t.Errorf("Status() = %+v", status)
		}
		c.Write(message)
	}, liveness.ErrPeerClosed},
	{"read idle", liveness.Config{ReadIdleTimeout: time.Minute}, func(t *testing.T, c *liveness.Conn, peer net.Conn) {
		began := time.Now()
		isVerdict(t, "Read", testutil.ReadAll(c).Err, liveness.ErrPeerIdle)
		if took := time.Since(began); took < time.Minute || took > 66*time.Second+100*time.Millisecond {
			t.Errorf("ErrPeerIdle after %v", took)
		}
	}, liveness.ErrPeerIdle},
	{"copies", liveness.Config{}, func(t *testing.T, c *liveness.Conn, peer net.Conn) {
		a, b := net.Pipe()
		to := wrap(t, a, nil)
		go func() { peer.Write(message); peer.Close() }()
		go func() { io.Copy(to, c); to.Close() }()
		if got := testutil.ReadAll(b); !bytes.Equal(got.Data, message) {
			t.Errorf("copied %d bytes", len(got.Data))
		}
	}, liveness.ErrPeerClosed},
}

// TestPipeEndsAsItsReadsAndWritesShow has no socket at all, and runs in a bubble, whose clock and goroutines are its own.
func TestPipeEndsAsItsReadsAndWritesShow(t *testing.T) {
	for _, c := range pipeEnds {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer theirs.Close()
				if err := liveness.Check(ours); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("Check = %v", err)
				}
				w := &witness{T: t, conn: wrap(t, ours, &c.cfg)}
				heard := make(chan error, 2)
				w.conn.OnDisconnect(func(err error) { heard <- err })
				ctx, cancel := w.conn.Context(context.Background())
				defer cancel()
				if !w.conn.Alive() || w.conn.Err() != nil || w.conn.Status() != (liveness.Status{}) {
					t.Errorf("Err() = %v, Status() = %+v", w.conn.Err(), w.conn.Status())
				}
				c.act(t, w.conn, theirs)
				synctest.Wait()
				w.checkError(w.conn.Err(), c.want)
				if err := <-heard; err != w.conn.Err() || context.Cause(ctx) != err || w.conn.Alive() {
					t.Errorf("reported %v, cause %v, Err() = %v", err, context.Cause(ctx), w.conn.Err())
				}
				w.conn.Close()
			})
		})
	}
}

// TestSocketsWorkInABubble makes, ends and closes connections inside of one, in a process that used the hub before, uses it
// meanwhile, and uses it again.
func TestSocketsWorkInABubble(t *testing.T) {
	t.Parallel()
	testutil.NeedsNotices(t)
	if !testutil.Alone(t) {
		return
	}
	outside, outsidePeer := livenesstest.Pair(t, "tcp4")
	before := watch(t, outside, liveness.Config{ReadIdleTimeout: time.Hour})
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			for _, cfg := range []*liveness.Config{nil, {PeerTimeout: time.Minute, ReadIdleTimeout: time.Hour, StallTimeout: time.Hour}} {
				conn, peer := testutil.Accept(t, testutil.Listen(t, "tcp4"))
				c := wrap(t, conn, cfg)
				heard := make(chan error, 1)
				c.OnDisconnect(func(err error) { heard <- err })
				peer.Close()
				if <-c.Done(); !errors.Is(<-heard, liveness.ErrPeerClosed) {
					t.Errorf("Err() = %v", c.Err())
				}
				c.Close()
			}
		})
		barrier(t)
	}
	outsidePeer.Close()
	before.ended(liveness.ErrPeerClosed)
}
