package liveness_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// routesVariable says that the process is in namespaces of its own, where it may do
// what it likes.
const routesVariable = "LIVENESS_TEST_ROUTES"

// TestRoutes is for what a cut socket does not show: a path with a router on it,
// which drops, answers for others, or goes away. It runs in a process of its own,
// with a network of its own, where user namespaces are allowed.
func TestRoutes(t *testing.T) {
	if os.Getenv(routesVariable) == "" {
		t.Parallel()
		runInNamespace(t)
		return
	}
	const timeout = 4 * time.Second
	const short = timeout/2 - 500*time.Millisecond // some of these breakages take a while to make
	cfg := &liveness.Config{PeerTimeout: timeout}

	breakages := map[string]struct {
		make func(*route) (mend func())
		// reset says that something answers in the peer's name.
		reset bool
	}{
		"the router drops": {make: func(r *route) func() {
			r.router.ip("route add blackhole 10.1.0.1/32", "route add blackhole 10.2.0.1/32")
			return func() { r.router.ip("route del blackhole 10.1.0.1/32", "route del blackhole 10.2.0.1/32") }
		}},
		"the router drops what we send": {make: func(r *route) func() {
			r.router.ip("route add blackhole 10.2.0.1/32")
			return func() { r.router.ip("route del blackhole 10.2.0.1/32") }
		}},
		"the router drops what comes": {make: func(r *route) func() {
			r.router.ip("route add blackhole 10.1.0.1/32")
			return func() { r.router.ip("route del blackhole 10.1.0.1/32") }
		}},
		"ICMP host unreachable": {make: func(r *route) func() {
			r.router.ip("route add unreachable 10.2.0.1/32")
			return func() { r.router.ip("route del unreachable 10.2.0.1/32") }
		}},
		"ICMP prohibited": {make: func(r *route) func() {
			r.router.ip("route add prohibit 10.2.0.1/32")
			return func() { r.router.ip("route del prohibit 10.2.0.1/32") }
		}},
		"our interface is down": {make: func(r *route) func() {
			r.here.ip("link set a0 down")
			return func() { r.here.ip("link set a0 up", "route replace default via 10.1.0.2") }
		}},
		"our address is gone": {make: func(r *route) func() {
			r.here.ip("addr del 10.1.0.1/24 dev a0")
			return func() { r.here.ip("addr add 10.1.0.1/24 dev a0", "route replace default via 10.1.0.2") }
		}},
		"we have no route": {make: func(r *route) func() {
			r.here.ip("route del default")
			return func() { r.here.ip("route add default via 10.1.0.2") }
		}},
		"the peer's interface is down": {make: func(r *route) func() {
			r.there.ip("link set b0 down")
			return func() { r.there.ip("link set b0 up", "route replace default via 10.2.0.2") }
		}},
		"the peer's address is gone": {make: func(r *route) func() {
			r.there.ip("addr del 10.2.0.1/24 dev b0")
			return func() { r.there.ip("addr add 10.2.0.1/24 dev b0", "route replace default via 10.2.0.2") }
		}},
		"the router is down": {make: func(r *route) func() {
			r.router.ip("link set r0 down", "link set r1 down")
			return func() { r.router.ip("link set r0 up", "link set r1 up") }
		}},
		// A host that has the address and not the connection, as after a new start.
		"another host has the address": {reset: true, make: func(r *route) func() {
			r.router.ip("addr add 10.2.0.1/32 dev lo")
			return func() { r.router.ip("addr del 10.2.0.1/32 dev lo") }
		}},
	}
	sideBySide(t, func(run func(string, func(*testing.T))) {
		n := 0
		for name, b := range breakages {
			for _, what := range []load{idleLoad, flightLoad, windowLoad} {
				if what == windowLoad && !strings.Contains(name, "down") && !b.reset {
					continue // for the peer's window they are all the same, and to start ip takes long
				}
				n++
				offset := time.Duration(n) * 50 * time.Millisecond // so that not all break at once
				run(fmt.Sprintf("%s/%s", name, what), func(t *testing.T) {
					r := newRoute(t)
					l := r.line(cfg)
					by := func() func() { return b.make(r) }
					if !b.reset {
						l.lostBy(what, timeout, by)
						return
					}
					since, _ := l.vanishBy(what, by)
					// The next probe or segment is answered.
					within := 2*time.Second + busyMachine
					select {
					case <-l.conn.Done():
					case <-time.After(within + busyMachine):
						machine.excuse(t, since)
						t.Fatalf("nothing was told within %v: %+v", time.Since(since), l.conn.Status())
					}
					if err := l.conn.Err(); !errors.Is(err, liveness.ErrPeerReset) {
						t.Errorf("%v; want %v", err, liveness.ErrPeerReset)
					}
					t.Logf("figure %.2f s: %v", time.Since(since).Seconds(), l.conn.Err())
				})
				if b.reset {
					continue
				}
				run(fmt.Sprintf("%s/%s/short", name, what), func(t *testing.T) {
					r := newRoute(t)
					l := r.line(cfg)
					l.outageBy(what, offset, timeout, short, func() func() { return b.make(r) })
				})
			}
		}
		run("a route that retransmits at once", func(t *testing.T) {
			// How long the kernel has been asking is not told by how often it has.
			r := newRoute(t)
			r.here.ip("route replace default via 10.1.0.2 rto_min 5ms", "route replace 10.2.0.0/24 via 10.1.0.2 rto_min 5ms")
			l := r.line(&liveness.Config{PeerTimeout: timeout, KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Hour}})
			l.take(100, 0)
			for range 20 { // so that the kernel has measured the round trip
				l.exchange()
			}
			time.Sleep(timeout + time.Second)
			began := time.Now()
			_, mend := l.vanish(flightLoad, bothDeaf)
			time.Sleep(time.Until(began.Add(timeout/2 - 100*time.Millisecond)))
			t.Logf("%+v", l.conn.Status())
			mend()
			if lasted := time.Since(began); lasted >= timeout/2 {
				t.Skipf("the machine was too busy: the outage lasted %v", lasted)
			}
			time.Sleep(timeout)
			l.lives()
		})
		run("queues while nothing can be sent", func(t *testing.T) {
			r := newRoute(t)
			l := r.line(nil)
			l.conn.Status()
			since, _ := l.vanishBy(flightLoad, func() func() { return breakages["our interface is down"].make(r) })
			for time.Since(since) < 2*time.Second {
				if s := l.sameQueues("interface down", 0); s.Unacked != len("in flight") {
					t.Fatalf("%+v", s)
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		run("far away", func(t *testing.T) {
			// A peer that takes half a second to answer is there, and a Ping waits for it.
			r := newRoute(t)
			if out, err := r.router.command("tc", "qdisc", "add", "dev", "r1", "root", "netem", "delay", "500ms"); err != nil {
				t.Skipf("no delay can be made: %v: %s", err, out)
			}
			l := r.line(cfg)
			l.take(100, 0)
			for began := time.Now(); time.Since(began) < 3*timeout; time.Sleep(100 * time.Millisecond) {
				l.conn.Write([]byte("x"))
				l.lives()
			}
			l.quiet(1100 * time.Millisecond)
			if took, err := l.ping(10 * time.Second); err != nil || slow(t, took, 500*time.Millisecond) {
				t.Errorf("Ping: %v, after %v", err, took)
			}
		})
		run("nft reject with tcp reset", func(t *testing.T) {
			if _, err := exec.LookPath("nft"); err != nil {
				t.Skip(err)
			}
			r := newRoute(t)
			l := r.line(cfg)
			for _, command := range []string{
				"add table ip filter",
				"add chain ip filter forward { type filter hook forward priority 0; }",
				"add rule ip filter forward ip saddr 10.1.0.1 reject with tcp reset",
			} {
				if out, err := r.router.command("nft", strings.Fields(command)...); err != nil {
					t.Skipf("nft %s: %v: %s", command, err, out)
				}
			}
			since := time.Now()
			l.conn.Write([]byte("x"))
			select {
			case <-l.conn.Done():
			case <-time.After(10 * time.Second):
				t.Fatalf("nothing was told within %v: %+v", time.Since(since), l.conn.Status())
			}
			if err := l.conn.Err(); !errors.Is(err, liveness.ErrPeerReset) {
				t.Errorf("%v; want %v", err, liveness.ErrPeerReset)
			}
		})
	})
}

// runInNamespace runs the calling test again, as the root of namespaces of its own.
func runInNamespace(t *testing.T) {
	t.Helper()
	liveness.NeedsProcesses(t) // what the kernel cannot run, unshare would hand to a shell
	for _, program := range []string{"unshare", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	if out, err := exec.Command("unshare", "-rn", "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Skipf("user namespaces are not allowed here: %v: %s", err, out)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command("unshare", "-rn", executable, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), routesVariable+"=1")
	out, err := cmd.CombinedOutput()
	for _, row := range strings.Split(string(out), "\n") {
		if strings.Contains(row, "--- SKIP") || strings.Contains(row, "_test.go:") {
			t.Log(strings.TrimSpace(row))
		}
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
}

// A place is a network namespace, with a thread that is in it.
type place struct {
	t   *testing.T
	tid int
	do  chan func()
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, do: make(chan func())}
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		p.tid = unix.Gettid()
		err := unix.Unshare(unix.CLONE_NEWNET)
		ready <- err
		if err != nil {
			return
		}
		for f := range p.do {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	t.Cleanup(func() { close(p.do) })
	return p
}

// in runs f on the thread that is there.
func (p *place) in(f func()) {
	done := make(chan struct{})
	p.do <- func() { f(); close(done) }
	<-done
}

func (p *place) command(name string, args ...string) (out []byte, err error) {
	p.in(func() { out, err = exec.Command(name, args...).CombinedOutput() })
	return out, err
}

// ip runs commands of ip(8), all by one process: what takes long is to start it.
func (p *place) ip(commands ...string) {
	p.t.Helper()
	var out []byte
	var err error
	p.in(func() {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
		out, err = cmd.CombinedOutput()
	})
	if err != nil {
		p.t.Fatalf("ip %s: %v: %s", strings.Join(commands, "; "), err, out)
	}
}

// A route leads from here to there, by a router.
type route struct {
	*testing.T
	here, router, there *place
}

func newRoute(t *testing.T) *route {
	t.Helper()
	r := &route{t, newPlace(t), newPlace(t), newPlace(t)}
	r.here.ip(fmt.Sprintf("link add a0 type veth peer name r0 netns %d", r.router.tid),
		"addr add 10.1.0.1/24 dev a0", "link set a0 up", "link set lo up")
	r.there.ip(fmt.Sprintf("link add b0 type veth peer name r1 netns %d", r.router.tid),
		"addr add 10.2.0.1/24 dev b0", "link set b0 up", "link set lo up", "route add default via 10.2.0.2 onlink dev b0")
	r.router.ip("addr add 10.1.0.2/24 dev r0", "addr add 10.2.0.2/24 dev r1", "link set r0 up", "link set r1 up", "link set lo up")
	r.here.ip("route add default via 10.1.0.2")
	var err error
	r.router.in(func() { err = os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	if err != nil {
		t.Skipf("no router can be made: %v", err)
	}
	return r
}

// line connects the two ends: ours is the one that was accepted.
func (r *route) line(cfg *liveness.Config) *line {
	r.Helper()
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(false)
	var listener net.Listener
	var peer, conn net.Conn
	var err error
	r.here.in(func() { listener, err = config.Listen(r.Context(), "tcp4", "10.1.0.1:0") })
	if err != nil {
		r.Fatal(err)
	}
	defer listener.Close()
	r.there.in(func() {
		dialer := net.Dialer{KeepAlive: -1, Timeout: 20 * time.Second}
		dialer.SetMultipathTCP(false)
		peer, err = dialer.Dial("tcp4", listener.Addr().String())
	})
	if err == nil {
		conn, err = listener.Accept()
	}
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { conn.Close(); peer.Close() })
	for _, c := range []net.Conn{conn, peer} {
		c.(*net.TCPConn).SetReadBuffer(32 << 10)
		c.(*net.TCPConn).SetWriteBuffer(64 << 10)
	}
	return lineOf(r.T, conn, livenesstest.NewPeer(peer), cfg)
}
