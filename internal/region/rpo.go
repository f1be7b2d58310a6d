package region

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

// Unprotected tells how far this region keeps what its tables promise about the
// loss of a region.
func (r *Region) Unprotected(ctx context.Context) (operator.ProtectionStatus, error) {
	out := operator.ProtectionStatus{Region: r.cfg.Name, Tables: []operator.TableProtection{}}
	d := r.data.Load()
	if d == nil {
		return out, nil
	}
	now, err := d.tables.Protection(ctx)
	if err != nil {
		return out, told(err)
	}
	stretches, err := d.tables.Unprotected(ctx)
	if err != nil {
		return out, told(err)
	}
	at := make(map[antipode.TableID]int)
	for _, p := range now {
		t := operator.TableProtection{
			Name: p.Table.Name, RPO: p.Table.RPO, Copies: p.Table.AckCopies(), OldestMS: p.Oldest.Milliseconds(), Missing: p.Missing,
			Unprotected: []operator.UnprotectedStretch{},
		}
		if t.Copies > 0 {
			t.Policy = cmp.Or(p.Table.Unprotected, control.UnprotectedDegrade)
		}
		at[p.Table.ID] = len(out.Tables)
		out.Tables = append(out.Tables, t)
	}
	for _, s := range stretches {
		i, ok := at[s.Table]
		if !ok { // the table was deleted: its record stays
			i = len(out.Tables)
			at[s.Table] = i
			out.Tables = append(out.Tables, operator.TableProtection{Name: s.Name + " (deleted)", RPO: "0s", Copies: s.Copies})
		}
		out.Tables[i].Unprotected = append(out.Tables[i].Unprotected, describeStretch(s))
	}
	slices.SortStableFunc(out.Tables, func(a, b operator.TableProtection) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func describeStretch(s table.Stretch) operator.UnprotectedStretch {
	write := func(u table.Unprotected) operator.UnprotectedWrite {
		return operator.UnprotectedWrite{Dot: u.Dot, Stamp: u.Stamp.String(), At: u.Stamp.Time().UTC()}
	}
	out := operator.UnprotectedStretch{First: write(s.First), Last: write(s.Last), Writes: s.Writes}
	if !s.Open {
		ended := time.UnixMilli(s.Ended).UTC()
		out.Ended = &ended
	}
	return out
}
