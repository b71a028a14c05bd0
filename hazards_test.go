package liveness_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// link is a connection that the test does not keep: unlike livenesstest.Pair it
// returns our end to nobody but the caller.
func link(t *testing.T, l net.Listener) (net.Conn, *livenesstest.Peer) {
	t.Helper()
	peer, err := livenesstest.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn, peer
}

// wrap is Wrap, closed with the test.
func wrap(t *testing.T, conn net.Conn, cfg *liveness.Config) *liveness.Conn {
	t.Helper()
	c, err := liveness.Wrap(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// needsNotices skips a test of what only an event can tell.
func needsNotices(t *testing.T) {
	t.Helper()
	if !noticed {
		t.Skipf("no notices on %s: somebody has to look", runtime.GOOS)
	}
}

// needsLooks skips a test of what only a look can tell.
func needsLooks(t *testing.T) {
	t.Helper()
	conn, _ := livenesstest.Pair(t, "tcp4")
	if err := liveness.Check(conn); errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("no look on %s: %v", runtime.GOOS, err)
	}
}

// collected waits until the peer sees the end of a connection that nobody closes
// and nobody has.
func collected(t *testing.T, peer *livenesstest.Peer) {
	t.Helper()
	end := make(chan stream, 1)
	go func() { end <- readAll(peer) }()
	until(t, func() bool { runtime.GC(); return len(end) > 0 })
}

// TestForgottenConnsAreFreed forgets many connections, whose end nobody wants to
// know.
func TestForgottenConnsAreFreed(t *testing.T) {
	const n = 1000
	l := listen(t, "tcp4")
	ends := make(chan stream, n)
	for range n {
		conn, peer := link(t, l)
		if _, err := liveness.Wrap(conn, nil); err != nil {
			t.Fatal(err)
		}
		go func() { ends <- readAll(peer) }()
	}
	until(t, func() bool { runtime.GC(); return len(ends) == n })
	for range n {
		if end := <-ends; end.err != io.EOF {
			t.Fatalf("the peer of a forgotten connection read %v, want EOF", end.err)
		}
	}
}

// TestOwingConnsAreKept forgets connections while somebody waits for their end,
// who is told of it all the same; and then they are freed as well.
func TestOwingConnsAreKept(t *testing.T) {
	needsNotices(t)
	for name, owe := range map[string]func(net.Conn, chan error) error{
		"Config.OnDisconnect": func(conn net.Conn, told chan error) error {
			_, err := liveness.Wrap(conn, &liveness.Config{OnDisconnect: func(_ *liveness.Conn, err error) { told <- err }})
			return err
		},
		"OnDisconnect": func(conn net.Conn, told chan error) error {
			c, err := liveness.Wrap(conn, nil)
			if err == nil {
				c.OnDisconnect(func(err error) { told <- err })
			}
			return err
		},
		"Done": func(conn net.Conn, told chan error) error {
			c, err := liveness.Wrap(conn, nil)
			if err == nil {
				done := c.Done()
				go func() { <-done; told <- io.EOF }()
			}
			return err
		},
		"Context": func(conn net.Conn, told chan error) error {
			c, err := liveness.Wrap(conn, nil)
			if err == nil {
				ctx, cancel := c.Context(context.Background())
				context.AfterFunc(ctx, func() { told <- context.Cause(ctx); cancel() })
			}
			return err
		},
		"stopped and kept": func(conn net.Conn, told chan error) error {
			c, err := liveness.Wrap(conn, nil)
			if err == nil {
				c.OnDisconnect(func(err error) { told <- err })
				c.OnDisconnect(nil)()
				c.OnDisconnect(func(error) {})()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, peer := link(t, listen(t, "tcp4"))
			told := make(chan error, 1)
			if err := owe(conn, told); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				runtime.GC()
				barrier(t)
			}
			peer.CloseWrite()
			if err := receive(t, told); !errors.Is(err, io.EOF) {
				t.Errorf("told %v, want the peer's FIN", err)
			}
			collected(t, peer)
		})
	}
}

// TestStoppedConnsAreFreed forgets connections whose registrations were all taken
// back.
func TestStoppedConnsAreFreed(t *testing.T) {
	for name, owe := range map[string]func(*liveness.Conn){
		"OnDisconnect": func(c *liveness.Conn) {
			first, second := c.OnDisconnect(func(error) {}), c.OnDisconnect(func(error) {})
			second()
			first()
		},
		"Context": func(c *liveness.Conn) {
			_, cancel := c.Context(context.Background())
			cancel()
		},
		"parent": func(c *liveness.Conn) {
			parent, cancel := context.WithCancel(context.Background())
			_, release := c.Context(parent)
			cancel()
			release()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, peer := link(t, listen(t, "tcp4"))
			c, err := liveness.Wrap(conn, nil)
			if err != nil {
				t.Fatal(err)
			}
			owe(c)
			collected(t, peer)
		})
	}
}

// TestWrapTwice watches a connection a second time, in every form.
func TestWrapTwice(t *testing.T) {
	t.Parallel()
	t.Run("a Conn", func(t *testing.T) {
		conn, _ := livenesstest.Pair(t, "tcp4")
		c := wrap(t, conn, nil)
		if again, err := liveness.Wrap(c, nil); again != c || err != nil {
			t.Errorf("Wrap(c, nil) = %p, %v, want c itself, %p", again, err, c)
		}
		again, err := liveness.Wrap(c, new(liveness.Config))
		wantRefused(t, again, err)
	})
	t.Run("above a Conn", func(t *testing.T) {
		conn, _ := livenesstest.Pair(t, "tcp4")
		c := wrap(t, conn, nil)
		server, _ := tlsConfigs(t)
		again, err := liveness.Wrap(tls.Server(c, server), nil)
		wantRefused(t, again, err)
	})
	t.Run("the same bare connection", func(t *testing.T) {
		needsNotices(t) // two looks do not meet
		conn, peer := livenesstest.Pair(t, "tcp4")
		w := watch(t, conn, liveness.Config{})
		again, err := liveness.Wrap(conn, &liveness.Config{
			OnDisconnect: func(*liveness.Conn, error) { t.Error("told of a Conn that was not returned") },
		})
		wantRefused(t, again, err)
		w.alive(liveness.Connected)
		if _, err := conn.Write(message); err != nil {
			t.Error(err)
		}
		peer.Drain()
		peer.CloseWrite()
		w.ended(liveness.ErrPeerClosed, nil)
	})
	t.Run("the same bare connection after Close", func(t *testing.T) {
		needsLooks(t)
		conn, _ := livenesstest.Pair(t, "tcp4")
		wrap(t, conn, nil).Close()
		if _, err := liveness.Wrap(conn, nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Wrap = %v, want net.ErrClosed", err)
		}
	})
	t.Run("a listener", func(t *testing.T) {
		outer := liveness.NewListener(liveness.NewListener(listen(t, "tcp4"), nil), nil)
		for range 2 {
			conn, err := outer.Accept()
			wantRefused(t, conn, err)
		}
	})
}

// wantRefused checks that a second watch was refused, for good.
func wantRefused[T comparable](t *testing.T, conn T, err error) {
	t.Helper()
	var none T
	var op *net.OpError
	if conn != none || !errors.As(err, &op) {
		t.Fatalf("got %v, %v, want a *net.OpError", conn, err)
	}
	if !strings.Contains(err.Error(), "wrapped already") || op.Temporary() || op.Timeout() || errors.Is(err, net.ErrClosed) {
		t.Errorf("the error is %v, and Temporary() = %t", err, op.Temporary())
	}
}

// TestWrapAgainWhatWasForgotten keeps the bare connection and forgets the Conn.
func TestWrapAgainWhatWasForgotten(t *testing.T) {
	t.Parallel()
	conn, peer := livenesstest.Pair(t, "tcp4")
	wrapAndForget(t, conn)
	w := watch(t, conn, liveness.Config{})
	w.alive(liveness.Connected)
	if again, err := liveness.Wrap(conn, nil); err == nil && noticed {
		t.Errorf("Wrap = %p for what is watched by %p", again, w.conn)
	}
	peer.CloseWrite()
	w.ended(liveness.ErrPeerClosed, nil)
}

