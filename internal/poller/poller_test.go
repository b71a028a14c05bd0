package poller

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
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
	ended  chan error // what Wait ended with
}

// lastID names sockets across tests, so that a name of one never turns up in
// another.
var lastID atomic.Uint64

func newPoller(t *testing.T) *Poller {
	p, err := New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newWatcher(t *testing.T) *watcher {
	w := &watcher{Poller: newPoller(t), t: t, events: make(chan Event, 4096), ended: make(chan error, 1)}
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
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-w.ended; !errors.Is(err, os.ErrClosed) {
			t.Errorf("Wait after Close: %v", err)
		}
	})
	return w
}

// control runs f with the descriptor of conn held open.
func control(t *testing.T, conn net.Conn, f func(fd uintptr)) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(f); err != nil {
		t.Fatal(err)
	}
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

// replace watches conn, which is watched already, under a new name.
func (w *watcher) replace(conn net.Conn) (id uint64) {
	w.t.Helper()
	id = lastID.Add(1)
	control(w.t, conn, func(fd uintptr) { must(w.t, w.Replace(fd, id)) })
	return id
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

// Every ending, behind unread data too, arrives at a socket that is watched, or is
// there already when the watch begins.
func TestEveryEndingIsReported(t *testing.T) {
	for n := range len(networks) * 12 {
		network, reset, before, unread := networks[n/12], n%2 > 0, n/2%2 > 0, []int{0, 1, 5000}[n/4%3]
		t.Run(fmt.Sprintf("%s,reset=%t,unread=%d,before=%t", network, reset, unread, before), func(t *testing.T) {
			w := newWatcher(t)
			conn, peer := livenesstest.Pair(t, network)
			_, err := peer.Write(make([]byte, unread))
			must(t, err)
			if network == "unix" && reset {
				// Bytes that its peer has not read make an AF_UNIX socket end with ECONNRESET.
				_, err := conn.Write([]byte{0})
				must(t, err)
			}
			end := peer.Close
			if reset {
				end = peer.Reset
			}
			if before {
				must(t, end())
			}
			id := w.add(conn)
			if !before {
				must(t, end())
			}
			if hidesFIN && !reset && unread > 0 {
				w.silent()
				_, err := io.ReadFull(conn, make([]byte, unread))
				must(t, err)
			}
			w.expect(id)
		})
	}
}

// A FIN is reported, and the RST that comes behind it is too.
func TestTwice(t *testing.T) {
	w := newWatcher(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	id := w.add(conn)
	peer.CloseWrite()
	if what := w.expect(id); what != FIN && what != Periodic {
		t.Errorf("a FIN is told as %#b", what)
	}
	peer.Reset()
	for w.expect(id)&(Hangup|Periodic) == 0 {
		// A FIN may be told twice.
	}
}

// Data wake nobody, in neither direction, and neither does their absence, or
// reading them.
func TestDataIsSilent(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			w := newWatcher(t)
			conn, peer := livenesstest.Pair(t, network)
			w.add(conn)
			w.silent() // nothing to say at the beginning
			buf := make([]byte, 1<<16)
			for range 20 {
				for _, way := range [][2]net.Conn{{peer, conn}, {conn, peer}} {
					_, err := way[0].Write(buf[:1000])
					must(t, err)
					_, err = way[1].Read(buf)
					must(t, err)
				}
			}
			// A full send buffer, and its end.
			conn.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			sent := int64(0)
			for err := error(nil); err == nil; {
				var n int
				n, err = conn.Write(buf)
				sent += int64(n)
			}
			_, err := io.CopyN(io.Discard, peer, sent)
			must(t, err)
			w.silent()
		})
	}
}

