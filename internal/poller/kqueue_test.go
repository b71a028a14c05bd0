//go:build unix

package poller

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"weak"
)

// watching7 returns a poller that watches descriptor 7 under the name 1.
func watching7(t *testing.T) (*kqueuePoller, *fakeQueue) {
	q := newFakeQueue()
	p := newKqueuePoller(q)
	q.open(7)
	must(t, p.Add(7, 1))
	return p, q
}

func expectNames(t *testing.T, got []uint64, want ...uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("told of %d, want %d", got, want)
	}
}

// What was watched and is not any more is let go, also while nothing happens to the
// rest.
func TestKqueueLetsGoOfRetiredWatches(t *testing.T) {
	q := newFakeQueue()
	p := newKqueuePoller(q)
	q.open(1)
	must(t, p.Add(1, 1))
	done := make(chan error, 1)
	go func() {
		_, err := p.Wait()
		done <- err
	}()
	most := 0
	for id := range uint64(10 * retirees) {
		q.open(7)
		must(t, p.Add(7, id+2))
		p.Remove(7, id+2)
		p.mu.Lock()
		most = max(most, len(p.retired))
		p.mu.Unlock()
		if id%100 == 0 {
			q.untilWaiting()
		}
	}
	if most > 2*retirees {
		t.Errorf("%d were kept", most)
	}
	must(t, p.Close())
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Wait: %v", err)
	}
}

// Without EV_EOF nothing has ended: macOS tells that a receive buffer is full.
func TestKqueueIgnoresData(t *testing.T) {
	p, q := watching7(t)
	var fetched int
	q.copied = func(events []event) {
		// Behind a buffer that is full, the end comes all the same.
		if fetched++; fetched == 1 {
			q.end(7)
		} else {
			events[0].err = true
		}
	}
	q.fill(7)
	expectNames(t, collect(t, p, q), 1)
	if fetched != 2 || p.told[0].What != FIN|Hangup|Failed {
		t.Errorf("fetched %d times, told %#b", fetched, p.told[0].What)
	}
}

// An event that was fetched before its descriptor was closed is not told under the
// name of the next socket with that descriptor.
func TestKqueueDropsStaleEvents(t *testing.T) {
	for name, forget := range map[string]func(*kqueuePoller, *fakeQueue){
		"closed":              func(_ *kqueuePoller, q *fakeQueue) { q.closeSocket(7) },
		"removed and closed":  func(p *kqueuePoller, q *fakeQueue) { p.Remove(7, 1); q.closeSocket(7) },
		"replaced and closed": func(p *kqueuePoller, q *fakeQueue) { _ = p.Replace(7, 9); q.closeSocket(7) },
	} {
		t.Run(name, func(t *testing.T) {
			p, q := watching7(t)
			q.copied = func(events []event) {
				q.copied = nil
				forget(p, q)
				q.open(7)
				must(t, p.Add(7, 2))
			}
			q.end(7)
			expectNames(t, collect(t, p, q))
		})
	}
}

// A watch whose events may have been fetched is kept, or the next might be made at
// its address; and not for longer.
func TestKqueueKeepsWatchesWhileEventsMayBeFetched(t *testing.T) {
	for name, forget := range map[string]func(*kqueuePoller, *fakeQueue){
		"removed": func(p *kqueuePoller, _ *fakeQueue) { p.Remove(7, 1) },
		"closed":  func(_ *kqueuePoller, q *fakeQueue) { q.closeSocket(7); q.open(7) },
	} {
		p, q := watching7(t)
		old := weak.Make(p.watches[7])
		q.copied = func(events []event) {
			q.copied = func([]event) {
				runtime.GC()
				if old.Value() != nil {
					t.Errorf("%s: a watch is kept although its events are dealt with", name)
				}
				q.copied = nil
			}
			forget(p, q)
			must(t, p.Add(7, 2))
			runtime.GC()
			if old.Value() == nil {
				t.Errorf("%s: a watch was freed while an event of its was under way", name)
			}
			q.end(7)
		}
		q.end(7)
		if names := collect(t, p, q); len(names) == 0 || slices.Contains(names, 1) {
			t.Errorf("%s: told of %d, want 2", name, names)
		}
	}
}

