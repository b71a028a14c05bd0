package liveness_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// ownClose is how soon Watch notices that the application has closed its connection.
const ownClose = 2 * time.Second

func beside(t *testing.T, conn net.Conn, cfg *liveness.Config) *liveness.Conn {
	t.Helper()
	c, err := liveness.Watch(conn, cfg)
	testutil.Must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestWatchTellsHowABareConnectionEnds(t *testing.T) {
	testutil.NeedsNotices(t)
	for _, network := range []string{"tcp4", "unix"} {
		for name, end := range map[string]func(*livenesstest.Peer) error{"closed": (*livenesstest.Peer).Close, "reset": (*livenesstest.Peer).Reset} {
			if network == "unix" && name == "reset" {
				continue // AF_UNIX has no RST without unread bytes
			}
			if testutil.Wine() && name == "closed" {
				continue // Wine, unlike Windows, shows no FIN behind unread data
			}
			t.Run(network+"/"+name, func(t *testing.T) {
				testutil.Deadline(t)
				conn, peer := livenesstest.Pair(t, network)
				heard := make(chan error, 2)
				c := beside(t, conn, &liveness.Config{OnDisconnect: func(_ *liveness.Conn, err error) { heard <- err }})
				peer.Write(message) // the application reads nothing
				testutil.Must(t, end(peer))
				if err := testutil.Await(t, heard); string(liveness.ReasonOf(err)) != name || c.Err() != err {
					t.Errorf("reported %v, and Err is %v", err, c.Err())
				}
			})
		}
	}
}

// TestWatchInterruptsNothing has a verdict published while the application waits in Read.
func TestWatchInterruptsNothing(t *testing.T) {
	t.Parallel()
	testutil.Deadline(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	c := beside(t, conn, &liveness.Config{ReadIdleTimeout: 200 * time.Millisecond})
	peer.Write(message[:1])
	needsReceived(t, c)
	io.ReadFull(conn, make([]byte, 1))
	read := testutil.GoReadAll(conn)
	testutil.Await(t, c.Done())
	if err := c.Err(); !errors.Is(err, liveness.ErrPeerIdle) {
		t.Fatal(err)
	}
	peer.Write(message)
	testutil.Must(t, peer.CloseWrite())
	if got := testutil.Await(t, read); string(got.Data) != string(message) || got.Err != nil && got.Err != io.EOF {
		t.Errorf("Read returned %q, %v; want what the peer sent after the verdict", got.Data, got.Err)
	}
	if _, err := conn.Write(message); err != nil {
		t.Errorf("Write: %v", err)
	}
}

// needsReceived skips the test where the system does not count what arrives, of which there is something: silence is then
// measured while a Read of the Conn waits, and at no other time.
func needsReceived(t *testing.T, c *liveness.Conn) {
	t.Helper()
	for deadline := time.Now().Add(time.Second); c.Status().Received == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Skip("this system does not count what arrives")
		}
	}
}

// TestWatchNoticesThatTheApplicationClosed, also after the peer has ended the connection.
func TestWatchNoticesThatTheApplicationClosed(t *testing.T) {
	t.Parallel()
	testutil.NeedsNotices(t)
	for _, first := range []string{"application", "peer"} {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			testutil.Deadline(t)
			group := new(liveness.Group)
			conn, peer := livenesstest.Pair(t, "tcp4")
			c := beside(t, conn, &liveness.Config{Group: group})
			want := net.ErrClosed
			if first == "peer" {
				want = liveness.ErrPeerClosed
				testutil.Must(t, peer.CloseWrite())
				testutil.Await(t, c.Done())
			}
			if open := group.Stats().Open; open != 1 {
				t.Fatalf("%d open before the Close", open)
			}
			began := time.Now()
			testutil.Must(t, conn.Close())
			ctx, cancel := context.WithTimeout(t.Context(), ownClose+testSlack)
			defer cancel()
			if err := group.Wait(ctx); err != nil {
				t.Fatalf("%v after %v: %+v", err, time.Since(began), group.Stats())
			}
			if err := c.Err(); !errors.Is(err, want) {
				t.Errorf("Err = %v; want %v", err, want)
			}
		})
	}
}

// testSlack is what a busy machine may add to a limit.
const testSlack = 3 * time.Second

// TestWatchFindsAPeerThatVanished with data in flight that it did not see written.
func TestWatchFindsAPeerThatVanished(t *testing.T) {
	t.Parallel()
	testutil.Deadline(t)
	const timeout = 4 * time.Second
	made := time.Now() // nothing was heard before
	conn, peer := livenesstest.Pair(t, "tcp4")
	c := beside(t, conn, &liveness.Config{PeerTimeout: timeout})
	if c.Status().DetectWithin == 0 {
		t.Skip("this system has no bound for data in flight")
	}
	mend, err := livenesstest.Cut(conn, peer)
	testutil.MustOrSkip(t, err)
	defer mend()
	cut := time.Now()
	conn.Write(message)
	testutil.Await(t, c.Done())
	if took := time.Since(cut); !errors.Is(c.Err(), liveness.ErrPeerLost) || time.Since(made) < timeout-100*time.Millisecond || took > timeout*5/4+time.Second+testSlack {
		t.Errorf("%v after %v", c.Err(), took)
	}
}

func TestWatchRefusesWhatItCannotWatch(t *testing.T) {
	testutil.Deadline(t)
	needsChecks(t)
	near, _ := net.Pipe()
	closed, _ := livenesstest.Pair(t, "tcp4")
	closed.Close()
	for conn, want := range map[net.Conn]error{nil: nil, near: errors.ErrUnsupported, closed: net.ErrClosed} {
		if c, err := liveness.Watch(conn, nil); c != nil || err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("Watch of a %T: %v, %v; want %v", conn, c, err, want)
		}
	}
}

// TestConnContextWatchesABareConnection of HTTP/1.1 and HTTP/2, with no listener of the library.
func TestConnContextWatchesABareConnection(t *testing.T) {
	t.Parallel()
	testutil.NeedsNotices(t)
	for _, http2 := range []bool{false, true} {
		testutil.Deadline(t)
		conns, ended := make(chan *liveness.Conn, 1), make(chan struct{})
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, _ := liveness.FromContext(r.Context())
			conns <- c
			<-r.Context().Done()
			close(ended)
		}))
		group := new(liveness.Group)
		server.Config.ConnContext = (&liveness.Config{Group: group}).ConnContext
		if server.EnableHTTP2 = http2; http2 {
			server.StartTLS()
		} else {
			server.Start()
		}
		ctx, cancel := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, "GET", server.URL, nil)
		testutil.Must(t, err)
		answered := make(chan error, 1)
		go func() { _, err := server.Client().Do(request); answered <- err }()
		c := testutil.Await(t, conns)
		if c == nil || c.Err() != nil || group.Stats().Open != 1 {
			t.Fatalf("HTTP/2 %t: %v, %+v", http2, c, group.Stats())
		}
		cancel()
		testutil.Await(t, answered)
		server.CloseClientConnections()
		testutil.Await(t, ended)
		testutil.Await(t, c.Done())
		server.Close()
		if r := liveness.ReasonOf(c.Err()); r == "" {
			t.Errorf("HTTP/2 %t: %v", http2, c.Err())
		}
		ctx, cancel = context.WithTimeout(t.Context(), ownClose+testSlack)
		if err := group.Wait(ctx); err != nil {
			t.Errorf("HTTP/2 %t: %v: %+v", http2, err, group.Stats())
		}
		cancel()
	}
}
