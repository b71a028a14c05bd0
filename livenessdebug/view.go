package livenessdebug

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/recent"
)

// A view is what a query asks for, of a collection.
type view struct {
	Query     query
	Found     *collection
	Count     map[string]int // how many connections are in a state, whatever state is asked for
	Rows      []*row         // what is shown
	Matching  int
	NotClosed int
	Ends      []end
}

// An end is how a connection ended, and when.
type end struct {
	At time.Time
	row
}

func newView(q query, found *collection) *view {
	v := &view{Query: q, Found: found, Count: make(map[string]int)}
	for i := range found.Rows {
		r := &found.Rows[i]
		if q.Group != "" && r.Group != q.Group {
			continue
		}
		v.Count[r.State()]++
		if q.State != "" && r.State() != q.State {
			continue
		}
		v.Rows = append(v.Rows, r)
		if r.status.State == liveness.Disconnected {
			v.NotClosed++
		}
	}
	v.Matching = len(v.Rows)
	sortRows(v.Rows, q)
	v.Rows = v.Rows[:min(len(v.Rows), q.limit)]
	for _, e := range recent.Ends() {
		if (q.Group == "" || e.Group == q.Group) && len(v.Ends) < q.limit {
			status, _ := e.Status.(liveness.Status)
			status.Err = e.Err
			r := row{Group: e.Group, status: status}
			r.setAddresses(e.Local, e.Peer)
			v.Ends = append(v.Ends, end{e.At, r})
		}
	}
	return v
}

// The objects of the JSON; the package documentation has their fields.
type (
	jsonAnswer struct {
		Time        time.Time        `json:"time"`
		Open        int              `json:"open"`
		Examined    int              `json:"examined"`
		Matching    int              `json:"matching"`
		NotClosed   int              `json:"not_closed"`
		Totals      stats            `json:"totals"`
		Groups      []group          `json:"groups"`
		Connections []jsonConnection `json:"connections"`
		Ends        []jsonConnection `json:"ends"`
	}
	stats struct { // a liveness.Stats
		Open    int    `json:"open"`
		Wrapped uint64 `json:"wrapped"`
		Closed  uint64 `json:"closed"`
		Reset   uint64 `json:"reset"`
		Lost    uint64 `json:"lost"`
		Stalled uint64 `json:"stalled"`
		Idle    uint64 `json:"idle"`
		Local   uint64 `json:"local"`
	}
	group struct {
		Name string `json:"name"`
		stats
	}
	jsonConnection struct {
		Time    time.Time       `json:"time,omitzero"`
		Network string          `json:"network"`
		Peer    string          `json:"peer"`
		Local   string          `json:"local"`
		Group   string          `json:"group"`
		Status  liveness.Status `json:"status"`
	}
)

func writeJSON(body *bytes.Buffer, v *view) error {
	answer := jsonAnswer{
		Time: v.Found.At.UTC(), Open: v.Found.Open, Examined: len(v.Found.Rows),
		Matching: v.Matching, NotClosed: v.NotClosed, Totals: v.Found.Totals,
		Groups: v.Found.Groups, Connections: []jsonConnection{}, Ends: []jsonConnection{},
	}
	for _, r := range v.Rows {
		answer.Connections = append(answer.Connections, r.json(time.Time{}))
	}
	for i := range v.Ends {
		answer.Ends = append(answer.Ends, v.Ends[i].json(v.Ends[i].At.UTC()))
	}
	return json.NewEncoder(body).Encode(answer)
}

func (r *row) json(at time.Time) jsonConnection {
	return jsonConnection{at, r.network, r.Peer.String(), r.Local.String(), r.Group, r.status}
}
