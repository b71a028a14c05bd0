package afd_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/internal/afd"
	"github.com/go-liveness/liveness/livenesstest"
)

const patience = 10 * time.Second

// wine reports whether this is Wine, which does not show everything.
func wine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

// control runs f with the handle of conn held open.
func control(t *testing.T, conn net.Conn, f func(fd uintptr)) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(f))
}

const all = afd.Receive | afd.Disconnect | afd.Abort // that the library asks for

func now(t *testing.T, conn net.Conn) (events uint32) {
	t.Helper()
	control(t, conn, func(fd uintptr) {
		var err error
		events, err = afd.Now(fd, all)
		require.NoError(t, err)
	})
	return events
}

// expect waits until Now tells want: what a peer does arrives when it does.
func expect(t *testing.T, conn net.Conn, want uint32) {
	t.Helper()
	var got uint32
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if got = now(t, conn); got == want {
			return
		}
	}
	t.Fatalf("%#x; want %#x", got, want)
}

// readOne reads a byte, and sends what came of it.
func readOne(conn net.Conn) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		done <- err
	}()
	return done
}

func pair(t *testing.T) (*net.TCPConn, *livenesstest.Peer) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	return conn.(*net.TCPConn), peer
}

func TestNowTellsWhatThereIsAndTakesNothing(t *testing.T) {
	behindData := "data FIN receive|disconnect"
	if wine() {
		behindData = "data FIN receive read disconnect"
	}
	events := map[string]uint32{"none": 0, "receive": afd.Receive, "disconnect": afd.Disconnect, "receive|disconnect": afd.Receive | afd.Disconnect, "abort": afd.Abort}
	for name, steps := range map[string]string{
		"idle":              "none",
		"data":              "data receive receive read none",
		"FIN":               "FIN disconnect EOF disconnect",
		"FIN behind data":   behindData,
		"reset":             "reset abort RST RST abort",
		"reset behind data": "data receive reset abort",
		"own shutdowns":     "closeRead none closeWrite peerEOF none FIN disconnect",
	} {
		t.Run(name, func(t *testing.T) {
			conn, peer := pair(t)
			for step := range strings.FieldsSeq(steps) {
				switch want, is := events[step]; {
				case is:
					expect(t, conn, want)
				case step == "data":
					peer.Write([]byte("x"))
				case step == "FIN":
					peer.CloseWrite()
				case step == "reset":
					peer.Reset()
				case step == "closeRead":
					conn.CloseRead()
				case step == "closeWrite":
					conn.CloseWrite()
				case step == "peerEOF": // it has arrived
					_, err := peer.Read(make([]byte, 1))
					require.Equal(t, io.EOF, err)
				default:
					_, err := conn.Read(make([]byte, 1))
					want := map[string]error{"read": nil, "EOF": io.EOF, "RST": windows.WSAECONNRESET}[step]
					require.True(t, errors.Is(err, want), "%s: %v", step, err)
				}
			}
		})
	}
}

func TestWhatIsNoSocketIsAnError(t *testing.T) {
	conn, _ := pair(t)
	control(t, conn, func(fd uintptr) {
		h, err := afd.Base(fd)
		assert.NoError(t, err)
		assert.NotZero(t, h)
	})
	_, err := afd.Base(^uintptr(0))
	assert.ErrorIs(t, err, windows.WSAENOTSOCK)
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	require.NoError(t, err)
	defer windows.CloseHandle(event)
	for _, fd := range []uintptr{uintptr(event), 0, ^uintptr(0)} {
		events, err := afd.Now(fd, all)
		assert.Error(t, err, fd)
		assert.Zero(t, events, fd)
	}
}

// Neither a Read that waits nor the looks are disturbed by the other.
func TestNowBesideRead(t *testing.T) {
	conn, peer := pair(t)
	const rounds = 200
	done := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(conn, make([]byte, rounds))
		done <- err
	}()
	for range rounds {
		if events := now(t, conn); events&^afd.Receive != 0 {
			t.Fatalf("%#x", events)
		}
		peer.Write([]byte("x"))
	}
	require.NoError(t, <-done)
	done = readOne(conn)
	expect(t, conn, 0)
	conn.Close() // does not wait for us
	assert.ErrorIs(t, <-done, net.ErrClosed)
}

func TestNowAllocatesNothing(t *testing.T) {
	conn, peer := pair(t)
	control(t, conn, func(fd uintptr) {
		ask := func() { afd.Now(fd, afd.Disconnect|afd.Abort) }
		if n := testing.AllocsPerRun(100, ask); n >= 1 {
			t.Errorf("%v allocations while connected", n)
		}
	})
	peer.CloseWrite()
	expect(t, conn, afd.Disconnect)
}
