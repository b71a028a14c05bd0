//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

// Verdicts of a cell. What is not good is a fault, and n/a is neither.
const (
	found      = "found"
	ok         = "ok"
	missed     = "missed"
	falseAlarm = "false alarm"
	blocked    = "blocked"
	stolen     = "error stolen"
	eaten      = "bytes eaten"
	leaked     = "leaked"
	lost       = "response lost"
	endless    = "never ends"
	rewritten  = "deadline lost"
	notTold    = "mixed up"
	na         = "n/a"
	failed     = "failed" // the measurement, not the subject
)

// ownVerdict notes that it was the subject's, and not the application's deadline.
const ownVerdict = "after its own verdict"

// A cell is one observed run.
type cell struct {
	Verdict string
	After   time.Duration `json:",omitempty"` // how long after the end, for what tells by itself
	Asked   bool          `json:",omitempty"` // seen by the first look after the end
	Note    string        `json:",omitempty"`
}

func (c cell) good() bool { return c.Verdict == found || c.Verdict == ok }

func (c cell) String() string {
	switch {
	case c.Verdict == found && c.Asked:
		return "found (asked)"
	case c.Verdict == found:
		return "found " + short(c.After)
	}
	return c.Verdict
}

// short prints a duration with two digits that matter.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d >= time.Microsecond:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	}
	return fmt.Sprintf("%.0f ns", float64(d))
}

// A row is one way to end, or one that must not look like an end.
type row struct {
	name   string
	group  string
	opts   options
	unread bool // the client's request has a body that nobody reads
	slow   bool // takes seconds, so all subjects run at once
	run    func(t *trial) cell
}

// A trial is a subject on one connection.
type trial struct {
	row  *row
	sub  *subject
	srv  *server
	s    *attached
	peer *livenesstest.Peer // the client, in this process
	farm *farm              // the client, in a process of its own
	rest []func()
}

const (
	patience = time.Second            // how long an end may take to be noticed
	blockage = 400 * time.Millisecond // how long a look may take
	settle   = 150 * time.Millisecond // how long no alarm makes none
)

// open makes the connection.
func (t *trial) open() error {
	srv, err := t.sub.listen(t.row.opts)
	if err != nil {
		return err
	}
	t.srv = srv
	t.rest = append(t.rest, srv.stop)
	t.peer, err = livenesstest.Dial("tcp4", srv.addr)
	if err != nil {
		return err
	}
	t.rest = append(t.rest, func() { t.peer.Close() })
	if t.sub.prelude != nil {
		if _, err := io.WriteString(t.peer, t.sub.prelude(t.row.unread)); err != nil {
			return err
		}
	}
	t.s, err = srv.accept()
	return err
}

// openProcess makes the connection with a client in a process of its own.
func (t *trial) openProcess() error {
	srv, err := t.sub.listen(t.row.opts)
	if err != nil {
		return err
	}
	t.srv = srv
	t.rest = append(t.rest, srv.stop)
	if t.farm, err = startFarm(); err != nil {
		return err
	}
	t.rest = append(t.rest, func() { t.farm.stop() })
	prelude := ""
	if t.sub.prelude != nil {
		prelude = t.sub.prelude(false)
	}
	if err := t.farm.dial(srv.addr, prelude, 1); err != nil {
		return err
	}
	t.s, err = srv.accept()
	return err
}

// end tears down what the trial built; nothing in it may take for ever.
func (t *trial) end() {
	if t.s != nil {
		closed := make(chan struct{})
		go func() { t.s.close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(2 * time.Second):
		}
	}
	for _, f := range slices.Backward(t.rest) {
		f()
	}
}

// look asks, and reports whether an answer came.
func (t *trial) look() (err error, answered bool) {
	result := make(chan error, 1)
	go func() { result <- t.s.probe() }()
	select {
	case err := <-result:
		return err, true
	case <-time.After(blockage):
		return nil, false
	}
}

// await waits for the verdict on an end that happens in end.
func (t *trial) await(limit time.Duration, end func() error) cell {
	if c, calm := t.calm(20 * time.Millisecond); !calm {
		c.Note = "before the end"
		return c
	}
	start := time.Now()
	if err := end(); err != nil {
		return cell{Verdict: failed, Note: err.Error()}
	}
	return t.notice(start, limit)
}