// Remove ends the watch, and only that.
func TestRemove(t *testing.T) {
	w := newWatcher(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	id := w.add(conn)
	neighbour, itsPeer := livenesstest.Pair(t, "tcp4")
	itsID := w.add(neighbour)
	for range 2 { // the second time there is nothing to remove
		control(t, conn, func(fd uintptr) { w.Remove(fd, id) })
	}
	peer.Close()
	w.silent()
	itsPeer.Close()
	w.expect(itsID)

	// The socket can be watched again, and is reported at once.
	w.expect(w.add(conn))
}

// What is watched already cannot be added, whatever the name, and goes on being
// watched under the first.
func TestAddTwice(t *testing.T) {
	w := newWatcher(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	id := w.add(conn)
	for _, again := range []uint64{id, lastID.Add(1)} {
		control(t, conn, func(fd uintptr) {
			if err := w.Add(fd, again); !errors.Is(err, fs.ErrExist) {
				t.Errorf("second Add: %v", err)
			}
		})
	}
	peer.Close()
	w.expect(id)
	w.silent()
}

// Replace goes on under another name, and reports an end that has been reported
// under the first.
func TestReplace(t *testing.T) {
	w := newWatcher(t)
	for _, before := range []bool{false, true} {
		conn, peer := livenesstest.Pair(t, "tcp4")
		old := w.add(conn)
		if before {
			peer.Close()
			w.expect(old)
		}
		id := w.replace(conn)
		peer.Close()
		w.expect(id)
		w.silent()
	}
}

// A socket that is closed takes its watch along, and the next one with the same
// descriptor has nothing to do with it, whether the first has ended before or after.
func TestReuse(t *testing.T) {
	w := newWatcher(t)
	reused := 0
	var last uintptr
	for n := range 100 {
		conn, peer := livenesstest.Pair(t, "tcp4")
		var fd uintptr
		control(t, conn, func(n uintptr) { fd = n })
		if fd == last {
			reused++
		}
		last = fd
		id := w.add(conn)
		if n%2 > 0 {
			peer.Close()
			w.expect(id)
		}
		conn.Close()
		peer.Reset()
	}
	w.silent()
	if reused == 0 {
		t.Skip("no descriptor was used twice")
	}
}

// Many that end before anybody waits are all reported, under names that need all
// of their 64 bits.
func TestManyAreReported(t *testing.T) {
	const n = 500
	p := newPoller(t)
	defer p.Close()
	want := make(map[uint64]bool)
	var peers []*livenesstest.Peer
	for i := range n {
		conn, peer := livenesstest.Pair(t, "tcp4")
		id := uint64(i)<<32 | uint64(n-i) | 1<<63 | 1<<31
		control(t, conn, func(fd uintptr) { must(t, p.Add(fd, id)) })
		want[id] = true
		peers = append(peers, peer)
	}
	for _, peer := range peers {
		peer.Reset()
	}
	tired := time.AfterFunc(patience, func() { p.Close() })
	defer tired.Stop()
	for len(want) > 0 {
		events, err := p.Wait()
		if err != nil {
			t.Fatalf("%d were not reported: %v", len(want), err)
		}
		for _, e := range events {
			if e.ID>>63 != 1 {
				t.Fatalf("%#x was reported", e.ID)
			}
			delete(want, e.ID)
		}
	}
}

// Several goroutines add, replace and remove, and sockets end and are closed, while
// another is in Wait. What ends while it is watched is reported, and nothing else.
func TestConcurrently(t *testing.T) {
	w := newWatcher(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	ends := make(map[uint64]bool) // whether it was watched then
	for range 8 {
		var conns [24]net.Conn
		var peers [24]*livenesstest.Peer
		for n := range conns {
			conns[n], peers[n] = livenesstest.Pair(t, "tcp4")
		}
		all.Go(func() {
			for n, conn := range conns {
				var id uint64
				for range n/6*5 + 1 { // once, or more often
					if id > 0 {
						control(t, conn, func(fd uintptr) { w.Remove(fd, id) })
					}
					id = w.add(conn)
				}
				switch n % 6 {
				case 0, 1: // it ends
				case 2:
					mu.Lock()
					ends[id] = false
					mu.Unlock()
					id = w.replace(conn)
				case 3:
					control(t, conn, func(fd uintptr) { w.Remove(fd, id) })
				case 4:
					conn.Close()
				case 5:
					conn.Close()
					control(t, peers[n].NetConn(), func(fd uintptr) { w.Remove(fd, id) }) // too late, and by another's descriptor
				}
				mu.Lock()
				ends[id] = n%6 < 3
				mu.Unlock()
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
	for len(seen) < 8*24/2 {
		id := w.next().ID
		if !ends[id] {
			t.Fatalf("%d was reported, which did not end while it was watched", id)
		}
		seen[id] = true
	}
}

// Close wakes Wait, however long it has waited, and Wait says so for ever. It ends all
// watches, also with nobody in Wait.
func TestClose(t *testing.T) {
	var conns []net.Conn
	for range 100 { // more than one handle to the driver of Windows has room for
		conn, _ := livenesstest.Pair(t, "tcp4")
		conns = append(conns, conn)
	}
	for n := range 20 {
		p := newPoller(t)
		ended := make(chan error, 1)
		wait := func() {
			_, err := p.Wait()
			ended <- err
		}
		if n%2 > 0 {
			go wait()
		}
		for _, conn := range conns {
			addTo(t, p, conn)
		}
		must(t, p.Close())
		for again := range 2 {
			if n%2 == 0 || again > 0 {
				go wait()
			}
			select {
			case err := <-ended:
				if !errors.Is(err, os.ErrClosed) {
					t.Fatalf("Wait: %v", err)
				}
			case <-time.After(patience):
				t.Fatal("Close did not wake Wait")
			}
		}
	}
}
