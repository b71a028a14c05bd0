package liveness_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	shared "github.com/go-liveness/liveness/internal/watch"
	"github.com/go-liveness/liveness/livenesstest"
)

// collected waits until the peer sees the end of a connection that was forgotten.
func collected(t *testing.T, peer net.Conn) {
	t.Helper()
	end := testutil.GoReadAll(peer)
	testutil.Until(t, "the forgotten connection is closed", func() bool { runtime.GC(); return len(end) > 0 })
}

// TestForgottenConnIsFreed forgets many, of which none owes a call, and some whose registrations were all taken back. They are
// counted no longer, and leave no entry behind.
func TestForgottenConnIsFreed(t *testing.T) {
	testutil.Deadline(t)
	l := testutil.Listen(t, "tcp4")
	group, before := new(liveness.Group), shared.State().Clients
	var ends []<-chan testutil.Stream
	for i := range 200 {
		near, _ := net.Pipe()
		_, err := liveness.Wrap(near, &liveness.Config{Group: group})
		testutil.Must(t, err)
		conn, peer := testutil.Accept(t, l)
		c, err := liveness.Wrap(conn, &liveness.Config{Group: group})
		testutil.Must(t, err)
		switch i % 4 {
		case 1:
			first, second := c.OnDisconnect(func(error) {}), c.OnDisconnect(func(error) {})
			second()
			first()
		case 2:
			_, cancel := c.Context(t.Context())
			cancel()
		case 3:
			parent, cancel := context.WithCancel(t.Context())
			_, release := c.Context(parent)
			cancel()
			release()
		}
		ends = append(ends, testutil.GoReadAll(peer))
	}
	testutil.Until(t, "every forgotten connection is closed", func() bool {
		runtime.GC()
		return group.Stats().Open == 0 && shared.State().Clients <= before &&
			!slices.ContainsFunc(ends, func(end <-chan testutil.Stream) bool { return len(end) == 0 })
	})
	checkConns(t, group)
}

// TestForgottenConnThatOwesACallIsKept until the call, and is freed then.
func TestForgottenConnThatOwesACallIsKept(t *testing.T) {
	testutil.NeedsNotices(t)
	for name, owe := range map[string]func(net.Conn, chan error) error{
		"Config.OnDisconnect": func(conn net.Conn, heard chan error) error {
			_, err := liveness.Wrap(conn, &liveness.Config{OnDisconnect: func(_ *liveness.Conn, err error) { heard <- err }})
			return err
		},
		"OnDisconnect": func(conn net.Conn, heard chan error) error {
			c, err := liveness.Wrap(conn, nil)
			c.OnDisconnect(func(err error) { heard <- err })
			c.OnDisconnect(func(error) {})()
			return err
		},
		"Done": func(conn net.Conn, heard chan error) error {
			c, err := liveness.Wrap(conn, nil)
			done := c.Done()
			go func() { <-done; heard <- io.EOF }()
			return err
		},
		"Context": func(conn net.Conn, heard chan error) error {
			c, err := liveness.Wrap(conn, nil)
			ctx, cancel := c.Context(context.Background())
			context.AfterFunc(ctx, func() { heard <- context.Cause(ctx); cancel() })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Deadline(t)
			conn, peer := testutil.Accept(t, testutil.Listen(t, "tcp4"))
			heard := make(chan error, 1)
			testutil.Must(t, owe(conn, heard))
			conn = nil
			for range 5 {
				runtime.GC()
				barrier(t)
			}
			peer.CloseWrite()
			if err := testutil.Await(t, heard); !errors.Is(err, io.EOF) {
				t.Errorf("reported %v, want the peer's FIN", err)
			}
			collected(t, peer)
		})
	}
}

// wrapAndForget returns when the Conn has been freed.
func wrapAndForget(t *testing.T, conn net.Conn) {
	t.Helper()
	c, err := liveness.Wrap(conn, nil)
	testutil.Must(t, err)
	freed := make(chan struct{}, 1)
	runtime.AddCleanup(c, func(freed chan struct{}) { freed <- struct{}{} }, freed)
	testutil.Until(t, "the Conn is freed", func() bool { runtime.GC(); return len(freed) > 0 })
}