// wrapAndForget returns when the Conn has been freed.
func wrapAndForget(t *testing.T, conn net.Conn) {
	t.Helper()
	c, err := liveness.Wrap(conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	freed := make(chan struct{}, 1)
	runtime.AddCleanup(c, func(freed chan struct{}) { freed <- struct{}{} }, freed)
	until(t, func() bool { runtime.GC(); return len(freed) > 0 })
}

// A limitListener accepts no more than cap(slots) connections at a time, as that
// of golang.org/x/net/netutil does.
type limitListener struct {
	net.Listener
	slots chan struct{}
}

func (l *limitListener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitConn{Conn: conn, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

type limitConn struct {
	net.Conn
	free func()
}

func (c *limitConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// TestLimitListener has a listener around ours, and beneath it, whose connections
// hide what they wrap.
func TestLimitListener(t *testing.T) {
	t.Parallel()
	type end struct {
		conn *liveness.Conn
		err  error
	}
	ends := make(chan end, 9)
	cfg := &liveness.Config{OnDisconnect: func(c *liveness.Conn, err error) { ends <- end{c, err} }}

	t.Run("around us", func(t *testing.T) {
		needsNotices(t)
		inner := listen(t, "tcp4")
		l := &limitListener{liveness.NewListener(inner, cfg), make(chan struct{}, 1)}
		for range 3 { // as many as there are, if each frees its slot
			peer, err := livenesstest.Dial("tcp", inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if c, ok := liveness.From(conn); ok {
				t.Errorf("From found %p in a wrapper that hides it", c)
			}
			if err := liveness.Check(conn); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("Check = %v of a wrapper that hides the socket", err)
			}
			peer.Close()
			if e := receive(t, ends); !errors.Is(e.err, liveness.ErrPeerClosed) {
				t.Errorf("told %v", e.err)
			}
			conn.Close()
		}
	})
	t.Run("inside us", func(t *testing.T) {
		inner := listen(t, "tcp4")
		l := liveness.NewListener(&limitListener{inner, make(chan struct{}, 1)}, cfg)
		for range 3 {
			peer, err := livenesstest.Dial("tcp", inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if state := conn.(*liveness.Conn).Status().State; state != liveness.Unknown {
				t.Errorf("state %v, where no socket is to be found", state)
			}
			peer.Close()
			if got := readAll(conn); got.err != io.EOF {
				t.Errorf("Read returned %v", got.err)
			}
			if e := receive(t, ends); e.conn != conn || !errors.Is(e.err, liveness.ErrPeerClosed) {
				t.Errorf("told %v of %p, want the end of %p", e.err, e.conn, conn)
			}
			conn.Close()
		}
	})
}

// TestDuplicate closes a Conn while a duplicate of its descriptor lives on.
func TestDuplicate(t *testing.T) {
	t.Parallel()
	conn, peer := livenesstest.Pair(t, "tcp4")
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		t.Skip(err)
	}
	defer file.Close()
	w := watch(t, conn, liveness.Config{})
	w.conn.Close()
	w.ended(net.ErrClosed, nil)

	// Had the peer got a FIN, it could not read this.
	dup, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	defer dup.Close()
	if _, err := dup.Write(message); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(message))
	if _, err := io.ReadFull(peer, buf); err != nil {
		t.Errorf("the peer read %v from the duplicate of a descriptor that was closed", err)
	}
	// The duplicate can be watched by itself, and the dead Conn hears no more.
	file.Close()
	wdup := watch(t, dup, liveness.Config{})
	peer.Reset()
	wdup.ended(liveness.ErrPeerReset, errnoReset())
	if err := w.conn.Err(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Err became %v after the end", err)
	}
}

// TestDuplicateOutlives closes first our end and then its duplicate, and the peer
// gets its FIN only then.
func TestDuplicateOutlives(t *testing.T) {
	t.Parallel()
	conn, peer := livenesstest.Pair(t, "tcp4")
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		t.Skip(err)
	}
	defer file.Close()
	wrap(t, conn, nil).Close()
	if _, err := file.Write(message); err != nil {
		t.Fatal(err)
	}
	end := make(chan stream, 1)
	go func() { end <- readAll(peer) }()
	file.Close()
	if got := receive(t, end); got.err != io.EOF || !bytes.Equal(got.data, message) {
		t.Errorf("the peer read %q and then %v", got.data, got.err)
	}
}

// TestReusedDescriptor gives the descriptor of a connection to another, in every
// way in which something of the first may come late.
func TestReusedDescriptor(t *testing.T) {
	needsNotices(t)
	l := listen(t, "tcp4")
	for name, free := range map[string]func(a *witness, peer *livenesstest.Peer){
		"closed after the end": func(a *witness, peer *livenesstest.Peer) {
			peer.Reset()
			a.conn.Close()
		},
		"closed before the end": func(a *witness, peer *livenesstest.Peer) {
			a.conn.Close()
			peer.Reset()
		},
		"closed at the end": func(a *witness, peer *livenesstest.Peer) {
			go peer.Reset()
			a.conn.Close()
		},
		"closed behind our back": func(a *witness, peer *livenesstest.Peer) {
			a.conn.NetConn().Close()
			peer.Reset()
		},
	} {
		t.Run(name, func(t *testing.T) {
			reused := 0
			for range 40 {
				first, firstPeer := link(t, l)
				secondPeer, err := livenesstest.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer secondPeer.Close()
				a := watch(t, first, liveness.Config{})
				fd := descriptor(t, first)
				free(a, firstPeer)
				useUp(t, fd)
				second, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer second.Close() // late, so that lower numbers get used up
				b := watch(t, second, liveness.Config{})
				if descriptor(t, second) == fd {
					reused++
				}
				// What comes late of the first is none of the second's business.
				a.conn.Alive()
				a.conn.Close()
				b.alive(liveness.Connected)
				secondPeer.Reset()
				b.ended(liveness.ErrPeerReset, errnoReset())
				receive(t, a.configured)
				receive(t, a.registered)
			}
			if reused == 0 {
				t.Error("no descriptor was used again")
			}
		})
	}
}

// useUp takes the descriptors below fd: the kernel gives out the lowest number that
// is free.
func useUp(t *testing.T, fd uintptr) {
	t.Helper()
	for {
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		if null.Fd() >= fd {
			null.Close()
			return
		}
		t.Cleanup(func() { null.Close() })
	}
}

// TestWrapAgainOnReusedDescriptor has a Conn that was closed behind our back, and
// so never gave up its descriptor, which another connection has by now.
func TestWrapAgainOnReusedDescriptor(t *testing.T) {
	needsNotices(t)
	l := listen(t, "tcp4")
	for range 10 {
		first, _ := link(t, l)
		peer, err := livenesstest.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		stale := wrap(t, first, nil)
		fd := descriptor(t, first)
		first.Close()
		useUp(t, fd)
		second, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		if descriptor(t, second) != fd {
			continue
		}
		wrapAndForget(t, second)
		w := watch(t, second, liveness.Config{})
		peer.CloseWrite()
		w.ended(liveness.ErrPeerClosed, nil)
		stale.Close()
		return
	}
	t.Skip("the descriptor was not used again")
}

func descriptor(t *testing.T, conn net.Conn) (fd uintptr) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err == nil {
		err = raw.Control(func(n uintptr) { fd = n })
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestRetryLoopEnds has a Read in the loop that goes on after the time-outs of its
// own deadlines, which is how programs poll for their own shutdown.
func TestRetryLoopEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*livenesstest.Peer, net.Conn){
		"close":     func(peer *livenesstest.Peer, _ net.Conn) { peer.Close() },
		"reset":     func(peer *livenesstest.Peer, _ net.Conn) { peer.Reset() },
		"own Close": func(_ *livenesstest.Peer, conn net.Conn) { conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			conn, peer := livenesstest.Pair(t, "tcp4")
			c := wrap(t, conn, nil)
			timeouts := make(chan int)
			go retry(c, timeouts)
			<-timeouts
			end(peer, c)
			until(t, func() bool { _, more := <-timeouts; return !more })
		})
	}
}

// retry reads as such a loop does, counts the time-outs, and closes the channel
// behind another error.
func retry(conn net.Conn, timeouts chan<- int) {
	defer close(timeouts)
	for n := 1; ; n++ {
		conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := conn.Read(make([]byte, 1))
		if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
			return
		}
		timeouts <- n
	}
}

