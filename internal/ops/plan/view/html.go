package view

import (
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode/internal/ops/plan"
)

//go:embed page.html.tmpl
var pageText string

// Page is what a page says besides the report.
type Page struct {
	Source   string // the file it was made from
	Made     time.Time
	Measured []plan.RoundTrip // that the report was made with
}

// HTML is the report as one page that needs nothing else.
func HTML(r *plan.Report, about Page) (string, error) {
	t, err := template.New("plan").Parse(pageText)
	if err != nil {
		return "", fmt.Errorf("write the page: %w", err)
	}
	var b strings.Builder
	if err := t.Execute(&b, newWebPage(r, about)); err != nil {
		return "", fmt.Errorf("write the page: %w", err)
	}
	return b.String(), nil
}

// webPage is what the template shows.
type webPage struct {
	Page

	Verdict  string
	Needed   bool // by at least one data set
	Money    string
	Map      *chart
	Answers  []webAnswer
	Silent   []string // tables of which nothing was asked
	Lints    []webLint
	Sections []webSection // of all data sets together
}

type webAnswer struct {
	Name, Strategy, Writes, Why string
	Figures                     []figure
	Impossible                  []string
	Rungs                       []webRung
	Hints                       []hint
	Sections                    []webSection
}

// figure is one number in large.
type figure struct{ Name, Value, Remark, Class string }

type hint struct{ Label, Text string }

// mostMisses is how many a step of the ladder has room for; the reasoning has all.
const mostMisses = 3

// webRung is a step of the ladder; Height is per cent of the room there is.
type webRung struct {
	Strategy, Cost, RPO, RTO, Class, Verdict string
	Height                                   float64
	Misses                                   []string
	More                                     int // misses that are not shown
}

type webSection struct {
	Title string
	Lines []string
	Items []string
	Head  []string
	Rows  [][]string
}

type webLint struct{ Severity, Place, Message, Fix string }

func newWebPage(r *plan.Report, about Page) *webPage {
	p := &webPage{Page: about, Verdict: Verdict(r), Map: newChart(r, about.Measured)}
	for i := range r.Data {
		a := &r.Data[i]
		if !a.Asked {
			p.Silent = append(p.Silent, a.Name)
			continue
		}
		p.Needed = p.Needed || a.Strategy == plan.ActiveActive
		p.Answers = append(p.Answers, newWebAnswer(r, a))
	}
	if r.MonthOne > 0 {
		p.Money = fmt.Sprintf("All together %s %s a month; in one region it would be %s.", money(r.Month), r.Currency, money(r.MonthOne))
	}
	for _, l := range r.Lints {
		p.Lints = append(p.Lints, webLint{l.Severity, strings.TrimSuffix(Place(l, about.Source), ": "), l.Message, l.Fix})
	}
	p.Sections = webSections([]section{assumed(r.Assumed), notYet(r.NotYet)})
	return p
}

func webSections(all []section) []webSection {
	var out []webSection
	for _, s := range all {
		if len(s.lines)+len(s.items)+len(s.rows) > 0 {
			out = append(out, webSection{s.title, s.lines, s.items, s.head, s.rows})
		}
	}
	return out
}

func newWebAnswer(r *plan.Report, a *plan.Answer) webAnswer {
	out := webAnswer{Name: a.Name, Strategy: string(a.Strategy), Writes: writes(a), Why: a.Why, Sections: webSections(reasoning(r, a))}
	out.Figures = []figure{
		{"RPO", bound(a.RPO), proof(a.RPO), a.RPO.State},
		{"RTO", bound(a.RTO), proof(a.RTO), a.RTO.State},
		{"available", percent(a.Availability.Today), minutes(a.Availability.MinutesToday) + " a year down", ""},
		{r.Currency + " a month", money(a.Cost.Month), times(a.Cost.Factor) + " of one region", ""},
	}
	told := *a
	told.Impossible = slices.DeleteFunc(slices.Clone(a.Impossible), func(x plan.Impossible) bool { return strings.Contains(a.Why, trimStop(x.Because)) })
	out.Impossible = impossible(&told).items
	top := 0.0
	for _, x := range a.Ladder {
		top = max(top, x.Cost.Month)
	}
	for _, x := range a.Ladder {
		w := webRung{Strategy: string(x.Strategy), Cost: money(x.Cost.Month), RPO: span(x.RPO, "no bound"), RTO: span(x.RTO, "no bound"), Misses: x.Misses}
		if len(w.Misses) > mostMisses {
			w.Misses, w.More = w.Misses[:mostMisses], len(w.Misses)-mostMisses
		}
		if top > 0 {
			w.Height = math.Round(75 * x.Cost.Month / top) // the rest is for the amount above it
		}
		switch {
		case absent(&x):
			w.Class, w.Verdict, w.Cost, w.RPO, w.RTO = "misses", "not possible", "-", "-", "-"
		case x.Chosen:
			w.Class, w.Verdict = "chosen", "advised"
		case x.Meets:
			w.Class, w.Verdict = "meets", "does, too"
		default:
			w.Class, w.Verdict = "misses", "not enough"
		}
		out.Rungs = append(out.Rungs, w)
	}
	if text := worstLatency(a); text != "" {
		out.Hints = append(out.Hints, hint{"latency", text})
	}
	if a.Cost.Note != "" {
		out.Hints = append(out.Hints, hint{"money", a.Cost.Note})
	}
	for _, f := range a.First {
		out.Hints = append(out.Hints, hint{"first", f})
	}
	for _, x := range a.Sensitive {
		out.Hints = append(out.Hints, hint{"would change it", change(r, x)})
	}
	return out
}
