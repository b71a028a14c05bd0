package liveness

import (
	"sync"
	"time"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// A sample is the evidence that a connection shows besides how it ended.
type sample struct {
	lean     bool // in: the counts unread and unacked are not needed
	taken    bool // the kernel told
	info     tcpinfo.Info
	unread   int  // bytes received that the application has not read
	readable int  // the same, also where the clock must not judge by it
	unacked  int  // bytes written and not acknowledged, with those not sent yet
	queued   int  // bytes in the send queue; the progress counter where TCP_INFO has none
	drained  bool // the send queue is empty

	// Before and after the kernel was asked: the process may have been suspended there.
	asked, answered time.Time

	heard    time.Time // when the last byte came
	noReader bool      // the kernel counts nothing, and no Read waits that would tell
}

// A sampleCall is to a sample what a checkCall is to a check.
type sampleCall struct {
	at   func(fd uintptr)
	sock *socket
	sample
}

var sampleCalls = sync.Pool{New: func() any {
	c := new(sampleCall)
	c.at = func(fd uintptr) { c.taken = c.sock.sampleAt(fd, &c.sample) }
	return c
}}

// sample fills out. It returns false if the descriptor is closed or shows nothing.
func (s *socket) sample(out *sample) bool {
	c := sampleCalls.Get().(*sampleCall)
	defer sampleCalls.Put(c)
	c.sock, c.sample = s, sample{lean: out.lean}
	_ = s.raw.Control(c.at) // after an error, nothing is taken
	c.sock = nil
	*out = c.sample
	return out.taken
}
