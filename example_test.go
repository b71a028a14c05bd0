//go:build linux

// The examples wait for events, which not every system reports.

package liveness_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// An accept loop watches each connection, and logs why its peer is gone.
func ExampleWrap() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		for {
			accepted, err := listener.Accept()
			if err != nil {
				return // the listener is closed
			}
			conn, err := liveness.Wrap(accepted, nil)
			if err != nil {
				accepted.Close() // it is still ours
				continue
			}
			conn.OnDisconnect(func(err error) {
				defer close(gone)
				if errors.Is(err, net.ErrClosed) {
					return // we closed it ourselves
				}
				fmt.Println("closed:", errors.Is(err, liveness.ErrPeerClosed))
				conn.Close()
			})
		}
	}()

	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	client.Close()
	<-gone
	listener.Close()
	// Output: closed: true
}

// A server whose accept loop stays as it is wraps its listener.
func ExampleNewListener() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	gone := make(chan string)
	listener := liveness.NewListener(inner, &liveness.Config{
		PeerTimeout: time.Minute, // finds peers that vanish without a word
		OnDisconnect: func(conn *liveness.Conn, err error) {
			gone <- conn.RemoteAddr().String()
		},
	})
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	client.Close()
	fmt.Println(<-gone == client.LocalAddr().String())
	conn.Close()
	listener.Close()
	// Output: true
}

// A handler's work stops when its client leaves, also while the body of the request is unread.
func ExampleConnContext() {
	working, stopped := make(chan struct{}), make(chan error)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(working)
		<-r.Context().Done()
		stopped <- context.Cause(r.Context())
	}))
	server.Listener = liveness.NewListener(server.Listener, nil)
	server.Config.ConnContext = liveness.ConnContext
	server.Start()
	defer server.Close()

	client, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(client, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nsome of it")
	<-working
	client.Close()
	fmt.Println(errors.Is(<-stopped, liveness.ErrPeerClosed))
	// Output: true
}

// Work in the name of a client stops when the client leaves.
func ExampleConn_Context() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	watched := liveness.NewListener(listener, nil)
	defer watched.Close()
	client, err := net.Dial("tcp", watched.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	conn, err := watched.AcceptConn()
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := conn.Context(context.Background())
	defer cancel()

	client.Close()
	select {
	case <-ctx.Done():
		fmt.Println("stopped:", errors.Is(context.Cause(ctx), liveness.ErrPeerClosed))
	case <-time.After(time.Minute):
		fmt.Fprintln(conn, "the answer")
	}
	// Output: stopped: true
}

// A pool checks a connection, wrapped or not, before it hands it out again.
func ExampleCheck() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	idle, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer idle.Close()
	server, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	usable := func(conn net.Conn) bool {
		err := liveness.Check(conn)
		return err == nil || errors.Is(err, errors.ErrUnsupported) // where nothing can be seen, the request will tell
	}
	fmt.Println(usable(idle))
	server.Close()
	for usable(idle) {
		time.Sleep(time.Millisecond) // the FIN is on its way
	}
	fmt.Println(usable(idle))
	// Output:
	// true
	// false
}

// The cable is cut: the peer sends nothing more, not even a FIN.
func ExampleConfig_peerTimeout() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	watched := liveness.NewListener(listener, &liveness.Config{PeerTimeout: 4 * time.Second})
	defer watched.Close()
	peer, err := livenesstest.Dial("tcp", watched.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer peer.Close()
	conn, err := watched.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if _, err := livenesstest.Cut(peer, conn); err != nil {
		log.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))               // a Read that waits returns with the verdict
	fmt.Println(errors.Is(err, liveness.ErrPeerLost)) // true, after four seconds
}

// The peer's program hangs while its kernel answers: it takes nothing of what we write.
func ExampleConfig_stallTimeout() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	watched := liveness.NewListener(listener, &liveness.Config{StallTimeout: 300 * time.Millisecond})
	defer watched.Close()
	peer, err := net.Dial("tcp", watched.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer peer.Close()
	conn, err := watched.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close() // frees the kernel's buffers at once
	for err == nil {
		_, err = conn.Write(make([]byte, 32<<10))
	}
	fmt.Println(errors.Is(err, liveness.ErrPeerStalled))
	// Output: true
}

