//go:build ignore

// Typecheck type-checks the module in the current folder, its tests included, for the targets named as arguments
// ("linux/arm64"), or for all of "go tool dist list" if none is named.
//
// It finds what "go build" and "go vet" would find on a system that differs from this one, a missing or doubly declared
// name, a constant that overflows a 32-bit int, an import that does not exist there, in a fraction of their time: they must
// first compile the standard library for each target. The bodies of functions are checked in this module only.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// pkg is what "go list -json" tells of a package.
type pkg struct {
	ImportPath, Dir, Name string
	GoFiles               []string
	ImportMap             map[string]string
	Standard              bool
	Module                *struct {
		Main      bool
		GoVersion string
	}
	Error *struct{ Err string }
}

// ours reports whether the package belongs to the module that is checked. go list may not name the module of one that has an Error.
func (p *pkg) ours() bool { return !p.Standard && (p.Module == nil || p.Module.Main) }

// tree holds parsed files: most files are the same for many targets.
type tree struct {
	fset  *token.FileSet
	mu    sync.Mutex
	files map[string]*parsed
}

type parsed struct {
	once sync.Once
	file *ast.File
	err  error
}

// parse returns the file, without the bodies of its functions unless bodies is true.
func (t *tree) parse(name string, bodies bool) (*ast.File, error) {
	t.mu.Lock()
	p := t.files[name]
	if p == nil {
		p = new(parsed)
		t.files[name] = p
	}
	t.mu.Unlock()
	p.once.Do(func() {
		p.file, p.err = parser.ParseFile(t.fset, name, nil, parser.SkipObjectResolution)
		if p.err != nil || bodies {
			return
		}
		for _, d := range p.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				f.Body = new(ast.BlockStmt)
			}
		}
	})
	return p.file, p.err
}

// check returns the errors that the module has on the target and the number of its packages, test packages included.
func (t *tree) check(target string) (errs []error, n int) {
	goos, goarch, _ := strings.Cut(target, "/")
	cgo := "0"
	if goos == "android" || goos == "ios" { // programs there link by cgo, else go list does not load what they import
		cgo = "1"
	}
	list := exec.Command("go", "list", "-e", "-deps", "-test", "-json=ImportPath,Dir,Name,GoFiles,ImportMap,Standard,Module,Error", "./...")
	list.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED="+cgo)
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		return []error{fmt.Errorf("go list: %w\n%s", err, stderr.Bytes())}, 0
	}

	done := make(map[string]*types.Package) // by import path; go list names dependencies before their users
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return append(errs, err), n
		}
		if p.ImportPath == "unsafe" || strings.HasSuffix(p.ImportPath, ".test") { // the latter: a main that go test generates
			continue
		}
		if p.ours() && p.Error != nil {
			errs = append(errs, errors.New(strings.TrimSpace(p.Error.Err)))
		}

		var files []*ast.File
		for _, name := range p.GoFiles {
			if !filepath.IsAbs(name) {
				name = filepath.Join(p.Dir, name)
			}
			f, err := t.parse(name, p.ours())
			if err != nil {
				errs = append(errs, err)
			}
			if f != nil {
				files = append(files, f)
			}
		}
		conf := types.Config{
			IgnoreFuncBodies: !p.ours(),
			Sizes:            types.SizesFor("gc", goarch),
			Importer:         importer{done, p.ImportMap},
			Error: func(err error) {
				if p.ours() {
					errs = append(errs, err)
				}
			},
		}
		if p.Module != nil && p.Module.GoVersion != "" {
			conf.GoVersion = "go" + p.Module.GoVersion
		}
		path, _, _ := strings.Cut(p.ImportPath, " ") // "p [p.test]"
		done[p.ImportPath], _ = conf.Check(path, t.fset, files, nil)
		if p.ours() {
			n++
		}
	}
	return errs, n
}

// importer finds packages among those that were checked before.
type importer struct {
	done map[string]*types.Package
	as   map[string]string
}

func (i importer) Import(path string) (*types.Package, error) {
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	if as, ok := i.as[path]; ok {
		path = as
	}
	if p := i.done[path]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no package %q on this target", path)
}

func main() {
	targets := os.Args[1:]
	if len(targets) == 0 {
		out, err := exec.Command("go", "tool", "dist", "list").Output()
		if err != nil {
			fmt.Fprintln(os.Stderr, "typecheck: go tool dist list:", err)
			os.Exit(2)
		}
		targets = strings.Fields(string(out))
	}

	wd, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "typecheck:", err)
		os.Exit(2)
	}

	t := &tree{fset: token.NewFileSet(), files: make(map[string]*parsed)}
	var wg sync.WaitGroup
	var mu sync.Mutex                  // guards what follows
	where := make(map[string][]string) // the targets that have the error
	failed := 0
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, target := range targets {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs, n := t.check(target)
			if n == 0 && len(errs) == 0 {
				errs = []error{errors.New("no package of this module was checked")}
			}
			mu.Lock()
			defer mu.Unlock()
			if len(errs) == 0 {
				fmt.Printf("ok   %s: %d packages\n", target, n)
				return
			}
			fmt.Printf("FAIL %s\n", target)
			failed++
			for _, err := range errs {
				text := strings.ReplaceAll(strings.TrimSpace(err.Error()), wd+string(filepath.Separator), "")
				if on := where[text]; !slices.Contains(on, target) { // a package and its test variant have the same errors
					where[text] = append(on, target)
				}
			}
		})
	}
	wg.Wait()
	for _, text := range slices.Sorted(maps.Keys(where)) {
		on := where[text]
		slices.Sort(on)
		if len(on) == len(targets) {
			on = []string{"all"}
		}
		fmt.Printf("%s\n\ton %s\n", text, strings.Join(on, " "))
	}
	if failed > 0 {
		fmt.Printf("typecheck: %d of %d targets failed\n", failed, len(targets))
		os.Exit(1)
	}
	fmt.Printf("typecheck: all of %d targets\n", len(targets))
}
