package poller

import (
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/internal/afd"
	"github.com/go-liveness/liveness/livenesstest"
)

// Wine does not show a FIN behind unread data.
func init() {
	hidesFIN = windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

func handleOf(t *testing.T, conn net.Conn) (fd uintptr) {
	control(t, conn, func(n uintptr) { fd = n })
	return fd
}

// check compares the tables with each other and with what is expected of them.
func (p *Poller) check(t *testing.T, what string, watches, requests int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) != watches || len(p.sockets) != watches || len(p.requests) != requests {
		t.Errorf("%s: %d names, %d sockets, %d requests; want %d, %d, %d", what,
			len(p.ids), len(p.sockets), len(p.requests), watches, watches, requests)
	}
	used := make(map[*device]int)
	for poll, r := range p.requests {
		if poll != &r.poll || r.watch != nil && (r.watch.asked != r || p.ids[r.watch.id] != r.watch) {
			t.Errorf("%s: a request does not belong to its watch", what)
		}
		used[r.device]++
	}
	roomy := make(map[*device]bool)
	for _, d := range p.roomy {
		if roomy[d] || d.used >= perDevice {
			t.Errorf("%s: a handle with %d requests is said to have room", what, d.used)
		}
		roomy[d] = true
	}
	for _, d := range p.devices {
		if d.used != used[d] || d.used > perDevice || roomy[d] != (d.used < perDevice) {
			t.Errorf("%s: a handle has %d requests and counts %d", what, used[d], d.used)
		}
	}
}