// TestForgottenConnLeavesItsConnectionToTheNext keeps the bare connection.
func TestForgottenConnLeavesItsConnectionToTheNext(t *testing.T) {
	testutil.Deadline(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	wrapAndForget(t, conn)
	w := watch(t, conn, liveness.Config{})
	w.lives(liveness.Connected)
	peer.CloseWrite()
	w.ended(liveness.ErrPeerClosed)
}

// TestDuplicateOutlivesTheConn closes a Conn while a duplicate of its descriptor lives on, with which the kernel would keep
// the registration and go on reporting.
func TestDuplicateOutlivesTheConn(t *testing.T) {
	testutil.Deadline(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		t.Skip(err)
	}
	w := watch(t, conn, liveness.Config{})
	w.conn.Close()
	w.ended(net.ErrClosed)
	dup, err := net.FileConn(file)
	testutil.Must(t, err)
	defer dup.Close()
	file.Close()
	if _, err := dup.Write(message); err != nil { // the peer has got no FIN
		t.Fatal(err)
	}
	buf := make([]byte, len(message))
	if _, err := io.ReadFull(peer, buf); err != nil || !bytes.Equal(buf, message) {
		t.Errorf("the peer read %v from the duplicate", err)
	}
	wdup := watch(t, dup, liveness.Config{})
	peer.Reset()
	wdup.ended(liveness.ErrPeerReset)
	if err := w.conn.Err(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Err became %v after the end", err)
	}
}

// A pooledConn goes back to its pool when it is closed.
type pooledConn struct{ *net.TCPConn }

func (pooledConn) Close() error { return nil }

// TestLateCloseDoesNotUnregisterTheNextConn calls Close of the first again, around the same connection.
func TestLateCloseDoesNotUnregisterTheNextConn(t *testing.T) {
	testutil.Deadline(t)
	bare, peer := livenesstest.Pair(t, "tcp4")
	conn := pooledConn{bare.(*net.TCPConn)}
	first := wrap(t, conn, nil)
	first.Close()
	second := wrap(t, conn, nil)
	first.Close()
	peer.Reset()
	testutil.Until(t, "the reset is noticed", func() bool { return testutil.Notices && second.Err() != nil || !second.Alive() })
	if !errors.Is(second.Err(), liveness.ErrPeerReset) || !errors.Is(first.Err(), net.ErrClosed) {
		t.Errorf("Err() = %v, of the first %v", second.Err(), first.Err())
	}
}

// TestReusedDescriptorBelongsToTheNextConnection gives the descriptor of one connection to another, in every way in which
// something of the first may come late.
func TestReusedDescriptorBelongsToTheNextConnection(t *testing.T) {
	testutil.NeedsNotices(t)
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not give out the lowest handle that is free")
	}
	l := testutil.Listen(t, "tcp4")
	for name, free := range map[string]func(a *witness, peer *livenesstest.Peer){
		"closed after the end":                  func(a *witness, peer *livenesstest.Peer) { peer.Reset(); a.conn.Close() },
		"closed before the end":                 func(a *witness, peer *livenesstest.Peer) { a.conn.Close(); peer.Reset() },
		"closed at the end":                     func(a *witness, peer *livenesstest.Peer) { go peer.Reset(); a.conn.Close() },
		"closed through NetConn":                func(a *witness, peer *livenesstest.Peer) { a.conn.NetConn().Close(); peer.Reset() },
		"closed through NetConn, wrapped again": func(a *witness, _ *livenesstest.Peer) { a.conn.NetConn().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Deadline(t)
			reused := 0
			for range 20 {
				first, firstPeer := testutil.Accept(t, l)
				secondPeer, err := livenesstest.Dial("tcp", l.Addr().String())
				testutil.Must(t, err)
				a := watch(t, first, liveness.Config{})
				fd := testutil.Descriptor(t, first)
				free(a, firstPeer)
				useUp(t, fd)
				second, err := l.Accept()
				testutil.Must(t, err)
				if testutil.Descriptor(t, second) == fd {
					reused++
				}
				if name == "closed through NetConn, wrapped again" {
					wrapAndForget(t, second)
				}
				b := watch(t, second, liveness.Config{})
				a.conn.Alive()
				a.conn.Close()
				b.lives(liveness.Connected)
				secondPeer.Reset()
				b.ended(liveness.ErrPeerReset)
				testutil.Await(t, a.configured)
			}
			if reused == 0 {
				t.Error("no descriptor was used again")
			}
		})
	}
}

