package liveness

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/poller"
	"github.com/go-liveness/liveness/livenesstest"
)

// A liar takes what it is to watch and tells nothing of it, as some emulators do, but
// of AF_UNIX sockets that have ended already, as those do that pass the self-test of the
// poller. What it does tell is up to the test.
type liar struct {
	tell   chan []uint64
	ended  chan uint64 // what has ended already
	held   atomic.Bool // that is told by the test, too
	closed chan struct{}
	once   sync.Once
}

func newLiar() *liar {
	return &liar{tell: make(chan []uint64), ended: make(chan uint64, 10), closed: make(chan struct{})}
}

func (l *liar) Add(fd uintptr, id uint64) error {
	family, err := identify(fd)
	if events, _ := pollNow(fd); err == nil && family == familyStream && events&unix.POLLHUP != 0 {
		l.ended <- id
		if !l.held.Load() {
			go func() {
				select {
				case l.tell <- []uint64{<-l.ended}:
				case <-l.closed:
				}
			}()
		}
	}
	return nil
}
func (*liar) Replace(uintptr, uint64) error { return nil }
func (*liar) Remove(uintptr, uint64)        {}

func (l *liar) Wait() ([]uint64, error) {
	select {
	case ids := <-l.tell:
		return ids, nil
	case <-l.closed:
		return nil, os.ErrClosed
	}
}

func (l *liar) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// believe makes w the watcher of the process, which is the test's alone.
func believe(t *testing.T, w watcher) {
	t.Helper()
	theHub.mu.Lock()
	defer theHub.mu.Unlock()
	if theHub.poller != nil {
		t.Fatal("the hub runs")
	}
	theHub.poller, theHub.tokens = w, make(map[uint64]*token)
	go theHub.run(w)
}

func sweeps() bool {
	theHub.mu.Lock()
	defer theHub.mu.Unlock()
	return theHub.sweeps
}

// doubting reports whether an event is waited for.
func doubting() bool {
	theHub.mu.Lock()
	defer theHub.mu.Unlock()
	return len(theHub.doubts) > 0
}

func wrapPair(t *testing.T, network string) (*Conn, *livenesstest.Peer) {
	t.Helper()
	bare, peer := livenesstest.Pair(t, network)
	c, err := Wrap(bare, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, peer
}

// readEnd reads what must be the end of the connection.
func readEnd(t *testing.T, c *Conn, want error) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, want) {
		t.Errorf("Read: %v; want %v", err, want)
	}
}

// doneWithin waits for the end of c.
func doneWithin(t *testing.T, c *Conn, limit time.Duration, want error) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(limit):
		t.Fatalf("nobody was told in %v", limit)
	}
	if err := c.Err(); !errors.Is(err, want) {
		t.Errorf("Err: %v; want %v", err, want)
	}
}

