package watch

import (
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/go-liveness/liveness/internal/poller"
	"github.com/go-liveness/liveness/livenesstest"
)

func rawOf(tb testing.TB, conn net.Conn) syscall.RawConn {
	tb.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// tryAdd adds t for conn.
func tryAdd(tb testing.TB, t *Token, conn net.Conn) (err error) {
	tb.Helper()
	if cerr := rawOf(tb, conn).Control(func(fd uintptr) { err = Add(t, fd) }); cerr != nil {
		tb.Fatal(cerr)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		tb.Skip(err)
	}
	return err
}

// add adds f for conn.
func (f *fake) add(tb testing.TB, conn net.Conn) {
	tb.Helper()
	raw := rawOf(tb, conn)
	if f.open == nil {
		f.open = func() bool { return raw.Control(func(uintptr) {}) == nil }
	}
	if err := tryAdd(tb, &f.Token, conn); err != nil {
		tb.Fatal(err)
	}
}

// noticing has the Notices of f sent to the channel that it returns.
func (f *fake) noticing() <-chan Event {
	events := make(chan Event, 16)
	f.notice = func(e Event) {
		select {
		case events <- e:
		default: // of a sweep, which comes again and again
		}
	}
	return events
}

// goroutines returns the stacks of those that run code of this package, apart from
// tests.
func goroutines() (stacks []string) {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(stack, "/watch.(*loop)") || strings.Contains(stack, "/watch.(*clock)") || strings.Contains(stack, "/watch.(*role)") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// checkStopped fails unless nothing of the hub is left. The goroutine of the poller may
// be about to return.
func checkStopped(tb testing.TB) {
	tb.Helper()
	s := State()
	if s.Poller != nil || s.Clients != 0 || s.Due {
		tb.Errorf("after the last client: %+v", s)
	}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		left := goroutines()
		if len(left) == 0 && State().Loops == 0 {
			return
		}
		if time.Since(begin) > 2*time.Second { // the machine may be busy
			tb.Fatalf("left behind:\n%s", strings.Join(left, "\n\n"))
		}
	}
}

func TestHubTellsWhatHappened(t *testing.T) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	f := newFake()
	events := f.noticing()
	f.add(t, conn)
	peer.CloseWrite()
	if e := receive(t, "FIN", events); e != FIN && e != Periodic {
		t.Errorf("a FIN was told as %#b", e)
	}
	peer.Reset()
	for { // a sweep tells the same all the time
		if e := receive(t, "RST", events); e == Periodic || e&Hangup != 0 {
			break
		}
	}
	f.Remove(rawOf(t, conn))
	checkStopped(t)
}

// Nothing is left right after the last client is gone, and it starts again.
func TestNothingOutlivesTheLastClient(t *testing.T) {
	for range 50 {
		conn, peer := livenesstest.Pair(t, "tcp4")
		f := newFake()
		events := f.noticing()
		f.check = func(now, _ time.Time) time.Time { return now.Add(time.Minute) }
		f.add(t, conn)
		f.FollowClose()
		f.Wake(time.Now().Add(time.Minute))
		if rand.IntN(2) == 0 {
			peer.Close()
			receive(t, "FIN", events)
		}
		if s := State(); s.Poller == nil || s.Clients != 1 || s.Loops != 1 || !s.Due {
			t.Fatalf("with one client: %+v", s)
		}
		if rand.IntN(2) == 0 {
			f.Remove(rawOf(t, conn))
		} else {
			f.Forget()
			f.Forget() // the second time does nothing
		}
		checkStopped(t)
		conn.Close()
		peer.Close()
	}
}

// Clients come and go on many goroutines, so that the hub starts and stops under them.
// Whatever ends while it is watched is told to its own client.
func TestHubStartsAndStopsUnderLoad(t *testing.T) {
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for range 40 {
				conn, peer, err := pair()
				if err != nil {
					t.Error(err)
					return
				}
				f := newFake()
				var gone atomic.Bool
				noticed := make(chan struct{}, 1)
				f.notice = func(Event) {
					select {
					case noticed <- struct{}{}:
					default:
					}
				}
				f.check = func(now, _ time.Time) time.Time {
					if gone.Load() {
						t.Error("a Check of a client that is gone")
					}
					return now.Add(time.Millisecond)
				}
				f.add(t, conn)
				f.Wake(time.Now().Add(time.Millisecond))
				if rand.IntN(2) == 0 {
					f.FollowClose()
				}
				if rand.IntN(2) == 0 {
					peer.Close()
					receive(t, "FIN", noticed)
				}
				f.Remove(rawOf(t, conn))
				process.clock.quiesceToken(&f.Token)
				gone.Store(true)
				conn.Close()
				peer.Close()
			}
		})
	}
	all.Wait()
	checkStopped(t)
}

