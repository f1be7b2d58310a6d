package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// maxHops bounds how often a request follows an item that moves.
const maxHops = 6

// errUnborn says inside the critical section that the item's birth has to be
// asked for (again).
var errUnborn = errors.New("item has no home here")

// writePartitioned finds the item's home and writes there, giving birth to the
// item where it has none.
func (ts *Tables) writePartitioned(ctx context.Context, w WriteRequest) (WriteResult, error) {
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	p := locate(w.Table, w.Key)
	home, err := ts.homeHere(w.Table, p)
	if err != nil {
		return WriteResult{}, err
	}
	y := &way{ts: ts, t: w.Table, shard: p.shard, home: home}
	for range maxHops {
		if y.home == "" {
			if y.home, err = ts.birthplace(&w); err != nil {
				return WriteResult{}, err
			}
		}
		var res WriteResult
		if to := y.to(); to.Holder == ts.cfg.Self {
			res, err = ts.writeAtHome(ctx, p, &w, terms{request: y.request}, y.home, y.after)
		} else {
			res, err = ts.forward(ctx, to, &w, p, y)
		}
		if !y.follow(err) {
			return res, err
		}
	}
	return WriteResult{}, fmt.Errorf("%w: the item moved %d times while it was written; try again", ErrUnavailable, maxHops)
}

// homeHere returns the home that this region knows of: "" where it knows no
// item. A tombstone gives no home (PROTOCOL §4).
func (ts *Tables) homeHere(t *TableRef, p place) (antipode.Region, error) {
	if k, ok := ts.pend.get(p.item); ok {
		return k.home, nil // whose role was taken over: the holder knows
	}
	v, err := ts.visible(t, p)
	if err != nil || !lives(v) {
		return "", err
	}
	return v.Home, nil
}

func (ts *Tables) visible(t *TableRef, p place) (*collision.Version, error) {
	if ts.pend.has(p.item) {
		return nil, ts.pendingError(t)
	}
	siblings, err := ts.load(p.item)
	if err != nil {
		return nil, err
	}
	if v, ok := collision.Visible(siblings, t.Rule, t.Priority); ok {
		return &v, nil
	}
	return nil, nil
}

// birthplace says where an item unknown here should be born.
func (ts *Tables) birthplace(w *WriteRequest) (antipode.Region, error) {
	switch w.Table.HomeBy {
	case antipode.HomePrefix:
		if home, ok := ts.prefixHome(w.Table, w.Key.Partition); ok {
			return home, nil
		}
		return "", &Error{Code: "ValidationException", Message: fmt.Sprintf(
			"One or more parameter values are not valid. The partition key of table %s must start with the name of the region that the item belongs to, followed by one of # / : (replicas: %v)",
			w.Table.Name, w.Table.Replicas)}
	case antipode.HomeAttribute:
		d, err := w.Op.Decide(nil)
		if err != nil || d.Keep || d.Delete {
			return ts.cfg.Self, nil //nolint:nilerr // the item may exist elsewhere: its home evaluates again
		}
		if home, ok := ts.resolve(w.Table, fastjson.GetString(d.Body, w.Table.HomeAttr, "S")); ok {
			return home, nil
		}
		return ts.cfg.Self, nil // checked again at the birth, where it is known to be one
	default:
		return ts.cfg.Self, nil
	}
}

func (ts *Tables) prefixHome(t *TableRef, partition []byte) (antipode.Region, bool) {
	i := bytes.IndexAny(partition, "#/:")
	if i < 0 {
		return "", false
	}
	return ts.resolve(t, string(partition[:i]))
}

// resolve finds the replica that a client means: by the region's name, or by
// the code of its location where no other replica has the same.
func (ts *Tables) resolve(t *TableRef, text string) (found antipode.Region, ok bool) {
	if name := antipode.Region(text); t.HasReplica(name) {
		return name, true
	}
	regions := ts.cfg.Catalog().Regions
	for _, r := range t.Replicas {
		if def := regions[r]; text != "" && def != nil && def.Location == text {
			if ok {
				return "", false
			}
			found, ok = r, true
		}
	}
	return found, ok
}

