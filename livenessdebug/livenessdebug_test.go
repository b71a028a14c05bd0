package livenessdebug_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/recent"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenessdebug"
)

func TestMain(m *testing.M) {
	if recent.Started() {
		fmt.Println("the import alone keeps ends")
		os.Exit(1)
	}
	testutil.MostlyWait(8)
	os.Exit(m.Run())
}

// get asks a handler as a local client does.
func get(h http.Handler, query string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "http://localhost/"+query, nil)
	r.RemoteAddr = "127.0.0.1:1234"
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// An answer is what tests need of the JSON.
type answer struct {
	Time              time.Time
	Matching          int
	Connections, Ends []connection
}

type connection struct {
	Time                        time.Time
	Network, Peer, Local, Group string
	Status                      map[string]any
}

func getJSON(t *testing.T, h http.Handler, query string) (a answer) {
	w := get(h, "?format=json"+query)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
	return a
}

// pipes wraps n connections without a socket.
func pipes(t *testing.T, n int, cfg *liveness.Config) (conns []*liveness.Conn, peers []net.Conn) {
	for range n {
		near, far := net.Pipe()
		conn, err := liveness.Wrap(near, cfg)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(); _ = far.Close() })
		conns, peers = append(conns, conn), append(peers, far)
	}
	return conns, peers
}

func TestEveryAnswerIsLockedDown(t *testing.T) {
	h := livenessdebug.Handler(nil)
	style, _, _ := strings.Cut(strings.SplitAfter(get(h, "").Body.String(), "<style>")[1], "</style>")
	hash := sha256.Sum256([]byte(style))
	csp := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
		"'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	for name, c := range map[string]struct {
		code   int
		change func(*http.Request)
	}{
		"page":         {200, func(*http.Request) {}},
		"head":         {200, func(r *http.Request) { r.Method = "HEAD" }},
		"post":         {405, func(r *http.Request) { r.Method = "POST" }},
		"options":      {405, func(r *http.Request) { r.Method = "OPTIONS" }},
		"remote":       {403, func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1" }},
		"rebound":      {403, func(r *http.Request) { r.Host = "attack.example" }},
		"elsewhere":    {404, func(r *http.Request) { r.URL.Path = "/favicon.ico" }},
		"bad query":    {400, func(r *http.Request) { r.URL.RawQuery = "limit=<script>" }},
		"JSON":         {200, func(r *http.Request) { r.Header.Set("Accept", "application/json") }},
		"post, remote": {403, func(r *http.Request) { r.Method = "POST"; r.RemoteAddr = "192.0.2.1:1" }},
	} {
		w := get(h, "", c.change)
		assert.Equal(t, c.code, w.Code, name)
		for header, want := range map[string]string{
			"Content-Security-Policy": csp, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		} {
			assert.Equal(t, want, w.Header().Get(header), name)
		}
		assert.Equal(t, c.code == 405, w.Header().Get("Allow") == "GET, HEAD", name)
		assert.Equal(t, name == "JSON", w.Header().Get("Content-Type") == "application/json", name)
		assert.Equal(t, name == "head", w.Body.Len() == 0, name)
		assert.NotContains(t, w.Body.String(), "<script", name)
	}
	allowing := livenessdebug.Handler(&livenessdebug.Options{Allow: func(r *http.Request) bool { return r.Host == "attack.example" }})
	assert.Equal(t, http.StatusForbidden, get(allowing, "").Code)
	assert.Equal(t, http.StatusOK, get(allowing, "", func(r *http.Request) { r.RemoteAddr, r.Host = "@", "attack.example" }).Code)
}

func TestThePageLoadsNothingAndLinksOnlyToItself(t *testing.T) {
	pipes(t, 3, &liveness.Config{Group: &liveness.Group{Name: "web"}})
	body := get(livenessdebug.Handler(nil), "?limit=2&group=web").Body.String()
	links := regexp.MustCompile(`(href|src|action|style| on[a-z]+|url|@import)\s*[=(]\s*"?([^"]*)"`).FindAllStringSubmatch(body, -1)
	assert.Greater(t, len(links), 15)
	for _, m := range links {
		assert.True(t, m[1] == "href" && strings.HasPrefix(m[2], "?"), m[0])
	}
	assert.Contains(t, body, `<meta http-equiv="refresh" content="5">`)
	assert.NotContains(t, get(livenessdebug.Handler(nil), "?refresh=0").Body.String(), "http-equiv")
}

