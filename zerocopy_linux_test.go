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

	"github.com/go-liveness/liveness/livenesstest"
)

// A bill is what one goroutine did, by the kernel's account of the thread that it
// is locked to: /proc/thread-self/io counts each read and write, and the bytes that
// they carried. A sendfile is one of each, of up to 4 MiB; a copy through user space
// takes 32 KiB at a time. splice is not counted at all, so bytes that are not on the
// bill have gone through it.
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
	return bill{
		read: after.read - before.read, written: after.written - before.written,
		reads: after.reads - before.reads, writes: after.writes - before.writes,
	}
}

func account(t *testing.T) (b bill) {
	t.Helper()
	// The account of the account is small, and always the same.
	text, err := os.ReadFile("/proc/thread-self/io")
	if err != nil {
		t.Skipf("this kernel keeps no account: %v", err)
	}
	fields := map[string]*int64{"rchar": &b.read, "wchar": &b.written, "syscr": &b.reads, "syscw": &b.writes}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if n := fields[name]; n != nil {
			if *n, err = strconv.ParseInt(value, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	return b
}

// size is what is copied: many times what fits into the buffers.
const size = 4 << 20

// throughUserSpace is more bytes, and calls, than any account of a copy that the
// kernel makes by itself.
const (
	throughUserSpace = size / 4
	callByCall       = size / (32 << 10) / 2
)

// TestSendfile sends a file, which does not go through user space.
func TestSendfile(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for how, send := range map[string]func(conn net.Conn, file *os.File) (int64, error){
		"io.Copy":  func(conn net.Conn, file *os.File) (int64, error) { return io.Copy(conn, file) },
		"io.CopyN": func(conn net.Conn, file *os.File) (int64, error) { return io.CopyN(conn, file, size) },
		"ReadFrom": func(conn net.Conn, file *os.File) (int64, error) {
			if to, ok := conn.(io.ReaderFrom); ok {
				return to.ReadFrom(file)
			}
			return io.Copy(conn, file) // *net.UnixConn has another ReadFrom
		},
		"File.WriteTo": func(conn net.Conn, file *os.File) (int64, error) { return file.WriteTo(conn) },
	} {
		for _, network := range []string{"tcp4", "unix"} {
			t.Run(how+","+network, func(t *testing.T) {
				run := func(conn net.Conn, peer *livenesstest.Peer) bill {
					file, err := os.Open(name)
					if err != nil {
						t.Fatal(err)
					}
					defer file.Close()
					got := make(chan stream, 1)
					go func() { got <- readAll(peer) }()
					b := billed(t, func() {
						if n, err := send(conn, file); n != size || err != nil {
							t.Errorf("sent %d of %d bytes: %v", n, size, err)
						}
					})
					conn.(interface{ CloseWrite() error }).CloseWrite()
					if got := receive(t, got); !bytes.Equal(got.data, content) {
						t.Errorf("%d of %d bytes arrived, or others: %v", len(got.data), size, got.err)
					}
					return b
				}
				bare := run(livenesstest.Pair(t, network))
				conn, peer := livenesstest.Pair(t, network)
				b := run(wrap(t, conn, nil), peer)
				t.Logf("%+v, on the bare connection %+v", b, bare)
				if bare.reads < callByCall && b.reads >= callByCall {
					t.Errorf("%d reads and %d writes for %d bytes, on the bare connection %d and %d", b.reads, b.writes, size, bare.reads, bare.writes)
				}
				if network == "tcp4" && b.reads >= callByCall {
					t.Errorf("%d reads and %d writes for %d bytes: that is no sendfile", b.reads, b.writes, size)
				}
			})
		}
	}
}

// TestSplice copies from one connection to another, which does not go through user
// space between those of package net, nor between those that we wrap.
func TestSplice(t *testing.T) {
	t.Parallel()
	bare := func(_ *testing.T, conn net.Conn) net.Conn { return conn }
	wrapped := func(t *testing.T, conn net.Conn) net.Conn { return wrap(t, conn, nil) }
	for how, c := range map[string]struct {
		to, from func(*testing.T, net.Conn) net.Conn
		copy     func(to, from net.Conn) (int64, error)
	}{
		"io.Copy between the wrapped": {wrapped, wrapped, func(to, from net.Conn) (int64, error) { return io.Copy(to, from) }},
		"io.Copy to the wrapped":      {wrapped, bare, func(to, from net.Conn) (int64, error) { return io.Copy(to, from) }},
		"io.Copy from the wrapped":    {bare, wrapped, func(to, from net.Conn) (int64, error) { return io.Copy(to, from) }},
		"io.CopyN between the wrapped": {wrapped, wrapped, func(to, from net.Conn) (int64, error) {
			return io.CopyN(to, from, size)
		}},
		"ReadFrom a LimitedReader": {wrapped, wrapped, func(to, from net.Conn) (int64, error) {
			limited := &io.LimitedReader{R: from, N: size + 5}
			n, err := io.Copy(to, limited)
			if limited.N != 5 {
				err = fmt.Errorf("the LimitedReader has %d left, want 5 (%v)", limited.N, err)
			}
			return n, err
		}},
	} {
		for _, networks := range [][2]string{{"tcp4", "tcp4"}, {"tcp6", "mptcp"}, {"unix", "tcp4"}, {"tcp4", "unix"}} {
			if networks[1] == "mptcp" && how != "io.Copy between the wrapped" {
				continue // it takes its time
			}
			if networks[1] == "unix" && how == "io.Copy to the wrapped" {
				continue // package net looks for a *net.UnixConn there: see the doc of Conn
			}
			t.Run(fmt.Sprintf("%s,%s to %s", how, networks[0], networks[1]), func(t *testing.T) {
				run := func(to, from func(*testing.T, net.Conn) net.Conn) bill {
					source, sourcePeer := livenesstest.Pair(t, networks[0])
					destination, destinationPeer := livenesstest.Pair(t, networks[1])
					got := make(chan stream, 1)
					go func() { got <- readAll(destinationPeer) }()
					content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
					go func() { sourcePeer.Write(content); sourcePeer.CloseWrite() }()
					out, in := to(t, destination), from(t, source)
					b := billed(t, func() {
						if n, err := c.copy(out, in); n != size || err != nil {
							t.Errorf("copied %d of %d bytes: %v", n, size, err)
						}
					})
					out.Close()
					if got := receive(t, got); !bytes.Equal(got.data, content) {
						t.Errorf("%d of %d bytes arrived, or others: %v", len(got.data), size, got.err)
					}
					return b
				}
				reference := run(bare, bare)
				b := run(c.to, c.from)
				t.Logf("%+v, between the bare connections %+v", b, reference)
				if reference.read < throughUserSpace && b.read >= throughUserSpace {
					t.Errorf("%d of %d bytes through user space, between the bare connections %d", b.read, size, reference.read)
				}
				if networks == [2]string{"tcp4", "tcp4"} && b.read >= throughUserSpace {
					t.Errorf("%d of %d bytes through user space: that is no splice", b.read, size)
				}
			})
		}
	}
}

// TestWriteBuffers writes many buffers in few system calls.
func TestWriteBuffers(t *testing.T) {
	t.Parallel()
	const n = 1000
	var content []byte
	for i := range n {
		content = fmt.Appendf(content, "%08d", i)
	}
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			run := func(conn net.Conn, peer *livenesstest.Peer, write func(*net.Buffers) (int64, error)) bill {
				var buffers net.Buffers
				for rest := content; len(rest) > 0; rest = rest[8:] {
					buffers = append(buffers, rest[:8])
				}
				got := make(chan stream, 1)
				go func() { got <- readAll(peer) }()
				b := billed(t, func() {
					if written, err := write(&buffers); written != int64(len(content)) || err != nil {
						t.Errorf("wrote %d of %d bytes: %v", written, len(content), err)
					}
				})
				if len(buffers) != 0 {
					t.Errorf("%d buffers were not consumed", len(buffers))
				}
				conn.Close()
				if got := receive(t, got); !bytes.Equal(got.data, content) {
					t.Errorf("%d of %d bytes arrived, or others: %v", len(got.data), len(content), got.err)
				}
				return b
			}
			conn, peer := livenesstest.Pair(t, network)
			bare := run(conn, peer, func(v *net.Buffers) (int64, error) { return v.WriteTo(conn) })
			conn, peer = livenesstest.Pair(t, network)
			c := wrap(t, conn, nil)
			b := run(c, peer, c.WriteBuffers)
			t.Logf("%+v, on the bare connection %+v", b, bare)
			if b.writes > bare.writes+2 || b.writes > n/10 {
				t.Errorf("%d writes for %d buffers, on the bare connection %d", b.writes, n, bare.writes)
			}
		})
	}
}
