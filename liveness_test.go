package liveness_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// An ending is one way in which a connection ends, and what is to be told of it.
type ending struct {
	name string

	// do makes it happen. With early it happens before Wrap.
	do    func(*scene)
	early bool

	// reason is what ends the connection with the zero Config, and half with
	// AllowHalfClose: nil is no end, but the state HalfClosed. A nil half is the
	// same as reason.
	reason error
	half   func(variant) error

	// unread is what do has the peer send, and so we can read it afterwards. cut
	// says that the stream was cut off, so that after it comes the errno of a reset
	// and never an end of file. Everything else that Read returns is what it returns
	// on the bare connection.
	unread []byte
	cut    bool

	// hides says that there are unread bytes which the application does not read.
	hides bool

	// luck says that what Read returns is not the same every time, on the bare
	// connection neither.
	luck func(variant) bool

	// behind says in which variants of TCP the only look may come when the FIN and a
	// reset are both there.
	behind func(variant) bool

	// in limits the variants to those that make sense. Nil is all.
	in func(variant) bool
}

// message and much are what the peer sends in the rows with unread bytes: less and
// more than a page of memory.
var (
	message = bytes.Repeat([]byte("last words "), 10)
	much    = bytes.Repeat(message, 300)
)

var endings = []ending{
	{
		name:   "close",
		do:     func(s *scene) { s.wire.Close() },
		reason: liveness.ErrPeerClosed, half: afterClose,
		// What the writer writes is answered by a reset.
		luck: func(v variant) bool { return !liveness.RemembersFIN() && v.parked == "writer" },
	},
	{
		name:   "close behind unread data",
		do:     func(s *scene) { s.send(message); s.wire.Close() },
		reason: liveness.ErrPeerClosed, half: afterClose, unread: message,
		behind: withWriter,
	},
	{
		name:   "half-close",
		do:     func(s *scene) { s.wire.CloseWrite() },
		reason: liveness.ErrPeerClosed, half: noEnd,
	},
	{
		name:   "half-close, then own CloseWrite",
		do:     func(s *scene) { s.wire.CloseWrite(); s.hear(); s.shut() },
		reason: liveness.ErrPeerClosed,
		in:     withoutWriter,
	},
	{
		name:   "reset",
		do:     func(s *scene) { s.reset() },
		reason: liveness.ErrPeerReset, cut: true,
	},
	{
		name:   "reset behind unread data",
		do:     func(s *scene) { s.send(message); s.reset() },
		reason: liveness.ErrPeerReset, cut: true, unread: message,
	},
	{
		// The FIN ends it, unless it may not; then the RST does.
		name:   "FIN, then reset",
		do:     func(s *scene) { s.wire.CloseWrite(); s.hear(); s.reset() },
		reason: liveness.ErrPeerClosed, half: always(liveness.ErrPeerReset),
		// MPTCP puts the reset off to a worker, and a reader on AF_UNIX may come too
		// late for the FIN.
		luck: func(v variant) bool { return !onTCP(v) || !liveness.RemembersFIN() },
	},
	{
		// One look sees both, where it is remembered that there was a FIN.
		name:   "FIN and reset at once",
		do:     func(s *scene) { s.feed(); s.wire.CloseWrite(); s.reset() },
		reason: liveness.ErrPeerClosed, half: always(liveness.ErrPeerReset),
		behind: onTCP, in: onTCP,
	},
	{
		name:   "killed",
		do:     func(s *scene) { s.process.Drain(); s.process.Kill() },
		reason: liveness.ErrPeerClosed, half: afterClose,
		in: func(v variant) bool { return v.process && withoutWriter(v) },
	},
	{
		name:   "killed with unread data",
		do:     func(s *scene) { s.feed(); s.process.Kill() },
		reason: liveness.ErrPeerReset, cut: true,
		in: func(v variant) bool { return v.process },
	},
	{
		name:   "own Close",
		do:     func(s *scene) { s.close() },
		reason: net.ErrClosed,
	},
	{
		name:   "own CloseWrite, then close",
		do:     func(s *scene) { s.shut(); s.wire.Close() },
		reason: liveness.ErrPeerClosed,
		in:     withoutWriter,
	},
	{
		name:   "closed before Wrap",
		do:     func(s *scene) { s.send(message); s.wire.Close(); s.hear() },
		reason: liveness.ErrPeerClosed, half: afterClose, unread: message,
		early: true,
	},
	{
		name:   "reset before Wrap",
		do:     func(s *scene) { s.send(message); s.reset(); s.hear() },
		reason: liveness.ErrPeerReset, cut: true, unread: message,
		early: true,
	},
	{
		// Here one look is sure to see both.
		name:   "FIN and reset before Wrap",
		do:     func(s *scene) { s.finAndReset(message) },
		reason: liveness.ErrPeerClosed, half: always(liveness.ErrPeerReset), unread: message,
		early: true, behind: onTCP, in: onTCP,
	},
	{
		name:   "FIN and reset behind much unread data before Wrap",
		do:     func(s *scene) { s.finAndReset(much) },
		reason: liveness.ErrPeerClosed, half: always(liveness.ErrPeerReset), unread: much,
		early: true, behind: onTCP, in: onTCP,
	},
	{
		name:   "reset behind much unread data before Wrap",
		do:     func(s *scene) { s.send(much); s.reset(); s.hear() },
		reason: liveness.ErrPeerReset, cut: true, unread: much,
		early: true,
	},
	{
		name:   "TLS close",
		do:     func(s *scene) { s.peer.Close() },
		reason: liveness.ErrPeerClosed, half: afterClose, hides: true,
		behind: withWriter, in: func(v variant) bool { return v.tls },
	},
}

