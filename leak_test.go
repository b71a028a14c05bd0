package liveness

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-liveness/liveness/internal/poller"
	"github.com/go-liveness/liveness/internal/watch"
	"github.com/go-liveness/liveness/livenesstest"
)

// RaceBuild reports whether the race detector is in this program. It slows down,
// and it allocates.
var RaceBuild = func() bool {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}()

// Distrusts reports whether this process was brought to the sweep although the system
// passes the self-test: then it is slow, and what needs notices fails somewhere else.
func Distrusts() bool {
	if !theHub.State().Sweeps {
		return false
	}
	p, err := poller.New()
	if err == nil {
		p.Close()
	}
	return err == nil
}

// NeedsProcesses skips a test that starts this program again, where that cannot be
// done: an emulator interprets it, and a sandbox may forbid it. It is tried once: each
// attempt forks, which not every emulator survives while others do.
func NeedsProcesses(t *testing.T) {
	t.Helper()
	if err := tryProcess(); err != nil {
		t.Skip("no process can be started: ", err)
	}
}

var tryProcess = sync.OnceValue(func() error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(executable, "-test.list=^$")
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return err
	}
	return nil
})

// What runs alone, in a process of its own, so that nothing of other tests is
// taken for what the library leaves behind.
const aloneVariable = "LIVENESS_TEST_ALONE"

// alone runs the calling test again in a process of its own, and reports true
// there.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneVariable) == t.Name() {
		return true
	}
	executable, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	NeedsProcesses(t)
	t.Parallel()
	cmd := exec.Command(executable, "-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprintf("-test.short=%t", testing.Short()))
	cmd.Env = append(os.Environ(), aloneVariable+"="+t.Name())
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) && !bytes.Contains(out, []byte("--- SKIP: "+t.Name())):
		t.Errorf("%v\n%s", err, out)
	case testing.Verbose():
		t.Logf("%s", out)
	}
	return false
}

// belongings counts what a process has: goroutines that the library started,
// descriptors (-1 where the system does not list them), and epoll descriptors
// among these.
type belongings struct {
	ours, goroutines, descriptors, epolls int
}

func countBelongings() (b belongings) {
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	for _, stack := range strings.Split(stacks, "\n\n") {
		b.goroutines++
		_, creator, _ := strings.Cut(stack, "created by ")
		if (strings.HasPrefix(creator, "github.com/go-liveness/liveness.") || strings.HasPrefix(creator, "github.com/go-liveness/liveness/internal/watch.")) && !strings.Contains(creator, "_test.go") {
			b.ours++
		}
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil || runtime.GOOS == "windows" { // Wine has the folder of the system beneath
		b.descriptors = -1
		return b
	}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", entry.Name()))
		if err != nil {
			continue // the descriptor of the directory itself
		}
		b.descriptors++
		if strings.Contains(target, "eventpoll") {
			b.epolls++
		}
	}
	return b
}

