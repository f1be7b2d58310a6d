package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/ops/bench"
)

// tablePrefix is what the drill's tables are called by. It makes and removes
// them, whoever made them.
const tablePrefix = "antipode-drill-"

func drillTables() []Table {
	return []Table{
		{Name: tablePrefix + "global", Writes: antipode.WriteGlobal, RPO: -1},
		{Name: tablePrefix + "rpo0", Writes: antipode.WriteGlobal, RPO: 0},
		{Name: tablePrefix + "partitioned", Writes: antipode.WritePartitioned, RPO: -1},
		{Name: tablePrefix + "local", Writes: antipode.WriteLocal, RPO: -1},
	}
}

// admin makes one call that is no load, and tries again for a while: where the
// catalog has no leader at the moment, it has one soon.
func (r *run) admin(ctx context.Context, site int, operation, body string) error {
	caller, err := bench.NewCaller(r.cfg.Sites[site].Endpoint, 10*time.Second, r.cfg.Now)
	if err != nil {
		return err
	}
	defer caller.Close()
	for try := 0; ; try++ {
		_, err := caller.Call(ctx, bench.Operation(operation), []byte(body))
		var refused *bench.RefusedError
		final := errors.As(err, &refused) && refused.Status < 500 && refused.Code != "ThrottlingException"
		if err == nil || final || try == 4 || !r.wait(ctx, time.Second) {
			return err
		}
	}
}

// dropTables removes the drill's tables where they are there.
func (r *run) dropTables(ctx context.Context, site int) error {
	for _, t := range drillTables() {
		err := r.admin(ctx, site, "DeleteTable", fmt.Sprintf(`{"TableName":%q}`, t.Name))
		if err != nil && bench.Kind(err) != "ResourceNotFoundException" {
			return fmt.Errorf("remove table %s: %w", t.Name, err)
		}
	}
	return nil
}

// makeTables makes the drill's tables, with the target as the writer of those
// that have one, and waits until all regions know them.
func (r *run) makeTables(ctx context.Context) error {
	if err := r.dropTables(ctx, r.target); err != nil {
		return err
	}
	for _, t := range r.tables {
		tags := map[string]string{"antipode:writes": string(t.Writes)}
		switch t.Writes {
		case antipode.WriteGlobal:
			tags["antipode:writer"] = string(r.cfg.Sites[r.target].Name)
		case antipode.WriteLocal:
			tags["antipode:rule"] = string(antipode.RuleLastWriter)
		case antipode.WritePartitioned:
		}
		if t.RPO >= 0 {
			tags["antipode:rpo"] = t.RPO.String()
		}
		var list []string
		for _, k := range slices.Sorted(maps.Keys(tags)) {
			list = append(list, fmt.Sprintf(`{"Key":%q,"Value":%q}`, k, tags[k]))
		}
		body := fmt.Sprintf(`{"TableName":%q,"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],`+
			`"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}],"BillingMode":"PAY_PER_REQUEST","Tags":[%s]}`, t.Name, strings.Join(list, ","))
		if err := r.admin(ctx, r.target, "CreateTable", body); err != nil {
			return fmt.Errorf("make table %s: %w", t.Name, err)
		}
	}
	for _, site := range r.data {
		for _, t := range r.tables {
			for try := 0; ; try++ {
				err := r.admin(ctx, site, "DescribeTable", fmt.Sprintf(`{"TableName":%q}`, t.Name))
				if err == nil {
					break
				}
				if try == 50 || !r.wait(ctx, 100*time.Millisecond) {
					return fmt.Errorf("table %s at %s: %w", t.Name, r.cfg.Sites[site].Name, err)
				}
			}
		}
	}
	return nil
}

