package liveness_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/go-liveness/liveness"
	rig "github.com/go-liveness/liveness/internal/link"
	"github.com/go-liveness/liveness/internal/testutil"
)

// A soakLife is one connection.
type soakLife struct {
	*soak
	soakPlan
	linked
	app, far net.Conn // what the application and the peer use
	opened   time.Time
	heard    *rig.Flow
	calls    [2]atomic.Int32 // of Config.OnDisconnect and of OnDisconnect
	ctx      context.Context
	cancel   context.CancelFunc
	sink     *soakLife // the destination of a copy
	sinkErr  error     // with which the sink ended the copy; guarded by appWork

	up, down           soakStream
	stop, sent         chan struct{}      // to the peer's sender, and by it
	over, drained      chan struct{}      // to the peer's reader, and by it
	farErr             error              // of the peer's reader
	gate               chan time.Duration // how long the peer does not read
	appWork, otherWork sync.WaitGroup     // goroutines of the application, and others

	stampsMu sync.Mutex
	stamps   map[string]time.Time
}

// did writes down what happens now.
func (l *soakLife) did(what string) {
	l.stampsMu.Lock()
	defer l.stampsMu.Unlock()
	l.stamps[what] = time.Now()
}

func (l *soakLife) when(what string) time.Time {
	l.stampsMu.Lock()
	defer l.stampsMu.Unlock()
	return l.stamps[what]
}

// wrong reports a failure, with all that is known.
func (l *soakLife) wrong(format string, args ...any) {
	l.mu.Lock()
	l.failures++
	l.mu.Unlock()
	var story strings.Builder
	now := time.Now()
	l.stampsMu.Lock()
	for what, at := range l.stamps {
		fmt.Fprintf(&story, "%s %.2f s ago, ", what, now.Sub(at).Seconds())
	}
	l.stampsMu.Unlock()
	packets := l.heard.Packets()
	for _, p := range packets[max(0, len(packets)-12):] {
		fmt.Fprintf(&story, "\n\t%.3f s ago: flags %#x seq %d ack %d len %d", now.Sub(p.At).Seconds(), p.Flags, p.Seq, p.Ack, p.Len)
	}
	l.t.Errorf("%s (D %v, T %v, R %v): %s\n%s", &l.soakPlan, l.cfg.PeerTimeout, l.cfg.StallTimeout, l.cfg.ReadIdleTimeout,
		fmt.Sprintf(format, args...), story.String())
}

// A soakStream is one direction: a byte tells its place.
type soakStream struct{ sent, got atomic.Int64 }

func (s *soakStream) next(b []byte) []byte {
	for i := range b {
		b[i] = soakByte(s.sent.Load() + int64(i))
	}
	return b
}

func soakByte(at int64) byte { return byte(uint64(at) * 0x9E3779B97F4A7C15 >> 56) }

// verify takes b, and returns where it is not what was sent, or -1.
func (s *soakStream) verify(b []byte) int64 {
	at := s.got.Load()
	for i, have := range b {
		if have != soakByte(at+int64(i)) {
			return at + int64(i)
		}
	}
	s.got.Add(int64(len(b)))
	return -1
}

// connect returns nil if the link lets no connection come about.
func (s *soak) connect(p soakPlan) *soakLife {
	l := &soakLife{soak: s, soakPlan: p, stamps: make(map[string]time.Time), gate: make(chan time.Duration, 2),
		stop: make(chan struct{}), sent: make(chan struct{}), over: make(chan struct{}), drained: make(chan struct{})}
	l.linked = linked{Link: s.link, ended: make(chan linkEnd, 1)}
	l.cfg.Group = &s.group
	l.cfg.OnDisconnect = func(_ *liveness.Conn, err error) {
		if end := (linkEnd{time.Now(), err}); l.calls[0].Add(1) == 1 {
			l.ended <- end
		}
	}
	inner, err := s.link.Listen(rig.Local)
	if !assert.NoError(s.t, err) {
		return nil
	}
	defer inner.Close()
	if l.peer, err = s.link.Dial(rig.Remote, inner.Addr()); err != nil {
		return nil
	}
	l.far = l.peer
	inner.SetDeadline(time.Now().Add(time.Minute))
	if err = l.accept(inner); err != nil {
		l.peer.Close()
		assert.ErrorIs(s.t, err, os.ErrDeadlineExceeded)
		return nil
	}
	l.opened, l.heard = time.Now(), s.link.Heard(l.bare)
	l.ctx, l.cancel = l.conn.Context(context.Background())
	l.conn.OnDisconnect(func(error) { l.calls[1].Add(1) })
	s.mu.Lock()
	s.wrapped++
	s.mu.Unlock()
	return l
}

