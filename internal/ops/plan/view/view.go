// Package view shows a plan: as text for a terminal, as Markdown, and as one
// web page that needs nothing else, with a map and a picture of the ladder of
// strategies. All that it shows is in the plan.Report.
//
// Its functions are pure and may be called concurrently.
package view

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/spec"
)

// Verdict answers the question of all questions in a line.
func Verdict(r *plan.Report) string {
	var need []string
	asked := 0
	for _, a := range r.Data {
		if !a.Asked {
			continue
		}
		asked++
		if a.Strategy == plan.ActiveActive {
			need = append(need, a.Name)
		}
	}
	switch {
	case asked == 0:
		return "Nobody has said yet what the data has to survive."
	case len(need) == 0 && asked == 1:
		return "No."
	case len(need) == 0:
		return fmt.Sprintf("No: something cheaper does for each of the %d data sets.", asked)
	case len(need) == asked && asked == 1:
		return "Yes."
	case len(need) == asked:
		return fmt.Sprintf("Yes, for all %d data sets.", asked)
	}
	return fmt.Sprintf("For %d of %d data sets: %s.", len(need), asked, strings.Join(need, ", "))
}

// writes says how a data set is written, and where.
func writes(a *plan.Answer) string {
	var where string
	switch {
	case a.Writes == "":
		return "-"
	case a.Writes == antipode.WriteGlobal && a.Writer != "":
		where = " in " + string(a.Writer)
	case a.Writes == antipode.WritePartitioned && a.Home != "":
		where = " by " + a.Home
	case a.Writes == antipode.WriteLocal && a.Rule != "":
		where = ", " + string(a.Rule)
	}
	return string(a.Writes) + where
}

// bound writes what is promised.
func bound(p plan.Promise) string {
	if p.Promised == nil {
		return "no bound"
	}
	return plan.Span(*p.Promised)
}

// proof says how a promise fared in drills.
func proof(p plan.Promise) string {
	if p.Measured == nil {
		return p.State
	}
	text := fmt.Sprintf("%s: measured %s", p.State, plan.Span(*p.Measured))
	if p.Date != nil {
		text += " on " + p.Date.Format("2 January 2006")
	}
	return text
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func span(d *spec.Duration, otherwise string) string {
	if d == nil {
		return otherwise
	}
	return plan.Span(*d)
}

// money writes an amount without cents, in groups of three digits.
func money(f float64) string {
	digits := strconv.FormatFloat(math.Abs(math.Round(f)), 'f', 0, 64)
	if f > 0 && f < 10 && f != math.Round(f) {
		return strconv.FormatFloat(f, 'f', 2, 64)
	}
	var b strings.Builder
	if f <= -0.5 {
		b.WriteByte('-')
	}
	for i, r := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func times(f float64) string { return "×" + strconv.FormatFloat(f, 'f', 2, 64) }

// percent keeps as many digits as it takes to tell nines apart.
func percent(f float64) string {
	text := strconv.FormatFloat(f, 'f', 4, 64)
	text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	return text + " %"
}

func minutes(f float64) string {
	switch {
	case f < 0.1:
		return "no minute"
	case f < 10:
		return strconv.FormatFloat(f, 'f', 1, 64) + " min"
	case f < 120:
		return strconv.FormatFloat(f, 'f', 0, 64) + " min"
	}
	return strconv.FormatFloat(f/60, 'f', 0, 64) + " h"
}

// share writes a part of 1.
func share(f float64) string { return strconv.FormatFloat(100*f, 'f', 0, 64) + " %" }

func names[S ~string](all []S) string {
	out := make([]string, len(all))
	for i, n := range all {
		out[i] = string(n)
	}
	return strings.Join(out, ", ")
}

// absent reports whether a strategy can't be had at all for a data set, so that
// nothing can be reckoned.
func absent(r *plan.Rung) bool { return !r.Meets && !r.Chosen && r.Cost.Month == 0 }

// cheaper is the dearest strategy below the chosen one that does not do, with
// what it misses first; it is what people ask about.
func cheaper(a *plan.Answer) (plan.Strategy, string) {
	for _, r := range slices.Backward(a.Ladder) {
		if !r.Chosen && !r.Meets && len(r.Misses) > 0 && rank(r.Strategy) < rank(a.Strategy) {
			return r.Strategy, r.Misses[0]
		}
	}
	return "", ""
}

func rank(s plan.Strategy) int { return slices.Index(strategies(), s) }

func strategies() []plan.Strategy {
	return []plan.Strategy{plan.SingleRegion, plan.BackupRestore, plan.PilotLight, plan.WarmStandby, plan.ActiveActive}
}
