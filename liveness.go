// Package liveness tells a server whether the peer of a connection is still there:
// at once and with the reason when the peer closes or resets, and within the time
// that the application asks for when it vanishes, hangs, or stops reading.
//
// Wrap a connection, or the listener that accepts it, and keep everything else:
//
//	conn, err := liveness.Wrap(conn, &liveness.Config{PeerTimeout: time.Minute})
//	...
//	conn.OnDisconnect(func(err error) {
//		log.Print(err) // net.ErrClosed after a local Close, or "… peer reset the connection: …"
//		conn.Close()
//	})
//	ctx, cancel := conn.Context(context.Background()) // for the work done for the peer
//	defer cancel()
//
// [NewListener], [Dialer] and [ConnContext] do so for accept loops, clients and HTTP
// servers. [Watch] leaves the application its own connection. [Check] asks about any
// connection once, as a pool does before it uses one again.
//
// The library only observes. It reads nothing, sets no deadline while the connection
// lasts, and never closes it. Every method answers at once, also while goroutines wait in
// Read and Write. A wrapped connection without a time-out costs no goroutine, no timer and
// no wake-up; whether those of [Watch] are still open is looked up once a second.
//
// # What ends a connection
//
// The peer's FIN ([ErrPeerClosed]) or RST ([ErrPeerReset]), a time-out of the kernel or a
// missing route ([ErrPeerLost]), and a local Close ([net.ErrClosed]). They are seen behind
// unread data, under TLS, and with no Read waiting. A time-out of the [Config] ends it
// too: PeerTimeout ([ErrPeerLost]), StallTimeout ([ErrPeerStalled]) and ReadIdleTimeout
// ([ErrPeerIdle]). The zero Config sets none, and finds no peer that vanished.
//
// The following do not end a connection: a deadline that the application set, unread or
// pipelined bytes, TLS session tickets, ICMP errors that the kernel rides out, events in the
// error queue, a local CloseRead or CloseWrite, a closed receive window, loss, delay, and
// an error on the other side of a copy.
//
// A connection that has ended is not closed: Close remains the application's part. Until
// then what was received stays readable.
//
// # What cannot be seen
//
//   - A FIN or RST that has not arrived: lost on the way, or waiting in the peer behind more
//     unread data than the local receive buffer takes (about 128 kB by default).
//   - A peer that a proxy, a load balancer or a sidecar answers for.
//   - Whether a FIN means that the peer closed or only finished sending; see
//     [Config.AllowHalfClose].
//   - A wrapped connection that the application closes by the Close of the original, until
//     the next check, Read or Write.
//
// # Platform support
//
//	system                 ends seen by      PeerTimeout kept by     other time-outs, Ping
//	Linux                  epoll, TCP_INFO   library and kernel      by the kernel's counts
//	macOS, iOS, BSDs       kqueue            kernel (not OpenBSD)    while a Read or Write waits; no Ping
//	Windows                AFD polls         kernel                  while a Read or Write waits; no Ping
//	Solaris, illumos, AIX  4 checks/second   kernel (not AIX)        while a Read or Write waits; no Ping
//	plan9, js, wasip1      Read and Write    no                      while a Read or Write waits; no Ping
//
// What a system cannot keep, Wrap refuses. docs/platforms.md has the details, the kernels
// that the library was tested on, and what holds for MPTCP, AF_UNIX and emulators.
//
// A connection without a socket, such as a net.Pipe, shows what Read, Write and Close show.
// Connections that are made and closed inside a testing/synctest bubble work.
package liveness

import (
	"net"
	"time"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/keepalive"
)