func (l *soakLife) accept(inner *net.TCPListener) (err error) {
	if l.use == "listener" {
		if l.conn, err = liveness.NewListener(inner, &l.cfg).AcceptConn(); err == nil {
			l.app, l.bare = l.conn, l.conn.NetConn().(*net.TCPConn)
		}
		return err
	}
	if l.bare, err = inner.AcceptTCP(); err != nil {
		return err
	}
	server, client := testutil.TLSConfigs(l.t)
	switch l.use {
	case "watch":
		l.conn, err = liveness.Watch(l.bare, &l.cfg)
		l.app = l.bare
	case "TLS beneath":
		l.far = tls.Client(l.peer, client)
		l.conn, err = liveness.Wrap(tls.Server(l.bare, server), &l.cfg)
		l.app = l.conn
	default:
		l.conn, err = liveness.Wrap(l.bare, &l.cfg)
		l.app = l.conn
		if l.use == "TLS above" {
			l.app, l.far = tls.Server(l.conn, server), tls.Client(l.peer, client)
		}
	}
	return err
}

func (l *soakLife) secure() bool { return strings.HasPrefix(l.use, "TLS") }

// play is the life of a connection, up to the last check.
func (l *soakLife) play() {
	l.begin()
	var end linkEnd
	select {
	case end = <-l.ended:
	case <-time.After(l.lasts):
		l.die()
		select {
		case end = <-l.ended:
		case <-time.After(3 * time.Minute): // a slow link fills the peer's buffer slowly
			l.wrong("not reported: %+v", l.conn.Status())
			l.app.Close()
			end = <-l.ended
		}
	}
	l.judge(end)
	l.settle(end)
}

// begin starts what either side does.
func (l *soakLife) begin() {
	l.otherWork.Go(l.ask)
	l.conn.OnSilence(2*time.Second, func() { l.quiet("OnSilence", time.Now(), 2*time.Second) })
	if l.cfg.StallTimeout > 0 && l.death != "stall" {
		l.gate <- time.Second + l.cfg.StallTimeout/2
	}
	sends := l.traffic == "up" || l.traffic == "half" || l.traffic == "copy"
	switch l.traffic {
	case "copy":
		l.appWork.Go(l.copy)
	case "echo":
		l.appWork.Go(l.echo)
	case "half":
		l.appWork.Go(func() { l.receive(l.app, &l.up, nil); l.answer() })
	case "sink":
	default:
		if l.reads {
			l.appWork.Go(func() { l.receive(l.app, &l.up, nil) })
		}
		if l.traffic == "down" {
			l.appWork.Go(func() { l.send(l.app, &l.down, l.ctx.Done()) })
		}
	}
	l.otherWork.Go(func() {
		if l.traffic == "echo" {
			l.farErr = l.converse()
			close(l.sent)
		}
		if l.farErr != nil {
			// A Read that follows the one that brought a reset would return io.EOF.
		} else if l.farErr = l.receive(l.far, &l.down, l.gate); l.farErr == io.EOF && l.traffic == "sink" {
			l.did("FIN")
			l.peer.CloseWrite()
		}
		close(l.drained)
	})
	if sends {
		l.otherWork.Go(func() { l.send(l.far, &l.up, l.stop); close(l.sent) })
	} else if l.traffic != "echo" {
		close(l.sent)
	}
}

// send sends some 30 kB/s until stop is closed.
func (l *soakLife) send(w io.Writer, stream *soakStream, stop <-chan struct{}) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for b := make([]byte, 3000); ; {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		n, err := w.Write(stream.next(b))
		if stream.sent.Add(int64(n)); err != nil {
			return
		}
	}
}

