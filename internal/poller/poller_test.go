package poller

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// A watcher is a Poller with a goroutine in Wait, which hands on every event.
type watcher struct {
	*Poller
	t      *testing.T
	events chan Event
	ended  chan error // what Wait ended with; nil before start
}

// lastID names sockets across tests, so that a name of one never turns up in
// another.
var lastID atomic.Uint64

func newPoller(t *testing.T) *Poller {
	p, err := New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	must(t, err)
	return p
}

func newWatcher(t *testing.T) *watcher {
	w := newIdleWatcher(t)
	w.start()
	return w
}

// newIdleWatcher returns a watcher without that goroutine.
func newIdleWatcher(t *testing.T) *watcher {
	w := &watcher{Poller: newPoller(t), t: t, events: make(chan Event, 4096)}
	t.Cleanup(w.finish)
	return w
}

func (w *watcher) start() {
	w.ended = make(chan error, 1)
	go func() {
		for {
			events, err := w.Wait()
			if err != nil {
				w.ended <- err
				return
			}
			for _, e := range events {
				w.events <- e
			}
		}
	}()
}

// finish closes the Poller. The Wait that is under way ends, and every later one at once.
func (w *watcher) finish() {
	must(w.t, w.Close())
	if w.ended == nil {
		w.start()
	}
	for range 2 {
		select {
		case err := <-w.ended:
			if !errors.Is(err, os.ErrClosed) {
				w.t.Errorf("Wait after Close: %v", err)
			}
		case <-time.After(patience):
			w.t.Fatal("Close did not wake Wait")
		}
		w.start()
	}
}

// control runs f with the descriptor of conn held open.
func control(t *testing.T, conn net.Conn, f func(fd uintptr)) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	must(t, err)
	must(t, raw.Control(f))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// add watches conn under a new name.
func (w *watcher) add(conn net.Conn) uint64 { w.t.Helper(); return addTo(w.t, w.Poller, conn) }

func addTo(t *testing.T, p *Poller, conn net.Conn) (id uint64) {
	t.Helper()
	id = lastID.Add(1)
	control(t, conn, func(fd uintptr) { must(t, p.Add(fd, id)) })
	return id
}

// addAgain tries to watch conn, which is watched already.
func (w *watcher) addAgain(conn net.Conn, id uint64) {
	w.t.Helper()
	control(w.t, conn, func(fd uintptr) {
		if err := w.Add(fd, id); !errors.Is(err, fs.ErrExist) {
			w.t.Errorf("second Add: %v", err)
		}
	})
}

// next returns the next event.
func (w *watcher) next() Event {
	w.t.Helper()
	select {
	case e := <-w.events:
		return e
	case <-time.After(patience):
		w.t.Fatal("nothing was reported")
		panic("unreachable")
	}
}

// expect waits until id is reported, and allows no other name before. It returns what
// happened.
func (w *watcher) expect(id uint64) Kind {
	w.t.Helper()
	e := w.next()
	if e.ID != id || e.What == 0 {
		w.t.Fatalf("%+v was reported; want %d", e, id)
	}
	return e.What
}

// silent makes sure that nothing was reported of what has happened so far: the
// end of another connection comes next.
func (w *watcher) silent() {
	w.t.Helper()
	conn, peer := livenesstest.Pair(w.t, "tcp4")
	id := w.add(conn)
	peer.Close()
	w.expect(id)
}

var networks = []string{"tcp4", "tcp6", "mptcp", "unix"}

// hidesFIN says that a FIN shows only once the data before it are read.
var hidesFIN = false