// TestResetNeverReadsAsComplete resets under a reader and a writer. The writer
// often takes the error of the socket, and the reader then finds an end of file.
func TestResetNeverReadsAsComplete(t *testing.T) {
	needsNotices(t) // a look alone does not see more than the end of file
	for network, rounds := range map[string]int{"tcp4": 400, "tcp6": 50, "unix": 100, "mptcp": 100} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			for i := range rounds {
				conn, peer := livenesstest.Pair(t, network)
				c := wrap(t, conn, nil)
				reads, writes := make(chan stream, 1), make(chan error, 1)
				go func() { reads <- readAll(c) }()
				go func() { writes <- writeOn(c) }()
				// A little of the stream is taken first, and something is left.
				if _, err := io.CopyN(io.Discard, peer, int64(i%7)<<12+1); err != nil {
					t.Fatal(err)
				}
				until(t, func() bool {
					err := peer.Reset() // on AF_UNIX, as soon as something is unread
					if errors.Is(err, errors.ErrUnsupported) && runtime.GOOS != "linux" {
						t.Skip(err)
					}
					return err == nil
				})
				// On MPTCP the error is gone when the Write has it, and nothing else tells; so it
				// is under Wine, to which what is left then is a FIN. Windows remembers.
				tells := network != "mptcp" && !wine()
				if got := receive(t, reads); got.err == io.EOF && tells {
					t.Errorf("round %d: Read returned EOF, Err() = %v", i, c.Err())
				}
				if err := receive(t, writes); err == nil {
					t.Errorf("round %d: Write returned nil", i)
				}
				if noticed {
					receive(t, c.Done())
				}
				if c.Alive() || tells && !errors.Is(c.Err(), liveness.ErrPeerReset) {
					t.Errorf("round %d: Err() = %v", i, c.Err())
				}
				c.Close()
				if t.Failed() {
					return
				}
			}
		})
	}
}

// TestLooksLeaveNoTrace looks at a connection that was reset, in every way there
// is, and then reads from the original, which has no help from us: it must still
// be told of the reset.
func TestLooksLeaveNoTrace(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "solaris" || runtime.GOOS == "illumos" || runtime.GOOS == "aix" {
		t.Skipf("a look on %s may take the error of the socket, and the Conn hands it on", runtime.GOOS)
	}
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			needsLooks(t)
			for name, look := range map[string]func(net.Conn){
				"Check": func(conn net.Conn) { liveness.Check(conn) },
				"Wrap":  func(conn net.Conn) { wrap(t, conn, nil) },
				"Alive and Status": func(conn net.Conn) {
					c := wrap(t, conn, &liveness.Config{AllowHalfClose: true})
					for range 3 {
						c.Alive()
						c.Status()
						liveness.Check(c)
					}
				},
			} {
				conn, peer := livenesstest.Pair(t, network)
				conn.Write(message) // AF_UNIX resets only in place of unread bytes
				peer.Write(message)
				if err := peer.Reset(); err != nil {
					t.Skip(err)
				}
				until(t, func() bool { return liveness.Check(conn) != nil })
				look(conn)
				got := readAll(conn)
				if !bytes.Equal(got.data, message) && (keepsUnread || len(got.data) > 0) || !errors.Is(got.err, errnoReset()) {
					t.Errorf("after %s Read returned %q and %v, want the errno of a reset", name, got.data, got.err)
				}
			}
		})
	}
}

// TestMethodsAnswerAtOnce asks with a goroutine in Read and another in Write.
func TestMethodsAnswerAtOnce(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{{network: "tcp4"}, {network: "unix"}, {network: "mptcp"}} {
		t.Run(v.network, func(t *testing.T) {
			s := open(t, v, false)
			s.fill()
			reads, writes := make(chan stream, 1), make(chan error, 1)
			go func() { reads <- readAll(s.conn) }()
			go func() { writes <- writeOn(s.conn) }()
			answered := make(chan error, 1)
			go func() {
				c := s.witness.conn
				for range 100 {
					if !c.Alive() || c.Err() != nil || liveness.Check(c) != nil || c.Status().Err != nil {
						answered <- fmt.Errorf("not alive: %v", c.Err())
						return
					}
					c.OnDisconnect(func(error) {})()
					_, cancel := c.Context(context.Background())
					cancel()
				}
				answered <- nil
			}()
			if err := receive(t, answered); err != nil {
				t.Error(err)
			}
			if len(reads)+len(writes) > 0 {
				t.Error("a parked Read or Write has returned")
			}
			s.conn.Close()
			receive(t, reads)
			receive(t, writes)
			s.witness.ended(net.ErrClosed, nil)
		})
	}
}

// TestErrorsAreUntouched compares what the methods of a Conn return with what
// those of the wrapped connection do.
func TestErrorsAreUntouched(t *testing.T) {
	t.Parallel()
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			for name, f := range map[string]func(conn net.Conn, peer *livenesstest.Peer) error{
				"Read after reset": func(conn net.Conn, peer *livenesstest.Peer) error {
					conn.Write(message)
					peer.Reset()
					return readAll(conn).err
				},
				"Write after reset": func(conn net.Conn, peer *livenesstest.Peer) error {
					conn.Write(message)
					peer.Reset()
					return writeOn(conn)
				},
				"Read after Close": func(conn net.Conn, peer *livenesstest.Peer) error {
					conn.Close()
					return readAll(conn).err
				},
				"Write after Close": func(conn net.Conn, peer *livenesstest.Peer) error {
					conn.Close()
					return writeOn(conn)
				},
				"second Close": func(conn net.Conn, peer *livenesstest.Peer) error {
					conn.Close()
					return conn.Close()
				},
				"SetDeadline after Close": func(conn net.Conn, peer *livenesstest.Peer) error {
					conn.Close()
					return conn.SetDeadline(time.Now())
				},
				"Write after CloseWrite": func(conn net.Conn, peer *livenesstest.Peer) error {
					conn.(interface{ CloseWrite() error }).CloseWrite()
					return writeOn(conn)
				},
				"CloseWrite after reset": func(conn net.Conn, peer *livenesstest.Peer) error {
					conn.Write(message)
					peer.Reset()
					readAll(conn)
					return conn.(interface{ CloseWrite() error }).CloseWrite()
				},
				"Read behind a deadline": func(conn net.Conn, peer *livenesstest.Peer) error {
					conn.SetDeadline(time.Now().Add(-time.Second))
					return readAll(conn).err
				},
			} {
				bare, barePeer := livenesstest.Pair(t, network)
				want := shape(f(bare, barePeer))
				conn, peer := livenesstest.Pair(t, network)
				err := f(wrap(t, conn, nil), peer)
				if wine() && name == "Read after reset" {
					// Bare it is an end of file as often as not; see errnoReset.
					if !errors.Is(err, errnoReset()) {
						t.Errorf("%s: %v", name, err)
					}
				} else if got := shape(err); got != want {
					t.Errorf("%s: %s, on the bare connection %s", name, got, want)
				}
			}
		})
	}
}

// TestCheck looks at bare connections, of which nobody has told it anything.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(conn net.Conn, peer *livenesstest.Peer)
		want error
		in   func(variant) bool // nil is all
	}{
		{name: "connected", do: func(net.Conn, *livenesstest.Peer) {}},
		{name: "unread bytes", do: func(conn net.Conn, peer *livenesstest.Peer) { peer.Write(message) }},
		{name: "expired deadline", do: func(conn net.Conn, peer *livenesstest.Peer) { conn.SetDeadline(time.Now().Add(-time.Second)) }},
		{name: "own CloseWrite", do: func(conn net.Conn, peer *livenesstest.Peer) { conn.(interface{ CloseWrite() error }).CloseWrite() }},
		{name: "own CloseRead", do: func(conn net.Conn, peer *livenesstest.Peer) { conn.(*net.TCPConn).CloseRead() }, in: func(v variant) bool { return onTCP(v) && noticed }},
		{name: "close", do: func(conn net.Conn, peer *livenesstest.Peer) { peer.Close() }, want: liveness.ErrPeerClosed},
		{name: "close behind unread bytes", do: func(conn net.Conn, peer *livenesstest.Peer) { peer.Write(message); peer.Close() }, want: liveness.ErrPeerClosed},
		{name: "half-close", do: func(conn net.Conn, peer *livenesstest.Peer) { peer.CloseWrite() }, want: liveness.ErrPeerClosed},
		{name: "reset", do: func(conn net.Conn, peer *livenesstest.Peer) { conn.Write(message); peer.Reset() }, want: liveness.ErrPeerReset},
		{name: "own Close", do: func(conn net.Conn, peer *livenesstest.Peer) { conn.Close() }, want: net.ErrClosed},
	} {
		for _, network := range networks {
			if c.in != nil && !c.in(variant{network: network}) {
				continue
			}
			t.Run(c.name+","+network, func(t *testing.T) {
				if strings.Contains(c.name, "behind") {
					needsFINBehindData(t)
				}
				needsLooks(t)
				conn, peer := livenesstest.Pair(t, network)
				c.do(conn, peer)
				var err error
				if c.want == nil {
					barrier(t)
					if err = liveness.Check(conn); err != nil {
						t.Errorf("Check = %v", err)
					}
					return
				}
				until(t, func() bool { err = liveness.Check(conn); return err != nil })
				var op *net.OpError
				if !errors.Is(err, c.want) || !errors.As(err, &op) || op.Op != "watch" {
					t.Errorf("Check = %v, want %v", err, c.want)
				}
				if c.want == liveness.ErrPeerReset && !errors.Is(err, errnoReset()) {
					t.Errorf("Check = %v, without the errno", err)
				}
			})
		}
	}
}

