package liveness_test

import (
	"context"
	"encoding/binary"
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

// relayGrain is by how much later than the log says the kernel may have a packet; see late.
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
	// With time stamps the kernel drops what a retransmission has overtaken (tcp_paws_discard
	// in net/ipv4/tcp_input.c), and the log counts it.
	require.NoError(t, s.link.Sysctl(rig.Remote, "net.ipv4.tcp_timestamps", "0"))
	// A peer that stops reading closes its window soon.
	require.NoError(t, s.link.Sysctl(rig.Remote, "net.ipv4.tcp_rmem", "4096 32768 65536"))
	var workers sync.WaitGroup
	for range soakConns {
		workers.Go(s.work)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	here, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { defer close(stopped); s.noteJumps(here, stop) }()
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
	jumps    []jump                   // when the process stood still
	noted    time.Time                // the jumps that began before are written down
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

// A jump is a time in which this process, or the kernel's receiver, had no processor.
type jump struct{ from, to time.Time }

const (
	minJump   = 100 * time.Millisecond
	longJump  = 500 * time.Millisecond // after which time-outs may begin anew
	jumpGrain = 200 * time.Millisecond // how soon after a jump what it delayed has come
)

// noteJumps writes down the jumps: the kernel has packets later than the log says then. It
// sends itself datagrams, which wait as all that the kernel receives.
func (s *soak) noteJumps(here net.PacketConn, stop <-chan struct{}) {
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for sent := time.Now(); ; <-tick.C {
			if _, err := here.WriteTo(binary.NativeEndian.AppendUint64(nil, uint64(sent.UnixNano())), here.LocalAddr()); err != nil {
				return
			}
			sent = time.Now() // the next is due in 20 ms
		}
	}()
	go func() { <-stop; here.Close() }()
	for stamp := make([]byte, 8); ; {
		if _, _, err := here.ReadFrom(stamp); err != nil {
			break
		}
		from, now := time.Unix(0, int64(binary.NativeEndian.Uint64(stamp))), time.Now()
		s.mu.Lock()
		if now.Sub(from) > minJump {
			s.jumps = append(s.jumps, jump{from, now})
		}
		s.noted = from
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noted = time.Now().Add(time.Hour) // nothing more waits for it
}

// late is by how much later than the log says the kernel may have had a packet before at.
func (s *soak) late(at time.Time) time.Duration {
	longest := time.Duration(0)
	s.overJumps(at, func(j jump) {
		if j.to.After(at.Add(-30*time.Second)) && j.from.Before(at) {
			longest = max(longest, j.to.Sub(j.from))
		}
	})
	return relayGrain + longest
}

// overJumps calls f for each jump that began before at.
func (s *soak) overJumps(at time.Time, f func(jump)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.noted.After(at) {
		s.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		s.mu.Lock()
	}
	for _, j := range s.jumps {
		if j.from.Before(at) {
			f(j)
		}
	}
}

// afterJumps returns since, or the end of the last jump that began before at if that is later.
func (s *soak) afterJumps(since, at time.Time) time.Time {
	s.overJumps(at, func(j jump) {
		if j.to.After(since) && j.to.Sub(j.from) > longJump {
			since = j.to
		}
	})
	return since
}

// beforeJumps returns at, or the beginning of a jump that it lies in.
func (s *soak) beforeJumps(at time.Time) time.Time {
	before := at
	s.overJumps(at, func(j jump) {
		if j.to.Add(jumpGrain).After(at) && j.from.Before(before) {
			before = j.from
		}
	})
	return before
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

// quiet reports an error unless no byte came in order for d before at. A packet may have
// come while a callback took its time.
func (l *soakLife) quiet(what string, at time.Time, d time.Duration) {
	arrivals, _, ok := l.heard.Arrivals()
	longest, late := time.Duration(0), l.late(at)
	for before := time.Duration(0); before < 2*late; before += clockGrain {
		at := at.Add(-before)
		longest = max(longest, at.Sub(lastArrival(arrivals, at, l.opened)))
	}
	if ok && longest < d-late {
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
		// An acknowledgement that another has overtaken moves no age of the kernel (tcp_ack in
		// net/ipv4/tcp_input.c), and that other came when the delay was shorter.
		if err := l.right(end, d-l.late(end.at)); err != nil {
			l.wrong("a live peer: %v", err)
		}
		// The bound of PeerTimeout's doc, and a retransmission or a probe that was lost before.
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
		since, within = end.at.Add(-l.heard.UnacknowledgedFor(end.at)), l.cfg.StallTimeout*16/10+time.Second+d/2
		from := l.afterJumps(since, end.at)
		for _, p := range l.heard.Packets() { // the answers to window probes before the first of these were lost
			if after := p.At.Sub(from); after > l.cfg.StallTimeout*16/10 {
				within = max(within, after+time.Second)
				break
			}
		}
	case liveness.ReasonLocal:
		if since, within = l.when("local"), 5*time.Second; since.IsZero() || since.After(end.at) {
			l.wrong("%v, and the application had not closed", end.err)
		}
	}
	if from := l.afterJumps(since, end.at); !since.IsZero() {
		if heard := l.heard.LastHeard(end.at); reason == liveness.ReasonLost {
			// The first retransmission after a jump comes no later than that: its time-out doubles.
			within += l.afterJumps(heard, end.at).Sub(heard)
		}
		took := end.at.Sub(from)
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
		low, high = bytes(l.beforeJumps(end.at).Add(-200*time.Millisecond)), bytes(end.at)
	}
	if l.sinkErr != nil { // the copy could not go on
		low = 0
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
