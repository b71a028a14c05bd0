//go:build unix

package poller

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
	"weak"
)

// A fakeQueue stands in for the kernel, as far as the sources of the five systems
// agree (filt_soread in uipc_socket.c, kqueue_register and knote_fdclose in
// kern_event.c): a registration belongs to a socket, goes with its last descriptor
// without a word, and is told once of each thing that happens.
type fakeQueue struct {
	mu      sync.Mutex
	changed sync.Cond
	sockets map[uintptr]*fakeSocket // by descriptor
	pending []event
	failing error // of attach
	woken   bool
	nudges  int
	closed  int // how often
	waiting bool

	// copied is called, if it is not nil, with what a wait has fetched, before the wait
	// returns: what happens now is too late for these events.
	copied func([]event)
}

type fakeSocket struct {
	ended      bool
	registered bool
	mark       uintptr // of the registration: a number, which keeps no watch alive
}

func newFakeQueue() *fakeQueue {
	q := &fakeQueue{sockets: make(map[uintptr]*fakeSocket)}
	q.changed.L = &q.mu
	return q
}

// open makes a new socket with that descriptor.
func (q *fakeQueue) open(fd uintptr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sockets[fd] = new(fakeSocket)
}

// closeSocket takes the registration along, with what it has told and nobody has
// fetched.
func (q *fakeQueue) closeSocket(fd uintptr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.sockets, fd)
	q.drop(fd)
}

func (q *fakeQueue) drop(fd uintptr) {
	q.pending = slices.DeleteFunc(q.pending, func(e event) bool { return e.fd == fd })
}

// end is a FIN, or a RST behind it: each is told.
func (q *fakeQueue) end(fd uintptr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sockets[fd].ended = true
	q.tell(fd, true)
}

// fill is a receive buffer that is full.
func (q *fakeQueue) fill(fd uintptr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tell(fd, false)
}

func (q *fakeQueue) tell(fd uintptr, eof bool) {
	if s := q.sockets[fd]; s != nil && s.registered {
		q.drop(fd) // one event stands for all until it is fetched
		q.pending = append(q.pending, event{fd: fd, mark: s.mark, eof: eof || s.ended})
		q.changed.Broadcast()
	}
}

func (q *fakeQueue) attach(fd uintptr, w *watch) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sockets[fd]
	switch {
	case q.failing != nil:
		return q.failing
	case s == nil:
		return errors.New("bad file descriptor")
	case s.registered:
		return errors.New("a registration was replaced")
	}
	w.mark = uintptr(unsafe.Pointer(w))
	s.registered, s.mark = true, w.mark
	if s.ended {
		q.tell(fd, true)
	}
	return nil
}

func (q *fakeQueue) attached(fd uintptr, w *watch) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sockets[fd]
	if s != nil && s.registered && s.mark != w.mark {
		return false, errors.New("the name of another watch was changed")
	}
	return s != nil && s.registered, nil
}

func (q *fakeQueue) detach(fd uintptr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.sockets[fd]; s != nil {
		s.registered = false
	}
	q.drop(fd)
}

func (q *fakeQueue) wait(events []event) (int, error) {
	q.mu.Lock()
	if q.closed > 0 {
		q.mu.Unlock()
		return 0, errors.New("wait on what was closed")
	}
	q.waiting = true
	q.changed.Broadcast()
	for len(q.pending) == 0 && !q.woken && q.nudges == 0 {
		q.changed.Wait()
	}
	q.waiting, q.nudges = false, 0
	n := copy(events, q.pending)
	q.pending = q.pending[n:]
	q.mu.Unlock()
	if q.copied != nil && n > 0 {
		q.copied(events[:n])
	}
	return n, nil
}

func (q *fakeQueue) nudge() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.nudges++
	q.changed.Broadcast()
}

func (q *fakeQueue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.woken = true
	q.changed.Broadcast()
}

func (q *fakeQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed++
}

// untilWaiting returns when somebody waits and there is nothing to tell.
func (q *fakeQueue) untilWaiting() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.waiting || len(q.pending) > 0 || q.nudges > 0 {
		q.changed.Wait()
	}
}

