package livenesstest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// notMain makes a process that StartProcess starts one that does not call Main, and says so on standard output.
const notMain = "LIVENESSTEST_TEST_NOT_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(notMain) != "" {
		fmt.Println("PASS")
		select {}
	}
	livenesstest.Main()
	testutil.MostlyWait(100)
	os.Exit(m.Run())
}

// patience bounds waits for what must happen.
const patience = 20 * time.Second

var networks = []string{"tcp4", "tcp6", "unix", "mptcp"}

func onEvery(t *testing.T, test func(t *testing.T, network string)) {
	t.Parallel()
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			test(t, network)
		})
	}
}

func pair(t *testing.T, network string) (net.Conn, *livenesstest.Peer) {
	t.Helper()
	conn, peer := livenesstest.Pair(t, network)
	limit(t, conn)
	limit(t, peer)
	return conn, peer
}

func limit(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
}

// listen is the server under test.
func listen(t *testing.T, network string) net.Listener {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(network == "mptcp")
	var listener net.Listener
	var err error
	switch network {
	case "unix":
		dir, mkErr := os.MkdirTemp("", "liveness")
		require.NoError(t, mkErr)
		t.Cleanup(func() { os.RemoveAll(dir) })
		listener, err = config.Listen(context.Background(), "unix", filepath.Join(dir, "s"))
	case "tcp6":
		listener, err = config.Listen(context.Background(), "tcp6", "[::1]:0")
	default:
		listener, err = config.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	}
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// needsProcesses skips a test where no processes can be started, as under an emulator. It is tried once: each attempt forks,
// which not every emulator survives while others do.
func needsProcesses(t *testing.T) {
	t.Helper()
	if err := tryProcess(); err != nil {
		t.Skip(err)
	}
}

var tryProcess = sync.OnceValue(func() error {
	_, err := livenesstest.StartProcess("tcp4", "127.0.0.1:1") // where nobody listens
	if errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
})

func process(t *testing.T, network string) (net.Conn, *livenesstest.Process) {
	t.Helper()
	needsProcesses(t)
	listener := listen(t, network)
	process, err := livenesstest.StartProcess(network, listener.Addr().String())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err) // as Multipath TCP may be
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, process.Release()) })
	conn, err := listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	limit(t, conn)
	return conn, process
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	_, err := io.WriteString(w, s)
	require.NoError(t, err)
}

func requireRead(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := io.ReadFull(r, got)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

func requireEOF(t *testing.T, conn net.Conn) {
	t.Helper()
	n, err := conn.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.Zero(t, n)
}

// supersedesFIN is the error of a receive, where a reset takes the place of the FIN before it.
var supersedesFIN error

// requireEOFOrReset is requireEOF for a FIN behind which an RST arrives.
func requireEOFOrReset(t *testing.T, conn net.Conn) {
	t.Helper()
	if supersedesFIN == nil {
		requireEOF(t, conn)
	} else if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF && !errors.Is(err, supersedesFIN) {
		t.Fatalf("Read returned %d, %v; want EOF, or a reset", n, err)
	}
}

// leaveUnread sends five bytes to peer of which it reads one: the others have arrived then.
func leaveUnread(t *testing.T, conn net.Conn, peer *livenesstest.Peer) {
	t.Helper()
	write(t, conn, "hello")
	requireRead(t, peer, "h")
}

func TestPair(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, peer := pair(t, network)
		for _, end := range []net.Conn{conn, peer.NetConn()} {
			if network == "unix" {
				require.IsType(t, (*net.UnixConn)(nil), end)
				continue
			}
			require.IsType(t, (*net.TCPConn)(nil), end)
			multipath, err := end.(*net.TCPConn).MultipathTCP()
			require.NoError(t, err)
			require.Equal(t, network == "mptcp", multipath)
		}
		write(t, conn, "there")
		requireRead(t, peer, "there")
		write(t, peer, "back")
		requireRead(t, conn, "back")
	})
}

