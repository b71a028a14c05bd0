package liveness_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
