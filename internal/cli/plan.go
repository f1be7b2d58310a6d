package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode/internal/ops/drill"
	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/ops/plan/view"
	"github.com/antipode-io/antipode/internal/spec"
)

const planShape = `{"data":[{"name","strategy","writes","rule","rpo","rto","cost","why","rpo_detail","rto_detail","cost_detail",
   "availability","ladder","latency","reasons","sensitive","impossible","assumed","first","backup","drills",…}],
   "lints":[{"rule","severity","data","line","column","reason","fix","source"}],
   "regions","users","currency","month","month_one_region","assumed","not_yet"}
  rpo and rto are what is promised, as durations (null: no bound); cost is the factor against one region; strategy is
  single-region, backup-restore, pilot-light, warm-standby or active-active.`

type planOptions struct {
	dir, file, output, html, why, write string
	diff, force                         bool
}

func (a *app) planCommand() *cobra.Command {
	var o planOptions
	c := &cobra.Command{
		Use: "plan", Short: "Tell whether you need active-active, what would do instead, and what it costs",
		Args: func(cmd *cobra.Command, args []string) error { return unknownCommand(cmd, args) },
		Long: "Tell, for each data set, the cheapest strategy that meets what is asked of it, why cheaper ones don't, what it costs against\n" +
			"one region, the latency that physics allows, and the drills that will hold it to its word. What is asked stands in the spec\n" +
			"under needs; antipode plan init asks for it. Nothing is started or changed.\n\n" +
			"It knows more than the spec says when it can: round trips that antipode probe measured, and the drills on record in DIR.\n\n" +
			"  antipode plan init                       answer questions, and have them in antipode.yaml\n" +
			"  antipode plan                            the report on a screen\n" +
			"  antipode plan --why orders               the whole reasoning about one data set\n" +
			"  antipode plan --html plan.html           a page with a map, to show around\n" +
			"  antipode plan --write advised.yaml       the spec that antipode up -f runs\n" +
			"  antipode plan --diff                     compare with what runs; exit code 1 when it differs\n\n" +
			"With -o json:\n  " + planShape,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.plan(cmd.Context(), o) },
	}
	dataFlag(c, &o.dir)
	outputFlag(c, &o.output, "md", "html")
	f := c.Flags()
	f.StringVarP(&o.file, "file", "f", specFile, "spec `file`")
	f.StringVar(&o.html, "html", "", "write the report as a web page to this `file`")
	f.StringVar(&o.why, "why", "", "tell the whole reasoning about this `data set`")
	f.BoolVar(&o.diff, "diff", false, "compare what is advised with what runs")
	f.StringVar(&o.write, "write", "", "write the spec that is advised to this `file`")
	f.BoolVar(&o.force, "force", false, "with --write: replace the file if it is there")
	c.AddCommand(a.planInitCommand())
	return c
}

func (a *app) plan(ctx context.Context, o planOptions) error {
	if o.why != "" && (o.diff || o.output != "text") {
		return usagef("--why is text about one data set; leave --diff and -o out")
	}
	in, err := a.planInput(ctx, o)
	if err != nil {
		return err
	}
	r := plan.Advise(in)
	if o.write != "" {
		if err := a.writeAdvised(&r, o); err != nil {
			return err
		}
	}
	about := view.Page{Source: o.file, Made: a.now(), Measured: in.RoundTrips}
	if o.html != "" {
		if err := a.writePage(&r, about, o.html); err != nil {
			return err
		}
	}
	switch {
	case o.diff:
		return a.planDiff(ctx, &r, o)
	case o.why != "":
		return a.planWhy(&r, o.why)
	case o.output == "json":
		return a.printJSON(r)
	case o.output == "md":
		return a.raw(view.Markdown(&r, o.file))
	case o.output == "html":
		page, err := view.HTML(&r, about)
		return errors.Join(err, a.raw(page))
	case o.write != "" || o.html != "":
		return nil // that was the result
	}
	if err := a.raw(view.Text(&r, o.file, a.style())); err != nil {
		return err
	}
	if in.Spec.Needs == nil {
		a.note("\n%s says nothing under needs. Answer the questions with `%s`.", o.file, a.command(defaultDir, "plan", "init", "-f", o.file))
	}
	return nil
}

