package model

import (
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

	made, failovers, switches, cancels, rejoins uint8
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
type tenureGrant struct {
	by, to, under uint8
	at            tenureMarks // what the arbiter had
}

type tenureRole struct {
	holder, epoch   uint8
	next, nextEpoch uint8 // region and one that it is being handed to; 0 for none
	leaving         bool  // the holder may release: the switch can't be called off any more
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
	seed  maphash.Seed
	names []naming
}

func newTenures(cfg TenuresConfig) *tenures {
	return &tenures{cfg, maphash.MakeSeed(), namings(cfg.Regions)}
}

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

// rolesOf is what the entry belongs to: one role, or all that it opens.
func (s *tenureState) rolesOf(e *tenureEntry) uint8 {
	if e.kind == opened {
		return s.events[e.epoch].begun
	}
	return 1 << e.role
}

// in reports whether b is in the mask.
func in(mask, b uint8) bool { return mask&(1<<b) != 0 }

// counts reports whether the entry counts where these cutoffs are known.
func (m *tenures) counts(s *tenureState, slot, knows uint8) bool {
	e := &s.entries[slot]
	for f := e.epoch + 1; f <= s.count; f++ {
		ev := &s.events[f]
		if !in(knows, f) || ev.roles&s.rolesOf(e) == 0 {
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
		if ev := &s.events[f]; ev.fixed && ev.roles&s.rolesOf(e) != 0 && !ev.at.under(slot) {
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
		if !in(g.sealed, f) || in(g.knows, f) || s.events[f].begun&s.rolesOf(e) == 0 {
			continue
		}
		later := false
		for n := f + 1; n <= s.count; n++ {
			later = later || in(g.knows, n) && s.events[n].roles&s.rolesOf(e) != 0
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

// key hashes all that tells states apart. All regions but the one where the item
// begins are alike, so states that differ in their names only share a key.
func (m *tenures) key(s *tenureState, buf []byte) (uint64, []byte) {
	key := ^uint64(0)
	for i := range m.names {
		w := swapping{&m.names[i], buf[:0]}
		w.state(s, m.Regions)
		buf = w.out
		key = min(key, maphash.Bytes(m.seed, buf))
	}
	return key, buf
}

// naming gives regions, and their roles, other names.
type naming struct{ to, from [tenureRegions]uint8 }

// namings lists the ways to name n regions where the first keeps its name.
func namings(n int) (out []naming) {
	var add func(to [tenureRegions]uint8, next int)
	add = func(to [tenureRegions]uint8, next int) {
		if next == tenureRegions {
			w := naming{to: to}
			for old, name := range to {
				w.from[name] = uint8(old)
			}
			out = append(out, w)
			return
		}
		for name := 1; name < tenureRegions; name++ {
			if next >= n && name != next || next < n && name >= n || slices.Contains(to[1:next], uint8(name)) {
				continue
			}
			to[next] = uint8(name)
			add(to, next+1)
		}
	}
	add([tenureRegions]uint8{}, 1)
	return out
}

// swapping writes a state with its regions under other names.
type swapping struct {
	*naming

	out []byte
}

func (w *swapping) put(b ...uint8) { w.out = append(w.out, b...) }

func (w *swapping) version(v uint8) uint8 {
	if v == initially {
		return initially
	}
	return w.to[(v-1)/tenureSeq]*tenureSeq + (v-1)%tenureSeq + 1
}

func (w *swapping) optional(r uint8) uint8 {
	if r == 0 {
		return 0
	}
	return w.to[r-1] + 1
}

func (w *swapping) mask(n uint8) (out uint8) {
	for name, old := range w.from {
		out |= n >> old & 1 << name
	}
	return out
}

func (w *swapping) slots(n uint32) {
	const one = 1<<tenureSeq - 1
	var out uint32
	for name, old := range w.from {
		out |= n >> (uint32(old) * tenureSeq) & one << (name * tenureSeq)
	}
	w.put(uint8(out), uint8(out>>8), uint8(out>>16))
}

func (w *swapping) marks(n tenureMarks) {
	w.put(n[w.from[0]]|n[w.from[1]]<<4, n[w.from[2]]|n[w.from[3]]<<4)
}

func (w *swapping) grant(g tenureGrant) {
	if g.by == 0 {
		w.put(0)
		return
	}
	w.put(g.by|g.under<<4, w.to[g.to])
	w.marks(g.at)
}

func (w *swapping) state(s *tenureState, regions int) {
	w.put(s.made|s.failovers<<4, s.switches|s.rejoins<<4, s.cancels, s.count|w.mask(s.fenced)<<4, w.version(s.last), flag(s.fault != ""))
	w.slots(s.told)
	w.slots(s.stale)
	w.slots(s.doomed)
	for name := range regions {
		old := w.from[name]
		for n := range uint8(tenureSeq) {
			e := &s.entries[old*tenureSeq+n]
			if e.kind == 0 {
				w.put(0)
				break
			}
			w.put(e.kind|w.to[e.role]<<3|w.to[e.home]<<5, e.epoch, w.version(e.base), e.carries, e.seals)
			w.marks(e.context)
		}
		g, ro := &s.regions[old], &s.roles[old]
		w.marks(g.has)
		w.slots(g.stranded)
		w.put(w.version(g.item)|flag(g.out)<<7, g.knows, g.sealed)
		w.grant(g.given)
		w.grant(g.held)
		w.put(w.to[ro.holder]|ro.epoch<<2|flag(ro.leaving)<<5, w.optional(ro.next)|ro.nextEpoch<<3)
	}
	for f := uint8(2); f <= s.count; f++ {
		ev := &s.events[f]
		w.put(ev.kind|w.to[ev.to]<<2|flag(ev.fixed)<<4, w.mask(ev.roles)|w.mask(ev.begun)<<4, w.mask(ev.sealed), ev.with)
		w.marks(ev.at)
	}
}

func (s *tenureState) name(v uint8) string {
	if v == initially {
		return "its first version"
	}
	return fmt.Sprintf("r%d:%d", (v-1)/tenureSeq, (v-1)%tenureSeq+1)
}
