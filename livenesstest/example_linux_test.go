package livenesstest_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

// What an echo server sent while the cable was out arrives when it is back. This server waits for ever; how one that should
// give up does so is tested in the same way, without the mending.
func ExampleCut() {
	address, ended := echo()
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
	address, ended := echo()
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
