package liveness_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/poller"
	"github.com/go-liveness/liveness/livenesstest"
)

// The storm: workers open, wrap, probe, end and close connections as fast as the
// kernel gives their descriptors to others, and go on calling the methods of dead
// ones. Each end must be told once, with a reason that is right for it, and nobody
// else's. It lasts two seconds, or as long as LIVENESS_STORM says.
func TestStorm(t *testing.T) {
	if p, err := poller.New(); err != nil {
		t.Skip(err)
	} else {
		p.Close()
	}
	length := 2 * time.Second
	if s := os.Getenv("LIVENESS_STORM"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal("LIVENESS_STORM: ", err)
		}
	} else if testing.Short() {
		length /= 4
	}
	dir, err := os.MkdirTemp("", "storm") // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)

	seed := rand.Uint64()
	s := &storm{t: t, end: time.Now().Add(length)}
	s.left.Store(int64(length.Seconds() * 10_000)) // at most so many connections
	var workers, collector sync.WaitGroup
	stop := make(chan struct{})
	collector.Go(func() { // what is forgotten is freed
		for tick := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-tick.C:
				runtime.GC()
			case <-stop:
				tick.Stop()
				return
			}
		}
	})
	for i := range 8 {
		w, err := s.newWorker(rand.New(rand.NewPCG(seed, uint64(i))), dir, i)
		if err != nil {
			t.Fatal(err)
		}
		workers.Go(w.run)
	}
	workers.Wait()
	close(stop)
	collector.Wait()

	t.Logf("seed %#x: %d connections, %d of them with a descriptor used before, %d late calls",
		seed, s.opened.Load(), s.reused.Load(), s.late.Load())
	for i, way := range stormWays {
		t.Logf("%6d %s", s.ways[i].Load(), way.name)
		if n := s.ways[i].Load(); n == 0 && length >= time.Second && !t.Failed() {
			t.Errorf("%s was never tried", way.name)
		}
	}
	if s.reused.Load() == 0 && !t.Failed() {
		t.Error("no descriptor was used twice")
	}
}

const stormPatience = 20 * time.Second

type storm struct {
	t      *testing.T
	end    time.Time
	left   atomic.Int64 // connections that may still be opened
	ids    atomic.Uint64
	opened atomic.Int64
	reused atomic.Int64
	late   atomic.Int64
	ways   [32]atomic.Int64
	fds    sync.Map // descriptors seen
}

// over reports whether the storm has passed. A failure ends it too: what follows
// is seldom worth reading.
func (s *storm) over() bool {
	return s.t.Failed() || s.left.Load() <= 0 || !time.Now().Before(s.end)
}

// A stormLife is one connection, and what is known of it.
type stormLife struct {
	storm *storm
	id    uint64
	way   string   // how it ended
	wants []error  // the reasons that are right for that; empty while it lives
	notes []string // what was done to it

	conn   *liveness.Conn // nil once it is forgotten
	bare   net.Conn
	peer   *livenesstest.Peer
	allow  bool
	closed bool // by us

	told     atomic.Int32 // calls of the OnDisconnect in its Config
	tellings chan error   // what they were told
	extra    int32        // further registrations
	extras   atomic.Int32 // calls of those
	unwanted atomic.Int32 // calls of what was stopped
	stops    []func() bool
	ctx      context.Context
	first    error // Err when the end was told
}

func (l *stormLife) note(format string, args ...any) {
	if l.notes = append(l.notes, fmt.Sprintf(format, args...)); len(l.notes) > 30 {
		l.notes = slices.Delete(l.notes, 0, 1)
	}
}

func (l *stormLife) fail(format string, args ...any) {
	l.storm.t.Errorf("connection %d (%s, AllowHalfClose %t; %s): %s",
		l.id, l.way, l.allow, strings.Join(l.notes, "; "), fmt.Sprintf(format, args...))
}

// A stormWorker does one thing after the other, to its own connections. All
// workers share the descriptors.
type stormWorker struct {
	*storm
	rng       *rand.Rand
	tcp       *net.TCPListener
	unix      *net.UnixListener
	living    []*stormLife
	dead      []*stormLife // reported; some closed, some not
	forgotten []*stormLife
}

func (s *storm) newWorker(rng *rand.Rand, dir string, n int) (*stormWorker, error) {
	w := &stormWorker{storm: s, rng: rng}
	var err error
	if w.tcp, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		return nil, err
	}
	w.unix, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, fmt.Sprint(n))})
	if err != nil && runtime.GOOS == "windows" { // has AF_UNIX in some versions
		if n == 0 {
			s.t.Logf("without AF_UNIX: %v", err)
		}
		w.unix, err = nil, nil
	}
	return w, err
}

