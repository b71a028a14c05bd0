package liveness_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// stalled returns a Conn that has just got ErrPeerStalled, with before unread.
func stalled(t *testing.T, before []byte) (*liveness.Conn, *livenesstest.Peer) {
	t.Helper()
	conn, peer := livenesstest.Pair(t, "tcp4")
	c := wrap(t, conn, &liveness.Config{StallTimeout: 200 * time.Millisecond})
	_, err := peer.Write(before)
	testutil.Must(t, err)
	wrote := testutil.GoWrite(c)
	testutil.Await(t, c.Done())
	if err := testutil.Await(t, wrote); !errors.Is(err, liveness.ErrPeerStalled) || !errors.Is(c.Err(), liveness.ErrPeerStalled) {
		t.Fatalf("Write = %v, Err() = %v, want ErrPeerStalled", err, c.Err())
	}
	return c, peer
}

// isVerdict checks an error that Read or Write returns after a verdict of the library's own.
func isVerdict(t *testing.T, what string, err, reason error) {
	t.Helper()
	var op net.Error
	if !errors.Is(err, reason) || !errors.As(err, &op) || op.Timeout() || isDeadline(err) {
		t.Errorf("%s = %v, want %v, which is no time-out of the application's own", what, err, reason)
	}
}

// TestReadDeliversWhatWasUnreadAtTheVerdictAndNoMore has the peer go on after the verdict.
func TestReadDeliversWhatWasUnreadAtTheVerdictAndNoMore(t *testing.T) {
	t.Parallel()
	testutil.Deadline(t)
	for name, before := range map[string][]byte{"data": message, "nothing": nil} {
		c, peer := stalled(t, before)
		_, err := peer.Write([]byte("too late"))
		testutil.Must(t, err)
		barrier(t)
		got := testutil.Await(t, testutil.GoReadAll(c))
		if !bytes.Equal(got.Data, before) {
			t.Errorf("%s: %d bytes were unread at the verdict, and Read returned %d", name, len(before), len(got.Data))
		}
		isVerdict(t, name+": Read", got.Err, liveness.ErrPeerStalled)
		_, err = c.Write(message)
		isVerdict(t, name+": Write", err, liveness.ErrPeerStalled)
	}
}

// TestRawConnReturnsTheVerdict has Read and Write of the raw connection wait before the verdict and after it.
func TestRawConnReturnsTheVerdict(t *testing.T) {
	t.Parallel()
	testutil.Deadline(t)
	conn, _ := livenesstest.Pair(t, "tcp4")
	c := wrap(t, conn, &liveness.Config{StallTimeout: 200 * time.Millisecond})
	raw, err := c.SyscallConn()
	testutil.Must(t, err)
	wait := func(f func(func(uintptr) bool) error) <-chan error {
		done := make(chan error, 1)
		go func() { done <- f(func(uintptr) bool { return false }) }()
		return done
	}
	read := wait(raw.Read)
	wrote := testutil.GoWrite(c)
	testutil.Await(t, c.Done())
	testutil.Await(t, wrote)
	isVerdict(t, "the RawConn.Read that waited", testutil.Await(t, read), liveness.ErrPeerStalled)
	isVerdict(t, "RawConn.Read after the verdict", testutil.Await(t, wait(raw.Read)), liveness.ErrPeerStalled)
	isVerdict(t, "RawConn.Write after the verdict", testutil.Await(t, wait(raw.Write)), liveness.ErrPeerStalled)
}

// A cipherConn has a socket, and its bytes mean something else than those of the socket.
type cipherConn struct{ *net.TCPConn }

func (c *cipherConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	for i := range b[:n] {
		b[i] ^= 0x55
	}
	return n, err
}

