// Package journal keeps the ordered log of writes of every origin that this
// member hears, sharded, in the same store as the items, so that a write and
// its entry are one batch.
//
// All changes of a shard happen in its critical section (Shard.Lock), through a
// Txn: entries are numbered or checked, the caller adds the item rows to the
// same batch, Commit makes all of it visible at once, and Wait returns when it
// is durable. Frontiers are promises about both: Applied is what is visible
// here, Durable is what survives a crash. Only durable entries are handed to
// peers, and only durable frontiers are reported.
//
// A Journal and its Shards are safe for concurrent use. It owns no goroutine;
// the store is closed by whoever opened it.
package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
)

var (
	// ErrGap is returned for an entry that is not the next of its origin.
	ErrGap = errors.New("entry is not the next of its origin")
	// ErrNotCovered is returned for an entry that was written by somebody who
	// had seen more than is applied here.
	ErrNotCovered = errors.New("entry depends on writes that are not applied here")
	// ErrForked is returned when an entry does not follow from the one held here:
	// two different histories claim the same origin.
	ErrForked = errors.New("journal forked: the same origin wrote two histories")
	// ErrOwnEcho is returned for an entry of this member's own origin.
	ErrOwnEcho = errors.New("entry is this member's own")
)

// Config is what a Journal needs.
type Config struct {
	Store  engine.Store
	Origin antipode.Origin // the author of what is appended here
	// RecentBytes bounds, per shard, the own entries kept in memory for
	// sending. Default 1 MiB.
	RecentBytes int
	// Resume, if set, is called before a wait that had to block returns, with no
	// lock held and the waiter's context. A simulator lets those who waited for the
	// same thing, or until the same moment, go on one at a time with it.
	Resume func(ctx context.Context)
}

// Journal holds the logs of all origins.
type Journal struct {
	cfg Config

	mu     sync.RWMutex // guards shards, subs
	shards map[antipode.Shard]*Shard
	ids    []antipode.Shard // of shards, sorted; replaced as a whole
	subs   map[*Subscription]struct{}
}

// Key prefixes in the store; docs/format/store.md lists all.
const (
	prefixEntry = 'j' // shard, origin, 0, sequence -> entry
	prefixFloor = 'f' // shard, origin, 0 -> sequence, hash of the last entry cut off
	// prefixCopy marks a shard whose rows are being replaced by a copy of another
	// member's. While the mark stands, nothing that is stored of the shard means
	// anything.
	prefixCopy = 'y' // shard -> nothing
)

// Open reads where every log ends.
func Open(cfg Config) (*Journal, error) {
	if cfg.RecentBytes == 0 {
		cfg.RecentBytes = 1 << 20
	}
	j := &Journal{cfg: cfg, shards: make(map[antipode.Shard]*Shard), subs: make(map[*Subscription]struct{})}
	if err := j.dropHalfCopies(); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := j.loadFloors(); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := j.loadHeads(); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := j.loadCopied(); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	for _, s := range j.shards {
		s.durable = s.applied.Clone()
		s.ownDurable.Store(s.durable.Seq(cfg.Origin))
		s.ownFloor.Store(s.floors.Seq(cfg.Origin))
	}
	return j, nil
}

// Origin returns the author of what is appended here.
func (j *Journal) Origin() antipode.Origin { return j.cfg.Origin }

func (j *Journal) loadFloors() error {
	return j.eachRow(prefixFloor, func(s *Shard, origin antipode.Origin, value []byte) error {
		if len(value) != 8+sha256.Size {
			return fmt.Errorf("%w: floor of %s in %s", engine.ErrCorrupt, origin, s.id)
		}
		seq := binary.BigEndian.Uint64(value)
		s.applied = s.applied.With(origin, seq)
		s.heads[origin] = Hash(value[8:])
		s.floors = s.floors.With(origin, seq)
		return nil
	})
}

