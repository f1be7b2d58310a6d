package drill

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Word says how a drill ended, in one word.
func (rec *Record) Word() string {
	if rec.Passed {
		return "PASSED"
	}
	return "FAILED"
}

// WriteText writes the report for a terminal.
func (rec *Record) WriteText(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  drill %s on %s, %s, %v, %d writes/s\n", rec.Word(), rec.Kind.Name, rec.Region,
		rec.Started.Format("2006-01-02 15:04:05 MST"), rec.For(), rec.Rate)
	fmt.Fprintf(&b, "It %s.\n\n", rec.Kind.Does)
	if err := rec.writeChecks(&b); err != nil {
		return err
	}
	if err := rec.writeTables(&b); err != nil {
		return err
	}
	rec.writeErrors(&b)
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// For is how long the fault lasted.
func (rec *Record) For() time.Duration {
	return time.Duration(float64(rec.ForMS) * float64(time.Millisecond))
}

func (rec *Record) writeChecks(b *strings.Builder) error {
	mark := map[Result]string{Kept: "  ok", Broken: "  NO", NotJudged: "   -"}
	rows := [][]string{{"", "CHECK", "PROMISED", "MEASURED"}}
	for _, c := range rec.Checks {
		rows = append(rows, []string{mark[c.Result], c.Name, c.Promised, c.Measured})
	}
	if err := columns(b, rows); err != nil {
		return err
	}
	for _, c := range rec.Checks {
		if c.Result != Broken {
			continue
		}
		fmt.Fprintf(b, "\n%s:\n", c.Name)
		for _, e := range c.Examples {
			fmt.Fprintf(b, "  %s\n", e)
		}
	}
	b.WriteByte('\n')
	return nil
}

func (rec *Record) writeTables(b *strings.Builder) error {
	rows := [][]string{{"TABLE", "ACKNOWLEDGED", "LOST", "STRANDED", "RPO", "RTO", "DETECT", "DECIDE", "EXECUTE", "PAUSE"}}
	for i := range rec.Figures {
		f := &rec.Figures[i]
		rows = append(rows, []string{
			strings.TrimPrefix(f.Table, tablePrefix), strconv.Itoa(f.Acknowledged), strconv.Itoa(f.Lost), strconv.Itoa(f.Stranded),
			inWords(f.RPOSeen), inWords(f.total()), inWords(f.part(0)), inWords(f.part(1)), inWords(f.part(2)), inWords(&f.Pause),
		})
	}
	return columns(b, rows)
}

func columns(b *strings.Builder, rows [][]string) error {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	var text strings.Builder
	for _, r := range rows {
		text.WriteString(strings.Join(r, "\t") + "\n")
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func (f *Figures) total() *Millis {
	if f.Recovery == nil {
		return nil
	}
	return &f.Recovery.Total
}

// part is detect, decide or execute.
func (f *Figures) part(i int) *Millis {
	if f.Recovery == nil {
		return nil
	}
	return []*Millis{f.Recovery.Detect, f.Recovery.Decide, f.Recovery.Execute}[i]
}

func inWords(m *Millis) string {
	switch {
	case m == nil:
		return "-"
	case *m < 1000:
		return fmt.Sprintf("%.0f ms", *m)
	}
	return fmt.Sprintf("%.2f s", *m/1000)
}

func (rec *Record) writeErrors(b *strings.Builder) {
	for _, s := range rec.Sites {
		if len(s.Errors) == 0 {
			continue
		}
		var parts []string
		for _, kind := range slices.Sorted(maps.Keys(s.Errors)) {
			parts = append(parts, fmt.Sprintf("%d × %s", s.Errors[kind].Count, kind))
		}
		fmt.Fprintf(b, "\nwhat clients of %s were told: %s\n", s.Name, strings.Join(parts, ", "))
	}
}

// Summary gives the figures that a list of drills shows.
func (rec *Record) Summary() (lost int, rpo, rto, broken string) {
	var worstRPO, worstRTO *Millis
	worse := func(a, b *Millis) *Millis {
		if a == nil || b != nil && *b > *a {
			return b
		}
		return a
	}
	for i := range rec.Figures {
		f := &rec.Figures[i]
		lost += f.Lost
		worstRPO, worstRTO = worse(worstRPO, f.RPOSeen), worse(worstRTO, f.total())
	}
	var names []string
	for _, c := range rec.Checks {
		if c.Result == Broken {
			names = append(names, c.Name)
		}
	}
	return lost, inWords(worstRPO), inWords(worstRTO), strings.Join(names, ", ")
}
