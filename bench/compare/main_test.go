//go:build linux

package main

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A commit against itself: everything is fetched, built and run, and benchstat has a
// line of both.
func TestCompare(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the benchmarks twice")
	}
	t.Chdir("..")
	if out, err := exec.Command("git", "-C", "..", "rev-parse", "--verify", "HEAD^{commit}").CombinedOutput(); err != nil {
		t.Skipf("no git, or no commit: %v\n%s", err, out)
	}
	if out, err := exec.Command("go", "tool", "benchstat", "-h").CombinedOutput(); !strings.Contains(string(out), "benchstat") {
		t.Skipf("no benchstat, and perhaps no network to fetch it: %v\n%s", err, out)
	}
	var out bytes.Buffer
	if err := compare(&out, []string{"HEAD", "HEAD"}, 1, "^BenchmarkErr$", "1x"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"old", "new", "Err-", "sec/op", "allocs/op"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestCompareRefuses(t *testing.T) {
	t.Chdir("..")
	if err := compare(nil, []string{"a", "b", "c"}, 1, ".", "1x"); err == nil {
		t.Error("three commits are no error")
	}
	if err := compare(nil, []string{"no-such-commit"}, 1, ".", "1x"); err == nil {
		t.Error("a commit that does not exist is no error")
	}
}

// Figures of two commits compare only under one name. Who takes a name away here
// takes away what was measured under it.
func TestNames(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the tests of both modules")
	}
	for dir, want := range map[string][]string{
		"../..": {
			"BenchmarkAlive", "BenchmarkAliveParallel", "BenchmarkCheck", "BenchmarkConnToConn", "BenchmarkErr", "BenchmarkFileToConn", "BenchmarkIdle",
			"BenchmarkNotice", "BenchmarkPeek", "BenchmarkPingPong", "BenchmarkResets", "BenchmarkRetained", "BenchmarkStatus", "BenchmarkWrapClose", "BenchmarkWriteBuffers",
		},
		"..": {
			"BenchmarkAlive", "BenchmarkCheck", "BenchmarkErr", "BenchmarkFileToConn", "BenchmarkNotice", "BenchmarkPingPong", "BenchmarkResets",
			"BenchmarkStatus", "BenchmarkWrapClose", "BenchmarkWriteBuffers",
		},
	} {
		cmd := exec.Command("go", "test", "-list", "^Benchmark", ".")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", dir, err, out)
			continue
		}
		var names []string
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "Benchmark") {
				names = append(names, strings.TrimSpace(line))
			}
		}
		slices.Sort(names)
		for _, name := range want {
			if !slices.Contains(names, name) {
				t.Errorf("%s: %s is gone", dir, name)
			}
		}
		for _, name := range names {
			if !slices.Contains(want, name) {
				t.Errorf("%s: %s is new; add it here", dir, name)
			}
		}
	}
}
