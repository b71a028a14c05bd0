package liveness

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/livenesstest"
)

const windowsPatience = 20 * time.Second

// wine reports whether this is Wine. Only tests ask.
func wine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

func windowsPair(t *testing.T) (*net.TCPConn, *livenesstest.Peer) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	return conn.(*net.TCPConn), peer
}

// at runs f with the handle of conn held open.
func at(t *testing.T, conn syscall.Conn, f func(fd uintptr)) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(f); err != nil {
		t.Fatal(err)
	}
}

func waitEnd(t *testing.T, c *Conn) error {
	t.Helper()
	select {
	case <-c.Done():
		return c.Err()
	case <-time.After(windowsPatience):
		t.Fatal("nobody was told of the end")
		return nil
	}
}

// eventually waits for what no channel tells.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(windowsPatience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come to that: %s", what)
		}
	}
}

// The errno in Err is that of Winsock, and goes by the name that other systems have
// for it too.
func TestWinsockErrnos(t *testing.T) {
	for _, test := range []struct {
		errno, posix syscall.Errno
		reason       error
	}{
		{windows.WSAECONNRESET, syscall.ECONNRESET, ErrPeerReset},
		{windows.WSAENETRESET, syscall.ENETRESET, ErrPeerLost},       // keep-alive
		{windows.WSAECONNABORTED, syscall.ECONNABORTED, ErrPeerLost}, // retransmissions
		{windows.WSAETIMEDOUT, syscall.ETIMEDOUT, ErrPeerLost},
		{windows.WSAEHOSTUNREACH, syscall.EHOSTUNREACH, ErrPeerLost},
		{windows.WSAENETUNREACH, syscall.ENETUNREACH, ErrPeerLost},
		{windows.WSAEHOSTDOWN, syscall.EHOSTDOWN, ErrPeerLost},
		{windows.WSAENETDOWN, syscall.ENETDOWN, ErrPeerLost},
		{windows.WSAECONNREFUSED, syscall.ECONNREFUSED, ErrPeerLost},
		{windows.WSAENOTSOCK, 0, ErrPeerReset},
	} {
		// As package net tells it, and as others may.
		for _, inner := range []syscall.Errno{test.errno, test.posix} {
			if inner == 0 {
				continue
			}
			told := &net.OpError{Op: "read", Err: &net.OpError{Err: inner}}
			errno := errnoIn(told)
			if got := reasonOf(errno); got != test.reason {
				t.Errorf("%v: %v; want %v", inner, got, test.reason)
			}
			if isShut(errno) || isEnd(errno) != (test.posix != 0) {
				t.Errorf("%v: shut %t, end %t", inner, isShut(errno), isEnd(errno))
			}
		}
		err := error(&cause{reason: test.reason, err: errnoIn(test.errno)})
		for target, want := range map[error]bool{
			test.reason: true, test.errno: true, test.posix: test.posix != 0,
			windows.WSAEINTR: false, syscall.EIO: false, syscall.Errno(0): false, io.EOF: false,
		} {
			if errors.Is(err, target) != want {
				t.Errorf("errors.Is(%v, %#v) is %t", err, target, !want)
			}
		}
		var errno syscall.Errno
		if !errors.As(err, &errno) || errno != test.errno {
			t.Errorf("the errno in %v is %d", err, errno)
		}
	}
	for _, errno := range []syscall.Errno{windows.WSAESHUTDOWN, syscall.EPIPE} {
		if err := errnoIn(errno); !isShut(err) || isLost(err) || isEnd(err) {
			t.Errorf("%v is that of a Write after our own CloseWrite", errno)
		}
	}
	if errnoIn(io.EOF) != nil || errnoIn(nil) != nil || isEnd(nil) || isLost(nil) || isShut(nil) {
		t.Error("an errno where there is none")
	}
}

