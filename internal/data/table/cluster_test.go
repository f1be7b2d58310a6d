package table_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/engine/pebblekv"
	"github.com/antipode-io/antipode/internal/hlc"
	"github.com/antipode-io/antipode/internal/replica/journal"
	"github.com/antipode-io/antipode/internal/replica/ship"
)

var crashed = vfs.CrashCloneCfg{}

var errCut = errors.New("link is cut")

// cluster is some regions in one process whose journals are exchanged by hand,
// so that a test decides what arrives when.
type cluster struct {
	t        testing.TB
	state    *control.State
	regions  map[antipode.Region]*region
	patience time.Duration // how long requests wait
	cut      map[[2]antipode.Region]bool
	held     bool // answers come before what was written
	wall     time.Time
	step     time.Duration              // by which the clock goes on at each look
	lost     map[antipode.Region]uint32 // by how many incarnations: its disk was lost, and it is being filled
	now      func() time.Time           // instead of wall
	skip     atomic.Int64               // by which now is ahead of the bubble's time

	mu     sync.Mutex                         // guards state and what follows, where a test runs requests beside its steps
	stale  map[antipode.Region]*control.State // what a region knows that hears nothing of the group
	unhold map[antipode.Region]bool           // has no lease
	// intercept may fail a call as if no answer had come.
	intercept func(from, to antipode.Region, method string) error
	// answer may lose an answer; proposed may lose that of the group.
	answer   func(from, to antipode.Region, method string) error
	proposed func(from antipode.Region, cmd control.Command) error
	carrying sync.Mutex
	ticking  sync.Mutex    // guards wall beside steps
	changed  chan struct{} // closed at the next change of state; nil while nobody waits
	refused  []error       // what the group has refused
}

type region struct {
	name  antipode.Region
	fs    *vfs.MemFS
	store engine.Store
	log   *journal.Journal
	ts    *table.Tables
	ship  *ship.Ship
}

func newCluster(t testing.TB, names ...antipode.Region) *cluster {
	t.Helper()
	c := &cluster{
		t: t, state: control.NewState(), regions: map[antipode.Region]*region{},
		patience: time.Second, cut: map[[2]antipode.Region]bool{}, wall: time.UnixMilli(1_700_000_000_000),
		lost: map[antipode.Region]uint32{}, stale: map[antipode.Region]*control.State{}, unhold: map[antipode.Region]bool{},
	}
	for _, n := range names {
		c.apply(control.Command{PutRegion: &control.Region{Name: n, Location: "at-" + string(n)}})
	}
	for _, n := range names {
		c.start(n, vfs.NewCrashableMem())
	}
	return c
}

func (c *cluster) apply(cmd control.Command) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	next, err := control.Apply(c.state, c.state.Index+1, cmd)
	if err != nil {
		c.t.Fatal(err)
	}
	c.state = next
	c.wakeLocked()
}

func (c *cluster) wakeLocked() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

func (c *cluster) changes() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// catalog returns the agreed state as a region knows it.
func (c *cluster) catalog(name antipode.Region) *control.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.stale[name]; s != nil {
		return s
	}
	return c.state
}

// propose is what the group does with a region's command.
func (c *cluster) propose(name antipode.Region, cmd control.Command) (*control.State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stale[name] != nil {
		return nil, errCut
	}
	next, err := control.Apply(c.state, c.state.Index+1, cmd)
	if err != nil {
		c.refused = append(c.refused, err)
	}
	c.state = next
	c.wakeLocked()
	if err == nil && c.proposed != nil {
		if err := c.proposed(name, cmd); err != nil {
			return nil, err
		}
	}
	return next, err
}

func (c *cluster) start(name antipode.Region, fs *vfs.MemFS) {
	c.t.Helper()
	store, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: "data"})
	if err != nil {
		c.t.Fatal(err)
	}
	log, err := journal.Open(journal.Config{Store: store, Origin: antipode.Origin{Region: name, Incarnation: 1 + c.lost[name]}, RecentBytes: 1})
	if err != nil {
		c.t.Fatal(err)
	}
	wall := c.now
	if wall == nil {
		wall = func() time.Time {
			c.ticking.Lock()
			defer c.ticking.Unlock()
			c.wall = c.wall.Add(c.step)
			return c.wall
		}
	}
	clock, err := hlc.New(hlc.Config{Wall: wall})
	if err != nil {
		c.t.Fatal(err)
	}
	r := &region{name: name, fs: fs, store: store, log: log}
	r.ts = table.New(table.Config{
		Self: name, Store: store, Journal: log, Clock: clock, Catalog: func() *control.State { return c.catalog(name) },
		Lease: func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return !c.unhold[name]
		},
		Reaches: func(to antipode.Region) bool {
			return !c.cut[[2]antipode.Region{name, to}] && !c.cut[[2]antipode.Region{to, name}]
		},
		Propose: func(_ context.Context, cmd control.Command) (*control.State, error) { return c.propose(name, cmd) },
		Call: func(ctx context.Context, to antipode.Region, method string, body []byte) ([]byte, error) {
			if c.cut[[2]antipode.Region{name, to}] || c.cut[[2]antipode.Region{to, name}] {
				return nil, errCut
			}
			if c.intercept != nil {
				if err := c.intercept(name, to, method); err != nil {
					return nil, err
				}
			}
			out, err := c.regions[to].ts.Handlers()[method](ctx, name, body)
			if err == nil && !c.held {
				c.exchange() // what was written there arrives before the answer
			}
			if err == nil && c.answer != nil {
				err = c.answer(name, to, method)
			}
			return out, err
		},
		NotSent: func(err error) bool { return errors.Is(err, errCut) },
		Compile: compile, Timeout: c.timeout(), AdaptDwell: time.Second, Filling: c.lost[name] > 0,
	})
	r.ship = ship.New(ship.Config{
		Journal: log, Members: r.ts.Members, Known: r.ts.Known, Admit: r.ts.Admit, Copier: r.ts, Stripes: 1, FrameBytes: 1000,
		Session: func(txn *journal.Txn) ship.Session { return r.ts.Session(txn) },
		Stamp:   func() antipode.Stamp { return antipode.MakeStamp(c.wall.UnixMilli(), 0) },
	})
	c.regions[name] = r
	c.t.Cleanup(func() { _ = store.Close() })
}