func (t *trial) notice(start time.Time, limit time.Duration) cell {
	if t.s.gone != nil {
		select {
		case <-t.s.gone:
			return cell{Verdict: found, After: time.Since(start)}
		case <-time.After(limit):
			return cell{Verdict: missed}
		}
	}
	for time.Since(start) < limit {
		time.Sleep(5 * time.Millisecond)
		err, answered := t.look()
		if !answered {
			return cell{Verdict: blocked}
		}
		if err != nil {
			return cell{Verdict: found, After: time.Since(start), Asked: true, Note: err.Error()}
		}
	}
	return cell{Verdict: missed}
}

// calm makes sure that no end is told of for a while, nor when asked.
func (t *trial) calm(d time.Duration) (cell, bool) {
	if t.s.gone != nil {
		select {
		case <-t.s.gone:
			return cell{Verdict: falseAlarm}, false
		case <-time.After(d):
		}
	} else {
		time.Sleep(d)
	}
	if t.s.probe != nil {
		for range 2 {
			err, answered := t.look()
			if !answered {
				return cell{Verdict: blocked}, false
			}
			if err != nil {
				return cell{Verdict: falseAlarm, Note: err.Error()}, false
			}
		}
	}
	return cell{}, true
}

// exchange proves that the connection still works: pending bytes that the peer has
// sent before, and more, arrive whole, and an answer reaches the peer.
func (t *trial) exchange(pending []byte) cell {
	const more = "more"
	if _, err := t.peer.Write([]byte(more)); err != nil {
		return cell{Verdict: failed, Note: err.Error()}
	}
	want := append(slices.Clone(pending), more...)
	if t.s.received != nil {
		for deadline := time.Now().Add(patience); t.s.received() < len(want); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				return cell{Verdict: eaten, Note: fmt.Sprintf("%d of %d bytes", t.s.received(), len(want))}
			}
		}
	} else if t.s.Conn != nil {
		t.s.SetReadDeadline(time.Now().Add(patience))
		got := make([]byte, len(want))
		n, err := io.ReadFull(t.s, got)
		if err != nil || !bytes.Equal(got, want) {
			return cell{Verdict: eaten, Note: fmt.Sprintf("%d of %d bytes, %v", n, len(want), err)}
		}
		t.s.SetReadDeadline(time.Time{})
	}
	return t.respond()
}

// respond proves that what we write reaches the peer.
func (t *trial) respond() cell {
	const answer = "the late answer"
	sent := make(chan error, 1)
	go func() { sent <- t.s.send([]byte(answer)) }()
	t.peer.SetReadDeadline(time.Now().Add(patience))
	defer t.peer.SetReadDeadline(time.Time{})
	var got []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(got, []byte(answer)) {
		n, err := t.peer.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			return cell{Verdict: lost, Note: err.Error()}
		}
	}
	if err := <-sent; err != nil {
		return cell{Verdict: lost, Note: err.Error()}
	}
	return cell{Verdict: ok}
}

// drain reads what the application can still read.
func (t *trial) drain() (n int, err error) {
	t.s.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 64<<10)
	for {
		m, err := t.s.Read(buf)
		n += m
		if err != nil {
			return n, err
		}
	}
}

func (t *trial) needsConn() (cell, bool) {
	if t.s.Conn == nil {
		return cell{Verdict: na}, false
	}
	return cell{}, true
}

// opened wraps what a row does in a connection with the client in this process.
func opened(f func(t *trial) cell) func(*trial) cell {
	return func(t *trial) cell {
		if err := t.open(); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		return f(t)
	}
}

func openedProcess(f func(t *trial) cell) func(*trial) cell {
	return func(t *trial) cell {
		if err := t.openProcess(); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		return f(t)
	}
}

