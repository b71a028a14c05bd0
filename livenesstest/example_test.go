package livenesstest_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-liveness/liveness/livenesstest"
)

// serve is a server under test. It tells how its one connection ended.
func serve(handle func(net.Conn) error) (address string, ended <-chan error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	end := make(chan error, 1)
	go func() {
		defer listener.Close()
		conn, err := listener.Accept()
		if err == nil {
			err = handle(conn)
			conn.Close()
		}
		end <- err
	}()
	return listener.Addr().String(), end
}

func echo(conn net.Conn) error {
	_, err := io.Copy(conn, conn)
	return err
}

func discard(conn net.Conn) error {
	_, err := io.Copy(io.Discard, conn)
	return err
}

// TestMain of every package whose tests start processes begins like this one. A process that is to be a peer does not get
// any further.
func ExampleMain() {
	testMain := func(m interface{ Run() int }) (code int) { // TestMain(m *testing.M)
		livenesstest.Main()
		return m.Run()
	}
	fmt.Println(testMain(tests{}))
	// Output:
	// here are the tests
	// 0
}

// tests is a *testing.M.
type tests struct{}

func (tests) Run() int {
	fmt.Println("here are the tests")
	return 0
}

// A client that has sent everything still gets the whole answer.
func ExampleDial() {
	address, ended := serve(echo)
	peer, err := livenesstest.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer peer.Close()

	fmt.Fprint(peer, "hello")
	peer.CloseWrite()
	answer, err := io.ReadAll(peer)
	fmt.Printf("%s, %v\n", answer, err)
	fmt.Println("server:", <-ended)
	// Output:
	// hello, <nil>
	// server: <nil>
}

// What takes a connection needs no server to be tested.
func ExamplePair() {
	testEcho := func(t testing.TB) { // TestEcho(t *testing.T)
		conn, peer := livenesstest.Pair(t, "tcp4")
		go func() {
			fmt.Fprint(peer, "hello")
			peer.CloseWrite()
		}()
		fmt.Println(echo(conn))
		conn.Close()
		text, err := io.ReadAll(peer)
		fmt.Printf("%s, %v\n", text, err)
	}
	run(testEcho)
	// Output:
	// <nil>
	// hello, <nil>
}

// run runs a test where there is none.
func run(test func(testing.TB)) {
	var t exampleTB
	defer func() {
		for _, cleanup := range t.cleanups {
			cleanup()
		}
	}()
	test(&t)
}

// exampleTB is a testing.TB as far as Pair needs one.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (*exampleTB) Helper()                           {}
func (t *exampleTB) Cleanup(f func())                { t.cleanups = append(t.cleanups, f) }
func (*exampleTB) Skipf(format string, args ...any)  { log.Fatalf(format, args...) }
func (*exampleTB) Fatalf(format string, args ...any) { log.Fatalf(format, args...) }

// A Peer is a net.Conn: it can speak any protocol, and leave in the middle of it.
func ExamplePeer() {
	told := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(told)
	}))
	defer server.Close()
	peer, err := livenesstest.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(peer, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	peer.Close()
	<-told
	fmt.Println("the handler has stopped")
	// Output: the handler has stopped
}

// A peer above TLS says that it closes.
func ExampleNewPeer() {
	server, client, err := livenesstest.TLSConfig()
	if err != nil {
		log.Fatal(err)
	}
	address, ended := serve(func(conn net.Conn) error {
		secure := tls.Server(conn, server)
		fmt.Fprint(secure, "hello")
		return discard(secure)
	})
	conn, err := tls.Dial("tcp", address, client)
	if err != nil {
		log.Fatal(err)
	}
	peer := livenesstest.NewPeer(conn)
	text := make([]byte, len("hello"))
	io.ReadFull(peer, text)
	fmt.Printf("%s, %v\n", text, peer.Close())
	fmt.Println("server:", <-ended)
	// Output:
	// hello, <nil>
	// server: <nil>
}

func ExampleTLSConfig() {
	server, client, err := livenesstest.TLSConfig()
	if err != nil {
		log.Fatal(err)
	}
	near, far := net.Pipe()
	go func() {
		conn := tls.Server(near, server)
		fmt.Fprint(conn, "nobody else can read this")
		conn.Close()
	}()
	text, err := io.ReadAll(tls.Client(far, client))
	fmt.Printf("%s, %v\n", text, err)
	// Output: nobody else can read this, <nil>
}

// What a Peer has no method for is done to the connection that it covers.
func ExamplePeer_NetConn() {
	address, ended := serve(discard)
	peer, err := livenesstest.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(peer.NetConn().(*net.TCPConn).SetNoDelay(false))
	peer.Close()
	fmt.Println("server:", <-ended)
	// Output:
	// <nil>
	// server: <nil>
}

// What was sent before arrives before the end.
func ExamplePeer_Close() {
	var text []byte
	address, ended := serve(func(conn net.Conn) (err error) {
		text, err = io.ReadAll(conn)
		return err
	})
	peer, err := livenesstest.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(peer, "bye")
	peer.Close()
	fmt.Println("server:", <-ended)
	fmt.Printf("%s\n", text)
	// Output:
	// server: <nil>
	// bye
}

// A server that answers when it has read everything is one that half-closed connections need.
func ExamplePeer_CloseWrite() {
	address, ended := serve(func(conn net.Conn) error {
		text, err := io.ReadAll(conn)
		fmt.Fprintf(conn, "%d bytes", len(text))
		return err
	})
	peer, err := livenesstest.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer peer.Close()
	fmt.Fprint(peer, "a question")
	peer.CloseWrite()
	answer, err := io.ReadAll(peer)
	fmt.Printf("%s, %v\n", answer, err)
	fmt.Println("server:", <-ended)
	// Output:
	// 10 bytes, <nil>
	// server: <nil>
}

// A server that sends more than the buffers hold needs a client that reads.
func ExamplePeer_Drain() {
	address, ended := serve(func(conn net.Conn) error {
		_, err := conn.Write(make([]byte, 16<<20))
		return err
	})
	peer, err := livenesstest.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer peer.Close()
	peer.Drain()
	fmt.Println("server:", <-ended)
	// Output: server: <nil>
}