// What could not be watched leaves nothing behind.
func TestKqueueAddThatFailsLeavesNothing(t *testing.T) {
	q := newFakeQueue()
	p := newKqueuePoller(q)
	q.open(7)
	q.failing = errors.New("no memory")
	if err := p.Add(7, 1); !errors.Is(err, q.failing) {
		t.Errorf("Add: %v", err)
	}
	q.failing = nil
	must(t, p.Add(7, 2))
	q.failing = errors.New("no memory")
	if err := p.Replace(7, 3); !errors.Is(err, q.failing) {
		t.Errorf("Replace: %v", err)
	}
	q.failing = nil
	p.Remove(7, 2)
	must(t, p.Add(7, 4))
	q.end(7)
	expectNames(t, collect(t, p, q), 4)
}

// Close gives the descriptors back at once if no goroutine is in Wait, and leaves them to
// the one that is: a kqueue that is closed under a thread in kevent is a different thing
// on each system.
func TestKqueueClose(t *testing.T) {
	for _, waiting := range []bool{false, true} {
		q := newFakeQueue()
		p := newKqueuePoller(q)
		ended := make(chan error, 1)
		wait := func() {
			_, err := p.Wait()
			ended <- err
		}
		if waiting {
			go wait()
			q.untilWaiting()
		}
		must(t, p.Close())
		if !waiting && (q.closed != 1 || q.woken) {
			t.Errorf("closed %d times, woken: %t", q.closed, q.woken)
		}
		for range 2 {
			if !waiting {
				wait()
			}
			if err := <-ended; !errors.Is(err, os.ErrClosed) {
				t.Errorf("Wait: %v", err)
			}
			waiting = false
		}
		if err := p.Close(); !errors.Is(err, os.ErrClosed) || q.closed != 1 {
			t.Errorf("second Close: %v; closed %d times", err, q.closed)
		}
	}
}

// All sequences of a few steps, against what the kernel does: every socket that ended
// while it was watched is told, under the name it has; and no name is told that is
// not in use.
func TestKqueueAgreesWithKernelInAllSequences(t *testing.T) {
	steps := []string{"add", "replace", "remove", "remove late", "end", "close and open", "fetch"}
	depth := 6
	if testing.Short() {
		depth = 5
	}
	total := 1
	for range depth {
		total *= len(steps)
	}
	for n := range total {
		s := sequence{t: t, q: newFakeQueue()}
		s.p = newKqueuePoller(s.q)
		s.q.open(7)
		var done []string
		for k := n; len(done) < depth; k /= len(steps) {
			step := steps[k%len(steps)]
			done = append(done, step)
			s.play(step)
		}
		s.fetched(collect(t, s.p, s.q))
		if s.untold {
			t.Errorf("nothing was reported of the end of %d", s.id)
		}
		if t.Failed() {
			t.Fatal(strings.Join(done, ", "))
		}
	}
}

// A sequence is what happens to descriptor 7.
type sequence struct {
	t              *testing.T
	p              *kqueuePoller
	q              *fakeQueue
	id             uint64 // its last name; those before count from 1
	watched, ended bool
	untold         bool // the end of what is watched was not reported under its name
}

func (s *sequence) play(step string) {
	switch step {
	case "add":
		err := s.p.Add(7, s.id+1)
		if s.watched != errors.Is(err, fs.ErrExist) || !s.watched && err != nil {
			s.t.Errorf("Add: %v; watched already: %t", err, s.watched)
		}
		if !s.watched {
			s.id++
			s.watched, s.untold = true, s.ended
		}
	case "replace":
		s.id++
		must(s.t, s.p.Replace(7, s.id))
		s.watched, s.untold = true, s.ended
	case "remove":
		s.p.Remove(7, s.id)
		if s.id > 0 {
			s.watched, s.untold = false, false
		}
	case "remove late":
		s.p.Remove(7, s.id-1)
	case "end":
		s.q.end(7)
		s.ended, s.untold = true, s.watched
	case "close and open":
		s.q.closeSocket(7)
		s.q.open(7)
		s.watched, s.ended, s.untold = false, false, false
	case "fetch":
		if len(s.q.pending) > 0 {
			events, err := s.p.Wait()
			must(s.t, err)
			s.fetched(idsOf(events))
		}
	}
}

func (s *sequence) fetched(ids []uint64) {
	for _, id := range ids {
		if !s.watched || id != s.id {
			s.t.Errorf("told of %d, which is not in use", id)
		}
		s.untold = false
	}
}
