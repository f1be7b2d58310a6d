package model

import "math/bits"

// enabled appends the steps that can happen next, in a fixed order.
func (m *roles) enabled(s *rolesState, out []RolesStep) []RolesStep {
	if s.fault != noFault {
		return out
	}
	for r := range uint8(m.Regions) {
		for k := range uint8(m.Keys) {
			out = m.writes(s, out, r, k)
			out = m.births(s, out, r, k)
			out = m.repairs(s, out, r, k)
			if s.reads < uint8(m.Reads) && !s.read.on && m.mayAsk(s, r, k) {
				out = append(out, RolesStep{kind: doAsk, region: r, key: k})
			}
		}
		if int(s.locals) < m.Locals && s.regions[r].now.has[r] < maxSeq {
			out = append(out, RolesStep{kind: doLocal, region: r})
		}
		for o := range uint8(m.Regions) {
			if m.delivers(s, r, o) {
				out = append(out, RolesStep{kind: doDeliver, region: r, origin: o, other: s.regions[r].now.has[o]})
			}
		}
		out = m.failover(s, out, r)
		out = m.disks(s, out, r)
	}
	if m.mayTell(s) {
		out = append(out, RolesStep{kind: doTell, region: s.read.region})
	}
	if m.Forwards > 0 {
		out = m.forwards(s, out)
	}
	return out
}

// writes: the item is here, and this region acts for its home.
func (m *roles) writes(s *rolesState, out []RolesStep, r, k uint8) []RolesStep {
	g := &s.regions[r]
	if int(s.made) >= m.Writes || g.now.has[r] == maxSeq || g.now.out&(1<<k) != 0 {
		return out
	}
	home := m.home(s, k, g.now.items[k])
	may := m.actsFor(s, r, home)
	if m.has(CheckBeforeAppend) {
		if may && g.checked == 0 {
			out = append(out, RolesStep{kind: doCheck, region: r, key: k})
		}
		may = g.checked == k+1
	}
	if !may {
		return out
	}
	out = append(out, RolesStep{kind: doWrite, region: r, key: k})
	if m.Deletes {
		out = append(out, RolesStep{kind: doDelete, region: r, key: k})
	}
	for to := range uint8(m.Regions) {
		if m.Handoffs && to+1 != home {
			out = append(out, RolesStep{kind: doHand, region: r, key: k, other: to})
		}
	}
	return out
}

// births: the arbiter, or who acts for it, grants a key that has no item to one
// region in an epoch; the grant is checked again when the birth is appended ★.
func (m *roles) births(s *rolesState, out []RolesStep, r, k uint8) []RolesStep {
	g := &s.regions[r]
	if !m.Births || g.now.out&(1<<k) != 0 || m.home(s, k, g.now.items[k]) != 0 {
		return out
	}
	if m.arbitrates(s, r) && !g.stalled && !m.granted(s, r, k) && int(s.made) < m.Writes {
		for to := range uint8(m.Regions) {
			out = append(out, RolesStep{kind: doGrant, region: r, key: k, other: to})
		}
	}
	held := g.held[k]
	if held.epoch == 0 || held.after != g.now.items[k] || int(s.made) >= m.Writes || g.now.has[r] == maxSeq {
		return out
	}
	if (held.epoch == g.lease || m.has(KeepOldGrant)) && m.actsFor(s, r, r+1) {
		out = append(out, RolesStep{kind: doBear, region: r, key: k})
	}
	return out
}

func (m *roles) arbitrates(s *rolesState, r uint8) bool {
	if m.has(GrantUncovered) {
		return m.leased(s, r) && s.group.cutoffs[s.regions[r].lease].acts[0] == r
	}
	return m.actsFor(s, r, 1)
}

// granted reports whether a grant of this epoch is out for the key as it is.
func (m *roles) granted(s *rolesState, r, k uint8) bool {
	g := &s.regions[r]
	stored := g.now.grants[k]
	return stored.epoch == g.lease && stored.after == g.now.items[k]
}

// repairs: a key whose version was taken out comes back.
func (m *roles) repairs(s *rolesState, out []RolesStep, r, k uint8) []RolesStep {
	g := &s.regions[r]
	if g.now.out&(1<<k) == 0 {
		return out
	}
	if _, ok := m.source(s, r, k); ok {
		out = append(out, RolesStep{kind: doFetch, region: r, key: k})
	}
	if m.restores(s, r, k) {
		out = append(out, RolesStep{kind: doRestore, region: r, key: k})
	}
	return out
}

