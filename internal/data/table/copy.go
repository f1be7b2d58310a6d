package table

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// Export opens a view of a shard's rows for another region to copy: its journals
// first, then items, then what is kept for collisions. Nothing of it may leave
// before everything that the view has applied is durable here. It returns nil
// while this region is being filled itself, and always where it keeps the journals
// only: who took such a copy would believe that there are no items.
func (ts *Tables) Export(id antipode.Shard) (journal.Source, error) {
	tables := ts.tablesOf(id)
	if ts.fill.on.Load() || len(tables) > 0 && !tables[0].HasReplica(ts.cfg.Self) {
		return nil, nil
	}
	x := &export{}
	for _, s := range journal.Spans(id) {
		x.spans = append(x.spans, span{Span: s})
	}
	for _, prefix := range shardPrefixes() {
		x.spans = append(x.spans, span{Span: shardSpan(prefix, &id)})
	}
	for _, t := range tables {
		x.spans = append(x.spans, span{Span: itemSpan(t.ID, id)})
		for _, prefix := range keyPrefixes() {
			x.spans = append(x.spans, span{spanOf(prefix, t.ID), t})
		}
	}
	x.id = id
	sh := ts.cfg.Journal.Shard(id)
	sh.Lock()
	defer sh.Unlock()
	x.snap, x.state = ts.cfg.Store.Snapshot(), sh.State()
	return x, nil
}

// shardPrefixes are those of rows that begin with the shard and belong to a copy:
// what is known of roles, and stranded writes. Seals don't: they are a region's own word.
func shardPrefixes() []byte { return []byte{prefixTenure, prefixStranded} }

// keyPrefixes are those of rows by table and key that belong to a copy.
func keyPrefixes() []byte { return []byte{prefixHistory, prefixCollision, prefixPending} }

// tablesOf lists the tables whose items lie in the shard, in the order of their ids.
func (ts *Tables) tablesOf(id antipode.Shard) []*TableRef {
	var out []*TableRef
	for _, t := range ts.cfg.Catalog().Tables {
		if t.Shards() == id.Set() {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *TableRef) int { return int(a.ID) - int(b.ID) })
	return out
}

// itemSpan is where a table's items of one shard lie: a range of hashes.
func itemSpan(id antipode.TableID, shard antipode.Shard) journal.Span {
	const width = 1 << 32 / antipode.ShardsPerSet
	table := tablePrefix(prefixItem, id)
	s := journal.Span{
		Lower: binary.BigEndian.AppendUint32(bytes.Clone(table), uint32(width*shard.Range())),
		Upper: after(table),
	}
	if shard.Range() < antipode.ShardsPerSet-1 {
		s.Upper = binary.BigEndian.AppendUint32(table, uint32(width*(shard.Range()+1)))
	}
	return s
}

func spanOf(prefix byte, id antipode.TableID) journal.Span {
	p := tablePrefix(prefix, id)
	return journal.Span{Lower: p, Upper: after(p)}
}

// span is a range of rows. Where it has a table, the rows are in the order of
// keys and belong to all its shards.
type span struct {
	journal.Span
	of *TableRef
}

// export is a journal.Source over a snapshot.
type export struct {
	id    antipode.Shard
	snap  engine.Snapshot
	state journal.State
	spans []span
	it    engine.Iterator // of the first span, on the next row; nil before it is opened
}

// State implements journal.Source.
func (x *export) State() journal.State { return x.state }

// exportScan bounds the rows of other shards that one call passes over.
const exportScan = 1 << 16

// Next implements journal.Source.
func (x *export) Next(dst []byte, limit int) (rows []byte, more bool, err error) {
	for range exportScan {
		if len(dst) >= limit || len(x.spans) == 0 {
			break
		}
		if dst, err = x.step(dst); err != nil {
			return nil, false, fmt.Errorf("read shard %s for a copy: %w", x.id, err)
		}
	}
	return dst, len(x.spans) > 0, nil
}

// step appends a row, if it is the shard's, and goes on to the next.
func (x *export) step(dst []byte) (_ []byte, err error) {
	var ok bool
	if x.it == nil {
		if x.it, err = x.snap.Iterate(x.spans[0].Lower, x.spans[0].Upper); err != nil {
			return nil, err
		}
		ok = x.it.First()
	} else {
		ok = x.it.Next()
	}
	if !ok {
		err = x.it.Close()
		x.it, x.spans = nil, x.spans[1:]
		return dst, err
	}
	if t := x.spans[0].of; t != nil {
		if mine, err := rowIn(t, x.it.Key(), x.id); err != nil || !mine {
			return dst, err
		}
	}
	return journal.AppendRow(dst, x.it.Key(), x.it.Value()), nil
}