func (w *stormWorker) run() {
	defer w.tcp.Close()
	if w.unix != nil {
		defer w.unix.Close()
	}
	for !w.over() {
		switch n := w.rng.IntN(10); {
		case n < 3 && len(w.living) < 8:
			w.open()
		case n < 5 && len(w.living) > 0:
			w.probe(w.living[w.rng.IntN(len(w.living))])
		case n < 8 && len(w.living) > 0:
			w.finish(w.rng.IntN(len(w.living)), w.rng.IntN(len(stormWays)))
		case len(w.dead) > 0:
			w.lateCall(w.dead[w.rng.IntN(len(w.dead))])
		}
	}
	for _, l := range w.living {
		w.probe(l) // nobody took it for another
		l.way, l.wants = "the end of the storm", []error{net.ErrClosed}
		w.close(l)
		w.expectTold(l)
		w.bury(l)
	}
	for _, l := range w.dead {
		w.bury(l)
	}
	for _, l := range w.forgotten {
		w.expectFreed(l)
	}
}

// open makes a connection and wraps it.
func (w *stormWorker) open() {
	l := &stormLife{storm: w.storm, id: w.ids.Add(1), tellings: make(chan error, 16), allow: w.rng.IntN(3) == 0}
	var listener net.Listener = w.tcp
	dialer := net.Dialer{KeepAlive: -1}
	if w.rng.IntN(4) == 0 && w.unix != nil {
		listener = w.unix
	} else if runtime.GOOS == "linux" {
		// All of 127.0.0.0/8 is ours, so the ports do not run out.
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, byte(w.rng.IntN(250)), byte(w.rng.IntN(250)), byte(1+w.rng.IntN(250)))}
	}
	peer, err := dialer.Dial(listener.Addr().Network(), listener.Addr().String())
	if err != nil {
		w.t.Errorf("dial: %v", err)
		return
	}
	l.peer = livenesstest.NewPeer(peer)
	cfg := &liveness.Config{AllowHalfClose: l.allow, OnDisconnect: func(c *liveness.Conn, err error) {
		if c.Err() != err {
			l.fail("told %v while Err is %v", err, c.Err())
		}
		l.told.Add(1)
		l.tellings <- err
	}}
	// Accepted and wrapped in one, or one after the other.
	if w.rng.IntN(2) == 0 {
		listener = liveness.NewListener(listener, cfg)
	}
	conn, err := listener.Accept()
	if err != nil {
		w.t.Errorf("accept: %v", err)
		return
	}
	c, ok := conn.(*liveness.Conn)
	if !ok {
		if tcp, ok := conn.(*net.TCPConn); ok && w.rng.IntN(4) == 0 {
			conn = foreignConn{tcp}
		}
		if c, err = liveness.Wrap(conn, cfg); err != nil {
			w.t.Errorf("wrap: %v", err)
			return
		}
	}
	l.conn, l.bare = c, c.NetConn()
	w.opened.Add(1)
	w.left.Add(-1)
	raw, err := l.bare.(syscall.Conn).SyscallConn()
	if err != nil {
		w.t.Errorf("raw: %v", err)
		return
	}
	raw.Control(func(fd uintptr) {
		if _, seen := w.fds.LoadOrStore(fd, true); seen {
			w.reused.Add(1)
		}
	})
	w.register(l)
	w.living = append(w.living, l)
}

// A foreignConn is not of package net, so its methods are not called where others
// would have to wait for them.
type foreignConn struct{ *net.TCPConn }

// register asks to be told in the other ways that there are.
func (w *stormWorker) register(l *stormLife) {
	for range w.rng.IntN(3) {
		l.stops = append(l.stops, l.conn.OnDisconnect(func(error) { l.extras.Add(1) }))
		l.extra++
	}
	for range w.rng.IntN(2) {
		stop := l.conn.OnDisconnect(func(error) { l.unwanted.Add(1) })
		if !stop() {
			l.fail("stop was too late")
		}
		if stop() {
			l.fail("stopped twice")
		}
	}
	if w.rng.IntN(2) == 0 {
		l.conn.Done()
	}
	if w.rng.IntN(2) == 0 {
		l.ctx, _ = l.conn.Context(context.Background()) //nolint:govet // the end cancels it
	}
	_, cancel := l.conn.Context(context.Background())
	cancel()
}

