package liveness

import (
	"context"
	"net"
)

// connKey is the key of the *Conn in a context.
type connKey struct{}

// ConnContext is for the field of the same name in [net/http.Server], whose
// listener is a [Listener] of this package, or whose connections are wrapped in
// another way:
//
//	server := &http.Server{ConnContext: liveness.ConnContext}
//	server.Serve(liveness.NewListener(listener, nil))
//
// The contexts of the requests are then cancelled at the end of their connection,
// with the reason as their [context.Cause], also while a body is unread; and
// [FromContext] finds the Conn in a handler. If [From] finds no Conn in conn, ctx
// is returned as it is.
//
// It serves any accept loop that always closes its connections, for a context that
// lives as long as the connection does.
//
// A client that closes its writing side is gone as far as HTTP is concerned; a
// server for clients that do so and wait for the response sets
// [Config.AllowHalfClose].
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	c, ok := From(conn)
	if !ok {
		return ctx
	}
	// Nobody is there to call the CancelFunc; the end of the connection, which the
	// server always closes, does it.
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, connKey{}, c))
	c.onEnd(&call{f: cancel, inline: true})
	return ctx
}

// FromContext returns the Conn that ConnContext has put into ctx.
func FromContext(ctx context.Context) (*Conn, bool) {
	c, ok := ctx.Value(connKey{}).(*Conn)
	return c, ok
}
