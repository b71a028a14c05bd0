package liveness_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// TestStopIsThatOfAfterFunc pins the contract of the stop function, which is that of context.AfterFunc.
func TestStopIsThatOfAfterFunc(t *testing.T) {
	testutil.Deadline(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	w := watch(t, conn, liveness.Config{})
	never := func(error) { t.Error("called although it was stopped") }
	stops := make([]func() bool, 5)
	for i := range stops {
		stops[i] = w.conn.OnDisconnect(never)
	}
	heard := make(chan error, 1)
	kept := w.conn.OnDisconnect(func(err error) { heard <- err })
	for _, i := range []int{2, 4, 0, 1, 3} { // in the middle of others, at the beginning and at the end
		if !stops[i]() || stops[i]() {
			t.Errorf("want stop() = true the first time and false from then on: %d", i)
		}
	}
	if w.conn.OnDisconnect(nil)() {
		t.Error("stop() = true for a nil function")
	}
	peer.CloseWrite()
	w.ended(liveness.ErrPeerClosed)
	if err := testutil.Await(t, heard); err != w.conn.Err() {
		t.Errorf("called with %v, Err() = %v", err, w.conn.Err())
	}
	if kept() || w.conn.OnDisconnect(nil)() {
		t.Error("stop() = true after the end")
	}
}

// TestStopDuringTheEndEitherStopsOrWasTooLate races the two.
func TestStopDuringTheEndEitherStopsOrWasTooLate(t *testing.T) {
	testutil.Deadline(t)
	for range 200 {
		inner, _ := net.Pipe()
		c := wrap(t, inner, nil)
		var called atomic.Bool
		done := make(chan struct{})
		stop := c.OnDisconnect(func(error) { called.Store(true); close(done) })
		go c.Close()
		if stop() {
			testutil.Await(t, c.Done())
			if called.Load() {
				t.Fatal("called although stop() = true")
			}
		} else {
			testutil.Await(t, done)
		}
	}
}

// TestCallbackThatBlocksDelaysNoOther blocks in the Config's callback and in another.
func TestCallbackThatBlocksDelaysNoOther(t *testing.T) {
	testutil.Deadline(t)
	testutil.NeedsNotices(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	release, called := make(chan struct{}), make(chan struct{}, 4)
	defer close(release)
	c := wrap(t, conn, &liveness.Config{OnDisconnect: func(*liveness.Conn, error) { <-release }})
	for range 2 {
		c.OnDisconnect(func(error) { called <- struct{}{} })
		c.OnDisconnect(func(error) { <-release })
		c.OnDisconnect(func(error) { c.Close(); called <- struct{}{} })
	}
	peer.Close()
	for range 4 {
		testutil.Await(t, called)
	}
	barrier(t)
}

// TestContextEndsWithItsParentToo ends contexts in the other ways in which contexts end.
func TestContextEndsWithItsParentToo(t *testing.T) {
	testutil.Deadline(t)
	conn, _ := livenesstest.Pair(t, "tcp4")
	c := wrap(t, conn, nil)
	type key struct{}
	parent, cancelParent := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
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
	if context.Cause(ctx) != why || c.Err() != nil {
		t.Errorf("the cause is %v after the parent's %v; Err() = %v", context.Cause(ctx), why, c.Err())
	}
}

// An ownContext is a context of the application's own type, whose methods do what they like once armed.
type ownContext struct {
	context.Context
	done  chan struct{}
	armed atomic.Bool
	act   func()
}

func newOwnContext(act func()) *ownContext {
	return &ownContext{Context: context.Background(), done: make(chan struct{}), act: act}
}

func (c *ownContext) do() {
	if c.armed.Load() {
		c.act()
	}
}

func (c *ownContext) Done() <-chan struct{} { c.do(); return c.done }
func (c *ownContext) Err() error            { c.do(); return nil }
func (c *ownContext) Value(key any) any     { c.do(); return c.Context.Value(key) }

// AfterFunc is what package context looks for. Its stop function is the application's too.
func (c *ownContext) AfterFunc(f func()) (stop func() bool) {
	return func() bool { c.do(); return true }
}

// TestParentOfAnotherTypeDelaysNobody has the methods of a parent block, wait and read while the connection ends. Other
// connections hear of their ends meanwhile, and Read of this one returns.
func TestParentOfAnotherTypeDelaysNobody(t *testing.T) {
	testutil.NeedsNotices(t)
	for _, name := range []string{"blocks", "reads", "is slow"} {
		for _, connContext := range []bool{false, true} {
			what := name
			if connContext {
				what += ", ConnContext"
			}
			t.Run(what, func(t *testing.T) {
				testutil.Deadline(t)
				conn, peer := livenesstest.Pair(t, "tcp4")
				c := wrap(t, conn, nil)
				release := make(chan struct{})
				defer close(release)
				var read atomic.Bool
				act := map[string]func(){
					"blocks":  func() { <-release },
					"reads":   func() { c.Read(make([]byte, 1)); read.Store(true) },
					"is slow": func() { time.Sleep(20 * time.Millisecond) },
				}[name]
				parent := newOwnContext(func() {
					if bytes.Contains(debug.Stack(), []byte("/internal/watch.")) {
						t.Error("a method of a context runs on a goroutine that all connections share")
					}
					act()
				})
				var ctx context.Context = parent
				if connContext {
					ctx = liveness.ConnContext(parent, c)
				} else {
					child, cancel := c.Context(parent)
					ctx = child
					t.Cleanup(cancel)
				}
				parent.armed.Store(true)
				peer.Close()
				testutil.Await(t, c.Done())
				barrier(t) // another connection
				got := testutil.Await(t, testutil.GoReadAll(c))
				if got.Err != io.EOF {
					t.Errorf("Read = %v", got.Err)
				}
				if name != "blocks" {
					testutil.Await(t, ctx.Done())
				}
				if name == "reads" {
					testutil.Until(t, "the parent's Read returned", read.Load)
				}
				testutil.Within(t, "Close", func() { c.Close() })
			})
		}
	}
}