// writeAtHome writes an item whose home's role this region holds, or gives birth
// to it for that home if its arbiter agrees.
func (ts *Tables) writeAtHome(ctx context.Context, p place, w *WriteRequest, m terms, home antipode.Region, after antipode.Dot) (WriteResult, error) {
	if err := ts.awaitHanded(ctx, after); err != nil {
		return WriteResult{}, err
	}
	var grant *birth
	for range maxHops {
		m.home = func(there *collision.Version) (antipode.Region, error) {
			return ts.homeOf(w.Table, p, there, home, grant)
		}
		res, err := ts.commit(ctx, p, w, m)
		if err == nil {
			ts.consider(ctx, p, w.Table, m.from, res.Dot)
			return res, nil
		}
		if !errors.Is(err, errUnborn) {
			return WriteResult{}, err
		}
		if err := ts.checkBirth(w); err != nil {
			return WriteResult{}, err
		}
		if _, err := ts.actAs(ts.fresh(w.Table), home, p.shard, m.meant); errors.As(err, new(*movedError)) {
			return WriteResult{}, err // the role has moved while the arbiter was asked: it is for its holder to ask
		}
		if grant, err = ts.askBirth(ctx, w.Table, p, home); err != nil {
			return WriteResult{}, err
		}
		if grant.Home != home {
			return WriteResult{}, &movedError{home: grant.Home, after: grant.after}
		}
	}
	return WriteResult{}, fmt.Errorf("%w: the item is made and deleted faster than its birth can be agreed on; try again", ErrUnavailable)
}

// awaitHanded returns when the dot by which an item came here, if it did, is
// applied.
func (ts *Tables) awaitHanded(ctx context.Context, after antipode.Dot) error {
	if after.IsZero() {
		return nil
	}
	if err := ts.cfg.Journal.WaitApplied(ctx, after.Shard, after.Origin, after.Seq); err != nil {
		return fmt.Errorf("%w: %s has not yet received the item that was handed to it; try again", ErrUnavailable, ts.cfg.Self)
	}
	return nil
}

// checkBirth refuses an item that doesn't say where it belongs.
func (ts *Tables) checkBirth(w *WriteRequest) error {
	if w.Table.HomeBy != antipode.HomeAttribute {
		return nil
	}
	d, err := w.Op.Decide(nil)
	if err != nil || d.Keep || d.Delete {
		return nil //nolint:nilerr // said again, with the item held
	}
	home := fastjson.GetString(d.Body, w.Table.HomeAttr, "S")
	if _, ok := ts.resolve(w.Table, home); ok {
		return nil
	}
	return &Error{Code: "ValidationException", Message: fmt.Sprintf(
		"One or more parameter values are not valid. The attribute %s of an item of table %s must name the region that the item belongs to (one of %v), got %q",
		w.Table.HomeAttr, w.Table.Name, w.Table.Replicas, home)}
}

// homeOf is asked in the critical section whose the item is: that of the version
// there, or the home that it is to be born for, if that is allowed.
func (ts *Tables) homeOf(t *TableRef, p place, there *collision.Version, born antipode.Region, grant *birth) (antipode.Region, error) {
	if lives(there) {
		return there.Home, nil
	}
	if t.HomeBy == antipode.HomePrefix {
		return ts.prefixed(t, p)
	}
	arbiter := arbiterOf(t, p.key)
	switch under, err := ts.arbiter(t, p, arbiter); {
	case err == nil:
		// The arbiter itself gives birth: nothing can come between its decision
		// and the write, so no grant has to be stored.
		b, err := ts.storedGrant(t, p, under)
		if err != nil || b == nil || b.Home == born {
			return born, err
		}
		return "", &movedError{home: b.Home}
	case !errors.As(err, new(*movedError)):
		return "", err
	}
	if grant == nil || grant.swept != ts.gc.dropped(p.shard) {
		return "", errUnborn // a tombstone may have gone since, and with it what the grant was about
	}
	if grant.bears != ts.standing(t, born, p.shard).Tenure || grant.under.Compare(ts.standing(t, arbiter, p.shard).Tenure) < 0 {
		return "", errUnborn // the arbiter's role has moved, and whoever has it now does not know of the grant
	}
	var tomb antipode.Dot
	if there != nil {
		tomb = there.Dot
	}
	if tomb != grant.tomb() && (there != nil || !ts.cfg.Journal.Shard(p.shard).Applied().Includes(grant.tomb())) {
		return "", errUnborn
	}
	return born, nil
}

// prefixed returns the home that the key itself names: only it gives birth to
// the item. An item that was moved and removed is sent back to it.
func (ts *Tables) prefixed(t *TableRef, p place) (antipode.Region, error) {
	k, err := splitKey(p.key)
	if err != nil {
		return "", err
	}
	home, ok := ts.prefixHome(t, k.Partition)
	if !ok {
		return "", fmt.Errorf("write to %s: %w: its key names no region", t.Name, ErrNotHome) // birthplace has refused it
	}
	return home, nil
}

// writeForPeer serves a forwarded write.
func (ts *Tables) writeForPeer(ctx context.Context, from antipode.Region, c *call, p place, w *WriteRequest) (WriteResult, error) {
	after, err := c.after()
	if err != nil {
		return WriteResult{}, err
	}
	home := c.Home
	if home == "" {
		home = ts.cfg.Self
	}
	return ts.writeAtHome(ctx, p, w, terms{from: from, request: c.ID, meant: meant{home, c.Epoch}}, home, after)
}

