package table

import (
	"errors"
	"fmt"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// Collision is one collision on record.
type Collision struct {
	Key    Key
	Record collision.Record
	Final  bool // it can't change any more, and is equal in all regions
}

// Collisions visits the collisions on record of a table in the order of its
// keys. They are found anew from the versions kept: a pure function of what was
// written, so that all regions list the same once it has arrived everywhere.
func (ts *Tables) Collisions(t *TableRef, visit func(Collision) (more bool)) error {
	snap := ts.cfg.Store.Snapshot()
	err := ts.eachCollision(snap, t, visit)
	return errors.Join(err, snap.Close())
}

func (ts *Tables) eachCollision(snap engine.Reader, t *TableRef, visit func(Collision) bool) error {
	prefix := tablePrefix(prefixCollision, t.ID)
	it, err := snap.Iterate(prefix, after(prefix))
	if err != nil {
		return fmt.Errorf("list collisions of %s: %w", t.Name, err)
	}
	stable := make(map[antipode.Shard]antipode.Frontier)
	for ok := it.First(); ok; ok = it.Next() {
		p := locateEncoded(t, it.Key()[len(prefix):])
		more, err := ts.keyCollisions(snap, t, p, stable, visit)
		if err != nil || !more {
			return errors.Join(err, it.Close())
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("list collisions of %s: %w", t.Name, err)
	}
	return nil
}

func (ts *Tables) keyCollisions(snap engine.Reader, t *TableRef, p place, stable map[antipode.Shard]antipode.Frontier, visit func(Collision) bool) (more bool, err error) {
	history, err := loadHistory(snap, t.ID, p)
	if err != nil {
		return false, fmt.Errorf("list collisions of %s: %w", t.Name, err)
	}
	key, err := splitKey(p.key)
	if err != nil {
		return false, err
	}
	f, ok := stable[p.shard]
	if !ok {
		f = ts.cfg.Journal.Shard(p.shard).Stable(t.Replicas)
		stable[p.shard] = f
	}
	for _, r := range collision.Collisions(history, t.Rule, t.Priority) {
		if !visit(Collision{Key: key, Record: r, Final: collision.Final(r, f.Includes)}) {
			return false, nil
		}
	}
	return true, nil
}

// loadHistory reads the versions of a key that the journals, or records of
// collisions, still hold.
func loadHistory(r engine.Reader, id antipode.TableID, p place) ([]collision.Entry, error) {
	prefix := historyPrefix(id, p.key)
	it, err := r.Iterate(prefix, after(prefix))
	if err != nil {
		return nil, err
	}
	var history []collision.Entry
	var names journal.Origins
	for ok := it.First(); ok; ok = it.Next() {
		d, err := historyDot(it.Key(), len(prefix), p.shard)
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		var e collision.Entry
		if kept := it.Value(); len(kept) > 0 {
			e, err = collision.DecodeEntry(append([]byte(nil), kept...))
		} else {
			e, err = loadVersion(r, &names, d)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read version %s: %w", d, err), it.Close())
		}
		history = append(history, e)
	}
	return history, it.Close()
}

func loadVersion(r engine.Reader, names *journal.Origins, d antipode.Dot) (collision.Entry, error) {
	raw, err := journal.Load(r, d)
	if err != nil {
		return collision.Entry{}, err
	}
	e, err := names.Decode(raw)
	if err != nil {
		return collision.Entry{}, err
	}
	return entryOf(e), nil
}

func entryOf(e *journal.Entry) collision.Entry {
	return collision.Entry{
		Version: versionOf(e), Context: e.Context,
		Uncertainty: time.Duration(e.Uncertainty) * time.Millisecond,
	}
}
