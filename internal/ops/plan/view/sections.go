package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/antipode-io/antipode/internal/ops/plan"
)

// section is a part of the reasoning, for whichever renderer.
type section struct {
	title string
	lines []string   // sentences, a paragraph each
	items []string   // a list
	head  []string   // of the table
	rows  [][]string // each as long as head
}

// reasoning is all there is to say about one data set.
func reasoning(r *plan.Report, a *plan.Answer) []section {
	all := []section{answer(r, a), rules(a), impossible(a), ladder(r, a), latency(a), availability(a), cost(r, a), sensitive(r, a), first(a), backup(a), drills(a), assumed(a.Assumed), notYet(a.NotYet)}
	var out []section
	for _, s := range all {
		if len(s.lines)+len(s.items)+len(s.rows) > 0 {
			out = append(out, s)
		}
	}
	return out
}

func answer(r *plan.Report, a *plan.Answer) section {
	rows := [][]string{
		{"strategy", string(a.Strategy), ""},
		{"writes", writes(a), a.Consistency},
		{"RPO", bound(a.RPO), join("asked "+span(a.RPO.Asked, "-"), proof(a.RPO), a.RPO.Note)},
		{"RTO", bound(a.RTO), join("asked "+span(a.RTO.Asked, "-"), proof(a.RTO), a.RTO.Note)},
		{"survives the loss of", "a " + a.Scope, ""},
		{"kept in", names(a.Replicas), ""},
	}
	if a.Witness != "" {
		rows = append(rows, []string{"witness", string(a.Witness), "votes, and keeps no data"})
	}
	if len(a.Successors) > 0 {
		rows = append(rows, []string{"takes over", names(a.Successors), map[string]string{"lease": "by itself", "pinned": "when a person says so"}[a.Failover]})
	}
	rows = append(rows,
		[]string{"costs a month", money(a.Cost.Month) + " " + r.Currency, times(a.Cost.Factor) + " of one region"},
	)
	if !a.IsTable && a.Kind != "" {
		rows = append(rows, []string{"kind", a.Kind, ""})
	}
	return section{title: "The answer", lines: []string{a.Why}, head: []string{"what", "is", "remark"}, rows: rows}
}

// join puts together what there is.
func join(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, "; ")
}

func rules(a *plan.Answer) section {
	s := section{title: "The rules that decided"}
	for _, x := range a.Reasons {
		if onLadder(a, x) {
			continue
		}
		text := x.Rule + ": " + x.Text
		if x.Source != "" {
			text += " (" + x.Source + ")"
		}
		s.items = append(s.items, text)
	}
	return s
}

// onLadder reports whether a reason is why one of the strategies does not do: the
// ladder tells that, beside the strategy.
func onLadder(a *plan.Answer, x plan.Reason) bool {
	return slices.ContainsFunc(a.Ladder, func(r plan.Rung) bool {
		return slices.ContainsFunc(r.Misses, func(m string) bool { return x.Text == string(r.Strategy)+": "+m })
	})
}

func impossible(a *plan.Answer) section {
	s := section{title: "Not possible"}
	for _, x := range a.Impossible {
		s.items = append(s.items, fmt.Sprintf("%s: not possible, because %s. Nearest possible: %s", x.Wish, trimStop(x.Because), x.Nearest))
	}
	return s
}

func trimStop(s string) string { return strings.TrimSuffix(s, ".") }

func ladder(r *plan.Report, a *plan.Answer) section {
	s := section{title: "The ladder of strategies", head: []string{"strategy", "RPO", "RTO", "available", r.Currency + " a month", "misses"}}
	var sources []string
	for _, x := range a.Reasons {
		if onLadder(a, x) && x.Source != "" && !slices.Contains(sources, x.Source) {
			sources = append(sources, x.Source)
		}
	}
	if len(sources) > 0 {
		s.lines = []string{"Bounds from: " + strings.Join(sources, "; ") + "."}
	}
	for _, x := range a.Ladder {
		misses := strings.Join(x.Misses, "; ")
		switch {
		case x.Chosen:
			misses = join("chosen", misses)
		case x.Meets:
			misses = "does too, and costs more"
		}
		if absent(&x) {
			s.rows = append(s.rows, []string{string(x.Strategy), "-", "-", "-", "-", misses})
			continue
		}
		s.rows = append(s.rows, []string{string(x.Strategy), span(x.RPO, "no bound"), span(x.RTO, "no bound"), percent(x.Availability), money(x.Cost.Month), misses})
	}
	return s
}

