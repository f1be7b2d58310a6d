package plan_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/spec"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

func maybe[T any](t *rapid.T, label string, values ...T) *T {
	if rapid.Bool().Draw(t, label+" said") {
		return new(rapid.SampledFrom(values).Draw(t, label))
	}
	return nil
}

func word(t *rapid.T, label string, values ...string) string {
	return rapid.SampledFrom(append(values, "")).Draw(t, label)
}

func words(t *rapid.T, label string, values ...string) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(values), 0, len(values), rapid.ID).Draw(t, label)
}

func durations(values ...time.Duration) []spec.Duration {
	out := make([]spec.Duration, len(values))
	for i, v := range values {
		out[i] = spec.Duration(v)
	}
	return out
}

func drawData(t *rapid.T, name string, places []string) spec.Data {
	bounds := durations(0, time.Millisecond, time.Second, 5*time.Second, time.Minute, 90*time.Second, 10*time.Minute, time.Hour, 5*time.Hour, 24*time.Hour, 400*time.Hour)
	budgets := durations(time.Microsecond, time.Millisecond, 15*time.Millisecond, 60*time.Millisecond, 250*time.Millisecond, 3*time.Second)
	d := spec.Data{
		Name: name, Kind: word(t, "kind", "table", "objects", "database", "files", "queue"), Why: words(t, "why", "continuity", "latency", "law"),
		Survive: word(t, "survive", "zone", "region"), Done: words(t, "done", "zones", "caching", "cdn", "faster-restore"),
		RPO: maybe(t, "rpo", bounds...), RTO: maybe(t, "rto", bounds...), ZoneRTO: maybe(t, "zone_rto", bounds...),
		Availability: maybe(t, "availability", 50, 99, 99.9, 99.95, 99.99, 99.999, 100), Capacity: maybe(t, "capacity", 1, 30.0, 60, 100, 250),
		OutageHour: maybe(t, "outage", 0, 10.0, 1e6), Staleness: maybe(t, "staleness", bounds...), ItemBytes: maybe(t, "item", 0, 100.0, 1e9),
		VolumeGB: maybe(t, "volume", 0, 1.0, 1e3, 1e12), GrowthGBMonth: maybe(t, "growth", 0, 10.0),
		WrittenBy: word(t, "written by", "owner", "anybody", "one-place"), Commute: maybe(t, "commute", false, true), Offline: maybe(t, "offline", false, true),
		Invariants: words(t, "invariants", "none", "unique-names", "balances", "other"), Stay: words(t, "stay", append(places, "EU", "US", "DE", "IN", "XX")...),
	}
	for label, traffic := range map[string]*spec.Traffic{"reads": &d.Reads, "writes": &d.Writes} {
		_ = label
		traffic.PerSecond = maybe(t, "rate", 0, 1.0, 1000, 1e9)
		traffic.P99 = maybe(t, "p99", budgets...)
		if rapid.Bool().Draw(t, "from said") {
			traffic.From = []spec.Share{{Users: "g0", Share: rapid.SampledFrom([]float64{0, 1, 3}).Draw(t, "share")}}
		}
	}
	return d
}