// source returns who gives the version: the successor of the newest epoch that is
// known here; and to that one, a region that it had heard. The version is installed
// only where the own frontier covers the giver's ★.
func (m *roles) source(s *rolesState, r, k uint8) (uint8, bool) {
	own := &s.regions[r].now
	epoch := newest(own)
	c := &s.group.cutoffs[epoch]
	for q := range uint8(m.Regions) {
		g := &s.regions[q]
		if q == r || g.stalled || g.now.out&(1<<k) != 0 {
			continue
		}
		switch {
		case m.has(FetchAnywhere):
		case c.by == r:
			if c.lost&(1<<q) != 0 || (own.knows&^(1<<epoch))&^g.now.knows != 0 {
				continue
			}
		case c.by != q || own.knows&^g.now.knows != 0:
			continue
		}
		if own.has.covers(g.now.has) || m.has(InstallEarly) {
			return q, true
		}
	}
	return 0, false
}

// restores reports whether the successor writes its stranded version anew: no
// region that it heard has the key, so nobody else may write it either ★.
func (m *roles) restores(s *rolesState, r, k uint8) bool {
	g := &s.regions[r]
	if s.group.by != r || g.lease != s.group.epoch || !m.acts(s, r) || g.now.has[r] == maxSeq {
		return false
	}
	for q := range uint8(m.Regions) {
		if q != r && s.group.last&(1<<q) != 0 && s.regions[q].now.out&(1<<k) == 0 && !m.has(RestoreBesideHeard) {
			return false
		}
	}
	return true
}

func (m *roles) mayAsk(s *rolesState, r, k uint8) bool {
	g := &s.regions[r]
	if g.now.out&(1<<k) != 0 {
		return false
	}
	home := m.home(s, k, g.now.items[k])
	if m.has(ReadAnyEpoch) { // it believes in an old copy of the group's state
		return home > 0 && s.group.cutoffs[g.view].acts[home-1] == r
	}
	return m.actsFor(s, r, home)
}

func (m *roles) mayTell(s *rolesState) bool {
	q := &s.read
	if !q.on {
		return false
	}
	g := &s.regions[q.region]
	if q.value != initially && !g.disk.has.under(q.value-1) || !m.mayLean(s, q.region, q.value) {
		return false
	}
	switch {
	case m.has(SkipReadCheck):
		return true
	case m.has(ReadAnyEpoch):
		home := m.home(s, q.key, q.value)
		return m.actsFor(s, q.region, home)
	}
	return g.lease == q.epoch && m.leased(s, q.region)
}

// mayLean reports whether an answer that the region r gives may lean on the version:
// §5, until k others have it, no answer may depend on it ★.
func (m *roles) mayLean(s *rolesState, r, v uint8) bool {
	switch {
	case m.has(LeanOnUnanswered):
		return true
	case m.has(LeanOnInherited) && v != initially && (v-1)/maxSeq != r:
		return true
	}
	return m.released(s, v)
}

// delivers reports whether r can receive o's next entry: in sequence, when the own
// frontier covers the context, and not while its epoch is sealed ★. Who has an
// entry can relay it, so that nothing but chance keeps it away.
func (m *roles) delivers(s *rolesState, r, o uint8) bool {
	if r == o {
		return false
	}
	st := &s.regions[r].now
	seq := st.has[o]
	if s.regions[o].disk.has[o] <= seq {
		return false
	}
	e := &s.entries[o*maxSeq+seq]
	if st.sealed > e.epoch && st.knows&(1<<st.sealed) == 0 && !m.has(StoreBetween) {
		return false
	}
	if m.has(DropBeyond) && !m.counts(s, o*maxSeq+seq, st.knows) {
		return false
	}
	return m.covered(st.has, e, o)
}

// covered: the author's own mark is the entry itself, which is next.
func (m *roles) covered(has marks, e *rolesEntry, o uint8) bool {
	need := e.context
	need[o] = 0
	return has.covers(need)
}

