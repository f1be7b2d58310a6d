package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
	"github.com/antipode-io/antipode/internal/sim/model"
)

// pairing walks the model and real cores side by side.
type pairing struct {
	t       *testing.T
	s       *simulation
	m       *model.State
	table   *control.Table
	shard   antipode.Shard
	pending map[*core][]*journal.Commit // applied, not asked to be durable
	done    []model.Step
}

const pairKey = "@carts@k"

func newPairing(t *testing.T, seed uint64) *pairing {
	t.Helper()
	p := &pairing{t: t, pending: map[*core][]*journal.Commit{}}
	var err error
	if p.m, err = model.New(model.Config{Regions: 3, Writes: 7, Crashes: 3, Exact: true}); err != nil {
		t.Fatal(err)
	}
	p.s = newSimulation(t.Context(), Config{Seed: seed, Regions: 3, Faults: &Faults{Disk: time.Millisecond}})
	state := control.NewState()
	apply := func(c control.Command) {
		if state, err = control.Apply(state, state.Index+1, c); err != nil {
			t.Fatal(err)
		}
	}
	// The model breaks ties by the number of a region.
	slices.SortFunc(p.s.order, func(a, b *site) int { return cmpRegions(a.name, b.name) })
	var all []antipode.Region
	for i, r := range p.s.order {
		r.index = i
		r.skew.Store(0)
		r.tuning.waiting = 1 << 20
		apply(control.Command{PutRegion: &control.Region{Name: r.name}})
		all = append(all, r.name)
	}
	apply(control.Command{CreateTable: &control.Table{Name: "carts", Writes: antipode.WriteLocal, Rule: antipode.RuleLastWriter, Replicas: all}})
	p.s.catalog = []*control.State{state}
	p.s.everybodyKnows()
	p.table = state.Tables["carts"]
	p.s.tables[p.table.ID] = p.table
	for _, r := range p.s.order {
		p.boot(r)
	}
	return p
}

func cmpRegions(a, b antipode.Region) int {
	return antipode.Origin{Region: a}.Compare(antipode.Origin{Region: b})
}

func (p *pairing) boot(r *site) {
	r.tuning.retention = 24 * time.Hour
	p.s.boot(r)
	p.s.settle()
	p.check(len(p.s.violations) == 0, "%v", p.s.violations)
}

func (p *pairing) check(ok bool, format string, args ...any) {
	p.t.Helper()
	if !ok {
		for _, step := range p.done {
			p.t.Logf("  %v", step)
		}
		p.t.Fatalf(format, args...)
	}
}

func (p *pairing) core(r int) *core { return p.s.order[r].core }

func (p *pairing) origin(o model.Origin) antipode.Origin {
	return antipode.Origin{Region: p.s.order[o.Region].name, Incarnation: uint32(o.Incarnation)}
}

// take takes one step on both sides.
func (p *pairing) take(step model.Step) {
	c := p.core(step.Region)
	switch step.Kind {
	case model.Put, model.Delete:
		step.Stamp = p.write(c, step.Kind == model.Delete)
	case model.Deliver:
		p.deliver(c, p.core(step.From), p.origin(step.Origin), uint64(step.Seq))
	case model.Report:
		from := p.core(step.From)
		c.log.Shard(p.shard).Acked(from.site.name, from.log.Shard(p.shard).Durable())
	case model.Sync:
		p.sync(c)
	case model.Crash:
		p.crash(c.site)
	case model.Drop, model.Cut:
		p.sweep(c, step)
	case model.Stall, model.Lose:
		p.check(false, "a step that this configuration does not have: %v", step)
	}
	p.step(step)
	if step.Kind == model.Cut {
		p.settleDisk(step.Region)
	}
}

func (p *pairing) step(step model.Step) {
	p.done = append(p.done, step)
	p.check(p.m.Do(step), "the model does not allow: %v", step)
}

// write writes for a client, who waits for the disk, and returns the stamp.
func (p *pairing) write(c *core, remove bool) uint64 {
	o := &operation{id: len(p.s.ops), region: c.site.name, table: p.table, key: pairKey, verb: verbPut}
	if remove {
		o.verb = verbDelete
	}
	p.s.ops = append(p.s.ops, o)
	p.s.spawn(c, func(ctx context.Context, _ *actor) {
		_, _ = c.tables.Write(ctx, table.WriteRequest{ // fails in a crash only
			Table: p.table, Key: table.Key{Partition: []byte(pairKey)}, Op: execution{o, c}, Verb: pairKey, Payload: []byte(strconv.Itoa(o.id)),
		})
	})
	p.s.settle()
	p.check(len(o.wrote) == 1, "%v wrote %v", o, o.wrote)
	p.shard = o.wrote[0].Shard
	return uint64(p.s.writes[o.wrote[0]].stamp)
}

