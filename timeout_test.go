//go:build linux

package liveness_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// These tests cut real cables and wait for real timers, on the one system where
// both can be had without privileges. Every window comes from a formula. Its upper
// end has a second more, for a machine that has other things to do; its lower end
// has nothing.
const busyMachine = time.Second

// tickOf is how coarse the kernel's ages are.
const tickOf = 10 * time.Millisecond

// onlyLong skips a test that takes long, unless the environment asks for it.
func onlyLong(t *testing.T, takes time.Duration) {
	t.Helper()
	if os.Getenv("LIVENESS_STORM") == "" {
		t.Skipf("takes %v; set LIVENESS_STORM to run it", takes)
	}
}

// sideBySide runs subtests all at once, more of them than the limit of parallel
// tests allows: that one is for tests that compute, these wait.
func sideBySide(t *testing.T, list func(run func(name string, f func(*testing.T)))) {
	t.Helper()
	var all sync.WaitGroup
	list(func(name string, f func(*testing.T)) {
		all.Go(func() { t.Run(name, f) })
	})
	all.Wait()
}

// TestTimers is one test, because what is in it waits most of the time, and all of it
// can do so at once.
func TestTimers(t *testing.T) {
	t.Parallel()
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("Lost", testLost)
		run("LostWhateverWrites", testLostWhateverWrites)
		run("LostByLateWrite", testLostByLateWrite)
		run("LiveWithoutReading", testLiveWithoutReading)
		run("Outages", testOutages)
		run("LongOutages", testLongOutages)
		run("WriteAfterLongSilence", testWriteAfterLongSilence)
		run("WriteAfterAnsweredWrites", testWriteAfterAnsweredWrites)
		run("Options", testOptions)
		run("OptionsAfterFailure", testOptionsAfterFailure)
		run("OwnKeepAlive", testOwnKeepAlive)
		run("DataBeforeVerdict", testDataBeforeVerdict)
		run("DeadlinesAgainstVerdict", testDeadlinesAgainstVerdict)
		run("RetryLoopsEnd", testRetryLoopsEnd)
		run("CloseAfterVerdict", testCloseAfterVerdict)
		run("Stalled", testStalled)
		run("NotStalled", testNotStalled)
		run("StalledThenLost", testStalledThenLost)
		run("ReadIdle", testReadIdle)
		run("NotReadIdle", testNotReadIdle)
		run("ReadIdleBehindFullBuffer", testReadIdleBehindFullBuffer)
		run("DeadlinesBesideReadIdle", testDeadlinesBesideReadIdle)
		run("HungPrograms", testHungPrograms)
		run("OnSilence", testOnSilence)
		run("ForeignSetDeadline", testForeignSetDeadline)
		run("WriteBeforeInterrupt", testWriteBeforeInterrupt)
		run("FewProbes", testFewProbes)
		run("WindowClosedInFlight", testWindowClosedInFlight)
		run("DetectWithin", testDetectWithin)
		run("DetectWithinClosedWindow", testDetectWithinClosedWindow)
		run("LostAboveTLS", testLostAboveTLS)
		run("BesideLateWakes", testBesideLateWakes)
		run("WrapInOutage", testWrapInOutage)
	})
}

// A line is a connection on a cable that can be cut: ours is wrapped.
type line struct {
	*testing.T
	conn *liveness.Conn
	bare *net.TCPConn
	peer *livenesstest.Peer

	wrapped time.Time      // when the library began to watch it
	told    chan time.Time // when the end was told
	reader  chan error     // of park: what ended a parked Read
	writer  chan error     // of fill: what ended a parked Write
	written atomic.Int64   // of fill and trickle
	taken   atomic.Int64   // of take
	peerEnd chan error     // of take: what ended the peer's Read
}

func newLine(t *testing.T, cfg *liveness.Config) *line {
	t.Helper()
	return newLineOn(t, "tcp4", cfg)
}

func newLineOn(t *testing.T, network string, cfg *liveness.Config) *line {
	t.Helper()
	conn, peer := livenesstest.Pair(t, network)
	peer.NetConn().(*net.TCPConn).SetReadBuffer(32 << 10)
	peer.NetConn().(*net.TCPConn).SetWriteBuffer(64 << 10)
	return lineOf(t, conn, peer, cfg)
}

// lineOf makes a line of a connection that is there already.
func lineOf(t *testing.T, conn net.Conn, peer *livenesstest.Peer, cfg *liveness.Config) *line {
	t.Helper()
	l := &line{T: t, peer: peer, told: make(chan time.Time, 1)}
	if tcp, ok := conn.(*net.TCPConn); ok {
		l.bare = tcp
		// Many of these tests run at once; the kernel's memory is for all of them.
		tcp.SetReadBuffer(32 << 10)
		tcp.SetWriteBuffer(64 << 10)
	}
	if peer != nil {
		peer.SetDeadline(time.Now().Add(longest())) // so that what goes wrong does not last
	}
	l.wrapped = time.Now()
	c, err := liveness.Wrap(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.conn = c
	c.OnDisconnect(func(error) { l.told <- time.Now() })
	t.Cleanup(func() { c.Close() })
	return l
}

// longest is more than any of these tests takes.
func longest() time.Duration {
	if os.Getenv("LIVENESS_STORM") != "" {
		return 5 * time.Minute
	}
	return time.Minute
}

// A direction says who hears nothing any more.
type direction string

const (
	bothDeaf direction = "both directions"
	peerDeaf direction = "to the peer"
	weDeaf   direction = "from the peer"
)

var directions = []direction{bothDeaf, peerDeaf, weDeaf}

// cut pulls the cable.
func (l *line) cut(d direction) (mend func()) {
	l.Helper()
	ends := []net.Conn{l.bare, l.peer}
	switch d {
	case peerDeaf:
		ends = ends[1:]
	case weDeaf:
		ends = ends[:1]
	}
	undo, err := livenesstest.Cut(ends...)
	if errors.Is(err, errors.ErrUnsupported) {
		l.Skip(err)
	}
	if err != nil {
		l.Fatal(err)
	}
	return func() {
		if err := undo(); err != nil {
			l.Errorf("mend: %v", err)
		}
	}
}

// park has a Read wait. What it reads is thrown away.
func (l *line) park() {
	l.reader = make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, struct{ io.Reader }{l.conn})
		if err == nil {
			err = io.EOF
		}
		l.reader <- err
	}()
}

// parkUncounted is park where the kernel does not count what is received: silence is
// then that of a Read that waits.
func (l *line) parkUncounted() {
	if !liveness.HasTCPInfo(l.T) {
		l.park()
	}
}

// fill writes without end, more than the buffers take, and so has a Write wait.
func (l *line) fill() {
	l.writer = make(chan error, 1)
	go func() {
		block := make([]byte, 64<<10)
		for {
			n, err := l.conn.Write(block)
			l.written.Add(int64(n))
			if err != nil {
				l.writer <- err
				return
			}
		}
	}()
}

// trickle writes a few bytes now and then, until the end.
func (l *line) trickle(every time.Duration) {
	go func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			n, err := l.conn.Write(make([]byte, 10))
			l.written.Add(int64(n))
			if err != nil {
				return
			}
			select {
			case <-ticker.C:
			case <-l.conn.Done():
				return
			}
		}
	}()
}

// take has the peer read all that comes, n bytes at a time with a pause between.
func (l *line) take(n int, pause time.Duration) {
	l.peerEnd = make(chan error, 1)
	go func() {
		block := make([]byte, n)
		for {
			n, err := l.peer.Read(block)
			l.taken.Add(int64(n))
			if err != nil {
				l.peerEnd <- err
				return
			}
			if pause > 0 {
				time.Sleep(pause)
			}
		}
	}()
}

// wait waits until the status is as wanted.
func (l *line) wait(what string, ok func(liveness.Status) bool) liveness.Status {
	l.Helper()
	const patience = 20 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		status := l.conn.Status()
		if ok(status) {
			return status
		}
		if time.Now().After(deadline) {
			l.Fatalf("not %s within %v: %+v", what, patience, status)
		}
	}
}

func (l *line) waitStalled() {
	l.Helper()
	liveness.NeedsTCPInfo(l.T)
	l.wait("stalled", func(s liveness.Status) bool { return s.State == liveness.Stalled })
}

// A load is what is on the way when the cable is cut.
type load string

const (
	idleLoad   load = "idle"
	flightLoad load = "data in flight"
	fullLoad   load = "full send buffer"
	windowLoad load = "closed window"
)

var loads = []load{idleLoad, flightLoad, fullLoad, windowLoad}

// vanish has the peer vanish under a load, and returns when.
func (l *line) vanish(what load, d direction) (since time.Time, mend func()) {
	l.Helper()
	return l.vanishBy(what, func() func() { return l.cut(d) })
}

// vanishBy is vanish by other means than a cut.
func (l *line) vanishBy(what load, by func() (mend func())) (since time.Time, mend func()) {
	l.Helper()
	switch what {
	case fullLoad:
		l.take(64<<10, 0)
	case windowLoad:
		l.fill()
		l.waitStalled()
	}
	since, mend = time.Now(), by()
	switch what {
	case flightLoad:
		if _, err := l.conn.Write([]byte("in flight")); err != nil && l.conn.Alive() {
			l.Fatal(err)
		}
	case fullLoad:
		l.fill()
	}
	return since, mend
}

// within is the time in which Config.PeerTimeout promises ErrPeerLost.
func (what load) within(timeout time.Duration) time.Duration {
	if what == idleLoad {
		return timeout + timeout/20 + 2*time.Second
	}
	return timeout + timeout/4 + time.Second
}

// end waits for the end, which must come after and within these times from since.
func (l *line) end(reason error, since time.Time, after, within time.Duration) liveness.Status {
	l.Helper()
	var took time.Duration
	select {
	case at := <-l.told:
		took = at.Sub(since)
	case <-time.After(max(time.Millisecond, time.Until(since.Add(within+busyMachine)))):
		if len(l.told) == 0 {
			machine.excuse(l, since)
			l.Fatalf("nothing was told within %v; want %v within %v: %+v", time.Since(since), reason, within, l.conn.Status())
		}
		took = (<-l.told).Sub(since)
	}
	err, status := l.conn.Err(), l.conn.Status()
	if !errors.Is(err, reason) {
		l.Fatalf("after %v: %v; want %v", took, err, reason)
	}
	if took < after || took > within+busyMachine {
		machine.excuse(l, since.Add(-time.Second))
	}
	if took < after {
		l.Errorf("too early, after %v of %v: %v", took, after, err)
	}
	if slow(l, took, within) {
		l.Errorf("too late, after %v of %v: %v", took, within, err)
	}
	if status.State != liveness.Disconnected || status.Err != err {
		l.Errorf("the status is %+v, Err is %v", status, err)
	}
	var ne net.Error
	//lint:ignore SA1019 accept loops and crypto/tls still ask for it
	if !errors.As(err, &ne) || !ne.Timeout() || ne.Temporary() || errors.Is(err, os.ErrDeadlineExceeded) {
		l.Errorf("%v: Timeout must be true, Temporary false, and no deadline", err)
	}
	l.Logf("figure %.2f s: %v", took.Seconds(), err)
	return status
}