// tlsTrial makes a pair under TLS; ours is the accepting end, or the dialling one.
func (t *trial) tlsTrial(dialling bool) (other *tls.Conn, c cell, done bool) {
	if t.sub.watch == nil {
		return nil, cell{Verdict: na}, true
	}
	bad := func(err error) (*tls.Conn, cell, bool) {
		return nil, cell{Verdict: failed, Note: err.Error()}, true
	}
	serverConfig, clientConfig, err := livenesstest.TLSConfig()
	if err != nil {
		return bad(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return bad(err)
	}
	defer l.Close()
	t.peer, err = livenesstest.Dial("tcp4", l.Addr().String())
	if err != nil {
		return bad(err)
	}
	t.rest = append(t.rest, func() { t.peer.Close() })
	conn, err := l.Accept()
	if err != nil {
		return bad(err)
	}
	t.rest = append(t.rest, func() { conn.Close() })
	// Or the client asks for no tickets, and the server sends them with its first words.
	clientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	serverConfig.ClientAuth = tls.RequestClientCert
	var beneath net.Conn = conn
	var s *attached
	if t.sub.name == nameLiveness { // the documented order: beneath TLS
		if s, err = t.sub.watch(conn, t.row.opts); err != nil {
			return bad(err)
		}
		beneath = s.Conn
	}
	var our *tls.Conn
	if dialling {
		our, other = tls.Client(beneath, clientConfig), tls.Server(t.peer, serverConfig)
	} else {
		our, other = tls.Server(beneath, serverConfig), tls.Client(t.peer, clientConfig)
	}
	handshake := make(chan error, 1)
	go func() { handshake <- other.Handshake() }()
	if err := our.Handshake(); err != nil {
		return bad(err)
	}
	if err := <-handshake; err != nil {
		return bad(err)
	}
	if s == nil {
		if s, err = t.sub.watch(our, t.row.opts); err != nil {
			return nil, cell{Verdict: na, Note: err.Error()}, true
		}
	} else {
		s = &attached{Conn: our, gone: s.gone, probe: s.probe, release: s.release, closeErr: s.closeErr}
	}
	t.s = s
	return other, cell{}, false
}

const unreadBytes = 5000

func (t *trial) peerSends(n int) error {
	if _, err := t.peer.Write(make([]byte, n)); err != nil {
		return err
	}
	time.Sleep(10 * time.Millisecond)
	return nil
}

var rows = []*row{
	{name: "close (FIN)", group: "Endings", run: opened(func(t *trial) cell {
		return t.await(patience, t.peer.Close)
	})},
	{name: "close behind unread data", group: "Endings", unread: true, run: opened(func(t *trial) cell {
		if err := t.peerSends(unreadBytes); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		return t.await(patience, t.peer.Close)
	})},
	{name: "reset (RST)", group: "Endings", run: opened(func(t *trial) cell {
		return t.await(patience, t.peer.Reset)
	})},
	{name: "reset behind unread data", group: "Endings", unread: true, run: opened(func(t *trial) cell {
		if err := t.peerSends(unreadBytes); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		return t.await(patience, t.peer.Reset)
	})},
	{name: "half-close, where it is the end", group: "Endings", run: opened(func(t *trial) cell {
		return t.await(patience, t.peer.CloseWrite)
	})},
	{name: "TLS close", group: "Endings", run: func(t *trial) cell {
		other, c, done := t.tlsTrial(false)
		if done {
			return c
		}
		return t.await(patience, other.Close)
	}},
	{name: "process killed", group: "Endings", run: openedProcess(func(t *trial) cell {
		return t.await(patience, func() error { return t.farm.cmd.Process.Kill() })
	})},
	{name: "cable cut, idle", group: "Endings", slow: true, opts: options{peerTimeout: 4 * time.Second}, run: opened(func(t *trial) cell {
		return t.await(7*time.Second, func() error { _, err := livenesstest.Cut(t.peer); return err })
	})},
	{name: "cable cut, data in flight", group: "Endings", slow: true, opts: options{peerTimeout: 4 * time.Second}, run: opened(func(t *trial) cell {
		return t.await(7*time.Second, func() error {
			if _, err := livenesstest.Cut(t.peer); err != nil {
				return err
			}
			return t.s.send([]byte("into the void"))
		})
	})},
	{name: "process hangs, its kernel answers", group: "Endings", slow: true, opts: options{readIdle: time.Second}, run: openedProcess(func(t *trial) cell {
		start := time.Now()
		if err := t.farm.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		return t.notice(start, 3*time.Second)
	})},

	{name: "bytes received before a FIN", group: "At the end", run: opened(func(t *trial) cell {
		const n = 60000
		v := t.await(patience, func() error { return errors.Join(t.peerSends(n), t.peer.Close()) })
		return t.allKept(v, n)
	})},
	{name: "bytes received before a RST", group: "At the end", run: opened(func(t *trial) cell {
		const n = 60000
		v := t.await(patience, func() error { return errors.Join(t.peerSends(n), t.peer.Reset()) })
		return t.allKept(v, n)
	})},
	{name: "bytes received before a time-out", group: "At the end", slow: true, opts: options{readIdle: 700 * time.Millisecond}, run: opened(func(t *trial) cell {
		const n = 60000
		if err := t.peerSends(n); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		var told bool
		select {
		case <-t.s.gone:
			told = true
		case <-time.After(2 * time.Second):
		}
		if told {
			c := t.allKept(cell{Verdict: ok}, n)
			if c.good() {
				c.Note = ownVerdict
			}
			return c
		}
		if t.s.Conn == nil {
			return cell{Verdict: na, Note: "no verdict of its own"}
		}
		// The application's read deadline is all there is.
		t.s.SetReadDeadline(time.Now().Add(-time.Second))
		m, err := t.s.Read(make([]byte, 1))
		if m == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
			return cell{Verdict: failed, Note: fmt.Sprint(err)}
		}
		return t.allKept(cell{Verdict: ok}, n-m)
	})},
	{name: "bytes received before a cable cut", group: "At the end", slow: true, opts: options{peerTimeout: 4 * time.Second}, run: opened(func(t *trial) cell {
		const n = 60000
		return t.allKept(t.await(7*time.Second, func() error {
			if err := t.peerSends(n); err != nil {
				return err
			}
			if _, err := livenesstest.Cut(t.peer); err != nil {
				return err
			}
			return t.s.send([]byte("into the void"))
		}), n)
	})},
	{name: "ECONNRESET is left for Read", group: "At the end", run: opened(func(t *trial) cell {
		if v := t.await(patience, t.peer.Reset); !v.good() {
			return cell{Verdict: na, Note: v.Verdict}
		}
		var err error
		if t.s.Conn != nil {
			_, err = t.drain()
		} else if t.s.closeErr != nil {
			err = t.s.closeErr()
		} else {
			return cell{Verdict: na, Note: "no error is told"}
		}
		if errors.Is(err, syscall.ECONNRESET) {
			return cell{Verdict: ok}
		}
		return cell{Verdict: stolen, Note: fmt.Sprint(err)}
	})},
	{name: "a retry loop ends", group: "At the end", slow: true, opts: options{readIdle: 700 * time.Millisecond}, run: opened(func(t *trial) cell {
		if c, has := t.needsConn(); !has {
			return c
		}
		if v := t.notice(time.Now(), 2*time.Second); !v.good() {
			return cell{Verdict: na, Note: "no verdict of its own"}
		}
		// The loop takes a time-out for its own, and waits on with a new deadline.
		var b [1]byte
		rounds := 0
		for start := time.Now(); time.Since(start) < 4*t.row.opts.readIdle; rounds++ {
			t.s.SetReadDeadline(time.Now().Add(t.row.opts.readIdle))
			_, err := t.s.Read(b[:])
			var timeout net.Error
			if err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
				return cell{Verdict: ok, Note: err.Error()}
			}
		}
		return cell{Verdict: endless, Note: fmt.Sprintf("%d time-outs in %v", rounds, 4*t.row.opts.readIdle)}
	})},
	{name: "own Close reaches the peer", group: "At the end", run: opened(func(t *trial) cell {
		time.Sleep(10 * time.Millisecond)
		t.s.close()
		t.s.release = nil
		t.peer.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, t.peer); errors.Is(err, os.ErrDeadlineExceeded) {
			return cell{Verdict: leaked, Note: "no FIN"}
		}
		return cell{Verdict: ok}
	})},
	{name: "a forgotten connection is freed", group: "At the end", slow: true, opts: options{quiet: true}, run: opened(func(t *trial) cell {
		if c, has := t.needsConn(); !has {
			return c
		}
		t.s = nil
		freed := make(chan error, 1)
		t.peer.SetReadDeadline(time.Now().Add(3 * time.Second))
		go func() { _, err := io.Copy(io.Discard, t.peer); freed <- err }()
		for {
			runtime.GC()
			select {
			case err := <-freed:
				if errors.Is(err, os.ErrDeadlineExceeded) {
					return cell{Verdict: leaked}
				}
				return cell{Verdict: ok}
			case <-time.After(50 * time.Millisecond):
			}
		}
	})},

	{name: "own deadline expired", group: "No ending", run: opened(func(t *trial) cell {
		if c, has := t.needsConn(); !has {
			return c
		}
		t.s.SetDeadline(time.Now().Add(-time.Second))
		c, calm := t.calm(settle)
		t.s.SetDeadline(time.Time{})
		if !calm {
			return c
		}
		return t.exchange(nil)
	})},
	{name: "own deadline is kept by a look", group: "No ending", run: opened(func(t *trial) cell {
		if c, has := t.needsConn(); !has {
			return c
		}
		t.s.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if c, calm := t.calm(10 * time.Millisecond); !calm {
			return c
		}
		over := make(chan struct{})
		go func() { t.s.Read(make([]byte, 1)); close(over) }()
		select {
		case <-over:
			return cell{Verdict: ok}
		case <-time.After(patience):
			return cell{Verdict: rewritten}
		}
	})},
	{name: "data pending", group: "No ending", unread: true, run: opened(func(t *trial) cell {
		if err := t.peerSends(unreadBytes); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		if c, calm := t.calm(settle); !calm {
			if e := t.exchange(make([]byte, unreadBytes)); e.Verdict == eaten {
				c.Verdict += ", " + eaten
			}
			return c
		}
		return t.exchange(make([]byte, unreadBytes))
	})},
	{name: "half-close, then a late response", group: "No ending", opts: options{allowHalfClose: true}, run: opened(func(t *trial) cell {
		if err := t.peer.CloseWrite(); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		c, calm := t.calm(settle)
		if r := t.respond(); !r.good() {
			return r
		}
		if !calm {
			return c
		}
		return cell{Verdict: ok}
	})},
	{name: "own CloseRead", group: "No ending", run: opened(func(t *trial) cell {
		half, has := t.s.Conn.(interface{ CloseRead() error })
		if !has {
			return cell{Verdict: na}
		}
		if err := half.CloseRead(); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		if c, calm := t.calm(settle); !calm {
			return c
		}
		return t.respond()
	})},
	{name: "a reader parked in Read", group: "No ending", run: opened(func(t *trial) cell {
		if c, has := t.needsConn(); !has {
			return c
		}
		got := make(chan string, 1)
		go func() {
			b := make([]byte, 5)
			io.ReadFull(t.s, b)
			got <- string(b)
		}()
		time.Sleep(10 * time.Millisecond)
		if c, calm := t.calm(settle); !calm {
			return c
		}
		if _, err := t.peer.Write([]byte("hello")); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		select {
		case s := <-got:
			if s != "hello" {
				return cell{Verdict: eaten}
			}
		case <-time.After(patience):
			return cell{Verdict: eaten}
		}
		return cell{Verdict: ok}
	})},
	{name: "TLS session tickets unread", group: "No ending", run: func(t *trial) cell {
		other, c, done := t.tlsTrial(true)
		if done {
			return c
		}
		time.Sleep(20 * time.Millisecond)
		alarm, calm := t.calm(settle)
		go other.Write([]byte("hello"))
		t.s.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 5)
		if _, err := io.ReadFull(t.s, b); err != nil || string(b) != "hello" {
			return cell{Verdict: eaten, Note: fmt.Sprint(err)}
		}
		if !calm {
			return alarm
		}
		return cell{Verdict: ok}
	}},
	{name: "descriptor used again, late calls", group: "No ending", run: reuse},
	{name: "peer reads nothing (zero window)", group: "No ending", slow: true, opts: options{peerTimeout: 4 * time.Second}, run: opened(func(t *trial) cell {
		full := make([]byte, 1<<20)
		if t.s.Conn != nil {
			t.s.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			for {
				if _, err := t.s.Write(full); err != nil {
					break
				}
			}
			t.s.SetWriteDeadline(time.Time{})
		} else {
			for range 8 {
				go t.s.send(full)
			}
		}
		if c, calm := t.calm(6 * time.Second); !calm {
			return c
		}
		if t.s.Conn == nil {
			return cell{Verdict: ok}
		}
		t.peer.Drain()
		t.s.SetWriteDeadline(time.Now().Add(3 * time.Second))
		if _, err := t.s.Write(full); err != nil {
			return cell{Verdict: falseAlarm, Note: err.Error()}
		}
		return cell{Verdict: ok}
	})},
	{name: "cable out for 1.5 s", group: "No ending", slow: true, opts: options{peerTimeout: 4 * time.Second}, run: opened(func(t *trial) cell {
		mend, err := livenesstest.Cut(t.peer)
		if err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		t.s.send([]byte("while it was out"))
		time.Sleep(1500 * time.Millisecond)
		if err := mend(); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		if c, calm := t.calm(3 * time.Second); !calm {
			return c
		}
		return t.respond()
	})},
}

