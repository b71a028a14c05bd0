//go:build linux

package bench

import (
	"encoding/csv"
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

func (c cell) String() string {
	if c.verdict != found {
		return c.verdict
	}
	if c.asked {
		return "found (asked)"
	}
	digit := time.Duration(1) // the second
	for c.after/digit >= 100 {
		digit *= 10
	}
	return "found " + c.after.Round(digit).String()
}

// TestCompare measures each alternative in each situation and prints the table. It fails if the library does not do what
// it promises, or if an alternative no longer has a fault that is known: then the table has to be looked at.
func TestCompare(t *testing.T) {
	var waiting sync.WaitGroup
	for _, slow := range []bool{true, false} { // the slow ones wait for time-outs, all at once
		for _, r := range rows {
			for i, a := range alternatives {
				switch {
				case r.slow != slow || testing.Short() && r.expected(a) == "":
				case slow:
					waiting.Go(func() { r.cells[i] = r.measure(a) })
				default:
					r.cells[i] = r.measure(a)
				}
			}
		}
		waiting.Wait()
	}
	for _, r := range rows {
		for i, a := range alternatives {
			if c, want := r.cells[i], r.expected(a); want != "" && c.verdict != want || c.verdict == failed {
				t.Errorf("%s, %s: %v (%s); want %s", r.name, a.name, c, c.note, want)
			}
		}
	}
	if !testing.Short() {
		printTable()
	}
}

// measure returns the worst of three runs, with the median time.
func (r *row) measure(a *alternative) cell {
	var runs []cell
	for len(runs) < 3 {
		tr := &trial{row: r, alt: a}
		tr.run()
		if runs = append(runs, tr.cell); r.slow || testing.Short() || tr.cell.verdict != found && tr.cell.verdict != ok {
			return tr.cell
		}
	}
	slices.SortFunc(runs, func(a, b cell) int { return int(a.after - b.after) })
	return runs[1]
}

// expected returns the verdict that a must have, or "".
func (r *row) expected(a *alternative) string {
	switch own := a.name == nameLiveness || a.name == nameCheck; {
	case r.known[a.name] != "" || !own:
		return r.known[a.name]
	case r.group == endings:
		return found
	}
	return ok
}

// printTable prints Markdown, and writes the file that the user asked for.
func printTable() {
	table := [][]string{{""}}
	for _, a := range alternatives {
		table[0] = append(table[0], a.name)
	}
	for i, r := range rows {
		if i == 0 || r.group != rows[i-1].group {
			table = append(table, append([]string{"**" + r.group + "**"}, make([]string, len(alternatives))...))
		}
		line := []string{r.name}
		for i := range alternatives {
			line = append(line, r.cells[i].String())
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
	cmd.Stderr = os.Stderr
	f := &farm{cmd, must(cmd.StdinPipe()), must(cmd.StdoutPipe())}
	check(cmd.Start())
	return f
}

// do has an order carried out, and returns when that began, by now. A farm that fails says so and is gone.
func (f *farm) do(op string, n int, addr, prelude string) (began int64) {
	must(fmt.Fprintf(f.in, "%s %d %q %q\n", op, n, addr, prelude))
	must(fmt.Fscanf(f.out, "%d\n", &began))
	return began
}

func (f *farm) kill() {
	f.cmd.Process.Kill()
	f.cmd.Wait()
}

func farmMain() {
	var conns []*net.TCPConn
	for {
		var op, addr, prelude string
		var n int
		if _, err := fmt.Fscanf(os.Stdin, "%s %d %q %q\n", &op, &n, &addr, &prelude); err != nil {
			return
		}
		began := now()
		conns = carryOut(op, n, addr, prelude, conns)
		fmt.Println(began)
	}
}

func carryOut(op string, n int, addr, prelude string, conns []*net.TCPConn) []*net.TCPConn {
	switch op {
	case "dial":
		dialer := net.Dialer{Timeout: 20 * time.Second, KeepAlive: -1}
		for range n {
			conns = append(conns, must(dialer.Dial("tcp4", addr)).(*net.TCPConn))
			must(io.WriteString(conns[len(conns)-1], prelude))
		}
	case "close", "reset": // the last n, or all if there are fewer
		for ; n > 0 && len(conns) > 0; n-- {
			c := conns[len(conns)-1]
			conns = conns[:len(conns)-1]
			if op == "reset" {
				check(c.SetLinger(0))
			}
			check(c.Close())
		}
	case "drain":
		for _, c := range conns {
			go io.Copy(io.Discard, struct{ io.Reader }{c})
		}
	}
	return conns
}
