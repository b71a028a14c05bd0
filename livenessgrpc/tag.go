package livenessgrpc

import (
	"context"
	"net"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/go-liveness/liveness"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// ServerOption returns the option for [google.golang.org/grpc.NewServer] that gives the
// contexts of handlers their connection. It has an effect on connections of a listener of
// this package. Other stats handlers may be set beside it.
//
// A connection is recognized by its remote address, so a layer that changes the addresses,
// such as the PROXY protocol, hides it unless that layer is beneath this package's
// listener.
func ServerOption() grpc.ServerOption { return grpc.StatsHandler(handler{}) }

// A handler takes part in nothing but TagConn: the context that it returns is the parent of
// those of all streams.
type handler struct{}

func (handler) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	if t := pending.take(info.RemoteAddr, info.LocalAddr); t != nil {
		return t.context(ctx)
	}
	return ctx
}

func (handler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (handler) HandleRPC(context.Context, stats.RPCStats)                       {}
func (handler) HandleConn(context.Context, stats.ConnStats)                     {}

// A tag is a connection with the context that ends with it.
type tag struct {
	live          *liveness.Conn
	remote, local net.Addr
	cancel        atomic.Pointer[context.CancelCauseFunc] // nil until gRPC has tagged the connection
}

// context returns the context of the connection. The hub cancels it, and cancelIfEnded does
// where that must have happened before gRPC goes on.
func (t *tag) context(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(liveness.ConnContext(parent, t.live))
	t.cancel.Store(&cancel)
	return ctx
}

// cancelIfEnded cancels the contexts of all streams, if the connection has ended, before it
// returns.
func (t *tag) cancelIfEnded() {
	if cancel, err := t.cancel.Load(), t.live.Err(); cancel != nil && err != nil {
		(*cancel)(err)
	}
}

// closeAfterTimeout is the callback of a watched connection.
func (t *tag) closeAfterTimeout(err error) {
	pending.remove(t)
	t.cancelIfEnded()
	switch liveness.ReasonOf(err) {
	case liveness.ReasonLost, liveness.ReasonStalled, liveness.ReasonIdle:
		t.live.Close()
	}
}

// pending has the connections that were accepted and are not tagged yet. It is shared by
// all listeners and servers, because nothing else connects a listener with the option of
// its server.
var pending tags

// tags are found by their remote address: gRPC passes the very net.Addr that the
// accepted connection has returned through all credentials to TagConn.
type tags struct {
	mu       sync.Mutex
	byRemote map[net.Addr]*tag
}

func (ts *tags) add(t *tag) {
	if !isPointer(t.remote) {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.byRemote == nil {
		ts.byRemote = make(map[net.Addr]*tag)
	}
	ts.byRemote[t.remote] = t
}

func (ts *tags) remove(t *tag) {
	if !isPointer(t.remote) {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.byRemote[t.remote] == t {
		delete(ts.byRemote, t.remote)
	}
}

// take removes and returns the tag of the connection with that remote address. Where a
// layer has copied the address, the only one with the same text is meant.
func (ts *tags) take(remote, local net.Addr) *tag {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	var found *tag
	if isPointer(remote) {
		found = ts.byRemote[remote]
	}
	if found == nil {
		for _, t := range ts.byRemote {
			if !sameText(t.remote, remote) || !sameText(t.local, local) {
				continue
			}
			if found != nil {
				return nil // one of several: a guess might be another client's
			}
			found = t
		}
	}
	if found != nil {
		delete(ts.byRemote, found.remote)
	}
	return found
}

// isPointer reports whether an address can stand for its connection, as a key of a map.
func isPointer(a net.Addr) bool { return a != nil && reflect.TypeOf(a).Kind() == reflect.Pointer }

func sameText(a, b net.Addr) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Network() == b.Network() && a.String() == b.String()
}