// TestHungPeer stops the peer's process. Its host goes on answering, so the
// connection lives.
func TestHungPeer(t *testing.T) {
	t.Parallel()
	conn, process := pairWithProcess(t, "tcp4")
	if err := process.Stop(); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	w := watch(t, conn, liveness.Config{})
	if _, err := w.conn.Write(message); err != nil {
		t.Error(err)
	}
	w.alive(liveness.Connected)
	process.Kill()
	w.ended(liveness.ErrPeerReset, errnoReset())
}

// TestLimitedReader reads a part of what a connection has to give, and gives back
// what it did not use of the limit.
func TestLimitedReader(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int64{"less than there is": 7, "more than there is": 1000} {
		t.Run(name, func(t *testing.T) {
			conn, source := livenesstest.Pair(t, "tcp4")
			from := wrap(t, conn, nil)
			conn, sink := livenesstest.Pair(t, "tcp4")
			to := wrap(t, conn, nil)
			source.Write(message)
			source.CloseWrite()
			want := message[:min(limit, int64(len(message)))]
			limited := &io.LimitedReader{R: from, N: limit}
			if n, err := to.ReadFrom(limited); n != int64(len(want)) || err != nil || limited.N != limit-n {
				t.Errorf("ReadFrom = %d, %v, and %d left of %d", n, err, limited.N, limit)
			}
			to.Close()
			if got := readAll(sink); !bytes.Equal(got.data, want) {
				t.Errorf("copied %q", got.data)
			}
			if got := readAll(from); !bytes.Equal(got.data, message[len(want):]) || got.err != io.EOF {
				t.Errorf("%q and %v were left", got.data, got.err)
			}
		})
	}
}

// shape is how an error is built, without what differs from connection to
// connection.
func shape(err error) string {
	op, ok := err.(*net.OpError)
	if !ok {
		return fmt.Sprintf("%T %v", err, err)
	}
	return fmt.Sprintf("%T %s %s %T %v", op, op.Op, op.Net, op.Err, op.Err)
}

// TestStop pins the contract of the stop function, which is that of
// context.AfterFunc.
func TestStop(t *testing.T) {
	t.Parallel()
	conn, peer := livenesstest.Pair(t, "tcp4")
	c := wrap(t, conn, nil)
	never := func(error) { t.Error("called although it was stopped") }
	told := make(chan error, 1)
	for range 2 {
		if stop := c.OnDisconnect(never); !stop() || stop() || stop() {
			t.Error("want stop() = true the first time and false from then on")
		}
	}
	// In the middle of others, at the beginning and at the end of them.
	stops := make([]func() bool, 5)
	for i := range stops {
		stops[i] = c.OnDisconnect(never)
	}
	kept := c.OnDisconnect(func(err error) { told <- err })
	for _, i := range []int{2, 4, 0, 1, 3} {
		if !stops[i]() || stops[i]() {
			t.Errorf("registration %d could not be stopped once", i)
		}
	}
	if stop := c.OnDisconnect(nil); stop() {
		t.Error("stop() = true for a nil function")
	}
	peer.CloseWrite()
	until(t, func() bool { return noticed || !c.Alive() })
	if err := receive(t, told); err != c.Err() || !errors.Is(err, liveness.ErrPeerClosed) {
		t.Errorf("told %v, Err() = %v", err, c.Err())
	}
	if kept() {
		t.Error("stop() = true after the call")
	}
	if stop := c.OnDisconnect(nil); stop() {
		t.Error("stop() = true for a nil function after the end")
	}
}

// TestStopAgainstTheEnd stops while the end comes: either stop returns true, or
// the function is called.
func TestStopAgainstTheEnd(t *testing.T) {
	t.Parallel()
	for range 200 {
		inner, _ := net.Pipe()
		c := wrap(t, inner, nil)
		var called atomic.Bool
		done := make(chan struct{})
		stop := c.OnDisconnect(func(error) { called.Store(true); close(done) })
		go c.Close()
		if stop() {
			receive(t, c.Done())
			if called.Load() {
				t.Fatal("called although stop() = true")
			}
		} else {
			receive(t, done)
		}
	}
}

// TestCallbacksDelayNobody has one that blocks.
func TestCallbacksDelayNobody(t *testing.T) {
	t.Parallel()
	conn, peer := livenesstest.Pair(t, "tcp4")
	release, told := make(chan struct{}), make(chan struct{}, 4)
	cfg := liveness.Config{OnDisconnect: func(*liveness.Conn, error) { <-release }}
	c := wrap(t, conn, &cfg)
	defer close(release)
	for range 2 {
		c.OnDisconnect(func(error) { told <- struct{}{} })
		c.OnDisconnect(func(error) { <-release })
		c.OnDisconnect(func(error) { c.Close(); told <- struct{}{} })
	}
	peer.Close()
	until(t, func() bool { return noticed || !c.Alive() })
	for range 4 {
		receive(t, told)
	}
	barrier(t) // other connections are told too
}

// TestContextOfParent ends contexts in the other ways in which contexts end.
func TestContextOfParent(t *testing.T) {
	t.Parallel()
	conn, _ := livenesstest.Pair(t, "tcp4")
	c := wrap(t, conn, nil)
	type key struct{}
	parent, cancelParent := context.WithCancelCause(context.WithValue(context.Background(), key{}, "value"))
	ctx, cancel := c.Context(parent)
	defer cancel()
	own, cancelOwn := c.Context(parent)
	if ctx.Value(key{}) != "value" {
		t.Error("the values of the parent are lost")
	}
	cancelOwn()
	if context.Cause(own) != context.Canceled || ctx.Err() != nil {
		t.Errorf("the causes are %v after its own CancelFunc, and %v", context.Cause(own), context.Cause(ctx))
	}
	why := errors.New("why")
	cancelParent(why)
	if context.Cause(ctx) != why {
		t.Errorf("the cause is %v after the parent's %v", context.Cause(ctx), why)
	}
	if c.Err() != nil {
		t.Errorf("Err() = %v after the end of a context", c.Err())
	}
}

// selfish returns itself where it should return what it wraps.
type selfish struct{ net.Conn }

func (s selfish) NetConn() net.Conn { return s }

// hidden hides whatever is not in net.Conn.
type hidden struct{ net.Conn }

