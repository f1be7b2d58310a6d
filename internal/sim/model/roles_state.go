package model

import (
	"hash/maphash"
	"math/bits"
)

// rolesState is everything there is. It is a value: copies share nothing.
type rolesState struct {
	entries [maxSlots]rolesEntry // by slot; those beyond every frontier are zero
	regions [MaxRegions]rolesRegion
	group   rolesGroup

	made, locals, failovers, attempts, reads, crashes uint8
	told                                              slots          // versions that an answer given has leaned on
	stale                                             slots          // entries that were written without having seen what had been told by then
	last                                              [maxKeys]uint8 // the last version told, as versions are counted; falls back when it is stranded
	read                                              pausedRead
	forward                                           forwarded
	fault                                             fault // found by a step, not to be seen in the state it led to
}

// rolesEntry is one entry of a journal. The version that it writes is named by its
// slot and one.
type rolesEntry struct {
	epoch     uint8 // from 1, or ofLocal; 0 means that there is no entry
	key       uint8
	home      uint8 // region and one that the item belongs to from here on
	deletes   bool
	forwarded bool  // the request of the model's forwarded write
	base      uint8 // the version that it replaced, or initially
	context   marks // the author's own mark among them
}

// ofLocal stands for the epoch of an entry of a local table, which has none: it is
// never sealed and lies beyond no cutoff.
const ofLocal = 7

// marks is a frontier, by region.
type marks [MaxRegions]uint8

func (m marks) covers(n marks) bool { return m[0] >= n[0] && m[1] >= n[1] && m[2] >= n[2] }

// slots is a set of entries.
type slots uint16

func (s slots) has(slot uint8) bool { return s&(1<<slot) != 0 }

func slotOf(origin, seq uint8) uint8 { return origin*maxSeq + seq - 1 }

// under reports whether the slot lies within the frontier.
func (m marks) under(slot uint8) bool { return slot%maxSeq < m[slot/maxSeq] }

// rolesStore is what a disk holds.
type rolesStore struct {
	has      marks          // entries, all counted
	items    [maxKeys]uint8 // the version of each key
	out      uint8          // keys whose version was taken out
	stranded slots          // listed
	knows    uint8          // epochs whose cutoffs are known
	sealed   uint8          // the epoch up to which, not included, nothing is taken; 0 for none
	grants   [maxKeys]grant // as arbiter
}

// grant is a birth granted: in which epoch, to whom, and after which version.
type grant struct{ epoch, to, after uint8 }

type rolesRegion struct {
	now, disk rolesStore
	held      [maxKeys]grant // as the one to give birth
	lease     uint8          // the epoch for which it has a lease; 0 for none
	view      uint8          // the newest epoch that its copy of the group's state names
	stalled   bool
	checked   uint8 // CheckBeforeAppend: key and one, to be written without another look
}

// rolesGroup is the agreed state.
type rolesGroup struct {
	epoch   uint8
	to      uint8 // successor and one while a failover is under way
	heard   uint8 // by the successor
	last    uint8 // heard when the newest cutoff was fixed
	by      uint8 // the successor that fixed it
	cutoffs [maxEpoch + 1]cutoff
}

// cutoff is what an epoch began with. That of the first is empty and bounds nothing.
type cutoff struct {
	at   marks
	lost uint8             // regions that were not heard
	by   uint8             // its successor
	acts [MaxRegions]uint8 // who acts in each region's roles
}

type pausedRead struct {
	on          bool
	region, key uint8
	value       uint8
	must        uint8 // what had been told when it was asked
	epoch       uint8 // of the lease under which the value was read; 0 for none
}

type forwarded struct {
	by    uint8 // region and one that forwards; 0 before it has
	epoch uint8 // that it was sent for last
	out   uint8 // epochs for which a request is on its way
}

// fault is something wrong that a step did.
type fault uint8

const (
	noFault       fault = iota
	toldStranded        // an answer leaned on a version that had been stranded before
	toldStale           // an answer leaned on a version older than one told before it was asked
	lostDespite         // a version told under rpo 0 lies beyond a cutoff
	brokenHistory       // the step left nothing to go on with
)

func (f fault) String() string {
	switch f {
	case toldStranded:
		return "stranded: an answer leans on a write that a cutoff had stranded before"
	case toldStale:
		return "stale: an answer leans on an older version than one given before it was asked for"
	case lostDespite:
		return "rpo: a write that was told under rpo 0s lies beyond a cutoff"
	case brokenHistory:
		return "history: a version has no base"
	case noFault:
	}
	return ""
}

// roles is a model with its configuration.
type roles struct {
	RolesConfig
	bugs uint64
	seed maphash.Seed
	swap bool // regions 1 and 2 are alike
}

