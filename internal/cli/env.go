package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) envCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "env REGION", Short: "Print shell lines that point the AWS CLI and SDKs at a region", Args: wantArgs(1, "REGION"),
		Long: "Print shell lines that point the AWS CLI and SDKs at a region. REGION is its name, or that of the cloud region it is in.\n\n" +
			"  eval \"$(antipode env oregon)\"\n  aws dynamodb list-tables",
		ValidArgsFunction: a.regionNames(&dir),
		RunE:              func(_ *cobra.Command, args []string) error { return a.env(dir, args[0]) },
	}
	dataFlag(c, &dir)
	return c
}

func (a *app) env(dir, name string) error {
	in, err := a.openInstall(dir)
	if err != nil {
		return err
	}
	r, err := in.region(name)
	if err != nil {
		return err
	}
	if r.Witness {
		return usagef("%s is a witness: it votes and keeps no tables, so there is nothing to point a client at; take another region", r.Name)
	}
	profiles, err := readCredentials(dir)
	if err != nil {
		return err
	}
	p, ok := profiles[r.Name]
	if !ok || p.id == "" || p.secret == "" {
		return fmt.Errorf("%s holds no access key for %s; make one with `%s`", dir+"/"+credentialsFile, r.Name, a.command(dir, "key", "create", string(r.Name)))
	}
	// These would win over the key, or send the tools elsewhere.
	for _, v := range []string{"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"} {
		if a.getenv(v) != "" {
			if err := a.print("unset %s", v); err != nil {
				return err
			}
		}
	}
	url := serverURL(r.Addresses.API, r.TLS != nil)
	for _, v := range [][2]string{
		{"AWS_ENDPOINT_URL", url},
		{"AWS_ENDPOINT_URL_DYNAMODB", url},
		{"AWS_ACCESS_KEY_ID", p.id},
		{"AWS_SECRET_ACCESS_KEY", p.secret},
		{"AWS_REGION", string(r.Name)},
		{"AWS_DEFAULT_REGION", string(r.Name)},
	} {
		if err := a.print("export %s=%s", v[0], shellQuote(v[1])); err != nil {
			return err
		}
	}
	return nil
}
