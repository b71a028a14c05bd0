package liveness_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
)

// One clock serves all connections. None of them may make it late for another.

// controlledLine is a line whose descriptor is watched by the test.
func controlledLine(t *testing.T, cfg *liveness.Config) (*testutil.Line, *controlledConn) {
	t.Helper()
	bare, peer := testutil.Pair(t, "tcp4", testutil.Small)
	conn := &controlledConn{TCPConn: bare}
	l := testutil.LineOf(t, conn, peer, cfg)
	l.Bare = bare
	return l, conn
}

func TestManyVerdictsDueAtOnceComeInTime(t *testing.T) {
	testutil.NeedsTCPInfo(t)
	const timeout = time.Second
	var limit unix.Rlimit
	testutil.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	n := min(4000, int(limit.Cur)/2-500)
	if testing.Short() {
		n = min(n, 500)
	}
	t.Logf("%d connections", n)
	conns, _, closeAll := benchMany(t, n)
	defer closeAll()
	began := time.Now()
	var all, contexts sync.WaitGroup
	var last atomic.Int64
	for _, conn := range conns {
		all.Add(1)
		c, err := liveness.Wrap(conn, &liveness.Config{ReadIdleTimeout: timeout, OnDisconnect: func(*liveness.Conn, error) {
			last.Store(max(last.Load(), int64(time.Since(began))))
			all.Done()
		}})
		testutil.Must(t, err)
		ctx, cancel := c.Context(t.Context())
		defer cancel()
		contexts.Go(func() { <-ctx.Done() })
	}
	wrapped := time.Since(began)
	done := make(chan struct{})
	go func() { all.Wait(); contexts.Wait(); close(done) }()
	testutil.Await(t, done)
	if took, most := time.Duration(last.Load()), wrapped+timeout*11/10+time.Second; took > most+testutil.Late {
		t.Errorf("the last of %d verdicts came after %v; want %v", n, took, most)
	}
}

func TestCheckThatBlocksDelaysNoOther(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	const timeout = 500 * time.Millisecond
	for name, block := range map[string]func(t *testing.T) (release func()){
		"Control of a foreign connection": func(t *testing.T) func() {
			l, conn := controlledLine(t, &liveness.Config{ReadIdleTimeout: timeout / 2})
			released := make(chan struct{})
			wait := func() { <-released }
			conn.before.Store(&wait)
			release := sync.OnceFunc(func() { close(released) })
			t.Cleanup(release) // also where Close would wait for it
			return func() { release(); l.Ended() }
		},
		"a Write of memory that is paged in": func(t *testing.T) func() {
			l := testutil.NewLine(t, &liveness.Config{ReadIdleTimeout: timeout / 2})
			page, release := missingPage(t)
			go l.Conn.Write(page)
			return func() { release(); l.Ended() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			release := block(t)
			// Its check is due before these.
			for range 4 {
				l := testutil.NewLine(t, &liveness.Config{ReadIdleTimeout: timeout})
				l.Ends(liveness.ErrPeerIdle, l.Wrapped.Add(timeout), l.Wrapped.Add(timeout*11/10+100*time.Millisecond+200*time.Millisecond))
			}
			began := time.Now()
			l := testutil.NewLine(t, nil)
			if l.Conn.Status(); time.Since(began) > testutil.Late {
				t.Errorf("Status of another connection took %v", time.Since(began))
			}
			release()
		})
	}
}

// missingPage is memory whose first touch waits for release, as for a disk that hangs.
func missingPage(t *testing.T) (page []byte, release func()) {
	t.Helper()
	const api, features, registerMissing = 0xAA, 0, 1
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		t.Skipf("userfaultfd, which makes memory that must be paged in: %v (vm.unprivileged_userfaultfd)", errno)
	}
	size := os.Getpagesize()
	page, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	testutil.Must(t, err)
	address := uint64(uintptr(unsafe.Pointer(&page[0])))
	// The structures and numbers of linux/userfaultfd.h.
	handshake := [3]uint64{api, features}
	register := [4]uint64{address, uint64(size), registerMissing}
	zero := [4]uint64{address, uint64(size)}
	for _, call := range []struct {
		request uintptr
		arg     unsafe.Pointer
	}{{0xC018AA3F, unsafe.Pointer(&handshake)}, {0xC020AA00, unsafe.Pointer(&register)}} {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, call.request, uintptr(call.arg)); errno != 0 {
			t.Skipf("userfaultfd: %v", errno)
		}
	}
	release = sync.OnceFunc(func() {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, 0xC020AA04, uintptr(unsafe.Pointer(&zero))); errno != 0 {
			t.Errorf("UFFDIO_ZEROPAGE: %v", errno)
		}
		unix.Close(int(fd))
	})
	t.Cleanup(release)
	return page, release
}

// What the kernel said is of when it was asked: the process may have slept since.
func TestSlowCheckTakesNoPeerForGone(t *testing.T) {
	t.Parallel()
	l, conn := controlledLine(t, &liveness.Config{PeerTimeout: shortest, StallTimeout: shortest, ReadIdleTimeout: shortest})
	pause := func() { time.Sleep(700 * time.Millisecond) }
	conn.after.Store(&pause)
	every(l, 200*time.Millisecond, func() error { _, err := l.Peer.Write([]byte("x")); return err })
	l.Park()
	every(l, 200*time.Millisecond, func() error { _, err := l.Conn.Write([]byte("x")); return err })
	l.Take(100, 0)
	l.LivesFor(2 * shortest)
	conn.after.Store(nil)
}

