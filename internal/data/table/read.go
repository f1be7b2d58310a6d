package table

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/collision"
)

// Get appends the item to dst and returns it, or nil where there is none. A
// consistent read is answered by the region that accepts the item's writes.
func (ts *Tables) Get(ctx context.Context, t *TableRef, key Key, consistent bool, dst []byte) ([]byte, error) {
	p := locate(t, key)
	if consistent {
		switch t.Writes {
		case antipode.WriteGlobal:
			return ts.getGlobal(ctx, t, p, dst)
		case antipode.WritePartitioned:
			return ts.getFromHome(ctx, t, p, dst)
		case antipode.WriteLocal: // as in DynamoDB global tables: this region's latest
		}
	}
	if ts.pend.has(p.item) {
		return ts.getPending(ctx, t, p, dst)
	}
	item, err := ts.getHere(ctx, t, p, dst)
	if err == nil && (item == nil || t.AckCopies() > 0) && ts.pend.has(p.item) {
		return ts.getPending(ctx, t, p, dst) // taken out in between, perhaps while it was hidden
	}
	return item, err
}

func (ts *Tables) getHere(ctx context.Context, t *TableRef, p place, dst []byte) ([]byte, error) {
	row, err := ts.cfg.Store.Get(nil, p.item)
	if errors.Is(err, engine.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.Name, err)
	}
	v, there, err := ts.shown(ctx, t, p.shard, p.item, row)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.Name, err)
	}
	if !there || v.Delete {
		return nil, nil
	}
	return append(dst, v.Body...), nil
}

// shown returns the visible version of a row, once it may be told of; false where
// there is none any more. What was hidden until others had it may have turned out not
// to count meanwhile, so it is looked at again.
func (ts *Tables) shown(ctx context.Context, t *TableRef, id antipode.Shard, item, row []byte) (v collision.Version, there bool, err error) {
	for {
		var seq uint64
		if v, seq, err = ts.see(t, row); err != nil {
			return v, false, err
		}
		if seq > 0 || t.AckCopies() > 0 {
			if err := ts.tellable(ctx, t, ts.cfg.Journal.Shard(id), seq, &v.Dot); err != nil {
				return v, false, err
			}
		}
		if t.AckCopies() == 0 || v.Dot.Origin != ts.origin {
			return v, true, nil
		}
		now, err := ts.cfg.Store.Get(nil, item)
		switch {
		case errors.Is(err, engine.ErrNotFound):
			return v, false, nil
		case err != nil || bytes.Equal(now, row):
			return v, true, err
		}
		row = now
	}
}

// see returns the visible version of a row and the own sequence that showing it
// leans on.
func (ts *Tables) see(t *TableRef, row []byte) (collision.Version, uint64, error) {
	v, single, err := collision.DecodeSingle(row)
	if err != nil {
		return v, 0, fmt.Errorf("%w: %w", engine.ErrCorrupt, err)
	}
	if single {
		if v.Dot.Origin == ts.origin {
			return v, v.Dot.Seq, nil
		}
		return v, 0, nil
	}
	all, err := collision.DecodeItem(row)
	if err != nil {
		return v, 0, fmt.Errorf("%w: %w", engine.ErrCorrupt, err)
	}
	v, _ = collision.Visible(all, t.Rule, t.Priority)
	return v, ts.ownSeq(all), nil
}

// bounds returns the rows that a range covers.
func bounds(r *RangeRequest) (lower, upper []byte) {
	if r.Partition == nil {
		lower = tablePrefix(prefixItem, r.Table.ID)
		upper = after(lower)
		if r.Segments > 1 {
			width := uint64(1<<32) / uint64(r.Segments)
			table := lower
			lower = binary.BigEndian.AppendUint32(bytes.Clone(table), uint32(width*uint64(r.Segment)))
			if r.Segment < r.Segments-1 {
				upper = binary.BigEndian.AppendUint32(bytes.Clone(table), uint32(width*uint64(r.Segment+1)))
			}
		}
		return lower, upper
	}
	partition := locate(r.Table, Key{Partition: r.Partition}).item
	lower = append(bytes.Clone(partition), r.Lower...)
	if r.Upper != nil {
		return lower, append(bytes.Clone(partition), r.Upper...)
	}
	return lower, after(partition)
}

// Covers reports whether an item with this key lies in the range, After aside.
func (r *RangeRequest) Covers(key Key) bool {
	lower, upper := bounds(r)
	row := locate(r.Table, key).item
	return bytes.Compare(row, lower) >= 0 && (upper == nil || bytes.Compare(row, upper) < 0)
}

// Range visits items in the order of their keys.
func (ts *Tables) Range(ctx context.Context, r RangeRequest, visit Visit) error {
	if r.Consistent {
		if err := ts.catchUp(ctx, &r); err != nil {
			return fmt.Errorf("read %s: %w", r.Table.Name, err)
		}
	}
	if err := ts.settlePending(ctx, r.Table); err != nil {
		return fmt.Errorf("read %s: %w", r.Table.Name, err)
	}
	lower, upper := bounds(&r)
	if r.After != nil {
		last := locate(r.Table, *r.After).item
		switch {
		case r.Reverse && (upper == nil || bytes.Compare(last, upper) < 0):
			upper = last
		case !r.Reverse && bytes.Compare(last, lower) >= 0:
			lower = append(last, 0)
		}
	}
	if upper != nil && bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	it, err := ts.cfg.Store.Iterate(lower, upper)
	if err != nil {
		return fmt.Errorf("read %s: %w", r.Table.Name, err)
	}
	err = ts.walk(ctx, &r, it, visit)
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", r.Table.Name, err)
	}
	return nil
}

