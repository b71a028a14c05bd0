package link

import (
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"
)

// A pipe carries the packets that one side sends.
type pipe struct {
	log     *log
	from    Side
	in, out *os.File

	mu     sync.Mutex
	path   Path
	random *rand.Rand
	queue  []queued // by the time of delivery
	late   time.Duration
	wake   chan struct{} // the first packet of the queue is a new one
	done   chan struct{}
}

func newPipe(log *log, from Side, in *os.File, o Options) *pipe {
	return &pipe{
		log: log, from: from, in: in,
		path:   o.Paths[from],
		random: rand.New(rand.NewPCG(o.Seed, uint64(from))),
		wake:   make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
}

func (p *pipe) change(f func(*Path)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.path)
}

func (p *pipe) lateness() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.late
}

func (p *pipe) close() error {
	close(p.done)
	return p.in.Close()
}

// admitAll takes the packets of the sender until the device is closed.
func (p *pipe) admitAll() {
	buf := make([]byte, 1<<16)
	for {
		n, err := p.in.Read(buf)
		if err != nil {
			return
		}
		p.admit(buf[:n], time.Now())
	}
}

func (p *pipe) admit(packet []byte, now time.Time) {
	q := queued{due: now}
	var ok bool
	if q.key, q.header, ok = parse(p.from, packet); !ok {
		return // IPv6 and its router solicitations
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	lost := p.random.Float64() < p.path.Loss
	if lost || p.path.Down || p.log.severed(q.key) || p.path.MaxSize > 0 && len(packet) > p.path.MaxSize {
		p.log.dropped(q.key)
		return
	}
	q.packet = slices.Clone(packet)
	q.due = now.Add(p.path.Delay)
	if p.path.Jitter > 0 {
		q.due = q.due.Add(time.Duration(p.random.Int64N(int64(p.path.Jitter))))
	}
	i := len(p.queue)
	for i > 0 && p.queue[i-1].due.After(q.due) {
		i--
	}
	p.queue = slices.Insert(p.queue, i, q)
	if i == 0 {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// deliverAll hands each packet to the receiver when it is due.
func (p *pipe) deliverAll() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		q, wait := p.next(time.Now())
		for ; wait == 0; q, wait = p.next(time.Now()) {
			// The time is taken before the kernel has the packet. The receiver is then
			// silent for no longer than the log says.
			p.log.delivered(q.key, q.header, time.Now())
			_, _ = p.out.Write(q.packet) // fails once the link is closed
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-p.wake:
		case <-p.done:
			return
		}
	}
}

// next returns the first packet that is due, or how long there is none.
func (p *pipe) next(now time.Time) (q queued, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 {
		q = p.queue[0]
		if wait = q.due.Sub(now); wait > 0 {
			return q, wait
		}
		p.queue[0] = queued{} // for the garbage collector
		p.queue = p.queue[1:]
		if !p.path.Down {
			p.late = max(p.late, -wait)
			return q, 0
		}
		p.log.dropped(q.key)
	}
	return q, time.Hour
}

// A queued packet is on its way.
type queued struct {
	due    time.Time
	key    flowKey
	header Packet
	packet []byte
}
