// Package counters counts connections and their ends.
package counters

import "sync/atomic"

// Counters count connections. Their methods take no lock. The zero value is ready for use.
type Counters struct {
	open  atomic.Int64
	all   atomic.Uint64
	ended [8]atomic.Uint64 // by the index of a reason
}

// Join counts a connection.
func (k *Counters) Join() {
	k.open.Add(1)
	k.all.Add(1)
}

// Leave returns how many connections are left.
func (k *Counters) Leave() int { return int(k.open.Add(-1)) }

// End counts an end for the reason with that index.
func (k *Counters) End(reason int) { k.ended[reason].Add(1) }

// Open is how many connections have not left.
func (k *Counters) Open() int { return int(k.open.Load()) }

// All is how many have ever joined.
func (k *Counters) All() uint64 { return k.all.Load() }

// Ended is how many have ended for the reason with that index.
func (k *Counters) Ended(reason int) uint64 { return k.ended[reason].Load() }
