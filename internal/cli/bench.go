package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/ops/bench"
)

type benchOptions struct {
	bench.Config
	dir, output, workload, probe string
	regions, endpoints, observe  []string
	fillGiven                    bool
}

func (a *app) benchCommand() *cobra.Command {
	var o benchOptions
	c := &cobra.Command{
		Use: "bench", Short: "Measure throughput, latency and replication lag", Args: wantArgs(0),
		Long: "Drive regions, or any servers of the DynamoDB API, with load; report acknowledged operations per second, latencies, errors, and\n" +
			"how long acknowledged writes take to be seen in the other regions. Progress goes to standard error.\n\n" +
			"  antipode bench                                    64 clients write to the first region\n" +
			"  antipode bench --region mumbai --workload mix     half reads, half writes, in mumbai\n" +
			"  antipode bench --rate 2000 --duration 60s         2,000 writes a second, for a minute\n" +
			"  antipode bench --endpoint http://127.0.0.1:8000   another server, with the key and region of the AWS_ variables",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.fillGiven = cmd.Flags().Changed("fill")
			return a.bench(cmd.Context(), o)
		},
	}
	dataFlag(c, &o.dir)
	outputFlag(c, &o.output)
	f := c.Flags()
	f.StringVar(&o.Table, "table", "carts", "`table` to use; it must exist")
	f.StringVar(&o.workload, "workload", "write", "`what` clients do: write, read, or mix (half and half)")
	f.IntVar(&o.Clients, "clients", 64, "concurrent clients, a connection `each`")
	f.IntVar(&o.ItemBytes, "item-bytes", 256, "`size` of an item, names of attributes included")
	f.IntVar(&o.Keys, "keys", 100_000, "`number` of keys, used uniformly")
	f.StringVar(&o.KeyPrefix, "key-prefix", "bench-", "`text` before the number in a key")
	f.BoolVar(&o.Fill, "fill", false, "write every key once first (default: when something is read)")
	f.Uint64Var(&o.Seed, "seed", 1, "`number` that decides which keys are chosen")
	f.Float64Var(&o.Rate, "rate", 0, "operations per `second` over all clients; 0: each client sends as soon as it was answered")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "how `long` to measure")
	f.DurationVar(&o.Warmup, "warmup", 2*time.Second, "how `long` to run before measuring")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "when to give up an operation, after this `long`")
	f.IntVar(&o.LagSamples, "lag-samples", 200, "`number` of writes to follow to the other regions; 0: none")
	f.DurationVar(&o.LagTimeout, "lag-timeout", 30*time.Second, "how `long` to look for a followed write")
	f.StringSliceVar(&o.regions, "region", nil, "`region` to drive; may be given several times (default: the first that keeps the table)")
	f.StringSliceVar(&o.endpoints, "endpoint", nil, "`URL` of a server to drive in place of regions; may be given several times")
	f.StringSliceVar(&o.observe, "observe", nil, "`URL` of a server that only measures lag; may be given several times")
	f.StringVar(&o.probe, "fsync-probe", "", "time an fsync 25 times a second in this `directory`, and report it beside the rest")
	return c
}

func (a *app) bench(ctx context.Context, o benchOptions) (err error) {
	cfg := o.Config
	cfg.Workload = bench.Workload(o.workload)
	cfg.Now, cfg.Progress = a.now, a.benchProgress
	if !o.fillGiven {
		cfg.Fill = cfg.Workload != bench.Write
	}
	if cfg.Endpoints, err = a.benchTargets(o); err != nil {
		return err
	}
	if len(cfg.Endpoints) < 2 || cfg.Workload == bench.Read {
		cfg.LagSamples = 0
	}
	if o.probe != "" {
		probe, err := bench.NewFsyncProbe(vfs.Default, o.probe, a.now)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, probe.Close()) }()
		cfg.Fsync = probe.Sync
	}
	result, err := bench.Run(ctx, cfg)
	switch {
	case errors.Is(err, bench.ErrInvalid):
		return usageError{err}
	case err != nil:
		return err
	case o.output == "json":
		return a.printJSON(result)
	}
	return result.WriteText(a.out)
}