// quiesceToken waits until no Check of t is under way.
func (k *clock) quiesceToken(t *Token) {
	for {
		k.mu.Lock()
		idle := t.state == asleep
		k.mu.Unlock()
		if idle {
			return
		}
		runtime.Gosched()
	}
}

// pair makes a connection without a test's cleanup.
func pair() (conn, peer net.Conn, err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if peer, err = net.Dial("tcp4", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if conn, err = l.Accept(); err != nil {
		peer.Close()
	}
	return conn, peer, err
}

// An id is used once: what comes late for a slot that is used again finds no client,
// also after the hub has stopped meanwhile and the slots were given up.
func TestIDsAreUsedOnce(t *testing.T) {
	var r registry
	seen := make(map[uint64]bool)
	var all []*Token
	for range 20 {
		for i := range 3 * keepSlots {
			tok := &newFake().Token
			r.add(tok, uintptr(i*4))
			if seen[tok.id] || tok.id == 0 {
				t.Fatalf("id %#x was used before", tok.id)
			}
			seen[tok.id] = true
			all = append(all, tok)
		}
		for i := range seen {
			if tok := r.find(i); tok != nil && tok.id != i {
				t.Fatalf("id %#x leads to %#x", i, tok.id)
			}
		}
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, tok := range all {
			if r.remove(tok) != (r.find(tok.id) == nil) && r.find(tok.id) != nil {
				t.Fatal("a token was not removed")
			}
		}
		for _, tok := range all {
			if r.find(tok.id) != nil || r.remove(tok) {
				t.Fatalf("id %#x is still known", tok.id)
			}
		}
	}
	if r.count != 0 || len(r.slots) > keepSlots {
		t.Errorf("%d clients, %d slots are left", r.count, len(r.slots))
	}
}

func TestTokenIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Token{}); size > 64 {
		t.Errorf("a Token has %d bytes", size)
	}
}

// The table by descriptor has each token that was added with it, and no other.
func TestRegistryFindsDescriptors(t *testing.T) {
	var r registry
	byFD := make(map[uintptr][]*Token)
	for range 5000 {
		fd := uintptr(rand.IntN(300))
		if tokens := byFD[fd]; len(tokens) > 0 && rand.IntN(2) == 0 {
			i := rand.IntN(len(tokens))
			r.remove(tokens[i])
			byFD[fd] = append(tokens[:i], tokens[i+1:]...)
			continue
		}
		f := newFake()
		r.add(&f.Token, fd)
		if got, want := len(r.others(&f.Token, fd)), len(byFD[fd]); got != want {
			t.Fatalf("%d others have descriptor %d; want %d", got, fd, want)
		}
		byFD[fd] = append(byFD[fd], &f.Token)
	}
}

