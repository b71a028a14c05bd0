// Package liveness tells a server at once, and why, that the peer of a connection
// is gone.
//
// Wrap a connection, or the listener that accepts it, and keep everything else:
//
//	conn, err := liveness.Wrap(conn, &liveness.Config{PeerTimeout: time.Minute})
//	...
//	conn.OnDisconnect(func(err error) {
//		if errors.Is(err, net.ErrClosed) {
//			return // we closed it ourselves
//		}
//		log.Print(err) // watch tcp 10.0.0.1:80->10.0.0.2:3345: peer reset the connection: …
//	})
//	ctx, cancel := conn.Context(context.Background()) // for the work done in the peer's name
//	defer cancel()
//
// [Conn.Err], [Conn.Done], [Conn.OnDisconnect] and [Conn.Context] tell of the end
// when it happens; [Conn.Alive], [Conn.Status] and [Check] ask the kernel now.
// [NewListener] and [ConnContext] bring all of that to accept loops and HTTP
// servers that stay as they are.
//
// The library only watches: it reads nothing, sets no deadline, takes no lock of
// the connection, blocks nowhere and never closes. With a goroutine parked in Read
// and another in Write every method still answers. A connection that is only
// watched costs no goroutine, no timer and no wake-up: one epoll descriptor serves
// the process, from the first watched socket until a second after the last.
//
// # What ends a connection
//
// A FIN ([ErrPeerClosed]), a RST ([ErrPeerReset]), the kernel's own time-outs and a
// missing route ([ErrPeerLost]), and our own Close ([net.ErrClosed]). They are seen
// behind unread data, under TLS, and with nobody reading. A FIN does not say
// whether the peer closed or only finished sending; see [Config.AllowHalfClose].
//
// No end are: a deadline of ours, unread or pipelined bytes, TLS session tickets,
// ICMP errors that the kernel rides out, events in the error queue, our own
// CloseRead and CloseWrite, a closed receive window, and an error on the other side
// of a copy.
//
// # Peers that say nothing
//
// A peer that vanishes sends no FIN; one that hangs is answered for by its kernel.
// [Config] has a time-out for each: PeerTimeout for a host that gives no sign of
// life, StallTimeout for a program that takes no data, ReadIdleTimeout for one that
// sends none. They are off unless asked for. One clock serves all connections, and
// asks the kernel instead of counting Reads and Writes; it runs while there is
// something to ask.
//
// These three verdicts are the library's own. They end the Reads and Writes that
// wait, and those to come, with an error that wraps the verdict; what was received
// before is still read first. Everything else is left to the caller, Close included.
//
// [Conn.OnSilence] is the place for a protocol's own ping, [Conn.Ping] asks the
// peer's host without one, and [Conn.Status] shows what is known.
//
// # What cannot be seen
//
//   - A FIN or RST that did not arrive: behind a full receive buffer that we do not
//     drain, or behind a lost segment. A peer that closes behind more data than our
//     buffer takes is seen when we read on, or when its kernel gives up.
//   - A peer that vanishes without a word, unless PeerTimeout is set or the socket's
//     own timers run; and one behind a proxy that answers in its name.
//   - On MPTCP, the loss of the last path for a further minute (the sysctl
//     net.mptcp.close_timeout), and any end after our own shutdown of both
//     directions. A RST whose error a Read or a Write takes at the same moment may
//     there look like an orderly end.
//   - On AF_UNIX, any end after our own shutdown of both directions too; and our own
//     CloseRead must be called on the Conn: made elsewhere, it looks like the peer's
//     CloseWrite.
//   - A wrapped connection that is closed behind our back, by the Close of the
//     original, until the next look, Read or Write.
//   - The end of our own side while a duplicate of the descriptor, from
//     (*net.TCPConn).File or a fork, keeps the connection open for the peer.
//   - With AllowHalfClose, a peer that closed both directions, until we write or the
//     keep-alive of the socket asks.
//
// # Systems
//
// On Linux the events come from epoll (EPOLLRDHUP), and a look is poll(2) and, only
// if that shows something, the state in TCP_INFO. Neither takes the socket's
// pending error, which a recv with MSG_PEEK or getsockopt SO_ERROR would: the
// application would then read a clean end of file from a stream that was cut off.
//
// On macOS, iOS and the BSDs the events come from kqueue (EV_EOF), and a look is the
// TCP state, or on NetBSD and DragonFly a recv with MSG_PEEK and, behind unread data, a
// kqueue of its own. None of that takes the pending error there.
//
// On Solaris, illumos and AIX nothing tells of a FIN alone. There one goroutine looks
// at everything that is watched four times a second, by MSG_PEEK, so an end behind
// unread data is seen when these have been read. The same is done on a Linux whose
// epoll or TCP state does not tell, as under some emulators and in some sandboxes: it
// is found out by a pair of sockets when the first connection is wrapped, and later by
// an end that a Read shows and no event tells of within a second.
//
// On Windows the events and the looks come from polls of the AFD driver. On the rest
// (plan9, js, wasip1) there is what Read, Write and Close show; [Conn.Status] then
// says [Unknown], and [Check] returns an error that wraps [errors.ErrUnsupported].
//
// What Config asks for, a system that cannot keep it refuses: PeerTimeout on OpenBSD,
// which has no keep-alive for a connection of its own, PeerTimeout on AIX, which has no
// known limit for data in flight, and PeerTimeout of less than 22 s on Solaris and
// illumos. Where the kernel does not count, ReadIdleTimeout and OnSilence run while a
// Read waits, StallTimeout while a Write does, and [Conn.Ping] is unsupported. The README
// says how each system was tested.
//
// On systems other than Linux the kernel alone keeps PeerTimeout. macOS, the BSDs,
// Solaris and illumos give up by the age of the last segment. So that a live peer which
// has been silent for longer than PeerTimeout when it is wrapped can answer first, they
// are told to wait for ten days of silence, and for the probes of KeepAlive or
// PeerTimeout only once these have been sent: a peer that vanished before Wrap is found
// about one probe later than another, on NetBSD in up to twice the time; a Conn that is
// forgotten until then leaves its connection at ten days. After our own CloseWrite NetBSD,
// Solaris and illumos ask no more, and the others go on as they were told before, so there
// is no bound if that comes before the probes were sent. macOS and the BSDs also have a
// limit of their own for data in flight, of twelve retransmissions, which take six minutes
// or more: with a PeerTimeout above twice that, an outage of less than half of it may then
// end the connection.
//
// On Windows PeerTimeout is kept by keep-alive while nothing is in flight and by TCP_MAXRT
// for data in flight. Each begins when the other ends, so after a Write just before the
// last probe would be given up it may take twice PeerTimeout. Microsoft does not say
// whether probes of a closed window count for TCP_MAXRT; if they do, a live peer that
// takes nothing for that long is lost. [Status.Unacked] leaves out what was not sent yet.
//
// Under an emulator whose TCP_INFO is the state alone, such as qemu-user, and in gVisor,
// closes and resets are seen, PeerTimeout is kept by the kernel's keep-alive while
// nothing is in flight ([Status.DetectWithin] is 0: there is no bound), StallTimeout goes
// by a Write without progress, ReadIdleTimeout and OnSilence run while a Read waits, and
// [Conn.Ping] is unsupported. A reset that follows a FIN before anybody looked is told
// as a reset under qemu-user. In gVisor the sweep looks, a look at a TCP connection that
// is over takes the pending error, which Read of the Conn then returns in its place, and
// a reset of an AF_UNIX connection is a close unless a Read meets it.
//
// Connections without a socket, such as net.Pipe, show what Read, Write and Close
// show. They share nothing with others and start nothing, so they work inside a
// testing/synctest bubble; sockets in a bubble are not supported, by Go either.
package liveness

