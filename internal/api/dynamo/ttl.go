package dynamo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

func (c *call) describeTimeToLive() error {
	t, err := c.findNamed()
	if err != nil {
		return err
	}
	d := map[string]string{"TimeToLiveStatus": "DISABLED"}
	if name := optionsOf(t).Expires; name != "" {
		d = map[string]string{"TimeToLiveStatus": "ENABLED", "AttributeName": name}
	}
	return c.answer(map[string]any{"TimeToLiveDescription": d})
}

func (c *call) updateTimeToLive() error {
	name, attribute, enable, err := c.readTimeToLive()
	if err != nil {
		return err
	}
	t, err := c.catalogTable(name)
	if err != nil {
		return err
	}
	opts := optionsOf(t)
	switch {
	case opts.Expires != "" && opts.Expires != attribute:
		return errValidation("TimeToLive is active on a different AttributeName: current AttributeName is %s", opts.Expires)
	case enable && opts.Expires != "":
		return errValidation("TimeToLive is already enabled")
	case !enable && opts.Expires == "":
		return errValidation("TimeToLive is already disabled")
	}
	if opts.Expires = attribute; !enable {
		opts.Expires = ""
	}
	text, err := json.Marshal(opts)
	if err != nil {
		return err
	}
	if _, err := c.propose(control.Command{Configure: &control.Configure{Name: name, Was: t.Options, Options: text}}); err != nil {
		return err
	}
	return c.answer(map[string]any{"TimeToLiveSpecification": map[string]any{"AttributeName": attribute, "Enabled": enable}})
}

func (c *call) readTimeToLive() (name, attribute string, enable bool, err error) {
	var v violations
	if name, err = v.tableName(c.root); err != nil {
		return "", "", false, err
	}
	o, err := readMap(c.root, "TimeToLiveSpecification")
	switch {
	case err != nil:
		return "", "", false, err
	case o == nil:
		v.add(nil, "timeToLiveSpecification", notNull)
		return "", "", false, v.err()
	}
	attribute, hasName, err := readString(o, "AttributeName")
	if err != nil {
		return "", "", false, err
	}
	enable, hasEnabled, err := readBool(o, "Enabled")
	if err != nil {
		return "", "", false, err
	}
	const at = "timeToLiveSpecification.attributeName"
	switch {
	case !hasName:
		v.add(nil, at, notNull)
	case attribute == "":
		v.add(attribute, at, "Member must have length greater than or equal to 1")
	case len(attribute) > maxTableName:
		v.add(attribute, at, fmt.Sprintf("Member must have length less than or equal to %d", maxTableName))
	}
	if !hasEnabled {
		v.add(nil, "timeToLiveSpecification.enabled", notNull)
	}
	return name, attribute, enable, v.err()
}

const (
	// expireSlice bounds how long the search for expired items reads at a time, and
	// expireShare its part of the time: there are requests to answer meanwhile.
	expireSlice = 50 * time.Millisecond
	expireShare = 20
	// expireLook is how many items are read between two looks at the clock.
	expireLook = 256
	// expireMost is how many items are deleted between two slices.
	expireMost = 1000
	// expireOldest is the age from which a time is taken for a mistake, as in DynamoDB.
	expireOldest = 5 * 365 * 24 * time.Hour
)

// Expire deletes items whose time has come, in all tables that have a TTL, until
// the context ends. Of the regions that keep a table, one looks after each item: the
// writer's, or else the one that its key falls to. What another write changed
// meanwhile stays.
func (s *Server) Expire(ctx context.Context) {
	for s.rest(ctx, s.cfg.ExpireEvery) {
		state := s.cfg.Control.State()
		for _, t := range state.Tables {
			if name := optionsOf(t).Expires; name != "" && t.HasReplica(s.cfg.Region) && ctx.Err() == nil {
				if err := s.expireTable(ctx, t, name); err != nil && ctx.Err() == nil {
					s.cfg.Logger.Warn("delete expired items", "table", t.Name, "error", err)
				}
			}
		}
	}
}