// failover is what the group, a successor and those that it hears do.
func (m *roles) failover(s *rolesState, out []RolesStep, r uint8) []RolesStep {
	g, group := &s.regions[r], &s.group
	if !g.stalled && (group.to == 0 && int(s.failovers) < m.Failovers || group.to != 0 && group.to != r+1 && int(s.attempts) < m.Attempts) {
		out = append(out, RolesStep{kind: doFence, region: r})
	}
	if group.to != 0 && group.to != r+1 && group.heard&(1<<r) == 0 && !g.stalled && !s.regions[group.to-1].stalled {
		out = append(out, RolesStep{kind: doHear, region: r})
	}
	if group.to == r+1 && !g.stalled && bits.OnesCount8(group.heard) >= m.mustHear() {
		out = append(out, RolesStep{kind: doCutoff, region: r})
	}
	if m.learns(s, r) {
		out = append(out, RolesStep{kind: doLearn, region: r})
	}
	return out
}

// mustHear is N-k+1 of the N members other than the writer, the successor
// included ★: k+1 of N+1 hold what was told, so any N-k+1 of them meet these.
func (m *roles) mustHear() int {
	if m.RPO == 0 {
		return 1
	}
	if m.has(HearTooFew) {
		return max(1, m.Regions-m.RPO-1)
	}
	return m.Regions - m.RPO
}

func (m *roles) learns(s *rolesState, r uint8) bool {
	g, e := &s.regions[r], s.group.epoch
	if g.view < e || g.now.knows != epochs(e) {
		return true
	}
	return g.lease != e && g.now.sealed <= e && m.hasRole(s, r)
}

// epochs is the set of epochs from the second to e.
func epochs(e uint8) uint8 { return (1<<(e+1) - 1) &^ 3 }

func (m *roles) hasRole(s *rolesState, r uint8) bool {
	for b := range m.Regions {
		if s.group.cutoffs[s.group.epoch].acts[b] == r {
			return true
		}
	}
	return false
}

func (m *roles) disks(s *rolesState, out []RolesStep, r uint8) []RolesStep {
	if m.Crashes == 0 {
		return out
	}
	if s.regions[r].stalled {
		return append(out, RolesStep{kind: doCrash, region: r})
	}
	stalled := s.crashes
	for q := range m.Regions {
		stalled += flag(s.regions[q].stalled)
	}
	if int(stalled) < m.Crashes {
		out = append(out, RolesStep{kind: doStall, region: r})
	}
	return out
}

// forwards: the request is for the writer of the epoch that its sender knows; it is
// sent again only for a later one, and only when the sender has reached that
// epoch's cutoff without seeing it ★.
func (m *roles) forwards(s *rolesState, out []RolesStep) []RolesStep {
	f := &s.forward
	for q := range uint8(m.Regions) {
		g := &s.regions[q]
		switch {
		case f.by == 0 && s.group.cutoffs[g.view].acts[0] != q && int(s.made) < m.Writes:
		case f.by == q+1 && g.view > f.epoch && !m.sawForwarded(s, q) &&
			(m.has(RetryEarly) || g.now.has.covers(s.group.cutoffs[g.view].at)):
		default:
			continue
		}
		out = append(out, RolesStep{kind: doForward, region: q})
	}
	for e := uint8(1); e <= s.group.epoch; e++ {
		to := s.group.cutoffs[e].acts[0]
		g := &s.regions[to]
		if f.out&(1<<e) != 0 && int(s.made) < m.Writes && g.now.has[to] < maxSeq && g.now.out&1 == 0 &&
			m.actsFor(s, to, 1) && (g.lease == e || m.has(ForwardAnyEpoch)) {
			out = append(out, RolesStep{kind: doArrive, region: to, other: e})
		}
	}
	return out
}

func (m *roles) sawForwarded(s *rolesState, q uint8) bool {
	st := &s.regions[q].now
	for slot := range uint8(maxSlots) {
		if s.entries[slot].forwarded && st.has.under(slot) && m.counts(s, slot, st.knows) {
			return true
		}
	}
	return false
}

