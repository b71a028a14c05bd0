//go:build linux

package bench

import (
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var results = flag.String("results", "", "a CSV `file` to write the table of TestCompare to")

// Verdicts of a cell. Those from missed on are faults of the alternative, failed one of the measurement.
const (
	found      = "found"
	ok         = "ok"
	na         = "n/a"
	missed     = "missed"
	falseAlarm = "false alarm"
	blocked    = "blocked"
	stolen     = "error stolen"
	eaten      = "bytes eaten"
	leaked     = "leaked"
	lost       = "response lost"
	rewritten  = "deadline lost"
	mixedUp    = "mixed up"
	failed     = "failed"
)

// A cell is what one alternative did in one situation.
type cell struct {
	verdict string
	after   time.Duration // from the end to the report
	asked   bool          // the first check after the end saw it
	note    string
}

func (c cell) good() bool { return c.verdict == found || c.verdict == ok }

func (c cell) String() string {
	switch {
	case c.verdict == found && c.asked:
		return "found (asked)"
	case c.verdict == found:
		return "found " + short(c.after)
	}
	return c.verdict
}

// short rounds to two digits.
func short(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 100 {
		unit *= 10
	}
	return d.Round(unit).String()
}

// try measures one cell, a second time if the measurement failed.
func (r *row) try(a *alternative) cell {
	for second := false; ; second = true {
		tr := &trial{row: r, alt: a}
		tr.run()
		if second || tr.cell.verdict != failed {
			return tr.cell
		}
	}
}

// TestCompare measures each alternative in each situation and prints the table. It fails if the library does not do what
// it promises, or if an alternative no longer has a fault that is known: then the table has to be looked at.
func TestCompare(t *testing.T) {
	rounds := 3 // of which the worst counts
	if testing.Short() {
		rounds = 1
	}
	cells := make(map[*row]map[*alternative]cell)
	var mu sync.Mutex
	measure := func(r *row, a *alternative) {
		var runs []cell
		for len(runs) < rounds && (len(runs) == 0 || runs[len(runs)-1].good() && !r.slow) {
			runs = append(runs, r.try(a))
		}
		c := runs[len(runs)-1]
		if c.good() {
			slices.SortFunc(runs, func(a, b cell) int { return int(a.after - b.after) })
			c = runs[len(runs)/2]
		}
		mu.Lock()
		defer mu.Unlock()
		if cells[r] == nil {
			cells[r] = make(map[*alternative]cell)
		}
		cells[r][a] = c
	}
	var waiting sync.WaitGroup
	for _, slow := range []bool{true, false} { // the slow ones wait for time-outs, all at once
		for _, r := range rows {
			for _, a := range alternatives {
				if r.slow != slow || testing.Short() && r.expected(a) == "" {
					continue
				}
				if slow {
					waiting.Go(func() { measure(r, a) })
				} else {
					measure(r, a)
				}
			}
		}
		waiting.Wait()
	}
	for _, r := range rows {
		for _, a := range alternatives {
			c, want := cells[r][a], r.expected(a)
			if want != "" && c.verdict != want || c.verdict == failed {
				t.Errorf("%s, %s: %v (%s); want %s", r.name, a.name, c, c.note, want)
			}
		}
	}
	if !testing.Short() {
		printTable(cells)
	}
}

// expected returns the verdict that a must have, or "".
func (r *row) expected(a *alternative) string {
	good := ok
	if r.group == endings {
		good = found
	}
	if v := r.known[a.name]; v != "" {
		return v
	}
	if a.name == nameLiveness || a.name == nameCheck {
		return good
	}
	return ""
}

// printTable prints Markdown, and writes the file that the user asked for.
func printTable(cells map[*row]map[*alternative]cell) {
	table := [][]string{{""}, append([]string{"**" + endings + "**"}, make([]string, len(alternatives))...)}
	for _, a := range alternatives {
		table[0] = append(table[0], a.name)
	}
	for i, r := range rows {
		if i > 0 && r.group != rows[i-1].group {
			table = append(table, append([]string{"**" + r.group + "**"}, make([]string, len(alternatives))...))
		}
		line := []string{r.name}
		for _, a := range alternatives {
			line = append(line, cells[r][a].String())
		}
		table = append(table, line)
	}
	for i, line := range table {
		fmt.Println("| " + strings.Join(line, " | ") + " |")
		if i == 0 {
			fmt.Println(strings.Repeat("|---", len(line)) + "|")
		}
	}
	for _, a := range alternatives {
		fmt.Printf("- %s: %s\n", a.name, a.how)
	}
	if *results != "" {
		f := must(os.Create(*results))
		defer f.Close()
		check(csv.NewWriter(f).WriteAll(table))
	}
}

// childVariable makes a copy of this program a farm.
const childVariable = "LIVENESS_BENCH_FARM"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		time.AfterFunc(10*time.Minute, func() { os.Exit(3) })
		farmMain()
		return
	}
	os.Exit(m.Run())
}

// now is a clock that all processes of the machine share, in nanoseconds.
func now() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// A farm holds the client ends of connections in a process of its own, which can be killed and stopped. It ends with its
// standard input.
type farm struct {
	cmd *exec.Cmd
	in  io.Writer
	out io.Reader
}

func startFarm() *farm {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1")
	f := &farm{cmd, must(cmd.StdinPipe()), must(cmd.StdoutPipe())}
	check(cmd.Start())
	return f
}

// do has an order carried out, and returns when that began, by now.
func (f *farm) do(op string, n int, addr, prelude string) (began int64) {
	var failure string
	must(fmt.Fprintf(f.in, "%s %d %q %q\n", op, n, addr, prelude))
	must(fmt.Fscanf(f.out, "%d %q\n", &began, &failure))
	if failure != "" {
		panic(errors.New(failure))
	}
	return began
}

func (f *farm) kill() {
	f.cmd.Process.Kill()
	f.cmd.Wait()
}

func farmMain() {
	var f clients
	for {
		var op, addr, prelude string
		var n int
		if _, err := fmt.Fscanf(os.Stdin, "%s %d %q %q\n", &op, &n, &addr, &prelude); err != nil {
			return
		}
		began := now()
		fmt.Printf("%d %q\n", began, f.carryOut(op, n, addr, prelude))
	}
}

type clients []*net.TCPConn

func (f *clients) carryOut(op string, n int, addr, prelude string) (failure string) {
	defer func() {
		if v := recover(); v != nil {
			failure = fmt.Sprint(v)
		}
	}()
	switch op {
	case "dial":
		dialer := net.Dialer{Timeout: 20 * time.Second, KeepAlive: -1}
		for range n {
			c := must(dialer.Dial("tcp4", addr)).(*net.TCPConn)
			*f = append(*f, c)
			must(io.WriteString(c, prelude))
		}
	case "close", "reset": // the last n, or all if there are fewer
		for ; n > 0 && len(*f) > 0; n-- {
			c := (*f)[len(*f)-1]
			*f = (*f)[:len(*f)-1]
			if op == "reset" {
				check(c.SetLinger(0))
			}
			check(c.Close())
		}
	case "drain":
		for _, c := range *f {
			go io.Copy(io.Discard, struct{ io.Reader }{c})
		}
	}
	return ""
}
