package table

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// pendingKeys are the items whose version was taken out, because it does not
// count, and whose version that counts is not known here yet. Nobody is told
// anything of them until it is. It costs one atomic load while there are none.
type pendingKeys struct {
	n atomic.Int64

	mu   sync.RWMutex
	keys map[string]*pendingKey // by the key of the item's row
}

// pendingKey is one of them; it is immutable.
type pendingKey struct {
	table antipode.TableID
	key   []byte
	item  []byte
	shard antipode.Shard
	home  antipode.Region // whose role's holder knows
	// void is the version that was taken out, as a row.
	void []byte
	dot  antipode.Dot
	// need is what a version has to have seen to be installed: entries of the item
	// that were applied since and could not be, for want of it.
	need antipode.Frontier
}

// storedPending is its row.
type storedPending struct {
	Home antipode.Region   `json:"home,omitempty"`
	Void []byte            `json:"void"`
	Dot  string            `json:"dot"`
	Need map[string]uint64 `json:"need,omitempty"`
}

func (q *pendingKeys) get(item []byte) (*pendingKey, bool) {
	if q.n.Load() == 0 {
		return nil, false
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	k, ok := q.keys[string(item)]
	return k, ok
}

func (q *pendingKeys) has(item []byte) bool {
	if q.n.Load() == 0 {
		return false
	}
	_, ok := q.get(item)
	return ok
}

func (q *pendingKeys) put(k *pendingKey) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.keys == nil {
		q.keys = make(map[string]*pendingKey)
	}
	if _, ok := q.keys[string(k.item)]; !ok {
		q.n.Add(1)
	}
	q.keys[string(k.item)] = k
}

func (q *pendingKeys) forget(item []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.keys[string(item)]; ok {
		delete(q.keys, string(item))
		q.n.Add(-1)
	}
}

// list returns those that are wanted, in the order of their keys.
func (q *pendingKeys) list(want func(*pendingKey) bool) []*pendingKey {
	if q.n.Load() == 0 {
		return nil
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	var out []*pendingKey
	for _, k := range q.keys {
		if want(k) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b *pendingKey) int { return bytes.Compare(a.item, b.item) })
	return out
}

func (k *pendingKey) row() ([]byte, error) {
	return json.Marshal(storedPending{Home: k.home, Void: k.void, Dot: k.dot.String(), Need: k.need.Marks()})
}

// loadPending reads again what a run before has stored; of one shard, or of all.
func (ts *Tables) loadPending(only *antipode.Shard) error {
	return ts.eachRow(journal.Span{Lower: []byte{prefixPending}, Upper: []byte{prefixPending + 1}}, func(key, value []byte) error {
		const head = 1 + 4
		if len(key) <= head {
			return fmt.Errorf("%w: row %x", engine.ErrCorrupt, key)
		}
		id := antipode.TableID(uint32(key[1])<<24 | uint32(key[2])<<16 | uint32(key[3])<<8 | uint32(key[4]))
		t, ok := ts.cfg.Catalog().TableByID(id)
		if !ok {
			return nil // deleted since
		}
		p := locateEncoded(t, key[head:])
		if only != nil && p.shard != *only {
			return nil
		}
		k, err := readPending(value)
		if err != nil {
			return fmt.Errorf("%w: pending item %x: %w", engine.ErrCorrupt, key, err)
		}
		k.table, k.key, k.item, k.shard = id, p.key, p.item, p.shard
		ts.pend.put(k)
		return nil
	})
}

// readPending reads a row, but for what its key says.
func readPending(value []byte) (*pendingKey, error) {
	var s storedPending
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, err
	}
	k := &pendingKey{home: s.Home, void: s.Void}
	if _, _, err := collision.DecodeSingle(s.Void); err != nil {
		return nil, err
	}
	var err error
	if k.dot, err = antipode.ParseDot(s.Dot); err != nil {
		return nil, err
	}
	k.need, err = antipode.ParseMarks(s.Need)
	return k, err
}

