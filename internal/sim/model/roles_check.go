package model

import "fmt"

func (s *rolesState) name(v uint8) string {
	if v == initially {
		return "its first version"
	}
	return fmt.Sprintf("r%d:%d", (v-1)/maxSeq, (v-1)%maxSeq+1)
}

// wrong says what is wrong with the state; empty when nothing is.
func (m *roles) wrong(s *rolesState) string {
	if s.fault != noFault {
		return s.fault.String()
	}
	if wrong := m.timelines(s); wrong != "" {
		return wrong
	}
	for r := range uint8(m.Regions) {
		if wrong := m.wrongRegion(s, r); wrong != "" {
			return wrong
		}
	}
	return m.unequal(s)
}

// timelines: the versions of a key that count are built one upon the other, each
// epoch of a global table has one author, and a forwarded write happened once.
func (m *roles) timelines(s *rolesState) string {
	forwarded := 0
	for i := range uint8(maxSlots) {
		a := &s.entries[i]
		if a.epoch == 0 || a.epoch == ofLocal || !truly(s, i) {
			continue
		}
		if a.forwarded {
			forwarded++
		}
		for j := range i {
			b := &s.entries[j]
			if b.epoch == 0 || b.epoch == ofLocal || b.key != a.key || !truly(s, j) {
				continue
			}
			if !s.follows(i+1, j+1) && !s.follows(j+1, i+1) {
				return fmt.Sprintf("two timelines: %s and %s do not follow one another", s.name(j+1), s.name(i+1))
			}
			if !m.Partitioned && a.epoch == b.epoch && i/maxSeq != j/maxSeq {
				return fmt.Sprintf("two writers: %s and %s were written in epoch %d", s.name(j+1), s.name(i+1), a.epoch)
			}
		}
	}
	if forwarded > 1 {
		return "twice: a forwarded write was applied twice"
	}
	return ""
}

// known reports whether the entry counts by the cutoffs that the store knows: the
// rule, whatever bug is planted.
func (s *rolesState) known(slot uint8, st *rolesStore) bool {
	for later := s.entries[slot].epoch + 1; later <= s.group.epoch; later++ {
		if st.knows&(1<<later) != 0 && !s.group.cutoffs[later].at.under(slot) {
			return false
		}
	}
	return true
}

// wrongRegion: an item is a function of the frontier and of the cutoffs known, and
// so is the list of stranded writes.
func (m *roles) wrongRegion(s *rolesState, r uint8) string {
	st := &s.regions[r].now
	var want [maxKeys]uint8
	for slot := range uint8(maxSlots) {
		if !st.has.under(slot) {
			continue
		}
		counts := s.known(slot, st)
		if st.stranded.has(slot) == counts {
			if counts {
				return fmt.Sprintf("listed: r%d lists %s as stranded, which counts", r, s.name(slot+1))
			}
			return fmt.Sprintf("unlisted: %s is stranded, and r%d does not list it", s.name(slot+1), r)
		}
		if k := s.entries[slot].key; counts && s.entries[slot].epoch != ofLocal && s.follows(slot+1, want[k]) {
			want[k] = slot + 1
		}
	}
	for k := range uint8(m.Keys) {
		if st.out&(1<<k) == 0 && st.items[k] != want[k] {
			return fmt.Sprintf("item: r%d shows %s of %c; what it has and knows makes it %s", r, s.name(st.items[k]), 'x'+k, s.name(want[k]))
		}
	}
	return ""
}

// unequal: when all that can arrive has arrived, all regions hold the same, and no
// key is out.
func (m *roles) unequal(s *rolesState) string {
	if s.group.to != 0 {
		return ""
	}
	for r := range uint8(m.Regions) {
		if g := &s.regions[r]; g.stalled || g.now.has[r] == maxSeq { // the model has no room for what would mend it
			return ""
		}
	}
	first := &s.regions[0].now
	wrong := ""
	for r := range uint8(m.Regions) {
		st := &s.regions[r].now
		switch {
		case st.has != first.has:
			wrong = fmt.Sprintf("stuck: r0 and r%d will never have the same entries", r)
		case st.out != 0:
			wrong = fmt.Sprintf("stuck: r%d will never show a version that it took out", r)
		case st.knows == first.knows && st.out|first.out == 0 && (st.items != first.items || st.stranded != first.stranded):
			return fmt.Sprintf("diverged: r0 and r%d have the same entries and not the same items", r)
		}
	}
	if wrong == "" {
		return ""
	}
	for r := range uint8(m.Regions) {
		for k := range uint8(m.Keys) {
			if len(m.repairs(s, nil, r, k)) > 0 {
				return ""
			}
		}
		for o := range uint8(m.Regions) {
			if m.delivers(s, r, o) {
				return ""
			}
		}
		if m.learns(s, r) {
			return ""
		}
	}
	return wrong
}
