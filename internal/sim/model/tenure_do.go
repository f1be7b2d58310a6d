package model

// enabled appends the steps that can happen next, in a fixed order.
func (m *tenures) enabled(s *tenureState, out []TenuresStep) []TenuresStep {
	if s.fault != "" {
		return out
	}
	for r := range uint8(m.Regions) {
		out = m.clients(s, out, r)
		for o := range uint8(m.Regions) {
			if m.delivers(s, r, o) {
				out = append(out, TenuresStep{tenDeliver, r, o, s.regions[r].has[o] + 1})
			}
		}
		out = m.group(s, out, r)
		out = m.switching(s, out, r)
		out = m.repairs(s, out, r)
	}
	return out
}

// clients is what a region writes for them.
func (m *tenures) clients(s *tenureState, out []TenuresStep, r uint8) []TenuresStep {
	g := &s.regions[r]
	if int(s.made) >= m.Writes || g.out || g.has[r] == tenureSeq {
		return out
	}
	if home := m.home(s, g.item); home > 0 {
		if m.tenure(s, r, home-1) == 0 {
			return out
		}
		out = append(out, TenuresStep{kind: tenWrite, region: r})
		for to := range uint8(m.Regions) {
			if m.Handoffs && to+1 != home {
				out = append(out, TenuresStep{kind: tenHand, region: r, other: to})
			}
		}
		return out
	}
	if by := m.tenure(s, r, 0); by > 0 && !m.granted(s, r, by) {
		for to := range uint8(m.Regions) {
			if m.tenure(s, to, to) > 0 {
				out = append(out, TenuresStep{kind: tenGrant, region: r, other: to})
			}
		}
	}
	// The grant is for this tenure of the one who gives birth, and by a tenure of
	// the arbiter's that has not ended as far as is known here ★.
	// All that the arbiter had is applied here, and so in the birth's context ★.
	h := g.held
	if h.by > 0 && !g.has.covers(h.at) && !m.has(BearUnopened) {
		return out
	}
	if h.by > 0 && m.tenure(s, r, r) == h.under && (!s.ended(r, 0, h.by) || m.has(OldGrantBears)) {
		out = append(out, TenuresStep{kind: tenBear, region: r})
	}
	return out
}

func (s *tenureState) hasOpened(r, f uint8) bool {
	to := s.events[f].to
	for n := range s.regions[r].has[to] {
		if e := &s.entries[to*tenureSeq+n]; e.kind == opened && e.epoch == f {
			return true
		}
	}
	return false
}

// granted reports whether a grant of the arbiter's tenure is out still. It is not
// when the tenure of the one who has it ended, and the entry that says so is here ★.
func (m *tenures) granted(s *tenureState, r, by uint8) bool {
	g := &s.regions[r]
	if g.given.by != by {
		return false
	}
	for f := g.given.under + 1; f <= s.count; f++ {
		if ev := &s.events[f]; in(g.knows, f) && in(ev.roles, g.given.to) && g.has.covers(ev.at) && s.hasOpened(r, f) {
			return false
		}
	}
	return true
}

func (m *tenures) delivers(s *tenureState, r, o uint8) bool {
	g := &s.regions[r]
	if r == o || s.regions[o].has[o] <= g.has[o] {
		return false
	}
	e := &s.entries[o*tenureSeq+g.has[o]]
	return s.covered(g.has, e, o) && !s.blocked(r, e)
}

func (s *tenureState) covered(has tenureMarks, e *tenureEntry, o uint8) bool {
	need := e.context
	need[o] = 0
	return has.covers(need)
}

// group is fencing, sealing, cutoffs and what regions learn of them.
func (m *tenures) group(s *tenureState, out []TenuresStep, r uint8) []TenuresStep {
	g := &s.regions[r]
	if !in(s.fenced, r) && int(s.failovers) < m.Failovers {
		for to := range uint8(m.Regions) {
			if to != r && !in(s.fenced, to) {
				out = append(out, TenuresStep{kind: tenFence, region: r, other: to})
			}
		}
	}
	open := s.open()
	live := (uint8(1)<<m.Regions - 1) &^ s.fenced
	for f := uint8(2); f <= s.count; f++ {
		ev := &s.events[f]
		if in(open, f) && !in(s.fenced, r) && !in(ev.sealed, r) {
			out = append(out, TenuresStep{kind: tenSeal, region: r, other: f})
		}
		if in(open, f) && ev.to == r && g.has[r] < tenureSeq && in(ev.sealed, r) && (live&^ev.sealed == 0 || m.has(FixBesideLive)) {
			out = append(out, TenuresStep{kind: tenFix, region: r, other: f})
		}
		if ev.fixed && !in(g.knows, f) {
			out = append(out, TenuresStep{kind: tenLearn, region: r, other: f})
		}
	}
	if in(s.fenced, r) && int(s.rejoins) < m.Rejoins && open == 0 && (s.fixed()&^g.knows == 0 || m.has(RejoinEarly)) {
		out = append(out, TenuresStep{kind: tenRejoin, region: r})
	}
	return out
}

