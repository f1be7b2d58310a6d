package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// unsettled says what of roles has not come to rest yet; "" when all has.
func (s *simulation) unsettled() string {
	if s.group == nil {
		return ""
	}
	state := s.last()
	for _, name := range state.Members() {
		if state.Regions[name].Lease.Fenced {
			return fmt.Sprintf("%s is fenced still", name)
		}
	}
	for _, id := range sortedKeys(state.Failovers) {
		if f := state.Failovers[id]; f.Cutoff == nil {
			return fmt.Sprintf("failover %d to %s has no cutoff: %v have sealed, %v not", id, f.Successor, sortedKeys(f.Sealed), state.Unsealed(f))
		}
	}
	for _, name := range sortedKeys(state.Tables) {
		for _, home := range sortedKeys(state.Tables[name].Roles) {
			if r := state.Tables[name].Roles[home]; r.Next != "" {
				return fmt.Sprintf("%s of %s is on its way from %s to %s", home, name, r.Holder, r.Next)
			}
		}
	}
	for _, r := range s.order {
		if r.catalog != len(s.catalog)-1 && r.state().Index != state.Index {
			if s.behind(r) {
				return fmt.Sprintf("%s has an old copy of the agreed state", r.name)
			}
		}
		for at, out := range r.books.out {
			if out {
				return fmt.Sprintf("%s does not know what stands in the place of %v", r.name, at)
			}
		}
	}
	return ""
}

// behind reports whether a region's copy lacks more than renewals of leases.
func (s *simulation) behind(r *site) bool {
	here, there := r.state(), s.last()
	if here.LastFailover != there.LastFailover || len(here.Tables) != len(there.Tables) {
		return true
	}
	for name, t := range there.Tables {
		o := here.Tables[name]
		if o == nil {
			return true
		}
		for home, role := range t.Roles {
			if o.Roles[home] != role {
				return true
			}
		}
	}
	return false
}

// checkLiveness: once everything is healed and at rest, every key of every table
// can be written in every region, at once and without another try.
func (s *simulation) checkLiveness() {
	s.lively = true
	for until := s.now() + 3*time.Second; s.now() < until && s.next(); { // clocks are compared again
		s.wake()
	}
	for _, r := range s.order {
		for _, t := range s.kept(r) {
			for _, key := range s.keys(t) {
				o := &operation{region: r.name, table: t, key: key, verb: verbPut, insists: true}
				s.start(o, func() {})
				for s.pending > 0 && len(s.violations) == 0 && s.next() {
					s.wake()
				}
				if o.out != done {
					s.fail("%v is refused, though everything is healed and at rest: %v", o, o.err)
				}
			}
		}
	}
}

// checkVoid: what does not count is listed, in every region that keeps it, and
// nothing else; and a table that promises to lose nothing has lost nothing.
func (s *simulation) checkVoid() {
	if s.group == nil {
		return
	}
	want := map[antipode.Dot]*write{}
	for d, w := range s.writes {
		if s.counts(w) || !w.item() {
			continue
		}
		if _, ok := s.last().TableByID(w.table); !ok {
			continue
		}
		s.count(statVoid)
		want[d] = w
		if w.acked {
			s.count(statVoidAcked)
		}
	}
	s.findUnprotected(want)
	for _, r := range s.order {
		got := map[antipode.Dot]bool{}
		for _, d := range s.listed(r) {
			got[d] = true
		}
		for _, d := range sortedDots(want) {
			w := want[d]
			if w.kind != journal.KindWrite || !slices.Contains(s.tables[w.table].Replicas, r.name) {
				continue
			}
			if !got[d] {
				s.fail("%s (%s, acknowledged: %v) does not count, and %s does not list it as stranded", d, s.tables[w.table].Name, w.acked, r.name)
			}
		}
		for d := range got {
			if want[d] == nil {
				s.fail("%s lists %s as stranded, which counts", r.name, d)
			}
		}
	}
}

func sortedDots[V any](m map[antipode.Dot]V) (out []antipode.Dot) {
	for d := range m {
		out = append(out, d)
	}
	slices.SortFunc(out, compareDots)
	return out
}

// promised reports whether a table promises that a write of it is not lost with
// one region.
func (s *simulation) promised(w *write) bool {
	t := s.tables[w.table]
	if s.ended[w.dot.Origin] && t.Unprotected != control.UnprotectedBlock {
		return false // what was on record of it went with its author's disk
	}
	return t.AckCopies() > 0 && !s.unprotected[w.dot] && !w.bare
}

// findUnprotected looks for what regions have on record as answered without the
// copies that were promised, and checks that nothing else has come to nothing.
func (s *simulation) findUnprotected(void map[antipode.Dot]*write) {
	for _, r := range s.order {
		all, err := r.core.tables.Unprotected(s.ctx)
		if err != nil {
			s.fail("%s: list what was not protected: %v", r.name, err)
		}
		for _, st := range all {
			for d, w := range void {
				if d.Origin == r.origin() && w.table == st.Table && w.stamp >= st.First.Stamp && d.Seq <= st.Upto[d.Shard] &&
					s.tables[w.table].Unprotected != control.UnprotectedBlock {
					s.unprotected[d] = true
				}
			}
		}
	}
	for _, d := range sortedDots(void) {
		if w := void[d]; w.acked && s.promised(w) {
			s.fail("%s of %s was acknowledged and does not count, though nothing of it is to be lost", d, s.tables[w.table].Name)
		}
	}
}

// withinBound checks, as a write is made, that its region has none that is older
// than the table's rpo and that no other region has on its disk.
func (s *simulation) withinBound(c *core, w *write) {
	bound, ok := s.tables[w.table].Bound()
	if !ok || bound == 0 || c.site.jumped {
		return
	}
	for seq := w.dot.Seq - 1; seq > 0; seq-- {
		x := s.writes[antipode.Dot{Origin: w.dot.Origin, Shard: w.dot.Shard, Seq: seq}]
		if x == nil || s.elsewhere(x) {
			return
		}
		if age := s.now() - x.at; x.table == w.table && x.item() && age > bound+200*time.Millisecond {
			s.fail("%s wrote %s of %s, while %s has been nowhere else for %v", c.site.name, w.dot, s.tables[w.table].Name, x.dot, age)
			return
		}
	}
}

// elsewhere reports whether a region other than its author has a write on its disk.
func (s *simulation) elsewhere(w *write) bool {
	for _, r := range s.order {
		if n, ok := r.books.at[w.dot]; ok && r.name != w.dot.Origin.Region && (r.core == nil || r.core.store.durable(n)) {
			return true
		}
	}
	return false
}

// listed returns what a region lists as stranded.
func (s *simulation) listed(r *site) (out []antipode.Dot) {
	all, err := r.core.tables.Stranded(s.ctx, "")
	if err != nil {
		s.fail("%s: list stranded writes: %v", r.name, err)
	}
	for _, w := range all {
		out = append(out, w.Dot)
	}
	return out
}
