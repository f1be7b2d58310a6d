package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
)

// grantsExpire is how long a region that lost its disk waits for what it had
// allowed to have happened.
const grantsExpire = 5 * time.Second

// lose takes a region's disk away, with all that is on it. It comes back as a
// new author, and is given what the others hold.
func (s *simulation) lose(r *site) string {
	down := slices.ContainsFunc(s.order, func(o *site) bool { return o.core == nil || o.filling })
	if !s.cfg.LoseDisk || s.stats[statLosses] > 0 || down {
		return ""
	}
	for d, w := range s.writes {
		if d.Origin != r.origin() {
			continue
		}
		for _, o := range s.order {
			if n, ok := o.books.at[d]; ok && o != r && o.books.includes(d) && o.core.store.durable(n) {
				w.safe = true
			}
		}
	}
	s.ended[r.origin()] = true
	s.count(statLosses)
	s.crash(r)
	r.mem, r.books, r.ceiling = vfs.NewCrashableMem(), newBooks(), 0
	r.incarnation++
	r.filling = true
	s.after(s.between(10*time.Millisecond, 3*time.Second), func() { s.restart(r) })
	return fmt.Sprintf("%s loses its disk", r.name)
}

// held reports whether some region has the write.
func (s *simulation) held(d antipode.Dot) bool {
	return slices.ContainsFunc(s.order, func(r *site) bool { return r.books.includes(d) })
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
		if !s.ended[d.Origin] || s.held(d) {
			continue
		}
		if w.safe {
			s.fail("%s was on another region's disk when its author lost its own, and is gone", d)
		}
		s.spoilt[cell{w.table, w.key}] = true
		delete(s.writes, d)
	}
}
