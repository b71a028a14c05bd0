package livenessgrpc_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenessgrpc"
	"github.com/go-liveness/liveness/livenesstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/local"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// listeners are both modes.
var listeners = map[string]func(net.Listener, *liveness.Config) net.Listener{
	"wrapped": livenessgrpc.NewListener,
	"watched": livenessgrpc.WatchListener,
}

// A spy records the addresses of what a listener accepts and of what gRPC tags.
type spy struct {
	net.Listener
	stats.Handler
	mu               sync.Mutex
	accepted, tagged net.Addr
}

func (s *spy) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err == nil {
		s.mu.Lock()
		s.accepted = conn.RemoteAddr()
		s.mu.Unlock()
	}
	return conn, err
}

func (s *spy) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tagged = info.RemoteAddr
	return ctx
}
func (s *spy) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (s *spy) HandleRPC(context.Context, stats.RPCStats)                       {}
func (s *spy) HandleConn(context.Context, stats.ConnStats)                     {}

// A covering covers connections, as the credentials of a service mesh do.
type covering struct {
	credentials.TransportCredentials
}

func (c covering) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(conn)
	return struct{ net.Conn }{conn}, info, err
}

func (c covering) Clone() credentials.TransportCredentials { return c }

// The addresses of package net and the way that gRPC passes them on are no promise, so this
// test has to notice a change.
func TestTagConnIsGivenTheAddressThatTheConnectionReturns(t *testing.T) {
	kinds := securities(t)
	kinds = append(kinds,
		security{"local", "tcp", local.NewCredentials(), local.NewCredentials()},
		security{"covering", "tcp", covering{kinds[1].server}, kinds[1].client})
	for _, sec := range kinds {
		t.Run(sec.name, func(t *testing.T) {
			spies := make(map[string]*spy)
			for name, listener := range listeners {
				spies[name] = &spy{Listener: listener(listen(t, sec.network), nil)}
			}
			spies["package net"] = &spy{Listener: listen(t, sec.network)}
			for name, s := range spies {
				serve(t, s, sec, grpc.StatsHandler(s)).dial(t)
				s.mu.Lock()
				require.NotNil(t, s.accepted, name)
				assert.Same(t, s.accepted, s.tagged, name)
				s.mu.Unlock()
			}
		})
	}
}

func TestInterceptorsFindTheConnection(t *testing.T) {
	for name, listener := range listeners {
		t.Run(name, func(t *testing.T) {
			found := make(chan *liveness.Conn, 2)
			find := func(ctx context.Context) {
				c, _ := liveness.FromContext(ctx)
				found <- c
			}
			s := serve(t, listener(listen(t, "tcp"), nil), insecureTCP(t),
				grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
					find(ctx)
					return h(ctx, req)
				}),
				grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
					find(ss.Context())
					return h(srv, ss)
				}))
			c := s.dial(t)
			_, err := c.FullDuplexCall(context.Background())
			require.NoError(t, err)
			for range 2 {
				live := <-found
				require.NotNil(t, live)
				assert.Equal(t, c.peer.LocalAddr().String(), live.RemoteAddr().String())
				assert.Equal(t, liveness.Connected, live.Status().State)
			}
		})
	}
}

// A layer covers connections of a listener. With own set their addresses are its own.
type layer struct {
	net.Listener
	own bool
}

type layerConn struct {
	net.Conn
	own bool
}

func (l layer) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &layerConn{conn, l.own}, nil
}

func (c *layerConn) RemoteAddr() net.Addr {
	if !c.own {
		return c.Conn.RemoteAddr()
	}
	addr := *c.Conn.RemoteAddr().(*net.TCPAddr)
	return &addr
}

// PassServerTransport is what gRPC calls on the connections of xds.
func (c *layerConn) PassServerTransport(any) {}

func TestListenersInLayers(t *testing.T) {
	for name, layers := range map[string]func(net.Listener) net.Listener{
		"limit above":          func(l net.Listener) net.Listener { return netutil.LimitListener(livenessgrpc.NewListener(l, nil), 9) },
		"limit beneath":        func(l net.Listener) net.Listener { return livenessgrpc.NewListener(netutil.LimitListener(l, 9), nil) },
		"xds above":            func(l net.Listener) net.Listener { return layer{Listener: livenessgrpc.NewListener(l, nil)} },
		"copied address":       func(l net.Listener) net.Listener { return layer{livenessgrpc.NewListener(l, nil), true} },
		"wrapped already":      func(l net.Listener) net.Listener { return livenessgrpc.NewListener(liveness.NewListener(l, nil), nil) },
		"watched, limit above": func(l net.Listener) net.Listener { return netutil.LimitListener(livenessgrpc.WatchListener(l, nil), 9) },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, layers(listen(t, "tcp")), insecureTCP(t))
			c := s.dial(t)
			for _, call := range s.start(t, c) {
				live, ok := liveness.FromContext(call.ctx)
				require.True(t, ok)
				assert.Equal(t, c.peer.LocalAddr().String(), live.RemoteAddr().String())
			}
		})
	}
}

func TestConnectionsWithoutASocket(t *testing.T) {
	l := bufconn.Listen(1 << 16)
	sec := insecureTCP(t)
	s := serve(t, livenessgrpc.NewListener(l, nil), sec)
	var contexts []context.Context
	var conns []net.Conn
	for range 3 { // all have the same address
		conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(sec.client),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				c, err := l.DialContext(ctx)
				conns = append(conns, c)
				return c, err
			}))
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		go testpb.NewTestServiceClient(conn).UnaryCall(context.Background(), &testpb.SimpleRequest{})
		contexts = append(contexts, s.next(t).ctx)
	}
	require.NoError(t, conns[1].Close())
	<-contexts[1].Done()
	assert.ErrorIs(t, context.Cause(contexts[1]), liveness.ErrPeerClosed)
	assert.NoError(t, contexts[0].Err())
	assert.NoError(t, contexts[2].Err())
}