// waitEnd waits for the end, whatever it is.
func (l *line) waitEnd() {
	l.Helper()
	select {
	case <-l.conn.Done():
	case <-time.After(20 * time.Second):
		l.Fatalf("nothing has ended: %+v", l.conn.Status())
	}
}

// slow reports whether something took longer than it may.
func slow(t testing.TB, took, may time.Duration) bool {
	t.Helper()
	if took <= may+busyMachine {
		return false
	}
	machine.excuse(t, time.Now().Add(-took-time.Second))
	return true
}

// lives checks that nothing has ended.
func (l *line) lives() {
	l.Helper()
	if !l.conn.Alive() {
		if err := l.conn.Err(); errors.Is(err, liveness.ErrPeerIdle) || errors.Is(err, liveness.ErrPeerStalled) {
			machine.excuse(l, l.wrapped) // it may have been too busy to send or read in time
		}
		l.Fatalf("ended: %v; %+v", l.conn.Err(), l.conn.Status())
	}
}

// released checks what a parked Read or Write returned: at once, and nothing that
// a loop would take for a deadline of its own. ours says that the verdict is the
// library's.
func (l *line) released(op string, from chan error, ours error) {
	l.Helper()
	if from == nil {
		return
	}
	select {
	case err := <-from:
		l.verdictError(op, err, ours)
	case <-time.After(busyMachine):
		machine.excuse(l, time.Now().Add(-2*busyMachine))
		l.Errorf("%s still waits a second after the end", op)
	}
}

// verdictError checks the error of an operation after a verdict of the library's.
func (l *line) verdictError(op string, err, reason error) {
	l.Helper()
	if reason == nil {
		return
	}
	oe, ok := err.(*net.OpError)
	if !ok || !errors.Is(err, reason) || oe.Op != op {
		l.Errorf("%s returned %v (%T); want %v in a *net.OpError", op, err, err, reason)
		return
	}
	if oe.Timeout() || oe.Temporary() || errors.Is(err, os.ErrDeadlineExceeded) {
		l.Errorf("%s: %v: Timeout() = %t, Temporary() = %t; a loop that retries would not end", op, err, oe.Timeout(), oe.Temporary())
	}
}

// A peer that vanishes is reported in time, under whatever load, whoever is deaf,
// with nobody in Read and Write and with somebody.
func testLost(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, timeout := range []time.Duration{4 * time.Second, 6 * time.Second} {
			for _, what := range loads {
				for _, d := range directions {
					for _, parked := range []bool{false, true} {
						network := "tcp4"
						if d == bothDeaf && parked {
							network = "tcp6"
						}
						run(fmt.Sprintf("%v/%s/%s/parked=%t", timeout, what, d, parked), func(t *testing.T) {
							l := newLineOn(t, network, &liveness.Config{PeerTimeout: timeout})
							if parked {
								l.park()
							}
							l.lostIn(what, d, timeout)
						})
					}
				}
			}
		}
	})
}

func (l *line) lostIn(what load, d direction, timeout time.Duration) {
	l.Helper()
	l.lostBy(what, timeout, func() func() { return l.cut(d) })
}

func (l *line) lostBy(what load, timeout time.Duration, by func() (mend func())) {
	l.Helper()
	since, _ := l.vanishBy(what, by)
	status := l.end(liveness.ErrPeerLost, since, timeout/2, what.within(timeout))
	if status.Silence < timeout-tickOf {
		l.Errorf("lost after a silence of %v of %v", status.Silence, timeout)
	}
	// An idle connection is found by the kernel's own probes, to the same effect.
	l.released("read", l.reader, liveness.ErrPeerLost)
	l.released("write", l.writer, liveness.ErrPeerLost)
	for range 2 {
		_, err := l.conn.Read(make([]byte, 1))
		l.verdictError("read", err, liveness.ErrPeerLost)
		if !errors.Is(err, syscall.ETIMEDOUT) {
			l.Errorf("Read returned %v; want ETIMEDOUT in it", err)
		}
		_, err = l.conn.Write(make([]byte, 1))
		l.verdictError("write", err, liveness.ErrPeerLost)
	}
}

// Whatever way data went out, they are supervised: they need not go through Write.
func testLostWhateverWrites(t *testing.T) {
	const timeout = 4 * time.Second
	ways := map[string]func(*line){
		"ReadFrom a file": func(l *line) {
			f, err := os.Create(filepath.Join(l.TempDir(), "file"))
			if err != nil {
				l.Fatal(err)
			}
			defer f.Close()
			if _, err := f.Write(make([]byte, 1000)); err != nil {
				l.Fatal(err)
			}
			f.Seek(0, io.SeekStart)
			if n, err := l.conn.ReadFrom(f); n != 1000 || err != nil {
				l.Fatal(n, err)
			}
		},
		"io.Copy of a big file": func(l *line) {
			f, err := os.Create(filepath.Join(l.TempDir(), "file"))
			if err != nil {
				l.Fatal(err)
			}
			if err := f.Truncate(10 << 20); err != nil {
				l.Fatal(err)
			}
			l.writer = make(chan error, 1)
			go func() {
				defer f.Close()
				_, err := io.Copy(l.conn, f)
				l.writer <- err
			}()
		},
		"splice": func(l *line) {
			from, source := livenesstest.Pair(l.T, "tcp4")
			source.Write([]byte("spliced"))
			go io.Copy(l.conn, from)
		},
		"splice of a Conn": func(l *line) {
			from := newLine(l.T, nil)
			from.peer.Write([]byte("spliced"))
			go io.Copy(l.conn, from.conn)
		},
		"WriteBuffers": func(l *line) {
			if _, err := l.conn.WriteBuffers(&net.Buffers{[]byte("a"), []byte("b")}); err != nil {
				l.Fatal(err)
			}
		},
		"SyscallConn().Write": func(l *line) {
			l.raw((syscall.RawConn).Write, func(fd uintptr) {
				if _, err := unix.Write(int(fd), []byte("raw")); err != nil {
					l.Error(err)
				}
			})
		},
		"SyscallConn().Control": func(l *line) {
			l.raw(func(raw syscall.RawConn, f func(uintptr) bool) error {
				return raw.Control(func(fd uintptr) { f(fd) })
			}, func(fd uintptr) {
				if _, err := unix.Write(int(fd), []byte("raw")); err != nil {
					l.Error(err)
				}
			})
		},
		// A FIN is in flight as data are, and keep-alive waits for it as for these.
		"CloseWrite": func(l *line) {
			if err := l.conn.CloseWrite(); err != nil {
				l.Fatal(err)
			}
		},
	}
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for name, write := range ways {
			run(name, func(t *testing.T) {
				l := newLine(t, &liveness.Config{PeerTimeout: timeout})
				since := time.Now()
				l.cut(bothDeaf)
				write(l)
				l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
				if l.writer != nil {
					if err := <-l.writer; !errors.Is(err, liveness.ErrPeerLost) {
						t.Errorf("the copy returned %v", err)
					}
				}
			})
		}
		run("TLS above", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: timeout})
			server := l.serveTLS()
			since := time.Now()
			l.cut(bothDeaf)
			if _, err := server.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			read := make(chan error, 1)
			go func() {
				_, err := server.Read(make([]byte, 1))
				read <- err
			}()
			l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
			if err := <-read; !errors.Is(err, liveness.ErrPeerLost) {
				t.Errorf("Read above TLS: %v", err)
			}
			began := time.Now()
			server.Close() // which has an alert to send, and five seconds for it
			if took := time.Since(began); slow(t, took, 0) {
				t.Errorf("Close above TLS took %v", took)
			}
		})
		run("TLS beneath", func(t *testing.T) {
			conn, peer := livenesstest.Pair(t, "tcp4")
			before := &line{T: t, bare: conn.(*net.TCPConn), peer: peer}
			l := lineOf(t, before.handshake(conn), peer, &liveness.Config{PeerTimeout: timeout})
			l.bare = before.bare
			l.park()
			since := time.Now()
			l.cut(bothDeaf)
			if _, err := l.conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
			l.released("read", l.reader, liveness.ErrPeerLost)
		})
		run("before Wrap", func(t *testing.T) {
			conn, peer := livenesstest.Pair(t, "tcp4")
			since := time.Now()
			(&line{T: t, bare: conn.(*net.TCPConn), peer: peer}).cut(bothDeaf)
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			l := lineOf(t, conn, peer, &liveness.Config{PeerTimeout: timeout})
			l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
		})
		run("after the peer's FIN", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: timeout, AllowHalfClose: true})
			l.peer.CloseWrite()
			l.wait("half-closed", func(s liveness.Status) bool { return s.State == liveness.HalfClosed })
			since, _ := l.vanish(flightLoad, bothDeaf)
			l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
		})
		run("idle after the peer's FIN", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: timeout, AllowHalfClose: true})
			l.peer.CloseWrite()
			l.wait("half-closed", func(s liveness.Status) bool { return s.State == liveness.HalfClosed })
			since, _ := l.vanish(idleLoad, bothDeaf)
			l.end(liveness.ErrPeerLost, since, timeout/2, idleLoad.within(timeout))
		})
		run("idle after our FIN", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: timeout})
			if err := l.conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			l.wait("acknowledged", func(s liveness.Status) bool { return s.Unacked == 0 && l.info().Unacked == 0 })
			since, _ := l.vanish(idleLoad, bothDeaf)
			l.end(liveness.ErrPeerLost, since, timeout/2, idleLoad.within(timeout))
		})
	})
}

// raw calls a method of the raw connection, with a function that is done at once.
func (l *line) raw(method func(syscall.RawConn, func(uintptr) bool) error, f func(fd uintptr)) {
	l.Helper()
	raw, err := l.conn.SyscallConn()
	if err == nil {
		err = method(raw, func(fd uintptr) bool { f(fd); return true })
	}
	if err != nil {
		l.Fatal(err)
	}
}

func (l *line) serveTLS() *tls.Conn {
	l.Helper()
	return l.handshake(l.conn)
}

// handshake makes conn, which leads to the peer, the server's end of TLS.
func (l *line) handshake(conn net.Conn) *tls.Conn {
	l.Helper()
	forServer, forClient, err := livenesstest.TLSConfig()
	if err != nil {
		l.Fatal(err)
	}
	server, client := tls.Server(conn, forServer), tls.Client(l.peer, forClient)
	done := make(chan error, 1)
	go func() {
		err := client.Handshake()
		if err == nil {
			_, err = client.Write([]byte("x"))
		}
		done <- err
		io.Copy(io.Discard, client)
	}()
	if _, err := server.Read(make([]byte, 1)); err != nil {
		l.Fatal(err)
	}
	if err := <-done; err != nil {
		l.Fatal(err)
	}
	return server
}