// drawSpec draws a spec that loads.
func drawSpec(t *rapid.T) (*spec.Spec, *spec.Source) {
	s := &spec.Spec{Needs: &spec.Needs{}}
	codes := rapid.SliceOfNDistinct(rapid.SampledFrom(geo.Codes()), 1, 4, rapid.ID).Draw(t, "regions")
	var places []string
	for i, code := range codes {
		r := spec.Region{Name: antipode.Region(fmt.Sprintf("r%d", i)), Location: spec.Location{Code: code}, Witness: i > 0 && rapid.IntRange(0, 3).Draw(t, "witness") == 0}
		r.Journal = r.Witness && rapid.Bool().Draw(t, "journal")
		if rapid.IntRange(0, 5).Draw(t, "bare") == 0 {
			r.Location = spec.Location{Latitude: rapid.Float64Range(1, 89).Draw(t, "lat"), Longitude: rapid.Float64Range(-179, 179).Draw(t, "long")}
		}
		places = append(places, string(r.Name))
		s.Regions = append(s.Regions, r)
	}
	data := s.DataRegions()
	for i := range rapid.IntRange(0, 3).Draw(t, "tables") {
		table := spec.Table{
			Name: fmt.Sprintf("table-%d", i), Key: spec.Key{Partition: spec.KeyAttribute{Name: "id", Type: "S"}}, Writes: rapid.SampledFrom(antipode.WriteModes()).Draw(t, "mode"),
			Replicas: rapid.SliceOfNDistinct(rapid.SampledFrom(data), 1, len(data), rapid.ID).Draw(t, "replicas"),
		}
		if table.Writes == antipode.WriteLocal {
			table.Rule = antipode.RuleFirstWriter
		}
		if len(table.Replicas) > 1 {
			table.RPO = maybe(t, "table rpo", durations(0, 5*time.Second)...)
		}
		s.Tables = append(s.Tables, table)
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "groups") {
		place := rapid.SampledFrom(geo.Codes()).Draw(t, "group at")
		s.Needs.Users = append(s.Needs.Users, spec.Users{Name: fmt.Sprintf("g%d", i), Location: spec.Location{Code: place}, Share: maybe(t, "share", 0, 1.0, 2.5, 1e300)})
	}
	s.Needs.Company.OnCall = word(t, "on call", "none", "office-hours", "always")
	s.Needs.Region = spec.RegionFacts{
		Availability: maybe(t, "region availability", 90, 99.9, 100), EventsPerYear: maybe(t, "events", 0, 0.1, 1, 365), Shared: maybe(t, "shared", 99, 99.99, 100),
	}
	s.Needs.Prices = spec.Prices{TransferGB: maybe(t, "transfer", 0, 0.05), StorageGBMonth: maybe(t, "storage", 0, 1.0), RegionMonth: maybe(t, "region month", 0, 5e3)}
	for i := range rapid.IntRange(0, 2).Draw(t, "data") {
		d := drawData(t, fmt.Sprintf("table-%d", i), places)
		if i < len(s.Tables) && d.Kind != "" {
			d.Kind = "table"
		}
		if len(s.Needs.Users) == 0 {
			d.Reads.From, d.Writes.From = nil, nil
		}
		s.Needs.Data = append(s.Needs.Data, d)
	}
	text, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	out, src, err := spec.Read(text, "antipode.yaml")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out, src
}

// TestAdviceHolds: advice never fails; what it writes loads, and has no lint
// but about wishes that are not possible; taking it changes nothing any more.
func TestAdviceHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, src := drawSpec(t)
		before, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		r := plan.Advise(plan.Input{Spec: s, Source: src})
		if after, err := s.Marshal(); err != nil || !slices.Equal(before, after) {
			t.Fatalf("advice changed what it was given (%v)", err)
		}
		for _, text := range r.NotYet {
			if len(text) > 8 && text[:8] == "the spec" {
				t.Fatalf("%s\n%s", text, before)
			}
		}
		text, err := r.Spec().Marshal()
		if err != nil {
			t.Fatal(err)
		}
		next, src, err := spec.Read(text, "antipode.yaml")
		if err != nil {
			t.Fatalf("what is advised does not load: %v\n%s", err, text)
		}
		accept(t, next)
		if _, err := json.Marshal(r); err != nil {
			t.Fatalf("the report is no JSON: %v\nfrom\n%s", err, before)
		}
		again := plan.Advise(plan.Input{Spec: next, Source: src})
		impossible := map[string]bool{}
		for i := range r.Data {
			a := &r.Data[i]
			impossible[a.Name] = len(a.Impossible) > 0 || !a.Asked
			b := &again.Data[slices.IndexFunc(again.Data, func(b plan.Answer) bool { return b.Name == a.Name })]
			if impossible[a.Name] {
				continue
			}
			if diff := cmp.Diff([]any{a.Strategy, a.Writes, a.Rule, len(a.Replicas)}, []any{b.Strategy, b.Writes, b.Rule, len(b.Replicas)}); diff != "" {
				t.Fatalf("%s: the advice on the advice differs: %s\nfrom\n%s\nto\n%s", a.Name, diff, before, text)
			}
		}
		for _, l := range again.Lints {
			had := slices.ContainsFunc(r.Lints, func(o plan.Lint) bool { return l.Data == "" && o.Rule == l.Rule && o.Path == l.Path })
			if !impossible[l.Data] && !had && l.Rule != "rto-below-zone" { // which no plan mends: the wish contradicts itself; nor can it move a region
				t.Fatalf("the advised spec has the lint %s of %s at line %d: %s\nfrom\n%s\nto\n%s", l.Rule, l.Data, l.Line, l.Message, before, text)
			}
		}
	})
}