// afterClose is what AllowHalfClose makes of a peer that closed both directions.
// TCP shows only the FIN, until we write and a RST answers; AF_UNIX shows it all.
func afterClose(v variant) error {
	switch {
	case v.network == "unix":
		return liveness.ErrPeerClosed
	case onTCP(v) && v.parked == "writer" && !wine():
		return liveness.ErrPeerReset
	case v.parked == "writer":
		// MPTCP may work off the close first, or what was written. Wine may end the Write
		// with no errno and no bytes, and shows nothing of the reset from then on.
		return errLuck
	}
	return nil
}

// errLuck is for an end that may come or not.
var errLuck = errors.New("a matter of luck")

func noEnd(variant) error                  { return nil }
func always(err error) func(variant) error { return func(variant) error { return err } }
func withWriter(v variant) bool            { return v.parked == "writer" }
func withoutWriter(v variant) bool         { return v.parked != "writer" }
func onTCP(v variant) bool                 { return strings.HasPrefix(v.network, "tcp") }
func bareTCP(v variant) bool               { return onTCP(v) && !v.tls }

func (e *ending) reasonIn(v variant) error {
	if v.half && e.half != nil {
		return e.half(v)
	}
	return e.reason
}

// TestEndings plays every ending on every kind of connection, bare and beneath
// TLS, with nobody, a reader or a writer waiting in it, by both policies.
func TestEndings(t *testing.T) {
	for _, e := range endings {
		t.Run(e.name, func(t *testing.T) {
			for _, v := range variants(e) {
				t.Run(v.String(), func(t *testing.T) {
					t.Parallel()
					e.play(t, v)
				})
			}
		})
	}
}

var networks = []string{"tcp4", "tcp6", "unix", "mptcp"}

// A variant is one kind of connection, and one kind of use.
type variant struct {
	network   string
	tls       bool   // the application has a *tls.Conn above the Conn
	client    bool   // and is the client of it
	parked    string // who waits in the connection: "nobody", a "reader", or a "writer" behind a full buffer
	process   bool   // the peer is a process of its own
	half      bool   // AllowHalfClose
	rehearsal bool   // without us, to see what the bare connection does
}

func (v variant) String() string {
	name := v.network
	if v.tls {
		name += ",tls"
	}
	if v.parked != "" {
		name += "," + v.parked
	}
	return name
}

// variants lists those that make sense for e. A peer in a process of its own
// speaks no TLS, and before Wrap nobody waits.
func variants(e ending) (list []variant) {
	for _, network := range networks {
		for _, tls := range []bool{false, true} {
			for _, parked := range []string{"nobody", "reader", "writer"} {
				v := variant{network: network, tls: tls, parked: parked, process: strings.HasPrefix(e.name, "killed")}
				if v.process && tls || e.early && (tls || parked != "nobody") || e.in != nil && !e.in(v) {
					continue
				}
				list = append(list, v)
			}
		}
	}
	return list
}

