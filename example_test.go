//go:build linux

// The examples wait for notices, which not every system gives, and some show errno values of Unix.

package liveness_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// connect returns the two ends of a connection: ours, wrapped with cfg, and a peer
// that can end in every way.
func connect(cfg *liveness.Config) (*liveness.Conn, *livenesstest.Peer) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	peer, err := livenesstest.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	c, err := liveness.Wrap(conn, cfg)
	if err != nil {
		log.Fatal(err)
	}
	return c, peer
}

// Work in the name of a client stops when the client leaves.
func Example() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener = liveness.NewListener(listener, nil)
	defer listener.Close()

	// A client that asks, and does not wait for the answer.
	go func() {
		client, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintln(client, "something that takes long")
		client.Close()
	}()

	conn, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print("working on ", line)
	ctx, cancel := conn.(*liveness.Conn).Context(context.Background())
	defer cancel()
	select {
	case <-ctx.Done():
		fmt.Println("stopped:", errors.Is(context.Cause(ctx), liveness.ErrPeerClosed))
	case <-time.After(time.Minute):
		fmt.Fprintln(conn, "the answer")
	}
	// Output:
	// working on something that takes long
	// stopped: true
}

// The reasons tell apart who ended a connection, and how.
func Example_reasons() {
	tell := func(err error) string {
		switch {
		case err == nil:
			return "connected"
		case errors.Is(err, net.ErrClosed):
			return "we closed it ourselves"
		case errors.Is(err, liveness.ErrPeerClosed):
			return "the peer closed it in order"
		case errors.Is(err, liveness.ErrPeerReset):
			return "the peer reset it"
		case errors.Is(err, liveness.ErrPeerLost):
			return "the peer's host cannot be reached"
		case errors.Is(err, liveness.ErrPeerStalled):
			return "the peer's program takes no data"
		case errors.Is(err, liveness.ErrPeerIdle):
			return "the peer sends nothing"
		default:
			return "a reason of a later version: " + err.Error()
		}
	}
	for _, end := range []func(*liveness.Conn, *livenesstest.Peer){
		func(conn *liveness.Conn, peer *livenesstest.Peer) { peer.Close() },
		func(conn *liveness.Conn, peer *livenesstest.Peer) { peer.Reset() },
		func(conn *liveness.Conn, peer *livenesstest.Peer) { conn.Close() },
	} {
		conn, peer := connect(nil)
		fmt.Println(tell(conn.Err()))
		end(conn, peer)
		<-conn.Done()
		fmt.Println(tell(conn.Err()))
		conn.Close()
		peer.Close()
	}
	// Output:
	// connected
	// the peer closed it in order
	// connected
	// the peer reset it
	// connected
	// we closed it ourselves
}

// Each reason comes in a *net.OpError, with the system's errno beside it.
func ExampleErrPeerReset() {
	conn, peer := connect(nil)
	defer conn.Close()
	peer.Reset()
	<-conn.Done()
	err := conn.Err()
	fmt.Println(errors.Is(err, liveness.ErrPeerReset), errors.Is(err, unix.ECONNRESET))
	var op *net.OpError
	fmt.Println(errors.As(err, &op), op.Op, op.Net, op.Err)
	// Output:
	// true true
	// true watch tcp peer reset the connection: connection reset by peer
}

// An orderly end is also the end of file that a Read would have told.
func ExampleErrPeerClosed() {
	conn, peer := connect(nil)
	defer conn.Close()
	peer.Close()
	<-conn.Done()
	fmt.Println(errors.Is(conn.Err(), liveness.ErrPeerClosed), errors.Is(conn.Err(), io.EOF))
	// Output: true true
}

func ExampleWrap() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	conn, err := liveness.Wrap(accepted, nil)
	if err != nil {
		log.Fatal(err) // accepted is still ours
	}
	defer conn.Close() // closes accepted
	fmt.Println("alive:", conn.Alive())

	client.Close()
	<-conn.Done()
	fmt.Println("alive:", conn.Alive())
	// Output:
	// alive: true
	// alive: false
}

