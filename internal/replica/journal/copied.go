package journal

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
)

// prefixCopied keeps, now and then, what Shard.Copied tells, so that a member
// that starts alone knows which of its writes others hold.
const prefixCopied = 'w' // shard, origin, 0 -> sequences as varints: on 1 other member, on 2, …

// Copied returns up to which of this member's own entries at least that many
// other members have reported them durable. It never falls: what was held by
// enough members has been answered. It is cheap.
func (s *Shard) Copied(members int) uint64 {
	n := s.ownFloor.Load() // entries that were cut off were held by all
	if c := s.copied.Load(); c != nil && members >= 1 && members <= len(*c) {
		n = max(n, (*c)[members-1])
	}
	return n
}

// Heard is Copied, of members whose own entries from before they reported it are
// applied here: what those say of this member's entries is known. It may fall.
func (s *Shard) Heard(members int) uint64 {
	s.st.Lock()
	defer s.st.Unlock()
	return s.heardLocked(members)
}

func (s *Shard) heardLocked(members int) uint64 {
	seqs := make([]uint64, 0, len(s.acks))
	for r, a := range s.acks {
		s.countLocked(r, a)
		seqs = append(seqs, a.counted.Seq(s.j.cfg.Origin))
	}
	slices.Sort(seqs)
	n := s.ownFloor.Load()
	if members >= 1 && members <= len(seqs) {
		n = max(n, seqs[len(seqs)-members])
	}
	return n
}

// countCopiesLocked is called when a member has reported more of this member's
// entries than before. Those who wait for that are woken.
func (s *Shard) countCopiesLocked() {
	seqs := make([]uint64, 0, len(s.acks))
	for _, a := range s.acks {
		seqs = append(seqs, a.newest.Seq(s.j.cfg.Origin))
	}
	slices.SortFunc(seqs, func(a, b uint64) int {
		switch {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return 0
	})
	risen := false
	if old := s.copied.Load(); old != nil {
		for i, n := range *old {
			if i == len(seqs) {
				seqs = append(seqs, n)
			}
			risen = risen || seqs[i] > n
			seqs[i] = max(seqs[i], n)
		}
		risen = risen || len(seqs) > len(*old)
	} else {
		risen = len(seqs) > 0
	}
	if !risen {
		return
	}
	s.copied.Store(&seqs)
	s.wakeCopiedLocked()
}

func (s *Shard) wakeCopiedLocked() {
	if s.copies != nil {
		close(s.copies)
		s.copies = nil
	}
}

// Nudge has those who wait for copies ask their enough again.
func (s *Shard) Nudge() {
	s.st.Lock()
	defer s.st.Unlock()
	s.wakeCopiedLocked()
}

// WaitCopied returns when Copied(members) has reached the sequence, or once
// enough, which may be nil, says that it need not. It is asked at the beginning,
// whenever others report more, and after Nudge; it must not call the shard but
// for Copied.
func (s *Shard) WaitCopied(ctx context.Context, members int, seq uint64, enough func() bool) error {
	return s.waitCopies(ctx, func() bool { return s.Copied(members) >= seq || enough != nil && enough() })
}

// WaitHeard is WaitCopied for Heard.
func (s *Shard) WaitHeard(ctx context.Context, members int, seq uint64, enough func() bool) error {
	s.hearing.Add(1)
	defer s.hearing.Add(-1)
	return s.waitCopies(ctx, func() bool { return s.heardLocked(members) >= seq || enough() })
}

func (s *Shard) waitCopies(ctx context.Context, doneLocked func() bool) error {
	for blocked := false; ; blocked = true {
		s.st.Lock()
		if doneLocked() {
			s.st.Unlock()
			if blocked {
				s.j.Resume(ctx)
			}
			return nil
		}
		if s.copies == nil {
			s.copies = make(chan struct{})
		}
		ch := s.copies
		s.st.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			s.j.Resume(ctx)
			return ctx.Err()
		}
	}
}

// WaitHeld returns when the shard's durable frontier covers f.
func (s *Shard) WaitHeld(ctx context.Context, f antipode.Frontier) error {
	return s.wait(ctx, func() bool { return s.durable.Covers(f) })
}

// Shard returns the shard that was committed to.
func (c *Commit) Shard() antipode.Shard { return c.s.id }

// AppliedSeq returns the sequence of one origin that is visible here.
func (s *Shard) AppliedSeq(o antipode.Origin) uint64 {
	s.st.Lock()
	defer s.st.Unlock()
	return s.applied.Seq(o)
}

// KeepCopied stores what the shards' Copied tell, for the next start, where it
// has changed. It doesn't wait for the disk: older values only make the next
// start wait for the members to report again.
func (j *Journal) KeepCopied() error {
	b := j.cfg.Store.NewBatch()
	for _, id := range j.Shards() {
		s := j.Shard(id)
		c := s.copied.Load()
		if c == nil || s.keptCopied.Swap(c) == c {
			continue
		}
		var v []byte
		for _, n := range *c {
			v = binary.AppendUvarint(v, n)
		}
		b.Set(logPrefix(prefixCopied, id, j.cfg.Origin), v)
	}
	if b.Len() == 0 {
		b.Discard()
		return nil
	}
	if err := j.cfg.Store.ApplyLater(b); err != nil {
		return fmt.Errorf("keep what others hold: %w", err)
	}
	return nil
}

func (j *Journal) loadCopied() error {
	return j.eachRow(prefixCopied, func(s *Shard, origin antipode.Origin, value []byte) error {
		if origin != j.cfg.Origin {
			return nil // of a journal that was lost
		}
		var seqs []uint64
		for len(value) > 0 {
			n, w := binary.Uvarint(value)
			if w <= 0 {
				return fmt.Errorf("%w: copies of shard %s", engine.ErrCorrupt, s.id)
			}
			seqs, value = append(seqs, min(n, s.applied.Seq(origin))), value[w:]
		}
		s.copied.Store(&seqs)
		s.keptCopied.Store(&seqs)
		return nil
	})
}
