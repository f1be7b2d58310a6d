package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/hlc"
)

// verb is what a client asks for.
type verb string

const (
	verbPut    verb = "put"
	verbAppend verb = "append"
	verbDelete verb = "delete"
	verbCreate verb = "create" // unless it exists
	verbGet    verb = "get"
	verbRead   verb = "read" // consistent
	verbList   verb = "list"
	verbScan   verb = "scan" // consistent
	verbMove   verb = "move"
	// verbRestore is no client's: a successor wrote a value anew.
	verbRestore verb = "restore"
)

func (v verb) writes() bool {
	return v == verbPut || v == verbAppend || v == verbDelete || v == verbCreate
}

type outcome int

const (
	unknown outcome = iota
	done
	refused // by the condition: the item that was there says so
	failed  // nothing was written, or read
)

// operation is one thing that a client asked for, and what it was told.
type operation struct {
	id     int
	region antipode.Region
	table  *control.Table
	key    string // partition key; "" for lists and scans
	verb   verb
	to     antipode.Region // move

	call, ret int64 // order of invocation and answer
	out       outcome
	old       string            // what was there before, as its write's value
	got       map[string]string // by key: what a read found
	dot       antipode.Dot
	wrote     []antipode.Dot // entries that were made for it and are still somewhere

	met     *write // what was there when it was decided on
	leaked  bool   // by a planted bug: it was answered early
	insists bool   // it has to succeed
	err     error

	before string       // what a local read must find
	after  antipode.Dot // what a read has to have seen
}

func (o *operation) String() string {
	return fmt.Sprintf("op %d %s %s %s/%s", o.id, o.region, o.verb, o.table.Name, o.key)
}

// none stands for no item.
const none = "-"

// mark is in every key and body of a table, and nowhere else.
func mark(table string) string { return "@" + table + "@" }

// A body carries the numbers of the writes that made it.
const (
	bodyHome  = `{"h":{"S":"`
	bodyValue = `"},"v":{"S":"`
	bodyEnd   = `"}}`
)

func bodyOf(t *control.Table, home antipode.Region, value string) []byte {
	return []byte(bodyHome + string(home) + bodyValue + mark(t.Name) + value + bodyEnd)
}

// valueOf reads the numbers off a body.
func valueOf(body []byte) string {
	if body == nil {
		return none
	}
	_, rest, _ := strings.Cut(string(body), bodyValue)
	return strings.TrimSuffix(rest[strings.LastIndex(rest, "@")+1:], bodyEnd)
}

func homeOf(body []byte) antipode.Region {
	rest, _ := strings.CutPrefix(string(body), bodyHome)
	home, _, _ := strings.Cut(rest, `"`)
	return antipode.Region(home)
}

// execution is an operation where it is carried out.
type execution struct {
	*operation
	c *core
}

// refusal is what a failed condition says.
const refusal = "ConditionalCheckFailedException"

// Decide implements table.Op.
func (x execution) Decide(old []byte) (table.Decision, error) {
	s := x.c.s
	held := x.table.HomeBy != antipode.HomeAttribute || old != nil // else it may be asked outside
	if x.c.site.books.out[x.cell()] {
		held = false
	}
	if w := s.visible(x.c.site.books, x.cell()); held && valueOf(old) != valueOfWrite(w) {
		s.suspect("%v was decided at %s on %s, should be %s", x.operation, x.c.site.name, valueOf(old), valueOfWrite(w))
	}
	x.c.deciding = x.operation
	x.met = s.best(x.c.site.books, x.cell())
	id := strconv.Itoa(x.id)
	switch x.verb {
	case verbAppend:
		if old == nil {
			return table.Decision{Body: bodyOf(x.table, x.region, id)}, nil
		}
		return table.Decision{Body: bodyOf(x.table, homeOf(old), valueOf(old)+","+id)}, nil
	case verbDelete:
		return table.Decision{Delete: true}, nil
	case verbCreate:
		if old != nil {
			s.bugs.leak(x, old)
			return table.Decision{}, &table.Error{Code: refusal, Message: "exists", Item: slices.Clone(old)}
		}
	default:
	}
	return table.Decision{Body: bodyOf(x.table, x.region, id)}, nil
}

func valueOfWrite(w *write) string {
	if w == nil {
		return none
	}
	return valueOf([]byte(w.body))
}