import (
	"net"
	"reflect"
	"runtime"
	"syscall"
	"time"
)

// A Config says what to watch for. Nil and the zero value watch and change
// nothing on the connection. It is copied on entry.
type Config struct {
	// PeerTimeout is the time within which a peer that vanished without a word, by
	// power loss or a cut cable, is reported as ErrPeerLost. It is 4 s to 65534 s;
	// 0 leaves the socket's own timers alone.
	//
	// While nothing is outstanding the keep-alive of the kernel asks, tuned as by
	// [KeepAlive]; data in flight are watched by the library, because keep-alive then
	// stands still, and TCP_USER_TIMEOUT, which does not, ends live connections whose
	// peer is slow to read. An outage shorter than half of PeerTimeout is survived at
	// any time. On Linux a peer that vanishes is reported within 1.05 PeerTimeout + 2 s
	// while idle, and 1.25 PeerTimeout + 1 s with data in flight, unsent, or behind a
	// closed window. Kernels before 6.15 have no TCP_RTO_MAX_MS, and there the latter
	// is 2 PeerTimeout + 1 s, or PeerTimeout + 4 min behind a window that has been closed
	// for long, which these kernels probe every two minutes. Behind a window that closed
	// on data in flight, which the kernel then retransmits in place of a probe, it is 1.5
	// PeerTimeout + 1 s. Data that are written through NetConn are not watched.
	// See [Status.DetectWithin] for what holds on a connection.
	//
	// The kernel's own patience with data in flight is 924 s and more (tcp_retries2 in
	// tcp(7), which may be set lower), and 240 s where the window closed on them. With a
	// PeerTimeout of more than twice that it ends sooner than half of PeerTimeout.
	//
	// While nothing is outstanding nothing is done for it, with two exceptions: a copy
	// that waits for its source, and a Read of a Conn above TLS, which may write, have
	// the connection looked at eight times in PeerTimeout, and ten in StallTimeout.
	//
	// A TCP_USER_TIMEOUT of the user's is left in place, and may end a connection
	// earlier: also one whose peer is alive and slow.
	//
	// On other systems the kernel keeps it, with what it has: see Systems in the package
	// documentation.
	PeerTimeout time.Duration

	// KeepAlive tunes the keep-alive probes. With Enable set it replaces the tuning
	// that PeerTimeout would derive, and nothing else, and its fields mean what they
	// mean to [net.TCPConn.SetKeepAliveConfig]: zero is the default of package net,
	// negative is unchanged. Idle and Interval are at most 32767 s, Count is at most
	// 127. Without Enable it must be zero, and nothing is changed.
	KeepAlive net.KeepAliveConfig

	// StallTimeout is the time after which a peer that takes no data, although its
	// host answers, is reported as ErrPeerStalled, within 1.1 StallTimeout + 1 s. It is
	// 100 ms or more; 0 is never.
	//
	// What counts is what the peer's kernel announces: it opens the window in steps,
	// and a reader of 1 kB/s may take no step for many seconds. Where the kernel does not
	// tell that (on AF_UNIX and MPTCP, and on other systems than Linux), a peer is
	// reported while a Write waits and nothing of it, or less than 16 kB, was taken for
	// that long; such a Write is made in pieces, and copies go through it.
	StallTimeout time.Duration

	// ReadIdleTimeout is the time after which a peer that could send and sends
	// nothing is reported as ErrPeerIdle, within 1.1 ReadIdleTimeout + 100 ms. A long
	// download is silence too. It is 100 ms or more; 0 is never.
	//
	// Bytes received count, from Wrap or the last of them on, whoever reads them. The
	// clock stands still while our own receive buffer is full, as far as it is seen so:
	// it is looked at when the silence may be over, and ten times as often while
	// something is unread. The clock stops with the peer's FIN. Keep-alive answers do not
	// count. Where the kernel does not tell when bytes came (anywhere but on TCP on
	// Linux), the clock runs while a Read waits, and stands still between two of them.
	ReadIdleTimeout time.Duration

	// AllowHalfClose says that the peer's FIN alone is not the end: it may have
	// finished sending and still be reading. The state is then HalfClosed, and the
	// end comes with a RST, a time-out, our own Close, or when our own CloseWrite
	// is done too. Without it a FIN is the end, which is right for most servers and
	// for pools.
	//
	// A FIN is seen ahead of the data that came before it, so at the end by two FINs
	// there may be data that are still to be read. A proxy that closes the other
	// side as soon as OnDisconnect says ErrPeerClosed cuts off its stream.
	AllowHalfClose bool

	// OnDisconnect, if not nil, is called once for each connection, whatever ended
	// it, our own Close included, with what Err returns from then on. It runs in
	// a goroutine of its own, and may do so before Wrap or Accept have returned.
	// The connection is not closed for it: to close is the caller's part.
	OnDisconnect func(*Conn, error)
}

