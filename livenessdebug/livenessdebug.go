// Package livenessdebug serves a page that shows the connections of a process, as
// net/http/pprof serves its profiles. It is for operators, on an address of their own:
//
//	go http.ListenAndServe("localhost:6060", livenessdebug.Handler(nil))
//
// or at any path of a mux, which has to say which requests the handler is for:
//
//	mux.Handle("/debug/liveness/", livenessdebug.Handler(nil))
//
// Importing the package registers nothing and costs nothing. The page shows every connection
// that is not closed yet by the local side, the worst first; the last hundred ends, from the
// first call of [Handler] on; and the counters of the process and of each group. A connection
// that has ended and is not closed is marked: if it stays, the application leaks it. The
// page has no script, loads nothing, and reloads itself.
//
// # Parameters
//
//	sort     state (the worst first, the default), peer, local, group, age, silence, rtt,
//	         unread, unacked, retransmits, probes or detect_within
//	order    asc or desc; by default asc for peer, local and group, else desc
//	group    only the connections and ends of the groups with that name
//	state    only the connections in that state, such as suspect
//	limit    how many connections are shown: 500 by default, at most 10000
//	refresh  seconds until the page reloads itself: 5 by default, at most 3600, 0 for never
//	format   json or html; without it the Accept header decides
//
// # JSON
//
// The answer to ?format=json, or to a request that accepts application/json, is one object:
//
//	time         when the kernel was asked, RFC 3339
//	open         connections that are not closed yet by the local side
//	examined     how many of them the kernel was asked about
//	matching     how many of those are of the group and the state asked for
//	not_closed   how many of the matching have ended; these come first by default
//	totals       object: open, wrapped, closed, reset, lost, stalled, idle, local, as liveness.Stats
//	groups       array of such objects, each with its name
//	connections  array: network, peer, local, group, status
//	ends         array, the newest first: time and what connections has
//
// A status is as [liveness.Status.MarshalJSON] writes it: its names carry their units, and its
// error has no addresses. peer and local are empty if the connection is not one of package
// net and wraps none that can be found: its methods may block. group is empty without one.
//
// # Cost
//
// A [liveness.Conn.Status] is two system calls, so requests share their answers: the kernel
// is asked at most once a second, and for at most a tenth of the time, about at most 50,000
// connections. Requests are worked on one at a time.
package livenessdebug

import (
	"bytes"
	"net/http"
	"slices"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/recent"
)

// Options are the options of [Handler]. They are copied on entry.
type Options struct {
	// Allow reports whether a request is answered; the others get 403 (Forbidden). It may be
	// called by several goroutines at once.
	//
	// If it is nil, both the client's address and the Host header must be loopback: localhost,
	// 127.0.0.0/8 or [::1], with any port. A web page cannot get around that with a name of
	// its own that resolves to loopback. A request that came through a proxy is refused, as
	// far as headers such as X-Forwarded-For show it; a proxy on this machine that adds none
	// looks like a local client. A client on a Unix socket is refused too, because it is most
	// often such a proxy.
	//
	// Allow replaces all of that. What it allows shows addresses of peers.
	Allow func(*http.Request) bool

	// Groups are shown even while they have no connection. Others are found from their
	// connections.
	Groups []*liveness.Group
}

// Handler returns a handler that serves the page and the JSON, at the path that it is mounted
// at and nowhere else. It answers GET and HEAD. A nil opts is the zero Options.
//
// It takes the path from the pattern of an [http.ServeMux]. Elsewhere it serves the paths
// that end with a slash, so use [http.StripPrefix] with another router.
func Handler(opts *Options) http.Handler {
	h := &handler{turn: make(chan struct{}, 1)}
	if opts != nil {
		h.allow = opts.Allow
		h.collector.groups = slices.Clone(opts.Groups)
	}
	if h.allow == nil {
		h.allow = isLocal
	}
	recent.Start()
	return h
}

type handler struct {
	allow     func(*http.Request) bool
	turn      chan struct{} // held while a request is worked on
	collector collector
}

// policy lets the page have its own style and nothing else.
var policy = "default-src 'none'; style-src '" + styleHash + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

func setHeader(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept")
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeader(w.Header())
	if !h.allow(r) {
		http.Error(w, "forbidden: only for local clients", http.StatusForbidden)
		return
	}
	if !isPage(r.Pattern, r.URL.Path) {
		http.Error(w, "not found: with a router other than http.ServeMux use http.StripPrefix", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	write, contentType := writePage, "text/html; charset=utf-8"
	if q.wantsJSON(r.Header) {
		write, contentType = writeJSON, "application/json"
	}
	w.Header().Set("Content-Type", contentType)
	if r.Method == http.MethodHead {
		return
	}
	select {
	case h.turn <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	body, err := h.answer(q, write)
	if err != nil {
		http.Error(w, "the page cannot be written", http.StatusInternalServerError)
		return
	}
	_, _ = body.WriteTo(w) // the client may have left
}

// answer writes what q asks for, in the turn of its request.
func (h *handler) answer(q query, write func(*bytes.Buffer, *view) error) (*bytes.Buffer, error) {
	defer func() { <-h.turn }()
	var body bytes.Buffer
	err := write(&body, newView(q, h.collector.collect()))
	return &body, err
}
