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
		k.Start(start, &r)
		silent := func(want time.Duration, noReader bool, lastData time.Time) {
			t.Helper()
			silence, last, none := k.Silence(time.Now())
			assert.Equal(t, want, silence)
			assert.Equal(t, noReader, none)
			assert.True(t, last.Equal(lastData))
		}
		begin := func(wantFirst bool, want time.Time) {
			t.Helper()
			first, since := r.Begin(&k)
			assert.Equal(t, wantFirst, first)
			assert.Equal(t, want, since)
		}
		never := time.Time{}
		time.Sleep(time.Hour)
		begin(true, time.Now())
		silent(0, false, never)

		time.Sleep(3 * time.Second)
		silent(3*time.Second, false, never)
		begin(false, start.Add(time.Hour)) // a second Read at once changes nothing
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
		past, _, _ := k.Silence(start)
		assert.Zero(t, past)
	})
}

func TestReadersWorkWithoutAClock(t *testing.T) {
	var r Readers
	for _, want := range []bool{true, false} {
		first, since := r.Begin(nil)
		assert.Equal(t, want, first)
		assert.True(t, since.IsZero())
	}
	r.End(nil, 1)
	r.End(nil, 0)
	first, _ := r.Begin(nil)
	assert.True(t, first)
}