func (ts *Tables) walk(ctx context.Context, r *RangeRequest, it engine.Iterator, visit Visit) error {
	start, step := it.First, it.Next
	if r.Reverse {
		start, step = it.Last, it.Prev
	}
	for ok := start(); ok; ok = step() {
		if err := ctx.Err(); err != nil {
			return err
		}
		row := it.Key()
		if len(row) < itemHeader {
			return fmt.Errorf("%w: item row %x", engine.ErrCorrupt, row)
		}
		v, there, err := ts.shown(ctx, r.Table, shardOfRow(r.Table, row), row, it.Value())
		if err != nil {
			return err
		}
		if !there && ts.pend.has(row) {
			return ts.pendingError(r.Table)
		}
		if !there || v.Delete {
			continue
		}
		key, err := splitKey(row[itemHeader:])
		if err != nil {
			return err
		}
		more, err := visit(key, v.Body)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// shardOfRow reads the shard off an item's row: the hash's upper bits are in it.
func shardOfRow(t *TableRef, row []byte) antipode.Shard {
	upper := binary.BigEndian.Uint32(row[5:])
	return t.Shards() | antipode.Shard(upper/(1<<32/antipode.ShardsPerSet))
}

// catchUp makes a local read consistent: it asks every region that may accept
// writes to the range how far it is, and waits until all of that is applied here.
func (ts *Tables) catchUp(ctx context.Context, r *RangeRequest) error {
	homes := []antipode.Region{""}
	switch r.Table.Writes {
	case antipode.WriteGlobal:
	case antipode.WritePartitioned:
		homes = r.Table.Replicas
	case antipode.WriteLocal:
		return nil
	}
	shards := make([]antipode.Shard, 0, antipode.ShardsPerSet)
	if r.Partition != nil {
		shards = append(shards, locate(r.Table, Key{Partition: r.Partition}).shard)
	} else {
		for i := range antipode.ShardsPerSet {
			shards = append(shards, r.Table.Shards()|antipode.Shard(i))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	return ts.eachHolder(ctx, r.Table, homes, shards)
}

// asking is a region to ask about roles that it holds in some shards.
type asking struct {
	homes  []antipode.Region
	shards []antipode.Shard
}

// eachHolder catches up with every holder of these roles in these shards. During
// a switch, shards of one role may have different ones.
func (ts *Tables) eachHolder(ctx context.Context, t *TableRef, homes []antipode.Region, shards []antipode.Shard) error {
	for _, home := range homes {
		todo := shards
		for hop := 0; len(todo) > 0; hop++ {
			if hop == maxHops {
				return fmt.Errorf("%w: roles of %s keep moving while they are asked; try again", ErrUnavailable, t.Name)
			}
			holder := ts.standing(t, home, todo[0]).Holder
			var rest []antipode.Shard
			ask := asking{homes: []antipode.Region{home}}
			for _, s := range todo {
				if ts.standing(t, home, s).Holder == holder {
					ask.shards = append(ask.shards, s)
				} else {
					rest = append(rest, s)
				}
			}
			moved, err := ts.catchUpWith(ctx, t, holder, ask)
			if err != nil {
				return err
			}
			if moved { // asked again when this region knows more
				rest = append(rest, ask.shards...)
			}
			todo = rest
		}
	}
	return nil
}

// catchUpWith waits until all that a holder has written is applied here.
func (ts *Tables) catchUpWith(ctx context.Context, t *TableRef, holder antipode.Region, a asking) (moved bool, err error) {
	changed := ts.rolesChanged()
	var marks []antipode.Frontier
	if holder == ts.cfg.Self {
		err = ts.whileHeld(ctx, t, a.homes, a.shards, func() error { return nil })
	} else {
		marks, err = ts.askFrontier(ctx, holder, t, a.homes, a.shards)
	}
	if errors.As(err, new(*movedError)) {
		return true, ts.waitOpen(ctx, changed, t)
	}
	if err != nil {
		return false, err
	}
	for i, f := range marks {
		if err := ts.cfg.Journal.WaitCovers(ctx, a.shards[i], f); err != nil {
			return false, fmt.Errorf("%w: what %s wrote has not arrived here in time; read without ConsistentRead, or try again", ErrUnavailable, holder)
		}
	}
	return false, nil
}

// whileHeld runs do while this region holds the roles in the shards, before and
// after.
func (ts *Tables) whileHeld(ctx context.Context, t *TableRef, homes []antipode.Region, shards []antipode.Shard, do func() error) error {
	var under []control.Tenure
	for _, home := range homes {
		for _, s := range shards {
			u, err := ts.awaitAct(ctx, t, home, place{shard: s}, meant{})
			if err != nil {
				return err
			}
			under = append(under, u)
		}
	}
	if err := do(); err != nil {
		return err
	}
	for _, home := range homes {
		for _, s := range shards {
			if err := ts.stands(t, home, s, under[0], antipode.Dot{}); err != nil {
				return err
			}
			under = under[1:]
		}
	}
	return nil
}
