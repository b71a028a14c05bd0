package liveness_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness"
	rig "github.com/go-liveness/liveness/internal/link"
	"github.com/go-liveness/liveness/internal/testutil"
)

// relayGrain is by how much later than the log says the kernel may have a packet, on a busy
// machine.
const relayGrain = 300 * time.Millisecond

// soakConns is how many connections live at a time.
const soakConns = 60

// TestLinkSoak lets connections be born, live and die on a lossy link for as long as
// LIVENESS_SOAK says. LIVENESS_SOAK_SEED repeats the random choices of an earlier run:
//
//	LIVENESS_SOAK=1h go test -race -run '^TestLinkSoak$' -timeout 2h -v .
//
// The peers write down what they did and when, the relay what it delivered. Each end that
// the library reports is judged by that alone.
func TestLinkSoak(t *testing.T) {
	value := os.Getenv("LIVENESS_SOAK")
	if value == "" {
		t.Skip("LIVENESS_SOAK is not set")
	}
	lasts, err := time.ParseDuration(value)
	require.NoError(t, err, "LIVENESS_SOAK")
	seed := rand.Uint64()
	if value := os.Getenv("LIVENESS_SOAK_SEED"); value != "" {
		seed, err = strconv.ParseUint(value, 0, 64)
		require.NoError(t, err, "LIVENESS_SOAK_SEED")
	}
	if !rig.Require(t) {
		return
	}
	t.Logf("LIVENESS_SOAK_SEED=%#x", seed)
	testutil.TLSConfigs(t)
	before, goroutines := len(testutil.Descriptors()), runtime.NumGoroutine()
	s := &soak{t: t, seed: seed, until: time.Now().Add(lasts), ends: make(map[string]int), latest: make(map[string]time.Duration)}
	s.link, err = rig.New(rig.Options{Seed: seed})
	require.NoError(t, err)
	// A peer that stops reading closes its window soon.
	require.NoError(t, s.link.Sysctl(rig.Remote, "net.ipv4.tcp_rmem", "4096 32768 65536"))
	var workers sync.WaitGroup
	for range soakConns {
		workers.Go(s.work)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { defer close(stopped); s.noteJumps(stop) }()
	s.weather()
	workers.Wait()
	close(stop)
	<-stopped
	s.summary()
	require.NoError(t, s.link.Close())
	assert.Empty(t, testutil.LeftGoroutines())
	testutil.Until(t, "no goroutine and no descriptor is left", func() bool {
		return runtime.NumGoroutine() <= goroutines && len(testutil.Descriptors()) <= before
	})
}

// A soak is what the connections of TestLinkSoak share.
type soak struct {
	t     *testing.T
	link  *rig.Link
	seed  uint64
	until time.Time
	group liveness.Group
	lives atomic.Uint64

	mu       sync.Mutex
	failures int
	wrapped  uint64
	ends     map[string]int // by plan and reason
	reasons  [6]uint64
	latest   map[string]time.Duration // how far the latest report was from its bound
	jumps    []time.Time              // when the process had stood still
}

// weather changes the link until the soak is over.
func (s *soak) weather() {
	rng := rand.New(rand.NewPCG(s.seed, 0))
	for time.Now().Before(s.until) {
		rtt := time.Duration(20+rng.IntN(581)) * time.Millisecond
		path := rig.Path{Loss: []float64{0, 0, 0.02, 0.05, 0.1, 0.2}[rng.IntN(6)], Delay: rtt / 2, Jitter: rtt / 20}
		_ = s.link.Set(path)
		time.Sleep(5*time.Second + time.Duration(rng.Int64N(int64(10*time.Second))))
		if rng.IntN(2) == 0 { // shorter than half of each PeerTimeout
			s.link.Cut()
			time.Sleep(time.Duration(200+rng.IntN(1700)) * time.Millisecond)
			s.link.Restore()
		}
	}
	_ = s.link.Set(rig.Path{Delay: 10 * time.Millisecond})
}

// noteJumps writes down when this process had no processor for a while: time-outs may begin
// anew then.
func (s *soak) noteJumps(stop <-chan struct{}) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for last := time.Now(); ; last = time.Now() {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if now := time.Now(); now.Sub(last) > 500*time.Millisecond {
			s.mu.Lock()
			s.jumps = append(s.jumps, now)
			s.mu.Unlock()
		}
	}
}

