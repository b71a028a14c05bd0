// Dashboard is a server with the page of livenessdebug and the metrics of livenessprom,
// and a few clients of its own: some stay, some come and go, one stops reading, one
// half-closes, one vanishes again and again, and one is reset by a client while the
// server forgets to close its connection.
//
//	go -C examples/dashboard run .
//	open http://127.0.0.1:8082 in a browser
//
// The page shows each of them a few seconds later. It needs Linux for the client that
// vanishes.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenessdebug"
	"github.com/go-liveness/liveness/livenessprom"
)

var (
	addr        = flag.String("addr", "127.0.0.1:8082", "address of the page and the metrics")
	peerTimeout = flag.Duration("peer-timeout", 10*time.Second, "time after which a client that vanished is gone; 0 is never")
)

// The connections of the chat end with the client's FIN, those of the archive do not.
var (
	chat    = &liveness.Group{Name: "chat"}
	archive = &liveness.Group{Name: "archive"}
)

func main() {
	flag.Parse()
	page, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", page.Addr())
	rooms := map[*liveness.Group]string{
		chat:    serve(chat, &liveness.Config{PeerTimeout: *peerTimeout, StallTimeout: 20 * time.Second}),
		archive: serve(archive, &liveness.Config{PeerTimeout: *peerTimeout, AllowHalfClose: true}),
	}
	startClients(rooms[chat], rooms[archive])

	prometheus.MustRegister(livenessprom.NewCollector(livenessprom.WithGroups(chat, archive), livenessprom.WithSample(1000)))
	http.Handle("/metrics", promhttp.Handler())
	http.Handle("/debug/liveness/", livenessdebug.Handler(nil))
	http.Handle("/", http.RedirectHandler("/debug/liveness/", http.StatusFound))
	log.Fatal(http.Serve(page, nil))
}

// serve starts a server for clients that send the request of their choice, and returns
// its address.
func serve(group *liveness.Group, cfg *liveness.Config) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	cfg.Group = group
	accept := liveness.NewListener(listener, cfg)
	go func() {
		for {
			conn, err := accept.AcceptConn()
			if err != nil {
				log.Fatal(err)
			}
			go answer(conn)
		}
	}()
	return listener.Addr().String()
}

// The requests, one byte each.
const (
	echo   = 'e' // send back what comes
	flood  = 'f' // send for ever
	forget = 'l' // leak the connection: do nothing, and do not close
)

func answer(conn *liveness.Conn) {
	conn.OnDisconnect(func(err error) { log.Printf("%s: %s: %v", conn.RemoteAddr(), liveness.ReasonOf(err), err) })
	request := make([]byte, 1)
	if _, err := io.ReadFull(conn, request); err != nil {
		conn.Close()
		return
	}
	switch request[0] {
	case forget:
		return
	case flood:
		for data := make([]byte, 64<<10); ; {
			if _, err := conn.Write(data); err != nil {
				break
			}
		}
	case echo:
		io.Copy(conn, conn)
		// After a FIN the archive still has something to send.
		for conn.Alive() {
			time.Sleep(time.Second)
			fmt.Fprintln(conn, "more")
		}
	}
	conn.Close()
}
