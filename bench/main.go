//go:build linux

// Command bench measures package liveness against what people use in its place,
// on the same work in the same run, and prints what it finds, also where it hurts.
//
//	go run . correct   what is found, missed, or broken on the way
//	go run . cost      what it takes: time, allocations, memory, wake-ups
//	go run . scale     how that grows
//	go run . charts    tables and charts for docs/ from the JSON of the runs
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

func main() {
	if what := os.Getenv(childVariable); what != "" {
		runChild(what)
	}
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	jsonFile string
	peers    string
	quick    bool
	tiny     bool // for the tests
	rows     string
	docs     string
	profile  string
}

const usage = "usage: go run . correct|cost|scale|charts [-quick] [-peers a,b] [-json file]"

func run(args []string, w io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%s", usage)
	}
	var set settings
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&set.jsonFile, "json", "", "write the results to this `file` as JSON (charts: read *.json in docs/bench)")
	flags.StringVar(&set.peers, "peers", "", "compare with these only: a comma-separated `list` of names")
	flags.BoolVar(&set.quick, "quick", false, "smaller sizes and fewer rounds")
	flags.BoolVar(&set.tiny, "tiny", false, "the smallest sizes that still run everything")
	flags.StringVar(&set.rows, "rows", "", "only rows whose name contains this `text`; for cost, only parts: "+costParts+". The rest of the JSON file stays as it is")
	flags.StringVar(&set.docs, "docs", "../docs", "charts: the `folder` to write to")
	flags.StringVar(&set.profile, "profile", "", "scale: write the CPU profile of the last resets, all at once, to this `file`")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	start := time.Now()
	progress := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1f s  "+format, append([]any{time.Since(start).Seconds()}, args...)...)
	}
	subjects, err := pick(set.peers)
	if err != nil {
		return err
	}
	var report interface{ print(io.Writer) }
	switch args[0] {
	case "correct":
		rounds := 5
		if set.quick || set.tiny {
			rounds = 1
		}
		var wanted func(*row) bool
		if set.rows != "" {
			wanted = func(r *row) bool { return strings.Contains(r.name, set.rows) }
		}
		rep := correct(subjects, rounds, wanted, progress)
		if wanted != nil {
			old := &correctReport{}
			if err := kept(set.jsonFile, old); err != nil {
				return err
			}
			rep.fillFrom(old)
		}
		report = rep
	case "cost":
		report, err = cost(subjects, set, progress)
	case "scale":
		report, err = scale(set, progress)
	case "charts":
		return charts(set)
	default:
		return fmt.Errorf("no command %q\n%s", args[0], usage)
	}
	if err != nil {
		return err
	}
	report.print(w)
	if set.jsonFile != "" {
		b, err := json.MarshalIndent(report, "", " ")
		if err != nil {
			return err
		}
		return os.WriteFile(set.jsonFile, append(b, '\n'), 0o644)
	}
	return nil
}

// kept reads what an earlier run has written, if there is any.
func kept(file string, into any) error {
	b, err := os.ReadFile(file)
	if file == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// fillFrom takes the rows that were not run from an earlier report.
func (r *correctReport) fillFrom(old *correctReport) {
	fresh := make(map[string]rowReport)
	for _, row := range r.Rows {
		fresh[row.Name] = row
	}
	if len(old.Rows) == 0 {
		return
	}
	r.Rows = nil
	for _, row := range old.Rows {
		if f, ok := fresh[row.Name]; ok {
			row = f
		}
		r.Rows = append(r.Rows, row)
	}
}
