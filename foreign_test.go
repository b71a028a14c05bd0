package liveness_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// A slowConn is a wrapper of the application's, whose methods wait for a lock, as those of a STARTTLS wrapper do that holds
// its mutex during a handshake with a silent client.
type slowConn struct {
	net.Conn
	mu sync.Mutex
}

func (c *slowConn) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
}
func (c *slowConn) LocalAddr() net.Addr           { c.wait(); return c.Conn.LocalAddr() }
func (c *slowConn) RemoteAddr() net.Addr          { c.wait(); return c.Conn.RemoteAddr() }
func (c *slowConn) NetConn() net.Conn             { c.wait(); return c.Conn }
func (c *slowConn) SetDeadline(t time.Time) error { c.wait(); return c.Conn.SetDeadline(t) }

// A slowSocket shows its socket, whose Control waits as well.
type slowSocket struct{ *slowConn }

type slowRaw struct {
	syscall.RawConn
	c *slowConn
}

func (c slowSocket) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.Conn.(syscall.Conn).SyscallConn()
	return slowRaw{raw, c.slowConn}, err
}

func (r slowRaw) Control(f func(uintptr)) error { r.c.wait(); return r.RawConn.Control(f) }

// TestForeignMethodsThatBlockDelayNobody locks the wrapper after Wrap, and has its connection end or time out. Another
// connection hears of its own end and of its own time-out, and Close of the Conn reaches the inner Close.
func TestForeignMethodsThatBlockDelayNobody(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	for _, end := range []string{"FIN", "time-out"} {
		for _, kind := range []string{"NetConn", "SyscallConn"} {
			t.Run(end+","+kind, func(t *testing.T) {
				testutil.Deadline(t)
				testutil.NeedsNotices(t)
				conn, peer := livenesstest.Pair(t, "tcp4")
				slow := &slowConn{Conn: conn}
				var wrapped net.Conn = slow
				if kind == "SyscallConn" {
					wrapped = slowSocket{slow}
				}
				cfg := &liveness.Config{}
				if end == "time-out" {
					cfg.ReadIdleTimeout = timeout
				}
				c, err := liveness.Wrap(wrapped, cfg)
				testutil.Must(t, err)
				slow.mu.Lock() // the handshake begins
				var unlock sync.Once
				defer unlock.Do(slow.mu.Unlock)
				if end == "FIN" {
					peer.CloseWrite()
				}
				other, _ := livenesstest.Pair(t, "tcp4")
				o := wrap(t, other, &liveness.Config{ReadIdleTimeout: 2 * timeout})
				testutil.GoReadAll(o)
				testutil.Await(t, o.Done())
				if !errors.Is(o.Err(), liveness.ErrPeerIdle) {
					t.Errorf("the other connection: %v", o.Err())
				}
				barrier(t)
				read := testutil.GoReadAll(peer)
				go c.Close()
				if got := testutil.Await(t, read); got.Err == nil {
					t.Error("Close did not reach the inner Close")
				}
				unlock.Do(slow.mu.Unlock)
				testutil.Await(t, c.Done())
			})
		}
	}
}

