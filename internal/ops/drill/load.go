package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/ops/bench"
)

const (
	// opTimeout is when a client gives up. It is longer than a round trip twice
	// around the earth and a disk in trouble, and short enough that its tries show
	// when a table can be written again.
	opTimeout = 2500 * time.Millisecond
	// peeks is how many eventually consistent reads a second each region gets.
	peeks = 50
	// foreign: one in so many writes of a partitioned table's registers goes to
	// one whose home is elsewhere. Were it more, the homes would follow the writes.
	foreign = 8
)

// load drives all data regions until it is told to stop.
type load struct {
	run    *run
	ledger ledger
	values atomic.Int64
	began  time.Duration
	errors []errorCounts // by site
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// errorCounts counts the failed operations at one site, by kind.
type errorCounts struct {
	mu    sync.Mutex
	kinds map[string]ErrorCount
}

// ErrorCount is how often one kind of error came, and what the first one said.
type ErrorCount struct {
	Count int    `json:"count"`
	First string `json:"first"`
}

func (c *errorCounts) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds == nil {
		c.kinds = map[string]ErrorCount{}
	}
	k := c.kinds[bench.Kind(err)]
	if k.Count == 0 {
		k.First = err.Error()
	}
	k.Count++
	c.kinds[bench.Kind(err)] = k
}

// start begins the load. Its pools have a steady beat each; an operation whose
// time has passed because all clients wait is left out, so that a stall is not
// followed by a burst.
func (l *load) start(ctx context.Context) error {
	r := l.run
	ctx, l.cancel = context.WithCancel(ctx)
	l.began = r.now()
	writes := float64(r.cfg.Rate) / float64(len(r.data)*len(r.tables))
	for _, site := range r.data {
		for table := range r.tables {
			rate := writes
			if r.tables[table].roles() {
				rate *= 5.0 / 4 // of five operations one reads
			}
			p := pool{load: l, site: site, table: table, rate: rate, ctx: ctx}
			if err := p.start(min(max(int(rate/2), 4), 64), p.mixed); err != nil {
				return err
			}
		}
		p := pool{load: l, site: site, rate: peeks, ctx: ctx}
		if err := p.start(8, p.peek); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the load and waits for its clients.
func (l *load) stop() {
	if l.cancel != nil {
		l.cancel()
	}
	l.wg.Wait()
}

// pool is clients of one region that share a beat.
type pool struct {
	*load

	site, table int
	rate        float64
	ctx         context.Context //nolint:containedctx // the life of the load, which its clients share
}

func (p pool) start(clients int, op func(c *client, i int64)) error {
	for n := range clients {
		c, err := p.client(p.site)
		if err != nil {
			return err
		}
		c.rng = rand.New(rand.NewPCG(uint64(p.site)<<8|uint64(p.table), uint64(n)))
		p.wg.Go(func() {
			defer c.caller.Close()
			timer := time.NewTimer(0)
			defer timer.Stop()
			for i := int64(n); ; i += int64(clients) {
				due := p.due(i)
				for now := p.run.now(); due < now-100*time.Millisecond; due = p.due(i) {
					i += int64(clients)
				}
				timer.Reset(max(due-p.run.now(), 0))
				select {
				case <-timer.C:
				case <-p.ctx.Done():
					return
				}
				op(c, i)
			}
		})
	}
	return nil
}

func (p pool) due(i int64) time.Duration {
	return p.began + time.Duration(float64(i)/p.rate*float64(time.Second))
}

// mixed is operation number i of a pool that writes. Pools of one table in
// several regions have the same beat, so that their duels meet.
func (p pool) mixed(c *client, i int64) {
	local := !p.run.tables[p.table].roles()
	switch i % 5 {
	case 1, 4:
		if local {
			c.write(p.ctx, p.table, Duel, i)
		} else {
			c.write(p.ctx, p.table, Put, p.register(c))
		}
	case 2:
		if !local {
			c.read(p.ctx, p.table, Consult, p.register(c))
			return
		}
		fallthrough
	default:
		c.write(p.ctx, p.table, Receipt, 0)
	}
}

// register picks one, mostly of those at home here.
func (p pool) register(c *client) int64 {
	k := c.rng.Int64N(registers)
	if c.rng.IntN(foreign) > 0 {
		for homeOf(k, p.run.data) != p.site {
			k = c.rng.Int64N(registers)
		}
	}
	return k
}

func (p pool) peek(c *client, i int64) {
	table := int(i) % len(p.run.tables)
	c.read(p.ctx, table, Peek, c.rng.Int64N(registers))
}

// client is one connection with its page of the ledger.
type client struct {
	load   *load
	site   int
	caller *bench.Caller
	page   *page
	parser fastjson.Parser
	rng    *rand.Rand
	body   []byte
}

func (l *load) client(site int) (*client, error) {
	caller, err := bench.NewCaller(l.run.cfg.Sites[site].Endpoint, opTimeout, l.run.cfg.Now)
	if err != nil {
		return nil, fmt.Errorf("make a client of %s: %w", l.run.cfg.Sites[site].Name, err)
	}
	return &client{load: l, site: site, caller: caller, page: l.ledger.page()}, nil
}

// write writes a value that no one else ever writes.
func (c *client) write(ctx context.Context, table int, verb Verb, key int64) {
	value := c.load.values.Add(1)
	if verb == Receipt {
		key = value
	}
	name := c.load.run.tables[table].Name
	c.body = fmt.Appendf(c.body[:0], `{"TableName":%q,"Item":{"id":{"S":%q},"v":{"N":"%d"}}}`, name, keyOf(verb, key), value)
	o := Op{Table: table, Site: c.site, Verb: verb, Key: key, Value: value, Call: c.load.run.now()}
	_, err := c.caller.Call(ctx, bench.Operation("PutItem"), c.body)
	c.note(ctx, o, err)
}

func (c *client) read(ctx context.Context, table int, verb Verb, key int64) {
	name := c.load.run.tables[table].Name
	c.body = fmt.Appendf(c.body[:0], `{"TableName":%q,"Key":{"id":{"S":%q}},"ConsistentRead":%t}`, name, keyOf(Put, key), verb == Consult)
	o := Op{Table: table, Site: c.site, Verb: verb, Key: key, Call: c.load.run.now()}
	reply, err := c.caller.Call(ctx, bench.Operation("GetItem"), c.body)
	if err == nil {
		var v *fastjson.Value
		if v, err = c.parser.ParseBytes(reply); err == nil {
			o.Value = number(v.Get("Item"))
		}
	}
	c.note(ctx, o, err)
}

// number reads the value of an item; 0 where there is none.
func number(item *fastjson.Value) int64 {
	n, _ := strconv.ParseInt(string(item.GetStringBytes("v", "N")), 10, 64)
	return n
}

// note puts an outcome into the ledger.
func (c *client) note(ctx context.Context, o Op, err error) {
	o.Return = c.load.run.now()
	switch {
	case err == nil:
		o.Outcome = Done
	case ctx.Err() != nil:
		o.Outcome = Ended
	case bench.Kind(err) == bench.KindConnect:
		o.Outcome = Never
	default:
		o.Outcome = Unknown
	}
	c.page.add(o)
	if o.failed() {
		c.load.errors[o.Site].add(err)
		c.pause(ctx)
	}
}

// pause keeps a client from hammering a region that refuses at once.
func (c *client) pause(ctx context.Context) {
	timer := time.NewTimer(time.Duration(20+c.random(60)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (c *client) random(n int) int {
	if c.rng == nil {
		return 0
	}
	return c.rng.IntN(n)
}