// TestWhatCannotBeWatched wraps it all the same, or refuses.
func TestWhatCannotBeWatched(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, conn net.Conn, reason error) {
		t.Helper()
		c, err := liveness.Wrap(conn, &liveness.Config{
			OnDisconnect: func(*liveness.Conn, error) { t.Error("told of a Conn that was not returned") },
		})
		if c != nil || err == nil || reason != nil && !errors.Is(err, reason) {
			t.Errorf("Wrap = %v, %v, want %v", c, err, reason)
		}
		if err := liveness.Check(conn); err == nil || reason != nil && !errors.Is(err, reason) {
			t.Errorf("Check = %v, want %v", err, reason)
		}
	}
	t.Run("nil", func(t *testing.T) { refused(t, nil, nil) })
	t.Run("nil in an interface", func(t *testing.T) {
		refused(t, (*net.TCPConn)(nil), nil)
		refused(t, (*liveness.Conn)(nil), nil)
		refused(t, (*tls.Conn)(nil), nil)
	})
	t.Run("closed by us", func(t *testing.T) {
		needsLooks(t)
		for _, network := range networks {
			conn, _ := livenesstest.Pair(t, network)
			conn.Close()
			refused(t, conn, net.ErrClosed)
		}
	})
	t.Run("UDP", func(t *testing.T) {
		needsLooks(t)
		conn, err := net.Dial("udp", "127.0.0.1:9")
		if err != nil {
			t.Skip(err)
		}
		defer conn.Close()
		refused(t, conn, errors.ErrUnsupported)
	})
	t.Run("datagrams of AF_UNIX", func(t *testing.T) {
		needsLooks(t)
		path := filepath.Join(t.TempDir(), "s")
		if len(path) > 100 {
			t.Skip("the path is too long for a socket")
		}
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Skip(err)
		}
		defer conn.Close()
		refused(t, conn, errors.ErrUnsupported)
	})
	for name, cover := range map[string]func(net.Conn) net.Conn{
		"hidden":        func(conn net.Conn) net.Conn { return hidden{conn} },
		"NetConn loops": func(conn net.Conn) net.Conn { return selfish{conn} },
	} {
		t.Run(name, func(t *testing.T) {
			conn, peer := livenesstest.Pair(t, "tcp4")
			covered := cover(conn)
			if c, ok := liveness.From(covered); ok {
				t.Errorf("From = %p", c)
			}
			if err := liveness.Check(covered); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("Check = %v", err)
			}
			refusedConfigs(t, covered)
			told := make(chan error, 9)
			c := wrap(t, covered, &liveness.Config{OnDisconnect: func(_ *liveness.Conn, err error) { told <- err }})
			if again, err := liveness.Wrap(c, nil); again != c || err != nil {
				t.Errorf("Wrap(c, nil) = %p, %v", again, err)
			}
			if status := c.Status(); status != (liveness.Status{}) || status.State != liveness.Unknown {
				t.Errorf("Status() = %+v", status)
			}
			for name, err := range map[string]error{"CloseRead": c.CloseRead(), "CloseWrite": c.CloseWrite()} {
				if !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s = %v", name, err)
				}
			}
			if _, err := c.SyscallConn(); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("SyscallConn = %v", err)
			}
			peer.Write(message)
			peer.Reset()
			if !c.Alive() || c.Err() != nil {
				t.Errorf("Err() = %v before anything was read", c.Err())
			}
			if got := readAll(c); !bytes.Equal(got.data, message) || !errors.Is(got.err, errnoReset()) {
				t.Errorf("read %q and %v", got.data, got.err)
			}
			if err := receive(t, told); c.Alive() || err != c.Err() || !errors.Is(err, liveness.ErrPeerReset) || !errors.Is(err, errnoReset()) {
				t.Errorf("told %v, Err() = %v", err, c.Err())
			}
			c.Close()
			if len(told) > 0 {
				t.Errorf("told again: %v", <-told)
			}
		})
	}
}

// An unreachable socket is there, but not to be controlled.
type unreachable struct{ net.Conn }

type unreachableRaw struct{ syscall.RawConn }

func (unreachable) SyscallConn() (syscall.RawConn, error) { return unreachableRaw{}, nil }

func (unreachableRaw) Control(func(uintptr)) error { return errors.ErrUnsupported }

func TestUnreachableSocket(t *testing.T) {
	t.Parallel()
	conn, peer := livenesstest.Pair(t, "tcp4")
	refusedConfigs(t, unreachable{conn})
	if err := liveness.Check(unreachable{conn}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Check = %v", err)
	}
	c := wrap(t, unreachable{conn}, nil)
	if state := c.Status().State; state != liveness.Unknown {
		t.Errorf("the state is %v", state)
	}
	peer.Close()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF || !errors.Is(c.Err(), liveness.ErrPeerClosed) {
		t.Errorf("Read: %v; Err() = %v", err, c.Err())
	}
}

// refusedConfigs checks what nobody can keep who does not see the socket, and that
// the connection is still the caller's then.
func refusedConfigs(t *testing.T, conn net.Conn) {
	t.Helper()
	for field, cfg := range map[string]liveness.Config{
		"PeerTimeout":  {PeerTimeout: time.Minute},
		"StallTimeout": {StallTimeout: time.Minute},
	} {
		cfg.OnDisconnect = func(*liveness.Conn, error) { t.Error("told of a Conn that was not returned") }
		c, err := liveness.Wrap(conn, &cfg)
		if c != nil || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), field) {
			t.Errorf("Wrap = %v, %v, want an error that names %s", c, err, field)
		}
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		t.Errorf("the connection that was not wrapped: %v", err)
	}
}

// TestImpossibleConfigs have fields that no connection can keep.
func TestImpossibleConfigs(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]liveness.Config{
		"PeerTimeout":     {PeerTimeout: -1},
		"StallTimeout":    {StallTimeout: -1},
		"ReadIdleTimeout": {ReadIdleTimeout: -1},
		"KeepAlive":       {KeepAlive: net.KeepAliveConfig{Count: 3}},
	} {
		conn, _ := livenesstest.Pair(t, "tcp4")
		c, err := liveness.Wrap(conn, &cfg)
		var op *net.OpError
		if c != nil || !errors.As(err, &op) || !strings.Contains(err.Error(), field) {
			t.Errorf("Wrap = %v, %v, want a *net.OpError that names %s", c, err, field)
		}
		if _, err := conn.Write(message); err != nil {
			t.Errorf("the connection that was not wrapped: %v", err)
		}

		// A listener says so before it accepts anybody, and for good.
		inner := listen(t, "tcp4")
		l := liveness.NewListener(inner, &cfg)
		peer, err := livenesstest.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			conn, err := l.Accept()
			var op *net.OpError
			if conn != nil || !errors.As(err, &op) || op.Temporary() || !strings.Contains(err.Error(), field) {
				t.Errorf("Accept = %v, %v, want a permanent error that names %s", conn, err, field)
			}
		}
		conn, err = inner.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(message); err != nil || conn.RemoteAddr().String() != peer.LocalAddr().String() {
			t.Errorf("the first peer was lost to an Accept that failed: %v", err)
		}
		conn.Close()
		peer.Close()
	}
}

// TestPipe has no socket at all, so it can be tried in a bubble, whose clock and
// goroutines are its own.
func TestPipe(t *testing.T) {
	pipe := func(t *testing.T, cfg liveness.Config) (*witness, net.Conn) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { ours.Close(); theirs.Close() })
		if err := liveness.Check(ours); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Check = %v", err)
		}
		c := wrap(t, ours, &cfg)
		w := &witness{T: t, conn: c, registered: make(chan error, 9)}
		c.OnDisconnect(func(err error) { w.registered <- err })
		if !c.Alive() || c.Err() != nil || liveness.Check(c) != nil || c.Status() != (liveness.Status{}) {
			t.Errorf("Err() = %v, Status() = %+v", c.Err(), c.Status())
		}
		return w, theirs
	}
	ended := func(w *witness, reason error) {
		w.Helper()
		synctest.Wait()
		select {
		case <-w.conn.Done():
		default:
			w.Fatal("no end")
		}
		w.checkError(w.conn.Err(), reason, nil)
		if told := <-w.registered; told != w.conn.Err() || len(w.registered) > 0 || w.conn.Alive() {
			w.Errorf("told %v, Err() = %v", told, w.conn.Err())
		}
	}
	for name, f := range map[string]func(*testing.T){
		"end of file": func(t *testing.T) {
			w, peer := pipe(t, liveness.Config{})
			go func() { peer.Write(message); peer.Close() }()
			if got := readAll(w.conn); got.err != io.EOF || !bytes.Equal(got.data, message) {
				t.Errorf("read %q and %v", got.data, got.err)
			}
			ended(w, liveness.ErrPeerClosed)
		},
		"Write to what was closed": func(t *testing.T) {
			w, peer := pipe(t, liveness.Config{})
			peer.Close()
			if _, err := w.conn.Write(message); err != io.ErrClosedPipe {
				t.Errorf("Write = %v", err)
			}
			ended(w, liveness.ErrPeerClosed)
		},
		"own Close": func(t *testing.T) {
			w, _ := pipe(t, liveness.Config{})
			read := make(chan error)
			go func() { read <- readAll(w.conn).err }()
			synctest.Wait()
			w.conn.Close()
			if err := <-read; err != io.ErrClosedPipe {
				t.Errorf("Read = %v", err)
			}
			ended(w, net.ErrClosed)
		},
		"deadline": func(t *testing.T) {
			w, peer := pipe(t, liveness.Config{})
			w.conn.SetDeadline(time.Now().Add(time.Hour))
			if got := readAll(w.conn); !errors.Is(got.err, os.ErrDeadlineExceeded) {
				t.Errorf("Read = %v", got.err)
			}
			if !w.conn.Alive() || w.conn.Err() != nil {
				t.Errorf("Err() = %v", w.conn.Err())
			}
			w.conn.SetDeadline(time.Time{})
			go peer.Close()
			readAll(w.conn)
			ended(w, liveness.ErrPeerClosed)
		},
		"half-close that is allowed": func(t *testing.T) {
			w, peer := pipe(t, liveness.Config{AllowHalfClose: true})
			go peer.Close()
			readAll(w.conn)
			if status := w.conn.Status(); !w.conn.Alive() || status.State != liveness.HalfClosed {
				t.Errorf("Status() = %+v", status)
			}
			w.conn.Write(message)
			ended(w, liveness.ErrPeerClosed)
		},
		"context": func(t *testing.T) {
			w, peer := pipe(t, liveness.Config{})
			ctx, cancel := w.conn.Context(t.Context())
			defer cancel()
			go peer.Close()
			readAll(w.conn)
			<-ctx.Done()
			if context.Cause(ctx) != w.conn.Err() {
				t.Errorf("the cause is %v, Err() = %v", context.Cause(ctx), w.conn.Err())
			}
			ended(w, liveness.ErrPeerClosed)
		},
		"copies": func(t *testing.T) {
			from, fromPeer := pipe(t, liveness.Config{})
			to, toPeer := pipe(t, liveness.Config{})
			go func() { fromPeer.Write(message); fromPeer.Close() }()
			go func() { io.Copy(to.conn, from.conn); to.conn.Close() }()
			if got := readAll(toPeer); !bytes.Equal(got.data, message) {
				t.Errorf("copied %q", got.data)
			}
			ended(from, liveness.ErrPeerClosed)
			ended(to, net.ErrClosed)
		},
		"impossible configurations": func(t *testing.T) {
			// Nothing can vanish here, and so there is nothing to refuse.
			w, peer := pipe(t, liveness.Config{PeerTimeout: time.Minute})
			go peer.Close()
			readAll(w.conn)
			ended(w, liveness.ErrPeerClosed)
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	}
}