func (o *operation) cell() cell { return cell{o.table.ID, encodeKey(o.key)} }

// encodeKey is what a partition key without zero bytes looks like in the store.
func encodeKey(partition string) string { return partition + "\x00\x01" }

// compile makes a forwarded operation again.
func (c *core) compile(key string, payload []byte, _ *table.TableRef) (table.Op, table.Key, error) {
	id, err := strconv.Atoi(string(payload))
	if err != nil {
		return nil, table.Key{}, fmt.Errorf("simulated payload: %w", err)
	}
	return execution{c.s.ops[id], c}, table.Key{Partition: []byte(key)}, nil
}

// newState makes the catalog: all write modes, rules, and sets of replicas. Each
// element is the catalog after one more change.
func (s *simulation) newCatalog() {
	state := control.NewState()
	apply := func(c control.Command) {
		next, err := control.Apply(state, state.Index+1, c)
		if err != nil {
			s.fail("catalog: %v", err)
		}
		state = next
		for _, t := range state.Tables {
			s.tables[t.ID] = t
		}
	}
	if s.group != nil {
		s.newGroupCatalog(apply)
		s.catalog = append(s.catalog, state)
		s.everybodyKnows()
		return
	}
	var all []antipode.Region
	for _, r := range s.order {
		apply(control.Command{PutRegion: &control.Region{Name: r.name}})
		all = append(all, r.name)
	}
	two, last := all[:2], all[len(all)-2:]
	create := func(t control.Table) {
		t.Partition = control.KeyAttribute{Name: "id", Type: "S"}
		apply(control.Command{CreateTable: &t})
	}
	create(control.Table{Name: "carts", Writes: antipode.WriteLocal, Rule: antipode.RuleLastWriter, Replicas: all})
	create(control.Table{Name: "seats", Writes: antipode.WriteLocal, Rule: antipode.RuleFirstWriter, Replicas: all})
	create(control.Table{Name: "duo", Writes: antipode.WriteLocal, Rule: antipode.RuleRegionPriority, Priority: []antipode.Region{all[1], all[0]}, Replicas: two})
	create(control.Table{Name: "catalog", Writes: antipode.WriteGlobal, Writer: all[0], Replicas: all})
	create(control.Table{Name: "pair", Writes: antipode.WriteGlobal, Writer: last[0], Replicas: last})
	create(control.Table{Name: "users", Writes: antipode.WritePartitioned, HomeBy: antipode.HomeCreator, Replicas: all})
	create(control.Table{Name: "notes", Writes: antipode.WritePartitioned, HomeBy: antipode.HomePrefix, Replicas: all})
	create(control.Table{Name: "homes", Writes: antipode.WritePartitioned, HomeBy: antipode.HomeAttribute, HomeAttr: "h", Replicas: last})
	s.catalog = append(s.catalog, state)
	create(control.Table{Name: "late", Writes: antipode.WriteLocal, Rule: antipode.RuleLastWriter, Replicas: all})
	s.catalog = append(s.catalog, state)
	apply(control.Command{DeleteTable: "duo"})
	create(control.Table{Name: "later", Writes: antipode.WritePartitioned, HomeBy: antipode.HomeCreator, Replicas: two})
	s.catalog = append(s.catalog, state)
	s.everybodyKnows()
}

// everybodyKnows gives all regions the first state.
func (s *simulation) everybodyKnows() {
	for _, r := range s.order {
		r.learn(0, s.catalog[0])
	}
}

