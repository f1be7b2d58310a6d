// Package table keeps tables: it decides which region accepts a write, evaluates
// it while the item is held, and commits item and journal entry in one batch. It
// applies what other regions wrote, and answers reads.
//
// A write that was acknowledged is durable here. A read never shows a write of
// this region that is not durable yet: it waits for it, so that nothing seen can
// vanish in a crash. All methods of Tables may be called concurrently. It owns no
// goroutine; whoever opened the store closes it, after the last call returned.
package table

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/hlc"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// Config is what Tables need.
type Config struct {
	Self    antipode.Region
	Store   engine.Store
	Journal *journal.Journal
	Clock   *hlc.Clock
	// Catalog returns the agreed state as known here.
	Catalog func() *control.State
	// Call asks another region; see Handlers for the methods. Nil: there is none.
	Call func(ctx context.Context, to antipode.Region, method string, body []byte) ([]byte, error)
	// NotSent reports whether an error of Call means that the other region has
	// not seen the request. Nil: never.
	NotSent func(error) bool
	// Compile makes the Op of a forwarded request again.
	Compile func(verb string, payload []byte, t *TableRef) (Op, Key, error)
	// Size measures an item, for Count, as the API in front does. Nil: its bytes.
	Size func(item []byte) int
	// Timeout bounds a request that needs another region. Default 5 s, less a
	// margin so that the client hears of it within 5 s.
	Timeout time.Duration
	// Lease reports whether this region has a lease: the right to use the roles
	// that it holds, in tables that are not pinned. Nil: always.
	Lease func() bool
	// Reaches reports whether another region answers just now: roles are handed to
	// such a one only. Nil: always.
	Reaches func(antipode.Region) bool
	// Propose has the group agree on a command, and returns the state after it.
	// Nil: this region takes no part in failovers.
	Propose func(ctx context.Context, c control.Command) (*control.State, error)
	// Kick has entries applied that have waited for what a role's change has
	// brought, and returns when they are durable. Nil: somebody does it anyway.
	Kick func()
	// Filling says that this region has lost its disk and is to be given again
	// what the others hold. Until Serve it receives, and decides nothing.
	Filling bool
	// Retention is how long journal entries are kept after they are stable.
	// Default 24 h.
	Retention time.Duration
	// AdaptAfter is how many writes in a row from one other region move an
	// item's home there, and AdaptDwell how long an item stays at least.
	// Defaults 8 and 10 s; AdaptAfter < 0 never moves.
	AdaptAfter int
	AdaptDwell time.Duration
	// DegradeAfter is for how long the copies that an rpo of 0s promises are missing
	// before writes go on without, where the table allows for that: longer than a
	// lease, so that a region that is about to lose its roles does not. Default 4 s.
	DegradeAfter time.Duration
	Logger       *slog.Logger
}

// Tables serves all tables of one region.
type Tables struct {
	cfg    Config
	origin antipode.Origin
	adapt  adaptation

	counts countCache
	gc     sweeper
	index  historyIndex
	fill   filling
	tn     tenures
	pend   pendingKeys
	asked  requests
	listed listedItems

	protect protection

	mu        sync.Mutex     // guards what follows
	membersOf *control.State // which members are of
	members   map[antipode.Shard][]antipode.Region
}

var _ Service = (*Tables)(nil)

