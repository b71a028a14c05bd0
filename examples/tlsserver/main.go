// Tlsserver shows the order of wrapping: liveness beneath TLS, next to the socket. From
// finds the wrapped connection beneath the *tls.Conn:
//
//	go run ./examples/tlsserver
//	openssl s_client -quiet -connect 127.0.0.1:7443    # or: ncat --ssl 127.0.0.1 7443
//
// Type a line, and end the client during the work.
package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net"
	"time"

	"github.com/go-liveness/liveness"
)

var (
	addr        = flag.String("addr", "127.0.0.1:7443", "address to listen on")
	step        = flag.Duration("step", time.Second, "time for a fifth of the work")
	peerTimeout = flag.Duration("peer-timeout", time.Minute, "time after which a client that vanished is gone; 0 is never")
)

func main() {
	flag.Parse()
	certificate, err := selfSigned()
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	// First liveness, next to the socket, then TLS above it.
	listener = liveness.NewListener(listener, &liveness.Config{PeerTimeout: *peerTimeout, OnDisconnect: gone})
	listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn)
	}
}

// gone is given the connection beneath TLS. There is no one left to say goodbye to, so
// it closes that one.
func gone(conn *liveness.Conn, err error) {
	switch liveness.ReasonOf(err) {
	case liveness.ReasonLocal: // This program closed it.
	case liveness.ReasonClosed:
		log.Printf("%s: left", conn.RemoteAddr())
	default:
		log.Printf("%s: gone: %v", conn.RemoteAddr(), err)
	}
	conn.Close()
}

// serve answers the lines of one client, one after the other. conn is a *tls.Conn.
func serve(conn net.Conn) {
	defer conn.Close()
	watched, ok := liveness.From(conn)
	if !ok {
		log.Printf("%T: no wrapped connection beneath", conn)
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
			return // gone has the reason.
		}
	}
	if err := lines.Err(); err != nil && liveness.ReasonOf(err) == "" {
		log.Printf("%s: refused: %v", client, err) // By TLS, or a line of more than 64 kB.
	}
}

// work is slow, and useless once the client is gone.
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

// selfSigned makes a certificate for 127.0.0.1, as a server of yours would load one by
// tls.LoadX509KeyPair. No client trusts it.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
