package livenessdebug_test

import (
	"context"
	"encoding/json"
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
	"github.com/go-liveness/liveness/livenessdebug"
	"github.com/go-liveness/liveness/livenesstest"
)

// A browser is a headless Chromium, driven by its command line.
type browser struct{ path, scheme string }

func newBrowser(t *testing.T) browser {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return browser{path: path}
		}
	}
	t.Skip("no Chromium is installed; ci/browser.sh installs one")
	return browser{}
}

// run opens url and returns what Chromium prints.
func (b browser) run(t *testing.T, url string, args ...string) string {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	scheme := "1" // light
	if b.scheme == "dark" {
		scheme = "0"
	}
	args = append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--hide-scrollbars", "--user-data-dir=" + t.TempDir(), "--blink-settings=preferredColorScheme=" + scheme,
	}, args...)
	cmd := exec.CommandContext(ctx, b.path, append(args, url)...)
	cmd.WaitDelay = 10 * time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(out)
}

// text returns what a page shows, without its tags.
func text(html string) string {
	html = regexp.MustCompile(`(?s)<style.*?</style>`).ReplaceAllString(html, "")
	return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(html, " ")), " ")
}

// A pair is both ends of a connection that the page shows.
type pair struct {
	conn *liveness.Conn
	peer *livenesstest.Peer
	name string // the peer's address, as the page shows it
}

