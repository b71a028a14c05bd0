// Server is an accept loop as people write it today, with three changes. It works on
// every line that a client sends, slowly, and stops at once when that client is gone:
//
//	go run ./examples/server
//	nc 127.0.0.1 7777        # or: telnet 127.0.0.1 7777
//
// Type a line, and end the client with Ctrl-C during the work. A client that only
// finishes sending (nc -N) is gone too, here; see Config.AllowHalfClose. One that
// vanishes is found within -peer-timeout.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/go-liveness/liveness"
)

var (
	addr        = flag.String("addr", "127.0.0.1:7777", "address to listen on")
	step        = flag.Duration("step", time.Second, "time for a fifth of the work")
	peerTimeout = flag.Duration("peer-timeout", time.Minute, "time after which a client that vanished is gone; 0 is never")
)

func main() {
	flag.Parse()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	listener = liveness.NewListener(listener, &liveness.Config{ // Changed, 1: this statement is new.
		PeerTimeout:  *peerTimeout,
		OnDisconnect: gone,
	})
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn)
	}
}

// gone is called once for each client, whatever ended its connection.
func gone(conn *liveness.Conn, err error) {
	switch liveness.ReasonOf(err) {
	case liveness.ReasonLocal: // This program closed it.
	case liveness.ReasonClosed:
		log.Printf("%s: left", conn.RemoteAddr())
	default:
		log.Printf("%s: gone: %v", conn.RemoteAddr(), err)
	}
	// The library does not close the connection. Close ends the Read or Write in which
	// serve may wait, and drops what was not read: there is no one to answer.
	conn.Close()
}

// serve answers the lines of one client, one after the other.
func serve(conn net.Conn) {
	defer conn.Close()
	ctx := liveness.ConnContext(context.Background(), conn) // Changed, 2: it was context.Background().
	client := conn.RemoteAddr()
	log.Printf("%s: connected", client)
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		answer, err := work(ctx, client, lines.Text())
		if err != nil {
			log.Printf("%s: stopped: %v", client, err)
			return
		}
		if _, err := fmt.Fprintln(conn, answer); err != nil {
			return // gone has the reason.
		}
	}
	if err := lines.Err(); err != nil && liveness.ReasonOf(err) == "" {
		log.Printf("%s: refused: %v", client, err) // A line of more than 64 kB, and no end.
	}
}

// work is slow, and useless once the client is gone.
func work(ctx context.Context, client net.Addr, line string) (answer string, err error) {
	for done := 0; done < 100; done += 20 {
		log.Printf("%s: working on %q, %d %% done", client, line, done)
		select {
		case <-time.After(*step):
		case <-ctx.Done():
			return "", context.Cause(ctx) // Changed, 3: it was ctx.Err().
		}
	}
	return line, nil
}
