//go:build linux

package bench

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

const (
	patience = time.Second            // an end is reported within this
	blockage = 2 * time.Second        // a check answers within this
	settle   = 150 * time.Millisecond // how long no alarm makes none
	cableFor = 4 * time.Second        // PeerTimeout where the cable is cut
	cableMax = 7 * time.Second        // more than PeerTimeout·1.25 + 1 s
	silence  = 700 * time.Millisecond // ReadIdleTimeout
)

// A trial is one alternative on one connection.
type trial struct {
	row    *row
	alt    *alternative
	w      *watched
	peer   *livenesstest.Peer // the client in this process, or
	farm   *farm              // the client in a process of its own
	addr   string
	accept func() *watched
	undo   []func()
	cell   cell
}

// stop ends the trial with a verdict, from any depth.
func (t *trial) stop(verdict string) { panic(stopped(verdict)) }

type stopped string

func (t *trial) run() {
	defer t.close()
	defer func() {
		switch v := recover().(type) {
		case stopped:
			t.cell.verdict = string(v)
		case error:
			t.cell.verdict, t.cell.note = failed, v.Error()
		}
	}()
	if (t.row.needsConn || t.row.tls) && t.alt.watch == nil || t.row.tls && t.alt.noTLS {
		t.stop(na)
	}
	if t.row.tls {
		t.openTLS()
	} else {
		t.open(t.alt)
	}
	t.cell.verdict = t.row.run(t)
}

// open starts the server and connects the client to it, in this process or in one of its own.
func (t *trial) open(a *alternative) {
	var stop func()
	t.addr, t.accept, stop = a.listen(t.row.opts)
	t.undo = append(t.undo, stop)
	prelude := ""
	if a.prelude != nil {
		prelude = a.prelude(t.row.unread)
	}
	if t.row.process {
		t.farm = startFarm()
		t.undo = append(t.undo, t.farm.kill)
		t.farm.do("dial", 1, t.addr, prelude)
	} else {
		t.peer = must(livenesstest.Dial("tcp4", t.addr))
		t.undo = append(t.undo, func() { t.peer.Close() })
		must(io.WriteString(t.peer, prelude))
	}
	t.w = t.accept()
}

func (t *trial) close() {
	if t.w != nil {
		t.w.close()
	}
	for _, f := range slices.Backward(t.undo) {
		f()
	}
}

// openTLS has the library watch the connection beneath TLS, as it is documented. The others get what the application has.
func (t *trial) openTLS() {
	beneath := *t.alt
	if t.alt.name != nameLiveness {
		beneath.watch = func(conn net.Conn, o options) *watched { return &watched{Conn: conn} }
	}
	t.open(&beneath)
	server, client, err := livenesstest.TLSConfig()
	check(err)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1) // or the server sends no tickets
	server.ClientAuth = tls.RequestClientCert                   // or it sends them with its first words
	own, other := tls.Server(t.w.Conn, server), tls.Client(t.peer, client)
	if t.row.dialling {
		own, other = tls.Client(t.w.Conn, client), tls.Server(t.peer, server)
	}
	handshake := make(chan error, 1)
	go func() { handshake <- other.Handshake() }()
	check(errors.Join(own.Handshake(), <-handshake))
	t.peer = &livenesstest.Peer{Conn: other}
	if t.alt.name == nameLiveness {
		t.w.Conn = own
	} else {
		t.w = t.alt.watch(own, t.row.opts)
	}
}

// ask asks. An answer that does not come ends the trial.
func (t *trial) ask() error {
	result := make(chan error, 1)
	go func() { result <- t.w.probe() }()
	select {
	case err := <-result:
		return err
	case <-time.After(blockage):
		t.stop(blocked)
		return nil
	}
}

// alarm tells whether an end is reported within d, or by a check after that.
func (t *trial) alarm(d time.Duration) bool {
	select {
	case <-t.w.gone: // nil, and never ready, if the alternative does not report by itself
		return true
	case <-time.After(d):
	}
	for range 2 { // the first check may only have noted the end
		if t.w.probe != nil && t.ask() != nil {
			return true
		}
	}
	return false
}

// calm ends the trial at an alarm.
func (t *trial) calm(d time.Duration) {
	if t.alarm(d) {
		t.stop(falseAlarm)
	}
}

// await expects no report until end ends the connection, and then one within limit.
func (t *trial) await(limit time.Duration, end func() error) string {
	t.calm(20*time.Millisecond + rand.N(10*time.Millisecond)) // at any phase of connstate's 10 ms
	start := time.Now()
	check(end())
	return t.notice(start, limit)
}

func (t *trial) notice(start time.Time, limit time.Duration) string {
	select {
	case <-t.w.gone:
		t.cell.after = time.Since(start)
		return found
	case <-time.After(5 * time.Millisecond):
	}
	if t.w.gone == nil && t.w.probe != nil && t.ask() != nil {
		t.cell.asked = true
		return found
	}
	if time.Since(start) > limit {
		return missed
	}
	return t.notice(start, limit)
}

func (t *trial) peerSends(n int) {
	must(t.peer.Write(make([]byte, n)))
	time.Sleep(10 * time.Millisecond) // until it has been received
}

// receive ends the trial unless the application gets n bytes.
func (t *trial) receive(n int) string {
	got := 0
	if t.w.Conn != nil {
		t.w.SetReadDeadline(time.Now().Add(patience))
		got, _ = io.ReadFull(t.w, make([]byte, n))
		t.w.SetReadDeadline(time.Time{})
	} else if t.w.received == nil {
		return ok
	}
	for start := time.Now(); t.w.received != nil && got < n && time.Since(start) < patience; time.Sleep(time.Millisecond) {
		got = t.w.received()
	}
	if got != n {
		t.stop(eaten)
	}
	return ok
}

// respond proves that what the application writes reaches the peer.
func (t *trial) respond() string {
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
			return lost
		}
	}
	if <-sent != nil {
		return lost
	}
	return ok
}
