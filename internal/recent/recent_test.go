package recent_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-liveness/liveness/internal/recent"
)

func TestEndsAreKeptFromStartOnAndTheNewestFirst(t *testing.T) {
	recent.Add(recent.End{Group: "before Start"})
	assert.False(t, recent.Started())
	assert.Empty(t, recent.Ends())

	recent.Start()
	for i := range 3 {
		recent.Add(recent.End{Group: strconv.Itoa(i)})
	}
	recent.Start()
	assert.True(t, recent.Started())
	assert.Equal(t, []recent.End{{Group: "2"}, {Group: "1"}, {Group: "0"}}, recent.Ends())

	for i := range 2 * recent.Kept {
		recent.Add(recent.End{Group: strconv.Itoa(i)})
	}
	ends := recent.Ends()
	assert.Len(t, ends, recent.Kept)
	assert.Equal(t, strconv.Itoa(2*recent.Kept-1), ends[0].Group)
	assert.Equal(t, strconv.Itoa(recent.Kept), ends[recent.Kept-1].Group)
}
