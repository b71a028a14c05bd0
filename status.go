package liveness

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-liveness/liveness/internal/supervise"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/verdict"
)

// A State is how a connection is, in one word. More states may be added; treat one that
// you do not know as [Connected] unless [Status.Err] says otherwise.
type State int

const (
	// Unknown is the zero value: no socket was found beneath the connection, or the
	// system shows nothing of it, so an end shows only when a Read or a Write fails.
	Unknown State = iota
	// Connected: nothing has ended.
	Connected
	// HalfClosed: the peer has sent its FIN, and Config.AllowHalfClose says that this is
	// not the end. It may still be reading.
	HalfClosed
	// Stalled: the peer's host answers, and its program takes no data.
	Stalled
	// Suspect: the peer's host owes an answer.
	Suspect
	// Disconnected: the end; [Status.Err] has the reason.
	Disconnected
)

var stateNames = [...]string{"unknown", "connected", "half-closed", "stalled", "suspect", "disconnected"}

// String returns the state in lower case.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "invalid"
	}
	return stateNames[s]
}

// MarshalText returns the word of String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Status is the state of a connection with the evidence for it. A field that a system
// does not tell is zero.
type Status struct {
	// State is the graver one where several hold at once.
	State State

	// Err is what [Conn.Err] returns: nil until the end, then the reason.
	Err error

	// Age is the time since the connection was wrapped or watched; it stops at the end.
	Age time.Duration

	// Silence is the time since anything was heard from the peer's host, data or
	// acknowledgement.
	Silence time.Duration

	// RTT is the kernel's smoothed round-trip time.
	RTT time.Duration

	// Received and Acked count bytes since the connection began: those that the kernel has
	// received in order, and those that the peer's host has acknowledged.
	Received, Acked int64

	// Unread counts the bytes received that the application has not read. Beneath TLS it
	// counts records, session tickets included.
	Unread int

	// Unacked counts the bytes written that the peer's host has not acknowledged, with
	// those that were not sent yet.
	Unacked int

	// Retransmits counts the retransmissions in a row that were not answered.
	Retransmits int

	// Probes counts the keep-alive or window probes in a row that were not answered.
	Probes int

	// DetectWithin is how long it takes at most until a peer that vanishes now is reported,
	// in the state that the connection is in; 0 means that there is no bound.
	DetectWithin time.Duration
}

// statusOf returns what a sample says of a connection that has not ended.
func statusOf(s *supervise.Sample) Status {
	i := &s.Info
	st := Status{
		State:       Connected,
		Unread:      s.Unread,
		Unacked:     s.Unacked,
		RTT:         i.RTT,
		Retransmits: i.Retransmits,
		Probes:      i.Probes,
	}
	if i.Full {
		st.Silence = i.Silence()
		// Acked of the kernel counts a SYN and a FIN, too.
		st.Received, st.Acked = max(0, i.ReceivedData()), max(0, i.Sent+i.Unsent-int64(s.Unacked))
	}
	switch {
	case verdict.Suspect(i):
		st.State = Suspect
	case i.Outstanding() && i.WindowClosed():
		st.State = Stalled
	case i.State == tcpinfo.CloseWait:
		st.State = HalfClosed
	}
	return st
}

// evidence puts into words what was not answered.
func (st *Status) evidence() string {
	var parts []string
	count := func(n int, one, many string) {
		switch {
		case n == 1:
			parts = append(parts, "1 "+one)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	if st.Unacked == 0 || st.Retransmits > 0 { // a window is probed in place of that
		count(st.Probes, "keep-alive probe unanswered", "keep-alive probes unanswered")
	} else {
		count(st.Probes, "window probe unanswered", "window probes unanswered")
	}
	count(st.Retransmits, "retransmission unanswered", "retransmissions unanswered")
	count(st.Unacked, "byte unacknowledged", "bytes unacknowledged")
	return strings.Join(parts, ", ")
}

// statusWords is a Status as JSON. Times are in seconds.
type statusWords struct {
	State        State   `json:"state"`
	Reason       Reason  `json:"reason,omitempty"`
	Error        string  `json:"error,omitempty"`
	Age          float64 `json:"age_seconds"`
	Silence      float64 `json:"silence_seconds"`
	RTT          float64 `json:"rtt_seconds"`
	Received     int64   `json:"received_bytes"`
	Acked        int64   `json:"acked_bytes"`
	Unread       int     `json:"unread_bytes"`
	Unacked      int     `json:"unacked_bytes"`
	Retransmits  int     `json:"retransmits"`
	Probes       int     `json:"probes"`
	DetectWithin float64 `json:"detect_within_seconds"`
}

// MarshalJSON writes the fields with their units in the names, the state and the reason as
// words, and the error as text. While connected there is no reason and no error.
func (st Status) MarshalJSON() ([]byte, error) {
	w := statusWords{
		State: st.State, Reason: ReasonOf(st.Err),
		Age: st.Age.Seconds(), Silence: st.Silence.Seconds(), RTT: st.RTT.Seconds(),
		Received: st.Received, Acked: st.Acked, Unread: st.Unread, Unacked: st.Unacked,
		Retransmits: st.Retransmits, Probes: st.Probes, DetectWithin: st.DetectWithin.Seconds(),
	}
	if st.Err != nil {
		w.Error = st.Err.Error()
	}
	return json.Marshal(w)
}

// LogValue is a group with the fields of MarshalJSON, with times as durations and without
// those that are zero.
func (st Status) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("state", st.State.String())}
	if st.Err != nil {
		attrs = append(attrs, slog.String("reason", string(ReasonOf(st.Err))), slog.String("error", st.Err.Error()))
	}
	duration := func(key string, d time.Duration) {
		if d != 0 {
			attrs = append(attrs, slog.Duration(key, d))
		}
	}
	count := func(key string, n int64) {
		if n != 0 {
			attrs = append(attrs, slog.Int64(key, n))
		}
	}
	duration("age", st.Age)
	duration("silence", st.Silence)
	duration("rtt", st.RTT)
	count("received_bytes", st.Received)
	count("acked_bytes", st.Acked)
	count("unread_bytes", int64(st.Unread))
	count("unacked_bytes", int64(st.Unacked))
	count("retransmits", int64(st.Retransmits))
	count("probes", int64(st.Probes))
	duration("detect_within", st.DetectWithin)
	return slog.GroupValue(attrs...)
}