// getFromHome answers a consistent read of a partitioned table.
func (ts *Tables) getFromHome(ctx context.Context, t *TableRef, p place, dst []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	home, err := ts.homeHere(t, p)
	if err != nil {
		return nil, err
	}
	y := &way{ts: ts, t: t, shard: p.shard, home: home}
	for range maxHops {
		var item []byte
		if y.home == "" {
			item, err = ts.getAtHome(ctx, t, p, y.after)
		} else if to := y.to(); to.Holder == ts.cfg.Self {
			item, err = ts.getAtHome(ctx, t, p, y.after)
		} else {
			item, err = ts.getFrom(ctx, to, t, p, y)
		}
		if !y.follow(err) {
			return appendItem(dst, item), err
		}
	}
	return nil, fmt.Errorf("%w: the item moved %d times while it was read; try again", ErrUnavailable, maxHops)
}

func (ts *Tables) getForPeer(ctx context.Context, c *call, t *TableRef, p place) ([]byte, error) {
	after, err := c.after()
	if err != nil {
		return nil, err
	}
	return ts.getAtHome(ctx, t, p, after)
}

// getAtHome reads the item if this region holds its home's role, or says where
// else. Where nothing is known of it, or only its removal, the arbiter knows
// whether it was born elsewhere since.
func (ts *Tables) getAtHome(ctx context.Context, t *TableRef, p place, after antipode.Dot) ([]byte, error) {
	if err := ts.awaitHanded(ctx, after); err != nil {
		return nil, err
	}
	v, err := ts.visible(t, p)
	if err != nil {
		return nil, err
	}
	if lives(v) {
		item, err := ts.getHeld(ctx, t, p, v.Home, meant{})
		if moved, ok := errors.AsType[*movedError](err); ok && moved.after.IsZero() {
			moved.after = v.Dot
		}
		return item, err
	}
	if t.HomeBy == antipode.HomePrefix {
		home, err := ts.prefixed(t, p)
		if err != nil {
			return nil, err
		}
		return ts.getHeld(ctx, t, p, home, meant{})
	}
	b, err := ts.askBirth(ctx, t, p, "")
	if err != nil {
		return nil, err
	}
	switch {
	case b.Home == "":
		return ts.getHere(ctx, t, p, nil)
	case b.Lives || ts.standing(t, b.Home, p.shard).Holder != ts.cfg.Self:
		// It may be this region itself, of which it has not heard yet.
		return nil, &movedError{home: b.Home, after: b.after}
	default:
		return ts.getHeld(ctx, t, p, b.Home, meant{})
	}
}

// Home returns the region that an item belongs to, or ErrNotHome. Where the item
// is not known here (yet), its arbiter is asked.
func (ts *Tables) Home(ctx context.Context, t *TableRef, key Key) (antipode.Region, error) {
	p := locate(t, key)
	home, err := ts.homeHere(t, p)
	if err != nil || home != "" {
		return home, err
	}
	if t.HomeBy == antipode.HomePrefix {
		if home, ok := ts.prefixHome(t, key.Partition); ok {
			return home, nil
		}
	} else {
		ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
		defer cancel()
		b, err := ts.askBirth(ctx, t, p, "")
		if err != nil {
			return "", err
		}
		if b.Home != "" { // born, or about to be: its birth may not have arrived at the arbiter
			return b.Home, nil
		}
	}
	return "", fmt.Errorf("item of %s: %w: there is no such item", t.Name, ErrNotHome)
}

// Move hands an item to another region. It returns when the handoff is durable;
// the new home takes over when it has received it.
func (ts *Tables) Move(ctx context.Context, t *TableRef, key Key, to antipode.Region) error {
	if err := ts.ready(); err != nil {
		return fmt.Errorf("move item of %s: %w", t.Name, err)
	}
	if !slices.Contains(t.Replicas, to) {
		return fmt.Errorf("move item of %s: %s keeps no replica of it (replicas: %v)", t.Name, to, t.Replicas)
	}
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	p := locate(t, key)
	home, err := ts.Home(ctx, t, key)
	if err != nil {
		return err
	}
	y := &way{ts: ts, t: t, shard: p.shard, home: home}
	for range maxHops {
		if holder := y.to().Holder; holder == ts.cfg.Self {
			err = ts.handOff(ctx, p, t, to)
		} else {
			_, err = ts.ask(ctx, holder, methodMove, &call{Table: t.ID, Home: to, Blobs: [2][]byte{p.key}})
		}
		if !y.follow(err) {
			return err
		}
	}
	return fmt.Errorf("move item of %s: %w: it keeps moving", t.Name, ErrUnavailable)
}