// accept checks that the control group takes what is advised.
func accept(t *rapid.T, s *spec.Spec) {
	state, index := control.NewState(), uint64(0)
	do := func(c control.Command) {
		index++
		next, err := control.Apply(state, index, c)
		if err != nil {
			t.Fatalf("the control group refuses what is advised: %v", err)
		}
		state = next
	}
	for _, r := range s.ControlRegions() {
		do(control.Command{PutRegion: &r})
	}
	for _, table := range s.ControlTables() {
		do(control.Command{CreateTable: &table})
	}
}

// TestStricterIsNeverCheaper: who asks for more gets no cheaper strategy, unless
// the more is not possible.
func TestStricterIsNeverCheaper(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, _ := drawSpec(t)
		if len(s.Needs.Data) == 0 {
			t.Skip("nothing is asked")
		}
		d := &s.Needs.Data[0]
		d.Survive = rapid.SampledFrom([]string{"zone", "region"}).Draw(t, "survive for sure") // else it follows from the others
		s.Needs.Data = s.Needs.Data[:1]
		loose := plan.Advise(plan.Input{Spec: s}).Data[0]
		what := rapid.SampledFrom([]string{"rpo", "rto", "availability", "reads", "writes", "survive", "capacity", "on call", "stay", "staleness"}).Draw(t, "what")
		tighter := func(is *spec.Duration, def time.Duration) *spec.Duration {
			if is == nil {
				is = new(spec.Duration(def))
			}
			return new(*is / spec.Duration(rapid.SampledFrom([]int{1, 2, 10, 100, 100_000}).Draw(t, "by")))
		}
		switch what {
		case "rpo":
			d.RPO = tighter(d.RPO, 24*time.Hour)
		case "rto":
			d.RTO = tighter(d.RTO, 24*time.Hour)
		case "availability":
			v := 99.0
			if d.Availability != nil {
				v = *d.Availability
			}
			d.Availability = new(100 - (100-v)/rapid.SampledFrom([]float64{1, 2, 10, 100}).Draw(t, "by"))
		case "reads":
			d.Reads.P99 = tighter(d.Reads.P99, 3*time.Second)
		case "writes":
			d.Writes.P99 = tighter(d.Writes.P99, 3*time.Second)
		case "survive":
			d.Survive = "region"
		case "capacity":
			v := 100.0
			if d.Capacity != nil {
				v = *d.Capacity
			}
			d.Capacity = new(v / rapid.SampledFrom([]float64{1, 2, 3}).Draw(t, "by"))
		case "on call":
			s.Needs.Company.OnCall = "none"
		case "stay":
			d.Stay = []string{"US"}
		case "staleness":
			d.Staleness = tighter(d.Staleness, 10*time.Second)
		}
		strict := plan.Advise(plan.Input{Spec: s}).Data[0]
		if what == "stay" && !slices.Equal(strict.Impossible, nil) {
			return
		}
		if len(strict.Impossible) == 0 && strict.Strategy.Rank() < loose.Strategy.Rank() {
			text, err := s.Marshal()
			t.Fatalf("with more %s: %s, which is cheaper than %s (%v)\n%s", what, strict.Strategy, loose.Strategy, err, text)
		}
	})
}
