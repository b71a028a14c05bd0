package afd_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

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
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(f); err != nil {
		t.Fatal(err)
	}
}

// now asks for all that the library asks for.
func now(t *testing.T, conn net.Conn) (events uint32) {
	t.Helper()
	control(t, conn, func(fd uintptr) {
		var err error
		if events, err = afd.Now(fd, afd.Receive|afd.Disconnect|afd.Abort); err != nil {
			t.Fatalf("Now: %v", err)
		}
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

func pair(t *testing.T) (*net.TCPConn, *livenesstest.Peer) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	return conn.(*net.TCPConn), peer
}

func TestNow(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		conn, _ := pair(t)
		expect(t, conn, 0)
	})
	t.Run("data", func(t *testing.T) {
		conn, peer := pair(t)
		peer.Write([]byte("x"))
		expect(t, conn, afd.Receive)
		expect(t, conn, afd.Receive) // it took nothing
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		expect(t, conn, 0)
	})
	t.Run("FIN", func(t *testing.T) {
		conn, peer := pair(t)
		peer.CloseWrite()
		expect(t, conn, afd.Disconnect)
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		expect(t, conn, afd.Disconnect) // it stays
	})
	t.Run("FIN behind data", func(t *testing.T) {
		conn, peer := pair(t)
		peer.Write([]byte("x"))
		peer.CloseWrite()
		if !wine() {
			expect(t, conn, afd.Receive|afd.Disconnect)
			return
		}
		expect(t, conn, afd.Receive)
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		expect(t, conn, afd.Disconnect)
	})
	t.Run("reset", func(t *testing.T) {
		conn, peer := pair(t)
		peer.Reset()
		expect(t, conn, afd.Abort)
		for range 2 { // who has asked has not taken the error from who reads
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, windows.WSAECONNRESET) {
				t.Errorf("Read returned %v", err)
			}
		}
		expect(t, conn, afd.Abort)
	})
	t.Run("reset behind data", func(t *testing.T) {
		conn, peer := pair(t)
		peer.Write([]byte("x"))
		expect(t, conn, afd.Receive)
		peer.Reset()
		expect(t, conn, afd.Abort)
	})
	t.Run("own shutdowns", func(t *testing.T) {
		conn, peer := pair(t)
		conn.CloseRead()
		expect(t, conn, 0)
		conn.CloseWrite()
		if _, err := peer.Read(make([]byte, 1)); err != io.EOF { // it has arrived
			t.Fatal(err)
		}
		expect(t, conn, 0)
		peer.CloseWrite()
		expect(t, conn, afd.Disconnect)
	})
	t.Run("no socket", func(t *testing.T) {
		event, err := windows.CreateEvent(nil, 1, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer windows.CloseHandle(event)
		for _, fd := range []uintptr{uintptr(event), 0, ^uintptr(0)} {
			if events, err := afd.Now(fd, afd.Receive|afd.Disconnect|afd.Abort); err == nil || events != 0 {
				t.Errorf("%#x: %#x, %v", fd, events, err)
			}
		}
	})
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
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	done = make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		done <- err
	}()
	expect(t, conn, 0)
	conn.Close() // does not wait for us
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read returned %v", err)
	}
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

func TestBaseOfSocket(t *testing.T) {
	conn, _ := pair(t)
	control(t, conn, func(fd uintptr) {
		if h, err := afd.Base(fd); err != nil || h == 0 {
			t.Errorf("%d, %v", h, err)
		}
	})
	if _, err := afd.Base(^uintptr(0)); !errors.Is(err, windows.WSAENOTSOCK) {
		t.Errorf("no socket: %v", err)
	}
}
