package counters

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestCountersLoseNothing of what goroutines count at once.
func TestCountersLoseNothing(t *testing.T) {
	const goroutines, each = 4, 1000
	var k Counters
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
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
	assert.Equal(t, k.Open()-1, k.Leave())
}