// Wrap watches conn from now on, and returns a connection to use in its place. A
// nil cfg is the zero Config. Wrap does not block (but for a LocalAddr of conn that does,
// if cfg asks for PeerTimeout, StallTimeout or KeepAlive and no socket is found), and
// takes over the ownership of conn only when it succeeds: closing the Conn then closes
// conn.
//
// The socket is looked for in conn and then beneath it by NetConn, as under a
// *[crypto/tls.Conn]; wrap beneath TLS rather than above where you can, so that
// [From] finds the Conn from the *tls.Conn. A connection in which no socket is
// found, such as a net.Pipe or a wrapper without SyscallConn and NetConn, is
// accepted with the state [Unknown].
//
// A connection that its peer has ended already is a success, and reported at once.
// Wrap fails only if it cannot do what cfg asks for; then conn is unchanged and
// still the caller's. The error is a *[net.OpError] and wraps
//
//   - [net.ErrClosed] if conn was closed by us,
//   - [errors.ErrUnsupported] for a packet socket, or what this connection or
//     system cannot do; it names the field of cfg.
//
// A connection must be watched once. If [From] finds a Conn already, Wrap(conn,
// nil) returns conn itself if it is a *Conn; anything else is an error, and so is
// to wrap one bare connection twice.
func Wrap(conn net.Conn, cfg *Config) (*Conn, error) {
	if isNil(conn) {
		return nil, errNilConn
	}
	if c, ok := From(conn); ok {
		if net.Conn(c) == conn && cfg == nil {
			return c, nil
		}
		return nil, opError(opWatch, conn, errWrapped)
	}
	if cfg == nil {
		cfg = &Config{}
	}
	c, err := newConn(conn, cfg)
	if err != nil {
		return nil, opError(opWatch, conn, err)
	}
	return c, nil
}

