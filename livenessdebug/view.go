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
	query     query
	found     *collection
	states    map[string]int // how many are in a state, in any state asked for
	rows      []*row         // what is shown
	matching  int
	notClosed int
	ends      []end
}

// An end is how a connection ended.
type end struct {
	at time.Time
	row
}

func newView(q query, found *collection) *view {
	v := &view{query: q, found: found, states: make(map[string]int)}
	for i := range found.rows {
		r := &found.rows[i]
		if q.group != "" && r.group != q.group {
			continue
		}
		state := r.status.State.String()
		v.states[state]++
		if q.state != "" && state != q.state {
			continue
		}
		v.rows = append(v.rows, r)
		if r.status.State == liveness.Disconnected {
			v.notClosed++
		}
	}
	v.matching = len(v.rows)
	sortRows(v.rows, q)
	v.rows = v.rows[:min(len(v.rows), q.limit)]
	for _, e := range recent.Ends() {
		if (q.group == "" || e.Group == q.group) && len(v.ends) < q.limit {
			v.ends = append(v.ends, endOf(e))
		}
	}
	return v
}

func endOf(e recent.End) end {
	status, _ := e.Status.(liveness.Status)
	status.Err = e.Err
	r := row{group: e.Group, status: status}
	r.setAddresses(e.Local, e.Peer)
	return end{at: e.At, row: r}
}

// The objects of the JSON; the package documentation has their fields.
type (
	jsonAnswer struct {
		Time        time.Time        `json:"time"`
		Open        int              `json:"open"`
		Examined    int              `json:"examined"`
		Matching    int              `json:"matching"`
		NotClosed   int              `json:"not_closed"`
		Totals      jsonStats        `json:"totals"`
		Groups      []jsonGroup      `json:"groups"`
		Connections []jsonConnection `json:"connections"`
		Ends        []jsonEnd        `json:"ends"`
	}
	jsonStats struct {
		Open    int    `json:"open"`
		Wrapped uint64 `json:"wrapped"`
		Closed  uint64 `json:"closed"`
		Reset   uint64 `json:"reset"`
		Lost    uint64 `json:"lost"`
		Stalled uint64 `json:"stalled"`
		Idle    uint64 `json:"idle"`
		Local   uint64 `json:"local"`
	}
	jsonGroup struct {
		Name string `json:"name"`
		jsonStats
	}
	jsonConnection struct {
		Network string          `json:"network"`
		Peer    string          `json:"peer"`
		Local   string          `json:"local"`
		Group   string          `json:"group"`
		Status  liveness.Status `json:"status"`
	}
	jsonEnd struct {
		Time time.Time `json:"time"`
		jsonConnection
	}
)

func jsonOf(r *row) jsonConnection {
	return jsonConnection{r.network, r.peer.String(), r.local.String(), r.group, r.status}
}

func writeJSON(body *bytes.Buffer, v *view) error {
	answer := jsonAnswer{
		Time: v.found.at.UTC(), Open: v.found.open, Examined: len(v.found.rows),
		Matching: v.matching, NotClosed: v.notClosed, Totals: jsonStats(v.found.totals),
		Groups: []jsonGroup{}, Connections: []jsonConnection{}, Ends: []jsonEnd{},
	}
	for _, g := range v.found.groups {
		answer.Groups = append(answer.Groups, jsonGroup{g.name, jsonStats(g.stats)})
	}
	for _, r := range v.rows {
		answer.Connections = append(answer.Connections, jsonOf(r))
	}
	for i := range v.ends {
		answer.Ends = append(answer.Ends, jsonEnd{v.ends[i].at.UTC(), jsonOf(&v.ends[i].row)})
	}
	return json.NewEncoder(body).Encode(answer)
}
