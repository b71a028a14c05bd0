package liveness_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// TestCloseWriteThatFailsDoesNotCount has a *tls.Conn refuse CloseWrite before its handshake. The peer's FIN is then one of
// two, and AllowHalfClose leaves the connection half-closed.
func TestCloseWriteThatFailsDoesNotCount(t *testing.T) {
	for _, network := range []string{"tcp4", "unix"} {
		t.Run(network, func(t *testing.T) {
			testutil.Deadline(t)
			testutil.NeedsNotices(t)
			conn, peer := livenesstest.Pair(t, network)
			server, _ := testutil.TLSConfigs(t)
			w := watch(t, tls.Server(conn, server), liveness.Config{AllowHalfClose: true})
			if err := w.conn.CloseWrite(); err == nil {
				t.Fatal("CloseWrite before the handshake returned no error")
			}
			peer.CloseWrite()
			testutil.Until(t, "the FIN is seen", func() bool { return w.conn.Status().State != liveness.Connected })
			w.lives(liveness.HalfClosed)
		})
	}
	t.Run("without a socket", func(t *testing.T) {
		testutil.Deadline(t)
		a, b := net.Pipe()
		c := wrap(t, &shutWriter{Conn: a, err: errors.New("not now")}, &liveness.Config{AllowHalfClose: true})
		if err := c.CloseWrite(); err == nil {
			t.Fatal("CloseWrite returned no error")
		}
		go b.Close()
		testutil.ReadAll(c)
		if status := c.Status(); status.State != liveness.HalfClosed || c.Err() != nil {
			t.Errorf("Status() = %+v after a CloseWrite that failed and the peer's end", status)
		}
	})
}

// A shutWriter has a CloseWrite, and returns io.EOF from a Write after it, as channels of SSH do.
type shutWriter struct {
	net.Conn
	err  error // of CloseWrite
	shut atomic.Bool
}

func (c *shutWriter) CloseWrite() error { c.shut.Store(c.err == nil); return c.err }

func (c *shutWriter) Write(b []byte) (int, error) {
	if c.shut.Load() {
		return 0, io.EOF
	}
	return c.Conn.Write(b)
}

// TestWriteErrorAfterOwnCloseWriteIsNotThePeersEnd also holds for a Close behind the library's back.
func TestWriteErrorAfterOwnCloseWriteIsNotThePeersEnd(t *testing.T) {
	testutil.Deadline(t)
	a, _ := net.Pipe()
	c := wrap(t, &shutWriter{Conn: a}, nil)
	testutil.Must(t, c.CloseWrite())
	if _, err := c.Write(message); err != io.EOF || c.Err() != nil {
		t.Errorf("Write = %v; Err() = %v", err, c.Err())
	}
	a, _ = net.Pipe()
	c = wrap(t, a, nil)
	a.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil || !errors.Is(c.Err(), net.ErrClosed) {
		t.Errorf("Read = %v; Err() = %v", err, c.Err())
	}
}

// TestHalfCloseIsSeenWithTheEndOfFile asks right after the Read that returned it.
func TestHalfCloseIsSeenWithTheEndOfFile(t *testing.T) {
	needsChecks(t)
	for _, network := range testutil.Networks {
		t.Run(network, func(t *testing.T) {
			testutil.Deadline(t)
			for range 20 {
				conn, peer := livenesstest.Pair(t, network)
				c := wrap(t, conn, &liveness.Config{AllowHalfClose: true})
				peer.CloseWrite()
				if got := testutil.ReadAll(c); got.Err != io.EOF {
					t.Fatal(got.Err)
				}
				if state := c.Status().State; state != liveness.HalfClosed {
					t.Fatalf("Status().State = %v behind the end of file", state)
				}
			}
		})
	}
}

// TestCloseOfTheBareConnectionIsSeenByTheNextCall closes the original, of which the kernel reports nothing.
func TestCloseOfTheBareConnectionIsSeenByTheNextCall(t *testing.T) {
	testutil.Deadline(t)
	needsChecks(t)
	for name, call := range map[string]func(*liveness.Conn){
		"Alive": func(c *liveness.Conn) { c.Alive() }, "Status": func(c *liveness.Conn) { c.Status() },
		"Check": func(c *liveness.Conn) { liveness.Check(c) }, "Close": func(c *liveness.Conn) { c.Close() },
		"Read": func(c *liveness.Conn) { c.Read(make([]byte, 1)) }, "Write": func(c *liveness.Conn) { c.Write(make([]byte, 1)) },
	} {
		conn, _ := livenesstest.Pair(t, "tcp4")
		w := watch(t, conn, liveness.Config{})
		conn.Close()
		call(w.conn)
		if err := w.conn.Err(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: Err() = %v after it", name, err)
		}
		w.ended(net.ErrClosed)
		if err := w.conn.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: Close = %v of what is closed", name, err)
		}
	}
}

// TestStatusAfterTheEndStaysTheEvidence reads and closes after the end, also when Status was not called before.
func TestStatusAfterTheEndStaysTheEvidence(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("unread bytes are counted on Linux")
	}
	for _, network := range testutil.Networks {
		for _, asked := range []bool{true, false} {
			testutil.Deadline(t)
			conn, peer := livenesstest.Pair(t, network)
			c := wrap(t, conn, nil)
			for i := range 3 {
				peer.Write(message)
				testutil.Until(t, "Unread", func() bool { return !asked || c.Status().Unread == (i+1)*len(message) })
			}
			peer.CloseWrite()
			testutil.Await(t, c.Done())
			var before liveness.Status
			if asked {
				before = c.Status()
			}
			testutil.ReadAll(c)
			c.Close()
			after := c.Status()
			if after.Unread != 3*len(message) || asked && after != before {
				t.Errorf("%s: Status() is %+v after Close, and was %+v at the end", network, after, before)
			}
		}
	}
}

// TestMethodsAnswerWhileAReaderAndAWriterWait calls what never blocks.
func TestMethodsAnswerWhileAReaderAndAWriterWait(t *testing.T) {
	t.Parallel()
	for _, load := range []string{"tcp4 reader writer", "unix reader writer", "mptcp reader writer"} {
		t.Run(load, func(t *testing.T) {
			testutil.Deadline(t)
			s := newScene(t, load)
			testutil.Within(t, "a method", func() {
				c := s.watched()
				for range 100 {
					if !c.Alive() || c.Err() != nil || liveness.Check(c) != nil || c.Status().Err != nil {
						t.Errorf("not alive: %v", c.Err())
						return
					}
					c.OnDisconnect(func(error) {})()
					_, cancel := c.Context(t.Context())
					cancel()
				}
			})
			if len(s.reads)+len(s.writes) > 0 {
				t.Error("a Read or Write that waited has returned")
			}
			s.conn.Close()
			testutil.Await(t, s.writes)
			s.ended(net.ErrClosed)
		})
	}
}