// New returns the tables over an open store and journal.
func New(cfg Config) *Tables {
	if cfg.Timeout == 0 {
		cfg.Timeout = 4500 * time.Millisecond
	}
	if cfg.Size == nil {
		cfg.Size = func(item []byte) int { return len(item) }
	}
	if cfg.Retention == 0 {
		cfg.Retention = 24 * time.Hour
	}
	if cfg.AdaptAfter == 0 {
		cfg.AdaptAfter = 8
	}
	if cfg.AdaptDwell == 0 {
		cfg.AdaptDwell = 10 * time.Second
	}
	if cfg.DegradeAfter == 0 {
		cfg.DegradeAfter = 4 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ts := &Tables{cfg: cfg, origin: cfg.Journal.Origin()}
	ts.protect.began = cfg.Clock.Wall()
	ts.fill.on.Store(cfg.Filling)
	ts.tn.broken = errors.Join(ts.loadTenures(nil), ts.loadPending(nil))
	ts.confirmStored()
	return ts
}

// Table finds a table that keeps a replica here.
func (ts *Tables) Table(name string) (*TableRef, error) {
	t, ok := ts.cfg.Catalog().Tables[name]
	if !ok || !t.HasReplica(ts.cfg.Self) {
		return nil, fmt.Errorf("table %s: %w", name, ErrNoTable)
	}
	return t, nil
}

// Members returns the regions that share the shard, the witnesses that keep
// journals among them, or none where no table of that set of replicas is known here.
func (ts *Tables) Members(shard antipode.Shard) []antipode.Region {
	set, state := shard.Set(), ts.cfg.Catalog()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.membersOf != state {
		ts.membersOf, ts.members = state, make(map[antipode.Shard][]antipode.Region)
	}
	m, ok := ts.members[set]
	if !ok {
		m = state.MembersOf(set)
		ts.members[set] = m
	}
	return m
}

// Write decides who accepts the write and sees it through.
func (ts *Tables) Write(ctx context.Context, w WriteRequest) (WriteResult, error) {
	if err := ts.ready(); err != nil {
		return WriteResult{}, err
	}
	switch w.Table.Writes {
	case antipode.WriteGlobal:
		return ts.writeGlobal(ctx, w)
	case antipode.WritePartitioned:
		return ts.writePartitioned(ctx, w)
	case antipode.WriteLocal:
	}
	return ts.commit(ctx, locate(w.Table, w.Key), &w, terms{})
}

// terms are the conditions under which a write is accepted here.
type terms struct {
	from    antipode.Region // the region that forwarded it
	request []byte
	meant   meant // what the forwarder takes this region for
	// home is asked inside the critical section, in partitioned tables, whose the
	// item is, or is to be, given what is there (nil for nothing).
	home func(there *collision.Version) (antipode.Region, error)
}

// decided is what came out of the critical section.
type decided struct {
	res    WriteResult
	commit *journal.Commit // to wait for; nil where nothing was written
	// leansOn is the own sequence that the answer leans on where nothing was written.
	leansOn uint64
	home    antipode.Region // whose role was used
	under   control.Tenure
	looked  bool // the answer tells of what was there
}

// commit evaluates and commits a write here.
func (ts *Tables) commit(ctx context.Context, p place, w *WriteRequest, m terms) (WriteResult, error) {
	if err := ts.cfg.Clock.Check(); err != nil {
		return WriteResult{}, fmt.Errorf("write to %s: %w", w.Table.Name, err)
	}
	if w.Table.AckCopies() > 0 { // all that is waited for together
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, ts.cfg.Timeout)
		defer cancel()
	}
	if err := ts.holdBack(ctx, w.Table, p.shard); err != nil {
		return WriteResult{}, fmt.Errorf("write to %s: %w", w.Table.Name, err)
	}
	sh := ts.cfg.Journal.Shard(p.shard)
	d, err := ts.decideOpen(ctx, sh, p, w, m)
	if d.commit != nil {
		if err := d.commit.Wait(); err != nil {
			return WriteResult{}, fmt.Errorf("write to %s: %w", w.Table.Name, err)
		}
		if err := ts.answerable(ctx, w.Table, sh, d.res.Dot.Seq); err != nil {
			return WriteResult{}, err
		}
		if err := ts.stands(w.Table, d.home, p.shard, d.under, d.res.Dot); err != nil {
			return WriteResult{}, err
		}
		return d.res, nil
	}
	// Nothing was written, but the answer tells of what was there: it must not
	// vanish either. Until that is sure, not even a refusal may be told.
	if err := ts.tellable(ctx, w.Table, sh, d.leansOn, nil); err != nil {
		return WriteResult{}, fmt.Errorf("write to %s: %w", w.Table.Name, err)
	}
	if d.looked {
		if lost := ts.stands(w.Table, d.home, p.shard, d.under, antipode.Dot{}); lost != nil {
			return WriteResult{}, lost
		}
	}
	return d.res, err
}

// decideOpen decides in the shard's critical section, and waits, for as long as
// the request has time, where the role is only just being taken over.
func (ts *Tables) decideOpen(ctx context.Context, sh *journal.Shard, p place, w *WriteRequest, m terms) (decided, error) {
	var d decided
	err := ts.whenOpen(ctx, w.Table, func(*TableRef) (err error) {
		sh.Lock()
		defer sh.Unlock()
		if d, err = ts.decide(sh, p, w, m); errors.Is(err, errNotOpen) {
			d = decided{} // nothing was looked at, so the refusal leans on nothing
		}
		return err
	})
	return d, err
}

// decide runs in the shard's critical section.
func (ts *Tables) decide(sh *journal.Shard, p place, w *WriteRequest, m terms) (out decided, err error) {
	cur, ok := ts.cfg.Catalog().TableByID(w.Table.ID)
	if !ok {
		return out, fmt.Errorf("write to %s: it was deleted a moment ago: %w", w.Table.Name, ErrNoTable)
	}
	if err := ts.notPending(cur, p, w); err != nil {
		return out, err
	}
	was, leansOn, err := ts.before(p, w)
	if err != nil {
		return out, fmt.Errorf("write to %s: %w", w.Table.Name, err)
	}
	out.leansOn = leansOn
	if out.home, out.under, err = ts.may(cur, p, was, &m); err != nil {
		return out, err
	}
	var old []byte
	if was != nil && !was.Delete {
		old = was.Body
	}
	out.looked = true
	d, err := w.Op.Decide(old)
	if err != nil {
		return out, err
	}
	if w.WantOld {
		out.res.Old = old
	}
	if d.Delete && old == nil {
		d.Keep = true // there is nothing to delete: what wasn't seen can't be removed
	}
	if d.Keep {
		if w.WantNew {
			out.res.New = old
		}
		return out, nil
	}
	e, err := ts.entry(w, p, d, was, m)
	if err != nil {
		return out, err
	}
	e.Mutation.Home, e.Epoch = out.home, out.under.Epoch
	if out.commit, err = ts.append(sh, p, w.Table, e); err != nil {
		out.res = WriteResult{}
		return out, err
	}
	out.res.Dot = e.Dot
	if w.WantNew {
		out.res.New = d.Body
	}
	return out, nil
}

