// Package testutil has what the tests of several packages share: waiting with a limit, streams and their errors, what a
// system can show, and what a process has left behind.
package testutil

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

// Patience is how long a test waits for what takes a moment. Only a test that fails waits as long.
const Patience = 30 * time.Second

// testDeadline is how long one test may take. The slowest wait for a kernel's timer of some seconds.
const testDeadline = 2 * time.Minute

// Deadline ends the process, with the stack of every goroutine, if the test takes longer than any test may.
func Deadline(tb testing.TB) {
	name := tb.Name()
	timer := time.AfterFunc(testDeadline, func() { panic(fmt.Sprintf("%s takes longer than %v", name, testDeadline)) })
	tb.Cleanup(func() { timer.Stop() })
}

// Await returns what comes out of ch. The test fails if nothing comes.
func Await[T any](tb testing.TB, ch <-chan T) T {
	tb.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(Patience):
		tb.Fatalf("nothing came within %v", Patience)
		panic("unreachable")
	}
}

// Within runs f, which must return, in a goroutine of its own. The test fails if it does not return.
func Within(tb testing.TB, what string, f func()) {
	tb.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(Patience):
		tb.Fatalf("%s blocks", what)
	}
}

// Until waits for what no channel reports. It asks the more rarely the longer it waits, because many tests wait at a time.
func Until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for began := time.Now(); !ok(); {
		waited := time.Since(began)
		if waited > Patience {
			tb.Fatalf("not within %v: %s", Patience, what)
		}
		time.Sleep(min(max(waited/50, time.Millisecond), 10*time.Millisecond))
	}
}

// Must ends the test if err is not nil. It must run in the test's own goroutine.
func Must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// MustOrSkip is Must, but skips the test if the system lacks something.
func MustOrSkip(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, errors.ErrUnsupported) {
		tb.Skip(err)
	}
	Must(tb, err)
}

// A Stream is what came out of a connection, and the error behind it.
type Stream struct {
	Data []byte
	Err  error
}

// ReadAll is io.ReadAll, which does not hide io.EOF.
func ReadAll(r io.Reader) (s Stream) {
	buf := make([]byte, 32<<10)
	for s.Err == nil {
		var n int
		n, s.Err = r.Read(buf)
		s.Data = append(s.Data, buf[:n]...)
	}
	return s
}

// GoReadAll is ReadAll in a goroutine of its own.
func GoReadAll(r io.Reader) <-chan Stream {
	read := make(chan Stream, 1)
	go func() { read <- ReadAll(r) }()
	return read
}

// GoWrite writes until an error, in a goroutine of its own, which has begun.
func GoWrite(w io.Writer) <-chan error {
	began, wrote := make(chan struct{}), make(chan error, 1)
	go func() {
		close(began)
		_, err := io.Copy(struct{ io.Writer }{w}, Zeros{})
		wrote <- err
	}()
	<-began
	return wrote
}

// Zeros is a reader without an end.
type Zeros struct{}

func (Zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Fill writes until the kernel takes nothing more, as far as a few milliseconds show.
func Fill(conn net.Conn) {
	if small, ok := conn.(interface{ SetWriteBuffer(int) error }); ok {
		_ = small.SetWriteBuffer(32 << 10)
	}
	data := make([]byte, 64<<10)
	for refused := 0; refused < 20; refused++ { // a busy machine may let a deadline pass before the first byte
		conn.SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
		n, err := conn.Write(data)
		if n > 0 {
			refused = 0
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	conn.SetWriteDeadline(time.Time{})
}

// Innermost returns the error that err wraps in the end.
func Innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// Shape is how an error is built, without what differs from connection to connection.
func Shape(err error) string {
	op, ok := err.(*net.OpError)
	if !ok {
		return fmt.Sprintf("%T %v", err, err)
	}
	return fmt.Sprintf("%T %s %s %T %v", op, op.Op, op.Net, op.Err, op.Err)
}

// Networks are those of livenesstest.Pair.
var Networks = []string{"tcp4", "tcp6", "unix", "mptcp"}

// Listen listens on loopback until the test ends. The networks are those of livenesstest.Pair.
func Listen(tb testing.TB, network string) net.Listener {
	tb.Helper()
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(network == "mptcp")
	bind, address := network, "127.0.0.1:0"
	switch network {
	case "mptcp":
		bind = "tcp4"
	case "tcp6":
		address = "[::1]:0"
	case "unix":
		address = filepath.Join(ShortTempDir(tb), "s")
	}
	l, err := config.Listen(tb.Context(), bind, address)
	if err != nil {
		tb.Skipf("no %s on this system: %v", network, err)
	}
	tb.Cleanup(func() { l.Close() })
	return l
}

// ShortTempDir is TempDir with a path that leaves room in the name of a socket, which has some hundred bytes.
func ShortTempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "liveness")
	Must(tb, err)
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Accept is livenesstest.Pair on a listener of the test's own. Unlike Pair it keeps no reference to the accepted end.
func Accept(tb testing.TB, l net.Listener) (net.Conn, *livenesstest.Peer) {
	tb.Helper()
	peer, err := livenesstest.Dial(l.Addr().Network(), l.Addr().String())
	Must(tb, err)
	tb.Cleanup(func() { peer.Close() })
	conn, err := l.Accept()
	Must(tb, err)
	return conn, peer
}

// PairWithProcess is livenesstest.Pair with the peer in a process of its own.
func PairWithProcess(tb testing.TB, network string) (net.Conn, *livenesstest.Process) {
	tb.Helper()
	l := Listen(tb, network)
	process, err := livenesstest.StartProcess(network, l.Addr().String())
	MustOrSkip(tb, err)
	tb.Cleanup(func() { process.Release() })
	conn, err := l.Accept()
	Must(tb, err)
	tb.Cleanup(func() { conn.Close() })
	return conn, process
}

var tlsConfigs = sync.OnceValues(func() ([2]*tls.Config, error) {
	server, client, err := livenesstest.TLSConfig()
	return [2]*tls.Config{server, client}, err
})

// TLSConfigs is livenesstest.TLSConfig, made once.
func TLSConfigs(tb testing.TB) (server, client *tls.Config) {
	tb.Helper()
	both, err := tlsConfigs()
	Must(tb, err)
	return both[0], both[1]
}

// Secure puts TLS above both ends and shakes hands, with ours as the server.
func Secure(tb testing.TB, ours, theirs net.Conn) (server, client *tls.Conn) {
	tb.Helper()
	serverConfig, clientConfig := TLSConfigs(tb)
	server, client = tls.Server(ours, serverConfig), tls.Client(theirs, clientConfig)
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	Must(tb, server.Handshake())
	Must(tb, Await(tb, done))
	return server, client
}

// Control calls f with the descriptor of conn, around the library.
func Control(tb testing.TB, conn net.Conn, f func(fd int) error) {
	tb.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	Must(tb, err)
	Must(tb, raw.Control(func(fd uintptr) { err = f(int(fd)) }))
	Must(tb, err)
}

// Descriptor returns the number of conn's descriptor.
func Descriptor(tb testing.TB, conn net.Conn) (number int) {
	tb.Helper()
	Control(tb, conn, func(fd int) error { number = fd; return nil })
	return number
}

// NeedsNotices skips a test of what only an event shows.
func NeedsNotices(tb testing.TB) {
	tb.Helper()
	if !Notices {
		tb.Skipf("%s reports no end by an event", runtime.GOOS)
	}
}
