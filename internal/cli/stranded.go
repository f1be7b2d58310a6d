package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
)

func (a *app) strandedCommand() *cobra.Command {
	c := group("stranded", "Look at writes that a failover left behind, and decide on them",
		a.strandedListCommand(),
		a.decideCommand("restore", "Write stranded writes anew",
			"Write stranded writes anew, as writes of today. Where the item has changed since it was listed, nothing is written\nunless --force says so."),
		a.decideCommand("discard", "Record that stranded writes are not wanted", ""))
	c.Long = "A stranded write was answered by a region that was lost, and no region that took over had it. It is kept apart from\n" +
		"the items, in each region that has it, until somebody decides."
	return c
}

func (a *app) strandedListCommand() *cobra.Command {
	var dir, output, from string
	var all bool
	c := &cobra.Command{
		Use: "list [REGION]", Short: "List the stranded writes of a region that was lost, or of all", Args: wantArgs(0, "REGION"),
		ValidArgsFunction: a.regionNames(&dir),
		Long: "List stranded writes: what was written, and what stands in its place now.\n\nWith -o json:\n" +
			`  {"stranded":[{"dot","table","key","kind","stamp","home","item","state","by","at","now","again","unsure"}]}` + "\n" +
			"key, item and now are DynamoDB JSON; item is null for a delete, now for no item.",
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := a.listStranded(cmd.Context(), dir, from, args, !all)
			if err != nil {
				return err
			}
			if output == "json" {
				return a.printJSON(map[string]any{"stranded": list})
			}
			return a.printStranded(list)
		},
	}
	dataFlag(c, &dir)
	outputFlag(c, &output)
	c.Flags().StringVar(&from, "region", "", "ask this `region` (default: the first that is not cut off)")
	c.Flags().BoolVar(&all, "all", false, "list those that were decided on, too")
	return c
}

// listStranded asks for the stranded writes of the region named, or of all.
func (a *app) listStranded(ctx context.Context, dir, from string, args []string, open bool) ([]operator.Stranded, error) {
	in, err := a.openInstall(dir)
	if err != nil {
		return nil, err
	}
	var lost antipode.Region
	if len(args) > 0 {
		r, err := in.region(args[0])
		if err != nil {
			return nil, err
		}
		lost = r.Name
	}
	var list []operator.Stranded
	err = a.askCurrent(ctx, in, from, func(ctx context.Context, c *operator.Client) (err error) {
		list, err = c.Stranded(ctx, lost)
		return err
	})
	if err != nil {
		return nil, err
	}
	if open {
		list = slices.DeleteFunc(list, func(s operator.Stranded) bool { return s.State != "open" })
	}
	if list == nil {
		list = []operator.Stranded{}
	}
	return list, nil
}

func (a *app) printStranded(list []operator.Stranded) error {
	if len(list) == 0 {
		return a.print("no stranded writes")
	}
	for i := range list {
		s := &list[i]
		state := ""
		if s.State != "open" {
			state = fmt.Sprintf(", %s by %s", s.State, s.By)
		}
		if s.Again != "" {
			state += ", carried out again as " + s.Again
		}
		now := string(s.Now)
		switch {
		case s.Unsure:
			now = "(not known here at the moment)"
		case now == "null":
			now = "(no item)"
		}
		item := string(s.Item)
		if item == "null" {
			item = "(deleted)"
			if s.Kind != "write" {
				item = "(" + s.Kind + ")"
			}
		}
		if err := a.print("%s  %s %s  %s%s\n    wrote %s\n    now   %s", s.Dot, s.Table, s.Key, s.Stamp, state, item, now); err != nil {
			return err
		}
	}
	return nil
}

// decideBatch is how many writes are decided on in one call.
const decideBatch = 50

func (a *app) decideCommand(verb, short, long string) *cobra.Command {
	var dir, from string
	var all, force bool
	var rec record
	c := &cobra.Command{
		Use: verb + " DOT... | --all", Short: short, Long: long,
		Args: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef("%s needs the names of stranded writes, as `antipode stranded list` shows them, or --all", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, dots []string) error {
			in, by, err := a.openAs(dir, rec)
			if err != nil {
				return err
			}
			if all {
				list, err := a.listStranded(cmd.Context(), dir, from, nil, true)
				if err != nil {
					return err
				}
				for i := range list {
					dots = append(dots, list[i].Dot)
				}
			}
			return a.decide(cmd.Context(), in, from, operator.DecideRequest{Dots: dots, Restore: verb == "restore", Force: force, By: by})
		},
	}
	dataFlag(c, &dir)
	c.Flags().StringVar(&rec.by, "by", "", "`who` decides, for the record (default: $USER)")
	c.Flags().StringVar(&from, "region", "", "ask this `region` (default: the first that answers)")
	c.Flags().BoolVar(&all, "all", false, "all that nobody has decided on")
	if verb == "restore" {
		c.Flags().BoolVar(&force, "force", false, "write also where the item has changed since")
	}
	return c
}

func (a *app) decide(ctx context.Context, in *install, from string, q operator.DecideRequest) error {
	done, verb := 0, "discarded"
	if q.Restore {
		verb = "restored"
	}
	failed := 0
	for dots := range slices.Chunk(q.Dots, decideBatch) {
		batch := q
		batch.Dots = dots
		var out []operator.Decision
		err := in.askOne(ctx, from, callTimeout, func(ctx context.Context, c *operator.Client) (err error) {
			out, err = c.DecideStranded(ctx, batch)
			return err
		})
		if err != nil {
			return err
		}
		for _, d := range out {
			if d.Error != "" {
				failed++
				a.note("%s: %s", d.Dot, d.Error)
				continue
			}
			done++
		}
	}
	if err := a.print("%d stranded writes %s", done, verb); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d stranded writes were not %s", failed, len(q.Dots), verb)
	}
	return nil
}
