package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/spec"
)

func (a *app) linkCommand() *cobra.Command {
	var dir string
	var oneWay bool
	cut := &cobra.Command{
		Use: "cut A B", Short: "Let nothing pass between two regions", Args: wantArgs(2, "A", "B"),
		ValidArgsFunction: a.regionNames(&dir),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.cutLink(cmd.Context(), dir, args[0], args[1], oneWay)
		},
	}
	cut.Flags().BoolVar(&oneWay, "one-way", false, "cut only what A sends to B")
	heal := &cobra.Command{
		Use: "heal A B", Short: "Undo cut, in both directions", Args: wantArgs(2, "A", "B"),
		ValidArgsFunction: a.regionNames(&dir),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.healLink(cmd.Context(), dir, args[0], args[1])
		},
	}
	delay := &cobra.Command{
		Use: "delay A B ONE-WAY-DELAY", Short: "Set how long what two regions send each other takes", Args: wantArgs(3, "A", "B", "ONE-WAY-DELAY"),
		ValidArgsFunction: a.regionNames(&dir),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.delayLink(cmd.Context(), dir, args)
		},
	}
	for _, c := range []*cobra.Command{cut, heal, delay} {
		dataFlag(c, &dir)
	}
	c := group("link", "Cut, heal and slow down the links between regions", cut, heal, delay)
	c.Long = "Cut, heal and slow down the links between regions, to see what happens. Only emulated links obey: those of `antipode up`,\n" +
		"and of region run with --wan. A region that is started again has its links as --wan says."
	return c
}

// ends are the two regions of a link.
type ends struct {
	in   *install
	a, b *spec.Region
}

func (a *app) ends(dir, first, second string) (*ends, error) {
	in, err := a.openInstall(dir)
	if err != nil {
		return nil, err
	}
	x, err := in.region(first)
	if err != nil {
		return nil, err
	}
	y, err := in.region(second)
	if err != nil {
		return nil, err
	}
	if x == y {
		return nil, usagef("%s has no link to itself; name two regions", x.Name)
	}
	return &ends{in, x, y}, nil
}

// tell has both ends do something. When only one of them could, it says so.
func (e *ends) tell(ctx context.Context, do func(ctx context.Context, c *operator.Client, self, peer *spec.Region) error) error {
	one := func(self, peer *spec.Region) error {
		return e.in.call(ctx, self, func(ctx context.Context, c *operator.Client) error { return do(ctx, c, self, peer) })
	}
	errA, errB := one(e.a, e.b), one(e.b, e.a)
	switch {
	case errA != nil && errB == nil:
		return fmt.Errorf("%s did its part, but %w", e.b.Name, errA)
	case errA == nil && errB != nil:
		return fmt.Errorf("%s did its part, but %w", e.a.Name, errB)
	}
	return errors.Join(errA, errB)
}

func (a *app) cutLink(ctx context.Context, dir, first, second string, oneWay bool) error {
	e, err := a.ends(dir, first, second)
	if err != nil {
		return err
	}
	err = e.tell(ctx, func(ctx context.Context, c *operator.Client, self, peer *spec.Region) error {
		direction := operator.Both
		switch {
		case oneWay && self == e.a:
			direction = operator.Outgoing
		case oneWay:
			direction = operator.Incoming
		}
		return c.CutLink(ctx, peer.Name, direction)
	})
	if err != nil {
		return err
	}
	what := "between %s and %s"
	if oneWay {
		what = "from %s to %s"
	}
	return a.print("nothing passes "+what+" until `%s`", e.a.Name, e.b.Name, a.command(dir, "link", "heal", string(e.a.Name), string(e.b.Name)))
}

func (a *app) healLink(ctx context.Context, dir, first, second string) error {
	e, err := a.ends(dir, first, second)
	if err != nil {
		return err
	}
	err = e.tell(ctx, func(ctx context.Context, c *operator.Client, _, peer *spec.Region) error {
		return c.HealLink(ctx, peer.Name)
	})
	if err != nil {
		return err
	}
	return a.print("the link between %s and %s is whole", e.a.Name, e.b.Name)
}

func (a *app) delayLink(ctx context.Context, dir string, args []string) error {
	d, err := time.ParseDuration(args[2])
	if err != nil || d < 0 || d > time.Minute {
		return usagef("%q is no delay from 0 to 1m; write a number with its unit, such as 75ms or 1.5s", args[2])
	}
	e, err := a.ends(dir, args[0], args[1])
	if err != nil {
		return err
	}
	err = e.tell(ctx, func(ctx context.Context, c *operator.Client, _, peer *spec.Region) error {
		return c.DelayLink(ctx, peer.Name, d)
	})
	if err != nil {
		return err
	}
	return a.print("between %s and %s it takes %v one way, so a round trip takes %v", e.a.Name, e.b.Name, d, 2*d)
}

func (a *app) homeCommand() *cobra.Command {
	var dir, output, to, from string
	c := &cobra.Command{
		Use: "home TABLE KEY [SORTKEY]", Short: "Show or change the region that an item belongs to", Args: wantArgs(2, "TABLE", "KEY", "SORTKEY"),
		Long: "Show which region an item of a partitioned table belongs to, or move it. The key is plain text; bytes are written in base64.\n" +
			"After a move the old home forwards writes until the new one has taken over, so clients notice nothing.",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := a.openInstall(dir)
			if err != nil {
				return err
			}
			var target antipode.Region
			if to != "" {
				r, err := in.region(to)
				if err != nil {
					return err
				}
				target = r.Name
			}
			var h operator.HomeStatus
			err = in.ask(cmd.Context(), from, func(ctx context.Context, c *operator.Client) (err error) {
				ctx, cancel := context.WithTimeout(ctx, callTimeout)
				defer cancel()
				if target != "" {
					h, err = c.Move(ctx, args[0], args[1:], target)
				} else {
					h, err = c.Home(ctx, args[0], args[1:])
				}
				return err
			})
			switch {
			case err != nil:
				return err
			case output == "json":
				return a.printJSON(h)
			}
			return a.print("%s", h.Home)
		},
	}
	dataFlag(c, &dir)
	outputFlag(c, &output)
	c.Flags().StringVar(&to, "move", "", "make this `region` the item's home")
	c.Flags().StringVar(&from, "region", "", "ask this `region` (default: the first that answers)")
	return c
}
