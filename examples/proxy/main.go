// Proxy copies bytes both ways between clients and one server, by splice where the
// system has it. It passes on the end of one direction and leaves the other open. A
// side that is reset or lost has the other side reset, also while nothing is copied.
// Try it with the server of the next folder:
//
//	go run ./examples/server
//	go run ./examples/proxy -to 127.0.0.1:7777
//	nc 127.0.0.1 7070
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/go-liveness/liveness"
)

var (
	addr        = flag.String("addr", "127.0.0.1:7070", "address to listen on")
	to          = flag.String("to", "127.0.0.1:7777", "address of the server")
	peerTimeout = flag.Duration("peer-timeout", time.Minute, "time after which a side that vanished is gone; 0 is never")
)

// config is that of both sides.
var config liveness.Config

func main() {
	flag.Parse()
	config = liveness.Config{
		PeerTimeout:    *peerTimeout,
		AllowHalfClose: true, // A FIN ends one direction. The other may go on for long.
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			if err := serve(conn); err != nil {
				log.Printf("%s: %v", conn.RemoteAddr(), err)
			}
		}()
	}
}

// serve is the life of one client.
func serve(conn net.Conn) error {
	client, err := watch(conn, nil)
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := watch(net.DialTimeout("tcp", *to, 10*time.Second))
	if err != nil {
		return err
	}
	defer server.Close()

	// Each side that is gone ends the other. A copy alone notices only when it reads
	// from or writes to the side that is gone.
	client.OnDisconnect(func(err error) { follow(server, "client", err) })
	server.OnDisconnect(func(err error) { follow(client, "server", err) })

	var both sync.WaitGroup
	both.Go(func() { pass(server, client) })
	both.Go(func() { pass(client, server) })
	both.Wait()
	log.Printf("%s: both directions are over", client.RemoteAddr())
	return nil
}

// watch wraps what Accept or Dial returned.
func watch(conn net.Conn, err error) (*liveness.Conn, error) {
	if err != nil {
		return nil, err
	}
	c, err := liveness.Wrap(conn, &config)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// pass copies one direction to its end, and passes that on.
func pass(dst, src *liveness.Conn) {
	if _, err := io.Copy(dst, src); err != nil {
		// The stream is not complete, and must not look complete.
		abort(dst)
		abort(src)
		return
	}
	err := dst.CloseWrite()
	if errors.Is(err, errors.ErrUnsupported) {
		// dst cannot end one direction. Its peer would wait for ever, so end both.
		dst.Close()
	}
}

// follow ends conn after the other side has ended.
func follow(conn *liveness.Conn, other string, err error) {
	switch {
	case errors.Is(err, liveness.ErrPeerClosed):
		// Both directions, in order. What it sent is still being copied.
	case errors.Is(err, net.ErrClosed):
		// This program closed it.
	default:
		log.Printf("%s: %v", other, err)
		abort(conn)
	}
}

// abort resets the connection, where it can, so that its peer does not take what it
// got for all there was.
func abort(conn *liveness.Conn) {
	conn.SetLinger(0)
	conn.Close()
}
