package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/antipode-io/antipode"
)

// source is one Go file of the module.
type source struct {
	path  string // from the module root, with slashes
	pkg   string // its package as layers.txt names it
	test  bool   // a _test.go file
	lines int
	set   *token.FileSet
	ast   *ast.File
}

// readSources parses every Go file of the module, tests included. Nested
// modules, testdata, hidden folders and build output are not ours to judge.
func readSources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != root && skipDir(path, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parse(path)
		if err != nil {
			return err
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func skipDir(path, name string) bool {
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}

func parse(path string) (source, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return source{}, err
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, text, parser.ParseComments)
	if err != nil {
		return source{}, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return source{}, err
	}
	rel = filepath.ToSlash(rel)
	return source{
		path: rel, pkg: layerName(filepath.ToSlash(filepath.Dir(rel))), test: strings.HasSuffix(rel, "_test.go"),
		lines: strings.Count(string(text), "\n"), set: set, ast: file,
	}, nil
}

// layerName turns a directory below the module root into its name in layers.txt.
func layerName(dir string) string { return strings.TrimPrefix(dir, "internal/") }
