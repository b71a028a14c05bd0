package poller_test

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

	"github.com/go-liveness/liveness/internal/poller"
	"github.com/go-liveness/liveness/livenesstest"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// A watcher is a Poller with a goroutine in Wait, which hands on every event.
type watcher struct {
	*poller.Poller
	t      *testing.T
	events chan poller.Event
	ended  chan error // what Wait ended with
}

// lastID names sockets across tests, so that a name of one never turns up in
// another.
var lastID atomic.Uint64

func newPoller(t *testing.T) *poller.Poller {
	p, err := poller.New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newWatcher(t *testing.T) *watcher {
	w := &watcher{Poller: newPoller(t), t: t, events: make(chan poller.Event, 4096), ended: make(chan error, 1)}
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

// add watches conn under a new name.
func (w *watcher) add(conn net.Conn) uint64 {
	w.t.Helper()
	id := lastID.Add(1)
	var err error
	control(w.t, conn, func(fd uintptr) { err = w.Add(fd, id) })
	if err != nil {
		w.t.Fatalf("Add: %v", err)
	}
	return id
}

// next returns the next event.
func (w *watcher) next() poller.Event {
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
func (w *watcher) expect(id uint64) poller.Kind {
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
func TestEndings(t *testing.T) {
	for _, network := range networks {
		for _, reset := range []bool{false, true} {
			for _, unread := range []int{0, 1, 5000} {
				for _, before := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s,reset=%t,unread=%d,before=%t", network, reset, unread, before), func(t *testing.T) {
						w := newWatcher(t)
						conn, peer := livenesstest.Pair(t, network)
						if unread > 0 {
							if _, err := peer.Write(make([]byte, unread)); err != nil {
								t.Fatal(err)
							}
						}
						if network == "unix" && reset {
							// Bytes that its peer has not read make an AF_UNIX socket end with ECONNRESET.
							if _, err := conn.Write([]byte{0}); err != nil {
								t.Fatal(err)
							}
						}
						end := func() {
							err := peer.Close
							if reset {
								err = peer.Reset
							}
							if err := err(); err != nil {
								t.Fatal(err)
							}
						}
						if before {
							end()
						}
						id := w.add(conn)
						if !before {
							end()
						}
						if hidesFIN && !reset && unread > 0 {
							w.silent()
							if _, err := io.ReadFull(conn, make([]byte, unread)); err != nil {
								t.Fatal(err)
							}
						}
						w.expect(id)
					})
				}
			}
		}
	}
}

// A FIN is reported, and the RST that comes behind it is too.
func TestTwice(t *testing.T) {
	w := newWatcher(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	id := w.add(conn)
	peer.CloseWrite()
	if what := w.expect(id); what != poller.FIN && what != poller.Periodic {
		t.Errorf("a FIN is told as %#b", what)
	}
	peer.Reset()
	for w.expect(id)&(poller.Hangup|poller.Periodic) == 0 {
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
					if _, err := way[0].Write(buf[:1000]); err != nil {
						t.Fatal(err)
					}
					if _, err := way[1].Read(buf); err != nil {
						t.Fatal(err)
					}
				}
			}
			// A full send buffer, and its end.
			conn.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			sent := 0
			for {
				n, err := conn.Write(buf)
				sent += n
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			for sent > 0 {
				n, err := peer.Read(buf)
				sent -= n
				if err != nil {
					t.Fatal(err)
				}
			}
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
		id := lastID.Add(1)
		control(t, conn, func(fd uintptr) {
			if err := w.Replace(fd, id); err != nil {
				t.Fatalf("Replace: %v", err)
			}
		})
		if !before {
			peer.Close()
		}
		w.expect(id)
		w.silent()
	}
}

// A socket that is closed takes its watch along, and the next one with the same
// descriptor has nothing to do with it.
func TestReuse(t *testing.T) {
	w := newWatcher(t)
	reused := 0
	var last uintptr
	for range 50 {
		conn, peer := livenesstest.Pair(t, "tcp4")
		var fd uintptr
		control(t, conn, func(n uintptr) { fd = n })
		if fd == last {
			reused++
		}
		last = fd
		w.add(conn) // never to be heard of again
		conn.Close()
		peer.Close()

		conn, peer = livenesstest.Pair(t, "tcp4")
		id := w.add(conn)
		peer.Close()
		w.expect(id)
		conn.Close()
	}
	if reused == 0 {
		t.Skip("no descriptor was used twice")
	}
}

// Many that end before anybody waits are all reported, under names that need all
// of their 64 bits.
func TestMany(t *testing.T) {
	const n = 500
	p := newPoller(t)
	defer p.Close()
	want := make(map[uint64]bool)
	var peers []*livenesstest.Peer
	for i := range n {
		conn, peer := livenesstest.Pair(t, "tcp4")
		id := uint64(i)<<32 | uint64(n-i) | 1<<63 | 1<<31
		var err error
		control(t, conn, func(fd uintptr) { err = p.Add(fd, id) })
		if err != nil {
			t.Fatal(err)
		}
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

// Add, Replace and Remove by many, while another goroutine is in Wait.
func TestConcurrently(t *testing.T) {
	w := newWatcher(t)
	const workers, rounds = 8, 50
	var wait sync.WaitGroup
	var mu sync.Mutex
	want := make(map[uint64]bool)
	for range workers {
		conn, peer := livenesstest.Pair(t, "tcp4")
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		wait.Go(func() {
			var id uint64
			for range rounds {
				if err := raw.Control(func(fd uintptr) {
					w.Remove(fd, id)
					id = lastID.Add(1)
					if err := w.Add(fd, id); err != nil {
						t.Errorf("Add: %v", err)
					}
					id = lastID.Add(1)
					if err := w.Replace(fd, id); err != nil {
						t.Errorf("Replace: %v", err)
					}
				}); err != nil {
					t.Errorf("Control: %v", err)
				}
			}
			mu.Lock()
			want[id] = true
			mu.Unlock()
			peer.Close()
		})
	}
	wait.Wait()
	for len(want) > 0 {
		id := w.next().ID
		if !want[id] {
			t.Fatalf("%d was reported", id)
		}
		delete(want, id)
	}
}

// Close wakes Wait, however long it has waited, and Wait says so for ever.
func TestClose(t *testing.T) {
	for range 20 {
		p := newPoller(t)
		conn, _ := livenesstest.Pair(t, "tcp4")
		control(t, conn, func(fd uintptr) {
			if err := p.Add(fd, lastID.Add(1)); err != nil {
				t.Fatal(err)
			}
		})
		begun, ended := make(chan struct{}), make(chan error)
		go func() {
			close(begun)
			_, err := p.Wait()
			ended <- err
		}()
		<-begun
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, os.ErrClosed) {
				t.Fatalf("Wait: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("Close did not wake Wait")
		}
		if _, err := p.Wait(); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("Wait after Close: %v", err)
		}
	}
}