// info asks the kernel of our end, around the library.
func (l *line) info() (info *unix.TCPInfo) {
	l.Helper()
	liveness.NeedsTCPInfo(l.T)
	l.control(func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return info
}

// control runs f with the descriptor of our end, around the library.
func (l *line) control(f func(fd int) error) {
	l.Helper()
	controlFD(l.T, l.bare, f)
}

func controlFD(t *testing.T, conn syscall.Conn, f func(fd int) error) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
			err = cerr
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A write just before the keep-alive would have given up suspends that, and starts
// nothing afresh.
func testLostByLateWrite(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, timeout := range []time.Duration{4 * time.Second, 6 * time.Second} {
			for _, early := range []time.Duration{300, 700, 1300} {
				early *= time.Millisecond
				run(fmt.Sprintf("%v before %v", early, timeout), func(t *testing.T) {
					l := newLine(t, &liveness.Config{PeerTimeout: timeout})
					l.take(100, 0)
					l.exchange()
					since := time.Now()
					l.cut(bothDeaf)
					time.Sleep(time.Until(since.Add(timeout - early)))
					if _, err := l.conn.Write([]byte("x")); err != nil {
						if late := time.Since(since); late > timeout-early/2 {
							t.Skipf("the machine was too busy: it wrote after %v", late)
						}
						t.Fatal(err)
					}
					status := l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
					if status.Silence < timeout-tickOf {
						t.Errorf("lost after a silence of %v of %v", status.Silence, timeout)
					}
				})
			}
		}
	})
}

// exchange has the peer's host heard from just now.
func (l *line) exchange() {
	l.Helper()
	if _, err := l.conn.Write([]byte("x")); err != nil {
		l.Fatal(err)
	}
	l.wait("acknowledged", func(s liveness.Status) bool { return s.Unacked == 0 })
}

// A live peer that reads nothing is not lost, for however long.
func testLiveWithoutReading(t *testing.T) {
	const timeout = 4 * time.Second
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, cfg := range []liveness.Config{
			{PeerTimeout: timeout},
			{PeerTimeout: timeout, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Hour}},
		} {
			run(fmt.Sprintf("KeepAlive=%t", cfg.KeepAlive.Enable), func(t *testing.T) {
				l := newLine(t, &cfg)
				l.park()
				l.fill()
				l.waitStalled()
				select {
				case <-l.told:
					t.Fatal(l.conn.Err())
				case <-time.After(3*timeout + busyMachine):
				}
				l.lives()
				before := l.written.Load()
				l.take(64<<10, 0)
				l.wait("connected", func(s liveness.Status) bool {
					return s.State == liveness.Connected && l.written.Load() > before && l.taken.Load() > before
				})
				l.lives()
			})
		}
	})
}

// An outage shorter than half the time-out is survived, whenever it begins, under
// whatever load.
func testOutages(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for i, timeout := range []time.Duration{4, 5, 7} {
			timeout *= time.Second
			for _, what := range loads {
				// The cycle of probes and retransmissions takes a second, or the idle time
				// of the keep-alive, which is two for 7 s.
				for phase := range 6 {
					d := directions[(i+phase)%len(directions)]
					offset := time.Duration(3*phase+i) * 125 * time.Millisecond
					run(fmt.Sprintf("%v/%s/%s/%v", timeout, what, d, offset), func(t *testing.T) {
						l := newLine(t, &liveness.Config{PeerTimeout: timeout})
						l.outage(what, d, offset, timeout, timeout/2-250*time.Millisecond)
					})
				}
			}
		}
	})
}

// The same where the kernel must not give up first.
func testLongOutages(t *testing.T) {
	onlyLong(t, 3*time.Minute)
	const timeout = time.Minute
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, what := range loads {
			for _, offset := range []time.Duration{0, 9, 19, 27} {
				run(fmt.Sprintf("%s/%v", what, offset*time.Second), func(t *testing.T) {
					l := newLine(t, &liveness.Config{PeerTimeout: timeout})
					l.outage(what, peerDeaf, offset*time.Second, timeout, 29*time.Second)
				})
			}
		}
	})
}

func (l *line) outage(what load, d direction, offset, timeout, length time.Duration) {
	l.Helper()
	l.outageBy(what, offset, timeout, length, func() func() { return l.cut(d) })
}

func (l *line) outageBy(what load, offset, timeout, length time.Duration, by func() (mend func())) {
	l.Helper()
	switch what {
	case idleLoad:
		l.take(100, 0)
		l.exchange()
	case flightLoad:
		l.take(100, 0)
		l.trickle(20 * time.Millisecond)
	case fullLoad:
		l.take(16<<10, 10*time.Millisecond)
		l.fill()
	case windowLoad:
		l.fill()
		l.waitStalled()
	}
	time.Sleep(offset)
	began := time.Now()
	mend := by()
	time.Sleep(time.Until(began.Add(length)))
	mend()
	lasted := time.Since(began)
	if lasted >= timeout/2 {
		l.Skipf("the machine was too busy: the outage lasted %v", lasted)
	}
	select {
	case <-l.told:
		l.Fatalf("an outage of %v: %v; %+v", lasted, l.conn.Err(), l.conn.Status())
	case <-time.After(time.Until(began.Add(what.within(timeout)))):
	}
	l.lives()
	if what == windowLoad {
		l.take(64<<10, 0)
	}
	if what == idleLoad {
		l.wait("connected", func(s liveness.Status) bool { return s.State == liveness.Connected && s.Probes == 0 })
		return
	}
	before := l.written.Load()
	l.wait("connected", func(s liveness.Status) bool {
		return s.State == liveness.Connected && l.written.Load() > before && l.taken.Load() >= before
	})
}

// A peer that was silent because nobody asked it anything gets the same patience:
// what counts is for how long it was asked.
func testWriteAfterLongSilence(t *testing.T) {
	const timeout = 4 * time.Second
	cfg := liveness.Config{PeerTimeout: timeout, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Hour}}
	sideBySide(t, func(run func(string, func(*testing.T))) {
		silent := func(t *testing.T) *line {
			l := newLine(t, &cfg)
			if got, _ := l.option(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE); got != 3600 {
				t.Errorf("TCP_KEEPIDLE is %d", got)
			}
			l.take(100, 0)
			l.exchange()
			time.Sleep(timeout + busyMachine)
			l.lives()
			return l
		}
		run("lost", func(t *testing.T) {
			l := silent(t)
			since, _ := l.vanish(flightLoad, bothDeaf)
			l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
		})
		run("alive", func(t *testing.T) {
			l := silent(t)
			l.exchange()
			time.Sleep(2 * time.Second)
			l.exchange()
			l.lives()
		})
		run("outage", func(t *testing.T) {
			l := silent(t)
			began := time.Now()
			_, mend := l.vanish(flightLoad, bothDeaf)
			time.Sleep(timeout/2 - 250*time.Millisecond)
			mend()
			if lasted := time.Since(began); lasted >= timeout/2 {
				t.Skipf("the machine was too busy: the outage lasted %v", lasted)
			}
			time.Sleep(timeout)
			l.lives()
		})
	})
}

// The same when earlier data are remembered: those were answered, and the silence
// since then was nobody's fault.
func testWriteAfterAnsweredWrites(t *testing.T) {
	const timeout = 8 * time.Second
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, early := range []time.Duration{50, 200, 500} {
			early *= time.Millisecond
			run(fmt.Sprint(early), func(t *testing.T) {
				l := newLine(t, &liveness.Config{PeerTimeout: timeout, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Hour}})
				l.take(100, 0)
				// Data are in flight when the clock first comes, after an eighth of the time-out.
				began := time.Now()
				_, mend := l.vanish(flightLoad, peerDeaf)
				time.Sleep(time.Until(began.Add(timeout/8 + 100*time.Millisecond)))
				mend()
				l.wait("acknowledged", func(s liveness.Status) bool { return s.Unacked == 0 })
				// And when it comes again.
				time.Sleep(time.Until(began.Add(timeout - early)))
				cut := time.Now()
				_, mend = l.vanish(flightLoad, peerDeaf)
				time.Sleep(timeout/2 - 250*time.Millisecond)
				mend()
				if lasted := time.Since(cut); lasted >= timeout/2 {
					t.Skipf("the machine was too busy: the outage lasted %v", lasted)
				}
				time.Sleep(time.Second)
				if err := l.conn.Err(); err != nil {
					t.Fatalf("%v after an outage began that was shorter than %v: %v", (<-l.told).Sub(cut), timeout/2, err)
				}
			})
		}
	})
}

// option reads a socket option of our end, around the library.
func (l *line) option(level, name int) (value int, err error) {
	l.Helper()
	return optionOf(l.T, l.bare, level, name)
}

func optionOf(t *testing.T, conn syscall.Conn, level, name int) (value int, err error) {
	t.Helper()
	controlFD(t, conn, func(fd int) error {
		value, err = unix.GetsockoptInt(fd, level, name)
		return nil
	})
	return value, err
}

func setOptionOf(t *testing.T, conn syscall.Conn, level, name, value int) {
	t.Helper()
	controlFD(t, conn, func(fd int) error { return unix.SetsockoptInt(fd, level, name, value) })
}

