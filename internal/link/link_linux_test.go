package link

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBadInputIsRejected(t *testing.T) {
	if !Require(t) {
		return
	}
	for name, p := range map[string]Path{
		"negative loss":   {Loss: -0.1},
		"loss above 1":    {Loss: 1.1},
		"loss of NaN":     {Loss: math.NaN()},
		"negative delay":  {Delay: -1},
		"negative jitter": {Jitter: -1},
		"negative size":   {MaxSize: -1},
	} {
		_, err := New(Options{Paths: [2]Path{Remote: p}})
		assert.ErrorContains(t, err, "link: ", name)
	}
	for _, mtu := range []int{-1, 575, 65536} {
		_, err := New(Options{MTU: mtu})
		assert.ErrorContains(t, err, "MTU", mtu)
	}
	l := open(t, Options{})
	assert.Error(t, l.Set(Local, Path{Loss: 2}))
	assert.Error(t, l.Set(Side(2), Path{}))
	assert.Error(t, l.In(Side(-1), func() error { return nil }))
	assert.Error(t, l.Sysctl(Local, "kernel.panic", "0"))
	assert.Error(t, l.Sysctl(Local, "net/../kernel.panic", "0"))
	assert.ErrorIs(t, l.Sysctl(Local, "net.ipv4.no_such_name", "0"), os.ErrNotExist)
	assert.ErrorIs(t, l.Sysctl(Local, "net.ipv4.tcp_retries2", "many"), syscall.EINVAL)
	_, err := l.Dial(Local, nil)
	assert.Error(t, err)
	_, err = l.Flap(0, time.Second)
	assert.Error(t, err)
}

// TestNewWithoutPrivilege runs in a user namespace that maps no user: execve(2) then
// leaves a process without capabilities.
func TestNewWithoutPrivilege(t *testing.T) {
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
	t.Parallel()
	if !Require(t) {
		return
	}
	const delay = 150 * time.Millisecond
	l := open(t, Options{Paths: Both(Path{Delay: delay, Jitter: 20 * time.Millisecond})})
	conn, peer := connect(t, l)
	go io.Copy(peer, peer)
	for range 3 {
		began := time.Now()
		exchange(t, conn, 1)
		took := time.Since(began)
		assert.GreaterOrEqual(t, took, 2*delay)
		t.Logf("%v, the relay up to %v late", took, l.Late())
	}
	assert.GreaterOrEqual(t, l.Heard(conn).LongestSilence(time.Now()), 2*delay)
	last := l.Heard(conn).LastHeard(time.Now())
	assert.Less(t, l.Heard(conn).LastHeard(last.Add(-1)), last)
}

func TestLossIsThatAskedFor(t *testing.T) {
	t.Parallel()
	if !Require(t) {
		return
	}
	l := open(t, Options{Seed: 1, Paths: [2]Path{Local: {Loss: 0.2}}})
	var delivered, dropped int
	var running sync.WaitGroup
	for range 20 {
		conn, peer := connect(t, l)
		running.Go(func() { io.Copy(io.Discard, peer) })
		running.Go(func() {
			for range 20 { // segments of their own
				_, err := conn.Write(make([]byte, 100))
				assert.NoError(t, err)
				time.Sleep(10 * time.Millisecond)
			}
			conn.CloseWrite()
		})
		defer func() {
			through, lost := l.Heard(peer).Counts()
			delivered, dropped = delivered+through, dropped+lost
			_, lost = l.Heard(conn).Counts()
			assert.Zero(t, lost)
		}()
	}
	running.Wait()
	t.Cleanup(func() {
		// 400 segments and more: four standard deviations are 0.08.
		assert.InDelta(t, 0.2, float64(dropped)/float64(delivered+dropped), 0.08)
	})
}

func TestCutOfOneDirection(t *testing.T) {
	t.Parallel()
	if !Require(t) {
		return
	}
	l := open(t, Options{Paths: Both(Path{Delay: 10 * time.Millisecond})})
	conn, peer := connect(t, l)
	exchangeBetween(t, conn, peer)
	l.Cut(Local)
	cut := time.Now()
	_, err := conn.Write([]byte("lost"))
	require.NoError(t, err)
	_, err = peer.Write([]byte("delivered"))
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 9))
	require.NoError(t, err)
	now := time.Now()
	assert.Less(t, l.Heard(peer).LastHeard(now), cut)
	assert.Greater(t, l.Heard(conn).LastHeard(now), cut)
	assert.GreaterOrEqual(t, l.Heard(conn).UnacknowledgedFor(now), now.Sub(cut))
	sockets, err := l.Sockets(Local)
	require.NoError(t, err)
	require.Len(t, sockets, 1)
	assert.EqualValues(t, 1, sockets[0].Timer)
	l.Restore(Local)
	_, err = io.ReadFull(peer, make([]byte, 4))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return l.Heard(conn).UnacknowledgedFor(time.Now()) < time.Since(cut)
	}, 10*time.Second, 10*time.Millisecond)
}

func TestLargePacketsDisappear(t *testing.T) {
	t.Parallel()
	if !Require(t) {
		return
	}
	l := open(t, Options{Paths: [2]Path{Local: {MaxSize: 1000}}})
	conn, peer := connect(t, l)
	exchangeBetween(t, conn, peer)
	_, err := conn.Write(make([]byte, 1448))
	require.NoError(t, err)
	peer.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, err = peer.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, dropped := l.Heard(peer).Counts()
	assert.NotZero(t, dropped)
	require.NoError(t, l.Set(Local, Path{}))
	peer.SetReadDeadline(time.Time{})
	_, err = io.ReadFull(peer, make([]byte, 1448))
	require.NoError(t, err)
}

