package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/replica/collision"
)

// everything is the frontier of all that was written and not lost.
func (s *simulation) everything() map[antipode.Shard]antipode.Frontier {
	out := map[antipode.Shard]antipode.Frontier{}
	for d := range s.writes {
		if s.ended[d.Origin] && !s.held(d, nil) {
			continue
		}
		out[d.Shard] = out[d.Shard].With(d.Origin, d.Seq)
	}
	return out
}

// unequal says what has not arrived or come to rest yet; "" when all has.
func (s *simulation) unequal() string {
	all := s.everything()
	for _, r := range s.order {
		c := r.core
		switch {
		case c == nil:
			return fmt.Sprintf("%s is down", r.name)
		case r.filling:
			return fmt.Sprintf("%s lost its disk and has not everything back", r.name)
		case c.ship.Waiting() > 0:
			return fmt.Sprintf("%d bytes of entries wait in %s", c.ship.Waiting(), r.name)
		case !c.store.durable(c.store.wanted()):
			return fmt.Sprintf("%s waits for its disk", r.name)
		}
		for _, id := range sortedKeys(all) {
			if members := s.members(id); slices.Contains(members, r.name) && !r.books.applied[id].Covers(all[id]) {
				return fmt.Sprintf("%s has %v of %s, there is %v", r.name, r.books.applied[id], id, all[id])
			}
		}
	}
	for _, r := range s.order {
		if why := s.unfinished(r); why != "" {
			return why
		}
	}
	return ""
}

// members lists who keeps the shard.
func (s *simulation) members(id antipode.Shard) []antipode.Region {
	for _, t := range s.tables {
		if t.Shards() == id.Set() {
			return s.keepers(t)
		}
	}
	return nil
}

// keepers lists who keeps a table's journals.
func (s *simulation) keepers(t *control.Table) []antipode.Region {
	if s.cfg.Journaling {
		return append(slices.Clone(t.Replicas), witness)
	}
	return t.Replicas
}

// unfinished says what a region still has to find out to be stable.
func (s *simulation) unfinished(r *site) (why string) {
	for _, t := range s.kept(r) {
		if t.Writes == antipode.WriteLocal {
			err := r.core.tables.Collisions(t, func(k table.Collision) bool {
				if !k.Final {
					why = fmt.Sprintf("a collision of %s/%s is not final in %s", t.Name, k.Key.Partition, r.name)
				}
				return why == ""
			})
			if err != nil {
				s.fail("list collisions of %s in %s: %v", t.Name, r.name, err)
			}
		}
		for at, all := range s.items(r, t) {
			if v, _ := collision.Visible(all, t.Rule, t.Priority); v.Delete && why == "" {
				sh := r.core.log.Shard(v.Dot.Shard)
				why = fmt.Sprintf("the tombstone %s of %s/%q is still in %s: stable is %v of %v", v.Dot, t.Name, at.key, r.name, sh.Stable(t.Replicas), sh.Applied())
				for _, m := range t.Replicas {
					why += fmt.Sprintf(", %s reported %v", m, sh.Held(m))
				}
			}
		}
	}
	if why == "" {
		why = s.unpurged(r)
	}
	return why
}

// unpurged looks for rows of a deleted table, but for journal entries.
func (s *simulation) unpurged(r *site) (why string) {
	state := r.state()
	err := eachRow(r.core.store, nil, nil, func(key, _ []byte) error {
		if !slices.Contains([]byte{rowItem, rowHistory, rowCollision, rowGrant}, key[0]) || len(key) < 5 {
			return nil
		}
		if id := antipode.TableID(binary.BigEndian.Uint32(key[1:])); s.tables[id] != nil {
			if _, ok := state.TableByID(id); !ok {
				why = fmt.Sprintf("%s was deleted, and %s still has %q", s.tables[id].Name, r.name, key)
			}
		}
		return nil
	})
	if err != nil {
		s.fail("read all of %s: %v", r.name, err)
	}
	return why
}

// kept lists the tables that the region keeps, in order.
func (s *simulation) kept(r *site) (out []*control.Table) {
	state := r.state()
	for _, name := range sortedKeys(state.Tables) {
		if t := state.Tables[name]; t.HasReplica(r.name) {
			out = append(out, t)
		}
	}
	return out
}

// rowHeader is what stands before the key in an item's row: prefix, table, hash.
const rowHeader = 1 + 4 + 4

// items reads the siblings of a table's items off a region's store.
func (s *simulation) items(r *site, t *control.Table) map[cell][]collision.Version {
	out := map[cell][]collision.Version{}
	lower := binary.BigEndian.AppendUint32([]byte{rowItem}, uint32(t.ID))
	upper := binary.BigEndian.AppendUint32([]byte{rowItem}, uint32(t.ID)+1)
	err := eachRow(r.core.store, lower, upper, func(key, value []byte) error {
		all, err := collision.DecodeItem(bytes.Clone(value))
		out[cell{t.ID, string(key[rowHeader:])}] = all
		return err
	})
	if err != nil {
		s.fail("read items of %s in %s: %v", t.Name, r.name, err)
	}
	return out
}