// allKept reads what the verdict v left to the application.
func (t *trial) allKept(v cell, n int) cell {
	if v.Verdict == blocked || v.Verdict == failed {
		return v
	}
	got := 0
	var err error
	switch {
	case t.s.Conn != nil:
		got, err = t.drain()
	case t.s.received != nil:
		for deadline := time.Now().Add(patience / 2); t.s.received() < n && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		got = t.s.received()
	default:
		return cell{Verdict: na}
	}
	if got != n {
		return cell{Verdict: eaten, Note: fmt.Sprintf("%d of %d bytes, %v", got, n, err)}
	}
	return cell{Verdict: ok}
}

// reuse closes a connection and gives its descriptor to another, which is ended
// after the first has been closed and released once more, late.
func reuse(t *trial) cell {
	if t.sub.watch == nil {
		return cell{Verdict: na}
	}
	// The clients are in another process, or theirs would be the numbers.
	if err := t.openProcess(); err != nil {
		return cell{Verdict: failed, Note: err.Error()}
	}
	if t.s.gone == nil {
		return cell{Verdict: na, Note: "nothing is registered"}
	}
	first, number := t.s, descriptor(t.s.Conn)
	first.Conn.Close()
	var second *attached
	for range 50 {
		if err := t.farm.dial(t.srv.addr, "", 1); err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		s, err := t.srv.accept()
		if err != nil {
			return cell{Verdict: failed, Note: err.Error()}
		}
		t.rest = append(t.rest, s.close)
		if descriptor(s.Conn) == number {
			second = s
			break
		}
	}
	if second == nil {
		return cell{Verdict: na, Note: "the number did not come again"}
	}
	first.close() // late
	if first.probe != nil {
		first.probe()
	}
	t.s = second
	v := t.await(patience, func() error { _, err := t.farm.do(farmOrder{Op: "close", N: 1}); return err })
	if v.Verdict == found {
		return cell{Verdict: ok}
	}
	return cell{Verdict: notTold, Note: v.Verdict}
}

