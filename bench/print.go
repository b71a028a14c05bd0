//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// table prints rows aligned, as Markdown, which a terminal can read too.
func table(w io.Writer, head []string, rows [][]string) {
	width := make([]int, len(head))
	for _, r := range append([][]string{head}, rows...) {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	line := func(r []string) {
		for i, c := range r {
			fmt.Fprint(w, "| ", c, strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)+1))
		}
		fmt.Fprintln(w, "|")
	}
	line(head)
	for i := range head {
		fmt.Fprint(w, "|", strings.Repeat("-", width[i]+2))
	}
	fmt.Fprintln(w, "|")
	for _, r := range rows {
		line(r)
	}
}

func (r *correctReport) print(w io.Writer) {
	fmt.Fprintf(w, "%v; each cell is the worst of %d runs (of one where it takes seconds), with the median time.\n\n", r.Machine, r.Rounds)
	head := []string{""}
	for _, s := range r.Subjects {
		head = append(head, s.Name)
	}
	group := ""
	var lines [][]string
	for _, row := range r.Rows {
		if row.Group != group {
			group = row.Group
			line := make([]string, len(head))
			line[0] = "**" + group + "**"
			lines = append(lines, line)
		}
		line := []string{row.Name}
		for _, s := range r.Subjects {
			line = append(line, row.Cells[s.Name].String())
		}
		lines = append(lines, line)
	}
	table(w, head, lines)
	fmt.Fprintln(w)
	for _, s := range r.Subjects {
		v := ""
		if s.Version != "" {
			v = " " + s.Version
		}
		fmt.Fprintf(w, "- %s%s: %s\n", s.Name, v, s.How)
	}
}

func (r *costReport) print(w io.Writer) {
	fmt.Fprintf(w, "%v%s; %s.\n\n", r.Machine, map[bool]string{true: "; quick sizes"}[r.Quick], r.Machine.versions())
	r.printProbes(w)
	r.printRegisters(w)
	r.printIdle(w)
	r.printLatency(w)
	r.printFlows(w)
	r.printPaced(w)
}

func (r *costReport) printProbes(w io.Writer) {
	fmt.Fprint(w, "### One look at a live, idle connection\n\n")
	var lines [][]string
	for _, p := range r.Probes {
		lines = append(lines, []string{p.Name, fmt.Sprintf("%.1f", p.NS), fmt.Sprintf("%.2f", p.Ratio), fmt.Sprintf("%.0f", p.Allocs), fmt.Sprintf("%.0f", p.Mem)})
	}
	table(w, []string{"", "ns", "× raw peek", "allocations", "bytes"}, lines)
	fmt.Fprintln(w)
}

func (r *costReport) printRegisters(w io.Writer) {
	fmt.Fprint(w, "### Register one connection, and release it (with Close)\n\n")
	var lines [][]string
	for _, p := range r.Registers {
		lines = append(lines, []string{p.Name, short(p.Register), short(p.Release), fmt.Sprintf("%.1f", p.Allocs), fmt.Sprintf("%.0f", p.Bytes)})
	}
	table(w, []string{"", "register", "release", "allocations", "bytes allocated"}, lines)
	fmt.Fprintln(w)
}

// over returns the bare result for as many connections.
func (r *costReport) over(n int) (bare idleResult) {
	for _, i := range r.Idle {
		if i.N == n && i.Lean == leanBare {
			return i
		}
	}
	return
}

func (r *costReport) printIdle(w io.Writer) {
	fmt.Fprint(w, "### Idle connections, each server in a process of its own\n\n")
	var lines [][]string
	rounds := 0
	for _, i := range r.Idle {
		rounds = max(rounds, i.Rounds)
		if i.Err != "" {
			lines = append(lines, []string{fmt.Sprint(i.N), i.Lean, "", "", "", "", "", i.Err, ""})
			continue
		}
		bare := r.over(i.N)
		mem, told, each := "", "", ""
		mem = fmt.Sprintf("%.0f", i.Heap)
		if i.Lean != leanBare {
			mem = fmt.Sprintf("%+.0f", i.Heap-bare.Heap)
		}
		if !leanNamed(i.Lean).silent {
			told = fmt.Sprintf("%s (%s)", short(i.AllTold), short(i.Resets))
			each = short(i.ResetCPU / durationOf(i.N))
		}
		s := i.For.Seconds()
		lines = append(lines, []string{fmt.Sprint(i.N), i.Lean, mem, fmt.Sprintf("%.0f", i.Goroutines*float64(i.N)),
			fmt.Sprintf("%.2f", float64(i.CPU)/1e6/s), fmt.Sprintf("%.1f", float64(i.Wakeups)/s), short(i.Setup / max(1, durationOf(i.N))), told, each})
	}
	table(w, []string{"connections", "", "bytes each, above bare", "goroutines more", "CPU while idle, ms/s", "context switches/s", "accept and register, each", "all reset: all told after (resetting took)", "our CPU for each ending"}, lines)
	runs := "One run of each"
	if rounds > 1 {
		runs = fmt.Sprintf("Medians of %d runs, in turns", rounds)
	}
	fmt.Fprintf(w, "\n%s. The bytes are heap and stacks; of one connection the heap alone, with the watch that starts anew for it.\n\n", runs)
}

func durationOf(n int) time.Duration { return time.Duration(n) }

func (r *costReport) printLatency(w io.Writer) {
	fmt.Fprint(w, "### From the peer's close() to the callback, the peer in another process\n\n")
	var lines [][]string
	for _, l := range r.Latency {
		lines = append(lines, []string{l.Name, short(l.P50), short(l.P99), short(l.Max), fmt.Sprintf("%.2f", l.RatioP50), fmt.Sprint(l.Samples)})
	}
	table(w, []string{"", "p50", "p99", "max", "p50 × parked Read", "samples"}, lines)
	fmt.Fprintln(w)
}

func (r *costReport) printFlows(w io.Writer) {
	fmt.Fprint(w, "### Through the wrapper\n\n")
	var lines [][]string
	flow := ""
	for _, f := range r.Throughput {
		name := f.Flow
		if flow == f.Flow {
			name = ""
		}
		flow = f.Flow
		cpu := ""
		if f.CPU > 0 {
			cpu = fmt.Sprintf("%.0f (× %.2f)", f.CPU, f.CPURatio)
		}
		value := fmt.Sprintf("%.0f %s", f.Value, f.Unit)
		if f.Unit == "µs" {
			value = fmt.Sprintf("%.1f %s", f.Value, f.Unit)
		}
		lines = append(lines, []string{name, f.Name, value, fmt.Sprintf("%.2f", f.Ratio), cpu})
	}
	table(w, []string{"", "", "median", "time × bare", "our CPU, ms/GB (× bare)"}, lines)
	fmt.Fprintln(w)
}

func (r *costReport) printPaced(w io.Writer) {
	if len(r.Paced) == 0 {
		return
	}
	fmt.Fprint(w, "### One connection that receives 1 GB/s, in reads of 256 KiB\n\n")
	var lines [][]string
	for _, p := range r.Paced {
		lines = append(lines, []string{p.Name, fmt.Sprintf("%.2f", p.Rate/1e9), fmt.Sprintf("%.0f", float64(p.CPU)/1e6), fmt.Sprintf("%.2f", p.Ratio)})
	}
	table(w, []string{"", "GB/s", "our CPU, ms/s", "CPU × bare"}, lines)
	fmt.Fprintln(w)
}
