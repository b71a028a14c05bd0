//go:build linux

package bench

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

// A row is one way to end, or a situation that must not look like an end.
type row struct {
	group, name string
	opts        options
	unread      bool // the client's request has a body, which nobody reads
	slow        bool // takes seconds, in which nothing is measured
	process     bool // the client is a process of its own
	tls         bool
	dialling    bool // the watched end is the TLS client
	needsConn   bool // of an alternative that leaves the application its connection
	known       map[string]string
	run         func(t *trial) string
	cells       [14]cell // by alternative
}

const (
	endings  = "Endings"
	atTheEnd = "At the end"
	noEnding = "No ending"
)

const (
	fewBytes  = 5000
	manyBytes = 60000
)

var cable = options{peerTimeout: cableFor}

// behind ends the connection behind bytes that nobody has read.
func behind(end func(*livenesstest.Peer) error) func(*trial) string {
	return func(t *trial) string {
		t.peerSends(fewBytes)
		return t.await(patience, func() error { return end(t.peer) })
	}
}

// received sends bytes, ends the connection, and expects the application to get them all after the report.
func received(limit time.Duration, end func(t *trial) error) func(*trial) string {
	return func(t *trial) string {
		if t.w.Conn == nil && t.w.received == nil {
			return na
		}
		t.await(limit, func() error { t.peerSends(manyBytes); return end(t) })
		return t.receive(manyBytes)
	}
}

func peerCloses(t *trial) error { return t.peer.Close() }
func peerResets(t *trial) error { return t.peer.Reset() }
func cut(t *trial) error        { _, err := livenesstest.Cut(t.peer); return err }
func cutInFlight(t *trial) error {
	return errors.Join(cut(t), t.w.send([]byte("into the void")))
}

var rows = []*row{
	{group: endings, name: "close (FIN)", run: func(t *trial) string { return t.await(patience, t.peer.Close) }},
	{group: endings, name: "close behind unread data", unread: true, run: behind((*livenesstest.Peer).Close), known: map[string]string{"conncheck": missed, "parked Read": missed}},
	{group: endings, name: "reset (RST)", run: func(t *trial) string { return t.await(patience, t.peer.Reset) }},
	{group: endings, name: "reset behind unread data", unread: true, run: behind((*livenesstest.Peer).Reset)},
	{group: endings, name: "half-close, where it is the end", run: func(t *trial) string { return t.await(patience, t.peer.CloseWrite) }},
	{group: endings, name: "TLS close", tls: true, run: func(t *trial) string { return t.await(patience, t.peer.Conn.Close) }},
	{group: endings, name: "process killed", process: true, run: func(t *trial) string { return t.await(patience, t.farm.cmd.Process.Kill) }},
	{group: endings, name: "cable cut, idle", slow: true, opts: cable, run: func(t *trial) string {
		return t.await(cableMax, func() error { return cut(t) })
	}},
	{group: endings, name: "cable cut, data in flight", slow: true, opts: cable, run: func(t *trial) string {
		return t.await(cableMax, func() error { return cutInFlight(t) })
	}, known: map[string]string{nameCheck: missed}},
	{group: endings, name: "process hangs, its kernel answers", slow: true, process: true, opts: options{readIdle: silence}, run: func(t *trial) string {
		start := time.Now()
		check(t.farm.cmd.Process.Signal(syscall.SIGSTOP))
		return t.notice(start, 4*silence)
	}, known: map[string]string{nameCheck: missed}},

	{group: atTheEnd, name: "bytes received before a FIN", run: received(patience, peerCloses), known: map[string]string{"mysql check": eaten}},
	{group: atTheEnd, name: "bytes received before a RST", run: received(patience, peerResets)},
	{group: atTheEnd, name: "bytes received before a cable cut", slow: true, opts: cable, run: received(cableMax, cutInFlight)},
	{group: atTheEnd, name: "ECONNRESET is left for Read", run: resetLeft, known: map[string]string{"go-redis check": stolen}},
	{group: atTheEnd, name: "own Close reaches the peer", run: ownClose, known: map[string]string{"blockuntilclosed": leaked}},
	{group: atTheEnd, name: "a forgotten connection is freed", slow: true, needsConn: true, opts: options{quiet: true}, run: forgotten},

	{group: noEnding, name: "own deadline expired", needsConn: true, run: ownDeadline, known: map[string]string{"mysql check": falseAlarm}},
	{group: noEnding, name: "own deadline is kept by a check", needsConn: true, run: keptDeadline, known: map[string]string{"mysql check": ok, "go-redis check": rewritten}},
	{group: noEnding, name: "data pending", unread: true, run: pending},
	{group: noEnding, name: "half-close, then a late response", opts: options{allowHalfClose: true}, run: lateResponse,
		known: map[string]string{nameCheck: falseAlarm, "net/http": falseAlarm, "netpoll": lost}},
	{group: noEnding, name: "own CloseRead", needsConn: true, run: ownCloseRead},
	{group: noEnding, name: "a reader parked in Read", needsConn: true, run: parkedReader, known: map[string]string{"conncheck": blocked}},
	{group: noEnding, name: "TLS session tickets unread", tls: true, dialling: true, run: tickets},
	{group: noEnding, name: "descriptor used again, late calls", process: true, needsConn: true, run: reuse,
		known: map[string]string{nameCheck: na, "connstate": mixedUp}},
	{group: noEnding, name: "peer reads nothing (zero window)", slow: true, opts: cable, run: zeroWindow},
	{group: noEnding, name: "cable out for 1.5 s", slow: true, opts: cable, run: cableOut},
}