// The options that the library may change.
var timerOptions = map[string][2]int{
	"SO_KEEPALIVE":     {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
	"TCP_KEEPIDLE":     {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
	"TCP_KEEPINTVL":    {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
	"TCP_KEEPCNT":      {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
	"TCP_USER_TIMEOUT": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
	"TCP_RTO_MAX_MS":   {unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS},
}

// readOptions reads them all. What the kernel does not know is -1.
func readOptions(t *testing.T, conn syscall.Conn) map[string]int {
	t.Helper()
	values := make(map[string]int)
	for name, o := range timerOptions {
		values[name] = -1
		if v, err := optionOf(t, conn, o[0], o[1]); err == nil {
			values[name] = v
		}
	}
	return values
}

func sameOptions(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	for name := range timerOptions {
		if got[name] != want[name] {
			t.Errorf("%s: %s is %d; want %d", what, name, got[name], want[name])
		}
	}
}

// The socket has afterwards what KeepAlive says, and a limit of its retransmissions
// with which the kernel gives up no sooner than a quarter beyond the time-out.
func testOptions(t *testing.T) {
	retries := "?"
	if b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_retries2"); err == nil {
		retries = string(bytes.TrimSpace(b))
	}
	// Worked out by hand, from T(15) of tcp_model_timeout.
	limits := map[time.Duration]int{4: 1000, 10: 1000, 11: 1000, 12: 1100, 60: 6300}
	for _, seconds := range []time.Duration{4, 5, 6, 7, 10, 11, 12, 60, 600, 65534} {
		conn, _ := livenesstest.Pair(t, "tcp4")
		bare := conn.(*net.TCPConn)
		setOptionOf(t, bare, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 7654)
		want := readOptions(t, bare)
		c, err := liveness.Wrap(conn, &liveness.Config{PeerTimeout: seconds * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		k := liveness.KeepAlive(seconds * time.Second)
		want["SO_KEEPALIVE"] = 1
		if seconds > 80 { // the timers are so late then that they are set for less
			k.Idle = time.Duration(readOptions(t, bare)["TCP_KEEPIDLE"]) * time.Second
			if formula := liveness.KeepAlive(seconds * time.Second).Idle; k.Idle > formula || k.Idle < formula*3/4 {
				t.Errorf("%v: TCP_KEEPIDLE is %v; want less than %v, but not much", seconds*time.Second, k.Idle, formula)
			}
		}
		want["TCP_KEEPIDLE"] = int(k.Idle / time.Second)
		want["TCP_KEEPINTVL"] = int(k.Interval / time.Second)
		want["TCP_KEEPCNT"] = k.Count
		got := readOptions(t, bare)
		switch limit, known := limits[seconds]; {
		case want["TCP_RTO_MAX_MS"] < 0:
			t.Log("this kernel has no TCP_RTO_MAX_MS")
		case retries == "15" && known:
			want["TCP_RTO_MAX_MS"] = limit
		default:
			want["TCP_RTO_MAX_MS"] = got["TCP_RTO_MAX_MS"]
		}
		sameOptions(t, fmt.Sprint(seconds*time.Second), got, want)

		// The user's own user timeout would end it earlier, and both count.
		n := max(1, (7654*time.Millisecond-k.Idle+k.Interval-1)/k.Interval)
		idle := k.Idle + n*k.Interval
		if within := c.Status().DetectWithin; !liveness.HasTCPInfo(t) {
			if within != 0 {
				t.Errorf("DetectWithin is %v where nobody tells what is in flight", within)
			}
		} else if within < idle || within > max(idle+idle/20+2*time.Second, flightLoad.within(seconds*time.Second)) {
			t.Errorf("%v with a user timeout of 7.654 s: DetectWithin is %v", seconds*time.Second, within)
		}
	}
}

// A Wrap that fails leaves the socket as it was, and the caller can go on with it.
func testOptionsAfterFailure(t *testing.T) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	bare := conn.(*net.TCPConn)
	setOptionOf(t, bare, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 123)
	setOptionOf(t, bare, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 45)
	setOptionOf(t, bare, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 6)
	c, err := liveness.Wrap(conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	before := readOptions(t, bare)
	for _, cfg := range []liveness.Config{
		{PeerTimeout: 4 * time.Second},
		{PeerTimeout: time.Minute, StallTimeout: time.Second},
		{KeepAlive: net.KeepAliveConfig{Enable: true}},
		{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: -1, Count: 3}},
		{PeerTimeout: time.Second},
	} {
		if _, err := liveness.Wrap(conn, &cfg); err == nil {
			t.Fatalf("%+v: wrapped twice", cfg)
		}
		sameOptions(t, "after a failure", readOptions(t, bare), before)
	}
	l := &line{T: t, conn: c, bare: bare, peer: peer}
	l.take(10, 0)
	l.exchange()
}

// Config.KeepAlive takes the place of the derived tuning and of nothing else.
func testOwnKeepAlive(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("options", func(t *testing.T) {
			conn, _ := livenesstest.Pair(t, "tcp4")
			bare := conn.(*net.TCPConn)
			setOptionOf(t, bare, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 45)
			want := readOptions(t, bare)
			if _, err := liveness.Wrap(conn, &liveness.Config{
				PeerTimeout: 4 * time.Second,
				KeepAlive:   net.KeepAliveConfig{Enable: true, Idle: 1500 * time.Millisecond, Interval: -1},
			}); err != nil {
				t.Fatal(err)
			}
			want["SO_KEEPALIVE"], want["TCP_KEEPIDLE"], want["TCP_KEEPCNT"] = 1, 2, 9
			if want["TCP_RTO_MAX_MS"] > 0 {
				want["TCP_RTO_MAX_MS"] = 1000
			}
			sameOptions(t, "Idle 1.5 s, Interval -1, Count 0", readOptions(t, bare), want)
		})
		run("alone", func(t *testing.T) {
			conn, _ := livenesstest.Pair(t, "tcp4")
			bare := conn.(*net.TCPConn)
			want := readOptions(t, bare)
			if _, err := liveness.Wrap(conn, &liveness.Config{KeepAlive: net.KeepAliveConfig{Enable: true}}); err != nil {
				t.Fatal(err)
			}
			want["SO_KEEPALIVE"], want["TCP_KEEPIDLE"], want["TCP_KEEPINTVL"], want["TCP_KEEPCNT"] = 1, 15, 15, 9
			sameOptions(t, "Enable alone", readOptions(t, bare), want)
		})
		run("none", func(t *testing.T) {
			conn, _ := livenesstest.Pair(t, "tcp4")
			bare := conn.(*net.TCPConn)
			want := readOptions(t, bare)
			if _, err := liveness.Wrap(conn, &liveness.Config{StallTimeout: time.Second, ReadIdleTimeout: time.Second}); err != nil {
				t.Fatal(err)
			}
			sameOptions(t, "without PeerTimeout", readOptions(t, bare), want)
		})
		run("idle", func(t *testing.T) {
			l := newLine(t, &liveness.Config{
				PeerTimeout: 10 * time.Second,
				KeepAlive:   net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2},
			})
			since, _ := l.vanish(idleLoad, bothDeaf)
			l.end(liveness.ErrPeerLost, since, time.Second, 3*time.Second+150*time.Millisecond)
		})
		run("in flight", func(t *testing.T) {
			const timeout = 4 * time.Second
			l := newLine(t, &liveness.Config{
				PeerTimeout: timeout,
				KeepAlive:   net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2},
			})
			since, _ := l.vanish(flightLoad, bothDeaf)
			l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
		})
	})
}

// What was received before a verdict is still read, and then comes the verdict.
func testDataBeforeVerdict(t *testing.T) {
	const timeout = 4 * time.Second
	lost := func(t *testing.T) *line {
		l := newLine(t, &liveness.Config{PeerTimeout: timeout})
		if _, err := l.peer.Write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		l.wait("received", func(s liveness.Status) bool { return s.Unread == 10 })
		since, _ := l.vanish(flightLoad, bothDeaf)
		l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
		return l
	}
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("Read", func(t *testing.T) {
			l := lost(t)
			for _, want := range []string{"last", " wor", "ds"} {
				b := make([]byte, 4)
				n, err := l.conn.Read(b)
				if err != nil || string(b[:n]) != want {
					t.Fatalf("Read: %q, %v; want %q", b[:n], err, want)
				}
			}
			if n, err := l.conn.Read(nil); n != 0 {
				t.Errorf("Read(nil): %d, %v", n, err)
			}
			for range 3 {
				n, err := l.conn.Read(make([]byte, 4))
				if n != 0 {
					t.Errorf("read %d bytes more", n)
				}
				l.verdictError("read", err, liveness.ErrPeerLost)
			}
		})
		copies := map[string]func(l *line) (io.Writer, *livenesstest.Peer){
			"io.Copy to a Conn": func(l *line) (io.Writer, *livenesstest.Peer) {
				to := newLine(l.T, nil)
				return to.conn, to.peer
			},
			"io.Copy to a TCPConn": func(l *line) (io.Writer, *livenesstest.Peer) {
				to, peer := livenesstest.Pair(l.T, "tcp4")
				return to, peer
			},
		}
		for name, to := range copies {
			for _, limited := range []bool{false, true} {
				run(fmt.Sprintf("%s, limited=%t", name, limited), func(t *testing.T) {
					l := lost(t)
					w, far := to(l)
					var r io.Reader = l.conn
					if limited {
						r = io.LimitReader(l.conn, 1<<20)
					}
					n, err := io.Copy(w, r)
					if n != 10 || !errors.Is(err, liveness.ErrPeerLost) {
						t.Errorf("io.Copy: %d, %v", n, err)
					}
					b := make([]byte, 10)
					if _, err := io.ReadFull(far, b); err != nil || string(b) != "last words" {
						t.Errorf("arrived: %q, %v", b, err)
					}
				})
			}
		}
		run("a copy that was at work", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: timeout})
			to := newLine(t, nil)
			type result struct {
				n   int64
				err error
			}
			done := make(chan result, 1)
			go func() {
				n, err := io.Copy(to.conn, l.conn)
				done <- result{n, err}
			}()
			l.peer.Write([]byte("first "))
			io.ReadFull(to.peer, make([]byte, 6))
			since, _ := l.vanish(flightLoad, bothDeaf)
			l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
			select {
			case r := <-done:
				if r.n != 6 || !errors.Is(r.err, liveness.ErrPeerLost) {
					t.Errorf("io.Copy: %d, %v", r.n, r.err)
				}
			case <-time.After(busyMachine):
				machine.excuse(t, since)
				t.Error("io.Copy still waits a second after the end")
			}
			if err := to.conn.Err(); err != nil {
				t.Errorf("the other side of the copy ended: %v", err)
			}
		})
		run("a FIN after the data", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: timeout, AllowHalfClose: true})
			l.peer.Write([]byte("last words"))
			l.peer.CloseWrite()
			l.wait("half-closed", func(s liveness.Status) bool { return s.State == liveness.HalfClosed })
			since, _ := l.vanish(flightLoad, bothDeaf)
			l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
			b, err := io.ReadAll(l.conn)
			if err != nil || string(b) != "last words" {
				t.Errorf("read %q, %v: the stream was complete", b, err)
			}
		})
	})
}

// No deadline that the user sets revives what a verdict has ended, whenever he
// sets it.
func testDeadlinesAgainstVerdict(t *testing.T) {
	const timeout = 4 * time.Second
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for i := range 4 {
			run(fmt.Sprint(i), func(t *testing.T) {
				l := newLine(t, &liveness.Config{PeerTimeout: timeout})
				l.park()
				stop := make(chan struct{})
				var setting sync.WaitGroup
				defer setting.Wait() // not even a skipped test may be spoken to afterwards
				defer close(stop)
				for range 2 {
					setting.Go(func() {
						for n := 0; ; n++ {
							select {
							case <-stop:
								return
							default:
							}
							var err error
							switch n % 3 {
							case 0:
								err = l.conn.SetDeadline(time.Time{})
							case 1:
								err = l.conn.SetReadDeadline(time.Now().Add(time.Hour))
							default:
								err = l.conn.SetWriteDeadline(time.Now().Add(time.Hour))
							}
							if err != nil {
								t.Errorf("set a deadline: %v", err)
								return
							}
							time.Sleep(100 * time.Microsecond)
						}
					})
				}
				what := flightLoad
				if i%2 == 1 {
					what = windowLoad
				}
				since, _ := l.vanish(what, bothDeaf)
				l.end(liveness.ErrPeerLost, since, timeout/2, what.within(timeout))
				l.released("read", l.reader, liveness.ErrPeerLost)
				l.released("write", l.writer, liveness.ErrPeerLost)
				// And the next ones do not wait at all.
				for range 20 {
					_, err := l.conn.Read(make([]byte, 1))
					l.verdictError("read", err, liveness.ErrPeerLost)
					_, err = l.conn.Write(make([]byte, 1))
					l.verdictError("write", err, liveness.ErrPeerLost)
				}
			})
		}
	})
}

