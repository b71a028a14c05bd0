package livenessgrpc_test

import (
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenessgrpc"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
)

func TestPeerTimeoutIsGRPCsByDefault(t *testing.T) {
	want := bound(t, func(l net.Listener) net.Listener {
		return liveness.NewListener(l, &liveness.Config{PeerTimeout: livenessgrpc.DefaultPeerTimeout})
	})
	assert.Greater(t, want, livenessgrpc.DefaultPeerTimeout)
	for name, listener := range listeners {
		assert.Equal(t, want, bound(t, func(l net.Listener) net.Listener { return listener(l, nil) }), name)
	}
	assert.Greater(t, bound(t, func(l net.Listener) net.Listener {
		return livenessgrpc.NewListener(l, &liveness.Config{PeerTimeout: time.Minute})
	}), time.Minute)
}

// bound returns DetectWithin of a connection that a listener accepts.
func bound(t *testing.T, listener func(net.Listener) net.Listener) time.Duration {
	group := &liveness.Group{}
	l := listener(listen(t, "tcp"))
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	conn, err := l.Accept()
	require.NoError(t, err)
	defer conn.Close()
	if live, ok := liveness.From(conn); ok {
		return live.Status().DetectWithin
	}
	for live := range liveness.Conns() {
		if live.NetConn() == conn {
			return live.Status().DetectWithin
		}
	}
	require.Fail(t, "not observed", group)
	return 0
}

func TestWatchedKeepsTheUserTimeoutOfGRPC(t *testing.T) {
	l := &keeper{livenessgrpc.WatchListener(listen(t, "tcp"), nil), make(chan net.Conn, 1)}
	s := serve(t, l, insecureTCP(t))
	c := s.dial(t)
	s.start(t, c)
	tcp, ok := (<-l.accepted).(*net.TCPConn)
	require.True(t, ok)
	raw, err := tcp.SyscallConn()
	require.NoError(t, err)
	var timeout int
	require.Eventually(t, func() bool {
		require.NoError(t, raw.Control(func(fd uintptr) {
			timeout, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		}))
		return err == nil && timeout == 20_000
	}, patience, 10*time.Millisecond, "%d ms", &timeout)
}

// Without ReadOnReady a wrapped connection costs 32 kB more, for gRPC's read buffer.
func TestIdleConnectionsKeepThePooledReadBuffer(t *testing.T) {
	bare := heapOfIdleConnections(t, listen(t, "tcp"))
	for _, name := range []string{"wrapped", "watched"} {
		listener := listeners[name]
		with := heapOfIdleConnections(t, listener(listen(t, "tcp"), nil))
		t.Logf("%s: %d bytes for each connection, bare: %d", name, with, bare)
		assert.Less(t, with-bare, 6000, name)
	}
}

// heapOfIdleConnections returns what each idle connection of a server costs.
func heapOfIdleConnections(t *testing.T, l net.Listener) int {
	const count = 300
	require.Eventually(t, func() bool { return liveness.Totals().Open == 0 }, patience, 10*time.Millisecond)
	s := serve(t, l, insecureTCP(t))
	before := heap()
	var conns []net.Conn
	for range count {
		conn, err := net.Dial("tcp", s.address)
		require.NoError(t, err)
		conns = append(conns, conn)
		_, err = conn.Write([]byte(http2.ClientPreface))
		require.NoError(t, err)
		framer := http2.NewFramer(conn, conn)
		require.NoError(t, framer.WriteSettings())
		require.NoError(t, framer.WritePing(false, [8]byte{1}))
		for { // the answer: the server has begun to serve
			f, err := framer.ReadFrame()
			require.NoError(t, err)
			if ping, ok := f.(*http2.PingFrame); ok && ping.IsAck() {
				break
			}
		}
	}
	time.Sleep(50 * time.Millisecond) // the last Reads wait again, without a buffer
	used := heap() - before
	for _, c := range conns {
		c.Close()
	}
	s.Stop()
	return used / count
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