// newGroupCatalog makes tables whose roles outlive their regions, or don't.
func (s *simulation) newGroupCatalog(apply func(control.Command)) {
	var all []antipode.Region
	for _, r := range s.order {
		if !r.witness {
			apply(control.Command{PutRegion: &control.Region{Name: r.name}})
			apply(control.Command{Incarnate: &control.Incarnate{Region: r.name}})
			all = append(all, r.name)
		}
	}
	if s.group.voters[witness] != nil {
		apply(control.Command{PutRegion: &control.Region{Name: witness, Witness: true, Journal: s.cfg.Journaling}})
		if s.cfg.Journaling {
			apply(control.Command{Incarnate: &control.Incarnate{Region: witness}})
		}
	}
	two, last := all[:2], all[len(all)-2:]
	table := func(t control.Table) *control.Table {
		t.Partition = control.KeyAttribute{Name: "id", Type: "S"}
		if t.Writes != antipode.WriteLocal && !s.cfg.Alone && t.Failover == "" {
			t.Failover = control.FailoverLease
		}
		if auto := s.rng.IntN(2) == 0; t.Writes != antipode.WriteLocal {
			t.Return = control.ReturnManual
			if auto {
				t.Return = control.ReturnAuto
			}
		}
		return &t
	}
	create := func(t control.Table) { apply(control.Command{CreateTable: table(t)}) }
	create(control.Table{Name: "carts", Writes: antipode.WriteLocal, Rule: antipode.RuleLastWriter, Replicas: all})
	create(control.Table{Name: "duo", Writes: antipode.WriteLocal, Rule: antipode.RuleRegionPriority, Priority: []antipode.Region{all[1], all[0]}, Replicas: two})
	create(control.Table{Name: "catalog", Writes: antipode.WriteGlobal, Writer: all[0], Replicas: all, Successors: all})
	create(control.Table{Name: "pair", Writes: antipode.WriteGlobal, Writer: last[0], Replicas: last})
	create(control.Table{Name: "users", Writes: antipode.WritePartitioned, HomeBy: antipode.HomeCreator, Replicas: all})
	create(control.Table{Name: "notes", Writes: antipode.WritePartitioned, HomeBy: antipode.HomePrefix, Replicas: all})
	create(control.Table{Name: "homes", Writes: antipode.WritePartitioned, HomeBy: antipode.HomeAttribute, HomeAttr: "h", Replicas: last})
	create(control.Table{Name: "stuck", Writes: antipode.WriteGlobal, Writer: all[1], Replicas: all, Failover: control.FailoverPinned})
	if s.rng.IntN(2) == 0 || s.cfg.Journaling {
		create(control.Table{Name: "vault", Writes: antipode.WriteGlobal, Writer: all[1], Replicas: all, RPO: "0s", Unprotected: control.UnprotectedBlock})
		create(control.Table{Name: "ledger", Writes: antipode.WritePartitioned, HomeBy: antipode.HomeCreator, Replicas: all, RPO: "0s"})
	}
	if s.rng.IntN(2) == 0 {
		create(control.Table{Name: "bounded", Writes: antipode.WriteGlobal, Writer: all[0], Replicas: all, RPO: rpoBound.String()})
	}
	s.changes = []control.Command{
		{CreateTable: table(control.Table{Name: "late", Writes: antipode.WriteLocal, Rule: antipode.RuleLastWriter, Replicas: all})},
		{DeleteTable: "duo"},
		{CreateTable: table(control.Table{Name: "later", Writes: antipode.WritePartitioned, HomeBy: antipode.HomeCreator, Replicas: two})},
	}
}

// rpoBound is what a table promises to lose at most.
const rpoBound = 2 * time.Second

// keys are a table's few hot keys.
func (s *simulation) keys(t *control.Table) []string {
	if t.HomeBy == antipode.HomePrefix {
		var out []string
		for _, r := range t.Replicas {
			out = append(out, string(r)+"#"+mark(t.Name))
		}
		return out
	}
	out := []string{mark(t.Name) + "a", mark(t.Name) + "b", mark(t.Name) + "c", mark(t.Name) + "d"}
	return out[:s.hotKeys]
}

// drawHabits decides what clients like to do in this run.
func (s *simulation) drawHabits() {
	s.hotKeys = 1 + s.rng.IntN(4)
	s.habits = map[verb]int{}
	for _, v := range []verb{verbPut, verbAppend, verbDelete, verbCreate, verbGet, verbRead, verbList, verbScan, verbMove} {
		n := 1 + s.rng.IntN(10)
		if v == verbList || v == verbScan {
			n = 1 + n/4
		}
		s.habits[v] = n
		s.habitSum += n
	}
	s.favourite = s.rng.IntN(3) * 40
}

// client does operations in one region, one after the other.
func (s *simulation) client(r *site) {
	s.later(r.name, s.between(0, s.think), func() {
		switch {
		case s.healing || s.drawn >= s.cfg.Steps:
			return
		case r.core == nil || r.filling: // it does not serve anybody
			s.client(r)
			return
		}
		s.drawn++
		if o := s.draw(r); !slices.Contains(s.cfg.Skip, s.drawn) {
			s.start(o, func() { s.client(r) })
		} else {
			s.client(r)
		}
	})
}

