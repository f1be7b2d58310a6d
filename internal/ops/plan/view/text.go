package view

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/spec"
)

// Style says how text is to look.
type Style struct {
	Color bool
	Width int // columns; what is less than 60 counts as 60
}

// The colours, as the parameters of ECMA-48's SGR.
const (
	bold    = "1"
	dim     = "2"
	red     = "31"
	green   = "32"
	yellow  = "33"
	magenta = "35"
	cyan    = "36"
)

func (s Style) paint(color, text string) string {
	if !s.Color || text == "" || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func (s Style) width() int { return max(60, s.Width) }

// strategyColor goes from calm to dear.
func strategyColor(s plan.Strategy) string {
	switch s {
	case plan.SingleRegion, plan.BackupRestore:
		return green
	case plan.PilotLight:
		return cyan
	case plan.WarmStandby:
		return yellow
	default:
		return magenta
	}
}

func stateColor(state string) string {
	switch state {
	case plan.Proven:
		return green
	case plan.Broken:
		return red
	default:
		return dim
	}
}

// page collects lines.
type page struct {
	Style
	b strings.Builder
}

func (p *page) line(format string, args ...any) {
	p.b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// wrapped writes a label and text behind it, on as many lines as it takes; those
// after the first are a step further in.
func (p *page) wrapped(indent int, label, color, text string) {
	const step = 2
	lead := strings.Repeat(" ", indent) + p.paint(color, label)
	// The first line has the label's room less.
	filler := strings.Repeat("x", max(0, utf8.RuneCountInString(label)-step))
	for i, l := range wrap(filler+text, p.width()-indent-step) {
		if i == 0 {
			p.line("%s%s", lead, strings.TrimPrefix(l, filler))
			lead = strings.Repeat(" ", indent+step)
			continue
		}
		p.line("%s%s", lead, l)
	}
}

// wrap breaks text at blanks; a word that is too long stays whole.
func wrap(text string, width int) []string {
	var out []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			out, line = append(out, line), word
		default:
			line += " " + word
		}
	}
	if line != "" {
		out = append(out, line)
	}
	return out
}

// cell is text in a table with its colour.
type cell struct{ text, color string }

func plain(texts ...string) []cell {
	out := make([]cell, len(texts))
	for i, t := range texts {
		out[i] = cell{text: t}
	}
	return out
}

// table writes rows in columns. The last column is wrapped to what is left of
// the width; so is the widest other one where that leaves too little.
func (p *page) table(indent int, rows [][]cell) {
	if len(rows) == 0 {
		return
	}
	const gap, least = 2, 12
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	total := func() int {
		sum := indent - gap
		for _, w := range widths {
			sum += w + gap
		}
		return sum
	}
	for total() > p.width() {
		i := slices.Index(widths, slices.Max(widths))
		if widths[i] <= least {
			break
		}
		widths[i] = max(least, widths[i]-(total()-p.width()))
	}
	for _, row := range rows {
		wrappedCells := make([][]string, len(row))
		height := 1
		for i, c := range row {
			wrappedCells[i] = wrap(c.text, widths[i])
			height = max(height, len(wrappedCells[i]))
		}
		for n := range height {
			var b strings.Builder
			b.WriteString(strings.Repeat(" ", indent))
			for i, c := range row {
				text := ""
				if n < len(wrappedCells[i]) {
					text = wrappedCells[i][n]
				}
				b.WriteString(p.paint(c.color, text))
				if i < len(row)-1 {
					b.WriteString(strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(text))+gap))
				}
			}
			p.line("%s", b.String())
		}
	}
}

// Text is the report on one screen. Source is shown before lines of lints, such
// as antipode.yaml.
func Text(r *plan.Report, source string, style Style) string {
	p := &page{Style: style}
	p.line("%s %s", p.paint(bold, "Do you need active-active?"), Verdict(r))
	p.line("")
	p.summary(r)
	for i := range r.Data {
		if r.Data[i].Asked {
			p.dataSet(r, &r.Data[i])
		}
	}
	p.lints(r, source)
	p.line("")
	for _, f := range firstOfAll(r) {
		p.wrapped(0, "First of all: ", dim, f)
	}
	p.rest(r)
	return p.b.String()
}