// collect returns the names that p has to tell now, and no more: it ends the queue.
func collect(t *testing.T, p *kqueuePoller, q *fakeQueue) (names []uint64) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			told, err := p.Wait()
			if err != nil {
				if !errors.Is(err, os.ErrClosed) {
					t.Errorf("Wait: %v", err)
				}
				return
			}
			names = append(names, idsOf(told)...)
		}
	}()
	q.untilWaiting()
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	<-done
	if q.closed != 1 {
		t.Errorf("the queue was closed %d times", q.closed)
	}
	return names
}

func idsOf(events []Event) (ids []uint64) {
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	return ids
}

func expectNames(t *testing.T, got []uint64, want ...uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("told of %d, want %d", got, want)
	}
}

func TestKqueueTells(t *testing.T) {
	q := newFakeQueue()
	p := newKqueuePoller(q)
	for fd := range uintptr(3) {
		q.open(fd)
		must(t, p.Add(fd, uint64(100+fd)))
	}
	q.end(2)
	q.end(0)
	expectNames(t, collect(t, p, q), 102, 100)
}

// What was watched and is not any more is let go, also while nothing happens to the
// rest.
func TestKqueueLetsGo(t *testing.T) {
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
	q := newFakeQueue()
	p := newKqueuePoller(q)
	q.open(7)
	must(t, p.Add(7, 1))
	var fetched int
	q.copied = func(events []event) {
		// Behind a buffer that is full, the end comes all the same.
		if fetched++; fetched == 1 {
			q.end(7)
		}
	}
	q.fill(7)
	expectNames(t, collect(t, p, q), 1)
	if fetched != 2 {
		t.Errorf("fetched %d times, want 2", fetched)
	}
}

