package livenessgrpc_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenessgrpc"
	"github.com/go-liveness/liveness/livenesstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// peerTimeout is the shortest there is.
const peerTimeout = 4 * time.Second

// An ending is one way in which a client goes away.
type ending struct {
	name string
	want error
	end  func(testing.TB, *client, *call)
}

var endings = []ending{
	{"FIN", liveness.ErrPeerClosed, func(t testing.TB, c *client, _ *call) {
		c.gate.stopReading() // Close of the peer reads what is left
		require.NoError(t, c.peer.Close())
	}},
	{"RST", liveness.ErrPeerReset, reset},
	{"lost", liveness.ErrPeerLost, func(t testing.TB, c *client, stream *call) {
		live, ok := liveness.FromContext(stream.ctx)
		require.True(t, ok)
		cut(t, c.peer, live)
	}},
}

// cut pulls the cable between both ends of a connection.
func cut(t testing.TB, ends ...net.Conn) {
	_, err := livenesstest.Cut(ends...)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("no cable to cut: %v", err)
	}
	require.NoError(t, err)
}

// reset ends a connection by a RST. On AF_UNIX that takes a peer with unread data.
func reset(t testing.TB, c *client, stream *call) {
	err := c.peer.Reset()
	if !errors.Is(err, errors.ErrUnsupported) {
		require.NoError(t, err)
		return
	}
	c.gate.stopReading()
	require.Eventually(t, func() bool {
		return stream.send() == nil && c.peer.Reset() == nil
	}, patience, time.Millisecond)
}

// each runs f for every kind of credentials and every ending that they have.
func each(t *testing.T, f func(*testing.T, security, ending)) {
	for _, sec := range securities(t) {
		for _, e := range endings {
			if sec.network == "unix" && e.name == "lost" {
				continue // there is no cable
			}
			t.Run(sec.name+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				f(t, sec, e)
			})
		}
	}
}

// connections of each kind: 2 handlers each, for 8 kinds, make 192.
const connections = 12

func TestContextsOfHandlersEndWithTheReasonEveryTime(t *testing.T) {
	each(t, func(t *testing.T, sec security, e ending) {
		cfg := &liveness.Config{}
		if sec.network == "tcp" {
			cfg.PeerTimeout = peerTimeout
		}
		s := serve(t, livenessgrpc.NewListener(listen(t, sec.network), cfg), sec)
		for i, c := range startAndEnd(t, s, e) {
			require.ErrorIs(t, c.cause(t), e.want, "handler %d", i)
			live, ok := liveness.FromContext(c.ctx)
			require.True(t, ok)
			assert.Equal(t, live.Err(), context.Cause(c.ctx))
		}
	})
}

func TestWatchedContextsNeverEndWithAWrongReason(t *testing.T) {
	each(t, func(t *testing.T, sec security, e ending) {
		cfg := &liveness.Config{}
		if sec.network == "tcp" {
			cfg.PeerTimeout = peerTimeout
		}
		s := serve(t, livenessgrpc.WatchListener(listen(t, sec.network), cfg), sec)
		known, calls := 0, startAndEnd(t, s, e)
		for i, c := range calls {
			cause := c.cause(t)
			_, ok := liveness.FromContext(c.ctx)
			require.True(t, ok)
			resetReadByGRPC := sec.network == "unix" && e.want == liveness.ErrPeerReset &&
				errors.Is(cause, liveness.ErrPeerClosed)
			if errors.Is(cause, e.want) {
				known++
			} else if !resetReadByGRPC && liveness.ReasonOf(cause) != liveness.ReasonLocal {
				require.Equal(t, context.Canceled, cause, "handler %d", i)
			}
		}
		t.Logf("reason known in %d of %d handlers", known, len(calls))
	})
}

// startAndEnd returns the handlers of connections that end.
func startAndEnd(t *testing.T, s *server, e ending) (calls []*call) {
	var ends []func()
	for range connections {
		c := s.dial(t)
		started := s.start(t, c)
		calls = append(calls, started...)
		ends = append(ends, func() { e.end(t, c, started[1]) })
	}
	for _, end := range ends {
		end()
	}
	return calls
}

func TestWatchedTimeoutsOfTheLibraryHaveTheirReasonEveryTime(t *testing.T) {
	s := serve(t, livenessgrpc.WatchListener(listen(t, "tcp"), &liveness.Config{ReadIdleTimeout: time.Second}), insecureTCP(t))
	for i, c := range startAndEnd(t, s, ending{end: func(testing.TB, *client, *call) {}}) {
		require.ErrorIs(t, c.cause(t), liveness.ErrPeerIdle, "handler %d", i)
	}
}

func TestCutCableEndsASendingHandlerInTime(t *testing.T) {
	for name, listener := range listeners {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sec := insecureTCP(t)
			s := serve(t, listener(listen(t, "tcp"), &liveness.Config{PeerTimeout: peerTimeout}), sec)
			c := s.dial(t)
			stream := s.start(t, c)[1]
			sent := make(chan int, 1)
			go func() {
				n := 0
				for stream.ctx.Err() == nil && stream.send() == nil {
					n++
					time.Sleep(20 * time.Millisecond)
				}
				sent <- n
			}()
			time.Sleep(200 * time.Millisecond) // data in flight
			live, _ := liveness.FromContext(stream.ctx)
			cut(t, c.peer, live)
			start := time.Now()
			require.ErrorIs(t, stream.cause(t), liveness.ErrPeerLost)
			took := time.Since(start)
			t.Logf("found after %v", took)
			assert.Greater(t, took, peerTimeout-time.Second)
			assert.Less(t, took, peerTimeout*5/4+2*time.Second)
			assert.Positive(t, <-sent) // the handler's Send fails too
		})
	}
}
