package livenesstest_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// A single cut stops one direction; a cut at both ends stops both, as a cable does.
func Example() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	peer, err := livenesstest.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer peer.Close()
	conn, err := listener.Accept() // the server's end, which is under test
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	receive := func(wait time.Duration) string {
		text := make([]byte, 64)
		conn.SetReadDeadline(time.Now().Add(wait))
		n, err := conn.Read(text)
		return fmt.Sprintf("%q, time-out: %v", text[:n], errors.Is(err, os.ErrDeadlineExceeded))
	}

	if _, err := livenesstest.Cut(peer); err != nil { // what the server sends does not arrive
		log.Fatal(err)
	}
	fmt.Fprint(peer, "still here")
	fmt.Println("peer is cut:", receive(10*time.Second))

	mend, err := livenesstest.Cut(peer, conn) // nothing arrives
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(peer, "lost")
	fmt.Println("both are cut:", receive(200*time.Millisecond))
	mend()
	// Output:
	// peer is cut: "still here", time-out: false
	// both are cut: "", time-out: true
}

// What an echo server sent while the cable was out arrives when it is back. This server waits for ever; how one that should
// give up does so is tested in the same way, without the mending.
func ExampleCut() {
	address, ended := serve(echo)
	peer, err := livenesstest.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer peer.Close()
	buffer := make([]byte, 64)

	mend, err := livenesstest.Cut(peer)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(peer, "anybody there?")
	peer.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, err = peer.Read(buffer)
	fmt.Println("cut:", errors.Is(err, os.ErrDeadlineExceeded))

	if err := mend(); err != nil {
		log.Fatal(err)
	}
	peer.SetReadDeadline(time.Time{})
	n, err := peer.Read(buffer)
	fmt.Printf("mended: %s %v\n", buffer[:n], err)

	peer.Close()
	fmt.Println("server:", <-ended)
	// Output:
	// cut: true
	// mended: anybody there? <nil>
	// server: <nil>
}

