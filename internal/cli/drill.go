package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/ops/drill"
)

// drillsDir is the folder of the drills' records in the data directory.
const drillsDir = "drills"

// errBroken marks a drill that showed a promise to be broken. The report says which.
var errBroken = errors.New("the drill failed: not all that was promised was kept")

type drillOptions struct {
	drill.Config

	dir, output, region, report string
}

func (a *app) drillCommand() *cobra.Command {
	c := group("drill", "Hurt a region on purpose and compare what comes of it with what was promised",
		a.drillListCommand(), a.drillRunCommand(), a.drillHistoryCommand(), a.drillHealCommand())
	c.Long = "Hurt a region of a running `antipode up` on purpose, under load, and compare what comes of it with what was promised: lost\n" +
		"writes, recovery time, wrong answers, collisions, second writers. What a drill does it undoes, at its end as after a Ctrl-C."
	return c
}

func (a *app) drillListCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "list", Short: "List the drills there are", Args: wantArgs(0),
		RunE: func(*cobra.Command, []string) error {
			if output == "json" {
				return a.printJSON(drill.Kinds())
			}
			rows := [][]string{{"DRILL", "FAILOVER", "WHAT IT DOES"}}
			for _, k := range drill.Kinds() {
				rows = append(rows, []string{k.Name, string(k.Must), k.Does})
			}
			return a.table(rows)
		},
	}
	outputFlag(c, &output)
	return c
}

func (a *app) drillRunCommand() *cobra.Command {
	var o drillOptions
	c := &cobra.Command{
		Use: "run NAME", Short: "Run a drill", Args: wantArgs(1, "NAME"),
		Long: "Run a drill. It makes tables of its own in each write mode, drives them with load from every region, hurts one region, watches,\n" +
			"heals it, reads everything back, and reports. It refuses to start where not all is well. Exit code 1 when a promise was broken.\n\n" +
			"  antipode drill run region-down                        kill the first region, for a minute\n" +
			"  antipode drill run isolated --region mumbai --for 20s\n" +
			"  antipode drill run link-cut --report drill.html       with a page to show around",
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, k := range drill.Kinds() {
				names = append(names, k.Name+"\t"+k.Does)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Kind = args[0]
			return a.runDrill(cmd.Context(), o)
		},
	}
	dataFlag(c, &o.dir)
	outputFlag(c, &o.output)
	f := c.Flags()
	f.StringVar(&o.region, "region", "", "`region` to hurt (default: the first that stores tables)")
	f.DurationVar(&o.For, "for", 60*time.Second, "how `long` the fault lasts")
	f.IntVar(&o.Rate, "rate", 1000, "writes per `second` over all regions")
	f.DurationVar(&o.Skew, "skew", 5*time.Second, "how `far` clock-skew sets the clock ahead, then behind")
	f.StringVar(&o.report, "report", "", "write the report as a web page to this `file`")
	f.BoolVar(&o.Keep, "keep", false, "leave the drill's tables there")
	_ = c.RegisterFlagCompletionFunc("region", a.regionNames(&o.dir))
	return c
}

func (a *app) drillHistoryCommand() *cobra.Command {
	var dir, output, report string
	c := &cobra.Command{
		Use: "history [ID]", Short: "List the drills that were run, or show the report of one", Args: wantArgs(0, "ID"),
		RunE: func(_ *cobra.Command, args []string) error { return a.drillHistory(dir, output, report, args) },
	}
	dataFlag(c, &dir)
	outputFlag(c, &output)
	c.Flags().StringVar(&report, "report", "", "with ID: write the report as a web page to this `file`")
	return c
}

func (a *app) drillHealCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "heal", Short: "Undo what a drill that was killed left behind", Args: wantArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.drillConfig(dir)
			if err != nil {
				return err
			}
			healed, err := drill.Heal(cmd.Context(), cfg)
			switch {
			case err != nil:
				return err
			case !healed:
				return a.print("there is nothing to heal")
			}
			return a.print("healed")
		},
	}
	dataFlag(c, &dir)
	return c
}

