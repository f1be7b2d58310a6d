package sim

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// reign is a tenure that began without the help of whoever held the role before,
// as the simulator saw it agreed on, or forced.
type reign struct {
	control.Tenure

	failover uint64
	lost     antipode.Region
	began    int64 // when the tenure before it was ended, in the order of what observers see
	// cutoff bounds what counts of all lower tenures; nil until it is fixed.
	cutoff control.Frontiers
}

// agreed notes what a command has changed about roles.
func (s *simulation) agreed(was, next *control.State, cmd control.Command) {
	if cmd.Fence != nil {
		s.count(statFences)
		s.fencings[cmd.Fence.Region] = s.tick()
	}
	for _, id := range sortedKeys(next.Failovers) {
		f, old := next.Failovers[id], was.Failovers[id]
		switch {
		case old == nil:
			s.count(statFailovers)
			for _, r := range f.Roles {
				s.begin(r.RoleID, reign{Tenure: control.Tenure{Epoch: r.Epoch, Holder: f.Successor}, failover: id, lost: f.Lost, began: s.tick()})
			}
		case len(old.Roles) != len(f.Roles):
			s.abandoned(id, f.Roles)
		}
		if f.Cutoff != nil && (old == nil || old.Cutoff == nil) {
			s.count(statCutoffs)
			s.fixed(f)
		}
	}
	for _, id := range sortedKeys(was.Failovers) {
		if next.Failovers[id] == nil && was.Failovers[id].Cutoff == nil {
			s.abandoned(id, nil)
		}
	}
	if cmd.Adopt != nil && s.forcer != nil && cmd.Adopt.Region == s.forcer.name {
		s.adopted = len(s.catalog) - 1
	}
	if f := cmd.Seal; f != nil && s.onSeal != nil && next.Failovers[f.Failover] != nil {
		s.onSeal(next.Failovers[f.Failover], f.Region)
	}
	if cmd.Took != nil {
		s.count(statTakeovers)
	}
	if cmd.Rejoin != nil {
		s.count(statReturns)
	}
}

func (s *simulation) begin(id control.RoleID, r reign) {
	if i := slices.IndexFunc(s.reigns[id], func(o reign) bool { return o.Tenure == r.Tenure }); i >= 0 {
		s.reigns[id][i].failover = r.failover // forced before, and agreed on now
		return
	}
	s.reigns[id] = append(s.reigns[id], r)
}

// abandoned takes the roles that are not left out of a failover: another one has
// them.
func (s *simulation) abandoned(failover uint64, left []control.RoleEpoch) {
	s.count(statAbandoned)
	for id := range s.reigns {
		s.reigns[id] = slices.DeleteFunc(s.reigns[id], func(r reign) bool {
			return r.failover == failover && r.cutoff == nil && !slices.ContainsFunc(left, func(l control.RoleEpoch) bool { return l.RoleID == id })
		})
	}
}

func (s *simulation) fixed(f *control.Failover) {
	for _, l := range f.Roles {
		for i, r := range s.reigns[l.RoleID] {
			if r.failover == f.ID {
				s.reigns[l.RoleID][i].cutoff = f.Cutoff
			}
		}
	}
}

// roleOf returns the role that a write was made under.
func (s *simulation) roleOf(e *journal.Entry) (control.RoleID, bool) {
	t := s.tables[e.Mutation.Table]
	switch {
	case t == nil || t.Writes == antipode.WriteLocal:
		return control.RoleID{}, false
	case t.Writes == antipode.WriteGlobal:
		return control.RoleID{Table: t.ID}, true
	case e.Kind == journal.KindWrite || e.Kind == journal.KindAccept:
		return control.RoleID{Table: t.ID, Home: e.Mutation.Home}, true
	default:
		return control.RoleID{Table: t.ID, Home: e.Role}, true
	}
}

// voids reports whether a write lies beyond the reign's cutoff. One that was not
// agreed on has its cutoffs shard by shard, as it was taken over.
func (r *reign) voids(w *write) bool {
	f, ok := r.cutoff[w.dot.Shard]
	if r.cutoff == nil || !ok && r.failover == 0 {
		return false
	}
	return w.tenure.Compare(r.Tenure) < 0 && !f.Includes(w.dot)
}

// voider returns the reign whose cutoff a write lies beyond, or nil: then it counts.
func (s *simulation) voider(w *write) *reign {
	if !w.ruled {
		return nil
	}
	for i, r := range s.reigns[w.role] {
		if r.voids(w) {
			return &s.reigns[w.role][i]
		}
	}
	return nil
}

// counts reports whether a write counts, by all cutoffs there are.
func (s *simulation) counts(w *write) bool { return s.voider(w) == nil }

// countsAt is counts by the cutoffs that are in force in one region.
func (s *simulation) countsAt(b *books, w *write) bool {
	if !w.ruled {
		return true
	}
	for _, r := range s.reigns[w.role] {
		if r.voids(w) && (b.final || b.bounds[bound{w.dot.Shard, w.role, r.Tenure}]) {
			return false
		}
	}
	return true
}