// TestClosedBehindOurBack closes the original, of which the kernel tells nobody.
func TestClosedBehindOurBack(t *testing.T) {
	t.Parallel()
	needsLooks(t)
	for name, look := range map[string]func(*liveness.Conn){
		"Alive":  func(c *liveness.Conn) { c.Alive() },
		"Status": func(c *liveness.Conn) { c.Status() },
		"Check":  func(c *liveness.Conn) { liveness.Check(c) },
		"Read":   func(c *liveness.Conn) { c.Read(make([]byte, 1)) },
		"Write":  func(c *liveness.Conn) { c.Write(make([]byte, 1)) },
		"Close":  func(c *liveness.Conn) { c.Close() },
	} {
		conn, _ := livenesstest.Pair(t, "tcp4")
		w := watch(t, conn, liveness.Config{})
		conn.Close()
		if err := w.conn.Err(); err != nil {
			t.Errorf("%s: Err() = %v before", name, err)
		}
		look(w.conn)
		if err := w.conn.Err(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: Err() = %v after", name, err)
		}
		w.ended(net.ErrClosed, nil)
		if err := w.conn.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: Close = %v of what is closed", name, err)
		}
	}
}

// TestListener forwards to the listener that was wrapped.
func TestListener(t *testing.T) {
	t.Parallel()
	inner := listen(t, "tcp4")
	ends := make(chan error, 9)
	l := liveness.NewListener(inner, &liveness.Config{OnDisconnect: func(_ *liveness.Conn, err error) { ends <- err }})
	if l.NetListener() != inner || l.Addr() != inner.Addr() {
		t.Errorf("NetListener() = %v, Addr() = %v", l.NetListener(), l.Addr())
	}
	peer, err := livenesstest.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if c, ok := conn.(*liveness.Conn); !ok || c.NetConn() == nil {
		t.Errorf("Accept returned a %T", conn)
	}

	// A deadline of the inner listener is its own affair.
	inner.(*net.TCPListener).SetDeadline(time.Now().Add(-time.Second))
	if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Accept = %v behind a deadline", err)
	}
	inner.(*net.TCPListener).SetDeadline(time.Time{})

	// Close unblocks Accept and ends nothing else.
	accept := make(chan error)
	go func() { _, err := l.Accept(); accept <- err }()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := receive(t, accept); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v after Close", err)
	}
	barrier(t)
	if len(ends) > 0 {
		t.Errorf("told %v when the listener was closed", <-ends)
	}
	peer.CloseWrite()
	readAll(conn)
	conn.(*liveness.Conn).Alive()
	if err := receive(t, ends); noticed && !errors.Is(err, liveness.ErrPeerClosed) {
		t.Errorf("told %v", err)
	}
}

// A scripted listener accepts what it is given.
type scripted struct {
	net.Listener
	conns chan net.Conn
}

func (l scripted) Accept() (net.Conn, error) { return <-l.conns, nil }

// A listener without an address may be one that makes its connections itself.
type nowhere struct{ net.Listener }

func (nowhere) Addr() net.Addr { return nil }

func TestListenerWithoutAddress(t *testing.T) {
	t.Parallel()
	_, err := liveness.NewListener(nowhere{}, &liveness.Config{PeerTimeout: 1}).Accept()
	if op := new(net.OpError); !errors.As(err, &op) || op.Op != "accept" {
		t.Errorf("Accept: %v", err)
	}
}

// TestListenerGoesOn accepts connections that cannot be watched, of which nobody
// shall hear, and one that can.
func TestListenerGoesOn(t *testing.T) {
	t.Parallel()
	needsLooks(t)
	packets, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Skip(err)
	}
	closed, _ := livenesstest.Pair(t, "tcp4")
	closed.Close()
	watched, _ := livenesstest.Pair(t, "tcp4")
	wrap(t, watched, nil)
	good, _ := livenesstest.Pair(t, "tcp4")
	l := scripted{listen(t, "tcp4"), make(chan net.Conn, 9)}
	l.conns <- packets
	l.conns <- closed
	if noticed {
		l.conns <- watched // bare, and watched already
	}
	l.conns <- good
	conn, err := liveness.NewListener(l, nil).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.(*liveness.Conn).NetConn() != good {
		t.Errorf("Accept returned the connection from %v", conn.RemoteAddr())
	}
	for _, bad := range []net.Conn{packets, closed} {
		if err := bad.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a connection that could not be watched was left open: %v", err)
		}
	}
}

