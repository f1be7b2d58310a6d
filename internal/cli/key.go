package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/access"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/spec"
)

func (a *app) keyCommand() *cobra.Command {
	c := group("key", "Make, list, replace and end access keys of a region", a.keyCreate(), a.keyList(), a.keyRotate(), a.keyRevoke())
	c.Long = "Make, list, replace and end the access keys with which clients sign their requests. Each region has its own keys. REGION may\n" +
		"be left out where DIR keeps one region only. The region has to run."
	return c
}

// keyed is a subcommand that asks one region.
func (a *app) keyed(use, short string, args cobra.PositionalArgs, do func(ctx context.Context, in *install, r *spec.Region, args []string) error) *cobra.Command {
	var dir string
	c := &cobra.Command{Use: use, Short: short, Args: args, ValidArgsFunction: a.regionNames(&dir)}
	ids := 0 // arguments after the region
	if strings.HasSuffix(use, "ID") {
		ids = 1
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		in, err := a.openInstall(dir)
		if err != nil {
			return err
		}
		name := ""
		if len(args) > ids {
			name, args = args[0], args[1:]
		}
		r, err := in.theRegion(name)
		if err != nil {
			return err
		}
		if r.Witness {
			return usagef("%s is a witness: it has no clients, and so no access keys", r.Name)
		}
		return do(cmd.Context(), in, r, args)
	}
	dataFlag(c, &dir)
	return c
}

func (a *app) keyCreate() *cobra.Command {
	var scope access.Scope
	var save bool
	var output string
	c := a.keyed("create [REGION]", "Make an access key", wantArgs(0, "REGION"), func(ctx context.Context, in *install, r *spec.Region, _ []string) error {
		var k access.Key
		err := in.call(ctx, r, func(ctx context.Context, c *operator.Client) (err error) {
			k, err = c.CreateKey(ctx, scope)
			return err
		})
		if err != nil {
			return err
		}
		return errors.Join(a.showKey(k, output), a.keepKey(in, r, k, save))
	})
	c.Flags().BoolVar(&scope.ReadOnly, "read-only", false, "the key can't write")
	c.Flags().StringSliceVar(&scope.Tables, "table", nil, "the key reaches this `table` only; may be given several times")
	c.Flags().BoolVar(&save, "save", false, "use it for antipode env from now on, in place of the key there")
	outputFlag(c, &output)
	return c
}

func (a *app) keyList() *cobra.Command {
	var output string
	c := a.keyed("list [REGION]", "List the access keys, without their secrets", wantArgs(0, "REGION"), func(ctx context.Context, in *install, r *spec.Region, _ []string) error {
		var keys []access.Key
		err := in.call(ctx, r, func(ctx context.Context, c *operator.Client) (err error) {
			keys, err = c.ListKeys(ctx)
			return err
		})
		if err != nil {
			return err
		}
		if output == "json" {
			return a.printJSON(map[string][]access.Key{"keys": keys})
		}
		rows := [][]string{{"ID", "SCOPE", "CREATED", "STATE"}}
		for _, k := range keys {
			rows = append(rows, []string{k.ID, scopeText(k.Scope), k.Created.Format(time.RFC3339), a.keyState(k)})
		}
		return a.table(rows)
	})
	outputFlag(c, &output)
	return c
}

func (a *app) keyRotate() *cobra.Command {
	var grace time.Duration
	var output string
	c := a.keyed("rotate [REGION] ID", "Replace an access key by a new one", wantRegionAndID, func(ctx context.Context, in *install, r *spec.Region, args []string) error {
		if grace < 0 {
			return usagef("--grace is %v; it can't be negative", grace)
		}
		var k access.Key
		err := in.call(ctx, r, func(ctx context.Context, c *operator.Client) (err error) {
			k, err = c.RotateKey(ctx, args[0], grace)
			return err
		})
		if err != nil {
			return err
		}
		profiles, err := readCredentials(in.dir)
		if err != nil {
			return err
		}
		if err := errors.Join(a.showKey(k, output), a.keepKey(in, r, k, profiles[r.Name].id == args[0])); err != nil {
			return err
		}
		if grace > 0 {
			a.note("%s works until %s, or until it is revoked.", args[0], a.now().Add(grace).Format(time.RFC3339))
		} else {
			a.note("%s works no more.", args[0])
		}
		return nil
	})
	c.Flags().DurationVar(&grace, "grace", access.DefaultGrace, "how `long` the old key still works; 0s ends it at once")
	outputFlag(c, &output)
	return c
}

