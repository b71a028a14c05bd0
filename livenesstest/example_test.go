package livenesstest_test

import (
	"fmt"
	"io"
	"log"
	"net"

	"github.com/go-liveness/liveness/livenesstest"
)

// echo is a server under test. It tells how its one connection ended.
func echo() (address string, ended <-chan error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	end := make(chan error, 1)
	go func() {
		defer listener.Close()
		conn, err := listener.Accept()
		if err == nil {
			_, err = io.Copy(conn, conn)
			conn.Close()
		}
		end <- err
	}()
	return listener.Addr().String(), end
}

// A client that has sent everything still gets the whole answer.
func ExampleDial() {
	address, ended := echo()
	peer, err := livenesstest.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer peer.Close()

	fmt.Fprint(peer, "hello")
	peer.CloseWrite()
	answer, err := io.ReadAll(peer)
	fmt.Printf("%s, %v\n", answer, err)
	fmt.Println("server:", <-ended)
	// Output:
	// hello, <nil>
	// server: <nil>
}
