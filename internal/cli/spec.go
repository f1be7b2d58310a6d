package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode/internal/spec"
)

func (a *app) specCommand() *cobra.Command {
	check := &cobra.Command{
		Use: "check FILE", Short: "Check a spec: all mistakes at once, each with its fix", Args: wantArgs(1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error { return a.specCheck(args[0]) },
	}
	return group("spec", "Look at antipode.yaml", check)
}

func (a *app) specCheck(file string) error {
	s, err := loadSpec(file)
	if err != nil {
		return err
	}
	a.warn(s)
	return a.print("%s is good: %s, %s", file, count(len(s.Regions), "region"), count(len(s.Tables), "table"))
}

// loadSpec reads a spec. Paths in it count from its folder.
func loadSpec(file string) (*spec.Spec, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the spec: %w", err)
	}
	s, err := spec.Load(text, file)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", file, err)
	}
	return s.WithFilesIn(dir), nil
}

func (a *app) warn(s *spec.Spec) {
	for _, w := range s.Warnings() {
		a.note("warning: %s", w)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of antipode.yaml, for editors", Args: wantArgs(0),
		Long: "Print the JSON Schema of antipode.yaml. Write it to a file and name it in the first line of the spec:\n\n" +
			"  antipode schema > antipode.schema.json\n  # yaml-language-server: $schema=./antipode.schema.json",
		RunE: func(*cobra.Command, []string) error {
			text, err := spec.Schema()
			if err != nil {
				return err
			}
			_, err = a.out.Write(text)
			return err
		},
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: wantArgs(0),
		RunE: func(*cobra.Command, []string) error {
			return a.print("antipode %s (%s, %s/%s)", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}

// version is what the Go tool put into the binary: the module's version, or the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+changes"
		}
	}
	if revision == "" {
		return "devel"
	}
	return revision + changed
}
