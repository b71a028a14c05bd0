package poller

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Period is how often a Sweep reports everything, and so the longest that it takes
// to notice an end.
const Period = 250 * time.Millisecond

// A Sweep keeps the contract of Poller where the kernel tells nothing: it reports
// every name once in a Period, and its user makes the checks. While nothing is
// watched it does nothing. It makes no system call.
//
// It cannot know that a descriptor was closed and is used again. What is watched and
// was closed without Remove is reported until the descriptor is added again, by
// Replace.
type Sweep struct {
	mu     sync.Mutex // guards the fields below
	names  map[uintptr]uint64
	closed bool

	changed chan struct{} // holds a value when there is a first name, or after Close

	told []Event // only the goroutine in Wait touches it
}

// NewSweep makes a Sweep; it takes nothing of the system.
func NewSweep() *Sweep {
	return &Sweep{names: make(map[uintptr]uint64), changed: make(chan struct{}, 1)}
}

// Add notes fd.
func (s *Sweep) Add(fd uintptr, id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.names[fd]; ok {
		return fmt.Errorf("watching a socket: %w", fs.ErrExist)
	}
	s.set(fd, id)
	return nil
}

// Replace notes fd under another name.
func (s *Sweep) Replace(fd uintptr, id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(fd, id)
	return nil
}

func (s *Sweep) set(fd uintptr, id uint64) {
	s.names[fd] = id
	if len(s.names) == 1 {
		s.signal()
	}
}

// Remove forgets fd if its name is id.
func (s *Sweep) Remove(fd uintptr, id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, ok := s.names[fd]; ok && name == id {
		delete(s.names, fd)
	}
}

// Wait returns all names, a Period after it was called or after the first was added.
func (s *Sweep) Wait() ([]Event, error) {
	var timer *time.Timer
	var due <-chan time.Time
	for {
		s.mu.Lock()
		closed, idle := s.closed, len(s.names) == 0
		s.mu.Unlock()
		switch {
		case closed:
			return nil, os.ErrClosed
		case idle:
			due = nil
		case due == nil:
			if timer == nil {
				timer = time.NewTimer(Period)
				defer timer.Stop()
			} else {
				timer.Reset(Period)
			}
			due = timer.C
		}
		select {
		case <-s.changed:
		case <-due:
			if told := s.all(); len(told) > 0 {
				return told, nil
			}
			due = nil
		}
	}
}

func (s *Sweep) all() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = s.told[:0]
	for _, id := range s.names {
		s.told = append(s.told, Event{id, Periodic})
	}
	return s.told
}

// Close wakes Wait.
func (s *Sweep) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return os.ErrClosed
	}
	s.closed = true
	s.signal()
	return nil
}

// signal has Wait read the fields again; mu is held.
func (s *Sweep) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