// may says under which role and tenure the write is accepted, or why not.
func (ts *Tables) may(t *TableRef, p place, was *collision.Version, m *terms) (home antipode.Region, under control.Tenure, err error) {
	if t.Writes == antipode.WriteLocal {
		return "", under, nil
	}
	if m.home != nil {
		if home, err = m.home(was); err != nil {
			return "", under, err
		}
	}
	if under, err = ts.actAs(t, home, p.shard, m.meant); err != nil {
		if moved, ok := errors.AsType[*movedError](err); ok && moved.after.IsZero() && was != nil {
			moved.after = was.Dot
		}
	}
	return home, under, err
}

// before returns the visible version, or nil, and the own sequence that telling
// of it leans on. A blind write replaces what is there unread: its context
// covers it anyway.
func (ts *Tables) before(p place, w *WriteRequest) (*collision.Version, uint64, error) {
	if op, ok := w.Op.(Blind); ok && w.Table.Writes != antipode.WritePartitioned && !w.WantOld && op.Blind() {
		return nil, 0, nil
	}
	siblings, err := ts.load(p.item)
	if err != nil {
		return nil, 0, err
	}
	if v, ok := collision.Visible(siblings, w.Table.Rule, w.Table.Priority); ok {
		return &v, ts.ownSeq(siblings), nil
	}
	return nil, 0, nil
}

func (ts *Tables) entry(w *WriteRequest, p place, d Decision, was *collision.Version, m terms) (*journal.Entry, error) {
	stamp, err := ts.cfg.Clock.Now()
	if err != nil {
		return nil, fmt.Errorf("write to %s: %w", w.Table.Name, err)
	}
	e := &journal.Entry{
		Stamp: stamp, Kind: journal.KindWrite, Uncertainty: ts.uncertainty(),
		Mutation: antipode.Mutation{Table: w.Table.ID, Key: p.key, Body: d.Body, Delete: d.Delete},
		From:     m.from, Request: m.request,
	}
	if d.Delete {
		e.Mutation.Body = nil
	}
	if was != nil {
		e.Replaced = was.Dot
	}
	return e, nil
}

func (ts *Tables) uncertainty() uint32 {
	return uint32(min(ts.cfg.Clock.Uncertainty().Milliseconds(), 1<<31))
}

// append commits an entry of this region: it replaces whatever is there, since
// its context covers all that is applied here.
func (ts *Tables) append(sh *journal.Shard, p place, t *TableRef, e *journal.Entry) (*journal.Commit, error) {
	txn := sh.Begin(ts.cfg.Store.NewBatch())
	txn.Append(e)
	v := versionOf(e)
	txn.Batch().Set(p.item, collision.AppendItem(nil, []collision.Version{v}))
	if t.Writes == antipode.WritePartitioned && !v.Delete && ts.arbitrates(t, p.key) {
		txn.Batch().Delete(keyed(prefixGrant, t.ID, p.key))
	}
	known := ts.pend.has(p.item)
	if known {
		txn.Batch().Delete(keyed(prefixPending, t.ID, p.key))
	}
	c, err := txn.Commit()
	if err != nil {
		return nil, fmt.Errorf("write to %s: %w", t.Name, err)
	}
	if known {
		ts.pend.forget(p.item)
		ts.wakeRoles() // another write may wait for it
	}
	return c, nil
}

func versionOf(e *journal.Entry) collision.Version {
	return collision.Version{
		Dot: e.Dot, Stamp: e.Stamp, Epoch: e.Epoch, Delete: e.Mutation.Delete,
		Home: e.Mutation.Home, Body: e.Mutation.Body,
	}
}

// load reads an item's siblings: none where it is unknown.
func (ts *Tables) load(item []byte) ([]collision.Version, error) {
	row, err := ts.cfg.Store.Get(nil, item)
	if errors.Is(err, engine.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read item: %w", err)
	}
	v, single, err := collision.DecodeSingle(row)
	if single {
		return []collision.Version{v}, nil
	}
	if err == nil {
		var all []collision.Version
		if all, err = collision.DecodeItem(row); err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("read item %x: %w: %w", item, engine.ErrCorrupt, err)
}

// ownSeq returns the highest sequence among versions written here.
func (ts *Tables) ownSeq(siblings []collision.Version) (seq uint64) {
	for _, s := range siblings {
		if s.Dot.Origin == ts.origin {
			seq = max(seq, s.Dot.Seq)
		}
	}
	return seq
}

func newRequestID() []byte {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never returns an error
	return id
}