func (p *page) summary(r *plan.Report) {
	rows := [][]cell{plain("DATA", "STRATEGY", "WRITES", "RPO", "RTO", "AVAILABLE", strings.ToUpper(r.Currency)+"/MONTH", "")}
	for i := range r.Data {
		a := &r.Data[i]
		if !a.Asked {
			rows = append(rows, []cell{{a.Name, bold}, {"nothing was asked", dim}, {}, {}, {}, {}, {}, {}})
			continue
		}
		rows = append(rows, []cell{
			{a.Name, bold},
			{string(a.Strategy), strategyColor(a.Strategy)},
			{orDash(writes(a)), ""},
			{short(a.RPO), stateColor(a.RPO.State)},
			{short(a.RTO), stateColor(a.RTO.State)},
			{percent(a.Availability.Today), ""},
			{money(a.Cost.Month), ""},
			{times(a.Cost.Factor), dim},
		})
	}
	p.table(0, rows)
	if len(r.Data) > 1 && r.MonthOne > 0 {
		p.line("All together %s %s a month; in one region it would be %s.", money(r.Month), r.Currency, money(r.MonthOne))
	}
}

// short is a promise in a cell.
func short(p plan.Promise) string { return bound(p) + ", " + p.State }

func (p *page) dataSet(r *plan.Report, a *plan.Answer) {
	p.line("")
	p.wrapped(0, a.Name+": ", bold, a.Why)
	for _, x := range a.Impossible {
		if strings.Contains(a.Why, trimStop(x.Because)) {
			continue // told already
		}
		p.wrapped(2, "not possible: ", red, fmt.Sprintf("%s, because %s. Nearest possible: %s", x.Wish, trimStop(x.Because), x.Nearest))
	}
	if s, misses := cheaper(a); s != "" && !strings.Contains(a.Why, misses) {
		p.wrapped(2, "not "+string(s)+": ", dim, misses)
	}
	if text := worstLatency(a); text != "" {
		p.wrapped(2, "latency: ", dim, text)
	}
	if a.Cost.Note != "" && a.Cost.Worth != nil {
		p.wrapped(2, "money: ", dim, a.Cost.Note)
	}
	if len(a.Sensitive) > 0 {
		p.wrapped(2, "would change it: ", dim, change(r, a.Sensitive[0]))
	}
}

// firstOfAll is what is to be done first, each with the data sets it is for, unless
// that is all of them.
func firstOfAll(r *plan.Report) []string {
	var order []string
	who := map[string][]string{}
	asked := 0
	for _, a := range r.Data {
		if a.Asked {
			asked++
		}
		for _, f := range a.First {
			if who[f] == nil {
				order = append(order, f)
			}
			who[f] = append(who[f], a.Name)
		}
	}
	for i, f := range order {
		if len(who[f]) < asked {
			order[i] = fmt.Sprintf("%s (%s)", f, strings.Join(who[f], ", "))
		}
	}
	return order
}

// near is a latency that nobody sees.
const near = spec.Duration(5 * time.Millisecond)

