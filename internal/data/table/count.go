package table

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
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

// Count returns how many items a table has here, and their bytes. The figure is
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
	err := ts.Range(ctx, RangeRequest{Table: t, After: c.after}, func(k Key, item []byte) (bool, error) {
		items++
		size += int64(len(item))
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
