package liveness_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// A verdict is one way to bring about each verdict of the library's own.
type verdict struct {
	config liveness.Config
	reason error
	begin  func(l *testutil.Line)
	name   string
}

var verdicts = map[string]verdict{
	"lost in flight": {config: liveness.Config{PeerTimeout: shortest}, reason: liveness.ErrPeerLost, begin: func(l *testutil.Line) { l.Cut(testutil.Both); write(l) }},
	"lost idle":      {config: liveness.Config{PeerTimeout: shortest}, reason: liveness.ErrPeerLost, begin: func(l *testutil.Line) { l.Cut(testutil.Both) }},
	"stalled":        {config: liveness.Config{StallTimeout: 500 * time.Millisecond}, reason: liveness.ErrPeerStalled, begin: (*testutil.Line).Fill},
	"idle":           {config: liveness.Config{ReadIdleTimeout: 300 * time.Millisecond}, reason: liveness.ErrPeerIdle, begin: func(*testutil.Line) {}},
}

// line has the peer send what stays unread, and then wraps: a time-out may be due soon after.
func (v verdict) line(t *testing.T, unread string) *testutil.Line {
	t.Helper()
	conn, peer := testutil.Pair(t, "tcp4", testutil.Small)
	_, err := peer.Write([]byte(unread))
	testutil.Must(t, err)
	testutil.Until(t, "received", func() bool { return received(t, conn) == len(unread) })
	return testutil.LineOf(t, conn, peer, &v.config)
}

// eachVerdict runs f for each verdict, but for those named, on a line with this unread.
func eachVerdict(t *testing.T, unread string, f func(t *testing.T, v verdict, l *testutil.Line), except ...string) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	for name, v := range verdicts {
		if v.name = name; slices.Contains(except, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, v, v.line(t, unread))
		})
	}
}

// ends waits for the end, and returns its reason.
func (v verdict) ends(l *testutil.Line) {
	l.Helper()
	if err := l.Ended(); !errors.Is(err, v.reason) {
		l.Fatalf("reported %v; want %v", err, v.reason)
	}
}

