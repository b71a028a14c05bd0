// Command compare runs the benchmarks of this module against two commits of the
// library, in turns, so that what else the machine does meets both, and hands the
// results to benchstat. Run it in the folder of the module:
//
//	go run ./compare              HEAD against the files as they are
//	go run ./compare HEAD~1       that commit against the files as they are
//	go run ./compare HEAD~1 HEAD  two commits
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

func main() {
	count := flag.Int("count", 10, "how many `rounds`")
	bench := flag.String("bench", ".", "the benchmarks to run, as for go test")
	benchtime := flag.String("benchtime", "100ms", "as for go test")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./compare [flags] [old [new]]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := compare(os.Stdout, flag.Args(), *count, *bench, *benchtime); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func compare(w io.Writer, commits []string, count int, bench, benchtime string) error {
	switch len(commits) {
	case 0:
		commits = []string{"HEAD", ""}
	case 1:
		commits = append(commits, "")
	case 2:
	default:
		return fmt.Errorf("two commits at most")
	}
	dir, err := os.MkdirTemp("", "liveness-compare")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var programs, results []string
	for i, commit := range commits {
		name := []string{"old", "new"}[i]
		program, err := build(filepath.Join(dir, name), commit)
		if err != nil {
			return fmt.Errorf("%s %s: %w", name, commit, err)
		}
		programs, results = append(programs, program), append(results, filepath.Join(dir, name+".txt"))
	}
	for round := range count {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, count)
		for i := range programs {
			i = (i + round) % 2 // who goes first changes
			if err := measure(programs[i], results[i], bench, benchtime); err != nil {
				return err
			}
		}
	}
	return command(w, "go", "tool", "benchstat", "old="+results[0], "new="+results[1])
}

// build compiles the benchmarks as they are now with the library of the commit; an
// empty one stands for the files as they are.
func build(dir, commit string) (program string, err error) {
	library, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if commit != "" {
		archive := exec.Command("git", "-C", library, "archive", "--format=tar", commit)
		extract := exec.Command("tar", "-x", "-C", dir)
		archive.Stderr, extract.Stderr = os.Stderr, os.Stderr
		if extract.Stdin, err = archive.StdoutPipe(); err != nil {
			return "", err
		}
		if err := extract.Start(); err != nil {
			return "", err
		}
		err := archive.Run()
		if extracted := extract.Wait(); err == nil {
			err = extracted
		}
		if err != nil {
			return "", err
		}
		library = dir
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		return "", err
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		return "", err
	}
	replace := regexp.MustCompile(`(?m)^replace github\.com/go-liveness/liveness => .*$`)
	if !replace.Match(mod) {
		return "", fmt.Errorf("go.mod does not replace the library")
	}
	mod = replace.ReplaceAllLiteral(mod, []byte("replace github.com/go-liveness/liveness => "+library))
	if err := os.WriteFile(dir+".mod", mod, 0o644); err != nil {
		return "", err
	}
	if err := os.WriteFile(dir+".sum", sum, 0o644); err != nil {
		return "", err
	}
	program = dir + ".test"
	return program, command(os.Stderr, "go", "test", "-c", "-mod=mod", "-modfile="+dir+".mod", "-o", program, ".")
}

// measure runs a program once and adds what it prints to the results.
func measure(program, results, bench, benchtime string) error {
	f, err := os.OpenFile(results, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = command(f, program, "-test.run=^$", "-test.bench="+bench, "-test.benchtime="+benchtime, "-test.timeout=5m")
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

func command(stdout io.Writer, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = stdout, os.Stderr
	return cmd.Run()
}
