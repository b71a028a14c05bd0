package keepalive

import "time"

// Interval is the least time between two probes.
const Interval = time.Second

// A Probe is a keep-alive probe sent on request, and what is to be undone once the
// peer was heard. Each system defines Send, Disarm and Restore.
type Probe struct {
	Sent     time.Time // of the last one; zero if there is none to undo
	Unheard  int       // how many were sent since the peer was heard
	Armed    bool      // the timer that sends the last one is set by us, and may not have fired
	Counted  int       // the kernel's count of unanswered probes before the last one
	Original Limits    // what the socket had before the first
}