func (s *tenureState) fixed() (out uint8) {
	for f := uint8(2); f <= s.count; f++ {
		if s.events[f].fixed {
			out |= 1 << f
		}
	}
	return out
}

// switching is the planned handover of a role. What was taken out under the role
// is settled first.
func (m *tenures) switching(s *tenureState, out []TenuresStep, r uint8) []TenuresStep {
	g := &s.regions[r]
	for b := range uint8(m.Regions) {
		ro := &s.roles[b]
		t := m.tenure(s, r, b)
		if ro.holder == r && ro.next != 0 && int(s.cancels) < m.Cancels && (!ro.leaving || m.has(CancelLeft)) {
			out = append(out, TenuresStep{kind: tenCancel, region: r, other: b})
		}
		switch {
		case t == 0:
		case ro.holder == r && ro.next == 0 && int(s.switches) < m.Switches:
			for to := range uint8(m.Regions) {
				if to != r && !in(s.fenced, to) {
					out = append(out, TenuresStep{tenSwitch, r, to, b})
				}
			}
		case ro.holder == r && ro.next != 0 && !ro.leaving && !m.has(ReleaseUntold): // the group knows first ★
			out = append(out, TenuresStep{kind: tenLeave, region: r, other: b})
		case ro.holder == r && ro.next != 0 && g.has[r] < tenureSeq && !s.releasedBy(r, b, ro.epoch, r) && (!g.out || m.answerable(s, r) != b):
			out = append(out, TenuresStep{kind: tenRelease, region: r, other: b})
		case ro.next == r+1:
			out = append(out, TenuresStep{kind: tenTook, region: r, other: b})
		}
	}
	return out
}

// repairs: a region that is not out, that knows all cutoffs known here and has no
// more than this one, has the right version.
func (m *tenures) repairs(s *tenureState, out []TenuresStep, r uint8) []TenuresStep {
	g := &s.regions[r]
	if !g.out {
		return out
	}
	for q := range uint8(m.Regions) {
		if p := &s.regions[q]; q != r && !p.out && g.knows&^p.knows == 0 && g.has.covers(p.has) {
			out = append(out, TenuresStep{kind: tenFetch, region: r, other: q})
		}
	}
	for b := range uint8(m.Regions) {
		t := m.tenure(s, r, b)
		if t == 0 || g.has[r] == tenureSeq || s.events[t].kind != isFailover || m.answerable(s, r) != b {
			continue
		}
		alone := true
		for q := range uint8(m.Regions) {
			alone = alone && (q == r || !in(s.events[t].sealed, q) || s.regions[q].out)
		}
		if alone {
			out = append(out, TenuresStep{kind: tenRestore, region: r, other: b})
		}
	}
	return out
}

// do takes a step, which must be enabled.
func (m *tenures) do(s *tenureState, t TenuresStep) {
	r, g := t.region, &s.regions[t.region]
	switch t.kind {
	case tenWrite, tenHand, tenBear:
		m.client(s, t)
	case tenGrant:
		given := tenureGrant{by: m.tenure(s, r, 0), to: t.other, under: m.tenure(s, t.other, t.other), at: g.has}
		g.given, s.regions[t.other].held = given, given
	case tenDeliver:
		m.receive(s, r, t.other)
	case tenFence:
		m.fence(s, r, t.other)
	case tenSeal:
		m.seal(s, r, t.other)
	case tenFix:
		m.fix(s, r, t.other)
	case tenLearn:
		g.sealed |= s.events[t.other].with
		m.learn(s, r, 1<<t.other)
	case tenRejoin:
		s.rejoins++
		s.fenced &^= 1 << r
	case tenSwitch:
		s.switches++
		s.count++
		s.events[s.count] = tenureEvent{kind: isSwitch, to: t.other}
		ro := &s.roles[t.event]
		ro.next, ro.nextEpoch, ro.leaving = t.other+1, s.count, m.Cancels == 0
	case tenLeave:
		s.roles[t.other].leaving = true
	case tenCancel:
		s.cancels++
		s.roles[t.other].callOff()
	case tenRelease:
		ro := &s.roles[t.other]
		m.write(s, r, tenureEntry{kind: released, role: t.other, epoch: ro.epoch})
		if t.other == 0 { // the release names the grants that are out ★
			given := g.given
			if given.by == ro.epoch && !m.has(ReleaseForgets) {
				given.by = ro.nextEpoch
				s.regions[ro.next-1].given = given
			}
		}
	case tenTook:
		ro := &s.roles[t.other]
		*ro = tenureRole{holder: r, epoch: ro.nextEpoch}
	case tenFetch:
		g.item, g.out = s.regions[t.other].item, false
	case tenRestore:
		g.out = false
		m.write(s, r, tenureEntry{kind: wrote, role: t.other, home: t.other, epoch: m.tenure(s, r, t.other)})
	}
	m.oblige(s)
}