func (ts *Tables) serveMove(ctx context.Context, from antipode.Region, body []byte) ([]byte, error) {
	c, t, err := ts.open(from, body)
	if err != nil {
		return refuse(err)
	}
	if !t.HasReplica(c.Home) {
		return refuse(fmt.Errorf("%s keeps no replica of %s", c.Home, t.Name))
	}
	if err := ts.handOff(ctx, locateEncoded(t, c.Blobs[0]), t, c.Home); err != nil {
		return refuse(err)
	}
	return (&call{}).encode()
}

// handOff appends the handoff entry: from it on, this region forwards.
func (ts *Tables) handOff(ctx context.Context, p place, t *TableRef, to antipode.Region) error {
	var e *journal.Entry
	var c *journal.Commit
	err := ts.whenOpen(ctx, ts.fresh(t), func(t *TableRef) (err error) {
		sh := ts.cfg.Journal.Shard(p.shard)
		sh.Lock()
		defer sh.Unlock()
		e, c, err = ts.handOffLocked(sh, p, t, to)
		return err
	})
	if err != nil || c == nil {
		return err
	}
	if err := c.Wait(); err != nil {
		return fmt.Errorf("hand off item of %s: %w", t.Name, err)
	}
	return ts.stands(t, e.Role, p.shard, tenureOf(e), e.Dot)
}

func (ts *Tables) handOffLocked(sh *journal.Shard, p place, t *TableRef, to antipode.Region) (*journal.Entry, *journal.Commit, error) {
	v, err := ts.visible(t, p)
	switch {
	case err != nil:
		return nil, nil, err
	case !lives(v):
		return nil, nil, fmt.Errorf("hand off item of %s: %w", t.Name, ErrNotHome)
	case v.Home == to:
		return nil, nil, nil
	}
	under, err := ts.act(t, v.Home, p.shard)
	if err != nil {
		if moved, ok := errors.AsType[*movedError](err); ok && moved.after.IsZero() {
			moved.after = v.Dot
		}
		return nil, nil, err
	}
	stamp, err := ts.cfg.Clock.Now()
	if err != nil {
		return nil, nil, fmt.Errorf("hand off item of %s: %w", t.Name, err)
	}
	e := &journal.Entry{
		Stamp: stamp, Kind: journal.KindHandoff, Uncertainty: ts.uncertainty(), Replaced: v.Dot,
		Mutation: antipode.Mutation{Table: t.ID, Key: p.key, Home: to},
		Epoch:    under.Epoch, Role: v.Home,
	}
	txn := sh.Begin(ts.cfg.Store.NewBatch())
	txn.Append(e)
	moved := *v
	moved.Dot, moved.Stamp, moved.Epoch, moved.Home = e.Dot, e.Stamp, e.Epoch, to
	txn.Batch().Set(p.item, collision.AppendItem(nil, []collision.Version{moved}))
	c, err := txn.Commit()
	return e, c, err
}

// adaptation counts, per item, the writes that one other region has sent in a
// row, and hands the item over when it is clear who writes it.
type adaptation struct {
	mu   sync.Mutex
	runs map[string]run
}

type run struct {
	from  antipode.Region
	n     int
	since time.Time
}

// maxRuns bounds the items that are watched; beyond it all counting starts anew.
const maxRuns = 100_000

// consider is called after each write at home with who sent it.
func (ts *Tables) consider(ctx context.Context, p place, t *TableRef, from antipode.Region, d antipode.Dot) {
	if ts.cfg.AdaptAfter < 0 || d.IsZero() || t.HomeBy == antipode.HomePrefix || t.HomeBy == antipode.HomeAttribute {
		return // an item whose key or attribute names its home stays there
	}
	now := ts.cfg.Clock.Wall()
	ts.adapt.mu.Lock()
	r, ok := ts.adapt.runs[string(p.item)]
	switch {
	case from == "" && !ok:
		ts.adapt.mu.Unlock()
		return
	case !ok:
		r = run{from: from, since: now}
	case r.from != from:
		r.from, r.n = from, 0
	}
	r.n++
	move := from != "" && r.n >= ts.cfg.AdaptAfter && now.Sub(r.since) >= ts.cfg.AdaptDwell
	if ts.adapt.runs == nil || len(ts.adapt.runs) >= maxRuns {
		ts.adapt.runs = make(map[string]run)
	}
	if move {
		delete(ts.adapt.runs, string(p.item))
	} else {
		ts.adapt.runs[string(p.item)] = r
	}
	ts.adapt.mu.Unlock()
	if !move || ctx.Err() != nil || ts.standing(t, from, p.shard).Holder != from {
		return
	}
	if err := ts.handOff(ctx, p, t, from); err != nil {
		ts.cfg.Logger.Warn("hand off to its busiest writer", "table", t.Name, "to", string(from), "error", err)
	}
}