// play takes the steps with a new connection.
func (w *watcher) play(network, steps string) {
	w.t.Helper()
	conn, peer := livenesstest.Pair(w.t, network)
	var id uint64
	unread := 0
	for step := range strings.FieldsSeq(steps) {
		switch step {
		case "watch":
			id = w.add(conn)
		case "watchByThreadThatEnds":
			ids := make(chan uint64)
			go func() {
				runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
				ids <- w.add(conn)
			}()
			id = <-ids
		case "watchAgain":
			w.addAgain(conn, id)
			w.addAgain(conn, lastID.Add(1))
		case "replace":
			id = lastID.Add(1)
			control(w.t, conn, func(fd uintptr) { must(w.t, w.Replace(fd, id)) })
		case "remove":
			control(w.t, conn, func(fd uintptr) { w.Remove(fd, id) })
		case "byte", "segments":
			unread = map[string]int{"byte": 1, "segments": 5000}[step]
			_, err := peer.Write(make([]byte, unread))
			must(w.t, err)
		case "taunt": // bytes that its peer has not read make an AF_UNIX socket end with ECONNRESET
			_, err := conn.Write([]byte{0})
			must(w.t, err)
		case "close", "FIN", "reset":
			must(w.t, map[string]func() error{"close": peer.Close, "FIN": peer.CloseWrite, "reset": peer.Reset}[step]())
		case "shut":
			shut(w.t, conn, peer)
		case "talk":
			talk(w.t, conn, peer)
		case "read":
			if hidesFIN && unread > 0 {
				w.silent()
				_, err := io.ReadFull(conn, make([]byte, unread))
				must(w.t, err)
			}
		case "silent":
			w.silent()
		case "told":
			w.expect(id)
		case "toldFIN":
			if what := w.expect(id); what != FIN && what != Periodic {
				w.t.Errorf("a FIN is told as %#b", what)
			}
		case "toldHangup":
			for w.expect(id)&(Hangup|Periodic) == 0 {
				// A FIN may be told twice.
			}
		}
	}
}

// shut ends both directions from this side.
func shut(t *testing.T, conn net.Conn, peer *livenesstest.Peer) {
	conn.(*net.TCPConn).CloseRead()
	conn.(*net.TCPConn).CloseWrite()
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
}

// talk sends and reads data in both directions, and fills the send buffer.
func talk(t *testing.T, conn net.Conn, peer *livenesstest.Peer) {
	buf := make([]byte, 1<<16)
	for range 20 {
		for _, way := range [][2]net.Conn{{peer, conn}, {conn, peer}} {
			_, err := way[0].Write(buf[:1000])
			must(t, err)
			_, err = way[1].Read(buf)
			must(t, err)
		}
	}
	conn.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	sent := int64(0)
	for err := error(nil); err == nil; {
		var n int
		n, err = conn.Write(buf)
		sent += int64(n)
	}
	_, err := io.CopyN(io.Discard, peer, sent)
	must(t, err)
}

// Every ending, behind unread data too, arrives at a socket that is watched, or is there already when the watch begins. Data
// wake nobody, in neither direction, and neither does their absence, or reading them.
func TestEndingsAreReportedAndDataAreNot(t *testing.T) {
	for _, network := range networks {
		for _, unread := range []string{"", "byte ", "segments "} {
			for _, end := range []string{"watch close read told", "close watch read told", "taunt watch reset told", "taunt reset watch told"} {
				t.Run(network+","+unread+end, func(t *testing.T) { newWatcher(t).play(network, unread+end) })
			}
		}
		t.Run(network+",talk", func(t *testing.T) { newWatcher(t).play(network, "watch silent talk silent") })
	}
}

// A watch is ended and replaced under its own name, and no other watch is touched.
func TestWatchBelongsToItsSocketAndItsName(t *testing.T) {
	w := newWatcher(t)
	neighbour, peer := livenesstest.Pair(t, "tcp4")
	id := w.add(neighbour)
	for name, steps := range map[string]string{
		"removed, and watched again": "watch remove remove close silent watch told",
		"added twice":                "watch watchAgain close told silent",
		"replaced":                   "watch replace close told silent",
		"replaced after its end":     "watch close told replace told silent",
		"a RST behind a FIN":         "watch FIN toldFIN reset toldHangup",
		"a thread that ends":         "watchByThreadThatEnds silent silent silent FIN told reset told",
	} {
		t.Log(name)
		w.play("tcp4", steps)
	}
	if runtime.GOOS == "windows" { // elsewhere the own shutdown is told
		w.play("tcp4", "watch shut silent FIN told")
	}
	peer.Close()
	w.expect(id)
}