// Where the system does not tell, one end that a Read shows is enough: a second
// later everything is looked at periodically, what was watched before too.
func TestUntoldEndBringsTheSweep(t *testing.T) {
	if !alone(t) {
		return
	}
	NeedsTCPState(t)
	for _, test := range []struct {
		name string
		end  func(*livenesstest.Peer) error
		want error
	}{
		{"FIN", (*livenesstest.Peer).Close, io.EOF},
		{"RST", (*livenesstest.Peer).Reset, errReset},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLiar()
			believe(t, l)
			defer func() {
				theHub.mu.Lock()
				theHub.sweeps = false // for the next
				theHub.mu.Unlock()
			}()
			var before []*Conn
			for _, network := range []string{"tcp4", "tcp6", "unix"} {
				c, peer := wrapPair(t, network)
				before = append(before, c)
				if network == "unix" {
					peer.Close()
				} else {
					peer.Reset()
				}
			}
			reader, peer := wrapPair(t, "tcp4")
			if err := test.end(peer); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			readEnd(t, reader, test.want)
			if reader.Err() == nil {
				t.Error("the Read showed no end")
			}
			for i, c := range before {
				want := ErrPeerReset
				if i == 2 {
					want = ErrPeerClosed
				}
				doneWithin(t, c, 10*time.Second, want)
			}
			if took := time.Since(begin); took < announceTime {
				t.Errorf("it took %v; the system has %v", took, announceTime)
			} else {
				t.Logf("it took %v", took)
			}
			c, peer := wrapPair(t, "tcp4")
			peer.Reset()
			doneWithin(t, c, 10*time.Second, ErrPeerReset)

			// For good: the next hub does not ask the system again.
			for _, c := range append(before, reader, c) {
				c.Close()
			}
			for running := true; running; running, _ = hubRuns() {
				time.Sleep(10 * time.Millisecond)
			}
			select {
			case <-l.closed:
			default:
				t.Error("what is not believed was not closed")
			}
			c, peer = wrapPair(t, "tcp4")
			if _, which := hubRuns(); !isSweep(which) {
				t.Errorf("the next hub has a %T", which)
			}
			peer.Reset()
			doneWithin(t, c, 10*time.Second, ErrPeerReset)
			c.Close()
			for running := true; running; running, _ = hubRuns() {
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

func isSweep(w any) bool {
	_, ok := w.(*poller.Sweep)
	return ok
}

// What is no proof: an event that is late because the hub had others to deal with, a
// connection that was closed before its event could come, and ends that are none of
// the peer's.
func TestNoDoubt(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLiar()
	believe(t, l)
	keeper, _ := wrapPair(t, "tcp4")
	defer keeper.Close()
	// over waits until nothing is waited for any more.
	over := func(what string) {
		t.Helper()
		for begin := time.Now(); doubting(); time.Sleep(10 * time.Millisecond) {
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("%s: an event is still waited for", what)
			}
		}
		if sweeps() {
			t.Fatalf("%s brought the sweep", what)
		}
	}

	// A connection that was closed before its event could come.
	c, peer := wrapPair(t, "tcp4")
	peer.Close()
	readEnd(t, c, io.EOF)
	if !doubting() {
		t.Error("nobody waits for an event")
	}
	c.Close()
	// Our own CloseRead, and our own deadline.
	c, _ = wrapPair(t, "tcp4")
	c.CloseRead()
	readEnd(t, c, io.EOF)
	c, _ = wrapPair(t, "tcp4")
	c.SetReadDeadline(time.Now())
	readEnd(t, c, os.ErrDeadlineExceeded)
	// AF_UNIX, which the self-test of the poller answers for.
	c, peer = wrapPair(t, "unix")
	peer.Close()
	readEnd(t, c, io.EOF)
	// An end that was told before the Read, and one that is told a little later.
	c, peer = wrapPair(t, "tcp4")
	peer.Close()
	l.tell <- []uint64{c.sock.watch.id}
	doneWithin(t, c, 10*time.Second, ErrPeerClosed)
	readEnd(t, c, io.EOF)
	c, peer = wrapPair(t, "tcp4")
	peer.Close()
	readEnd(t, c, io.EOF)
	l.tell <- []uint64{c.sock.watch.id}
	over("what is no proof")

	// One that was closed behind our back before its event could come.
	c, peer = wrapPair(t, "tcp4")
	peer.Close()
	readEnd(t, c, io.EOF)
	c.NetConn().Close()
	over("a connection that was closed behind our back")

	// The hub is told of the witness, and so of the event before it, as late as may be.
	l.held.Store(true)
	c, peer = wrapPair(t, "tcp4")
	peer.Close()
	readEnd(t, c, io.EOF)
	witness := <-l.ended
	time.Sleep(2 * announceTime)
	if sweeps() {
		t.Fatal("a hub that nobody ran brought the sweep")
	}
	l.tell <- []uint64{c.sock.watch.id, witness}
	over("an event that was late")
	theHub.mu.Lock()
	if theHub.witness != nil || theHub.tokens[witness] != nil {
		t.Error("the witness is still there")
	}
	theHub.mu.Unlock()
}

// A witness is told of by what the system has, behind what ended before it, and keeps
// no hub alive.
func TestWitness(t *testing.T) {
	if !alone(t) {
		return
	}
	c, _ := wrapPair(t, "tcp4")
	theHub.mu.Lock()
	err := theHub.callWitness()
	w := theHub.witness
	theHub.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		if running, _ := hubRuns(); !running {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the hub runs")
		}
	}
	if !w.token.told.Load() {
		t.Error("nobody was told of the witness")
	}
	if err := w.file.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the witness was left open: %v", err)
	}
}

