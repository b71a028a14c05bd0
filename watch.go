package liveness

import (
	"net"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/keepalive"
)

// Watch observes conn, which the application goes on using itself. It is for code that
// needs the concrete connection, such as a *[net.TCPConn]: gRPC, NATS, etcd, Traefik,
// [net.Buffers]. Use the returned Conn for Alive, Err, Done, OnDisconnect, Context,
// Status, Ping and OnSilence. A nil cfg is the zero Config.
//
// The library sets no deadline on conn and interrupts nothing: a time-out is published, and
// the application closes conn. Close of the Conn closes conn. That the application closed
// conn itself is noticed within two seconds, as [net.ErrClosed]. An application that reads
// the end of the stream and closes at once may be faster than the library: the reason is
// then net.ErrClosed too, unless an event had told of the end.
//
// What only [Wrap] can do: end the Reads and Writes that wait, return the verdict from
// them, never let a stream that was cut off read as complete, and tell a reset from a close
// on MPTCP and AF_UNIX while the application reads. The bounds of [Config.PeerTimeout] are
// the same.
//
// Watch fails as Wrap does, and where no socket is found. It does not block, and may be
// called while others use conn.
func Watch(conn net.Conn, cfg *Config) (*Conn, error) {
	if beneath.IsNil(conn) {
		return nil, errNilConn
	}
	c, err := newConn(conn, cfg, beside, keepalive.RestoreOnFailure)
	if err != nil {
		return nil, beneath.NamedOf(conn).OpError(opWatch, err)
	}
	return c, nil
}
