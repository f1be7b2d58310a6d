package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/link"
	"github.com/antipode-io/antipode/internal/link/identity"
	"github.com/antipode-io/antipode/internal/region"
)

func (a *app) caCommand() *cobra.Command {
	var dir, name string
	initCA := &cobra.Command{
		Use: "init", Short: "Make the identity of a region: its own trust root", Args: wantArgs(0),
		Long: "Make the identity of a region: a trust root of its own, in DIR/NAME/identity. The private key stays there. Other regions trust\n" +
			"it once the region has joined.",
		RunE: func(*cobra.Command, []string) error {
			if name == "" {
				return usagef("say whose identity it is with --region NAME, as the spec calls it")
			}
			if err := identity.CheckRegion(antipode.Region(name)); err != nil {
				return usageError{err}
			}
			at := region.IdentityDir(vfs.Default, dir, antipode.Region(name))
			id, err := identity.InitCA(vfs.Default, at, antipode.Region(name), a.now())
			if err != nil {
				return err
			}
			pin := id.Pin()
			return a.print("region %s has an identity in %s; its root has the SHA-256 digest %s", name, at, hex.EncodeToString(pin[:]))
		},
	}
	dataFlag(initCA, &dir)
	initCA.Flags().StringVar(&name, "region", "", "the region's `name`")
	return group("ca", "Identities of regions", initCA)
}

func (a *app) joinCommand() *cobra.Command {
	var dir, name, token, address string
	c := &cobra.Command{
		Use: "join", Short: "Make a new region and the others trust each other", Args: wantArgs(0),
		Long: "Make a new region and the others trust each other: exchange roots with the region that made the token. Nothing is started.\n" +
			"The identity comes from `antipode ca init`; it is made if there is none.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, f := range []struct{ value, what string }{
				{token, "--token TOKEN, from `antipode token create` in a running region (or - to read it from standard input)"},
				{address, "--address HOST:PORT, the link of the region that made the token"},
				{name, "--region NAME, of the new region as the spec calls it"},
			} {
				if f.value == "" {
					return usagef("antipode join needs %s", f.what)
				}
			}
			return a.join(cmd.Context(), dir, antipode.Region(name), token, address)
		},
	}
	dataFlag(c, &dir)
	c.Flags().StringVar(&token, "token", "", "`token` from antipode token create; - reads it from standard input, where no process list shows it")
	c.Flags().StringVar(&address, "address", "", "`HOST:PORT` of the link of the region that made the token")
	c.Flags().StringVar(&name, "region", "", "`name` of the new region")
	return c
}

func (a *app) join(ctx context.Context, dir string, name antipode.Region, token, address string) error {
	if err := identity.CheckRegion(name); err != nil {
		return usageError{err}
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return usagef("--address is %q; write HOST:PORT, such as oregon.example.com:7102", address)
	}
	if token == "-" {
		text, err := io.ReadAll(io.LimitReader(a.in, 4096))
		if err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	disk := vfs.Default
	at := region.IdentityDir(disk, dir, name)
	id, err := identity.LoadCA(disk, at)
	if errors.Is(err, identity.ErrNoIdentity) {
		id, err = identity.InitCA(disk, at, name, a.now())
	}
	if err != nil {
		return err
	}
	trust, err := link.Join(ctx, link.JoinConfig{Address: address, Token: token, Identity: id, Now: a.now})
	if err != nil {
		return err
	}
	if err := identity.SaveTrust(disk, at, trust); err != nil {
		return err
	}
	var known []string
	for _, r := range trust.Regions() {
		if r != name {
			known = append(known, string(r))
		}
	}
	return a.print("%s is known to %s. Start it with `antipode region run %s --data %s -f FILE`.", name, strings.Join(known, ", "), name, shellQuote(dir))
}
