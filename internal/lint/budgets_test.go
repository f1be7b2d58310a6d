package lint

import (
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The budgets. What outgrows one has more than one subject: split it by subject
// rather than raise the number.
const (
	maxFileLines = 800
	maxMainLines = 30
	maxRootLines = 600
)

// vague lists package names that say nothing, and so collect everything.
func vague() []string {
	return []string{"util", "utils", "common", "base", "helpers", "helper", "misc", "shared"}
}

// TestFileBudgets bounds the size of a file, of main and of the root package.
func TestFileBudgets(t *testing.T) {
	rootLines := 0
	for _, f := range readSources(t) {
		if f.lines > maxFileLines {
			t.Errorf("%s has %d lines; split it by subject at %d", f.path, f.lines, maxFileLines)
		}
		if f.pkg == "cmd/antipode" && !f.test && f.lines >= maxMainLines {
			t.Errorf("%s has %d lines; main stays under %d, commands belong in internal/cli", f.path, f.lines, maxMainLines)
		}
		if f.pkg != "." || f.test {
			continue
		}
		rootLines += f.lines
		for _, spec := range f.ast.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s; the root package imports the standard library only", f.path, name)
			}
		}
	}
	if rootLines >= maxRootLines {
		t.Errorf("the root package has %d lines; under %d, it holds words and no behaviour", rootLines, maxRootLines)
	}
}

// TestPackages checks names, and that each package says in exactly one place
// what it promises.
func TestPackages(t *testing.T) {
	docs := make(map[string][]string)
	for _, f := range readSources(t) {
		if slices.Contains(vague(), path.Base(f.pkg)) {
			t.Errorf("%s: a package is named for what it does, and %s says nothing", f.path, path.Base(f.pkg))
		}
		if f.test {
			continue
		}
		if _, ok := docs[f.pkg]; !ok {
			docs[f.pkg] = []string{} // so that a package without any comment counts too
		}
		if f.ast.Doc != nil {
			docs[f.pkg] = append(docs[f.pkg], f.path)
		}
	}
	for pkg, files := range docs {
		if len(files) != 1 {
			t.Errorf("package %s has its package comment in %d files %v; want one", pkg, len(files), files)
		}
	}
}

// TestTests forbids what makes tests slow, flaky or silent.
//
// A test may sleep in a synctest bubble only, where it costs nothing and wakes
// up exactly on time. A helper that is called in bubbles only says so by naming
// synctest in its doc comment.
func TestTests(t *testing.T) {
	for _, f := range readSources(t) {
		if !f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			bubble := strings.Contains(fn.Doc.Text(), "synctest") || len(calls(fn, "synctest", "Test")) > 0
			for _, call := range calls(fn, "time", "Sleep") {
				if !bubble {
					t.Errorf("%s: %s sleeps outside a synctest bubble; wait for the condition instead", f.set.Position(call.Pos()), fn.Name.Name)
				}
			}
			for _, call := range slices.Concat(calls(fn, "", "Skip"), calls(fn, "", "Skipf"), calls(fn, "", "SkipNow")) {
				if len(call.Args) == 0 && takesTest(fn) {
					t.Errorf("%s: %s skips without a reason; say what is missing and how to get it", f.set.Position(call.Pos()), fn.Name.Name)
				}
			}
		}
	}
}

// calls lists the calls of x.name in a function; an empty x stands for t, b, f
// and tb, the names that tests give their testing value.
func calls(fn *ast.FuncDecl, x, name string) []*ast.CallExpr {
	var out []*ast.CallExpr
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != name {
			return true
		}
		on, ok := sel.X.(*ast.Ident)
		if ok && (on.Name == x || x == "" && slices.Contains([]string{"t", "b", "f", "tb"}, on.Name)) {
			out = append(out, call)
		}
		return true
	})
	return out
}

// takesTest reports whether a function has a parameter out of package testing.
func takesTest(fn *ast.FuncDecl) bool {
	return slices.ContainsFunc(fn.Type.Params.List, func(p *ast.Field) bool {
		typ := p.Type
		if star, ok := typ.(*ast.StarExpr); ok {
			typ = star.X
		}
		sel, ok := typ.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		pkg, ok := sel.X.(*ast.Ident)
		return ok && (pkg.Name == "testing" || pkg.Name == "rapid")
	})
}