// do takes a step, which must be enabled.
func (m *roles) do(s *rolesState, t RolesStep) {
	r, g := t.region, &s.regions[t.region]
	switch t.kind {
	case doFence, doHear, doCutoff, doLearn:
		m.agree(s, t)
	case doAsk, doTell, doForward:
		m.talk(s, t)
	case doCheck:
		g.checked = t.key + 1
	case doGrant:
		given := grant{epoch: g.lease, to: t.other, after: g.now.items[t.key]}
		g.now.grants[t.key] = given
		s.regions[t.other].held[t.key] = given
	case doDeliver:
		m.receive(s, r, t.origin)
	case doFetch:
		from, _ := m.source(s, r, t.key)
		g.now.items[t.key] = s.regions[from].now.items[t.key]
		g.now.out &^= 1 << t.key
	case doRestore:
		m.restore(s, r, t.key)
	case doStall:
		g.stalled = true
	case doCrash:
		m.crash(s, r)
	case doLocal:
		s.locals++
		e := rolesEntry{epoch: ofLocal, context: g.now.has}
		g.now.has[r]++
		s.entries[slotOf(r, g.now.has[r])] = e
	default:
		s.made++
		m.write(s, r, m.entry(s, t))
	}
	m.settle(s)
}

// entry is what a client's step writes.
func (m *roles) entry(s *rolesState, t RolesStep) rolesEntry {
	g := &s.regions[t.region]
	e := rolesEntry{key: t.key, home: m.home(s, t.key, g.now.items[t.key])}
	switch t.kind {
	case doWrite:
		g.checked = 0
	case doDelete:
		e.home, e.deletes = 0, true
	case doHand:
		e.home = t.other + 1
	case doBear:
		g.held[t.key] = grant{}
		e.home = t.region + 1
	case doArrive:
		s.forward.out &^= 1 << t.other
		e.forwarded = true
	default: // writes nothing
	}
	return e
}

// agree is what the group, the successor and those it hears do.
func (m *roles) agree(s *rolesState, t RolesStep) {
	r, g := t.region, &s.regions[t.region]
	switch t.kind {
	case doFence:
		if s.group.to == 0 {
			s.failovers++
		} else {
			s.attempts++
		}
		s.group.to, s.group.heard = r+1, 1<<r
		m.seal(s, r)
	case doHear:
		m.seal(s, r)
		s.group.heard |= 1 << r
		if !m.has(SkipEqualise) {
			m.pull(s, s.group.to-1, r)
		}
	case doCutoff:
		m.cutoff(s, r)
	default: // doLearn, one epoch after the other
		g.view = min(g.view+1, s.group.epoch)
		m.learn(s, r, epochs(g.view))
		if g.view == s.group.epoch && g.now.sealed <= g.view && m.hasRole(s, r) {
			g.lease = g.view
		}
	}
}

// talk is what passes between clients and regions, and takes its time.
func (m *roles) talk(s *rolesState, t RolesStep) {
	r, g := t.region, &s.regions[t.region]
	switch t.kind {
	case doAsk:
		s.reads++
		s.read = pausedRead{on: true, region: r, key: t.key, value: g.now.items[t.key], must: s.last[t.key], epoch: g.lease}
	case doTell:
		q := s.read
		s.read = pausedRead{}
		if !s.follows(q.value, q.must) {
			s.fail(toldStale)
		}
		m.tell(s, q.key, q.value)
	default: // doForward
		s.forward.by, s.forward.epoch = r+1, g.view
		s.forward.out |= 1 << g.view
	}
}

// write appends an entry and applies it, one batch.
func (m *roles) write(s *rolesState, r uint8, e rolesEntry) {
	g := &s.regions[r]
	st := &g.now
	e.epoch = g.lease
	if e.epoch == 0 { // CheckBeforeAppend: the epoch that it believes in
		e.epoch = g.view
	}
	e.base = st.items[e.key]
	e.context = st.has
	st.has[r]++
	slot := slotOf(r, st.has[r])
	s.entries[slot] = e
	st.items[e.key] = slot + 1
	st.out &^= 1 << e.key
	if !s.follows(e.base, s.last[e.key]) {
		s.stale |= 1 << slot
	}
}

// restore is how a successor begins with a key that it had taken out and that
// nobody can give it: with the stranded version, written anew.
func (m *roles) restore(s *rolesState, r, k uint8) {
	st := &s.regions[r].now
	if m.has(SettleNothing) {
		st.out &^= 1 << k
		return
	}
	was := s.entries[st.items[k]-1]
	m.write(s, r, rolesEntry{key: k, home: was.home, deletes: was.deletes})
}

