package liveness_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// TestCloseUnregisters closes a Conn while a duplicate of its descriptor lives on,
// with which the kernel would keep the registration and go on reporting.
func TestCloseUnregisters(t *testing.T) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd := descriptor(t, conn)
	before := registrations(t, fd) // with the poller of the runtime
	w := watch(t, conn, liveness.Config{})
	if got := registrations(t, fd); len(got) != len(before)+1 {
		t.Fatalf("registered before Wrap: %q, after it %q", before, got)
	}
	w.conn.Close()
	if got := registrations(t, fd); len(got) != 0 {
		t.Errorf("still registered after Close: %q", got)
	}
	peer.Reset()
	w.ended(net.ErrClosed, nil)
}

// registrations lists what the epoll descriptors of this process have under the
// number fd.
func registrations(t *testing.T, fd uintptr) (found []string) {
	t.Helper()
	for epoll, target := range descriptors() {
		if target != "anon_inode:[eventpoll]" {
			continue
		}
		info, err := os.ReadFile(filepath.Join("/proc/self/fdinfo", epoll))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(info)) {
			// tfd:        8 events: 80002018 data: … pos:0 ino:2a3f sdev:9
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "tfd:" && fields[1] == fmt.Sprint(fd) {
				found = append(found, "descriptor "+epoll+": "+line)
			}
		}
	}
	return found
}

// TestAcceptWithoutDescriptors runs out of descriptors between accept and the
// first watch, which takes one: that is an error that passes. It does so in a
// process of its own.
func TestAcceptWithoutDescriptors(t *testing.T) {
	const variable = "LIVENESS_TEST_WITHOUT_DESCRIPTORS"
	if os.Getenv(variable) == "" {
		t.Parallel()
		liveness.NeedsProcesses(t)
		child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		child.Env = append(os.Environ(), variable+"=1")
		if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}

	inner := listen(t, "tcp4")
	told := make(chan *liveness.Conn, 9)
	l := liveness.NewListener(inner, &liveness.Config{OnDisconnect: func(c *liveness.Conn, _ error) { told <- c }})
	first, err := livenesstest.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := livenesstest.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()

	// One is left: for the connection.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = 64
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var all []int
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == unix.EMFILE {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, fd)
	}
	unix.Close(all[0])
	conn, err := l.Accept()
	var op *net.OpError
	if conn != nil || !errors.Is(err, syscall.EMFILE) || !errors.As(err, &op) || op != err || !op.Temporary() {
		t.Errorf("Accept = %v, %v, want EMFILE in a *net.OpError that is temporary", conn, err)
	}
	for _, fd := range all[1:] {
		unix.Close(fd)
	}

	// That peer is lost, and the next is not.
	if got := readAll(first); got.err == nil || len(got.data) > 0 {
		t.Errorf("the first peer read %q, %v", got.data, got.err)
	}
	conn, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if conn.RemoteAddr().String() != second.LocalAddr().String() {
		t.Errorf("accepted %v", conn.RemoteAddr())
	}
	second.Close()
	if c := receive(t, told); c != conn {
		t.Errorf("told of a Conn that was not returned")
	}
}

// TestResetIsNoTimeout has a RST answer the first thing that was sent after a long
// silence: the host was started again, or the path has forgotten the connection.
func TestResetIsNoTimeout(t *testing.T) {
	t.Parallel()
	liveness.NeedsTCPInfo(t)
	keepAlive := func(count int) *liveness.Config {
		return &liveness.Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: 30 * time.Second, Count: count}}
	}
	for name, test := range map[string]struct {
		option, value int // of TCP
		cfg           *liveness.Config
		quiet         time.Duration
	}{
		"keep-alive, one probe":                   {cfg: keepAlive(1)},
		"keep-alive, user timeout 1 s":            {unix.TCP_USER_TIMEOUT, 1000, keepAlive(9), 0},
		"one retransmission, user timeout 3 s":    {unix.TCP_USER_TIMEOUT, 3000, nil, 4 * time.Second},
		"one retransmission, TCP_RTO_MAX_MS 1000": {unix.TCP_RTO_MAX_MS, 1000, nil, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, peer := livenesstest.Pair(t, "tcp4")
			if test.option != 0 {
				var err error
				control(t, conn, func(fd uintptr) {
					err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, test.option, test.value)
				})
				if err == unix.ENOPROTOOPT {
					t.Skip("this kernel does not have the option")
				}
			}
			c := wrap(t, conn, test.cfg)
			time.Sleep(test.quiet)
			if _, err := livenesstest.Cut(peer); err != nil {
				t.Skip(err)
			}
			if test.quiet > 0 {
				c.Write(message)
			}
			until(t, func() bool { s := c.Status(); return s.Probes+s.Retransmits > 0 })
			peer.Reset()
			receive(t, c.Done())
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) || !errors.Is(c.Err(), liveness.ErrPeerReset) {
				t.Errorf("Read = %v; Err() = %v", err, c.Err())
			}
		})
	}
}