func TestReadReturnsWhatWasUnreadAtTheVerdictAndNoMore(t *testing.T) {
	t.Parallel()
	lost := []string{"lost in flight", "lost idle"}
	for name, read := range map[string]func(*testutil.Line) (string, error){
		"Read": func(l *testutil.Line) (string, error) {
			if n, err := l.Conn.Read(nil); n != 0 {
				l.Errorf("Read(nil) returned %d, %v", n, err)
			}
			return readInPieces(struct{ io.Reader }{l.Conn}, 4)
		},
		"WriteTo a Conn":      func(l *testutil.Line) (string, error) { return copiedFrom(l, testutil.NewLine(l.TB, nil).Conn, l.Conn) },
		"WriteTo a TCPConn":   func(l *testutil.Line) (string, error) { return copiedFrom(l, nil, l.Conn) },
		"ReadFrom of a limit": func(l *testutil.Line) (string, error) { return copiedFrom(l, nil, io.LimitReader(l.Conn, 1<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			eachVerdict(t, "last words", func(t *testing.T, v verdict, l *testutil.Line) {
				v.begin(l)
				v.ends(l)
				if v.reason != liveness.ErrPeerLost { // the peer is there, and may go on
					_, err := l.Peer.Write([]byte("too late"))
					l.Must(err)
					testutil.Until(t, "received", func() bool { return received(t, l.Bare) == 18 })
				}
				got, err := read(l)
				kernels := v.reason == liveness.ErrPeerLost && errors.Is(err, syscall.ETIMEDOUT) // which a splice returns
				if got != "last words" || !errors.Is(err, v.reason) && !kernels {
					t.Errorf("%q, %v; want %q, %v", got, err, "last words", v.reason)
				}
			}, map[bool][]string{false: lost}[name == "Read" || name == "WriteTo a Conn"]...)
		})
	}
}

func readInPieces(r io.Reader, n int) (string, error) {
	var all []byte
	for b := make([]byte, n); ; {
		n, err := r.Read(b)
		if all = append(all, b[:n]...); err != nil {
			return string(all), err
		}
	}
}

// copiedFrom returns what arrives at the far end of a copy.
func copiedFrom(l *testutil.Line, to io.Writer, from io.Reader) (string, error) {
	conn, peer := livenesstest.Pair(l.TB, "tcp4")
	if to != nil {
		far, err := liveness.Wrap(conn, nil)
		l.Must(err)
		to = far
	} else {
		to = conn
	}
	_, err := io.Copy(to, from)
	l.Must(conn.Close())
	b, _ := io.ReadAll(peer)
	return string(b), err
}

// received counts what the kernel has for a Read.
func received(tb testing.TB, conn *net.TCPConn) (n int) {
	tb.Helper()
	testutil.Control(tb, conn, func(fd int) error {
		count, err := unix.IoctlGetUint32(fd, unix.SIOCINQ) // the kernel's int has 32 bits
		n = int(count)
		return err
	})
	return n
}

func TestDeadlinesDoNotReviveWhatAVerdictHasEnded(t *testing.T) {
	eachVerdict(t, "", func(t *testing.T, v verdict, l *testutil.Line) {
		l.Park()
		v.begin(l)
		stop := make(chan struct{})
		var setters sync.WaitGroup
		for _, set := range []func() error{
			func() error { return l.Conn.SetDeadline(time.Time{}) },
			func() error { return l.Conn.SetReadDeadline(time.Now().Add(time.Hour)) },
			func() error { return l.Conn.SetWriteDeadline(time.Now().Add(time.Hour)) },
		} {
			setters.Go(func() {
				for tick := time.NewTicker(100 * time.Microsecond); ; {
					select {
					case <-stop:
						tick.Stop()
						return
					case <-tick.C:
						if err := set(); err != nil {
							t.Errorf("set a deadline: %v", err)
							return
						}
					}
				}
			})
		}
		v.ends(l)
		l.Refuses(v.reason)
		close(stop)
		setters.Wait()
		l.Refuses(v.reason)
	})
}

// After Lost and Stalled the kernel keeps nothing. After Idle what was written still arrives.
func TestCloseAfterAVerdictFreesTheBuffers(t *testing.T) {
	eachVerdict(t, "", func(t *testing.T, v verdict, l *testutil.Line) {
		if v.reason != liveness.ErrPeerIdle {
			l.Must(l.Bare.SetLinger(5))
		}
		v.begin(l)
		v.ends(l)
		local, remote := l.Conn.LocalAddr(), l.Conn.RemoteAddr()
		began := time.Now()
		l.Must(l.Conn.Close())
		if took := time.Since(began); took > testutil.Late {
			t.Errorf("Close took %v", took)
		}
		if state := stateOf(l, local, remote); state != "" && v.reason != liveness.ErrPeerIdle {
			t.Errorf("after Close the kernel has our end in state %s", state)
		}
		if v.reason != liveness.ErrPeerLost {
			want := map[error]error{liveness.ErrPeerStalled: syscall.ECONNRESET, liveness.ErrPeerIdle: nil}[v.reason]
			if _, err := io.Copy(io.Discard, l.Peer); !errors.Is(err, want) {
				t.Errorf("the peer read %v; want %v", err, want)
			}
		}
	})
}

// stateOf looks up a socket in the kernel's own list.
func stateOf(l *testutil.Line, local, remote net.Addr) (state string) {
	l.Helper()
	list, err := os.ReadFile("/proc/net/tcp")
	l.Must(err)
	hex := func(a net.Addr) string {
		tcp := a.(*net.TCPAddr)
		ip := tcp.IP.To4()
		return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], tcp.Port)
	}
	for _, row := range bytes.Split(list, []byte("\n")) {
		if f := bytes.Fields(row); len(f) > 3 && string(f[1]) == hex(local) && string(f[2]) == hex(remote) {
			return string(f[3])
		}
	}
	return ""
}

func TestSetDeadlineThatBlocksDelaysNoOtherAndNoRefusal(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	const timeout = 300 * time.Millisecond
	conn, peer := testutil.Pair(t, "tcp4", testutil.Small)
	slow := &slowConn{Conn: conn}
	l := testutil.LineOf(t, slow, peer, &liveness.Config{ReadIdleTimeout: timeout})
	slow.mu.Lock()
	l.Park()
	other := testutil.NewLine(t, &liveness.Config{ReadIdleTimeout: 2 * timeout})
	other.Ends(liveness.ErrPeerIdle, other.Wrapped.Add(2*timeout), other.Wrapped.Add(idleBound(2*timeout)))
	l.Ends(liveness.ErrPeerIdle, l.Wrapped.Add(timeout), l.Wrapped.Add(idleBound(timeout)))
	for name, write := range map[string]func() (int64, error){
		"Write":        func() (int64, error) { n, err := l.Conn.Write([]byte("x")); return int64(n), err },
		"WriteBuffers": func() (int64, error) { return l.Conn.WriteBuffers(&net.Buffers{[]byte("x")}) },
		"ReadFrom":     func() (int64, error) { return l.Conn.ReadFrom(strings.NewReader("x")) },
	} {
		n, err := write()
		if l.IsVerdict("write", err, liveness.ErrPeerIdle); n != 0 {
			t.Errorf("%s wrote %d bytes after the verdict", name, n)
		}
	}
	slow.mu.Unlock()
	l.Refuses(liveness.ErrPeerIdle)
	l.Must(l.Conn.Close())
	if _, err := l.Conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
}

// idleBound is the time within which ReadIdleTimeout and OnSilence act.
func idleBound(d time.Duration) time.Duration { return d + d/10 + 100*time.Millisecond }