// worstLatency tells of the group that waits longest for a read, and of that for a
// write; nothing where nobody waits.
func worstLatency(a *plan.Answer) string {
	var parts []string
	for _, write := range []bool{false, true} {
		var worst plan.Path
		who := ""
		for _, l := range a.Latency {
			path := l.Read
			if write {
				path = l.Write
			}
			if len(path.Via) > 0 && (who == "" || path.Estimate > worst.Estimate) {
				worst, who = path, l.Users
			}
		}
		if who == "" || worst.Estimate < near && !worst.Over {
			continue
		}
		verb := "reads"
		if write {
			verb = "writes"
		}
		text := fmt.Sprintf("%s up to %s (%s; light alone %s)", verb, plan.Span(worst.Estimate), who, plan.Span(worst.Floor))
		if worst.Over {
			text += fmt.Sprintf(", over the budget of %s", span(worst.Budget, "-"))
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// mostLints is how many a screen shows.
const mostLints = 6

func (p *page) lints(r *plan.Report, source string) {
	if len(r.Lints) == 0 {
		return
	}
	p.line("")
	p.line("%s", p.paint(bold, "What contradicts itself:"))
	for i, group := range grouped(r.Lints) {
		if i == mostLints {
			p.line("  and more; see -o json or -o md")
			break
		}
		l := group[0]
		color := yellow
		if l.Severity == plan.Error {
			color = red
		}
		text := Place(l, source) + l.Message
		var also []string
		for _, other := range group[1:] {
			also = append(also, orDash(other.Data))
		}
		if len(also) > 0 {
			text += " (so for " + strings.Join(also, ", ") + ")"
		}
		p.wrapped(2, l.Severity+" ", color, text)
		p.wrapped(4, "fix: ", dim, l.Fix)
	}
}

// grouped puts lints of one rule together, errors first.
func grouped(all []plan.Lint) [][]plan.Lint {
	var out [][]plan.Lint
	for _, l := range all {
		i := slices.IndexFunc(out, func(g []plan.Lint) bool { return g[0].Rule == l.Rule && g[0].Severity == l.Severity })
		if i < 0 {
			out = append(out, nil)
			i = len(out) - 1
		}
		out[i] = append(out[i], l)
	}
	slices.SortStableFunc(out, func(a, b []plan.Lint) int { return severity(a[0]) - severity(b[0]) })
	return out
}

func severity(l plan.Lint) int {
	if l.Severity == plan.Error {
		return 0
	}
	return 1
}

// Place says where a lint's cause stands, with a colon, or nothing.
func Place(l plan.Lint, source string) string {
	switch {
	case l.Line > 0:
		return fmt.Sprintf("%s:%d:%d: ", source, l.Line, l.Column)
	case l.Data != "":
		return l.Data + ": "
	}
	return ""
}

// rest is what concerns all data sets.
func (p *page) rest(r *plan.Report) {
	var unproven []string
	count := len(r.Assumed)
	for _, a := range r.Data {
		count += len(a.Assumed)
		for _, d := range a.Drills {
			if d.Command != "" && !d.Passed && !slices.Contains(unproven, d.Command) {
				unproven = append(unproven, d.Command)
			}
		}
	}
	if len(unproven) > 0 {
		text := "`" + unproven[0] + "` passes"
		if n := len(unproven) - 1; n > 0 {
			text = fmt.Sprintf("`%s` and %s pass", unproven[0], counted(n, "more drill"))
		}
		p.wrapped(0, "Unproven until: ", yellow, text)
	}
	if len(r.NotYet) > 0 {
		text := r.NotYet[0]
		if n := len(r.NotYet) - 1; n > 0 {
			text += fmt.Sprintf(" (and %d more)", n)
		}
		p.wrapped(0, "Not there yet: ", dim, text)
	}
	if count > 0 {
		fields := []string{}
		for _, x := range r.Assumed {
			fields = append(fields, x.Field+" "+x.Assumed)
		}
		text := counted(count, "answer") + " that nobody gave"
		if len(fields) > 0 {
			text += ", such as " + strings.Join(fields[:min(2, len(fields))], ", ")
		}
		p.wrapped(0, "Assumed: ", dim, text+"; --why NAME lists those of a data set")
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Why is the whole reasoning about one data set.
func Why(r *plan.Report, a *plan.Answer, style Style) string {
	p := &page{Style: style}
	p.line("%s: %s", p.paint(bold, a.Name), p.paint(strategyColor(a.Strategy), string(a.Strategy)))
	for _, s := range reasoning(r, a) {
		p.line("")
		p.line("%s", p.paint(bold, s.title))
		for _, l := range s.lines {
			p.wrapped(2, "", "", l)
		}
		for _, l := range s.items {
			p.wrapped(2, "- ", dim, l)
		}
		if len(s.rows) > 0 {
			rows := [][]cell{}
			if s.title != "The answer" { // its rows speak for themselves
				head := plain(s.head...)
				for i := range head {
					head[i].color = dim
				}
				rows = append(rows, head)
			}
			for _, row := range s.rows {
				rows = append(rows, plain(row...))
			}
			p.table(2, rows)
		}
	}
	return p.b.String()
}