func TestPairUnknownNetwork(t *testing.T) {
	tb := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		livenesstest.Pair(tb, "udp")
	}()
	<-done
	require.True(t, tb.fatal)
}

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	fatal bool
}

func (r *recorder) Fatalf(string, ...any) {
	r.fatal = true
	runtime.Goexit()
}

func TestPairCleanup(t *testing.T) {
	for _, network := range networks {
		var conn net.Conn
		var peer *livenesstest.Peer
		t.Run(network, func(t *testing.T) { conn, peer = livenesstest.Pair(t, network) })
		if conn == nil {
			continue
		}
		_, err := conn.Write(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = peer.Write(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
	}
}

func TestClose(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, peer := pair(t, network)
		write(t, peer, "bye")
		require.NoError(t, peer.Close())
		requireRead(t, conn, "bye")
		requireEOF(t, conn)
		require.ErrorIs(t, peer.Close(), net.ErrClosed)
	})
}

func TestCloseDiscardsUnread(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, peer := pair(t, network)
		leaveUnread(t, conn, peer)
		require.NoError(t, peer.Close())
		requireEOF(t, conn)
		requireEOF(t, conn) // and no reset behind it
	})
}

// The FIN must come although bytes arrive between the discarding and the closing.
func TestCloseUnderFire(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		if network == "mptcp" {
			t.Skip("a reset supersedes the FIN there")
		}
		for range 5 {
			conn, peer := pair(t, network)
			sent := make(chan error, 1)
			go func() {
				for {
					if _, err := conn.Write(make([]byte, 64<<10)); err != nil {
						sent <- err
						return
					}
				}
			}()
			_, err := io.ReadFull(peer, make([]byte, 1<<20))
			require.NoError(t, err)
			require.NoError(t, peer.Close())
			requireEOFOrReset(t, conn)
			require.NotErrorIs(t, <-sent, os.ErrDeadlineExceeded)
		}
	})
}

func TestCloseWakesReader(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, peer := pair(t, network)
		read := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, peer.NetConn())
			read <- err
		}()
		write(t, conn, "hello")
		require.NoError(t, peer.Close())
		if err := <-read; network != "unix" {
			require.ErrorIs(t, err, net.ErrClosed)
		}
		requireEOF(t, conn)
	})
}

// promptly fails the test if f does not return.
func promptly(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience / 2):
		t.Fatal("it hangs")
		return nil
	}
}

// parkWriter returns when a goroutine has begun to write to peer what never ends, and tells how that ended. Of it conn has
// read the first byte.
func parkWriter(t *testing.T, conn, peer net.Conn) <-chan error {
	t.Helper()
	wrote := make(chan error, 1)
	go func() {
		_, err := peer.Write(make([]byte, 64<<20)) // more than the buffers hold
		wrote <- err
	}()
	_, err := conn.Read(make([]byte, 1))
	require.NoError(t, err)
	return wrote
}

// requireFIN reads whatever has arrived at conn, and then its end.
func requireFIN(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); err != nil && (supersedesFIN == nil || !errors.Is(err, supersedesFIN)) {
		t.Fatalf("Read returned %v, want EOF", err)
	}
}

func TestCloseWakesWriter(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, peer := pair(t, network)
		wrote := parkWriter(t, conn, peer)
		require.NoError(t, promptly(t, peer.Close))
		require.Error(t, promptly(t, func() error { return <-wrote }))
		requireFIN(t, conn)
	})
}

