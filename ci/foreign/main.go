// Command foreign runs test suites of other projects with every accepted and dialled socket
// wrapped, then watched, and compares them with the bare run. It prints a table, and exits
// with 1 if a test fails in one mode only that known.txt does not list.
//
// Package net of a copy of GOROOT gets a hook in Accept and Dial; see hook.go.
//
//	foreign -work DIR -liveness DIR [suite ...]
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A suite is the tests of some packages of a module, or of the standard library if it has
// no module.
type suite struct {
	name, module string
	packages     []string
	args         []string
}

var suites = []suite{
	{"net/http", "", []string{"net/http"}, []string{"-short"}},
	{"x/net/http2", "golang.org/x/net@v0.62.0", []string{"./http2"}, nil},
	{"x/crypto/ssh", "golang.org/x/crypto@v0.52.0", []string{"./ssh"}, nil},
	{"yamux", "github.com/hashicorp/yamux@v0.1.2", []string{"."}, []string{"-short"}},
	{"websocket", "github.com/coder/websocket@v1.8.15", []string{".", "./wsjson"}, nil},
	{"grpc transport", "google.golang.org/grpc@v1.85.0", []string{"./internal/transport"}, nil},
}

// modes are the values of LIVENESS_HOOK, which hook.go reads.
var modes = []string{"bare", "wrapped", "watched"}

func main() {
	work := flag.String("work", "", "an empty `folder` for copies")
	live := flag.String("liveness", "", "the `folder` of the root module")
	flag.Parse()
	differs, err := run(*work, *live, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "foreign:", err)
		os.Exit(2)
	}
	if differs {
		os.Exit(1)
	}
}

func run(work, live string, names []string) (differs bool, err error) {
	known, err := readKnown(filepath.Join(live, "ci", "foreign", "known.txt"))
	if err != nil {
		return false, err
	}
	e := &env{work: work, live: live, goroot: filepath.Join(work, "go")}
	if err := e.prepare(); err != nil {
		return false, err
	}
	fmt.Println("| suite | bare | wrapped | watched |\n|---|---|---|---|")
	var notes []string
	for _, s := range suites {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		dir, err := e.checkout(s)
		if err != nil {
			return false, fmt.Errorf("%s: %w", s.name, err)
		}
		row := "| " + strings.TrimSpace(s.name+" "+version(s.module))
		var bare results
		for _, mode := range modes {
			r, err := e.test(s, dir, mode)
			if err != nil {
				return false, fmt.Errorf("%s, %s: %w", s.name, mode, err)
			}
			row += " | " + r.String()
			if mode == "bare" {
				bare = r
				continue
			}
			for _, test := range r.worseThan(bare) {
				note, ok := known[s.name+" "+mode+" "+test]
				differs = differs || !ok
				if !ok {
					note = "NOT KNOWN"
				}
				notes = append(notes, fmt.Sprintf("%s, %s: %s: %s", s.name, mode, test, note))
			}
		}
		fmt.Println(row + " |")
	}
	for _, n := range notes {
		fmt.Println("\n*", n)
	}
	return differs, nil
}

func version(module string) string {
	_, v, _ := strings.Cut(module, "@")
	return v
}

// readKnown reads lines of the form "suite, mode: test: why".
func readKnown(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	known := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.SplitN(line, ": ", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("%s: %q is not \"suite, mode: test: why\"", path, line)
		}
		known[strings.Replace(parts[0], ", ", " ", 1)+" "+parts[1]] = parts[2]
	}
	return known, nil
}
