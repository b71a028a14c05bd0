//go:build linux

package bench

import (
	"io"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

func ownDeadline(t *trial) cell {
	t.w.SetDeadline(time.Now().Add(-time.Second))
	alarm := t.alarm(settle)
	t.w.SetDeadline(time.Time{})
	if alarm != nil {
		return *alarm
	}
	return t.exchange(0)
}

func keptDeadline(t *trial) cell {
	t.w.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if c := t.alarm(10 * time.Millisecond); c != nil {
		return *c
	}
	over := make(chan struct{})
	go func() { t.w.Read(make([]byte, 1)); close(over) }()
	select {
	case <-over:
		return cell{verdict: ok}
	case <-time.After(patience):
		return cell{verdict: rewritten}
	}
}

func pending(t *trial) cell {
	if err := t.peerSends(fewBytes); err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	alarm := t.alarm(settle)
	c := t.exchange(fewBytes)
	if alarm == nil {
		return c
	}
	if c.verdict == eaten {
		alarm.verdict += ", " + eaten
	}
	return *alarm
}

func lateResponse(t *trial) cell {
	if err := t.peer.CloseWrite(); err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	alarm := t.alarm(settle)
	if c := t.respond(); alarm == nil || c.verdict != ok {
		return c
	}
	return *alarm
}

func ownCloseRead(t *trial) cell {
	if err := t.w.Conn.(interface{ CloseRead() error }).CloseRead(); err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	if c := t.alarm(settle); c != nil {
		return *c
	}
	return t.respond()
}

func parkedReader(t *trial) cell {
	got := make(chan string, 1)
	go func() {
		b := make([]byte, 5)
		io.ReadFull(t.w, b)
		got <- string(b)
	}()
	time.Sleep(10 * time.Millisecond)
	if c := t.alarm(settle); c != nil {
		return *c
	}
	if _, err := io.WriteString(t.peer, "hello"); err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	select {
	case s := <-got:
		if s == "hello" {
			return cell{verdict: ok}
		}
	case <-time.After(patience):
	}
	return cell{verdict: eaten}
}

// tickets has session tickets unread in the socket: bytes that are no application data.
func tickets(t *trial) cell {
	time.Sleep(20 * time.Millisecond)
	alarm := t.alarm(settle)
	go io.WriteString(t.peer, "hello")
	t.w.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 5)
	if _, err := io.ReadFull(t.w, b); err != nil || string(b) != "hello" {
		return cell{verdict: eaten}
	}
	if alarm != nil {
		return *alarm
	}
	return cell{verdict: ok}
}

// reuse closes a connection, has its descriptor used by another, and then calls what a program may call late. The clients
// are in another process, so that theirs are not the numbers.
func reuse(t *trial) cell {
	if t.w.gone == nil {
		return cell{verdict: na, note: "nothing is registered"}
	}
	first, number := t.w, descriptor(t.w.Conn)
	first.Conn.Close()
	for range 200 {
		if _, err := t.farm.do(order{Op: "dial", Addr: t.addr, N: 1}); err != nil {
			return cell{verdict: failed, note: err.Error()}
		}
		w, err := t.accept()
		if err != nil {
			return cell{verdict: failed, note: err.Error()}
		}
		if descriptor(w.Conn) != number {
			t.undo = append(t.undo, w.close)
			continue
		}
		first.close()
		if first.probe != nil {
			first.probe()
		}
		t.w = w
		c := t.await(patience, func() error { _, err := t.farm.do(order{Op: "close", N: 1}); return err })
		if c.verdict == found {
			return cell{verdict: ok}
		}
		return cell{verdict: mixedUp, note: c.verdict}
	}
	return cell{verdict: failed, note: "the descriptor was not used again"}
}

// zeroWindow fills the peer's window. The peer is there, and its kernel answers.
func zeroWindow(t *trial) cell {
	full := make([]byte, 1<<20)
	if t.w.Conn == nil {
		for range 8 {
			go t.w.send(full)
		}
		if c := t.alarm(cableFor + 2*time.Second); c != nil {
			return *c
		}
		return cell{verdict: ok}
	}
	t.w.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	for err := error(nil); err == nil; {
		_, err = t.w.Write(full)
	}
	t.w.SetWriteDeadline(time.Time{})
	if c := t.alarm(cableFor + 2*time.Second); c != nil {
		return *c
	}
	t.peer.Drain()
	t.w.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if _, err := t.w.Write(full); err != nil {
		return cell{verdict: falseAlarm, note: err.Error()}
	}
	return cell{verdict: ok}
}

// cableOut is an outage shorter than half of PeerTimeout, with data in flight.
func cableOut(t *trial) cell {
	mend, err := livenesstest.Cut(t.peer)
	if err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	t.w.send([]byte("while it was out"))
	time.Sleep(1500 * time.Millisecond)
	if err := mend(); err != nil {
		return cell{verdict: failed, note: err.Error()}
	}
	if c := t.alarm(3 * time.Second); c != nil {
		return *c
	}
	return t.respond()
}
