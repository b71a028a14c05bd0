// Server is an accept loop as people write it today, with three lines changed. It
// works on every line that a client sends, slowly, and stops at once when that
// client is gone. Try it by hand:
//
//	go run ./examples/server
//	nc 127.0.0.1 7777        # or: telnet 127.0.0.1 7777, curl telnet://127.0.0.1:7777
//
// Type a line, and end the client with Ctrl-C during the work. A client that only
// finishes sending (nc -N) is gone too, here; see Config.AllowHalfClose. One that
// vanishes without a word is found with a Config that has a PeerTimeout.
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
	addr = flag.String("addr", "127.0.0.1:7777", "address to listen on")
	step = flag.Duration("step", time.Second, "time for a fifth of the work")
)

func main() {
	flag.Parse()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	listener = liveness.NewListener(listener, nil) // Changed, 1: this line is new.
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn)
	}
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
			log.Printf("%s: %v", client, err)
			return
		}
	}
	log.Printf("%s: left", client)
}

// work is slow, and a pity to do for nobody.
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
