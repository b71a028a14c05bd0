package livenessdebug_test

import (
	"log"
	"net"
	"net/http"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenessdebug"
)

// A server shows its connections at http://localhost:6060/debug/liveness/, on a listener that
// other hosts do not reach.
func Example() {
	mux := http.NewServeMux()
	mux.Handle("/debug/liveness/", livenessdebug.Handler(nil))
	go func() { log.Fatal(http.ListenAndServe("localhost:6060", mux)) }()

	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	cfg := &liveness.Config{Group: &liveness.Group{Name: "web"}}
	log.Fatal(http.Serve(liveness.NewListener(listener, cfg), nil))
}
