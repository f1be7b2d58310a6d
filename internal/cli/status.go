package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/spec"
)

const (
	askTimeout  = 3 * time.Second // one region's answer
	pollEvery   = 200 * time.Millisecond
	statusShape = `{"regions":[{"name","state","api","lag_ms":{ORIGIN:n},"frontier":{ORIGIN:{SHARD:n}}}],
  "tables":[{"name","writes","writer","rule","items","replicas","home","rpo","rpo_copies","failover"}],
  "roles":[{"table","home","holder","epoch","next","failover"}]}`
)

// report is what `status -o json` prints.
type report struct {
	Regions []regionReport `json:"regions"`
	Tables  []tableReport  `json:"tables"`
	// Roles are who accepts which writes, as the region knows it whose agreed state
	// is the latest.
	Roles []operator.RoleStatus `json:"roles"`

	full map[antipode.Region]operator.RegionStatus // of those that answered
	why  map[antipode.Region]error                 // of those that did not
	spec *spec.Spec
	// elsewhere are regions that can't be asked from here, and that those here are
	// connected to.
	elsewhere map[antipode.Region]bool
}

var errNotConnected = errors.New("it can't be asked from here, and no region here is connected to it")

func newReport(s *spec.Spec) *report {
	return &report{
		full: map[antipode.Region]operator.RegionStatus{}, why: map[antipode.Region]error{}, spec: s,
		elsewhere: map[antipode.Region]bool{},
	}
}

type regionReport struct {
	Name     antipode.Region              `json:"name"`
	State    operator.State               `json:"state"`
	API      string                       `json:"api"`
	LagMS    map[string]int64             `json:"lag_ms"`
	Frontier map[string]map[string]uint64 `json:"frontier"`
}

// tableReport is a table as the regions agree on it.
type tableReport = operator.TableStatus

func (a *app) statusCommand() *cobra.Command {
	var dir, output string
	var wait time.Duration
	var details bool
	c := &cobra.Command{
		Use: "status", Short: "Show how the regions and tables are doing", Args: wantArgs(0),
		Long: "Show how the regions and tables are doing. A region is live, lagging (behind another one), detached (it can't reach a majority),\n" +
			"draining (it starts or stops), quarantined, or down (it does not answer). Lag is the age of the oldest write of another\n" +
			"region that is not applied yet.\n\nWith -o json:\n  " + statusShape,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.awaitStatus(cmd.Context(), dir, wait)
			if r == nil {
				return err
			}
			if output == "json" {
				return errors.Join(a.printJSON(r), err)
			}
			return errors.Join(a.printStatus(r, details), err)
		},
	}
	dataFlag(c, &dir)
	outputFlag(c, &output)
	c.Flags().DurationVar(&wait, "wait", 0, "wait this `long` until all regions are live and none lags; else exit with 1")
	c.Flags().BoolVar(&details, "details", false, "show round trips, clocks and stores too (text only)")
	return c
}

// awaitStatus asks until all is well or the time is over. With an error, the
// report is the last one, or nil.
func (a *app) awaitStatus(ctx context.Context, dir string, wait time.Duration) (*report, error) {
	if wait <= 0 {
		in, err := a.openInstall(dir)
		if err != nil {
			return nil, err
		}
		return in.status(ctx), nil
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last *report
	var lastErr error
	target := written{}
	for {
		// What `up` is about to write may not be there yet.
		in, err := a.openInstall(dir)
		if err != nil {
			lastErr = err
		} else {
			if r := in.status(waiting); waiting.Err() == nil || last == nil {
				last = r
			}
			target.note(last)
			complaint := last.complaint()
			if complaint == "" {
				complaint = target.missing(last)
			}
			if complaint == "" {
				return last, nil
			}
			lastErr = fmt.Errorf("waited %v in vain: %s", wait, complaint)
		}
		select {
		case <-tick.C:
		case <-waiting.Done():
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return last, lastErr
		}
	}
}

// written is what each region had written, by shard, when it first answered. A
// region can't say that it lags behind writes that it has not heard of yet; who
// asks them all can.
type written map[antipode.Region]map[string]map[string]uint64

func (w written) note(r *report) {
	for _, one := range r.Regions {
		if _, answered := r.full[one.Name]; !answered || w[one.Name] != nil {
			continue
		}
		own := map[string]map[string]uint64{}
		for origin, shards := range one.Frontier {
			if o, err := antipode.ParseOrigin(origin); err == nil && o.Region == one.Name {
				own[origin] = shards
			}
		}
		w[one.Name] = own
	}
}

// missing says which of that has not arrived at a replica, or "".
func (w written) missing(r *report) string {
	replicas := replicasByShardSet(r.spec.DataRegions())
	for _, from := range slices.Sorted(maps.Keys(w)) {
		for origin, shards := range w[from] {
			for shard, seq := range shards {
				id, err := antipode.ParseShard(shard)
				if err != nil {
					continue // of a newer version
				}
				for _, one := range r.Regions {
					if _, answered := r.full[one.Name]; answered && slices.Contains(replicas[id.Set()], one.Name) && one.Frontier[origin][shard] < seq {
						return fmt.Sprintf("%s has not applied all that %s wrote", one.Name, from)
					}
				}
			}
		}
	}
	return ""
}

// maxSubsets bounds the regions whose subsets are gone through.
const maxSubsets = 10

// replicasByShardSet gives the replicas that each set of shards stands for.
func replicasByShardSet(regions []antipode.Region) map[antipode.Shard][]antipode.Region {
	out := map[antipode.Shard][]antipode.Region{}
	if len(regions) > maxSubsets {
		out[antipode.ShardSet(regions)] = regions
		return out
	}
	for bits := 1; bits < 1<<len(regions); bits++ {
		var subset []antipode.Region
		for i, r := range regions {
			if bits>>i&1 == 1 {
				subset = append(subset, r)
			}
		}
		out[antipode.ShardSet(subset)] = subset
	}
	return out
}

// status asks all regions at once.
func (in *install) status(ctx context.Context) *report {
	r := newReport(in.spec)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range in.spec.Regions {
		region := &in.spec.Regions[i]
		wg.Go(func() {
			s, err := in.askStatus(ctx, region)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.why[region.Name] = err
			} else {
				r.full[region.Name] = s
			}
		})
	}
	wg.Wait()
	r.merge(in)
	return r
}

