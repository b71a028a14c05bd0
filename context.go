package liveness

import (
	"context"
	"net"
	"time"

	"github.com/go-liveness/liveness/internal/calls"
)

type connKey struct{}

// ConnContext is for [net/http.Server.ConnContext]:
//
//	srv := &http.Server{ConnContext: liveness.ConnContext}
//
// The context of every request then ends with the connection, with the reason as its
// [context.Cause], and [FromContext] finds the Conn. Where [From] finds no Conn beneath
// conn, ConnContext watches it, as by [Watch] without a Config, so nothing else has to
// change; HTTP/2, TLS and Hijack included. It returns ctx itself if conn cannot be watched.
// It sets no time-out, so it finds no peer that vanished; [Config.ConnContext] does.
//
// A request of HTTP/1.1 without a body, and the streams of HTTP/2, are often cancelled by
// net/http itself first, without a reason. Conn.Err has it then, and through
// [NewListener] context.Cause has it too.
//
// A FIN ends the connection, although the client may be waiting for the response. A server
// for such clients sets [Config.AllowHalfClose].
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	return (*Config)(nil).ConnContext(ctx, conn)
}

// ConnContext is the function [ConnContext] with a Config for the connections that it
// watches. It does not apply to those that are wrapped already.
func (cfg *Config) ConnContext(ctx context.Context, conn net.Conn) context.Context {
	c, ok := From(conn)
	if !ok {
		var err error
		if c, err = Watch(conn, cfg); err != nil {
			return ctx
		}
	}
	// No code is left that could call the CancelFunc; the end of the connection, which the
	// server always closes, does it.
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, connKey{}, c))
	c.onEnd(&calls.Call{F: cancel, Kind: calls.Canceler})
	return ctx
}

// FromContext returns the Conn that ConnContext has put into ctx.
func FromContext(ctx context.Context) (*Conn, bool) {
	c, ok := ctx.Value(connKey{}).(*Conn)
	return c, ok
}

// contextPatience is for how long a Read waits for the contexts of its connection.
const contextPatience = 5 * time.Millisecond

// awaitContexts waits until the contexts are cancelled, at most contextPatience. When Read
// returns the end of the stream, net/http cancels its own contexts without the reason, so
// these must come first.
func (e *ending) awaitContexts() {
	if e.contexts == nil {
		return
	}
	select {
	case <-e.contexts:
		return
	default:
	}
	timer := time.NewTimer(contextPatience)
	defer timer.Stop()
	select {
	case <-e.contexts:
	case <-timer.C:
	}
}
