package table

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
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
	var after antipode.Dot
	for range maxHops {
		if home == "" {
			if home, err = ts.birthplace(&w); err != nil {
				return WriteResult{}, err
			}
		}
		var res WriteResult
		if home == ts.cfg.Self {
			res, err = ts.writeAtHome(ctx, p, &w, terms{}, after)
		} else {
			res, err = ts.forward(ctx, home, &w, after)
		}
		var moved *movedError
		if !errors.As(err, &moved) {
			return res, err
		}
		home, after = moved.to, moved.after
	}
	return WriteResult{}, fmt.Errorf("%w: the item moved %d times while it was written; try again", ErrUnavailable, maxHops)
}

// homeHere returns the home that this region knows of: "" where it knows no
// item. A tombstone gives no home (PROTOCOL §4).
func (ts *Tables) homeHere(t *TableRef, p place) (antipode.Region, error) {
	v, err := ts.visible(t, p)
	if err != nil || v == nil || v.Delete {
		return "", err
	}
	return v.Home, nil
}

func (ts *Tables) visible(t *TableRef, p place) (*collision.Version, error) {
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

// writeAtHome writes an item that belongs here, or is born here if its arbiter
// agrees.
func (ts *Tables) writeAtHome(ctx context.Context, p place, w *WriteRequest, m terms, after antipode.Dot) (WriteResult, error) {
	if err := ts.awaitHanded(ctx, after); err != nil {
		return WriteResult{}, err
	}
	m.home = ts.cfg.Self
	var grant *birth
	for range maxHops {
		m.held = func(there *collision.Version) error { return ts.mayWrite(w.Table, p, there, grant) }
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
		if grant, err = ts.askBirth(ctx, w.Table, p, true); err != nil {
			return WriteResult{}, err
		}
		if grant.Home != ts.cfg.Self {
			return WriteResult{}, &movedError{to: grant.Home, after: grant.after}
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

// mayWrite is asked in the critical section: is this region the item's home, or
// does the grant still allow the birth?
func (ts *Tables) mayWrite(t *TableRef, p place, there *collision.Version, grant *birth) error {
	if there != nil && !there.Delete {
		if there.Home == ts.cfg.Self {
			return nil
		}
		return &movedError{to: there.Home, after: there.Dot}
	}
	if t.HomeBy == antipode.HomePrefix {
		return ts.mayBearPrefixed(t, p, there)
	}
	if arbiterOf(t, p.key) == ts.cfg.Self {
		// The arbiter itself gives birth: nothing can come between its decision
		// and the write, so no grant has to be stored.
		b, err := ts.storedGrant(t, p)
		if err != nil || b == nil || b.Home == ts.cfg.Self {
			return err
		}
		return &movedError{to: b.Home}
	}
	if grant == nil || grant.swept != ts.gc.dropped(p.shard) {
		return errUnborn // a tombstone may have gone since, and with it what the grant was about
	}
	var tomb antipode.Dot
	if there != nil {
		tomb = there.Dot
	}
	if tomb != grant.tomb() && (there != nil || !ts.cfg.Journal.Shard(p.shard).Applied().Includes(grant.tomb())) {
		return errUnborn
	}
	return nil
}

// mayBearPrefixed lets only the region that the key itself names give birth to
// it. One that the item was moved to, and that saw it removed, sends the writer
// back, along with the removal.
func (ts *Tables) mayBearPrefixed(t *TableRef, p place, there *collision.Version) error {
	k, err := splitKey(p.key)
	if err != nil {
		return err
	}
	home, ok := ts.prefixHome(t, k.Partition)
	if !ok || home == ts.cfg.Self {
		return nil // birthplace has refused a key that names no region
	}
	moved := &movedError{to: home}
	if there != nil {
		moved.after = there.Dot
	}
	return moved
}

// writeForPeer serves a forwarded write.
func (ts *Tables) writeForPeer(ctx context.Context, from antipode.Region, c *call, p place, w *WriteRequest) (WriteResult, error) {
	after, err := c.after()
	if err != nil {
		return WriteResult{}, err
	}
	return ts.writeAtHome(ctx, p, w, terms{from: from, request: c.ID}, after)
}

// birth is an arbiter's word on a key: where the item lives, or who may give
// birth to it. It is stored as JSON under prefixGrant.
type birth struct {
	Home  antipode.Region `json:"home"` // "" only in the answer to a question without a claim
	Tomb  string          `json:"tomb,omitempty"`
	Lives bool            `json:"lives,omitempty"` // there is an item; not stored

	after antipode.Dot // the version that says so, when it lives
	swept uint64       // the shard's count of dropped tombstones when it was asked for
}

func (b *birth) tomb() antipode.Dot {
	d, err := antipode.ParseDot(b.Tomb)
	if err != nil {
		return antipode.Dot{}
	}
	return d
}

// askBirth asks the key's arbiter. With a claim, a key without an item is
// granted to this region.
func (ts *Tables) askBirth(ctx context.Context, t *TableRef, p place, claim bool) (*birth, error) {
	swept := ts.gc.dropped(p.shard)
	there, err := ts.visible(t, p)
	if err != nil {
		return nil, err
	}
	req := &call{Table: t.ID, Blobs: [2][]byte{p.key}}
	if claim {
		req.Home = ts.cfg.Self
	}
	if there != nil && there.Delete {
		req.After = there.Dot.String()
	}
	arbiter := arbiterOf(t, p.key)
	var b *birth
	if arbiter == ts.cfg.Self {
		b, err = ts.arbitrate(ctx, t, p, req)
	} else {
		var answer *call
		if answer, err = ts.ask(ctx, arbiter, methodBirth, req); err == nil {
			b = &birth{Home: answer.Home, Tomb: answer.After, Lives: answer.New}
		}
	}
	if err != nil {
		return nil, err
	}
	b.swept = swept
	if b.Lives {
		b.after = b.tomb()
		return b, nil
	}
	if tomb := b.tomb(); !tomb.IsZero() {
		if err := ts.cfg.Journal.WaitApplied(ctx, tomb.Shard, tomb.Origin, tomb.Seq); err != nil {
			return nil, fmt.Errorf("%w: the item's last removal has not arrived in %s in time; try again", ErrUnavailable, ts.cfg.Self)
		}
	}
	return b, nil
}

func (ts *Tables) serveBirth(ctx context.Context, from antipode.Region, body []byte) ([]byte, error) {
	c, t, err := ts.open(from, body)
	if err != nil {
		return refuse(err)
	}
	if c.Home != "" && c.Home != from {
		return refuse(fmt.Errorf("birth for %s asked by %s", c.Home, from))
	}
	b, err := ts.arbitrate(ctx, t, locateEncoded(t, c.Blobs[0]), c)
	if err != nil {
		return refuse(err)
	}
	return (&call{Home: b.Home, After: b.Tomb, New: b.Lives}).encode()
}

// arbitrate decides births of a key whose arbiter is this region. A grant is
// durable before it is told.
func (ts *Tables) arbitrate(ctx context.Context, t *TableRef, p place, c *call) (*birth, error) {
	if arbiterOf(t, p.key) != ts.cfg.Self {
		return nil, fmt.Errorf("%w: %s is not the arbiter of this key", ErrUnavailable, ts.cfg.Self)
	}
	tomb, err := c.after()
	if err != nil {
		return nil, err
	}
	if !tomb.IsZero() {
		// The asker knows of a removal: what it grants must come after that.
		if err := ts.cfg.Journal.WaitApplied(ctx, tomb.Shard, tomb.Origin, tomb.Seq); err != nil {
			return nil, fmt.Errorf("%w: the item's last removal has not arrived at its arbiter %s in time; try again", ErrUnavailable, ts.cfg.Self)
		}
	}
	sh := ts.cfg.Journal.Shard(p.shard)
	sh.Lock()
	b, commit, err := ts.arbitrateLocked(t, p, c.Home)
	sh.Unlock()
	if err != nil {
		return nil, err
	}
	if commit != nil {
		if err := commit.Wait(); err != nil {
			return nil, fmt.Errorf("store grant: %w", err)
		}
	}
	return b, nil
}

func (ts *Tables) arbitrateLocked(t *TableRef, p place, claim antipode.Region) (*birth, engine.Commit, error) {
	there, err := ts.visible(t, p)
	if err != nil {
		return nil, nil, err
	}
	if there != nil && !there.Delete {
		return &birth{Home: there.Home, Tomb: there.Dot.String(), Lives: true}, nil, nil
	}
	b, err := ts.storedGrant(t, p)
	if err != nil {
		return nil, nil, err
	}
	if b == nil {
		b = &birth{Home: claim}
		if there != nil {
			b.Tomb = there.Dot.String()
		}
		if claim == "" {
			return b, nil, nil
		}
	}
	// Stored again where it was there: whoever stored it may still wait for the
	// disk, and this answer must not come before.
	c, err := ts.storeGrant(t, p, b)
	return b, c, err
}

// storedGrant returns the key's outstanding grant, or nil.
func (ts *Tables) storedGrant(t *TableRef, p place) (*birth, error) {
	row := keyed(prefixGrant, t.ID, p.key)
	stored, err := ts.cfg.Store.Get(nil, row)
	if errors.Is(err, engine.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read grant: %w", err)
	}
	b := new(birth)
	if err := json.Unmarshal(stored, b); err != nil {
		return nil, fmt.Errorf("%w: grant %x: %w", engine.ErrCorrupt, row, err)
	}
	return b, nil
}

func (ts *Tables) storeGrant(t *TableRef, p place, b *birth) (engine.Commit, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("store grant: %w", err)
	}
	batch := ts.cfg.Store.NewBatch()
	batch.Set(keyed(prefixGrant, t.ID, p.key), text)
	c, err := ts.cfg.Store.Apply(batch)
	if err != nil {
		return nil, fmt.Errorf("store grant: %w", err)
	}
	return c, nil
}

// getFromHome answers a consistent read of a partitioned table.
func (ts *Tables) getFromHome(ctx context.Context, t *TableRef, p place, dst []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	home, err := ts.homeHere(t, p)
	if err != nil {
		return nil, err
	}
	var after antipode.Dot
	for range maxHops {
		var item []byte
		if home == "" || home == ts.cfg.Self {
			item, err = ts.getAtHome(ctx, t, p, after)
		} else {
			req := &call{Table: t.ID, Blobs: [2][]byte{p.key}}
			if !after.IsZero() {
				req.After = after.String()
			}
			var answer *call
			if answer, err = ts.ask(ctx, home, methodGet, req); err == nil {
				item = answer.Blobs[0]
			}
		}
		if moved, ok := errors.AsType[*movedError](err); ok {
			home, after = moved.to, moved.after
			continue
		}
		if err != nil || item == nil {
			return nil, err
		}
		return append(dst, item...), nil
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

// getAtHome reads the item if it lives here, or says where else. Where nothing
// is known of it, or only its removal, the arbiter knows whether it was born
// elsewhere since.
func (ts *Tables) getAtHome(ctx context.Context, t *TableRef, p place, after antipode.Dot) ([]byte, error) {
	if err := ts.awaitHanded(ctx, after); err != nil {
		return nil, err
	}
	v, err := ts.visible(t, p)
	if err != nil {
		return nil, err
	}
	switch {
	case v != nil && !v.Delete && v.Home == ts.cfg.Self:
		return ts.getHere(ctx, t, p, nil)
	case v != nil && !v.Delete:
		return nil, &movedError{to: v.Home, after: v.Dot}
	case t.HomeBy == antipode.HomePrefix:
		k, err := splitKey(p.key)
		if err != nil {
			return nil, err
		}
		if home, ok := ts.prefixHome(t, k.Partition); ok && home != ts.cfg.Self {
			return nil, &movedError{to: home}
		}
		return ts.getHere(ctx, t, p, nil)
	}
	b, err := ts.askBirth(ctx, t, p, false)
	if err != nil {
		return nil, err
	}
	if b.Home != "" && (b.Home != ts.cfg.Self || b.Lives) {
		// It may be this region itself, of which it has not heard yet.
		return nil, &movedError{to: b.Home, after: b.after}
	}
	return ts.getHere(ctx, t, p, nil)
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
		b, err := ts.askBirth(ctx, t, p, false)
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
	for range maxHops {
		if home == ts.cfg.Self {
			err = ts.handOff(p, t, to)
		} else {
			_, err = ts.ask(ctx, home, methodMove, &call{Table: t.ID, Home: to, Blobs: [2][]byte{p.key}})
		}
		var moved *movedError
		if !errors.As(err, &moved) {
			return err
		}
		home = moved.to
	}
	return fmt.Errorf("move item of %s: %w: it keeps moving", t.Name, ErrUnavailable)
}

func (ts *Tables) serveMove(_ context.Context, from antipode.Region, body []byte) ([]byte, error) {
	c, t, err := ts.open(from, body)
	if err != nil {
		return refuse(err)
	}
	if !t.HasReplica(c.Home) {
		return refuse(fmt.Errorf("%s keeps no replica of %s", c.Home, t.Name))
	}
	if err := ts.handOff(locateEncoded(t, c.Blobs[0]), t, c.Home); err != nil {
		return refuse(err)
	}
	return (&call{}).encode()
}

// handOff appends the handoff entry: from it on, this region forwards.
func (ts *Tables) handOff(p place, t *TableRef, to antipode.Region) error {
	sh := ts.cfg.Journal.Shard(p.shard)
	sh.Lock()
	c, err := ts.handOffLocked(sh, p, t, to)
	sh.Unlock()
	if err != nil || c == nil {
		return err
	}
	if err := c.Wait(); err != nil {
		return fmt.Errorf("hand off item of %s: %w", t.Name, err)
	}
	return nil
}

func (ts *Tables) handOffLocked(sh *journal.Shard, p place, t *TableRef, to antipode.Region) (*journal.Commit, error) {
	v, err := ts.visible(t, p)
	switch {
	case err != nil:
		return nil, err
	case v == nil || v.Delete:
		return nil, fmt.Errorf("hand off item of %s: %w", t.Name, ErrNotHome)
	case v.Home == to:
		return nil, nil
	case v.Home != ts.cfg.Self:
		return nil, &movedError{to: v.Home, after: v.Dot}
	}
	stamp, err := ts.cfg.Clock.Now()
	if err != nil {
		return nil, fmt.Errorf("hand off item of %s: %w", t.Name, err)
	}
	e := &journal.Entry{
		Stamp: stamp, Kind: journal.KindHandoff, Uncertainty: ts.uncertainty(), Replaced: v.Dot,
		Mutation: antipode.Mutation{Table: t.ID, Key: p.key, Home: to},
	}
	txn := sh.Begin(ts.cfg.Store.NewBatch())
	txn.Append(e)
	moved := *v
	moved.Dot, moved.Stamp, moved.Home = e.Dot, e.Stamp, to
	txn.Batch().Set(p.item, collision.AppendItem(nil, []collision.Version{moved}))
	return txn.Commit()
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
	if !move || ctx.Err() != nil {
		return
	}
	if err := ts.handOff(p, t, from); err != nil {
		ts.cfg.Logger.Warn("hand off to its busiest writer", "table", t.Name, "to", string(from), "error", err)
	}
}
