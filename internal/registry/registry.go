// Package registry counts members and finds them again.
package registry

import "sync"

// A Registry finds its members. A slot is used again, so a Registry takes no more memory
// than for the most members that it ever had at once. The zero value is ready for use, and
// multiple goroutines may use it simultaneously.
type Registry[M any] struct {
	mu      sync.Mutex // guards the fields below, and the Slots of members
	members []*M
	free    []Slot
}

// A Slot is the place of a member, counted from 1; 0 is none. It belongs in the member.
type Slot uint32

// Join makes m a member, with its slot.
func (r *Registry[M]) Join(m *M, slot *Slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.free); n > 0 {
		*slot, r.free = r.free[n-1], r.free[:n-1]
		r.members[*slot-1] = m
		return
	}
	r.members = append(r.members, m)
	*slot = Slot(len(r.members))
}

// Leave is the opposite of Join. It reports false if slot has left already.
func (r *Registry[M]) Leave(slot *Slot) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *slot == 0 {
		return false
	}
	r.members[*slot-1] = nil
	r.free = append(r.free, *slot)
	*slot = 0
	return true
}

// All yields the members. No lock is held meanwhile; one that joins or leaves meanwhile may
// be missed or yielded.
func (r *Registry[M]) All(yield func(*M) bool) {
	var batch [64]*M
	for i := 0; i >= 0; {
		var n int
		n, i = r.next(i, batch[:])
		for _, m := range batch[:n] {
			if !yield(m) {
				return
			}
		}
	}
}

// next fills batch with members from place i on. It returns how many there are and where
// to go on; -1 is the end.
func (r *Registry[M]) next(i int, batch []*M) (n, next int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ; i < len(r.members); i++ {
		if n == len(batch) {
			return n, i
		}
		if m := r.members[i]; m != nil {
			batch[n] = m
			n++
		}
	}
	return n, -1
}
