package model

import (
	"cmp"
	"math/bits"
	"slices"
)

// State is everything there is: all writes ever made that somebody knows of, and
// what each region has of them.
type State struct {
	*limits
	writes  [MaxWrites]write
	count   uint8 // of writes
	made    uint8 // writes so far, those included that a crash took back
	crashes uint8
	losses  uint8
	acked   set    // writes that a client was told are safe
	ends    vector // where the journals of lost origins end
	members [MaxRegions]member
}

// limits is what does not change during a run.
type limits struct {
	Config
	bugs map[Bug]bool
}

func (l *limits) has(b Bug) bool { return len(l.bugs) > 0 && l.bugs[b] }

// write is one entry of some journal.
type write struct {
	stamp   uint64
	context vector // its origin's own mark is seq-1
	origin  uint8  // region + MaxRegions*(incarnation-1)
	seq     uint8
	del     bool
}

// vector is a frontier: a sequence per origin.
type vector [maxOrigins]uint8

func (v vector) covers(u vector) bool {
	for o := range v {
		if v[o] < u[o] {
			return false
		}
	}
	return true
}

func (v vector) join(u vector) vector {
	for o := range v {
		v[o] = max(v[o], u[o])
	}
	return v
}

func (v vector) includes(w *write) bool { return w.seq <= v[w.origin] }

// set is a set of writes by their places in State.writes.
type set uint16

func (s set) has(i int) bool { return s&(1<<i) != 0 }

// each visits the members in order.
func (s set) each(visit func(i int)) {
	for ; s != 0; s &= s - 1 {
		visit(bits.TrailingZeros16(uint16(s)))
	}
}

// pairs is a set of pairs of writes: for each write, those paired with it.
type pairs [MaxWrites]set

// store is what one engine holds. A batch changes all of it at once.
type store struct {
	seen     set   // applied; as a frontier when asked for
	siblings set   // of the key
	journal  set   // entries held, one's own and others'
	recorded pairs // collisions on record
	last     uint8 // NoTieBreak only: which write was applied last, from 1
}

// member is one region.
type member struct {
	now, disk   store
	acks        [MaxRegions]vector // Exact: what the others reported last; in memory only
	counted     [MaxRegions]vector // Exact: of that and all before, what counts already
	incarnation uint8
	stalled     bool // not Exact only: disk stands still until the crash
}

// New returns the state before anything has happened, or says what is wrong
// with the configuration.
func New(cfg Config) (*State, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &State{limits: &limits{Config: cfg, bugs: map[Bug]bool{}}}
	for _, b := range cfg.Bugs {
		s.bugs[b] = true
	}
	for r := range cfg.Regions {
		s.members[r].incarnation = 1
	}
	return s, nil
}

// Clone returns a copy that shares nothing that changes.
func (s *State) Clone() *State {
	c := *s
	return &c
}

func (s *State) origin(r int) uint8 {
	return uint8(r) + MaxRegions*(s.members[r].incarnation-1)
}

func (s *State) originOf(o uint8) Origin {
	return Origin{Region: int(o) % MaxRegions, Incarnation: int(o)/MaxRegions + 1}
}

func (s *State) dot(i int) Dot {
	return Dot{Origin: s.originOf(s.writes[i].origin), Seq: int(s.writes[i].seq)}
}

func (s *State) frontier(seen set) vector {
	var v vector
	for i := range int(s.count) {
		if w := &s.writes[i]; seen.has(i) {
			v[w.origin] = max(v[w.origin], w.seq)
		}
	}
	return v
}

// saw reports whether the write i had seen the write j.
func (s *State) saw(i, j int) bool { return s.writes[i].context.includes(&s.writes[j]) }

func (s *State) concurrent(i, j int) bool { return i != j && !s.saw(i, j) && !s.saw(j, i) }

// beats is the rule, last-writer: stamp, region, incarnation, sequence.
func (s *State) beats(i, j int) bool { return s.compare(i, j) > 0 }

func (s *State) compare(i, j int) int {
	a, b := &s.writes[i], &s.writes[j]
	return cmp.Or(
		cmp.Compare(a.stamp, b.stamp), cmp.Compare(a.origin%MaxRegions, b.origin%MaxRegions),
		cmp.Compare(a.origin, b.origin), cmp.Compare(a.seq, b.seq),
	)
}

// visible is the write that the rule picks, or -1 where there is none.
func (s *State) visible(siblings set) int {
	best := -1
	siblings.each(func(i int) {
		if best < 0 || s.beats(i, best) {
			best = i
		}
	})
	return best
}

