package livenessdebug_test

import (
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenessdebug"
)

// BenchmarkHandler asks a new handler each time, so that the kernel is asked about every
// connection.
func BenchmarkHandler(b *testing.B) {
	const pairs = 5_000 // both ends are wrapped
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer listener.Close()
	group := &liveness.Group{Name: "bench"}
	cfg := &liveness.Config{Group: group}
	var conns []net.Conn // or they would be freed
	for range pairs {
		dialled, err := (&liveness.Dialer{Config: cfg}).Dial("tcp", listener.Addr().String())
		require.NoError(b, err)
		accepted, err := liveness.NewListener(listener, cfg).Accept()
		require.NoError(b, err)
		conns = append(conns, dialled, accepted)
	}
	defer func() { _ = group.Close(); runtime.KeepAlive(conns) }()
	for _, query := range []string{"?limit=500", "?limit=10000", "?limit=500&format=json", "?limit=10000&format=json"} {
		b.Run(query[1:], func(b *testing.B) {
			for b.Loop() {
				b.SetBytes(int64(get(livenessdebug.Handler(nil), query).Body.Len()))
			}
		})
	}
}
