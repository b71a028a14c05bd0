package link

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// A Side is one end of a link.
type Side int

// Local is the side of the connection under test, Remote the side of its peer.
const (
	Local Side = iota
	Remote
)

func (s Side) other() Side { return 1 - s }

func (s Side) validate() error {
	if s != Local && s != Remote {
		return fmt.Errorf("link: no such side: %d", s)
	}
	return nil
}

// A Path says what happens to the packets of one direction. The zero Path delivers all
// packets at once.
type Path struct {
	Loss    float64       // the probability with which a packet is dropped, 0 to 1
	Delay   time.Duration // from the sender to the receiver
	Jitter  time.Duration // random addition to Delay, up to this; it reorders packets
	MaxSize int           // packets of more bytes, IP header included, are dropped silently; 0 is no limit
	Down    bool          // all packets are dropped, those on the way included
}

func (p Path) validate() error {
	switch {
	case math.IsNaN(p.Loss) || p.Loss < 0 || p.Loss > 1:
		return fmt.Errorf("link: a loss of %v is not between 0 and 1", p.Loss)
	case p.Delay < 0:
		return fmt.Errorf("link: negative delay %v", p.Delay)
	case p.Jitter < 0:
		return fmt.Errorf("link: negative jitter %v", p.Jitter)
	case p.MaxSize < 0:
		return fmt.Errorf("link: negative packet size %d", p.MaxSize)
	}
	return nil
}

// Both returns p for both directions.
func Both(p Path) [2]Path { return [2]Path{p, p} }

// Options are the properties of a new link. The zero value is a perfect link.
type Options struct {
	Paths [2]Path // by the side that sends
	MTU   int     // of the TUN devices, 576 to 65535; 0 is 1500
	Seed  uint64  // of the random numbers
}

func (o Options) validate() error {
	if o.MTU < 576 || o.MTU > 65535 {
		return fmt.Errorf("link: an MTU of %d is not between 576 and 65535", o.MTU)
	}
	for _, p := range o.Paths {
		if err := p.validate(); err != nil {
			return err
		}
	}
	return nil
}

// addresses are those of the TUN devices. Every link has namespaces of its own, so all
// links use the same.
var addresses = [2]net.IP{Local: net.IPv4(10, 76, 0, 1), Remote: net.IPv4(10, 76, 0, 2)}

// A Link joins two network namespaces. Its methods may be called concurrently.
type Link struct {
	log    log
	places [2]*namespace
	pipes  [2]*pipe // by the side that sends

	closing sync.Once
	closed  chan struct{}
	running sync.WaitGroup
}

