package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/spec"
)

type upOptions struct {
	dir, file, wan string
	basePort       int
}

func (a *app) upCommand() *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use: "up", Short: "Run all regions of a spec on this machine", Args: wantArgs(0),
		Long: "Run all regions of a spec on this machine, a process each, until Ctrl-C. The data stays in DIR; the next up goes on from there.\n" +
			"Without --file the spec is the one that DIR was started with, or for a new DIR a built-in one: oregon and mumbai, a witness\n" +
			"in frankfurt, and a table in each write mode.\n\n" +
			"Each region's log is DIR/NAME/" + logFile + ". The links between the regions are as slow as real ones; see --wan.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.up(cmd.Context(), o) },
	}
	dataFlag(c, &o.dir)
	c.Flags().StringVarP(&o.file, "file", "f", "", "spec `file`")
	c.Flags().StringVar(&o.wan, "wan", "geo", "`mode` of the links: geo (delays from where the regions are), off (none), or the one-way delay of every link, such as 75ms")
	c.Flags().IntVar(&o.basePort, "base-port", 0, "first `port`; region number i takes those from it + 100·i on (default: the spec's)")
	return c
}

func (a *app) up(ctx context.Context, o upOptions) error {
	if err := checkWAN(o.wan); err != nil {
		return err
	}
	if o.wan == "" {
		return usagef("--wan is empty; it can be geo, off, or a one-way delay such as 75ms")
	}
	hurry := make(chan os.Signal, 2) // a second Ctrl-C
	signal.Notify(hurry, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(hurry)
	unlock, err := a.lock(o.dir)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := a.specForUp(o)
	if err != nil {
		return err
	}
	if err := a.checkPorts(ctx, s); err != nil {
		return err
	}
	if err := a.prepare(o.dir, s, o.wan); err != nil {
		return err
	}
	n := newNursery()
	defer n.close()
	v := &supervisor{app: a, options: o, install: &install{dir: o.dir, spec: s}, nursery: n}
	defer v.stop(hurry)
	if err := v.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C while starting is as good as later
		}
		return err
	}
	if err := a.welcome(s, o); err != nil {
		return err
	}
	v.watch(ctx)
	return nil
}

// lock keeps a second `up` away from the data directory.
func (a *app) lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w; name one that can be written with --data DIR", err)
	}
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		err = errors.Join(err, f.Close())
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another `antipode up` (process %s) runs the regions of %s; end that one, or give this one its own --data DIR and --base-port", strings.TrimSpace(string(holder)), dir)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // the lock goes with it
}

func writePID(f *os.File) error {
	_, err := fmt.Fprintln(f, os.Getpid())
	return err
}

// specForUp decides which spec to run, and says what is different from last time.
func (a *app) specForUp(o upOptions) (*spec.Spec, error) {
	was, err := a.openInstall(o.dir)
	if err != nil && !errors.Is(err, errNothingThere) && o.file == "" {
		return nil, err
	}
	s := spec.Builtin()
	switch {
	case o.file != "":
		if s, err = loadSpec(o.file); err != nil {
			return nil, err
		}
	case was != nil:
		s = was.spec
	}
	if o.basePort != 0 {
		if s, err = s.WithBasePort(o.basePort); err != nil {
			return nil, usageError{err}
		}
	}
	a.warn(s)
	if was == nil {
		return s, nil
	}
	changes, err := compareSpecs(o.dir, was.spec, s)
	for _, c := range changes {
		a.note("changed: %s", c)
	}
	return s, err
}

// checkPorts looks for ports that are taken, before anything is started.
func (a *app) checkPorts(ctx context.Context, s *spec.Spec) error {
	for _, r := range s.Regions {
		addresses := []string{r.Addresses.API, r.Addresses.Operator, r.Addresses.Link}
		if r.Witness {
			addresses = addresses[1:]
		}
		for _, addr := range addresses {
			err := tryListen(ctx, addr)
			if err == nil {
				continue
			}
			_, port, _ := net.SplitHostPort(addr)
			hint := "choose other ports with --base-port"
			if free := freeBasePort(ctx, s); free != 0 {
				hint += fmt.Sprintf("; --base-port %d would do", free)
			}
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("region %s can't listen at %s: another program uses port %s, perhaps another `antipode up` or a region of an earlier one. End it, or %s", r.Name, addr, port, hint)
			}
			return fmt.Errorf("region %s can't listen at %s: %w. `up` runs all regions on this machine: correct the region's addresses, or start each where it belongs with antipode region run", r.Name, addr, err)
		}
	}
	return nil
}

