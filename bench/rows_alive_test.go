//go:build linux

package bench

import (
	"errors"
	"io"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

func ownDeadline(t *trial) string {
	t.w.SetDeadline(time.Now().Add(-time.Second))
	alarm := t.alarm(settle)
	t.w.SetDeadline(time.Time{})
	if alarm {
		return falseAlarm
	}
	return t.exchange(0)
}

func keptDeadline(t *trial) string {
	t.w.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	t.calm(10 * time.Millisecond)
	over := make(chan struct{})
	go func() { t.w.Read(make([]byte, 1)); close(over) }()
	select {
	case <-over:
		return ok
	case <-time.After(patience):
		return rewritten
	}
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
	return t.exchange(fewBytes)
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
	go func() {
		b := make([]byte, 5)
		io.ReadFull(t.w, b)
		got <- string(b)
	}()
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

// zeroWindow fills the peer's window. The peer is there, and its kernel answers.
func zeroWindow(t *trial) string {
	full := make([]byte, 1<<20)
	if t.w.Conn == nil {
		for range 8 {
			go t.w.send(full)
		}
		t.calm(cableFor + 2*time.Second)
		return ok
	}
	t.w.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	for err := error(nil); err == nil; {
		_, err = t.w.Write(full)
	}
	t.w.SetWriteDeadline(time.Time{})
	t.calm(cableFor + 2*time.Second)
	t.peer.Drain()
	t.w.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if _, err := t.w.Write(full); err != nil {
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
