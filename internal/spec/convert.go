package spec

import (
	"slices"

	"github.com/antipode-io/antipode/internal/control"
)

// ControlRegions returns the regions as the control group keeps them, in the
// file's order.
func (s *Spec) ControlRegions() []control.Region {
	out := make([]control.Region, len(s.Regions))
	for i, r := range s.Regions {
		out[i] = control.Region{Name: r.Name, Location: r.Location.String(), Witness: r.Witness, Journal: r.Journal}
	}
	return out
}

// ControlTables returns the tables as the control group keeps them, in the
// file's order. ID, epoch and time of creation are the group's to give.
func (s *Spec) ControlTables() []control.Table {
	out := make([]control.Table, len(s.Tables))
	for i, t := range s.Tables {
		c := control.Table{
			Name: t.Name, Partition: control.KeyAttribute(t.Key.Partition),
			Writes: t.Writes, Writer: t.Writer, Rule: t.Rule, Priority: slices.Clone(t.Priority),
			Replicas: slices.Sorted(slices.Values(t.Replicas)), FromSpec: true,
			Copies: t.RPOCopies, Unprotected: t.Unprotected,
			Failover: t.Failover, Successors: slices.Clone(t.Successors), Return: t.Return,
		}
		if t.Key.Sort != nil {
			k := control.KeyAttribute(*t.Key.Sort)
			c.Sort = &k
		}
		c.HomeBy, c.HomeAttr = t.Home.Split()
		if t.RPO != nil {
			c.RPO = t.RPO.String()
		}
		out[i] = c
	}
	return out
}
