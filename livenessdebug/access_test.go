package livenessdebug

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOnlyALocalClientWithALocalHostIsAllowed(t *testing.T) {
	request := func(client, host string) *http.Request {
		return &http.Request{RemoteAddr: client, Host: host, Header: http.Header{}}
	}
	for _, host := range []string{
		"localhost", "LocalHost:6060", "127.0.0.1", "127.0.0.1:80", "127.255.1.2:1", "[::1]", "[::1]:6060", "[::ffff:127.0.0.1]:1",
	} {
		assert.True(t, isLocal(request("127.0.0.1:1", host)), host)
		assert.True(t, isLocal(request("[::1]:1", host)), host)
		assert.False(t, isLocal(request("10.0.0.1:1", host)), host)
	}
	for _, host := range []string{
		"", "attack.example", "attack.example:6060", "localhost.attack.example", "attack.localhost", "localhost@attack.example",
		"127.0.0.1.attack.example", "0.0.0.0", "0.0.0.0:6060", "[::]", "10.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "localhost:x",
		"::1:x", "[::1", "localhost:80:80", "127.0.0.1\x00",
	} {
		assert.False(t, isLocal(request("127.0.0.1:1", host)), "%q", host)
	}
	for _, client := range []string{"", "@", "/run/socket", "192.0.2.1:1234", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1", "localhost:1", "127.0.0.1"} {
		assert.False(t, isLocal(request(client, "localhost")), "%q", client)
	}
	assert.True(t, isLocal(request("[::ffff:127.0.0.1]:1", "localhost")))
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host"} {
		for _, value := range []string{"127.0.0.1", ""} {
			r := request("127.0.0.1:1", "localhost")
			r.Header.Set(name, value)
			assert.False(t, isLocal(r), name)
		}
	}
}

func TestThePageIsWhereTheHandlerIsMounted(t *testing.T) {
	h := Handler(&Options{Allow: func(*http.Request) bool { return true }})
	for _, c := range []struct {
		pattern, strip string
		found, missing []string
	}{
		{"/debug/liveness/", "", []string{"/debug/liveness/"}, []string{"/debug/liveness/x", "/debug/liveness/x/", "/debug/liveness/liveness/"}},
		{"/debug/liveness", "", []string{"/debug/liveness"}, []string{"/debug/liveness/"}},
		{"GET example.com/live/{$}", "", []string{"/live/"}, []string{"/live/x"}},
		{"/t/{tenant}/live/", "", []string{"/t/a/live/"}, []string{"/t/a/live/x", "/t/a/live/live/"}},
		{"/live/{rest...}", "", []string{"/live/"}, []string{"/live/x", "/live/x/"}},
		{"/", "", []string{"/"}, []string{"/x", "/x/", "/favicon.ico"}},
		{"/debug/liveness/", "/debug/liveness", []string{"/debug/liveness/"}, []string{"/debug/liveness/x", "/debug/liveness/x/"}},
		{"/debug/liveness/", "/debug/liveness/", []string{"/debug/liveness/"}, []string{"/debug/liveness/x", "/debug/liveness/x/"}},
		{"/debug/liveness", "/debug/liveness", []string{"/debug/liveness"}, nil},
		{"/debug/liveness/", "/debug", []string{"/debug/liveness/"}, []string{"/debug/liveness/x"}},
	} {
		mux := http.NewServeMux()
		mux.Handle(c.pattern, http.StripPrefix(c.strip, h))
		for _, path := range c.found {
			assert.Equal(t, http.StatusOK, codeOf(mux, path), "%s at %s without %s", path, c.pattern, c.strip)
		}
		for _, path := range c.missing {
			assert.Equal(t, http.StatusNotFound, codeOf(mux, path), "%s at %s without %s", path, c.pattern, c.strip)
		}
	}
	// Without a http.ServeMux.
	assert.Equal(t, http.StatusOK, codeOf(h, "/"))
	assert.Equal(t, http.StatusOK, codeOf(h, "/any/where/"))
	assert.Equal(t, http.StatusNotFound, codeOf(h, "/favicon.ico"))
	assert.Equal(t, http.StatusOK, codeOf(http.StripPrefix("/any", h), "/any"))
	assert.Equal(t, http.StatusNotFound, codeOf(http.StripPrefix("/any", h), "/any/x"))
}

func codeOf(h http.Handler, path string) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "http://example.com"+path, nil))
	return w.Code
}