// Nobody reads, nobody looks, and the end is told with its reason and errno.
func TestWindowsEndings(t *testing.T) {
	t.Run("FIN", func(t *testing.T) {
		conn, peer := windowsPair(t)
		c, err := Wrap(conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		peer.CloseWrite()
		if err := waitEnd(t, c); !errors.Is(err, ErrPeerClosed) {
			t.Error(err)
		}
	})
	t.Run("FIN behind data", func(t *testing.T) {
		conn, peer := windowsPair(t)
		c, err := Wrap(conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		peer.Write([]byte("x"))
		peer.CloseWrite()
		if wine() { // tells when the data are read
			eventually(t, "data", func() bool { return c.Status().Unread == 1 })
			if !c.Alive() {
				t.Error("Wine has learned to see a FIN behind data: remove the exception")
			}
			io.ReadFull(c, make([]byte, 1))
		}
		if err := waitEnd(t, c); !errors.Is(err, ErrPeerClosed) {
			t.Error(err)
		}
		if !wine() && c.Status().Unread != 1 {
			t.Errorf("%+v", c.Status())
		}
	})
	t.Run("reset", func(t *testing.T) {
		for _, unread := range []bool{false, true} {
			conn, peer := windowsPair(t)
			c, err := Wrap(conn, nil)
			if err != nil {
				t.Fatal(err)
			}
			if unread {
				peer.Write([]byte("x"))
			}
			peer.Reset()
			err = waitEnd(t, c)
			for _, target := range []error{ErrPeerReset, windows.WSAECONNRESET, syscall.ECONNRESET} {
				if !errors.Is(err, target) {
					t.Errorf("%v is not %v", err, target)
				}
			}
			for range 2 {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, windows.WSAECONNRESET) {
					t.Errorf("Read returned %v", err)
				}
			}
		}
	})
	t.Run("half-closed, and what ends it", func(t *testing.T) {
		for _, reset := range []bool{false, true} {
			conn, peer := windowsPair(t)
			c, err := Wrap(conn, &Config{AllowHalfClose: true})
			if err != nil {
				t.Fatal(err)
			}
			peer.CloseWrite()
			eventually(t, "half-closed", func() bool { return c.Status().State == HalfClosed })
			if !c.Alive() {
				t.Fatal(c.Err())
			}
			want := ErrPeerClosed
			if reset {
				want = ErrPeerReset
				peer.Reset()
			} else if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := waitEnd(t, c); !errors.Is(err, want) {
				t.Error(err)
			}
		}
	})
	t.Run("own shutdowns", func(t *testing.T) {
		conn, peer := windowsPair(t)
		c, err := Wrap(conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.CloseRead()
		c.CloseWrite()
		if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		if !c.Alive() || c.Status().State != Connected {
			t.Errorf("%v, %+v", c.Err(), c.Status())
		}
		peer.CloseWrite()
		if err := waitEnd(t, c); !errors.Is(err, ErrPeerClosed) {
			t.Error(err)
		}
	})
}

// A look blocks nobody, least of all Close, as a recv with MSG_PEEK would; and it
// allocates nothing.
func TestWindowsLook(t *testing.T) {
	conn, peer := windowsPair(t)
	c, err := Wrap(conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	reads := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		reads <- err
	}()
	if n := testing.AllocsPerRun(100, func() { c.Alive() }); n >= 1 && !RaceBuild {
		t.Errorf("Alive allocates %v times", n)
	}
	if status := c.Status(); status.State != Connected || status.Unread != 0 {
		t.Errorf("%+v", status)
	}
	peer.Write([]byte("x"))
	if err := <-reads; err != nil {
		t.Error(err)
	}
	peer.Write([]byte("xyz"))
	eventually(t, "unread bytes", func() bool { return c.Status().Unread == 3 })
	go func() {
		for c.Alive() {
		}
	}()
	began := time.Now()
	c.Close()
	if took := time.Since(began); took > windowsPatience/2 {
		t.Errorf("Close took %v", took)
	}
	if err := c.Ping(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// What the socket says of its end counts for more than a Write does, which fails
// with WSAECONNABORTED after a reset too.
func TestAutopsy(t *testing.T) {
	write := &net.OpError{Op: "write", Err: windows.WSAECONNABORTED}
	conn, peer := windowsPair(t)
	var s socket
	see := func(h error, likely error) (seen sight) {
		at(t, conn, func(fd uintptr) { seen = s.autopsy(fd, false, h, likely) })
		return seen
	}
	// To a socket that has not ended no errno can be had.
	for _, test := range []struct{ hint, likely, want error }{
		{nil, errReset, windows.WSAECONNRESET},
		{nil, errTimedOut, windows.WSAETIMEDOUT},
		{io.EOF, errTimedOut, windows.WSAETIMEDOUT},
		{windows.WSAENETRESET, errReset, windows.WSAENETRESET},
		{write, errReset, windows.WSAECONNABORTED},
		{windows.WSAEINTR, errReset, windows.WSAECONNRESET},
	} {
		if seen := see(test.hint, test.likely); seen.outcome != aborted || !errors.Is(seen.errno, test.want) {
			t.Errorf("%v, %v: %+v", test.hint, test.likely, seen)
		}
	}
	peer.Reset()
	eventually(t, "reset", func() (over bool) {
		at(t, conn, func(fd uintptr) { over = s.lookAt(fd, hint{}).outcome == aborted })
		return over
	})
	for _, hint := range []error{nil, write, io.EOF} {
		if seen := see(hint, errTimedOut); !errors.Is(seen.errno, windows.WSAECONNRESET) {
			t.Errorf("%v: %+v", hint, seen)
		}
	}
}

// A verdict of the library's own ends the Read that waits; what was received before
// the next one is delivered, and then the verdict, without waiting.
func TestDataBeforeVerdict(t *testing.T) {
	conn, peer := windowsPair(t)
	c, err := Wrap(conn, &Config{ReadIdleTimeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if n, err := c.Read(buf); n != 0 || !errors.Is(err, ErrPeerIdle) {
		t.Fatalf("%d, %v", n, err)
	}
	peer.Write([]byte("too late"))
	eventually(t, "data", func() bool {
		n, err := c.Read(buf)
		if n == 0 && !errors.Is(err, ErrPeerIdle) {
			t.Fatal(err)
		}
		return string(buf[:n]) == "too late"
	})
	peer.CloseWrite()
	eventually(t, "end of file", func() bool {
		n, err := c.Read(buf)
		return n == 0 && err == io.EOF
	})
	if !errors.Is(c.Err(), ErrPeerIdle) {
		t.Error(c.Err())
	}
}