// TestSocketBeneathTLS wraps above TLS, where what is written to the socket would
// go out in plain text.
func TestSocketBeneathTLS(t *testing.T) {
	t.Parallel()
	bare, wire := livenesstest.Pair(t, "tcp4")
	recorded := &recorder{Conn: wire.Conn}
	serverConfig, clientConfig := tlsConfigs(t)
	peer := tls.Client(recorded, clientConfig)
	conn := tls.Server(bare, serverConfig)
	c := wrap(t, conn, nil)
	if raw, err := c.SyscallConn(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SyscallConn = %v, %v", raw, err)
	}

	secret := bytes.Repeat([]byte("a secret that must not be seen; "), 10_000)
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	var sent int
	go func() {
		defer c.Close()
		for _, send := range []func(file *os.File) error{
			func(file *os.File) error { _, err := io.Copy(c, file); return err },
			func(file *os.File) error { _, err := c.ReadFrom(file); return err },
			func(file *os.File) error { _, err := io.CopyN(c, file, int64(len(secret))); return err },
			func(file *os.File) error { _, err := file.WriteTo(c); return err },
			func(file *os.File) error {
				data, err := io.ReadAll(file)
				if err == nil {
					_, err = c.WriteBuffers(&net.Buffers{data[:1000], data[1000:]})
				}
				return err
			},
		} {
			file, err := os.Open(name)
			if err == nil {
				err = send(file)
				file.Close()
			}
			if err != nil {
				t.Error(err)
				return
			}
			sent++
		}
	}()
	got := readAll(peer)
	if !bytes.Equal(got.data, bytes.Repeat(secret, 5)) {
		t.Errorf("%d bytes arrived of %d copies of %d, and then %v", len(got.data), sent, len(secret), got.err)
	}
	if i := bytes.Index(recorded.bytes, []byte("secret")); i >= 0 {
		t.Errorf("plain text on the wire at %d", i)
	}
	if len(recorded.bytes) < 5*len(secret) {
		t.Errorf("%d bytes were on the wire", len(recorded.bytes))
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

// TestAboveTLS wraps a *tls.Conn, which is not the recommended order, and is told
// of the end of the socket beneath.
func TestAboveTLS(t *testing.T) {
	t.Parallel()
	needsNotices(t)
	for _, f := range finales {
		t.Run(f.name, func(t *testing.T) {
			if f.reason == liveness.ErrPeerClosed {
				needsFINBehindData(t)
			}
			s := &scene{T: t, variant: variant{network: "tcp4", tls: true}}
			s.bare, s.wire = livenesstest.Pair(t, "tcp4")
			s.conn = s.bare
			s.handshake()
			s.witness = watch(t, s.conn, liveness.Config{})
			s.conn = s.witness.conn
			if c, ok := liveness.From(s.conn); !ok || c != s.witness.conn {
				t.Errorf("From = %p, %t", c, ok)
			}
			s.talk()
			s.send(message)
			s.witness.alive(liveness.Connected)
			f.do(s)
			var errno error
			if f.reason == liveness.ErrPeerReset {
				errno = errnoReset()
			}
			s.witness.ended(f.reason, errno)
			lost := f.reason == net.ErrClosed || f.reason == liveness.ErrPeerReset && !keepsUnread
			if got := s.read(); !lost && !bytes.Equal(got.data, message) {
				t.Errorf("read %q and %v after the end", got.data, got.err)
			}
			s.end()
		})
	}
}

// TestFromBeneath looks for a Conn where there is one, and where there is none.
func TestFromBeneath(t *testing.T) {
	t.Parallel()
	conn, _ := livenesstest.Pair(t, "tcp4")
	c := wrap(t, conn, nil)
	server, _ := tlsConfigs(t)
	for name, above := range map[string]net.Conn{"itself": c, "TLS": tls.Server(c, server), "TLS twice": tls.Server(tls.Server(c, server), server)} {
		if got, ok := liveness.From(above); got != c || !ok {
			t.Errorf("%s: From = %p, %t, want %p", name, got, ok, c)
		}
		ctx := liveness.ConnContext(t.Context(), above)
		if got, ok := liveness.FromContext(ctx); got != c || !ok {
			t.Errorf("%s: FromContext = %p, %t, want %p", name, got, ok, c)
		}
	}
	for name, other := range map[string]net.Conn{"bare": conn, "nil": nil, "nil TLS": (*tls.Conn)(nil), "nil Conn": (*liveness.Conn)(nil)} {
		if got, ok := liveness.From(other); got != nil || ok {
			t.Errorf("%s: From = %p, %t", name, got, ok)
		}
		if ctx := liveness.ConnContext(t.Context(), other); ctx != t.Context() {
			t.Errorf("%s: ConnContext made a context of nothing", name)
		}
	}
	if got, ok := liveness.FromContext(t.Context()); got != nil || ok {
		t.Errorf("FromContext = %p, %t of a context without", got, ok)
	}
}

// TestStatusUnread counts bytes while connected, for pools that must not use a
// connection again on which something is left.
func TestStatusUnread(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skipf("not told on %s", runtime.GOOS)
	}
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			conn, peer := livenesstest.Pair(t, network)
			c := wrap(t, conn, nil)
			if n := c.Status().Unread; n != 0 {
				t.Errorf("Unread = %d before anything was sent", n)
			}
			for i := range 3 {
				peer.Write(message)
				until(t, func() bool { return c.Status().Unread == (i+1)*len(message) })
			}
			if _, err := io.ReadFull(c, make([]byte, len(message)+1)); err != nil {
				t.Fatal(err)
			}
			if n := c.Status().Unread; n != 2*len(message)-1 {
				t.Errorf("Unread = %d, want %d", n, 2*len(message)-1)
			}
			peer.CloseWrite()
			receive(t, c.Done())
			before := c.Status()
			if before.Unread != 2*len(message)-1 {
				t.Errorf("Unread = %d at the end, want %d", before.Unread, 2*len(message)-1)
			}
			// The evidence of the verdict stays as it was.
			readAll(c)
			c.Close()
			if after := c.Status(); after != before {
				t.Errorf("Status() became %+v, it was %+v", after, before)
			}
		})
		t.Run(network+", first asked after Close", func(t *testing.T) {
			conn, peer := livenesstest.Pair(t, network)
			c := wrap(t, conn, nil)
			done := c.Done()
			peer.Write(message)
			peer.Close()
			receive(t, done)
			readAll(c)
			c.Close()
			if n := c.Status().Unread; n != len(message) {
				t.Errorf("Unread = %d, and at the end there were %d", n, len(message))
			}
		})
	}
}

// TestHijack takes the connection out of an HTTP server.
func TestHijack(t *testing.T) {
	t.Parallel()
	needsNotices(t)
	hijacked := make(chan net.Conn, 1)
	server := serve(t, false, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
		}
		if c, ok := liveness.FromContext(r.Context()); !ok || c != conn {
			t.Errorf("FromContext = %p, %t, want %p", c, ok, conn)
		}
		hijacked <- conn
	}))
	peer, err := livenesstest.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	fmt.Fprint(peer, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nlast words")
	conn := receive(t, hijacked)
	defer conn.Close()
	c, ok := liveness.From(conn)
	if !ok {
		t.Fatalf("From finds nothing in a %T", conn)
	}
	if !c.Alive() {
		t.Errorf("Err() = %v after Hijack", c.Err())
	}
	peer.Close()
	receive(t, c.Done())
	if err := c.Err(); !errors.Is(err, liveness.ErrPeerClosed) {
		t.Errorf("Err() = %v", err)
	}
}

// serve serves HTTP on a Listener, with ConnContext.
func serve(t *testing.T, http2 bool, cfg *liveness.Config, handler http.Handler) *httptest.Server {
	server := httptest.NewUnstartedServer(handler)
	server.Listener = liveness.NewListener(server.Listener, cfg)
	server.Config.ConnContext = liveness.ConnContext
	if server.EnableHTTP2 = http2; http2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(func() { stopServer(server) })
	return server
}

// stopServer does not wait for the handlers of a test that failed.
func stopServer(server *httptest.Server) {
	server.CloseClientConnections()
	server.Close()
}

// TestHandlersStop has the client of an HTTP server go away in the middle of a
// request, and the handler is told why.
func TestHandlersStop(t *testing.T) {
	needsNotices(t)
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, body := range []string{"no body", "unread body"} {
			for _, f := range finales[:2] {
				t.Run(version+","+body+","+f.name, func(t *testing.T) {
					if body != "no body" && f.reason == liveness.ErrPeerClosed {
						needsFINBehindData(t)
					}
					t.Parallel()
					// More than once: the server itself may notice first, and it gives no reason.
					for range 10 {
						stopHandler(t, version, body != "no body", f)
					}
				})
			}
		}
	}
}

func stopHandler(t *testing.T, version string, body bool, f finale) {
	requests, causes := make(chan *http.Request, 1), make(chan error, 1)
	server := serve(t, version == "HTTP/2.0", nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		<-r.Context().Done()
		causes <- context.Cause(r.Context())
	}))
	defer stopServer(server)
	peers := make(chan *livenesstest.Peer, 1)
	transport := server.Client().Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		peer, err := livenesstest.Dial(network, address)
		if err != nil {
			return nil, err
		}
		peers <- peer
		return peer, nil
	}
	defer transport.CloseIdleConnections()
	more, w := io.Pipe()
	var content io.Reader
	if body {
		// Enough to be there, not so much as to fill the server's buffer, behind which
		// a FIN cannot be seen.
		content = io.MultiReader(bytes.NewReader(make([]byte, 32<<10)), more)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		response, err := server.Client().Post(server.URL, "text/plain", content)
		if err == nil {
			response.Body.Close()
		}
	}()
	r := receive(t, requests)
	if r.Proto != version {
		t.Errorf("the request is %s", r.Proto)
	}
	c, ok := liveness.FromContext(r.Context())
	if !ok || !c.Alive() {
		t.Fatalf("FromContext = %p, %t", c, ok)
	}
	f.do(&scene{T: t, wire: receive(t, peers)})
	cause := receive(t, causes)
	// What the server still writes is answered by a reset; and to Wine a reset is a FIN
	// once a Write has taken its errno.
	superseded := !liveness.RemembersFIN() && f.reason == liveness.ErrPeerClosed && errors.Is(cause, liveness.ErrPeerReset)
	forgotten := wine() && f.reason == liveness.ErrPeerReset && errors.Is(cause, liveness.ErrPeerClosed)
	if !errors.Is(cause, f.reason) && !superseded && !forgotten {
		t.Errorf("the cause is %v, want %v; Err() = %v", cause, f.reason, c.Err())
	}
	receive(t, c.Done())
	if cause != c.Err() {
		t.Errorf("the cause is %v, Err() = %v", cause, c.Err())
	}
	w.Close()
	receive(t, done)
}

