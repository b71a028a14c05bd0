package link

import (
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBadInputIsRejected(t *testing.T) {
	l, _, _ := open(t, Options{})
	for _, p := range []Path{{Loss: -0.1}, {Loss: 1.1}, {Loss: math.NaN()}, {Delay: -1}, {Jitter: -1}, {MaxSize: -1}} {
		_, err := New(Options{Paths: [2]Path{Remote: p}})
		assert.ErrorContains(t, err, "link: ", "%+v", p)
	}
	for _, mtu := range []int{-1, 575, 65536} {
		_, err := New(Options{MTU: mtu})
		assert.ErrorContains(t, err, "MTU", mtu)
	}
	_, dial := l.Dial(Local, nil)
	_, flap := l.Flap(0, time.Second)
	for n, err := range []error{
		l.Set(Path{Loss: 2}, Local), l.Set(Path{}, Side(2)), l.In(Side(-1), func() error { return nil }),
		l.Sysctl(Local, "kernel.panic", "0"), l.Sysctl(Local, "net/../kernel.panic", "0"), dial, flap,
	} {
		assert.Error(t, err, n)
	}
	assert.ErrorIs(t, l.Sysctl(Local, "net.ipv4.no_such_name", "0"), os.ErrNotExist)
	assert.ErrorIs(t, l.Sysctl(Local, "net.ipv4.tcp_retries2", "many"), syscall.EINVAL)
}

// It runs in a user namespace that maps no user: execve(2) then
// leaves a process without capabilities.
func TestNewWithoutPrivilegeSaysWhatIsMissing(t *testing.T) {
	const variable = "LIVENESS_LINK_UNPRIVILEGED"
	if os.Getenv(variable) != "" {
		before := openFiles(t)
		_, err := New(Options{})
		require.ErrorIs(t, err, os.ErrPermission)
		require.ErrorContains(t, err, "link: new network namespace: operation not permitted")
		require.Equal(t, before, openFiles(t))
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), variable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Skipf("no user namespace: %v", err)
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
}

func TestCloseLeavesNothing(t *testing.T) {
	if !Require(t) {
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the runtime opens its own poller for good
	require.NoError(t, err)
	listener.Close()
	before, goroutines := openFiles(t), runtime.NumGoroutine()
	l, err := New(Options{Paths: Both(Path{Delay: time.Hour})})
	require.NoError(t, err)
	_, err = l.Flap(time.Millisecond, time.Hour)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	require.Equal(t, before, openFiles(t))
	for began := time.Now(); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		require.Less(t, time.Since(began), 10*time.Second)
	}
	_, err = l.Listen(Local)
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = l.Sockets(Remote)
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestDelayIsKept(t *testing.T) {
	const delay = 150 * time.Millisecond
	l, conn, peer := open(t, Options{Paths: Both(Path{Delay: delay, Jitter: 20 * time.Millisecond})})
	for range 3 {
		began := time.Now()
		exchange(t, conn, peer)
		exchange(t, peer, conn)
		assert.GreaterOrEqual(t, time.Since(began), 2*delay)
	}
	assert.GreaterOrEqual(t, l.Heard(conn).LongestSilence(time.Now()), 2*delay)
	last := l.Heard(conn).LastHeard(time.Now())
	assert.Less(t, l.Heard(conn).LastHeard(last.Add(-1)), last)
	bytes := 0
	for _, p := range l.Heard(conn).Packets() {
		bytes += p.Len
	}
	assert.GreaterOrEqual(t, bytes, 3) // more if the kernel has retransmitted some
}

func TestLossIsThatAskedFor(t *testing.T) {
	l, _, _ := open(t, Options{Seed: 1, Paths: [2]Path{Local: {Loss: 0.2}}})
	l.log.mu.Lock()
	f := l.log.flow(flowKey{to: Remote}) // of what is not TCP
	l.log.mu.Unlock()
	counted := func() int { delivered, dropped := f.Counts(); return delivered + dropped }
	const datagrams = 2000
	require.NoError(t, l.In(Local, func() error {
		conn, err := net.Dial("udp4", "10.76.0.2:9")
		if err != nil {
			return err
		}
		defer conn.Close()
		for began := time.Now(); counted() < datagrams && time.Since(began) < 10*time.Second; {
			for range 100 { // fewer than the queue of the device takes
				_, _ = conn.Write([]byte("x")) // an error tells that the port is closed
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	}))
	delivered, dropped := f.Counts()
	assert.GreaterOrEqual(t, delivered+dropped, datagrams)
	assert.InDelta(t, 0.2, float64(dropped)/float64(delivered+dropped), 0.04) // four standard deviations
}

func TestCutOfOneDirectionLeavesTheOther(t *testing.T) {
	l, conn, peer := open(t, Options{Paths: Both(Path{Delay: 10 * time.Millisecond})})
	exchange(t, conn, peer)
	exchange(t, peer, conn) // with the acknowledgement
	l.Cut(Local)
	cut := time.Now()
	_, err := conn.Write([]byte("x"))
	require.NoError(t, err)
	exchange(t, peer, conn)
	now := time.Now()
	assert.Less(t, l.Heard(peer).LastHeard(now), cut)
	assert.Greater(t, l.Heard(conn).LastHeard(now), cut)
	assert.GreaterOrEqual(t, l.Heard(conn).UnacknowledgedFor(now), now.Sub(cut))
	l.Restore(Local)
	_, err = io.ReadFull(peer, make([]byte, 1))
	require.NoError(t, err)
	for l.Heard(conn).UnacknowledgedFor(time.Now()) > time.Since(cut) {
		require.Less(t, time.Since(cut), 10*time.Second)
		time.Sleep(time.Millisecond)
	}
}

func TestLargePacketsDisappear(t *testing.T) {
	l, conn, peer := open(t, Options{Paths: [2]Path{Local: {MaxSize: 1000}}})
	exchange(t, conn, peer)
	_, err := conn.Write(make([]byte, 1448))
	require.NoError(t, err)
	peer.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, err = peer.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, dropped := l.Heard(peer).Counts()
	assert.NotZero(t, dropped)
	require.NoError(t, l.Set(Path{}, Local))
	peer.SetReadDeadline(time.Time{})
	_, err = io.ReadFull(peer, make([]byte, 1448))
	require.NoError(t, err)
}

func TestFlapIsSeenInTheLog(t *testing.T) {
	l, conn, peer := open(t, Options{})
	stop, err := l.Flap(300*time.Millisecond, 100*time.Millisecond)
	require.NoError(t, err)
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(5 * time.Millisecond) {
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
	}
	stop()
	assert.GreaterOrEqual(t, l.Heard(conn).LongestSilence(time.Now()), 290*time.Millisecond)
	exchange(t, conn, peer)
}

func TestOrphansAreListed(t *testing.T) {
	l, conn, peer := open(t, Options{})
	require.NoError(t, l.Sysctl(Local, "net.ipv4.tcp_orphan_retries", "1"))
	exchange(t, conn, peer)
	l.Cut()
	_, err := conn.Write([]byte("x"))
	require.NoError(t, err)
	conn.Close()
	sockets, err := l.Sockets(Local)
	require.NoError(t, err)
	port := uint16(conn.RemoteAddr().(*net.TCPAddr).Port)
	require.Equal(t, []Socket{{LocalPort: sockets[0].LocalPort, RemotePort: port, State: 4}}, sockets)
	for began := time.Now(); len(sockets) > 0; time.Sleep(10 * time.Millisecond) {
		require.Less(t, time.Since(began), 20*time.Second)
		sockets, err = l.Sockets(Local)
		require.NoError(t, err)
	}
}

// A connection that is severed does not touch another, and its ports may be used again.
func TestSeverIsOfOneConnection(t *testing.T) {
	l, conn, peer := open(t, Options{})
	other, otherPeer, err := l.Connect()
	require.NoError(t, err)
	defer other.Close()
	defer otherPeer.Close()
	exchange(t, conn, peer)
	l.Sever(conn)
	severed, _ := l.Heard(conn).Counts()
	for _, c := range []net.Conn{conn, peer} {
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
	}
	exchange(t, other, otherPeer)
	exchange(t, otherPeer, other)
	delivered, _ := l.Heard(conn).Counts()
	assert.LessOrEqual(t, delivered, severed+1) // the acknowledgement may have been on the way
	l.Forget(conn)
	for _, c := range []net.Conn{conn, peer} { // by a retransmission
		_, err := io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
	}
}

func TestArrivalsAreInOrder(t *testing.T) {
	at := time.Now().Add(-time.Hour)
	second := func(n int) time.Time { return at.Add(time.Duration(n) * time.Second) }
	flow := func(packets ...Packet) *Flow {
		g := &log{start: at, flows: make(map[flowKey]*Flow)}
		for n, p := range packets {
			p.Seq += 1<<32 - 5 // it wraps around
			g.delivered(flowKey{}, p, second(n))
		}
		return g.flow(flowKey{})
	}
	syn := Packet{Flags: SYN, Seq: 0}
	data := func(begin uint32, n int, flags uint8) Packet {
		return Packet{Flags: ACK | flags, Seq: 1 + begin, Len: n}
	}
	arrivals, reset, ok := flow(syn, syn, data(10, 10, FIN), data(0, 5, 0), data(0, 10, 0)).Arrivals()
	assert.Equal(t, []Arrival{{second(3), 5, false}, {second(4), 20, true}}, arrivals)
	assert.Zero(t, reset)
	assert.True(t, ok)
	_, reset, _ = flow(syn, data(0, 10, 0), data(9, 0, RST), data(10, 0, RST)).Arrivals()
	assert.Equal(t, second(3), reset)
	arrivals, reset, _ = flow(syn, data(0, 10, 0), data(15, 5, 0), data(30, 0, 0), data(30, 0, RST), data(20, 0, RST), data(10, 5, 0)).Arrivals()
	assert.Equal(t, second(5), reset)
	assert.Equal(t, []Arrival{{second(1), 10, false}}, arrivals)
	_, _, ok = flow(data(0, 5, 0)).Arrivals()
	assert.False(t, ok)
}

// A log that forgets packets still knows the longest silence.
func TestLogForgetsPacketsAndKeepsSilences(t *testing.T) {
	at := time.Now().Add(-time.Hour)
	g := &log{start: at, flows: make(map[flowKey]*Flow)}
	f := g.flow(flowKey{})
	random := rand.New(rand.NewPCG(1, 1))
	longest, acknowledged := time.Duration(0), at
	for i := range 3 * keptPackets {
		gap := time.Duration(random.IntN(1000)) * time.Microsecond
		if i == keptPackets/2 {
			gap = time.Second
		}
		at = at.Add(gap)
		if i > 0 {
			longest = max(longest, gap)
		}
		if i <= keptPackets {
			acknowledged = at
		}
		g.delivered(flowKey{}, Packet{Flags: ACK, Ack: uint32(min(i, keptPackets))}, at)
		if i%100 == 0 {
			require.Equal(t, longest, f.LongestSilence(at), i)
			require.Equal(t, 5*time.Second, f.SilentFor(at.Add(5*time.Second)))
		}
	}
	require.Equal(t, at.Sub(acknowledged), f.UnacknowledgedFor(at))
	require.Len(t, f.Packets(), keptPackets)
}

// open returns a link with one connection, for a test that others run beside.
func open(t *testing.T, o Options) (l *Link, conn, peer *net.TCPConn) {
	t.Helper()
	t.Parallel()
	if !Require(t) {
		t.SkipNow() // it has run in a namespace
	}
	l, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	conn, peer, err = l.Connect()
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(); peer.Close() })
	return l, conn, peer
}

// exchange carries a byte.
func exchange(t *testing.T, from, to net.Conn) {
	t.Helper()
	_, err := from.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(to, make([]byte, 1))
	require.NoError(t, err)
}

func openFiles(t *testing.T) (targets []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, entry := range entries {
		// The descriptor of the directory itself is closed by now.
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil {
			targets = append(targets, target)
		}
	}
	return targets
}
