package livenessdebug

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"time"

	"github.com/go-liveness/liveness"
)

var (
	//go:embed page.css
	style string
	//go:embed page.html
	pageText string

	page      = template.Must(template.New("page").Parse(pageText))
	styleHash = hashOf(style)
)

// hashOf returns what a Content-Security-Policy calls an inline style.
func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// The data of page.html. A link is a relative reference of a query.
type (
	pageData struct {
		Style                           template.CSS
		Refresh                         int
		Pause, JSON, All, More, Problem string // links; empty for none
		Group                           string // the one that is shown; empty for all
		At                              string
		Open, Shown, Matching, Examined string
		Partly                          bool // not all open connections were examined
		NotClosed                       int
		States                          []pageLink
		Columns                         []pageColumn
		Rows                            []pageRow
		Ends                            []pageEnd
		Counters                        []pageCounter
	}
	pageLink struct {
		Text, Count, Link string
		Current           bool
	}
	pageColumn struct {
		Title, Link string
		Kind        kind
		Order       order // empty unless the page is sorted by it
	}
	pageRow struct {
		State, Reason, Error string
		Cells                []pageCell
	}
	pageCell struct {
		Title, Text string
		Kind        kind
	}
	pageEnd struct {
		At, Ago, Reason, Peer, Local, Group, Error, Evidence string
	}
	pageCounter struct {
		Name, Link string
		Cells      []pageCell
	}
)

func writePage(body *bytes.Buffer, v *view) error {
	q, found := v.query, v.found
	d := pageData{
		Style: template.CSS(style), Refresh: q.refresh, Group: q.group,
		At: found.at.UTC().Format("2006-01-02 15:04:05 UTC"), Open: countText(uint64(found.open)),
		Shown: countText(uint64(len(v.rows))), Matching: countText(uint64(v.matching)),
		Examined: countText(uint64(len(found.rows))), Partly: found.open > len(found.rows),
		NotClosed: v.notClosed, Pause: q.with(func(q *query) { q.refresh = 0 }),
		JSON: q.with(func(q *query) { q.format = "json" }),
	}
	if q.refresh == 0 {
		d.Pause = q.with(func(q *query) { q.refresh = defaultRefresh })
	}
	if q.group != "" || q.state != "" {
		d.All = q.with(func(q *query) { q.group, q.state = "", "" })
	}
	if v.matching > len(v.rows) && q.limit < maxLimit {
		d.More = q.with(func(q *query) { q.limit = maxLimit })
	}
	if v.notClosed > 0 {
		d.Problem = q.with(func(q *query) { q.state = liveness.Disconnected.String() })
	}
	d.setTable(v)
	for i := range v.ends {
		d.Ends = append(d.Ends, pageEndOf(&v.ends[i]))
	}
	d.Counters = append(d.Counters, counterOf("all connections", found.totals, ""))
	for _, g := range found.groups {
		link := q.with(func(q *query) { q.group = g.name })
		if g.name == "" {
			g.name, link = "(no name)", ""
		}
		d.Counters = append(d.Counters, counterOf(g.name, g.stats, link))
	}
	return page.Execute(body, &d)
}

// with returns a link to the query, changed.
func (q query) with(change func(*query)) string {
	change(&q)
	return q.String()
}

func (d *pageData) setTable(v *view) {
	for _, state := range states {
		if n := v.states[state]; n > 0 || v.query.state == state {
			d.States = append(d.States, pageLink{state, countText(uint64(n)),
				v.query.with(func(q *query) { q.state = state }), v.query.state == state})
		}
	}
	for i := range columns {
		c := &columns[i]
		column := pageColumn{Title: c.title, Kind: c.kind, Link: v.query.sortedBy(i).String()}
		if v.query.column == i {
			column.Order = v.query.order
		}
		d.Columns = append(d.Columns, column)
	}
	for _, r := range v.rows {
		shown := pageRow{State: r.status.State.String(), Reason: reasonText(&r.status)}
		if r.status.Err != nil {
			shown.Error = r.status.Err.Error()
		}
		for i := range columns[1:] {
			c := &columns[1+i]
			shown.Cells = append(shown.Cells, pageCell{c.title, c.text(r), c.kind})
		}
		d.Rows = append(d.Rows, shown)
	}
}

func pageEndOf(e *end) pageEnd {
	shown := pageEnd{
		At: e.at.UTC().Format("15:04:05.000"), Ago: durationText(time.Since(e.at)),
		Reason: reasonText(&e.status), Peer: e.peer.String(), Local: e.local.String(),
		Group: e.group, Evidence: evidenceText(&e.status),
	}
	if e.status.Err != nil {
		shown.Error = e.status.Err.Error()
	}
	return shown
}

func counterOf(name string, s liveness.Stats, link string) pageCounter {
	cell := func(title string, n uint64) pageCell { return pageCell{title, countText(n), numbers} }
	return pageCounter{name, link, []pageCell{
		cell("Open", uint64(s.Open)), cell("Wrapped", s.Wrapped), cell("Closed", s.Closed),
		cell("Reset", s.Reset), cell("Lost", s.Lost), cell("Stalled", s.Stalled),
		cell("Idle", s.Idle), cell("Local", s.Local),
	}}
}