// play lets it happen three times: without us, to know what Read returns, and by
// both policies.
func (e *ending) play(t *testing.T, v variant) {
	if v.parked != "reader" && (e.unread != nil || e.hides) {
		if needsEndsBehindData(t); e.reason == liveness.ErrPeerClosed && (e.behind == nil || !e.behind(v)) {
			needsFINBehindData(t)
		}
	}
	if onTCP(v) && e.behind != nil && e.behind(v) {
		liveness.NeedsMemoryOfFIN(t)
	}
	bare := v
	bare.rehearsal = true
	s := open(t, bare, e.early)
	e.do(s)
	expected := s.read()
	s.close()

	for _, v.half = range []bool{false, true} {
		if v.half && e.half != nil && !noticed {
			continue // a look tells of the FIN, and of nothing that follows it
		}
		if e.reasonIn(v) == errLuck {
			continue
		}
		s := open(t, v, e.early)
		e.do(s)
		if e.early {
			s.wrap()
		}
		if reason := e.reasonIn(v); reason == nil {
			s.halfClosed()
		} else {
			if e.luck != nil && e.luck(v) && !liveness.RemembersFIN() && v.parked == "writer" {
				// The reset may be there before anybody has looked at the FIN.
				receive(t, s.witness.conn.Done())
				if errors.Is(s.witness.conn.Err(), liveness.ErrPeerReset) {
					reason = liveness.ErrPeerReset
				}
			}
			var errno error
			if reason == liveness.ErrPeerReset {
				errno = errnoReset()
			}
			s.witness.ended(reason, errno)
		}
		if v.parked != "reader" {
			s.checkUnread(len(e.unread))
		}
		got := s.read()
		if want := expected; e.cut {
			if !errors.Is(got.err, errnoReset()) {
				t.Errorf("%v: Read returned %v at the end of a stream that was cut off", s.witness, got.err)
			}
		} else if (e.luck == nil || !e.luck(v)) && class(got.err) != class(want.err) {
			t.Errorf("%v: Read returned %v, on the bare connection %v", s.witness, got.err, want.err)
		}
		if e.cut && !keepsUnread {
			if !bytes.HasPrefix(e.unread, got.data) {
				t.Errorf("%v: read %d bytes of %d, and not the first", s.witness, len(got.data), len(e.unread))
			}
		} else if !bytes.Equal(got.data, e.unread) || !bytes.Equal(expected.data, e.unread) {
			t.Errorf("%v: read %d bytes, and %d on the bare connection, want %d", s.witness, len(got.data), len(expected.data), len(e.unread))
		}
		s.end()
	}
}

// A scene is one connection, its two ends, and who waits in ours.
type scene struct {
	*testing.T
	variant
	bare    net.Conn              // our socket
	conn    net.Conn              // what the application has of it
	witness *witness              // nil in a rehearsal
	wire    *livenesstest.Peer    // the peer's socket
	peer    *livenesstest.Peer    // what the peer's application has of it
	process *livenesstest.Process // instead of both
	full    bool                  // nothing more can be written
	cut     bool                  // there was an outage
	reads   chan stream           // what the parked reader has got
	writes  chan error            // what the parked writer has got
}

// open sets the scene for v. It is for the caller to wrap, if that comes late.
func open(t *testing.T, v variant, late bool) *scene {
	s := &scene{T: t, variant: v}
	if v.process {
		s.bare, s.process = pairWithProcess(t, v.network)
	} else {
		s.bare, s.wire = livenesstest.Pair(t, v.network)
		s.peer = s.wire
	}
	s.conn = s.bare
	t.Cleanup(func() {
		if t.Skipped() { // in the middle
			s.beneath().Close()
		}
	})
	if !v.rehearsal && !late {
		s.wrap()
	}
	if v.tls {
		s.handshake()
	}
	switch v.parked {
	case "reader":
		s.reads = make(chan stream, 1)
		waits := make(chan struct{})
		go func() {
			close(waits)
			s.reads <- readAll(s.conn)
		}()
		<-waits
	case "writer":
		s.fill()
		s.writes = make(chan error, 1)
		waits := make(chan struct{})
		go func() {
			close(waits)
			s.writes <- writeOn(s.conn)
		}()
		<-waits
	}
	return s
}

func (s *scene) wrap() {
	s.witness = watch(s.T, s.bare, liveness.Config{AllowHalfClose: s.half})
	s.conn = s.witness.conn
}

func (s *scene) handshake() {
	s.Helper()
	serverConfig, clientConfig := tlsConfigs(s.T)
	ours, theirs := tls.Server(s.conn, serverConfig), tls.Client(s.wire.Conn, clientConfig)
	if s.client {
		ours, theirs = tls.Client(s.conn, clientConfig), tls.Server(s.wire.Conn, serverConfig)
	}
	done := make(chan error, 1)
	go func() { done <- theirs.Handshake() }()
	if err := ours.Handshake(); err != nil {
		s.Fatal(err)
	}
	if err := receive(s.T, done); err != nil {
		s.Fatal(err)
	}
	s.conn, s.peer = ours, livenesstest.NewPeer(theirs)
}

// fill writes until nothing more goes in, as far as one can tell without waiting
// for long. Under TLS it does so beneath, where the peer will not look.
func (s *scene) fill() {
	s.bare.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(32 << 10)
	beneath := s.beneath()
	for err := error(nil); err == nil; {
		beneath.SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
		_, err = beneath.Write(make([]byte, 64<<10))
	}
	beneath.SetWriteDeadline(time.Time{})
	s.full = true
}

