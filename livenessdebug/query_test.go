package livenessdebug

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness"
)

func TestQueryHasDefaultsAndLimits(t *testing.T) {
	q, err := parseQuery("")
	require.NoError(t, err)
	assert.Equal(t, query{order: descending, limit: 500, Refresh: 5}, q)
	assert.Equal(t, "?", q.String())

	q, err = parseQuery("sort=peer&group=a%26b&state=suspect&limit=1000000&refresh=0&format=json&other=1")
	require.NoError(t, err)
	assert.Equal(t, query{1, ascending, "a&b", "suspect", 10_000, 0, "json"}, q)

	for _, raw := range []string{
		"sort=color", "order=up", "state=fine", "format=xml", "limit=0", "limit=-1", "limit=x", "limit=99999999999999999999",
		"refresh=-1", "a;b", "group=%zz",
	} {
		_, err := parseQuery(raw)
		assert.Error(t, err, raw)
	}
}

func TestSecondClickOnAColumnTurnsTheOrderAround(t *testing.T) {
	for _, c := range []struct{ raw, column, link string }{
		{"sort=silence&group=g", "silence", "?group=g&order=asc&sort=silence"},
		{"sort=silence&order=asc", "silence", "?sort=silence"},
		{"sort=silence&order=asc", "peer", "?sort=peer"},
		{"sort=peer", "peer", "?order=desc&sort=peer"},
		{"sort=peer", "state", "?"},
	} {
		q, _ := parseQuery(c.raw)
		assert.Equal(t, c.link, q.WithSort(columnOf(c.column)), c.raw)
	}
}

func TestAcceptDecidesTheFormatUnlessTheQueryDoes(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "application/json": true, "Application/JSON; q=0.9, */*": true, "application/json, text/html": true,
		"text/html,application/xhtml+xml,application/json;q=0.9": false,
	} {
		header := http.Header{"Accept": {accept}}
		assert.Equal(t, want, query{}.wantsJSON(header), accept)
		assert.True(t, query{format: "json"}.wantsJSON(header))
		assert.False(t, query{format: "html"}.wantsJSON(header))
	}
}

func TestEveryColumnSortsInBothOrders(t *testing.T) {
	var rows []*row // in the order of every column, ascending
	for i, peer := range []string{"10.0.0.9:80", "10.0.0.10:9", "10.0.0.10:80", "[2001:db8::1]:1"} {
		n, d, s := i*7, time.Duration(i)*time.Second, string(rune('a'+i))
		rows = append(rows, &row{
			Peer: address{ip: netip.MustParseAddrPort(peer)}, Local: address{text: s}, Group: s,
			status: liveness.Status{
				State: liveness.State(i + 2), Age: d, Silence: d, RTT: d, DetectWithin: d,
				Unread: n, Unacked: n, Retransmits: n, Probes: n,
			},
		})
	}
	for i := range columns {
		for _, order := range []order{ascending, descending} {
			want := slices.Clone(rows)
			if order == descending {
				slices.Reverse(want)
			}
			got := []*row{rows[2], rows[0], rows[3], rows[1]}
			sortRows(got, query{column: i, order: order})
			assert.Equal(t, want, got, "%s %s", columns[i].name, order)
		}
	}
}

func TestTheWorstComesFirstByDefault(t *testing.T) {
	var rows []*row
	for i, state := range []liveness.State{0, 1, 1, 2, 3, 4, 5} {
		rows = append(rows, &row{status: liveness.Status{State: state, Silence: time.Duration(i)}})
	}
	q, err := parseQuery("")
	require.NoError(t, err)
	sortRows(rows, q)
	var got []string
	for _, r := range rows {
		got = append(got, r.State())
	}
	assert.Equal(t, strings.Fields("disconnected suspect stalled half-closed connected connected unknown"), got)
	assert.Greater(t, rows[4].status.Silence, rows[5].status.Silence)
}

func TestEvidenceIsInWords(t *testing.T) {
	st := liveness.Status{Unread: 1, Unacked: 1234567, Retransmits: 2, Probes: 1, Received: 10, RTT: 1500 * time.Microsecond}
	assert.Equal(t, "1 byte unread, 10 bytes received, round trip 1 ms", evidenceText(&st))
	st.Err = liveness.ErrPeerClosed
	assert.Equal(t, "2 retransmissions unanswered, 1 probe unanswered, 1\u202f234\u202f567 bytes unacknowledged, "+
		"1 byte unread, 10 bytes received, round trip 1 ms", evidenceText(&st))
	for d, want := range map[time.Duration]string{
		0: "", 1: "1 µs", 999 * time.Microsecond: "999 µs", 999 * time.Millisecond: "999 ms", 9990 * time.Millisecond: "9.9 s",
		119 * time.Second: "119 s", 150 * time.Second: "2 min 30 s", 3*time.Hour + 5*time.Minute: "3 h 5 min", 49 * time.Hour: "2 d 1 h",
	} {
		assert.Equal(t, want, durationText(d), d)
	}
}

// FuzzQuery checks that what is accepted is within its limits, and that the links of the page
// ask for the same and lead nowhere else.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "sort=silence&order=desc", "group=%3Cscript%3E&state=stalled", "limit=10001&refresh=9999999", "a;b", "limit=%30", "group=a&group=b",
		"format=json", "sort=&order=&limit=&refresh=", "order=asc", "group=%ff%00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil {
			return
		}
		if q.limit < 1 || q.limit > maxLimit || q.Refresh < 0 || q.Refresh > maxRefresh || q.column < 0 || q.column >= len(columns) {
			t.Fatalf("%q: out of limits: %+v", raw, q)
		}
		links := []string{q.String(), q.WithSort(0), q.WithGroup("g"), q.WithState("stalled"), q.Unfiltered()}
		for _, link := range links {
			if link[0] != '?' || strings.ContainsAny(link, "#<>\"' \n") {
				t.Fatalf("%q: link %q", raw, link)
			}
		}
		again, err := parseQuery(q.String()[1:])
		if err != nil || again != q {
			t.Fatalf("%q: %+v became %+v, %v", raw, q, again, err)
		}
	})
}
