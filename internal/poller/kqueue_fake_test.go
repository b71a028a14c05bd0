//go:build unix

package poller

import (
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"unsafe"
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

func (q *fakeQueue) lock() (unlock func()) { q.mu.Lock(); return q.mu.Unlock }

// open makes a new socket with that descriptor.
func (q *fakeQueue) open(fd uintptr) {
	defer q.lock()()
	q.sockets[fd] = new(fakeSocket)
}

// closeSocket takes the registration along, with what it has told and nobody has
// fetched.
func (q *fakeQueue) closeSocket(fd uintptr) {
	defer q.lock()()
	delete(q.sockets, fd)
	q.drop(fd)
}

func (q *fakeQueue) drop(fd uintptr) {
	q.pending = slices.DeleteFunc(q.pending, func(e event) bool { return e.fd == fd })
}

// end is a FIN, or a RST behind it: each is told.
func (q *fakeQueue) end(fd uintptr) {
	defer q.lock()()
	q.sockets[fd].ended = true
	q.tell(fd, true)
}

// fill is a receive buffer that is full.
func (q *fakeQueue) fill(fd uintptr) {
	defer q.lock()()
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
	defer q.lock()()
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
	defer q.lock()()
	s := q.sockets[fd]
	if s != nil && s.registered && s.mark != w.mark {
		return false, errors.New("the name of another watch was changed")
	}
	return s != nil && s.registered, nil
}

func (q *fakeQueue) detach(fd uintptr) {
	defer q.lock()()
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
	defer q.lock()()
	q.nudges++
	q.changed.Broadcast()
}

func (q *fakeQueue) wake() {
	defer q.lock()()
	q.woken = true
	q.changed.Broadcast()
}

func (q *fakeQueue) close() {
	defer q.lock()()
	q.closed++
	if q.waiting {
		panic("closed under a goroutine in wait")
	}
}

// untilWaiting returns when a goroutine waits and there is nothing to report.
func (q *fakeQueue) untilWaiting() {
	defer q.lock()()
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