// shown is what readers of a store see: visible, unless a bug forgets the ties.
func (s *State) shown(st *store) int {
	best := s.visible(st.siblings)
	if last := int(st.last) - 1; s.has(NoTieBreak) && last >= 0 && st.siblings.has(last) &&
		s.writes[last].stamp == s.writes[best].stamp {
		return last
	}
	return best
}

// stable is §2, Stable: every member has applied it, and each one's
// acknowledgement counts only once everything that its author wrote before is here ★.
func (s *State) stable(r, i int) bool {
	m := &s.members[r]
	here := s.frontier(m.now.seen)
	if !m.now.seen.has(i) || !s.has(ForgetEnd) && !here.covers(s.ends) {
		return false // ★ §6: a lost origin counts until its end is applied here
	}
	for other := range s.Regions {
		if other == r {
			continue
		}
		if s.Exact && !m.counted[other].includes(&s.writes[i]) || !s.Exact && !s.counts(here, other, i) {
			return false
		}
	}
	return true
}

// counts reports whether the other region's acknowledgement of the write i
// counts where the frontier is here, supposing that it was sent as soon as it
// could be: its author's writes before are those that had not seen i.
func (s *State) counts(here vector, other, i int) bool {
	if !s.report(other).includes(&s.writes[i]) {
		return false
	}
	for j := range int(s.count) {
		w := &s.writes[j]
		if w.origin == s.origin(other) && !w.context.includes(&s.writes[i]) && !here.includes(w) && !s.has(CountAcksAtOnce) {
			return false
		}
	}
	return true
}

// confirm lets the acknowledgements count whose time has come; once one counts, it
// does for good.
func (s *State) confirm(r int) {
	m := &s.members[r]
	here := s.frontier(m.now.seen)
	for q := range s.Regions {
		if ack, own := m.acks[q], s.origin(q); here[own] >= ack[own] || s.has(CountAcksAtOnce) {
			m.counted[q] = m.counted[q].join(ack)
		}
	}
}

func (s *State) allStable(r int, of set) bool {
	all := true
	of.each(func(i int) { all = all && s.stable(r, i) })
	return all
}

// droppable returns the siblings that may be dropped: §2, "a tombstone is
// dropped when it is stable and alone, or together with all its siblings when
// all are stable and a delete is the visible one" ★.
func (s *State) droppable(r int) set {
	siblings := s.members[r].now.siblings
	if s.has(DropFromSiblings) {
		var out set
		siblings.each(func(i int) {
			if s.writes[i].del && s.stable(r, i) {
				out |= 1 << i
			}
		})
		return out
	}
	v := s.visible(siblings)
	if v < 0 || !s.writes[v].del {
		return 0
	}
	switch {
	case s.allStable(r, siblings):
		return siblings
	case s.has(DropUnstable) && bits.OnesCount16(uint16(siblings)) == 1:
		return siblings
	case s.has(DropBesideUnstable) && s.stable(r, v):
		return siblings
	}
	return 0
}

// cuttable returns the journal entries that may go: §2, those below the stable frontier.
func (s *State) cuttable(r int) set {
	m := &s.members[r]
	if s.has(CutUnstable) {
		return m.now.journal & m.disk.seen
	}
	var out set
	m.now.journal.each(func(i int) {
		if s.stable(r, i) {
			out |= 1 << i
		}
	})
	return out
}

// offers reports whether region q can send the entry i: it has it, and if it is
// q's own then only after its fsync ★ (§1). Copies of others' entries may be
// relayed at once.
func (s *State) offers(q, i int) bool {
	m := &s.members[q]
	if !m.now.journal.has(i) {
		return false
	}
	return m.disk.seen.has(i) || s.writes[i].origin != s.origin(q) || s.has(ShipUnsynced)
}

// applies reports whether region r would apply the entry i now: §2, in sequence,
// each once, when the own frontier covers the context, never one's own echo.
func (s *State) applies(r, i int) bool {
	m, w := &s.members[r], &s.writes[i]
	here := s.frontier(m.now.seen)
	if w.origin == s.origin(r) {
		return s.has(ApplyEcho) && m.now.seen.has(i)
	}
	if here[w.origin] != w.seq-1 {
		return false
	}
	return here.covers(w.context) || s.has(SkipCausalWait)
}

// Enabled returns the steps that can happen next, in a fixed order.
func (s *State) Enabled() []Step { return s.enabled(nil, true) }