func (c *cluster) timeout() time.Duration {
	if c.now != nil {
		return 0 // the default: time is virtual
	}
	return c.patience
}

// exchange carries everything that can be carried over links that are not cut.
func (c *cluster) exchange() {
	c.t.Helper()
	c.carrying.Lock()
	defer c.carrying.Unlock()
	names := make([]antipode.Region, 0, len(c.regions))
	for n := range c.regions {
		names = append(names, n)
	}
	slices.Sort(names)
	for range 2 * len(names) {
		for _, from := range names {
			for _, to := range names {
				if from != to && !c.cut[[2]antipode.Region{from, to}] {
					c.carry(from, to)
				}
			}
		}
	}
}

func (c *cluster) carry(from, to antipode.Region) {
	c.t.Helper()
	x, err := c.regions[from].ship.NewSender(to, 0)
	check(c.t, err)
	defer x.Close()
	r, err := c.regions[to].ship.NewReceiver(from)
	check(c.t, err)
	defer r.Close()
	frame, err := x.Hello()
	check(c.t, err)
	for frame != nil {
		reply, commits, err := r.Receive(frame)
		check(c.t, err)
		for _, k := range commits {
			check(c.t, k.Wait())
		}
		if reply != nil {
			check(c.t, x.Receive(reply))
		}
		acks, err := r.Ack()
		check(c.t, err)
		for _, a := range acks {
			check(c.t, x.Receive(a))
		}
		frame, err = x.Next()
		check(c.t, err)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put is the Op of these tests: it sets the body, appends to it, deletes, or
// refuses.
type put string

func (p put) Decide(old []byte) (table.Decision, error) {
	verb, arg, _ := strings.Cut(string(p), " ")
	switch verb {
	case "put", "blind":
		return table.Decision{Body: []byte(arg)}, nil
	case "append":
		return table.Decision{Body: append(slices.Clone(old), arg...)}, nil
	case "delete":
		return table.Decision{Delete: true}, nil
	case "create":
		if old != nil {
			return table.Decision{}, &table.Error{Code: "ConditionalCheckFailedException", Message: "exists", Item: old}
		}
		return table.Decision{Body: []byte(arg)}, nil
	default:
		return table.Decision{}, fmt.Errorf("verb %q", verb)
	}
}

// Blind says that a "blind" write is the same whatever is there.
func (p put) Blind() bool { return strings.HasPrefix(string(p), "blind ") }

func compile(verb string, payload []byte, _ *table.TableRef) (table.Op, table.Key, error) {
	return put(payload), table.Key{Partition: []byte(verb)}, nil
}

func (c *cluster) write(at antipode.Region, tbl, key, op string) error {
	r := c.regions[at]
	t, err := r.ts.Table(tbl)
	if err != nil {
		return err
	}
	_, err = r.ts.Write(context.Background(), table.WriteRequest{
		Table: t, Key: table.Key{Partition: []byte(key)}, Op: put(op), Verb: key, Payload: []byte(op),
	})
	return err
}

func (c *cluster) read(at antipode.Region, tbl, key string, consistent bool) string {
	c.t.Helper()
	r := c.regions[at]
	t, err := r.ts.Table(tbl)
	check(c.t, err)
	b, err := r.ts.Get(context.Background(), t, table.Key{Partition: []byte(key)}, consistent, nil)
	check(c.t, err)
	return string(b)
}

func (c *cluster) collisions(at antipode.Region, tbl string) (out []string) {
	c.t.Helper()
	r := c.regions[at]
	t, err := r.ts.Table(tbl)
	check(c.t, err)
	check(c.t, r.ts.Collisions(t, func(k table.Collision) bool {
		var vs []string
		for _, v := range k.Record.Versions {
			vs = append(vs, string(v.Body))
		}
		out = append(out, fmt.Sprintf("%s: %s -> %s final=%v", k.Key.Partition, strings.Join(vs, " "), k.Record.Versions[k.Record.Visible].Body, k.Final))
		return true
	}))
	return out
}