// A loop that goes on after time-outs, because it sets deadlines of its own, comes
// to its end all the same, whoever gave the peer up.
func testRetryLoopsEnd(t *testing.T) {
	const timeout = 4 * time.Second
	verdicts := map[string]struct {
		cfg    liveness.Config
		reason error
		begin  func(*line)
		within time.Duration
	}{
		"lost by the library": {
			cfg:    liveness.Config{PeerTimeout: timeout},
			reason: liveness.ErrPeerLost,
			begin:  func(l *line) { l.vanish(flightLoad, bothDeaf) },
			within: flightLoad.within(timeout),
		},
		"lost by the kernel": {
			cfg:    liveness.Config{PeerTimeout: timeout},
			reason: liveness.ErrPeerLost,
			begin:  func(l *line) { l.vanish(idleLoad, bothDeaf) },
			within: idleLoad.within(timeout),
		},
		"stalled": {
			cfg:    liveness.Config{StallTimeout: time.Second},
			reason: liveness.ErrPeerStalled,
			begin:  func(l *line) { l.fill() },
			within: 3 * time.Second,
		},
		"idle": {
			cfg:    liveness.Config{ReadIdleTimeout: 500 * time.Millisecond},
			reason: liveness.ErrPeerIdle,
			begin:  func(l *line) {},
			within: 650 * time.Millisecond,
		},
	}
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for name, v := range verdicts {
			for _, deadlines := range []bool{false, true} {
				run(fmt.Sprintf("%s, deadlines=%t", name, deadlines), func(t *testing.T) {
					l := newLine(t, &v.cfg)
					ended := make(chan error, 1)
					var spins atomic.Int64
					go func() {
						b := make([]byte, 100)
						for {
							if deadlines {
								l.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
							}
							_, err := l.conn.Read(b)
							var ne net.Error
							if errors.As(err, &ne) && ne.Timeout() {
								if spins.Add(1); deadlines || spins.Load() < 1000 {
									continue
								}
							}
							if err != nil {
								ended <- err
								return
							}
						}
					}()
					since := time.Now()
					v.begin(l)
					l.end(v.reason, since, 0, v.within+busyMachine)
					select {
					case err := <-ended:
						if n := spins.Load(); !deadlines && n > 1 || n > 1000 {
							t.Errorf("went round %d times, and then %v", n, err)
						}
					case <-time.After(busyMachine):
						machine.excuse(t, since)
						t.Errorf("the loop goes on a second after %v, and went round %d times", l.conn.Err(), spins.Load())
						l.conn.Close()
						<-ended
					}
				})
			}
		}
	})
}

// After ErrPeerLost and ErrPeerStalled, Close frees what the kernel still holds,
// and a peer that comes back is reset.
func testCloseAfterVerdict(t *testing.T) {
	const timeout = 4 * time.Second
	reset := func(l *line) {
		l.Helper()
		if l.peerEnd == nil {
			l.take(64<<10, 0)
		}
		select {
		case err := <-l.peerEnd:
			if !errors.Is(err, syscall.ECONNRESET) {
				l.Errorf("the peer read %v; want ECONNRESET", err)
			}
		case <-time.After(10 * time.Second):
			l.Error("the peer heard nothing")
		}
	}
	// gone checks that the kernel has no socket for our end any more.
	gone := func(l *line, local, remote net.Addr) {
		l.Helper()
		if state := tcpState(l.T, local, remote); state != "" {
			l.Errorf("after Close the kernel still has our end, in state %s", state)
		}
	}
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, linger := range []int{-1, 5} {
			for _, what := range []load{flightLoad, fullLoad, windowLoad} {
				run(fmt.Sprintf("lost, %s, SetLinger(%d)", what, linger), func(t *testing.T) {
					l := newLine(t, &liveness.Config{PeerTimeout: timeout})
					l.bare.SetLinger(linger)
					since, mend := l.vanish(what, bothDeaf)
					l.end(liveness.ErrPeerLost, since, timeout/2, what.within(timeout))
					local, remote := l.conn.LocalAddr(), l.conn.RemoteAddr()
					if state := tcpState(t, local, remote); state != "01" {
						t.Errorf("before Close the kernel has our end in state %q", state)
					}
					began := time.Now()
					if err := l.conn.Close(); err != nil {
						t.Error(err)
					}
					if took := time.Since(began); slow(t, took, 0) {
						t.Errorf("Close took %v", took)
					}
					gone(l, local, remote)
					mend()
					l.peer.Write([]byte("back again")) // and now it hears of it
					reset(l)
				})
			}
		}
		run("lost, and mended before Close", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: timeout})
			since, mend := l.vanish(flightLoad, bothDeaf)
			l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
			mend()
			l.conn.Close()
			reset(l)
		})
		run("stalled", func(t *testing.T) {
			l := newLine(t, &liveness.Config{StallTimeout: time.Second})
			since := time.Now()
			l.fill()
			l.end(liveness.ErrPeerStalled, since, time.Second, 3*time.Second)
			local, remote := l.conn.LocalAddr(), l.conn.RemoteAddr()
			l.conn.Close()
			gone(l, local, remote)
			reset(l)
		})
		run("idle", func(t *testing.T) {
			// Nothing is wrong with the host: what we wrote is still to arrive.
			since := time.Now()
			l := newLine(t, &liveness.Config{ReadIdleTimeout: 200 * time.Millisecond})
			l.park() // for systems that count nothing
			l.end(liveness.ErrPeerIdle, since, 200*time.Millisecond, 320*time.Millisecond)
			l.conn.Close()
			if _, err := l.peer.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the peer read %v; want an orderly end", err)
			}
		})
	})
}

// tcpState looks up a socket in the kernel's own list, and returns its state there
// in hexadecimal, or nothing.
func tcpState(t *testing.T, local, remote net.Addr) string {
	t.Helper()
	list, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Skip(err)
	}
	hex := func(a net.Addr) string {
		tcp := a.(*net.TCPAddr)
		ip := tcp.IP.To4()
		return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], tcp.Port)
	}
	for _, row := range bytes.Split(list, []byte("\n")) {
		f := bytes.Fields(row)
		if len(f) > 3 && string(f[1]) == hex(local) && string(f[2]) == hex(remote) {
			return string(f[3])
		}
	}
	return ""
}

// A peer whose host answers while its program takes nothing is stalled, with
// nobody else to say so.
func testStalled(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, timeout := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second} {
			for _, with := range []time.Duration{0, 4 * time.Second} {
				run(fmt.Sprintf("%v, PeerTimeout %v", timeout, with), func(t *testing.T) {
					l := newLine(t, &liveness.Config{StallTimeout: timeout, PeerTimeout: with})
					l.park()
					began := time.Now()
					l.fill()
					l.waitStalled()
					since := time.Now()
					l.end(liveness.ErrPeerStalled, since, timeout-since.Sub(began), timeout+timeout/10+time.Second)
					l.released("read", l.reader, liveness.ErrPeerStalled)
					l.released("write", l.writer, liveness.ErrPeerStalled)
				})
			}
		}
		// Elsewhere than on TCP, a Write that waits while nothing leaves the queue.
		for _, network := range []string{"unix", "mptcp"} {
			run(network, func(t *testing.T) {
				const timeout = time.Second
				conn, peer := livenesstest.Pair(t, network)
				l := lineOf(t, conn, peer, &liveness.Config{StallTimeout: timeout})
				since := time.Now()
				l.fill()
				if network == "unix" { // where all that is read leaves the queue
					for began := since; time.Since(began) < 3*timeout; time.Sleep(timeout / 5) {
						_, err := io.ReadFull(peer, make([]byte, 64<<10))
						if paused := time.Since(since); paused >= timeout*9/10 {
							t.Skipf("the machine was too busy: nothing was read for %v", paused)
						}
						if err != nil {
							t.Fatalf("%v; %v", err, l.conn.Err())
						}
						since = time.Now()
						l.lives()
					}
				}
				// To fill the buffers takes a while.
				l.end(liveness.ErrPeerStalled, since, timeout-tickOf, timeout+timeout/10+2*time.Second)
				l.released("write", l.writer, liveness.ErrPeerStalled)
			})
		}
		run("after it has read for a while", func(t *testing.T) {
			const timeout = 2 * time.Second
			l := newLine(t, &liveness.Config{StallTimeout: timeout})
			l.fill()
			began := time.Now()
			for time.Since(began) < 3*time.Second {
				if _, err := io.ReadFull(l.peer, make([]byte, 64<<10)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Millisecond)
			}
			// What it read last may have been in its buffer for a while.
			since := time.Now()
			l.end(liveness.ErrPeerStalled, since, timeout*3/4, timeout+timeout/10+time.Second)
		})
		run("a stopped process", func(t *testing.T) {
			const timeout = 2 * time.Second
			conn, process := processPair(t)
			l := lineOf(t, conn, nil, &liveness.Config{StallTimeout: timeout})
			if err := process.Drain(); err != nil {
				t.Fatal(err)
			}
			l.fill()
			time.Sleep(500 * time.Millisecond)
			began := time.Now()
			if err := process.Stop(); err != nil {
				t.Fatal(err)
			}
			l.waitStalled()
			since := time.Now()
			l.end(liveness.ErrPeerStalled, since, timeout-since.Sub(began)-100*time.Millisecond, timeout+timeout/10+time.Second)
		})
		run("a stopped process without data", func(t *testing.T) {
			const timeout = time.Second
			conn, process := processPair(t)
			l := lineOf(t, conn, nil, &liveness.Config{StallTimeout: time.Second, PeerTimeout: 4 * time.Second, ReadIdleTimeout: timeout})
			l.parkUncounted()
			if err := process.Send(10); err != nil {
				t.Fatal(err)
			}
			if err := process.Stop(); err != nil {
				t.Fatal(err)
			}
			since := time.Now()
			l.end(liveness.ErrPeerIdle, since, 0, timeout+timeout/10+100*time.Millisecond)
		})
		run("a stopped process that goes on", func(t *testing.T) {
			const timeout = 2 * time.Second
			conn, process := processPair(t)
			l := lineOf(t, conn, nil, &liveness.Config{StallTimeout: timeout, PeerTimeout: 4 * time.Second})
			if err := process.Drain(); err != nil {
				t.Fatal(err)
			}
			l.fill()
			for range 3 {
				stopped := time.Now()
				if err := process.Stop(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(timeout * 6 / 10)
				if err := process.Continue(); err != nil {
					t.Fatal(err)
				}
				if lasted := time.Since(stopped); lasted >= timeout {
					t.Skipf("the machine was too busy: it was stopped for %v", lasted)
				}
				before := l.written.Load()
				l.wait("going on", func(s liveness.Status) bool { return s.Err != nil || l.written.Load() > before+1<<20 })
				l.lives()
			}
		})
	})
}

// processPair connects to a peer in a process of its own.
func processPair(t *testing.T) (net.Conn, *livenesstest.Process) {
	t.Helper()
	liveness.NeedsProcesses(t)
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(false)
	listener, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	process, err := livenesstest.StartProcess("tcp4", listener.Addr().String())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Release() })
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, process
}

// Who takes data, however slowly his kernel announces it, is not stalled, nor is
// who is not given any.
func testNotStalled(t *testing.T) {
	const timeout = time.Second
	const long = 4 * timeout
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("a slow reader", func(t *testing.T) {
			l := newLine(t, &liveness.Config{StallTimeout: timeout, PeerTimeout: 4 * time.Second})
			l.fill()
			last := time.Now()
			for began := last; time.Since(began) < long; time.Sleep(timeout / 2) {
				// As much as opens the window.
				_, err := io.ReadFull(l.peer, make([]byte, 64<<10))
				if paused := time.Since(last); paused >= timeout*9/10 {
					t.Skipf("the machine was too busy: nothing was read for %v", paused)
				}
				if err != nil {
					t.Fatal(err)
				}
				last = time.Now()
				l.lives()
			}
		})
		run("nothing to take", func(t *testing.T) {
			l := newLine(t, &liveness.Config{StallTimeout: timeout})
			l.conn.Write(make([]byte, 100)) // which fits the peer's buffer
			time.Sleep(long)
			l.lives()
		})
		run("TCP_CORK", func(t *testing.T) {
			l := newLine(t, &liveness.Config{StallTimeout: timeout})
			l.take(1000, 0)
			setOptionOf(t, l.bare, unix.IPPROTO_TCP, unix.TCP_CORK, 1)
			for began := time.Now(); time.Since(began) < long; time.Sleep(50 * time.Millisecond) {
				l.conn.Write(make([]byte, 10))
				l.lives()
			}
		})
		run("MSG_MORE", func(t *testing.T) {
			l := newLine(t, &liveness.Config{StallTimeout: timeout})
			l.take(1000, 0)
			for began := time.Now(); time.Since(began) < long; time.Sleep(50 * time.Millisecond) {
				l.raw(syscall.RawConn.Write, func(fd uintptr) {
					if err := unix.Sendto(int(fd), make([]byte, 10), unix.MSG_MORE, nil); err != nil {
						t.Error(err)
					}
				})
				l.lives()
			}
		})
		run("not supervised", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: 4 * time.Second})
			l.fill()
			l.waitStalled()
			time.Sleep(long)
			l.lives()
		})
	})
}