func wrapped(t *testing.T, cfg *liveness.Config) pair {
	bare, peer := livenesstest.Pair(t, "tcp4")
	conn, err := liveness.Wrap(bare, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return pair{conn, peer, conn.RemoteAddr().String()}
}

// fill writes until the peer's window and the send buffer are full.
func (p pair) fill(t *testing.T) {
	go func() { _, _ = p.conn.Write(make([]byte, 64<<20)) }()
	p.await(t, liveness.Stalled)
}

// await waits until the state of the connection is want.
func (p pair) await(t *testing.T, want liveness.State) {
	require.Eventually(t, func() bool { return p.conn.Status().State == want }, time.Minute, 20*time.Millisecond, want.String())
}

// A scene is connections in every state, and how some others have ended.
type scene struct{ suspect, stalled, halfClosed, reset, connected, lost pair }

func newScene(t *testing.T) (s scene) {
	if runtime.GOOS != "linux" {
		t.Skip("Cut and the states need Linux")
	}
	web := &liveness.Group{Name: "web"}
	backend := &liveness.Group{Name: "backend"}
	s.lost = wrapped(t, &liveness.Config{Group: backend, PeerTimeout: 4 * time.Second})
	_, err := livenesstest.Cut(s.lost.peer)
	require.NoError(t, err)
	_, err = s.lost.conn.Write([]byte("request"))
	require.NoError(t, err)

	s.halfClosed = wrapped(t, &liveness.Config{Group: web, AllowHalfClose: true})
	require.NoError(t, s.halfClosed.peer.CloseWrite())
	s.reset = wrapped(t, &liveness.Config{Group: web})
	_, err = s.reset.peer.Write([]byte("never read"))
	require.NoError(t, err)
	require.NoError(t, s.reset.peer.Reset())
	for range 4 {
		s.connected = wrapped(t, &liveness.Config{Group: web, PeerTimeout: time.Minute})
	}
	local, closed := wrapped(t, nil), wrapped(t, &liveness.Config{Group: web})
	require.NoError(t, local.conn.Close())
	require.NoError(t, closed.peer.Close())
	<-closed.conn.Done()
	require.NoError(t, closed.conn.Close())
	s.stalled = wrapped(t, &liveness.Config{Group: web})
	s.stalled.fill(t)

	<-s.lost.conn.Done()
	require.NoError(t, s.lost.conn.Close())
	s.suspect = wrapped(t, &liveness.Config{Group: backend, PeerTimeout: time.Minute})
	_, err = livenesstest.Cut(s.suspect.peer)
	require.NoError(t, err)
	_, err = s.suspect.conn.Write([]byte("request"))
	require.NoError(t, err)
	s.suspect.await(t, liveness.Suspect)
	s.halfClosed.await(t, liveness.HalfClosed)
	return s
}

// rowOf returns the text of the row of a table that has the peer's address.
func rowOf(t *testing.T, html, table, peer string) string {
	_, html, _ = strings.Cut(html, `<table id="`+table+`">`)
	html, _, _ = strings.Cut(html, "</table>")
	for row := range strings.SplitSeq(html, "<tr") {
		if strings.Contains(row, ">"+peer+"<") {
			return text("<tr" + row)
		}
	}
	require.Fail(t, "no row in "+table, "%s in %s", peer, text(html))
	return ""
}

func TestBrowserShowsEndsOfRealPeers(t *testing.T) {
	b := newBrowser(t)
	server := httptest.NewServer(livenessdebug.Handler(nil))
	t.Cleanup(server.Close)
	s := newScene(t)
	url := server.URL + "/"

	page := b.run(t, url, "--dump-dom")
	assert.Contains(t, rowOf(t, page, "connections", s.reset.name), "reset, not closed")
	assert.Contains(t, rowOf(t, page, "connections", s.suspect.name), "suspect")
	assert.Contains(t, rowOf(t, page, "connections", s.stalled.name), "stalled")
	assert.Contains(t, rowOf(t, page, "connections", s.halfClosed.name), "half-closed")
	assert.Contains(t, rowOf(t, page, "connections", s.connected.name), "connected")
	assert.NotContains(t, page, ">"+s.lost.name+"<small") // it is closed
	assert.Regexp(t, `lost .*nothing heard for [4-9]\.\d s, \d+ retransmissions? unanswered, 7 bytes unacknowledged`,
		rowOf(t, page, "ends", s.lost.name))
	assert.Contains(t, text(page), "1 connection has ended and is not closed.")

	for state := range strings.FieldsSeq("reset suspect stalled half-closed") { // the worst first
		i := strings.Index(text(page), state)
		require.Positive(t, i, state)
	}
	_, table, _ := strings.Cut(page, `<table id="connections">`)
	var order []string
	for _, m := range regexp.MustCompile(`<tr class="([a-z-]+)"`).FindAllStringSubmatch(table, -1) {
		order = append(order, m[1])
	}
	assert.Equal(t, []string{"disconnected", "suspect", "stalled", "half-closed", "connected", "connected", "connected", "connected"}, order)

	page = b.run(t, url+"?sort=peer&state=connected", "--dump-dom")
	assert.NotContains(t, page, ">"+s.reset.name+"<small")
	assert.Contains(t, text(page), "4 of 4 shown")
	if dir := os.Getenv("LIVENESS_SCREENSHOTS"); dir != "" {
		b.screenshots(t, url+"?refresh=0", dir)
	}
}

// screenshots writes the page in both schemes, wide and narrow.
func (b browser) screenshots(t *testing.T, url, dir string) {
	dir, err := filepath.Abs(dir)
	require.NoError(t, err)
	for _, b.scheme = range []string{"light", "dark"} {
		b.run(t, url, "--window-size=1280,820", "--screenshot="+filepath.Join(dir, "debug-"+b.scheme+".png"))
		b.run(t, url, "--window-size=400,1400", "--screenshot="+filepath.Join(dir, "debug-narrow-"+b.scheme+".png"))
	}
}

func TestBrowserIsRefusedUnderAForeignName(t *testing.T) {
	b := newBrowser(t)
	server := httptest.NewServer(livenessdebug.Handler(nil))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	rebound := b.run(t, "http://attack.example:"+port+"/", "--host-resolver-rules=MAP attack.example 127.0.0.1", "--dump-dom")
	assert.Contains(t, text(rebound), "forbidden")
	assert.Contains(t, text(b.run(t, "http://localhost:"+port+"/", "--dump-dom")), "Connections")
}

var _ = json.Valid
var _ http.Handler
