package livenessdebug

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// proxied are the headers that proxies add. They prove nothing about a client but that it
// is another one than the connection's.
var proxied = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"}

// isLocal is the default of Options.Allow.
func isLocal(r *http.Request) bool {
	for _, name := range proxied {
		if len(r.Header.Values(name)) > 0 {
			return false
		}
	}
	client, err := netip.ParseAddrPort(r.RemoteAddr) // a Unix socket's is "@" or a path
	return err == nil && isLoopback(client.Addr()) && isLoopbackHost(r.Host)
}

// isLoopbackHost reports whether a Host header can only mean this machine. Subdomains of
// localhost are left out: resolvers exist that ask the DNS for them, against RFC 6761.
func isLoopbackHost(host string) bool {
	if name, port, err := net.SplitHostPort(host); err == nil {
		if strings.Trim(port, "0123456789") != "" {
			return false
		}
		host = name
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && isLoopback(addr)
}

// isLoopback counts ::ffff:127.0.0.1, as a socket for both families shows IPv4.
func isLoopback(addr netip.Addr) bool { return addr.Unmap().IsLoopback() }

// isPage reports whether path is where a handler with that pattern is mounted. The pattern is
// that of a http.ServeMux, empty if there was none. The start of path may have been stripped.
func isPage(pattern, path string) bool {
	if pattern == "" || path == "" {
		return path == "" || strings.HasSuffix(path, "/")
	}
	_, mount, _ := strings.Cut(pattern, "/") // after the method and the host
	want, got := strings.Split(mount, "/"), strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(got) > len(want) {
		return false
	}
	for i, w := range want[len(want)-len(got):] {
		switch {
		case w == "{$}", strings.HasSuffix(w, "...}"):
			w = ""
		case strings.HasPrefix(w, "{"):
			w = got[i]
		}
		if got[i] != w {
			return false
		}
	}
	return true
}
