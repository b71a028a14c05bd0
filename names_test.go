package liveness_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// Every exported function, type, method and variable has an example that is run. Constants are shown with their type.
func TestNamesHaveExamples(t *testing.T) {
	for _, folder := range []string{".", "livenesstest"} {
		paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil || len(paths) == 0 {
			t.Skip("the sources are not here")
		}
		var names []string
		var tests []*ast.File
		for _, path := range paths { // of every system
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(path, "_test.go") {
				tests = append(tests, file)
			} else {
				names = append(names, exported(file)...)
			}
		}
		if len(names) == 0 {
			t.Fatalf("%s: no names", folder)
		}
		shown := shownBy(tests)
		for _, name := range names {
			if !shown[name] {
				t.Errorf("%s: no Example%s with an Output", folder, name)
			}
		}
	}
}

// shownBy returns the names that have an example which is run.
func shownBy(tests []*ast.File) map[string]bool {
	shown := make(map[string]bool)
	for _, example := range doc.Examples(tests...) {
		if example.Output == "" && !example.EmptyOutput {
			continue // is only compiled
		}
		name := example.Name
		if i := strings.LastIndexByte(name, '_'); i >= 0 && unicode.IsLower(rune(name[i+1])) {
			name = name[:i] // one of several
		}
		shown[name] = true
	}
	return shown
}

// exported returns the exported names that a file declares, methods as Type_Method.
func exported(file *ast.File) (names []string) {
	ast.FileExports(file)
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			name := decl.Name.Name
			if decl.Recv != nil {
				receiver := decl.Recv.List[0].Type
				if pointer, ok := receiver.(*ast.StarExpr); ok {
					receiver = pointer.X
				}
				if !ast.IsExported(receiver.(*ast.Ident).Name) {
					continue
				}
				name = receiver.(*ast.Ident).Name + "_" + name
			}
			names = append(names, name)
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, spec.Name.Name)
				case *ast.ValueSpec:
					if decl.Tok == token.VAR {
						for _, name := range spec.Names {
							names = append(names, name.Name)
						}
					}
				}
			}
		}
	}
	return names
}
