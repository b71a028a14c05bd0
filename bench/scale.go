//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/pprof/profile"

	"github.com/go-liveness/liveness"
)

// A scaleReport is how cost grows.
type scaleReport struct {
	Machine machine
	Quick   bool
	Idle    []idleResult // liveness and bare, by number of connections
	Blocked []idleResult // callbacks that block
	Busy    []busyResult
	Fits    []fit
	Million []string // what the model says
}

// A fit is y = A·N^K, by least squares on the logarithms, and y = B + C·N.
type fit struct {
	What, Unit string
	K          float64
	B, C       float64
}

func fitOf(what, unit string, n, y []float64) fit {
	linear := func(x, y []float64) (b, c float64) {
		var sx, sy, sxx, sxy float64
		for i := range x {
			sx, sy, sxx, sxy = sx+x[i], sy+y[i], sxx+x[i]*x[i], sxy+x[i]*y[i]
		}
		k := float64(len(x))
		c = (k*sxy - sx*sy) / (k*sxx - sx*sx)
		return (sy - c*sx) / k, c
	}
	var lx, ly []float64
	for i := range n {
		if n[i] > 0 && y[i] > 0 {
			lx, ly = append(lx, math.Log(n[i])), append(ly, math.Log(y[i]))
		}
	}
	f := fit{What: what, Unit: unit}
	if len(lx) > 1 {
		_, f.K = linear(lx, ly)
	}
	f.B, f.C = linear(n, y)
	return f
}

func (f fit) at(n float64) float64 { return f.B + f.C*n }

func scale(set settings, progress progressFunc) (*scaleReport, error) {
	rep := &scaleReport{Machine: thisMachine(), Quick: set.quick || set.tiny}
	most := int(rep.Machine.NoFile) - 1000
	counts := []int{500, 1000, 2000, 4000, 8000, 16000, 24000, 32000, 64000}
	idleFor, busyFor := 2*time.Second, 20*time.Second
	busyN := []int{2500, 5000, 10000}
	blockN := 4000
	switch {
	case set.tiny:
		counts, idleFor, busyFor, busyN, blockN = []int{20, 40, 80}, 100*time.Millisecond, 400*time.Millisecond, []int{20, 40}, 20
	case set.quick:
		idleFor, busyFor = time.Second, 6*time.Second
		busyN = []int{1000, 2000, 4000}
	}
	for _, n := range counts {
		if n > min(most, 64000) {
			continue
		}
		for _, name := range []string{leanBare, nameLiveness} {
			progress("%d connections: %s\n", n, name)
			order := idleOrder{Lean: name, N: n, For: idleFor}
			if name == nameLiveness {
				order.Profile = set.profile // each overwrites that of fewer connections
			}
			r, err := runIdle(order)
			if err != nil {
				return nil, err
			}
			rep.Idle = append(rep.Idle, r)
		}
	}
	for _, block := range []time.Duration{0, time.Second} {
		progress("%d callbacks that block for %v\n", blockN, block)
		r, err := runIdle(idleOrder{Lean: nameLiveness, N: blockN, For: 50 * time.Millisecond, Block: block})
		if err != nil {
			return nil, err
		}
		rep.Blocked = append(rep.Blocked, r)
	}
	for _, n := range busyN {
		if n > most {
			continue
		}
		for _, kind := range busyKinds {
			progress("%d connections with traffic: %s\n", n, kind)
			r, err := ordered[busyResult]("busy", busyOrder{Kind: kind, N: n, For: busyFor, Every: busyEvery})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", kind, err)
			}
			rep.Busy = append(rep.Busy, r)
		}
	}
	rep.model()
	return rep, nil
}

