package livenessgrpc_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-liveness/liveness/livenessgrpc"
	"github.com/go-liveness/liveness/livenesstest"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// patience bounds every wait, for a machine that has much else to do.
const patience = 30 * time.Second

// A call is a handler that runs, as its context shows it.
type call struct {
	ctx  context.Context
	done chan struct{} // closed when the handler is to return
	send func() error  // nil in a unary handler
}

// cause waits for the end of the context.
func (c *call) cause(t testing.TB) error {
	t.Helper()
	select {
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	case <-time.After(patience):
		require.FailNow(t, "the handler's context did not end")
		return nil
	}
}

// A service reports its calls, and lets them wait for their context.
type service struct {
	testpb.UnimplementedTestServiceServer
	calls chan *call
}

func (s *service) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	return &testpb.Empty{}, nil
}

func (s *service) wait(ctx context.Context, send func() error) error {
	c := &call{ctx: ctx, done: make(chan struct{}), send: send}
	s.calls <- c
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return nil
	}
}

func (s *service) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{}, s.wait(ctx, nil)
}

func (s *service) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	return s.wait(stream.Context(), func() error {
		return stream.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, 1000)}})
	})
}

// A server is a gRPC server of the service, and how to connect to it.
type server struct {
	*service
	*grpc.Server
	network, address string
	client           credentials.TransportCredentials
}

// A security is one kind of credentials, on one kind of socket.
type security struct {
	name, network  string
	server, client credentials.TransportCredentials
}

func securities(t testing.TB) []security {
	serverTLS, clientTLS, err := livenesstest.TLSConfig()
	require.NoError(t, err)
	return []security{
		{"insecure", "tcp", insecure.NewCredentials(), insecure.NewCredentials()},
		{"TLS", "tcp", credentials.NewTLS(serverTLS.Clone()), credentials.NewTLS(clientTLS.Clone())},
		{"AF_UNIX", "unix", insecure.NewCredentials(), insecure.NewCredentials()},
	}
}

// listen listens on loopback.
func listen(t testing.TB, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "live") // t.TempDir may be too long for a path of AF_UNIX
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		address = filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	return l
}

// serve starts a server on l, which stops at the end of the test.
func serve(t testing.TB, l net.Listener, sec security, options ...grpc.ServerOption) *server {
	t.Helper()
	options = append([]grpc.ServerOption{livenessgrpc.ServerOption(), grpc.Creds(sec.server)}, options...)
	s := &server{
		service: &service{calls: make(chan *call, 1000)},
		Server:  grpc.NewServer(options...),
		network: l.Addr().Network(), address: l.Addr().String(), client: sec.client,
	}
	testpb.RegisterTestServiceServer(s.Server, s.service)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		require.NoError(t, <-served)
	})
	return s
}

// A client is a gRPC client that hangs on one connection, which the test ends.
type client struct {
	testpb.TestServiceClient
	conn *grpc.ClientConn
	peer *livenesstest.Peer
	gate *gate
}

// A gate is a client's connection that can stop reading.
type gate struct {
	net.Conn
	shut   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (g *gate) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		select {
		case <-g.shut:
			<-g.closed
		default:
		}
	}
	return n, err
}

func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	select {
	case <-g.shut:
		return nil
	default:
		return g.Conn.Close()
	}
}

// stopReading leaves what comes from now on in the socket, and its end to the test.
func (g *gate) stopReading() {
	close(g.shut)
	g.Conn.SetReadDeadline(time.Unix(1, 0))
}

// dial connects a client. It connects once: what comes after the end is no part of a test.
func (s *server) dial(t testing.TB) *client {
	t.Helper()
	c := &client{}
	var mu sync.Mutex
	dialer := func(ctx context.Context, _ string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if c.gate != nil {
			return nil, errors.New("one connection is enough")
		}
		conn, err := new(net.Dialer).DialContext(ctx, s.network, s.address)
		if err != nil {
			return nil, err
		}
		c.peer = livenesstest.NewPeer(conn)
		c.gate = &gate{Conn: conn, shut: make(chan struct{}), closed: make(chan struct{})}
		return c.gate, nil
	}
	var err error
	c.conn, err = grpc.NewClient("passthrough:///localhost",
		grpc.WithContextDialer(dialer), grpc.WithTransportCredentials(s.client))
	require.NoError(t, err)
	t.Cleanup(func() { c.conn.Close() })
	c.TestServiceClient = testpb.NewTestServiceClient(c.conn)
	_, err = c.EmptyCall(context.Background(), &testpb.Empty{})
	require.NoError(t, err)
	return c
}

// calls starts a unary and a streaming call and returns their handlers.
func (s *server) start(t testing.TB, c *client) []*call {
	t.Helper()
	go c.UnaryCall(context.Background(), &testpb.SimpleRequest{})
	calls := []*call{s.next(t)}
	_, err := c.FullDuplexCall(context.Background())
	require.NoError(t, err)
	return append(calls, s.next(t))
}

func (s *server) next(t testing.TB) *call {
	t.Helper()
	select {
	case c := <-s.calls:
		return c
	case <-time.After(patience):
		require.FailNow(t, "no handler was called")
		return nil
	}
}

// insecureTCP is for tests that do not depend on credentials.
func insecureTCP(t testing.TB) security { return securities(t)[0] }