func (ro *tenureRole) callOff() { ro.next, ro.nextEpoch, ro.leaving = 0, 0, false }

func (m *tenures) client(s *tenureState, t TenuresStep) {
	g := &s.regions[t.region]
	s.made++
	if t.kind == tenBear {
		g.held = tenureGrant{}
		m.write(s, t.region, tenureEntry{kind: bore, role: t.region, home: t.region, epoch: m.tenure(s, t.region, t.region)})
		return
	}
	role := m.home(s, g.item) - 1
	e := tenureEntry{kind: wrote, role: role, home: role, epoch: m.tenure(s, t.region, role)}
	if t.kind == tenHand {
		e.kind, e.home = handed, t.other
	}
	m.write(s, t.region, e)
}

// write appends an entry and applies it.
func (m *tenures) write(s *tenureState, r uint8, e tenureEntry) {
	g := &s.regions[r]
	e.base, e.context = g.item, g.has
	slot := r*tenureSeq + g.has[r]
	g.has[r]++
	if e.ofItem() {
		g.item = slot + 1
		if !s.follows(e.base, s.last) {
			s.stale |= 1 << slot
		}
	} else {
		e.base = initially
	}
	s.entries[slot] = e
}

func (e *tenureEntry) ofItem() bool { return e.kind != 0 && e.kind != released && e.kind != opened }

func (m *tenures) receive(s *tenureState, r, o uint8) {
	g := &s.regions[r]
	slot := o*tenureSeq + g.has[o]
	e := &s.entries[slot]
	m.learn(s, r, e.carries)
	g.sealed |= e.seals
	g.has[o]++
	switch {
	case !m.counts(s, slot, g.knows):
		g.stranded |= 1 << slot
	case e.ofItem():
		g.item, g.out = slot+1, false
	}
}

// fence takes the region's lease and roles. What regions have sealed of failovers
// that are under way they seal anew, with this one ★.
func (m *tenures) fence(s *tenureState, r, to uint8) {
	s.failovers++
	s.fenced |= 1 << r
	var roles uint8
	for b := range uint8(m.Regions) {
		switch ro := &s.roles[b]; {
		case ro.holder == r || ro.next == r+1 && ro.leaving:
			roles |= 1 << b
		case ro.next == r+1:
			ro.callOff() // nothing was released: its holder goes on
		}
	}
	open := s.open()
	for f := uint8(2); f <= s.count; f++ {
		if in(open, f) {
			s.events[f].roles &^= roles
			if !m.has(KeepSeals) {
				s.events[f].sealed = 0
			}
		}
	}
	if roles == 0 {
		return
	}
	s.count++
	s.events[s.count] = tenureEvent{kind: isFailover, roles: roles, begun: roles, to: to}
	for b := range uint8(m.Regions) {
		if in(roles, b) {
			s.roles[b] = tenureRole{holder: to, epoch: s.count}
		}
	}
}

// seal ends, here, the tenures that all failovers under way are to end ★, and the
// successor pulls what the region has; pulled entries pass the seal.
func (m *tenures) seal(s *tenureState, r, f uint8) {
	g := &s.regions[r]
	if m.has(SealOne) {
		g.sealed |= 1 << f
	} else {
		g.sealed |= s.open()
	}
	ev := &s.events[f]
	ev.sealed |= 1 << r
	if !m.has(PullUnlearned) { // cutoffs that are fixed are put in force first ★
		m.learn(s, r, s.fixed())
		m.learn(s, ev.to, s.fixed())
	}
	if ev.to == r || m.has(CoverSome) {
		return
	}
	to := &s.regions[ev.to]
	for again := true; again; {
		again = false
		for o := range uint8(m.Regions) {
			if o != ev.to && to.has[o] < g.has[o] && s.covered(to.has, &s.entries[o*tenureSeq+to.has[o]], o) {
				m.receive(s, ev.to, o)
				again = true
			}
		}
	}
}