// send has the peer's application send b.
func (s *scene) send(b []byte) {
	s.Helper()
	if _, err := s.peer.Write(b); err != nil {
		s.Fatal(err)
	}
}

// feed makes sure that the peer has something unread.
func (s *scene) feed() {
	if !s.full {
		s.bare.Write([]byte{0})
	}
}

// reset resets. AF_UNIX does so only in place of bytes that the peer has not read.
func (s *scene) reset() {
	s.Helper()
	if s.network == "unix" {
		s.feed()
	}
	if err := s.wire.Reset(); errors.Is(err, errors.ErrUnsupported) {
		s.Skip(err)
	} else if err != nil {
		s.Fatal(err)
	}
}

// finAndReset makes a FIN behind b, and a reset, and waits until our kernel has
// both.
func (s *scene) finAndReset(b []byte) {
	s.Helper()
	s.send(b)
	s.wire.CloseWrite()
	s.reset()
	barrier(s.T) // loopback keeps the order
}

// hear waits until we know of the end that the peer has just made: by the event
// alone, unless it is none to the Conn.
func (s *scene) hear() {
	s.Helper()
	if noticed && s.witness != nil && !s.half {
		receive(s.T, s.witness.conn.Done())
		return
	}
	until(s.T, func() bool {
		err := liveness.Check(s.bare)
		if errors.Is(err, errors.ErrUnsupported) {
			s.Skip(err)
		}
		return err != nil
	})
	if s.witness != nil {
		s.witness.conn.Alive()
	}
}

// shut finishes our side, beneath TLS if there is any.
func (s *scene) shut() {
	s.Helper()
	if err := s.beneath().(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		s.Fatal(err)
	}
}

// close closes our side. TLS would wait behind a full buffer to say goodbye.
func (s *scene) close() {
	if s.full {
		s.beneath().Close()
	}
	s.conn.Close()
}

// beneath is what TLS has of our side.
func (s *scene) beneath() net.Conn {
	if s.witness != nil {
		return s.witness.conn
	}
	return s.bare
}

// read returns what Read returned, to the reader that waits or now.
func (s *scene) read() stream {
	s.Helper()
	if s.reads == nil {
		s.reads = make(chan stream, 1)
		go func() { s.reads <- readAll(s.conn) }()
	}
	return receive(s.T, s.reads)
}

// halfClosed waits for the FIN that is no end, and checks that it is none.
func (s *scene) halfClosed() {
	s.Helper()
	s.hear()
	s.alive(liveness.HalfClosed)
}

// alive checks that nobody says that the connection has ended. It is in state, or
// in one that is graver because of what the scene has in it.
func (s *scene) alive(state liveness.State) {
	s.Helper()
	switch {
	case s.cut:
		s.witness.alive(state, liveness.Suspect, liveness.Stalled)
	case s.full:
		s.witness.alive(state, liveness.Stalled)
	default:
		s.witness.alive(state)
	}
}

// checkUnread checks that Status knows of n bytes that the peer's application has
// sent, at the end as before. TLS makes them more.
func (s *scene) checkUnread(n int) {
	s.Helper()
	if runtime.GOOS != "linux" || s.witness.conn.Err() == nil || errors.Is(s.witness.conn.Err(), net.ErrClosed) {
		return
	}
	if got := s.witness.conn.Status().Unread; got < n || !s.tls && got > n {
		s.Errorf("%v: Status().Unread = %d, the peer sent %d", s.witness, got, n)
	}
}

// end closes our side and checks that this changes nothing for a connection that
// has ended, and is the end of any other.
func (s *scene) end() {
	s.Helper()
	before := s.witness.conn.Err()
	s.witness.conn.Close() // TLS would write, and provoke another end
	s.conn.Close()
	if s.writes != nil {
		if err := receive(s.T, s.writes); err == nil {
			s.Errorf("%v: the parked Write returned no error", s.witness)
		}
	}
	if before == nil {
		s.witness.ended(net.ErrClosed, nil)
	} else if after := s.witness.conn.Err(); after != before {
		s.Errorf("%v: Err was %v and became %v", s.witness, before, after)
	}
}

// A noEnding is something that is no end, whatever it looks like.
type noEnding struct {
	name   string
	do     func(*scene)
	state  liveness.State // the state afterwards; 0 is Connected
	half   bool           // with AllowHalfClose
	client bool           // we are the client of TLS
	in     func(variant) bool

	// never says which finales cannot follow, or cannot be seen any more.
	never func(v variant, reason error) bool

	// subtle says that only the state of TCP tells it from an end.
	subtle bool

	// secret says that it is our FIN, sent behind the library's back.
	secret bool
	// hides says that there are unread bytes afterwards.
	hides bool
}