// A Config says what to watch for. Nil and the zero value set no time-out and change
// nothing on the connection. It is copied on entry.
type Config struct {
	// PeerTimeout is how long the peer's host may stay silent before the connection ends with
	// ErrPeerLost. It finds peers that vanished: power loss, a cut cable, an expired NAT entry.
	// Valid values are 4 s to 65534 s. Zero leaves the socket's own timers unchanged.
	//
	// An idle connection is probed by TCP keep-alive, tuned as by [KeepAlive]. With data in
	// flight the library watches the acknowledgements itself; a peer that is heard but
	// acknowledges nothing is lost after twice PeerTimeout. A peer that answers but does not
	// read is never lost; see StallTimeout. An outage shorter than half of PeerTimeout does
	// not end the connection. On Linux ErrPeerLost is reported within
	//
	//	1.05 × PeerTimeout + 2 s   when idle
	//	1.25 × PeerTimeout + 1 s   with data in flight
	//
	// Older kernels, closed windows and other systems differ; see docs/platforms.md and
	// [Status.DetectWithin]. A TCP_USER_TIMEOUT that is already set stays in force.
	PeerTimeout time.Duration

	// KeepAlive tunes the keep-alive probes. With Enable set it replaces the tuning that
	// PeerTimeout derives, and nothing else. Its fields mean what they mean to
	// [net.TCPConn.SetKeepAliveConfig]: zero is the default of package net, negative is
	// unchanged. Idle and Interval are at most 32767 s, Count is at most 127. Without Enable
	// it must be zero, and nothing is changed.
	KeepAlive net.KeepAliveConfig

	// StallTimeout is how long a peer whose host answers may take no data before the
	// connection ends with ErrPeerStalled. It is 100 ms or more; zero is never.
	//
	// The peer's kernel opens a closed window only when a part of its buffer is free, so a
	// slow reader takes data in steps. A StallTimeout shorter than one step at 100 kB/s is
	// extended to it if the step is longer than 4 s; its length follows from the largest window
	// that the peer has announced. So a peer that reads 100 kB/s or more, steadily, is never
	// stalled if StallTimeout is 4 s or more. docs/choosing-timeouts.md has the formula. Where
	// the kernel does not tell what is taken, a peer is stalled when a Write makes no progress
	// for that long.
	StallTimeout time.Duration

	// ReadIdleTimeout is how long a peer that could send may send nothing before the
	// connection ends with ErrPeerIdle, reported within 1.1 ReadIdleTimeout + 100 ms. A long
	// download is silence too. It is 100 ms or more; zero is never.
	//
	// Received bytes count, from Wrap on, read or unread. The clock stands still while
	// the local receive buffer is full and until the peer can know that it has room again, and
	// ends with the peer's FIN. Where the kernel does not tell when bytes came, the clock runs
	// while a Read waits.
	ReadIdleTimeout time.Duration

	// AllowHalfClose keeps the connection after the peer's FIN: the peer may have finished
	// sending and still be reading. The state is then HalfClosed, and the end comes with a
	// RST, a time-out, a local Close, or when a local CloseWrite has succeeded too. Without it
	// a FIN is the end, which is right for most servers and for pools.
	//
	// A FIN is seen ahead of the data that came before it, so at the end by two FINs there may
	// be data left to read. A Conn that is forgotten is then not freed by the FIN.
	AllowHalfClose bool

	// OnDisconnect, if not nil, is called once for each connection with what Err returns from
	// then on, whatever ended it; test for [net.ErrClosed] if a local Close does not matter.
	// It runs in a goroutine of its own, perhaps before Wrap or Accept has returned. The
	// connection is not closed for it. A Conn that is forgotten without Close is kept until
	// its end.
	OnDisconnect func(*Conn, error)

	// Group, if not nil, counts the connections and finds them again.
	Group *Group
}

// Wrap watches conn, and returns a connection to use in its place. A nil cfg is the zero
// Config. If Wrap succeeds, it has taken over conn: closing the Conn closes conn.
//
// The socket is looked for in conn and then beneath it, as From does. Wrap beneath TLS
// rather than above where you can, so that From finds the Conn from the *tls.Conn. Where no
// socket is found, as in a net.Pipe, the state is [Unknown], and an end shows when a Read
// or a Write fails. A connection that its peer has ended already is a success, and its end
// is published at once.
//
// Wrap fails only if it cannot do what cfg asks for; conn is then unchanged and still the
// caller's. The error is a *[net.OpError]. It wraps [net.ErrClosed] if the application has
// closed conn, and [errors.ErrUnsupported] for a packet socket or what the connection or
// the system cannot do. A connection is watched once: Wrap(conn, nil) of a *Conn returns it,
// and everything else that is wrapped or watched already is an error.
//
// Wrap does not wait for the network. The methods SyscallConn, NetConn and, without a socket,
// LocalAddr of conn must not block.
func Wrap(conn net.Conn, cfg *Config) (*Conn, error) {
	if beneath.IsNil(conn) {
		return nil, errNilConn
	}
	if c, ok := conn.(*Conn); ok && cfg == nil {
		return c, nil
	}
	c, err := newConn(conn, cfg, through, keepalive.RestoreOnFailure)
	if err != nil {
		return nil, beneath.NamedOf(conn).OpError(opWatch, err)
	}
	return c, nil
}

// From finds the *Conn at or beneath conn. It follows methods NetConn, as of a
// *[crypto/tls.Conn], and in a struct without one its only exported embedded net.Conn, as
// of most wrappers that limit, count or multiplex connections. A Conn that [Watch] made is
// not beneath its connection; see [ConnContext].
func From(conn net.Conn) (*Conn, bool) {
	for range beneath.MaxDepth {
		if c, ok := conn.(*Conn); ok {
			return c, c != nil
		}
		if conn = beneath.Next(conn); conn == nil {
			break
		}
	}
	return nil, false
}