// waitBelongings waits until the process has what is wanted, and returns how long
// that took.
func waitBelongings(t *testing.T, what string, want belongings) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		got := countBelongings()
		if got == want {
			return time.Since(start)
		}
		if time.Since(start) > 10*time.Second {
			buf := make([]byte, 1<<16)
			t.Fatalf("%s: %+v; want %+v\n%s", what, got, want, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Importing the package starts nothing.
func TestImportStartsNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	if s := theHub.State(); s.Poller != nil || s.Clients != 0 || s.LastID != 0 {
		t.Errorf("the hub runs: %+v", &theHub)
	}
	if b := countBelongings(); b.ours != 0 {
		t.Errorf("%+v", b)
	}
	// Neither do connections without a socket.
	one, other := net.Pipe()
	c, err := Wrap(one, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Done()
	other.Close()
	c.Read(make([]byte, 1))
	<-c.Done()
	c.Close()
	if s := theHub.State(); s.Poller != nil || s.LastID != 0 {
		t.Error("a pipe started the hub")
	}
	if b := countBelongings(); b.ours != 0 {
		t.Errorf("%+v", b)
	}
}

// hubRuns reports whether there is a hub, and which.
func hubRuns() (running bool, which any) {
	p := theHub.State().Poller
	return p != nil, p
}

// What connections share starts with the first and stops a second after the last,
// again and again.
func TestHubStopsAndStarts(t *testing.T) {
	if !alone(t) {
		return
	}
	wrap := func() *Conn {
		conn, _ := livenesstest.Pair(t, "tcp4")
		c, err := Wrap(conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	livenesstest.Pair(t, "tcp4") // the runtime starts its own poller
	before := countBelongings()
	first := wrap()
	if running, _ := hubRuns(); !running {
		t.Skip("nothing is shared on this system")
	}
	for round := range 2 {
		_, hub := hubRuns()
		with := countBelongings()
		for begin := time.Now(); with.goroutines > before.goroutines+1 && time.Since(begin) < watch.Linger/4; with = countBelongings() {
			time.Sleep(time.Millisecond) // one of a Dial may be about to end
		}
		if with.ours != 1 || with.goroutines != before.goroutines+1 {
			t.Errorf("with one connection: %+v; before: %+v", with, before)
		}
		if with.descriptors >= 0 && with.epolls != before.epolls+1 {
			t.Errorf("with one connection: %+v; before: %+v", with, before)
		}

		// A second without a connection is no reason to stop, if another comes in it.
		first.Close()
		time.Sleep(watch.Linger / 2)
		second := wrap()
		time.Sleep(watch.Linger) // the time at which it would have stopped is past
		theHub.Stop()            // as a timer would that was on its way meanwhile
		if running, now := hubRuns(); !running || now != hub {
			t.Error("the hub stopped while a connection was watched")
		}
		second.Close()
		closed := time.Now()
		for running := true; running; running, _ = hubRuns() {
			if time.Since(closed) > 10*time.Second {
				t.Fatal("the hub does not stop")
			}
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(closed); took < watch.Linger*9/10 || took > watch.Linger*5 { // the machine may be busy
			t.Errorf("the hub stopped %v after the last connection", took)
		}
		want := countBelongings()
		want.ours, want.goroutines, want.epolls = 0, before.goroutines, before.epolls
		want.descriptors = before.descriptors + 2 // the peers
		if round > 0 {
			want.descriptors += 2
		}
		if before.descriptors < 0 {
			want.descriptors = -1
		}
		waitBelongings(t, "without a connection", want)
		first = wrap()
	}
	first.Close()
}

// Thousands of connections leave nothing behind: no goroutine, no descriptor, and
// no memory, however they ended, and whatever was asked of them.
func TestNothingIsLeft(t *testing.T) {
	if !alone(t) {
		return
	}
	livenesstest.Pair(t, "tcp4") // the runtime starts its own poller
	before := countBelongings()
	keeper, _ := livenesstest.Pair(t, "tcp4")
	kept, err := Wrap(keeper, nil) // the hub runs through all of it
	if err != nil {
		t.Fatal(err)
	}
	const batch = 250
	batches := 16
	if testing.Short() {
		batches = 4
	}
	for range 2 {
		churn(t, batch) // pools, maps and stacks grow to their size
	}
	with := before
	with.ours++
	with.goroutines++
	if with.descriptors >= 0 {
		with.descriptors += 3 // both ends, and what watches
		with.epolls++
	}
	waitBelongings(t, "with one connection", with)
	heap := heapNow()
	for range batches {
		churn(t, batch)
	}
	waitBelongings(t, fmt.Sprintf("after %d connections", batch*batches), with)
	grown := int64(heapNow()) - int64(heap)
	t.Logf("%d connections leave %d bytes", batch*batches, grown)
	// The runtime itself keeps some 100 kB more or less; a Conn is many times this.
	if limit := int64(batch*batches*32 + 128<<10); grown > limit {
		t.Errorf("the heap has grown by more than %d bytes", limit)
	}
	n, runs := theHub.State().Clients, theHub.State().Poller != nil
	if n != 1 && runs {
		t.Errorf("%d connections are registered; want 1", n)
	}

	kept.Close()
	after := before
	if after.descriptors >= 0 {
		after.descriptors++ // its peer
	}
	took := waitBelongings(t, "at the end", after)
	t.Logf("all is gone after %v", took)
}

func heapNow() uint64 {
	for range 3 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond) // finalizers and cleanups
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// churn makes n connections, uses everything that they have, ends them in every
// way, and closes or forgets them.
func churn(t *testing.T, n int) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	told := make(chan error, 8*n)
	owed := 0
	watching := NewListener(listener, &Config{OnDisconnect: func(_ *Conn, err error) { told <- err }})
	var conns []*Conn
	var peers []*livenesstest.Peer
	for range n {
		peer, err := livenesstest.Dial("tcp4", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := watching.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conns, peers = append(conns, conn.(*Conn)), append(peers, peer)
	}
	for i, c := range conns {
		owed++
		if i%2 == 0 {
			c.OnDisconnect(func(err error) { told <- err })
			owed++
		}
		if i%3 == 0 {
			ctx, cancel := c.Context(context.Background())
			if i%2 == 0 {
				cancel()
			} else {
				context.AfterFunc(ctx, func() { told <- context.Cause(ctx) })
				owed++
				defer cancel()
			}
		}
		for range 3 { // requests of a long-lived connection
			ConnContext(context.Background(), c)
			_, cancel := c.Context(context.Background())
			cancel()
			c.OnDisconnect(func(error) { t.Error("called, and stopped before") })()
		}
		if i%5 == 0 {
			go func() {
				_, err := c.Read(make([]byte, 1))
				told <- err
			}()
			owed++
		}
		c.Alive()
		c.Status()
		if err := Check(c.NetConn()); err != nil {
			t.Error(err)
		}
	}
	for i, c := range conns {
		switch i % 4 {
		case 0:
			peers[i].CloseWrite()
		case 1, 2:
			peers[i].Reset()
		case 3:
			c.Close()
		}
	}
	for range owed {
		select {
		case err := <-told:
			if err == nil {
				t.Error("told nothing")
			}
		case <-time.After(20 * time.Second):
			t.Fatal("not all were told")
		}
	}
	for i, c := range conns {
		if i%4 == 2 {
			c.NetConn().Close() // and never a Close of the Conn
		} else {
			c.Close()
			c.Close()
		}
		peers[i].Reset()
	}

	// Some are forgotten, alive, and some while what they wrap goes on.
	for i := range n / 10 {
		peer, err := livenesstest.Dial("tcp4", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		bare, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := Wrap(bare, nil); err != nil || !c.Alive() {
			t.Errorf("Wrap: %v", err)
		}
		if i%2 == 0 {
			defer bare.Close()
		}
		bare = nil
		defer peer.Reset()
		if i%2 == 0 {
			continue
		}
		defer func() {
			for deadline := time.Now().Add(20 * time.Second); ; {
				runtime.GC()
				peer.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				_, err := peer.Read(make([]byte, 1))
				if err == nil || !os.IsTimeout(err) {
					return
				}
				if time.Now().After(deadline) {
					t.Error("a forgotten connection is still open")
					return
				}
			}
		}()
	}
}
