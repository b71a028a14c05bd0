//go:build linux

package bench

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

const (
	patience = time.Second            // an end is reported within this
	blockage = 400 * time.Millisecond // a check answers within this
	settle   = 150 * time.Millisecond // how long no alarm makes none
	cableFor = 4 * time.Second        // PeerTimeout where the cable is cut
	cableMax = 7 * time.Second        // more than PeerTimeout·1.25 + 1 s
	silence  = 700 * time.Millisecond // ReadIdleTimeout
)

// A trial is one alternative on one connection.
type trial struct {
	t        *testing.T
	row      *row
	alt      *alternative
	w        *watched
	peer     *livenesstest.Peer // the client in this process, or
	farm     *farm              // the client in a process of its own
	addr     string
	accepted <-chan *watched
	undo     []func()
}

// run opens the connection and runs the row.
func (t *trial) run() cell {
	if (t.row.needsConn || t.row.tls) && t.alt.watch == nil {
		return cell{verdict: na}
	}
	if t.row.tls {
		return t.runTLS()
	}
	if err := t.open(); err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	return t.row.run(t)
}

// open starts the server and connects the client to it, in this process or in one of its own.
func (t *trial) open() error {
	var stop func()
	var err error
	if t.addr, t.accepted, stop, err = t.alt.listen(t.row.opts); err != nil {
		return err
	}
	t.undo = append(t.undo, stop)
	prelude := ""
	if t.alt.prelude != nil {
		prelude = t.alt.prelude(t.row.unread)
	}
	if t.row.process {
		t.farm = startFarm(t.t)
		t.undo = append(t.undo, func() { t.farm.cmd.Process.Kill() })
		_, err = t.farm.do(order{Op: "dial", Addr: t.addr, Prelude: prelude, N: 1})
	} else if t.peer, err = livenesstest.Dial("tcp4", t.addr); err == nil {
		t.undo = append(t.undo, func() { t.peer.Close() })
		_, err = io.WriteString(t.peer, prelude)
	}
	if err == nil {
		t.w, err = t.accept()
	}
	return err
}

func (t *trial) accept() (*watched, error) {
	select {
	case w := <-t.accepted:
		if w == nil {
			return nil, errors.New("the connection could not be watched")
		}
		return w, nil
	case <-time.After(20 * time.Second):
		return nil, errors.New("no connection was accepted")
	}
}

// end closes everything. Nothing in it may take for ever.
func (t *trial) end() {
	if t.w != nil {
		closed := make(chan struct{})
		go func() { t.w.close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(2 * time.Second):
		}
	}
	for _, f := range slices.Backward(t.undo) {
		f()
	}
}

// runTLS runs the row under TLS. The library watches the connection beneath, as it is documented; the others get what the
// application has.
func (t *trial) runTLS() cell {
	inner := *t.alt
	if t.alt.name != nameLiveness {
		inner.watch = func(conn net.Conn, o options) (*watched, error) { return &watched{Conn: conn}, nil }
	}
	outer := t.alt
	t.alt = &inner
	if err := t.open(); err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	server, client, err := livenesstest.TLSConfig()
	if err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1) // or the server sends no tickets
	server.ClientAuth = tls.RequestClientCert                   // or it sends them with its first words
	ours, other := tls.Server(t.w.Conn, server), tls.Client(t.peer, client)
	if t.row.dialling {
		ours, other = tls.Client(t.w.Conn, client), tls.Server(t.peer, server)
	}
	handshake := make(chan error, 1)
	go func() { handshake <- other.Handshake() }()
	if err := errors.Join(ours.Handshake(), <-handshake); err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	t.peer = &livenesstest.Peer{Conn: other}
	if t.alt = outer; t.alt.name == nameLiveness {
		t.w.Conn = ours
	} else if w, err := t.alt.watch(ours, t.row.opts); err != nil {
		return cell{verdict: na, note: err.Error()}
	} else {
		t.w = w
	}
	return t.row.run(t)
}

// check asks, and reports whether an answer came in time.
func (t *trial) check() (err error, answered bool) {
	result := make(chan error, 1)
	go func() { result <- t.w.probe() }()
	select {
	case err := <-result:
		return err, true
	case <-time.After(blockage):
		return nil, false
	}
}

// alarm returns a cell if an end is reported within d, or by a check after that.
func (t *trial) alarm(d time.Duration) *cell {
	select {
	case <-t.w.gone: // nil, and never ready, if the alternative does not report by itself
		return &cell{verdict: falseAlarm}
	case <-time.After(d):
	}
	for range 2 {
		if t.w.probe == nil {
			return nil
		}
		if err, answered := t.check(); !answered {
			return &cell{verdict: blocked}
		} else if err != nil {
			return &cell{verdict: falseAlarm, note: err.Error()}
		}
	}
	return nil
}

// await expects no report until end ends the connection, and then one within limit.
func (t *trial) await(limit time.Duration, end func() error) cell {
	if c := t.alarm(20 * time.Millisecond); c != nil {
		c.note = "before the end"
		return *c
	}
	start := time.Now()
	if err := end(); err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	return t.notice(start, limit)
}

func (t *trial) notice(start time.Time, limit time.Duration) cell {
	if t.w.gone != nil {
		select {
		case <-t.w.gone:
			return cell{verdict: found, after: time.Since(start)}
		case <-time.After(limit):
			return cell{verdict: missed}
		}
	}
	for t.w.probe != nil && time.Since(start) < limit {
		time.Sleep(5 * time.Millisecond)
		if err, answered := t.check(); !answered {
			return cell{verdict: blocked}
		} else if err != nil {
			return cell{verdict: found, after: time.Since(start), asked: true, note: err.Error()}
		}
	}
	return cell{verdict: missed}
}

func (t *trial) peerSends(n int) error {
	_, err := t.peer.Write(make([]byte, n))
	time.Sleep(10 * time.Millisecond) // until it has been received
	return err
}

// exchange proves that the connection works: the pending bytes and more arrive whole, and an answer reaches the peer.
func (t *trial) exchange(pending int) cell {
	if err := t.peerSends(4); err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	if c := t.allReceived(pending + 4); c.verdict != ok {
		return c
	}
	return t.respond()
}

// allReceived proves that the application gets n bytes.
func (t *trial) allReceived(n int) cell {
	got := 0
	var err error
	switch {
	case t.w.Conn != nil:
		t.w.SetReadDeadline(time.Now().Add(patience))
		got, err = io.ReadFull(t.w, make([]byte, n))
		t.w.SetReadDeadline(time.Time{})
	case t.w.received != nil:
		for start := time.Now(); got < n && time.Since(start) < patience; time.Sleep(time.Millisecond) {
			got = t.w.received()
		}
	default:
		return cell{verdict: ok}
	}
	if got != n {
		return cell{verdict: eaten, note: fmt.Sprintf("%d of %d bytes, %v", got, n, err)}
	}
	return cell{verdict: ok}
}

// respond proves that what the application writes reaches the peer.
func (t *trial) respond() cell {
	answer := []byte("the late answer")
	sent := make(chan error, 1)
	go func() { sent <- t.w.send(answer) }()
	t.peer.SetReadDeadline(time.Now().Add(patience))
	defer t.peer.SetReadDeadline(time.Time{})
	var got []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(got, answer) {
		n, err := t.peer.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			return cell{verdict: lost, note: err.Error()}
		}
	}
	if err := <-sent; err != nil {
		return cell{verdict: lost, note: err.Error()}
	}
	return cell{verdict: ok}
}
