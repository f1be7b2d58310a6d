package group

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
)

// metaFormat is the version of the keys below 'r'.
const metaFormat = 1

// baseIndex is where every voter's log starts: at an empty snapshot that names
// the voters, as if the group had agreed on it in term 1.
const baseIndex = 1

// meta is what a voter keeps about itself.
type meta struct {
	Format int               `json:"format"`
	Self   antipode.Region   `json:"self"`
	Voters []antipode.Region `json:"voters"` // sorted
	Joined bool              `json:"joined"` // it may vote: see Core.join
	Boot   uint32            `json:"boot"`   // how often it was started
}

// disk keeps log, hard state, snapshot and meta in the region's store:
//
//	r m           meta, JSON
//	r h           raftpb.HardState
//	r s           raftpb.Snapshot
//	r e INDEX     raftpb.Entry; INDEX in 8 bytes, big-endian
type disk struct{ store engine.Store }

func metaKey() []byte     { return []byte("rm") }
func hardKey() []byte     { return []byte("rh") }
func snapshotKey() []byte { return []byte("rs") }

func entryKey(index uint64) []byte { return binary.BigEndian.AppendUint64([]byte("re"), index) }

// entriesEnd is above all entries' keys.
func entriesEnd() []byte { return []byte("rf") }

// stored is what load found.
type stored struct {
	meta     meta
	hard     *raftpb.HardState
	snapshot *raftpb.Snapshot
	entries  []*raftpb.Entry
}

// load reads everything, or returns nil when nothing was stored yet.
func (d disk) load() (*stored, error) {
	raw, err := d.store.Get(nil, metaKey())
	if errors.Is(err, engine.ErrNotFound) {
		return nil, nil
	}
	s := &stored{hard: &raftpb.HardState{}, snapshot: &raftpb.Snapshot{}}
	if err == nil {
		err = json.Unmarshal(raw, &s.meta)
	}
	if err != nil {
		return nil, fmt.Errorf("read control group's own record: %w", err)
	}
	if s.meta.Format != metaFormat {
		return nil, fmt.Errorf("%w: its records have format %d, this one reads %d: upgrade this region", ErrNewer, s.meta.Format, metaFormat)
	}
	for _, item := range []struct {
		key  []byte
		into proto.Message
	}{{hardKey(), s.hard}, {snapshotKey(), s.snapshot}} {
		raw, err := d.store.Get(nil, item.key)
		if err == nil {
			err = proto.Unmarshal(raw, item.into)
		}
		if err != nil {
			return nil, fmt.Errorf("read control group's record %q: %w", item.key, err)
		}
	}
	s.entries, err = d.entries(s.snapshot.GetMetadata().GetIndex())
	return s, err
}

// entries reads the entries after index, which follow on each other.
func (d disk) entries(after uint64) (out []*raftpb.Entry, err error) {
	it, err := d.store.Iterate(entryKey(after+1), entriesEnd())
	if err != nil {
		return nil, fmt.Errorf("read control group's log: %w", err)
	}
	defer func() {
		if e := it.Close(); err == nil && e != nil {
			err = fmt.Errorf("read control group's log: %w", e)
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		e := &raftpb.Entry{}
		if err := proto.Unmarshal(it.Value(), e); err != nil {
			return nil, fmt.Errorf("%w: entry %x of the control group's log: %w", engine.ErrCorrupt, it.Key(), err)
		}
		if want := after + 1 + uint64(len(out)); e.GetIndex() != want {
			return nil, fmt.Errorf("%w: entry %d is missing from the control group's log", engine.ErrCorrupt, want)
		}
		out = append(out, e)
	}
	return out, nil
}

// create writes the records of a voter that starts for the first time.
func (d disk) create(m meta, hard *raftpb.HardState, snapshot *raftpb.Snapshot) error {
	b := d.store.NewBatch()
	if err := errors.Join(setJSON(b, metaKey(), m), set(b, hardKey(), hard), set(b, snapshotKey(), snapshot)); err != nil {
		b.Discard()
		return err
	}
	return d.commit(b)
}

func (d disk) saveMeta(m meta) error {
	b := d.store.NewBatch()
	if err := setJSON(b, metaKey(), m); err != nil {
		b.Discard()
		return err
	}
	return d.commit(b)
}

// save makes durable what a Ready asks for.
func (d disk) save(rd raft.Ready) error {
	if raft.IsEmptySnap(rd.Snapshot) && raft.IsEmptyHardState(rd.HardState) && len(rd.Entries) == 0 {
		return nil
	}
	b := d.store.NewBatch()
	var err error
	if !raft.IsEmptySnap(rd.Snapshot) {
		b.DeleteRange(entryKey(0), entriesEnd())
		err = set(b, snapshotKey(), rd.Snapshot)
	}
	if len(rd.Entries) > 0 {
		// What followed the first of them, from an earlier term, is void.
		b.DeleteRange(entryKey(rd.Entries[0].GetIndex()), entriesEnd())
	}
	for _, e := range rd.Entries {
		err = errors.Join(err, set(b, entryKey(e.GetIndex()), e))
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		err = errors.Join(err, set(b, hardKey(), rd.HardState))
	}
	if err != nil {
		b.Discard()
		return err
	}
	return d.commit(b)
}

// compact replaces the entries up to index by a snapshot.
func (d disk) compact(snapshot *raftpb.Snapshot) error {
	b := d.store.NewBatch()
	if err := set(b, snapshotKey(), snapshot); err != nil {
		b.Discard()
		return err
	}
	b.DeleteRange(entryKey(0), entryKey(snapshot.GetMetadata().GetIndex()+1))
	return d.commit(b)
}

func (d disk) commit(b engine.Batch) error {
	c, err := d.store.Apply(b)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		return fmt.Errorf("write control group's log: %w", err)
	}
	return nil
}

func set(b engine.Batch, key []byte, m proto.Message) error {
	raw, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode control group's record %q: %w", key, err)
	}
	b.Set(key, raw)
	return nil
}

func setJSON(b engine.Batch, key []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode control group's record %q: %w", key, err)
	}
	b.Set(key, raw)
	return nil
}

// check refuses records of another region or of other voters.
func (m meta) check(cfg Config) error {
	if m.Self != cfg.Self {
		return fmt.Errorf("%w: this data belongs to region %s, not %s: choose the data directory of %s",
			ErrConfig, m.Self, cfg.Self, cfg.Self)
	}
	if want := slices.Sorted(slices.Values(cfg.Voters)); !slices.Equal(m.Voters, want) {
		return fmt.Errorf("%w: it was founded with the voters %q and the spec says %q: "+
			"voters can't be changed later, put the spec back", ErrConfig, m.Voters, want)
	}
	return nil
}