// deliver carries one entry from one region to another, through shipping.
func (p *pairing) deliver(to, from *core, origin antipode.Origin, seq uint64) {
	var raw []byte
	err := from.log.Read(p.shard, origin, seq-1, seq, func(_ uint64, b []byte) bool { raw = slices.Clone(b); return true })
	p.check(err == nil && raw != nil, "%s has no entry %d of %s: %v", from.site.name, seq, origin, err)
	x, err := from.ship.NewSender(to.site.name, p.shard.Range()%stripes)
	p.check(err == nil, "%v", err)
	defer x.Close()
	r, err := to.ship.NewReceiver(from.site.name)
	p.check(err == nil, "%v", err)
	defer r.Close()
	hello, err := x.Hello()
	p.check(err == nil, "%v", err)
	_, _, err = r.Receive(hello)
	p.check(err == nil, "%v", err)
	payload := append(binary.AppendUvarint(nil, uint64(len(raw))), raw...)
	frame := append([]byte{frameEntries, 0}, binary.BigEndian.AppendUint32(nil, uint32(len(payload)))...)
	_, commits, err := r.Receive(append(frame, payload...))
	p.check(err == nil && len(commits) == 1, "%d commits: %v", len(commits), err)
	p.pending[to] = append(p.pending[to], commits...)
	p.s.settle()
}

func (p *pairing) sync(c *core) {
	commits := p.pending[c]
	delete(p.pending, c)
	p.s.spawn(c, func(context.Context, *actor) {
		_ = journal.Sync(commits...) // fails in a crash only
	})
	p.s.settle()
	waiters, err := c.store.sync()
	p.check(err == nil, "%v", err)
	for _, w := range waiters {
		p.s.ready = append(p.s.ready, func() { w.done <- nil })
	}
	p.s.settle()
}

// settleDisk syncs on both sides, if there is anything to sync.
func (p *pairing) settleDisk(r int) {
	step := model.Step{Kind: model.Sync, Region: r}
	p.sync(p.core(r)) // an earlier sweep may wait, of which the model knows nothing
	if slices.Contains(p.m.Enabled(), step) {
		p.step(step)
	}
}

func (p *pairing) sweep(c *core, step model.Step) {
	p.settleDisk(step.Region) // stable is only what is durable here too
	tables := c.tables
	if step.Kind == model.Cut {
		drop := model.Step{Kind: model.Drop, Region: step.Region}
		if slices.Contains(p.m.Enabled(), drop) {
			p.step(drop) // a sweep does both
		}
		tables = table.New(table.Config{
			Self: c.site.name, Store: c.store, Journal: c.log, Clock: c.clock, Retention: -time.Hour, // all of it is old
			Catalog: func() *control.State { return p.s.catalog[0] },
		})
	}
	p.s.spawn(c, func(ctx context.Context, _ *actor) { _ = tables.Sweep(ctx) }) // fails in a crash only
	p.s.settle()
	for range 10 { // it waits for the disk after each batch
		if step.Kind == model.Cut {
			p.sync(c)
		}
	}
}

func (p *pairing) crash(r *site) {
	c := r.core
	delete(p.pending, c)
	mem, err := c.disk.crash(func(int) int { return 0 })
	p.check(err == nil, "%v", err)
	p.s.stop(c)
	r.mem = mem
	p.boot(r)
}

// view is what both sides have to agree on.
type view struct {
	Siblings          []string
	Visible           string
	Frontier, Durable map[string]int
	Recorded          []string
}