// A system that tells is believed, however often a Read is first; and while none is,
// nothing waits for anything.
func TestEventsAreBelieved(t *testing.T) {
	if !alone(t) {
		return
	}
	var conns []*Conn
	var peers []*livenesstest.Peer
	for range 100 {
		c, peer := wrapPair(t, "tcp4")
		conns, peers = append(conns, c), append(peers, peer)
	}
	for i, c := range conns[:50] {
		peers[i].Reset()
		<-c.Done()
	}
	theHub.mu.Lock()
	if theHub.resolver != nil {
		t.Error("a timer was made, and no Read has shown an end")
	}
	theHub.mu.Unlock()
	var readers sync.WaitGroup
	for i, c := range conns[50:] {
		begun := make(chan struct{})
		readers.Go(func() {
			close(begun)
			readEnd(t, c, errReset)
		})
		<-begun
		peers[50+i].Reset()
	}
	readers.Wait()
	for begin := time.Now(); doubting() && time.Since(begin) < 10*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	if sweeps() {
		t.Error("the system is not believed")
	}
	if doubting() {
		t.Error("an event is still waited for")
	}
}

// A system that says so, or is found out by its poller, is swept from the beginning;
// another failure is one.
func TestSilentSystem(t *testing.T) {
	h := new(hub)
	failure := errors.New("no descriptors")
	if _, err := h.newWatcher(func() (watcher, error) { return nil, failure }); !errors.Is(err, failure) || h.sweeps {
		t.Errorf("%v, sweeps: %t", err, h.sweeps)
	}
	l := newLiar()
	if w, err := h.newWatcher(func() (watcher, error) { return l, nil }); w != watcher(l) || err != nil || h.sweeps {
		t.Errorf("%v, %v, sweeps: %t", w, err, h.sweeps)
	}
	for range 2 {
		w, err := h.newWatcher(func() (watcher, error) {
			if h.sweeps {
				t.Error("the system is asked again")
			}
			return nil, poller.ErrSilent
		})
		if err != nil || !isSweep(w) || !h.sweeps {
			t.Errorf("%T, %v, sweeps: %t", w, err, h.sweeps)
		}
	}
}

// Of several that have had the same descriptor, the sweep looks at the last.
func TestSweepOfSharedDescriptor(t *testing.T) {
	h := &hub{tokens: make(map[uint64]*token), poller: newLiar()}
	const each, descriptors = 100, 3 // the order of a map is another each time
	for id := range uint64(each * descriptors) {
		h.tokens[id+1] = &token{id: id + 1, fd: uintptr(id / each)}
	}
	h.mu.Lock()
	h.sweep()
	h.mu.Unlock()
	defer h.poller.Close()
	last := h.tokens[each*descriptors]
	for begin := time.Now(); !last.told.Load() && time.Since(begin) < 10*time.Second; {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(poller.Period / 5)
	for id, tk := range h.tokens {
		if told := tk.told.Load(); told != (id%each == 0) {
			t.Errorf("%d was looked at: %t", id, told)
		}
	}
}

// A blockedKernel is that of a connection whose methods block.
type blockedKernel struct {
	looks   chan struct{}
	release chan struct{}
}

func (k *blockedKernel) look(hint) sight {
	k.looks <- struct{}{}
	<-k.release
	return sight{outcome: open}
}

func (*blockedKernel) shut(bool, bool) {}

// The methods of a connection that is not package net's may block: a sweep does not
// start one goroutine after the other for it.
func TestSweepOfBlockedConn(t *testing.T) {
	k := &blockedKernel{looks: make(chan struct{}, 100), release: make(chan struct{})}
	c := &Conn{kernel: k}
	tk := newToken(c, struct{ *net.TCPConn }{})
	for range 10 {
		tk.notice(true)
	}
	<-k.looks
	time.Sleep(20 * time.Millisecond)
	if n := len(k.looks); n > 0 {
		t.Errorf("%d looks beside one that blocks", n)
	}
	close(k.release)
	for begin := time.Now(); tk.looking.Load() && time.Since(begin) < 10*time.Second; {
		time.Sleep(time.Millisecond)
	}
	tk.notice(true)
	select {
	case <-k.looks:
	case <-time.After(10 * time.Second):
		t.Error("no look after the one that blocked")
	}
}