func TestHostileNamesAreEscaped(t *testing.T) {
	const hostile = `"><script>alert(1)</script>'&`
	group := &liveness.Group{Name: hostile}
	path := filepath.Join(t.TempDir(), `<img src=x onerror='alert(1)'>`)
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Skip("no Unix socket with such a name: ", err)
	}
	defer listener.Close()
	bare, err := net.Dial("unix", path)
	require.NoError(t, err)
	conn, err := liveness.Wrap(bare, &liveness.Config{Group: group})
	require.NoError(t, err)
	pipes(t, 1, &liveness.Config{Group: group})
	h := livenessdebug.Handler(nil)

	body := get(h, "?group="+url.QueryEscape(hostile)).Body.String()
	assert.Contains(t, body, "2 of 2")
	assert.NotContains(t, body, "<script")
	assert.NotContains(t, body, "<img")
	assert.Contains(t, body, "&lt;img src=x")
	require.NoError(t, conn.Close())
	assert.NotContains(t, get(livenessdebug.Handler(nil), "").Body.String(), "<img") // among the ends
	assert.Equal(t, path, getJSON(t, livenessdebug.Handler(nil), "").Ends[0].Peer)
}

func TestTenThousandConnectionsAreLimited(t *testing.T) {
	pipes(t, 12_345, &liveness.Config{Group: &liveness.Group{Name: "many"}})
	h := livenessdebug.Handler(nil)
	body := get(h, "?group=many").Body.String()
	assert.Contains(t, body, "500 of 12\u202f345")
	assert.Equal(t, 500, strings.Count(body, `<tr class="`))
	a := getJSON(t, h, "&group=many&limit=1000000")
	assert.Len(t, a.Connections, 10_000)
	assert.Equal(t, 12_345, a.Matching)
	assert.Empty(t, getJSON(t, h, "&group=none").Connections)
}

func TestJSONHasTheDocumentedFields(t *testing.T) {
	empty := &liveness.Group{Name: "empty"}
	h := livenessdebug.Handler(&livenessdebug.Options{Groups: []*liveness.Group{empty, nil}})
	group := &liveness.Group{Name: "fields"}
	conns, _ := pipes(t, 2, &liveness.Config{Group: group})
	require.NoError(t, conns[0].Close())

	var raw map[string]any
	require.NoError(t, json.Unmarshal(get(h, "?format=json&group=fields").Body.Bytes(), &raw))
	assert.ElementsMatch(t, strings.Fields("time open examined matching not_closed totals groups connections ends"), keys(raw))
	stats := strings.Fields("open wrapped closed reset lost stalled idle local")
	assert.ElementsMatch(t, stats, keys(raw["totals"]))
	groups := raw["groups"].([]any)
	assert.ElementsMatch(t, append(stats, "name"), keys(groups[0]))
	assert.Equal(t, "empty", groups[0].(map[string]any)["name"])
	live, ended := raw["connections"].([]any)[0], raw["ends"].([]any)[0]
	assert.ElementsMatch(t, strings.Fields("network peer local group status"), keys(live))
	assert.ElementsMatch(t, strings.Fields("time network peer local group status"), keys(ended))
	fields := strings.Fields(`state age_seconds silence_seconds rtt_seconds received_bytes acked_bytes unread_bytes unacked_bytes
		retransmits probes detect_within_seconds`)
	assert.ElementsMatch(t, fields, keys(live.(map[string]any)["status"]))
	assert.ElementsMatch(t, append(fields, "reason", "error"), keys(ended.(map[string]any)["status"]))
	assert.Equal(t, "local", ended.(map[string]any)["status"].(map[string]any)["reason"])
}

func keys(object any) []string { return slices.Collect(maps.Keys(object.(map[string]any))) }

// A foreign connection is not package net's, and its methods may block.
type foreign struct {
	net.Conn
	asked   atomic.Int64  // calls of Control
	blocked chan struct{} // Control waits for it, unless it is nil
}

func (f *foreign) RemoteAddr() net.Addr { panic("asked for its address") }
func (f *foreign) LocalAddr() net.Addr  { panic("asked for its address") }
func (f *foreign) NetConn() net.Conn    { return nil }

func (f *foreign) SyscallConn() (syscall.RawConn, error) {
	raw, err := f.Conn.(syscall.Conn).SyscallConn()
	return foreignRaw{raw, f}, err
}

type foreignRaw struct {
	syscall.RawConn
	f *foreign
}

func (r foreignRaw) Control(f func(uintptr)) error {
	r.f.asked.Add(1)
	if r.f.blocked != nil {
		<-r.f.blocked
	}
	return r.RawConn.Control(f)
}