// drillConfig says how the regions of a data directory are reached.
func (a *app) drillConfig(dir string) (drill.Config, error) {
	in, err := a.openInstall(dir)
	if err != nil {
		return drill.Config{}, err
	}
	profiles, err := readCredentials(dir)
	if err != nil {
		return drill.Config{}, err
	}
	cfg := drill.Config{
		Dir: filepath.Join(dir, drillsDir), FS: vfs.Default, Now: a.now, Signal: signalRegion,
		Restart: func(ctx context.Context, region antipode.Region) error { return in.restart(ctx, a.name, region) },
		Progress: func(e drill.Event) {
			a.note("%7.1f s  %s", e.At/1000, e.Text)
		},
	}
	for i := range in.spec.Regions {
		r := &in.spec.Regions[i]
		s := drill.Site{Name: r.Name, Witness: r.Witness}
		if s.Operator, err = in.client(r); err != nil {
			return cfg, err
		}
		if !r.Witness {
			if s.Endpoint, err = a.benchRegion(in, r.Name, profiles); err != nil {
				return cfg, err
			}
		}
		cfg.Sites = append(cfg.Sites, s)
	}
	return cfg, nil
}

// signalRegion sends a signal to a region's process, and to no other that has its
// number: that may be of another machine, or of a process that has ended.
func signalRegion(pid int, s syscall.Signal) error {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	switch {
	case errors.Is(err, fs.ErrNotExist) && runtime.GOOS == "linux":
		return fmt.Errorf("there is no such process on this machine: %w", syscall.ESRCH)
	case err == nil && !bytes.Contains(line, []byte("\x00region\x00run\x00")):
		return fmt.Errorf("process %d of this machine is no region: %w", pid, syscall.ESRCH)
	}
	return syscall.Kill(pid, s)
}

func (a *app) runDrill(ctx context.Context, o drillOptions) error {
	if _, ok := drill.KindOf(o.Kind); !ok {
		var names []string
		for _, k := range drill.Kinds() {
			names = append(names, k.Name)
		}
		if near := nearest(o.Kind, names); near != "" {
			return usagef("there is no drill %q; did you mean %s? See `antipode drill list`", o.Kind, near)
		}
		return usagef("there is no drill %q; there are %s", o.Kind, drill.Names())
	}
	cfg, err := a.drillConfig(o.dir)
	if err != nil {
		return err
	}
	cfg.Kind, cfg.For, cfg.Rate, cfg.Skew, cfg.Keep = o.Kind, o.For, o.Rate, o.Skew, o.Keep
	if o.region != "" {
		in, err := a.openInstall(o.dir)
		if err != nil {
			return err
		}
		r, err := in.region(o.region)
		if err != nil {
			return err
		}
		cfg.Region = r.Name
	}
	rec, err := drill.Run(ctx, cfg)
	switch {
	case errors.Is(err, drill.ErrInvalid):
		return usageError{err}
	case rec == nil:
		return err
	}
	return errors.Join(err, a.showDrill(rec, o.output, o.report))
}

// showDrill reports a drill, and fails when it did.
func (a *app) showDrill(rec *drill.Record, output, report string) error {
	var errs []error
	if report != "" {
		var page bytes.Buffer
		if err := rec.WriteHTML(&page); err != nil {
			return err
		}
		if err := writeFile(report, page.Bytes(), 0o644); err != nil {
			errs = append(errs, err)
		} else {
			a.note("the report is in %s", report)
		}
	}
	if output == "json" {
		errs = append(errs, a.printJSON(rec))
	} else {
		errs = append(errs, rec.WriteText(a.out))
	}
	if !rec.Passed {
		errs = append(errs, errBroken)
	}
	return errors.Join(errs...)
}

func (a *app) drillHistory(dir, output, report string, args []string) error {
	records, err := drill.History(vfs.Default, filepath.Join(dir, drillsDir))
	if err != nil {
		return err
	}
	if len(args) == 1 {
		for _, rec := range records {
			if rec.ID == args[0] {
				err := a.showDrill(rec, output, report)
				if errors.Is(err, errBroken) {
					return nil // it was told when it was run
				}
				return err
			}
		}
		return fmt.Errorf("there is no drill %s on record in %s; see `%s`", args[0], dir, a.command(dir, "drill", "history"))
	}
	if output == "json" {
		if records == nil {
			records = []*drill.Record{}
		}
		return a.printJSON(records)
	}
	rows := [][]string{{"ID", "REGION", "FOR", "RESULT", "LOST", "WORST RPO", "WORST RTO", "BROKEN PROMISES"}}
	for _, rec := range records {
		lost, rpo, rto, broken := rec.Summary()
		rows = append(rows, []string{rec.ID, string(rec.Region), rec.For().String(), rec.Word(), strconv.Itoa(lost), rpo, rto, orDash(broken)})
	}
	return a.table(rows)
}
