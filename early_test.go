package liveness_test

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// A controlledConn has hooks around what the library does with its descriptor.
type controlledConn struct {
	*net.TCPConn
	calls         atomic.Int64
	before, after atomic.Pointer[func()]
}

type controlledRaw struct {
	syscall.RawConn
	conn *controlledConn
}

func (c *controlledConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	return &controlledRaw{raw, c}, err
}

func (r *controlledRaw) Control(f func(uintptr)) error {
	r.conn.calls.Add(1)
	if wait := r.conn.before.Load(); wait != nil {
		(*wait)()
	}
	err := r.RawConn.Control(f)
	if wait := r.conn.after.Load(); wait != nil {
		(*wait)()
	}
	return err
}

// TestFINThatComesWhileWrapRunsIsNotLost: Wrap samples the connection once, and a FIN may arrive right after that. The poller
// tells of it once.
func TestFINThatComesWhileWrapRunsIsNotLost(t *testing.T) {
	testutil.NeedsNotices(t)
	for name, how := range map[string]func(net.Conn, *liveness.Config) (*liveness.Conn, error){"Wrap": liveness.Wrap, "Watch": liveness.Watch} {
		t.Run(name, func(t *testing.T) {
			testutil.Deadline(t)
			conn, peer := livenesstest.Pair(t, "tcp4")
			other, otherPeer := livenesstest.Pair(t, "tcp4")
			o := wrap(t, other, nil)
			hooked := &controlledConn{TCPConn: conn.(*net.TCPConn)}
			after := func() {
				hooked.after.Store(nil) // once
				testutil.Must(t, peer.CloseWrite())
				time.Sleep(10 * time.Millisecond)
				testutil.Must(t, otherPeer.CloseWrite())
				testutil.Await(t, o.Done()) // the hub is past the first FIN
			}
			hooked.after.Store(&after)
			c, err := how(hooked, &liveness.Config{PeerTimeout: time.Minute})
			testutil.Must(t, err)
			t.Cleanup(func() { c.Close() })
			testutil.Await(t, c.Done())
			if err := c.Err(); !errors.Is(err, liveness.ErrPeerClosed) {
				t.Error(err)
			}
		})
	}
}

// The kernel shows the FIN, and then the RST that follows it. A check in between sees the one or the other.
func TestCheckBetweenFINAndRSTSeesAnEnd(t *testing.T) {
	testutil.Deadline(t)
	for range 100 {
		conn, peer := livenesstest.Pair(t, "tcp4")
		testutil.Must(t, peer.CloseWrite())
		testutil.Until(t, "the FIN", func() bool { return liveness.Check(conn) != nil })
		reset := make(chan error, 1)
		go func() { reset <- peer.Reset() }()
		for n, over := 0, false; n < 20; {
			if liveness.Check(conn) == nil {
				t.Fatal("alive after a FIN")
			}
			select {
			case err := <-reset:
				testutil.Must(t, err)
				over = true
			default:
			}
			if over {
				n++
			}
		}
		conn.Close()
	}
}