var noEndings = []noEnding{
	{
		name: "expired read deadline",
		do: func(s *scene) {
			s.conn.SetReadDeadline(time.Now().Add(-time.Second))
			s.wantDeadline(s.conn.Read(make([]byte, 1)))
			s.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			s.wantDeadline(s.conn.Read(make([]byte, 1)))
			s.conn.SetReadDeadline(time.Time{})
			s.talk()
		},
	},
	{
		name: "expired deadline of both, under a reader and a writer that wait",
		do: func(s *scene) {
			// Beneath TLS, which no later Write survives.
			conn := s.witness.conn
			s.fill()
			reads, writes := make(chan stream, 1), make(chan error, 1)
			go func() { reads <- readAll(conn) }()
			go func() { writes <- writeOn(conn) }()
			conn.SetDeadline(time.Now().Add(time.Millisecond))
			s.wantDeadline(0, receive(s.T, reads).err)
			s.wantDeadline(0, receive(s.T, writes))
		},
	},
	{
		name: "unread bytes",
		do:   func(s *scene) { s.send(message); s.send(message) },

		hides: true,
	},
	{
		name:   "TLS session tickets",
		do:     func(s *scene) {},
		client: true,
		in:     func(v variant) bool { return v.tls },
	},
	{
		name: "own CloseRead",
		do:   func(s *scene) { s.must(s.witness.conn.CloseRead()) },
		// MPTCP then shows nothing of the peer's FIN.
		never: func(v variant, reason error) bool {
			return v.network == "mptcp" && reason == liveness.ErrPeerClosed
		},
	},
	{
		name: "own CloseWrite",
		do:   func(s *scene) { s.feed(); s.must(s.witness.conn.CloseWrite()) },
	},
	{
		name: "own CloseRead and CloseWrite",
		do: func(s *scene) {
			s.feed()
			s.must(s.witness.conn.CloseWrite())
			s.must(s.witness.conn.CloseRead())
		},
		never: func(v variant, reason error) bool { return !onTCP(v) && reason != net.ErrClosed },
	},
	{
		name: "own CloseRead through NetConn",
		do: func(s *scene) {
			s.must(s.witness.conn.NetConn().(*net.TCPConn).CloseRead())
			// It is an event. What comes next is as well, and must not be taken for it.
			s.alive(liveness.Connected)
			s.send(message)
		},
		in: onTCP, subtle: true, hides: true,
	},
	{
		name: "own CloseWrite through NetConn",
		do: func(s *scene) {
			s.feed()
			s.must(s.witness.conn.NetConn().(interface{ CloseWrite() error }).CloseWrite())
		},
		secret: true,
	},
	{
		name: "own CloseWrite and CloseRead through NetConn",
		do: func(s *scene) {
			s.must(s.witness.conn.NetConn().(*net.TCPConn).CloseWrite())
			s.must(s.witness.conn.NetConn().(*net.TCPConn).CloseRead())
		},
		in: onTCP, subtle: true, secret: true,
	},
	{
		name: "CloseRead of the peer",
		do:   func(s *scene) { s.must(s.wire.NetConn().(interface{ CloseRead() error }).CloseRead()) },
		// It takes no bytes any more in place of which AF_UNIX could reset.
		never: func(v variant, reason error) bool {
			return v.network == "unix" && reason == liveness.ErrPeerReset
		},
	},
	{
		name: "zero window",
		do:   func(s *scene) { s.fill(); s.fill() },
	},
	{
		name: "short outage",
		do: func(s *scene) {
			mend := s.pull(s.bare, s.wire)
			s.cut = true
			s.alive(liveness.Connected)
			s.must(mend())
		},
		in: onTCP,
	},
	{
		name: "reset of the source of a ReadFrom",
		do: func(s *scene) {
			source, peer := livenesstest.Pair(s.T, "tcp4")
			w := watch(s.T, source, liveness.Config{})
			peer.Write(message)
			peer.Reset()
			n, err := s.witness.conn.ReadFrom(w.conn)
			if n != int64(len(message)) && (keepsUnread || n != 0) || !errors.Is(err, errnoReset()) {
				s.Errorf("ReadFrom = %d, %v, want %d bytes and then the errno of the source", n, err, len(message))
			}
			w.ended(liveness.ErrPeerReset, errnoReset())
		},
		in: func(v variant) bool { return !v.tls }, subtle: true,
	},
	{
		name: "reset of the destination of a WriteTo",
		do: func(s *scene) {
			destination, peer := livenesstest.Pair(s.T, "tcp4")
			w := watch(s.T, destination, liveness.Config{})
			peer.Reset()
			w.ended(liveness.ErrPeerReset, errnoReset())
			s.send(message)
			if _, err := s.witness.conn.WriteTo(w.conn); err == nil {
				s.Errorf("WriteTo a connection that was reset returned no error")
			}
		},
		in: func(v variant) bool { return !v.tls },
	},
	{
		name: "half-close that is allowed",
		do: func(s *scene) {
			s.wire.CloseWrite()
			if end := s.read(); end.err != io.EOF {
				s.Errorf("Read returned %v after the FIN, want EOF", end.err)
			}
			// The response still gets there.
			answer := make(chan stream, 1)
			go func() {
				buf := make([]byte, len(message))
				n, err := io.ReadFull(s.peer, buf)
				answer <- stream{buf[:n], err}
			}()
			if _, err := s.conn.Write(message); err != nil {
				s.Errorf("Write to a peer that is half-closed: %v", err)
			}
			if got := receive(s.T, answer); !bytes.Equal(got.data, message) {
				s.Errorf("the half-closed peer got %q, %v", got.data, got.err)
			}
		},
		half: true, state: liveness.HalfClosed,
	},
}

