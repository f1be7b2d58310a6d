package sim

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// write is one write as the simulator saw it made.
type write struct {
	dot   antipode.Dot
	table antipode.TableID
	key   string // encoded
	kind  journal.Kind
	del   bool
	body  string // what the item is after it
	stamp antipode.Stamp
	home  antipode.Region
	// saw is what its origin had applied, by the simulator's own count.
	saw   antipode.Frontier
	raw   string
	op    *operation // whose it is; nil for handoffs and accepts
	acked bool       // somebody was told that it is safe
	left  bool       // it was sent to another region
	safe  bool       // another region had it on its disk when its author lost its own
	bare  bool       // a disk was lost that had the only copy but its author's

	ruled  bool // it was written under a role
	role   control.RoleID
	tenure control.Tenure
	at     time.Duration // when it was written
	made   int64         // likewise, in the order of what observers see
	took   time.Duration // when its client was answered
}

// item reports whether the write is about an item.
func (w *write) item() bool {
	return w.kind == journal.KindWrite || w.kind == journal.KindHandoff || w.kind == journal.KindAccept
}

func (w *write) sees(d antipode.Dot) bool { return w.dot == d || w.saw.Includes(d) }

// cell names an item.
type cell struct {
	table antipode.TableID
	key   string
}

// books are what the simulator knows a region to have applied.
type books struct {
	applied  map[antipode.Shard]antipode.Frontier
	at       map[antipode.Dot]uint64 // which batch of this run brought it; 0: it was there
	reported map[antipode.Shard]antipode.Frontier
	siblings map[cell][]*write
	bounds   map[bound]bool // cutoffs that are in force here
	out      map[cell]bool  // items that were taken out, and are not known again yet
	stirred  map[cell]int64 // when an item was last taken out, or known again
	final    bool           // all cutoffs are in force
}

func newBooks() *books {
	return &books{
		applied: map[antipode.Shard]antipode.Frontier{}, at: map[antipode.Dot]uint64{},
		reported: map[antipode.Shard]antipode.Frontier{}, siblings: map[cell][]*write{},
		bounds: map[bound]bool{}, out: map[cell]bool{}, stirred: map[cell]int64{},
	}
}

func (b *books) includes(d antipode.Dot) bool { return b.applied[d.Shard].Includes(d) }

// add notes that the write was applied: it replaces what it had seen.
func (s *simulation) add(b *books, w *write, batch uint64) (siblings int) {
	b.applied[w.dot.Shard] = b.applied[w.dot.Shard].With(w.dot.Origin, w.dot.Seq)
	b.at[w.dot] = batch
	if !w.item() || !s.countsAt(b, w) {
		return 0
	}
	at := cell{w.table, w.key}
	kept := slices.DeleteFunc(slices.Clone(b.siblings[at]), func(s *write) bool { return w.sees(s.dot) })
	b.siblings[at] = append(kept, w)
	s.shards[at] = w.dot.Shard
	return len(kept) + 1
}

// visible picks what readers of an item see: nil for nothing.
func (s *simulation) visible(b *books, at cell) *write {
	best := s.best(b, at)
	if best == nil || best.del {
		return nil
	}
	return best
}

// best is visible, or the removal that left nothing.
func (s *simulation) best(b *books, at cell) *write {
	var best *write
	for _, w := range b.siblings[at] {
		if best == nil || s.beats(w, best) {
			best = w
		}
	}
	return best
}

// beats is the table's rule in the simulator's own words.
func (s *simulation) beats(a, b *write) bool {
	t := s.tables[a.table]
	later := cmp.Or(cmp.Compare(a.stamp, b.stamp), cmp.Compare(a.dot.Origin.Region, b.dot.Origin.Region),
		cmp.Compare(a.dot.Seq, b.dot.Seq)) > 0
	switch t.Rule {
	case antipode.RuleFirstWriter:
		return !later
	case antipode.RuleRegionPriority:
		ra, rb := slices.Index(t.Priority, a.dot.Origin.Region), slices.Index(t.Priority, b.dot.Origin.Region)
		if ra != rb {
			return ra >= 0 && (rb < 0 || ra < rb)
		}
	case antipode.RuleLastWriter:
	}
	return later
}

// Prefixes of rows that the simulator looks at; docs/format/store.md.
const (
	rowItem      = 'i'
	rowHistory   = 'k'
	rowCollision = 'c'
	rowGrant     = 'b'
	rowEntry     = 'j'
	rowFloor     = 'f'
	rowCopy      = 'y'
	rowTenure    = 'e'
	rowPending   = 'p'
	rowStranded  = 'x'
)

