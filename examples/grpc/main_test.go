package main

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/examples/internal/program"
	"github.com/go-liveness/liveness/livenesstest"
)

func TestProgram(t *testing.T) {
	program.NeedEvents(t)
	path := program.Path(program.Build(t, "."), "grpc")
	for name, test := range map[string]struct {
		leave func(t *testing.T, cancel func(), p *livenesstest.Peer)
		words []string
	}{
		"cancel": {func(_ *testing.T, cancel func(), _ *livenesstest.Peer) { cancel() },
			[]string{"gone (): ", context.Canceled.Error()}},
		"close": {func(_ *testing.T, _ func(), p *livenesstest.Peer) { p.CloseWrite() },
			[]string{"gone (closed): ", liveness.ErrPeerClosed.Error()}},
		"reset": {func(_ *testing.T, _ func(), p *livenesstest.Peer) { p.Reset() },
			[]string{"gone (reset): ", liveness.ErrPeerReset.Error()}},
		"cable cut": {func(t *testing.T, _ func(), p *livenesstest.Peer) { program.Cut(t, p) },
			[]string{"gone (lost): ", liveness.ErrPeerLost.Error()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := program.Start(t, path, "-step=50ms", program.PeerTimeout(t, 4*time.Second))
			ctx, cancel := context.WithTimeout(context.Background(), program.Patience)
			defer cancel()
			peers := make(chan *livenesstest.Peer, 10)
			conn, err := grpc.NewClient("passthrough:///"+p.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
					peer, err := livenesstest.Dial("tcp", p.Addr)
					if err == nil {
						peers <- peer
					}
					return peer, err
				}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			stream, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
			p.Expect(t, "watches")
			test.leave(t, cancel, <-peers)
			p.Expect(t, test.words...)
		})
	}
}

// TestClient runs both roles of the program.
func TestClient(t *testing.T) {
	program.NeedEvents(t)
	path := program.Path(program.Build(t, "."), "grpc")
	server := program.Start(t, path, "-step=50ms", program.PeerTimeout(t, time.Minute))
	client := program.Run(t, path, "-client", "-addr="+server.Addr)
	client.Expect(t, "SERVING")
	client.Cmd.Process.Kill()
	server.Expect(t, "gone (")
}
