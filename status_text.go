package liveness

import (
	"encoding/json"
	"log/slog"
	"time"
)

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
