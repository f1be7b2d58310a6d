package collision

import (
	"iter"
	"slices"
	"sort"
	"time"

	"github.com/antipode-io/antipode"
)

// Entry is a version together with what its journal entry says of its causality.
type Entry struct {
	Version
	// Context is the origin's frontier of the shard at the write. Whether it has
	// the origin's own mark makes no difference here: the writes of one origin
	// are ordered by their sequences.
	Context antipode.Frontier
	// Uncertainty is how far the origin's clock may have been from true time at
	// the write, either way.
	Uncertainty time.Duration
}

// Saw reports whether the write e had seen the write d of the same key: d is
// an earlier one of the same origin, or in e's context.
func (e Entry) Saw(d antipode.Dot) bool {
	if e.Dot.Origin == d.Origin {
		return d.Seq < e.Dot.Seq
	}
	return e.Context.Includes(d)
}

// Concurrent reports whether neither write had seen the other.
func Concurrent(a, b Entry) bool {
	return a.Dot != b.Dot && !a.Saw(b.Dot) && !b.Saw(a.Dot)
}

// Pairs yields every concurrent pair of a history without repeated entries,
// each pair once. It compares all with all, by definition and with nothing in
// common with how Collisions works, so that checkers may lean on it.
func Pairs(history []Entry) iter.Seq2[Entry, Entry] {
	return func(yield func(Entry, Entry) bool) {
		for i, a := range history {
			for _, b := range history[i+1:] {
				if Concurrent(a, b) && !yield(a, b) {
					return
				}
			}
		}
	}
}

// Beside returns the versions of the history that are concurrent with e, in the
// order of the history. It is what must be kept when e is applied: the siblings
// that e happens to meet differ from region to region, these do not.
func Beside(history []Entry, e Entry) []Entry {
	var out []Entry
	for _, h := range history {
		if Concurrent(h, e) {
			out = append(out, h)
		}
	}
	return out
}

// Interval names an origin's writes of the key with sequences from First to
// Last, both included and both writes of that key. Writes of other keys lie
// between them.
type Interval struct {
	Origin      antipode.Origin
	First, Last uint64
}

// Recorded is a version within a collision record.
type Recorded struct {
	Entry
	// Beside are the versions that this one collided with, an interval per
	// origin: its writes of the key after this one's context, up to the first
	// that had seen this one. In order of origin; never empty.
	Beside []Interval
	// BeatenBy are those of them that the rule prefers to this one, again an
	// interval per origin; empty when this version beat all that it met.
	BeatenBy []Interval
}

// Record is one collision: versions of one key that hang together by being
// concurrent. A version is in at most one record, and so is a concurrent pair.
type Record struct {
	Versions []Recorded // two or more, in canonical order: the first one has the lowest stamp
	// Visible is the place in Versions of the one that the rule shows: of those
	// that no other version of the record had seen.
	Visible int
	// Rival is the place in Versions of the earliest one that is concurrent with
	// the first.
	Rival int
	// Lead is by how much the first version's clock reading was before the
	// rival's, in whole milliseconds.
	Lead time.Duration
}

// First returns the version with the lowest stamp (then the lowest dot).
func (r Record) First() Recorded { return r.Versions[0] }

// Certain reports whether the clocks were good enough to say that First really
// was first: its lead is greater than both uncertainties together.
func (r Record) Certain() bool {
	return r.Lead > r.Versions[0].Uncertainty+r.Versions[r.Rival].Uncertainty
}

// Final reports whether the record can't change any more: all of its versions
// are stable, so that every write concurrent with one of them is known here.
// It is then equal in all regions.
func Final(r Record, stable func(antipode.Dot) bool) bool {
	for _, v := range r.Versions {
		if !stable(v.Dot) {
			return false
		}
	}
	return true
}