// observe sees a batch applied by a region. It is called by whoever applies it.
func (s *simulation) observe(c *core, batch uint64, changes []change) {
	var names journal.Origins
	for _, ch := range changes {
		if s.group != nil && s.aboutRoles(c, ch) {
			continue
		}
		switch {
		case ch.key[0] == rowCopy:
			s.copies(c, antipode.Shard(binary.BigEndian.Uint64(ch.key[1:])), ch.value != nil)
		case ch.key[0] == rowEntry && ch.value != nil && c.copying[antipode.Shard(binary.BigEndian.Uint64(ch.key[1:]))]:
		case ch.key[0] == rowEntry && ch.value != nil:
			e, err := names.Decode(ch.value)
			if err != nil {
				s.fail("%s stored what is no entry: %v", c.site.name, err)
				continue
			}
			if e.Dot.Origin == c.site.origin() {
				s.wrote(c, batch, e)
				continue
			}
			s.brought(c, batch, e)
		case ch.key[0] == rowItem && ch.value == nil:
			s.count(statTombstones)
		case ch.key[0] == rowFloor:
			s.count(statCuts)
		case ch.key[0] == rowGrant && ch.value != nil:
			s.count(statBirths)
		}
	}
}

// wrote notes a region's own write.
func (s *simulation) wrote(c *core, batch uint64, e *journal.Entry) {
	b := c.site.books
	w := &write{
		dot: e.Dot, table: e.Mutation.Table, key: string(e.Mutation.Key), kind: e.Kind, del: e.Mutation.Delete,
		body: string(e.Mutation.Body), stamp: e.Stamp, home: e.Mutation.Home,
		saw: b.applied[e.Dot.Shard].Clone(), raw: string(e.Raw()), at: s.now(), made: s.tick(),
	}
	w.role, w.ruled = s.roleOf(e)
	w.tenure = control.Tenure{Epoch: e.Epoch, Holder: e.Dot.Origin.Region}
	w.ruled = w.ruled && s.group != nil
	s.rules(c, w)
	if was := s.writes[w.dot]; was != nil {
		s.suspect("%s used %s again, after %q now %q", c.site.name, w.dot, was.body, w.body)
	}
	if w.dot.Seq != w.saw.Seq(w.dot.Origin)+1 {
		s.suspect("%s wrote %s after %d", c.site.name, w.dot, w.saw.Seq(w.dot.Origin))
	}
	if full := e.FullContext(); !full.Covers(w.saw) || !w.saw.Covers(full) {
		s.suspect("%s gave %s the context %v, it had applied %v", c.site.name, w.dot, full, w.saw)
	}
	switch e.Kind {
	case journal.KindWrite:
		if w.op = s.askedFor(c.deciding, w); w.op != nil {
			w.op.wrote = append(w.op.wrote, w.dot)
		}
		c.deciding = nil
		if s.group != nil && w.op != nil {
			s.withinBound(c, w)
		}
	case journal.KindHandoff, journal.KindAccept:
		if was := s.visible(b, cell{w.table, w.key}); was != nil {
			w.body = was.body
		}
		s.count(map[journal.Kind]string{journal.KindHandoff: statHandoffs, journal.KindAccept: statAccepts}[e.Kind])
	case journal.KindEpoch, journal.KindRelease: // of roles, not of items
		s.count(statEpochs)
	}
	s.writes[w.dot] = w
	s.add(b, w, batch)
	s.note("%s wrote %s %s %q", c.site.name, w.dot, w.kind, w.body)
}

// brought notes another region's write that a region applies.
func (s *simulation) brought(c *core, batch uint64, e *journal.Entry) {
	b := c.site.books
	w := s.writes[e.Dot]
	switch {
	case w == nil:
		s.fail("%s applied %s, which its author does not have", c.site.name, e.Dot)
		return
	case w.raw != string(e.Raw()):
		s.fail("%s applied %s with other content than its author wrote", c.site.name, e.Dot)
		return
	case b.applied[e.Dot.Shard].Seq(e.Dot.Origin)+1 != e.Dot.Seq:
		s.suspect("%s applied %s after %d", c.site.name, e.Dot, b.applied[e.Dot.Shard].Seq(e.Dot.Origin))
	case !b.applied[e.Dot.Shard].Covers(w.saw):
		s.suspect("%s applied %s, which had seen %v, at %v", c.site.name, e.Dot, w.saw, b.applied[e.Dot.Shard])
	}
	if s.add(b, w, batch) > 1 {
		s.count(statSiblings)
	}
	s.note("%s applied %s", c.site.name, e.Dot)
}