// useUp takes the descriptors below fd: the kernel gives out the lowest number that is free.
func useUp(t *testing.T, fd int) {
	t.Helper()
	for {
		null, err := os.Open(os.DevNull)
		testutil.Must(t, err)
		if int(null.Fd()) >= fd {
			null.Close()
			return
		}
		t.Cleanup(func() { null.Close() })
	}
}

// TestNothingRunsWithoutASocket looks at a process that has imported the package, and has wrapped a pipe.
func TestNothingRunsWithoutASocket(t *testing.T) {
	t.Parallel()
	if !testutil.Alone(t) {
		return
	}
	a, b := net.Pipe()
	c := wrap(t, a, &liveness.Config{ReadIdleTimeout: time.Hour})
	c.Done()
	b.Close()
	testutil.ReadAll(c)
	testutil.Await(t, c.Done())
	if left := testutil.LibraryGoroutines(); len(left) > 0 {
		t.Errorf("a pipe started:\n%s", left)
	}
}

// TestNothingIsLeftAfterTheLastClose uses everything that a Conn has, and ends it in every way. As long as one lives, one
// goroutine serves all; right after the last Close there is none, and no descriptor.
func TestNothingIsLeftAfterTheLastClose(t *testing.T) {
	if !testutil.Alone(t) {
		return
	}
	livenesstest.Pair(t, "tcp4") // the runtime keeps its own poller
	before := len(testutil.Descriptors())
	for range 2 {
		keeper, keeperPeer := livenesstest.Pair(t, "tcp4")
		kept, err := liveness.Wrap(keeper, &liveness.Config{PeerTimeout: time.Minute, ReadIdleTimeout: time.Hour})
		testutil.Must(t, err)
		churn(t, 100)
		heap := liveHeap()
		for range 5 {
			churn(t, 100)
		}
		if grown := int64(liveHeap()) - int64(heap); grown > 500*64+256<<10 { // a Conn is many times this
			t.Errorf("500 connections leave %d bytes", grown)
		}
		if running := testutil.LibraryGoroutines(); len(running) > 2 {
			t.Errorf("%d goroutines serve one connection:\n%s", len(running), running)
		}
		kept.Close()
		if left := testutil.LeftGoroutines(); len(left) > 0 {
			t.Errorf("left after the last Close:\n%s", left)
		}
		keeperPeer.Close()
		testutil.Until(t, "the descriptors are closed", func() bool { return len(testutil.Descriptors()) <= before })
	}
}

func liveHeap() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// churn makes n connections, uses what they have, ends them in every way, and closes them.
func churn(t *testing.T, n int) {
	t.Helper()
	heard := make(chan error, 3*n)
	inner := testutil.Listen(t, "tcp4")
	defer inner.Close()
	l := liveness.NewListener(inner, &liveness.Config{StallTimeout: time.Hour, OnDisconnect: func(_ *liveness.Conn, err error) { heard <- err }})
	for i := range n {
		peer, err := livenesstest.Dial("tcp4", l.Addr().String())
		testutil.Must(t, err)
		conn, err := l.Accept()
		testutil.Must(t, err)
		c := conn.(*liveness.Conn)
		c.OnDisconnect(func(err error) { heard <- err })
		c.OnDisconnect(func(error) { t.Error("called, and stopped before") })()
		ctx, cancel := c.Context(liveness.ConnContext(context.Background(), c))
		defer cancel()
		context.AfterFunc(ctx, func() { heard <- context.Cause(ctx) })
		c.Alive()
		c.Status()
		defer c.OnSilence(time.Hour, func() {})()
		switch i % 4 {
		case 0:
			peer.CloseWrite()
		case 1, 2:
			peer.Reset()
		}
		if i%4 != 3 {
			testutil.Until(t, "the end is noticed", func() bool { return !c.Alive() })
		}
		if i%4 == 2 {
			c.NetConn().Close() // and never a Close of the Conn
		} else {
			c.Close()
		}
		peer.Close()
	}
	for range 3 * n {
		if testutil.Await(t, heard) == nil {
			t.Error("reported nothing")
		}
	}
}