func resetLeft(t *trial) string {
	if t.await(patience, t.peer.Reset) != found || t.w.Conn == nil && t.w.closeErr == nil {
		return na
	}
	var err error
	if t.w.Conn != nil {
		t.w.SetReadDeadline(time.Now().Add(patience))
		_, err = io.Copy(io.Discard, t.w)
	} else {
		err = t.w.closeErr()
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return ok
	}
	return stolen
}

func ownClose(t *trial) string {
	time.Sleep(10 * time.Millisecond)
	t.w.close()
	t.w.release = nil
	return t.peerSeesEnd(patience)
}

// forgotten drops the connection without Close and expects the garbage collector to close it.
func forgotten(t *trial) string {
	t.w = nil
	go func() {
		for range 30 {
			runtime.GC()
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return t.peerSeesEnd(3 * time.Second)
}

func (t *trial) peerSeesEnd(limit time.Duration) string {
	t.peer.SetReadDeadline(time.Now().Add(limit))
	if _, err := io.Copy(io.Discard, t.peer); errors.Is(err, os.ErrDeadlineExceeded) {
		return leaked
	}
	return ok
}

func ownDeadline(t *trial) string {
	t.w.SetDeadline(time.Now().Add(-time.Second))
	alarm := t.alarm(settle)
	t.w.SetDeadline(time.Time{})
	if alarm {
		return falseAlarm
	}
	t.peerSends(fewBytes)
	t.receive(fewBytes)
	return t.respond()
}

func keptDeadline(t *trial) string {
	t.w.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	t.calm(10 * time.Millisecond)
	start := time.Now()
	defer time.AfterFunc(patience, func() { t.w.SetReadDeadline(start) }).Stop()
	t.w.Read(make([]byte, 1))
	if time.Since(start) < patience {
		return ok
	}
	return rewritten
}

func pending(t *trial) (verdict string) {
	t.peerSends(fewBytes)
	if t.alarm(settle) {
		defer func() { // are the bytes still there?
			if verdict = falseAlarm; recover() == stopped(eaten) {
				verdict += ", " + eaten
			}
		}()
	}
	t.receive(fewBytes)
	return t.respond()
}

func lateResponse(t *trial) string {
	check(t.peer.CloseWrite())
	alarm := t.alarm(settle)
	if verdict := t.respond(); !alarm || verdict != ok {
		return verdict
	}
	return falseAlarm
}

func ownCloseRead(t *trial) string {
	check(t.w.Conn.(interface{ CloseRead() error }).CloseRead())
	t.calm(settle)
	return t.respond()
}

func parkedReader(t *trial) string {
	got := make(chan string, 1)
	go func() { b := make([]byte, 5); io.ReadFull(t.w, b); got <- string(b) }()
	time.Sleep(10 * time.Millisecond)
	t.calm(settle)
	io.WriteString(t.peer, "hello")
	select {
	case s := <-got:
		if s == "hello" {
			return ok
		}
	case <-time.After(patience):
	}
	return eaten
}

// tickets has session tickets unread in the socket: bytes that are no application data.
func tickets(t *trial) string {
	time.Sleep(20 * time.Millisecond)
	alarm := t.alarm(settle)
	go t.peer.Write(make([]byte, 5))
	t.receive(5)
	if alarm {
		return falseAlarm
	}
	return ok
}

// reuse closes a connection, has its descriptor used by another, and then calls what a program may call late. The clients
// are in another process, so that theirs are not the numbers.
func reuse(t *trial) string {
	if t.w.gone == nil {
		return na
	}
	first, number := t.w, descriptor(t.w.Conn)
	first.Conn.Close()
	for range 200 {
		t.farm.do("dial", 1, t.addr, "")
		t.w = t.accept()
		if descriptor(t.w.Conn) != number {
			t.undo = append(t.undo, t.w.close)
			continue
		}
		first.close()
		if first.probe != nil {
			first.probe()
		}
		if t.await(patience, func() error { t.farm.do("close", 1, "", ""); return nil }) == found {
			return ok
		}
		return mixedUp
	}
	panic(errors.New("the descriptor was not used again"))
}

// zeroWindow fills the peer's window, with more than both kernels' buffers take. The peer is there, and its kernel answers.
func zeroWindow(t *trial) string {
	sent := make(chan error, 1)
	go func() { sent <- t.w.send(make([]byte, 32<<20)) }()
	t.calm(cableFor + 2*time.Second)
	t.peer.Drain()
	if await(sent, 1) != nil {
		return falseAlarm
	}
	return ok
}

// cableOut is an outage shorter than half of PeerTimeout, with data in flight.
func cableOut(t *trial) string {
	mend := must(livenesstest.Cut(t.peer))
	t.w.send([]byte("while it was out"))
	time.Sleep(1500 * time.Millisecond)
	check(mend())
	t.calm(3 * time.Second)
	return t.respond()
}