// busyFits fits what the clock takes in a second of connections with traffic.
func (r *scaleReport) busyFits() {
	for _, kind := range busyKinds[1:] {
		var n, clock []float64
		for _, b := range r.Busy {
			if b.Kind == kind {
				n, clock = append(n, float64(b.N)), append(clock, b.Clock.Seconds()*1e3/b.For.Seconds())
			}
		}
		if len(n) > 1 {
			r.Fits = append(r.Fits, fitOf("the clock with traffic, "+kind, "ms/s", n, clock))
		}
	}
}

// model fits the growth and applies it to one million connections.
func (r *scaleReport) model() {
	if r.Idle[len(r.Idle)-1].N < 4000 {
		r.busyFits()
		r.Million = []string{"the sizes of this run are too small to tell"}
		return
	}
	var n, memory, register, gc, told []float64
	bare := make(map[int]idleResult)
	for _, r := range r.Idle {
		if r.Lean == leanBare {
			bare[r.N] = r
			continue
		}
		n = append(n, float64(r.N))
		memory = append(memory, (r.Heap-bare[r.N].Heap)*float64(r.N))
		register = append(register, float64(r.Register)/1e9*float64(r.N))
		gc = append(gc, r.GC.Seconds()*1e3)
		told = append(told, r.AllTold.Seconds()*1e3)
	}
	mem := fitOf("memory above bare", "bytes", n, memory)
	reg := fitOf("register all", "s", n, register)
	collect := fitOf("one garbage collection", "ms", n, gc)
	all := fitOf("all reset, all told", "ms", n, told)
	r.Fits = []fit{mem, reg, collect, all}
	r.busyFits()
	const million = 1e6
	say := func(format string, args ...any) { r.Million = append(r.Million, fmt.Sprintf(format, args...)) }
	say("memory of the library: %.2f GB, beside what the connections themselves take; %.1f µs to register one, %.1f s for all", mem.at(million)/1e9, reg.C*1e6, reg.at(million))
	if collect.K < 0.7 {
		say("one garbage collection: too little grows with the connections at these sizes to tell")
	} else {
		say("one garbage collection: %.1f s of marking, concurrent", collect.at(million)/1e3)
	}
	say("all reset at once: all told after %.1f s (with the resetting, which shares the processors here)", all.at(million)/1e3)
	say("idle: no timer and no wake-up, at any number")
	first := ""
	for _, kind := range busyKinds[1:] {
		// All sizes together, for the profile has few samples of each.
		var last busyResult
		var clock, checks, samples float64
		for _, b := range r.Busy {
			if b.Kind == kind {
				last, clock, checks, samples = b, clock+b.Clock.Seconds(), checks+b.Checks, samples+b.Samples
			}
		}
		if samples == 0 {
			continue
		}
		each := clock / checks
		rate := million / last.Period.Seconds() * last.Factor
		say("%s: %.1f µs for each look of the clock (%.0f samples, ± %.0f %%), %.0f looks a second, %.0f %% of a core; the clock is one goroutine, so %.1f million connections are its limit",
			last.Asked, each*1e6, samples, 100/math.Sqrt(samples), rate, rate*each*100, 1/each/rate)
		if rate*each > 1 {
			first += fmt.Sprintf("the clock, with %s; otherwise ", last.Asked)
		}
	}
	say("what limits first: "+first+"descriptors, one for each connection (here %d; the kernel's own default of fs.nr_open is 1048576), then the kernel's socket buffers of the traffic; the library adds one epoll registration each", r.Machine.NoFile)
}

// ---- connections with traffic, in a process of their own

const (
	busyPlain = "watched only"
	busyPeer  = "PeerTimeout 8 s"
	busyIdle  = "ReadIdleTimeout 3 s"
)

// busyEvery is how often each client sends, and is answered.
const busyEvery = 2 * time.Second

var busyKinds = []string{busyPlain, busyPeer, busyIdle}

type busyOrder struct {
	Kind  string
	N     int
	For   time.Duration
	Every time.Duration // each client sends 64 bytes so often
}

