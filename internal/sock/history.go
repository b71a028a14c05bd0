package sock

import "sync/atomic"

// A History is what the kernel does not tell of a socket at any time, kept from earlier
// checks and calls.
//
// Where the kernel keeps no state of a connection, the errno of an end is in the socket only
// until something takes it: a check without an alternative, or a Read or Write of the
// application. So that errno is kept, too.
type History struct {
	errno atomic.Pointer[error] // what was taken; nil before
	inIO  atomic.Int32          // Reads and Writes that may be taking it now
	flags atomic.Uint32
}

// The flags of a History.
const (
	finSeen    = 1 << iota
	readShut   // the application has called CloseRead
	writeShut  // the local side was shut down for writing
	synKnown   // it is known whether the kernel counts a SYN among the bytes acknowledged
	synCounted // it does
	deferred   // an event waits for Reads and Writes to return
)

func (h *History) has(flag uint32) bool { return h.flags.Load()&flag != 0 }

// set spares those that find a flag set the write.
func (h *History) set(flag uint32) {
	if !h.has(flag) {
		h.flags.Or(flag)
	}
}

// clear reports whether the flag was set.
func (h *History) clear(flag uint32) bool { return h.has(flag) && h.flags.And(^flag)&flag != 0 }

// FINSeen reports whether a check has seen the peer's FIN.
func (h *History) FINSeen() bool { return h.has(finSeen) }

// NoteFIN notes that a check has seen the peer's FIN.
func (h *History) NoteFIN() { h.set(finSeen) }

// ReadShut reports whether the application has called CloseRead.
func (h *History) ReadShut() bool { return h.has(readShut) }

// WriteShut reports whether the local side was shut down for writing, by CloseWrite or as
// TCP_INFO shows.
func (h *History) WriteShut() bool { return h.has(writeShut) }

// NoteWriteShut notes that the local side was shut down for writing.
func (h *History) NoteWriteShut() { h.set(writeShut) }

// A Direction is a side of a connection that can be shut down.
type Direction uint8

const (
	Reading Direction = iota
	Writing
)

// Shut notes a shutdown that is about to be made. undo is for one that fails.
func (h *History) Shut(d Direction) (undo func()) {
	flag := uint32(readShut)
	if d == Writing {
		flag = writeShut
	}
	if h.flags.Or(flag)&flag != 0 {
		return func() {}
	}
	return func() { h.clear(flag) }
}

// Reset forgets everything but the Reads and Writes that are under way.
func (h *History) Reset() {
	h.errno.Store(nil)
	h.flags.Store(0)
}

// KeepErrno notes an errno that was taken. The first one stays.
func (h *History) KeepErrno(errno error) {
	kept := errno // a variable of its own: its address is all that allocates
	h.errno.CompareAndSwap(nil, &kept)
}

// KeptErrno returns what was taken, nil if nothing was.
func (h *History) KeptErrno() error {
	if err := h.errno.Load(); err != nil {
		return *err
	}
	return nil
}

// BeginIO is called before a Read or Write that may take the errno.
func (h *History) BeginIO() { h.inIO.Add(1) }

// EndIO is called after such a Read or Write. It reports whether an event has waited for it.
func (h *History) EndIO() bool { return h.inIO.Add(-1) == 0 && h.clear(deferred) }

// Deferred reports whether an event waits.
func (h *History) Deferred() bool { return h.has(deferred) }

// Defer leaves the decision of an event to Reads and Writes that are under way, but for own
// of them: one of them may have taken the errno, and be about to bring it. They do not
// wait, now that the connection is over. It reports false if there are none.
func (h *History) Defer(own int32) bool {
	if h.inIO.Load() <= own {
		return false
	}
	h.set(deferred)
	return h.leftToIO(own)
}

// leftToIO reports whether a Read or Write decides after deferred was set: the last of them
// may have looked for it before.
func (h *History) leftToIO(own int32) bool {
	return h.inIO.Load() > own || !h.clear(deferred)
}
