package main

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/examples/internal/program"
	"github.com/go-liveness/liveness/livenesstest"
)

func TestProgram(t *testing.T) {
	program.NeedEvents(t)
	path := program.Path(program.Build(t, "."), "websocket")
	for name, test := range map[string]struct {
		leave func(*testing.T, *websocket.Conn, *livenesstest.Peer)
		words []string
	}{
		"close frame": {func(_ *testing.T, ws *websocket.Conn, _ *livenesstest.Peer) {
			ws.Close(websocket.StatusNormalClosure, "")
		},
			[]string{"said goodbye"}},
		"close": {func(_ *testing.T, _ *websocket.Conn, p *livenesstest.Peer) { p.Close() },
			[]string{"gone without goodbye", liveness.ErrPeerClosed.Error()}},
		"reset": {func(_ *testing.T, _ *websocket.Conn, p *livenesstest.Peer) { p.Reset() },
			[]string{"gone without goodbye", liveness.ErrPeerReset.Error()}},
		"cable cut": {func(t *testing.T, _ *websocket.Conn, p *livenesstest.Peer) { program.Cut(t, p) },
			[]string{"gone without goodbye", liveness.ErrPeerLost.Error()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := program.Start(t, path, "-step=50ms", program.PeerTimeout(t, 4*time.Second))
			ctx, cancel := context.WithTimeout(context.Background(), program.Patience)
			defer cancel()
			var peer *livenesstest.Peer
			client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				peer = program.Dial(t, p.Addr)
				return peer, nil
			}}}
			ws, _, err := websocket.Dial(ctx, "ws://"+p.Addr+"/news", &websocket.DialOptions{HTTPClient: client})
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			if _, text, err := ws.Read(ctx); err != nil || string(text) != "news 1" {
				t.Fatalf("%q, %v", text, err)
			}
			p.Expect(t, "connected")
			test.leave(t, ws, peer)
			p.Expect(t, test.words...)
		})
	}
}