// recovered compares a region that has started with what it had, and sets its
// books right.
func (s *simulation) recovered(c *core) {
	b := c.site.books
	was := b.applied
	has, err := frontiersOf(c.store)
	if err != nil {
		s.fail("%s: read journal: %v", c.site.name, err)
		return
	}
	for _, id := range sortedKeys(was) {
		for _, m := range was[id] {
			for seq := has[id].Seq(m.Origin) + 1; seq <= m.Seq; seq++ {
				s.lost(c, antipode.Dot{Origin: m.Origin, Shard: id, Seq: seq})
			}
		}
		for _, m := range b.reported[id] {
			if has[id].Seq(m.Origin) < m.Seq {
				s.fail("%s told others that it has %s up to %d in %s, and has %d after a crash",
					c.site.name, m.Origin, m.Seq, id, has[id].Seq(m.Origin))
			}
		}
	}
	for id, f := range has {
		if !was[id].Covers(f) {
			s.fail("%s came back with %v in %s, it had %v", c.site.name, f, id, was[id])
		}
	}
	s.rereadRoles(c)
	s.rebuild(b, has)
}

// lost notes that a crash took a write from a region.
func (s *simulation) lost(c *core, d antipode.Dot) {
	w := s.writes[d]
	if d.Origin != c.site.origin() || w == nil {
		return // its author has it still
	}
	s.count(statTorn)
	s.note("%s lost %s", c.site.name, d)
	if w.acked {
		s.fail("%s lost %s in a crash, which was acknowledged", c.site.name, d)
	}
	if w.left {
		s.fail("%s lost %s in a crash, which it had sent to others", c.site.name, d)
	}
	delete(s.writes, d)
	s.unsaid(w)
	if w.op != nil {
		w.op.wrote = slices.DeleteFunc(w.op.wrote, func(o antipode.Dot) bool { return o == d })
	}
}

// rebuild sets books to a frontier.
func (s *simulation) rebuild(b *books, has map[antipode.Shard]antipode.Frontier) {
	b.applied, b.at, b.siblings = map[antipode.Shard]antipode.Frontier{}, map[antipode.Dot]uint64{}, map[cell][]*write{}
	var there []*write
	for _, w := range s.writes {
		if has[w.dot.Shard].Includes(w.dot) {
			there = append(there, w)
		}
	}
	// Whatever order they came in, what is left is what nobody else had seen.
	slices.SortFunc(there, func(x, y *write) int { return compareDots(x.dot, y.dot) })
	byCell := map[cell][]*write{}
	for _, w := range there {
		b.at[w.dot] = 0
		if !w.item() || !s.countsAt(b, w) {
			continue
		}
		at := cell{w.table, w.key}
		byCell[at] = append(byCell[at], w)
		s.shards[at] = w.dot.Shard
	}
	for at, all := range byCell {
		b.siblings[at] = unseen(all)
	}
	for id, f := range has {
		b.applied[id] = f.Clone()
	}
}

func compareDots(a, b antipode.Dot) int {
	return cmp.Or(cmp.Compare(a.Shard, b.Shard), a.Origin.Compare(b.Origin), cmp.Compare(a.Seq, b.Seq))
}

// frontiersOf reads off a store where its journals end.
func frontiersOf(r engine.Reader) (map[antipode.Shard]antipode.Frontier, error) {
	out := map[antipode.Shard]antipode.Frontier{}
	err := eachRow(r, nil, nil, func(key, value []byte) error {
		if key[0] != rowEntry && key[0] != rowFloor || len(key) < 10 {
			return nil
		}
		id := antipode.Shard(binary.BigEndian.Uint64(key[1:]))
		text, rest, _ := bytes.Cut(key[9:], []byte{0})
		o, err := antipode.ParseOrigin(string(text))
		if err != nil {
			return err
		}
		seq := value
		if key[0] == rowEntry {
			seq = rest
		}
		out[id] = out[id].With(o, binary.BigEndian.Uint64(seq))
		return nil
	})
	return out, err
}

func eachRow(r engine.Reader, lower, upper []byte, visit func(key, value []byte) error) error {
	it, err := r.Iterate(lower, upper)
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = visit(it.Key(), it.Value())
	}
	return errors.Join(err, it.Close())
}

// sortedKeys gives the order that a map does not have.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// told checks a durable frontier that a region tells another.
func (s *simulation) told(c *core, id antipode.Shard, o antipode.Origin, seq uint64) {
	b := c.site.books
	d := antipode.Dot{Origin: o, Shard: id, Seq: seq}
	if !b.includes(d) {
		s.suspect("%s tells that it has %s, and has %v", c.site.name, d, b.applied[id])
	} else if n, ok := b.at[d]; ok && !c.store.durable(n) {
		s.suspect("%s tells that it has %s, which is not on its disk", c.site.name, d)
	}
	b.reported[id] = b.reported[id].With(o, seq)
}
