//go:build linux

package poller

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The watch asks for EPOLLRDHUP alone, edge-triggered: data wakes no goroutine, a FIN
// wakes once, and a RST after it wakes once more, because EPOLLERR and EPOLLHUP
// are in every mask (fs/eventpoll.c). One-shot would hide that RST, and
// level-triggered would report the FIN for ever.
const mask = unix.EPOLLRDHUP | unix.EPOLLET

// batch is how many events one epoll_wait fetches.
const batch = 128

// A Poller is an epoll descriptor that is itself parked in the poller of the Go
// runtime, so that waiting costs neither a thread nor a tick.
type Poller struct {
	epfd int
	file *os.File        // owns epfd
	raw  syscall.RawConn // of file

	// Only the goroutine in Wait touches these.
	events [batch]unix.EpollEvent
	told   [batch]Event
	n      int                // how many of events are filled
	err    error              // of the last epoll_wait
	fetch  func(uintptr) bool // p.fetchEvents, bound once
}

// New makes a Poller; it takes one descriptor.
func New() (*Poller, error) {
	if !selfTest() {
		return nil, ErrSilent
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// The runtime polls only descriptors that are non-blocking. epoll_wait itself
	// never blocks here, whatever the flag says.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &Poller{epfd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	p.fetch = p.fetchEvents
	if p.raw, err = p.file.SyscallConn(); err != nil {
		p.file.Close()
		return nil, err
	}
	return p, nil
}

// Add registers fd.
func (p *Poller) Add(fd uintptr, id uint64) error { return p.control(unix.EPOLL_CTL_ADD, fd, id) }

// Replace gives the registration of fd another name.
func (p *Poller) Replace(fd uintptr, id uint64) error { return p.control(unix.EPOLL_CTL_MOD, fd, id) }

// Remove deletes the registration of fd. The caller holds fd open, so the
// registration is its own. ENOENT means that there is none.
func (p *Poller) Remove(fd uintptr, id uint64) { _ = p.control(unix.EPOLL_CTL_DEL, fd, id) }

func (p *Poller) control(op int, fd uintptr, id uint64) error {
	// The id travels in the 64 bits that the kernel hands back; x/sys splits them.
	event := unix.EpollEvent{Events: mask, Fd: int32(id), Pad: int32(id >> 32)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.epfd, op, int(fd), &event))
}

// Wait implements the contract of the package.
func (p *Poller) Wait() ([]Event, error) {
	for {
		p.n, p.err = 0, nil
		if p.raw.Read(p.fetch) != nil {
			return nil, os.ErrClosed // it has no other error: no deadline is ever set
		}
		if p.err != nil {
			return nil, fmt.Errorf("epoll_wait: %w", p.err)
		}
		n := 0
		for _, e := range p.events[:p.n] {
			// EPOLLERR alone does not end the connection; an end raises EPOLLHUP too (tcp_poll):
			// it is a time stamp or a zero-copy completion in the error queue, or an
			// ICMP error on a socket that asked for them.
			if e.Events&(unix.EPOLLHUP|unix.EPOLLRDHUP) != 0 {
				p.told[n] = Event{uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32, kindOf(e.Events)}
				n++
			}
		}
		if n > 0 {
			return p.told[:n], nil
		}
	}
}

func kindOf(events uint32) (k Kind) {
	if events&unix.EPOLLRDHUP != 0 {
		k |= FIN
	}
	if events&unix.EPOLLHUP != 0 {
		k |= Hangup
	}
	if events&unix.EPOLLERR != 0 {
		k |= Failed
	}
	return k
}

// fetchEvents returns false when there is nothing to fetch, which parks the
// goroutine until the runtime sees the epoll descriptor become readable again.
func (p *Poller) fetchEvents(epfd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, epfd, uintptr(unsafe.Pointer(&p.events)), batch, 0, 0, 0)
		if errno == 0 {
			p.n = int(n)
			return n != 0
		}
		if errno != unix.EINTR {
			p.err = errno
			return true
		}
	}
}

// Close wakes Wait and gives the descriptor back.
func (p *Poller) Close() error { return p.file.Close() }