// Close implements journal.Source.
func (x *export) Close() error {
	var err error
	if x.it != nil {
		err = x.it.Close()
	}
	x.spans = nil
	return errors.Join(err, x.snap.Close())
}

// rowIn reports whether a row by table and key belongs to a shard.
func rowIn(t *TableRef, row []byte, id antipode.Shard) (bool, error) {
	key, _, err := rowKey(row)
	if err != nil {
		return false, err
	}
	return locateEncoded(t, key).shard == id, nil
}

// rowKey returns the item's key in a row of any kind, and the length of the row's
// key up to the end of it.
func rowKey(row []byte) (key []byte, end int, err error) {
	const head = 1 + 4
	switch {
	case len(row) > itemHeader && row[0] == prefixItem:
		return row[itemHeader:], len(row), nil
	case len(row) > head && (row[0] == prefixCollision || row[0] == prefixPending):
		return row[head:], len(row), nil
	case len(row) > head && row[0] == prefixHistory:
		n, w := binary.Uvarint(row[head:])
		if w > 0 && n <= uint64(len(row)-head-w) {
			end = head + w + int(n)
			return row[head+w : end], end, nil
		}
	}
	return nil, 0, fmt.Errorf("%w: row %x", engine.ErrCorrupt, row)
}

// Begin empties a shard for a copy of it. Until Finish or Abort, nothing else may
// be applied to the shard.
func (ts *Tables) Begin(id antipode.Shard) error {
	if !slices.Contains(ts.Members(id), ts.cfg.Self) {
		return fmt.Errorf("copy shard %s: %w that keeps it, or not yet", id, ErrNoTable)
	}
	if ts.sealedShard(id) {
		return fmt.Errorf("copy shard %s: a failover is under way, and what is here was promised to its successor; the sender tries again", id)
	}
	if err := ts.fill.begin(id); err != nil {
		return fmt.Errorf("copy shard %s: %w", id, err)
	}
	sh := ts.cfg.Journal.Shard(id)
	sh.Lock()
	defer sh.Unlock()
	return ts.empty(sh)
}

// empty removes all rows of a shard. It marks the shard first: should it be
// interrupted, it is done again before the shard is used.
func (ts *Tables) empty(sh *journal.Shard) error {
	b := ts.cfg.Store.NewBatch()
	for _, t := range ts.tablesOf(sh.ID()) {
		s := itemSpan(t.ID, sh.ID())
		b.DeleteRange(s.Lower, s.Upper)
	}
	id := sh.ID()
	for _, prefix := range shardPrefixes() {
		s := shardSpan(prefix, &id)
		b.DeleteRange(s.Lower, s.Upper)
	}
	c, err := sh.Empty(b)
	if err != nil {
		return err
	}
	ts.forgetShard(id)
	for _, t := range ts.tablesOf(sh.ID()) {
		for _, prefix := range keyPrefixes() {
			if err := ts.emptyKeyed(span{spanOf(prefix, t.ID), t}, sh.ID()); err != nil {
				return errors.Join(fmt.Errorf("empty shard %s: %w", sh.ID(), err), c.Wait())
			}
		}
	}
	return c.Wait()
}

// emptyBytes bounds a batch of removals.
const emptyBytes = 1 << 20

func (ts *Tables) emptyKeyed(s span, id antipode.Shard) error {
	it, err := ts.cfg.Store.Iterate(s.Lower, s.Upper)
	if err != nil {
		return err
	}
	b := ts.cfg.Store.NewBatch()
	for ok := it.First(); ok; ok = it.Next() {
		mine, err := rowIn(s.of, it.Key(), id)
		if err != nil {
			b.Discard()
			return errors.Join(err, it.Close())
		}
		if mine {
			b.Delete(it.Key())
		}
		if b.Len() >= emptyBytes {
			if err := ts.cfg.Store.ApplyLater(b); err != nil {
				return errors.Join(err, it.Close())
			}
			b = ts.cfg.Store.NewBatch()
		}
	}
	return errors.Join(it.Close(), ts.cfg.Store.ApplyLater(b))
}