func (ts *Tables) pendingError(t *TableRef) error {
	return fmt.Errorf("%w: the last version of an item of %s that %s had did not survive a failover, and the one that counts is not here yet; try again",
		ErrUnavailable, t.Name, ts.cfg.Self)
}

// notPending is asked in the critical section before a write. An item that is
// pending at the holder of its role is settled in a moment.
func (ts *Tables) notPending(t *TableRef, p place, w *WriteRequest) error {
	k, ok := ts.pend.get(p.item)
	if !ok {
		return nil
	}
	if _, err := ts.act(t, k.home, p.shard); err != nil {
		return err
	}
	if op, ok := w.Op.(Blind); ok && t.Writes == antipode.WriteGlobal && !w.WantOld && op.Blind() {
		return nil // whatever is there will be replaced
	}
	return errNotOpen
}

// getPending answers a read of an item that is pending here: its role's holder
// knows it.
func (ts *Tables) getPending(ctx context.Context, t *TableRef, p place, dst []byte) ([]byte, error) {
	if t.Writes == antipode.WriteGlobal {
		return ts.getGlobal(ctx, t, p, dst)
	}
	return ts.getFromHome(ctx, t, p, dst)
}

// settlePending makes sure that nothing of a table is pending, before a range of
// it is read.
func (ts *Tables) settlePending(ctx context.Context, t *TableRef) error {
	mine := func(k *pendingKey) bool { return k.table == t.ID }
	if len(ts.pend.list(mine)) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	err := ts.resolvePending(ctx, ts.pend.list(mine))
	if len(ts.pend.list(mine)) > 0 {
		return errors.Join(ts.pendingError(t), err)
	}
	return nil
}

// versionsAtOnce bounds the keys of one question.
const versionsAtOnce = 256

// versionsBytes bounds an answer, but for its first version.
const versionsBytes = 1 << 20