// Behind a closed window, a host that does not answer is lost and not stalled.
func testStalledThenLost(t *testing.T) {
	const timeout = 4 * time.Second
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, stall := range []time.Duration{3 * time.Second, 10 * time.Second} {
			for _, d := range directions {
				run(fmt.Sprintf("StallTimeout %v, %s", stall, d), func(t *testing.T) {
					l := newLine(t, &liveness.Config{StallTimeout: stall, PeerTimeout: timeout})
					l.park()
					since, _ := l.vanish(windowLoad, d)
					l.end(liveness.ErrPeerLost, since, timeout/2, windowLoad.within(timeout))
					l.released("read", l.reader, liveness.ErrPeerLost)
					l.released("write", l.writer, liveness.ErrPeerLost)
				})
			}
		}
	})
}

// The time after which ReadIdleTimeout and OnSilence must have come.
func idleWithin(d time.Duration) time.Duration { return d + d/10 + 100*time.Millisecond }

// A peer that could send and does not is idle: from Wrap, or from the last byte,
// whoever took that.
func testReadIdle(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, timeout := range []time.Duration{100, 250, 1000} {
			timeout *= time.Millisecond
			for _, parked := range []bool{false, true} {
				run(fmt.Sprintf("%v/from Wrap/parked=%t", timeout, parked), func(t *testing.T) {
					conn, peer := livenesstest.Pair(t, "tcp4")
					// What was before Wrap does not count.
					time.Sleep(timeout)
					since := time.Now()
					l := lineOf(t, conn, peer, &liveness.Config{ReadIdleTimeout: timeout})
					if parked {
						l.park()
					} else {
						liveness.NeedsTCPInfo(t)
					}
					l.end(liveness.ErrPeerIdle, since, timeout, idleWithin(timeout))
					l.released("read", l.reader, liveness.ErrPeerIdle)
					l.lastsAsVerdict(liveness.ErrPeerIdle)
				})
				run(fmt.Sprintf("%v/from the last byte/parked=%t", timeout, parked), func(t *testing.T) {
					l := newLine(t, &liveness.Config{ReadIdleTimeout: timeout})
					if parked {
						l.park()
					} else {
						liveness.NeedsTCPInfo(t)
					}
					since := l.talk(timeout, l.peer.Write)
					l.end(liveness.ErrPeerIdle, since, timeout-tickOf, idleWithin(timeout))
					l.released("read", l.reader, liveness.ErrPeerIdle)
					if parked {
						l.lastsAsVerdict(liveness.ErrPeerIdle)
					}
				})
			}
			run(fmt.Sprintf("%v/while we send", timeout), func(t *testing.T) {
				// A long download is silence: acknowledgements are no data.
				since := time.Now()
				l := newLine(t, &liveness.Config{ReadIdleTimeout: timeout})
				l.parkUncounted()
				l.take(64<<10, time.Millisecond)
				l.fill()
				l.end(liveness.ErrPeerIdle, since, timeout, idleWithin(timeout)+tickOf)
			})
		}
		run("keep-alive answers are no data", func(t *testing.T) {
			const timeout = 2500 * time.Millisecond
			since := time.Now()
			l := newLine(t, &liveness.Config{ReadIdleTimeout: timeout, PeerTimeout: 4 * time.Second})
			l.parkUncounted()
			l.end(liveness.ErrPeerIdle, since, timeout, idleWithin(timeout))
		})
	})
}

// lastsAsVerdict checks that Read and Write stay ended.
func (l *line) lastsAsVerdict(reason error) {
	l.Helper()
	for l.conn.Err() == nil || unreadOf(l) > 0 { // what was on the way
		if _, err := l.conn.Read(make([]byte, 100)); err != nil {
			break
		}
	}
	for range 3 {
		_, err := l.conn.Read(make([]byte, 1))
		l.verdictError("read", err, reason)
		_, err = l.conn.Write(make([]byte, 1))
		l.verdictError("write", err, reason)
	}
}

// talk has the peer send a byte now and then, for a while in which nothing must end,
// and returns when the last one was sent.
func (l *line) talk(timeout time.Duration, write func([]byte) (int, error)) time.Time {
	l.Helper()
	last := l.wrapped
	for began := time.Now(); time.Since(began) < 4*timeout; time.Sleep(timeout / 5) {
		now := time.Now()
		if _, err := write([]byte("x")); err != nil {
			l.Fatalf("%v; %v", err, l.conn.Err())
		}
		if paused := time.Since(last); paused >= timeout {
			l.Skipf("the machine was too busy: nothing was sent for %v", paused)
		}
		last = now
	}
	err := l.conn.Err()
	if paused := time.Since(last); err != nil && paused < timeout {
		l.Fatalf("%v, %v after the last byte", err, paused)
	}
	return last
}

func unreadOf(l *line) (n int) {
	l.control(func(fd int) error {
		count, err := unix.IoctlGetUint32(fd, unix.SIOCINQ)
		n = int(count)
		return err
	})
	return n
}

// Bytes count as received whoever reads them, and however.
func testNotReadIdle(t *testing.T) {
	const timeout = 500 * time.Millisecond
	sideBySide(t, func(run func(string, func(*testing.T))) {
		cfg := &liveness.Config{ReadIdleTimeout: timeout}
		run("nobody reads", func(t *testing.T) {
			l := newLine(t, cfg)
			l.talk(timeout, l.peer.Write)
		})
		run("Read", func(t *testing.T) {
			l := newLine(t, cfg)
			l.park()
			l.talk(timeout, l.peer.Write)
		})
		run("splice", func(t *testing.T) {
			l := newLine(t, cfg)
			to, far := livenesstest.Pair(t, "tcp4")
			far.Drain()
			go io.Copy(to, l.conn)
			l.talk(timeout, l.peer.Write)
		})
		run("SyscallConn", func(t *testing.T) {
			l := newLine(t, cfg)
			raw, err := l.conn.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				b := make([]byte, 100)
				for raw.Read(func(fd uintptr) bool {
					_, err := unix.Read(int(fd), b)
					return err != unix.EAGAIN
				}) == nil && l.conn.Err() == nil {
				}
			}()
			l.talk(timeout, l.peer.Write)
			l.conn.Close()
		})
		run("TLS above", func(t *testing.T) {
			forServer, forClient, err := livenesstest.TLSConfig()
			if err != nil {
				t.Fatal(err)
			}
			l := newLine(t, cfg)
			server, client := tls.Server(l.conn, forServer), tls.Client(l.peer, forClient)
			l.peer.SetDeadline(time.Now().Add(4 * timeout))
			go io.Copy(io.Discard, server)
			err = client.Handshake()
			if took := time.Since(l.wrapped); took > timeout {
				t.Skipf("the machine was too busy: the handshake took %v", took)
			}
			if err != nil {
				t.Fatal(err)
			}
			l.peer.SetDeadline(time.Now().Add(longest()))
			l.wrapped = time.Now()
			l.talk(timeout, client.Write)
		})
		run("after the peer's FIN", func(t *testing.T) {
			conn, peer := livenesstest.Pair(t, "tcp4")
			peer.CloseWrite()
			l := lineOf(t, conn, peer, &liveness.Config{ReadIdleTimeout: timeout, AllowHalfClose: true})
			silences := make(chan struct{}, 10)
			l.wait("half-closed", func(s liveness.Status) bool { return s.State == liveness.HalfClosed })
			l.conn.OnSilence(timeout, func() { silences <- struct{}{} })
			time.Sleep(4 * timeout)
			l.lives()
			if len(silences) > 0 {
				t.Error("OnSilence was called after the FIN")
			}
		})
	})
}

// queued counts what peer has written that was not acknowledged.
func queued(t *testing.T, peer *livenesstest.Peer) (n uint32) {
	t.Helper()
	raw, err := peer.NetConn().(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { n, err = unix.IoctlGetUint32(int(fd), unix.SIOCOUTQ) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// While our own buffer is full, the peer's silence is ours. It counts from when we
// read on.
func testReadIdleBehindFullBuffer(t *testing.T) {
	const timeout = time.Second
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for i := range 8 {
			run(fmt.Sprint(i), func(t *testing.T) {
				l := newLine(t, &liveness.Config{ReadIdleTimeout: timeout})
				var silences atomic.Int32
				l.conn.OnSilence(timeout, func() { silences.Add(1) })
				l.peer.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
				for {
					if _, err := l.peer.Write(make([]byte, 16<<10)); err != nil {
						break
					}
				}
				if queued(t, l.peer) == 0 {
					t.Skip("the machine was too busy: the peer wrote too little to fill our buffer")
				}
				// The clock looks now and then; what counts is not when it last did.
				time.Sleep(3*timeout + time.Duration(i)*timeout/125)
				l.lives()
				if n := silences.Load(); n > 0 {
					t.Errorf("OnSilence was called %d times behind our full buffer", n)
				}
				// What waits in the peer's buffer is not to come.
				l.cut(weDeaf)
				unread := l.conn.Status().Unread
				since := time.Now()
				if _, err := io.ReadFull(l.conn, make([]byte, unread)); err != nil {
					t.Fatal(err)
				}
				l.end(liveness.ErrPeerIdle, since, timeout, time.Since(since)+idleWithin(timeout))
			})
		}
	})
}

// The user's deadlines are the user's.
func testDeadlinesBesideReadIdle(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("earlier", func(t *testing.T) {
			l := newLine(t, &liveness.Config{ReadIdleTimeout: time.Minute, PeerTimeout: 4 * time.Second, StallTimeout: 4 * time.Second})
			for range 5 {
				began := time.Now()
				l.conn.SetReadDeadline(began.Add(50 * time.Millisecond))
				_, err := l.conn.Read(make([]byte, 1))
				var ne net.Error
				if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
					t.Fatalf("Read: %v", err)
				}
				if took := time.Since(began); took < 50*time.Millisecond || slow(t, took, 50*time.Millisecond) {
					t.Errorf("a deadline of 50 ms came after %v", took)
				}
				l.lives()
			}
			l.conn.SetReadDeadline(time.Time{})
			l.peer.Write([]byte("x"))
			if n, err := l.conn.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Errorf("Read without a deadline: %d, %v", n, err)
			}
		})
		run("later", func(t *testing.T) {
			const timeout = 300 * time.Millisecond
			since := time.Now()
			l := newLine(t, &liveness.Config{ReadIdleTimeout: timeout})
			l.conn.SetReadDeadline(time.Now().Add(time.Hour))
			l.park()
			l.end(liveness.ErrPeerIdle, since, timeout, idleWithin(timeout))
			l.released("read", l.reader, liveness.ErrPeerIdle)
		})
		run("expired", func(t *testing.T) {
			liveness.NeedsTCPInfo(t) // elsewhere the clock stands still between the Reads
			const timeout = 300 * time.Millisecond
			since := time.Now()
			l := newLine(t, &liveness.Config{ReadIdleTimeout: timeout})
			l.conn.SetReadDeadline(time.Unix(1, 0))
			for l.conn.Err() == nil {
				if _, err := l.conn.Read(make([]byte, 1)); err == nil {
					t.Fatal("Read beyond a deadline")
				}
				time.Sleep(10 * time.Millisecond)
			}
			l.end(liveness.ErrPeerIdle, since, timeout, idleWithin(timeout))
			l.lastsAsVerdict(liveness.ErrPeerIdle)
		})
	})
}