// pairTLS returns the ends of a TLS connection after its handshake, with the peer above it, and the socket beneath conn.
func pairTLS(t *testing.T, network string) (conn *tls.Conn, peer *livenesstest.Peer, socket net.Conn) {
	t.Helper()
	var far net.Conn
	if network == "pipe" {
		socket, far = net.Pipe()
		t.Cleanup(func() { socket.Close() })
		limit(t, socket)
	} else {
		var end *livenesstest.Peer
		socket, end = pair(t, network)
		far = end.NetConn()
	}
	server, client, err := livenesstest.TLSConfig()
	require.NoError(t, err)
	conn, peer = tls.Server(socket, server), livenesstest.NewPeer(tls.Client(far, client))
	go io.WriteString(conn, "hello")
	requireRead(t, peer, "hello")
	return conn, peer, socket
}

// A goroutine that waits in a Write of TLS holds the lock that an alert needs. No deadline of the test's ends its wait.
func TestCloseWakesWriterTLS(t *testing.T) {
	t.Parallel()
	for _, network := range append([]string{"pipe"}, networks...) {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			conn, peer, socket := pairTLS(t, network)
			require.NoError(t, peer.SetDeadline(time.Time{}))
			wrote := parkWriter(t, conn, peer)
			require.NoError(t, promptly(t, peer.Close))
			require.Error(t, promptly(t, func() error { return <-wrote }))
			requireFIN(t, socket)
			require.ErrorIs(t, peer.Close(), net.ErrClosed)
			_, err := peer.Write(make([]byte, 1))
			require.ErrorIs(t, err, net.ErrClosed)
		})
	}
}

func TestCloseWriteWakesWriterTLS(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, peer, socket := pairTLS(t, network)
		require.NoError(t, peer.SetDeadline(time.Time{}))
		wrote := parkWriter(t, conn, peer)
		require.Error(t, promptly(t, peer.CloseWrite)) // no alert has been sent
		require.Error(t, promptly(t, func() error { return <-wrote }))
		requireFIN(t, socket)
		write(t, conn, "answer")
		requireRead(t, peer, "answer")
	})
}

// A send buffer that is full takes no alert either, though nobody waits in Write.
func TestCloseWithFullBufferTLS(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		_, peer, socket := pairTLS(t, network)
		require.NoError(t, peer.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
		_, err := peer.Write(make([]byte, 64<<20))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		before := time.Now()
		require.NoError(t, promptly(t, peer.Close))
		require.Less(t, time.Since(before), 4*time.Second) // TLS itself gives up after five
		requireFIN(t, socket)
	})
}

// A half-close above TLS is an alert, and no FIN.
func TestCloseWriteTLS(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, peer, _ := pairTLS(t, network)
		require.NoError(t, peer.CloseWrite())
		requireEOF(t, conn)
		write(t, conn, "answer")
		requireRead(t, peer, "answer")
	})
}

// endless is a connection whose NetConn returns itself.
type endless struct{ net.Conn }

func (e endless) NetConn() net.Conn { return e }

// hollow is one whose NetConn leads nowhere at all.
type hollow struct{ net.Conn }

func (hollow) NetConn() net.Conn { return nil }

func TestNetConnLeadsNowhere(t *testing.T) {
	t.Parallel()
	for _, cover := range []func(net.Conn) net.Conn{
		func(conn net.Conn) net.Conn { return endless{conn} },
		func(conn net.Conn) net.Conn { return hollow{conn} },
	} {
		conn, far := net.Pipe()
		defer conn.Close()
		require.NoError(t, promptly(t, func() error {
			peer := livenesstest.NewPeer(cover(far))
			if _, err := livenesstest.Cut(peer); !errors.Is(err, errors.ErrUnsupported) {
				return fmt.Errorf("Cut: %w", err)
			}
			return peer.Close()
		}))
		requireEOF(t, conn)
	}
}

func TestCloseWrite(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, peer := pair(t, network)
		require.NoError(t, peer.CloseWrite())
		requireEOF(t, conn)
		write(t, conn, "answer")
		requireRead(t, peer, "answer")
	})
}

func TestDrain(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, peer := pair(t, network)
		peer.Drain()
		peer.Drain()
		_, err := conn.Write(make([]byte, 8<<20)) // more than the buffers hold
		require.NoError(t, err)
		require.NoError(t, peer.Close())
		requireEOFOrReset(t, conn) // what was still on its way is answered by an RST
	})
}

