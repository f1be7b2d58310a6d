package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode/internal/ops/bench"
	"github.com/antipode-io/antipode/internal/ops/bulk"
)

// progressSuffix ends the name of the record that lets an import or export go on.
const progressSuffix = ".progress"

type bulkOptions struct {
	dir, region, endpoint, format string
	workers                       int
	keepGoing, restart            bool
	consistent                    bool
	columns                       []string
}

func (a *app) importCommand() *cobra.Command {
	var o bulkOptions
	c := &cobra.Command{
		Use: "import TABLE FILE...", Short: "Write the items of files to a table",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("%s needs TABLE and FILE", cmd.CommandPath())
			}
			return nil
		},
		Long: "Write the items of files to a table that exists, over what has their keys. A FILE may be a folder, such as an export of\n" +
			"DynamoDB to S3, or - for standard input. What was interrupted goes on where it was when the same command is run again.\n\n" +
			"Formats, found out by name and first line, gzipped where the name ends in .gz:\n" +
			"  dynamodb  a line per item, {\"Item\":{\"id\":{\"S\":\"a\"}}}, as DynamoDB's export writes it\n" +
			"  json      a line of plain JSON per item, {\"id\":\"a\"}\n" +
			"  csv       names in the first line; all but the key is read as strings, and an empty cell is no attribute",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.importFiles(cmd.Context(), o, args[0], args[1:])
		},
	}
	a.bulkFlags(c, &o)
	c.Flags().BoolVar(&o.keepGoing, "keep-going", false, "leave out items that can't be imported, and tell of each")
	return c
}

func (a *app) exportCommand() *cobra.Command {
	var o bulkOptions
	c := &cobra.Command{
		Use: "export TABLE [FILE]", Short: "Write the items of a table to a file", Args: wantArgs(1, "TABLE", "FILE"),
		Long: "Write the items of a table to FILE, or to standard output. The table may be written to meanwhile: an export is no snapshot.\n" +
			"What was interrupted goes on where it was when the same command is run again.\n\n" +
			"Formats, by the name of FILE where --format does not say; gzipped where it ends in .gz:\n" +
			"  dynamodb  a line per item, {\"Item\":{\"id\":{\"S\":\"a\"}}}, as DynamoDB's export writes it and its import reads it (the default)\n" +
			"  json      a line of plain JSON per item, {\"id\":\"a\"}; sets become lists, binaries base64 (.jsonl, .ndjson)\n" +
			"  csv       names in the first line; what is no string, number or binary is JSON (.csv)",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) > 1 {
				path = args[1]
			}
			return a.exportFile(cmd.Context(), o, args[0], path)
		},
	}
	a.bulkFlags(c, &o)
	c.Flags().BoolVar(&o.consistent, "consistent", false, "read what is newest, from the regions that accept the writes")
	c.Flags().StringSliceVar(&o.columns, "columns", nil, "`attributes` that CSV has, in this order (default: all)")
	return c
}

func (a *app) bulkFlags(c *cobra.Command, o *bulkOptions) {
	dataFlag(c, &o.dir)
	f := c.Flags()
	f.StringVar(&o.region, "region", "", "`region` to ask (default: the writer of a table that has one, or the first that keeps it)")
	f.StringVar(&o.endpoint, "endpoint", "", "`URL` of any server of the DynamoDB API in place of a region, with the key and region of the AWS_ variables")
	f.StringVar(&o.format, "format", "", "`format` of the file: dynamodb, json or csv")
	f.IntVar(&o.workers, "workers", 16, "`number` of connections")
	f.BoolVar(&o.restart, "restart", false, "start anew where an earlier run was interrupted")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"dynamodb", "json", "csv"}, cobra.ShellCompDirectiveNoFileComp))
}

// bulkConfig says where the table is and how to ask.
func (a *app) bulkConfig(o bulkOptions, table string) (cfg bulk.Config, err error) {
	cfg = bulk.Config{Table: table, Format: bulk.Format(o.format), Workers: o.workers, Now: a.now}
	if o.format != "" && !slices.Contains(bulk.Formats(), cfg.Format) {
		return cfg, usagef("--format is %q; it can be dynamodb, json or csv", o.format)
	}
	if o.workers < 1 {
		return cfg, usagef("--workers is %d; it must be 1 at least", o.workers)
	}
	b := benchOptions{Config: bench.Config{Table: table}, dir: o.dir}
	switch {
	case o.endpoint != "":
		b.endpoints = []string{o.endpoint}
		if o.region != "" {
			b.regions = []string{o.region}
		}
	case o.region != "":
		b.regions = []string{o.region}
	default:
		in, err := a.openInstall(o.dir)
		if err != nil {
			return cfg, err
		}
		if t, ok := in.spec.Table(table); ok && t.Writer != "" {
			b.regions = []string{string(t.Writer)}
		}
	}
	targets, err := a.benchTargets(b)
	if err != nil {
		return cfg, err
	}
	cfg.Endpoint = targets[0]
	return cfg, nil
}

func (a *app) importFiles(ctx context.Context, o bulkOptions, table string, paths []string) error {
	cfg, err := a.bulkConfig(o, table)
	if err != nil {
		return err
	}
	c := bulk.ImportConfig{Config: cfg}
	if c.Inputs, err = a.inputs(paths); err != nil {
		return err
	}
	var store *recordFile
	if !slices.Contains(paths, "-") {
		if store, err = openRecord(filepath.Clean(paths[0])+"."+table+progressSuffix, o.restart); err != nil {
			return err
		}
		c.Store = store
	}
	if o.keepGoing {
		c.Bad = func(e *bulk.LineError) { a.note("left out: %s", e) }
	}
	c.Progress = a.bulkProgress("import")
	res, err := bulk.Import(ctx, c)
	if err != nil {
		return a.bulkFailed(err, store, res.Items)
	}
	if res.Bad > 0 {
		return fmt.Errorf("%d items are imported, %d were left out", res.Items, res.Bad)
	}
	return a.print("imported %s", done(res))
}

