package liveness

import (
	"context"
	"errors"
	"iter"

	"github.com/go-liveness/liveness/internal/counters"
	"github.com/go-liveness/liveness/internal/watch"
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

	counters counters.Counters
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

// Group returns the [Config.Group] of the connection; nil if it has none.
func (c *Conn) Group() *Group { return c.handle.group }

// Stats returns the counts of the group. It takes no lock and allocates nothing.
func (g *Group) Stats() Stats {
	if g == nil {
		return Stats{}
	}
	return statsOf(&g.counters)
}

// Wait returns when no connection of the group is open, or with the error of ctx. It closes
// none itself.
func (g *Group) Wait(ctx context.Context) error {
	if g == nil {
		return nil
	}
	return g.counters.Wait(ctx)
}

// Close closes all connections of the group, and returns their errors joined.
func (g *Group) Close() error {
	var errs []error
	for c := range g.Conns() {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Conns returns the connections of the whole process that are not closed yet by the local
// side; see [Group.Conns].
func Conns() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		for client := range watch.Clients {
			h, ok := client.(*handle)
			if !ok || !h.has(listed) {
				continue
			}
			if c := h.conn.Value(); c != nil && !yield(c) {
				return
			}
		}
	}
}

// Totals returns the counts of the whole process. It takes no lock and allocates nothing.
func Totals() Stats { return statsOf(&totals) }

func statsOf(k *counters.Counters) Stats {
	n := func(r Reason) uint64 { return k.Ended(r.index()) }
	return Stats{
		Open: k.Open(), Wrapped: k.All(),
		Closed: n(ReasonClosed), Reset: n(ReasonReset), Lost: n(ReasonLost),
		Stalled: n(ReasonStalled), Idle: n(ReasonIdle), Local: n(ReasonLocal),
	}
}

// totals counts the connections of the process.
var totals counters.Counters
