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
func sweeping(s *Sweep) (names <-chan []uint64, ended <-chan error) {
	n, e := make(chan []uint64), make(chan error, 1)
	go func() {
		for {
			events, err := s.Wait()
			if err != nil {
				e <- err
				return
			}
			var ids []uint64
			for _, event := range events {
				if event.What != Periodic {
					panic("a sweep does not know what happened")
				}
				ids = append(ids, event.ID)
			}
			slices.Sort(ids)
			n <- ids
		}
	}()
	return n, e
}

// Every name is told once in a Period, from the first on, and none while there is
// none.
func TestSweepTellsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSweep()
		names, ended := sweeping(s)
		quiet := func() {
			t.Helper()
			select {
			case ids := <-names:
				t.Errorf("told of %d", ids)
			case <-time.After(time.Hour):
			}
		}
		quiet()
		begin := time.Now()
		expect := func(at time.Duration, want ...uint64) {
			t.Helper()
			ids := <-names
			if took := time.Since(begin); took != at {
				t.Errorf("told after %v, want %v", took, at)
			}
			if !slices.Equal(ids, want) {
				t.Errorf("told of %d, want %d", ids, want)
			}
		}
		must(t, s.Add(3, 1))
		time.Sleep(Period - 1)
		must(t, s.Add(4, 2)) // does not put it off
		expect(Period, 1, 2)
		expect(2*Period, 1, 2)
		s.Remove(3, 1)
		expect(3*Period, 2)
		s.Remove(4, 2)
		quiet()
		begin = time.Now()
		must(t, s.Add(3, 3))
		expect(Period, 3)
		must(t, s.Close())
		if err := <-ended; !errors.Is(err, os.ErrClosed) {
			t.Errorf("Wait: %v", err)
		}
	})
}

func TestSweepNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSweep()
		must(t, s.Add(3, 1))
		if err := s.Add(3, 2); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Add of what is watched: %v", err)
		}
		s.Remove(3, 2) // not its name
		if ids, err := s.Wait(); err != nil || !slices.Equal(ids, []Event{{1, Periodic}}) {
			t.Errorf("told of %v, %v", ids, err)
		}
		must(t, s.Replace(3, 2))
		s.Remove(3, 1)
		if ids, err := s.Wait(); err != nil || !slices.Equal(ids, []Event{{2, Periodic}}) {
			t.Errorf("told of %v, %v", ids, err)
		}
	})
}

// Close wakes a Wait, with names and without, and every later Wait ends at once.
func TestSweepClose(t *testing.T) {
	for _, watched := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := NewSweep()
			if watched {
				must(t, s.Add(3, 1))
			}
			_, ended := sweeping(s)
			synctest.Wait()
			begin := time.Now()
			must(t, s.Close())
			if err := <-ended; !errors.Is(err, os.ErrClosed) {
				t.Errorf("Wait: %v", err)
			}
			if _, err := s.Wait(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("Wait after Close: %v", err)
			}
			if err := s.Close(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("second Close: %v", err)
			}
			if took := time.Since(begin); took != 0 {
				t.Errorf("it took %v", took)
			}
		})
	}
}