// draw picks an operation.
func (s *simulation) draw(r *site) *operation {
	var here []*control.Table
	state := r.state()
	for _, name := range sortedKeys(state.Tables) {
		if t := state.Tables[name]; t.HasReplica(r.name) {
			here = append(here, t)
		}
	}
	t := here[s.rng.IntN(len(here))]
	switch n := s.rng.IntN(100); {
	case n < s.favourite:
		t = here[int(s.cfg.Seed%uint64(len(here)))]
	case n < s.favourite+20: // the newest one, of which not all have heard
		t = slices.MaxFunc(here, func(a, b *control.Table) int { return cmp.Compare(a.ID, b.ID) })
	}
	keys := s.keys(t)
	o := &operation{region: r.name, table: t, key: keys[s.rng.IntN(len(keys))]}
	n := s.rng.IntN(s.habitSum)
	for _, v := range sortedKeys(s.habits) {
		if n -= s.habits[v]; n < 0 {
			o.verb = v
			break
		}
	}
	switch o.verb {
	case verbList, verbScan:
		o.key = ""
	case verbMove:
		if t.Writes != antipode.WritePartitioned {
			o.verb = verbAppend
			break
		}
		o.to = t.Replicas[s.rng.IntN(len(t.Replicas))]
	default:
	}
	return o
}

// start carries an operation out; then is called with the answer.
func (s *simulation) start(o *operation, then func()) {
	o.id = len(s.ops)
	s.ops = append(s.ops, o)
	s.pending++
	c := s.sites[o.region].core
	o.call = s.tick()
	s.note("%v", o)
	s.spawn(c, func(ctx context.Context, a *actor) {
		b := c.site.books
		if o.key != "" {
			o.before = valueOfWrite(s.visible(b, o.cell()))
		}
		began := s.now()
		err := c.execute(ctx, o)
		s.post(a.id, func() {
			if o.verb == verbGet && s.now() > began {
				s.count(statDurableWaits)
			}
			s.finish(c, o, err)
			then()
		})
	})
}

func (c *core) execute(ctx context.Context, o *operation) error {
	key := table.Key{Partition: []byte(o.key)}
	o.got = map[string]string{}
	switch o.verb {
	case verbGet, verbRead:
		item, err := c.tables.Get(ctx, o.table, key, o.verb == verbRead, nil)
		o.got[o.key] = valueOf(item)
		return err
	case verbList, verbScan:
		for _, k := range c.s.keys(o.table) {
			o.got[k] = none
		}
		r := table.RangeRequest{Table: o.table, Consistent: o.verb == verbScan}
		return c.tables.Range(ctx, r, func(k table.Key, item []byte) (bool, error) {
			o.got[string(k.Partition)] = valueOf(item)
			return true, nil
		})
	case verbMove:
		return c.tables.Move(ctx, o.table, key, o.to)
	default:
	}
	res, err := c.tables.Write(ctx, table.WriteRequest{
		Table: o.table, Key: key, Op: execution{o, c}, Verb: o.key, Payload: []byte(strconv.Itoa(o.id)), WantOld: true,
	})
	o.old, o.dot = valueOf(res.Old), res.Dot
	return err
}

// finish notes what a client was told.
func (s *simulation) finish(c *core, o *operation, err error) {
	s.pending--
	if o.leaked {
		return
	}
	o.ret, o.err = s.tick(), err
	var refusedBy *table.Error
	switch {
	case c.site.core != c: // its region has crashed before it could answer
		s.count(statUnknown)
	case err == nil:
		o.out = done
	case errors.As(err, &refusedBy) && refusedBy.Code == refusal:
		o.out, o.old = refused, valueOf(refusedBy.Item)
		s.count(statRefused)
	case errors.Is(err, table.ErrOutcomeUnknown), errors.Is(err, errCrashed):
		s.count(statUnknown)
	case errors.Is(err, hlc.ErrAhead):
		o.out = failed
		s.count(statAheads)
	case errors.Is(err, table.ErrUnavailable), len(o.wrote) == 0 && errors.Is(err, context.DeadlineExceeded), errors.Is(err, table.ErrThrottled), errors.Is(err, table.ErrNoTable), errors.Is(err, table.ErrNotHome), errors.As(err, &refusedBy):
		o.out = failed
		s.count(statUnavailable)
	default:
		s.fail("%v: unexpected error: %v", o, err)
	}
	s.note("%v: %d old %s got %v %v", o, o.out, o.old, o.got, err != nil)
	if o.out == failed && o.verb.writes() && len(s.counting(o)) > 0 {
		s.fail("%v was answered with %v, and was written", o, err)
	}
	if o.out != done {
		return
	}
	switch {
	case o.verb.writes():
		s.acknowledged(c, o)
	case o.verb == verbGet || o.verb == verbRead && o.table.Writes == antipode.WriteLocal:
		s.wasRead(c, o)
	case o.verb == verbRead || o.verb == verbScan:
		s.count(statConsistent)
	case o.verb == verbMove:
		s.count(statMoves)
	}
}