// bound names a cutoff in one shard.
type bound struct {
	shard  antipode.Shard
	role   control.RoleID
	tenure control.Tenure
}

// reigns checks the tenure of a write as it is made.
func (s *simulation) rules(c *core, w *write) {
	if !w.ruled {
		return
	}
	key := tenureKey{w.role, w.tenure.Epoch}
	if was, ok := s.holders[key]; ok && was != w.tenure.Holder && !s.cfg.Alone {
		s.fail("%s wrote %s under epoch %d of %v, under which %s writes", c.site.name, w.dot, w.tenure.Epoch, w.role, was)
	}
	s.holders[key] = w.tenure.Holder
	if w.tenure.Holder != c.site.name {
		s.fail("%s wrote %s under a tenure of %s", c.site.name, w.dot, w.tenure.Holder)
	}
}

type tenureKey struct {
	role  control.RoleID
	epoch uint64
}

// toldOf finds what the answer of a write that wrote nothing tells of.
func (s *simulation) toldOf(o *operation) *write {
	if o.old == none {
		if o.met != nil && o.met.del {
			return o.met
		}
		return nil
	}
	return s.leansOn(o, o.key, o.old)
}

// nothing finds a removal that does not count, and that a read which found
// nothing may have met in its time.
func (s *simulation) nothing(o *operation, key string) *write {
	for _, w := range s.writes {
		if w.del && w.table == o.table.ID && w.key == encodeKey(key) {
			if r := s.voider(w); r != nil && o.call < r.began {
				return w
			}
		}
	}
	return nil
}

// leansOn finds what an answer tells of: a write that left the value there, one
// that counts if there is any, or the last one, since a successor may have written
// the value anew before it lost its role in turn.
func (s *simulation) leansOn(o *operation, key, value string) (found *write) {
	at := cell{o.table.ID, encodeKey(key)}
	if value == none || value == "" {
		return nil
	}
	for _, w := range s.writes {
		if w.table != at.table || w.key != at.key || w.del || valueOf([]byte(w.body)) != value {
			continue
		}
		if w.made > o.ret {
			continue // written anew later
		}
		if s.counts(w) {
			return w
		}
		if found == nil || w.made > found.made {
			found = w
		}
	}
	return found
}

// checkAnswers: what leans on a write that does not count was answered, at the
// latest, to somebody who had asked before the tenure ended. A second writer, or a
// reader of what is over, is found by this.
func (s *simulation) checkAnswers() {
	for _, o := range s.ops {
		if o.table.Writes == antipode.WriteLocal || o.out != done && o.out != refused {
			continue
		}
		late := func(w *write, what string) {
			if w == nil {
				return
			}
			if s.group != nil && s.voider(w) != nil && s.promised(w) {
				s.failAfter("%v %s %s, which does not count, though nothing of %s is to be lost", o, what, w.dot, o.table.Name)
			}
			if r := s.voider(w); r != nil && !s.cfg.Alone && o.call > r.began && o.verb != verbGet && o.verb != verbList {
				s.failAfter("%v %s %s, which does not count, and was asked for after %s had been given up for %s", o, what, w.dot, r.lost, r.Holder)
			}
		}
		switch {
		case o.verb.writes() && o.out == done && !o.dot.IsZero():
			late(s.writes[o.dot], "was acknowledged as")
		case o.verb.writes():
			late(s.toldOf(o), "was answered with")
		case o.verb == verbRead || o.verb == verbScan || s.tables[o.table.ID].AckCopies() > 0:
			for _, key := range sortedKeys(o.got) {
				late(s.leansOn(o, key, o.got[key]), "showed")
			}
		}
	}
}

// recount sets a region's items right once a cutoff is in force there.
func (s *simulation) recount(b *books, at bound) {
	cells := map[cell][]*write{}
	for d := range b.at {
		if w := s.writes[d]; w != nil && d.Shard == at.shard && w.table == at.role.Table && s.countsAt(b, w) && w.item() {
			k := cell{w.table, w.key}
			cells[k] = append(cells[k], w)
		}
	}
	for k := range b.siblings {
		if k.table == at.role.Table && s.shards[k] == at.shard {
			delete(b.siblings, k)
		}
	}
	for k, all := range cells {
		b.siblings[k] = unseen(all)
	}
}

// aboutRoles sees a region store something about roles.
func (s *simulation) aboutRoles(c *core, ch change) bool {
	b := c.site.books
	switch ch.key[0] {
	case rowTenure:
		s.inForce(c, ch)
	case rowPending:
		at := cell{antipode.TableID(binary.BigEndian.Uint32(ch.key[1:])), string(ch.key[5:])}
		b.out[at] = ch.value != nil
		b.stirred[at] = s.tick()
		s.note("%s out %v %v", c.site.name, at, b.out[at])
		s.count(statTakenOut)
	case rowStranded:
		s.count(statStranded)
	default:
		return false
	}
	return true
}

