package liveness_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/testutil"
)

// TestMPTCPOutlivesAPath breaks one of two paths with data in flight, which MPTCP sends again
// on the other one, and then the other.
func TestMPTCPOutlivesAPath(t *testing.T) {
	t.Parallel()
	if !aloneInNamespace(t) {
		return
	}
	t.Run("a path breaks", testMPTCPOutlivesAPath)
}

func testMPTCPOutlivesAPath(t *testing.T) {
	here, there := newPlace(t), newPlace(t)
	conn, peer := twoPaths(t, here, there)
	c, err := liveness.Wrap(conn, &liveness.Config{PeerTimeout: shortest})
	require.NoError(t, err)
	defer c.Close()
	go io.Copy(io.Discard, peer)
	subflows := func() (infos []tcpinfo.Info) {
		raw, err := conn.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) {
			infos = make([]tcpinfo.Info, tcpinfo.MaxSubflows)
			n, _ := tcpinfo.GetSubflows(fd, infos)
			infos = infos[:n]
		}))
		return infos
	}
	write := func() { c.Write(make([]byte, 10_000)); time.Sleep(time.Millisecond) }
	for began := time.Now(); len(subflows()) < 2; write() {
		if time.Since(began) > testutil.Patience {
			t.Skip("the kernel makes no second subflow")
		}
	}
	for range 500 {
		write()
	}
	there.drop(t, "b0")
	for range 100 {
		write()
	}
	require.Eventually(t, func() bool { return c.Status().Unacked == 0 }, testutil.Patience, time.Millisecond)
	if infos := subflows(); len(infos) < 2 || infos[0].InFlight+infos[1].InFlight == 0 {
		t.Skipf("nothing was in flight on the path that broke: %+v", infos)
	}
	time.Sleep(2*shortest + 2*time.Second)
	require.NoError(t, c.Err(), "the other path is there: %+v", subflows())

	there.drop(t, "b1")
	cut := time.Now()
	select {
	case <-c.Done():
		require.ErrorIs(t, c.Err(), liveness.ErrPeerLost)
		t.Logf("after %v: %v", time.Since(cut), c.Err())
	case <-time.After(2*shortest + 2*time.Second + testutil.Late):
		t.Errorf("not lost: %+v", subflows())
	}
}

// twoPaths returns the ends of an MPTCP connection between two places that two cables join.
func twoPaths(t *testing.T, here, there *place) (conn, peer *net.TCPConn) {
	t.Helper()
	limits := "mptcp limits set subflow 2 add_addr_accepted 2"
	for n := range 2 {
		here.ip(fmt.Sprintf("link add a%d type veth peer name b%[1]d netns %d", n, there.tid), fmt.Sprintf("addr add 10.%d.0.1/24 dev a%[1]d", n), fmt.Sprintf("link set a%d up", n))
		there.ip(fmt.Sprintf("addr add 10.%d.0.2/24 dev b%[1]d", n), fmt.Sprintf("link set b%d up", n))
	}
	here.ip(limits, "mptcp endpoint add 10.1.0.1 dev a1 signal")
	there.ip(limits)
	var listener net.Listener
	var dialed net.Conn
	var err error
	here.in(func() {
		var config net.ListenConfig
		config.SetMultipathTCP(true)
		listener, err = config.Listen(context.Background(), "tcp4", "0.0.0.0:0")
	})
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() }) // the second subflow needs it, too
	there.in(func() {
		var dialer net.Dialer
		dialer.SetMultipathTCP(true)
		dialed, err = dialer.Dial("tcp4", fmt.Sprintf("10.0.0.1:%d", listener.Addr().(*net.TCPAddr).Port))
	})
	require.NoError(t, err)
	accepted, err := listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { dialed.Close() })
	return accepted.(*net.TCPConn), dialed.(*net.TCPConn)
}

// drop has a device of p lose all packets of both directions.
func (p *place) drop(t *testing.T, device string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`table ip %s {
	chain in { type filter hook input priority 0; iifname %[1]s drop; }
	chain out { type filter hook output priority 0; oifname %[1]s drop; }
}
`, device))
	var out []byte
	var err error
	p.in(func() { out, err = cmd.CombinedOutput() })
	if err != nil {
		t.Skipf("nft: %v: %s", err, out)
	}
}
