package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/spec"
)

// errDiffers ends a comparison that found something.
var errDiffers = errors.New("what runs is not what is advised")

// difference is one thing that runs otherwise than advised.
type difference struct {
	What    string `json:"what"` // table orders, region mumbai
	Field   string `json:"field,omitempty"`
	Runs    string `json:"runs"`
	Advised string `json:"advised"`
}

// planDiff compares the advice with the regions that run.
func (a *app) planDiff(ctx context.Context, r *plan.Report, o planOptions) error {
	in, err := a.openInstall(o.dir)
	if err != nil {
		return err
	}
	running := in.status(ctx)
	if len(running.full) == 0 {
		return fmt.Errorf("no region of %s answers, so there is nothing to compare with; start them with `%s`", o.dir, a.command(o.dir, "up"))
	}
	found := differences(r.Spec(), running)
	if o.output == "json" {
		err = a.printJSON(struct {
			Differ      bool         `json:"differ"`
			Differences []difference `json:"differences"`
		}{len(found) > 0, found})
	} else {
		err = a.printDifferences(found)
	}
	for _, name := range in.silent(running) {
		a.note("%s", name)
	}
	if len(found) > 0 {
		return errors.Join(err, errDiffers)
	}
	return err
}

// silent says which regions were not asked.
func (in *install) silent(r *report) []string {
	var out []string
	for _, one := range in.spec.Regions {
		if _, ok := r.full[one.Name]; !ok {
			out = append(out, fmt.Sprintf("%s did not answer: what only it knows is left out", one.Name))
		}
	}
	return out
}

func (a *app) printDifferences(found []difference) error {
	if len(found) == 0 {
		return a.print("What runs is what is advised.")
	}
	rows := [][]string{{"WHAT", "FIELD", "RUNS", "ADVISED"}}
	for _, d := range found {
		rows = append(rows, []string{d.What, orDash(d.Field), orDash(d.Runs), orDash(d.Advised)})
	}
	return errors.Join(a.table(rows), a.print("\nA writer changes with antipode switch. What else a table is made with stays as it is while it exists: make it anew\n"+
		"by the spec of antipode plan --write. Regions are added to a new data directory."))
}

// differences compares tables and regions, in the order of the advice.
func differences(advised *spec.Spec, running *report) []difference {
	out := []difference{}
	for _, r := range advised.Regions {
		if _, ok := running.spec.Region(r.Name); !ok {
			out = append(out, difference{What: "region " + string(r.Name), Runs: "not there", Advised: regionRole(r.Witness)})
		} else if is, ok := running.full[r.Name]; ok && is.Witness != r.Witness {
			out = append(out, difference{What: "region " + string(r.Name), Field: "role", Runs: regionRole(is.Witness), Advised: regionRole(r.Witness)})
		}
	}
	for _, r := range running.spec.Regions {
		if _, ok := advised.Region(r.Name); !ok {
			out = append(out, difference{What: "region " + string(r.Name), Runs: regionRole(r.Witness), Advised: "not there"})
		}
	}
	for i := range advised.Tables {
		t := &advised.Tables[i]
		k := slices.IndexFunc(running.Tables, func(is operator.TableStatus) bool { return is.Name == t.Name })
		if k < 0 {
			out = append(out, difference{What: "table " + t.Name, Runs: "not there", Advised: string(t.Writes)})
			continue
		}
		out = append(out, tableDifferences(t, &running.Tables[k])...)
	}
	for _, is := range running.Tables {
		if _, ok := advised.Table(is.Name); !ok {
			out = append(out, difference{What: "table " + is.Name, Runs: string(is.Writes), Advised: "not there"})
		}
	}
	return out
}

func regionRole(witness bool) string {
	if witness {
		return "witness"
	}
	return "data"
}

func tableDifferences(t *spec.Table, is *operator.TableStatus) []difference {
	rpo, copies := "", ""
	if t.RPO != nil {
		rpo = t.RPO.String()
	}
	if t.RPOCopies > 0 {
		copies = strconv.Itoa(t.RPOCopies)
	}
	isCopies := ""
	if is.Copies > 0 {
		isCopies = strconv.Itoa(is.Copies)
	}
	var out []difference
	for _, f := range []struct{ field, runs, advised string }{
		{"writes", string(is.Writes), string(t.Writes)},
		{"writer", string(is.Writer), string(t.Writer)},
		{"rule", string(is.Rule), string(t.Rule)},
		{"home", is.Home, string(t.Home)},
		{"replicas", sortedNames(is.Replicas), sortedNames(t.Replicas)},
		{"rpo", is.RPO, rpo},
		{"rpo_copies", isCopies, copies},
		{"failover", is.Failover, t.Failover},
	} {
		if f.runs != f.advised {
			out = append(out, difference{What: "table " + t.Name, Field: f.field, Runs: f.runs, Advised: f.advised})
		}
	}
	return out
}

func sortedNames[S ~string](all []S) string {
	var out []string
	for _, n := range slices.Sorted(slices.Values(all)) {
		out = append(out, string(n))
	}
	return strings.Join(out, ", ")
}
