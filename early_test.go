package liveness_test

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// A hookedConn calls after once, when its first Control has run, and before that returns.
type hookedConn struct {
	*net.TCPConn
	after func()
}

type hookedRaw struct {
	syscall.RawConn
	c *hookedConn
}

func (c *hookedConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	return hookedRaw{raw, c}, err
}

func (r hookedRaw) Control(f func(uintptr)) error {
	err := r.RawConn.Control(f)
	if after := r.c.after; after != nil {
		r.c.after = nil
		after()
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
			hooked := &hookedConn{conn.(*net.TCPConn), func() {
				testutil.Must(t, peer.CloseWrite())
				time.Sleep(10 * time.Millisecond)
				testutil.Must(t, otherPeer.CloseWrite())
				testutil.Await(t, o.Done()) // the hub is past the first FIN
			}}
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
	for range 300 {
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
