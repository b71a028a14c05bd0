package supervise

import (
	"time"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// A Detail says how much a sample has to tell.
type Detail uint8

const (
	Full Detail = iota
	Lean        // the counts Unread and Unacked are not needed
)

// A Sample is the evidence that a connection shows besides how it ended.
type Sample struct {
	Detail  Detail // in: what is asked for
	Taken   bool   // the kernel told
	Drained bool   // the send queue is empty
	Info    tcpinfo.Info
	Unread  int // bytes received that the application has not read
	Unacked int // bytes written and not acknowledged, with those not sent yet
	Queued  int // bytes in the send queue; the progress counter where TCP_INFO has none

	// Before and after the kernel was asked: the process may have been suspended there.
	Asked, Answered time.Time

	heard    time.Time // when the last byte came
	noReader bool      // the kernel counts nothing, and no Read waits that would tell
}

// heardSince reports whether the peer's host was heard no earlier than one second before
// began.
func (s *Sample) heardSince(began time.Time) bool {
	return s.Info.Silence() <= s.Asked.Sub(began)+time.Second
}
