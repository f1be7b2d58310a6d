package lint

import (
	"bufio"
	"go/ast"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestLayers fails when a package imports one that layers.txt does not allow
// it, or when layers.txt says something that is not so. Each failure prints the
// line that would be true, to be pasted once it was thought about.
//
// It reads the sources itself rather than asking go list, because go test only
// knows to rerun a cached test when a file that the test opened has changed.
func TestLayers(t *testing.T) {
	order, allowed := readLayers(t)
	used := make(map[string][]string)
	for _, f := range readSources(t) {
		if !f.test && f.pkg != "lint" {
			used[f.pkg] = append(used[f.pkg], ourImports(f.ast)...)
		}
	}
	for _, pkg := range order {
		if _, ok := used[pkg]; !ok {
			t.Errorf("layers.txt has a line for %s, which is no package here", pkg)
		}
	}
	for pkg, deps := range used {
		slices.Sort(deps)
		deps = slices.Compact(deps)
		want, ok := allowed[pkg]
		if ok && slices.Equal(slices.Sorted(slices.Values(want)), deps) {
			continue
		}
		t.Errorf("layers.txt lets %s import %v (a line: %v), but it imports %v; its line would be\n%s",
			pkg, want, ok, deps, strings.TrimSpace(pkg+": "+strings.Join(deps, " ")))
	}
}

// ourImports lists the packages of this module that a file imports, by the
// names of layers.txt.
func ourImports(f *ast.File) []string {
	var out []string
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser accepted it as a string, so this can't be
		}
		if path == module {
			out = append(out, ".")
		} else if rest, ours := strings.CutPrefix(path, module+"/"); ours {
			out = append(out, layerName(rest))
		}
	}
	return out
}

// readLayers parses layers.txt and checks that every package is named once and
// lists only packages that stand above it.
func readLayers(t *testing.T) (order []string, allowed map[string][]string) {
	t.Helper()
	f, err := os.Open("layers.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // opened for reading
	allowed = make(map[string][]string)
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		pkg, deps, ok := strings.Cut(line, ":")
		if !ok {
			t.Errorf("layers.txt: %q has no colon; want PACKAGE: IMPORT…", line)
			continue
		}
		if _, twice := allowed[pkg]; twice {
			t.Errorf("layers.txt: two lines for %s", pkg)
		}
		for dep := range strings.FieldsSeq(deps) {
			if _, above := allowed[dep]; !above {
				t.Errorf("layers.txt: %s lists %s, which does not stand above it", pkg, dep)
			}
		}
		order, allowed[pkg] = append(order, pkg), strings.Fields(deps)
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return order, allowed
}
