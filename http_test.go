package liveness_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// serve serves HTTP on a Listener, with ConnContext.
func serve(t *testing.T, http2 bool, handler http.HandlerFunc) *httptest.Server {
	server := httptest.NewUnstartedServer(handler)
	server.Listener = liveness.NewListener(server.Listener, nil)
	server.Config.ConnContext = liveness.ConnContext
	if server.EnableHTTP2 = http2; http2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server
}

// TestHandlerStopsWithTheReasonWhenItsClientLeaves in the middle of a request, with its body unread or not, more than once:
// the server itself may notice first, and gives no reason.
func TestHandlerStopsWithTheReasonWhenItsClientLeaves(t *testing.T) {
	testutil.NeedsNotices(t)
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, body := range []bool{false, true} {
			for _, end := range []string{"close", "reset"} {
				t.Run(fmt.Sprintf("%s,body %t,%s", version, body, end), func(t *testing.T) {
					testutil.Deadline(t)
					if testutil.Wine() {
						t.Skip("Wine shows no FIN behind unread data, and no reset once a Write has its errno")
					}
					for range 5 {
						stopHandler(t, version, body, end)
					}
				})
			}
		}
	}
}

func stopHandler(t *testing.T, version string, body bool, end string) {
	requests, causes := make(chan *http.Request, 1), make(chan error, 1)
	server := serve(t, version == "HTTP/2.0", func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		<-r.Context().Done()
		causes <- context.Cause(r.Context())
	})
	peers := make(chan *livenesstest.Peer, 1)
	transport := server.Client().Transport.(*http.Transport)
	transport.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
		peer, err := livenesstest.Dial(network, address)
		if err == nil {
			peers <- peer
		}
		return peer, err
	}
	more, w := io.Pipe()
	defer w.Close()
	var content io.Reader
	if body {
		// Not so much as to fill the server's buffer, behind which no FIN can be seen.
		content = io.MultiReader(bytes.NewReader(make([]byte, 32<<10)), more)
	}
	posted := make(chan error, 1)
	go func() {
		response, err := server.Client().Post(server.URL, "text/plain", content)
		if err == nil {
			response.Body.Close()
		}
		posted <- err
	}()
	var r *http.Request
	select {
	case r = <-requests:
	case err := <-posted:
		t.Fatal("no request: ", err)
	}
	c, ok := liveness.FromContext(r.Context())
	if !ok || !c.Alive() || r.Proto != version {
		t.Fatalf("FromContext = %p, %t in a request of %s", c, ok, r.Proto)
	}
	want, peer := liveness.ErrPeerClosed, testutil.Await(t, peers)
	if end == "reset" {
		want = liveness.ErrPeerReset
		peer.Reset()
	} else {
		peer.Close()
	}
	cause := testutil.Await(t, causes)
	testutil.Await(t, c.Done())
	// What the server still writes is answered by a reset.
	superseded := !testutil.RemembersFIN() && errors.Is(cause, liveness.ErrPeerReset)
	if cause != c.Err() || !errors.Is(cause, want) && !superseded {
		t.Errorf("the cause is %v, Err() = %v, want %v", cause, c.Err(), want)
	}
	w.Close()
	testutil.Await(t, posted)
}

// TestHijackedConnectionStaysWatched takes it out of a server, with bytes unread.
func TestHijackedConnectionStaysWatched(t *testing.T) {
	testutil.Deadline(t)
	testutil.NeedsNotices(t)
	hijacked := make(chan net.Conn, 1)
	server := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if c, ok := liveness.FromContext(r.Context()); err != nil || !ok || c != conn {
			t.Errorf("Hijack: %v; FromContext = %p, %t, want %p", err, c, ok, conn)
		}
		hijacked <- conn
	})
	peer, err := livenesstest.Dial("tcp", server.Listener.Addr().String())
	testutil.Must(t, err)
	defer peer.Close()
	fmt.Fprint(peer, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nlast words")
	c := testutil.Await(t, hijacked).(*liveness.Conn)
	defer c.Close()
	if !c.Alive() {
		t.Errorf("Err() = %v after Hijack", c.Err())
	}
	peer.Close()
	if testutil.Await(t, c.Done()); !errors.Is(c.Err(), liveness.ErrPeerClosed) {
		t.Errorf("Err() = %v", c.Err())
	}
}
