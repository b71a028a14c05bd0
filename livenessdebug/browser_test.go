package livenessdebug_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenessdebug"
	"github.com/go-liveness/liveness/livenesstest"
)

func needsChromium(t *testing.T) (path string) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("ci/page.sh installs what this test needs: ", err)
	}
	return path
}

// chromium is a headless Chromium that opens url.
func chromium(ctx context.Context, t *testing.T, url string, args ...string) *exec.Cmd {
	path := needsChromium(t)
	profile, err := os.MkdirTemp("", "livenessdebug")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(profile) }) // a process of Chromium may still be writing there
	cmd := exec.CommandContext(ctx, path, append(append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--hide-scrollbars", "--user-data-dir=" + profile,
	}, args...), url)...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// browse opens url and returns what Chromium prints.
func browse(t *testing.T, url string, args ...string) string {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := chromium(ctx, t, url, args...).Output()
	require.NoError(t, err)
	return string(out)
}

// text returns what a page shows, without its tags.
func text(html string) string {
	html = regexp.MustCompile(`(?s)<style.*?</style>`).ReplaceAllString(html, "")
	return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(html, " ")), " ")
}

// tableOf returns a table of the page.
func tableOf(html, id string) string {
	_, html, _ = strings.Cut(html, `<table id="`+id+`">`)
	html, _, _ = strings.Cut(html, "</table>")
	return html
}

// rowOf returns the text of the row of a table that has the peer of a connection.
func rowOf(t *testing.T, html, table string, p pair) string {
	for row := range strings.SplitSeq(tableOf(html, table), "<tr") {
		if strings.Contains(row, ">"+p.conn.RemoteAddr().String()+"<") {
			return text("<tr" + row)
		}
	}
	require.Fail(t, "no row in "+table, text(html))
	return ""
}

// A pair is both ends of a connection that the page shows.
type pair struct {
	conn *liveness.Conn
	peer *livenesstest.Peer
}

