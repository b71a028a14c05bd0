// Package livenesstest gives tests a peer that ends in every way that peers end: in order, by reset, half-closed, killed,
// hung, or by a cut cable, which sends nothing. It is to a server's connections what [net/http/httptest] is to its handlers,
// and needs no privileges, no containers and no second machine.
//
// [Dial] connects a [Peer] to the server under test; [Pair] makes both ends of a connection at once, for code that takes a
// connection. [StartProcess] puts the peer in a process of its own, which can be killed and stopped. [Cut] cuts the cable of
// any connection, and mends it.
//
//	func TestMain(m *testing.M) {
//		livenesstest.Main() // only StartProcess needs it
//		os.Exit(m.Run())
//	}
//
//	func TestServerFindsLostClient(t *testing.T) {
//		conn, peer := livenesstest.Pair(t, "tcp4")
//		go handle(conn) // the code under test
//		...
//		mend, err := livenesstest.Cut(peer, conn) // nothing passes any more, in either direction
//		...
//	}
//
// A single cut stops one direction. After Cut(peer) nothing that conn sends is acknowledged or answered, but what the peer
// sends on its own still arrives: data, keep-alive probes, its FIN. To the code under test that is a cut cable as long as the
// peer is silent; a peer that talks is a peer that is heard and acknowledges nothing.
//
// # What is real
//
// Connections are sockets, on loopback as a rule, and each ending is made by the kernel, with the segments that would arrive
// from a distant peer. They have been sent when the method returns. The other end's goroutines run when they are scheduled,
// so wait for what they report.
//
// Keep-alive, which net turns on by default, is off at the ends that this package makes: a peer's own probes are segments
// that no test asked for, and a cut peer that gives up would send an RST. The end under test has what its owner sets.
//
// # Systems
//
// FIN, reset and half-close work wherever there are sockets; cut cables on Linux, for TCP; stopped processes on Unix. What a
// system lacks is reported as [errors.ErrUnsupported], so that a test can skip itself.
package livenesstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// Pair returns the two ends of a new connection on loopback. conn is the end that was accepted, as a server has it: bare, of
// the type that net gives (*net.TCPConn or *net.UnixConn), with keep-alive off. peer is the far end.
//
// network is "tcp4", "tcp6", "unix" or "mptcp" (Multipath TCP at both ends). If the system lacks it, Pair prints why and
// skips the test; any other failure ends the test. Both ends are closed when the test ends, by tb.Cleanup, and may be closed
// before. Like tb.FailNow, Pair must be called from the goroutine that runs the test.
func Pair(tb testing.TB, network string) (conn net.Conn, peer *Peer) {
	tb.Helper()
	conn, peer, err := pair(network)
	if errors.Is(err, errors.ErrUnsupported) {
		tb.Skipf("no %s on this system: %v", network, err)
	}
	if err != nil {
		tb.Fatalf("livenesstest: pair: %v", err)
	}
	tb.Cleanup(func() {
		conn.Close()
		peer.Close()
	})
	return conn, peer
}

// pair makes the connection. Its error is errors.ErrUnsupported where the system does not have the network.
func pair(network string) (conn net.Conn, peer *Peer, err error) {
	bind, address := network, "127.0.0.1:0"
	switch network {
	case "tcp4":
	case "mptcp":
		bind = "tcp4"
	case "tcp6":
		address = "[::1]:0"
	case "unix":
		// Not tb.TempDir: its paths hold the test's name, and the path of a socket has room for some hundred bytes.
		dir, err := os.MkdirTemp("", "liveness")
		if err != nil {
			return nil, nil, err
		}
		defer os.RemoveAll(dir)
		address = filepath.Join(dir, "s")
	default:
		return nil, nil, net.UnknownNetworkError(network)
	}
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(network == "mptcp")
	listener, err := config.Listen(context.Background(), bind, address)
	if err != nil {
		if network != "tcp4" { // which every system has
			err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		return nil, nil, err
	}
	defer listener.Close()

	// No accept is needed meanwhile: the kernel completes the handshake, and the backlog holds the connection.
	if peer, err = Dial(network, listener.Addr().String()); err != nil {
		return nil, nil, err
	}
	for {
		if conn, err = listener.Accept(); err != nil {
			peer.Close()
			return nil, nil, err
		}
		if network == "unix" || conn.RemoteAddr().String() == peer.LocalAddr().String() {
			return conn, peer, nil
		}
		conn.Close() // The port is open to the whole machine: another program has connected.
	}
}