// afterJumps returns since, or the last jump before at if that is later.
func (s *soak) afterJumps(since, at time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, jump := range s.jumps {
		if jump.After(since) && jump.Before(at) {
			since = jump
		}
	}
	return since
}

// work plays one connection after another.
func (s *soak) work() {
	for id := s.lives.Add(1); time.Now().Before(s.until) && s.ok(); id = s.lives.Add(1) {
		plan := newSoakPlan(rand.New(rand.NewPCG(s.seed, id)))
		var sink *soakLife
		if plan.traffic == "copy" {
			sink = s.connect(soakPlan{use: "wrap", traffic: "sink", death: "FIN", lasts: time.Hour, cfg: plan.cfg})
			if sink == nil {
				continue
			}
		}
		if l := s.connect(plan); l != nil {
			l.sink = sink
			l.play()
		} else if sink != nil {
			sink.lasts, sink.death = 0, "local"
			sink.play()
		}
	}
}

func (s *soak) ok() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failures < 20
}

// summary compares the counts of the Group with those of the callbacks.
func (s *soak) summary() {
	got, want := s.group.Stats(), s.reasons
	for _, plan := range slices.Sorted(maps.Keys(s.ends)) {
		s.t.Logf("%5d %s", s.ends[plan], plan)
	}
	for what, d := range s.latest {
		s.t.Logf("latest: %s %.2f s", what, d.Seconds())
	}
	s.t.Logf("%+v; %d jumps; relay at most %v late", got, len(s.jumps), s.link.Late())
	assert.Equal(s.t, liveness.Stats{Wrapped: s.wrapped, Closed: want[0], Reset: want[1], Lost: want[2],
		Stalled: want[3], Idle: want[4], Local: want[5]}, got)
	assert.NotZero(s.t, got.Wrapped)
}

// A soakPlan is what a connection and its peer do.
type soakPlan struct {
	use     string // wrap, listener, watch, TLS above the Conn, TLS beneath it
	traffic string
	death   string
	reads   bool // the application reads
	lasts   time.Duration
	cfg     liveness.Config
}

func (p *soakPlan) String() string { return p.use + ", " + p.traffic + ", " + p.death }