// probe makes sure that a living connection is taken for one, and that its bytes
// are its own.
func (w *stormWorker) probe(l *stormLife) {
	l.note("probe")
	if l.told.Load() != 0 || l.extras.Load() != 0 {
		l.fail("told while alive: %v", l.conn.Err())
	}
	switch w.rng.IntN(6) {
	case 0:
		if !l.conn.Alive() {
			l.fail("Alive is false: %v", l.conn.Err())
		}
	case 1:
		if status := l.conn.Status(); status.State != liveness.Connected || status.Err != nil {
			l.fail("Status is %+v", status)
		}
	case 2:
		if err := liveness.Check(l.bare); err != nil {
			l.fail("Check of the bare connection: %v", err)
		}
	case 3:
		if err := liveness.Check(l.conn); err != nil {
			l.fail("Check: %v", err)
		}
	case 4:
		select {
		case <-l.conn.Done():
			l.fail("Done")
		default:
		}
	case 5:
		id := binary.BigEndian.AppendUint64(nil, l.id)
		for _, way := range [][2]net.Conn{{l.peer, l.conn}, {l.conn, l.peer}} {
			got := make([]byte, len(id))
			if _, err := way[0].Write(id); err != nil {
				l.fail("Write: %v", err)
			} else if _, err := io.ReadFull(way[1], got); err != nil {
				l.fail("Read: %v", err)
			} else if n := binary.BigEndian.Uint64(got); n != l.id {
				l.fail("read what belongs to connection %d", n)
			}
		}
	}
	if err := l.conn.Err(); err != nil {
		l.fail("Err is %v", err)
	}
}

// A stormWay is a way to end. It returns the reasons that are right; none means
// that the end is not to be waited for.
type stormWay struct {
	name string
	end  func(*stormWorker, *stormLife) []error
}

var stormWays = []stormWay{
	{"FIN", func(w *stormWorker, l *stormLife) []error {
		if !l.isUnix() && w.rng.IntN(4) == 0 { // it leaves a TIME-WAIT behind
			l.peer.Close()
		} else {
			l.peer.CloseWrite()
		}
		return l.afterFIN(w)
	}},
	{"FIN behind data", func(w *stormWorker, l *stormLife) []error {
		if wine() {
			return nil // nobody is told until they are read
		}
		l.peer.Write(make([]byte, 1+w.rng.IntN(3000)))
		l.peer.CloseWrite()
		return l.afterFIN(w)
	}},
	{"RST", func(w *stormWorker, l *stormLife) []error {
		l.reset()
		return []error{liveness.ErrPeerReset}
	}},
	{"RST behind data", func(w *stormWorker, l *stormLife) []error {
		l.peer.Write(make([]byte, 1+w.rng.IntN(9000)))
		l.reset()
		return []error{liveness.ErrPeerReset}
	}},
	{"RST behind a FIN", func(w *stormWorker, l *stormLife) []error {
		if l.isUnix() {
			return nil
		}
		l.peer.CloseWrite()
		l.reset()
		switch {
		case l.allow:
			return []error{liveness.ErrPeerReset}
		case !liveness.RemembersFIN():
			return []error{liveness.ErrPeerClosed, liveness.ErrPeerReset} // one look may see both
		}
		return []error{liveness.ErrPeerClosed}
	}},
	{"our Close", func(w *stormWorker, l *stormLife) []error {
		w.close(l)
		return []error{net.ErrClosed}
	}},
	{"our Close, twice at once", func(w *stormWorker, l *stormLife) []error {
		w.closeDuring(l, func() { l.conn.Close() })
		return []error{net.ErrClosed}
	}},
	{"our Close and a FIN", func(w *stormWorker, l *stormLife) []error {
		w.closeDuring(l, func() { l.peer.CloseWrite() })
		return []error{net.ErrClosed, liveness.ErrPeerClosed}
	}},
	{"our Close and a RST", func(w *stormWorker, l *stormLife) []error {
		w.closeDuring(l, l.reset)
		return []error{net.ErrClosed, liveness.ErrPeerReset}
	}},
	{"our Close with a duplicate", func(w *stormWorker, l *stormLife) []error {
		if runtime.GOOS == "windows" {
			return nil // package net makes none there
		}
		file, err := l.bare.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			l.fail("File: %v", err)
			return nil
		}
		w.close(l)
		l.peer.CloseWrite() // the duplicate hears it, and nobody must be told
		file.Close()
		return []error{net.ErrClosed}
	}},
	{"Close behind our back", func(w *stormWorker, l *stormLife) []error {
		l.bare.Close()
		l.closed = true
		w.open() // often with the same descriptor
		if l.conn.Alive() {
			l.fail("Alive after the inner Close")
		}
		return []error{net.ErrClosed}
	}},
	{"forgotten", func(w *stormWorker, l *stormLife) []error {
		// Whatever was asked of it keeps it.
		if l.conn.Close() == nil {
			l.closed = true
		}
		fresh := &stormLife{storm: w.storm, id: w.ids.Add(1), way: "forgotten"}
		peer, conn, err := w.pair()
		if err != nil {
			l.fail("pair: %v", err)
			return nil
		}
		c, err := liveness.Wrap(conn, nil)
		if err != nil {
			l.fail("wrap: %v", err)
			return nil
		}
		if !c.Alive() {
			l.fail("Alive: %v", c.Err())
		}
		fresh.peer = peer
		w.forgotten = append(w.forgotten, fresh)
		if len(w.forgotten) > 8 {
			w.expectFreed(w.forgotten[0])
			w.forgotten = slices.Delete(w.forgotten, 0, 1)
		}
		return []error{net.ErrClosed}
	}},
	{"forgotten, but for a callback", func(w *stormWorker, l *stormLife) []error {
		l.conn, l.bare, l.ctx, l.stops = nil, nil, nil, nil
		if w.rng.IntN(10) == 0 {
			runtime.GC()
		}
		l.reset()
		return []error{liveness.ErrPeerReset}
	}},
}