// receive reads, but for the pauses of gate, and returns the error that ended that.
func (l *soakLife) receive(r io.Reader, stream *soakStream, gate <-chan time.Duration) error {
	for b := make([]byte, 8<<10); ; {
		n, err := r.Read(b)
		if at := stream.verify(b[:n]); at >= 0 {
			l.wrong("byte %d is not what was sent", at)
			return errors.ErrUnsupported
		}
		if err != nil {
			return err
		}
		select {
		case pause := <-gate:
			l.did("stopped reading")
			select {
			case <-time.After(pause):
				l.did("resumed")
			case <-l.over:
			}
		default:
		}
	}
}

// echo is the application of request and response, converse its client.
func (l *soakLife) echo() {
	for b := make([]byte, 8<<10); ; {
		n, err := l.app.Read(b)
		if at := l.up.verify(b[:n]); at >= 0 {
			l.wrong("byte %d of a request is not what was sent", at)
		}
		if err == nil {
			n, err = l.app.Write(b[:n])
			l.down.sent.Add(int64(n))
		}
		if err != nil {
			return
		}
	}
}

// converse returns the error that ended it before stop was closed.
func (l *soakLife) converse() error {
	for request := make([]byte, 2500); ; {
		select {
		case <-l.stop:
			return nil
		case <-time.After(200 * time.Millisecond):
		}
		n, err := l.far.Write(l.up.next(request))
		l.up.sent.Add(int64(n))
		if err == nil {
			n, err = io.ReadFull(l.far, request)
			if at := l.down.verify(request[:n]); at >= 0 {
				l.wrong("byte %d of a response is not what was sent", at)
			}
		}
		if err != nil {
			return err
		}
	}
}

// answer goes on sending after the peer's FIN, and then finishes too.
func (l *soakLife) answer() {
	if l.conn.Alive() {
		stop := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(stop) })
		l.send(l.app, &l.down, stop)
		l.did("answered")
		_ = l.conn.CloseWrite()
	}
}

// copy copies all that comes to the sink, and back.
func (l *soakLife) copy() {
	l.appWork.Go(func() { l.sink.play() })
	n, err := io.Copy(l.sink.conn, l.conn)
	l.up.got.Store(n)
	l.sink.down.sent.Store(n)
	if err != nil && !l.sink.conn.Alive() {
		l.sinkErr = err
	}
	if err != nil && l.conn.Alive() { // the sink has ended
		l.did("local")
		l.conn.Close()
	}
	_ = l.sink.conn.CloseWrite()
	_, _ = io.Copy(l.conn, l.sink.conn)
}

// die ends the connection as the plan says.
func (l *soakLife) die() {
	close(l.stop)
	if l.death == "FIN" || l.death == "silent" {
		select {
		case <-l.sent:
		case <-l.ctx.Done():
		}
	}
	l.did(l.death)
	switch l.death {
	case "FIN":
		if secure, ok := l.far.(*tls.Conn); ok && secure.CloseWrite() == nil {
			l.did("notified")
		}
		l.peer.CloseWrite()
	case "RST":
		l.peer.SetLinger(0)
		l.peer.Close()
	case "vanish":
		l.link.Sever(l.bare)
	case "stall":
		l.gate <- time.Hour
	case "local":
		l.app.Close()
	}
}

// ask goes on asking the library, and compares its answers with the log.
func (l *soakLife) ask() {
	for n := 0; ; n++ {
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(time.Duration(500+n*137%900) * time.Millisecond):
		}
		began := time.Now()
		if n%3 == 0 {
			ctx, cancel := context.WithTimeout(l.ctx, 3*time.Second)
			if err := l.conn.Ping(ctx); err == nil && l.heard.LastHeard(time.Now()).Before(began.Add(-time.Second-l.late(began))) {
				l.wrong("Ping returned nil after %v; nothing was heard for %v", time.Since(began), l.heard.SilentFor(time.Now()))
			}
			cancel()
			continue
		}
		st, heard := l.conn.Status(), l.heard.LastHeard(time.Now())
		if st.Err == nil && st.Silence+l.late(began) < began.Sub(heard) {
			l.wrong("%+v; by the log the silence is %v", st, l.heard.SilentFor(time.Now()))
		}
	}
}
