package sock

import (
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Only the undo of the call that noted the shutdown takes it back.
func TestShutIsUndoneByWhoNotedIt(t *testing.T) {
	var h History
	for d, shut := range map[Direction]func() bool{Reading: h.ReadShut, Writing: h.WriteShut} {
		undo := h.Shut(d)
		assert.True(t, shut())
		h.Shut(d)() // fails, as the second one, and the first has succeeded
		assert.True(t, shut())
		undo()
		assert.False(t, shut())
		h.Shut(d)
	}
	assert.True(t, h.ReadShut() && h.WriteShut())
}

func TestHistoryKeepsTheFirstErrno(t *testing.T) {
	var h History
	h.KeepErrno(io.ErrClosedPipe)
	h.KeepErrno(io.EOF)
	assert.Equal(t, io.ErrClosedPipe, h.KeptErrno())
	h.NoteFIN()
	h.Reset()
	assert.NoError(t, h.KeptErrno())
	assert.False(t, h.FINSeen())
}

func TestDeferNeedsAReadOrWriteOfAnother(t *testing.T) {
	var k History
	k.BeginIO()
	assert.False(t, k.Defer(1), "its own")
	k.BeginIO()
	assert.True(t, k.Defer(1))
	assert.True(t, k.Deferred())
	assert.False(t, k.EndIO(), "another is under way")
	assert.True(t, k.EndIO())
	assert.False(t, k.Deferred())
	assert.False(t, k.Defer(0))
}

// The last Read returns while Defer is between its two looks at it: before deferred is set, so that the event decides, or
// after, so that the Read does.
func TestDeferAsksAgainWhetherAReadIsLeft(t *testing.T) {
	var k History
	k.BeginIO()
	assert.False(t, k.EndIO())
	k.set(deferred)
	assert.False(t, k.leftToIO(0), "the event decides")
	assert.False(t, k.Deferred())

	k.BeginIO()
	k.set(deferred)
	assert.True(t, k.EndIO(), "the Read decides")
	assert.True(t, k.leftToIO(0))
	assert.False(t, k.Deferred())

	k.BeginIO()
	k.set(deferred)
	assert.True(t, k.leftToIO(0), "one is under way")
	assert.False(t, k.leftToIO(1), "its own")
	assert.False(t, k.Deferred())
}

// Of an event that races with the end of the last Read, exactly one decides.
func TestDeferredEventIsDecidedOnce(t *testing.T) {
	for range 10_000 {
		var k History
		var begun atomic.Bool
		reads := make(chan bool)
		k.BeginIO()
		go func() {
			begun.Store(true)
			reads <- k.EndIO()
		}()
		for !begun.Load() { // so that both happen at once
			runtime.Gosched()
		}
		deferred := k.Defer(0)
		if read := <-reads; read != deferred {
			t.Fatalf("the Read decides: %t; it was left to it: %t", read, deferred)
		}
	}
}
