package model

import "slices"

// Write is one write as getters return it.
type Write struct {
	Dot    Dot
	Delete bool
	Stamp  uint64
}

func (s *State) list(of set) []Write {
	var places []int
	of.each(func(i int) { places = append(places, i) })
	slices.SortFunc(places, s.compare)
	out := make([]Write, len(places))
	for n, i := range places {
		out[n] = Write{Dot: s.dot(i), Delete: s.writes[i].del, Stamp: s.writes[i].stamp}
	}
	return out
}

// Siblings returns region r's siblings of the key in canonical order.
func (s *State) Siblings(r int) []Write { return s.list(s.members[r].now.siblings) }

// Journal returns the entries that region r holds, in canonical order.
func (s *State) Journal(r int) []Write { return s.list(s.members[r].now.journal) }

// Visible returns what readers in region r see, a tombstone included; false for nothing.
func (s *State) Visible(r int) (Write, bool) {
	v := s.shown(&s.members[r].now)
	if v < 0 {
		return Write{}, false
	}
	return s.list(1 << v)[0], true
}

// Frontier returns the highest sequence of each origin that region r has applied.
func (s *State) Frontier(r int) map[Origin]int { return s.marks(s.frontier(s.members[r].now.seen)) }

// Durable returns what Frontier would say after a crash of region r.
func (s *State) Durable(r int) map[Origin]int { return s.marks(s.frontier(s.members[r].disk.seen)) }

func (s *State) marks(v vector) map[Origin]int {
	out := make(map[Origin]int)
	for o, seq := range v {
		if seq > 0 {
			out[s.originOf(uint8(o))] = int(seq)
		}
	}
	return out
}

// Stable reports whether the write is below region r's stable frontier.
func (s *State) Stable(r int, d Dot) bool {
	for i := range int(s.count) {
		if s.dot(i) == d && s.stable(r, i) {
			return true
		}
	}
	return false
}

// Incarnation returns region r's incarnation, from 1.
func (s *State) Incarnation(r int) int { return int(s.members[r].incarnation) }

// Recorded returns the pairs of writes that region r has on record, each pair
// once, both in canonical order.
func (s *State) Recorded(r int) [][2]Dot {
	var out [][2]Dot
	for _, a := range s.list(s.members[r].now.seen) {
		for _, b := range s.list(s.members[r].now.seen) {
			i, j := s.place(a.Dot), s.place(b.Dot)
			if s.compare(i, j) < 0 && s.members[r].now.recorded[i].has(j) {
				out = append(out, [2]Dot{a.Dot, b.Dot})
			}
		}
	}
	return out
}

func (s *State) place(d Dot) int {
	for i := range int(s.count) {
		if s.dot(i) == d {
			return i
		}
	}
	return -1
}

// Context returns what the write with this dot had seen: its origin's frontier,
// the origin's own earlier writes included. Nil when nobody knows the write.
func (s *State) Context(d Dot) map[Origin]int {
	if i := s.place(d); i >= 0 {
		return s.marks(s.writes[i].context)
	}
	return nil
}

// Known returns all writes that some region has, in canonical order.
func (s *State) Known() []Write { return s.list(1<<s.count - 1) }

// Acknowledged returns the writes that a client was told are safe, in canonical order.
func (s *State) Acknowledged() []Write { return s.list(s.acked) }