// Install stores rows of a copy, in the order in which they were exported.
func (ts *Tables) Install(id antipode.Shard, rows []byte) (*journal.Commit, error) {
	sh := ts.cfg.Journal.Shard(id)
	sh.Lock()
	defer sh.Unlock()
	b := ts.cfg.Store.NewBatch()
	var newest antipode.Stamp
	err := journal.EachRow(rows, func(key, value []byte) error {
		stamp, err := ts.install(sh, b, key, value)
		newest = max(newest, stamp)
		return err
	})
	if err != nil {
		b.Discard()
		return nil, err
	}
	if newest > 0 {
		if err := ts.cfg.Clock.Update(newest); err != nil {
			ts.cfg.Logger.Warn("stamp of another region", "shard", id.String(), "error", err)
		}
	}
	return sh.Keep(b)
}

// install checks that a row is what it seems to be and adds it to the batch. It
// returns the highest stamp in it.
func (ts *Tables) install(sh *journal.Shard, b engine.Batch, key, value []byte) (stamp antipode.Stamp, err error) {
	bad := func(err error) error {
		return fmt.Errorf("%w: row %x in a copy of shard %s: %w", journal.ErrMalformed, key, sh.ID(), err)
	}
	switch {
	case len(key) > 0 && bytes.IndexByte(shardPrefixes(), key[0]) >= 0:
		if err := checkShardRow(sh.ID(), key, value); err != nil {
			return 0, bad(err)
		}
		b.Set(key, value)
		return 0, nil
	case len(key) == 0 || key[0] != prefixItem && bytes.IndexByte(keyPrefixes(), key[0]) < 0:
		return sh.Take(b, key, value)
	}
	k, end, err := rowKey(key)
	if err != nil {
		return 0, bad(err)
	}
	state, table := ts.cfg.Catalog(), antipode.TableID(binary.BigEndian.Uint32(key[1:]))
	t, ok := state.TableByID(table)
	switch {
	case !ok && table < state.NextTable, ok && !t.HasReplica(ts.cfg.Self):
		return 0, nil // deleted since, or this member keeps the journals only
	case !ok:
		return 0, fmt.Errorf("copy shard %s: table %d is not known here yet: %w", sh.ID(), table, ErrNoTable)
	}
	p := locateEncoded(t, k)
	if p.shard != sh.ID() {
		return 0, bad(fmt.Errorf("it belongs to shard %s", p.shard))
	}
	switch key[0] {
	case prefixItem:
		if !bytes.Equal(p.item, key) {
			return 0, bad(errors.New("not at the place of its key"))
		}
		stamp, err = itemStamp(value)
	case prefixPending:
		_, err = readPending(value)
	case prefixHistory:
		if _, err = historyDot(key, end, sh.ID()); err == nil && len(value) > 0 {
			_, err = collision.DecodeEntry(value)
		}
	}
	if err != nil {
		return 0, bad(err)
	}
	b.Set(key, value)
	return stamp, nil
}

func itemStamp(value []byte) (stamp antipode.Stamp, err error) {
	siblings, err := collision.DecodeItem(value)
	for _, v := range siblings {
		stamp = max(stamp, v.Stamp)
	}
	return stamp, err
}

// Finish makes what was installed the shard, if it is what was promised.
func (ts *Tables) Finish(id antipode.Shard, want journal.State) (*journal.Commit, error) {
	sh := ts.cfg.Journal.Shard(id)
	sh.Lock()
	defer sh.Unlock()
	c, err := sh.EndCopy(want)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(ts.loadTenures(&id), ts.loadPending(&id)); err != nil {
		return c, fmt.Errorf("end copy of shard %s: %w", id, err)
	}
	ts.fill.end(id)
	return c, nil
}

// checkShardRow checks that a row is what is known of a role, or a stranded write.
func checkShardRow(id antipode.Shard, key, value []byte) error {
	if key[0] == prefixTenure {
		shard, _, _, err := decodeTenure(key, value)
		if err == nil && shard != id {
			err = fmt.Errorf("it belongs to shard %s", shard)
		}
		return err
	}
	_, e, err := readStranded(value)
	if err == nil && (e.Dot.Shard != id || !bytes.Equal(key, strandedKey(e.Dot))) {
		err = fmt.Errorf("it is %s", e.Dot)
	}
	return err
}

// Abort gives up a copy that was begun, in this run or one before, and leaves the
// shard empty, as if nothing had ever been received.
func (ts *Tables) Abort(id antipode.Shard) error {
	sh := ts.cfg.Journal.Shard(id)
	sh.Lock()
	defer sh.Unlock()
	if !sh.Copying() {
		ts.fill.end(id) // it was not even emptied, or somebody else has given it up
		return nil
	}
	if err := ts.empty(sh); err != nil {
		return err
	}
	c, err := sh.GiveUp()
	if err != nil {
		return err
	}
	ts.fill.end(id)
	return c.Wait()
}
