// Package poller tells which of many sockets may have ended, without a goroutine
// or a thread for each, and without waking up for their data.
//
// One file per mechanism defines the type Poller with these methods:
//
//	New() (*Poller, error)
//		Starts with nothing watched. An error that wraps errors.ErrUnsupported
//		means that this system has no mechanism, and [ErrSilent] that it has one
//		that does not work, so that a [Sweep] is to take its place.
//	(*Poller) Add(fd uintptr, id uint64) error
//		Watches the socket fd under the name id, which the caller never uses
//		again. A socket that has already ended is reported. Call it while fd
//		cannot be closed, as inside syscall.RawConn.Control. An error that
//		matches fs.ErrExist means that the same socket is watched already.
//	(*Poller) Replace(fd uintptr, id uint64) error
//		As Add, for a socket that is watched already, under another name.
//	(*Poller) Remove(fd uintptr, id uint64)
//		Ends the watch of fd, whose name is id. Call it while fd cannot be closed,
//		and not with a name that Replace has replaced. A socket that is not
//		watched is no error. The kernel forgets a socket by itself when its last
//		descriptor is closed.
//	(*Poller) Wait() ([]Event, error)
//		Blocks until something happened and returns what, in memory that the next
//		Wait uses again. An event is only a trigger for a check: it may come late,
//		twice, or for a socket that is fine. Each FIN, and each RST or time-out,
//		that arrives after Add is reported at least once, behind unread data too;
//		data alone is not reported. Only one goroutine may be in Wait. It returns
//		os.ErrClosed after Close.
//	(*Poller) Close() error
//		Ends all watches and wakes Wait.
//
// Add, Replace and Remove may be called by several goroutines at once, and they and
// Close while another is in Wait. None of them blocks. After Close none of them may
// be called.
package poller

import "errors"

// ErrSilent is what New returns where the kernel, or an emulator of it, takes a watch
// and then says nothing.
var ErrSilent = errors.New("the system does not tell what happens to sockets")

// An Event is what happened to a socket that is watched.
type Event struct {
	ID   uint64 // its name
	What Kind   // never 0
}

// A Kind is a set of flags.
type Kind uint8

const (
	FIN      Kind = 1 << iota // the peer will send no more
	Hangup                    // the connection is over in both directions
	Failed                    // the socket has an error
	Periodic                  // nothing is known; it is time for a check
)
