// Shutdown ends a server without cutting off the work that it does: it stops accepting,
// lets the clients that are being served have their answers, and closes the rest.
//
//	go run ./examples/shutdown
//	nc 127.0.0.1 7779        # in two terminals; type a line in one of them
//
// Then press Ctrl-C in the server: the client that waits for its answer gets it, and
// the idle one is closed at once.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/go-liveness/liveness"
)

var (
	addr        = flag.String("addr", "127.0.0.1:7779", "address to listen on")
	step        = flag.Duration("step", 5*time.Second, "time for the work on a line")
	grace       = flag.Duration("grace", 20*time.Second, "time that clients have once the server ends")
	peerTimeout = flag.Duration("peer-timeout", time.Minute, "time after which a client that vanished is gone; 0 is never")
)

// clients are the connections that are not closed yet.
var clients = &liveness.Group{Name: "clients"}

func main() {
	flag.Parse()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go accept(liveness.NewListener(listener, &liveness.Config{
		PeerTimeout:  *peerTimeout,
		OnDisconnect: func(conn *liveness.Conn, _ error) { conn.Close() },
		Group:        clients,
	}))

	<-interrupted.Done()
	listener.Close()
	log.Printf("ending, %d clients are connected", clients.Stats().Open)
	for conn := range clients.Conns() {
		conn.SetReadDeadline(time.Now()) // serve takes no further line
	}
	patience, cancel := context.WithTimeout(context.Background(), *grace)
	defer cancel()
	if err := clients.Wait(patience); err != nil {
		log.Printf("%d clients are cut off", clients.Stats().Open)
		clients.Close()
	}
	log.Printf("ended: %+v", clients.Stats())
}

func accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // main has closed it
		}
		go serve(conn)
	}
}

// serve answers the lines of one client, one after the other.
func serve(conn net.Conn) {
	defer conn.Close()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		log.Printf("%s: working on %q", conn.RemoteAddr(), lines.Text())
		time.Sleep(*step)
		if _, err := fmt.Fprintln(conn, lines.Text()); err != nil {
			return
		}
	}
}
