package liveness

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
)

// Stats counts connections. Each one that ended is counted once, by its reason.
type Stats struct {
	// Open is how many connections are not closed yet by the local side, those that have
	// ended included.
	Open int

	// Wrapped is how many were ever wrapped or watched; the others, how many of them ended
	// with that reason. Local is a local Close that came before any other reason.
	Wrapped, Closed, Reset, Lost, Stalled, Idle, Local uint64
}

// A Group counts the connections of a [Config] and finds them again. The zero value is
// ready for use; a Group must not be copied after that. Multiple goroutines may invoke
// methods on a Group simultaneously. A nil *Group has no connections.
type Group struct {
	// Name is for metrics and pages; it must not change once the Group is in use.
	Name string

	counters counters

	mu    sync.Mutex    // guards empty
	empty chan struct{} // closed when no connection is open; nil if nothing waits for that
}

// Conns returns the connections of the group that are not closed yet by the local side,
// those that have ended included. No lock is held while the body of the loop runs, so it
// may close them. A connection that is added or closed meanwhile may be missed or
// returned.
func (g *Group) Conns() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		if g == nil {
			return
		}
		for c := range Conns() {
			if c.handle.group == g && !yield(c) {
				return
			}
		}
	}
}

// Stats returns the counts of the group. It takes no lock and allocates nothing.
func (g *Group) Stats() Stats {
	if g == nil {
		return Stats{}
	}
	return g.counters.stats()
}

// Wait returns when no connection of the group is open, or with the error of ctx.
func (g *Group) Wait(ctx context.Context) error {
	if g == nil {
		return nil
	}
	for {
		g.mu.Lock()
		if g.counters.open.Load() == 0 {
			g.mu.Unlock()
			return nil
		}
		if g.empty == nil {
			g.empty = make(chan struct{})
		}
		empty := g.empty
		g.mu.Unlock()
		select {
		case <-empty:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close closes all connections of the group, and returns their errors joined.
func (g *Group) Close() error {
	var errs []error
	for c := range g.Conns() {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// left is called when the last connection was closed.
func (g *Group) left() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.empty != nil && g.counters.open.Load() == 0 {
		close(g.empty)
		g.empty = nil
	}
}

// Conns returns the connections of the whole process that are not closed yet by the local
// side; see [Group.Conns].
func Conns() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		var batch [64]*Conn
		for i := 0; i >= 0; {
			var n int
			n, i = everyone.next(i, batch[:])
			for _, c := range batch[:n] {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// Totals returns the counts of the whole process. It takes no lock and allocates nothing.
func Totals() Stats { return everyone.counters.stats() }

// counters are safe for concurrent use.
type counters struct {
	open  atomic.Int64
	all   atomic.Uint64
	ended [len(reasons)]atomic.Uint64
}

func (k *counters) stats() Stats {
	n := func(r Reason) uint64 { return k.ended[r.index()].Load() }
	return Stats{
		Open: int(k.open.Load()), Wrapped: k.all.Load(),
		Closed: n(ReasonClosed), Reset: n(ReasonReset), Lost: n(ReasonLost),
		Stalled: n(ReasonStalled), Idle: n(ReasonIdle), Local: n(ReasonLocal),
	}
}

// everyone has all connections of the process.
var everyone registry

// A registry finds the handles of connections that are not closed. A slot is used again,
// so it takes no more memory than the most connections that were ever open.
type registry struct {
	counters counters

	mu      sync.Mutex // guards the fields below
	handles []*handle
	free    []registrySlot
}

// A registrySlot is a place in the registry, counted from 1; 0 is none.
type registrySlot uint32

// next fills batch with connections from place i on, and returns how many there are and
// where to go on; -1 is the end.
func (r *registry) next(i int, batch []*Conn) (n, next int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ; i < len(r.handles); i++ {
		if n == len(batch) {
			return n, i
		}
		if h := r.handles[i]; h != nil {
			if c := h.conn.Value(); c != nil {
				batch[n] = c
				n++
			}
		}
	}
	return n, -1
}

// join counts a connection, and makes it one that Conns returns.
func (h *handle) join() {
	r := &everyone
	r.mu.Lock()
	if n := len(r.free); n > 0 {
		h.slot, r.free = r.free[n-1], r.free[:n-1]
		r.handles[h.slot-1] = h
	} else {
		r.handles = append(r.handles, h)
		h.slot = registrySlot(len(r.handles))
	}
	r.mu.Unlock()
	r.counters.open.Add(1)
	r.counters.all.Add(1)
	if g := h.group; g != nil {
		g.counters.open.Add(1)
		g.counters.all.Add(1)
	}
}

// leave is the opposite of join. The second time does nothing.
func (h *handle) leave() {
	r := &everyone
	r.mu.Lock()
	slot := h.slot
	if slot > 0 {
		h.slot = 0
		r.handles[slot-1] = nil
		r.free = append(r.free, slot)
	}
	r.mu.Unlock()
	if slot == 0 {
		return
	}
	r.counters.open.Add(-1)
	if g := h.group; g != nil && g.counters.open.Add(-1) == 0 {
		g.left()
	}
}

// count counts an end by its reason.
func (h *handle) count(e *ending) {
	i := ReasonOf(e.err).index()
	everyone.counters.ended[i].Add(1)
	if g := h.group; g != nil {
		g.counters.ended[i].Add(1)
	}
}
