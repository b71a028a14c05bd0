package link

import "time"

// An Arrival is a packet that completed more of the stream: what the receiver's application
// can read from then on.
type Arrival struct {
	At    time.Time
	Bytes int64 // of the stream, from its beginning
	FIN   bool  // all bytes and the FIN are there
}

// Arrivals returns when the stream came in order, until a RST ended it, and when that was,
// the zero time if none did: the RST must continue the stream, or what came ahead of it
// (tcp_validate_incoming in net/ipv4/tcp_input.c). ok is false if the log no longer begins
// with the SYN.
func (f *Flow) Arrivals() (arrivals []Arrival, reset time.Time, ok bool) {
	type segment struct {
		begin, end int64
		fin        bool
	}
	var pending []segment // ahead of what is missing
	var first uint32      // sequence number of the first byte
	last := Arrival{}
	for _, p := range f.Packets() {
		switch {
		case p.Flags&RST != 0:
			edge := last.Bytes
			for _, s := range pending {
				edge = max(edge, s.end)
			}
			if at := int64(int32(p.Seq - first)); at == last.Bytes || at == edge {
				return arrivals, p.At, ok
			}
			continue
		case p.Flags&SYN != 0:
			if !ok {
				first, ok = p.Seq+1, true
			}
			continue
		case !ok:
			return nil, reset, false
		case p.Len == 0 && p.Flags&FIN == 0:
			continue
		}
		begin := int64(int32(p.Seq - first))
		pending = append(pending, segment{begin, begin + int64(p.Len), p.Flags&FIN != 0})
		before := last
		for i := 0; i < len(pending); i++ {
			if s := pending[i]; s.begin <= last.Bytes {
				last.Bytes, last.FIN = max(last.Bytes, s.end), last.FIN || s.fin
				pending = append(pending[:i], pending[i+1:]...)
				i = -1
			}
		}
		if last.Bytes != before.Bytes || last.FIN != before.FIN {
			last.At = p.At
			arrivals = append(arrivals, last)
		}
	}
	return arrivals, reset, ok
}