// TestNoEndings plays what is no end, and then an end.
func TestNoEndings(t *testing.T) { playNoEndings(t, noEndings) }

func playNoEndings(t *testing.T, list []noEnding) {
	for _, n := range list {
		t.Run(n.name, func(t *testing.T) {
			if n.subtle && !noticed {
				t.Skipf("no look on %s tells it from an end", runtime.GOOS)
			}
			for _, network := range networks {
				for _, tls := range []bool{false, true} {
					v := variant{network: network, tls: tls, half: n.half, client: n.client}
					if n.in != nil && !n.in(v) {
						continue
					}
					for _, f := range finales {
						if n.never != nil && n.never(v, f.reason) || f.reason != net.ErrClosed && !noticed {
							continue // a look alone would have to see behind what is unread
						}
						t.Run(v.String()+","+f.name, func(t *testing.T) {
							if n.hides && f.reason == liveness.ErrPeerClosed {
								needsFINBehindData(t)
							}
							t.Parallel()
							n.play(t, v, f)
						})
					}
				}
			}
		})
	}
}

// A finale is the end after what was none.
type finale struct {
	name   string
	do     func(*scene)
	reason error
}

var finales = []finale{
	{"close", func(s *scene) { s.wire.Close() }, liveness.ErrPeerClosed},
	{"reset", func(s *scene) { s.reset() }, liveness.ErrPeerReset},
	{"own Close", func(s *scene) { s.witness.conn.Close() }, net.ErrClosed},
}

func (n *noEnding) play(t *testing.T, v variant, f finale) {
	if n.secret && onTCP(v) && f.reason == liveness.ErrPeerClosed {
		liveness.NeedsMemoryOfFIN(t) // the peer's ends the connection, and is not looked for before
	}
	s := open(t, v, false)
	n.do(s)
	state := n.state
	if state == 0 {
		state = liveness.Connected
	}
	s.alive(state)
	f.do(s)
	var errno error
	switch f.reason {
	case liveness.ErrPeerReset:
		errno = errnoReset()
	case liveness.ErrPeerClosed:
		if n.half {
			s.witness.conn.CloseWrite() // the end is when both are done
		}
	}
	s.witness.ended(f.reason, errno)
	s.end()
}

// pull pulls the cable at the ends given, where that can be done.
func (s *scene) pull(ends ...net.Conn) (mend func() error) {
	s.Helper()
	mend, err := livenesstest.Cut(ends...)
	if errors.Is(err, errors.ErrUnsupported) {
		s.Skip(err)
	}
	s.must(err)
	return mend
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scene) wantDeadline(_ int, err error) {
	s.Helper()
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		s.Errorf("got %v behind a deadline", err)
	}
}

// talk checks that bytes pass both ways.
func (s *scene) talk() {
	s.Helper()
	for _, ends := range [][2]net.Conn{{s.conn, s.peer}, {s.peer, s.conn}} {
		got := make(chan stream, 1)
		go func() {
			buf := make([]byte, len(message))
			_, err := io.ReadFull(ends[1], buf)
			got <- stream{buf, err}
		}()
		if _, err := ends[0].Write(message); err != nil {
			s.Error(err)
		}
		if got := receive(s.T, got); got.err != nil || !bytes.Equal(got.data, message) {
			s.Errorf("got %q, %v", got.data, got.err)
		}
	}
}

// A witness hears of the end of one Conn in every way that there is.
type witness struct {
	*testing.T
	conn       *liveness.Conn
	configured chan error // by Config.OnDisconnect
	registered chan error // by the method OnDisconnect
	context    context.Context
}

