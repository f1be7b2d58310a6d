package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode/internal/region"
	"github.com/antipode-io/antipode/internal/spec"
)

func (a *app) regionCommand() *cobra.Command {
	var o runOptions
	run := &cobra.Command{
		Use: "run NAME", Short: "Run one region in the foreground, until Ctrl-C or SIGTERM", Args: wantArgs(1, "NAME"),
		Long: "Run one region in the foreground, until Ctrl-C or SIGTERM. Its data is in DIR/NAME. Without --file the spec is DIR/" + specFile + ",\n" +
			"as written by `antipode up` or by a run with --file. What happens goes to standard error.\n\n" +
			"Before a region runs for the first time it needs an identity: `antipode up` makes one, or `antipode ca init`.",
		ValidArgsFunction: a.regionNames(&o.dir),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return a.runRegion(cmd.Context(), o)
		},
	}
	dataFlag(run, &o.dir)
	run.Flags().StringVarP(&o.file, "file", "f", "", "spec `file` (default DIR/"+specFile+")")
	run.Flags().StringVar(&o.wan, "wan", "", "emulate a wide-area network: `mode` geo, off, or a one-way delay (default: that of the last up in DIR, if there was one)")
	run.Flags().StringVar(&o.log, "log", "text", "`format` of the log: text or json")
	run.Flags().BoolVar(&o.verbose, "verbose", false, "log details too")
	return group("region", "Run a single region", run)
}

type runOptions struct {
	name, dir, file, wan, log string
	verbose                   bool
}

// heapGrowth is by how many per cent of what is alive the heap may grow before
// garbage is collected. That is little beside the store's cache and memtables,
// which lie outside the heap, and the collector runs half as often as by default.
const heapGrowth = 200

// runRegion ends with nil when it was told to stop.
func (a *app) runRegion(ctx context.Context, o runOptions) error {
	logger, err := a.logger(o)
	if err != nil {
		return err
	}
	s, err := a.specForRun(o)
	if err != nil {
		return err
	}
	def, err := findRegion(s, o.name)
	if err != nil {
		return err
	}
	if o.wan == "" {
		o.wan = readWAN(o.dir)
	}
	if err := checkWAN(o.wan); err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	r, err := region.Open(ctx, region.Config{
		Spec: s, Name: def.Name, Dir: o.dir, WAN: o.wan, Now: a.now, Version: version(), PID: os.Getpid(), Logger: logger,
	})
	if err != nil {
		return err
	}
	ready := r.Ready()
	for {
		select {
		case <-ready:
			logger.Info("region is ready", "region", string(def.Name), "api", def.Addresses.API, "operator", def.Addresses.Operator, "link", def.Addresses.Link, "wan", orDash(o.wan))
			ready = nil
		case err := <-r.Failed():
			return errors.Join(err, r.Close())
		case <-ctx.Done():
			logger.Info("region stops", "region", string(def.Name))
			return a.closeRegion(r)
		}
	}
}

// closeGrace is how long a region may take to stop. Its data is safe in any case.
const closeGrace = 15 * time.Second

func (a *app) closeRegion(r *region.Region) error {
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	timer := time.NewTimer(closeGrace)
	defer timer.Stop()
	select {
	case err := <-closed:
		return err
	case <-timer.C:
		return fmt.Errorf("the region did not stop within %v, so its process ends; what it acknowledged is on disk", closeGrace)
	}
}

func (a *app) logger(o runOptions) (*slog.Logger, error) {
	options := &slog.HandlerOptions{}
	if o.verbose {
		options.Level = slog.LevelDebug
	}
	switch o.log {
	case "text":
		return slog.New(slog.NewTextHandler(a.err, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.err, options)), nil
	}
	return nil, usagef("--log is %q; it can be text or json", o.log)
}

// specForRun reads the spec, and leaves it where the other commands look for it.
func (a *app) specForRun(o runOptions) (*spec.Spec, error) {
	if o.file == "" {
		in, err := a.openInstall(o.dir)
		if errors.Is(err, errNothingThere) {
			return nil, fmt.Errorf("%w; or name the spec with -f FILE", err)
		}
		if err != nil {
			return nil, err
		}
		return in.spec, nil
	}
	s, err := loadSpec(o.file)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	return s, writeSpec(o.dir, s)
}

// writeSpec keeps the spec in the data directory, with every default spelled out.
func writeSpec(dir string, s *spec.Spec) error {
	text, err := s.Marshal()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, specFile)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(text) {
		return nil
	}
	return writeFile(path, text, 0o644)
}

// readWAN returns what `up` was told, or "" where there was none.
func readWAN(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, wanFile))
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func checkWAN(mode string) error {
	switch mode {
	case "", "geo", "off":
		return nil
	}
	if d, err := time.ParseDuration(mode); err != nil || d < 0 {
		return usagef("--wan is %q; it can be geo (delays from where the regions are), off (none), or the one-way delay of every link, such as 75ms", mode)
	}
	return nil
}