// TestConnThatDoesNotAnswerIsTakenForOpen asks a connection whose Control waits whether it still has its descriptor: the
// hub, when another is added with that descriptor, and in every round that looks for what the application has closed.
func TestConnThatDoesNotAnswerIsTakenForOpen(t *testing.T) {
	t.Parallel()
	testutil.Deadline(t)
	testutil.NeedsNotices(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	slow := &slowConn{Conn: conn}
	c := beside(t, slowSocket{slow}, nil)
	slow.mu.Lock()
	var unlock sync.Once
	defer unlock.Do(slow.mu.Unlock)
	for name, again := range map[string]func(net.Conn, *liveness.Config) (*liveness.Conn, error){"Wrap": liveness.Wrap, "Watch": liveness.Watch} {
		testutil.Within(t, name, func() {
			if got, err := again(conn, nil); got != nil || err == nil || !strings.Contains(err.Error(), "wrapped already") {
				t.Errorf("%s of its connection = %v, %v", name, got, err)
			}
		})
	}
	if err := c.Err(); err != nil {
		t.Errorf("Err() = %v", err)
	}
	unlock.Do(slow.mu.Unlock)
	peer.Reset()
	testutil.Await(t, c.Done())
	if err := c.Err(); !errors.Is(err, liveness.ErrPeerReset) {
		t.Errorf("Err() = %v", err)
	}
}

// TestAddressesThatBlockDelayNobody has a hidden socket whose addresses block until a header of the PROXY protocol is there.
func TestAddressesThatBlockDelayNobody(t *testing.T) {
	testutil.Deadline(t)
	conn, _ := livenesstest.Pair(t, "tcp4")
	slow := &slowConn{Conn: conn}
	slow.mu.Lock()
	var c *liveness.Conn
	testutil.Within(t, "Wrap", func() { c, _ = liveness.Wrap(hidden{slow}, nil) })
	testutil.Within(t, "Close", func() { c.Close() })
	slow.mu.Unlock()
	if got := c.Err().Error(); !strings.Contains(got, "watch") || !errors.Is(c.Err(), net.ErrClosed) {
		t.Errorf("Err() = %q", got)
	}
}

// hidden hides what is not in net.Conn; selfish returns itself where it should return what it wraps.
type (
	netConn = net.Conn
	hidden  struct{ netConn } // not exported, so it hides the socket
	selfish struct{ net.Conn }
)

func (s selfish) NetConn() net.Conn { return s }

// An unreachable socket is there, and not to be controlled.
type unreachable struct{ net.Conn }
type unreachableRaw struct{ syscall.RawConn }

func (unreachable) SyscallConn() (syscall.RawConn, error) { return unreachableRaw{}, nil }
func (unreachableRaw) Control(func(uintptr)) error        { return errors.ErrUnsupported }

// TestHiddenSocketIsUnknownUntilAReadFails also checks which Config is refused, and that the connection is unchanged then.
func TestHiddenSocketIsUnknownUntilAReadFails(t *testing.T) {
	for name, cover := range map[string]func(net.Conn) net.Conn{
		"hidden":        func(conn net.Conn) net.Conn { return hidden{conn} },
		"NetConn loops": func(conn net.Conn) net.Conn { return selfish{conn} },
		"unreachable":   func(conn net.Conn) net.Conn { return unreachable{conn} },
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Deadline(t)
			conn, peer := livenesstest.Pair(t, "tcp4")
			covered := cover(conn)
			if err := liveness.Check(covered); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("Check = %v", err)
			}
			for field, cfg := range map[string]*liveness.Config{"PeerTimeout": {PeerTimeout: time.Minute}, "StallTimeout": {StallTimeout: time.Minute}} {
				if c, err := liveness.Wrap(covered, cfg); c != nil || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), field) {
					t.Errorf("Wrap = %v, %v, want an error that names %s", c, err, field)
				}
			}
			c := wrap(t, covered, nil)
			heard := make(chan error, 2)
			c.OnDisconnect(func(err error) { heard <- err })
			if status := c.Status(); status.State != liveness.Unknown || status.Err != nil {
				t.Errorf("Status() = %+v", status)
			}
			if name == "hidden" {
				_, err := c.SyscallConn()
				for _, err := range []error{err, c.CloseRead(), c.CloseWrite()} {
					if !errors.Is(err, errors.ErrUnsupported) {
						t.Errorf("%v, want ErrUnsupported", err)
					}
				}
			}
			peer.Write(message)
			peer.Reset()
			if !c.Alive() || c.Err() != nil {
				t.Errorf("Err() = %v before anything was read", c.Err())
			}
			if got := testutil.ReadAll(c); !isReset(got.Err) {
				t.Errorf("Read = %v", got.Err)
			}
			if err := testutil.Await(t, heard); err != c.Err() || !errors.Is(err, liveness.ErrPeerReset) || !isReset(err) {
				t.Errorf("a callback got %v, Err() = %v", err, c.Err())
			}
		})
	}
}

// A brokenConn has no socket, and its Read returns this error.
type brokenConn struct {
	net.Conn
	err error
}

func (c brokenConn) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Err: os.NewSyscallError("read", c.err)}
}

// TestErrnoDecidesTheReason is the table of DESIGN: what an errno says of the peer.
func TestErrnoDecidesTheReason(t *testing.T) {
	testutil.Deadline(t)
	for errno, want := range errnoReasons {
		a, _ := net.Pipe()
		c := wrap(t, brokenConn{a, errno}, nil)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errno) {
			t.Errorf("%v: Read = %v", errno, err)
		}
		if err := c.Err(); !errors.Is(err, want) || !errors.Is(err, errno) {
			t.Errorf("%v: Err() = %v, want %v", errno, err, want)
		}
	}
}

// A byValue is used as a value, and two of them cannot be compared.
type byValue struct {
	*net.TCPConn
	_ []byte
}

