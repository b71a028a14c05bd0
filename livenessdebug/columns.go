package livenessdebug

import (
	"cmp"
	"slices"
	"time"

	"github.com/go-liveness/liveness"
)

// A column is one of the table, and a value of the parameter sort. The table shows the first
// one, the state, with the reason beside it.
type column struct {
	name, title string
	kind        kind
	compare     func(a, b *row) int // ascending
	text        func(r *row) string
}

// A kind says how a column is aligned and which order comes first.
type kind string

const (
	words   kind = "words"
	numbers kind = "numbers"
)

func (c *column) first() order {
	if c.kind == words && c.name != "state" {
		return ascending
	}
	return descending
}

var columns = [...]column{
	{"state", "State", words, func(a, b *row) int { return cmp.Compare(a.status.State, b.status.State) },
		func(r *row) string { return r.status.State.String() }},
	{"peer", "Peer", words, func(a, b *row) int { return a.peer.compare(b.peer) },
		func(r *row) string { return r.peer.String() }},
	{"local", "Local", words, func(a, b *row) int { return a.local.compare(b.local) },
		func(r *row) string { return r.local.String() }},
	{"group", "Group", words, func(a, b *row) int { return cmp.Compare(a.group, b.group) },
		func(r *row) string { return r.group }},
	durations("age", "Age", func(st *liveness.Status) time.Duration { return st.Age }),
	durations("silence", "Silence", func(st *liveness.Status) time.Duration { return st.Silence }),
	durations("rtt", "Round trip", func(st *liveness.Status) time.Duration { return st.RTT }),
	counts("unread", "Unread", func(st *liveness.Status) int { return st.Unread }),
	counts("unacked", "Unacked", func(st *liveness.Status) int { return st.Unacked }),
	counts("retransmits", "Retrans.", func(st *liveness.Status) int { return st.Retransmits }),
	counts("probes", "Probes", func(st *liveness.Status) int { return st.Probes }),
	durations("detect_within", "Detected within", func(st *liveness.Status) time.Duration { return st.DetectWithin }),
}

func durations(name, title string, of func(*liveness.Status) time.Duration) column {
	return column{name, title, numbers, func(a, b *row) int { return cmp.Compare(of(&a.status), of(&b.status)) },
		func(r *row) string { return durationText(of(&r.status)) }}
}

func counts(name, title string, of func(*liveness.Status) int) column {
	return column{name, title, numbers, func(a, b *row) int { return cmp.Compare(of(&a.status), of(&b.status)) },
		func(r *row) string { return countText(uint64(of(&r.status))) }}
}

// columnOf returns the index of a column; -1 if there is none with that name.
func columnOf(name string) int {
	return slices.IndexFunc(columns[:], func(c column) bool { return c.name == name })
}

// sortRows sorts by a column, and what is equal there by state, silence and address.
func sortRows(rows []*row, q query) {
	by := columns[q.column].compare
	slices.SortFunc(rows, func(a, b *row) int {
		c := by(a, b)
		if q.order == descending {
			c = -c
		}
		return cmp.Or(c,
			cmp.Compare(b.status.State, a.status.State),
			cmp.Compare(b.status.Silence, a.status.Silence),
			a.peer.compare(b.peer),
			a.local.compare(b.local))
	})
}
