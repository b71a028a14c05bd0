// Httpserver does long work for a request, and stops when the client leaves, also while
// the body of the request is unread, when net/http itself does not notice:
//
//	go run ./examples/httpserver
//	curl http://127.0.0.1:8080/work
//	curl http://127.0.0.1:8080/work --data-binary @go.sum
//
// End curl with Ctrl-C during the work.
//
// A FIN waits in the client's kernel behind data that the server's receive buffer does
// not take. So /work sees a client leave with up to about 128 kB of unread body, which
// is Linux's default buffer (net.ipv4.tcp_rmem); a reset, and a client that vanished,
// are seen behind any body. /spool shows what to do about larger bodies: read the body
// first, to a limit, and work then.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/go-liveness/liveness"
)

var (
	addr        = flag.String("addr", "127.0.0.1:8080", "address to listen on")
	step        = flag.Duration("step", time.Second, "time for a fifth of the work")
	peerTimeout = flag.Duration("peer-timeout", time.Minute, "time after which a client that vanished is gone; 0 is never")
)

func main() {
	flag.Parse()
	http.HandleFunc("/work", work)
	http.HandleFunc("/spool", spool)
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext:       liveness.ConnContext,
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	log.Fatal(server.Serve(liveness.NewListener(listener, &liveness.Config{
		PeerTimeout: *peerTimeout,
		// A handler that waits in Read or Write for a client that is gone returns at once.
		OnDisconnect: func(conn *liveness.Conn, _ error) { conn.Close() },
	})))
}

// work does not read the body: so do handlers that ask a database first.
func work(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	for done := 0; done < 100; done += 20 {
		log.Printf("%s %s: %d %% done", r.Method, r.RemoteAddr, done)
		select {
		case <-time.After(*step):
		case <-ctx.Done():
			log.Printf("%s %s: stopped: %v", r.Method, r.RemoteAddr, context.Cause(ctx))
			return
		}
	}
	fmt.Fprintln(w, "done")
	log.Printf("%s %s: done", r.Method, r.RemoteAddr)
}

// spool takes the body out of the client's FIN's way.
func spool(w http.ResponseWriter, r *http.Request) {
	const limit = 32 << 20
	file, err := os.CreateTemp("", "body")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer os.Remove(file.Name())
	defer file.Close()
	n, err := io.Copy(file, http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	log.Printf("%s %s: spooled %d bytes", r.Method, r.RemoteAddr, n)
	work(w, r)
}