// inForce notes that a cutoff is in force in a shard of a region, and checks
// that it is the one that was agreed on.
func (s *simulation) inForce(c *core, ch change) {
	const head = 1 + 8 + 4
	var row struct {
		Bound  bool              `json:"bound"`
		Forced bool              `json:"forced"`
		Cutoff map[string]uint64 `json:"cutoff"`
	}
	home, rest, ok := bytes.Cut(ch.key[head:], []byte{0})
	if !ok || len(rest) < 8 || ch.value != nil && json.Unmarshal(ch.value, &row) != nil {
		s.fail("%s stored a row about roles that can't be read: %x", c.site.name, ch.key)
		return
	}
	at := bound{
		shard:  antipode.Shard(binary.BigEndian.Uint64(ch.key[1:])),
		role:   control.RoleID{Table: antipode.TableID(binary.BigEndian.Uint32(ch.key[9:])), Home: antipode.Region(home)},
		tenure: control.Tenure{Epoch: binary.BigEndian.Uint64(rest), Holder: antipode.Region(rest[8:])},
	}
	if !row.Bound || c.site.books.bounds[at] {
		return
	}
	cutoff, err := antipode.ParseMarks(row.Cutoff)
	if err != nil {
		s.fail("%s: cutoff: %v", c.site.name, err)
	}
	s.agrees(c, at, cutoff)
	c.site.books.bounds[at] = true
	s.note("%s in force %v: %v", c.site.name, at, cutoff)
	s.recount(c.site.books, at)
}

// agrees checks a cutoff against the one that was agreed on. That of a planned
// switch, or of a forced one, is what its successor says, once and for all.
func (s *simulation) agrees(c *core, at bound, cutoff antipode.Frontier) {
	for i, r := range s.reigns[at.role] {
		if r.Tenure != at.tenure {
			continue
		}
		was, ok := r.cutoff[at.shard]
		switch {
		case r.cutoff == nil && r.failover != 0:
			s.suspect("%s has %v as the cutoff of %v, before there was one", c.site.name, cutoff, at)
			return
		case r.failover == 0 && !ok:
			s.reigns[at.role][i].cutoff[at.shard] = cutoff
		case !was.Covers(cutoff) || !cutoff.Covers(was):
			s.suspect("%s has %v as the cutoff of %v, agreed was %v", c.site.name, cutoff, at, was)
		}
		return
	}
	s.begin(at.role, reign{Tenure: at.tenure, began: s.tick(), cutoff: control.Frontiers{at.shard: cutoff}})
}

// unsaid forgets the cutoff of a switch whose successor lost the entry that said
// it, before anybody else had it: it takes the role over again.
func (s *simulation) unsaid(w *write) {
	for _, r := range s.reigns[w.role] {
		if w.kind == journal.KindEpoch && r.Tenure == w.tenure && r.failover == 0 {
			delete(r.cutoff, w.dot.Shard)
		}
	}
}

// rereadRoles sets a region's books right after a crash, which may have taken rows.
func (s *simulation) rereadRoles(c *core) {
	if s.group == nil {
		return
	}
	b := c.site.books
	b.bounds, b.out = map[bound]bool{}, map[cell]bool{}
	err := eachRow(c.store, []byte{rowTenure}, []byte{rowTenure + 1}, func(key, value []byte) error {
		s.inForce(c, change{bytes.Clone(key), bytes.Clone(value)})
		return nil
	})
	if err == nil {
		err = eachRow(c.store, []byte{rowPending}, []byte{rowPending + 1}, func(key, value []byte) error {
			s.aboutRoles(c, change{bytes.Clone(key), bytes.Clone(value)})
			return nil
		})
	}
	if err != nil {
		s.fail("%s: read what it knows of roles: %v", c.site.name, err)
	}
}

// askedFor returns the operation that a write was made for: the one that was
// decided last, unless a successor wrote something anew that would be lost else.
func (s *simulation) askedFor(o *operation, w *write) *operation {
	if o != nil && o.cell() == (cell{w.table, w.key}) {
		if w.del && o.verb == verbDelete || !w.del && s.owner(valueOf([]byte(w.body))) == o {
			return o
		}
	}
	s.count(statRestored)
	s.note("%s brings back %q", w.dot, w.body)
	value := none
	if !w.del {
		value = valueOfWrite(w)
	}
	s.restores = append(s.restores, restore{cell{w.table, w.key}, value, s.tick()})
	return nil
}

// restore is a value that a successor wrote anew, since nothing else was left of
// what it had been built on.
type restore struct {
	cell

	value string
	call  int64
}

// owner finds the operation that left a value: its last number names it.
func (s *simulation) owner(value string) *operation {
	id, err := strconv.Atoi(value[strings.LastIndex(value, ",")+1:])
	if err != nil || id >= len(s.ops) {
		return nil
	}
	return s.ops[id]
}

// unseen leaves those that none of the others had seen.
func unseen(all []*write) []*write {
	return slices.DeleteFunc(slices.Clone(all), func(w *write) bool {
		return slices.ContainsFunc(all, func(x *write) bool { return x != w && x.sees(w.dot) })
	})
}