// take takes answers until all of want are reported and no more requests are under
// way than that, and a little longer.
func (p *Poller) take(t *testing.T, what string, requests int, want ...uint64) {
	t.Helper()
	var ids []uint64
	for deadline := time.Now().Add(patience); ; {
		p.mu.Lock()
		done := len(ids) >= len(want) && len(p.requests) <= requests
		p.mu.Unlock()
		timeout := time.Until(deadline)
		if done {
			timeout = 20 * time.Millisecond
		}
		poll, err := p.next(uint32(max(0, timeout).Milliseconds()))
		if err == windows.WAIT_TIMEOUT {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e := p.answer(poll); e.What != 0 {
			ids = append(ids, e.ID)
		}
	}
	slices.Sort(ids)
	if !slices.Equal(ids, want) {
		t.Errorf("%s: %v were reported; want %v", what, ids, want)
	}
}

// Every request has its place on a handle for as long as it is under way, and
// nothing is left of a socket that was closed, removed or replaced.
func TestAccounting(t *testing.T) {
	p := newPoller(t)
	defer p.Close()
	const n = 2*perDevice + 1
	var conns []net.Conn
	var peers []*livenesstest.Peer
	for i := range n {
		conn, peer := livenesstest.Pair(t, "tcp4")
		conns, peers = append(conns, conn), append(peers, peer)
		must(t, p.Add(handleOf(t, conn), uint64(i)))
	}
	p.check(t, "added", n, n)
	if len(p.devices) != 3 {
		t.Errorf("%d handles for %d sockets", len(p.devices), n)
	}
	// A handle that was full has room for one.
	p.Remove(handleOf(t, conns[3]), 3)
	p.take(t, "removed", n-1)
	p.check(t, "removed", n-1, n-1)
	must(t, p.Add(handleOf(t, conns[3]), 3))
	p.check(t, "added again", n, n)
	if len(p.devices) != 3 {
		t.Errorf("%d handles for %d sockets", len(p.devices), n)
	}

	peers[0].CloseWrite()
	peers[1].Reset()
	p.take(t, "ended", n, 0, 1)
	p.check(t, "ended", n, n)
	if fin, reset := p.ids[0].seen, p.ids[1].seen; fin != afd.Disconnect || reset != afd.Abort {
		t.Errorf("seen of a FIN: %#x, of a reset: %#x", fin, reset)
	}
	peers[0].Reset()
	p.take(t, "reset behind a FIN", n, 0)
	p.check(t, "reset behind a FIN", n, n)

	for i, conn := range conns {
		switch i % 3 {
		case 0:
			conn.Close()
		case 1:
			p.Remove(handleOf(t, conn), uint64(i))
		case 2:
			must(t, p.Replace(handleOf(t, conn), uint64(n+i)))
		}
	}
	const replaced = n / 3
	p.take(t, "closed, removed, replaced", replaced)
	p.check(t, "closed, removed, replaced", replaced, replaced)
	for i, conn := range conns {
		if i%3 == 2 {
			conn.Close()
		}
	}
	p.take(t, "closed", 0)
	p.check(t, "closed", 0, 0)
}

// watched returns a poller that watches a connection under the name 1.
func watched(t *testing.T) (*Poller, *livenesstest.Peer) {
	p := newPoller(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	must(t, p.Add(handleOf(t, conn), 1))
	return p, peer
}

// What the driver gives up for reasons of its own is asked for again, once.
func TestDriverGivesUp(t *testing.T) {
	p, peer := watched(t)
	defer p.Close()
	step := func(what string, act func(), requests int) {
		t.Helper()
		act()
		p.take(t, what, requests, 1)
		p.check(t, what, requests, requests)
	}
	giveUp := func() { r := p.ids[1].asked; r.poll.Cancel(r.device.Device) }
	step("given up", giveUp, 1)
	step("FIN", func() { peer.CloseWrite() }, 1)
	if p.ids[1].failed {
		t.Error("what succeeded has failed")
	}
	step("given up again", giveUp, 1)
	step("given up twice", giveUp, 0)
}

// Somebody who is on the way out of Wait when the Poller is closed finishes it.
func TestCloseBetweenWaits(t *testing.T) {
	p, peer := watched(t)
	peer.CloseWrite()
	if told, err := p.Wait(); len(told) != 1 || err != nil {
		t.Fatal(told, err)
	}
	if !p.enter() {
		t.Fatal("no way in")
	}
	closed := make(chan error, 1)
	go func() { closed <- p.Close() }()
	select {
	case err := <-closed:
		must(t, err)
	case <-time.After(patience):
		t.Fatal("Close waits for who is in Wait")
	}
	if p.leave() {
		t.Error("a way out, and the answers to come")
	}
	for !p.finished() {
		poll, err := p.next(windows.INFINITE)
		must(t, err)
		p.answer(poll)
	}
	if _, err := p.Wait(); err != os.ErrClosed {
		t.Error(err)
	}
}

// Two connections differ if an address that both have does.
func TestEnds(t *testing.T) {
	a, peer := livenesstest.Pair(t, "tcp4")
	b, _ := livenesstest.Pair(t, "tcp4")
	c, _ := livenesstest.Pair(t, "tcp6")
	ea, eb, ec := endsOf(handleOf(t, a)), endsOf(handleOf(t, b)), endsOf(handleOf(t, c))
	for _, pair := range [][2]*ends{{&ea, &eb}, {&ea, &ec}, {&eb, &ec}} {
		if !pair[0].differ(pair[1]) || !pair[1].differ(pair[0]) || pair[0].differ(pair[0]) {
			t.Errorf("%v", pair)
		}
	}
	peer.Reset()
	time.Sleep(10 * time.Millisecond)
	if after := endsOf(handleOf(t, a)); ea.differ(&after) || after.differ(&ea) {
		t.Errorf("a reset made %v of %v", after, ea)
	}
	lost := ends{local: ea.local} // its peer's address, as may happen to one that has ended
	var none ends
	if lost.differ(&ea) || ea.differ(&lost) || none.differ(&none) {
		t.Error("connections without addresses are alike")
	}
	if !lost.differ(&eb) && eb.local != lost.local {
		t.Error("connections with other addresses differ")
	}
}

// Close gives every handle back, whether a goroutine is in Wait or not.
func TestCloseGivesHandlesBack(t *testing.T) {
	isOpen := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetHandleInformation")
	var left []string
	var clean [2]bool
	for n := range 10 { // what was given back may be another's at once, but not every time
		p := newPoller(t)
		for range perDevice + 1 {
			conn, _ := livenesstest.Pair(t, "tcp4")
			addTo(t, p, conn)
		}
		handles := map[string]windows.Handle{"port": p.port}
		for i, d := range p.devices {
			handles[fmt.Sprint("device ", i)] = windows.Handle(d.Device)
		}
		ended := make(chan error, 1)
		if n%2 > 0 {
			go func() {
				_, err := p.Wait()
				ended <- err
			}()
			for !p.isWaiting() {
				time.Sleep(time.Millisecond)
			}
		} else {
			ended <- os.ErrClosed
		}
		must(t, p.Close())
		if err := <-ended; err != os.ErrClosed {
			t.Fatal(err)
		}
		left = nil
		for name, handle := range handles {
			var flags uint32
			if r, _, _ := syscall.SyscallN(isOpen.Addr(), uintptr(handle), uintptr(unsafe.Pointer(&flags))); r != 0 {
				left = append(left, name)
			}
		}
		if clean[n%2] = clean[n%2] || len(left) == 0; clean[0] && clean[1] {
			return
		}
	}
	t.Errorf("still open: %v", left)
}

func (p *Poller) isWaiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting
}
