package keepalive

import "sync/atomic"

// A Cache keeps the options of one socket as they were when they were last asked for. The
// zero value has none. Multiple goroutines may use it simultaneously.
type Cache struct{ last atomic.Pointer[Limits] }

// shared are the options that were kept last: most sockets have them in common.
var shared atomic.Pointer[Limits]

// Load returns what is kept; nil if nothing is.
func (k *Cache) Load() *Limits { return k.last.Load() }

// Of returns the options of raw, the socket. It reads them the first time: a connection
// that changes none does not pay for knowing them.
func (k *Cache) Of(raw interface{ Control(func(fd uintptr)) error }) *Limits {
	if l := k.last.Load(); l != nil {
		return l
	}
	l := new(Limits)
	_ = raw.Control(func(fd uintptr) { l = k.Keep(Read(fd)) })
	return l
}

// Keep keeps l, and returns what is equal to it and takes no memory of its own.
func (k *Cache) Keep(l *Limits) *Limits {
	if last := shared.Load(); last != nil && *last == *l {
		l = last
	} else {
		shared.Store(l)
	}
	k.last.Store(l)
	return l
}