func wrapForeign(t *testing.T, name string) (*foreign, *liveness.Conn) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	bare, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	f := &foreign{Conn: bare}
	conn, err := liveness.Wrap(f, &liveness.Config{Group: &liveness.Group{Name: name}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return f, conn
}

func TestRequestsAtTheSameTimeShareTheSystemCalls(t *testing.T) {
	f, _ := wrapForeign(t, "shared")
	h := livenessdebug.Handler(nil)
	before := f.asked.Load()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() { get(h, fmt.Sprintf("?group=shared&limit=%d", 1+i)) })
	}
	all.Wait()
	asked := f.asked.Load() - before
	assert.Positive(t, asked)
	assert.Less(t, asked, int64(50)) // also where the hub makes checks of its own
}

func TestACollectionIsForgottenAfterASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := livenessdebug.Handler(nil)
		first := getJSON(t, h, "").Time
		time.Sleep(999 * time.Millisecond)
		assert.Equal(t, first, getJSON(t, h, "").Time)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		assert.Equal(t, first.Add(time.Second), getJSON(t, h, "").Time)
		time.Sleep(time.Minute)
	})
}

func TestAConnectionThatBlocksDelaysNobody(t *testing.T) {
	t.Parallel()
	if !testutil.Alone(t) { // every request asks about every connection of the process
		return
	}
	f, _ := wrapForeign(t, "blocks")
	f.blocked = make(chan struct{})
	defer close(f.blocked)
	pipes(t, 1, &liveness.Config{Group: &liveness.Group{Name: "other"}})
	h := livenessdebug.Handler(nil)
	first := getJSON(t, h, "&group=other")
	assert.Len(t, first.Connections, 1)
	assert.Equal(t, "unknown", getJSON(t, h, "&group=blocks").Connections[0].Status["state"])
	asked := f.asked.Load()
	for range 2 {
		require.Eventually(t, func() bool { return getJSON(t, h, "").Time.After(first.Time) }, time.Minute, 50*time.Millisecond)
		first = getJSON(t, h, "")
	}
	assert.LessOrEqual(t, f.asked.Load(), asked+1) // the hub's; no second goroutine of the handler waits for it
}

func TestEndsTellWhatIsSafeAndKeepNoConn(t *testing.T) {
	h := livenessdebug.Handler(nil)
	_, conn := wrapForeign(t, "foreign end")
	require.NoError(t, conn.Close())
	end := getJSON(t, h, "&group=foreign+end").Ends[0]
	assert.Equal(t, connection{Time: end.Time, Group: "foreign end", Status: end.Status}, end)
	assert.Equal(t, "local", end.Status["reason"])
	assert.WithinDuration(t, time.Now(), end.Time, time.Minute)

	inner := new(failing)
	kept, err := liveness.Wrap(inner, &liveness.Config{Group: &liveness.Group{Name: "forgotten"}})
	require.NoError(t, err)
	_, _ = kept.Read(make([]byte, 1))
	require.Error(t, kept.Err())
	forgotten := weak.Make(inner)
	inner, kept = nil, nil
	require.Eventually(t, func() bool { runtime.GC(); return forgotten.Value() == nil }, time.Minute, time.Millisecond)
	end = getJSON(t, h, "&group=forgotten").Ends[0]
	assert.Equal(t, "peer reset the connection", end.Status["error"]) // without what the application said
}

// failing is a connection whose Read fails with an error that leads to the connection.
type failing struct {
	net.Conn
	_ [64]byte
}

func (f *failing) Read([]byte) (int, error) { return 0, failure{f} }

type failure struct{ *failing }

func (failure) Error() string { return "failure" }

func TestOnlyTheLastHundredEndsAreShown(t *testing.T) {
	h := livenessdebug.Handler(nil)
	conns, peers := pipes(t, 150, &liveness.Config{Group: &liveness.Group{Name: "ends"}})
	for i, conn := range conns {
		require.NoError(t, peers[i].Close())
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err)
	}
	a := getJSON(t, h, "&group=ends")
	assert.Len(t, a.Ends, 100)
	assert.Len(t, getJSON(t, h, "&group=ends&limit=7").Ends, 7)
	assert.Len(t, a.Connections, 150) // ended, and not closed
	assert.Empty(t, getJSON(t, h, "&group=ends&state=suspect").Connections)
	assert.Contains(t, text(get(h, "?group=ends&state=disconnected").Body.String()), "150 connections have ended and are not closed.")
	assert.Contains(t, get(h, "?group=ends").Body.String(), "closed by peer, not closed")
}