// checkFinal compares what is there with what was written.
func (s *simulation) checkFinal() {
	s.buryLost()
	should := newBooks()
	should.final = true
	s.rebuild(should, s.everything())
	for _, r := range s.order {
		for _, t := range s.kept(r) {
			s.checkItems(r, t, should)
			s.checkReads(r, t, should)
		}
		s.checkResidence(r)
	}
	s.checkVoid()
	last := s.catalog[len(s.catalog)-1]
	for _, name := range sortedKeys(last.Tables) {
		s.checkRecords(last.Tables[name])
	}
}

// checkItems: siblings are what no other write had seen, in every region.
func (s *simulation) checkItems(r *site, t *control.Table, should *books) {
	there := s.items(r, t)
	for _, key := range s.keys(t) {
		at := cell{t.ID, encodeKey(key)}
		var want, got []string
		if s.visible(should, at) != nil {
			for _, w := range should.siblings[at] {
				want = append(want, fmt.Sprint(w.dot, " ", w.body))
			}
		}
		for _, v := range there[at] {
			got = append(got, fmt.Sprint(v.Dot, " ", string(v.Body)))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			s.fail("%s/%s is %v in %s, should be %v", t.Name, key, got, r.name, want)
		}
		if t.Writes != antipode.WriteLocal && len(got) > 1 {
			s.fail("%s/%s has %d versions in %s", t.Name, key, len(got), r.name)
		}
	}
}

// checkReads: readers see the rule's choice.
func (s *simulation) checkReads(r *site, t *control.Table, should *books) {
	for _, key := range s.keys(t) {
		item, err := r.core.tables.Get(s.ctx, t, table.Key{Partition: []byte(key)}, false, nil)
		if want := valueOfWrite(s.visible(should, cell{t.ID, encodeKey(key)})); err != nil || valueOf(item) != want {
			s.fail("reading %s/%s in %s gives %s (%v), should be %s", t.Name, key, r.name, valueOf(item), err, want)
		}
	}
}

// checkResidence: nothing of a table that the region does not keep.
func (s *simulation) checkResidence(r *site) {
	err := eachRow(r.core.store, nil, nil, func(key, value []byte) error {
		for _, id := range sortedKeys(s.tables) {
			t := s.tables[id]
			about := bytes.Contains(key, []byte(mark(t.Name))) || bytes.Contains(value, []byte(mark(t.Name)))
			if about && !t.HasReplica(r.name) && (!r.witness || key[0] != rowEntry && key[0] != rowStranded) {
				s.fail("%s keeps no replica of %s, and has %q", r.name, t.Name, key)
			}
		}
		return nil
	})
	if err != nil {
		s.fail("read all of %s: %v", r.name, err)
	}
}

// checkRecords: exactly the pairs that had not seen each other, in all regions alike.
func (s *simulation) checkRecords(t *control.Table) {
	want := s.concurrent(t)
	if t.Writes == antipode.WriteLocal {
		s.stats[statCollisions] += len(want)
	}
	first := ""
	for i, name := range t.Replicas {
		got := map[pair]bool{}
		var text strings.Builder
		err := s.sites[name].core.tables.Collisions(t, func(k table.Collision) bool {
			fmt.Fprintf(&text, "%s %+v\n", k.Key.Partition, k.Record)
			s.addPairs(got, t, k)
			return true
		})
		if err != nil {
			s.fail("list collisions of %s in %s: %v", t.Name, name, err)
		}
		for p := range want {
			if !got[p] {
				s.fail("%s and %s of %s collided, and %s has no record of it", p[0], p[1], t.Name, name)
			}
		}
		for p := range got {
			if !want[p] {
				s.fail("%s has %s and %s of %s on record as a collision, which they are not", name, p[0], p[1], t.Name)
			}
		}
		if i == 0 {
			first = text.String()
		} else if first != text.String() {
			s.fail("records of %s differ: %s has\n%s%s has\n%s", t.Name, t.Replicas[0], first, name, text.String())
		}
	}
}

// pair names two writes, in order.
type pair [2]antipode.Dot

func pairOf(a, b antipode.Dot) pair {
	if compareDots(a, b) > 0 {
		a, b = b, a
	}
	return pair{a, b}
}

// concurrent finds the pairs of a table's writes that had not seen each other.
func (s *simulation) concurrent(t *control.Table) map[pair]bool {
	byKey := map[string][]*write{}
	for _, w := range s.writes {
		if w.table == t.ID && w.item() && s.counts(w) {
			byKey[w.key] = append(byKey[w.key], w)
		}
	}
	out := map[pair]bool{}
	for _, all := range byKey {
		for i, a := range all {
			for _, b := range all[i+1:] {
				if !a.sees(b.dot) && !b.sees(a.dot) {
					out[pairOf(a.dot, b.dot)] = true
				}
			}
		}
	}
	return out
}

// addPairs spells out what a record says in intervals.
func (s *simulation) addPairs(out map[pair]bool, t *control.Table, k table.Collision) {
	for _, v := range k.Record.Versions {
		for _, in := range v.Beside {
			for seq := in.First; seq <= in.Last; seq++ {
				d := antipode.Dot{Origin: in.Origin, Shard: v.Dot.Shard, Seq: seq}
				if w := s.writes[d]; w != nil && w.table == t.ID && w.key == encodeKey(string(k.Key.Partition)) {
					out[pairOf(v.Dot, d)] = true
				}
			}
		}
	}
}
