package afd

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/livenesstest"
)

const patience = 10 * time.Second

// wine reports whether this is Wine, which does not show everything.
func wine() bool { return ntdll.NewProc("wine_get_version").Find() == nil }

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
		if events, err = Now(fd, Receive|Disconnect|Abort); err != nil {
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

// The driver takes AFD_POLL_INFO for one handle by its size, which is not that of
// its C structure everywhere.
func TestSizes(t *testing.T) {
	var p Poll
	want := uintptr(16 + 16) // AFD_POLL_HANDLE_INFO behind the rest
	if unsafe.Sizeof(uintptr(0)) == 4 {
		want = 16 + 12
	}
	if got := unsafe.Sizeof(p.info); got != want {
		t.Errorf("AFD_POLL_INFO has %d bytes; want %d", got, want)
	}
	if got, want := unsafe.Sizeof(p.status), 2*unsafe.Sizeof(uintptr(0)); got != want {
		t.Errorf("IO_STATUS_BLOCK has %d bytes; want %d", got, want)
	}
	if unsafe.Offsetof(p.status) != 0 || Of((*windows.Overlapped)(unsafe.Pointer(&p))) != &p {
		t.Error("a packet does not lead to its Poll")
	}
}

func TestNow(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		conn, _ := pair(t)
		expect(t, conn, 0)
	})
	t.Run("data", func(t *testing.T) {
		conn, peer := pair(t)
		peer.Write([]byte("x"))
		expect(t, conn, Receive)
		expect(t, conn, Receive) // it took nothing
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		expect(t, conn, 0)
	})
	t.Run("FIN", func(t *testing.T) {
		conn, peer := pair(t)
		peer.CloseWrite()
		expect(t, conn, Disconnect)
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		expect(t, conn, Disconnect) // it stays
	})
	t.Run("FIN behind data", func(t *testing.T) {
		conn, peer := pair(t)
		peer.Write([]byte("x"))
		peer.CloseWrite()
		if !wine() {
			expect(t, conn, Receive|Disconnect)
			return
		}
		expect(t, conn, Receive)
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		expect(t, conn, Disconnect)
	})
	t.Run("reset", func(t *testing.T) {
		conn, peer := pair(t)
		peer.Reset()
		expect(t, conn, Abort)
		for range 2 { // who has asked has not taken the error from who reads
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, windows.WSAECONNRESET) {
				t.Errorf("Read returned %v", err)
			}
		}
		expect(t, conn, Abort)
	})
	t.Run("reset behind data", func(t *testing.T) {
		conn, peer := pair(t)
		peer.Write([]byte("x"))
		expect(t, conn, Receive)
		peer.Reset()
		expect(t, conn, Abort)
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
		expect(t, conn, Disconnect)
	})
	t.Run("no socket", func(t *testing.T) {
		event, err := windows.CreateEvent(nil, 1, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer windows.CloseHandle(event)
		for _, fd := range []uintptr{uintptr(event), 0, ^uintptr(0)} {
			if events, err := Now(fd, Receive|Disconnect|Abort); err == nil || events != 0 {
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
		if events := now(t, conn); events&^Receive != 0 {
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
		ask := func() { Now(fd, Disconnect|Abort) }
		if n := testing.AllocsPerRun(100, ask); n >= 1 {
			t.Errorf("%v allocations while connected", n)
		}
	})
	peer.CloseWrite()
	expect(t, conn, Disconnect)
}

// A layered provider's socket has its base asked of it, in the way that it answers.
func TestBase(t *testing.T) {
	refused := errors.New("refused")
	// Each socket with what it answers.
	for name, sockets := range map[string]map[windows.Handle]map[uint32]windows.Handle{
		"none":           {1: {sioBaseHandle: 1}},
		"honest":         {1: {sioBaseHandle: 9}},
		"intercepts":     {1: {sioBSPHandlePoll: 9}, 9: {sioBaseHandle: 9}},
		"select alone":   {1: {sioBSPHandleSelect: 9}, 9: {sioBaseHandle: 9}},
		"handle alone":   {1: {sioBSPHandle: 9}, 9: {sioBaseHandle: 9}},
		"answers itself": {1: {sioBSPHandleSelect: 1, sioBSPHandlePoll: 9}, 9: {sioBaseHandle: 9}},
		"two":            {1: {sioBSPHandleSelect: 2}, 2: {sioBSPHandlePoll: 9}, 9: {sioBaseHandle: 9}},
		"nothing":        {1: {}},
		"only itself":    {1: {sioBSPHandleSelect: 1, sioBSPHandlePoll: 1, sioBSPHandle: 1}},
		"circle":         {1: {sioBSPHandleSelect: 2}, 2: {sioBSPHandleSelect: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := base(1, func(socket windows.Handle, code uint32) (windows.Handle, error) {
				if h, ok := sockets[socket][code]; ok {
					return h, nil
				}
				return 0, refused
			})
			want := windows.Handle(9)
			switch name {
			case "none":
				want = 1
			case "nothing", "only itself", "circle":
				if err == nil {
					t.Errorf("%d", got)
				}
				return
			}
			if got != want || err != nil {
				t.Errorf("%d, %v; want %d", got, err, want)
			}
		})
	}
	t.Run("no socket", func(t *testing.T) {
		asked := 0
		_, err := base(1, func(windows.Handle, uint32) (windows.Handle, error) { asked++; return 0, windows.WSAENOTSOCK })
		if err != windows.WSAENOTSOCK || asked != 1 {
			t.Errorf("%v, asked %d times", err, asked)
		}
	})
	t.Run("real", func(t *testing.T) {
		conn, _ := pair(t)
		control(t, conn, func(fd uintptr) {
			if h, err := Base(fd); err != nil || h == 0 {
				t.Errorf("%d, %v", h, err)
			}
		})
		if _, err := Base(^uintptr(0)); !errors.Is(err, windows.WSAENOTSOCK) {
			t.Errorf("no socket: %v", err)
		}
	})
}
