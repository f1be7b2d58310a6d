package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
)

// State says how far a member's journals of one shard are.
type State struct {
	Applied antipode.Frontier        // everything up to here is applied
	Floors  antipode.Frontier        // and the entries up to here were cut off since
	Heads   map[antipode.Origin]Hash // of each origin's last entry
}

func (t *State) equal(u *State) bool {
	return slices.Equal(t.Applied, u.Applied) && slices.Equal(t.Floors, u.Floors) && maps.Equal(t.Heads, u.Heads)
}

// Source is a view of one shard at one moment, to be copied by another member.
// It is not safe for concurrent use.
type Source interface { //nolint:iface // between data/table, which implements it, and ship, which may not know each other
	// State is what the view's journals hold.
	State() State
	// Next appends rows to dst, as AppendRow does, until they are about as long
	// as limit. More is false after the last. There may be none in between.
	Next(dst []byte, limit int) (rows []byte, more bool, err error)
	Close() error
}

// AppendRow appends a row of the store as copies carry it.
func AppendRow(dst, key, value []byte) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(len(key))), key...)
	return append(binary.AppendUvarint(dst, uint64(len(value))), value...)
}

// EachRow visits what AppendRow has appended. Key and value point into rows.
func EachRow(rows []byte, visit func(key, value []byte) error) error {
	cut := func() ([]byte, error) {
		n, w := binary.Uvarint(rows)
		if w <= 0 || n > uint64(len(rows)-w) {
			return nil, fmt.Errorf("%w: rows cut short", ErrMalformed)
		}
		part := rows[w : w+int(n)]
		rows = rows[w+int(n):]
		return part, nil
	}
	for len(rows) > 0 {
		key, err := cut()
		if err != nil {
			return err
		}
		value, err := cut()
		if err != nil {
			return err
		}
		if err := visit(key, value); err != nil {
			return err
		}
	}
	return nil
}

// Span is a range [Lower, Upper) of the store's keys.
type Span struct{ Lower, Upper []byte }

// Spans returns where the rows of a shard's journals lie, in the order in which
// Take wants them: each log's floor before its entries.
func Spans(id antipode.Shard) []Span {
	span := func(prefix byte) Span {
		return Span{
			binary.BigEndian.AppendUint64([]byte{prefix}, uint64(id)),
			binary.BigEndian.AppendUint64([]byte{prefix}, uint64(id)+1),
		}
	}
	return []Span{span(prefixFloor), span(prefixEntry)}
}

func copyKey(id antipode.Shard) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixCopy}, uint64(id))
}

// State returns how far the shard's journals are. The caller holds the lock.
func (s *Shard) State() State {
	s.st.Lock()
	defer s.st.Unlock()
	return State{Applied: s.applied.Clone(), Floors: s.floors.Clone(), Heads: maps.Clone(s.heads)}
}

// Copying reports whether a copy of the shard was begun, in this run or one
// before, and has not ended: nothing stored of the shard means anything then.
func (s *Shard) Copying() bool { return s.copying.Load() }

// intake is the state of what has been taken of a copy so far.
type intake struct {
	State
	names Origins
}

// Empty begins a copy: it marks the shard and removes its journals, along with
// what the caller has put into the batch. The caller holds the lock, and goes on
// holding all other writes off until EndCopy or GiveUp.
func (s *Shard) Empty(b engine.Batch) (*Commit, error) {
	b.Set(copyKey(s.id), nil)
	s.clear(b)
	c, err := s.j.cfg.Store.Apply(b)
	if err != nil {
		return nil, fmt.Errorf("empty shard %s: %w", s.id, err)
	}
	s.copying.Store(true)
	s.intake = &intake{State: State{Heads: make(map[antipode.Origin]Hash)}}
	return s.become(State{Heads: make(map[antipode.Origin]Hash)}, c), nil
}

func (s *Shard) clear(b engine.Batch) {
	for _, span := range Spans(s.id) {
		b.DeleteRange(span.Lower, span.Upper)
	}
}

// become sets the state in memory after what is stored was replaced.
func (s *Shard) become(state State, c engine.Commit) *Commit {
	s.heads = state.Heads
	s.st.Lock()
	defer s.st.Unlock()
	s.life++ // a commit of the life before, still on its way to disk, tells nothing of this one
	s.applied, s.durable, s.floors = state.Applied, nil, state.Floors
	s.recent, s.size = nil, 0
	s.ownDurable.Store(0)
	s.wakeLocked()
	return &Commit{s: s, c: c, life: s.life, reached: state.Applied.Clone()}
}