// afterFIN finishes what a FIN is half of, if it is.
func (l *stormLife) afterFIN(w *stormWorker) []error {
	if !l.allow {
		return []error{liveness.ErrPeerClosed}
	}
	for begin := time.Now(); l.conn.Status().State != liveness.HalfClosed; runtime.Gosched() {
		if err := l.conn.Err(); err != nil || time.Since(begin) > stormPatience {
			l.fail("Err is %v; want half-closed", err)
			return nil
		}
	}
	if l.told.Load() != 0 {
		l.fail("told of half an end: %v", l.conn.Err())
	}
	if err := l.conn.CloseWrite(); err != nil {
		l.fail("CloseWrite: %v", err)
	}
	return []error{liveness.ErrPeerClosed}
}

func (l *stormLife) isUnix() bool { return l.peer.LocalAddr().Network() == "unix" }

func (l *stormLife) reset() {
	if l.isUnix() {
		// An AF_UNIX socket is reset when its peer leaves something unread.
		if l.conn == nil {
			l.peer.Close()
			l.wants = []error{liveness.ErrPeerClosed}
			return
		}
		if _, err := l.bare.Write([]byte{0}); err != nil {
			return // closed by now
		}
	}
	if err := l.peer.Reset(); err != nil {
		l.fail("Reset: %v", err)
	}
}