func TestNothingIsAskedWhileNothingHappens(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config liveness.Config
		do     func(l *testutil.Line)
		most   int64 // checks in two seconds
	}{
		"watched":                   {liveness.Config{}, func(*testutil.Line) {}, 0},
		"idle, time-outs":           {liveness.Config{PeerTimeout: time.Minute, StallTimeout: time.Minute, ReadIdleTimeout: time.Minute}, func(*testutil.Line) {}, 0},
		"idle, short PeerTimeout":   {liveness.Config{PeerTimeout: shortest}, func(*testutil.Line) {}, 0},
		"receiving, time-outs":      {liveness.Config{PeerTimeout: time.Minute, StallTimeout: time.Minute, ReadIdleTimeout: time.Minute}, receiving, 1},
		"sending, PeerTimeout":      {liveness.Config{PeerTimeout: shortest}, sending, 2*8/4 + 2},
		"after a Ping gave up":      {liveness.Config{}, pingedInVain, 4},
		"unread, PeerTimeout":       {liveness.Config{PeerTimeout: shortest}, func(l *testutil.Line) { l.Receive(10) }, 0},
		"OnSilence, far in the end": {liveness.Config{}, func(l *testutil.Line) { l.Conn.OnSilence(time.Minute, func() {}) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testutil.NeedsTCPInfo(t)
			l, conn := controlledLine(t, &c.config)
			c.do(l)
			time.Sleep(100 * time.Millisecond) // what Wrap and do have begun comes to rest
			before := conn.calls.Load()
			l.LivesFor(2 * time.Second)
			if n := conn.calls.Load() - before - 1; n > c.most { // Lives asked once
				t.Errorf("the library asked the kernel %d times in 2 s; want %d at most", n, c.most)
			}
		})
	}
}

func receiving(l *testutil.Line) {
	every(l, time.Millisecond, func() error { _, err := l.Peer.Write([]byte("x")); return err })
	go io.Copy(io.Discard, l.Bare)
}

func sending(l *testutil.Line) {
	l.Take(100, 0)
	every(l, time.Millisecond, func() error { _, err := l.Conn.Write([]byte("x")); return err })
}

func pingedInVain(l *testutil.Line) {
	quiet(l)
	l.Cut(testutil.Both)
	if _, err := ping(l, 100*time.Millisecond); err == nil {
		l.Fatal("Ping was answered through a cut cable")
	}
}

// Both time-outs together find the program that hangs while its kernel answers.
func TestHungProgramIsIdle(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	l, process := processLine(t, &liveness.Config{PeerTimeout: shortest, ReadIdleTimeout: timeout})
	answered := make(chan error, 10)
	l.Conn.OnSilence(timeout/4, func() { answered <- process.Send(1) }) // as a program answers that runs
	l.Park()
	for range 3 {
		l.Must(testutil.Await(t, answered))
	}
	l.Lives()
	since := time.Now()
	l.Must(process.Stop())
	l.Ends(liveness.ErrPeerIdle, since.Add(timeout/2), time.Now().Add(idleBound(timeout)))
	l.Must(process.Continue())
}

// TestSuspendedProcessTakesNoPeerForGone stops and continues a process of its own. Its connections end at itself, so their
// kernel answers meanwhile.
func TestSuspendedProcessTakesNoPeerForGone(t *testing.T) {
	t.Parallel()
	if !testutil.Alone(t) {
		return
	}
	l := testutil.Listen(t, "tcp4")
	var conns []*liveness.Conn
	for i := range 40 {
		bare, peer := testutil.Accept(t, l)
		go io.Copy(struct{ io.Writer }{peer}, peer)
		c := wrap(t, bare, &liveness.Config{PeerTimeout: shortest, StallTimeout: shortest / 2, ReadIdleTimeout: shortest / 2})
		conns = append(conns, c)
		go io.Copy(io.Discard, struct{ io.Reader }{c})
		if i%2 == 0 { // asks when nothing comes
			c.OnSilence(shortest/8, func() { c.Write([]byte("ping")) })
			continue
		}
		go func() {
			for tick := time.Tick(shortest / 16); ; <-tick {
				if _, err := c.Write(make([]byte, 100)); err != nil {
					return
				}
			}
		}()
	}
	for range 2 {
		suspend(t, shortest+500*time.Millisecond)
		time.Sleep(1500 * time.Millisecond)
	}
	for _, c := range conns {
		if err := c.Err(); err != nil {
			t.Errorf("ended: %v", err)
		}
	}
}

// suspend stops this process for d.
func suspend(t *testing.T, d time.Duration) {
	t.Helper()
	script := fmt.Sprintf("kill -STOP %d; sleep %f; kill -CONT %[1]d", os.Getpid(), d.Seconds())
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Skipf("no process can be started: %v: %s", err, out)
	}
}

// TestPeerThatVanishedBeforeASuspensionIsLost has data or a FIN in flight when its process stops. The time-outs begin anew then,
// and the next retransmission comes no later than the whole outage has lasted.
func TestPeerThatVanishedBeforeASuspensionIsLost(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	if !testutil.Alone(t) {
		return
	}
	var lines []*testutil.Line
	for _, act := range []func(*testutil.Line){write, func(l *testutil.Line) { l.Must(l.Conn.CloseWrite()) }} {
		l := testutil.NewLine(t, &liveness.Config{PeerTimeout: shortest})
		l.Heard()
		l.Cut(testutil.Both)
		act(l)
		lines = append(lines, l)
	}
	cut := time.Now()
	time.Sleep(time.Second)
	suspend(t, 1500*time.Millisecond)
	resumed := time.Now()
	for _, l := range lines {
		l.Ends(liveness.ErrPeerLost, resumed, resumed.Add(shortest*5/4+time.Second+resumed.Sub(cut)))
	}
}