// TestWrapTakesAConnThatCannotBeCompared wraps what is not a pointer.
func TestWrapTakesAConnThatCannotBeCompared(t *testing.T) {
	testutil.Deadline(t)
	conn, _ := livenesstest.Pair(t, "tcp4")
	c := wrap(t, byValue{TCPConn: conn.(*net.TCPConn)}, nil)
	if _, err := liveness.Wrap(c, nil); err != nil || !c.Alive() {
		t.Errorf("Wrap of the Conn again: %v; Err() = %v", err, c.Err())
	}
}

// TestFromFindsTheConnBeneath follows NetConn and embedded connections, and never to a wrong one.
func TestFromFindsTheConnBeneath(t *testing.T) {
	testutil.Deadline(t)
	conn, _ := livenesstest.Pair(t, "tcp4")
	c := wrap(t, conn, nil)
	server, _ := testutil.TLSConfigs(t)
	type exported struct{ net.Conn }
	type pointer struct{ *liveness.Conn }
	type named struct {
		net.Conn
		Under net.Conn
	}
	cycle := &exported{}
	cycle.Conn = cycle
	for want, conns := range map[*liveness.Conn]map[string]net.Conn{
		c: {
			"itself": c, "TLS": tls.Server(c, server), "TLS twice": tls.Server(tls.Server(c, server), server), "struct": exported{c},
			"pointer to struct": &exported{c}, "two levels": &exported{exported{c}}, "*Conn embedded": pointer{c}, "a field besides": named{c, conn},
		},
		nil: {
			"bare": conn, "nil": nil, "nil TLS": (*tls.Conn)(nil), "nil Conn": (*liveness.Conn)(nil), "only a named field": named{conn, c},
			"hidden": hidden{c}, "nil inside": exported{}, "nil pointer": (*exported)(nil), "cycle": cycle,
		},
	} {
		for name, above := range conns {
			got, ok := liveness.From(above)
			if got != want || ok != (want != nil) {
				t.Errorf("%s: From = %p, %t; want %p", name, got, ok, want)
			}
			if want == nil {
				continue
			}
			if from, found := liveness.FromContext(liveness.ConnContext(t.Context(), above)); from != c || !found {
				t.Errorf("%s: FromContext = %p, %t; want %p", name, from, found, c)
			}
		}
	}
	if got, ok := liveness.FromContext(t.Context()); got != nil || ok {
		t.Errorf("FromContext = %p, %t of a context without", got, ok)
	}
}

// A recorder keeps what comes out of a connection.
type recorder struct {
	net.Conn
	bytes []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.bytes = append(r.bytes, b[:n]...)
	return n, err
}

// TestWrapAboveTLSWritesNoPlainText copies files in every way, none of which may go around TLS to the socket.
func TestWrapAboveTLSWritesNoPlainText(t *testing.T) {
	testutil.Deadline(t)
	bare, wire := livenesstest.Pair(t, "tcp4")
	recorded := &recorder{Conn: wire.Conn}
	server, client := testutil.Secure(t, bare, recorded)
	c := wrap(t, server, nil)
	if raw, err := c.SyscallConn(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SyscallConn = %v, %v", raw, err)
	}
	secret := bytes.Repeat([]byte("a secret that must not be seen; "), 5_000)
	name := filepath.Join(t.TempDir(), "secret")
	testutil.Must(t, os.WriteFile(name, secret, 0o600))
	sends := []func(file *os.File) error{
		func(file *os.File) error { _, err := io.Copy(c, file); return err },
		func(file *os.File) error { _, err := c.ReadFrom(file); return err },
		func(file *os.File) error { _, err := io.CopyN(c, file, int64(len(secret))); return err },
		func(file *os.File) error { _, err := file.WriteTo(c); return err },
		func(*os.File) error { _, err := c.WriteBuffers(&net.Buffers{secret[:1000], secret[1000:]}); return err },
	}
	go func() {
		defer c.Close()
		for _, send := range sends {
			file, err := os.Open(name)
			if err == nil {
				err = send(file)
				file.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}
	}()
	got := testutil.Await(t, testutil.GoReadAll(client))
	if !bytes.Equal(got.Data, bytes.Repeat(secret, len(sends))) || bytes.Contains(recorded.bytes, []byte("secret")) {
		t.Errorf("%d bytes arrived, then %v; plain text on the wire: %t", len(got.Data), got.Err, bytes.Contains(recorded.bytes, []byte("secret")))
	}
}