// pair is a connection that nothing else is known of.
func (w *stormWorker) pair() (*livenesstest.Peer, net.Conn, error) {
	peer, err := livenesstest.Dial("tcp4", w.tcp.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	conn, err := w.tcp.Accept()
	return peer, conn, err
}

// finish ends the i-th living connection, and makes sure that it is told.
func (w *stormWorker) finish(i, n int) {
	l := w.living[i]
	w.living = slices.Delete(w.living, i, i+1)
	w.ways[n].Add(1)
	l.way = stormWays[n].name
	company := w.company(l)
	wants := stormWays[n].end(w, l)
	if wants == nil {
		w.close(l)
		wants = []error{net.ErrClosed}
	}
	if l.wants == nil {
		l.wants = wants
	}
	w.expectTold(l)
	company()
	w.dead = append(w.dead, l)
	if len(w.dead) > 16 {
		n := w.rng.IntN(len(w.dead))
		w.bury(w.dead[n])
		w.dead = slices.Delete(w.dead, n, n+1)
	}
}

// company has other goroutines use the connection while it ends. What it returns
// waits for them.
func (w *stormWorker) company(l *stormLife) (wait func()) {
	var group sync.WaitGroup
	c := l.conn
	if w.rng.IntN(2) == 0 || strings.HasPrefix(l.way, "forgotten") {
		return group.Wait
	}
	cut := l.way == "RST" || l.way == "RST behind data"
	// To Wine a reset is a FIN once a Read or a Write has taken its errno.
	forgets := wine() && strings.Contains(l.way, "RST")
	if w.rng.IntN(2) == 0 && !forgets {
		group.Go(func() { // a reader
			var from io.Reader = c
			if l.isUnix() || l.id%2 == 0 {
				from = struct{ io.Reader }{c} // by Read rather than WriteTo
			}
			_, err := io.Copy(io.Discard, from)
			if cut && err == nil {
				l.fail("a stream that was cut off was read to its end")
			}
		})
	}
	if w.rng.IntN(2) == 0 {
		group.Go(func() { // one that asks until the answer is no
			for c.Alive() {
				if liveness.Check(c) != nil && c.Err() == nil {
					l.fail("Check and Err differ")
				}
				runtime.Gosched()
			}
			if c.Err() == nil {
				l.fail("not Alive, and no Err")
			}
		})
	}
	if w.rng.IntN(2) == 0 {
		group.Go(func() { // one that registers and stops
			for ended := false; !ended; runtime.Gosched() {
				var called atomic.Bool
				ended = c.Err() != nil
				done := make(chan struct{})
				stop := c.OnDisconnect(func(err error) {
					if err != c.Err() {
						l.fail("told %v while Err is %v", err, c.Err())
					}
					if called.Swap(true) {
						l.fail("called twice")
					}
					close(done)
				})
				if stop() {
					if ended {
						l.fail("stopped after the end")
					}
					if called.Load() {
						l.fail("called and stopped")
					}
					continue
				}
				<-done
			}
		})
	}
	if w.rng.IntN(3) == 0 && !l.isUnix() && !l.allow && l.way != "FIN" && !forgets {
		group.Go(func() { // a writer: its error, too, must mislead nobody
			for {
				c.SetWriteDeadline(time.Now().Add(stormPatience))
				if _, err := c.Write([]byte{1}); err != nil {
					return
				}
				if c.Err() != nil {
					return
				}
				runtime.Gosched()
			}
		})
	}
	return group.Wait
}

func (w *stormWorker) close(l *stormLife) {
	l.note("close")
	if l.conn == nil {
		return
	}
	err := l.conn.Close()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		l.fail("Close: %v", err)
	}
	l.closed = true
}

// closeDuring closes while f runs.
func (w *stormWorker) closeDuring(l *stormLife, f func()) {
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	if w.rng.IntN(2) == 0 {
		runtime.Gosched()
	}
	w.close(l)
	<-done
}

// expectTold waits until the end has been told, with a reason that is right.
func (w *stormWorker) expectTold(l *stormLife) {
	select {
	case l.first = <-l.tellings:
	case <-time.After(stormPatience):
		l.fail("nobody was told")
		return
	}
	matches := 0
	for _, reason := range []error{net.ErrClosed, liveness.ErrPeerClosed, liveness.ErrPeerReset,
		liveness.ErrPeerLost, liveness.ErrPeerStalled, liveness.ErrPeerIdle} {
		if errors.Is(l.first, reason) {
			matches++
			if !slices.Contains(l.wants, reason) {
				l.fail("told %v; want one of %v", l.first, l.wants)
			}
		}
	}
	if matches != 1 {
		l.fail("told %v, which is %d reasons", l.first, matches)
	}
}

// lateCall calls a method of a dead connection, whose descriptor may be another's
// by now.
func (w *stormWorker) lateCall(l *stormLife) {
	w.late.Add(1)
	c := l.conn
	if c == nil {
		return
	}
	n := w.rng.IntN(12)
	l.note("late call %d", n)
	switch n {
	case 0, 1:
		w.close(l)
	case 2:
		if c.Alive() {
			l.fail("Alive after the end")
		}
	case 3:
		if status := c.Status(); status.State != liveness.Disconnected || status.Err != l.first {
			l.fail("Status is %+v after %v", status, l.first)
		}
	case 4:
		for _, stop := range l.stops {
			if stop() {
				l.fail("stopped after the end")
			}
		}
	case 5:
		told := make(chan error, 1)
		if stop := c.OnDisconnect(func(err error) { told <- err }); stop() {
			l.fail("stopped after the end")
		}
		if err := <-told; err != l.first {
			l.fail("told %v and then %v", l.first, err)
		}
	case 6:
		select {
		case <-c.Done():
		default:
			l.fail("not Done")
		}
	case 7:
		if ctx, cancel := c.Context(context.Background()); ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(stormPatience):
				l.fail("a context lives after the end")
			}
			if context.Cause(ctx) != l.first {
				l.fail("the cause is %v after %v", context.Cause(ctx), l.first)
			}
			cancel()
		}
	case 8:
		if err := liveness.Check(c); err != l.first {
			l.fail("Check: %v after %v", err, l.first)
		}
	case 9:
		c.SetDeadline(time.Unix(1, 0))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			l.fail("Read past a deadline")
		}
		if _, err := c.Write(make([]byte, 1)); err == nil {
			l.fail("Write past a deadline")
		}
	case 10:
		c.CloseWrite()
		c.CloseRead()
	case 11:
		l.bare.Close()
		l.closed = true
	}
	if c.Err() != l.first {
		l.fail("Err was %v and is %v", l.first, c.Err())
	}
}

