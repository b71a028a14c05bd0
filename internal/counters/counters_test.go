package counters

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
)

// TestCountersLoseNothing of what goroutines count at once.
func TestCountersLoseNothing(t *testing.T) {
	const goroutines, each = 4, 200_000
	var k Counters
	var begun, all sync.WaitGroup
	begun.Add(goroutines)
	for range goroutines {
		all.Go(func() {
			begun.Done()
			begun.Wait()
			for i := range each {
				k.Join()
				if i%2 == 0 {
					k.End(rand.IntN(8))
					k.Leave()
				}
			}
		})
	}
	all.Wait()
	ended := uint64(0)
	for reason := range 8 {
		ended += k.Ended(reason)
	}
	assert.EqualValues(t, goroutines*each, k.All())
	assert.EqualValues(t, goroutines*each/2, ended)
	assert.Equal(t, goroutines*each/2, k.Open())
}

// TestWaitReturnsOnceNoneIsOpen of several, or with the error of its context.
func TestWaitReturnsOnceNoneIsOpen(t *testing.T) {
	var k Counters
	assert.NoError(t, k.Wait(t.Context()), "none was ever open")
	k.Join()
	synctest.Test(t, func(t *testing.T) {
		k.Join()
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 3)
		for range 2 {
			go func() { waited <- k.Wait(t.Context()) }()
		}
		go func() { waited <- k.Wait(ctx) }()
		k.Leave()
		synctest.Wait()
		assert.Empty(t, waited, "one is open")
		cancel()
		assert.Equal(t, context.Canceled, <-waited)
		k.Leave()
		assert.NoError(t, <-waited)
		assert.NoError(t, <-waited)
	})
}
