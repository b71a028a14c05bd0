package link

import (
	"encoding/binary"
	"net"
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

// A Packet is a TCP segment that the link delivered.
type Packet struct {
	At       time.Time
	Flags    uint8
	Seq, Ack uint32
	Len      int  // of the payload
	Advances bool // it acknowledges more than any packet before it
}

// A flowKey names one direction of one connection. Its ports are 0 for what is not TCP.
type flowKey struct {
	to                    Side
	localPort, remotePort uint16
}

// parse reads the headers of an IPv4 packet (RFC 791, RFC 9293).
func parse(from Side, b []byte) (key flowKey, p Packet, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return key, p, false
	}
	key.to = from.other()
	begin := int(b[0]&15) * 4
	if b[9] != 6 || begin < 20 || len(b) < begin+20 {
		return key, p, true
	}
	tcp := b[begin:]
	key.localPort, key.remotePort = binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:])
	if from == Remote {
		key.localPort, key.remotePort = key.remotePort, key.localPort
	}
	p.Seq, p.Ack = binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:])
	p.Flags, p.Len = tcp[13], len(tcp)-int(tcp[12]>>4)*4
	return key, p, true
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

func (g *log) severed(key flowKey) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows[key]
	return f != nil && f.severed
}

func (g *log) dropped(key flowKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flow(key).drops++
}

func (g *log) delivered(key flowKey, p Packet, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.At = at
	g.flow(key).add(p)
}

// Heard returns the log of what the link delivered to conn, which is either end of a
// connection over the link, or wraps it.
func (l *Link) Heard(conn net.Conn) *Flow {
	key := keyOf(conn)
	l.log.mu.Lock()
	defer l.log.mu.Unlock()
	return l.log.flow(key)
}

// keyOf returns the key of what is delivered to conn.
func keyOf(conn net.Conn) flowKey {
	here, there := conn.LocalAddr().(*net.TCPAddr), conn.RemoteAddr().(*net.TCPAddr)
	if here.IP.Equal(addresses[Remote]) {
		return flowKey{Remote, uint16(there.Port), uint16(here.Port)}
	}
	return flowKey{Local, uint16(here.Port), uint16(there.Port)}
}

// Sever drops what either end of one connection sends from now on. Packets that are on the
// way arrive.
func (l *Link) Sever(conn net.Conn) {
	key := keyOf(conn)
	l.log.mu.Lock()
	defer l.log.mu.Unlock()
	for _, key.to = range []Side{Local, Remote} {
		l.log.flow(key).severed = true
	}
}

// Forget frees the log of a connection that both ends have closed, and undoes Sever: another
// connection may get its ports.
func (l *Link) Forget(conn net.Conn) {
	key := keyOf(conn)
	l.log.mu.Lock()
	defer l.log.mu.Unlock()
	for _, key.to = range []Side{Local, Remote} {
		delete(l.log.flows, key)
	}
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
	severed bool

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

// Counts returns how many packets were delivered and how many were dropped.
func (f *Flow) Counts() (delivered, dropped int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total, f.drops
}

// Packets returns the last packets, 2048 at most, the oldest first.
func (f *Flow) Packets() (packets []Packet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until(time.Now(), func(p Packet) { packets = append(packets, p) })
	return packets
}
