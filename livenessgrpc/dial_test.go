package livenessgrpc_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenessgrpc"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// dialOptions are both modes.
var dialOptions = map[string]func(*liveness.Config) grpc.DialOption{
	"wrapped": livenessgrpc.DialOption,
	"watched": livenessgrpc.WatchDialOption,
}

// A keeper keeps what its listener has accepted.
type keeper struct {
	net.Listener
	accepted chan net.Conn
}

func (k *keeper) Accept() (net.Conn, error) {
	conn, err := k.Listener.Accept()
	if err == nil {
		k.accepted <- conn
	}
	return conn, err
}

func TestClientFindsAServerThatVanished(t *testing.T) {
	for name, option := range dialOptions {
		for _, sec := range securities(t)[:2] {
			t.Run(name+"/"+sec.name, func(t *testing.T) {
				t.Parallel()
				l := &keeper{listen(t, "tcp"), make(chan net.Conn, 9)}
				s := serve(t, l, sec)
				ends, group := make(chan error, 9), &liveness.Group{}
				conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(sec.client), option(&liveness.Config{
					PeerTimeout:  peerTimeout,
					Group:        group,
					OnDisconnect: func(_ *liveness.Conn, err error) { ends <- err },
				}))
				require.NoError(t, err)
				defer conn.Close()
				result := make(chan error, 1)
				go func() {
					_, err := testpb.NewTestServiceClient(conn).UnaryCall(context.Background(), &testpb.SimpleRequest{})
					result <- err
				}()
				s.next(t)
				accepted := <-l.accepted
				for live := range group.Conns() {
					cut(t, accepted, live)
				}
				start := time.Now()
				select {
				case err = <-result:
				case <-time.After(patience):
					require.Fail(t, "the call goes on")
				}
				assert.Equal(t, codes.Unavailable, status.Code(err))
				assert.Less(t, time.Since(start), peerTimeout*5/4+2*time.Second)
				end := <-ends
				if name == "watched" && errors.Is(end, net.ErrClosed) {
					t.Log("gRPC has read the time-out of the kernel first")
				} else {
					assert.ErrorIs(t, end, liveness.ErrPeerLost)
				}
				t.Log(err)
			})
		}
	}
}

func TestClientTargets(t *testing.T) {
	for name, option := range dialOptions {
		for _, network := range []string{"tcp", "unix", "abstract"} {
			t.Run(name+"/"+network, func(t *testing.T) {
				sec := insecureTCP(t)
				group := &liveness.Group{}
				target := "passthrough:///"
				var l net.Listener
				if network == "abstract" {
					var err error
					if l, err = net.Listen("unix", "@liveness-"+name); err != nil {
						t.Skipf("no abstract names here: %v", err)
					}
					target = "unix-abstract:liveness-" + name
				} else {
					l = listen(t, network)
					if network == "unix" {
						target = "unix:"
					}
					target += l.Addr().String()
				}
				serve(t, l, sec)
				conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(sec.client), option(&liveness.Config{Group: group}))
				require.NoError(t, err)
				defer conn.Close()
				_, err = testpb.NewTestServiceClient(conn).EmptyCall(context.Background(), &testpb.Empty{})
				require.NoError(t, err)
				assert.Equal(t, uint64(1), group.Stats().Wrapped)
			})
		}
	}
}

func TestClientWithAConfigThatCannotBeKept(t *testing.T) {
	for _, option := range dialOptions {
		sec := insecureTCP(t)
		s := serve(t, listen(t, "tcp"), sec)
		conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(sec.client), option(&liveness.Config{PeerTimeout: 1}))
		require.NoError(t, err)
		_, err = testpb.NewTestServiceClient(conn).EmptyCall(context.Background(), &testpb.Empty{})
		assert.Equal(t, codes.Unavailable, status.Code(err))
		assert.Contains(t, err.Error(), "PeerTimeout")
		conn.Close()
	}
}
