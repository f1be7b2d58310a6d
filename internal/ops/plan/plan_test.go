package plan_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/spec"
)

// TestWorkloads: what is asked, and the expected answer with its reason.
func TestWorkloads(t *testing.T) {
	datadriven.Walk(t, "testdata/workloads", func(t *testing.T, path string) {
		t.Helper()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			in := input(t, d.Input)
			r := plan.Advise(in)
			var b strings.Builder
			for i := range r.Data {
				a := &r.Data[i]
				expect(t, d, a)
				tell(&b, a)
			}
			for _, l := range r.Lints {
				fmt.Fprintf(&b, "lint %s %s %d: %s\n", l.Severity, l.Rule, l.Line, l.Message)
			}
			return b.String()
		})
	})
}

func input(t *testing.T, text string) plan.Input {
	t.Helper()
	s, src, err := spec.Read([]byte(text), "antipode.yaml")
	if err != nil {
		t.Fatalf("%v", err)
	}
	return plan.Input{Spec: s, Source: src}
}

// expect compares with what the script's first line wants, which -rewrite leaves alone.
func expect(t *testing.T, d *datadriven.TestData, a *plan.Answer) {
	t.Helper()
	var want string
	d.ScanArgs(t, a.Name, &want)
	got := string(a.Strategy)
	for _, part := range []string{string(a.Writes), string(a.Rule)} {
		if a.Strategy.Rank() >= plan.WarmStandby.Rank() && part != "" {
			got += "/" + part
		}
	}
	if a.Strategy == plan.PilotLight && a.Kind != "table" && a.Writes != "" {
		t.Errorf("%s is no table and has the write mode %s", a.Name, a.Writes)
	}
	if got != want {
		d.Fatalf(t, "%s gets %s, want %s: %s", a.Name, got, want, a.Why)
	}
}

// tell prints what matters of an answer.
func tell(b *strings.Builder, a *plan.Answer) {
	fmt.Fprintf(b, "%s: %s %s %s\n", a.Name, a.Strategy, a.Writes, a.Rule)
	fmt.Fprintf(b, "  why: %s\n", a.Why)
	bound := func(d *spec.Duration) string {
		if d == nil {
			return "no bound"
		}
		return plan.Span(*d)
	}
	fmt.Fprintf(b, "  RPO %s, RTO %s for a %s, available %.4f %% (today %.4f %%), cost x%.2f\n",
		bound(a.RPO.Promised), bound(a.RTO.Promised), a.Scope, a.Availability.Drilled, a.Availability.Today, a.Cost.Factor)
	fmt.Fprintf(b, "  at %v, writer %s, witness %s, backup every %s in %v\n", a.Replicas, a.Writer, a.Witness, plan.Span(a.Backup.Every), a.Backup.In)
	for _, r := range a.Ladder {
		if !r.Meets && !r.Chosen {
			fmt.Fprintf(b, "  no %s: %s\n", r.Strategy, strings.Join(r.Misses, "; "))
		}
	}
	for _, i := range a.Impossible {
		fmt.Fprintf(b, "  not possible: %s, because %s; nearest: %s\n", i.Wish, i.Because, i.Nearest)
	}
	for _, s := range a.Sensitive {
		fmt.Fprintf(b, "  with %s %s (now %s): %s %s\n", s.Input, s.If, s.Now, s.Then, s.Writes)
	}
}

// TestLints: each contradiction is found, at its line; and each rule finds one here.
func TestLints(t *testing.T) {
	found := map[string]bool{}
	datadriven.Walk(t, "testdata/lints", func(t *testing.T, path string) {
		t.Helper()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			in := input(t, d.Input)
			var b strings.Builder
			for _, l := range plan.Advise(in).Lints {
				found[l.Rule] = true
				fmt.Fprintf(&b, "%d:%d: %s %s: %s\n  fix: %s\n", l.Line, l.Column, l.Severity, l.Rule, l.Message, l.Fix)
				if l.Source == "" || l.Path == "" {
					t.Errorf("%s has no source or path: %+v", l.Rule, l)
				}
			}
			return b.String()
		})
	})
	doc, err := os.ReadFile("../../../docs/plan.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range plan.LintRules() {
		if !found[rule] {
			t.Errorf("no spec in testdata/lints has the lint %s", rule)
		}
		if !strings.Contains(string(doc), "`"+rule+"`") {
			t.Errorf("docs/plan.md does not tell of %s", rule)
		}
	}
}