func TestStopIsALocalEnd(t *testing.T) {
	group := &liveness.Group{}
	s := serve(t, livenessgrpc.NewListener(listen(t, "tcp"), &liveness.Config{Group: group}), insecureTCP(t))
	calls := s.start(t, s.dial(t))
	s.Stop()
	for _, c := range calls {
		assert.ErrorIs(t, c.cause(t), net.ErrClosed)
	}
	assert.Zero(t, group.Stats().Open)
}

func TestGracefulStopWaitsForHandlers(t *testing.T) {
	for name, listener := range listeners {
		t.Run(name, func(t *testing.T) {
			group := &liveness.Group{}
			s := serve(t, listener(listen(t, "tcp"), &liveness.Config{Group: group}), insecureTCP(t))
			calls := s.start(t, s.dial(t))
			stopped := make(chan struct{})
			go func() { s.GracefulStop(); close(stopped) }()
			for _, c := range calls {
				assert.NoError(t, c.ctx.Err())
				close(c.done)
			}
			<-stopped
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			assert.NoError(t, group.Wait(ctx)) // a watched one is noticed within two seconds
		})
	}
}

func TestNoGoroutineIsLeftAfterStop(t *testing.T) {
	for name, listener := range listeners {
		for _, sec := range securities(t) {
			t.Run(name+"/"+sec.name, func(t *testing.T) {
				var cfg liveness.Config
				if sec.network == "tcp" {
					cfg.PeerTimeout = time.Minute
				}
				s := serve(t, listener(listen(t, sec.network), &cfg), sec)
				c := s.dial(t)
				s.start(t, c)
				require.NoError(t, c.conn.Close())
				s.Stop()
				require.Eventually(t, func() bool { return leaked() == "" }, 10*time.Second, 10*time.Millisecond, leaked())
			})
		}
	}
}

// leaked returns the stacks of goroutines of gRPC and of this library. The one that serves
// waits for the end of the test.
func leaked() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var found []string
	for _, stack := range strings.Split(string(buf), "\n\n") {
		own := strings.Contains(stack, "_test.") || strings.Contains(stack, "testing.")
		if !own && (strings.Contains(stack, "go-liveness") || strings.Contains(stack, "google.golang.org/grpc")) {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}

func TestACancelledCallDoesNotEndTheConnection(t *testing.T) {
	s := serve(t, livenessgrpc.NewListener(listen(t, "tcp"), nil), insecureTCP(t))
	c := s.dial(t)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := c.FullDuplexCall(ctx)
	require.NoError(t, err)
	call := s.next(t)
	cancel()
	assert.Equal(t, context.Canceled, call.cause(t))
	live, _ := liveness.FromContext(call.ctx)
	assert.True(t, live.Alive())
	_, err = c.EmptyCall(context.Background(), &testpb.Empty{})
	assert.Equal(t, codes.OK, status.Code(err))
}

func TestConfigThatCannotBeKept(t *testing.T) {
	for name, listener := range listeners {
		t.Run(name, func(t *testing.T) {
			pipes := bufconn.Listen(1000)
			tcp := listen(t, "tcp")
			for _, tt := range []struct {
				l           net.Listener
				peerTimeout time.Duration
				dial        func() (net.Conn, error)
				unsupported bool
			}{
				{tcp, time.Second, func() (net.Conn, error) { return net.Dial("tcp", tcp.Addr().String()) }, false},
				{pipes, time.Minute, pipes.Dial, true}, // known only when a connection comes
			} {
				served := make(chan error, 1)
				s := grpc.NewServer(livenessgrpc.ServerOption())
				l := listener(tt.l, &liveness.Config{PeerTimeout: tt.peerTimeout})
				go func() { served <- s.Serve(l) }()
				go tt.dial() // fails where Serve was first to close the listener
				select {
				case err := <-served:
					require.Error(t, err)
					assert.Contains(t, err.Error(), "PeerTimeout")
					assert.Equal(t, tt.unsupported, errors.Is(err, errors.ErrUnsupported))
				case <-time.After(patience):
					require.Fail(t, "Serve goes on")
				}
				s.Stop()
			}
		})
	}
}

func TestCloseAfterAResetIsAReset(t *testing.T) {
	l := livenessgrpc.NewListener(listen(t, "tcp"), nil)
	defer l.Close()
	for range 20 { // gRPC may close for a reason of its own before it reads
		peer, err := livenesstest.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		conn, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, peer.Reset())
		conn.Close()
		live, ok := liveness.From(conn)
		require.True(t, ok)
		require.ErrorIs(t, live.Err(), liveness.ErrPeerReset)
	}
}

func TestConnectionsThatGRPCNeverTagsAreForgotten(t *testing.T) {
	for name, listener := range listeners {
		t.Run(name, func(t *testing.T) {
			s := serve(t, listener(listen(t, "tcp"), nil), insecureTCP(t))
			for range 5 {
				peer, err := livenesstest.Dial("tcp", s.address)
				require.NoError(t, err)
				_, err = peer.Read(make([]byte, 1)) // gRPC's settings: it waits for those of the client
				require.NoError(t, err)
				require.NoError(t, peer.Close())
			}
			require.Eventually(t, func() bool { return livenessgrpc.Pending() == 0 }, patience, 10*time.Millisecond)
		})
	}
}