func (p *pairing) modelView(r int) view {
	v := view{Visible: none, Frontier: map[string]int{}, Durable: map[string]int{}}
	dot := func(d model.Dot) string {
		return antipode.Dot{Origin: p.origin(d.Origin), Shard: p.shard, Seq: uint64(d.Seq)}.String()
	}
	text := func(w model.Write) string { return fmt.Sprint(dot(w.Dot), " ", w.Stamp, " ", w.Delete) }
	for _, w := range p.m.Siblings(r) {
		v.Siblings = append(v.Siblings, text(w))
	}
	if w, ok := p.m.Visible(r); ok {
		v.Visible = text(w)
	}
	for o, seq := range p.m.Frontier(r) {
		v.Frontier[p.origin(o).String()] = seq
	}
	for o, seq := range p.m.Durable(r) {
		v.Durable[p.origin(o).String()] = seq
	}
	for _, pair := range p.m.Recorded(r) {
		v.Recorded = append(v.Recorded, sorted(dot(pair[0]), dot(pair[1])))
	}
	slices.Sort(v.Recorded)
	return v
}

func sorted(a, b string) string { return min(a, b) + " " + max(a, b) }

func (p *pairing) realView(r int) view {
	c := p.core(r)
	v := view{Visible: none, Frontier: map[string]int{}, Durable: map[string]int{}}
	text := func(w collision.Version) string { return fmt.Sprint(w.Dot, " ", uint64(w.Stamp), " ", w.Delete) }
	all := p.s.items(c.site, p.table)[cell{p.table.ID, encodeKey(pairKey)}]
	for _, w := range all {
		v.Siblings = append(v.Siblings, text(w))
	}
	if w, ok := collision.Visible(all, p.table.Rule, p.table.Priority); ok {
		v.Visible = text(w)
	}
	for _, m := range c.log.Shard(p.shard).Applied() {
		v.Frontier[m.Origin.String()] = int(m.Seq)
	}
	for _, m := range c.log.Shard(p.shard).Durable() {
		v.Durable[m.Origin.String()] = int(m.Seq)
	}
	pairs := map[pair]bool{}
	err := c.tables.Collisions(p.table, func(k table.Collision) bool {
		p.s.addPairs(pairs, p.table, k)
		return true
	})
	p.check(err == nil, "list collisions: %v", err)
	for d := range maps.Keys(pairs) {
		v.Recorded = append(v.Recorded, sorted(d[0].String(), d[1].String()))
	}
	slices.Sort(v.Recorded)
	return v
}

// walk takes random steps until there are none or enough.
func (p *pairing) walk(rng *rand.Rand, steps int) {
	kinds := map[model.Kind]int{
		model.Put: 4, model.Delete: 4, model.Sync: 4, model.Deliver: 8, model.Report: 4, model.Drop: 4, model.Cut: 4, model.Crash: 1,
	}
	for range steps {
		var enabled []model.Step
		for _, step := range p.m.Enabled() {
			if step.Kind == model.Delete {
				if w, ok := p.m.Visible(step.Region); !ok || w.Delete {
					continue // there is nothing to delete, so a real delete writes nothing
				}
			}
			for range kinds[step.Kind] {
				enabled = append(enabled, step)
			}
		}
		if len(enabled) == 0 {
			return
		}
		p.take(enabled[rng.IntN(len(enabled))])
		for r := range p.s.order {
			if diff := cmp.Diff(p.modelView(r), p.realView(r)); diff != "" {
				p.check(false, "%s: the model (-) and the real core (+) differ: %s", p.s.order[r].name, diff)
			}
		}
		p.check(len(p.s.violations) == 0, "%v", p.s.violations)
	}
}

// TestModel drives the real cores and the model of the protocol side by side:
// after each step of many random walks they have the same siblings, the same
// one visible, the same frontiers, the same pairs on record.
func TestModel(t *testing.T) {
	taken := map[model.Kind]int{}
	walks := number(t, "ANTIPODE_WALKS", 60)
	if soaking(t) > 0 {
		walks *= 20
	}
	for seed := range walks {
		synctest.Test(t, func(t *testing.T) {
			p := newPairing(t, seed)
			defer p.s.shutdown()
			p.walk(rand.New(rand.NewPCG(seed, 1)), 80)
			for _, step := range p.done {
				taken[step.Kind]++
			}
		})
		if t.Failed() {
			t.Fatalf("walk %d", seed)
		}
	}
	for _, k := range []model.Kind{model.Put, model.Delete, model.Sync, model.Deliver, model.Report, model.Drop, model.Cut, model.Crash} {
		if taken[k] == 0 {
			t.Errorf("no step of kind %d in %v", k, taken)
		}
	}
	t.Logf("steps by kind: %v", taken)
}