func latency(a *plan.Answer) section {
	s := section{title: "What physics allows", head: []string{"users", "share", "", "by way of", "light", "estimate", "from - to", "budget"}}
	measured := false
	for _, l := range a.Latency {
		for _, p := range []struct {
			verb string
			path plan.Path
		}{{"read", l.Read}, {"write", l.Write}} {
			if len(p.path.Via) == 0 {
				continue
			}
			estimate := plan.Span(p.path.Estimate)
			if p.path.Measured {
				estimate += " measured"
				measured = true
			}
			budget := span(p.path.Budget, "-")
			if p.path.Over {
				budget += ", missed"
			}
			s.rows = append(s.rows, []string{
				l.Users, share(l.Share), p.verb, strings.Join(p.path.Via, " - "), plan.Span(p.path.Floor), estimate,
				plan.Span(p.path.Low) + " - " + plan.Span(p.path.High), budget,
			})
		}
	}
	if len(s.rows) > 0 && !measured {
		s.lines = []string{"Round trips from the user to the answer, without the service's own time. `antipode probe` measures those between regions that run."}
	}
	return s
}

func availability(a *plan.Answer) section {
	v := a.Availability
	if v.Today == 0 && v.Drilled == 0 {
		return section{}
	}
	s := section{title: "Availability"}
	asked := ""
	if v.Asked != nil {
		asked = " Asked was " + percent(*v.Asked) + "."
	}
	state := fmt.Sprintf("%s as things are (%s a year), %s with regular drills (%s).", percent(v.Today), minutes(v.MinutesToday), percent(v.Drilled), minutes(v.MinutesDrilled))
	if v.Proven {
		state = fmt.Sprintf("%s (%s a year), with what the drills measured.", percent(v.Today), minutes(v.MinutesToday))
	}
	s.lines = []string{state + asked}
	if v.Formula != "" {
		s.lines = append(s.lines, v.Formula)
	}
	return s
}

func cost(r *plan.Report, a *plan.Answer) section {
	c := a.Cost
	s := section{title: "What it costs", head: []string{r.Currency + " a month", "", "how"}}
	s.rows = [][]string{
		{money(c.Compute), "machines", times(c.ComputeFactor)},
		{money(c.Storage), "storage", times(c.StorageFactor)},
		{money(c.Transfer), "transfer between regions", fmt.Sprintf("%s GB", money(c.TransferGB))},
		{money(c.Month), "all", fmt.Sprintf("%s of %s in one region", times(c.Factor), money(c.MonthOne))},
	}
	if c.RiskYear != nil && c.RiskYearOne != nil {
		s.lines = append(s.lines, fmt.Sprintf("At risk a year: %s %s; in one region %s.", money(*c.RiskYear), r.Currency, money(*c.RiskYearOne)))
	}
	if c.Note != "" {
		s.lines = append(s.lines, c.Note)
	}
	return s
}

func sensitive(r *plan.Report, a *plan.Answer) section {
	s := section{title: "What would change the answer"}
	for _, x := range a.Sensitive {
		s.items = append(s.items, change(r, x))
	}
	return s
}

// change says what another input would lead to.
func change(r *plan.Report, x plan.Sensitivity) string {
	then := string(x.Then)
	if x.Writes != "" {
		then += ", written " + string(x.Writes)
	}
	return fmt.Sprintf("%s: %s instead of %s leads to %s (%s %s a month)", x.Input, x.If, x.Now, then, money(x.Month), r.Currency)
}

func first(a *plan.Answer) section { return section{title: "Before any of this", items: a.First} }

func backup(a *plan.Answer) section {
	if a.Backup.Every == 0 {
		return section{}
	}
	in := names(a.Backup.In)
	if in == "" {
		in = "its own region, for want of another place where it may be"
	}
	return section{title: "The backup", lines: []string{fmt.Sprintf("Every %s, kept for %s, in %s. Replicas copy mistakes; a backup doesn't.", plan.Span(a.Backup.Every), plan.Span(a.Backup.Keep), in)}}
}

func drills(a *plan.Answer) section {
	s := section{title: "The drills that hold it to its word", head: []string{"drill", "shows", "last", "how to run it"}}
	for _, d := range a.Drills {
		last := "never"
		switch {
		case d.Last != nil && d.Passed:
			last = d.Last.Format("2006-01-02") + ", passed"
		case d.Last != nil:
			last = d.Last.Format("2006-01-02") + ", FAILED"
		}
		command := d.Command
		if command == "" {
			command = "not there yet: by hand"
		}
		s.rows = append(s.rows, []string{d.Name, d.Shows, last, command})
	}
	return s
}

func assumed(all []plan.Assume) section {
	s := section{title: "Assumed, because nobody said", head: []string{"field", "assumed", "because"}}
	for _, x := range all {
		s.rows = append(s.rows, []string{x.Field, x.Assumed, x.Because})
	}
	return s
}

func notYet(all []string) section {
	return section{title: "What antipode does not run yet", items: all}
}
