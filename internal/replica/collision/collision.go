// Package collision decides what is visible of an item and what of it collided.
// An item of a local table is a set of siblings: versions none of which had
// seen another. This package merges a version into such a set, picks the
// visible one, says when a tombstone may go, finds the collisions in a key's
// history, and encodes the set as it is stored.
//
// Everything here is a pure function of its arguments: no I/O, no locks, no
// clock, no log. All of it may be called concurrently; arguments are never
// changed (AppendX append to dst, as their names say). Nothing needs closing.
//
// One key's versions all lie in one shard, so a frontier of that shard can be
// compared with all of their dots.
package collision

import (
	"cmp"
	"slices"

	"github.com/antipode-io/antipode"
)

// Version is one version of an item: what one write left there.
type Version struct {
	Dot    antipode.Dot
	Stamp  antipode.Stamp
	Epoch  uint64          // of the role that the write was made under; 0 in local tables
	Delete bool            // a tombstone: the write removed the item
	Home   antipode.Region // partitioned tables: the region that the item belongs to
	Body   []byte          // the item as DynamoDB JSON; nil for a tombstone
}

// Compare is the canonical order of versions: stamp, region, zone, incarnation,
// sequence (and shard, for completeness). It is 0 only for the same write, so
// whatever sorts by it sorts alike in every region.
func Compare(a, b Version) int {
	if c := cmp.Compare(a.Stamp, b.Stamp); c != 0 {
		return c
	}
	return compareDots(a.Dot, b.Dot)
}

func compareDots(a, b antipode.Dot) int {
	if c := a.Origin.Compare(b.Origin); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Seq, b.Seq); c != 0 {
		return c
	}
	return cmp.Compare(a.Shard, b.Shard)
}

// Sort puts siblings into canonical order, in place.
func Sort(siblings []Version) { slices.SortFunc(siblings, Compare) }

// Apply merges the version e into an item's siblings: those that e had not seen
// stay, and e joins them. The context is the frontier of the shard at e's origin
// when e was written; it includes e's own predecessors there (the origin's own
// mark is e's sequence minus one). The result is fresh memory in canonical
// order; bodies are shared.
//
// That an entry is applied once, in causal order and never as one's own echo is
// the caller's to see to. An e that is among the siblings already is not doubled.
func Apply(siblings []Version, e Version, context antipode.Frontier) []Version {
	out := make([]Version, 0, len(siblings)+1)
	for _, s := range siblings {
		if s.Dot != e.Dot && !context.Includes(s.Dot) {
			out = append(out, s)
		}
	}
	out = append(out, e)
	Sort(out)
	return out
}

// Beats reports whether the rule prefers a to b. Exactly one of two different
// versions beats the other, since every rule's order ends with the full dot:
//
//   - last-writer: the later in canonical order, so the higher stamp, and among
//     equal stamps the higher region, zone, incarnation, sequence
//   - first-writer: the earlier in canonical order, so the lower stamp, and
//     among equal stamps the lower region, zone, incarnation, sequence
//   - region-priority: the version whose region stands earlier in priority, a
//     region that is not listed coming after all that are; then last-writer
//
// A rule that is not known here counts as last-writer.
func Beats(a, b Version, rule antipode.Rule, priority []antipode.Region) bool {
	switch rule {
	case antipode.RuleFirstWriter:
		return Compare(a, b) < 0
	case antipode.RuleRegionPriority:
		if ra, rb := rank(a, priority), rank(b, priority); ra != rb {
			return ra < rb
		}
		return Compare(a, b) > 0
	default: // RuleLastWriter
		return Compare(a, b) > 0
	}
}

func rank(v Version, priority []antipode.Region) int {
	if i := slices.Index(priority, v.Dot.Origin.Region); i >= 0 {
		return i
	}
	return len(priority)
}

// Visible returns the sibling that readers see, in whatever order they are
// given; false when there are none. A visible tombstone means that the item is
// not there. See Beats for the rules.
func Visible(siblings []Version, rule antipode.Rule, priority []antipode.Region) (Version, bool) {
	if len(siblings) == 0 {
		return Version{}, false
	}
	best := 0
	for i := 1; i < len(siblings); i++ {
		if Beats(siblings[i], siblings[best], rule, priority) {
			best = i
		}
	}
	return siblings[best], true
}

// Droppable reports whether an item may be forgotten altogether: all of its
// siblings are stable and the visible one is a tombstone (a single stable
// tombstone is the usual case). All or none: once everything is stable, each
// write to come has all of it in its context and would replace it anyway,
// while a tombstone dropped alone would show a sibling that had lost to it, and
// one dropped early would let an older write come back.
func Droppable(siblings []Version, rule antipode.Rule, priority []antipode.Region, stable func(antipode.Dot) bool) bool {
	v, ok := Visible(siblings, rule, priority)
	if !ok || !v.Delete {
		return false
	}
	for _, s := range siblings {
		if !stable(s.Dot) {
			return false
		}
	}
	return true
}
