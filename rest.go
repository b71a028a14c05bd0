package liveness

import (
	"io"
	"sync"

	"github.com/go-liveness/liveness/internal/sock"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// A rest is what Read may still return after a verdict of the library: what had been
// received at that moment.
type rest struct {
	received int64 // bytes of the stream, where the kernel counts them; -1 elsewhere
	finished bool  // the peer's FIN had come

	mu     sync.Mutex // guards unread; held across a recv that does not wait
	unread int        // bytes that were unread then and are still
}

// set takes over what a sample says.
func (r *rest) set(s *sample) {
	r.received, r.unread = -1, s.readable
	r.finished = s.info.State == tcpinfo.CloseWait
	if s.info.Full && s.info.Received >= 0 {
		r.received = received(&s.info)
	}
}

// received counts the bytes of the stream that the kernel has received. The kernel counts
// a FIN as one (tcp_rcv_nxt_update in net/ipv4/tcp_input.c).
func received(i *tcpinfo.Info) int64 {
	if i.State == tcpinfo.CloseWait || i.State == tcpinfo.Finishing {
		return i.Received - 1
	}
	return i.Received
}

// drainsAfter reports whether Read goes around the wrapped connection after e. Another
// connection's Read may have changed what the socket gave it, as a cipher does.
func (c *Conn) drainsAfter(e *ending) bool {
	return c.interrupts(e) && !e.closing.Load() && c.sock.direct && !c.sock.mayBlock
}

// readRest reads what was unread at the verdict e, and then returns the verdict.
func (c *Conn) readRest(b []byte, e *ending) (n int, err error) {
	r := &e.rest
	r.mu.Lock()
	defer r.mu.Unlock()
	left := c.restUnread(e)
	if len(b) > 0 && left > 0 {
		err = c.sock.raw.Control(func(fd uintptr) { n, _ = sock.Drain(fd, b[:min(len(b), left)]) })
		r.unread -= n
	}
	switch {
	case n > 0 || len(b) == 0 && left > 0:
		return n, nil
	case err != nil:
		return 0, err
	case r.finished:
		return 0, io.EOF
	default:
		return 0, c.verdictError("read", e)
	}
}

// restUnread counts what was received before the verdict e and is still unread; rest.mu is
// held.
func (c *Conn) restUnread(e *ending) int {
	r := &e.rest
	if r.received < 0 {
		return r.unread
	}
	var s sample
	if !c.sock.sample(&s) {
		return 0
	}
	return s.unread - int(received(&s.info)-r.received)
}
