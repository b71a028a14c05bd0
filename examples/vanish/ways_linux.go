package main

import (
	"io"
	"syscall"
	"time"

	"github.com/go-liveness/liveness"
)

// ways returns the rows of the table: all the ways to go.
func ways() []*row { return append(announced(), silent()...) }

// announced are the ways that the client's kernel tells of, by a FIN or a RST.
func announced() []*row {
	return []*row{{
		name: "close", does: "closes",
		leave: (*session).close,
		plain: io.EOF,
		want:  liveness.ErrPeerClosed,
	}, {
		name: "close behind unread data", does: "sends a request and more, and closes",
		request: 4096, leave: (*session).close,
		plain: io.EOF, note: ", when its work was done",
		want: liveness.ErrPeerClosed,
	}, {
		name: "half-close", does: "closes its writing side",
		leave: (*session).closeWrite,
		plain: io.EOF,
		want:  liveness.ErrPeerClosed,
	}, {
		name: "half-close, AllowHalfClose", does: "closes its writing side, and waits for an answer",
		cfg:   &liveness.Config{AllowHalfClose: true},
		leave: (*session).closeWrite,
		plain: io.EOF, note: ", as if it had closed",
		state: liveness.HalfClosed,
	}, {
		name: "reset", does: "resets the connection",
		leave: (*session).reset,
		plain: syscall.ECONNRESET,
		want:  liveness.ErrPeerReset,
	}, {
		name: "reset behind unread data", does: "sends a request and more, and resets the connection",
		request: 4096, leave: (*session).reset,
		plain: syscall.ECONNRESET, note: ", its work done",
		want: liveness.ErrPeerReset,
	}, {
		name: "SIGKILL", does: "is killed",
		process: true, leave: (*session).kill,
		plain: io.EOF,
		want:  liveness.ErrPeerClosed,
	}, {
		name: "SIGKILL with unread data", does: "is killed before it has read the answer",
		process: true, answer: 4096, leave: (*session).kill,
		plain: syscall.ECONNRESET,
		want:  liveness.ErrPeerReset,
	}, {
		name: "TLS close", does: "closes, by an alert and a FIN",
		tls: true, leave: (*session).close,
		plain: io.EOF,
		want:  liveness.ErrPeerClosed,
	}}
}

// silent are the ways that only a time-out finds, and a client that stays.
func silent() []*row {
	return []*row{{
		name: "cable cut while idle", does: "has its cable cut",
		cfg:   &liveness.Config{PeerTimeout: peerTimeout},
		leave: (*session).cut,
		want:  liveness.ErrPeerLost, earliest: peerTimeout / 2, latest: peerTimeout*105/100 + 2*time.Second,
	}, {
		name: "cable cut, data in flight", does: "has its cable cut, and is sent an answer",
		cfg:   &liveness.Config{PeerTimeout: peerTimeout},
		leave: (*session).cut, then: (*session).sendAnswer, note: ", and Write succeeded",
		want: liveness.ErrPeerLost, earliest: peerTimeout / 2, latest: peerTimeout*125/100 + time.Second,
	}, {
		name: "hung program (SIGSTOP)", does: "sends a last byte, and hangs",
		cfg:     &liveness.Config{ReadIdleTimeout: silence},
		process: true, leave: (*session).stop,
		want: liveness.ErrPeerIdle, earliest: silence, latest: silence*110/100 + 100*time.Millisecond,
	}, {
		name: "stopped reading", does: "reads no more of a long answer",
		cfg:   &liveness.Config{StallTimeout: silence},
		leave: (*session).stay, then: (*session).sendForEver, note: ", and Write hangs",
		want: liveness.ErrPeerStalled, earliest: silence, latest: silence*110/100 + time.Second,
	}, {
		name: "it stays", does: "stays, and sends a byte now and then",
		cfg:   &liveness.Config{PeerTimeout: peerTimeout, ReadIdleTimeout: silence, StallTimeout: silence},
		leave: (*session).talk,
		state: liveness.Connected,
	}}
}