// New returns a link that works. Where the system does not allow one, the error says
// what is missing, and nothing is left behind.
func New(o Options) (*Link, error) {
	if o.MTU == 0 {
		o.MTU = 1500
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	l := &Link{closed: make(chan struct{})}
	l.log.flows = make(map[flowKey]*Flow)
	l.log.start = time.Now()
	if err := l.open(o); err != nil {
		l.Close()
		return nil, err
	}
	for side, p := range l.pipes {
		p.out = l.pipes[Side(side).other()].in
		l.running.Go(p.admitAll)
		l.running.Go(p.deliverAll)
	}
	return l, nil
}

func (l *Link) open(o Options) (err error) {
	for side := range l.places {
		if l.places[side], err = newNamespace(); err != nil {
			return err
		}
		device, err := l.places[side].openTUN(addresses[side], o.MTU)
		if err != nil {
			return err
		}
		l.pipes[side] = newPipe(&l.log, Side(side), device, o)
	}
	return nil
}

// Close ends the link. Sockets that are still open stay so, in a namespace without a
// path. A second Close does nothing.
func (l *Link) Close() error {
	var errs []error
	l.closing.Do(func() {
		close(l.closed)
		for _, p := range l.pipes {
			if p != nil {
				errs = append(errs, p.close())
			}
		}
		l.running.Wait()
		for _, n := range l.places {
			if n != nil {
				errs = append(errs, n.file.Close())
			}
		}
	})
	return errors.Join(errs...)
}

// Set changes the path of the packets that the sides send; without a side, of both.
// Packets that are on the way keep their delay.
func (l *Link) Set(p Path, from ...Side) error {
	if err := p.validate(); err != nil {
		return err
	}
	return l.change(from, func(old *Path) { *old = p })
}

// Cut drops all packets that the sides send, those on the way included. Without a side
// that is both directions.
func (l *Link) Cut(from ...Side) { _ = l.change(from, func(p *Path) { p.Down = true }) }

// Restore undoes Cut.
func (l *Link) Restore(from ...Side) { _ = l.change(from, func(p *Path) { p.Down = false }) }

func (l *Link) change(from []Side, f func(*Path)) error {
	if len(from) == 0 {
		from = []Side{Local, Remote}
	}
	for _, side := range from {
		if err := side.validate(); err != nil {
			return err
		}
		l.pipes[side].change(f)
	}
	return nil
}

// Flap cuts both directions for down, restores them for up, and so on, until stop is
// called or the link is closed. The path is then up.
func (l *Link) Flap(down, up time.Duration) (stop func(), err error) {
	if down <= 0 || up <= 0 {
		return nil, fmt.Errorf("link: flapping with %v down and %v up", down, up)
	}
	stopped, done := make(chan struct{}), make(chan struct{})
	wait := func(d time.Duration) bool {
		select {
		case <-time.After(d):
			return true
		case <-stopped:
		case <-l.closed:
		}
		return false
	}
	go func() {
		defer close(done)
		defer l.Restore()
		for more := true; more; {
			l.Cut()
			if more = wait(down); more {
				l.Restore()
				more = wait(up)
			}
		}
	}()
	return sync.OnceFunc(func() { close(stopped); <-done }), nil
}

// In runs f on a thread in the namespace of side. Sockets that f opens belong to it.
func (l *Link) In(side Side, f func() error) error {
	if err := side.validate(); err != nil {
		return err
	}
	select {
	case <-l.closed:
		return fmt.Errorf("link: %w", net.ErrClosed)
	default:
	}
	return l.places[side].in(f)
}

// Listen returns a listener on a free port of side, without Multipath TCP, which leaves
// keep-alive as the kernel has it.
func (l *Link) Listen(side Side) (listener *net.TCPListener, err error) {
	err = l.In(side, func() error {
		config := net.ListenConfig{KeepAlive: -1}
		config.SetMultipathTCP(false)
		inner, err := config.Listen(context.Background(), "tcp4", net.JoinHostPort(addresses[side].String(), "0"))
		if err == nil {
			listener = inner.(*net.TCPListener)
		}
		return err
	})
	return listener, err
}

// Dial connects from side to address, like Listen without Multipath TCP and without
// keep-alive. It gives up after one minute.
func (l *Link) Dial(side Side, address net.Addr) (conn *net.TCPConn, err error) {
	if address == nil {
		return nil, errors.New("link: dial without an address")
	}
	err = l.In(side, func() error {
		dialer := net.Dialer{KeepAlive: -1, Timeout: time.Minute}
		dialer.SetMultipathTCP(false)
		inner, err := dialer.Dial("tcp4", address.String())
		if err == nil {
			conn = inner.(*net.TCPConn)
		}
		return err
	})
	return conn, err
}

// Connect returns both ends of a new connection. The local end is the accepted one.
func (l *Link) Connect() (local, remote *net.TCPConn, err error) {
	listener, err := l.Listen(Local)
	if err != nil {
		return nil, nil, err
	}
	defer listener.Close()
	remote, err = l.Dial(Remote, listener.Addr())
	if err != nil {
		return nil, nil, err
	}
	// The kernel has the connection ready only once the last segment of the handshake
	// has come through, which a lossy path may delay by several seconds.
	listener.SetDeadline(time.Now().Add(time.Minute))
	if local, err = listener.AcceptTCP(); err != nil {
		remote.Close()
		return nil, nil, err
	}
	return local, remote, nil
}

// Sysctl sets a parameter of the namespace of side, such as net.ipv4.tcp_retries2.
func (l *Link) Sysctl(side Side, name, value string) error {
	file := path.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
	if !strings.HasPrefix(file, "/proc/sys/net/") {
		return fmt.Errorf("link: %q is no parameter of a network namespace", name)
	}
	return l.In(side, func() error { return os.WriteFile(file, []byte(value), 0) })
}

// Late returns by how much the relay delivered its latest packet after its time: how far
// a busy machine has distorted the times of this link.
func (l *Link) Late() time.Duration {
	return max(l.pipes[Local].lateness(), l.pipes[Remote].lateness())
}
