package sock

import "sync/atomic"

// A History is what the kernel does not tell of a socket at any time, kept from earlier
// checks and calls.
type History struct {
	FINSeen   atomic.Bool // a check has seen the peer's FIN
	ReadShut  atomic.Bool // the application has called CloseRead
	WriteShut atomic.Bool // the local side was shut down for writing, by CloseWrite or as TCP_INFO shows
	synCounts atomic.Int32
}

// A Direction is a side of a connection that can be shut down.
type Direction uint8

const (
	Reading Direction = iota
	Writing
)

// Shut notes a shutdown that is about to be made. undo is for one that fails.
func (h *History) Shut(d Direction) (undo func()) {
	flag := &h.ReadShut
	if d == Writing {
		flag = &h.WriteShut
	}
	if flag.Swap(true) {
		return func() {}
	}
	return func() { flag.Store(false) }
}

// TakenErrors matter where the kernel keeps no state of a connection. The errno of an end
// is then in the socket only until something takes it: a check without an alternative, or a
// Read or Write of the application.
type TakenErrors struct {
	err      atomic.Pointer[error] // what was taken; nil before
	inIO     atomic.Int32          // Reads and Writes that may be taking it now
	deferred atomic.Bool           // an event waits for them to return
}

// Keep notes an errno that was taken. The first one stays.
func (k *TakenErrors) Keep(errno error) {
	kept := errno // a variable of its own: its address is all that allocates
	k.err.CompareAndSwap(nil, &kept)
}

// Kept returns what was taken, nil if nothing was.
func (k *TakenErrors) Kept() error {
	if err := k.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Forget is the opposite of Keep.
func (k *TakenErrors) Forget() { k.err.Store(nil) }

// BeginIO is called before a Read or Write that may take the errno.
func (k *TakenErrors) BeginIO() { k.inIO.Add(1) }

// EndIO is called after it. It reports whether an event has waited for that.
func (k *TakenErrors) EndIO() bool { return k.inIO.Add(-1) == 0 && k.deferred.Swap(false) }

// Deferred reports whether an event waits.
func (k *TakenErrors) Deferred() bool { return k.deferred.Load() }

// Defer leaves the decision of an event to Reads and Writes that are under way, but for own
// of them: one of them may have taken the errno, and be about to bring it. They do not
// wait, now that the connection is over. It reports false if there are none.
func (k *TakenErrors) Defer(own int32) bool {
	if k.inIO.Load() <= own {
		return false
	}
	k.deferred.Store(true)
	// The last of them may have looked for deferred before it was set.
	return k.inIO.Load() > own || !k.deferred.Swap(false)
}
