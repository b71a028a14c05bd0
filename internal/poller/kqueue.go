//go:build unix

package poller

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// A queue is what a watch needs of kqueue. poller_kqueue.go has the real one, and a
// fake stands in for it where there is none.
//
// Only wait blocks. The other methods are called one at a time, and while another
// goroutine is in wait.
type queue interface {
	// attach registers fd, which nothing is registered for, and sets w.mark. What has
	// ended already is reported.
	attach(fd uintptr, w *watch) error

	// attached reports whether the registration that attach made of w for fd is still
	// there. The kernel drops it when fd is closed, whatever fd is used for next.
	attached(fd uintptr, w *watch) (bool, error)

	// detach ends the registration for fd, if there is one.
	detach(fd uintptr)

	// wait blocks until there are events, or wake was called. It fills its argument
	// and returns how many there are.
	wait([]event) (int, error)

	nudge() // has wait return, once, with no events or some
	wake()  // for good
	close() // no goroutine is in wait then
}

// A watch is one registration. The kernel holds its address, which the garbage
// collector does not see there.
type watch struct {
	id     uint64
	serial uint32  // for a queue that cannot hold an address
	mark   uintptr // what its events carry
}

// An event is what the kernel tells of a registration.
type event struct {
	fd   uintptr
	mark uintptr // of the watch it was made for
	eof  bool    // EV_EOF: a FIN, an end, or a local CloseRead
	err  bool    // so_error is set, which filt_soread hands on in fflags with EV_EOF
}

// fetched is how many events one wait fetches at most.
const fetched = 64

// retirees is how many retired watches are kept before Wait is made to let them go.
const retirees = 1024

// A kqueuePoller is a Poller by a queue. It remembers what the kernel does not
// tell: which watch a descriptor has. A close takes the registration along and says
// nothing, so what is remembered may be of a socket that is gone.
type kqueuePoller struct {
	queue queue

	mu      sync.Mutex // guards the fields below; held across the calls of queue, but not wait
	watches map[uintptr]*watch
	serial  uint32 // of the last watch
	// retired are the watches that have ended since wait was last entered. Events of
	// theirs may have been fetched already, and are known by their marks: no other
	// watch may have the same address meanwhile.
	retired []*watch
	waiting bool // a goroutine is in queue.wait
	nudged  bool // and will return, if nothing happens either
	closed  bool

	// Only the goroutine in Wait touches these.
	events [fetched]event
	told   [fetched]Event
}

func newKqueuePoller(q queue) *kqueuePoller {
	return &kqueuePoller{queue: q, watches: make(map[uintptr]*watch)}
}

// Add registers fd. To the kernel that is no error if fd is registered already, and
// would change the name of the watch; so it is asked before.
func (p *kqueuePoller) Add(fd uintptr, id uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.watches[fd]; w != nil {
		switch attached, err := p.queue.attached(fd, w); {
		case err != nil:
			return err
		case attached:
			return fmt.Errorf("kevent: %w", fs.ErrExist)
		}
		p.retire(fd) // the descriptor was closed, and is used again
	}
	return p.attach(fd, id)
}

// Replace gives the registration of fd another name. It is made anew, so that an
// end that was told under the old name is told again.
func (p *kqueuePoller) Replace(fd uintptr, id uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watches[fd] != nil {
		p.queue.detach(fd)
		p.retire(fd)
	}
	return p.attach(fd, id)
}

// Remove deletes the registration of fd if it is that of id.
func (p *kqueuePoller) Remove(fd uintptr, id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.watches[fd]; w != nil && w.id == id {
		p.queue.detach(fd)
		p.retire(fd)
	}
}

// attach makes a watch of fd; mu is held, so it is known before its events are
// looked at.
func (p *kqueuePoller) attach(fd uintptr, id uint64) error {
	p.serial++
	w := &watch{id: id, serial: p.serial}
	if err := p.queue.attach(fd, w); err != nil {
		return err
	}
	p.watches[fd] = w
	return nil
}

// retire forgets the watch of fd, whose registration is gone; mu is held.
func (p *kqueuePoller) retire(fd uintptr) {
	p.retired = append(p.retired, p.watches[fd])
	delete(p.watches, fd)
	if len(p.retired) >= retirees && p.waiting && !p.nudged {
		p.nudged = true // nothing need happen to the others for a long time
		p.queue.nudge()
	}
}

// Wait implements the contract of the package.
func (p *kqueuePoller) Wait() ([]Event, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, os.ErrClosed
		}
		// The last events have been dealt with, and the kernel makes no more for what
		// is not registered.
		clear(p.retired)
		p.retired = p.retired[:0]
		p.waiting, p.nudged = true, false
		p.mu.Unlock()

		n, err := p.queue.wait(p.events[:])

		p.mu.Lock()
		p.waiting = false
		switch {
		case p.closed:
			p.queue.close()
			err = os.ErrClosed
		case err == nil:
			n = p.name(n)
		}
		p.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if n > 0 {
			return p.told[:n], nil
		}
	}
}

// name puts the first n events into told under the names of their sockets, and returns
// how many have one. Without EV_EOF an event is none: macOS tells when the receive buffer is full,
// because it takes NOTE_LOWAT for no more than that (filt_soread_common), and all of
// them tell an error that has not ended the connection.
func (p *kqueuePoller) name(n int) (known int) {
	for _, e := range p.events[:n] {
		if w := p.watches[e.fd]; e.eof && w != nil && w.mark == e.mark {
			p.told[known] = Event{w.id, FIN}
			if e.err {
				p.told[known].What = FIN | Hangup | Failed
			}
			known++
		}
	}
	return known
}

// Close wakes Wait, which then gives the descriptors back, or does so itself if
// no goroutine is in it.
func (p *kqueuePoller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	p.closed = true
	if p.waiting {
		p.queue.wake()
	} else {
		p.queue.close()
	}
	return nil
}
