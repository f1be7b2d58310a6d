package table

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
)

// countCache keeps item counts for a while: counting walks the table.
type countCache struct {
	mu     sync.Mutex
	counts map[antipode.TableID]counted
}

type counted struct {
	items, bytes int64
	at           time.Time
	took         time.Duration
}

// countShare bounds the part of the time that is spent on counting a table
// again and again.
const countShare = 20

// Count returns how many items a table has here, and their bytes. The figure is
// fresh for small tables; for one that takes long to walk it may be up to twenty
// times as old as the walk takes.
func (ts *Tables) Count(ctx context.Context, t *TableRef) (items, bytes int64, err error) {
	now := ts.cfg.Clock.Wall()
	ts.counts.mu.Lock()
	defer ts.counts.mu.Unlock()
	if c, ok := ts.counts.counts[t.ID]; ok && now.Sub(c.at) < countShare*c.took {
		return c.items, c.bytes, nil
	}
	c := counted{at: now}
	err = ts.Range(ctx, RangeRequest{Table: t}, func(_ Key, item []byte) (bool, error) {
		c.items++
		c.bytes += int64(len(item))
		return true, nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count items: %w", err)
	}
	c.took = ts.cfg.Clock.Wall().Sub(now)
	if ts.counts.counts == nil {
		ts.counts.counts = make(map[antipode.TableID]counted)
	}
	ts.counts.counts[t.ID] = c
	return c.items, c.bytes, nil
}