func done(r bulk.Result) string {
	text := fmt.Sprintf("%d items in %v", r.Items-r.Resumed, r.Took.Round(time.Millisecond))
	if s := r.Took.Seconds(); s > 0 {
		text += fmt.Sprintf(", %.0f/s", float64(r.Items-r.Resumed)/s)
	}
	if r.Resumed > 0 {
		text += fmt.Sprintf(", after %d of an earlier run", r.Resumed)
	}
	return text
}

// bulkFailed tells how an interrupted run goes on.
func (a *app) bulkFailed(err error, store *recordFile, items int64) error {
	switch {
	case errors.Is(err, bulk.ErrOtherInput):
		return fmt.Errorf("%s: %w; remove it, or say --restart", store.path, err)
	case errors.Is(err, bulk.ErrInvalid):
		return usageError{err}
	case store != nil && store.there():
		a.note("interrupted after %d items; the same command goes on from what is on record in %s", items, store.path)
	}
	return err
}

func (a *app) bulkProgress(what string) func(bulk.Snapshot) {
	last := bulk.Snapshot{}
	return func(s bulk.Snapshot) {
		rate := float64(s.Items-last.Items) / (s.Elapsed - last.Elapsed).Seconds()
		share := ""
		if s.Share >= 0 {
			share = fmt.Sprintf("   %3.0f %%", 100*s.Share)
		}
		a.note("%-8s %4.0f s %10d items %8.0f/s%s", what, s.Elapsed.Seconds(), s.Items, rate, share)
		last = s
	}
}

// inputs lists the files to import, those of folders by name.
func (a *app) inputs(paths []string) ([]bulk.Input, error) {
	var out []bulk.Input
	for _, path := range paths {
		if path == "-" {
			out = append(out, bulk.Input{Name: "standard input", Open: func() (io.ReadCloser, error) { return io.NopCloser(a.in), nil }})
			continue
		}
		before := len(out)
		err := filepath.WalkDir(path, func(file string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || (file != path && !isData(file)) {
				return err
			}
			info, err := e.Info()
			if err == nil && !info.Mode().IsRegular() {
				info, err = os.Stat(file) // what a link leads to, or a pipe
			}
			if err != nil {
				return err
			}
			out = append(out, bulk.Input{Name: file, Size: info.Size(), Open: func() (io.ReadCloser, error) { return os.Open(file) }})
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for files to import: %w", err)
		}
		if len(out) == before {
			return nil, usagef("there is no file to import in %s: their names end in .json, .jsonl, .ndjson, .csv or one of these and .gz", path)
		}
	}
	return out, nil
}

// isData tells a folder's files with items from others, such as an export's manifests.
func isData(path string) bool {
	name := strings.TrimSuffix(filepath.Base(path), ".gz")
	return slices.Contains([]string{".json", ".jsonl", ".ndjson", ".csv"}, filepath.Ext(name)) && !strings.HasPrefix(name, "manifest-")
}

func (a *app) exportFile(ctx context.Context, o bulkOptions, table, path string) (err error) {
	cfg, err := a.bulkConfig(o, table)
	if err != nil {
		return err
	}
	c := bulk.ExportConfig{Config: cfg, Consistent: o.consistent, Columns: o.columns, Output: bulk.Output{Writer: a.out}}
	base, packed := strings.CutSuffix(path, ".gz")
	c.Gzip = packed
	if c.Format == "" {
		switch filepath.Ext(base) {
		case ".csv":
			c.Format = bulk.CSV
		case ".jsonl", ".ndjson":
			c.Format = bulk.JSON
		default:
			c.Format = bulk.DynamoDB
		}
	}
	if len(o.columns) > 0 && c.Format != bulk.CSV {
		return usagef("--columns is for CSV; say --format csv or name a file that ends in .csv")
	}
	if path == "" {
		if _, err := bulk.Export(ctx, c); err != nil {
			return a.bulkFailed(err, nil, 0)
		}
		return nil
	}
	store, err := openRecord(path+progressSuffix, o.restart)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err == nil && !store.there() && !o.restart {
		return fmt.Errorf("%s exists, and no export of it was interrupted; name another file, or say --restart to write it anew", path)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	c.Store, c.Progress = store, a.bulkProgress("export")
	c.Output = bulk.Output{Writer: f, Sync: f.Sync, Truncate: func(size int64) error {
		_, err := f.Seek(size, io.SeekStart)
		return errors.Join(f.Truncate(size), err)
	}}
	res, err := bulk.Export(ctx, c)
	if err != nil {
		return a.bulkFailed(err, store, res.Items)
	}
	return a.print("exported %s", done(res))
}

// recordFile keeps a record of progress in a file.
type recordFile struct{ path string }

func openRecord(path string, restart bool) (*recordFile, error) {
	r := &recordFile{path}
	if !restart {
		return r, nil
	}
	return r, r.Remove()
}

func (r *recordFile) there() bool {
	_, err := os.Stat(r.path)
	return err == nil
}

// Load implements bulk.Store.
func (r *recordFile) Load() ([]byte, error) {
	text, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// Save implements bulk.Store.
func (r *recordFile) Save(text []byte) error { return writeFile(r.path, text, 0o600) }

// Remove implements bulk.Store.
func (r *recordFile) Remove() error {
	if err := os.Remove(r.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
