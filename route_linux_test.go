package liveness_test

import (
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
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// A breakage is one way in which a path with a router on it breaks.
type breakage struct {
	name     string
	where    int // 0 is here, 1 the router, 2 there
	cut, fix string
	reset    bool // something answers in the peer's name
}

var breakages = []breakage{
	{name: "the router drops", where: 1, cut: "route add blackhole 10.2.0.1/32", fix: "route del blackhole 10.2.0.1/32"},
	{name: "ICMP host unreachable", where: 1, cut: "route add unreachable 10.2.0.1/32", fix: "route del unreachable 10.2.0.1/32"},
	{name: "ICMP prohibited", where: 1, cut: "route add prohibit 10.2.0.1/32", fix: "route del prohibit 10.2.0.1/32"},
	{name: "our interface is down", where: 0, cut: "link set a0 down", fix: "link set a0 up\nroute replace default via 10.1.0.2"},
	{name: "our address is gone", where: 0, cut: "addr del 10.1.0.1/24 dev a0", fix: "addr add 10.1.0.1/24 dev a0\nroute replace default via 10.1.0.2"},
	{name: "we have no route", where: 0, cut: "route del default", fix: "route add default via 10.1.0.2"},
	{name: "the peer's address is gone", where: 2, cut: "addr del 10.2.0.1/24 dev b0", fix: "addr add 10.2.0.1/24 dev b0\nroute replace default via 10.2.0.2"},
	// A host that has the address and not the connection, as after a restart.
	{name: "another host has the address", where: 1, cut: "addr add 10.2.0.1/32 dev lo", reset: true},
}

// aloneInNamespace is testutil.Alone in a network namespace.
func aloneInNamespace(t *testing.T) bool {
	t.Helper()
	testutil.NeedsTCPInfo(t)
	if out, err := exec.Command("unshare", "-rn", "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Skipf("no network namespace can be made here (unshare -rn ip): %v: %s", err, out)
	}
	return testutil.Alone(t, "unshare", "-rn")
}

func TestBrokenPathIsSurvivedOrLostInTime(t *testing.T) {
	t.Parallel()
	if !aloneInNamespace(t) {
		return
	}
	for _, b := range breakages {
		t.Run(b.name, func(t *testing.T) { t.Parallel(); b.play(t) })
	}
}

// play breaks the path of two connections, one of which then has data in flight.
func (b breakage) play(t *testing.T) {
	r, cfg := newRoute(t), &liveness.Config{PeerTimeout: shortest}
	lines := map[load]*testutil.Line{idle: r.line(cfg), inFlight: r.line(cfg)}
	if !b.reset { // first for less than half of the time-out
		testutil.Again(t, func() bool {
			began := time.Now()
			r[b.where].ip(b.cut)
			write(lines[inFlight])
			r[b.where].ip(strings.Split(b.fix, "\n")...)
			if time.Since(began) >= shortest/2 {
				lines = map[load]*testutil.Line{idle: r.line(cfg), inFlight: r.line(cfg)}
				return false
			}
			lines[inFlight].Acknowledged()
			lines[idle].Lives()
			return true
		})
	}
	last := map[load]time.Time{idle: heard(lines[idle]), inFlight: heard(lines[inFlight])}
	broken := time.Now()
	r[b.where].ip(b.cut)
	write(lines[inFlight])
	for what, l := range lines {
		if !b.reset {
			l.Ends(liveness.ErrPeerLost, last[what].Add(shortest-testutil.Tick), broken.Add(what.within(shortest)))
			l.Refuses(liveness.ErrPeerLost)
		} else if err := l.Ended(); !errors.Is(err, liveness.ErrPeerReset) {
			t.Errorf("%s: reported %v; want %v", what, err, liveness.ErrPeerReset)
		}
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
		for f := range p.do {
			f()
		}
	}()
	t.Cleanup(func() { close(p.do) })
	if err := <-ready; err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	return p
}

// in runs f on the thread that is there.
func (p *place) in(f func()) {
	done := make(chan struct{})
	p.do <- func() { f(); close(done) }
	<-done
}

// ip runs commands of ip(8), all by one process: what takes long is to start it.
func (p *place) ip(commands ...string) {
	p.t.Helper()
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	p.in(func() {
		if out, err := cmd.CombinedOutput(); err != nil {
			p.t.Errorf("ip %s: %v: %s", strings.Join(commands, "; "), err, out)
		}
	})
}

// A route leads from here by a router to there.
type route [3]*place

func newRoute(t *testing.T) route {
	t.Helper()
	r := route{newPlace(t), newPlace(t), newPlace(t)}
	r[0].ip(fmt.Sprintf("link add a0 type veth peer name r0 netns %d", r[1].tid), "addr add 10.1.0.1/24 dev a0", "link set a0 up", "link set lo up")
	r[2].ip(fmt.Sprintf("link add b0 type veth peer name r1 netns %d", r[1].tid), "addr add 10.2.0.1/24 dev b0", "link set b0 up", "link set lo up", "route add default via 10.2.0.2 onlink dev b0")
	r[1].ip("addr add 10.1.0.2/24 dev r0", "addr add 10.2.0.2/24 dev r1", "link set r0 up", "link set r1 up", "link set lo up")
	r[0].ip("route add default via 10.1.0.2")
	var err error
	r[1].in(func() { err = os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	if err != nil {
		t.Skipf("no router can be made: %v", err)
	}
	return r
}

// line connects the two ends: ours is the one that was accepted.
func (r route) line(cfg *liveness.Config) *testutil.Line {
	t := r[0].t
	var listener net.Listener
	var conn, far net.Conn
	var err error
	r[0].in(func() { listener, err = (&net.ListenConfig{KeepAlive: -1}).Listen(t.Context(), "tcp4", "10.1.0.1:0") })
	testutil.Must(t, err)
	defer listener.Close()
	r[2].in(func() {
		far, err = (&net.Dialer{KeepAlive: -1, Timeout: testutil.Patience}).Dial("tcp4", listener.Addr().String())
	})
	if err == nil {
		conn, err = listener.Accept()
	}
	testutil.Must(t, err)
	t.Cleanup(func() { conn.Close(); far.Close() })
	return testutil.LineOf(t, conn, livenesstest.NewPeer(far), cfg)
}