// watch wraps conn, and hears of its end. Whatever is told more than once fails
// the test.
func watch(t *testing.T, conn net.Conn, cfg liveness.Config) *witness {
	t.Helper()
	w := &witness{T: t, configured: make(chan error, 10), registered: make(chan error, 10)}
	wrapped := make(chan *liveness.Conn, 1)
	cfg.OnDisconnect = func(c *liveness.Conn, err error) {
		w.configured <- err
		if conn := <-wrapped; c != conn {
			w.configured <- fmt.Errorf("called for %p, Wrap returned %p", c, conn)
		}
		if c.Err() != err {
			w.configured <- fmt.Errorf("told %v, but Err() = %v", err, c.Err())
		}
		select {
		case <-c.Done():
		default:
			w.configured <- errors.New("called before Done was closed")
		}
	}
	c, err := liveness.Wrap(conn, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	wrapped <- c
	w.conn = c
	cfg = liveness.Config{OnDisconnect: func(*liveness.Conn, error) {
		w.configured <- errors.New("the Config was not copied")
	}}
	if !noticed && c.Err() == nil && c.Status().State == liveness.Unknown {
		t.Skipf("nothing can be seen of %T on %s", conn, runtime.GOOS)
	}
	c.OnDisconnect(func(err error) { w.registered <- err })
	ctx, cancel := c.Context(t.Context())
	w.context = ctx
	t.Cleanup(func() {
		cancel()
		for _, told := range []chan error{w.configured, w.registered} {
			if len(told) > 0 {
				t.Errorf("%v: told again: %v", w, <-told)
			}
		}
	})
	return w
}

func (w *witness) String() string {
	return fmt.Sprintf("%s, watched %v", w.Name(), w.conn.LocalAddr().Network())
}

// ended waits to be told of the end, and checks that all tell the same. Nobody
// looks before, where the system tells by itself.
func (w *witness) ended(reason, errno error) {
	w.Helper()
	c := w.conn
	if noticed {
		receive(w.T, c.Done())
	} else {
		until(w.T, func() bool { return !c.Alive() })
		receive(w.T, c.Done())
	}
	err := c.Err()
	w.checkError(err, reason, errno)
	for name, told := range map[string]error{
		"Config.OnDisconnect": receive(w.T, w.configured),
		"OnDisconnect":        receive(w.T, w.registered),
	} {
		if told != err {
			w.Errorf("%v: %s was told %v, Err() = %v", w, name, told, err)
		}
	}
	receive(w.T, w.context.Done())
	if cause := context.Cause(w.context); cause != err {
		w.Errorf("%v: the cause of the context is %v, Err() = %v", w, cause, err)
	}
	if c.Alive() {
		w.Errorf("%v: Alive() after the end", w)
	}
	if got := liveness.Check(c); got != err {
		w.Errorf("%v: Check = %v, Err() = %v", w, got, err)
	}
	if status := c.Status(); status.State != liveness.Disconnected || status.Err != err {
		w.Errorf("%v: Status() = %+v, Err() = %v", w, status, err)
	}
	// Who comes too late is told as well.
	late := make(chan error, 1)
	if stop := c.OnDisconnect(func(err error) { late <- err }); stop() {
		w.Errorf("%v: stop() = true after the end", w)
	}
	if told := receive(w.T, late); told != err {
		w.Errorf("%v: OnDisconnect after the end was told %v, Err() = %v", w, told, err)
	}
	ctx, cancel := c.Context(context.Background())
	defer cancel()
	receive(w.T, ctx.Done())
	if cause := context.Cause(ctx); cause != err {
		w.Errorf("%v: the cause of a context made after the end is %v, Err() = %v", w, cause, err)
	}
}

// checkError checks that err tells the reason, the errno and no other, in the way
// of package net.
func (w *witness) checkError(err, reason, errno error) {
	w.Helper()
	for _, r := range append(reasons, net.ErrClosed) {
		if errors.Is(err, r) != (r == reason) {
			w.Errorf("%v: the end is %v, want %v", w, err, reason)
			return
		}
	}
	if got := errors.Is(err, errnoReset()); got != (errno == errnoReset()) || errno != nil && !errors.Is(err, errno) {
		w.Errorf("%v: the end is %v, want the errno %v", w, err, errno)
	}
	if errors.Is(err, io.EOF) != (reason == liveness.ErrPeerClosed) {
		w.Errorf("%v: errors.Is(%v, io.EOF) = %t", w, err, errors.Is(err, io.EOF))
	}
	op, ok := err.(*net.OpError)
	if !ok {
		w.Fatalf("%v: the end is a %T, want a *net.OpError", w, err)
	}
	local, remote := w.conn.LocalAddr(), w.conn.RemoteAddr()
	if op.Op != "watch" || op.Net != local.Network() || op.Source != local || op.Addr != remote {
		w.Errorf("%v: the end is %#v, want the addresses of the connection and watch", w, op)
	}
	if op.Timeout() != (reason == liveness.ErrPeerLost) || op.Temporary() || errors.Is(err, os.ErrDeadlineExceeded) {
		w.Errorf("%v: Timeout() = %t, Temporary() = %t", w, op.Timeout(), op.Temporary())
	}
}

var reasons = []error{liveness.ErrPeerClosed, liveness.ErrPeerReset, liveness.ErrPeerLost, liveness.ErrPeerStalled, liveness.ErrPeerIdle}

// alive checks that nobody says that the connection has ended, and that it is in
// one of the states.
func (w *witness) alive(states ...liveness.State) {
	w.Helper()
	barrier(w.T)
	c := w.conn
	if !c.Alive() {
		w.Errorf("%v: Alive() = false", w)
	}
	if err := c.Err(); err != nil {
		w.Errorf("%v: Err() = %v", w, err)
	}
	if err := liveness.Check(c); err != nil {
		w.Errorf("%v: Check = %v", w, err)
	}
	if status := c.Status(); !slices.Contains(states, status.State) || status.Err != nil {
		w.Errorf("%v: Status() = %+v, want %v", w, status, states)
	}
	if len(w.configured) > 0 || len(w.registered) > 0 || w.context.Err() != nil {
		w.Errorf("%v: a callback or a context was told of an end", w)
	}
	select {
	case <-c.Done():
		w.Errorf("%v: Done is closed", w)
	default:
	}
}

// barrier returns when every event that was raised before the call has been acted
// on: the kernel lists them in order, and so are they handed on.
func barrier(t *testing.T) {
	t.Helper()
	if !noticed {
		return
	}
	conn, peer := livenesstest.Pair(t, "tcp4")
	c, err := liveness.Wrap(conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := c.Done()
	peer.Close()
	receive(t, done)
}

// patience is how long a test waits for what takes a moment. Only one that fails
// waits as long.
const patience = 20 * time.Second

// receive returns what comes out of ch.
func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("nothing came within %v", patience)
		panic("unreachable")
	}
}