// receive stores o's next entry, counts it, and applies it unless it lies beyond a
// cutoff. The first entry of an author in an epoch carries all cutoffs up to it ★.
func (m *roles) receive(s *rolesState, r, o uint8) {
	st := &s.regions[r].now
	slot := slotOf(o, st.has[o]+1)
	e := &s.entries[slot]
	if e.epoch == ofLocal {
		st.has[o]++
		return
	}
	first := true
	for before := range st.has[o] {
		first = first && s.entries[o*maxSeq+before].epoch != e.epoch
	}
	switch {
	case !first || m.has(NoCutoffInEntry):
	case m.has(CarryLastOnly):
		m.learn(s, r, epochs(e.epoch)&(1<<e.epoch))
	default:
		m.learn(s, r, epochs(e.epoch))
	}
	st.has[o]++
	if m.counts(s, slot, st.knows) || m.has(ApplyBeyond) {
		st.items[e.key] = slot + 1
		st.out &^= 1 << e.key
		if m.has(AcceptUnleased) && e.home == r+1 && m.home(s, e.key, e.base) != e.home && st.has[r] < maxSeq {
			m.write(s, r, rolesEntry{key: e.key, home: r + 1})
		}
		return
	}
	if !m.has(ForgetStranded) {
		st.stranded |= 1 << slot
	}
}

// seal is durable before the region says what it has. It is told the cutoffs of
// the epochs before, so that what it has is in order ★.
func (m *roles) seal(s *rolesState, r uint8) {
	g := &s.regions[r]
	m.learn(s, r, epochs(s.group.epoch))
	g.view = s.group.epoch
	if s.group.to != r+1 && m.has(SkipSeal) {
		return
	}
	g.now.sealed = s.group.epoch + 1
	g.lease = 0
}

// pull gives the successor what the region from has.
func (m *roles) pull(s *rolesState, to, from uint8) {
	g := &s.regions[to]
	want := s.regions[from].disk.has
	for again := true; again; {
		again = false
		for o := range uint8(m.Regions) {
			if o == to || g.now.has[o] >= want[o] || !m.covered(g.now.has, &s.entries[o*maxSeq+g.now.has[o]], o) {
				continue
			}
			m.receive(s, to, o)
			again = true
		}
	}
}

// cutoff begins the epoch: nobody that was not heard has a lease any more ★.
func (m *roles) cutoff(s *rolesState, r uint8) {
	group := &s.group
	before := group.cutoffs[group.epoch].acts
	c := cutoff{at: s.regions[r].disk.has, lost: (1<<m.Regions - 1) &^ group.heard, by: r, acts: before}
	for b := range uint8(m.Regions) {
		if !m.Partitioned || b == r || c.lost&(1<<before[b]) != 0 {
			c.acts[b] = r
		}
	}
	for q := range uint8(m.Regions) {
		if c.lost&(1<<q) != 0 && !m.has(SkipFence) && (q == before[0] || !m.has(FenceWriterOnly)) {
			s.regions[q].lease = 0
		}
	}
	group.epoch++
	group.cutoffs[group.epoch] = c
	group.last, group.by = group.heard, r
	group.to, group.heard = 0, 0
	for slot := range uint8(maxSlots) {
		if m.RPO > 0 && s.told.has(slot) && !truly(s, slot) {
			s.fail(lostDespite)
		}
	}
	for k := range s.last {
		s.last[k] = s.counted(s.last[k])
	}
	s.read.must = s.counted(s.read.must)
	if m.Crashes == 0 { // nothing depends on when, but for a crash
		m.do(s, RolesStep{kind: doLearn, region: r}) // it has learned all before when it sealed
	}
}

// counted is the last version that counts of those that led to v.
func (s *rolesState) counted(v uint8) uint8 {
	for !s.trulyVersion(v) {
		v = s.entries[v-1].base
	}
	return v
}

// learn adds cutoffs, and takes the versions beyond them out of the items ★.
func (m *roles) learn(s *rolesState, r, knows uint8) {
	st := &s.regions[r].now
	if st.knows|knows == st.knows {
		return
	}
	st.knows |= knows
	for slot := range uint8(maxSlots) {
		if !st.has.under(slot) || m.counts(s, slot, st.knows) {
			continue
		}
		if !m.has(ForgetStranded) {
			st.stranded |= 1 << slot
		}
		if k := s.entries[slot].key; st.items[k] == slot+1 && (slot/maxSeq == r || !m.has(AuthorTakesOut)) {
			m.takeOut(s, r, k)
		}
	}
}