// TLS goes above. From finds the Conn beneath.
func ExampleWrap_tls() {
	server, client, err := livenesstest.TLSConfig()
	if err != nil {
		log.Fatal(err)
	}
	conn, peer := connect(nil)
	secure := tls.Server(conn, server)
	defer secure.Close()
	go func() {
		tls.Client(peer, client).Handshake()
		peer.Close()
	}()
	if err := secure.Handshake(); err != nil {
		log.Fatal(err)
	}
	<-conn.Done()
	fmt.Println(liveness.Check(secure) == conn.Err())
	// Output: true
}

func ExampleNewListener() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	gone := make(chan string)
	listener = liveness.NewListener(listener, &liveness.Config{
		OnDisconnect: func(conn *liveness.Conn, err error) {
			if errors.Is(err, net.ErrClosed) {
				return // we closed it ourselves
			}
			gone <- conn.RemoteAddr().String()
		},
	})
	go func() {
		for { // an accept loop as it always was
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, conn)
		}
	}()

	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	client.Close()
	fmt.Println(<-gone == client.LocalAddr().String())
	listener.Close()
	// Output: true
}

// What goes above a listener goes above this one, and From finds the Conn beneath.
func ExampleListener() {
	server, _, err := livenesstest.TLSConfig()
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener := tls.NewListener(liveness.NewListener(inner, nil), server)
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	watched, ok := liveness.From(conn)
	fmt.Println(ok, watched.Alive())

	client.Close() // before any handshake
	<-watched.Done()
	fmt.Println(watched.Alive())
	// Output:
	// true true
	// false
}

func ExampleListener_Accept() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener := liveness.NewListener(inner, nil)
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	conn, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Printf("%T\n", conn)
	// Output: *liveness.Conn
}

func ExampleListener_Addr() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener := liveness.NewListener(inner, nil)
	defer listener.Close()
	fmt.Println(listener.Addr() == inner.Addr())
	// Output: true
}

// Connections live on, and are watched on.
func ExampleListener_Close() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener := liveness.NewListener(inner, nil)
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	conn, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	listener.Close()
	_, err = listener.Accept()
	fmt.Println(errors.Is(err, net.ErrClosed))
	fmt.Println(conn.(*liveness.Conn).Alive())
	// Output:
	// true
	// true
}

// What only the wrapped listener can do, it can still do.
func ExampleListener_NetListener() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener := liveness.NewListener(inner, nil)
	defer listener.Close()
	listener.NetListener().(*net.TCPListener).SetDeadline(time.Now().Add(time.Millisecond))
	_, err = listener.Accept()
	fmt.Println(errors.Is(err, os.ErrDeadlineExceeded))
	// Output: true
}

func ExampleFrom() {
	server, _, err := livenesstest.TLSConfig()
	if err != nil {
		log.Fatal(err)
	}
	conn, peer := connect(nil)
	defer peer.Close()
	secure := tls.Server(conn, server)
	defer secure.Close()

	found, ok := liveness.From(secure) // as a library does that is given a net.Conn
	fmt.Println(found == conn, ok)
	_, ok = liveness.From(peer)
	fmt.Println(ok)
	// Output:
	// true true
	// false
}

// A pool looks before it hands a connection out again, wrapped or not.
func ExampleCheck() {
	conn, peer := connect(nil)
	defer conn.Close()
	idle := conn.NetConn()

	usable := func(conn net.Conn) bool {
		err := liveness.Check(conn)
		// Where nothing can be seen, the next request will tell.
		return err == nil || errors.Is(err, errors.ErrUnsupported)
	}
	fmt.Println(usable(idle))
	peer.Close()
	<-conn.Done()
	fmt.Println(usable(idle))

	pipe, other := net.Pipe()
	defer other.Close()
	defer pipe.Close()
	fmt.Println(usable(pipe))
	// Output:
	// true
	// false
	// true
}

// Long work stops when the client leaves, and knows why.
func ExampleConnContext() {
	working, stopped := make(chan struct{}), make(chan error)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(working)
		<-r.Context().Done()
		conn, _ := liveness.FromContext(r.Context())
		stopped <- conn.Err()
	}))
	server.Listener = liveness.NewListener(server.Listener, nil)
	server.Config.ConnContext = liveness.ConnContext
	server.Start()
	defer server.Close()

	client, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	// The body is on its way, and the server has not read it.
	fmt.Fprint(client, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nsome of it")
	<-working
	client.Close()
	fmt.Println(errors.Is(<-stopped, liveness.ErrPeerClosed))
	// Output: true
}