// One socket has one client, unless the one before is gone.
func TestAddTwice(t *testing.T) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	first, second := newFake(), newFake()
	first.add(t, conn)
	for range 3 {
		if err := tryAdd(t, &second.Token, conn); !errors.Is(err, ErrWatched) {
			t.Fatalf("second Add: %v", err)
		}
	}
	first.open = func() bool { return false }
	third := newFake()
	events := third.noticing()
	third.add(t, conn)
	peer.Close()
	receive(t, "FIN", events)
	third.Remove(rawOf(t, conn))
	first.Forget()
	checkStopped(t)

	// Of many that are added at once, one wins.
	conn, _ = livenesstest.Pair(t, "tcp4")
	var won atomic.Int32
	var all sync.WaitGroup
	fakes := make([]*fake, 8)
	for i := range fakes {
		fakes[i] = newFake()
		all.Go(func() {
			if tryAdd(t, &fakes[i].Token, conn) == nil {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if n := won.Load(); n > 1 {
		t.Errorf("%d clients watch one socket", n)
	}
	for _, f := range fakes {
		f.Forget()
	}
	checkStopped(t)
}

// A client that blocks in Notice or Settle delays no other by more than 200 ms. What
// happens to it meanwhile is told when it returns, and never twice at once.
func TestBlockedNoticeDelaysNoOther(t *testing.T) {
	for _, inSettle := range []bool{false, true} {
		conn, peer := livenesstest.Pair(t, "tcp4")
		other, otherPeer := livenesstest.Pair(t, "tcp4")
		slow, quick := newFake(), newFake()
		release, entered := make(chan struct{}), make(chan struct{}, 64)
		var inside atomic.Int32
		var settled, noticed atomic.Int32
		method := func(blocks bool, count *atomic.Int32) {
			if inside.Add(1) != 1 {
				t.Error("two methods of a client at once")
			}
			if blocks {
				select {
				case entered <- struct{}{}:
				default:
				}
				<-release
			}
			inside.Add(-1)
			count.Add(1)
		}
		slow.notice = func(Event) { method(!inSettle, &noticed) }
		slow.settle = func() { method(inSettle, &settled) }
		slow.add(t, conn)
		events := quick.noticing()
		quick.add(t, other)
		peer.CloseWrite()
		receive(t, "a method that blocks", entered)
		peer.Reset() // an event for the client that is blocked
		longest := heartbeat()
		begin := time.Now()
		otherPeer.Close()
		receive(t, "the other's FIN", events)
		if took := time.Since(begin); took > 200*time.Millisecond+10*longest() {
			t.Errorf("a blocked client delayed another by %v", took)
		}
		if n := len(goroutines()); n > 3 {
			t.Errorf("%d goroutines", n)
		}
		quick.Remove(rawOf(t, other))
		close(release)
		want := int32(1) // Settle follows both Notices
		if inSettle {
			want = 2
		}
		for begin := time.Now(); noticed.Load() < 2 || settled.Load() < want; time.Sleep(time.Millisecond) {
			if time.Since(begin) > longWait {
				t.Fatalf("Notice %d times, Settle %d times; want 2 and %d", noticed.Load(), settled.Load(), want)
			}
		}
		slow.Remove(rawOf(t, conn))
		checkStopped(t)
	}
}

// The close of a descriptor behind our back is noticed within two seconds, once, and
// stops the hub if it was the last.
func TestFollowClose(t *testing.T) {
	const clients = 20
	closed := make(chan *fake, 2*clients)
	conns := make(map[*fake]net.Conn)
	for range clients {
		conn, _ := livenesstest.Pair(t, "tcp4")
		f := newFake()
		f.closed = func() { closed <- f }
		f.add(t, conn)
		f.FollowClose()
		f.FollowClose() // is no different
		conns[f] = conn
	}
	longest := heartbeat()
	begin := time.Now()
	removed := 0
	for f, conn := range conns {
		if removed++; removed > 5 {
			conn.Close()
		} else {
			f.Remove(rawOf(t, conn)) // is not told of its close
		}
	}
	for range clients - 5 {
		f := receive(t, "Closed", closed)
		if conns[f] == nil {
			t.Error("Closed was called twice")
		}
		delete(conns, f)
	}
	if took := time.Since(begin); took > 2*time.Second+10*longest() {
		t.Errorf("it took %v", took)
	}
	checkStopped(t)
	if len(closed) > 0 {
		t.Error("Closed was called too often")
	}
}

// A system whose poller does not work gets a sweep.
func TestSweepTakesThePlace(t *testing.T) {
	h := &hub{}
	silent := func() (watcher, error) { return nil, poller.ErrSilent }
	for range 2 {
		w, err := h.newWatcher(silent)
		if _, sweeps := w.(*poller.Sweep); err != nil || !sweeps || !h.sweeps {
			t.Fatalf("%T, %v", w, err)
		}
		w.Close()
		silent = func() (watcher, error) { t.Error("asked again"); return nil, nil }
	}
	failed := errors.New("no descriptor is left")
	if _, err := new(hub).newWatcher(func() (watcher, error) { return nil, failed }); err != failed {
		t.Errorf("%v", err)
	}
	process.sweeps = true
	defer func() { process.sweeps = false }()
	conn, peer := livenesstest.Pair(t, "tcp4")
	f := newFake()
	events := f.noticing()
	f.add(t, conn)
	peer.Close()
	for range 2 { // again and again
		if e := receive(t, "a sweep", events); e != Periodic {
			t.Errorf("a sweep tells %#b", e)
		}
	}
	f.Remove(rawOf(t, conn))
	checkStopped(t)
}
