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
	for d, flag := range map[Direction]*atomic.Bool{Reading: &h.ReadShut, Writing: &h.WriteShut} {
		undo := h.Shut(d)
		assert.True(t, flag.Load())
		h.Shut(d)() // fails, as the second one, and the first has succeeded
		assert.True(t, flag.Load())
		undo()
		assert.False(t, flag.Load())
		h.Shut(d)
	}
	assert.True(t, h.ReadShut.Load() && h.WriteShut.Load())
}

func TestTakenErrorKeepsTheFirst(t *testing.T) {
	var k TakenErrors
	k.Keep(io.ErrClosedPipe)
	k.Keep(io.EOF)
	assert.Equal(t, io.ErrClosedPipe, k.Kept())
	k.Forget()
	assert.NoError(t, k.Kept())
}

func TestDeferNeedsAReadOrWriteOfAnother(t *testing.T) {
	var k TakenErrors
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

// Of an event that races with the end of the last Read, exactly one decides.
func TestDeferredEventIsDecidedOnce(t *testing.T) {
	for range 50_000 {
		var k TakenErrors
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
