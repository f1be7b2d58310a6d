package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// grantsExpire is how long a region that lost its disk waits for what it had
// allowed to have happened.
const grantsExpire = 5 * time.Second

// lose takes a region's disk away, with all that is on it. It comes back as a
// new author, and is given what the others hold.
func (s *simulation) lose(r *site) string {
	down := slices.ContainsFunc(s.order, func(o *site) bool { return o.core == nil && s.group == nil || o.filling })
	if !s.cfg.LoseDisk || s.stats[statLosses] > 0 || down || r.core == nil {
		return ""
	}
	for d, w := range s.writes {
		held := slices.ContainsFunc(s.order, func(o *site) bool {
			n, ok := o.books.at[d]
			return ok && o != r && o.name != d.Origin.Region && o.core != nil && o.books.includes(d) && o.core.store.durable(n)
		})
		switch {
		case d.Origin != r.origin():
			w.bare = w.bare || !held && r.books.includes(d)
		case held:
			w.safe = true
		case !s.held(d, r):
			s.unsaid(w)
		}
	}
	s.ended[r.origin()] = true
	s.count(statLosses)
	s.crash(r)
	r.mem, r.books, r.ceiling = vfs.NewCrashableMem(), newBooks(), 0
	r.incarnation++
	r.filling = true
	s.incarnate(r)
	return fmt.Sprintf("%s loses its disk", r.name)
}

// incarnate starts a region on an empty disk, once the group knows it as a new author.
func (s *simulation) incarnate(r *site) {
	s.after(s.between(10*time.Millisecond, 3*time.Second), func() {
		if s.group == nil {
			s.restart(r)
			return
		}
		if l := s.group.leader; l == "" || !s.quorum(l) || !s.open(way{r.name, l}) || !s.open(way{l, r.name}) {
			s.incarnate(r)
			return
		}
		n, err := s.commit(r.name, control.Command{Incarnate: &control.Incarnate{Region: r.name, Was: r.incarnation - 1}})
		if err != nil {
			s.fail("%s: new incarnation: %v", r.name, err)
		}
		s.advance(s.group.voters[r.name], n)
		s.restart(r)
	})
}

// held reports whether some region, but for one, has the write.
func (s *simulation) held(d antipode.Dot, but *site) bool {
	return slices.ContainsFunc(s.order, func(r *site) bool { return r != but && r.books.includes(d) })
}

// refill asks the others how far they are, waits until all of that is here, and
// has the region serve again, as internal/region does.
func (s *simulation) refill(c *core) {
	if c.site.core != c {
		return
	}
	copies := c.tables.Copies()
	var peers []*site
	for _, r := range s.order {
		if r != c.site {
			peers = append(peers, r)
		}
	}
	s.refillFrom(c, peers, func() {
		c.inline = true
		served, err := c.tables.Serve(copies, func() error { c.site.filling = false; return nil })
		c.inline = false
		switch {
		case err != nil:
			s.fail("%s: serve again: %v", c.site.name, err)
		case served:
			s.note("%s serves again", c.site.name)
		default:
			s.after(100*time.Millisecond, func() { s.refill(c) })
		}
	})
}

func (s *simulation) refillFrom(c *core, peers []*site, then func()) {
	if c.site.core != c {
		return
	}
	if len(peers) == 0 {
		then()
		return
	}
	w := way{c.site.name, peers[0].name}
	if peers[0].core == nil || !s.open(w) || !s.open(w.back()) {
		s.after(time.Second, func() { s.refillFrom(c, peers, then) })
		return
	}
	s.after(s.delay(), func() {
		p := peers[0].core
		if p == nil {
			s.refillFrom(c, peers, then)
			return
		}
		want := map[antipode.Shard]antipode.Frontier{}
		for _, id := range p.log.Shards() {
			if slices.Contains(c.tables.Members(id), c.site.name) {
				want[id] = p.log.Shard(id).Durable()
			}
		}
		s.awaitCovers(c, want, func() { s.refillFrom(c, peers[1:], then) })
	})
}

func (s *simulation) awaitCovers(c *core, want map[antipode.Shard]antipode.Frontier, then func()) {
	s.after(100*time.Millisecond, func() {
		for id, f := range want {
			if c.site.core == c && !c.log.Shard(id).Applied().Covers(f) {
				s.awaitCovers(c, want, then)
				return
			}
		}
		then()
	})
}

// copies notes that a copy of a shard begins or ends.
func (s *simulation) copies(c *core, id antipode.Shard, begins bool) {
	b := c.site.books
	c.copying[id] = begins
	delete(b.reported, id)
	if begins {
		s.note("%s empties %s", c.site.name, id)
		s.count(statCopies)
		has := map[antipode.Shard]antipode.Frontier{}
		for other, f := range b.applied {
			if other != id {
				has[other] = f
			}
		}
		s.rebuild(b, has)
		return
	}
	has, err := frontiersOf(c.store)
	if err != nil {
		s.fail("%s: read journal: %v", c.site.name, err)
	}
	for other := range c.copying {
		if c.copying[other] {
			delete(has, other)
		}
	}
	s.note("%s has a copy of %s", c.site.name, id)
	s.rebuild(b, has)
}

// buryLost forgets writes that went with a disk.
func (s *simulation) buryLost() {
	for d, w := range s.writes {
		if !s.ended[d.Origin] || s.held(d, nil) {
			continue
		}
		if t := s.tables[w.table]; w.acked && t.AckCopies() > 0 && t.Unprotected == control.UnprotectedBlock && !w.bare {
			s.fail("%s of %s was acknowledged and went with its author's disk, though nothing of it is to be lost", d, t.Name)
		}
		if w.safe {
			s.fail("%s was on another region's disk when its author lost its own, and is gone", d)
		}
		s.spoilt[cell{w.table, w.key}] = true
		delete(s.writes, d)
	}
}