// raw writes the result as it is.
func (a *app) raw(text string) error {
	if _, err := a.out.Write([]byte(text)); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// style is how the terminal wants its text.
func (a *app) style() view.Style {
	s := view.Style{Width: 120}
	f, ok := a.out.(*os.File)
	if !ok || !isTerminal(f) {
		return s
	}
	if width, _, err := term.GetSize(f.Fd()); err == nil && width > 0 {
		s.Width = min(width, 140)
	}
	s.Color = a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
	return s
}

// planInput gathers what there is to know: the spec, what was measured, and drills.
func (a *app) planInput(ctx context.Context, o planOptions) (in plan.Input, err error) {
	text, err := os.ReadFile(o.file)
	if errors.Is(err, fs.ErrNotExist) {
		if !isTerminal(a.in) || !isTerminal(a.out) {
			return in, usagef("there is no %s to plan from; make one with `%s` (it asks; --answers FILE for scripts), or name another with -f FILE",
				o.file, a.command(defaultDir, "plan", "init"))
		}
		a.note("There is no %s yet, so here are the questions. Enter takes what is suggested; Ctrl-C ends it, and nothing is written.", o.file)
		if err := a.planInit(ctx, initOptions{file: o.file}); err != nil {
			return in, err
		}
		text, err = os.ReadFile(o.file)
	}
	if err != nil {
		return in, fmt.Errorf("read the spec: %w", err)
	}
	if in.Spec, in.Source, err = spec.Read(text, o.file); err != nil {
		return in, err
	}
	if in.Drills, err = drill.History(vfs.Default, filepath.Join(o.dir, drillsDir)); err != nil {
		return in, err
	}
	measured, err := readProbe(o.dir)
	if err != nil {
		return in, err
	}
	in.RoundTrips = measured.roundTrips(in.Spec)
	if measured != nil && measured.Emulated && len(in.RoundTrips) == 0 {
		a.note("What the last probe measured was emulated, so the round trips are those of the table.")
	}
	return in, nil
}

// roundTrips are the measurements of a probe that say something about the real
// network between the regions of a spec.
func (r *probeReport) roundTrips(s *spec.Spec) []plan.RoundTrip {
	if r == nil {
		return nil
	}
	var out []plan.RoundTrip
	for _, p := range r.Pairs {
		_, okA := s.Region(p.A)
		_, okB := s.Region(p.B)
		if p.Emulated || p.Samples == 0 || !okA || !okB {
			continue
		}
		span := func(ms float64) spec.Duration { return spec.Duration(ms * float64(time.Millisecond)) }
		out = append(out, plan.RoundTrip{
			From: string(p.A), To: string(p.B), RTT: span(p.P50MS), P99: span(p.P99MS), Samples: p.Samples, Measured: r.At,
		})
	}
	return out
}

func (a *app) planWhy(r *plan.Report, name string) error {
	i := slices.IndexFunc(r.Data, func(d plan.Answer) bool { return d.Name == name })
	if i < 0 {
		var names []string
		for _, d := range r.Data {
			names = append(names, d.Name)
		}
		if near := spec.Nearest(name, names); near != "" {
			return usagef("there is no data set %q; did you mean %s?", name, near)
		}
		return usagef("there is no data set %q; there are %s", name, strings.Join(names, ", "))
	}
	return a.raw(view.Why(r, &r.Data[i], a.style()))
}

// writeAdvised writes the spec that the advice comes to.
func (a *app) writeAdvised(r *plan.Report, o planOptions) error {
	if _, err := os.Stat(o.write); err == nil && !o.force {
		return usagef("%s is there already and stays as it is; name another file, or replace it with --force", o.write)
	}
	text, err := r.Spec().Short()
	if err != nil {
		return err
	}
	head := fmt.Sprintf("# What antipode plan advised on %s for %s. Run it with: antipode up -f %s\n", a.now().UTC().Format(time.DateOnly), o.file, o.write)
	text = append([]byte(head), text...)
	if _, err := spec.Load(text, o.write); err != nil {
		return fmt.Errorf("the advice makes no spec that can be read, which is a mistake in antipode plan; please report it: %w", err)
	}
	if err := writeFile(o.write, text, 0o644); err != nil {
		return err
	}
	a.note("%s has the spec that is advised; run it with `%s`", o.write, a.command(defaultDir, "up", "-f", o.write))
	return nil
}

func (a *app) writePage(r *plan.Report, about view.Page, file string) error {
	page, err := view.HTML(r, about)
	if err != nil {
		return err
	}
	if err := writeFile(file, []byte(page), 0o644); err != nil {
		return err
	}
	a.note("%s has the report as a page", file)
	return nil
}
