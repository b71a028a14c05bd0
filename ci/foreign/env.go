package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// An env is where suites run: a copy of GOROOT with a hook in package net.
type env struct {
	work, live, goroot string
}

//go:embed hook.go.txt
var hook string

//go:embed net.go.txt
var netHook string

// hooked are the methods of package net that return connections. Each gets another name,
// and net.go.txt has one in its place.
var hooked = []struct{ file, method, bare string }{
	{"tcpsock.go", "func (l *TCPListener) Accept(", "func (l *TCPListener) acceptBare("},
	{"unixsock.go", "func (l *UnixListener) Accept(", "func (l *UnixListener) acceptBare("},
	{"dial.go", "func (d *Dialer) DialContext(", "func (d *Dialer) dialContextBare("},
}

const path = "github.com/go-liveness/liveness"

// prepare makes the copy of GOROOT. Its vendor folder gets the library, for suites of the
// standard library.
func (e *env) prepare() error {
	goroot, err := e.command(e.live, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	if err := copyDir(strings.TrimSpace(goroot), e.goroot); err != nil {
		return err
	}
	src := filepath.Join(e.goroot, "src")
	for _, h := range hooked {
		file := filepath.Join(src, "net", h.file)
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if bytes.Count(text, []byte(h.method)) != 1 {
			return fmt.Errorf("%s: %q is not there once", h.file, h.method)
		}
		if err := os.WriteFile(file, bytes.Replace(text, []byte(h.method), []byte(h.bare), 1), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(src, "net", "liveness_hook.go"), []byte(netHook), 0o644); err != nil {
		return err
	}
	return e.vendor(filepath.Join(src, "vendor"))
}

// vendor copies the packages of the library and those that it imports.
func (e *env) vendor(to string) error {
	list, err := e.command(e.live, "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}} {{.Dir}}{{end}}", ".")
	if err != nil {
		return err
	}
	for line := range strings.Lines(list) {
		importPath, dir, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.*"))
		if err != nil {
			return err
		}
		for _, f := range files {
			if ext := filepath.Ext(f); ext != ".go" && ext != ".s" || strings.HasSuffix(f, "_test.go") {
				continue
			}
			if err := copyFile(f, filepath.Join(to, importPath, filepath.Base(f))); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkout returns the folder in which the tests of s run, with the hook in each package.
func (e *env) checkout(s suite) (dir string, err error) {
	dir = filepath.Join(e.goroot, "src")
	if s.module != "" {
		out, err := e.command(e.work, "go", "mod", "download", "-json", s.module)
		if err != nil {
			return "", err
		}
		var m struct{ Dir string }
		if err := json.Unmarshal([]byte(out), &m); err != nil {
			return "", err
		}
		dir = filepath.Join(e.work, strings.ReplaceAll(s.name, "/", "-"))
		if err := copyDir(m.Dir, dir); err != nil {
			return "", err
		}
		if _, err := e.command(dir, e.goTool(), "mod", "edit", "-require="+path+"@v0.0.0", "-replace="+path+"="+e.live); err != nil {
			return "", err
		}
	}
	for _, p := range s.packages {
		name, err := e.command(dir, e.goTool(), "list", "-mod=mod", "-f", "{{.Name}}", p)
		if err != nil {
			return "", err
		}
		file := filepath.Join(dir, p, "zz_liveness_hook_test.go")
		if err := os.WriteFile(file, []byte(strings.Replace(hook, "package hook", "package "+strings.TrimSpace(name), 1)), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func (e *env) goTool() string { return filepath.Join(e.goroot, "bin", "go") }

// command runs a program and returns what it prints.
func (e *env) command(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOTOOLCHAIN=local", "GOFLAGS=")
	if name == e.goTool() {
		cmd.Env = append(cmd.Env, "GOROOT="+e.goroot)
	}
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd, err, errors.String())
	}
	return string(out), nil
}

func copyDir(from, to string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	return exec.Command("chmod", "-R", "u+w", to).Run() // the module cache is read-only
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}
