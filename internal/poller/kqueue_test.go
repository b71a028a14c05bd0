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

// waiting calls Wait in a goroutine, and sends its error.
func waiting(p *kqueuePoller) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := p.Wait()
		ended <- err
	}()
	return ended
}

func expectClosed(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v; want %v", err, os.ErrClosed)
	}
}

// What was watched and is not any more is let go, also while nothing happens to the
// rest.
func TestKqueueLetsGoOfRetiredWatches(t *testing.T) {
	p, q := watching7(t)
	ended := waiting(p)
	most := 0
	for id := range uint64(10 * retirees) {
		q.open(8)
		must(t, p.Add(8, id+2))
		p.Remove(8, id+2)
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
	expectClosed(t, <-ended)
}

// Without EV_EOF nothing has ended: macOS tells that a receive buffer is full. An error ends both directions.
func TestKqueueTellsTheKind(t *testing.T) {
	p, _ := watching7(t)
	var told []Kind
	for _, e := range []event{{err: true}, {eof: true}, {eof: true, err: true}} {
		p.events[0] = event{fd: 7, mark: p.watches[7].mark, eof: e.eof, err: e.err}
		if n := p.name(1); n > 0 {
			told = append(told, p.told[0].What)
		}
	}
	if want := []Kind{FIN, FIN | Hangup | Failed}; !slices.Equal(told, want) {
		t.Errorf("told %#b, want %#b", told, want)
	}
}

// A watch whose events may have been fetched is kept, or the next might be made at
// its address; and not for longer.
func TestKqueueKeepsWatchesWhileEventsMayBeFetched(t *testing.T) {
	for name, watchAnew := range map[string]func(*kqueuePoller, *fakeQueue) error{
		"removed":  func(p *kqueuePoller, _ *fakeQueue) error { p.Remove(7, 1); return p.Add(7, 2) },
		"closed":   func(p *kqueuePoller, q *fakeQueue) error { q.closeSocket(7); q.open(7); return p.Add(7, 2) },
		"replaced": func(p *kqueuePoller, _ *fakeQueue) error { return p.Replace(7, 2) },
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
			must(t, watchAnew(p, q))
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

// Close gives the descriptors back at once if no goroutine is in Wait, and leaves them to
// the one that is: a kqueue that is closed under a thread in kevent is a different thing
// on each system.
func TestKqueueClose(t *testing.T) {
	for _, waits := range []bool{false, true} {
		q := newFakeQueue()
		p := newKqueuePoller(q)
		var ended <-chan error
		if waits {
			ended = waiting(p)
			q.untilWaiting()
		}
		must(t, p.Close())
		if waits {
			expectClosed(t, <-ended)
		}
		if q.closed != 1 || q.woken != waits {
			t.Errorf("closed %d times, woken: %t", q.closed, q.woken)
		}
		expectClosed(t, <-waiting(p))
		if expectClosed(t, p.Close()); q.closed != 1 {
			t.Errorf("closed %d times", q.closed)
		}
	}
}

// After every sequence of a few steps, each socket that ended while it was watched was told under the name it has; and no name
// was told that is not in use, also if the steps come after a wait has fetched events and before it returns them.
func TestKqueueAgreesWithKernelInAllSequences(t *testing.T) {
	steps := []string{
		"add", "replace", "replacing fails", "remove", "remove late", "end", "fill", "close and open", "fetch",
		"fetch, close and open, add", "fetch, remove, close and open, add", "fetch, replace, close and open, add",
	}
	depth := 4
	if testing.Short() {
		depth = 3
	}
	total := 1
	for range depth {
		total *= len(steps)
	}
	for n := range total {
		s := newSequence(t)
		played := "add"
		s.play(played)
		for k, left := n, depth; left > 0; k, left = k/len(steps), left-1 {
			s.play(steps[k%len(steps)])
			played += "; " + steps[k%len(steps)]
		}
		s.fetched(collect(t, s.p, s.q))
		if s.untold {
			t.Errorf("nothing was reported of the end of %d", s.id)
		}
		if t.Failed() {
			t.Fatal(played)
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

const neighbour = 1 << 40 // the name of descriptor 8

func newSequence(t *testing.T) *sequence {
	s := &sequence{t: t, q: newFakeQueue()}
	s.p = newKqueuePoller(s.q)
	s.q.open(7)
	s.q.open(8)
	must(t, s.p.Add(8, neighbour))
	return s
}

func (s *sequence) play(steps string) {
	step, more, _ := strings.Cut(steps, ", ")
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
	case "replacing fails":
		s.q.failing = errors.New("no memory")
		if err := s.p.Replace(7, s.id+1); !errors.Is(err, s.q.failing) {
			s.t.Errorf("Replace: %v", err)
		}
		s.q.failing, s.watched, s.untold = nil, false, false
	case "remove":
		s.p.Remove(7, s.id)
		s.watched, s.untold = false, false
	case "remove late":
		s.p.Remove(7, s.id-1)
	case "end":
		s.q.end(7)
		s.ended, s.untold = true, s.watched
	case "fill":
		s.q.fill(7)
	case "close and open":
		s.q.closeSocket(7)
		s.q.open(7)
		s.watched, s.ended, s.untold = false, false, false
	case "fetch": // more happens after a wait has fetched and before it returns
		s.q.copied = func([]event) { s.q.copied = nil; s.play(more) }
		s.q.end(8) // so that there is something to fetch
		events, err := s.p.Wait()
		must(s.t, err)
		s.fetched(idsOf(events))
		return
	}
	if more != "" {
		s.play(more)
	}
}

func (s *sequence) fetched(ids []uint64) {
	for _, id := range ids {
		if id != neighbour && (!s.watched || !s.ended || id != s.id) {
			s.t.Errorf("told of %d, which is not in use or has not ended", id)
		}
		s.untold = s.untold && id == neighbour
	}
}
