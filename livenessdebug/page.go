package livenessdebug

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"strings"
	"time"

	"github.com/go-liveness/liveness"
)

var (
	//go:embed page.css
	style string
	//go:embed page.html
	pageText string

	page = template.Must(template.New("page").Funcs(template.FuncMap{
		"count": countText[any],
		"ago":   func(t time.Time) string { return durationText(time.Since(t)) },
		"utc":   func(t time.Time, layout string) string { return t.UTC().Format(layout) },
		"style": func() template.CSS { return template.CSS(style) },

		"columns": func() []column { return columns[:] },
		"states":  func() []string { return states },
	}).Parse(pageText))

	styleHash = hashOf(style)
)

// hashOf returns what a Content-Security-Policy calls an inline style.
func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// writePage executes page.html, which uses the methods of view, query, row and column below.
func writePage(body *bytes.Buffer, v *view) error { return page.Execute(body, v) }

func (q query) WithRefresh(seconds int) string  { q.Refresh = seconds; return q.String() }
func (q query) WithFormat(format string) string { q.format = format; return q.String() }
func (q query) WithLimit(limit int) string      { q.limit = limit; return q.String() }
func (q query) WithGroup(name string) string    { q.Group = name; return q.String() }
func (q query) WithState(state string) string   { q.State = state; return q.String() }
func (q query) Unfiltered() string              { q.Group, q.State = "", ""; return q.String() }

// WithSort returns the link of a column. A second click turns the order around.
func (q query) WithSort(column int) string {
	first := columns[column].first()
	switch {
	case q.column != column || q.order != first:
		q.order = first
	case first == ascending:
		q.order = descending
	default:
		q.order = ascending
	}
	q.column = column
	return q.String()
}

// OrderOf returns the order of a column, empty unless the page is sorted by it.
func (q query) OrderOf(column int) order {
	if q.column == column {
		return q.order
	}
	return ""
}

// CanShowMore reports whether another limit would show more.
func (v *view) CanShowMore() bool { return v.Matching > len(v.Rows) && v.Query.limit < maxLimit }

func (r *row) State() string    { return r.status.State.String() }
func (r *row) Reason() string   { return string(liveness.ReasonOf(r.status.Err)) }
func (r *row) Evidence() string { return evidenceText(&r.status) }

// Error returns the text of the end, empty while there is none.
func (r *row) Error() string {
	if r.status.Err == nil {
		return ""
	}
	return r.status.Err.Error()
}

// Cells returns the cells of all columns but the first. A template would take a millisecond
// for six rows.
func (r *row) Cells() template.HTML {
	var b strings.Builder
	for i := range columns[1:] {
		c := &columns[1+i]
		text, class := c.text(r), string(c.Kind)
		if text == "" {
			class += " none"
		}
		b.WriteString(`<td class="` + class + `" data-title="` + c.Title + `">`)
		template.HTMLEscape(&b, []byte(text))
		b.WriteString("</td>")
	}
	return template.HTML(b.String())
}