// acknowledged checks what a client may rely on from now on.
func (s *simulation) acknowledged(c *core, o *operation) {
	if s.bugs.is(BugBlindForward) && o.dot.IsZero() && len(o.wrote) == 1 {
		o.dot = o.wrote[0] // what the answer would have said
	}
	if o.dot.IsZero() {
		if o.verb != verbDelete {
			s.fail("%v was acknowledged and not written", o)
		}
		return
	}
	s.count(statAcked)
	w := s.writes[o.dot]
	if w == nil {
		s.fail("%v was acknowledged as %s, which nobody has", o, o.dot)
		return
	}
	w.acked, w.took = true, s.now()
	if o.dot.Origin.Region == o.region {
		if n := c.site.books.at[o.dot]; !c.store.durable(n) {
			s.suspect("%v was acknowledged before it was durable", o)
		}
		return
	}
	s.count(statForwards)
	if !c.site.books.includes(o.dot) {
		s.suspect("%v was forwarded and acknowledged, and %s is not applied in %s", o, o.dot, o.region)
	}
	again := &operation{region: o.region, table: o.table, key: o.key, verb: verbGet, after: o.dot}
	s.start(again, func() {})
}

// wasRead checks a local read: it finds what is applied, and nothing that could
// vanish, and what its client had written.
func (s *simulation) wasRead(c *core, o *operation) {
	if _, ok := c.site.state().TableByID(o.table.ID); !ok {
		return // deleted meanwhile
	}
	b, w := c.site.books, s.writeOf(o.got[o.key])
	// A read that had to wait until others have what it saw looks again after it.
	later := o.table.AckCopies() > 0 && (o.got[o.key] == valueOfWrite(s.visible(b, o.cell())) || w != nil && b.includes(w.dot))
	if o.got[o.key] != o.before && !later && !b.out[o.cell()] && b.stirred[o.cell()] < o.call {
		s.suspect("%v found %s, should be %s", o, o.got[o.key], o.before)
	}
	if w != nil && w.dot.Origin == c.site.origin() {
		if n := c.site.books.at[w.dot]; !c.store.durable(n) {
			s.suspect("%v showed %s before it was durable", o, w.dot)
		}
	}
	if after := s.writes[o.after]; o.after.IsZero() || after == nil || !s.counts(after) {
		return
	}
	if o.got[o.key] == none {
		for _, x := range s.writes {
			if x.del && x.table == o.table.ID && x.key == encodeKey(o.key) && x.sees(o.after) {
				return
			}
		}
	} else if w != nil && (w.sees(o.after) || s.carries(w, o.after)) {
		return
	}
	s.fail("%v found %s after its client was told of %s", o, o.got[o.key], o.after)
}

// carries reports whether a move brought the value of w beyond the dot.
func (s *simulation) carries(w *write, d antipode.Dot) bool {
	for _, x := range s.writes {
		if x.body == w.body && x.table == w.table && x.key == w.key && x.sees(d) {
			return true
		}
	}
	return false
}

// writeOf finds the client's write that left a value: its last number is it.
func (s *simulation) writeOf(value string) *write {
	o := s.owner(value)
	if o == nil {
		return nil
	}
	for _, d := range slices.Backward(o.wrote) {
		return s.writes[d]
	}
	return nil
}

// counting lists what was written for an operation and counts.
func (s *simulation) counting(o *operation) (out []antipode.Dot) {
	for _, d := range o.wrote {
		if w := s.writes[d]; w != nil && s.counts(w) {
			out = append(out, d)
		}
	}
	return out
}

// thinking bounds how long clients wait between operations.
func thinking(fast bool) time.Duration {
	if fast {
		return 60 * time.Millisecond
	}
	return 400 * time.Millisecond
}