func newRoles(cfg RolesConfig) *roles {
	m := &roles{RolesConfig: cfg, seed: maphash.MakeSeed()}
	for i, b := range RolesBugs() {
		for _, planted := range cfg.Bugs {
			if b == planted {
				m.bugs |= 1 << i
			}
		}
	}
	m.swap = cfg.Regions == MaxRegions && (!cfg.Partitioned || cfg.Births)
	return m
}

// has reports whether a bug is planted.
func (m *roles) has(b RolesBug) bool {
	if m.bugs == 0 {
		return false
	}
	for i, known := range RolesBugs() {
		if known == b {
			return m.bugs&(1<<i) != 0
		}
	}
	return false
}

func (m *roles) machine() *machine[rolesState, RolesStep] {
	return &machine[rolesState, RolesStep]{
		start: m.begin(), enabled: m.enabled, do: m.do, key: m.key, wrong: m.wrong, max: m.MaxStates,
	}
}

func (m *roles) begin() rolesState {
	s := rolesState{}
	s.group.epoch = 1
	s.group.last = 1<<m.Regions - 1
	for r := range uint8(m.Regions) {
		if m.Partitioned {
			s.group.cutoffs[1].acts[r] = r
		}
		s.regions[r].view = 1
		if m.Partitioned || r == 0 {
			s.regions[r].lease = 1
		}
	}
	return s
}

// counts reports whether the entry counts where these cutoffs are known: it lies
// within those of all later epochs ★, whoever wrote it ★.
func (m *roles) counts(s *rolesState, slot, knows uint8) bool {
	e := s.entries[slot].epoch
	for later := e + 1; later <= s.group.epoch; later++ {
		if knows&(1<<later) == 0 {
			continue
		}
		c := &s.group.cutoffs[later]
		if m.has(BoundOneOrigin) && s.group.cutoffs[later-1].acts[0] != slot/maxSeq {
			continue
		}
		if !c.at.under(slot) {
			return false
		}
		if m.has(BoundLastOnly) {
			break
		}
	}
	return true
}

// truly is counts by what the group knows, whatever bug is planted.
func truly(s *rolesState, slot uint8) bool {
	for later := s.entries[slot].epoch + 1; later <= s.group.epoch; later++ {
		if !s.group.cutoffs[later].at.under(slot) {
			return false
		}
	}
	return true
}

func (s *rolesState) trulyVersion(v uint8) bool { return v == initially || truly(s, v-1) }

