package conformance

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/soheilhy/cmux"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/netutil"

	"github.com/go-liveness/liveness"
)

const patience = 30 * time.Second

// listen returns a listener and a connection to it.
func listen(t *testing.T) (net.Listener, net.Conn) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	conn, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return l, conn
}

// TestFromAndConnContextWorkThroughWrappers of other modules, in either order where the
// socket can be reached.
func TestFromAndConnContextWorkThroughWrappers(t *testing.T) {
	mux := func(l net.Listener) net.Listener {
		m := cmux.New(l)
		any := m.Match(cmux.Any())
		go m.Serve()
		return any
	}
	ours := func(l net.Listener) net.Listener { return liveness.NewListener(l, nil) }
	for name, outer := range map[string]func(net.Listener) net.Listener{
		"LimitListener above": func(l net.Listener) net.Listener { return netutil.LimitListener(ours(l), 9) },
		"LimitListener below": func(l net.Listener) net.Listener { return ours(netutil.LimitListener(l, 9)) },
		"cmux above":          func(l net.Listener) net.Listener { return mux(ours(l)) },
		"cmux below":          func(l net.Listener) net.Listener { return ours(mux(l)) },
		"bare LimitListener":  func(l net.Listener) net.Listener { return netutil.LimitListener(l, 9) },
		"proxyproto above":    func(l net.Listener) net.Listener { return &proxyproto.Listener{Listener: ours(l)} },
		"proxyproto below":    func(l net.Listener) net.Listener { return ours(&proxyproto.Listener{Listener: l}) },
	} {
		t.Run(name, func(t *testing.T) {
			l, conn := listen(t)
			ends := make(chan error, 1)
			server := &http.Server{ConnContext: liveness.ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, ok := liveness.FromContext(r.Context())
				if !ok {
					ends <- io.ErrNoProgress
					return
				}
				c.OnDisconnect(func(err error) { ends <- err })
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})}
			go server.Serve(outer(l))
			defer server.Close()
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			conn.Read(make([]byte, 1)) // the handler runs
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			select {
			case err := <-ends:
				known := name != "proxyproto above" // its socket cannot be reached from there
				if err == io.ErrNoProgress && known || err != io.ErrNoProgress && liveness.ReasonOf(err) == "" {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatal("no end")
			}
		})
	}
}

func TestOptionsOfOtherModulesAreSet(t *testing.T) {
	l, _ := listen(t)
	c, err := liveness.NewListener(l, &liveness.Config{PeerTimeout: time.Minute}).AcceptConn()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := ipv4.NewConn(c).SetTOS(0x28); err != nil {
		t.Error(err)
	}
	if tos, err := ipv4.NewConn(c).TOS(); err != nil || tos != 0x28 {
		t.Errorf("TOS %#x, %v", tos, err)
	}
}
