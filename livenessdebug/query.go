package livenessdebug

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-liveness/liveness"
)

const (
	defaultLimit   = 500
	maxLimit       = 10_000
	defaultRefresh = 5 // seconds
	maxRefresh     = 3600
)

// A query is what the parameters of a request ask for.
type query struct {
	column  int // index of columns
	order   order
	Group   string // empty for all
	State   string // empty for all
	limit   int
	Refresh int // seconds; 0 for never
	format  string
}

type order string

const (
	ascending  order = "asc"
	descending order = "desc"
)

// states are the words of state, the gravest first.
var states = []string{
	liveness.Disconnected.String(), liveness.Suspect.String(), liveness.Stalled.String(),
	liveness.HalfClosed.String(), liveness.Connected.String(), liveness.Unknown.String(),
}

// parseQuery returns an error for a value that makes no sense, and ignores parameters that it
// does not know. The error does not repeat the value.
func parseQuery(raw string) (q query, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, fmt.Errorf("the query cannot be parsed")
	}
	q.Group, q.State, q.format = values.Get("group"), values.Get("state"), values.Get("format")
	if name := values.Get("sort"); name != "" {
		if q.column = columnOf(name); q.column < 0 {
			return q, fmt.Errorf("sort is not a column")
		}
	}
	if q.order = order(values.Get("order")); q.order == "" {
		q.order = columns[q.column].first()
	}
	if q.limit, err = numberOf(values, "limit", defaultLimit, 1, maxLimit); err != nil {
		return q, err
	}
	if q.Refresh, err = numberOf(values, "refresh", defaultRefresh, 0, maxRefresh); err != nil {
		return q, err
	}
	switch {
	case q.order != ascending && q.order != descending:
		return q, fmt.Errorf("order is neither asc nor desc")
	case q.State != "" && !slices.Contains(states, q.State):
		return q, fmt.Errorf("state is none of %s", strings.Join(states, ", "))
	case q.format != "" && q.format != "json" && q.format != "html":
		return q, fmt.Errorf("format is neither json nor html")
	}
	return q, nil
}

// numberOf returns a parameter that is at least least, and takes more than most for most.
func numberOf(values url.Values, name string, otherwise, least, most int) (int, error) {
	s := values.Get(name)
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least {
		return 0, fmt.Errorf("%s is not a number from %d on", name, least)
	}
	return min(n, most), nil
}

// String returns the parameters as a relative reference, which works wherever the page is.
func (q query) String() string {
	values := url.Values{}
	set := func(name, value, otherwise string) {
		if value != otherwise {
			values.Set(name, value)
		}
	}
	column := &columns[q.column]
	set("sort", column.name, columns[0].name)
	set("order", string(q.order), string(column.first()))
	set("group", q.Group, "")
	set("state", q.State, "")
	set("limit", strconv.Itoa(q.limit), strconv.Itoa(defaultLimit))
	set("refresh", strconv.Itoa(q.Refresh), strconv.Itoa(defaultRefresh))
	set("format", q.format, "")
	return "?" + values.Encode()
}

// wantsJSON reports whether the answer is JSON. Browsers name text/html first.
func (q query) wantsJSON(header http.Header) bool {
	if q.format != "" {
		return q.format == "json"
	}
	for field := range strings.SplitSeq(strings.Join(header.Values("Accept"), ","), ",") {
		kind, _, _ := strings.Cut(field, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "application/json":
			return true
		case "text/html":
			return false
		}
	}
	return false
}