// A protocol's own ping finds a program that hangs while its kernel answers. If nothing comes back, the peer is idle.
func ExampleConn_OnSilence() {
	const patience = 200 * time.Millisecond
	accepted, peer := net.Pipe() // as well as a socket
	defer peer.Close()
	conn, err := liveness.Wrap(accepted, &liveness.Config{ReadIdleTimeout: 3 * patience})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	stop := conn.OnSilence(patience, func() { fmt.Fprint(conn, "PING\n") })
	defer stop()
	go io.Copy(io.Discard, conn) // the answers

	ping := make([]byte, len("PING\n"))
	io.ReadFull(peer, ping)
	fmt.Printf("%q\n", ping)
	<-conn.Done() // the peer does not answer
	fmt.Println(errors.Is(conn.Err(), liveness.ErrPeerIdle))
	// Output:
	// "PING\n"
	// true
}

// Before something expensive is done for a peer, ask whether its host still answers.
func ExampleConn_Ping() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	watched := liveness.NewListener(listener, nil)
	defer watched.Close()
	peer, err := net.Dial("tcp", watched.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer peer.Close()
	conn, err := watched.AcceptConn()
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	fmt.Println(conn.Ping(ctx))
	// Output: <nil>
}

// Status has the evidence, and keeps it after the end.
func ExampleConn_Status() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	watched := liveness.NewListener(listener, nil)
	defer watched.Close()
	peer, err := net.Dial("tcp", watched.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	conn, err := watched.AcceptConn()
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(conn.Status().State)
	fmt.Fprint(peer, "last words")
	peer.Close()
	<-conn.Done()
	status := conn.Status()
	fmt.Println(status.State, status.Err == conn.Err())
	fmt.Println(status.Unread, "bytes can still be read")
	// Output:
	// connected
	// disconnected true
	// 10 bytes can still be read
}

// A proxy passes on the end of each direction by itself: a client that has sent its request waits for the answer.
func ExampleConfig_allowHalfClose() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	watched := liveness.NewListener(listener, &liveness.Config{AllowHalfClose: true})
	defer watched.Close()
	client, err := net.Dial("tcp", watched.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	conn, err := watched.AcceptConn()
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	upstream, server := net.Pipe()
	go func() { // the server
		question := make([]byte, len("a question"))
		io.ReadFull(server, question)
		fmt.Fprintf(server, "an answer to %s", question)
		server.Close()
	}()

	fmt.Fprint(client, "a question")
	client.(*net.TCPConn).CloseWrite()
	if _, err := io.Copy(upstream, conn); err != nil {
		log.Fatal(err)
	}
	fmt.Println(conn.Status().State, conn.Alive())
	if _, err := io.Copy(conn, upstream); err != nil {
		log.Fatal(err)
	}
	if err := conn.CloseWrite(); errors.Is(err, errors.ErrUnsupported) {
		conn.Close() // not every connection has halves
	}
	answer, err := io.ReadAll(client)
	fmt.Printf("%s, %v\n", answer, err)
	// Output:
	// half-closed true
	// an answer to a question, <nil>
}

// TLS goes above a Conn, and From finds the Conn beneath.
func ExampleFrom() {
	server, client, err := livenesstest.TLSConfig()
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener := tls.NewListener(liveness.NewListener(inner, nil), server)
	defer listener.Close()
	go func() {
		conn, err := tls.Dial("tcp", listener.Addr().String(), client)
		if err != nil {
			log.Fatal(err)
		}
		conn.Close()
	}()
	secure, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer secure.Close()
	io.ReadAll(secure) // shakes hands
	conn, ok := liveness.From(secure)
	<-conn.Done()
	fmt.Println(ok, errors.Is(conn.Err(), liveness.ErrPeerClosed))
	// Output: true true
}

// The reason tells who ended a connection, and how, in a word for logs and metrics.
func ExampleReasonOf() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	watched := liveness.NewListener(listener, nil)
	defer watched.Close()
	peer, err := net.Dial("tcp", watched.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	conn, err := watched.AcceptConn()
	if err != nil {
		log.Fatal(err)
	}
	peer.(*net.TCPConn).SetLinger(0) // Close then sends a RST
	peer.Close()
	<-conn.Done()
	conn.Close()
	if reason := liveness.ReasonOf(conn.Err()); reason != liveness.ReasonLocal { // the first cause stays
		fmt.Println("the peer ended it:", reason)
	}
	// Output: the peer ended it: reset
}

// Package net takes the tuning for connections that are not wrapped.
func ExampleKeepAlive() {
	tuning := liveness.KeepAlive(time.Minute)
	fmt.Println(tuning.Idle + time.Duration(tuning.Count)*tuning.Interval)
	listener, err := (&net.ListenConfig{KeepAliveConfig: tuning}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener.Close()
	// Output: 1m0s
}