func ExampleFromContext() {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, ok := liveness.FromContext(r.Context())
		fmt.Fprint(w, ok, " ", conn.Status().State)
	}))
	server.Listener = liveness.NewListener(server.Listener, nil)
	server.Config.ConnContext = liveness.ConnContext
	server.Start()
	defer server.Close()

	response, err := server.Client().Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	io.Copy(os.Stdout, response.Body)
	// Output: true connected
}

func ExampleKeepAlive() {
	tuning := liveness.KeepAlive(time.Minute)
	fmt.Println("the first probe after", tuning.Idle)
	fmt.Println("then another every", tuning.Interval)
	fmt.Println("and the end after", tuning.Count, "without an answer, which makes", tuning.Idle+time.Duration(tuning.Count)*tuning.Interval)

	// It is what package net takes.
	listener, err := (&net.ListenConfig{KeepAliveConfig: tuning}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener.Close()
	// Output:
	// the first probe after 20s
	// then another every 10s
	// and the end after 4 without an answer, which makes 1m0s
}

// A client that has finished sending may wait for the answer.
func ExampleConfig_allowHalfClose() {
	conn, peer := connect(&liveness.Config{AllowHalfClose: true})
	defer conn.Close()
	fmt.Fprint(peer, "a question")
	peer.CloseWrite()
	question, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %v, alive: %t\n", question, conn.Status().State, conn.Alive())

	fmt.Fprint(conn, "an answer")
	conn.CloseWrite()
	answer, err := io.ReadAll(peer)
	if err != nil {
		log.Fatal(err)
	}
	<-conn.Done() // both sides have finished
	fmt.Printf("%s: %v\n", answer, errors.Is(conn.Err(), liveness.ErrPeerClosed))
	// Output:
	// a question: half-closed, alive: true
	// an answer: true
}

func ExampleConfig_onDisconnect() {
	ended := make(chan struct{})
	conn, peer := connect(&liveness.Config{
		OnDisconnect: func(conn *liveness.Conn, err error) {
			defer close(ended)
			if errors.Is(err, net.ErrClosed) {
				return // we closed it ourselves
			}
			fmt.Println("the peer left:", err == conn.Err())
		},
	})
	defer conn.Close() // the callback does not do it
	peer.Close()
	<-ended
	// Output: the peer left: true
}

// A Conn is a net.Conn, also for code that knows nothing of it.
func ExampleConn() {
	conn, peer := connect(nil)
	defer conn.Close()
	fmt.Fprintln(peer, "hello")
	peer.Close()

	line, err := bufio.NewReader(conn).ReadString('\n')
	fmt.Printf("%q %v\n", line, err)
	<-conn.Done()
	fmt.Println(conn.Alive(), errors.Is(conn.Err(), liveness.ErrPeerClosed))
	// Output:
	// "hello\n" <nil>
	// false true
}

func ExampleConn_Alive() {
	conn, peer := connect(nil)
	defer conn.Close()
	fmt.Fprint(peer, "bytes that nobody reads")
	conn.SetDeadline(time.Now().Add(-time.Second)) // neither of which is an end
	fmt.Println(conn.Alive())
	peer.Reset()
	for conn.Alive() {
		// The reset is on its way.
	}
	fmt.Println(conn.Err() != nil)
	// Output:
	// true
	// true
}

func ExampleConn_Err() {
	conn, peer := connect(nil)
	fmt.Println(conn.Err())
	peer.Close()
	<-conn.Done()
	first := conn.Err()
	conn.Close()
	fmt.Println(errors.Is(first, liveness.ErrPeerClosed), conn.Err() == first)
	// Output:
	// <nil>
	// true true
}

func ExampleConn_Done() {
	conn, peer := connect(nil)
	defer conn.Close()
	results := make(chan string)
	peer.Close()
	select {
	case result := <-results:
		fmt.Println(result)
	case <-conn.Done():
		fmt.Println("nobody is there to take the result")
	}
	// Output: nobody is there to take the result
}

func ExampleConn_OnDisconnect() {
	conn, peer := connect(nil)
	defer conn.Close()
	told := make(chan error)
	stopFirst := conn.OnDisconnect(func(err error) { told <- err })
	stopSecond := conn.OnDisconnect(func(err error) { told <- err })
	fmt.Println("stopped:", stopFirst())

	peer.Close()
	err := <-told
	fmt.Println("told:", errors.Is(err, liveness.ErrPeerClosed))
	fmt.Println("stopped:", stopSecond())
	// Output:
	// stopped: true
	// told: true
	// stopped: false
}

func ExampleConn_Context() {
	conn, peer := connect(nil)
	defer conn.Close()
	ctx, cancel := conn.Context(context.Background())
	defer cancel()
	peer.Reset()
	<-ctx.Done()
	fmt.Println(ctx.Err())
	fmt.Println(errors.Is(context.Cause(ctx), liveness.ErrPeerReset))
	// Output:
	// context canceled
	// true
}

func ExampleConn_Status() {
	conn, peer := connect(nil)
	defer conn.Close()
	fmt.Println(conn.Status().State)
	fmt.Fprint(peer, "last words")
	peer.Close()
	<-conn.Done()
	status := conn.Status()
	fmt.Println(status.State, status.Err == conn.Err())
	fmt.Println(status.Unread, "bytes can still be read")
	// Output:
	// connected
	// disconnected true
	// 10 bytes can still be read
}

func ExampleStatus() {
	conn, _ := net.Pipe()
	c, err := liveness.Wrap(conn, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	// There is no socket in it, so there is nothing to see.
	fmt.Println(c.Status() == liveness.Status{}, c.Status().State)
	// Output: true unknown
}

// A page that shows how the connections of a server are.
func ExampleState() {
	watch := &liveness.Config{AllowHalfClose: true}
	busy, client := connect(watch)
	defer busy.Close()
	defer client.Close()
	asked, waiting := connect(watch)
	defer asked.Close()
	defer waiting.Close()
	over, gone := connect(watch)
	defer over.Close()

	waiting.CloseWrite()
	io.ReadAll(asked)
	gone.Reset()
	<-over.Done()
	count := make(map[liveness.State]int)
	for _, conn := range []*liveness.Conn{busy, asked, over} {
		count[conn.Status().State]++
	}
	fmt.Println(count)
	// Output: map[connected:1 half-closed:1 disconnected:1]
}

func ExampleState_String() {
	for _, state := range []liveness.State{
		liveness.Unknown, liveness.Connected, liveness.HalfClosed, liveness.Stalled, liveness.Suspect, liveness.Disconnected,
	} {
		fmt.Println(state)
	}
	// Output:
	// unknown
	// connected
	// half-closed
	// stalled
	// suspect
	// disconnected
}

func ExampleConn_NetConn() {
	conn, peer := connect(nil)
	defer conn.Close()
	defer peer.Close()
	fmt.Println(conn.NetConn().(*net.TCPConn).SetNoDelay(false))
	// Output: <nil>
}

func ExampleConn_Read() {
	conn, peer := connect(nil)
	defer conn.Close()
	fmt.Fprint(peer, "last words")
	peer.Reset()
	<-conn.Done()
	// The end takes nothing away.
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	fmt.Printf("%s, %v\n", buf[:n], err)
	_, err = conn.Read(buf)
	fmt.Println(errors.Is(err, unix.ECONNRESET))
	// Output:
	// last words, <nil>
	// true
}

// The kernel takes the bytes also for a peer that has left: only the watch tells.
func ExampleConn_Write() {
	conn, peer := connect(nil)
	defer conn.Close()
	peer.Close()
	<-conn.Done()
	n, err := conn.Write([]byte("an answer"))
	fmt.Println(n, err)
	fmt.Println(errors.Is(conn.Err(), liveness.ErrPeerClosed))
	// Output:
	// 9 <nil>
	// true
}

func ExampleConn_Close() {
	conn, peer := connect(nil)
	defer peer.Close()
	conn.Close()
	fmt.Println(errors.Is(conn.Err(), net.ErrClosed))
	// Output: true
}

func ExampleConn_LocalAddr() {
	conn, peer := connect(nil)
	defer conn.Close()
	defer peer.Close()
	fmt.Println(conn.LocalAddr().String() == peer.RemoteAddr().String())
	// Output: true
}

// After the end it still says whose end that was.
func ExampleConn_RemoteAddr() {
	conn, peer := connect(nil)
	who := peer.LocalAddr().String()
	peer.Reset()
	<-conn.Done()
	conn.Close()
	fmt.Println(conn.RemoteAddr().String() == who)
	// Output: true
}

// A deadline is for one wait. It may be moved, and the connection goes on.
func ExampleConn_SetDeadline() {
	conn, peer := connect(nil)
	defer conn.Close()
	defer peer.Close()
	buf := make([]byte, 100)
	conn.SetDeadline(time.Now().Add(time.Millisecond))
	_, err := conn.Read(buf)
	fmt.Println(errors.Is(err, os.ErrDeadlineExceeded), conn.Err())

	conn.SetDeadline(time.Time{}) // none
	fmt.Fprint(peer, "sorry for being late")
	n, err := conn.Read(buf)
	fmt.Printf("%s, %v\n", buf[:n], err)
	// Output:
	// true <nil>
	// sorry for being late, <nil>
}

// A peer that takes nothing for a moment is no peer that is gone.
func ExampleConn_SetWriteDeadline() {
	conn, peer := connect(nil)
	defer conn.Close()
	defer peer.Close()
	conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := io.Copy(conn, endless{})
	fmt.Println(errors.Is(err, os.ErrDeadlineExceeded), conn.Alive())
	// Output: true true
}

// A deadline of ours says nothing of the peer.
func ExampleConn_SetReadDeadline() {
	conn, peer := connect(nil)
	defer conn.Close()
	defer peer.Close()
	conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	fmt.Println(errors.Is(err, os.ErrDeadlineExceeded), conn.Alive())
	// Output: true true
}

// net.Buffers.WriteTo would make one system call for each buffer.
func ExampleConn_WriteBuffers() {
	conn, peer := connect(nil)
	buffers := net.Buffers{[]byte("a head, "), []byte("a body, "), []byte("a tail")}
	n, err := conn.WriteBuffers(&buffers)
	fmt.Println(n, err, len(buffers))
	conn.Close()
	text, _ := io.ReadAll(peer)
	fmt.Printf("%s\n", text)
	// Output:
	// 22 <nil> 0
	// a head, a body, a tail
}

// io.Copy finds ReadFrom, and the file goes by sendfile.
func ExampleConn_ReadFrom() {
	file, err := os.CreateTemp("", "liveness")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	fmt.Fprint(file, "the contents of a file")
	file.Seek(0, io.SeekStart)

	conn, peer := connect(nil)
	n, err := io.Copy(conn, file)
	fmt.Println(n, err)
	conn.Close()
	text, _ := io.ReadAll(peer)
	fmt.Printf("%s\n", text)
	// Output:
	// 22 <nil>
	// the contents of a file
}

// io.Copy finds WriteTo, and between two sockets the bytes go by splice.
func ExampleConn_WriteTo() {
	upstream, source := connect(nil)
	defer upstream.Close()
	client, destination := connect(nil)
	go func() {
		fmt.Fprint(source, strings.Repeat("from end to end ", 1000))
		source.Close()
	}()
	go func() {
		io.Copy(client, upstream)
		client.Close()
	}()
	text, err := io.ReadAll(destination)
	fmt.Println(bytes.Count(text, []byte("from end to end")), err)
	// Output: 1000 <nil>
}

// Our own shutdown is no end.
func ExampleConn_CloseRead() {
	conn, peer := connect(nil)
	defer conn.Close()
	defer peer.Close()
	fmt.Println(conn.CloseRead(), conn.Alive())
	// Output: <nil> true
}

func ExampleConn_CloseWrite() {
	conn, peer := connect(nil)
	defer conn.Close()
	defer peer.Close()
	fmt.Println(conn.CloseWrite(), conn.Alive())
	_, err := peer.Read(make([]byte, 1))
	fmt.Println(err)

	// Not every connection has halves.
	pipe, other := net.Pipe()
	defer other.Close()
	c, err := liveness.Wrap(pipe, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := c.CloseWrite(); errors.Is(err, errors.ErrUnsupported) {
		c.Close() // or the other end would wait for more
	}
	// Output:
	// <nil> true
	// EOF
}

func ExampleConn_SyscallConn() {
	conn, peer := connect(nil)
	defer conn.Close()
	defer peer.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		log.Fatal(err)
	}
	var kind int
	raw.Control(func(fd uintptr) { kind, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE) })
	fmt.Println(kind == unix.SOCK_STREAM, err)
	// Output: true <nil>
}