// bury closes a dead connection for good, and counts.
func (w *stormWorker) bury(l *stormLife) {
	w.close(l)
	if l.peer.Reset() != nil { // leaves no TIME-WAIT
		l.peer.Close()
	}
	for begin := time.Now(); l.extras.Load() < l.extra && time.Since(begin) < stormPatience; {
		runtime.Gosched()
	}
	if told, extras, unwanted := l.told.Load(), l.extras.Load(), l.unwanted.Load(); told != 1 || extras != l.extra || unwanted != 0 {
		l.fail("told %d times, %d of %d others told, and %d that were stopped", told, extras, l.extra, unwanted)
	}
	if l.ctx != nil {
		select {
		case <-l.ctx.Done():
		case <-time.After(stormPatience):
			l.fail("its context lives")
		}
		if cause := context.Cause(l.ctx); cause != l.first {
			l.fail("the cause is %v after %v", cause, l.first)
		}
	}
	if l.conn != nil && l.conn.Err() != l.first {
		l.fail("Err was %v and is %v", l.first, l.conn.Err())
	}
}

// expectFreed waits until the collector has closed a connection that nobody has
// any more: its peer reads the end.
func (w *stormWorker) expectFreed(l *stormLife) {
	l.peer.SetReadDeadline(time.Now().Add(stormPatience))
	if _, err := l.peer.Read(make([]byte, 1)); err != io.EOF {
		l.fail("the peer of a forgotten connection reads %v", err)
	}
	l.peer.Reset()
}

// A pooledConn goes back to its pool when it is closed.
type pooledConn struct{ *net.TCPConn }

func (pooledConn) Close() error { return nil }

// The Close of a Conn whose connection lives on, called late and again, does not
// end the watch of the next Conn around the same connection.
func TestLateCloseOfAnotherConn(t *testing.T) {
	bare, peer := livenesstest.Pair(t, "tcp4")
	conn := pooledConn{bare.(*net.TCPConn)}
	first, err := liveness.Wrap(conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	second, err := liveness.Wrap(conn, nil)
	if err != nil {
		t.Fatalf("Wrap of a connection that came back: %v", err)
	}
	first.Close()
	peer.Reset()
	select {
	case <-second.Done():
	case <-time.After(stormPatience):
		t.Fatal("nobody was told")
	}
	if err := second.Err(); !errors.Is(err, liveness.ErrPeerReset) {
		t.Errorf("Err: %v", err)
	}
	if err := first.Err(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Err of the first: %v", err)
	}
	second.Close()
	first.Close()
}

// A Conn whose connection was closed behind its back, and that somebody still
// has, is not taken for the owner of a descriptor that another connection has got
// since.
func TestDescriptorOfAStaleConn(t *testing.T) {
	descriptor := func(conn net.Conn) (fd uintptr) {
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(n uintptr) { fd = n })
		return fd
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var peers [2]*livenesstest.Peer
	for i := range peers {
		if peers[i], err = livenesstest.Dial("tcp4", listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer peers[i].Close()
	}
	bare, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	stale, err := liveness.Wrap(bare, nil)
	if err != nil {
		t.Fatal(err)
	}
	was := descriptor(bare)
	bare.Close()
	fresh, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if descriptor(fresh) != was {
		t.Skip("the descriptor went to somebody else")
	}
	// A Conn that is forgotten leaves its connection to the next.
	if _, err := liveness.Wrap(fresh, nil); err != nil {
		t.Fatal(err)
	}
	var c *liveness.Conn
	for begin := time.Now(); ; runtime.GC() {
		if c, err = liveness.Wrap(fresh, nil); err == nil {
			break
		}
		if time.Since(begin) > 2*time.Second {
			t.Fatalf("Wrap after the first Conn was forgotten: %v", err)
		}
	}
	peers[1].Close()
	select {
	case <-c.Done():
	case <-time.After(stormPatience):
		t.Fatal("nobody was told")
	}
	stale.Close()
}