// eachRow visits what is stored once per shard and origin under a prefix.
func (j *Journal) eachRow(prefix byte, visit func(*Shard, antipode.Origin, []byte) error) error {
	it, err := j.cfg.Store.Iterate([]byte{prefix}, []byte{prefix + 1})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		shard, origin, _, err := splitKey(it.Key())
		if err == nil {
			err = visit(j.Shard(shard), origin, it.Value())
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return it.Close()
}

// loadHeads hops from log to log: to the first entry of the next one, then back
// from that log's end to its last.
func (j *Journal) loadHeads() error {
	it, err := j.cfg.Store.Iterate([]byte{prefixEntry}, []byte{prefixEntry + 1})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		shard, origin, _, err := splitKey(it.Key())
		if err != nil {
			return errors.Join(err, it.Close())
		}
		end := entryKey(shard, origin, ^uint64(0))
		if !it.SeekLT(end) {
			break
		}
		_, _, seq, err := splitKey(it.Key())
		if err != nil {
			return errors.Join(err, it.Close())
		}
		s := j.Shard(shard)
		s.applied = s.applied.With(origin, seq)
		s.heads[origin] = sha256.Sum256(it.Value())
		ok = it.SeekGE(end)
	}
	return it.Close()
}

func logPrefix(prefix byte, shard antipode.Shard, origin antipode.Origin) []byte {
	dst := append(make([]byte, 0, 64), prefix)
	dst = binary.BigEndian.AppendUint64(dst, uint64(shard))
	if origin.Zone == "" && origin.Incarnation == 1 {
		dst = append(dst, origin.Region...)
	} else {
		dst = append(dst, origin.String()...)
	}
	return append(dst, 0)
}

func entryKey(shard antipode.Shard, origin antipode.Origin, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(logPrefix(prefixEntry, shard, origin), seq)
}

func splitKey(key []byte) (shard antipode.Shard, origin antipode.Origin, seq uint64, err error) {
	bad := func() error { return fmt.Errorf("%w: journal key %x", engine.ErrCorrupt, key) }
	if len(key) < 10 {
		return 0, origin, 0, bad()
	}
	shard = antipode.Shard(binary.BigEndian.Uint64(key[1:]))
	text, rest, ok := bytes.Cut(key[9:], []byte{0})
	if !ok {
		return 0, origin, 0, bad()
	}
	if origin, err = antipode.ParseOrigin(string(text)); err != nil {
		return 0, origin, 0, bad()
	}
	switch {
	case (key[0] == prefixFloor || key[0] == prefixCopied) && len(rest) == 0:
	case len(rest) == 8:
		seq = binary.BigEndian.Uint64(rest)
	default:
		return 0, origin, 0, bad()
	}
	return shard, origin, seq, nil
}

// Shard returns the shard, which is empty where nothing was written yet.
func (j *Journal) Shard(id antipode.Shard) *Shard {
	j.mu.RLock()
	s := j.shards[id]
	j.mu.RUnlock()
	if s != nil {
		return s
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if s = j.shards[id]; s == nil {
		s = &Shard{
			id: id, j: j, heads: make(map[antipode.Origin]Hash),
			acks: make(map[antipode.Region]*ack),
		}
		j.shards[id] = s
		j.ids = slices.Sorted(maps.Keys(j.shards))
	}
	return s
}

// Shards lists the shards known here, sorted. The list is not the caller's to change.
func (j *Journal) Shards() []antipode.Shard {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.ids
}

// Subscription wakes a sender when something it may send has become durable.
type Subscription struct {
	// C receives after a change; changes in between are folded into one.
	C    chan struct{}
	want func(antipode.Shard) bool
}

// Wake makes C receive, unless it is about to anyway.
func (sub *Subscription) Wake() {
	select {
	case sub.C <- struct{}{}:
	default:
	}
}

// Subscribe wakes C whenever the durable frontier of a wanted shard rises.
func (j *Journal) Subscribe(want func(antipode.Shard) bool) *Subscription {
	sub := &Subscription{C: make(chan struct{}, 1), want: want}
	j.mu.Lock()
	j.subs[sub] = struct{}{}
	j.mu.Unlock()
	return sub
}

// Unsubscribe ends a subscription.
func (j *Journal) Unsubscribe(sub *Subscription) {
	j.mu.Lock()
	delete(j.subs, sub)
	j.mu.Unlock()
}

func (j *Journal) notify(id antipode.Shard) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	for sub := range j.subs {
		if sub.want(id) {
			sub.Wake()
		}
	}
}

