// Websocket is a server that pushes a line of news to each client now and then, and
// says why a client is gone: it said goodbye by a close frame, its connection was closed
// or reset without one, or it vanished. It uses github.com/coder/websocket:
//
//	go -C examples/websocket run .
//	open http://127.0.0.1:8081 in a browser, and close the tab, or kill the browser
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/go-liveness/liveness"
)

var (
	addr        = flag.String("addr", "127.0.0.1:8081", "address to listen on")
	step        = flag.Duration("step", time.Second, "time between two lines of news")
	peerTimeout = flag.Duration("peer-timeout", time.Minute, "time after which a client that vanished is gone; 0 is never")
)

const page = `<!DOCTYPE html><title>news</title><pre id="news"></pre>
<script>
new WebSocket("ws://" + location.host + "/news").onmessage = e => news.textContent += e.data + "\n"
</script>`

func main() {
	flag.Parse()
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, page)
	})
	http.HandleFunc("/news", news)
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, ConnContext: liveness.ConnContext}
	log.Fatal(server.Serve(liveness.NewListener(listener, &liveness.Config{
		PeerTimeout:  *peerTimeout,
		OnDisconnect: func(conn *liveness.Conn, _ error) { conn.Close() },
	})))
}

// news serves one client. The context of a request lives on after the connection was
// hijacked, and ends with it.
func news(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered.
	}
	defer ws.CloseNow()
	log.Printf("%s: connected", r.RemoteAddr)
	ctx := r.Context()
	left := make(chan error, 1)
	go func() {
		_, _, err := ws.Read(ctx) // Clients send nothing but, in the end, a close frame.
		left <- err
	}()
	for n := 1; ; n++ {
		select {
		case <-time.After(*step):
			_ = ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, "news %d", n))
		case err := <-left:
			log.Printf("%s: %s", r.RemoteAddr, why(ctx, err))
			return
		}
	}
}

// why says how a client went after whom Read returned err. A close frame says goodbye in
// the words of the protocol. Otherwise the connection has the reason.
func why(ctx context.Context, err error) string {
	if code := websocket.CloseStatus(err); code != -1 {
		return fmt.Sprintf("said goodbye: %v", code)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Sprintf("gone without goodbye: %v", err)
}
