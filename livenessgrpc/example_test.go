package livenessgrpc_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenessgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// A server whose handlers end with their client.
func ExampleNewListener() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(livenessgrpc.ServerOption())
	time.AfterFunc(10*time.Millisecond, server.GracefulStop)
	err = server.Serve(livenessgrpc.NewListener(l, &liveness.Config{PeerTimeout: time.Minute}))
	fmt.Println(err)
	// Output: <nil>
}

// A handler that says why it ended.
func ExampleServerOption() {
	handler := func(ctx context.Context) error {
		<-ctx.Done()
		if c, ok := liveness.FromContext(ctx); ok && c.Err() != nil {
			log.Printf("%v: %s", c.RemoteAddr(), liveness.ReasonOf(context.Cause(ctx)))
		}
		return ctx.Err()
	}
	_ = handler
}

// A client whose calls fail within PeerTimeout if the server vanishes.
func ExampleDialOption() {
	conn, err := grpc.NewClient("dns:///example.com:443",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		livenessgrpc.DialOption(&liveness.Config{PeerTimeout: time.Minute}))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
}
