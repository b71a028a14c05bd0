//go:build linux

package liveness_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// A cable is cut: nothing is sent, and nothing more is heard.
func ExampleErrPeerLost() {
	conn, peer := connect(&liveness.Config{PeerTimeout: 4 * time.Second})
	defer conn.Close()
	defer peer.Close()
	if _, err := livenesstest.Cut(conn, peer); err != nil {
		log.Fatal(err)
	}
	_, err := conn.Read(make([]byte, 1)) // a Read that waits returns with the verdict
	fmt.Println(errors.Is(err, liveness.ErrPeerLost))
	fmt.Println(errors.Is(conn.Err(), liveness.ErrPeerLost))
	// Output:
	// true
	// true
}

// The peer's program hangs, or is slow for ever, while its kernel answers: what we
// write is not taken.
func ExampleErrPeerStalled() {
	conn, peer := connect(&liveness.Config{StallTimeout: 300 * time.Millisecond})
	defer conn.Close()
	defer peer.Close()
	_, err := io.Copy(conn, endless{})
	fmt.Println(errors.Is(err, liveness.ErrPeerStalled))
	// Output: true
}

// endless is a file that does not end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// A client that connects and never says anything.
func ExampleErrPeerIdle() {
	conn, peer := connect(&liveness.Config{ReadIdleTimeout: 100 * time.Millisecond})
	defer conn.Close()
	defer peer.Close()
	_, err := conn.Read(make([]byte, 1))
	fmt.Println(errors.Is(err, liveness.ErrPeerIdle))
	// Output: true
}

// A protocol's own ping finds a program that hangs while its kernel answers for it:
// it is sent when nothing was received for a while, and if nothing comes back in
// three times that, the peer is idle.
func ExampleConn_OnSilence() {
	const patience = 100 * time.Millisecond
	conn, peer := connect(&liveness.Config{ReadIdleTimeout: 3 * patience})
	defer conn.Close()
	defer peer.Close()
	stop := conn.OnSilence(patience, func() { fmt.Fprintln(conn, "PING") })
	defer stop()
	go io.Copy(io.Discard, conn) // the answers

	ping := make([]byte, len("PING\n"))
	io.ReadFull(peer, ping)
	fmt.Printf("the peer was asked: %q\n", ping)
	<-conn.Done() // it does not answer
	fmt.Println(errors.Is(conn.Err(), liveness.ErrPeerIdle))
	// Output:
	// the peer was asked: "PING\n"
	// true
}

// Before something expensive is done for a peer that has been quiet for long, ask
// whether its host still answers.
func ExampleConn_Ping() {
	conn, peer := connect(nil)
	defer conn.Close()
	defer peer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	fmt.Println(conn.Ping(ctx))
	// Output: <nil>
}

// A minute is a usual PeerTimeout. Probes of one's own replace those it would derive.
func ExampleConfig_peerTimeout() {
	conn, peer := connect(&liveness.Config{PeerTimeout: time.Minute})
	defer conn.Close()
	defer peer.Close()
	fmt.Println(conn.Status().DetectWithin <= 76*time.Second) // 1.25 PeerTimeout + 1 s
	// Output: true
}