// Take adds one row of a copy's journals to the batch, after checking that it is
// this shard's and follows from those taken before, and returns its stamp, if it
// is an entry. The caller holds the lock. After an error the copy has to be
// given up.
func (s *Shard) Take(b engine.Batch, key, value []byte) (stamp antipode.Stamp, err error) {
	if s.intake == nil {
		return 0, fmt.Errorf("take row of shard %s: no copy was begun", s.id)
	}
	id, origin, seq, err := splitKey(key)
	if err != nil || id != s.id {
		return 0, fmt.Errorf("%w: row %x in a copy of shard %s", ErrMalformed, key, s.id)
	}
	if key[0] == prefixFloor {
		err = s.intake.floor(key, value, s.id, origin)
	} else {
		stamp, err = s.intake.entry(key, value, antipode.Dot{Origin: origin, Shard: id, Seq: seq})
	}
	if err != nil {
		return 0, fmt.Errorf("copy of shard %s: %w", s.id, err)
	}
	b.Set(key, value)
	return stamp, nil
}

func (in *intake) floor(key, value []byte, id antipode.Shard, o antipode.Origin) error {
	if !bytes.Equal(key, logPrefix(prefixFloor, id, o)) || len(value) != 8+sha256.Size ||
		in.Applied.Seq(o) != 0 || binary.BigEndian.Uint64(value) == 0 {
		return fmt.Errorf("%w: floor of %s", ErrMalformed, o)
	}
	seq := binary.BigEndian.Uint64(value)
	in.Applied, in.Floors = in.Applied.With(o, seq), in.Floors.With(o, seq)
	in.Heads[o] = Hash(value[8:])
	return nil
}

func (in *intake) entry(key, value []byte, d antipode.Dot) (antipode.Stamp, error) {
	e, err := in.names.Decode(value)
	if err != nil {
		return 0, err
	}
	switch {
	case e.Dot != d || !bytes.Equal(key, entryKey(d.Shard, d.Origin, d.Seq)):
		return 0, fmt.Errorf("%w: entry %s in the place of %s", ErrMalformed, e.Dot, d)
	case d.Seq != in.Applied.Seq(d.Origin)+1:
		return 0, fmt.Errorf("%w: %s after %d: %w", ErrMalformed, d, in.Applied.Seq(d.Origin), ErrGap)
	case e.Prev != in.Heads[d.Origin]:
		return 0, fmt.Errorf("%s: %w", d, ErrForked)
	}
	in.Applied = in.Applied.With(d.Origin, d.Seq)
	in.Heads[d.Origin] = sha256.Sum256(value)
	return e.Stamp, nil
}

// Keep applies a batch of a copy's rows, items among them. It becomes durable
// with the next Commit that is waited for.
func (s *Shard) Keep(b engine.Batch) (*Commit, error) {
	if err := s.j.cfg.Store.ApplyLater(b); err != nil {
		return nil, fmt.Errorf("copy shard %s: %w", s.id, err)
	}
	s.st.Lock()
	defer s.st.Unlock()
	return &Commit{s: s, life: s.life}, nil
}

// EndCopy makes what was taken the shard's journals, if it is what was promised.
// The caller holds the lock; the returned Commit's Wait makes all of the copy
// durable.
func (s *Shard) EndCopy(want State) (*Commit, error) {
	if s.intake == nil {
		return nil, fmt.Errorf("end copy of shard %s: none was begun", s.id)
	}
	if got := s.intake.State; !got.equal(&want) {
		return nil, fmt.Errorf("end copy of shard %s: %w: it holds %v above %v, promised were %v above %v",
			s.id, ErrMalformed, got.Applied, got.Floors, want.Applied, want.Floors)
	}
	return s.unmark(s.intake.State)
}

// GiveUp ends a copy that came to nothing: the shard is empty. It has been
// emptied once more since the last row was taken. The caller holds the lock.
func (s *Shard) GiveUp() (*Commit, error) {
	return s.unmark(State{Heads: make(map[antipode.Origin]Hash)})
}

func (s *Shard) unmark(state State) (*Commit, error) {
	b := s.j.cfg.Store.NewBatch()
	b.Delete(copyKey(s.id))
	c, err := s.j.cfg.Store.Apply(b)
	if err != nil {
		return nil, fmt.Errorf("end copy of shard %s: %w", s.id, err)
	}
	s.intake = nil
	commit := s.become(state, c)
	s.copying.Store(false)
	return commit, nil
}

// dropHalfCopies removes the journals of shards whose copy was begun and never
// ended. The marks stay: the items have to go as well, see Copying.
func (j *Journal) dropHalfCopies() error {
	it, err := j.cfg.Store.Iterate([]byte{prefixCopy}, []byte{prefixCopy + 1})
	if err != nil {
		return err
	}
	b := j.cfg.Store.NewBatch()
	some := false
	for ok := it.First(); ok; ok = it.Next() {
		some = true
		if len(it.Key()) != 9 {
			b.Discard()
			return errors.Join(fmt.Errorf("%w: mark of a copy %x", engine.ErrCorrupt, it.Key()), it.Close())
		}
		s := j.Shard(antipode.Shard(binary.BigEndian.Uint64(it.Key()[1:])))
		s.copying.Store(true)
		s.clear(b)
	}
	if err := it.Close(); err != nil || !some {
		b.Discard()
		return err
	}
	c, err := j.cfg.Store.Apply(b)
	if err != nil {
		return err
	}
	return c.Wait()
}
