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
	name    string
	Title   string
	Kind    kind
	compare func(a, b *row) int // ascending
	text    func(r *row) string
}

// A kind is the class of a column in page.css.
type kind string

const (
	words     kind = "words"
	addresses kind = "words address"
	numbers   kind = "numbers"
)

// first returns the order of a column that was not asked for: the worst, the longest and the
// most come first.
func (c *column) first() order {
	if c.Kind == numbers || c.name == "state" {
		return descending
	}
	return ascending
}

var columns = [...]column{
	{"state", "State", words, func(a, b *row) int { return cmp.Compare(a.status.State, b.status.State) },
		(*row).State},
	{"peer", "Peer", addresses, func(a, b *row) int { return a.Peer.compare(b.Peer) },
		func(r *row) string { return r.Peer.String() }},
	{"local", "Local", addresses, func(a, b *row) int { return a.Local.compare(b.Local) },
		func(r *row) string { return r.Local.String() }},
	{"group", "Group", words, func(a, b *row) int { return cmp.Compare(a.Group, b.Group) },
		func(r *row) string { return r.Group }},
	number("age", "Age", func(st *liveness.Status) time.Duration { return st.Age }, durationText),
	number("silence", "Silence", func(st *liveness.Status) time.Duration { return st.Silence }, durationText),
	number("rtt", "Round trip", func(st *liveness.Status) time.Duration { return st.RTT }, durationText),
	number("unread", "Unread", func(st *liveness.Status) int { return st.Unread }, countText[int]),
	number("unacked", "Unacked", func(st *liveness.Status) int { return st.Unacked }, countText[int]),
	number("retransmits", "Retrans.", func(st *liveness.Status) int { return st.Retransmits }, countText[int]),
	number("probes", "Probes", func(st *liveness.Status) int { return st.Probes }, countText[int]),
	number("detect_within", "Detected within", func(st *liveness.Status) time.Duration { return st.DetectWithin }, durationText),
}

func number[T int | time.Duration](name, title string, of func(*liveness.Status) T, text func(T) string) column {
	return column{name, title, numbers, func(a, b *row) int { return cmp.Compare(of(&a.status), of(&b.status)) },
		func(r *row) string { return text(of(&r.status)) }}
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
			a.Peer.compare(b.Peer),
			a.Local.compare(b.Local))
	})
}
