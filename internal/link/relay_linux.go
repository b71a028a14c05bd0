package link

import (
	"container/heap"
	"math/rand/v2"
	"os"
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
	queue  queue
	count  uint64
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
	header, ok := parse(packet)
	if !ok {
		return // IPv6 and its router solicitations
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	lost := p.random.Float64() < p.path.Loss
	if lost || p.path.Down || p.path.MaxSize > 0 && len(packet) > p.path.MaxSize {
		p.log.dropped(p.from, header)
		return
	}
	due := now.Add(p.path.Delay)
	if p.path.Jitter > 0 {
		due = due.Add(time.Duration(p.random.Int64N(int64(p.path.Jitter))))
	}
	p.count++
	q := &queued{due: due, number: p.count, header: header, packet: append([]byte(nil), packet...)}
	heap.Push(&p.queue, q)
	if p.queue[0] == q {
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
		wait := time.Hour
		for {
			q, until := p.next(time.Now())
			if q == nil {
				wait = until
				break
			}
			// The time is taken before the kernel has the packet. The receiver is then
			// silent for no longer than the log says.
			p.log.delivered(p.from, q.header, time.Now())
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
func (p *pipe) next(now time.Time) (*queued, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 {
		wait := p.queue[0].due.Sub(now)
		if wait > 0 {
			return nil, wait
		}
		q := heap.Pop(&p.queue).(*queued)
		if p.path.Down {
			p.log.dropped(p.from, q.header)
			continue
		}
		p.late = max(p.late, -wait)
		return q, 0
	}
	return nil, time.Hour
}

type queued struct {
	due    time.Time
	number uint64
	header header
	packet []byte
}

// queue is a heap by the time of delivery.
type queue []*queued

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].number < q[j].number
	}
	return q[i].due.Before(q[j].due)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*queued)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return last
}
