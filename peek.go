package liveness

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// An outcome is what one look at a connection shows.
type outcome uint8

const (
	blind    outcome = iota // this system, or this connection, shows nothing
	open                    // nothing has ended
	finSeen                 // the peer's FIN is here, and we may still send
	finished                // both sides have sent their FIN
	aborted                 // over, and not by two FINs
	closed                  // closed by us
)

// A sight is the evidence of one look, whoever took it.
type sight struct {
	outcome outcome
	fin     bool  // a FIN of the peer came before the end
	errno   error // aborted: the cause, by the system's name for it
}

// A hint is why a look is taken.
type hint struct {
	err   error // what a Read or a Write of the connection has just returned; nil otherwise
	wrote bool  // err is a Write's
	late  bool  // whoever may have taken the errno has had the time to bring it
	event bool  // the poller has told of a FIN or an end, so it is worth asking for no less
}

// A kernel shows how a connection is: a *socket, an *ioResults where there is
// none, and a fake in tests.
type kernel interface {
	// look never blocks, allocates nothing while the connection is open, and
	// leaves no trace.
	look(h hint) sight

	// shut remembers our own CloseRead or CloseWrite.
	shut(read, write bool)
}

// deferTime is how long an event waits for a Read or a Write that may have taken the
// errno, and then returns at once. A copy may have taken nothing, and wait for its
// other side.
const deferTime = 100 * time.Millisecond

// A family says what a look may trust.
type family uint8

const (
	familyUnasked family = iota
	familyInet           // one of the next two, to be asked when it matters
	familyTCP            // the kernel tells the state
	familyMPTCP          // TCP_INFO is a subflow's, and no evidence
	familyStream         // AF_UNIX and other streams: no state
	familyUnfit          // see socket.unfit
)

// A socket is the kernel's side of a connection.
type socket struct {
	raw   syscall.RawConn
	watch *handle // to be registered by the first look; nil if nothing is to be told
	setup *setup  // what the first look is to do besides; nil if nothing

	// Set by the first look, which must be over before others begin.
	family family
	unfit  error // with familyUnfit: why nothing can be seen here

	ownRTO time.Duration // the TCP_RTO_MAX_MS that tune has set; 0 if none

	// What the kernel does not tell apart everywhere, kept from earlier on. They
	// only ever go from false to true.
	finSeen   atomic.Bool // a look has seen the peer's FIN
	readShut  atomic.Bool // CloseRead was called here
	writeShut atomic.Bool // CloseWrite was called here

	limits    atomic.Pointer[keepalive.Limits] // the options that the socket had when they were last asked for; nil before
	short     atomic.Bool                      // TCP_INFO tells the state and no more, as under emulators
	synCounts atomic.Int32                     // whether the kernel counts a SYN among the bytes acknowledged: 0 unknown, 1 no, 2 yes

	// Where the kernel keeps no state, the errno of an end is in the socket only until
	// somebody takes it: a look without an alternative, or a Read or Write of ours.
	stolen   atomic.Pointer[error] // what was taken
	inIO     atomic.Int32          // Reads and Writes that may be taking it just now
	deferred atomic.Bool           // an event waits for them to return

	// The usual look finds nothing, and has nothing to carry: quick counts in shown
	// what it would have to tell. Constant; bound once, because binding allocates.
	quick func(fd uintptr)
	shown atomic.Uint32
}

func (s *socket) bind() {
	s.quick = func(fd uintptr) {
		if !s.calmAt(fd) {
			s.shown.Add(1)
		}
	}
}

// calm reports whether a look shows that nothing has ended. If it does not, look
// tells what.
func (s *socket) calm() bool {
	if s.family != familyTCP && s.family != familyInet {
		return false
	}
	before := s.shown.Load()
	return s.raw.Control(s.quick) == nil && s.shown.Load() == before
}

// A setup is for the first look of a Wrap.
type setup struct {
	cfg   *Config
	later *keepalive.Later // what tune leaves to the clock; nil if nothing
}

// A glance carries one look through RawConn.Control, which keeps the descriptor
// from being closed and reused meanwhile.
type glance struct {
	at   func(fd uintptr)
	sock *socket
	hint hint
	sight
}

