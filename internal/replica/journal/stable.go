package journal

import "github.com/antipode-io/antipode"

// ack is what a member has reported of one shard. An acknowledgement counts
// only once everything that its sender wrote before giving it is applied here
// (PROTOCOL §2), so one is held until then while newer ones arrive.
type ack struct {
	newest  antipode.Frontier // last reported: what the member surely holds
	held    antipode.Frontier // waits for its sender's own writes to arrive
	counted antipode.Frontier // what counts towards stability
}

// Acked records that a member has reported a durable frontier of the shard. One
// that reports less than before has lost its disk: what it reported before then
// counts no more, nor is it waited for what it wrote, some of which may never come.
func (s *Shard) Acked(member antipode.Region, f antipode.Frontier) {
	s.st.Lock()
	defer s.st.Unlock()
	a := s.acks[member]
	if a == nil {
		a = &ack{}
		s.acks[member] = a
	}
	if !f.Covers(a.newest) {
		a.held, a.counted = nil, nil
	}
	more := f.Seq(s.j.cfg.Origin) > a.newest.Seq(s.j.cfg.Origin)
	a.newest = f.Clone()
	if more {
		s.countCopiesLocked()
	}
	if a.held == nil {
		a.held = a.newest
	}
	s.countLocked(member, a)
}

func (s *Shard) countLocked(member antipode.Region, a *ack) {
	for a.held != nil {
		for _, m := range a.held {
			if m.Origin.Region == member && s.applied.Seq(m.Origin) < m.Seq {
				return
			}
		}
		a.counted = a.held
		a.held = nil
		if !a.counted.Covers(a.newest) {
			a.held = a.newest
		}
	}
}

// Held returns what a member has last reported of the shard.
func (s *Shard) Held(member antipode.Region) antipode.Frontier {
	s.st.Lock()
	defer s.st.Unlock()
	if a := s.acks[member]; a != nil {
		return a.newest.Clone()
	}
	return nil
}

// Stable returns the frontier that every one of these members, and this one, is
// known to have applied. Self may be among them.
func (s *Shard) Stable(members []antipode.Region) antipode.Frontier {
	s.st.Lock()
	defer s.st.Unlock()
	stable := s.durable.Clone()
	for _, r := range members {
		if r == s.j.cfg.Origin.Region {
			continue
		}
		a := s.acks[r]
		if a == nil {
			return nil
		}
		s.countLocked(r, a)
		stable = stable.Meet(a.counted)
	}
	return stable
}