// control calls f with the descriptor of conn.
func control(t *testing.T, conn net.Conn, f func(fd uintptr)) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err == nil {
		err = raw.Control(f)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestErrorQueueBesideEnd leaves time stamps unread while the connection ends in order.
func TestErrorQueueBesideEnd(t *testing.T) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	var err error
	control(t, conn, func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_TX_SOFTWARE|
			unix.SOF_TIMESTAMPING_TX_ACK|unix.SOF_TIMESTAMPING_SOFTWARE|unix.SOF_TIMESTAMPING_OPT_TSONLY)
	})
	if err != nil {
		t.Skip(err)
	}
	c := wrap(t, conn, &liveness.Config{AllowHalfClose: true})
	c.Write(message)
	c.CloseWrite()
	readAll(peer)
	queued := func() bool { // the last of them is of the acknowledgement of our FIN's data
		var events int16
		control(t, conn, func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd)}}
			unix.Poll(p, 0)
			events = p[0].Revents
		})
		return events&unix.POLLERR != 0
	}
	for deadline := time.Now().Add(time.Second); !queued(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Skip("no time stamp came")
		}
	}
	until(t, func() bool { return c.Status().Unacked == 0 })
	peer.Close()
	receive(t, c.Done())
	if _, err := c.Read(make([]byte, 1)); err != io.EOF || !errors.Is(c.Err(), liveness.ErrPeerClosed) {
		t.Errorf("Read = %v; Err() = %v", err, c.Err())
	}
}

// TestCloseWriteBeforeWrap is no reason to take the peer's FIN for a RST.
func TestCloseWriteBeforeWrap(t *testing.T) {
	liveness.NeedsTCPInfo(t)
	for _, dialled := range []bool{false, true} {
		accepted, peer := livenesstest.Pair(t, "tcp4")
		conn, far := accepted, peer.Conn
		if dialled {
			conn, far = far, conn
		}
		conn.(*net.TCPConn).CloseWrite()
		if s := readAll(far); s.err != io.EOF {
			t.Fatal(s.err)
		}
		c := wrap(t, conn, &liveness.Config{AllowHalfClose: true})
		if s := c.Status(); s.State != liveness.Connected {
			t.Errorf("dialled: %t: %+v", dialled, s)
		}
		far.Close()
		if receive(t, c.Done()); !errors.Is(c.Err(), liveness.ErrPeerClosed) {
			t.Errorf("dialled: %t: %v", dialled, c.Err())
		}
	}
}

// TestCopyHidesNoEnd has a copy wait for its other side while the peer of an AF_UNIX
// connection closes, whose errno a Read or Write of the copy might have taken.
func TestCopyHidesNoEnd(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(c *liveness.Conn, up net.Conn, upPeer, peer *livenesstest.Peer){
		"from a source that sends nothing": func(c *liveness.Conn, up net.Conn, _, _ *livenesstest.Peer) { go io.Copy(c, up) },
		"both ways": func(c *liveness.Conn, up net.Conn, _, _ *livenesstest.Peer) {
			go io.Copy(c, up)
			go io.Copy(up, c)
		},
		"to one that takes nothing": func(c *liveness.Conn, up net.Conn, _, peer *livenesstest.Peer) {
			go io.Copy(up, c)
			peer.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			for {
				if _, err := peer.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		},
	} {
		for _, bare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, bare: %t", name, bare), func(t *testing.T) {
				t.Parallel()
				conn, peer := livenesstest.Pair(t, "unix")
				c := wrap(t, conn, nil)
				up, upPeer := livenesstest.Pair(t, "tcp4")
				if !bare {
					up = wrap(t, up, nil)
				}
				begin(c, up, upPeer, peer)
				time.Sleep(50 * time.Millisecond) // the copies wait
				peer.Conn.Close()                 // both directions at once
				if receive(t, c.Done()); c.Alive() {
					t.Error("it is alive")
				}
				up.Close()
			})
		}
	}
}
