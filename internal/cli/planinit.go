package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode/internal/ops/plan/interview"
	"github.com/antipode-io/antipode/internal/spec"
)

type initOptions struct {
	file, answers string
	plain, force  bool
}

func (a *app) planInitCommand() *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use: "init", Short: "Ask what is asked of the data, and put the answers into the spec", Args: wantArgs(0),
		Long: "Ask in plain words what antipode plan has to know, and put the answers into the spec, under needs. A spec that is there keeps\n" +
			"all else that it says, comments included, and its needs are the defaults of the questions. At a terminal it is a form, with\n" +
			"--plain or in a pipe a question a line. An answer of - is none: plan then says what it assumed instead.\n\n" +
			"With --answers the answers come from a file: the fields of needs, and regions where there is no spec yet:\n\n" +
			"  users: [{name: europe, location: eu-central-1, share: 70}, {name: us, location: us-east-1, share: 30}]\n" +
			"  data:\n" +
			"    - {name: orders, why: [continuity], rto: 10m, rpo: 0s, written_by: owner, outage_hour: 5000}",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.planInit(cmd.Context(), o); err != nil {
				return err
			}
			a.note("See what comes of it with `%s`.", a.command(defaultDir, planArgs(o.file)...))
			return nil
		},
	}
	f := c.Flags()
	f.StringVarP(&o.file, "file", "f", specFile, "spec `file` that the answers are put into")
	f.StringVar(&o.answers, "answers", "", "take the answers from this `file`")
	f.BoolVar(&o.plain, "plain", false, "ask a question a line, without a form")
	f.BoolVar(&o.force, "force", false, "put the answers into a file that is there, without asking")
	return c
}

func planArgs(file string) []string {
	if file == specFile {
		return []string{"plan"}
	}
	return []string{"plan", "-f", file}
}

func (a *app) planInit(ctx context.Context, o initOptions) error {
	var old *spec.Spec
	text, err := os.ReadFile(o.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read the spec: %w", err)
	default:
		if old, err = spec.Load(text, o.file); err != nil {
			return fmt.Errorf("%w\n%s must be a good spec before answers are put into it; mend it, or name another file with -f", err, o.file)
		}
		if err := a.mayChange(o); err != nil {
			return err
		}
	}
	s, err := a.answers(ctx, o, old)
	if err != nil {
		return err
	}
	if old == nil {
		text, err = s.Short()
		text = append(fmt.Appendf(nil, "# Made by antipode plan init on %s. docs/plan.md says what can stand under needs.\n", a.now().UTC().Format(time.DateOnly)), text...)
	} else {
		text, err = spec.ReplaceNeeds(text, o.file, s.Needs)
	}
	if err != nil {
		return err
	}
	if _, err := spec.Load(text, o.file); err != nil {
		return fmt.Errorf("the answers make no spec that can be read, which is a mistake in antipode plan init; nothing was written, please report it: %w", err)
	}
	if err := writeFile(o.file, text, 0o644); err != nil {
		return err
	}
	a.note("%s says under needs what is asked of %s.", o.file, count(len(s.Needs.Data), "data set"))
	return nil
}

// answers takes them from a file, or asks.
func (a *app) answers(ctx context.Context, o initOptions, old *spec.Spec) (*spec.Spec, error) {
	if o.answers == "" {
		i := interview.New(old)
		return i.Spec, a.interview(ctx, i, o.plain)
	}
	given, err := os.ReadFile(o.answers)
	if err != nil {
		return nil, fmt.Errorf("read the answers: %w", err)
	}
	return spec.ReadAnswers(given, o.answers, old, interview.SuggestRegions)
}

// mayChange makes sure that a file that is there is meant.
func (a *app) mayChange(o initOptions) error {
	if o.force {
		return nil
	}
	if o.answers != "" || !isTerminal(a.in) {
		return usagef("%s is there already; --force puts the answers into it, under needs, and leaves the rest as it is. Or name another file with -f", o.file)
	}
	_, _ = fmt.Fprintf(a.err, "%s is there. Put the answers into it, under needs, and leave the rest as it is? [y/N] ", o.file) // there is nobody else to tell
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "y") {
		return fmt.Errorf("%w: %s stays as it is", errAborted, o.file)
	}
	return nil
}