// From finds the *Conn at or beneath conn, following NetConn as far as it leads.
func From(conn net.Conn) (*Conn, bool) {
	for range maxDepth {
		if c, ok := conn.(*Conn); ok {
			return c, c != nil
		}
		if conn = beneath(conn); conn == nil {
			break
		}
	}
	return nil, false
}

// maxDepth bounds the search beneath a connection: a NetConn that returns its
// own receiver must not hang us.
const maxDepth = 32

func beneath(conn net.Conn) net.Conn {
	if u, ok := conn.(interface{ NetConn() net.Conn }); ok && !isNil(conn) {
		return u.NetConn()
	}
	return nil
}

// findRawConn finds the socket at or beneath conn, and the connection that it is
// the socket of, at which depth. Both are nil if there is none.
func findRawConn(conn net.Conn) (raw syscall.RawConn, owner net.Conn, depth int) {
	for depth := range maxDepth {
		if s, ok := conn.(syscall.Conn); ok {
			if raw, err := s.SyscallConn(); err == nil {
				return raw, conn, depth
			}
		}
		if conn = beneath(conn); conn == nil {
			break
		}
	}
	return nil, nil, 0
}

// isNil sees a nil pointer in the interface too, which package net would meet
// with EINVAL and other packages with a panic.
func isNil(conn net.Conn) bool {
	if conn == nil {
		return true
	}
	v := reflect.ValueOf(conn)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

func newConn(inner net.Conn, cfg *Config) (*Conn, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Conn{inner: inner, allowHalfClose: cfg.AllowHalfClose}
	if cfg.PeerTimeout > 0 || cfg.StallTimeout > 0 || cfg.ReadIdleTimeout > 0 {
		t := c.timersOf()
		t.asks.Peer, t.asks.Stall, t.asks.Idle = cfg.PeerTimeout, min(cfg.StallTimeout, maxTimeout), min(cfg.ReadIdleTimeout, maxTimeout)
		t.least.Store(int64(t.asks.Idle))
	}
	if f := cfg.OnDisconnect; f != nil {
		c.calls.add(&call{f: func(err error) { f(c, err) }}) // nobody else has c yet
	}
	raw, owner, depth := findRawConn(inner)
	if raw == nil {
		return c, c.withoutSocket(cfg)
	}
	s := &c.sock
	s.raw = raw
	s.bind()
	s.watch = newHandle(c, owner)
	c.kernel, c.direct = s, depth == 0
	if cfg.PeerTimeout > 0 || cfg.KeepAlive.Enable || cfg.StallTimeout > 0 {
		s.setup = &setup{cfg: cfg}
	}
	c.mu.Lock()
	c.pin()
	c.mu.Unlock()
	// Registering is the last step that can fail: nobody is told of a Conn that is
	// not returned.
	seen := s.look(hint{})
	tuned := s.setup
	s.setup = nil
	switch {
	case seen.outcome == closed:
		return nil, net.ErrClosed
	case s.unfit == errNoSocket, s.family == familyUnasked: // Control has not come to look
		c.sock = socket{}
		c.direct = false
		return c, c.withoutSocket(cfg)
	case s.unfit != nil:
		return nil, s.unfit
	}
	// For a Conn that nobody closes; after Close there is nothing left to forget.
	runtime.AddCleanup(c, forget, s.watch)
	c.judge(seen)
	if c.allowHalfClose {
		s.sample(new(sample)) // to tell our FIN from a RST later on; see socket.sentFIN
	}
	if tuned != nil && tuned.later != nil {
		c.put(tuned.later)
	}
	if t := c.timers.Load(); t != nil {
		t.asks.OwnRTO = s.ownRTO
		if next := c.check(time.Now(), time.Time{}); !next.IsZero() {
			c.wake(t, next)
		}
	}
	return c, nil
}

// withoutSocket makes do with what Read, Write and Close show. A host can vanish
// behind any connection that only hides its socket, but not behind a net.Pipe.
func (c *Conn) withoutSocket(cfg *Config) error {
	c.kernel = new(ioResults)
	if cfg.PeerTimeout == 0 && cfg.StallTimeout == 0 && !cfg.KeepAlive.Enable {
		return nil // and no method of the connection is called, which may block
	}
	if addr := c.inner.LocalAddr(); addr != nil && addr.Network() == "pipe" {
		return nil
	}
	switch {
	case cfg.PeerTimeout > 0:
		return badConfig("PeerTimeout", "%w", errNoSocket)
	case cfg.StallTimeout > 0:
		return badConfig("StallTimeout", "%w", errNoSocket)
	case cfg.KeepAlive.Enable:
		return badConfig("KeepAlive", "%w", errNoSocket)
	}
	return nil
}
