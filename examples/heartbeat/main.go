// Heartbeat is a server that finds clients which hang. The kernel of such a client goes
// on acknowledging what it is sent; only the program can answer. After a silence the
// server asks, in the words of its protocol, and a client that sends nothing for three
// times as long is given up:
//
//	go run ./examples/heartbeat
//	nc 127.0.0.1 7778        # or: telnet 127.0.0.1 7778
//
// Type any line in answer to each ping, and then stop typing.
package main

import (
	"bufio"
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
	addr    = flag.String("addr", "127.0.0.1:7778", "address to listen on")
	silence = flag.Duration("silence", 5*time.Second, "silence after which a client is asked")
)

func main() {
	flag.Parse()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	listener = liveness.NewListener(listener, &liveness.Config{ReadIdleTimeout: 3 * *silence})
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn)
	}
}

func serve(conn net.Conn) {
	defer conn.Close()
	client := conn.RemoteAddr()
	log.Printf("%s: connected", client)
	out := &writer{w: conn}
	if c, ok := liveness.From(conn); ok {
		// The ping goes through the session's own writer, which has a lock; with TLS that
		// writes to the *tls.Conn.
		stop := c.OnSilence(*silence, func() {
			log.Printf("%s: silent, asking", client)
			fmt.Fprintln(out, "ping")
		})
		defer stop()
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		fmt.Fprintln(out, "heard:", lines.Text())
	}
	switch err := lines.Err(); {
	case err == nil:
		log.Printf("%s: left", client)
	case errors.Is(err, liveness.ErrPeerIdle):
		log.Printf("%s: hangs: %v", client, err) // The verdict has ended the Read.
	default:
		log.Printf("%s: %v", client, err)
	}
}

// A writer lets the session and its heartbeat write without mixing their lines.
type writer struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (w *writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}