// Visit sees one encoded entry; the bytes are valid during the call. It returns
// false to stop.
type Visit func(seq uint64, raw []byte) (more bool)

// Read visits an origin's entries of a shard with sequences in (after, upto].
// It serves recent own entries from memory.
func (j *Journal) Read(id antipode.Shard, origin antipode.Origin, after, upto uint64, visit Visit) error {
	if after >= upto {
		return nil
	}
	if origin == j.cfg.Origin {
		if done := j.Shard(id).readRecent(after, upto, visit); done {
			return nil
		}
	}
	return readEntries(j.cfg.Store, id, origin, after, upto, visit)
}

func readEntries(r engine.Reader, id antipode.Shard, origin antipode.Origin, after, upto uint64, visit Visit) error {
	upper := append(entryKey(id, origin, upto), 0)
	it, err := r.Iterate(entryKey(id, origin, after+1), upper)
	if err != nil {
		return fmt.Errorf("read journal of %s: %w", origin, err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		_, _, seq, err := splitKey(it.Key())
		if err != nil {
			return errors.Join(err, it.Close())
		}
		if !visit(seq, it.Value()) {
			break
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("read journal of %s: %w", origin, err)
	}
	return nil
}

// Load reads one encoded entry from the store, or a snapshot of it;
// engine.ErrNotFound where it was cut off or never came.
func Load(r engine.Reader, d antipode.Dot) ([]byte, error) {
	return r.Get(nil, entryKey(d.Shard, d.Origin, d.Seq))
}

// Resume calls Config.Resume: for those who have waited for something else that
// many may wait for.
func (j *Journal) Resume(ctx context.Context) {
	if j.cfg.Resume != nil {
		j.cfg.Resume(ctx)
	}
}

// WaitApplied returns when the shard's applied frontier includes the sequence.
func (j *Journal) WaitApplied(ctx context.Context, id antipode.Shard, o antipode.Origin, seq uint64) error {
	s := j.Shard(id)
	return s.wait(ctx, func() bool { return s.applied.Seq(o) >= seq })
}

// WaitCovers returns when the shard's applied frontier covers f.
func (j *Journal) WaitCovers(ctx context.Context, id antipode.Shard, f antipode.Frontier) error {
	s := j.Shard(id)
	return s.wait(ctx, func() bool { return s.applied.Covers(f) })
}

// Cut adds to the batch the removal of an origin's entries up to seq, whose
// encoded form is last. The caller has made sure that they are stable.
func (j *Journal) Cut(b engine.Batch, d antipode.Dot, last []byte) {
	head := sha256.Sum256(last)
	floor := binary.BigEndian.AppendUint64(nil, d.Seq)
	b.Set(logPrefix(prefixFloor, d.Shard, d.Origin), append(floor, head[:]...))
	b.DeleteRange(entryKey(d.Shard, d.Origin, 0), append(entryKey(d.Shard, d.Origin, d.Seq), 0))
}

// WasCut records, after the batch of Cut was applied, that entries up to the
// dot are gone.
func (j *Journal) WasCut(d antipode.Dot) {
	s := j.Shard(d.Shard)
	s.st.Lock()
	s.floors = s.floors.With(d.Origin, d.Seq)
	s.ownFloor.Store(s.floors.Seq(j.cfg.Origin))
	s.st.Unlock()
}

// NewBatch returns a batch of the journal's store.
func (j *Journal) NewBatch() engine.Batch { return j.cfg.Store.NewBatch() }
