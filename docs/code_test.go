package docs

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// surroundings are the variables that a fragment of code may use without declaring them:
// what the reader has.
var surroundings = map[string]string{
	"address":             "string",
	"certFile":            "string",
	"cfg":                 "*liveness.Config",
	"clients":             "*liveness.Group",
	"config":              "*pgx.ConnConfig",
	"conn":                "*liveness.Conn",
	"ctx":                 "context.Context",
	"dialer":              "*liveness.Dialer",
	"err":                 "error",
	"errAlreadyConnected": "error",
	"feed":                "chan []byte",
	"keyFile":             "string",
	"listener":            "net.Listener",
	"message":             "[]byte",
	"mux":                 "*http.ServeMux",
	"old":                 "*liveness.Conn",
	"retry":               "func(context.Context) error",
	"room":                "*liveness.Group",
	"serve":               "func(context.Context, net.Conn)",
	"server":              "*http.Server",
	"session":             "interface{ Send(string) }",
	"sessions":            "map[string]net.Conn",
	"tlsConfig":           "*tls.Config",
	"url":                 "string",
	"user":                "string",
}

// exceptions are the surroundings of single pages that differ.
var exceptions = map[string]map[string]string{
	"../README.md": {"conn": "net.Conn"},
}

// wrappings make a file of a fragment: declarations, or the body of a function.
var wrappings = []string{
	"%s",
	"func _() {\n%s\n}",
	"func _() error {\n%s\npanic(0)\n}",
	"func _(conn net.Conn) (net.Conn, error) {\n%s\npanic(0)\n}",
}

// TestCode compiles every block of Go code of the pages, with what surrounds it.
func TestCode(t *testing.T) {
	c := newCompiler(t)
	blocks := 0
	for _, page := range pages(t) {
		for i, block := range page.code("go") {
			blocks++
			t.Run(fmt.Sprintf("%s/%d", page.name, i+1), func(t *testing.T) {
				c.compile(t, block, exceptions[page.name])
			})
		}
	}
	if blocks < 20 {
		t.Errorf("%d blocks of code were found", blocks)
	}
}

// A compiler type-checks files that import the packages of imports_test.go.
type compiler struct {
	packages map[string]string // paths by name
	importer types.Importer
	fset     *token.FileSet
}

func newCompiler(t *testing.T) *compiler {
	c := &compiler{packages: make(map[string]string), fset: token.NewFileSet()}
	file, err := parser.ParseFile(c.fset, "imports_test.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Name}}\t{{.Export}}"}
	wanted := make(map[string]bool)
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		wanted[path] = true
		list = append(list, path)
	}
	cmd := exec.Command("go", list...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	exports := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) == 3 {
			exports[fields[0]] = fields[2]
		}
		if wanted[fields[0]] {
			c.packages[fields[1]] = fields[0]
		}
	}
	c.importer = importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no package %s", path)
		}
		return os.Open(exports[path])
	})
	return c
}

// compile fails unless code compiles in one of the wrappings. It reports the errors of
// the wrapping in which it has fewest.
func (c *compiler) compile(t *testing.T, code string, exceptions map[string]string) {
	t.Helper()
	var fewest []error
	for i, wrapping := range wrappings {
		if strings.HasPrefix(code, "package ") {
			wrapping = "%s"
		} else {
			wrapping = "package p\n" + wrapping
		}
		errs := c.check(fmt.Sprintf(wrapping, code), exceptions)
		if len(errs) == 0 {
			return
		}
		if i == 0 || len(errs) < len(fewest) {
			fewest = errs
		}
	}
	t.Errorf("%v\n%s", errors.Join(fewest...), code)
}

// check returns the errors of a file, but for names that are declared and not used.
func (c *compiler) check(text string, exceptions map[string]string) (errs []error) {
	file, err := parser.ParseFile(c.fset, "code", text, 0)
	if err != nil {
		return []error{err, err, err} // worse than an error of types
	}
	header, rest, _ := strings.Cut(text, "\n")
	text = header + "; " + c.declarations(file, exceptions) + "\n" + rest
	if file, err = parser.ParseFile(c.fset, "code", text, 0); err != nil {
		return []error{err}
	}
	config := types.Config{Importer: c.importer, Error: func(err error) {
		if !err.(types.Error).Soft {
			errs = append(errs, err)
		}
	}}
	config.Check("p", c.fset, []*ast.File{file}, nil)
	return errs
}

// declarations declares, in one line, what the file uses of the packages and the
// surroundings. A package has the name before a dot, so a variable may have it too.
func (c *compiler) declarations(file *ast.File, exceptions map[string]string) string {
	surroundings := maps.Clone(surroundings)
	maps.Copy(surroundings, exceptions)
	imports, variables := make(map[string]bool), make(map[string]bool)
	var declare func(names []*ast.Ident)
	declare = func(names []*ast.Ident) {
		for _, name := range names {
			switch kind := surroundings[name.Name]; {
			case c.packages[name.Name] != "":
				imports[name.Name] = true
			case kind != "" && !variables[name.Name]:
				variables[name.Name] = true
				if f, err := parser.ParseFile(c.fset, "", "package p; var _ "+kind, 0); err == nil {
					declare(f.Unresolved)
				}
			}
		}
	}
	declare(file.Unresolved)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(imports)) {
		fmt.Fprintf(&b, "import %q; ", c.packages[name])
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		fmt.Fprintf(&b, "var %s %s; ", name, surroundings[name])
	}
	return b.String()
}
