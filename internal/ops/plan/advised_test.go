package plan_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/spec"
)

// regionsOf lists a spec's regions, witnesses marked.
func regionsOf(s *spec.Spec) []string {
	var out []string
	for _, r := range s.Regions {
		name := string(r.Name) + " " + r.Location.String()
		if r.Witness {
			name += " witness"
		}
		out = append(out, name)
	}
	return out
}

// TestAdvisedSpec: the spec that up runs has the table as advised, the witness that
// a majority needs, the decision and the backup; what was not asked about stays.
func TestAdvisedSpec(t *testing.T) {
	in := input(t, `regions:
  - {name: frankfurt, location: eu-central-1}
  - {name: london, location: eu-west-2}
tables:
  - {name: settings, key: {partition: id, sort: at:N}, writes: local, rule: first-writer}
  - {name: books, key: isin, writes: global, replicas: [frankfurt]}
needs:
  data:
    - {name: books, why: [continuity], rpo: 0s, rto: 30s, written_by: owner, reads: {per_second: 10}, writes: {per_second: 10}, stay: [frankfurt, london]}
`)
	r := plan.Advise(in)
	s := r.Spec()
	if diff := cmp.Diff([]string{"frankfurt eu-central-1", "london eu-west-2", "zurich eu-central-2 witness"}, regionsOf(s)); diff != "" {
		t.Error(diff)
	}
	books, _ := s.Table("books")
	want := &spec.Table{
		Name: "books", Key: spec.Key{Partition: spec.KeyAttribute{Name: "isin", Type: "S"}}, Writes: "partitioned", Home: "creator", Replicas: r.Data[0].Replicas,
		RPO: new(spec.Duration(0)), RPOCopies: 1, Unprotected: "degrade", Failover: "lease", Return: "auto",
	}
	if diff := cmp.Diff(want, books); diff != "" {
		t.Error(diff)
	}
	before, _ := in.Spec.Table("settings")
	after, _ := s.Table("settings")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("nothing was asked about settings: %s", diff)
	}
	d := s.Needs.Data[0]
	if d.Strategy != "active-active" || d.Backup == nil || !cmp.Equal(d.Backup.In, []string{"london"}) {
		t.Errorf("what was decided: %s, %+v", d.Strategy, d.Backup)
	}
	if len(in.Spec.Regions) != 2 || in.Spec.Needs.Data[0].Strategy != "" {
		t.Error("the spec that was asked about has changed")
	}
	for _, site := range r.Regions {
		if site.Added != (site.Name == "zurich") {
			t.Errorf("on the map: %+v", site)
		}
	}
}

// TestThirdRegionVotes: where one answer adds a third place, another one needs no witness.
func TestThirdRegionVotes(t *testing.T) {
	r := plan.Advise(input(t, `regions:
  - {name: virginia, location: us-east-1}
  - {name: oregon, location: us-west-2}
needs:
  data:
    - {name: orders, why: [continuity], rto: 5m}
    - {name: french, why: [law], stay: [FR]}
`))
	if diff := cmp.Diff([]string{"virginia us-east-1", "oregon us-west-2", "paris eu-west-3"}, regionsOf(r.Spec())); diff != "" {
		t.Error(diff)
	}
	if a := r.Data[0]; a.Witness != "" || a.Failover != "lease" {
		t.Errorf("witness %q, failover %s", a.Witness, a.Failover)
	}
}

// TestJSON: what scripts take is flat, whatever else is there.
func TestJSON(t *testing.T) {
	text, err := json.Marshal(plan.Advise(input(t, accounts)))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Data []struct {
			Name, Strategy, Writes, Rule, RPO, RTO, Why string
			Cost                                        float64
		}
		Lints []struct {
			Line              int
			Rule, Reason, Fix string
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	d := got.Data[0]
	if d.Name != "accounts" || d.Strategy != "active-active" || d.Writes != "global" || d.Rule != "" || d.RPO != "1s" || d.RTO != "5s" || math.Abs(d.Cost-2) > 0.01 || d.Why == "" {
		t.Errorf("%+v", d)
	}
	if l := got.Lints[0]; l.Line != 7 || l.Rule != "no-backup" || l.Reason == "" || l.Fix == "" {
		t.Errorf("%+v", l)
	}
}
