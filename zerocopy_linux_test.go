package liveness_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// A bill is what one goroutine did, by the kernel's account of its thread: /proc/thread-self/io counts each read and write,
// and their bytes. A sendfile is one of each, of up to 4 MiB; a copy through user space takes 32 KiB at a time. splice is not
// counted, so bytes that are not on the bill have gone through it.
type bill struct {
	read, written int64 // bytes
	reads, writes int64 // system calls
}

// billed runs f and returns its bill.
func billed(t *testing.T, f func()) bill {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := account(t)
	f()
	after := account(t)
	return bill{after.read - before.read, after.written - before.written, after.reads - before.reads, after.writes - before.writes}
}

// arrives runs f, which sends content and closes, and checks that it arrives. It returns the bill of f.
func arrives(t *testing.T, peer net.Conn, content []byte, f func() (int64, error), closeAfter func() error) bill {
	t.Helper()
	got := testutil.GoReadAll(peer)
	b := billed(t, func() {
		if n, err := f(); n != int64(len(content)) || err != nil {
			t.Errorf("sent %d of %d bytes: %v", n, len(content), err)
		}
	})
	testutil.Must(t, closeAfter())
	if got := testutil.Await(t, got); !bytes.Equal(got.Data, content) {
		t.Errorf("%d of %d bytes arrived, or others: %v", len(got.Data), len(content), got.Err)
	}
	return b
}

func account(t *testing.T) (b bill) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/io")
	if err != nil {
		t.Skipf("this kernel keeps no account: %v", err)
	}
	fields := map[string]*int64{"rchar": &b.read, "wchar": &b.written, "syscr": &b.reads, "syscw": &b.writes}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if n := fields[name]; n != nil {
			*n, err = strconv.ParseInt(value, 10, 64)
			testutil.Must(t, err)
		}
	}
	return b
}

// copied is many times what fits into the buffers; more than a quarter of it by bytes, or half of it by calls, went through
// user space.
const (
	copied           = 4 << 20
	throughUserSpace = copied / 4
	callByCall       = copied / (32 << 10) / 2
)

// TestFileGoesBySendfile in every way in which programs send one, as on the bare connection.
func TestFileGoesBySendfile(t *testing.T) {
	t.Parallel()
	content := pattern(copied)
	name := filepath.Join(t.TempDir(), "file")
	testutil.Must(t, os.WriteFile(name, content, 0o600))
	for how, send := range map[string]func(conn net.Conn, file *os.File) (int64, error){
		"io.Copy":      func(conn net.Conn, file *os.File) (int64, error) { return io.Copy(conn, file) },
		"io.CopyN":     func(conn net.Conn, file *os.File) (int64, error) { return io.CopyN(conn, file, copied) },
		"File.WriteTo": func(conn net.Conn, file *os.File) (int64, error) { return file.WriteTo(conn) },
		"ReadFrom": func(conn net.Conn, file *os.File) (int64, error) {
			if to, ok := conn.(io.ReaderFrom); ok {
				return to.ReadFrom(file)
			}
			return io.Copy(conn, file) // *net.UnixConn has another ReadFrom
		},
	} {
		for _, network := range []string{"tcp4", "unix"} {
			t.Run(how+","+network, func(t *testing.T) {
				testutil.Deadline(t)
				run := func(conn net.Conn, peer *livenesstest.Peer) bill {
					file, err := os.Open(name)
					testutil.Must(t, err)
					defer file.Close()
					return arrives(t, peer, content, func() (int64, error) { return send(conn, file) }, conn.(interface{ CloseWrite() error }).CloseWrite)
				}
				bare := run(livenesstest.Pair(t, network))
				conn, peer := livenesstest.Pair(t, network)
				b := run(wrap(t, conn, nil), peer)
				if b.reads >= callByCall && (network == "tcp4" || bare.reads < callByCall) {
					t.Errorf("%+v for %d bytes, on the bare connection %+v", b, copied, bare)
				}
			})
		}
	}
}

// TestCopyBetweenConnsGoesBySplice as between bare connections.
func TestCopyBetweenConnsGoesBySplice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		how      string
		from, to bool // wrapped
		copy     func(to, from net.Conn) (int64, error)
		networks []string // from and to
	}{
		{"io.Copy", true, true, ioCopy, []string{"tcp4 tcp4", "tcp6 mptcp", "unix tcp4", "tcp4 unix"}},
		{"bare to Conn", false, true, ioCopy, []string{"tcp4 tcp4", "unix tcp4"}},
		{"Conn to bare", true, false, ioCopy, []string{"tcp4 tcp4", "unix tcp4", "tcp4 unix"}},
		{"io.CopyN", true, true, func(to, from net.Conn) (int64, error) { return io.CopyN(to, from, copied) }, []string{"tcp4 tcp4", "unix tcp4"}},
		{"LimitedReader", true, true, func(to, from net.Conn) (int64, error) {
			limited := &io.LimitedReader{R: from, N: copied + 5}
			n, err := io.Copy(to, limited)
			if limited.N != 5 {
				err = fmt.Errorf("the LimitedReader has %d left, want 5 (%v)", limited.N, err)
			}
			return n, err
		}, []string{"tcp4 tcp4", "unix tcp4"}},
	} {
		for _, networks := range c.networks {
			t.Run(c.how+","+networks, func(t *testing.T) {
				testutil.Deadline(t)
				content := pattern(copied)
				run := func(wrapFrom, wrapTo bool) bill {
					fromNetwork, toNetwork, _ := strings.Cut(networks, " ")
					in, source := livenesstest.Pair(t, fromNetwork)
					out, sink := livenesstest.Pair(t, toNetwork)
					if wrapFrom {
						in = wrap(t, in, nil)
					}
					if wrapTo {
						out = wrap(t, out, nil)
					}
					go func() { source.Write(content); source.CloseWrite() }()
					return arrives(t, sink, content, func() (int64, error) { return c.copy(out, in) }, out.Close)
				}
				bare, b := run(false, false), run(c.from, c.to)
				if b.read >= throughUserSpace && (networks == "tcp4 tcp4" || bare.read < throughUserSpace) {
					t.Errorf("%+v for %d bytes, between the bare connections %+v", b, copied, bare)
				}
			})
		}
	}
}

// TestWriteBuffersMakesFewSystemCalls as net.Buffers does on the bare connection.
func TestWriteBuffersMakesFewSystemCalls(t *testing.T) {
	t.Parallel()
	const n = 1000
	content := pattern(8 * n)
	for _, network := range testutil.Networks {
		t.Run(network, func(t *testing.T) {
			testutil.Deadline(t)
			run := func(conn net.Conn, peer *livenesstest.Peer, write func(*net.Buffers) (int64, error)) bill {
				var buffers net.Buffers
				for rest := content; len(rest) > 0; rest = rest[8:] {
					buffers = append(buffers, rest[:8])
				}
				b := arrives(t, peer, content, func() (int64, error) { return write(&buffers) }, conn.Close)
				if len(buffers) != 0 {
					t.Errorf("%d buffers are left", len(buffers))
				}
				return b
			}
			conn, peer := livenesstest.Pair(t, network)
			bare := run(conn, peer, func(v *net.Buffers) (int64, error) { return v.WriteTo(conn) })
			conn, peer = livenesstest.Pair(t, network)
			c := wrap(t, conn, nil)
			if b := run(c, peer, c.WriteBuffers); b.writes > bare.writes+2 || b.writes > n/10 {
				t.Errorf("%d writes for %d buffers, on the bare connection %d", b.writes, n, bare.writes)
			}
		})
	}
}
