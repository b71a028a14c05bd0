package readclock

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// Only the time during which a Read waits counts, and data begins it anew.
func TestSilenceCountsWhileAReadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k Clock
		var r Readers
		start := time.Now()
		k.Start(start)
		silent := func(want time.Duration, noReader bool, lastData time.Time) {
			t.Helper()
			silence, last, none := k.Silence(&r, time.Now())
			assert.Equal(t, want, silence)
			assert.Equal(t, noReader, none)
			assert.True(t, last.Equal(lastData))
		}
		never := time.Time{}
		time.Sleep(time.Hour)
		first, since := r.Begin(&k)
		assert.True(t, first)
		assert.Equal(t, time.Now(), since)
		silent(0, false, never)

		time.Sleep(3 * time.Second)
		silent(3*time.Second, false, never)
		first, since = r.Begin(&k) // a second Read at once changes nothing
		assert.False(t, first)
		assert.Equal(t, start.Add(time.Hour), since)
		r.End(&k, 0)
		silent(3*time.Second, false, never)
		r.End(&k, 0)
		silent(3*time.Second, true, never)

		time.Sleep(time.Minute)
		r.Begin(&k)
		time.Sleep(time.Second)
		silent(4*time.Second, false, never)
		r.End(&k, 1)
		data := time.Now()
		silent(0, true, data)

		time.Sleep(time.Minute)
		r.Begin(&k)
		time.Sleep(2 * time.Second)
		silent(2*time.Second, false, data)
		past, _, _ := k.Silence(&r, start)
		assert.Zero(t, past)
	})
}

// Reads are counted without a clock too, and End takes from the same count.
func TestReadersWorkWithoutAClock(t *testing.T) {
	var r Readers
	first, _ := r.Begin(nil)
	second, _ := r.Begin(nil)
	assert.Equal(t, []bool{true, false}, []bool{first, second})
	r.End(nil, 1)
	r.End(nil, 0)
	first, since := r.Begin(nil)
	assert.True(t, first)
	assert.True(t, since.IsZero())
}