func descriptor(conn net.Conn) int {
	fd := -1
	if p, isParked := conn.(*parked); isParked {
		conn = p.Conn
	}
	if raw, err := rawOf(conn); err == nil {
		raw.Control(func(f uintptr) { fd = int(f) })
	}
	return fd
}

// A correctReport is the table.
type correctReport struct {
	Machine  machine
	Rounds   int
	Subjects []subjectInfo
	Rows     []rowReport
}

type subjectInfo struct{ Name, Version, How string }

type rowReport struct {
	Name, Group string
	Cells       map[string]cell
}

func try(r *row, s *subject) cell {
	t := &trial{row: r, sub: s}
	defer t.end()
	return r.run(t)
}

// correct runs the table. What is fast is run rounds times, and the worst verdict
// counts, with the median time.
func correct(subjects []*subject, rounds int, wanted func(*row) bool, progress progressFunc) *correctReport {
	rep := &correctReport{Machine: thisMachine(), Rounds: rounds}
	for _, s := range subjects {
		rep.Subjects = append(rep.Subjects, subjectInfo{s.name, s.version(), s.how})
	}
	for _, r := range rows {
		if wanted != nil && !wanted(r) {
			continue
		}
		progress("%s\n", r.name)
		out := rowReport{Name: r.name, Group: r.group, Cells: make(map[string]cell)}
		var mu sync.Mutex
		if r.slow {
			var wg sync.WaitGroup
			for _, s := range subjects {
				wg.Go(func() {
					c := try(r, s)
					mu.Lock()
					defer mu.Unlock()
					out.Cells[s.name] = c
				})
			}
			wg.Wait()
		} else {
			runs := make(map[string][]cell)
			for range rounds {
				for _, s := range subjects {
					if n := len(runs[s.name]); n > 0 && !runs[s.name][n-1].good() {
						continue // it will not get better
					}
					runs[s.name] = append(runs[s.name], try(r, s))
				}
			}
			for name, cells := range runs {
				out.Cells[name] = worst(cells)
			}
		}
		rep.Rows = append(rep.Rows, out)
	}
	return rep
}

func worst(cells []cell) cell {
	for _, c := range cells {
		if !c.good() {
			return c
		}
	}
	slices.SortFunc(cells, func(a, b cell) int { return int(a.After - b.After) })
	return cells[len(cells)/2]
}