func newSoakPlan(rng *rand.Rand) soakPlan {
	pick := func(words string) string { f := strings.Split(words, ","); return f[rng.IntN(len(f))] }
	between := func(low, high int) time.Duration {
		return time.Duration(low*1000+rng.IntN((high-low)*1000)) * time.Millisecond
	}
	p := soakPlan{traffic: pick("up,down,echo,idle,half,copy"), reads: true, lasts: between(2, 20)}
	p.cfg.PeerTimeout = between(4, 10)
	p.use, p.death = pick("wrap,listener,watch,TLS above,TLS beneath"), pick("FIN,RST,vanish,local")
	switch p.traffic {
	case "up":
		p.death = pick("FIN,RST,vanish,local,silent")
		if p.death == "silent" || rng.IntN(2) == 0 {
			p.cfg.ReadIdleTimeout = between(2, 6)
		}
	case "down":
		p.death = pick("FIN,RST,vanish,local,stall")
		if p.death == "stall" || rng.IntN(2) == 0 {
			p.cfg.StallTimeout = between(4, 6)
		}
	case "idle":
		p.use = pick("wrap,listener,watch")
		p.reads = rng.IntN(2) == 0
	case "half", "copy":
		p.cfg.AllowHalfClose = p.traffic == "half"
		p.use, p.death = pick("wrap,listener"), pick("FIN,FIN,RST,vanish")
	}
	return p
}

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
		case <-time.After(time.Minute):
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
			l.converse()
			close(l.sent)
		}
		if l.farErr = l.receive(l.far, &l.down, l.gate); l.farErr == io.EOF && l.traffic == "sink" {
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

func (l *soakLife) converse() {
	for request := make([]byte, 2500); ; {
		select {
		case <-l.stop:
			return
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
			return
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
			if err := l.conn.Ping(ctx); err == nil && l.heard.LastHeard(time.Now()).Before(began.Add(-time.Second-relayGrain)) {
				l.wrong("Ping returned nil after %v; nothing was heard for %v", time.Since(began), l.heard.SilentFor(time.Now()))
			}
			cancel()
			continue
		}
		if st := l.conn.Status(); st.Err == nil && st.Silence+relayGrain < began.Sub(l.heard.LastHeard(time.Now())) {
			l.wrong("%+v; by the log the silence is %v", st, l.heard.SilentFor(time.Now()))
		}
	}
}

// quiet reports an error unless no byte came in order for d before at. A packet may have
// come while a callback took its time.
func (l *soakLife) quiet(what string, at time.Time, d time.Duration) {
	arrivals, _, ok := l.heard.Arrivals()
	longest := time.Duration(0)
	for before := time.Duration(0); before < 2*relayGrain; before += clockGrain {
		at := at.Add(-before)
		longest = max(longest, at.Sub(lastArrival(arrivals, at, l.opened)))
	}
	if ok && longest < d-clockGrain {
		l.wrong("%s after %v; by the log data came %v ago", what, d, longest)
	}
}

func lastArrival(arrivals []rig.Arrival, before, otherwise time.Time) time.Time {
	for _, a := range arrivals {
		if !a.At.After(before) && a.At.After(otherwise) {
			otherwise = a.At
		}
	}
	return otherwise
}

// judge compares the end that was reported with what the peer did and what arrived.
func (l *soakLife) judge(end linkEnd) {
	reason := liveness.ReasonOf(end.err)
	arrivals, reset, known := l.heard.Arrivals()
	var fin, since time.Time
	for _, a := range arrivals {
		if a.FIN {
			fin = a.At
		}
	}
	d, within := l.cfg.PeerTimeout, time.Duration(0)
	switch reason {
	case liveness.ReasonLost:
		if err := l.right(end, d); err != nil {
			l.wrong("a live peer: %v", err)
		}
		since, within = l.when("vanish"), max(d*105/100+2*time.Second, d*125/100+time.Second)+d/4+2*time.Second
	case liveness.ReasonClosed:
		if since = fin; l.cfg.AllowHalfClose && l.when("answered").After(fin) {
			since = l.when("answered")
		}
		if known && (fin.IsZero() || fin.After(end.at)) {
			l.wrong("%v, and no FIN has arrived", end.err)
		}
	case liveness.ReasonReset:
		since = reset
		if known && (reset.IsZero() || reset.After(end.at) || !fin.IsZero() && !l.cfg.AllowHalfClose) {
			l.wrong("%v, and no RST has arrived, or a FIN first", end.err)
		}
	case liveness.ReasonIdle:
		l.quiet("idle", end.at, l.cfg.ReadIdleTimeout)
		since = lastArrival(arrivals, end.at, l.opened)
		within = l.cfg.ReadIdleTimeout*11/10 + 100*time.Millisecond
	case liveness.ReasonStalled:
		stopped := l.when("stopped reading")
		if stopped.IsZero() || l.when("resumed").After(stopped) || end.at.Sub(stopped) < l.cfg.StallTimeout-clockGrain {
			l.wrong("%v; the peer stopped reading %v before", end.err, end.at.Sub(stopped))
		}
		// The answers to window probes may be lost.
		since, within = end.at.Add(-l.heard.UnacknowledgedFor(end.at)), l.cfg.StallTimeout*16/10+time.Second+d/2
	case liveness.ReasonLocal:
		if since, within = l.when("local"), 5*time.Second; since.IsZero() || since.After(end.at) {
			l.wrong("%v, and the application had not closed", end.err)
		}
	}
	if took := end.at.Sub(l.afterJumps(since, end.at)); !since.IsZero() {
		l.note(string(reason), took-within)
		if took > within+linkSlack {
			l.wrong("%v, reported after %v; want %v", end.err, took, within)
		}
	}
	l.count(reason)
}

// settle checks what holds after an end, and that no byte is missing, and closes both sides.
func (l *soakLife) settle(end linkEnd) {
	reason := liveness.ReasonOf(end.err)
	interrupted := reason == liveness.ReasonLost || reason == liveness.ReasonStalled || reason == liveness.ReasonIdle
	if l.use == "watch" && interrupted {
		l.app.Close()
	}
	done := make(chan struct{})
	go func() { l.appWork.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Minute):
		l.wrong("Reads and Writes wait after %v", end.err)
		l.app.Close()
		<-done
	}
	if l.use != "watch" || !interrupted {
		l.compare(end, reason)
	}
	if l.conn.Alive() || l.conn.Err() != end.err || liveness.Check(l.conn) != end.err || l.conn.Status().Err != end.err {
		l.wrong("reported %v; Err is %v", end.err, l.conn.Err())
	}
	<-l.conn.Done()
	<-l.ctx.Done()
	if cause := context.Cause(l.ctx); cause != end.err {
		l.wrong("reported %v; the context ended by %v", end.err, cause)
	}
	l.cancel()
	l.app.Close()
	l.conn.Close()
	close(l.over)
	if reason == liveness.ReasonClosed || reason == liveness.ReasonLocal {
		select {
		case <-l.drained:
		case <-time.After(time.Minute):
		}
	}
	l.peer.SetLinger(0)
	l.peer.Close()
	l.otherWork.Wait()
	if got, sent := l.down.got.Load(), l.down.sent.Load(); l.farErr == io.EOF && !l.secure() && got != sent {
		l.wrong("the peer read %d of %d bytes and then EOF", got, sent)
	}
	for range 1000 { // each callback has a goroutine of its own
		if l.calls[0].Load() > 0 && l.calls[1].Load() > 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if a, b := l.calls[0].Load(), l.calls[1].Load(); a != 1 || b != 1 {
		l.wrong("%d calls of Config.OnDisconnect, %d of OnDisconnect", a, b)
	}
	l.link.Forget(l.bare)
}

// compare compares what the application read with what arrived.
func (l *soakLife) compare(end linkEnd, reason liveness.Reason) {
	if !l.reads || l.secure() && (reason != liveness.ReasonClosed || l.when("notified").IsZero()) || l.traffic == "sink" {
		return
	}
	arrivals, _, known := l.heard.Arrivals()
	bytes := func(before time.Time) (n int64) {
		for _, a := range arrivals {
			if !a.At.After(before) {
				n = a.Bytes
			}
		}
		return n
	}
	got, low, high := l.up.got.Load(), int64(0), bytes(time.Now())
	switch {
	case reason == liveness.ReasonClosed && !l.when("FIN").IsZero():
		low = l.up.sent.Load()
		high = low
	case reason == liveness.ReasonReset && known:
		low = high
	case reason == liveness.ReasonLost, reason == liveness.ReasonIdle:
		low, high = bytes(end.at.Add(-200*time.Millisecond)), bytes(end.at)
	}
	if known && (got < low || got > high) {
		l.wrong("%v: read %d bytes; want %d to %d", end.err, got, low, high)
	}
}

func (l *soakLife) count(reason liveness.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends[fmt.Sprintf("%s, %s: %s", l.traffic, l.death, reason)]++
	for i, r := range []liveness.Reason{liveness.ReasonClosed, liveness.ReasonReset, liveness.ReasonLost,
		liveness.ReasonStalled, liveness.ReasonIdle, liveness.ReasonLocal} {
		if r == reason {
			l.reasons[i]++
		}
	}
}

// note keeps how far the latest report was from its bound.
func (s *soak) note(reason string, late time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.latest[reason]; !ok || late > old {
		s.latest[reason] = late
	}
}