// enabled appends to out. Who relays an entry makes no difference to what
// happens, so the checker asks for one step per entry only.
func (s *State) enabled(out []Step, relays bool) []Step {
	for r := range s.Regions {
		m := &s.members[r]
		if int(s.made) < s.Writes {
			out = append(out, Step{Kind: Put, Region: r}, Step{Kind: Delete, Region: r})
		}
		out = s.faults(out, r)
		out = s.deliveries(out, r, relays)
		for q := range s.Regions {
			if s.Exact && q != r && m.acks[q] != s.report(q) {
				out = append(out, Step{Kind: Report, Region: r, From: q})
			}
		}
		if s.droppable(r) != 0 {
			out = append(out, Step{Kind: Drop, Region: r})
		}
		if s.Exact && s.cuttable(r) != 0 {
			out = append(out, Step{Kind: Cut, Region: r})
		}
	}
	return out
}

func (s *State) faults(out []Step, r int) []Step {
	m := &s.members[r]
	if m.now != m.disk {
		if s.Exact {
			out = append(out, Step{Kind: Sync, Region: r})
		}
		if int(s.crashes) < s.Crashes {
			out = append(out, Step{Kind: Crash, Region: r})
		}
	}
	if !s.Exact && !m.stalled {
		stalled := 0
		for q := range s.Regions {
			if s.members[q].stalled {
				stalled++
			}
		}
		if int(s.crashes)+stalled < s.Crashes {
			out = append(out, Step{Kind: Stall, Region: r})
		}
	}
	for q := range s.Regions {
		if q != r && s.mayLose(r) {
			out = append(out, Step{Kind: Lose, Region: r, From: q})
		}
	}
	return out
}

func (s *State) deliveries(out []Step, r int, relays bool) []Step {
	for i := range int(s.count) {
		if !s.applies(r, i) {
			continue
		}
		for q := range s.Regions {
			if q != r && s.offers(q, i) {
				d := s.dot(i)
				out = append(out, Step{Kind: Deliver, Region: r, From: q, Origin: d.Origin, Seq: d.Seq})
				if !relays {
					break
				}
			}
		}
	}
	return out
}

// report is the frontier that region q tells others: what is on its disk ★ (§1).
func (s *State) report(q int) vector {
	if s.has(ReportUnsynced) {
		return s.frontier(s.members[q].now.seen)
	}
	return s.frontier(s.members[q].disk.seen)
}

// mayLose keeps the loss of a disk simple: it happens while the others have
// their copies of the region's journal on disk.
func (s *State) mayLose(r int) bool {
	if int(s.losses) >= s.Losses {
		return false
	}
	for q := range s.Regions {
		if q != r && s.members[q].now.seen != s.members[q].disk.seen {
			return false
		}
	}
	return true
}

// Do takes a step, which must be one of Enabled (with a stamp of the caller's
// choice). It reports false, and changes nothing, for one that is not.
func (s *State) Do(step Step) bool {
	bare := step
	bare.Stamp = 0
	if !slices.Contains(s.Enabled(), bare) {
		return false
	}
	s.do(step)
	return true
}

func (s *State) do(step Step) {
	r := step.Region
	m := &s.members[r]
	switch step.Kind {
	case Put, Delete:
		s.write(r, step.Kind == Delete, step.Stamp)
	case Sync:
		s.sync(r)
	case Stall:
		m.stalled = true
	case Deliver:
		for i := range int(s.count) {
			if s.dot(i) == (Dot{step.Origin, step.Seq}) && s.offers(step.From, i) {
				s.apply(r, i)
				s.confirm(r)
				break
			}
		}
	case Report:
		m.acks[step.From] = s.report(step.From)
		s.confirm(r)
	case Drop:
		m.now.siblings &^= s.droppable(r)
	case Cut:
		m.now.journal &^= s.cuttable(r)
	case Crash:
		s.crashes++
		m.now = m.disk
		m.acks, m.counted = [MaxRegions]vector{}, [MaxRegions]vector{}
		m.stalled = false
		s.forget()
	case Lose:
		s.lose(r, step.From)
	}
	if !s.Exact {
		s.settle(r)
	}
}

// settle does at once what may as well happen at once, see Config.Exact.
func (s *State) settle(r int) {
	if !s.members[r].stalled {
		s.sync(r)
	}
	for q := range s.Regions {
		m := &s.members[q]
		m.now.journal &^= s.cuttable(q)
		if !m.stalled {
			m.disk.journal = m.now.journal
		}
	}
}