// Collisions finds the collisions in a key's history: the connected parts, of
// two versions or more, of the graph that joins concurrent versions. They come
// in the canonical order of their first versions, the same for every order of
// the history; an entry given twice counts once. Overwriting what one has seen
// makes no collision.
//
// Where journals have been cut, the history is what the journals still have
// together with the entries of records that are not final.
//
// The writes of one origin are ordered, and later ones have seen more, so what a
// version is concurrent with is an interval of each other origin's writes. Time
// and memory are n log n and n times the number of origins, never the number of pairs.
func Collisions(history []Entry, rule antipode.Rule, priority []antipode.Region) []Record {
	g := newGraph(history)
	g.connect()
	r := recorder{graph: g, rule: rule, priority: priority}
	var out []Record
	for _, part := range g.parts() {
		out = append(out, r.record(part))
	}
	return out
}

// graph is a key's history by origin, with the concurrent intervals of each version.
type graph struct {
	all    []Entry // by origin, then sequence
	starts []int   // where each origin's column starts in all; one more at the end
	spans  []span  // of version i and column c at i*columns+c
	links  int     // how many spans are not empty
}

// span is a range of places in graph.all.
type span struct{ from, to int32 }

func (s span) empty() bool { return s.from >= s.to }

func newGraph(history []Entry) *graph {
	all := slices.Clone(history)
	slices.SortFunc(all, func(a, b Entry) int { return compareDots(a.Dot, b.Dot) })
	all = slices.CompactFunc(all, func(a, b Entry) bool { return a.Dot == b.Dot })
	g := &graph{all: all}
	for i := range all {
		if i == 0 || all[i].Dot.Origin != all[i-1].Dot.Origin {
			g.starts = append(g.starts, i)
		}
	}
	g.starts = append(g.starts, len(all))
	g.spans = make([]span, len(all)*g.columns())
	return g
}

func (g *graph) columns() int { return len(g.starts) - 1 }

func (g *graph) spansOf(i int) []span {
	n := g.columns()
	return g.spans[i*n : (i+1)*n]
}

// connect fills the spans.
func (g *graph) connect() {
	for own := range g.columns() {
		for other := range g.columns() {
			if own != other {
				g.connectColumns(own, other)
			}
		}
	}
}

// connectColumns walks two columns side by side: both ends of the interval only
// ever move forwards, as contexts only grow.
func (g *graph) connectColumns(own, other int) {
	from, to := g.starts[other], g.starts[other]
	end := g.starts[other+1]
	if g.starts[own] == g.starts[own+1] || from == end {
		return
	}
	me, them := g.all[g.starts[own]].Dot.Origin, g.all[from].Dot.Origin
	for i := g.starts[own]; i < g.starts[own+1]; i++ {
		seen := g.all[i].Context.Seq(them)
		for from < end && g.all[from].Dot.Seq <= seen {
			from++
		}
		to = max(to, from)
		for to < end && g.all[to].Context.Seq(me) < g.all[i].Dot.Seq {
			to++
		}
		if from < to {
			g.spansOf(i)[other] = span{int32(from), int32(to)}
			g.links++
		}
	}
}

// parts returns the connected parts of two versions or more, each as places in
// canonical order, themselves in the canonical order of their first versions.
func (g *graph) parts() [][]int {
	joined := newDisjoint(len(g.all))
	// A version joins a whole interval. Joining it with the interval's first, and
	// then neighbours wherever some interval has both, costs no more than the ends.
	open := make([]int32, len(g.all)+1)
	for i := range g.all {
		for _, s := range g.spansOf(i) {
			if !s.empty() {
				joined.union(i, int(s.from))
				open[s.from]++
				open[s.to-1]--
			}
		}
	}
	depth := int32(0)
	for i := range g.all {
		if depth += open[i]; depth > 0 {
			joined.union(i, i+1)
		}
	}
	order := make([]int, 0, len(g.all))
	for i := range g.all {
		if joined.size[joined.find(i)] > 1 {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return Compare(g.all[a].Version, g.all[b].Version) })
	var parts [][]int
	place := make(map[int]int)
	for _, i := range order {
		root := joined.find(i)
		at, ok := place[root]
		if !ok {
			at = len(parts)
			place[root] = at
			parts = append(parts, make([]int, 0, joined.size[root]))
		}
		parts[at] = append(parts[at], i)
	}
	return parts
}

