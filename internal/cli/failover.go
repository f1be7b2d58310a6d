package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/spec"
)

// record is who asks for something that is kept on record, and why.
type record struct{ by, why string }

func (a *app) recordFlags(cmd *cobra.Command, to *record) {
	cmd.Flags().StringVar(&to.by, "by", "", "`who` asks, for the record (default: $USER)")
	cmd.Flags().StringVar(&to.why, "why", "", "the `reason`, for the record")
}

// who returns the name for the record.
func (a *app) who(r record) (string, error) {
	if by := cmp.Or(r.by, a.getenv("USER"), a.getenv("LOGNAME")); by != "" {
		return by, nil
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username, nil // where the environment was cleared, as in a job
	}
	return "", usagef("$USER is not set; say with --by who asks, it is kept on record")
}

// openAs opens the installation for something that is kept on record, and
// returns the name of who asks for it.
func (a *app) openAs(dir string, r record) (*install, string, error) {
	by, err := a.who(r)
	if err != nil {
		return nil, "", err
	}
	in, err := a.openInstall(dir)
	return in, by, err
}

func (a *app) switchCommand() *cobra.Command {
	var dir, output, to, from string
	var rec record
	var cancel bool
	c := &cobra.Command{
		Use: "switch TABLE|REGION {--to REGION | --cancel}", Short: "Hand the writes of a table, or of a region, to another region", Args: wantArgs(1, "TABLE|REGION"),
		Long: "Hand over who accepts writes: of a table (its writer's role, or those of all its homes), or all that a region has,\n" +
			"before maintenance say. Nothing is lost and no write fails; writes stand still for about a round trip.\n" +
			"It stays so until the next switch, also where the table says return: auto.\n\n" +
			"A region lets go only while the other one answers. Until it has, --cancel calls the switch off, and so does the loss of the\n" +
			"other region. After that the other one takes over; should it be lost just then, it is replaced like the holder (antipode failover).\n\nWith -o json:\n" +
			`  {"roles":[{"table","home","holder","epoch","next"}],"pending":n,"skipped":[TABLE]}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" && !cancel {
				return usagef("say with --to which region is to accept the writes, or with --cancel that all is to stay as it is")
			}
			in, by, err := a.openAs(dir, rec)
			if err != nil {
				return err
			}
			q := operator.SwitchRequest{Cancel: cancel, By: by, Why: rec.why, Table: args[0]}
			if r, ok := in.spec.Region(antipode.Region(args[0])); ok {
				q.Region, q.Table = r.Name, ""
			}
			if to != "" {
				heir, err := in.region(to)
				if err != nil {
					return err
				}
				q.To = heir.Name
			}
			if !cancel {
				from = cmp.Or(from, to)
			}
			var out operator.SwitchStatus
			call := func(ctx context.Context, c *operator.Client) (err error) {
				out, err = c.Switch(ctx, q)
				return err
			}
			if err := in.askOne(cmd.Context(), from, callTimeout, call); err != nil {
				return err
			}
			return a.printSwitch(output, args[0], q, out)
		},
	}
	dataFlag(c, &dir)
	outputFlag(c, &output)
	a.recordFlags(c, &rec)
	c.Flags().StringVar(&to, "to", "", "the `region` that is to accept the writes")
	c.Flags().BoolVar(&cancel, "cancel", false, "call the switch that is under way off")
	c.Flags().StringVar(&from, "region", "", "ask this `region` (default: the one of --to; to cancel, the first that answers)")
	_ = c.RegisterFlagCompletionFunc("to", a.regionNames(&dir))
	return c
}

func (a *app) printSwitch(output, what string, q operator.SwitchRequest, out operator.SwitchStatus) error {
	if output == "json" {
		return a.printJSON(out)
	}
	for _, t := range out.Skipped {
		a.note("%s is left where it is: %s keeps no replica of it", t, q.To)
	}
	verb := "accepts writes"
	switch {
	case q.Cancel:
		verb = "keeps it"
		if out.Pending > 0 {
			a.note("%d more roles were handed over before, and go on to move; see `antipode status`", out.Pending)
		}
	case len(out.Roles) == 0:
		return a.print("nothing to switch: all that %s could hand over is at %s already", what, q.To)
	case out.Pending > 0:
		return a.print("%d of %d roles are at %s; the others follow, see `antipode status`; `antipode switch %s --cancel` calls off what has not begun to move",
			len(out.Roles)-out.Pending, len(out.Roles), q.To, what)
	}
	for _, r := range out.Roles {
		if err := a.print("%s: %s %s, epoch %d", roleName(r), r.Holder, verb, r.Epoch); err != nil {
			return err
		}
	}
	return nil
}

// roleName says which writes a role is about.
func roleName(r operator.RoleStatus) string {
	if r.Home == "" {
		return r.Table
	}
	return fmt.Sprintf("%s, items of %s", r.Table, r.Home)
}

// listTimeout bounds one region's answer to a question that changes nothing.
const listTimeout = 5 * time.Second

// healthTimeout bounds the question whether a region is well enough to be asked.
const healthTimeout = 2 * time.Second

// askOne has one region answer: the one named, or the first that does. Each has
// so much time, so that one that stands still does not keep the next from being asked.
func (in *install) askOne(ctx context.Context, name string, each time.Duration, call func(context.Context, *operator.Client) error) error {
	return in.ask(ctx, name, func(ctx context.Context, c *operator.Client) error {
		ctx, cancel := context.WithTimeout(ctx, each)
		defer cancel()
		return call(ctx, c)
	})
}

// askCurrent asks one region for something that the regions agree on: the one
// named, or the first that is not cut off from the others, since what a region
// knew before that may no longer be so. Where all that answer are, that is said.
func (a *app) askCurrent(ctx context.Context, in *install, name string, call func(context.Context, *operator.Client) error) error {
	if name != "" {
		return in.askOne(ctx, name, listTimeout, call)
	}
	warning := ""
	for _, r := range in.local() {
		if r.Witness {
			continue
		}
		var h operator.Health
		err := in.askOne(ctx, string(r.Name), healthTimeout, func(ctx context.Context, c *operator.Client) (err error) {
			h, err = c.Health(ctx)
			return err
		})
		switch {
		case err != nil:
		case h.State == operator.StateDetached:
			warning = fmt.Sprintf("%s is detached: %s; it may not know the latest", r.Name, h.Reason)
		default:
			return in.askOne(ctx, string(r.Name), listTimeout, call)
		}
	}
	if err := in.askOne(ctx, "", listTimeout, call); err != nil {
		return err
	}
	if warning != "" {
		a.note("%s", warning)
	}
	return nil
}

func (a *app) failoverCommand() *cobra.Command {
	var dir, output, at, yes string
	var force bool
	var rec record
	c := &cobra.Command{
		Use: "failover REGION", Short: "Give the writes of a lost region to others, or list failovers", Args: wantArgs(1, "REGION"),
		ValidArgsFunction: a.regionNames(&dir),
		Long: "Give the roles of a lost region to others: the writes of tables whose writer it is, and of items whose home it is.\n" +
			"Tables with failover: lease do that by themselves; this is for pinned ones, and for a majority that is lost.\n\n" +
			"With a majority of the regions nothing that was answered under rpo: 0s is lost. Without one, --force lets the region that is\n" +
			"asked (--at) take over by itself: only say so when you know that the lost region accepts no writes any more. What it accepted\n" +
			"and nobody else has is listed by `antipode stranded list` when it is back.",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, by, err := a.openAs(dir, rec)
			if err != nil {
				return err
			}
			lost, err := in.region(args[0])
			if err != nil {
				return err
			}
			heir, err := in.survivor(lost, at)
			if err != nil {
				return err
			}
			if err := a.confirm(lost.Name, yes, force); err != nil {
				return err
			}
			var out operator.FailoverResult
			q := operator.FailoverRequest{Region: lost.Name, Force: force, By: by, Why: rec.why}
			err = in.askOne(cmd.Context(), heir, callTimeout, func(ctx context.Context, c *operator.Client) (err error) {
				out, err = c.Failover(ctx, q)
				return err
			})
			if err != nil {
				return err
			}
			return a.printFailover(output, lost.Name, out)
		},
	}
	dataFlag(c, &dir)
	outputFlag(c, &output)
	a.recordFlags(c, &rec)
	c.Flags().BoolVar(&force, "force", false, "take over also where no majority can be reached to agree")
	c.Flags().StringVar(&yes, "yes", "", "the lost `region` once more, in place of typing it")
	c.Flags().StringVar(&at, "at", "", "ask this `region`, which is to take over if forced (default: the first that answers)")
	_ = c.RegisterFlagCompletionFunc("at", a.regionNames(&dir))
	c.AddCommand(a.failoverListCommand())
	return c
}

// survivor says whom to ask about a lost region: not that one.
func (in *install) survivor(lost *spec.Region, at string) (string, error) {
	if at != "" {
		r, err := in.region(at)
		switch {
		case err != nil:
			return "", err
		case r == lost:
			return "", usagef("%s can't be asked about its own loss; name another region with --at", lost.Name)
		}
		return at, nil
	}
	for _, r := range in.local() {
		if r.Name != lost.Name && !r.Witness {
			return string(r.Name), nil
		}
	}
	return "", fmt.Errorf("no region but %s was started in %s; run this where another one is", lost.Name, in.dir)
}

// confirm has a person type the name of the region that is given up.
func (a *app) confirm(lost antipode.Region, yes string, force bool) error {
	if yes != "" {
		if yes != string(lost) {
			return usagef("--yes %s does not name the lost region, %s", yes, lost)
		}
		return nil
	}
	if !isTerminal(a.in) {
		return usagef("this needs the name of the lost region once more: --yes %s", lost)
	}
	warning := "what it accepted and nobody else has is set aside"
	if force {
		warning = "if it still accepts writes, those are set aside, too"
	}
	a.note("%s loses its place to other regions; %s.\nType the name of the lost region to go on:", lost, warning)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	switch {
	case errors.Is(err, io.EOF):
		return usagef("nothing was typed, and nothing was changed; the name of the lost region can be given with --yes %s", lost)
	case err != nil:
		return fmt.Errorf("read the confirmation: %w", err)
	}
	if strings.TrimSpace(line) != string(lost) {
		return fmt.Errorf("that is not %s; nothing was changed", lost)
	}
	return nil
}

func (a *app) printFailover(output string, lost antipode.Region, out operator.FailoverResult) error {
	if output == "json" {
		return a.printJSON(out)
	}
	for _, r := range out.Roles {
		if err := a.print("%s: %s accepts writes, epoch %d", roleName(r), r.Holder, r.Epoch); err != nil {
			return err
		}
	}
	switch {
	case out.Forced:
		a.note("forced by this region alone; the others learn of it as soon as they can be reached")
	case out.Pending:
		a.note("agreed on, and not open yet: see `antipode failover list`")
	}
	for _, t := range out.Left {
		a.note("%s stays with %s: no other region that keeps it can take over now", t, lost)
	}
	return nil
}

func (a *app) failoverListCommand() *cobra.Command {
	var dir, output, from string
	c := &cobra.Command{
		Use: "list", Short: "List failovers under way and past, and the leases", Args: wantArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := a.openInstall(dir)
			if err != nil {
				return err
			}
			var out operator.FailoverList
			err = a.askCurrent(cmd.Context(), in, from, func(ctx context.Context, c *operator.Client) (err error) {
				out, err = c.Failovers(ctx)
				return err
			})
			if err != nil {
				return err
			}
			if from == "" {
				in.addForced(cmd.Context(), &out)
			}
			if output == "json" {
				return a.printJSON(out)
			}
			return a.printFailovers(out)
		},
	}
	dataFlag(c, &dir)
	outputFlag(c, &output)
	c.Flags().StringVar(&from, "region", "", "ask this `region` (default: the first that is not cut off)")
	return c
}

// addForced adds what a person has forced and the region that was asked has not
// heard of: each other one that answers knows what was forced there.
func (in *install) addForced(ctx context.Context, list *operator.FailoverList) {
	for _, r := range in.local() {
		if r.Witness {
			continue
		}
		var more operator.FailoverList
		err := in.askOne(ctx, string(r.Name), healthTimeout, func(ctx context.Context, c *operator.Client) (err error) {
			more, err = c.Failovers(ctx)
			return err
		})
		if err != nil {
			continue // it is lost, perhaps: that is what is looked into
		}
		for _, f := range slices.Backward(more.Failovers) {
			known := slices.ContainsFunc(list.Failovers, func(g operator.FailoverStatus) bool {
				return f.Lost == g.Lost && f.Successor == g.Successor && f.Began == g.Began
			})
			if f.Forced && !known {
				list.Failovers = slices.Insert(list.Failovers, 0, f)
			}
		}
	}
}

func (a *app) printFailovers(out operator.FailoverList) error {
	for _, l := range out.Leases {
		why := ""
		if l.Why != "" {
			why = ": " + l.Why
		}
		if err := a.print("%s is %s%s", l.Region, l.Condition, why); err != nil {
			return err
		}
	}
	if len(out.Failovers) == 0 {
		return a.print("no failovers")
	}
	for _, f := range out.Failovers {
		how := "by itself"
		if f.By != "" {
			how = "by " + f.By
		}
		number, state := strconv.FormatUint(f.ID, 10), fmt.Sprintf("open after %v", time.Duration(f.Fixed-f.Began)*time.Millisecond)
		switch {
		case f.Fixed == 0 && f.Waits != "":
			state = "under way, waits for " + f.Waits
		case f.Fixed == 0:
			state = "under way"
		case f.ID == 0:
			number, state = "-", fmt.Sprintf("forced, and known to %s alone", f.Successor)
		}
		if err := a.print("%s  %s  %s to %s, %s, %s: %s", number, time.UnixMilli(f.Began).UTC().Format(time.RFC3339), f.Lost, f.Successor, how, state, f.Why); err != nil {
			return err
		}
		for _, r := range f.Roles {
			if err := a.print("     %s, epoch %d", roleName(r), r.Epoch); err != nil {
				return err
			}
		}
	}
	return nil
}
