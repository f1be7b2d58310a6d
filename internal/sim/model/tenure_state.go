package model

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
)

// tenureState is everything there is.
type tenureState struct {
	entries [tenureSlots]tenureEntry
	regions [tenureRegions]tenureRegion
	roles   [tenureRegions]tenureRole
	events  [tenureEvents + 1]tenureEvent // by number, from 2; a tenure has the number of what it began with
	count   uint8                         // the number of the last event
	fenced  uint8                         // regions without a lease

	made, failovers, switches, rejoins uint8
	// doomed are entries that no region that is left has and all of these have sealed:
	// no cutoff can have them, though theirs may not be fixed yet.
	doomed uint32
	told   uint32 // versions that an answer has leaned on
	stale  uint32
	last   uint8
	fault  string
}

// What a tenureEntry does; 0 is none.
const (
	wrote = iota + 1
	handed
	bore
	released
	opened // a successor begins: the entry carries cutoffs
)

// tenureEntry is one entry of a journal. A version is named by its slot and one.
type tenureEntry struct {
	kind, role, epoch uint8
	home              uint8 // that the item belongs to from here on
	base              uint8
	carries           uint8 // failovers whose cutoffs it carries
	seals             uint8 // and those that it says are under way
	context           tenureMarks
}

// tenureMarks is a frontier.
type tenureMarks [tenureRegions]uint8

func (m tenureMarks) covers(n tenureMarks) bool {
	return m[0] >= n[0] && m[1] >= n[1] && m[2] >= n[2] && m[3] >= n[3]
}

func (m tenureMarks) under(slot uint8) bool { return slot%tenureSeq < m[slot/tenureSeq] }

// tenureRegion is what a region has. All of it is on its disk but the grant it holds.
type tenureRegion struct {
	has      tenureMarks
	item     uint8
	out      bool
	stranded uint32
	knows    uint8       // failovers whose cutoff is in force here
	sealed   uint8       // failovers that it has sealed, whether or not it knows the cutoff by now
	given    tenureGrant // as arbiter
	held     tenureGrant
}

// tenureGrant is a birth granted: by a tenure of role 0, to a region in a tenure
// of its own role.
type tenureGrant struct{ by, to, under uint8 }

type tenureRole struct {
	holder, epoch   uint8
	next, nextEpoch uint8 // region and one that it is being handed to; 0 for none
}

type tenureEvent struct {
	kind   uint8
	roles  uint8 // that it is about still
	begun  uint8 // that it was about at first: what sealing it seals
	to     uint8
	sealed uint8 // regions that have reported and are covered
	with   uint8 // failovers that had no cutoff yet when this one's was fixed
	fixed  bool
	at     tenureMarks
}

const (
	isFailover = iota + 1
	isSwitch
)

// tenures is a model with its configuration.
type tenures struct {
	TenuresConfig
	seed maphash.Seed
}

func newTenures(cfg TenuresConfig) *tenures { return &tenures{cfg, maphash.MakeSeed()} }

func (m *tenures) has(b TenuresBug) bool { return slices.Contains(m.Bugs, b) }

func (m *tenures) machine() *machine[tenureState, TenuresStep] {
	return &machine[tenureState, TenuresStep]{
		start: m.begin(), enabled: m.enabled, do: m.do, key: m.key, wrong: m.wrong, max: m.MaxStates,
	}
}

func (m *tenures) begin() tenureState {
	s := tenureState{count: 1}
	for b := range s.roles {
		s.roles[b] = tenureRole{holder: uint8(b), epoch: 1}
	}
	return s
}

// has reports whether b is in the mask.
func in(mask, b uint8) bool { return mask&(1<<b) != 0 }

// counts reports whether the entry counts where these cutoffs are known.
func (m *tenures) counts(s *tenureState, slot, knows uint8) bool {
	e := &s.entries[slot]
	for f := e.epoch + 1; f <= s.count; f++ {
		ev := &s.events[f]
		if !in(knows, f) || !in(ev.roles, e.role) {
			continue
		}
		if !ev.at.under(slot) {
			return false
		}
		if m.has(BoundOneTenure) {
			break
		}
	}
	return true
}

// truly is counts by what the group knows.
func (s *tenureState) truly(slot uint8) bool { return s.doomed&(1<<slot) == 0 && s.within(slot) }

func (s *tenureState) within(slot uint8) bool {
	e := &s.entries[slot]
	for f := e.epoch + 1; f <= s.count; f++ {
		if ev := &s.events[f]; ev.fixed && in(ev.roles, e.role) && !ev.at.under(slot) {
			return false
		}
	}
	return true
}

func (s *tenureState) follows(v, w uint8) bool {
	for range tenureSlots + 1 {
		if v == w {
			return true
		}
		if v == initially {
			return false
		}
		v = s.entries[v-1].base
	}
	return false
}

// home returns the role and one that may write the version's item, 0 for none.
func (m *tenures) home(s *tenureState, v uint8) uint8 {
	switch {
	case v != initially:
		return s.entries[v-1].home + 1
	case m.Births:
		return 0
	}
	return 1
}

