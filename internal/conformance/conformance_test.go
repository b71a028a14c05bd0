// Package conformance runs the standard test of net.Conn on wrapped connections.
// It is a module of its own, so that the library does not require x/net.
package conformance

import (
	"crypto/tls"
	"flag"
	"net"
	"os"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// notForTLS are the tests in which a Write runs into a deadline. After that crypto/tls
// lets no other succeed, wrapped or not, and its Close may wait for five seconds to
// get rid of an alert.
const notForTLS = "^TestConn$/TLS/^(PastTimeout|PresentTimeout|FutureTimeout|ConcurrentMethods)$"

func TestMain(m *testing.M) {
	flag.Parse()
	skip := notForTLS
	if s := flag.Lookup("test.skip").Value.String(); s != "" {
		skip += "|" + s
	}
	flag.Set("test.skip", skip)
	os.Exit(m.Run())
}

// A pair makes both ends of a connection.
type pair func(*testing.T) (net.Conn, net.Conn)

// socket makes connections of network that are bare.
func socket(network string) pair {
	return func(t *testing.T) (net.Conn, net.Conn) {
		conn, peer := livenesstest.Pair(t, network)
		return conn, peer.NetConn()
	}
}

func pipe(*testing.T) (net.Conn, net.Conn) { return net.Pipe() }

// hidden makes connections whose socket cannot be found.
func hidden(t *testing.T) (net.Conn, net.Conn) {
	one, other := socket("tcp4")(t)
	return struct{ net.Conn }{one}, other
}

// oneEnd and bothEnds wrap what inner makes.
func oneEnd(inner pair, cfg *liveness.Config) pair {
	return func(t *testing.T) (net.Conn, net.Conn) {
		one, other := inner(t)
		return wrap(t, one, cfg), other
	}
}

func bothEnds(inner pair, cfg *liveness.Config) pair {
	return func(t *testing.T) (net.Conn, net.Conn) {
		one, other := inner(t)
		return wrap(t, one, cfg), wrap(t, other, cfg)
	}
}

func wrap(t *testing.T, conn net.Conn, cfg *liveness.Config) net.Conn {
	c, err := liveness.Wrap(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// overTLS speaks TLS over what inner makes.
func overTLS(inner pair) pair {
	return func(t *testing.T) (net.Conn, net.Conn) {
		server, client, err := livenesstest.TLSConfig()
		if err != nil {
			t.Fatal(err)
		}
		one, other := inner(t)
		s, c := tls.Server(one, server), tls.Client(other, client)
		shaken := make(chan error)
		go func() { shaken <- s.Handshake() }()
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
		return s, c
	}
}

func TestConn(t *testing.T) {
	halves := &liveness.Config{AllowHalfClose: true, OnDisconnect: func(*liveness.Conn, error) {}}
	for _, test := range []struct {
		name string
		make pair
	}{
		{"tcp4", bothEnds(socket("tcp4"), nil)},
		{"tcp4, half-close allowed", bothEnds(socket("tcp4"), halves)},
		{"tcp4, one end", oneEnd(socket("tcp4"), nil)},
		{"tcp6", bothEnds(socket("tcp6"), nil)},
		{"mptcp", bothEnds(socket("mptcp"), nil)},
		{"unix", bothEnds(socket("unix"), nil)},
		{"unix, half-close allowed", bothEnds(socket("unix"), halves)},
		{"pipe", bothEnds(pipe, nil)},
		{"pipe, one end", oneEnd(pipe, halves)},
		{"hidden socket", bothEnds(hidden, nil)},
		{"TLS over wrapped", overTLS(bothEnds(socket("tcp4"), nil))},
		{"TLS over one wrapped end", overTLS(oneEnd(socket("tcp4"), halves))},
		{"TLS, wrapped", bothEnds(overTLS(socket("tcp4")), nil)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// Skips the test here if the system lacks what it needs, because nettest
			// asks for connections in tests of its own.
			test.make(t)
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				c1, c2 = test.make(t)
				return c1, c2, func() {
					c1.Close()
					c2.Close()
				}, nil
			})
		})
	}
}
