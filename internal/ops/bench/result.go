package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/antipode-io/antipode"
)

// Result is what a run measured. All figures are of the measured part.
type Result struct {
	Table     string            `json:"table"`
	Workload  Workload          `json:"workload"`
	Regions   []antipode.Region `json:"regions"` // that got load
	Clients   int               `json:"clients"`
	ItemBytes int               `json:"item_bytes"`
	Keys      int               `json:"keys"`
	Rate      float64           `json:"rate"`       // asked for, operations per second; 0: as fast as answers come
	Seconds   float64           `json:"duration_s"` // until the last answer that counts

	Acknowledged int64   `json:"acknowledged"` // operations answered with success
	PerSecond    float64 `json:"per_second"`   // of them
	Write        *Stats  `json:"write,omitempty"`
	Read         *Stats  `json:"read,omitempty"`
	// Behind counts operations that the rate asked for and that were never sent,
	// since all clients were still waiting: the latencies lack them.
	Behind int64                 `json:"behind,omitempty"`
	Errors map[string]ErrorCount `json:"errors,omitempty"` // by type
	Lag    []Lag                 `json:"lag,omitempty"`
	Fsync  *Stats                `json:"fsync,omitempty"` // of one small append on the disk probed
}

// Lag is how long writes acknowledged by From took to be seen at To.
type Lag struct {
	From     antipode.Region `json:"from"`
	To       antipode.Region `json:"to"`
	FromAck  Stats           `json:"from_ack"`  // counted from the acknowledgement
	FromSend Stats           `json:"from_send"` // counted from the sending of the write
	Unseen   int64           `json:"unseen"`    // given up
	Skipped  int64           `json:"skipped"`   // never written: too many were under way, over all pairs
}

func (r *run) result() Result {
	cfg := &r.cfg
	res := Result{
		Table: cfg.Table, Workload: cfg.Workload, Clients: cfg.Clients, ItemBytes: cfg.ItemBytes,
		Keys: cfg.Keys, Rate: cfg.Rate, Errors: r.errors.kinds,
	}
	for _, i := range r.driven() {
		res.Regions = append(res.Regions, r.targets[i].Region)
	}
	writes, reads, end := newRecorder(), newRecorder(), r.window.end
	for _, w := range r.workers {
		if w.writes != nil {
			writes.merge(w.writes)
		}
		if w.reads != nil {
			reads.merge(w.reads)
		}
		res.Behind += w.behind
		end = maxTime(end, w.last)
	}
	res.Seconds = end.Sub(r.window.start).Seconds()
	if cfg.Workload != Read {
		s := writes.stats()
		res.Write, res.Acknowledged = &s, res.Acknowledged+s.Count
	}
	if cfg.Workload != Write {
		s := reads.stats()
		res.Read, res.Acknowledged = &s, res.Acknowledged+s.Count
	}
	res.PerSecond = float64(res.Acknowledged) / res.Seconds
	for _, p := range r.pairs {
		res.Lag = append(res.Lag, Lag{
			From: r.targets[p.from].Region, To: r.targets[p.to].Region,
			FromAck: p.fromAck.stats(), FromSend: p.fromSend.stats(), Unseen: p.unseen, Skipped: r.lag.skipped,
		})
	}
	if r.fsync != nil {
		s := r.fsync.stats()
		res.Fsync = &s
	}
	return res
}

// WriteText writes the result for people.
func (r Result) WriteText(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %d clients on %s, %d-byte items, %d keys, %s, %.1f s\n\n", r.Table, r.Workload, r.Clients,
		join(r.Regions), r.ItemBytes, r.Keys, loop(r.Rate), r.Seconds)
	fmt.Fprintf(&b, "%.0f acknowledged operations per second (%d in all)\n\n", r.PerSecond, r.Acknowledged)
	if err := r.writeTable(&b); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	r.writeRemarks(&b)
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func (r Result) writeTable(out io.Writer) error {
	var rows strings.Builder
	row := func(name string, s Stats) {
		fmt.Fprintf(&rows, "%s\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t\n", name, s.Count, s.P50, s.P99, s.P999, s.Max)
	}
	rows.WriteString("milliseconds\tcount\tp50\tp99\tp99.9\tmax\t\n")
	if r.Write != nil {
		row("write", *r.Write)
	}
	if r.Read != nil {
		row("read", *r.Read)
	}
	for _, l := range r.Lag {
		row(fmt.Sprintf("lag %s to %s, from acknowledgement", l.From, l.To), l.FromAck)
		row(fmt.Sprintf("lag %s to %s, from sending", l.From, l.To), l.FromSend)
	}
	if r.Fsync != nil {
		row("one fsync", *r.Fsync)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	if _, err := io.WriteString(table, rows.String()); err != nil {
		return err
	}
	return table.Flush()
}

// writeRemarks adds what puts the figures in doubt.
func (r Result) writeRemarks(b *strings.Builder) {
	if r.Behind > 0 {
		fmt.Fprintf(b, "\nThe rate was not kept: %d operations were never sent. Lower the rate or add clients.\n", r.Behind)
	}
	skipped := int64(0)
	for _, l := range r.Lag {
		if l.Unseen > 0 {
			fmt.Fprintf(b, "\n%d writes acknowledged by %s were not seen at %s in time; the lag above lacks them.\n", l.Unseen, l.From, l.To)
		}
		skipped = l.Skipped
	}
	if skipped > 0 {
		fmt.Fprintf(b, "\n%d lag samples were skipped, since %d were under way already.\n", skipped, maxInFlight)
	}
	if len(r.Errors) == 0 {
		fmt.Fprintf(b, "\nno errors\n")
		return
	}
	fmt.Fprintf(b, "\nerrors:\n")
	for _, name := range slices.Sorted(maps.Keys(r.Errors)) {
		e := r.Errors[name]
		fmt.Fprintf(b, "  %d × %s, the first: %s\n", e.Count, name, e.First)
	}
}

func join(regions []antipode.Region) string {
	names := make([]string, len(regions))
	for i, r := range regions {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

func loop(rate float64) string {
	if rate == 0 {
		return "closed loop"
	}
	return fmt.Sprintf("%.0f/s asked for", rate)
}