// Both parts together find the program that hangs while its kernel answers.
func testHungPrograms(t *testing.T) {
	conn, process := processPair(t)
	l := lineOf(t, conn, nil, &liveness.Config{PeerTimeout: 4 * time.Second, ReadIdleTimeout: 2 * time.Second})
	asked := make(chan struct{}, 10)
	answered := make(chan time.Duration, 10)
	l.conn.OnSilence(500*time.Millisecond, func() {
		asked <- struct{}{}
		began := time.Now()
		process.Send(1) // the answer of a program that runs
		answered <- time.Since(began)
	})
	l.park()
	for range 3 {
		select {
		case <-asked:
		case <-l.conn.Done():
			t.Fatal(l.conn.Err())
		}
		select {
		case took := <-answered:
			if took > time.Second {
				t.Skipf("the machine was too busy: the process answered after %v", took)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the process does not answer")
		}
	}
	l.lives()
	since := time.Now()
	if err := process.Stop(); err != nil {
		t.Fatal(err)
	}
	l.end(liveness.ErrPeerIdle, since, time.Second, idleWithin(2*time.Second))
	process.Continue()
}

// OnSilence runs once for each silence, and for the next one again.
func testOnSilence(t *testing.T) {
	const after = 300 * time.Millisecond
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("once for each", func(t *testing.T) {
			began := time.Now()
			l := newLine(t, nil)
			l.parkUncounted()
			calls := make(chan time.Time, 100)
			l.conn.OnSilence(after, func() { calls <- time.Now() })
			expect := func(since time.Time) {
				t.Helper()
				select {
				case at := <-calls:
					if took := at.Sub(since); took < after || slow(t, took, idleWithin(after)) {
						t.Errorf("called after %v of silence; want %v to %v", took, after, idleWithin(after))
					} else {
						t.Logf("figure %.3f s", took.Seconds())
					}
				case <-time.After(idleWithin(after) + busyMachine):
					machine.excuse(t, time.Now().Add(-3*time.Second))
					t.Fatalf("not called after %v of silence", time.Since(since))
				}
			}
			expect(began)
			for range 3 {
				time.Sleep(3 * after)
				if len(calls) > 0 {
					t.Fatalf("called %d times more for one silence", len(calls))
				}
				since := time.Now()
				l.peer.Write([]byte("x"))
				expect(since)
			}
		})
		run("answered at once", func(t *testing.T) {
			// The place for a ping of one's own: the answer comes within less time than
			// the kernel's clock can tell.
			l := newLine(t, nil)
			l.park()
			go io.Copy(l.peer, l.peer.NetConn())
			calls := make(chan time.Time, 100)
			l.conn.OnSilence(after, func() {
				calls <- time.Now()
				l.conn.Write([]byte("ping"))
			})
			last := time.Now()
			for range 8 {
				select {
				case at := <-calls:
					if took := at.Sub(last); slow(t, took, idleWithin(after)) {
						t.Errorf("called after %v of silence; want %v", took, idleWithin(after))
					} else {
						t.Logf("figure %.3f s", took.Seconds())
					}
					last = at
				case <-time.After(idleWithin(after) + busyMachine):
					machine.excuse(t, time.Now().Add(-3*time.Second))
					t.Fatalf("not called after %v of silence", time.Since(last))
				}
			}
		})
		run("not while there are data", func(t *testing.T) {
			l := newLine(t, nil)
			l.parkUncounted()
			var calls atomic.Int32
			l.conn.OnSilence(after, func() { calls.Add(1) })
			last := time.Now()
			for began := last; time.Since(began) < 4*after; time.Sleep(after / 5) {
				l.peer.Write([]byte("x"))
				if paused := time.Since(last); paused >= after {
					t.Skipf("the machine was too busy: nothing was sent for %v", paused)
				}
				last = time.Now()
			}
			if n := calls.Load(); n > 0 {
				machine.excuse(t, l.wrapped)
				t.Errorf("called %d times", n)
			}
		})
		run("one at a time", func(t *testing.T) {
			l := newLine(t, nil)
			l.parkUncounted()
			var running, most, calls atomic.Int32
			l.conn.OnSilence(100*time.Millisecond, func() {
				most.Store(max(most.Load(), running.Add(1)))
				calls.Add(1)
				time.Sleep(500 * time.Millisecond) // through several silences
				running.Add(-1)
			})
			for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(250 * time.Millisecond) {
				l.peer.Write([]byte("x"))
			}
			if most.Load() > 1 {
				t.Errorf("%d at a time", most.Load())
			}
			if n := calls.Load(); n < 2 || n > 5 {
				machine.excuse(t, l.wrapped)
				t.Errorf("called %d times in 2 s; each call takes 0.5 s, and is due when the one before returns", n)
			}
		})
		run("several", func(t *testing.T) {
			l := newLine(t, nil)
			l.parkUncounted()
			began := time.Now()
			var all sync.WaitGroup
			for _, d := range []time.Duration{700, 100, 400} {
				d *= time.Millisecond
				all.Add(1)
				var once sync.Once
				l.conn.OnSilence(d, func() {
					// No skipping here: that would end this goroutine, and all would wait.
					if took := time.Since(began); took < d {
						t.Errorf("%v: called after %v", d, took)
					}
					once.Do(all.Done)
				})
			}
			all.Wait()
		})
		run("stopped", func(t *testing.T) {
			l := newLine(t, nil)
			var calls atomic.Int32
			stop := l.conn.OnSilence(after, func() { calls.Add(1) })
			if !stop() {
				t.Error("stop() = false at the first time")
			}
			if stop() {
				t.Error("stop() = true at the second time")
			}
			time.Sleep(3 * after)
			if n := calls.Load(); n > 0 {
				t.Errorf("called %d times after stop", n)
			}
		})
		run("stopped from within", func(t *testing.T) {
			l := newLine(t, nil)
			l.parkUncounted()
			calls := make(chan bool, 10)
			var stop func() bool
			set := make(chan struct{})
			stop = l.conn.OnSilence(after, func() { <-set; calls <- stop() })
			close(set)
			if !<-calls {
				t.Error("stop() = false")
			}
			l.peer.Write([]byte("x"))
			time.Sleep(3 * after)
			if len(calls) > 0 {
				t.Error("called after stop")
			}
		})
		run("after the end", func(t *testing.T) {
			l := newLine(t, nil)
			var calls atomic.Int32
			stop := l.conn.OnSilence(100*time.Millisecond, func() { calls.Add(1) })
			l.peer.Close()
			<-l.conn.Done()
			if stop() {
				t.Error("stop() = true after the end")
			}
			if l.conn.OnSilence(100*time.Millisecond, func() { calls.Add(1) })() {
				t.Error("stop() = true, registered after the end")
			}
			n := calls.Load()
			time.Sleep(3 * after)
			if calls.Load() != n {
				t.Errorf("called after the end")
			}
		})
		run("nil", func(t *testing.T) {
			l := newLine(t, nil)
			if l.conn.OnSilence(100*time.Millisecond, nil)() {
				t.Error("stop() = true for nothing")
			}
			time.Sleep(after)
			l.lives()
		})
		run("too short", func(t *testing.T) {
			l := newLine(t, nil)
			l.parkUncounted()
			began := time.Now()
			for _, d := range []time.Duration{-1, 0, time.Millisecond} {
				called := make(chan time.Time, 1)
				l.conn.OnSilence(d, func() { called <- time.Now() })
				if took := (<-called).Sub(began); took < 100*time.Millisecond {
					t.Errorf("OnSilence(%v): called after %v", d, took)
				}
			}
		})
	})
}

// A heldConn is a wrapper of somebody's, whose SetDeadline waits, for a lock perhaps.
type heldConn struct {
	net.Conn
	tcp     *net.TCPConn
	release chan struct{}
}

func (c *heldConn) NetConn() net.Conn { return c.tcp }

func (c *heldConn) SetDeadline(t time.Time) error {
	<-c.release
	return c.tcp.SetDeadline(t)
}

// To interrupt one connection holds up no other.
func testForeignSetDeadline(t *testing.T) {
	bare, peer := livenesstest.Pair(t, "tcp4")
	held := &heldConn{bare, bare.(*net.TCPConn), make(chan struct{})}
	l := lineOf(t, held, peer, &liveness.Config{ReadIdleTimeout: 100 * time.Millisecond})
	l.park()
	since := time.Now()
	other := newLine(t, &liveness.Config{ReadIdleTimeout: 300 * time.Millisecond})
	other.park()
	time.AfterFunc(2*time.Second, func() { close(held.release) })
	other.end(liveness.ErrPeerIdle, since, 300*time.Millisecond, idleWithin(300*time.Millisecond))
	<-held.release
	l.waitEnd()
	l.released("read", l.reader, liveness.ErrPeerIdle)
}