// fix makes the successor's frontier the cutoff. It has sealed all that is under way.
func (m *tenures) fix(s *tenureState, r, f uint8) {
	ev, g := &s.events[f], &s.regions[r]
	if !m.has(SealOne) {
		g.sealed |= s.open()
	}
	ev.fixed, ev.at = true, g.has
	ev.with = s.open()
	for slot := range uint8(tenureSlots) {
		if s.told&(1<<slot) != 0 && !s.truly(slot) && !in(s.fenced, slot/tenureSeq) && s.entries[slot].epoch < f && in(ev.roles, s.entries[slot].role) && !m.voidedBefore(s, slot, f) {
			s.fault = "live: a cutoff strands a write of a region that was neither lost nor fenced"
		}
	}
	m.doom(s)
	for s.last != initially && !s.truly(s.last-1) {
		s.last = s.entries[s.last-1].base
	}
	m.learn(s, r, s.fixed())
	m.open(s, r, f)
}

// open begins the tenures of a failover with an entry that carries its cutoff, and
// those of all other failovers of the set, whose roles they may be about ★.
func (m *tenures) open(s *tenureState, r, f uint8) {
	e := tenureEntry{kind: opened, epoch: f, carries: s.regions[r].knows}
	if !m.has(CarryNoSeals) {
		e.seals = s.events[f].with
	}
	if m.has(CarryOwnRoles) {
		for n := uint8(2); n <= s.count; n++ {
			if s.events[n].roles&s.events[f].roles == 0 {
				e.carries &^= 1 << n
			}
		}
	}
	m.write(s, r, e)
}

// doom finds what is lost though its cutoff is not fixed: a failover over its role
// is under way, which all that are left have sealed, and none of them has it.
func (m *tenures) doom(s *tenureState) {
	for f := uint8(2); f <= s.count; f++ {
		all := in(s.open(), f)
		for r := range uint8(m.Regions) {
			all = all && (in(s.fenced, r) || in(s.regions[r].sealed, f))
		}
		if !all {
			continue
		}
		for slot := range uint8(tenureSlots) {
			e, held := &s.entries[slot], false
			for r := range uint8(m.Regions) {
				held = held || !in(s.fenced, r) && s.regions[r].has.under(slot)
			}
			if e.kind != 0 && e.epoch < f && s.events[f].roles&s.rolesOf(e) != 0 && !held {
				s.doomed |= 1 << slot
			}
		}
	}
}

// voidedBefore reports whether another cutoff had stranded the entry already.
func (m *tenures) voidedBefore(s *tenureState, slot, f uint8) bool {
	e := &s.entries[slot]
	for n := e.epoch + 1; n <= s.count; n++ {
		if ev := &s.events[n]; n != f && ev.fixed && ev.roles&s.rolesOf(e) != 0 && !ev.at.under(slot) {
			return true
		}
	}
	return false
}

// learn puts cutoffs in force: versions beyond them go out of the item, for which
// the own journal is asked first ★.
func (m *tenures) learn(s *tenureState, r, knows uint8) {
	g := &s.regions[r]
	if g.knows|knows == g.knows {
		return
	}
	g.knows |= knows
	last := uint8(initially)
	for slot := range uint8(tenureSlots) {
		switch e := &s.entries[slot]; {
		case !g.has.under(slot):
		case !m.counts(s, slot, g.knows):
			g.stranded |= 1 << slot
		case e.ofItem() && s.follows(slot+1, last):
			last = slot + 1
		}
	}
	if g.item != initially && !m.counts(s, g.item-1, g.knows) {
		if g.out = last == initially; !g.out {
			g.item = last
		}
	}
}

// oblige takes on every obligation that can be, as the model of roles does.
func (m *tenures) oblige(s *tenureState) {
	for r := range uint8(m.Regions) {
		if in(s.fenced, r) {
			continue
		}
		g := &s.regions[r]
		for n := range g.has[r] {
			slot := r*tenureSeq + n
			if e := &s.entries[slot]; e.ofItem() && !s.ended(r, e.role, e.epoch) {
				if s.stale&(1<<slot) != 0 {
					s.fail("stale: a write was answered that had not seen what had been told before")
				}
				m.tell(s, slot+1)
			}
		}
		if g.out {
			continue
		}
		home := m.home(s, g.item)
		role := home > 0 && m.tenure(s, r, home-1) > 0
		if home == 0 {
			by := m.tenure(s, r, 0)
			role = by > 0 && !m.granted(s, r, by)
		}
		if role {
			if !s.follows(g.item, s.last) {
				s.fail("stale: a read gives an older version than one told before")
			}
			m.tell(s, g.item)
		}
	}
}

func (s *tenureState) fail(fault string) {
	if s.fault == "" {
		s.fault = fault
	}
}

func (m *tenures) tell(s *tenureState, v uint8) {
	if v == initially {
		return
	}
	switch {
	case !s.truly(v - 1):
		s.fail("stranded: an answer leans on a write that a cutoff had stranded before")
	case s.follows(v, s.last):
		s.last = v
	case !s.follows(s.last, v):
		s.fail("stale: an answer leans on a version beside one told before")
	}
	s.told |= 1 << (v - 1)
}