var glances = sync.Pool{New: func() any {
	g := new(glance)
	g.at = func(fd uintptr) {
		if g.sock.family == familyUnasked {
			g.sock.introduce(fd)
		}
		if g.sock.family == familyUnfit {
			return
		}
		g.sight = g.sock.lookAt(fd, g.hint)
	}
	return g
}}

// introduce finds out what the socket is, and has it watched before it is looked
// at, so that nothing is missed in between.
func (s *socket) introduce(fd uintptr) {
	s.family, s.unfit = identify(fd)
	if s.family == familyUnfit {
		return
	}
	if kernelCounts && s.family == familyTCP && !countersTold(fd) {
		// Before the first Read, which then has to do some of the counting.
		s.short.Store(true)
	}
	var tuned *keepalive.Tuning
	if s.setup != nil {
		var err error
		if tuned, err = s.tune(fd, s.setup.cfg); err != nil {
			s.family, s.unfit = familyUnfit, err
			return
		}
		if tuned != nil {
			s.setup.later = tuned.Later
		}
	}
	if s.watch != nil {
		if err := theHub.Add(&s.watch.Token, fd); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			if tuned != nil {
				tuned.Undo(fd)
			}
			s.family, s.unfit = familyUnfit, err
		}
	}
}

// counters says whether TCP_INFO has them: 0 not asked yet, 1 yes, 2 no.
var counters atomic.Int32

// countersTold reports whether TCP_INFO has the counters, as of the first connection
// that was asked: whoever answers for the kernel answers alike for all.
func countersTold(fd uintptr) bool {
	if counters.Load() == 0 {
		var info tcpinfo.Info
		switch err := tcpinfo.Get(fd, &info); {
		case err == nil && info.Full:
			counters.Store(1)
		case err == nil || errors.Is(err, tcpinfo.ErrShort):
			counters.Store(2)
		}
	}
	return counters.Load() != 2
}

// A sampler carries one sample through RawConn.Control, as a glance does a look.
type sampler struct {
	at   func(fd uintptr)
	sock *socket
	ok   bool
	sample
}

var samplers = sync.Pool{New: func() any {
	p := new(sampler)
	p.at = func(fd uintptr) { p.ok = p.sock.sampleAt(fd, &p.sample) }
	return p
}}

// sample fills out, or reports false if the descriptor is closed or shows nothing.
func (s *socket) sample(out *sample) bool {
	p := samplers.Get().(*sampler)
	defer samplers.Put(p)
	p.sock, p.ok, p.sample = s, false, sample{}
	err := s.raw.Control(p.at)
	p.sock = nil
	*out = p.sample
	return err == nil && p.ok
}

func (s *socket) look(h hint) sight {
	g := glances.Get().(*glance)
	g.sock, g.hint = s, h
	err := s.raw.Control(g.at)
	seen := g.sight
	g.sock, g.hint, g.sight = nil, hint{}, sight{}
	glances.Put(g)
	if err != nil {
		if errors.Is(err, net.ErrClosed) {
			return sight{outcome: closed}
		}
		return sight{}
	}
	if seen.outcome == finSeen || seen.outcome == finished {
		seen.fin = true
	}
	if seen.fin {
		s.finSeen.Store(true)
	}
	return seen
}

// checked are the sockets of Check, used again and again.
var checked = sync.Pool{New: func() any { s := new(socket); s.bind(); return s }}

func (s *socket) shut(read, write bool) {
	if read {
		s.readShut.Store(true)
	}
	if write {
		s.writeShut.Store(true)
	}
}

// drain reads what was received, and does not wait for more. It works beside a
// deadline that has expired, and takes no lock of package net.
func (s *socket) drain(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	if cerr := s.raw.Control(func(fd uintptr) { n, err = drainAt(fd, b) }); cerr != nil {
		return 0, cerr
	}
	return n, err
}

// abortOnClose has the next Close send a RST and forget what is unsent.
func (s *socket) abortOnClose() { _ = s.raw.Control(lingerZeroAt) }

