//go:build unix

package livenesstest_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness/livenesstest"
)

func requireReset(t *testing.T, conn net.Conn) {
	t.Helper()
	n, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Zero(t, n)
}

func TestReset(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		if network == "unix" {
			t.Skip("has no RST")
		}
		conn, peer := pair(t, network)
		require.NoError(t, peer.Reset())
		requireReset(t, conn)
		require.Error(t, peer.Reset())
	})
}

// A reset is a reset also where a close would have said more.
func TestResetBelowTLS(t *testing.T) {
	t.Parallel()
	server, client, err := livenesstest.TLSConfig()
	require.NoError(t, err)
	conn, far := pair(t, "tcp4")
	serverEnd, peer := tls.Server(conn, server), livenesstest.NewPeer(tls.Client(far, client))
	go func() {
		io.WriteString(serverEnd, "hello")
	}()
	requireRead(t, peer, "hello")
	require.NoError(t, peer.Reset())
	requireReset(t, serverEnd)
}

func TestProcessReset(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, process := process(t, network)
		if network == "unix" {
			require.ErrorIs(t, process.Reset(), errors.ErrUnsupported)
			require.NoError(t, process.Send(1)) // and it lives
			return
		}
		require.NoError(t, process.Reset())
		requireReset(t, conn)
		require.ErrorIs(t, process.Send(1), os.ErrProcessDone)
	})
}

func TestProcessKill(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, process := process(t, network)
		require.NoError(t, process.Kill())
		require.ErrorIs(t, syscall.Kill(process.Pid(), 0), syscall.ESRCH) // nor is it a zombie
		requireEOF(t, conn)
		require.ErrorIs(t, process.Kill(), os.ErrProcessDone)
		require.ErrorIs(t, process.Stop(), os.ErrProcessDone)
	})
}

func TestProcessKillStopped(t *testing.T) {
	t.Parallel()
	conn, process := process(t, "tcp4")
	require.NoError(t, process.Stop())
	require.NoError(t, process.Kill())
	requireEOF(t, conn)
	require.ErrorIs(t, process.Continue(), os.ErrProcessDone)
}

// A process may die while it is being stopped, when two goroutines wait for it.
func TestProcessKillWhileStopping(t *testing.T) {
	t.Parallel()
	for range 10 {
		_, process := process(t, "unix")
		stopped := make(chan error, 1)
		go func() { stopped <- process.Stop() }()
		require.NoError(t, process.Release())
		if err := <-stopped; err != nil {
			require.ErrorIs(t, err, os.ErrProcessDone)
		}
		require.ErrorIs(t, syscall.Kill(process.Pid(), 0), syscall.ESRCH)
	}
}

func TestProcessStop(t *testing.T) {
	onEvery(t, func(t *testing.T, network string) {
		conn, process := process(t, network)
		require.NoError(t, process.Continue())
		require.NoError(t, process.Stop())
		require.NoError(t, process.Stop())
		sent := make(chan error, 1)
		go func() { sent <- process.Send(5) }()
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		_, err := conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		limit(t, conn)
		require.NoError(t, process.Continue())
		require.NoError(t, <-sent)
		requireRead(t, conn, "\x00\x00\x00\x00\x00")
	})
}

// A command that waits for the other end keeps no other command waiting, and the end of the process ends it.
func TestProcessCommandsSideBySide(t *testing.T) {
	for name, end := range map[string]func(*livenesstest.Process) error{
		"kill":    (*livenesstest.Process).Kill,
		"release": (*livenesstest.Process).Release,
		"reset":   (*livenesstest.Process).Reset,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, process := process(t, "tcp4")
			sent := make(chan error, 1)
			go func() { sent <- process.Send(1 << 30) }()
			_, err := io.ReadFull(conn, make([]byte, 1<<20))
			require.NoError(t, err)
			require.NoError(t, process.Drain())
			require.NoError(t, end(process))
			require.Error(t, <-sent)
		})
	}
}

// orphanage makes TestProcessOutlivesNobody the parent that is killed.
const orphanage = "LIVENESSTEST_TEST_ORPHANAGE"

// A process ends with its parent, however that ends, and whatever the process is doing.
func TestProcessOutlivesNobody(t *testing.T) {
	if address := os.Getenv(orphanage); address != "" {
		var process [3]*livenesstest.Process
		for i := range process {
			var err error
			process[i], err = livenesstest.StartProcess("tcp4", address)
			require.NoError(t, err)
		}
		go process[1].Send(1 << 30)
		require.NoError(t, process[2].Stop())
		fmt.Println("ready")
		select {}
	}
	t.Parallel()
	needsProcesses(t)
	listener := listen(t, "tcp4")
	parent := exec.Command(os.Args[0], "-test.run=^TestProcessOutlivesNobody$")
	parent.Env = append(os.Environ(), orphanage+"="+listener.Addr().String())
	stdout, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	require.NoError(t, parent.Process.Kill())
	parent.Wait()
	for range 3 {
		conn, err := listener.Accept()
		require.NoError(t, err)
		defer conn.Close()
		limit(t, conn)
		_, err = io.Copy(io.Discard, conn)
		require.NoError(t, err) // the end, not the deadline
	}
}
