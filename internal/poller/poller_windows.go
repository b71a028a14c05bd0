package poller

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/internal/afd"
)

// batch is how many names one Wait returns at most.
const batch = 128

// perDevice is how many requests are made through one handle to the driver, which
// keeps them in a list. It is the number of wepoll and mio.
const perDevice = 32

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

// A request is a poll under way. One that was cancelled outlives its watch.
type request struct {
	poll   afd.Poll
	watch  *watch // nil if nobody wants the answer
	device *device
}

// A device is a handle to the driver.
type device struct {
	afd.Device
	used int // requests under way
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

// ask asks for what w was not told yet: what was told stays so, and would be told
// for ever. mu is held.
//
// The socket may have been closed since the last answer, and its handle be another
// socket's. Then the name of w, which nobody uses any more, stands for hints of that
// one, until it is closed or watched itself.
func (p *Poller) ask(w *watch) error {
	if len(p.roomy) == 0 {
		if err := p.open(); err != nil {
			return err
		}
	}
	var events uint32
	switch {
	case w.seen&(afd.Abort|afd.ConnectFail) != 0:
		events = afd.LocalClose // nothing can follow, but the watch must end with the socket
	case w.seen&afd.Disconnect != 0:
		events = afd.Abort | afd.LocalClose
	default:
		events = afd.Disconnect | afd.Abort | afd.LocalClose
	}
	r := &request{watch: w, device: p.roomy[len(p.roomy)-1]}
	if r.device.used++; r.device.used == perDevice {
		p.roomy = p.roomy[:len(p.roomy)-1]
	}
	p.requests[&r.poll] = r
	if err := r.poll.Start(r.device.Device, w.socket, events); err != nil {
		p.release(r)
		return err
	}
	w.asked = r
	return nil
}

// open adds a handle to the driver.
func (p *Poller) open() error {
	handle, err := afd.Open(p.port)
	if err != nil {
		return err
	}
	d := &device{Device: handle}
	p.devices, p.roomy = append(p.devices, d), append(p.roomy, d)
	return nil
}

// release forgets a request, which is over; mu is held.
func (p *Poller) release(r *request) {
	delete(p.requests, &r.poll)
	if r.device.used--; r.device.used == perDevice-1 {
		p.roomy = append(p.roomy, r.device)
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

// enter and leave are the begin and the end of a Wait. Once the Poller is closed
// there is no way in, and for who is inside none out before it is finished.
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

// next returns the next packet of the port, nil if it is no request's.
func (p *Poller) next(timeout uint32) (*afd.Poll, error) {
	var n uint32
	var key uintptr
	var packet *windows.Overlapped
	switch err := windows.GetQueuedCompletionStatus(p.port, &n, &key, &packet, timeout); {
	case packet != nil:
		return afd.Of(packet), nil // err is the request's
	case err == nil || err == windows.WAIT_TIMEOUT:
		return nil, err
	default:
		return nil, os.NewSyscallError("GetQueuedCompletionStatus", err)
	}
}

// answer takes the answer to a request, and asks on. It returns the event to report, or
// none.
func (p *Poller) answer(poll *afd.Poll) (none Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.requests[poll]
	if r == nil {
		return none
	}
	p.release(r)
	w := r.watch
	if w == nil {
		return none
	}
	w.asked = nil
	events, err := poll.Events()
	if events&afd.LocalClose != 0 {
		p.drop(w)
		return none
	}
	w.seen |= events
	// We have cancelled nothing. What the driver gave up for reasons of its own it is
	// asked for once more, and somebody had better look.
	again := err == nil || !w.failed
	w.failed = err != nil
	if !again || p.ask(w) != nil {
		p.drop(w)
	}
	return Event{w.id, kindOf(events, err)}
}

func kindOf(events uint32, err error) (k Kind) {
	if events&afd.Disconnect != 0 {
		k |= FIN
	}
	if events&(afd.Abort|afd.ConnectFail) != 0 {
		k |= Hangup
	}
	if err != nil || events&afd.ConnectFail != 0 {
		k |= Failed
	}
	return k
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

// Ends are the addresses of a connection, to tell it from the next one that has its
// handle. Connections without addresses are alike.
type ends struct{ local, peer name }

type name [unsafe.Sizeof(windows.RawSockaddrInet6{})]byte

var (
	ws2_32      = windows.NewLazySystemDLL("ws2_32.dll")
	getsockname = ws2_32.NewProc("getsockname")
	getpeername = ws2_32.NewProc("getpeername")
)

func endsOf(fd uintptr) (e ends) {
	e.local.ask(getsockname, fd)
	e.peer.ask(getpeername, fd)
	return e
}

func (n *name) ask(proc *windows.LazyProc, fd uintptr) {
	length := int32(len(n))
	if r, _, _ := syscall.SyscallN(proc.Addr(), fd, uintptr(unsafe.Pointer(n)), uintptr(unsafe.Pointer(&length))); r != 0 {
		*n = name{}
	}
}

// differ reports whether e and other are surely of two connections. One that has
// ended may have lost the address of its peer.
func (e *ends) differ(other *ends) bool {
	return e.local != other.local || e.peer != name{} && other.peer != name{} && e.peer != other.peer
}
