// Proxy copies bytes both ways between clients and one server, by splice where the
// system has it. The end of one direction is passed on and leaves the other open,
// and a side that is gone ends the other side in the same way, also while nothing
// is being copied. Try it with the server of the next folder:
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
	addr = flag.String("addr", "127.0.0.1:7070", "address to listen on")
	to   = flag.String("to", "127.0.0.1:7777", "address of the server")
)

// A FIN means that one direction is complete. The other may go on for long.
var config = &liveness.Config{AllowHalfClose: true}

func main() {
	flag.Parse()
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

	// Whichever goes first takes the other with it. A copy would notice only when
	// it has something to read from or write to the one that is gone.
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
	c, err := liveness.Wrap(conn, config)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// pass copies one direction to its end, and passes that on.
func pass(dst, src *liveness.Conn) {
	if _, err := io.Copy(dst, src); err != nil {
		// What was sent is not complete, and must not look so.
		abort(dst)
		abort(src)
		return
	}
	err := dst.CloseWrite()
	if errors.Is(err, errors.ErrUnsupported) {
		// dst cannot say that one direction is over, so both have to be: or else
		// its peer would wait for ever.
		dst.Close()
	}
}

// follow ends conn after the other side was gone.
func follow(conn *liveness.Conn, other string, err error) {
	switch {
	case errors.Is(err, liveness.ErrPeerClosed):
		// In order, both directions. What it sent is still being copied.
	case errors.Is(err, net.ErrClosed):
		// By ourselves.
	default:
		log.Printf("%s: %v", other, err)
		abort(conn)
	}
}

// abort resets the connection, where it can: the peer is not to take what it got
// for all there was.
func abort(conn *liveness.Conn) {
	if tcp, ok := conn.NetConn().(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}
