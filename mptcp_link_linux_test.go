package liveness_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness"
	rig "github.com/go-liveness/liveness/internal/link"
)

// testLinkMPTCP cuts the only path of an MPTCP connection, idle or with data in flight. Its
// subflows tell the library what TCP_INFO tells it of TCP.
func testLinkMPTCP(t *testing.T) {
	const timeout = 4 * time.Second
	l := newLink(t, rig.Options{Paths: rig.Both(rig.Path{Delay: 10 * time.Millisecond})})
	var listener net.Listener
	var config net.ListenConfig
	config.SetMultipathTCP(true)
	require.NoError(t, l.In(rig.Local, func() (err error) {
		listener, err = config.Listen(context.Background(), "tcp4", "0.0.0.0:0")
		return err
	}))
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	var peer net.Conn
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, _ := listener.Accept()
		accepted <- conn
	}()
	require.NoError(t, l.In(rig.Remote, func() (err error) {
		var dialer net.Dialer
		dialer.SetMultipathTCP(true)
		peer, err = dialer.Dial("tcp4", (&net.TCPAddr{IP: net.IPv4(10, 76, 0, 1), Port: port}).String())
		return err
	}))
	defer peer.Close()
	bare := (<-accepted).(*net.TCPConn)
	if multipath, err := bare.MultipathTCP(); err != nil || !multipath {
		t.Skipf("the kernel makes no MPTCP connections: %v", err)
	}
	c := wrapLinked(t, l, liveness.Config{PeerTimeout: timeout}, bare, peer.(*net.TCPConn))
	exchanged := time.Now()
	c.exchange(t)
	if c.conn.Status().DetectWithin == 0 {
		t.Skip("MPTCP_TCPINFO is there since Linux 5.16")
	}
	time.Sleep(time.Second)
	require.NoError(t, c.conn.Err())
	l.Cut()
	cut := time.Now()
	_, err := c.conn.Write([]byte("in flight"))
	require.NoError(t, err)
	end := c.end(t, cut, timeout*125/100+time.Second+timeout/2)
	require.ErrorIs(t, end.err, liveness.ErrPeerLost)
	require.GreaterOrEqual(t, end.at.Sub(exchanged), timeout-clockGrain)
}
