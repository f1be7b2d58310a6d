package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
)

// countCache keeps item counts for a while: counting walks the table.
type countCache struct {
	mu     sync.Mutex
	counts map[antipode.TableID]*counted
}

// counted is what is known of a table's size: the last whole walk, and the one
// under way.
type counted struct {
	items, bytes int64
	at           time.Time // of the end of the last whole walk; zero where there was none
	took         time.Duration

	after             *Key // the walk under way goes on from here; nil between walks
	soFar, soFarBytes int64
	spent             time.Duration
}

const (
	// countShare bounds the part of the time that is spent on counting a table
	// again and again.
	countShare = 20
	// countSlice bounds the time that one call walks: whoever asks after a large
	// table must not wait for all of it.
	countSlice = 300 * time.Millisecond
	// countLook is how many items are walked between two looks at the clock.
	countLook = 256
)

// Count returns how many items a table has here, and their size (see Config.Size). The figure is
// fresh for small tables. One that takes longer to walk than a fraction of a
// second is walked piece by piece, a piece a call: until the first walk is
// through, the figure is what was seen so far; later it is that of the last walk.
func (ts *Tables) Count(ctx context.Context, t *TableRef) (items, bytes int64, err error) {
	ts.counts.mu.Lock()
	defer ts.counts.mu.Unlock()
	c := ts.counts.counts[t.ID]
	if c == nil {
		if ts.counts.counts == nil {
			ts.counts.counts = make(map[antipode.TableID]*counted)
		}
		c = new(counted)
		ts.counts.counts[t.ID] = c
	}
	now := ts.cfg.Clock.Wall()
	if !c.at.IsZero() && c.after == nil && now.Sub(c.at) < countShare*c.took {
		return c.items, c.bytes, nil
	}
	if err := ts.countOn(ctx, t, c, now); err != nil {
		return 0, 0, fmt.Errorf("count items: %w", err)
	}
	if c.at.IsZero() {
		return c.soFar, c.soFarBytes, nil
	}
	return c.items, c.bytes, nil
}

// countOn walks on for a slice of time.
func (ts *Tables) countOn(ctx context.Context, t *TableRef, c *counted, start time.Time) error {
	var last *Key
	items, size := c.soFar, c.soFarBytes
	err := ts.visitAll(ctx, t, c.after, func(k Key, item []byte) (bool, error) {
		items++
		size += int64(ts.cfg.Size(item))
		if (items-c.soFar)%countLook != 0 || ts.cfg.Clock.Wall().Sub(start) < countSlice {
			return true, nil
		}
		last = &Key{Partition: bytes.Clone(k.Partition), Sort: bytes.Clone(k.Sort)}
		return false, nil
	})
	if err != nil {
		return err // what was seen in this slice is seen again in the next
	}
	end := ts.cfg.Clock.Wall()
	c.soFar, c.soFarBytes, c.after = items, size, last
	c.spent += end.Sub(start)
	if last == nil {
		*c = counted{items: items, bytes: size, at: end, took: c.spent}
	}
	return nil
}

// visitAll visits what is in the store after a key, as it is: unlike Range it
// waits for nobody. Nothing may be told of it but its size. A table whose writes
// wait for others must not make `antipode status` wait with them, just when
// somebody wants to know why.
func (ts *Tables) visitAll(ctx context.Context, t *TableRef, last *Key, visit Visit) error {
	r := RangeRequest{Table: t}
	lower, upper := bounds(&r)
	if last != nil {
		lower = append(locate(t, *last).item, 0)
	}
	it, err := ts.cfg.Store.Iterate(lower, upper)
	if err != nil {
		return err
	}
	err = ts.visitRows(ctx, t, it, visit)
	return errors.Join(err, it.Close())
}

func (ts *Tables) visitRows(ctx context.Context, t *TableRef, it engine.Iterator, visit Visit) error {
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		v, _, err := ts.see(t, it.Value())
		if err != nil {
			return err
		}
		if v.Delete {
			continue
		}
		row := it.Key()
		if len(row) < itemHeader {
			return fmt.Errorf("%w: item row %x", engine.ErrCorrupt, row)
		}
		key, err := splitKey(row[itemHeader:])
		if err != nil {
			return err
		}
		if more, err := visit(key, v.Body); err != nil || !more {
			return err
		}
	}
	return nil
}