// fillRegisters writes every register once at its home.
func (r *run) fillRegisters(ctx context.Context) error {
	var wg sync.WaitGroup
	const clients = 16
	failed := make([]error, clients)
	for n := range clients {
		wg.Go(func() {
			for k := int64(n); k < registers && ctx.Err() == nil; k += clients {
				site := homeOf(k, r.data)
				c, err := r.load.client(site)
				if err != nil {
					failed[n] = err
					return
				}
				for table := range r.tables {
					if !r.tables[table].roles() {
						continue
					}
					c.write(ctx, table, Put, k)
					if last := c.page.ops[len(c.page.ops)-1]; last.Outcome != Done {
						failed[n] = fmt.Errorf("write to %s at %s before the drill: it fails; see antipode status", r.tables[table].Name, r.cfg.Sites[site].Name)
					}
				}
				c.caller.Close()
			}
		})
	}
	wg.Wait()
	return errors.Join(errors.Join(failed...), ctx.Err())
}

// batch is how many items a BatchGetItem may ask for.
const batch = 100

// collect reads items of a table at a site, eventually consistent: what is there.
func (r *run) collect(ctx context.Context, site, table int, keys []string) (map[string]int64, error) {
	out := make(map[string]int64, len(keys))
	var mu sync.Mutex
	var wg sync.WaitGroup
	const clients = 4
	failed := make([]error, clients)
	batches := slices.Collect(slices.Chunk(keys, batch))
	for n := range clients {
		wg.Go(func() {
			caller, err := bench.NewCaller(r.cfg.Sites[site].Endpoint, 10*time.Second, r.cfg.Now)
			if err != nil {
				failed[n] = err
				return
			}
			defer caller.Close()
			for i := n; i < len(batches); i += clients {
				got, err := r.getBatch(ctx, caller, r.tables[table].Name, batches[i])
				if err != nil {
					failed[n] = err
					return
				}
				mu.Lock()
				maps.Copy(out, got)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, fmt.Errorf("read %s back at %s: %w", r.tables[table].Name, r.cfg.Sites[site].Name, err)
	}
	return out, nil
}

func (r *run) getBatch(ctx context.Context, caller *bench.Caller, table string, keys []string) (map[string]int64, error) {
	out := map[string]int64{}
	var parser fastjson.Parser
	ask := func(key string) string { return fmt.Sprintf(`{"id":{"S":%q}}`, key) }
	var list []string
	for _, k := range keys {
		list = append(list, ask(k))
	}
	for try := 0; len(list) > 0; try++ {
		if try > 0 && !r.wait(ctx, 200*time.Millisecond) {
			return nil, ctx.Err()
		}
		reply, err := caller.Call(ctx, bench.Operation("BatchGetItem"), fmt.Appendf(nil, `{"RequestItems":{%q:{"Keys":[%s]}}}`, table, strings.Join(list, ",")))
		if err != nil {
			if try < 10 && ctx.Err() == nil {
				continue
			}
			return nil, err
		}
		v, err := parser.ParseBytes(reply)
		if err != nil {
			return nil, fmt.Errorf("parse the answer to BatchGetItem: %w", err)
		}
		for _, item := range v.GetArray("Responses", table) {
			out[string(item.GetStringBytes("id", "S"))] = number(item)
		}
		list = list[:0]
		for _, key := range v.GetArray("UnprocessedKeys", table, "Keys") {
			list = append(list, ask(string(key.GetStringBytes("id", "S"))))
		}
		if try == 100 {
			return nil, fmt.Errorf("%d keys of %s stay unprocessed", len(list), table)
		}
	}
	return out, nil
}

// keysOf lists the keys that the ledger wrote to, by table.
func keysOf(ops []Op, tables int, want func(*Op) bool) [][]string {
	sets := make([]map[string]bool, tables)
	for i := range sets {
		sets[i] = map[string]bool{}
	}
	for i := range ops {
		if o := &ops[i]; o.Verb.writes() && o.Outcome != Never && want(o) {
			sets[o.Table][keyOf(o.Verb, o.Key)] = true
		}
	}
	out := make([][]string, tables)
	for i, s := range sets {
		out[i] = slices.Sorted(maps.Keys(s))
	}
	return out
}