// A connection that is no socket can still be closed.
func TestNewPeerOfPipe(t *testing.T) {
	t.Parallel()
	conn, far := net.Pipe()
	peer := livenesstest.NewPeer(far)
	require.Same(t, far, peer.NetConn())
	require.ErrorIs(t, peer.CloseWrite(), errors.ErrUnsupported)
	require.ErrorIs(t, peer.Reset(), errors.ErrUnsupported)
	_, err := livenesstest.Cut(peer)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.NoError(t, peer.Close())
	requireEOF(t, conn)
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	peer, err := livenesstest.Dial("mptcp", listen(t, "tcp4").Addr().String()) // no Multipath TCP at the other end
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Nil(t, peer)
	peer, err = livenesstest.Dial("unix", filepath.Join(t.TempDir(), "nobody"))
	require.Error(t, err)
	require.Nil(t, peer)
}

func TestTLS(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		server, client, err := livenesstest.TLSConfig()
		require.NoError(t, err)
		conn, peer := pair(t, network)
		serverEnd, clientEnd := tls.Server(conn, server), tls.Client(peer, client)
		go func() {
			io.WriteString(serverEnd, "hello") // session tickets go with it
		}()
		requireRead(t, clientEnd, "hello")
		require.NoError(t, clientEnd.Close())
		requireEOF(t, serverEnd)
		requireEOF(t, conn)
	})
}

// The peer may also be above TLS.
func TestTLSPeer(t *testing.T) {
	t.Parallel()
	server, client, err := livenesstest.TLSConfig()
	require.NoError(t, err)
	conn, far := pair(t, "tcp4")
	serverEnd, peer := tls.Server(conn, server), livenesstest.NewPeer(tls.Client(far.NetConn(), client))
	go func() {
		io.WriteString(serverEnd, "hello")
	}()
	requireRead(t, peer, "hel")
	require.NoError(t, peer.Close())
	requireEOF(t, serverEnd)
}

func TestProcessClose(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, process := process(t, network)
		write(t, conn, "unread")
		require.NoError(t, process.Send(3))
		require.NoError(t, process.Close())
		requireRead(t, conn, "\x00\x00\x00")
		requireEOF(t, conn)
		require.ErrorIs(t, process.Send(1), os.ErrProcessDone)
		require.ErrorIs(t, process.Close(), os.ErrProcessDone)
		require.ErrorIs(t, process.Kill(), os.ErrProcessDone)
		require.NoError(t, process.Release())
		require.NoError(t, process.Release())
	})
}

func TestProcessCloseWriteAndDrain(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, process := process(t, network)
		require.NoError(t, process.CloseWrite())
		requireEOF(t, conn)
		require.NoError(t, process.Drain())
		_, err := conn.Write(make([]byte, 8<<20))
		require.NoError(t, err)
		require.Error(t, process.Send(1))
	})
}

func TestProcessErrors(t *testing.T) {
	address := listen(t, "tcp4").Addr().String()

	needsProcesses(t)
	t.Setenv(notMain, "1")
	_, err := livenesstest.StartProcess("tcp4", address)
	require.ErrorIs(t, err, os.ErrProcessDone)
	require.ErrorContains(t, err, "Main")
	os.Unsetenv(notMain)

	_, err = livenesstest.StartProcess("mptcp", address)
	require.ErrorIs(t, err, errors.ErrUnsupported) // also across the pipe
	nobody := filepath.Join(t.TempDir(), "nobody")
	_, err = livenesstest.StartProcess("unix", nobody)
	require.ErrorContains(t, err, nobody)

	t.Setenv("LIVENESSTEST_PROCESS", "1")
	_, err = livenesstest.StartProcess("tcp4", address)
	require.ErrorContains(t, err, "Main was not called")
}
