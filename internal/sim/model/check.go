package model

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
)

// Result is what Check found.
type Result struct {
	States    int  // different states seen
	Depth     int  // steps to the farthest of them
	Truncated bool // MaxStates ended the walk
	// Violation is empty when every state is right; else it says what is wrong
	// with the state that Trace leads to, and no shorter trace leads to a wrong one.
	Violation string
	Trace     []Step
}

// Check walks all states that the configuration allows, breadth first, until
// one is wrong.
func Check(cfg Config) (Result, error) {
	start, err := New(cfg)
	if err != nil {
		return Result{}, err
	}
	seed := maphash.MakeSeed()
	f := explore(&machine[State, Step]{
		start:   *start,
		enabled: func(s *State, out []Step) []Step { return s.enabled(out, false) },
		do:      func(s *State, step Step) { s.do(step) },
		key: func(s *State, buf []byte) (uint64, []byte) {
			buf = s.append(buf[:0])
			return maphash.Bytes(seed, buf), buf
		},
		wrong: func(s *State) string { return s.Violation() },
		max:   cfg.MaxStates,
	})
	return Result{f.states, f.depth, f.truncated, f.wrong, f.trace}, nil
}

// append writes all that tells states apart. Stamps are small here.
func (s *State) append(b []byte) []byte {
	b = append(b, s.count, s.made, s.crashes, s.losses)
	b = binary.LittleEndian.AppendUint16(b, uint16(s.acked))
	b = append(b, s.ends[:]...)
	for i := range int(s.count) {
		w := &s.writes[i]
		b = append(b, w.origin, w.seq, flag(w.del))
		b = append(b, w.context[:]...)
		b = binary.AppendUvarint(b, w.stamp)
	}
	for r := range s.Regions {
		m := &s.members[r]
		b = append(b, m.incarnation, flag(m.stalled))
		for q := range s.Regions {
			b = append(b, m.acks[q][:]...)
			b = append(b, m.counted[q][:]...)
		}
		for _, st := range []*store{&m.now, &m.disk} {
			b = append(b, st.last)
			for _, of := range []set{st.seen, st.siblings, st.journal} {
				b = binary.LittleEndian.AppendUint16(b, uint16(of))
			}
			for i := range int(s.count) {
				b = binary.LittleEndian.AppendUint16(b, uint16(st.recorded[i]))
			}
		}
	}
	return b
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// Violation says what is wrong with the state; empty when nothing is. What is
// right follows from the writes alone, whatever the regions did with them.
func (s *State) Violation() string {
	for i := range int(s.count) {
		if wrong := s.lost(i); wrong != "" {
			return wrong
		}
	}
	for r := range s.Regions {
		if wrong := s.wrongItem(r); wrong != "" {
			return wrong
		}
		if wrong := s.wrongRecords(r); wrong != "" {
			return wrong
		}
		for q := range r {
			if s.forked(r, q) {
				return fmt.Sprintf("fork: r%d and r%d have the same frontier and not the same writes", q, r)
			}
		}
	}
	return ""
}

// lost: whoever does not have an acknowledged write can still get it.
func (s *State) lost(i int) string {
	needed, held := false, false
	for r := range s.Regions {
		needed = needed || !s.members[r].now.seen.has(i)
		held = held || s.members[r].now.journal.has(i)
	}
	if s.acked.has(i) && needed && !held {
		return fmt.Sprintf("lost: %v was acknowledged, not every region has it, and no journal does", s.dot(i))
	}
	return ""
}

// wrongItem: siblings are a function of the frontier (convergence). They are the
// writes within it that none within it had seen, or nothing at all where a
// tombstone would be visible and was dropped.
func (s *State) wrongItem(r int) string {
	st := &s.members[r].now
	var want set
	st.seen.each(func(i int) {
		superseded := false
		st.seen.each(func(j int) { superseded = superseded || j != i && s.saw(j, i) })
		if !superseded {
			want |= 1 << i
		}
	})
	truth := s.visible(want)
	gone := truth < 0 || s.writes[truth].del
	got := s.shown(st)
	switch {
	case gone && got >= 0 && !s.writes[got].del:
		return fmt.Sprintf("resurrected: r%d shows %v, which was deleted", r, s.dot(got))
	case !gone && got != truth:
		return fmt.Sprintf("diverged: r%d does not show %v, which is the visible one of what it has", r, s.dot(truth))
	case st.siblings == want, st.siblings == 0 && gone:
		return ""
	}
	return fmt.Sprintf("diverged: r%d has the siblings %v; what it has makes it %v", r, s.Siblings(r), s.list(want))
}

// wrongRecords: the pairs on record are exactly the concurrent ones within the
// frontier, and those of a stable write are all there will ever be, so that
// final records are equal everywhere.
func (s *State) wrongRecords(r int) string {
	st := &s.members[r].now
	for i := range int(s.count) {
		for j := range i {
			truth := s.concurrent(i, j)
			want := truth && st.seen.has(i) && st.seen.has(j)
			if st.recorded[i].has(j) != want {
				return fmt.Sprintf("records: r%d has %v and %v on record: %v, want %v", r, s.dot(j), s.dot(i), !want, want)
			}
			if truth && !want && (s.stable(r, i) || s.stable(r, j)) {
				return fmt.Sprintf("records: of %v and %v one is final in r%d, which has not met the other", s.dot(j), s.dot(i), r)
			}
		}
	}
	return ""
}

// forked: equal frontiers mean equal writes.
func (s *State) forked(r, q int) bool {
	a, b := s.members[r].now.seen, s.members[q].now.seen
	return a != b && s.frontier(a) == s.frontier(b)
}
