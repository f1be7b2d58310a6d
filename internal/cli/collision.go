package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/spec"
)

func (a *app) collisionCommand() *cobra.Command {
	var dir, output, from string
	var limit int
	list := &cobra.Command{
		Use: "list TABLE", Short: "List the collisions on record of a table", Args: wantArgs(1, "TABLE"),
		Long: "List the collisions on record of a table: items of which two regions wrote versions that had not seen each other.\n" +
			"The version that the table's rule made visible is marked with *.\n\nWith -o json:\n" +
			`  {"collisions":[{"table","key","visible","first","first_by_ms","clock_uncertainty_ms","rule","final",` + "\n" +
			`    "versions":[{"region","stamp","dot","item"}]}]}` + "\n" +
			"key and item are DynamoDB JSON, item is null for a delete; visible and first are dots.",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := a.openInstall(dir)
			if err != nil {
				return err
			}
			visit, finish := a.collisionText(), func() error { return nil }
			if output == "json" {
				visit, finish = a.collisionJSON()
			}
			err = in.ask(cmd.Context(), from, func(ctx context.Context, c *operator.Client) error {
				return c.Collisions(ctx, args[0], limit, visit)
			})
			if err != nil {
				return err
			}
			return finish()
		},
	}
	dataFlag(list, &dir)
	outputFlag(list, &output)
	list.Flags().StringVar(&from, "region", "", "ask this `region` (default: the first that answers; once collisions are final all say the same)")
	list.Flags().IntVar(&limit, "limit", 0, "list at most this `many`")
	return group("collision", "Look at collisions of tables written in local mode", list)
}

// collisionJSON prints one document, as the collisions come.
func (a *app) collisionJSON() (visit func(operator.Collision) error, finish func() error) {
	begun := false
	begin := `{"collisions":[`
	return func(c operator.Collision) error {
			text, err := json.Marshal(c)
			if err != nil {
				return fmt.Errorf("write collision: %w", err)
			}
			sep := ","
			if !begun {
				begun, sep = true, begin
			}
			_, err = fmt.Fprintf(a.out, "%s\n  %s", sep, text)
			return err
		}, func() error {
			if !begun {
				return a.print("%s]}", begin)
			}
			return a.print("\n]}")
		}
}

func (a *app) collisionText() func(operator.Collision) error {
	return func(c operator.Collision) error {
		final := "final"
		if !c.Final {
			final = "not final yet: a region may still add to it"
		}
		err := a.print("%s %s, by %s, %s", c.Table, c.Key, c.Rule, final)
		for i := range c.Versions {
			ver := &c.Versions[i]
			mark := " "
			if ver.Dot == c.Visible {
				mark = "*"
			}
			item := string(ver.Item)
			if item == "" || item == "null" {
				item = "(deleted)"
			}
			first := ""
			if ver.Dot == c.First {
				first = fmt.Sprintf("  first by %d ms (the clocks agree within %d ms)", c.FirstByMS, c.ClockUncertaintyMS)
			}
			err = errors.Join(err, a.print("  %s %-10s %s  %s%s", mark, ver.Region, ver.Stamp, item, first))
		}
		return err
	}
}

// ask has a region answer: the one named, or the first that does, those that keep
// data before the witnesses.
func (in *install) ask(ctx context.Context, name string, call func(context.Context, *operator.Client) error) error {
	if name != "" {
		r, err := in.region(name)
		if err != nil {
			return err
		}
		c, err := in.client(r)
		if err != nil {
			return err
		}
		return explainCall(r, call(ctx, c))
	}
	var failed []error
	for _, r := range in.local() {
		if r.Witness {
			continue
		}
		c, err := in.client(r)
		if err != nil {
			return err
		}
		err = call(ctx, c)
		if !errors.Is(err, operator.ErrUnreachable) && !errors.Is(err, operator.ErrUnavailable) {
			return explainCall(r, err)
		}
		failed = append(failed, explainCall(r, err))
	}
	if len(failed) == 0 {
		return fmt.Errorf("no region that keeps data was started in %s yet", in.dir)
	}
	return errors.Join(failed...)
}

// explainCall adds whom was asked, and what to do when it does not answer.
func explainCall(r *spec.Region, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, operator.ErrUnreachable):
		return fmt.Errorf("region %s: %w; see `antipode status`, and start it with `antipode up` or `antipode region run %s`", r.Name, err, r.Name)
	case strings.Contains(err.Error(), string(r.Name)):
		return err
	}
	return fmt.Errorf("region %s: %w", r.Name, err)
}

// callTimeout bounds a call that is not streamed.
const callTimeout = 40 * time.Second

func (in *install) call(ctx context.Context, r *spec.Region, f func(context.Context, *operator.Client) error) error {
	c, err := in.client(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return explainCall(r, f(ctx, c))
}
