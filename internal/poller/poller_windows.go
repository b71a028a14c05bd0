package poller

import (
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/internal/afd"
)

// batch is how many names one Wait returns at most.
const batch = 128

// A Poller asks the driver beneath Winsock to tell of the end of each socket. The
// answers come to a completion port of its own, whatever port the sockets belong
// to; waiting there takes one thread.
type Poller struct {
	port windows.Handle

	mu       sync.Mutex // guards the fields below; held across requests to the driver, none of which waits
	closed   bool
	waiting  bool                      // a goroutine is in Wait, and will see that closed is set
	ids      map[uint64]*watch         // by name
	sockets  map[windows.Handle]*watch // the same, by handle
	requests map[*afd.Poll]*request    // under way: the driver has their addresses
	devices  []*device
	roomy    []*device // those with room

	told [batch]Event // only the goroutine in Wait touches it
}

// A watch is a socket and its name. It has at most one request under way.
type watch struct {
	id     uint64
	socket windows.Handle // as the driver knows it
	ends   ends
	seen   uint32   // the events that were told
	failed bool     // the last request failed
	asked  *request // the one under way; nil only with mu held
}

// New makes a Poller; it takes one handle, and another for each 32 sockets.
func New() (*Poller, error) {
	port, err := windows.CreateIoCompletionPort(windows.InvalidHandle, 0, 0, 1)
	if err != nil {
		return nil, os.NewSyscallError("CreateIoCompletionPort", err)
	}
	p := &Poller{
		port:     port,
		ids:      make(map[uint64]*watch),
		sockets:  make(map[windows.Handle]*watch),
		requests: make(map[*afd.Poll]*request),
	}
	if err := p.open(); err != nil {
		windows.CloseHandle(port)
		return nil, err
	}
	return p, nil
}

// Add watches fd.
func (p *Poller) Add(fd uintptr, id uint64) error { return p.add(fd, id, false) }

// Replace watches fd under another name.
func (p *Poller) Replace(fd uintptr, id uint64) error { return p.add(fd, id, true) }

func (p *Poller) add(fd uintptr, id uint64, replace bool) error {
	socket, err := afd.Base(fd)
	if err != nil {
		return err
	}
	w := &watch{id: id, socket: socket, ends: endsOf(fd)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.sockets[socket]; old != nil {
		// The driver tells that a socket was closed, but by then another may have got
		// its handle.
		if !replace && !old.ends.differ(&w.ends) {
			return fmt.Errorf("watching a socket: %w", fs.ErrExist)
		}
		p.drop(old)
	}
	if err := p.ask(w); err != nil {
		return err
	}
	p.sockets[socket], p.ids[id] = w, w
	return nil
}

// Remove ends the watch of id.
func (p *Poller) Remove(_ uintptr, id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.ids[id]; w != nil {
		p.drop(w)
	}
}

// drop ends a watch; mu is held.
func (p *Poller) drop(w *watch) {
	delete(p.ids, w.id)
	delete(p.sockets, w.socket)
	if w.asked != nil {
		w.asked.watch = nil
		w.asked.poll.Cancel(w.asked.device.Device)
	}
}

// Wait implements the contract of the package.
func (p *Poller) Wait() ([]Event, error) {
	if !p.enter() {
		return nil, os.ErrClosed
	}
	for {
		n := 0
		for timeout := uint32(windows.INFINITE); n < batch; timeout = 0 {
			if p.finished() {
				return nil, os.ErrClosed
			}
			poll, err := p.next(timeout)
			if err == windows.WAIT_TIMEOUT {
				break
			}
			if err != nil {
				p.leave()
				return nil, err
			}
			if e := p.answer(poll); e.What != 0 {
				p.told[n] = e
				n++
			}
		}
		if n > 0 && p.leave() {
			return p.told[:n], nil
		}
	}
}

// enter and leave are the begin and the end of a Wait. After Close, enter fails, and a Wait
// in progress returns only once every request has completed.
func (p *Poller) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.waiting = true
	}
	return !p.closed
}

func (p *Poller) leave() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.waiting = false
	}
	return !p.closed
}

// Close ends all watches and wakes Wait. The memory for the answers is kept until
// all of them have come, which is at once, because what was asked is cancelled.
func (p *Poller) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return os.ErrClosed
	}
	p.closed = true
	for _, w := range p.ids {
		p.drop(w)
	}
	waiting := p.waiting
	if waiting {
		// Behind mu, because who waits closes the port.
		_ = windows.PostQueuedCompletionStatus(p.port, 0, 0, nil)
	}
	p.mu.Unlock()
	for !waiting && !p.finished() {
		poll, err := p.next(windows.INFINITE)
		if err != nil {
			return err
		}
		p.answer(poll)
	}
	return nil
}

// finished reports whether the Poller was closed and no answer is to come any more.
// Then it gives the handles back.
func (p *Poller) finished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed || len(p.requests) > 0 {
		return false
	}
	for _, d := range p.devices {
		d.Close()
	}
	windows.CloseHandle(p.port)
	return true
}
