package poller_test

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/livenesstest"
)

// wine reports whether this is Wine, which does not show a FIN behind unread data.
func wine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

func init() { hidesFIN = wine() }

// A FIN is reported behind unread data; by Wine once they are read.
func TestFINBehindData(t *testing.T) {
	w := newWatcher(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	id := w.add(conn)
	peer.Write([]byte("x"))
	peer.CloseWrite()
	if hidesFIN {
		w.silent()
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	w.expect(id)
}

// What we shut down ourselves is not reported, and hides nothing.
func TestOwnShutdownsAreSilent(t *testing.T) {
	w := newWatcher(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	id := w.add(conn)
	conn.(*net.TCPConn).CloseRead()
	conn.(*net.TCPConn).CloseWrite()
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	w.silent()
	peer.CloseWrite()
	w.expect(id)
}

// A watch does not end with the thread that began it.
func TestThreadEnds(t *testing.T) {
	w := newWatcher(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	ids := make(chan uint64)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		ids <- w.add(conn)
	}()
	id := <-ids
	for range 10 {
		w.silent()
	}
	peer.CloseWrite()
	w.expect(id)
	peer.Reset()
	w.expect(id)
}

// A socket that was closed without Remove, and whose handle another one has, is
// told from that one, even before anybody has taken the answer of the driver.
func TestReuseBeforeWait(t *testing.T) {
	p := newPoller(t)
	defer p.Close()
	reused := 0
	for range 50 {
		var last uintptr
		for again := range 2 {
			conn, peer := livenesstest.Pair(t, "tcp4")
			control(t, conn, func(fd uintptr) {
				if again == 1 && fd == last {
					reused++
				}
				last = fd
				if err := p.Add(fd, lastID.Add(1)); err != nil {
					t.Fatal(err)
				}
				if err := p.Add(fd, lastID.Add(1)); !errors.Is(err, fs.ErrExist) {
					t.Fatalf("second Add: %v", err)
				}
			})
			conn.Close()
			peer.Reset()
		}
	}
	if reused == 0 {
		t.Skip("no handle was used twice")
	}
}

// Close ends what was asked of the driver, whether somebody waits for it or not.
func TestCloseWithWatches(t *testing.T) {
	var conns []net.Conn
	for range 100 { // more than one handle to the driver has room for
		conn, _ := livenesstest.Pair(t, "tcp4")
		conns = append(conns, conn)
	}
	use := func(waiting bool) {
		p := newPoller(t)
		ended := make(chan error, 1)
		if waiting {
			go func() {
				_, err := p.Wait()
				ended <- err
			}()
		}
		for _, conn := range conns {
			control(t, conn, func(fd uintptr) {
				if err := p.Add(fd, lastID.Add(1)); err != nil {
					t.Fatal(err)
				}
			})
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if !waiting {
			_, err := p.Wait()
			ended <- err
		}
		select {
		case err := <-ended:
			if err != os.ErrClosed {
				t.Errorf("Wait: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("Wait does not return")
		}
		if err := p.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
	}
	for _, waiting := range []bool{true, false, true, false} {
		use(waiting)
	}
}

// Several goroutines add, replace and remove, and sockets end and are closed in
// every order. Whatever ends while it is watched is reported, and nothing else.
func TestStorm(t *testing.T) {
	w := newWatcher(t)
	var mu sync.Mutex // guards both
	seen := make(map[uint64]chan struct{})
	var silent []uint64
	channel := func(id uint64) chan struct{} {
		mu.Lock()
		defer mu.Unlock()
		if seen[id] == nil {
			seen[id] = make(chan struct{})
		}
		return seen[id]
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case e := <-w.events:
				ch := channel(e.ID)
				select {
				case <-ch:
				default:
					close(ch)
				}
			case <-stop:
				return
			}
		}
	})
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var accepting sync.Mutex
	pair := func() (conn, peer *net.TCPConn) {
		accepting.Lock()
		defer accepting.Unlock()
		dialed, err := net.Dial("tcp4", listener.Addr().String())
		if err != nil {
			t.Error(err)
			return nil, nil
		}
		accepted, err := listener.Accept()
		if err != nil {
			t.Error(err)
			return nil, nil
		}
		return accepted.(*net.TCPConn), dialed.(*net.TCPConn)
	}
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for range 60 {
				conn, peer := pair()
				if conn == nil {
					return
				}
				id := lastID.Add(1)
				act := rand.IntN(6)
				var err error
				control(t, conn, func(fd uintptr) {
					err = w.Add(fd, id)
					if err == nil && act == 1 {
						id = lastID.Add(1)
						err = w.Replace(fd, id)
					}
				})
				if err != nil {
					t.Errorf("watching: %v", err)
				}
				switch act {
				case 0, 1:
					peer.CloseWrite()
				case 2:
					peer.SetLinger(0)
					peer.Close()
				case 3:
					control(t, conn, func(fd uintptr) { w.Remove(fd, id) })
					peer.CloseWrite()
				case 4:
					conn.Close() // behind its back
				case 5:
					conn.Close()
					control(t, peer, func(fd uintptr) { w.Remove(fd, id) }) // too late, and by another's handle
				}
				if act < 3 {
					select {
					case <-channel(id):
					case <-time.After(patience):
						t.Errorf("act %d: nothing was reported", act)
					}
				} else {
					mu.Lock()
					silent = append(silent, id)
					mu.Unlock()
				}
				conn.Close()
				peer.Close()
			}
		})
	}
	workers.Wait()
	conn, last := pair()
	id := lastID.Add(1)
	control(t, conn, func(fd uintptr) {
		if err := w.Add(fd, id); err != nil {
			t.Fatal(err)
		}
	})
	last.CloseWrite()
	<-channel(id) // what comes after everything else
	close(stop)
	reader.Wait()
	for _, id := range silent {
		if seen[id] != nil {
			t.Errorf("%d was reported, which was removed or closed before its end", id)
		}
	}
	conn.Close()
	last.Close()
}
