package liveness

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness/internal/watch"
)

// TestEventAloneTellsNoMoreThanItKnows: with the descriptor closed, a hang-up without an error may be a RST whose errno the
// application's Read took, so it is no FIN.
func TestEventAloneTellsNoMoreThanItKnows(t *testing.T) {
	for e, want := range map[event]outcome{
		watch.FIN:                               peerFinished,
		watch.FIN | watch.Hangup:                closedLocally,
		watch.FIN | watch.Hangup | watch.Failed: aborted,
		watch.Hangup:                            closedLocally,
		watch.Periodic:                          closedLocally,
	} {
		assert.Equal(t, want, observationOfEvent(e).outcome, "%b", e)
	}
}

// A failingConn has a Control that fails after it has run.
type failingConn struct {
	*net.TCPConn
	err error
}

type failingRaw struct {
	syscall.RawConn
	err error
}

func (c failingConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	return failingRaw{raw, c.err}, err
}

func (r failingRaw) Control(f func(uintptr)) error {
	r.RawConn.Control(f)
	return r.err
}

func TestControlThatFailsLeavesNothingRegistered(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for _, err := range []error{net.ErrClosed, errors.New("no")} {
		conn, dialErr := net.Dial("tcp4", l.Addr().String())
		require.NoError(t, dialErr)
		before := watch.State().Served
		c, _ := Wrap(failingConn{conn.(*net.TCPConn), err}, nil)
		assert.Equal(t, before, watch.State().Served, "%v", err)
		if c != nil {
			c.Close()
		}
		conn.Close()
	}
}
