package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
)

// undecided refuses a system on which a failover is under way, or stranded
// writes wait for a decision: a drill would mix its own among them.
func (r *run) undecided(context.Context) error { return nil }

// records asks the regions for what they have on record: collisions, stranded
// writes, failovers.
func (r *run) records(ctx context.Context, e *Evidence) error {
	e.Moves = r.watch.movesSoFar()
	e.Collisions = make([]map[string][][]int64, len(r.tables))
	for i, t := range r.tables {
		e.Collisions[i] = map[string][][]int64{}
		if t.Writes != antipode.WriteLocal {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, time.Minute)
		err := r.cfg.Sites[r.data[0]].Operator.Collisions(asking, t.Name, 0, func(c operator.Collision) error {
			key, values, err := collided(c)
			e.Collisions[i][key] = append(e.Collisions[i][key], values)
			return err
		})
		cancel()
		if err != nil {
			return fmt.Errorf("list collisions of %s: %w", t.Name, err)
		}
	}
	return nil
}

// item is an item of the drill's tables as DynamoDB JSON.
type item struct {
	ID struct {
		S string `json:"S"`
	} `json:"id"`
	V struct {
		N string `json:"N"`
	} `json:"v"`
}

func collided(c operator.Collision) (key string, values []int64, err error) {
	var k item
	if err := json.Unmarshal(c.Key, &k); err != nil {
		return "", nil, fmt.Errorf("key of a collision: %w", err)
	}
	for _, v := range c.Versions {
		var i item
		if err := json.Unmarshal(v.Item, &i); err != nil {
			return "", nil, fmt.Errorf("version in a collision: %w", err)
		}
		n, err := strconv.ParseInt(i.V.N, 10, 64)
		if err != nil {
			return "", nil, fmt.Errorf("version in a collision: %w", err)
		}
		values = append(values, n)
	}
	return k.ID.S, values, nil
}