// To the server, a client that was killed looks like one that has nothing more to say: its kernel sends a FIN.
func ExampleStartProcess() {
	address, ended := serve(echo)
	client, err := livenesstest.StartProcess("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Release()

	if err := client.Kill(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("server:", <-ended)
	// Output:
	// server: <nil>
}

// A reset is an error, not an end of file.
func ExamplePeer_Reset() {
	address, ended := serve(discard)
	peer, err := livenesstest.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	peer.Reset()
	fmt.Println(errors.Is(<-ended, syscall.ECONNRESET))
	// Output: true
}

// start starts a client of a server under test.
func start(address string) *livenesstest.Process {
	client, err := livenesstest.StartProcess("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	return client
}

// flood is a server that sends more than the buffers hold, once it may begin, and gives up when that takes longer than a
// while, if it is not 0.
func flood(begin <-chan struct{}, while time.Duration) (address string, ended <-chan error) {
	return serve(func(conn net.Conn) error {
		<-begin
		if while > 0 {
			conn.SetWriteDeadline(time.Now().Add(while))
		}
		_, err := conn.Write(make([]byte, 64<<20))
		return err
	})
}

// A program hangs, and its kernel answers in its name. Only a time limit of the server's finds out.
func ExampleProcess() {
	address, ended := serve(func(conn net.Conn) error {
		watched, err := liveness.Wrap(conn, &liveness.Config{ReadIdleTimeout: 200 * time.Millisecond})
		if err != nil {
			return err
		}
		return discard(watched)
	})
	client := start(address)
	defer client.Release()
	client.Stop()
	fmt.Println(errors.Is(<-ended, liveness.ErrPeerIdle))
	// Output: true
}

func ExampleProcess_Send() {
	var received int64
	address, ended := serve(func(conn net.Conn) (err error) {
		received, err = io.Copy(io.Discard, conn)
		return err
	})
	client := start(address)
	defer client.Release()
	fmt.Println(client.Send(1 << 20)) // bytes, all zero
	client.Close()
	fmt.Println("server:", <-ended, received)
	// Output:
	// <nil>
	// server: <nil> 1048576
}

// The client reads whatever the server sends.
func ExampleProcess_Drain() {
	begin := make(chan struct{})
	address, ended := flood(begin, 0)
	client := start(address)
	defer client.Release()
	client.Drain()
	close(begin)
	fmt.Println("server:", <-ended)
	// Output: server: <nil>
}

// With the connection ends the process: there is nobody to command any more.
func ExampleProcess_Close() {
	address, ended := serve(discard)
	client := start(address)
	defer client.Release()
	client.Close()
	fmt.Println("server:", <-ended)
	fmt.Println(errors.Is(client.Send(1), os.ErrProcessDone))
	// Output:
	// server: <nil>
	// true
}

// A client that has said everything waits for what the server says.
func ExampleProcess_CloseWrite() {
	address, ended := serve(func(conn net.Conn) error {
		err := discard(conn)
		fmt.Fprint(conn, "an answer")
		return err
	})
	client := start(address)
	defer client.Release()
	client.CloseWrite()
	fmt.Println("server:", <-ended)
	// Output: server: <nil>
}

func ExampleProcess_Reset() {
	address, ended := serve(discard)
	client := start(address)
	defer client.Release()
	client.Reset()
	fmt.Println(errors.Is(<-ended, syscall.ECONNRESET))
	// Output: true
}

// A client behind a cut cable acknowledges nothing.
func ExampleProcess_Cut() {
	begin := make(chan struct{})
	address, ended := flood(begin, 200*time.Millisecond)
	client := start(address)
	defer client.Release()
	client.Drain()
	client.Cut()
	close(begin)
	fmt.Println(errors.Is(<-ended, os.ErrDeadlineExceeded))
	// Output: true
}

// What was sent meanwhile is sent again.
func ExampleProcess_Mend() {
	begin := make(chan struct{})
	address, ended := flood(begin, 0)
	client := start(address)
	defer client.Release()
	client.Drain()
	client.Cut()
	close(begin)
	client.Mend()
	fmt.Println("server:", <-ended)
	// Output: server: <nil>
}

// A program that hangs can be killed, too, and its kernel closes the connection.
func ExampleProcess_Kill() {
	address, ended := serve(discard)
	client := start(address)
	defer client.Release()
	client.Stop()
	fmt.Println(client.Kill())
	fmt.Println("server:", <-ended)
	fmt.Println(errors.Is(client.Kill(), os.ErrProcessDone))
	// Output:
	// <nil>
	// server: <nil>
	// true
}

// A program that hangs reads nothing: what the server sends is taken by its kernel, until the buffers are full.
func ExampleProcess_Stop() {
	begin := make(chan struct{})
	address, ended := flood(begin, 200*time.Millisecond)
	client := start(address)
	defer client.Release()
	client.Drain() // for as long as it runs
	client.Stop()
	close(begin)
	fmt.Println(errors.Is(<-ended, os.ErrDeadlineExceeded))
	// Output: true
}

// It hung for a moment only.
func ExampleProcess_Continue() {
	begin := make(chan struct{})
	address, ended := flood(begin, 0)
	client := start(address)
	defer client.Release()
	client.Drain()
	client.Stop()
	close(begin)
	client.Continue()
	fmt.Println("server:", <-ended)
	// Output: server: <nil>
}

// For a signal that Process has no method for.
func ExampleProcess_Pid() {
	address, ended := serve(discard)
	client := start(address)
	defer client.Release()
	syscall.Kill(client.Pid(), syscall.SIGTERM)
	fmt.Println("server:", <-ended)
	// Output: server: <nil>
}

// Whatever state a process is in, nothing is left of it.
func ExampleProcess_Release() {
	address, ended := serve(discard)
	client := start(address)
	client.Stop()
	fmt.Println(client.Release())
	fmt.Println("server:", <-ended)
	fmt.Println(client.Release()) // also deferred
	// Output:
	// <nil>
	// server: <nil>
	// <nil>
}