// follows reports whether the version v is w or was built upon it.
func (s *rolesState) follows(v, w uint8) bool {
	for range maxSlots + 1 {
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

// home returns the region and one to which the version's item belongs, 0 for none.
func (m *roles) home(s *rolesState, key, version uint8) uint8 {
	switch {
	case version != initially && s.entries[version-1].deletes:
		return 0
	case version != initially:
		return s.entries[version-1].home
	case m.Births:
		return 0
	case m.Partitioned:
		return key + 1
	}
	return 1
}

// newest is the newest epoch whose cutoff the region knows, 1 if none.
func newest(st *rolesStore) uint8 {
	if st.knows == 0 {
		return 1
	}
	return uint8(bits.Len8(st.knows)) - 1
}

// acts reports whether the region may act in some role now: it has a lease for an
// epoch, knows of no later one, has not sealed it, and has everything up to its cutoff ★.
func (m *roles) acts(s *rolesState, r uint8) bool {
	g := &s.regions[r]
	return m.leased(s, r) && (g.now.has.covers(s.group.cutoffs[g.lease].at) || m.has(ActUncovered))
}

func (m *roles) leased(s *rolesState, r uint8) bool {
	g := &s.regions[r]
	return g.lease > 0 && g.now.sealed <= g.lease && newest(&g.now) <= g.lease
}

// actsFor reports whether it acts in the roles of the region home-1.
func (m *roles) actsFor(s *rolesState, r, home uint8) bool {
	return home > 0 && m.acts(s, r) && s.group.cutoffs[s.regions[r].lease].acts[home-1] == r
}

// holders counts the regions with the entry on disk, acknowledged. One that knows
// it to lie beyond a cutoff stores it, and that is no acknowledgement ★.
func (m *roles) holders(s *rolesState, slot uint8) int {
	n := 0
	for r := range m.Regions {
		if g := &s.regions[r]; g.disk.has.under(slot) && (m.counts(s, slot, g.disk.knows) || m.has(AckBeyond)) {
			n++
		}
	}
	return n
}

// released reports whether answers may lean on the version: the writer and k
// others have it on disk. Without an rpo one disk is enough, and it is here.
func (m *roles) released(s *rolesState, v uint8) bool {
	return v == initially || m.RPO == 0 || m.holders(s, v-1) > m.RPO
}

// key hashes all that tells states apart. Where two regions are alike, a state and
// the one with their names exchanged share a key.
func (m *roles) key(s *rolesState, buf []byte) (uint64, []byte) {
	names := [MaxRegions]uint8{0, 1, 2}
	buf = m.append(s, &names, buf[:0])
	key := maphash.Bytes(m.seed, buf)
	if m.swap {
		names = [MaxRegions]uint8{0, 2, 1}
		buf = m.append(s, &names, buf[:0])
		key = min(key, maphash.Bytes(m.seed, buf))
	}
	return key, buf
}

// renaming writes a state with its regions under other names; each name is its own inverse.
type renaming struct {
	names *[MaxRegions]uint8
	out   []byte
}

func (w *renaming) put(b ...uint8) { w.out = append(w.out, b...) }

func (w *renaming) region(r uint8) uint8 { return w.names[r] }

// optional is a region and one, or 0.
func (w *renaming) optional(r uint8) uint8 {
	if r == 0 {
		return 0
	}
	return w.names[r-1] + 1
}

func (w *renaming) version(v uint8) uint8 {
	if v == initially {
		return initially
	}
	return w.slot(v-1) + 1
}

func (w *renaming) slot(slot uint8) uint8 { return w.names[slot/maxSeq]*maxSeq + slot%maxSeq }

func (w *renaming) marks(n marks) {
	w.put(n[w.names[0]]|n[w.names[1]]<<4, n[w.names[2]])
}

func (w *renaming) mask(n uint8) uint8 {
	return n>>w.names[0]&1 | n>>w.names[1]&1<<1 | n>>w.names[2]&1<<2
}

func (w *renaming) slots(n slots) {
	const one = 1<<maxSeq - 1
	part := func(r uint8) slots { return n >> (w.names[r] * maxSeq) & one }
	renamed := part(0) | part(1)<<maxSeq | part(2)<<(2*maxSeq)
	w.put(uint8(renamed), uint8(renamed>>8))
}

func (w *renaming) grant(g grant) {
	if g.epoch == 0 {
		w.put(0)
		return
	}
	w.put(g.epoch|w.region(g.to)<<4, w.version(g.after))
}

func (w *renaming) store(st *rolesStore) {
	w.marks(st.has)
	w.slots(st.stranded)
	w.put(w.version(st.items[0])|w.version(st.items[1])<<4, st.out|st.sealed<<4, st.knows)
	w.grant(st.grants[0])
	w.grant(st.grants[1])
}

func (m *roles) append(s *rolesState, names *[MaxRegions]uint8, buf []byte) []byte {
	w := &renaming{names, buf}
	w.put(s.made|s.failovers<<4, s.attempts|s.reads<<4, s.crashes|uint8(s.fault)<<4, s.locals)
	w.slots(s.told)
	w.slots(s.stale)
	w.put(w.version(s.last[0]) | w.version(s.last[1])<<4)
	if s.read.on {
		r := &s.read
		w.put(0xf0|w.region(r.region)<<2|r.key, w.version(r.value)|w.version(r.must)<<4, r.epoch)
	}
	w.put(w.optional(s.forward.by)|s.forward.epoch<<4, s.forward.out)
	for r := range uint8(m.Regions) {
		old := names[r] // the names are their own inverse
		for n := range uint8(maxSeq) {
			e := &s.entries[old*maxSeq+n]
			if e.epoch == 0 {
				w.put(0)
				break
			}
			w.put(e.epoch|e.key<<3|flag(e.deletes)<<4|flag(e.forwarded)<<5|w.optional(e.home)<<6, w.version(e.base))
			w.marks(e.context)
		}
		g := &s.regions[old]
		w.put(g.lease|g.view<<3|flag(g.stalled)<<6, g.checked)
		w.grant(g.held[0])
		w.grant(g.held[1])
		w.store(&g.now)
		if g.stalled {
			w.store(&g.disk)
		}
	}
	g := &s.group
	w.put(g.epoch|w.optional(g.to)<<4, w.mask(g.heard)|w.mask(g.last)<<4, w.region(g.by))
	for e := uint8(2); e <= g.epoch; e++ {
		c := &g.cutoffs[e]
		w.marks(c.at)
		w.put(w.mask(c.lost)|w.region(c.by)<<4, w.region(c.acts[names[0]])|w.region(c.acts[names[1]])<<2|w.region(c.acts[names[2]])<<4)
	}
	return w.out
}