func TestFlapIsSeenInTheLog(t *testing.T) {
	t.Parallel()
	if !Require(t) {
		return
	}
	l := open(t, Options{})
	conn, peer := connect(t, l)
	go io.Copy(io.Discard, conn)
	stop, err := l.Flap(300*time.Millisecond, 100*time.Millisecond)
	require.NoError(t, err)
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(5 * time.Millisecond) {
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
	}
	stop()
	assert.GreaterOrEqual(t, l.Heard(conn).LongestSilence(time.Now()), 290*time.Millisecond)
	exchangeBetween(t, conn, nil)
}

func TestOrphansAreListed(t *testing.T) {
	t.Parallel()
	if !Require(t) {
		return
	}
	l := open(t, Options{})
	require.NoError(t, l.Sysctl(Local, "net.ipv4.tcp_orphan_retries", "1"))
	conn, _ := connect(t, l)
	port := uint16(conn.LocalAddr().(*net.TCPAddr).Port)
	l.Cut()
	_, err := conn.Write([]byte("x"))
	require.NoError(t, err)
	conn.Close()
	sockets, err := l.Sockets(Local)
	require.NoError(t, err)
	require.Len(t, sockets, 1)
	assert.Equal(t, port, sockets[0].LocalPort)
	assert.EqualValues(t, 4, sockets[0].State)
	assert.Zero(t, sockets[0].Inode)
	assert.NotZero(t, sockets[0].Timer)
	require.Eventually(t, func() bool {
		sockets, err := l.Sockets(Local)
		return err == nil && len(sockets) == 0
	}, 20*time.Second, 20*time.Millisecond)
}

// TestManyConnections carries what the tests of the library ask for at most.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	if !Require(t) {
		return
	}
	const connections, rate, lasts = 100, 100_000, 4 * time.Second
	l := open(t, Options{Paths: Both(Path{Delay: 50 * time.Millisecond})})
	received := make(chan int64, connections)
	for range connections {
		go func() {
			conn, peer, err := l.Connect()
			if !assert.NoError(t, err) {
				received <- 0
				return
			}
			defer conn.Close()
			go func() {
				defer peer.Close()
				n, _ := io.Copy(io.Discard, peer)
				received <- n
			}()
			begin := time.Now()
			for sent := 0; time.Since(begin) < lasts; time.Sleep(50 * time.Millisecond) {
				n, _ := conn.Write(make([]byte, max(0, int(time.Since(begin).Seconds()*rate)-sent)))
				sent += n
			}
		}()
	}
	total := int64(0)
	for range connections {
		total += <-received
	}
	assert.Greater(t, total, int64(connections*rate*3))
	t.Logf("%d kB/s, the relay up to %v late", total/1000/int64(lasts.Seconds()), l.Late())
}

// TestFlowRing compares the answers of a log that has forgotten packets with those of
// the packets themselves.
func TestFlowRing(t *testing.T) {
	start := time.Now().Add(-time.Hour)
	g := &log{start: start, flows: make(map[flowKey]*Flow)}
	f := g.flow(flowKey{})
	random := rand.New(rand.NewPCG(1, 1))
	at, longest := start, time.Duration(0)
	for i := range 3 * keptPackets {
		gap := time.Duration(random.IntN(1000)) * time.Microsecond
		if i == keptPackets/2 {
			gap = time.Second
		}
		at = at.Add(gap)
		if i > 0 {
			longest = max(longest, gap)
		}
		g.mu.Lock()
		f.add(Packet{At: at, Flags: ACK, Ack: uint32(min(i, keptPackets))})
		g.mu.Unlock()
		if i%100 == 0 {
			require.Equal(t, longest, f.LongestSilence(at), i)
			require.Equal(t, 5*time.Second, f.SilentFor(at.Add(5*time.Second)))
		}
		if i == keptPackets {
			start = at
		}
	}
	require.Equal(t, at.Sub(start), f.UnacknowledgedFor(at))
	require.Len(t, f.Packets(), keptPackets)
}

func open(t *testing.T, o Options) *Link {
	t.Helper()
	l, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	return l
}

func connect(t *testing.T, l *Link) (conn, peer *net.TCPConn) {
	t.Helper()
	conn, peer, err := l.Connect()
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(); peer.Close() })
	return conn, peer
}

// exchange writes to conn, whose peer echoes.
func exchange(t *testing.T, conn net.Conn, n int) {
	t.Helper()
	_, err := conn.Write(make([]byte, n))
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, n))
	require.NoError(t, err)
}

// exchangeBetween carries a byte to peer, if there is one, and waits until it is
// acknowledged.
func exchangeBetween(t *testing.T, conn, peer *net.TCPConn) {
	t.Helper()
	_, err := conn.Write([]byte("x"))
	require.NoError(t, err)
	if peer != nil {
		_, err = io.ReadFull(peer, make([]byte, 1))
		require.NoError(t, err)
	}
	time.Sleep(200 * time.Millisecond) // a delayed acknowledgement
}

func openFiles(t *testing.T) (targets []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, entry := range entries {
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // the descriptor of the directory itself
		}
		targets = append(targets, target)
	}
	return targets
}
