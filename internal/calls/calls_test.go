package calls

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A random sequence of calls does what a slice does.
func TestListAgreesWithSlice(t *testing.T) {
	var list List
	var model, gone []*Call
	for range 20_000 {
		switch n := rand.IntN(100); {
		case n < 50:
			c := &Call{Kind: Kind(rand.IntN(2))}
			if len(gone) > 0 && rand.IntN(2) == 0 { // one that was removed may be added again
				c, gone = gone[len(gone)-1], gone[:len(gone)-1]
			}
			list.Add(c)
			model = append(model, c)
		case n < 98 && len(model) > 0:
			at := rand.IntN(len(model))
			c := model[at]
			model = slices.Delete(model, at, at+1)
			assert.Equal(t, [2]bool{true, false}, [2]bool{list.Remove(c), list.Remove(c)})
			gone = append(gone, c)
		case n == 99:
			cancelers, callbacks := list.TakeAll()
			assert.ElementsMatch(t, kind(model, Canceler), follow(cancelers))
			assert.ElementsMatch(t, kind(model, Callback), follow(callbacks))
			for _, c := range model {
				assert.False(t, list.Remove(c), "after TakeAll")
			}
			model = nil
		}
		assert.Equal(t, len(model) == 0, list.Empty())
		if t.Failed() {
			return
		}
	}
}

func kind(calls []*Call, k Kind) []*Call {
	return slices.DeleteFunc(slices.Clone(calls), func(c *Call) bool { return c.Kind != k })
}

func follow(c *Call) (calls []*Call) {
	for ; c != nil; c = c.Next {
		calls = append(calls, c)
	}
	return calls
}
