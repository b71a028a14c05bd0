package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// results are the last words on each test.
type results map[string]string

func (r results) count(action string) (n int) {
	for _, a := range r {
		if a == action {
			n++
		}
	}
	return n
}

func (r results) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", r.count("pass"), r.count("fail"), r.count("skip"))
}

// worseThan returns the tests that bare passed, or skipped, and r did not. Of a test with
// subtests only the subtests count.
func (r results) worseThan(bare results) (tests []string) {
	for test, was := range bare {
		if was != "fail" && r[test] != was {
			tests = append(tests, test)
		}
	}
	slices.Sort(tests)
	return slices.DeleteFunc(tests, func(test string) bool {
		return slices.ContainsFunc(tests, func(other string) bool { return strings.HasPrefix(other, test+"/") })
	})
}

// test runs s in a mode. What failed runs again, alone: a suite that is sensitive to a busy
// machine is so in every mode.
func (e *env) test(s suite, dir, mode string) (results, error) {
	r, err := e.once(s, dir, mode)
	if err != nil {
		return nil, err
	}
	failed := make(map[string]bool)
	for test, action := range r {
		if action == "fail" {
			top, _, _ := strings.Cut(test, "/")
			failed[regexp.QuoteMeta(top[strings.LastIndex(top, " ")+1:])] = true
		}
	}
	for test := range failed {
		again, err := e.once(s, dir, mode, "-run=^"+test+"$")
		if err != nil {
			return nil, err
		}
		for name, action := range again {
			r[name] = action
		}
	}
	return r, nil
}

// once runs go test. The log goes to a file in work.
func (e *env) once(s suite, dir, mode string, args ...string) (results, error) {
	args = append(append([]string{"test", "-mod=mod", "-json", "-count=1", "-timeout=300s"}, s.args...), args...)
	cmd := exec.Command(e.goTool(), append(args, s.packages...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOROOT="+e.goroot, "GOWORK=off", "GOTOOLCHAIN=local", "GOFLAGS=", "LIVENESS_HOOK="+mode)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	log, logErr := os.OpenFile(filepath.Join(e.work, strings.ReplaceAll(s.name+"-"+mode+".json", "/", "-")), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if logErr != nil {
		return nil, logErr
	}
	defer log.Close()
	if _, err := log.Write(out); err != nil {
		return nil, err
	}
	r := parse(out)
	if len(r) == 0 {
		return nil, fmt.Errorf("no test ran: %w\n%s", err, out[max(0, len(out)-2000):])
	}
	return r, nil
}

// parse reads what go test -json prints. A test that never ended has failed.
func parse(out []byte) results {
	r := make(results)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var e struct{ Action, Package, Test string }
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Test == "" {
			continue
		}
		name := e.Package[strings.LastIndex(e.Package, "/")+1:] + " " + e.Test
		switch e.Action {
		case "run":
			r[name] = "fail"
		case "pass", "fail", "skip":
			r[name] = e.Action
		}
	}
	return r
}