// takeOut puts back what the own journal says is the key's last version that
// counts ★. Where it says nothing, the key is out until it is fetched. The first
// version stands for one that is in no journal any more.
func (m *roles) takeOut(s *rolesState, r, k uint8) {
	st := &s.regions[r].now
	last := uint8(initially)
	for slot := range uint8(maxSlots) {
		if st.has.under(slot) && s.entries[slot].epoch != ofLocal && s.entries[slot].key == k && m.counts(s, slot, st.knows) && s.follows(slot+1, last) {
			last = slot + 1
		}
	}
	if last == initially || m.has(FetchFirst) {
		st.out |= 1 << k
		return
	}
	st.items[k] = last
	st.out &^= 1 << k
}

// crash takes back what is not on disk; the lease, and what was heard, was in
// memory only.
func (m *roles) crash(s *rolesState, r uint8) {
	g := &s.regions[r]
	s.crashes++
	for seq := g.disk.has[r] + 1; seq <= g.now.has[r]; seq++ {
		slot := slotOf(r, seq)
		s.entries[slot] = rolesEntry{}
		s.stale &^= 1 << slot
	}
	g.now = g.disk
	if m.has(SealInMemory) {
		g.now.sealed = 0
	}
	g.lease, g.stalled, g.checked, g.held = 0, false, 0, [maxKeys]grant{}
	if s.read.on && s.read.region == r {
		s.read = pausedRead{}
	}
	if s.group.to == r+1 {
		s.group.heard = 1 << r
		m.seal(s, r)
	}
}

// settle lets disks catch up, and takes on every obligation that can be.
func (m *roles) settle(s *rolesState) {
	for r := range m.Regions {
		if g := &s.regions[r]; !g.stalled {
			g.disk = g.now
		}
	}
	for r := range uint8(m.Regions) {
		m.answerWrites(s, r)
		m.answerReads(s, r)
	}
}

func (s *rolesState) fail(f fault) {
	if s.fault == noFault {
		s.fault = f
	}
}

// tell gives an answer that leans on the version.
func (m *roles) tell(s *rolesState, k, v uint8) {
	switch {
	case !s.trulyVersion(v):
		s.fail(toldStranded)
	case s.follows(v, s.last[k]):
		s.last[k] = v
	case !s.follows(s.last[k], v):
		s.fail(toldStale)
	}
	if v != initially {
		s.told |= 1 << (v - 1)
	}
}

// answerWrites: a write is answered when it is on its author's disk, k others
// have it, and the lease under which it was made is checked once more ★; or when
// it is seen to lie within the cutoff.
func (m *roles) answerWrites(s *rolesState, r uint8) {
	g := &s.regions[r]
	for seq := uint8(1); seq <= g.disk.has[r]; seq++ {
		slot := slotOf(r, seq)
		e := &s.entries[slot]
		if e.epoch == ofLocal {
			continue
		}
		ok := m.has(SkipAnswerCheck) || m.leased(s, r) &&
			(g.lease == e.epoch || g.lease > e.epoch && m.acts(s, r) && m.counts(s, slot, g.now.knows))
		if !ok || !m.released(s, slot+1) {
			continue
		}
		if s.stale.has(slot) {
			s.fail(toldStale)
		}
		m.tell(s, e.key, slot+1)
	}
}

// answerReads: whoever acts in a role can answer what asks for the newest
// version; under an rpo whoever shows a version at all has told of it.
func (m *roles) answerReads(s *rolesState, r uint8) {
	g := &s.regions[r]
	for k := range uint8(m.Keys) {
		v := g.now.items[k]
		if g.now.out&(1<<k) != 0 || g.disk.items[k] != v {
			continue
		}
		home := m.home(s, k, v)
		role := m.actsFor(s, r, home)
		if home == 0 { // the arbiter says that there is no item
			role = m.Births && m.arbitrates(s, r) && !m.granted(s, r, k)
		}
		if role && m.mayLean(s, r, v) {
			if !s.follows(v, s.last[k]) {
				s.fail(toldStale)
			}
			m.tell(s, k, v)
		}
		if m.RPO > 0 && v != initially && m.released(s, v) {
			if !truly(s, v-1) {
				s.fail(lostDespite)
			}
			s.told |= 1 << (v - 1)
		}
	}
}