// verdict is the one decision: what a sight means, and the only place that says
// so. Nil is no end.
func (s sight) verdict(allowHalfClose bool) error {
	switch s.outcome {
	case finSeen:
		if allowHalfClose {
			return nil
		}
		return &cause{reason: ErrPeerClosed}
	case finished:
		return &cause{reason: ErrPeerClosed}
	case aborted:
		// Where a FIN alone is the end, what followed it has ended nothing.
		if s.fin && !allowHalfClose {
			return &cause{reason: ErrPeerClosed}
		}
		return &cause{reason: reasonOf(s.errno), err: s.errno}
	case closed:
		return net.ErrClosed
	}
	return nil
}

// ioResults is the kernel of a connection without a socket: what Read, Write and
// Close show is all there is.
type ioResults struct {
	finSeen, readShut, writeShut atomic.Bool // only ever go from false to true
}

func (k *ioResults) look(h hint) sight {
	why := errno.In(h.err)
	if why == nil {
		why = h.err
	}
	switch err := h.err; {
	case err == nil || isTimeout(err) && !errno.IsLost(why):
	case errors.Is(err, net.ErrClosed):
		return sight{outcome: closed}
	case errors.Is(err, io.EOF):
		shut := k.readShut.Load()
		if h.wrote {
			shut = k.writeShut.Load()
		}
		if !shut { // after our own CloseRead or CloseWrite it tells nothing
			k.finSeen.Store(true)
		}
	case errors.Is(err, io.ErrClosedPipe) && !h.wrote:
		return sight{outcome: closed} // as a net.Pipe says it; of its peer's Close, Read says io.EOF
	case errors.Is(err, io.ErrClosedPipe):
		// Write on a net.Pipe whose other end was closed; or ours, by somebody else.
		return sight{outcome: finished, fin: true}
	case k.writeShut.Load() && errno.IsShut(why):
		// We cannot write after our own CloseWrite, which is no end.
	default:
		return sight{outcome: aborted, fin: k.finSeen.Load(), errno: why}
	}
	switch {
	case k.finSeen.Load() && k.writeShut.Load():
		return sight{outcome: finished, fin: true}
	case k.finSeen.Load():
		return sight{outcome: finSeen, fin: true}
	}
	return sight{}
}

func (k *ioResults) shut(read, write bool) {
	if read {
		k.readShut.Store(true)
	}
	if write {
		k.writeShut.Store(true)
	}
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return isDeadline(err) || ok && t.Timeout()
}

// Check looks at conn once and reports how it has ended, or nil if it has not. It
// is for pools, before a connection is used again, and takes any connection,
// wrapped or not; the socket is looked for beneath conn by NetConn, as under a
// *[crypto/tls.Conn].
//
// It never blocks, reads no byte, changes no deadline, and may be called while
// others are in Read and Write. Unread bytes are no end; a FIN behind them is. On
// a connection of this package, Check is Alive and then Err. On any other, a FIN
// of the peer is an end, and the error says so as [Conn.Err] would. A connection
// that we closed ourselves is [net.ErrClosed]. If there is nothing to look at, a
// [net.Pipe] or a system that shows nothing, the error wraps
// [errors.ErrUnsupported], and a pool may then use the connection and see.
//
// On an AF_UNIX or MPTCP connection that is not wrapped, our own CloseRead looks
// like the peer's CloseWrite, because to the kernel they are the same.
//
// It allocates nothing for a wrapped connection that is connected, and one small
// object for another.
func Check(conn net.Conn) error {
	if _, bare := conn.(*net.TCPConn); !bare { // the usual case, and nothing to search
		if c, ok := From(conn); ok {
			c.Alive()
			return c.Err()
		}
	}
	if isNil(conn) {
		return errNilConn
	}
	raw, owner, _ := findRawConn(conn)
	if raw == nil {
		return opError(opWatch, conn, errNoSocket)
	}
	s := checked.Get().(*socket)
	s.raw = raw
	if _, ok := owner.(*net.TCPConn); ok {
		s.family = familyInet
	}
	var err error
	if !s.calm() {
		seen := s.look(hint{})
		err = seen.verdict(false)
		switch {
		case s.unfit != nil:
			err = s.unfit
		case seen.outcome == blind:
			err = errNoSocket
		}
	}
	s.raw, s.family, s.unfit = nil, familyUnasked, nil
	s.finSeen.Store(false)
	s.stolen.Store(nil)
	checked.Put(s)
	if err != nil {
		return opError(opWatch, conn, err)
	}
	return nil
}
