package poller

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// sweeping calls Wait in a goroutine of its own, and hands on what it returns.
func sweeping(s *Sweep) (<-chan []Event, <-chan error) {
	names, ended := make(chan []Event), make(chan error, 1)
	go func() {
		for {
			events, err := s.Wait()
			if err != nil {
				ended <- err
				return
			}
			events = slices.Clone(events) // the next Wait uses the memory again
			slices.SortFunc(events, func(a, b Event) int { return int(a.ID) - int(b.ID) })
			names <- events
		}
	}()
	return names, ended
}

// Every name is told once in a Period, from the first on, and none while there is
// none. Close wakes Wait, and every later Wait ends at once.
func TestSweepTellsAllNames(t *testing.T) {
	for _, watched := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := NewSweep()
			names, ended := sweeping(s)
			quiet := func() {
				t.Helper()
				select {
				case events := <-names:
					t.Errorf("told %v", events)
				case <-time.After(time.Hour):
				}
			}
			var begin time.Time
			expect := func(at time.Duration, want ...Event) {
				t.Helper()
				if got, took := <-names, time.Since(begin); took != at || !slices.Equal(got, want) {
					t.Errorf("told %v after %v, want %v after %v", got, took, want, at)
				}
			}
			one, two := Event{1, Periodic}, Event{2, Periodic}
			quiet()
			begin = time.Now()
			must(t, s.Add(3, 1))
			time.Sleep(Period - 1)
			must(t, s.Add(4, 2)) // does not put it off
			expect(Period, one, two)
			expect(2*Period, one, two)
			s.Remove(3, 2) // not its name
			s.Remove(3, 1)
			expect(3*Period, two)
			if err := s.Add(4, 1); !errors.Is(err, fs.ErrExist) {
				t.Errorf("Add of what is watched: %v", err)
			}
			must(t, s.Replace(4, 1))
			s.Remove(4, 2)
			expect(4*Period, one)
			s.Remove(4, 1)
			quiet()
			begin = time.Now()
			must(t, s.Add(3, 2))
			expect(Period, two)
			if !watched {
				s.Remove(3, 2)
			}
			time.Sleep(Period / 2)
			begin = time.Now()
			must(t, s.Close())
			_, again := s.Wait()
			for _, err := range []error{<-ended, again, s.Close()} {
				if !errors.Is(err, os.ErrClosed) || time.Since(begin) > 0 {
					t.Errorf("%v after %v", err, time.Since(begin))
				}
			}
		})
	}
}
