package afd_test

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
	reads := readOne(conn)
	expectErr(windows.ERROR_OPERATION_ABORTED, 10)
	peer.Write([]byte("a"))
	require.NoError(t, <-reads)
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
	var seen [256]atomic.Int32
	var readers sync.WaitGroup
	for _, read := range []func([]byte) (int, error){
		conn.Read,
		func(b []byte) (n int, err error) {
			control(t, conn, func(fd uintptr) { n, err = afd.Recv(fd, b, 0) })
			return n, err
		},
	} {
		readers.Go(func() {
			buf := make([]byte, 3)
			for err := error(nil); err == nil || errors.Is(err, windows.ERROR_OPERATION_ABORTED); { // that there was nothing
				var n int
				n, err = read(buf)
				for _, b := range buf[:n] {
					seen[b].Add(1)
				}
			}
		})
	}
	for i := range total {
		_, err := peer.Write([]byte{byte(i)})
		require.NoError(t, err)
	}
	peer.CloseWrite()
	readers.Wait()
	for b := range seen {
		assert.EqualValues(t, (total+255-b)/256, seen[b].Load(), "byte %d", b)
	}
}