// TestVerdictAboveACipherReturnsNoRawBytes has bytes unread that only the wrapped Read can read.
func TestVerdictAboveACipherReturnsNoRawBytes(t *testing.T) {
	t.Parallel()
	testutil.Deadline(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	c := wrap(t, &cipherConn{conn.(*net.TCPConn)}, &liveness.Config{StallTimeout: 200 * time.Millisecond})
	peer.Write([]byte{'x' ^ 0x55})
	wrote := testutil.GoWrite(c)
	testutil.Await(t, c.Done())
	testutil.Await(t, wrote)
	got := testutil.Await(t, testutil.GoReadAll(c))
	if strings.Trim(string(got.Data), "x") != "" {
		t.Errorf("Read returned %q, which is not what the connection would have read", got.Data)
	}
	isVerdict(t, "Read", got.Err, liveness.ErrPeerStalled)
}

// TestReadDeliversResetAfterWriteTookIt resets under a reader and a writer. The Write often takes the error of the socket, and
// a bare Read then finds an end of file. A stream that was reset never reads as complete.
func TestReadDeliversResetAfterWriteTookIt(t *testing.T) {
	testutil.NeedsNotices(t) // a check alone sees no more than the end of file
	for _, c := range []struct {
		network string
		rounds  int
		writer  bool
	}{
		{"tcp4", 100, true}, {"tcp6", 30, true}, {"unix", 50, true}, {"mptcp", 30, true},
		{"mptcp", 100, false}, // the Read takes the errno while the event causes a check
	} {
		t.Run(fmt.Sprintf("%s, writer %t", c.network, c.writer), func(t *testing.T) {
			testutil.Deadline(t)
			// On MPTCP, and under Wine, nothing else knows of the reset once the Write has its errno.
			known := !c.writer || c.network != "mptcp" && !testutil.Wine()
			for i := range c.rounds {
				readReset(t, c.network, c.writer, i, known)
			}
		})
	}
}

// readReset resets once some bytes were written. Known says that the library can know of it.
func readReset(t *testing.T, network string, writer bool, round int, known bool) {
	t.Helper()
	conn, peer := livenesstest.Pair(t, network)
	c := wrap(t, conn, nil)
	reads := testutil.GoReadAll(c)
	if writer {
		writes := testutil.GoWrite(c)
		_, err := io.CopyN(io.Discard, peer, int64(round%7)<<12+1)
		testutil.Must(t, err)
		defer func() {
			if testutil.Await(t, writes) == nil {
				t.Error("the Write that waited returned no error")
			}
		}()
	}
	testutil.Until(t, "the peer can reset", func() bool {
		err := peer.Reset() // on AF_UNIX, once something is unread
		if errors.Is(err, errors.ErrUnsupported) && (runtime.GOOS != "linux" || !writer) {
			t.Skip(err)
		}
		return err == nil
	})
	if got := testutil.Await(t, reads); got.Err == io.EOF && known {
		t.Fatalf("round %d: Read returned EOF, Err() = %v", round, c.Err())
	}
	if testutil.Await(t, c.Done()); known && !errors.Is(c.Err(), liveness.ErrPeerReset) {
		t.Fatalf("round %d: Err() = %v", round, c.Err())
	}
	c.Close()
}

// TestChecksTakeNothing checks a connection that was reset in every way, and then reads from the bare one, which must still
// return the data and the errno.
func TestChecksTakeNothing(t *testing.T) {
	if runtime.GOOS == "solaris" || runtime.GOOS == "illumos" || runtime.GOOS == "aix" {
		t.Skipf("a check on %s may take the error of the socket, and the Conn hands it on", runtime.GOOS)
	}
	needsChecks(t)
	for _, network := range testutil.Networks {
		for name, check := range map[string]func(net.Conn){
			"Check": func(conn net.Conn) { liveness.Check(conn) },
			"Wrap":  func(conn net.Conn) { wrap(t, conn, nil) },
			"Alive and Status": func(conn net.Conn) {
				for c := wrap(t, conn, &liveness.Config{AllowHalfClose: true}); c.Alive() || c.Status().Err == nil; {
				}
			},
		} {
			t.Run(network+","+name, func(t *testing.T) {
				testutil.Deadline(t)
				conn, peer := livenesstest.Pair(t, network)
				conn.Write(message) // AF_UNIX resets only in place of unread bytes
				peer.Write(message)
				testutil.MustOrSkip(t, peer.Reset())
				testutil.Until(t, "the reset is seen", func() bool { return liveness.Check(conn) != nil })
				check(conn)
				got := testutil.ReadAll(conn)
				if !bytes.Equal(got.Data, message) && (testutil.KeepsUnread || len(got.Data) > 0) || !isReset(got.Err) {
					t.Errorf("Read returned %d bytes and %v, want the errno of a reset", len(got.Data), got.Err)
				}
			})
		}
	}
}

// TestErrorsAreThoseOfTheBareConnection compares what the methods of a Conn return with what those of the bare one do.
func TestErrorsAreThoseOfTheBareConnection(t *testing.T) {
	testutil.Deadline(t)
	type half interface{ CloseWrite() error }
	read := func(conn net.Conn) error { return testutil.ReadAll(conn).Err }
	write := func(conn net.Conn) error {
		_, err := io.Copy(struct{ io.Writer }{conn}, testutil.Zeros{})
		return err
	}
	for name, f := range map[string]func(conn net.Conn, peer *livenesstest.Peer) error{
		"Read after reset": func(conn net.Conn, peer *livenesstest.Peer) error {
			conn.Write(message)
			peer.Reset()
			return read(conn)
		},
		"Write after reset": func(conn net.Conn, peer *livenesstest.Peer) error {
			conn.Write(message)
			peer.Reset()
			return write(conn)
		},
		"Read after Close":        func(conn net.Conn, _ *livenesstest.Peer) error { conn.Close(); return read(conn) },
		"Write after Close":       func(conn net.Conn, _ *livenesstest.Peer) error { conn.Close(); return write(conn) },
		"second Close":            func(conn net.Conn, _ *livenesstest.Peer) error { conn.Close(); return conn.Close() },
		"SetDeadline after Close": func(conn net.Conn, _ *livenesstest.Peer) error { conn.Close(); return conn.SetDeadline(time.Now()) },
		"Write after CloseWrite":  func(conn net.Conn, _ *livenesstest.Peer) error { conn.(half).CloseWrite(); return write(conn) },
		"CloseWrite after reset": func(conn net.Conn, peer *livenesstest.Peer) error {
			conn.Write(message)
			peer.Reset()
			read(conn)
			return conn.(half).CloseWrite()
		},
		"Read behind a deadline": func(conn net.Conn, _ *livenesstest.Peer) error {
			conn.SetDeadline(time.Now().Add(-time.Second))
			return read(conn)
		},
	} {
		if testutil.Wine() && name == "Read after reset" {
			continue // bare it is an end of file as often as not
		}
		for _, network := range testutil.Networks {
			if network == "mptcp" && runtime.GOOS != "linux" {
				continue
			}
			bare, barePeer := livenesstest.Pair(t, network)
			want := testutil.Shape(f(bare, barePeer))
			conn, peer := livenesstest.Pair(t, network)
			if got := testutil.Shape(f(wrap(t, conn, nil), peer)); got != want {
				t.Errorf("%s, %s: %s, on the bare connection %s", network, name, got, want)
			}
		}
	}
}
