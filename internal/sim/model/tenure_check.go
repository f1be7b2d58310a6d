package model

import "fmt"

// wrong says what is wrong with the state; empty when nothing is.
func (m *tenures) wrong(s *tenureState) string {
	if s.fault != "" {
		return s.fault
	}
	for i := range uint8(tenureSlots) {
		if s.doomed&(1<<i) != 0 && s.open() == 0 && s.entries[i].ofItem() && s.within(i) {
			return fmt.Sprintf("revived: %s counts, which no region had that was left", s.name(i+1))
		}
		if !m.inTimeline(s, i) {
			continue
		}
		for j := range i {
			if m.inTimeline(s, j) && !s.follows(i+1, j+1) && !s.follows(j+1, i+1) {
				return fmt.Sprintf("two timelines: %s and %s do not follow one another", s.name(j+1), s.name(i+1))
			}
		}
	}
	for b := range uint8(m.Regions) {
		if ro := &s.roles[b]; ro.next == 0 && s.releasedBy(ro.holder, b, ro.epoch, ro.holder) {
			return fmt.Sprintf("orphaned: r%d has released role %d, and nobody is to take it", ro.holder, b)
		}
	}
	for r := range uint8(m.Regions) {
		if wrong := m.wrongRegion(s, r); wrong != "" {
			return wrong
		}
	}
	return m.unequal(s)
}

func (m *tenures) inTimeline(s *tenureState, slot uint8) bool {
	return s.entries[slot].ofItem() && s.truly(slot)
}

// wrongRegion: where all cutoffs are known, the item is a function of the frontier;
// the list of stranded writes always is, of the frontier and of the cutoffs known.
func (m *tenures) wrongRegion(s *tenureState, r uint8) string {
	g := &s.regions[r]
	var want uint8
	for slot := range uint8(tenureSlots) {
		if !g.has.under(slot) {
			continue
		}
		counts := true
		for f := s.entries[slot].epoch + 1; f <= s.count; f++ {
			bounds := in(g.knows, f) && s.events[f].roles&s.rolesOf(&s.entries[slot]) != 0
			counts = counts && (!bounds || s.events[f].at.under(slot))
		}
		if g.stranded&(1<<slot) != 0 == counts {
			return fmt.Sprintf("listed: that r%d lists %s as stranded is %v, and should not be", r, s.name(slot+1), !counts)
		}
		if counts && s.entries[slot].ofItem() && s.follows(slot+1, want) {
			want = slot + 1
		}
	}
	all := s.fixed()&^g.knows == 0 && (s.open() == 0 || !in(s.fenced, r))
	if all && !g.out && g.item != want {
		return fmt.Sprintf("item: r%d shows %s; what it has makes it %s", r, s.name(g.item), s.name(want))
	}
	return ""
}

// unequal: when all has arrived, all regions hold the same, and no key is out.
func (m *tenures) unequal(s *tenureState) string {
	if s.open() != 0 {
		return ""
	}
	wrong := ""
	first := &s.regions[0]
	for r := range uint8(m.Regions) {
		g := &s.regions[r]
		switch {
		case g.has[r] == tenureSeq:
			return "" // the model has no room for what would mend it
		case g.has != first.has:
			wrong = fmt.Sprintf("stuck: r0 and r%d will never have the same entries", r)
		case g.out:
			wrong = fmt.Sprintf("stuck: r%d will never show a version that it took out", r)
		case g.knows == first.knows && !first.out && (g.item != first.item || g.stranded != first.stranded):
			return fmt.Sprintf("diverged: r0 and r%d have the same entries and not the same items", r)
		}
	}
	if wrong == "" {
		return ""
	}
	for r := range uint8(m.Regions) {
		if len(m.repairs(s, nil, r)) > 0 || s.fixed()&^s.regions[r].knows != 0 {
			return ""
		}
		for o := range uint8(m.Regions) {
			if m.delivers(s, r, o) {
				return ""
			}
		}
	}
	return wrong
}
