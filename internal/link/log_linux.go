package link

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// TCP flags of a [Packet].
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// A header is what the log keeps of a packet.
type header struct {
	sourcePort, destinationPort uint16 // 0 if the packet is not TCP
	flags                       uint8
	seq, ack                    uint32
	length                      int // of the payload
}

// parse reads the headers of an IPv4 packet (RFC 791, RFC 9293).
func parse(p []byte) (h header, ok bool) {
	if len(p) < 20 || p[0]>>4 != 4 {
		return h, false
	}
	begin := int(p[0]&15) * 4
	if p[9] != 6 || begin < 20 || len(p) < begin+20 {
		return h, true
	}
	tcp := p[begin:]
	return header{
		sourcePort:      binary.BigEndian.Uint16(tcp),
		destinationPort: binary.BigEndian.Uint16(tcp[2:]),
		seq:             binary.BigEndian.Uint32(tcp[4:]),
		ack:             binary.BigEndian.Uint32(tcp[8:]),
		flags:           tcp[13],
		length:          len(tcp) - int(tcp[12]>>4)*4,
	}, true
}

// A flowKey names one direction of one connection.
type flowKey struct {
	to                    Side
	localPort, remotePort uint16
}

func keyOf(from Side, h header) flowKey {
	if from == Remote {
		return flowKey{Local, h.destinationPort, h.sourcePort}
	}
	return flowKey{Remote, h.sourcePort, h.destinationPort}
}

type log struct {
	mu    sync.Mutex
	start time.Time
	flows map[flowKey]*Flow
}

// flow is called with mu held.
func (g *log) flow(key flowKey) *Flow {
	f := g.flows[key]
	if f == nil {
		f = &Flow{mu: &g.mu, forgotten: g.start, forgottenAck: g.start}
		g.flows[key] = f
	}
	return f
}

func (g *log) dropped(from Side, h header) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flow(keyOf(from, h)).drops++
}

func (g *log) delivered(from Side, h header, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flow(keyOf(from, h)).add(Packet{At: at, Flags: h.flags, Seq: h.seq, Ack: h.ack, Len: h.length})
}

// Heard returns the log of what the link delivered to conn, which is either end of a
// connection over the link, or wraps it.
func (l *Link) Heard(conn net.Conn) *Flow {
	here, there := conn.LocalAddr().(*net.TCPAddr), conn.RemoteAddr().(*net.TCPAddr)
	key := flowKey{Local, uint16(here.Port), uint16(there.Port)}
	if here.IP.Equal(addresses[Remote]) {
		key = flowKey{Remote, uint16(there.Port), uint16(here.Port)}
	}
	l.log.mu.Lock()
	defer l.log.mu.Unlock()
	return l.log.flow(key)
}

// A Packet is a TCP segment that the link delivered.
type Packet struct {
	At       time.Time
	Flags    uint8
	Seq, Ack uint32
	Len      int  // of the payload
	Advances bool // it acknowledges more than any packet before it
}

func (p Packet) String() string {
	var flags strings.Builder
	for i, r := range "FSRPA" {
		if p.Flags&(1<<i) != 0 {
			flags.WriteRune(r)
		}
	}
	return fmt.Sprintf("%s %s seq %d ack %d len %d", p.At.Format("05.000"), flags.String(), p.Seq, p.Ack, p.Len)
}

// A Flow is the log of the packets that were delivered to one end of a connection. It
// keeps the last of them, so that the questions about a time must be about one that is
// not long ago.
type Flow struct {
	mu      *sync.Mutex
	packets []Packet // a ring from next on, once it is full
	next    int
	total   int
	drops   int

	acknowledged bool   // highest is valid
	highest      uint32 // acknowledgement number

	// Of the packets that are no longer in the ring:
	forgotten    time.Time     // the last of them
	forgottenAck time.Time     // the last of them that advances
	forgottenGap time.Duration // the longest time between two of them
}

const keptPackets = 2048

func (f *Flow) add(p Packet) {
	if p.Flags&ACK != 0 && (!f.acknowledged || int32(p.Ack-f.highest) > 0) {
		p.Advances = true
		f.acknowledged, f.highest = true, p.Ack
	}
	f.total++
	if len(f.packets) < keptPackets {
		f.packets = append(f.packets, p)
		return
	}
	old := &f.packets[f.next]
	if f.total > keptPackets+1 {
		f.forgottenGap = max(f.forgottenGap, old.At.Sub(f.forgotten))
	}
	f.forgotten = old.At
	if old.Advances {
		f.forgottenAck = old.At
	}
	*old = p
	f.next = (f.next + 1) % keptPackets
}

// until yields the packets that are kept and were delivered before at, the oldest first.
func (f *Flow) until(at time.Time, yield func(Packet)) {
	for i := range f.packets {
		if p := f.packets[(f.next+i)%len(f.packets)]; !p.At.After(at) {
			yield(p)
		}
	}
}

// LastHeard returns when the last packet before at was delivered. Without any it is when
// the link was made.
func (f *Flow) LastHeard(at time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.forgotten
	f.until(at, func(p Packet) { last = p.At })
	return last
}

// SilentFor returns for how long nothing had been delivered at that time.
func (f *Flow) SilentFor(at time.Time) time.Duration { return at.Sub(f.LastHeard(at)) }

// LongestSilence returns the longest time without a packet between the first one and at.
func (f *Flow) LongestSilence(at time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.total == 0 {
		return 0
	}
	longest, last := f.forgottenGap, f.forgotten
	if f.total <= keptPackets {
		last = f.packets[0].At
	}
	f.until(at, func(p Packet) { longest, last = max(longest, p.At.Sub(last)), p.At })
	return max(longest, at.Sub(last))
}

// UnacknowledgedFor returns for how long, at that time, no packet had acknowledged
// anything that had not been acknowledged before.
func (f *Flow) UnacknowledgedFor(at time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.forgottenAck
	f.until(at, func(p Packet) {
		if p.Advances {
			last = p.At
		}
	})
	return at.Sub(last)
}

// Delivered counts the packets that the link delivered.
func (f *Flow) Delivered() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// Dropped counts the packets that the link did not deliver.
func (f *Flow) Dropped() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.drops
}

// Packets returns the last packets, 2048 at most, the oldest first.
func (f *Flow) Packets() (packets []Packet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until(time.Now(), func(p Packet) { packets = append(packets, p) })
	return packets
}