type busyResult struct {
	Kind    string
	N       int
	For     time.Duration
	CPU     time.Duration
	Clock   time.Duration // of it, in the library's clock
	Samples float64       // of the profile, in the clock; 100 a second of CPU
	Mark    time.Duration // of it, on the way of Read and Write
	Checks  float64       // looks that the clock took, by its period
	Period  time.Duration // between two looks at one connection
	Asked   string        // the time-out that the model is for
	Factor  float64       // how many of these looks that one needs
	Echoed  int64
	Alarms  int64
}

func busy(o busyOrder) (r busyResult, err error) {
	r = busyResult{Kind: o.Kind, N: o.N}
	cfg := &liveness.Config{}
	var alarms atomic.Int64
	cfg.OnDisconnect = func(*liveness.Conn, error) { alarms.Add(1) }
	switch o.Kind {
	case busyPeer:
		cfg.PeerTimeout = 8 * time.Second
		// A look finds nothing outstanding, and the next write asks for another.
		r.Period = max(cfg.PeerTimeout/8, o.Every)
		r.Asked, r.Factor = "PeerTimeout 60 s, each connection written to all the time", r.Period.Seconds()/(60./8)
	case busyIdle:
		cfg.ReadIdleTimeout = 3 * time.Second
		// Each look finds that something came at most Every ago.
		r.Period = cfg.ReadIdleTimeout - o.Every/2
		r.Asked, r.Factor = "ReadIdleTimeout 60 s, steady traffic", r.Period.Seconds()/(60-o.Every.Seconds()/2)
	}
	lc := net.ListenConfig{KeepAlive: -1}
	ln, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return r, err
	}
	defer ln.Close()
	var accepted, echoed atomic.Int64
	go func() {
		for {
			bare, err := ln.Accept()
			if err != nil {
				return
			}
			conn, err := liveness.Wrap(bare, cfg)
			if err != nil {
				bare.Close()
				continue
			}
			accepted.Add(1)
			go func() {
				var b [64]byte
				for {
					n, err := conn.Read(b[:])
					if err != nil {
						return
					}
					if _, err := conn.Write(b[:n]); err != nil {
						return
					}
					echoed.Add(1)
				}
			}()
		}
	}()
	var farms []*farm
	defer func() {
		for _, f := range farms {
			f.stop()
		}
	}()
	for left := o.N; left > 0; left -= farmSize {
		f, err := startFarm()
		if err != nil {
			return r, err
		}
		farms = append(farms, f)
		if err := f.dial(ln.Addr().String(), "", min(left, farmSize)); err != nil {
			return r, err
		}
	}
	for _, f := range farms {
		if _, err := f.do(farmOrder{Op: "drain"}); err != nil {
			return r, err
		}
		if _, err := f.do(farmOrder{Op: "steady", Size: 64, Gap: o.Every}); err != nil {
			return r, err
		}
	}
	time.Sleep(min(o.For/4, 2*time.Second))
	var buf bytes.Buffer
	if err := pprof.StartCPUProfile(&buf); err != nil {
		return r, err
	}
	before := echoed.Load()
	cpu, _ := usageNow()
	start := time.Now()
	time.Sleep(o.For)
	r.For = time.Since(start)
	cpu2, _ := usageNow()
	pprof.StopCPUProfile()
	r.CPU, r.Echoed, r.Alarms = cpu2-cpu, echoed.Load()-before, alarms.Load()
	if r.Period > 0 {
		r.Checks = float64(o.N) * r.For.Seconds() / r.Period.Seconds()
	}
	p, err := profile.Parse(&buf)
	if err != nil {
		return r, err
	}
	for _, s := range p.Sample {
		stack := ""
		for _, l := range s.Location {
			for _, line := range l.Line {
				stack += line.Function.Name + "\n"
			}
		}
		switch took := time.Duration(s.Value[1]); {
		case strings.Contains(stack, "liveness.(*clock).tick"):
			r.Clock += took
			r.Samples += float64(s.Value[0])
		case strings.Contains(stack, "liveness.(*Conn).beginWrite"), strings.Contains(stack, "liveness.(*Conn).endWrite"),
			strings.Contains(stack, "liveness.(*Conn).mark"):
			r.Mark += took
		}
	}
	return r, nil
}