func (in *install) askStatus(ctx context.Context, region *spec.Region) (operator.RegionStatus, error) {
	client, err := in.client(region)
	if err != nil {
		return operator.RegionStatus{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := client.Status(ctx)
	switch {
	case err == nil && s.Name != region.Name:
		return s, fmt.Errorf("region %s answers at its address; see whether two regions were given the same ports", s.Name)
	case errors.Is(err, operator.ErrUnavailable):
		// It is there, and not ready to say more.
		return operator.RegionStatus{Name: region.Name, State: operator.StateDraining, Reason: err.Error(), Witness: region.Witness}, nil
	}
	return s, err
}

// merge makes one picture of what the regions said.
func (r *report) merge(in *install) {
	tables := map[string]tableReport{}
	r.Roles = []operator.RoleStatus{}
	latest := uint64(0)
	for i := range in.spec.Regions {
		region := &in.spec.Regions[i]
		one := regionReport{Name: region.Name, State: operator.StateDown, LagMS: map[string]int64{}, Frontier: map[string]map[string]uint64{}}
		if !region.Witness {
			one.API = serverURL(region.Addresses.API, region.TLS != nil)
		}
		s, ok := r.full[region.Name]
		switch {
		case ok:
			one.State = s.State
			maps.Copy(one.LagMS, s.LagMS)
			maps.Copy(one.Frontier, s.Frontier)
			if s.Index >= latest && s.Roles != nil {
				latest, r.Roles = s.Index, s.Roles
			}
			for _, t := range s.Tables {
				tables[t.Name] = mergeTable(tables, t, region.Name)
			}
		case !in.hasToken(region.Name):
			// On another machine: what its peers here see has to do.
			r.why[region.Name] = errNotConnected
			if r.connected(region.Name) {
				one.State, r.why[region.Name] = operator.StateLive, nil
				r.elsewhere[region.Name] = true
			}
		}
		r.Regions = append(r.Regions, one)
	}
	for i := range r.Roles {
		r.newest(&r.Roles[i])
		if role := r.Roles[i]; role.Home == "" {
			if t, ok := tables[role.Table]; ok {
				t.Writer = role.Holder
				tables[role.Table] = t
			}
		}
	}
	r.Tables = slices.SortedFunc(maps.Values(tables), func(a, b tableReport) int { return strings.Compare(a.Name, b.Name) })
	if r.Tables == nil {
		r.Tables = []tableReport{}
	}
}

// newest replaces a role by what a region says that knows of a later tenure: one
// that a person forced is not agreed on until the regions reach each other again.
func (r *report) newest(role *operator.RoleStatus) {
	for _, s := range r.full {
		for _, other := range s.Roles {
			if other.Table == role.Table && other.Home == role.Home &&
				cmp.Or(cmp.Compare(other.Epoch, role.Epoch), cmp.Compare(other.Holder, role.Holder)) > 0 {
				*role = other
			}
		}
	}
}

// mergeTable counts as many items as the table's writer has, or the region with
// the most.
func mergeTable(have map[string]tableReport, t tableReport, of antipode.Region) tableReport {
	old, ok := have[t.Name]
	if !ok || t.Writer == of || (old.Writer == "" && t.Items > old.Items) {
		return t
	}
	return old
}

// connected reports whether a region that answered is connected to this one.
func (r *report) connected(name antipode.Region) bool {
	for _, s := range r.full {
		for _, p := range s.Peers {
			if p.Name == name && p.Connected {
				return true
			}
		}
	}
	return false
}

// complaint says what is not well, or "".
func (r *report) complaint() string {
	var all []string
	for _, one := range r.Regions {
		if one.State != operator.StateLive {
			text := fmt.Sprintf("%s is %s", one.Name, one.State)
			if why := r.reason(one.Name); why != "" {
				text += " (" + why + ")"
			}
			all = append(all, text)
		}
		for _, origin := range slices.Sorted(maps.Keys(one.LagMS)) {
			if lag := one.LagMS[origin]; lag > 0 {
				all = append(all, fmt.Sprintf("%s lags %d ms behind %s", one.Name, lag, origin))
			}
		}
	}
	return strings.Join(all, "; ")
}

func (r *report) reason(name antipode.Region) string {
	if err := r.why[name]; err != nil {
		return err.Error()
	}
	return r.full[name].Reason
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// table prints rows in columns. Each row ends without a tab.
func (a *app) table(rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

func (a *app) printStatus(r *report, details bool) error {
	rows := [][]string{{"REGION", "STATE", "LAG", "API", "REMARK"}}
	for _, one := range r.Regions {
		remark := r.reason(one.Name)
		def, _ := r.spec.Region(one.Name)
		switch {
		case remark == "" && def.Witness && r.elsewhere[one.Name]:
			remark = "witness, as seen from here"
		case remark == "" && def.Witness:
			remark = "witness"
		case remark == "" && r.elsewhere[one.Name]:
			remark = "as seen from here; ask there for its lag"
		}
		rows = append(rows, []string{string(one.Name), string(one.State), lagText(one), orDash(one.API), remark})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	rows = [][]string{{"TABLE", "WRITES", "WRITER", "RULE", "ITEMS"}}
	for _, t := range r.Tables {
		rows = append(rows, []string{t.Name, string(t.Writes), orDash(string(t.Writer)), orDash(string(t.Rule)), strconv.FormatInt(t.Items, 10)})
	}
	if len(rows) > 1 {
		if err := errors.Join(a.print(""), a.table(rows)); err != nil {
			return err
		}
	}
	if err := a.printMoved(r); err != nil {
		return err
	}
	if details {
		return a.printDetails(r)
	}
	return nil
}

// printMoved says which items are written elsewhere than in the region that they
// belong to, and which roles stand still. The writer of a global table is in the
// list of tables.
func (a *app) printMoved(r *report) error {
	var lines []string
	for _, role := range r.Roles {
		switch {
		case role.Failover > 0:
			lines = append(lines, fmt.Sprintf("%s: %s takes over, and accepts no writes yet; see antipode failover list", roleName(role), role.Holder))
		case role.Next != "":
			lines = append(lines, fmt.Sprintf("%s: being handed from %s to %s", roleName(role), role.Holder, role.Next))
		case role.Home != "" && role.Home != role.Holder:
			lines = append(lines, fmt.Sprintf("%s: written in %s", roleName(role), role.Holder))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return a.print("\n%s", strings.Join(lines, "\n"))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func lagText(one regionReport) string {
	if len(one.LagMS) == 0 {
		return "-"
	}
	var worst int64
	behind := ""
	for _, origin := range slices.Sorted(maps.Keys(one.LagMS)) {
		if lag := one.LagMS[origin]; lag > worst {
			worst, behind = lag, " behind "+origin
		}
	}
	return fmt.Sprintf("%d ms%s", worst, behind)
}

func (a *app) printDetails(r *report) error {
	for _, one := range r.Regions {
		s, ok := r.full[one.Name]
		if !ok {
			continue
		}
		rows := [][]string{
			{"", "version", fmt.Sprintf("%s, process %d, since %s", s.Version, s.PID, s.Started.Format(time.RFC3339))},
			{"", "control group", fmt.Sprintf("leader %s, state %d", orDash(string(s.Leader)), s.Index)},
			{"", "clock", clockText(s.Clock)},
		}
		if s.Store != (operator.StoreStatus{}) {
			rows = append(rows, []string{"", "store", fmt.Sprintf("%s on disk, journals %s, %s waiting", size(s.Store.DiskBytes), size(s.Store.JournalBytes), size(s.Store.WaitingBytes))})
		}
		for _, p := range s.Peers {
			text := "not connected"
			if p.Cut {
				text = "cut on request, see antipode link heal"
			} else if p.Connected {
				text = fmt.Sprintf("%.1f ms round trip", p.RTTMS)
			}
			if p.DelayMS > 0 {
				text += fmt.Sprintf(", %.1f ms emulated one way", p.DelayMS)
			}
			rows = append(rows, []string{"", "to " + string(p.Name), text})
		}
		if err := errors.Join(a.print("\n%s", one.Name), a.table(rows)); err != nil {
			return err
		}
	}
	return nil
}

func clockText(c operator.ClockStatus) string {
	switch {
	case c.Refuses != "":
		return c.Refuses
	case c.UncertaintyMS == 0:
		return "not compared with another region's yet"
	}
	return fmt.Sprintf("%+.1f ms from the others', give or take %.1f ms", c.OffsetMS, c.UncertaintyMS)
}

func size(n uint64) string {
	const unit = 1 << 10
	switch {
	case n < unit:
		return fmt.Sprintf("%d B", n)
	case n < unit*unit:
		return fmt.Sprintf("%.1f KiB", float64(n)/unit)
	case n < unit*unit*unit:
		return fmt.Sprintf("%.1f MiB", float64(n)/unit/unit)
	default:
		return fmt.Sprintf("%.1f GiB", float64(n)/unit/unit/unit)
	}
}