// An event that was fetched before its descriptor was closed is not told under the
// name of the next socket with that descriptor.
func TestKqueueStaleEvent(t *testing.T) {
	for name, forget := range map[string]func(*kqueuePoller, *fakeQueue){
		"closed":              func(_ *kqueuePoller, q *fakeQueue) { q.closeSocket(7) },
		"removed and closed":  func(p *kqueuePoller, q *fakeQueue) { p.Remove(7, 1); q.closeSocket(7) },
		"replaced and closed": func(p *kqueuePoller, q *fakeQueue) { _ = p.Replace(7, 9); q.closeSocket(7) },
	} {
		t.Run(name, func(t *testing.T) {
			q := newFakeQueue()
			p := newKqueuePoller(q)
			q.open(7)
			must(t, p.Add(7, 1))
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
func TestKqueueRetires(t *testing.T) {
	q := newFakeQueue()
	p := newKqueuePoller(q)
	q.open(7)
	must(t, p.Add(7, 1))
	old := weak.Make(p.watches[7])
	q.copied = func(events []event) {
		q.copied = func([]event) {
			runtime.GC()
			if old.Value() != nil {
				t.Error("a watch is kept although its events are dealt with")
			}
			q.copied = nil
		}
		p.Remove(7, 1)
		must(t, p.Add(7, 2))
		runtime.GC()
		if old.Value() == nil {
			t.Error("a watch was freed while an event of its was under way")
		}
		q.end(7)
	}
	q.end(7)
	names := collect(t, p, q)
	if len(names) == 0 || slices.Contains(names, 1) {
		t.Errorf("told of %d, want 2", names)
	}
}

func TestKqueueRemove(t *testing.T) {
	q := newFakeQueue()
	p := newKqueuePoller(q)
	for fd := range uintptr(2) {
		q.open(fd)
		must(t, p.Add(fd, uint64(100+fd)))
	}
	p.Remove(0, 101) // another's name
	p.Remove(1, 101)
	p.Remove(1, 101) // nothing is left to remove
	p.Remove(5, 105) // never watched
	q.end(0)
	q.end(1)
	expectNames(t, collect(t, p, q), 100)
}

// What could not be watched leaves nothing behind.
func TestKqueueAddFails(t *testing.T) {
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

func TestKqueueClose(t *testing.T) {
	q := newFakeQueue()
	p := newKqueuePoller(q)
	must(t, p.Close()) // with nobody in Wait, the descriptors are given back at once
	if q.closed != 1 || q.woken {
		t.Errorf("closed %d times, woken: %t", q.closed, q.woken)
	}
	for range 2 {
		if _, err := p.Wait(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Wait: %v", err)
		}
	}
	if err := p.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if q.closed != 1 {
		t.Errorf("closed %d times", q.closed)
	}
}

// A Close while somebody is in Wait leaves the descriptors to him: a kqueue that is
// closed under a thread in kevent is a different thing on each system.
func TestKqueueCloseWakes(t *testing.T) {
	q := newFakeQueue()
	p := newKqueuePoller(q)
	ended := make(chan error)
	go func() {
		_, err := p.Wait()
		ended <- err
	}()
	q.untilWaiting()
	q.mu.Lock() // nobody is let out of wait
	closing := make(chan error)
	go func() { closing <- p.Close() }()
	select {
	case <-closing:
		t.Error("Close did not wake anybody")
	case <-time.After(10 * time.Millisecond):
	}
	if q.closed != 0 {
		t.Error("closed with somebody in wait")
	}
	q.mu.Unlock()
	must(t, <-closing)
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Wait: %v", err)
	}
	if q.closed != 1 {
		t.Errorf("closed %d times", q.closed)
	}
}

// All sequences of a few steps, against what the kernel does: every socket that ended
// while it was watched is told, under the name it has; and no name is told that is
// not in use.
func TestKqueueSequences(t *testing.T) {
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
		var sequence []string
		for k := n; len(sequence) < depth; k /= len(steps) {
			sequence = append(sequence, steps[k%len(steps)])
		}
		if err := playSequence(t, sequence); err != nil {
			t.Fatalf("%s: %v", strings.Join(sequence, ", "), err)
		}
		if t.Failed() {
			t.Fatal(strings.Join(sequence, ", "))
		}
	}
}

func playSequence(t *testing.T, sequence []string) error {
	const fd = 7
	q := newFakeQueue()
	p := newKqueuePoller(q)
	q.open(fd)
	var names, told []uint64 // of fd, in order; told by Wait
	watched, ended := false, false
	untold := false // the end of what is watched has not been told under its name
	name := func() uint64 { return names[len(names)-1] }
	var err error
	fetch := func(ids []uint64) {
		for _, id := range ids {
			told = append(told, id)
			if !watched || id != name() {
				err = fmt.Errorf("told of %d, which is not in use", id)
			}
			untold = false
		}
	}
	for _, step := range sequence {
		switch step {
		case "add":
			id := uint64(len(names) + 1)
			aerr := p.Add(fd, id)
			if watched != errors.Is(aerr, fs.ErrExist) || !watched && aerr != nil {
				return fmt.Errorf("Add: %v; watched already: %t", aerr, watched)
			}
			if !watched {
				names = append(names, id)
				watched, untold = true, ended
			}
		case "replace":
			names = append(names, uint64(len(names)+1))
			if rerr := p.Replace(fd, name()); rerr != nil {
				return fmt.Errorf("Replace: %v", rerr)
			}
			watched, untold = true, ended
		case "remove":
			if len(names) > 0 {
				p.Remove(fd, name())
				watched, untold = false, false
			}
		case "remove late":
			if len(names) > 1 {
				p.Remove(fd, names[len(names)-2])
			}
		case "end":
			q.end(fd)
			ended, untold = true, watched
		case "close and open":
			q.closeSocket(fd)
			q.open(fd)
			watched, ended, untold = false, false, false
		case "fetch":
			if len(q.pending) > 0 {
				events, werr := p.Wait()
				if werr != nil {
					return werr
				}
				fetch(idsOf(events))
			}
		}
	}
	fetch(collect(t, p, q))
	if untold {
		return fmt.Errorf("nobody was told of the end of %d; told: %d", name(), told)
	}
	return err
}