// open lists the failovers without a cutoff.
func (s *tenureState) open() uint8 {
	var out uint8
	for f := uint8(2); f <= s.count; f++ {
		if ev := &s.events[f]; ev.kind == isFailover && !ev.fixed && ev.roles != 0 {
			out |= 1 << f
		}
	}
	return out
}

// ended reports whether the region knows, or has sealed, that the role's tenure ended.
func (s *tenureState) ended(r, role, epoch uint8) bool {
	g := &s.regions[r]
	for f := epoch + 1; f <= s.count; f++ {
		if in(g.knows|g.sealed, f) && in(s.events[f].begun, role) {
			return true
		}
	}
	return false
}

// tenure returns the tenure under which the region holds the role now; 0 for none.
func (m *tenures) tenure(s *tenureState, r, role uint8) uint8 {
	if in(s.fenced, r) {
		return 0
	}
	g, ro := &s.regions[r], &s.roles[role]
	var epoch uint8
	switch {
	case ro.holder == r && (!s.releasedBy(r, role, ro.epoch, r) || m.has(WriteReleased)):
		epoch = ro.epoch
		if s.events[epoch].kind == isFailover && !in(g.knows, epoch) {
			return 0
		}
	case ro.next == r+1 && (s.releasedBy(ro.holder, role, ro.epoch, r) || m.has(OpenUnreleased)):
		epoch = ro.nextEpoch
	}
	if epoch == 0 || s.ended(r, role, epoch) {
		return 0
	}
	return epoch
}

// releasedBy reports whether the region at has applied the holder's release.
func (s *tenureState) releasedBy(holder, role, epoch, at uint8) bool {
	for n := range s.regions[at].has[holder] {
		if e := &s.entries[holder*tenureSeq+n]; e.kind == released && e.role == role && e.epoch == epoch {
			return true
		}
	}
	return false
}

// blocked reports whether the entry is of a tenure that the region has sealed.
func (s *tenureState) blocked(r uint8, e *tenureEntry) bool {
	g := &s.regions[r]
	for f := e.epoch + 1; f <= s.count; f++ {
		if !in(g.sealed, f) || in(g.knows, f) || !in(s.events[f].begun, e.role) {
			continue
		}
		later := false
		for n := f + 1; n <= s.count; n++ {
			later = later || in(g.knows, n) && in(s.events[n].roles, e.role)
		}
		if !later {
			return true
		}
	}
	return false
}

// answerable is the role whose holder says what an item is that was taken out: that
// of the first version that does not count. Who may be born is for the arbiter.
func (m *tenures) answerable(s *tenureState, r uint8) uint8 {
	g := &s.regions[r]
	var lowest uint8
	for v := g.item; v != initially; v = s.entries[v-1].base {
		if !m.counts(s, v-1, g.knows) {
			lowest = v - 1
		}
	}
	if s.entries[lowest].kind == bore {
		return 0
	}
	return s.entries[lowest].role
}

func (m *tenures) key(s *tenureState, buf []byte) (uint64, []byte) {
	b := append(buf[:0], s.made|s.failovers<<4, s.switches|s.rejoins<<4, s.count|s.fenced<<4, s.last, flag(s.fault != ""))
	b = binary.LittleEndian.AppendUint32(b, s.told)
	b = binary.LittleEndian.AppendUint32(b, s.stale)
	b = binary.LittleEndian.AppendUint32(b, s.doomed)
	marks := func(n tenureMarks) { b = append(b, n[0]|n[1]<<4, n[2]|n[3]<<4) }
	for r := range m.Regions {
		for n := range tenureSeq {
			e := &s.entries[r*tenureSeq+n]
			if e.kind == 0 {
				b = append(b, 0)
				break
			}
			b = append(b, e.kind|e.role<<3|e.home<<5, e.epoch|e.base<<3, e.carries, e.seals)
			marks(e.context)
		}
		g, ro := &s.regions[r], &s.roles[r]
		marks(g.has)
		b = binary.LittleEndian.AppendUint32(b, g.stranded)
		b = append(b, g.item|flag(g.out)<<7, g.knows, g.sealed,
			g.given.by|g.given.to<<3|g.given.under<<5, g.held.by|g.held.under<<3, ro.holder|ro.epoch<<2|ro.next<<5, ro.nextEpoch)
	}
	for f := uint8(2); f <= s.count; f++ {
		ev := &s.events[f]
		b = append(b, ev.kind|ev.to<<2|flag(ev.fixed)<<4, ev.roles|ev.begun<<4, ev.sealed, ev.with)
		marks(ev.at)
	}
	return maphash.Bytes(m.seed, b), b
}

func (s *tenureState) name(v uint8) string {
	if v == initially {
		return "its first version"
	}
	return fmt.Sprintf("r%d:%d", (v-1)/tenureSeq, (v-1)%tenureSeq+1)
}