// sync brings the disk up to date; with that, the region's writes are answered.
func (s *State) sync(r int) {
	m := &s.members[r]
	m.disk = m.now
	for i := range int(s.count) {
		if s.writes[i].origin == s.origin(r) && m.disk.seen.has(i) {
			s.acked |= 1 << i
		}
	}
}

func (s *State) write(r int, del bool, stamp uint64) {
	m := &s.members[r]
	w := write{origin: s.origin(r), del: del, context: s.frontier(m.now.seen), stamp: stamp}
	w.seq = w.context[w.origin] + 1
	if stamp == 0 {
		m.now.seen.each(func(i int) { w.stamp = max(w.stamp, s.writes[i].stamp) })
		w.stamp++
	}
	i := int(s.count)
	s.writes[i] = w
	s.count++
	s.made++
	s.apply(r, i)
	if s.has(AckUnsynced) {
		s.acked |= 1 << i
	}
	s.sort()
}

// sort keeps writes in the order of their dots, so that the same writes made in
// another order are the same state.
func (s *State) sort() {
	var all [MaxWrites]int
	order := all[:s.count]
	for i := range order {
		order[i] = i
	}
	byDot := func(i, j int) int {
		a, b := &s.writes[i], &s.writes[j]
		return cmp.Or(cmp.Compare(a.origin, b.origin), cmp.Compare(a.seq, b.seq))
	}
	if !slices.IsSortedFunc(order, byDot) {
		slices.SortStableFunc(order, byDot)
		s.renumber(order)
	}
}

// apply is §2 for one entry: siblings := {s : dot(s) not in context(e)} ∪ {e},
// and §3: beside a sibling, everything in the journals that is concurrent with e
// is recorded, not only what e meets ★.
func (s *State) apply(r, e int) {
	st := &s.members[r].now
	var keep set
	st.siblings.each(func(i int) {
		if i != e && !s.saw(e, i) {
			keep |= 1 << i
		}
	})
	beside := st.journal
	if s.has(RecordMeetings) {
		beside = keep
	}
	beside.each(func(i int) {
		if s.concurrent(i, e) {
			st.recorded[i] |= 1 << e
			st.recorded[e] |= 1 << i
		}
	})
	st.siblings = keep | 1<<e
	st.seen |= 1 << e
	st.journal |= 1 << e
	if s.has(NoTieBreak) {
		st.last = uint8(e) + 1
	}
}

// lose replaces r's disk by a copy of from's. The region comes back as a new
// incarnation ★ (§1); the old one leaves the stable frontier through an entry of
// the group that names its end ★ (§6), which all regions have at once here, and
// what the old one acknowledged counts no more.
func (s *State) lose(r, from int) {
	s.losses++
	old := s.origin(r)
	m := &s.members[r]
	incarnation := m.incarnation + 1
	if s.has(KeepIncarnation) {
		incarnation = m.incarnation
	}
	*m = member{now: s.members[from].disk, disk: s.members[from].disk, incarnation: incarnation}
	var survives set
	for q := range s.Regions {
		s.members[q].acks[r], s.members[q].counted[r] = vector{}, vector{}
		survives |= s.members[q].disk.seen
	}
	if !s.has(KeepIncarnation) {
		s.ends[old] = s.frontier(survives)[old]
	}
	s.acked &= survives // what no other disk had went with this one
	s.forget()
}

// forget takes writes that nobody has any more out of the state.
func (s *State) forget() {
	known := s.acked
	for r := range s.Regions {
		known |= s.members[r].now.seen | s.members[r].disk.seen
	}
	if known == 1<<s.count-1 {
		return
	}
	var order []int
	known.each(func(i int) { order = append(order, i) })
	s.renumber(order)
}

// renumber rearranges the writes: order gives the old places.
func (s *State) renumber(order []int) {
	move := func(old set) set {
		var out set
		for place, i := range order {
			if old.has(i) {
				out |= 1 << place
			}
		}
		return out
	}
	moveStore := func(st *store) {
		st.seen, st.siblings, st.journal = move(st.seen), move(st.siblings), move(st.journal)
		var recorded pairs
		for place, i := range order {
			recorded[place] = move(st.recorded[i])
		}
		st.recorded = recorded
		if st.last > 0 {
			st.last = uint8(slices.Index(order, int(st.last)-1) + 1)
		}
	}
	var writes [MaxWrites]write
	for place, i := range order {
		writes[place] = s.writes[i]
	}
	s.writes, s.count, s.acked = writes, uint8(len(order)), move(s.acked)
	for r := range s.Regions {
		moveStore(&s.members[r].now)
		moveStore(&s.members[r].disk)
	}
}