// A socket that is closed takes its watch along, and the next one with the same descriptor has nothing to do with it, whether
// the first has ended before or after, and even before anybody has fetched that.
func TestReuse(t *testing.T) {
	for _, waiting := range []bool{true, false} {
		w := newIdleWatcher(t)
		if waiting {
			w.start()
		}
		reused := 0
		var last uintptr
		for n := range 60 {
			conn, peer := livenesstest.Pair(t, "tcp4")
			id := w.add(conn)
			w.addAgain(conn, id)
			control(t, conn, func(fd uintptr) {
				if fd == last {
					reused++
				}
				last = fd
			})
			if waiting && n%2 > 0 {
				peer.Close()
				w.expect(id)
			}
			conn.Close()
			peer.Reset()
		}
		if !waiting {
			w.start()
		}
		w.silent()
		if reused == 0 {
			t.Skip("no descriptor was used twice")
		}
	}
}

// Many that end before anybody waits are all reported, under names that need all
// of their 64 bits.
func TestManyAreReported(t *testing.T) {
	const n = 500
	w := newIdleWatcher(t)
	want := make(map[uint64]bool)
	for i := range n {
		conn, peer := livenesstest.Pair(t, "tcp4")
		id := uint64(i)<<32 | uint64(n-i) | 1<<63 | 1<<31
		control(t, conn, func(fd uintptr) { must(t, w.Add(fd, id)) })
		want[id] = true
		defer peer.Reset()
		must(t, peer.CloseWrite())
	}
	w.start()
	for len(want) > 0 {
		id := w.next().ID
		if id>>63 != 1 {
			t.Fatalf("%#x was reported", id)
		}
		delete(want, id)
	}
}

// Several goroutines add, replace and remove, and sockets end and are closed, while
// another is in Wait. What ends while it is watched is reported, and nothing else.
func TestConcurrently(t *testing.T) {
	w := newWatcher(t)
	const goroutines, each = 8, 24
	var all sync.WaitGroup
	var ends sync.Map // ids of those that ended while they were watched
	for range goroutines {
		var conns [each]net.Conn
		var peers [each]*livenesstest.Peer
		for n := range conns {
			conns[n], peers[n] = livenesstest.Pair(t, "tcp4")
		}
		all.Go(func() {
			for n, conn := range conns {
				id := w.add(conn)
				remove := func(from net.Conn) { control(t, from, func(fd uintptr) { w.Remove(fd, id) }) }
				for range n / 6 * 5 { // again, or more often
					remove(conn)
					id = w.add(conn)
				}
				switch n % 6 { // 0 and 1: it ends
				case 2:
					id = lastID.Add(1)
					control(t, conn, func(fd uintptr) { must(t, w.Replace(fd, id)) })
				case 3:
					remove(conn)
				case 4:
					conn.Close()
				case 5:
					conn.Close()
					remove(peers[n].NetConn()) // too late, and by another's descriptor
				}
				if n%6 < 3 {
					ends.Store(id, true)
				}
				if n%6 == 1 {
					peers[n].Reset()
				} else {
					peers[n].CloseWrite()
				}
			}
		})
	}
	all.Wait()
	seen := make(map[uint64]bool)
	for len(seen) < goroutines*each/2 {
		id := w.next().ID
		if _, ended := ends.Load(id); !ended {
			t.Fatalf("%d was reported, which did not end while it was watched", id)
		}
		seen[id] = true
	}
}

// Close wakes Wait, however long it has waited, and ends all watches, also with nobody in Wait; see finish.
func TestClose(t *testing.T) {
	var conns []net.Conn
	for range 100 { // more than one handle to the driver of Windows has room for
		conn, _ := livenesstest.Pair(t, "tcp4")
		conns = append(conns, conn)
	}
	for n := range 10 {
		w := newIdleWatcher(t)
		if n%2 > 0 {
			w.start()
		}
		for _, conn := range conns {
			w.add(conn)
		}
	}
}