func wrapped(t *testing.T, cfg *liveness.Config) pair {
	bare, peer := livenesstest.Pair(t, "tcp4")
	conn, err := liveness.Wrap(bare, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return pair{conn, peer}
}

// cut cuts the cable while data is in flight.
func (p pair) cut(t *testing.T) {
	_, err := livenesstest.Cut(p.peer)
	require.NoError(t, err)
	_, err = p.conn.Write([]byte("request"))
	require.NoError(t, err)
}

// await waits until the connection is in a state.
func (p pair) await(t *testing.T, want liveness.State) {
	require.Eventually(t, func() bool { return p.conn.Status().State == want }, time.Minute, 20*time.Millisecond, want.String())
}

// A scene is connections in every state, and some that have ended and are closed.
type scene struct{ reset, suspect, stalled, halfClosed, connected, lost pair }

func newScene(t *testing.T) (s scene) {
	web, backend := &liveness.Group{Name: "web"}, &liveness.Group{Name: "backend"}
	s.lost = wrapped(t, &liveness.Config{Group: backend, PeerTimeout: 4 * time.Second})
	s.lost.cut(t)
	s.halfClosed = wrapped(t, &liveness.Config{Group: web, AllowHalfClose: true})
	require.NoError(t, s.halfClosed.peer.CloseWrite())
	s.reset = wrapped(t, &liveness.Config{Group: web})
	_, err := s.reset.peer.Write([]byte("never read"))
	require.NoError(t, err)
	require.NoError(t, s.reset.peer.Reset())
	for range 4 {
		s.connected = wrapped(t, &liveness.Config{Group: web, PeerTimeout: time.Minute})
	}
	require.NoError(t, wrapped(t, nil).conn.Close())
	closed := wrapped(t, &liveness.Config{Group: web})
	require.NoError(t, closed.peer.Close())
	<-closed.conn.Done()
	require.NoError(t, closed.conn.Close())
	s.stalled = wrapped(t, &liveness.Config{Group: web})
	go func() { _, _ = s.stalled.conn.Write(make([]byte, 64<<20)) }()
	<-s.lost.conn.Done()
	require.NoError(t, s.lost.conn.Close())
	s.suspect = wrapped(t, &liveness.Config{Group: backend, PeerTimeout: 5 * time.Minute})
	s.suspect.cut(t)
	s.suspect.await(t, liveness.Suspect)
	s.stalled.await(t, liveness.Stalled)
	s.halfClosed.await(t, liveness.HalfClosed)
	return s
}

func TestBrowserShowsEndsOfRealPeers(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("a cable can be cut on Linux only")
	}
	needsChromium(t)
	if !testutil.Alone(t) { // the page shows every connection of the process
		return
	}
	server := httptest.NewServer(livenessdebug.Handler(nil))
	t.Cleanup(server.Close)
	s := newScene(t)

	page := browse(t, server.URL, "--dump-dom")
	assert.Contains(t, rowOf(t, page, "connections", s.reset), "reset, not closed")
	assert.Contains(t, rowOf(t, page, "connections", s.suspect), "suspect")
	assert.Contains(t, rowOf(t, page, "connections", s.stalled), "stalled")
	assert.Contains(t, rowOf(t, page, "connections", s.halfClosed), "half-closed")
	assert.Contains(t, rowOf(t, page, "connections", s.connected), "connected")
	assert.NotContains(t, tableOf(page, "connections"), s.lost.conn.RemoteAddr().String()) // it is closed
	assert.Regexp(t, `lost .*nothing heard for \d+\.\d s, \d+ retransmissions? unanswered, 7 bytes unacknowledged`,
		rowOf(t, page, "ends", s.lost))
	assert.Contains(t, text(page), "1 connection has ended and is not closed.")
	var order []string // the worst first
	for _, m := range regexp.MustCompile(`<tr class="([a-z-]+)"`).FindAllStringSubmatch(tableOf(page, "connections"), -1) {
		order = append(order, m[1])
	}
	assert.Equal(t, strings.Fields("disconnected suspect stalled half-closed connected connected connected connected"), order)

	sorted := browse(t, server.URL+"?sort=unacked&order=asc&group=backend", "--dump-dom")
	assert.Contains(t, text(sorted), "1 of 1 of group backend shown")
	assert.Contains(t, text(sorted), "Unacked ▲")
	rowOf(t, sorted, "connections", s.suspect)
	if dir := os.Getenv("LIVENESS_SCREENSHOTS"); dir != "" {
		for name, args := range map[string][]string{
			"debug":        {"--window-size=1280,1010", "--blink-settings=preferredColorScheme=1"},
			"debug-dark":   {"--window-size=1280,1010", "--blink-settings=preferredColorScheme=0"},
			"debug-narrow": {"--window-size=400,1400", "--blink-settings=preferredColorScheme=1"},
		} {
			browse(t, server.URL, append(args, "--screenshot="+filepath.Join(dir, name+".png"))...)
		}
	}
}

func TestBrowserReloadsThePageWithScriptsOff(t *testing.T) {
	t.Parallel()
	h, requests := livenessdebug.Handler(nil), make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r.URL.String()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := chromium(ctx, t, server.URL+"?refresh=1", "--blink-settings=scriptEnabled=false", "--remote-debugging-port=0")
	require.NoError(t, cmd.Start())
	for range 3 {
		select {
		case url := <-requests:
			assert.Equal(t, "/?refresh=1", url)
		case <-ctx.Done():
			require.NoError(t, ctx.Err())
		}
	}
	cancel()
	_ = cmd.Wait() // it was killed
}

func TestBrowserIsRefusedUnderAForeignName(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(livenessdebug.Handler(nil))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	rebound := browse(t, "http://attack.example:"+port, "--host-resolver-rules=MAP attack.example 127.0.0.1", "--dump-dom")
	assert.Contains(t, text(rebound), "forbidden")
	assert.Contains(t, text(browse(t, "http://localhost:"+port, "--dump-dom")), "Connections")
}