func (a *app) keyRevoke() *cobra.Command {
	return a.keyed("revoke [REGION] ID", "End an access key at once", wantRegionAndID, func(ctx context.Context, in *install, r *spec.Region, args []string) error {
		err := in.call(ctx, r, func(ctx context.Context, c *operator.Client) error { return c.RevokeKey(ctx, args[0]) })
		if err != nil {
			return err
		}
		return a.print("%s works no more in %s", args[0], r.Name)
	})
}

func wantRegionAndID(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("%s needs the ID of a key; antipode key list shows them", cmd.CommandPath())
	}
	return wantArgs(1, "REGION", "ID")(cmd, args)
}

// showKey prints a new key with its secret, as the AWS tools keep it.
func (a *app) showKey(k access.Key, output string) error {
	if output == "json" {
		return a.printJSON(k)
	}
	return errors.Join(
		a.print("aws_access_key_id = %s", k.ID),
		a.print("aws_secret_access_key = %s", k.Secret),
	)
}

// keepKey makes it the key of antipode env, if there is none or it is told to.
func (a *app) keepKey(in *install, r *spec.Region, k access.Key, replace bool) error {
	profiles, err := readCredentials(in.dir)
	if err != nil {
		return err
	}
	if profiles[r.Name].id != "" && !replace {
		a.note("The secret is not shown again. `%s` goes on using %s.", a.command(in.dir, "env", string(r.Name)), profiles[r.Name].id)
		return nil
	}
	profiles[r.Name] = profile{region: r.Name, id: k.ID, secret: k.Secret}
	if err := writeCredentials(in.dir, in.spec, profiles); err != nil {
		return err
	}
	a.note("It is kept in %s/%s, and `%s` uses it.", in.dir, credentialsFile, a.command(in.dir, "env", string(r.Name)))
	return nil
}

func scopeText(s access.Scope) string {
	text := "read and write"
	if s.ReadOnly {
		text = "read only"
	}
	if len(s.Tables) > 0 {
		text += ", " + strings.Join(s.Tables, " ")
	}
	return text
}

func (a *app) keyState(k access.Key) string {
	switch {
	case !k.Revoked.IsZero() && k.ReplacedBy != "":
		return "replaced by " + k.ReplacedBy
	case !k.Revoked.IsZero():
		return "revoked " + k.Revoked.Format(time.RFC3339)
	case !k.ValidAt(a.now()):
		return "expired " + k.Expires.Format(time.RFC3339)
	case !k.Expires.IsZero():
		return "works until " + k.Expires.Format(time.RFC3339)
	}
	return "works"
}

func (a *app) tokenCommand() *cobra.Command {
	var dir, issuer, invited string
	var life time.Duration
	var replace bool
	create := &cobra.Command{
		Use: "create", Short: "Make a token with which a new region can join", Args: wantArgs(0),
		Long: "Make a token with which one new region can join, by way of the region that makes it. It is good once. It holds a pin of the\n" +
			"issuing region's root, so that the new region knows whom it speaks to. Treat it like a password.\n\n" +
			"With --replace it lets in a machine with a new identity in place of a region's lost one, which the others then trust no more.\n" +
			"Only use it when the old machine is gone for good, its disk and identity with it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if life < time.Second {
				return usagef("--life is %v; give a second or more, such as 1h", life)
			}
			if replace && invited == "" {
				return usagef("say with --for which region's machine is replaced")
			}
			in, err := a.openInstall(dir)
			if err != nil {
				return err
			}
			r, err := in.theRegion(issuer)
			if err != nil {
				return err
			}
			var token string
			err = in.call(cmd.Context(), r, func(ctx context.Context, c *operator.Client) (err error) {
				token, err = c.CreateJoinToken(ctx, antipode.Region(invited), life, replace)
				return err
			})
			if err != nil {
				return err
			}
			if err := a.print("%s", token); err != nil {
				return err
			}
			name := invited
			if name == "" {
				name = "NAME"
			}
			a.note("Good once, for %v. On the new region's machine: antipode join --token TOKEN --address %s --region %s --data DIR", life, r.Addresses.Link, name)
			return nil
		},
	}
	dataFlag(create, &dir)
	create.Flags().StringVar(&issuer, "region", "", "`region` that makes it (default: the one kept in DIR)")
	create.Flags().StringVar(&invited, "for", "", "the only `region` that can use it")
	create.Flags().DurationVar(&life, "life", time.Hour, "how `long` it can be used")
	create.Flags().BoolVar(&replace, "replace", false, "let it take the place of the region's lost machine, with a new root")
	return group("token", "Invite regions", create)
}
