// Tlsserver shows the right order of wrapping: liveness beneath TLS, where the
// socket is. From finds the watched connection again, given the one of TLS. Try it,
// type a line, and end the client during the work:
//
//	go run ./examples/tlsserver
//	openssl s_client -quiet -connect 127.0.0.1:7443    # or: ncat --ssl 127.0.0.1 7443
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

var (
	addr = flag.String("addr", "127.0.0.1:7443", "address to listen on")
	step = flag.Duration("step", time.Second, "time for a fifth of the work")
)

func main() {
	flag.Parse()
	// A certificate for localhost that nobody vouches for. Yours comes from
	// tls.LoadX509KeyPair.
	config, _, err := livenesstest.TLSConfig()
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	listener = liveness.NewListener(listener, nil) // First this, next to the socket,
	listener = tls.NewListener(listener, config)   // then TLS above it.
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn)
	}
}

// serve answers the lines of one client, one after the other. conn is a *tls.Conn.
func serve(conn net.Conn) {
	defer conn.Close()
	watched, ok := liveness.From(conn)
	if !ok {
		log.Printf("%T: no watched connection beneath", conn)
		return
	}
	ctx, cancel := watched.Context(context.Background())
	defer cancel()

	client := conn.RemoteAddr()
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
	log.Printf("%s: left: %v", client, lines.Err())
}

// work is slow, and a pity to do for nobody.
func work(ctx context.Context, client net.Addr, line string) (answer string, err error) {
	for done := 0; done < 100; done += 20 {
		log.Printf("%s: working on %q, %d %% done", client, line, done)
		select {
		case <-time.After(*step):
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	return line, nil
}
