// Httpserver does long work for a request, and stops when the client leaves: also
// while the body of the request is unread, when net/http itself does not notice.
// It takes a field of http.Server and a line before Serve. Try it, with Ctrl-C
// during the work:
//
//	go run ./examples/httpserver
//	curl http://127.0.0.1:8080/work
//	curl http://127.0.0.1:8080/work --data-binary @go.sum
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/go-liveness/liveness"
)

var (
	addr = flag.String("addr", "127.0.0.1:8080", "address to listen on")
	step = flag.Duration("step", time.Second, "time for a fifth of the work")
)

func main() {
	flag.Parse()
	http.HandleFunc("/work", serveWork)
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext:       liveness.ConnContext,
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	log.Fatal(server.Serve(liveness.NewListener(listener, nil)))
}

// serveWork works before it reads the body, as handlers do that ask a database
// first, or hand the body on.
func serveWork(w http.ResponseWriter, r *http.Request) {
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
