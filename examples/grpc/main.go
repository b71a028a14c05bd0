// Grpc is a server whose streams log why their client is gone. It serves the health
// service of gRPC, so that no code has to be generated, and calls it itself if asked to:
//
//	go -C examples/grpc run .
//	go -C examples/grpc run . -client    # in another terminal; kill it
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenessgrpc"
)

var (
	addr        = flag.String("addr", "127.0.0.1:7050", "address to listen on, or to connect to")
	client      = flag.Bool("client", false, "be the client")
	step        = flag.Duration("step", time.Second, "time between two messages")
	peerTimeout = flag.Duration("peer-timeout", time.Minute, "time after which a client that vanished is gone")
)

func main() {
	flag.Parse()
	if *client {
		log.Fatal(watch(context.Background()))
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	server := grpc.NewServer(livenessgrpc.ServerOption())
	grpc_health_v1.RegisterHealthServer(server, &health{})
	log.Fatal(server.Serve(livenessgrpc.NewListener(listener, &liveness.Config{PeerTimeout: *peerTimeout})))
}

// health sends its status now and then, and ends with the client.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (*health) Watch(_ *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	ctx := stream.Context()
	from, _ := peer.FromContext(ctx)
	log.Printf("%s: watches", from.Addr)
	for {
		select {
		case <-time.After(*step):
			if err := stream.Send(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}); err != nil {
				return err
			}
		case <-ctx.Done():
			// A client that cancels the call and keeps its connection has no reason here.
			log.Printf("%s: gone (%s): %v", from.Addr, liveness.ReasonOf(context.Cause(ctx)), context.Cause(ctx))
			return ctx.Err()
		}
	}
}

// watch is the client.
func watch(ctx context.Context) error {
	conn, err := grpc.NewClient(*addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		livenessgrpc.DialOption(&liveness.Config{PeerTimeout: *peerTimeout}))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		log.Print(answer.Status)
	}
}
