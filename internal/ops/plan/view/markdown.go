package view

import (
	"fmt"
	"strings"

	"github.com/antipode-io/antipode/internal/ops/plan"
)

// Markdown is the whole report, for a wiki or a pull request.
func Markdown(r *plan.Report, source string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Do you need active-active?\n\n%s\n", escape(Verdict(r)))
	var rows [][]string
	for i := range r.Data {
		a := &r.Data[i]
		if !a.Asked {
			rows = append(rows, []string{a.Name, "nothing was asked", "", "", "", "", ""})
			continue
		}
		rows = append(rows, []string{
			a.Name, string(a.Strategy), writes(a), short(a.RPO), short(a.RTO), percent(a.Availability.Today),
			fmt.Sprintf("%s (%s)", money(a.Cost.Month), times(a.Cost.Factor)),
		})
	}
	b.WriteString(markdownTable([]string{"data", "strategy", "writes", "RPO", "RTO", "available", r.Currency + " a month"}, rows))
	line("\nAll together %s %s a month; in one region it would be %s.", money(r.Month), r.Currency, money(r.MonthOne))
	if len(r.Lints) > 0 {
		line("\n## What contradicts itself\n")
		for _, l := range r.Lints {
			line("- **%s** %s\n  Fix: %s", l.Severity, escape(Place(l, source)+l.Message), escape(l.Fix))
		}
	}
	for i := range r.Data {
		a := &r.Data[i]
		if !a.Asked {
			continue
		}
		line("\n## %s: %s", escape(a.Name), a.Strategy)
		for _, s := range reasoning(r, a) {
			markdownSection(&b, s)
		}
	}
	for _, s := range []section{assumed(r.Assumed), notYet(r.NotYet)} {
		if len(s.rows)+len(s.items) > 0 {
			s.title += " (all data)"
			markdownSection(&b, s)
		}
	}
	return b.String()
}

func markdownSection(b *strings.Builder, s section) {
	fmt.Fprintf(b, "\n### %s\n", s.title)
	for _, l := range s.lines {
		fmt.Fprintf(b, "\n%s\n", escape(l))
	}
	if len(s.items) > 0 {
		b.WriteByte('\n')
	}
	for _, l := range s.items {
		fmt.Fprintf(b, "- %s\n", escape(l))
	}
	if len(s.rows) > 0 {
		b.WriteString("\n" + markdownTable(s.head, s.rows))
	}
}

func markdownTable(head []string, rows [][]string) string {
	var b strings.Builder
	write := func(cells []string) {
		for _, c := range cells {
			b.WriteString("| " + escape(c) + " ")
		}
		b.WriteString("|\n")
	}
	write(head)
	b.WriteString(strings.Repeat("|---", len(head)) + "|\n")
	for _, r := range rows {
		write(r)
	}
	return b.String()
}

// escape keeps what Markdown and HTML would take as theirs.
func escape(s string) string {
	return strings.NewReplacer("\\", "\\\\", "|", "\\|", "<", "&lt;", ">", "&gt;", "*", "\\*", "_", "\\_", "`", "\\`", "\n", " ").Replace(s)
}