// recorder writes records of a graph's parts.
type recorder struct {
	*graph
	rule     antipode.Rule
	priority []antipode.Region
	slab     []Interval // memory for intervals, used from the front
}

func (r *recorder) record(part []int) Record {
	if r.slab == nil {
		r.slab = make([]Interval, 0, 2*r.links)
	}
	rec := Record{Versions: make([]Recorded, len(part)), Visible: r.visible(part)}
	for n, i := range part {
		rec.Versions[n] = Recorded{Entry: r.all[i], Beside: r.beside(i), BeatenBy: r.beatenBy(i)}
	}
	for n := 1; n < len(part); n++ {
		if Concurrent(r.all[part[0]], r.all[part[n]]) {
			rec.Rival = n
			break
		}
	}
	ms := r.all[part[rec.Rival]].Stamp.Millis() - r.all[part[0]].Stamp.Millis()
	rec.Lead = time.Duration(ms) * time.Millisecond
	return rec
}

func (r *recorder) beside(i int) []Interval {
	start := len(r.slab)
	for _, s := range r.spansOf(i) {
		r.add(s)
	}
	return r.cut(start)
}

// beatenBy narrows the spans to what the rule prefers: stamps rise along an
// origin's writes, so that is the head of a span or its tail.
func (r *recorder) beatenBy(i int) []Interval {
	start := len(r.slab)
	for _, s := range r.spansOf(i) {
		if s.empty() {
			continue
		}
		beats := func(n int) bool {
			return Beats(r.all[int(s.from)+n].Version, r.all[i].Version, r.rule, r.priority)
		}
		length := int(s.to - s.from)
		if r.rule == antipode.RuleFirstWriter {
			r.add(span{s.from, s.from + int32(sort.Search(length, func(n int) bool { return !beats(n) }))})
		} else {
			r.add(span{s.from + int32(sort.Search(length, beats)), s.to})
		}
	}
	return r.cut(start)
}

func (r *recorder) add(s span) {
	if !s.empty() {
		first, last := r.all[s.from].Dot, r.all[s.to-1].Dot
		r.slab = append(r.slab, Interval{Origin: first.Origin, First: first.Seq, Last: last.Seq})
	}
}

func (r *recorder) cut(start int) []Interval {
	if start == len(r.slab) {
		return nil
	}
	return r.slab[start:len(r.slab):len(r.slab)]
}

// visible picks among the versions that no other of the part had seen. Only the
// last one of each origin can be such, and only the last ones need be asked.
func (r *recorder) visible(part []int) int {
	last := make(map[antipode.Origin]int)
	for n, i := range part {
		o := r.all[i].Dot.Origin
		if m, ok := last[o]; !ok || r.all[part[m]].Dot.Seq < r.all[i].Dot.Seq {
			last[o] = n
		}
	}
	best := -1
	for o, n := range last {
		v := r.all[part[n]]
		superseded := false
		for p, m := range last {
			superseded = superseded || p != o && r.all[part[m]].Saw(v.Dot)
		}
		if !superseded && (best < 0 || Beats(v.Version, r.all[part[best]].Version, r.rule, r.priority)) {
			best = n
		}
	}
	return max(best, 0) // every version superseded: only forged contexts can say so
}

// disjoint is a union-find forest.
type disjoint struct{ parent, size []int32 }

func newDisjoint(n int) *disjoint {
	d := &disjoint{parent: make([]int32, n), size: make([]int32, n)}
	for i := range n {
		d.parent[i], d.size[i] = int32(i), 1
	}
	return d
}

func (d *disjoint) find(i int) int {
	for int(d.parent[i]) != i {
		d.parent[i] = d.parent[d.parent[i]]
		i = int(d.parent[i])
	}
	return i
}

func (d *disjoint) union(a, b int) {
	a, b = d.find(a), d.find(b)
	if a == b {
		return
	}
	if d.size[a] < d.size[b] {
		a, b = b, a
	}
	d.parent[b] = int32(a)
	d.size[a] += d.size[b]
}