// rest waits, and reports whether to go on.
func (s *Server) rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// expireTable goes through a table once.
func (s *Server) expireTable(ctx context.Context, t *table.TableRef, attribute string) error {
	var after *table.Key
	for {
		began := s.cfg.Now()
		last, found, err := s.findExpired(ctx, t, attribute, after)
		if err != nil {
			return err
		}
		spent := s.cfg.Now().Sub(began)
		inParallel(found, func(i *batchItem) { _, i.err = s.cfg.Tables.Write(ctx, i.req) })
		for _, i := range found {
			failed := (*table.Error)(nil)
			switch {
			case i.err == nil:
				s.metrics.expired.Inc()
			case !errors.As(i.err, &failed) || failed.Code != codeConditionFailed:
				return i.err
			}
		}
		if last == nil {
			return nil
		}
		after = last
		if !s.rest(ctx, expireShare*spent) {
			return nil
		}
	}
}

// findExpired reads a slice of a table, and returns the deletes that are due and
// where to go on, nil at the end.
func (s *Server) findExpired(ctx context.Context, t *table.TableRef, attribute string, after *table.Key) (last *table.Key, due []*batchItem, err error) {
	now := s.cfg.Now()
	mark := attr.AppendItem(nil, attr.Item{{Name: attribute, Value: attr.Value{Type: attr.N}}}) // {"attribute":{"N":""}}
	mark = mark[len(`{`) : len(mark)-len(`"}}`)]
	seen := 0
	err = s.cfg.Tables.Range(ctx, table.RangeRequest{Table: t, After: after}, func(k table.Key, item []byte) (bool, error) {
		if mayBeExpired(item, mark, now) && s.looksAfter(t, k) {
			i, err := expiredItem(t, k, item, attribute, now)
			if err != nil {
				return false, err
			}
			if i != nil {
				due = append(due, i)
			}
		}
		if seen++; len(due) < expireMost && (seen%expireLook != 0 || s.cfg.Now().Sub(now) < expireSlice) {
			return true, nil
		}
		last = &table.Key{Partition: bytes.Clone(k.Partition), Sort: bytes.Clone(k.Sort)}
		return false, nil
	})
	return last, due, err
}

// looksAfter reports whether this region is the one that deletes the item.
func (s *Server) looksAfter(t *table.TableRef, k table.Key) bool {
	if t.Writes == antipode.WriteGlobal {
		return t.Writer == s.cfg.Region
	}
	return table.Arbiter(t, k) == s.cfg.Region
}

// mayBeExpired looks for the attribute in an item's bytes, wherever it stands: most
// items aren't due, and needn't be decoded to know.
func mayBeExpired(item, mark []byte, now time.Time) bool {
	for {
		_, rest, found := bytes.Cut(item, mark)
		if !found {
			return false
		}
		text, _, _ := bytes.Cut(rest, []byte{'"'})
		if isExpired(string(text), now) {
			return true
		}
		item = rest
	}
}

// isExpired tells whether a time in seconds since the Unix epoch has come.
func isExpired(seconds string, now time.Time) bool {
	f, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return false
	}
	age := float64(now.UnixMilli())/1000 - f
	return age >= 0 && age < expireOldest.Seconds()
}

// expiredItem makes the delete of an item that is due, nil where it is not.
func expiredItem(t *table.TableRef, k table.Key, item []byte, attribute string, now time.Time) (*batchItem, error) {
	it, err := decode(item)
	if err != nil {
		return nil, err
	}
	at, ok := it.Get(attribute)
	if !ok || at.Type != attr.N || !isExpired(at.Str, now) {
		return nil, nil
	}
	key, err := appendKeyOf(nil, t, k)
	if err != nil {
		return nil, err
	}
	payload := slices.Concat([]byte(`{"Key":`), key, []byte(`,"ConditionExpression":"#t = :t","ExpressionAttributeNames":{"#t":`))
	payload = append(appendText(payload, attribute), `},"ExpressionAttributeValues":{":t":`...)
	payload = append(attr.AppendValue(payload, at), "}}"...)
	op, same, err := Compile(verbDelete, payload, t)
	if err != nil {
		return nil, err
	}
	return &batchItem{table: t, key: same, req: table.WriteRequest{Table: t, Key: same, Op: op, Verb: verbDelete, Payload: payload}}, nil
}
