// Package recent keeps the last ends of connections, for a page that shows them. Until Start
// is called it keeps nothing.
package recent

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Kept is how many ends are kept.
const Kept = 100

// An End is how a connection ended. It must not lead to the connection, which it would keep
// from being freed, nor to code of the application.
type End struct {
	At          time.Time
	Local, Peer net.Addr // nil if the connection is not package net's
	Group       string
	Err         error // without addresses
	Status      any   // the liveness.Status at the end, without Err
}

// kept is nil until Start.
var kept atomic.Pointer[ring]

// A ring has the ends in the order of count, modulo Kept.
type ring struct {
	mu    sync.Mutex // guards the fields below
	ends  [Kept]End
	count int // how many were ever added
}

// Start has ends kept from now on. The second time it does nothing.
func Start() { kept.CompareAndSwap(nil, new(ring)) }

// Started reports whether Start was called. It is one atomic load.
func Started() bool { return kept.Load() != nil }

// Add keeps e, in place of the oldest. Before Start it does nothing.
func Add(e End) {
	r := kept.Load()
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends[r.count%Kept] = e
	r.count++
}

// Ends returns what is kept, the newest first.
func Ends() []End {
	r := kept.Load()
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ends := make([]End, 0, min(r.count, Kept))
	for i := range cap(ends) {
		ends = append(ends, r.ends[(r.count-1-i)%Kept])
	}
	return ends
}
