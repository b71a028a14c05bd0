package registry

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

type member struct {
	slot Slot
	in   bool // known to the goroutine that it belongs to
}

// Goroutines join, leave and look at once. All yields whoever was a member all the time,
// once, and nobody who was none all the time. A slot is used again.
func TestRegistryAgreesWithModel(t *testing.T) {
	const goroutines, each = 4, 60 // so that All needs several batches
	var r Registry[member]
	var k Counters
	var all sync.WaitGroup
	for range goroutines {
		own := make([]member, each)
		all.Go(func() {
			for range 3000 {
				m := &own[rand.IntN(each)]
				if m.in = !m.in; m.in {
					r.Join(m, &m.slot)
					k.Join()
				} else {
					if !r.Leave(&m.slot) || r.Leave(&m.slot) {
						t.Error("Leave does not report once that a member left")
					}
					k.End(rand.IntN(8))
					k.Leave()
				}
				if rand.IntN(50) == 0 {
					lookFor(t, &r, own)
				}
			}
		})
	}
	all.Wait()
	ended := uint64(0)
	for reason := range 8 {
		ended += k.Ended(reason)
	}
	assert.Equal(t, k.All(), ended+uint64(k.Open()))
	assert.LessOrEqual(t, len(r.members), goroutines*each)
	for range r.All {
		break
	}
	for m := range r.All { // no lock is held
		assert.True(t, r.Leave(&m.slot))
		k.Leave()
	}
	assert.Zero(t, k.Open())
	assert.Len(t, r.free, len(r.members))
}

// lookFor fails unless All yields those of own, which nobody else changes, that are in.
func lookFor(t *testing.T, r *Registry[member], own []member) {
	seen := map[*member]int{}
	for m := range r.All {
		seen[m]++
	}
	for i := range own {
		if m := &own[i]; (seen[m] == 1) != m.in || seen[m] > 1 {
			t.Errorf("All yields %d times who is a member: %t", seen[m], m.in)
		}
	}
}
