package afd_test

import (
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/internal/afd"
)

// Recv waits for nothing, takes what there is, and leaves a Read that waits
// alone.
func TestRecv(t *testing.T) {
	conn, peer := pair(t)
	recv := func() (n int, err error) {
		control(t, conn, func(fd uintptr) { n, err = afd.Recv(fd, make([]byte, 2), 0) })
		return n, err
	}
	expectErr := func(want error, times int) {
		t.Helper()
		for range times {
			if n, err := recv(); n != 0 || !errors.Is(err, want) {
				t.Fatalf("%d, %v; want %v", n, err, want)
			}
		}
	}
	expectErr(windows.ERROR_OPERATION_ABORTED, 100)
	reads := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		reads <- err
	}()
	expectErr(windows.ERROR_OPERATION_ABORTED, 10)
	peer.Write([]byte("a"))
	if err := <-reads; err != nil {
		t.Fatal(err)
	}
	peer.Write([]byte("bcd"))
	got := 0
	for deadline := time.Now().Add(patience); got < 3; {
		n, _ := recv()
		if got += n; time.Now().After(deadline) {
			t.Fatalf("%d bytes of 3", got)
		}
	}
	peer.CloseWrite()
	expect(t, conn, afd.Disconnect)
	expectErr(io.EOF, 2)
	conn, peer = pair(t)
	peer.Reset()
	expect(t, conn, afd.Abort)
	expectErr(windows.WSAECONNRESET, 2)
}

// No byte is lost or seen twice between Reads and Recv.
func TestRecvRaces(t *testing.T) {
	conn, peer := pair(t)
	const total = 1000
	var mu sync.Mutex
	seen := make(map[byte]int)
	count := func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		for _, b := range b {
			seen[b]++
		}
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		buf := make([]byte, 3)
		for {
			n, err := conn.Read(buf)
			count(buf[:n])
			if err != nil {
				return
			}
		}
	})
	readers.Go(func() {
		buf := make([]byte, 3)
		for {
			var n int
			var err error
			control(t, conn, func(fd uintptr) { n, err = afd.Recv(fd, buf, 0) })
			count(buf[:n])
			if err == io.EOF {
				return
			}
		}
	})
	for i := range total {
		if _, err := peer.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	peer.CloseWrite()
	readers.Wait()
	for b := range 256 {
		if want := (total + 255 - b) / 256; seen[byte(b)] != want {
			t.Errorf("byte %d came %d times; want %d", b, seen[byte(b)], want)
		}
	}
}