func (r *scaleReport) print(w io.Writer) {
	fmt.Fprintf(w, "%v%s; descriptor limit %d.\n\n", r.Machine, map[bool]string{true: "; quick sizes"}[r.Quick], r.Machine.NoFile)
	fmt.Fprint(w, "### Connections\n\n")
	bare := make(map[int]idleResult)
	var lines [][]string
	for _, i := range r.Idle {
		if i.Lean == leanBare {
			bare[i.N] = i
			continue
		}
		b := bare[i.N]
		s := i.For.Seconds()
		lines = append(lines, []string{fmt.Sprint(i.N), fmt.Sprintf("%.0f", i.Heap-b.Heap), short(i.Register),
			fmt.Sprintf("%.2f / %.2f", float64(i.CPU)/1e6/s, float64(b.CPU)/1e6/b.For.Seconds()),
			fmt.Sprintf("%.0f / %.0f", float64(i.Wakeups)/s, float64(b.Wakeups)/b.For.Seconds()),
			fmt.Sprintf("%s / %s", short(i.GC), short(b.GC)),
			fmt.Sprintf("%s (%s)", short(i.AllTold), short(i.Resets)), fmt.Sprintf("%.0f", float64(i.N)/i.AllTold.Seconds()), short(i.ResetCPU / time.Duration(i.N))})
	}
	table(w, []string{"connections", "bytes each, above bare", "register one", "idle CPU, ms/s / bare", "context switches/s / bare", "garbage collection / bare",
		"all reset: all told after (resetting took)", "endings/s", "our CPU for each ending"}, lines)
	fmt.Fprint(w, "\n### Growth\n\n")
	lines = nil
	for _, f := range r.Fits {
		lines = append(lines, []string{f.What, fmt.Sprintf("N^%.2f", f.K), fmt.Sprintf("%.3g %s + %.3g %s · N", f.B, f.Unit, f.C, f.Unit)})
	}
	table(w, []string{"", "grows with", "least squares"}, lines)
	fmt.Fprint(w, "\n### Callbacks that block\n\n")
	lines = nil
	for i, b := range r.Blocked {
		lines = append(lines, []string{fmt.Sprint(b.N), []string{"nothing", "1 s each"}[min(i, 1)], short(b.AllTold), fmt.Sprint(b.Threads)})
	}
	table(w, []string{"reset at once", "callbacks block for", "all told after", "threads"}, lines)
	fmt.Fprint(w, "\n### Traffic: 64 bytes in and out on each connection every 2 s\n\n")
	lines = nil
	for _, b := range r.Busy {
		percent := func(d time.Duration) string { return fmt.Sprintf("%.2f %%", d.Seconds()/b.For.Seconds()*100) }
		each, asked := "", ""
		if b.Checks > 0 {
			each = fmt.Sprintf("%.1f µs", b.Clock.Seconds()/b.Checks*1e6)
			asked = fmt.Sprintf("%.2f %%", b.Clock.Seconds()/b.For.Seconds()*100*b.Factor)
		}
		lines = append(lines, []string{fmt.Sprint(b.N), b.Kind, fmt.Sprintf("%.0f", float64(b.Echoed)/b.For.Seconds()), percent(b.CPU), percent(b.Clock), each, asked, percent(b.Mark), fmt.Sprint(b.Alarms)})
	}
	table(w, []string{"connections", "", "answers/s", "a core, in all", "the clock", "each look", "the clock, for 60 s", "marking writes", "false alarms"}, lines)
	fmt.Fprint(w, "\n### One million connections in one process, by this model\n\n")
	for _, m := range r.Million {
		fmt.Fprintf(w, "- %s\n", m)
	}
	fmt.Fprintln(w)
}