// until waits for what no channel tells.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come to that within %v", patience)
		}
	}
}

// A stream is what came out of a connection, and how that ended.
type stream struct {
	data []byte
	err  error
}

// readAll is io.ReadAll, which does not hide an end of file.
func readAll(conn net.Conn) (s stream) {
	buf := make([]byte, 32<<10)
	for s.err == nil {
		var n int
		n, s.err = conn.Read(buf)
		s.data = append(s.data, buf[:n]...)
	}
	return s
}

// writeOn writes until an error.
func writeOn(conn net.Conn) (err error) {
	buf := make([]byte, 64<<10)
	for err == nil {
		_, err = conn.Write(buf)
	}
	return err
}

// class tells apart the errors of a Read.
func class(err error) string {
	switch {
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		return err.Error()
	case errors.Is(err, net.ErrClosed):
		return "closed by us"
	default:
		return fmt.Sprint(innermost(err))
	}
}

func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// A probe is a testing.TB outside of a test.
type probe struct {
	testing.TB
	cleanups []func()
}

func (*probe) Helper()                           {}
func (p *probe) Cleanup(f func())                { p.cleanups = append(p.cleanups, f) }
func (*probe) Skipf(format string, args ...any)  { panic(fmt.Sprintf(format, args...)) }
func (*probe) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (p *probe) cleanup() {
	for _, f := range p.cleanups {
		f()
	}
}

var makeTLSConfigs = sync.OnceValues(func() ([2]*tls.Config, error) {
	server, client, err := livenesstest.TLSConfig()
	return [2]*tls.Config{server, client}, err
})

func tlsConfigs(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	both, err := makeTLSConfigs()
	if err != nil {
		t.Fatal(err)
	}
	return both[0], both[1]
}

// listen listens on loopback until the test ends.
func listen(t *testing.T, network string) net.Listener {
	t.Helper()
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(network == "mptcp")
	address := "127.0.0.1:0"
	switch network {
	case "mptcp":
		network = "tcp4"
	case "tcp6":
		address = "[::1]:0"
	case "unix":
		// Not TempDir: a socket has room for some hundred bytes of path.
		dir, err := os.MkdirTemp("", "liveness")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		address = filepath.Join(dir, "s")
	}
	l, err := config.Listen(t.Context(), network, address)
	if err != nil {
		t.Skipf("no %s on this system: %v", network, err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// pairWithProcess is livenesstest.Pair, with the peer in a process of its own.
func pairWithProcess(t *testing.T, network string) (net.Conn, *livenesstest.Process) {
	t.Helper()
	liveness.NeedsProcesses(t)
	l := listen(t, network)
	process, err := livenesstest.StartProcess(network, l.Addr().String())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Release() })
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, process
}