// A write that begins after a verdict fails, also if it comes before the deadline that
// ends those which wait.
func testWriteBeforeInterrupt(t *testing.T) {
	bare, peer := livenesstest.Pair(t, "tcp4")
	held := &heldConn{bare, bare.(*net.TCPConn), make(chan struct{})}
	l := lineOf(t, held, peer, &liveness.Config{ReadIdleTimeout: 100 * time.Millisecond})
	l.park() // or the clock stands still, where the kernel does not count
	l.waitEnd()
	writes := map[string]func() (int64, error){
		"Write":        func() (int64, error) { n, err := l.conn.Write([]byte("x")); return int64(n), err },
		"WriteBuffers": func() (int64, error) { return l.conn.WriteBuffers(&net.Buffers{[]byte("x")}) },
		"ReadFrom":     func() (int64, error) { return l.conn.ReadFrom(strings.NewReader("x")) },
	}
	for name, write := range writes {
		n, err := write()
		l.verdictError("write", err, liveness.ErrPeerIdle)
		if n != 0 {
			t.Errorf("%s wrote %d bytes", name, n)
		}
	}
	close(held.release)
	l.conn.Close()
	<-l.reader
	for name, write := range writes {
		if _, err := write(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

// Where probes of a closed window are further apart than the time-out, as on a kernel
// without TCP_RTO_MAX_MS, one of them may be lost.
func testFewProbes(t *testing.T) {
	const timeout = 4 * time.Second
	l := newLine(t, &liveness.Config{PeerTimeout: timeout})
	if _, err := l.option(unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS); err == nil {
		setOptionOf(t, l.bare, unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, 120_000)
	}
	l.fill()
	l.waitStalled()
	// The fifth probe comes after 6.2 s, and the sixth 6.4 s later.
	l.wait("probed", func(s liveness.Status) bool { info := l.info(); return info.Backoff == 5 && info.Probes == 0 })
	fifth := time.Now().Add(-l.conn.Status().Silence)
	time.Sleep(time.Until(fifth.Add(5500 * time.Millisecond)))
	began := time.Now()
	mend := l.cut(bothDeaf)
	time.Sleep(time.Until(fifth.Add(7300 * time.Millisecond)))
	mend()
	if lasted := time.Since(began); lasted >= timeout/2 {
		t.Skipf("the machine was too busy: the outage lasted %v", lasted)
	}
	time.Sleep(time.Second)
	l.lives()
}

// A window that closes on data in flight is probed by retransmitting these. The
// kernel's patience with that is two TCP_RTO_MAX_MS, of which the library sets one.
func testWindowClosedInFlight(t *testing.T) {
	const timeout = 5 * time.Second
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, d := range directions {
			run(string(d), func(t *testing.T) {
				var l *line
				for attempt := 0; ; attempt++ {
					if attempt == 20 {
						t.Skip("no window closed on data in flight")
					}
					conn, peer := livenesstest.Pair(t, "tcp4")
					// Small segments may fill the buffer of the peer before they fill its window.
					peer.NetConn().(*net.TCPConn).SetReadBuffer(16 << 10)
					l = lineOf(t, conn, peer, &liveness.Config{PeerTimeout: timeout})
					l.conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
					for err := error(nil); err == nil; {
						_, err = l.conn.Write([]byte("x"))
					}
					l.conn.SetWriteDeadline(time.Time{})
					if info := l.info(); info.Unacked > 0 && info.Snd_wnd == 0 {
						break
					}
					l.conn.Close()
				}
				// Into the state in which retransmissions are as far apart as they get.
				time.Sleep(timeout * 3 / 2)
				l.wait("just asked", func(s liveness.Status) bool { i := l.info(); return i.Last_data_sent < 50 && i.Last_ack_recv < 50 })
				time.Sleep(time.Duration(l.info().Rto)*time.Microsecond - 200*time.Millisecond) // and about to be asked again
				began := time.Now()
				mend := l.cut(d)
				time.Sleep(timeout/2 - 200*time.Millisecond)
				mend()
				if lasted := time.Since(began); lasted >= timeout/2 {
					t.Skipf("the machine was too busy: the outage lasted %v", lasted)
				}
				l.wait("answered", func(s liveness.Status) bool { return s.Silence < time.Second })
				l.lives()
				since := time.Now()
				l.cut(d)
				l.end(liveness.ErrPeerLost, since, timeout/2, l.conn.Status().DetectWithin)
			})
		}
	})
}

// Without PeerTimeout a window that has been closed for long is probed as rarely as the
// kernel does, which gives up last of all.
func testDetectWithinClosedWindow(t *testing.T) {
	onlyLong(t, 42*time.Second)
	liveness.NeedsTCPInfo(t)
	l := bareLine(t, func(t *testing.T, conn *net.TCPConn) {
		setOptionOf(t, conn, unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, 2500)
	}, &liveness.Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 1}})
	l.fill()
	l.waitStalled()
	within := l.conn.Status().DetectWithin
	l.wait("backed off, and just answered", func(s liveness.Status) bool { return l.info().Backoff >= 2 && s.Silence < 20*time.Millisecond })
	since := time.Now()
	l.cut(bothDeaf)
	l.end(liveness.ErrPeerLost, since, 0, within)
}

// A Conn above TLS, whose Read writes: the handshake.
func testLostAboveTLS(t *testing.T) {
	liveness.NeedsTCPInfo(t)
	const timeout = 4 * time.Second
	server, client, err := livenesstest.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	conn, peer := livenesstest.Pair(t, "tcp4")
	l := lineOf(t, tls.Server(conn, server), peer, &liveness.Config{PeerTimeout: timeout})
	l.bare = conn.(*net.TCPConn)
	go tls.Client(peer, client).Handshake()
	l.wait("greeted", func(s liveness.Status) bool { return s.Unread > 0 })
	l.cut(bothDeaf)
	since := time.Now()
	l.park()
	l.end(liveness.ErrPeerLost, since, timeout/2, flightLoad.within(timeout))
}

// Probes that are unanswered when a connection is wrapped count for nothing, at first.
func testWrapInOutage(t *testing.T) {
	liveness.NeedsTCPInfo(t)
	const timeout = 12 * time.Second // 3/2/4
	conn, peer := livenesstest.Pair(t, "tcp4")
	keepAliveOf(1, 1, 100)(t, conn.(*net.TCPConn))
	mend, err := livenesstest.Cut(conn, peer)
	if err != nil {
		t.Skip(err)
	}
	began := time.Now()
	time.Sleep(4500 * time.Millisecond)
	l := lineOf(t, conn, peer, &liveness.Config{PeerTimeout: timeout})
	if s := l.conn.Status(); s.Probes < 4 || s.DetectWithin > timeout+timeout/4+time.Second {
		t.Errorf("%+v", s)
	}
	time.Sleep(time.Until(began.Add(timeout/2 - 100*time.Millisecond)))
	l.lives()
	mend()
	l.wait("heard", func(s liveness.Status) bool { return s.Probes == 0 })
	time.Sleep(time.Until(l.wrapped.Add(timeout + time.Second)))
	if count, _ := l.option(unix.IPPROTO_TCP, unix.TCP_KEEPCNT); count != 4 {
		t.Errorf("TCP_KEEPCNT is %d", count)
	}
}

// Who asks the clock for what is past does not make it late, which would take the
// evidence of everybody for old.
func testBesideLateWakes(t *testing.T) {
	conn, _ := livenesstest.Pair(t, "unix")
	c, err := liveness.Wrap(conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var calls atomic.Int32
	c.OnSilence(100*time.Millisecond, func() { calls.Add(1) })
	reader := make(chan struct{})
	go func() { // with short deadlines, each of which ends a Read that waited for nothing
		defer close(reader)
		for c.Err() == nil {
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			c.Read(make([]byte, 1))
		}
	}()
	time.Sleep(2 * time.Second)
	const timeout = time.Second
	l := newLine(t, &liveness.Config{ReadIdleTimeout: timeout})
	l.parkUncounted()
	l.end(liveness.ErrPeerIdle, l.wrapped, timeout, idleWithin(timeout))
	if n := calls.Load(); n != 1 {
		t.Errorf("OnSilence was called %d times in one silence", n)
	}
	c.Close()
	<-reader
}

// What is on offer is kept: a peer that vanishes is reported within what
// DetectWithin said before.
func testDetectWithin(t *testing.T) {
	keepAlive := func(idle, interval time.Duration, count int) net.KeepAliveConfig {
		return net.KeepAliveConfig{Enable: true, Idle: idle * time.Second, Interval: interval * time.Second, Count: count}
	}
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for name, c := range map[string]struct {
			cfg         liveness.Config
			userTimeout int // in milliseconds
			loads       []load
		}{
			"PeerTimeout":                     {liveness.Config{PeerTimeout: 4 * time.Second}, 0, loads},
			"PeerTimeout, user timeout":       {liveness.Config{PeerTimeout: 4 * time.Second}, 3000, loads},
			"PeerTimeout, longer keep-alive":  {liveness.Config{PeerTimeout: 4 * time.Second, KeepAlive: keepAlive(4, 1, 3)}, 0, loads},
			"PeerTimeout, shorter keep-alive": {liveness.Config{PeerTimeout: 6 * time.Second, KeepAlive: keepAlive(1, 1, 2)}, 0, loads},
			"keep-alive":                      {liveness.Config{KeepAlive: keepAlive(1, 1, 3)}, 0, loads[:1]},
			"keep-alive, user timeout":        {liveness.Config{KeepAlive: keepAlive(1, 1, 9)}, 2500, loads},
			"longer keep-alive, user timeout": {liveness.Config{KeepAlive: keepAlive(3, 2, 9)}, 1000, loads},
		} {
			for _, what := range c.loads {
				run(name+"/"+string(what), func(t *testing.T) {
					liveness.NeedsTCPInfo(t)
					l := bareLine(t, func(t *testing.T, conn *net.TCPConn) {
						setOptionOf(t, conn, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, c.userTimeout)
					}, &c.cfg)
					within := l.conn.Status().DetectWithin
					if within == 0 || within > 20*time.Second && what != idleLoad {
						t.Errorf("DetectWithin is %v", within)
					}
					since, _ := l.vanish(what, bothDeaf)
					l.end(liveness.ErrPeerLost, since, 0, within)
				})
			}
		}
	})
}

// suspendedVariable is where a process that is to be suspended finds its peer.
const suspendedVariable = "LIVENESS_TEST_SUSPENDED"

// A process that was suspended for longer than all its time-outs does not take its
// peers for gone when it goes on.
func TestSuspended(t *testing.T) {
	const timeout = 4 * time.Second
	if address := os.Getenv(suspendedVariable); address != "" {
		suspended(t, address, timeout)
		return
	}
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(struct{ io.Writer }{conn}, conn)
			}()
		}
	}()
	liveness.NeedsProcesses(t)
	executable, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(executable, "-test.run=^TestSuspended$", "-test.v", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), suspendedVariable+"="+listener.Addr().String())
	var out, complaints bytes.Buffer // the second is exec's until Wait has returned
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), "ready") {
		out.Write(append(lines.Bytes(), '\n'))
	}
	time.Sleep(time.Second)
	for range 2 {
		cmd.Process.Signal(syscall.SIGSTOP)
		time.Sleep(timeout + time.Second)
		cmd.Process.Signal(syscall.SIGCONT)
		time.Sleep(1500 * time.Millisecond)
	}
	for lines.Scan() {
		out.Write(append(lines.Bytes(), '\n'))
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s%s", err, out.Bytes(), complaints.Bytes())
	}
}

// suspended has connections of all kinds, to a peer that echoes, and fails if one
// of them ends. It lasts longer than it is suspended.
func suspended(t *testing.T, address string, timeout time.Duration) {
	var lost atomic.Int32
	cfg := &liveness.Config{PeerTimeout: timeout, StallTimeout: timeout / 2, ReadIdleTimeout: timeout / 2, OnDisconnect: func(_ *liveness.Conn, err error) {
		if !errors.Is(err, net.ErrClosed) {
			lost.Add(1)
			fmt.Println("ended:", err)
		}
	}}
	var conns []*liveness.Conn
	for i := range 60 {
		bare, err := net.Dial("tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		defer bare.Close()
		c, err := liveness.Wrap(bare, cfg)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		go func() {
			b := make([]byte, 1000)
			for {
				if _, err := c.Read(b); err != nil {
					return
				}
			}
		}()
		if i%2 == 0 {
			// Asks when nothing comes.
			c.OnSilence(timeout/8, func() { c.Write([]byte("ping")) })
			continue
		}
		go func() {
			for {
				if _, err := c.Write(make([]byte, 100)); err != nil {
					return
				}
				time.Sleep(timeout / 16)
			}
		}()
	}
	fmt.Println("ready")
	time.Sleep(2*(timeout+2500*time.Millisecond) + time.Second)
	if n := lost.Load(); n > 0 {
		t.Errorf("%d of %d connections ended", n, len(conns))
	}
}