func (a *app) benchTargets(o benchOptions) ([]bench.Endpoint, error) {
	if len(o.endpoints) == 0 {
		if len(o.observe) > 0 {
			return nil, usagef("--observe goes with --endpoint; regions are observed without being told")
		}
		return a.benchRegions(o)
	}
	if len(o.regions) > 0 {
		return nil, usagef("--region and --endpoint exclude each other: regions come from --data, endpoints from anywhere")
	}
	var out []bench.Endpoint
	for i, u := range slices.Concat(o.endpoints, o.observe) {
		e := bench.Endpoint{
			URL: u, Region: antipode.Region(hostOf(u)), Observe: i >= len(o.endpoints),
			AccessKey: a.getenv("AWS_ACCESS_KEY_ID"), Secret: a.getenv("AWS_SECRET_ACCESS_KEY"), SigningRegion: a.getenv("AWS_REGION"),
		}
		if e.SigningRegion == "" {
			e.SigningRegion = a.getenv("AWS_DEFAULT_REGION")
		}
		if e.AccessKey == "" || e.Secret == "" || e.SigningRegion == "" {
			return nil, usagef("--endpoint needs AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION in the environment, to sign with")
		}
		out = append(out, e)
	}
	return out, nil
}

func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return text
	}
	return u.Host
}

// benchRegions drives the regions asked for and observes the others that keep
// the table.
func (a *app) benchRegions(o benchOptions) ([]bench.Endpoint, error) {
	in, err := a.openInstall(o.dir)
	if err != nil {
		return nil, err
	}
	profiles, err := readCredentials(o.dir)
	if err != nil {
		return nil, err
	}
	keep := in.spec.DataRegions()
	if t, ok := in.spec.Table(o.Table); ok {
		keep = slices.DeleteFunc(keep, func(r antipode.Region) bool { return !slices.Contains(t.Replicas, r) })
	}
	driven := []antipode.Region{keep[0]}
	if len(o.regions) > 0 {
		driven = nil
	}
	for _, name := range o.regions {
		r, err := in.region(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(keep, r.Name) {
			return nil, usagef("region %s keeps no copy of %s; these do: %s", r.Name, o.Table, joinNames(keep))
		}
		driven = append(driven, r.Name)
	}
	var out []bench.Endpoint
	for _, name := range keep {
		e, err := a.benchRegion(in, name, profiles)
		e.Observe = !slices.Contains(driven, name)
		switch {
		case err != nil && !e.Observe:
			return nil, err
		case err != nil:
			a.note("lag is not measured at %s: %v", name, err)
		case !e.Observe || o.LagSamples > 0:
			out = append(out, e)
		}
	}
	return out, nil
}

func (a *app) benchRegion(in *install, name antipode.Region, profiles map[antipode.Region]profile) (e bench.Endpoint, err error) {
	r, _ := in.spec.Region(name)
	p := profiles[name]
	if p.id == "" {
		return e, fmt.Errorf("there is no access key for %s in %s/%s; make one with `%s`", name, in.dir, credentialsFile, a.command(in.dir, "key", "create", string(name)))
	}
	e = bench.Endpoint{Region: name, URL: serverURL(r.Addresses.API, r.TLS != nil), AccessKey: p.id, Secret: p.secret, SigningRegion: string(name)}
	if r.TLS != nil {
		e.TLS, err = trustFile(r.TLS.Cert)
	}
	return e, err
}

func joinNames(regions []antipode.Region) string {
	var names []string
	for _, r := range regions {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}

func (a *app) benchProgress(s bench.Snapshot) {
	at := fmt.Sprintf("%.0f s", s.Elapsed.Seconds())
	if s.Lasts > 0 {
		at = fmt.Sprintf("%.0f of %.0f s", s.Elapsed.Seconds(), s.Lasts.Seconds())
	}
	a.note("%-8s %-12s %8.0f/s   mean %6.2f ms   %d done, %d failed", s.Phase, at, s.PerSecond, float64(s.Mean)/float64(time.Millisecond), s.Acknowledged, s.Failed)
}