func tryListen(ctx context.Context, addr string) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// freeBasePort looks for a base port at which all regions find theirs free, or 0.
func freeBasePort(ctx context.Context, s *spec.Spec) int {
	for base := s.BasePort + spec.PortStride*len(s.Regions); base < 60000; base += 1000 {
		next, err := s.WithBasePort(base)
		if err != nil {
			return 0
		}
		if free(ctx, next) {
			return base
		}
	}
	return 0
}

func free(ctx context.Context, s *spec.Spec) bool {
	for _, r := range s.Regions {
		for _, addr := range []string{r.Addresses.API, r.Addresses.Operator, r.Addresses.Link} {
			if tryListen(ctx, addr) != nil {
				return false
			}
		}
	}
	return true
}

// welcome prints where everything is, and what to try.
func (a *app) welcome(s *spec.Spec, o upOptions) error {
	rows := [][]string{{"REGION", "LOCATION", "API", "OPERATOR", "LINK", "ROLE"}}
	for _, r := range s.Regions {
		api, role := serverURL(r.Addresses.API, r.TLS != nil), "data"
		if r.Witness {
			api, role = "-", "witness"
		}
		rows = append(rows, []string{string(r.Name), r.Location.String(), api, serverURL(r.Addresses.Operator, r.TLS != nil), r.Addresses.Link, role})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	return a.print("\n%s\n\n%s\nEach region's log is in %s. Ctrl-C stops everything and keeps the data.",
		roundTrips(s, o.wan), a.tryNext(s, o.dir), filepath.Join(o.dir, "NAME", logFile))
}

func roundTrips(s *spec.Spec, wan string) string {
	switch wan {
	case "off":
		return "The links are as fast as this machine (--wan off)."
	case "geo":
	default:
		d, _ := time.ParseDuration(wan) // checked before
		return fmt.Sprintf("Round trip between any two regions: %s (--wan %s).", inMillis(2*d), wan)
	}
	var pairs []string
	for i, r := range s.Regions {
		for _, q := range s.Regions[i+1:] {
			pairs = append(pairs, fmt.Sprintf("%s - %s %s", r.Name, q.Name, inMillis(2*s.OneWay(r.Name, q.Name))))
		}
	}
	if len(pairs) == 0 {
		return "There is one region, so there are no round trips."
	}
	return "Round trips, as between the real places: " + strings.Join(pairs, ", ") + "."
}

func inMillis(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms >= 10 {
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	}
	return strconv.FormatFloat(ms, 'g', 2, 64) + " ms"
}

// tryNext gives lines to paste, for the first table that can be written anywhere.
func (a *app) tryNext(s *spec.Spec, dir string) string {
	data := s.DataRegions()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	b.WriteString("Try, in another terminal:\n")
	use := func(r antipode.Region) { line(`eval "$(%s)"`, a.command(dir, "env", string(r))) }
	use(data[0])
	if t := exampleTable(s); t != nil {
		last := t.Replicas[len(t.Replicas)-1]
		key := exampleKey(t)
		line("aws dynamodb put-item --table-name %s --item '{%s, \"n\": {\"N\": \"1\"}}'", t.Name, key)
		if last != data[0] {
			use(last)
		}
		line("aws dynamodb get-item --table-name %s --key '{%s}'", t.Name, key)
	} else {
		line("aws dynamodb list-tables")
	}
	line("%s", a.command(dir, "status"))
	return b.String()
}

// exampleTable prefers a table that is written everywhere, and one that the first
// region keeps.
func exampleTable(s *spec.Spec) *spec.Table {
	first := s.DataRegions()[0]
	var best *spec.Table
	for i := range s.Tables {
		t := &s.Tables[i]
		if slices.Contains(t.Replicas, first) && (best == nil || t.Writes == antipode.WriteLocal && best.Writes != antipode.WriteLocal) {
			best = t
		}
	}
	if best == nil {
		return nil
	}
	// In the order of the regions, so that the first is the one just pointed at.
	shown := *best
	shown.Replicas = slices.DeleteFunc(s.DataRegions(), func(r antipode.Region) bool { return !slices.Contains(best.Replicas, r) })
	return &shown
}

func exampleKey(t *spec.Table) string {
	value := map[string]string{"S": "c1", "N": "1", "B": "YzE="}
	attr := func(k spec.KeyAttribute) string { return fmt.Sprintf("%q: {%q: %q}", k.Name, k.Type, value[k.Type]) }
	text := attr(t.Key.Partition)
	if t.Key.Sort != nil {
		text += ", " + attr(*t.Key.Sort)
	}
	return text
}
