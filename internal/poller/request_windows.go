package poller

import (
	"os"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/internal/afd"
)

// perDevice is how many requests are made through one handle to the driver, which
// keeps them in a list. It is the number of wepoll and mio.
const perDevice = 32

// A request is a poll under way. One that was cancelled outlives its watch.
type request struct {
	poll   afd.Poll
	watch  *watch // nil once the watch has ended
	device *device
}

// A device is a handle to the driver.
type device struct {
	afd.Device
	used int // requests under way
}

// ask asks for what w was not told yet: what was told stays so, and would be told
// for ever. mu is held.
//
// The socket may have been closed since the last answer, and its handle be another
// socket's. Events of that one are then reported under the name of w, which the user has
// given up, until that one is closed or watched itself.
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
	// The library has not cancelled this request. The driver gave it up for reasons of its
	// own, so the event has the socket checked, and the driver is asked once more.
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