// TestForEver asks for the longest times that there are, which never pass.
func TestForEver(t *testing.T) {
	t.Parallel()
	conn, peer := livenesstest.Pair(t, "tcp4")
	c, err := liveness.Wrap(conn, &liveness.Config{StallTimeout: math.MaxInt64, ReadIdleTimeout: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer c.OnSilence(math.MaxInt64, func() { t.Error("a silence that lasted for ever") })()
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if !c.Alive() {
		t.Error(c.Err())
	}
}

// A byValue is used as a value, and two of them cannot be compared.
type byValue struct {
	*net.TCPConn
	_ []byte
}

// TestWrapByValue wraps what is no pointer.
func TestWrapByValue(t *testing.T) {
	t.Parallel()
	conn, _ := livenesstest.Pair(t, "tcp4")
	bare := byValue{TCPConn: conn.(*net.TCPConn)}
	if err := liveness.Check(bare); err != nil {
		t.Error(err)
	}
	c, err := liveness.Wrap(bare, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := liveness.Wrap(c, nil); err != nil {
		t.Error(err)
	}
	if !c.Alive() {
		t.Error(c.Err())
	}
}

// A cipherConn has a socket, and means something else by its bytes.
type cipherConn struct{ *net.TCPConn }

func (c *cipherConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	for i := range b[:n] {
		b[i] ^= 0x55
	}
	return n, err
}

// TestVerdictAboveCipher has bytes left to read that only the wrapped Read can read.
func TestVerdictAboveCipher(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a Read has to wait for ErrPeerIdle, and takes them")
	}
	liveness.NeedsTCPInfo(t) // likewise
	conn, peer := livenesstest.Pair(t, "tcp4")
	c, err := liveness.Wrap(&cipherConn{conn.(*net.TCPConn)}, &liveness.Config{ReadIdleTimeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := peer.Write([]byte{'x' ^ 0x55}); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	for {
		b := make([]byte, 1)
		switch n, err := c.Read(b); {
		case n > 0 && b[0] != 'x':
			t.Fatalf("Read %q, which is not what the connection would have read", b)
		case n > 0:
		case !errors.Is(err, liveness.ErrPeerIdle):
			t.Fatal(err)
		default:
			return
		}
	}
}

// A coyConn answers for its addresses when somebody allows it, as a connection does
// that waits for a header of the PROXY protocol.
type coyConn struct {
	net.Conn
	header chan struct{}
}

func (c coyConn) LocalAddr() net.Addr  { <-c.header; return c.Conn.LocalAddr() }
func (c coyConn) RemoteAddr() net.Addr { <-c.header; return c.Conn.RemoteAddr() }

// A coySocket shows its socket all the same.
type coySocket struct{ coyConn }

func (c coySocket) NetConn() net.Conn { return c.Conn }

// TestAddressesThatBlock holds up nobody: not the events and the clock that all
// connections share, and none of our own methods.
func TestAddressesThatBlock(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	within := func(what string, f func()) {
		t.Helper()
		done := make(chan struct{})
		go func() { defer close(done); f() }()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatalf("%s blocks", what)
		}
	}
	coy := func() (coyConn, *livenesstest.Peer) {
		conn, peer := livenesstest.Pair(t, "tcp4")
		return coyConn{conn, make(chan struct{})}, peer
	}

	slow, peer := coy()
	var c *liveness.Conn
	within("Wrap", func() { c = wrap(t, coySocket{slow}, nil) })
	other, otherPeer := livenesstest.Pair(t, "tcp4")
	o := wrap(t, other, nil)
	peer.Close()
	otherPeer.Close()
	within("an event", func() { until(t, func() bool { return !c.Alive() && !o.Alive() }) })
	within("Status", func() { c.Status() })
	within("Close", func() { c.Close() })
	if got := c.Err().Error(); !strings.Contains(got, slow.Conn.RemoteAddr().String()) {
		t.Errorf("%q does not name the socket's peer", got)
	}

	// The clock.
	slow, _ = coy()
	c = wrap(t, coySocket{slow}, &liveness.Config{ReadIdleTimeout: timeout})
	other, _ = livenesstest.Pair(t, "tcp4")
	o = wrap(t, other, &liveness.Config{ReadIdleTimeout: 2 * timeout})
	for _, c := range []*liveness.Conn{c, o} {
		go c.Read(make([]byte, 1)) // or the clock stands still, where the kernel does not count
		if within("the clock", func() { <-c.Done() }); !errors.Is(c.Err(), liveness.ErrPeerIdle) {
			t.Errorf("%v, want ErrPeerIdle", c.Err())
		}
	}

	// Without a socket: the address is there when somebody prints it.
	slow, _ = coy()
	within("Wrap of a hidden socket", func() { c = wrap(t, slow, nil) })
	within("Close of a hidden socket", func() { c.Close() })
	close(slow.header)
	if got := c.Err().Error(); !strings.Contains(got, "watch "+slow.Conn.LocalAddr().String()+"->") {
		t.Errorf("%q has no addresses", got)
	}
}

// TestZeroConn was never connected: an error, as for package net, and no panic.
func TestZeroConn(t *testing.T) {
	for _, conn := range []net.Conn{new(net.TCPConn), new(net.UnixConn)} {
		if c, err := liveness.Wrap(conn, &liveness.Config{PeerTimeout: time.Minute}); c != nil || err == nil || err.Error() == "" {
			t.Errorf("Wrap = %v, %v", c, err)
		}
		if err := liveness.Check(conn); err == nil || err.Error() == "" {
			t.Errorf("Check = %v", err)
		}
	}
}

// A fewListener accepts what it is given, in this order.
type fewListener struct {
	net.Listener
	conns chan net.Conn
}

func (l fewListener) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

// TestListenerThatCannotWatch says so, rather than to close one client after the other.
func TestListenerThatCannotWatch(t *testing.T) {
	hidden := func() net.Conn {
		conn, _ := livenesstest.Pair(t, "tcp4")
		return struct{ net.Conn }{conn}
	}
	plain := func() net.Conn {
		conn, _ := livenesstest.Pair(t, "tcp4")
		return conn
	}
	wrapped := func() net.Conn { return wrap(t, plain(), nil) }
	stall := &liveness.Config{StallTimeout: time.Minute}
	for _, test := range []struct {
		name string
		cfg  *liveness.Config
		of   func() net.Conn
		want string
	}{
		{"hidden sockets", stall, hidden, "Config.StallTimeout: no socket"},
		{"connections that are wrapped", nil, wrapped, "wrapped already"},
	} {
		inner := fewListener{listen(t, "tcp4"), make(chan net.Conn, 9)}
		l := liveness.NewListener(inner, test.cfg)
		for range 2 {
			conn := test.of()
			inner.conns <- conn
			var op *net.OpError
			if c, err := l.Accept(); c != nil || !errors.As(err, &op) || op.Temporary() || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: Accept = %v, %v", test.name, c, err)
			}
			if _, err := conn.Write(message); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: the connection was not closed: %v", test.name, err)
			}
		}
		// Among others it is an exception.
		first, last := plain(), plain()
		for _, conn := range []net.Conn{first, test.of(), last} {
			inner.conns <- conn
		}
		for _, want := range []net.Conn{first, last} {
			c, err := l.Accept()
			if err != nil || c.(*liveness.Conn).NetConn() != want {
				t.Fatalf("%s: Accept = %v, %v", test.name, c, err)
			}
			c.Close()
		}
	}
}

// A shutWriter says io.EOF to a Write after CloseWrite, as channels of SSH do.
type shutWriter struct {
	net.Conn
	shut atomic.Bool
}

func (c *shutWriter) CloseWrite() error { c.shut.Store(true); return nil }

func (c *shutWriter) Write(b []byte) (int, error) {
	if c.shut.Load() {
		return 0, io.EOF
	}
	return c.Conn.Write(b)
}

// TestOwnEndsWithoutSocket are taken for none of the peer's.
func TestOwnEndsWithoutSocket(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := wrap(t, a, nil)
	a.Close() // behind our back
	if _, err := c.Read(make([]byte, 1)); err == nil || !errors.Is(c.Err(), net.ErrClosed) {
		t.Errorf("Read = %v; Err() = %v", err, c.Err())
	}

	a, b = net.Pipe()
	defer b.Close()
	c = wrap(t, &shutWriter{Conn: a}, nil)
	c.CloseWrite()
	if _, err := c.Write(message); err != io.EOF || c.Err() != nil {
		t.Errorf("Write = %v; Err() = %v", err, c.Err())
	}
}