// resolvePending asks the holders of roles for the versions of pending items.
func (ts *Tables) resolvePending(ctx context.Context, keys []*pendingKey) error {
	var errs []error
	state := ts.cfg.Catalog()
	slices.SortStableFunc(keys, func(a, b *pendingKey) int {
		return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.shard, b.shard), cmp.Compare(a.home, b.home))
	})
	for len(keys) > 0 {
		n := 1
		for n < len(keys) && n < versionsAtOnce && keys[n].table == keys[0].table && keys[n].shard == keys[0].shard && keys[n].home == keys[0].home {
			n++
		}
		batch := keys[:n]
		keys = keys[n:]
		t, ok := state.TableByID(batch[0].table)
		if !ok {
			for _, k := range batch {
				ts.pend.forget(k.item) // deleted; its rows go with the others
			}
			continue
		}
		holder := ts.standing(t, batch[0].home, batch[0].shard).Holder
		if holder == ts.cfg.Self {
			continue // settled when the role is opened
		}
		if err := ts.fetch(ctx, t, holder, batch); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// fetch asks a region for versions of items of one shard and home, and installs
// what it gives.
func (ts *Tables) fetch(ctx context.Context, t *TableRef, from antipode.Region, keys []*pendingKey) error {
	shard, home := keys[0].shard, keys[0].home
	req := &call{Table: t.ID, Home: home, Marks: []string{shard.String()}}
	if k := ts.known(shard, control.RoleID{Table: t.ID, Home: home}); k != nil {
		for _, r := range k.rows {
			if r.Bound {
				req.Epoch, req.Holder = r.Tenure.Epoch, r.Tenure.Holder
			}
		}
	}
	for _, k := range keys {
		req.Blobs[0] = journal.AppendRow(req.Blobs[0], k.key, nil)
	}
	answer, err := ts.ask(ctx, from, methodVersions, req)
	if err != nil {
		return err
	}
	marks, err := answer.frontiers([]antipode.Shard{shard})
	if err != nil {
		return err
	}
	if err := ts.cfg.Journal.WaitCovers(ctx, shard, marks[0]); err != nil {
		return fmt.Errorf("%w: what %s has has not arrived here in time", ErrUnavailable, from)
	}
	return ts.takeVersions(t, shard, marks[0], answer.Blobs[0])
}

// takeVersions installs versions that hold at a frontier that is applied here.
func (ts *Tables) takeVersions(t *TableRef, shard antipode.Shard, at antipode.Frontier, rows []byte) error {
	sh := ts.cfg.Journal.Shard(shard)
	sh.Lock()
	txn := sh.Begin(ts.cfg.Store.NewBatch())
	var known [][]byte
	spent := false
	err := journal.EachRow(rows, func(key, value []byte) error {
		p := locateEncoded(t, key)
		k, ok := ts.pend.get(p.item)
		if !ok || p.shard != shard || !at.Covers(k.need) {
			return nil // it came by journal meanwhile, or what was given is older than what came
		}
		if len(value) > 0 {
			siblings, err := collision.DecodeItem(value)
			if err != nil {
				return fmt.Errorf("version of an item of %s: %w", t.Name, err)
			}
			if ts.spent(t, shard, siblings) {
				spent = true
			} else {
				txn.Batch().Set(p.item, value)
			}
		}
		txn.Batch().Delete(keyed(prefixPending, t.ID, p.key))
		known = append(known, p.item)
		return nil
	})
	if err != nil || len(known) == 0 {
		txn.Discard()
		sh.Unlock()
		return err
	}
	c, err := txn.Commit()
	if err == nil {
		for _, item := range known {
			ts.pend.forget(item)
		}
		if spent {
			ts.gc.drop(shard)
		}
	}
	sh.Unlock()
	if err != nil {
		return err
	}
	return c.Wait()
}

// serveVersions gives the versions of items and the frontier at which they hold.
// It leaves out what is pending here too.
func (ts *Tables) serveVersions(ctx context.Context, from antipode.Region, body []byte) ([]byte, error) {
	c, t, err := ts.open(from, body)
	if err != nil {
		return refuse(err)
	}
	shard, err := c.shard()
	if err != nil {
		return refuse(err)
	}
	asked := control.Tenure{Epoch: c.Epoch, Holder: c.Holder}
	answer := &call{}
	sh := ts.cfg.Journal.Shard(shard)
	sh.Lock()
	err = ts.versions(t, shard, c.Home, asked, c.Blobs[0], answer)
	at := sh.Applied()
	sh.Unlock()
	if err == nil {
		err = sh.WaitDurable(ctx, at.Seq(ts.origin)) // nothing leaves before its own fsync
	}
	if err != nil {
		return refuse(err)
	}
	answer.mark(shard, at)
	return answer.encode()
}

func (ts *Tables) versions(t *TableRef, shard antipode.Shard, home antipode.Region, asked control.Tenure, keys []byte, answer *call) error {
	k := ts.known(shard, control.RoleID{Table: t.ID, Home: home})
	if asked.Epoch > 0 && !k.of(asked).Bound {
		return fmt.Errorf("%w: %s does not know yet what a failover has ended in %s", ErrUnavailable, ts.cfg.Self, t.Name)
	}
	if !ts.cfg.Journal.Shard(shard).Applied().Covers(ts.reachable(shard, k.of(asked).Cutoff)) {
		return fmt.Errorf("%w: %s has not got yet all that counts in %s", ErrUnavailable, ts.cfg.Self, t.Name)
	}
	return journal.EachRow(keys, func(key, _ []byte) error {
		p := locateEncoded(t, key)
		if p.shard != shard || ts.pend.has(p.item) || len(answer.Blobs[0]) > versionsBytes {
			return nil
		}
		row, err := ts.cfg.Store.Get(nil, p.item)
		if err != nil && !errors.Is(err, engine.ErrNotFound) {
			return fmt.Errorf("read item: %w", err)
		}
		answer.Blobs[0] = journal.AppendRow(answer.Blobs[0], key, row)
		return nil
	})
}
