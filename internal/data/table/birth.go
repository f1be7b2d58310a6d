package table

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
)

// birth is an arbiter's word on a key: where the item lives, or who may give
// birth to it. It is stored as JSON under prefixGrant.
type birth struct {
	Home  antipode.Region `json:"home"` // "" only in the answer to a question without a claim
	Tomb  string          `json:"tomb,omitempty"`
	Lives bool            `json:"lives,omitempty"` // there is an item; not stored

	// Epoch and Holder are the tenure of the arbiter's role under which it was
	// granted: under another one it is worth nothing.
	Epoch  uint64          `json:"epoch,omitempty"`
	Holder antipode.Region `json:"holder,omitempty"`

	under control.Tenure // the same, in an answer also where nothing was granted
	bears control.Tenure // of the role for which it was asked, then
	after antipode.Dot   // the version that says so, when it lives
	swept uint64         // the shard's count of dropped tombstones when it was asked for
}

func (b *birth) tomb() antipode.Dot {
	d, err := antipode.ParseDot(b.Tomb)
	if err != nil {
		return antipode.Dot{}
	}
	return d
}

// arbiter is act for the role that arbitrates births. One that came by a failover
// is used only when all births that count are applied here: those of a region
// that was lost as well may be on their way.
func (ts *Tables) arbiter(t *TableRef, p place, home antipode.Region) (control.Tenure, error) {
	under, err := ts.act(t, home, p.shard)
	if err != nil || !ts.tn.some.Load() {
		return under, err
	}
	state := ts.cfg.Catalog()
	if cur, ok := state.TableByID(t.ID); !ok || cur.Role(home).Failover == 0 {
		return under, nil
	}
	for _, f := range state.Failovers {
		if f.Set != t.Shards() {
			continue
		}
		if f.Cutoff == nil || !ts.cfg.Journal.Shard(p.shard).Applied().Covers(ts.reachable(p.shard, f.Cutoff[p.shard])) {
			return under, errNotOpen
		}
	}
	return under, nil
}

// arbitrates reports whether births of the key are granted here, as the group
// knows it: whether there may be a grant to remove.
func (ts *Tables) arbitrates(t *TableRef, key []byte) bool {
	arbiter := arbiterOf(t, key)
	return arbiter == ts.cfg.Self || t.Role(arbiter).Holder == ts.cfg.Self
}

// askBirth asks the key's arbiter. With a claim, a key without an item is
// granted to that home.
func (ts *Tables) askBirth(ctx context.Context, t *TableRef, p place, claim antipode.Region) (*birth, error) {
	swept, bears := ts.gc.dropped(p.shard), ts.standing(ts.fresh(t), claim, p.shard).Tenure
	there, err := ts.visible(t, p)
	if err != nil {
		return nil, err
	}
	req := &call{Table: t.ID, Home: claim, Blobs: [2][]byte{p.key}}
	if there != nil && there.Delete {
		req.After = there.Dot.String()
	}
	b, err := ts.askArbiter(ctx, t, p, req)
	if err != nil {
		return nil, err
	}
	b.swept, b.bears = swept, bears
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

// askArbiter finds the holder of the arbiter's role, and has it decide.
func (ts *Tables) askArbiter(ctx context.Context, t *TableRef, p place, req *call) (*birth, error) {
	y := &way{ts: ts, t: t, shard: p.shard, home: arbiterOf(t, p.key)} // replicas don't change
	for range maxHops {
		var b *birth
		var err error
		if to := y.to(); to.Holder == ts.cfg.Self {
			if err = ts.awaitHanded(ctx, y.after); err == nil { // the role may be on its way here
				b, err = ts.arbitrate(ctx, t, p, req)
			}
		} else {
			var answer *call
			if answer, err = ts.ask(ctx, to.Holder, methodBirth, req); err == nil {
				if err := ts.awaitOpened(ctx, answer); err != nil {
					return nil, err
				}
				b = &birth{Home: answer.Home, Tomb: answer.After, Lives: answer.New, under: control.Tenure{Epoch: answer.Epoch, Holder: to.Holder}}
			}
		}
		if !y.follow(err) {
			return b, err
		}
	}
	return nil, fmt.Errorf("%w: births of this key are decided elsewhere each time that is asked; try again", ErrUnavailable)
}

func (ts *Tables) serveBirth(ctx context.Context, from antipode.Region, body []byte) ([]byte, error) {
	c, t, err := ts.open(from, body)
	if err != nil {
		return refuse(err)
	}
	if c.Home != "" && !t.HasReplica(c.Home) {
		return refuse(fmt.Errorf("birth for %s asked by %s, which keeps no replica of %s", c.Home, from, t.Name))
	}
	b, err := ts.arbitrate(ctx, t, locateEncoded(t, c.Blobs[0]), c)
	if err != nil {
		return refuse(err)
	}
	answer := &call{Home: b.Home, After: b.Tomb, New: b.Lives, Epoch: b.under.Epoch}
	p := locateEncoded(t, c.Blobs[0])
	if d := ts.known(p.shard, control.RoleID{Table: t.ID, Home: arbiterOf(t, p.key)}).of(b.under).Opened; !d.IsZero() {
		answer.Dot = d.String()
	}
	return answer.encode()
}

// awaitOpened returns when the first entry of the tenure under which an arbiter
// answered is applied here: what is written on its word then has that in its
// context, and with it the cutoff.
func (ts *Tables) awaitOpened(ctx context.Context, answer *call) error {
	if answer.Dot == "" {
		return nil
	}
	d, err := antipode.ParseDot(answer.Dot)
	if err != nil {
		return fmt.Errorf("answer of an arbiter: %w", err)
	}
	if err := ts.cfg.Journal.WaitApplied(ctx, d.Shard, d.Origin, d.Seq); err != nil {
		return fmt.Errorf("%w: that births of this key are decided elsewhere now has not arrived in %s in time; try again", ErrUnavailable, ts.cfg.Self)
	}
	return nil
}

// arbitrate decides births of a key whose arbiter's role is held here. A grant is
// durable before it is told.
func (ts *Tables) arbitrate(ctx context.Context, t *TableRef, p place, c *call) (*birth, error) {
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
	var b *birth
	var commit engine.Commit
	err = ts.whenOpen(ctx, ts.fresh(t), func(t *TableRef) (err error) {
		sh := ts.cfg.Journal.Shard(p.shard)
		sh.Lock()
		defer sh.Unlock()
		b, commit, err = ts.arbitrateLocked(t, p, c.Home)
		return err
	})
	if err != nil {
		return nil, err
	}
	if commit != nil {
		if err := commit.Wait(); err != nil {
			return nil, fmt.Errorf("store grant: %w", err)
		}
	}
	return b, ts.stands(t, arbiterOf(t, p.key), p.shard, b.under, antipode.Dot{})
}

func (ts *Tables) arbitrateLocked(t *TableRef, p place, claim antipode.Region) (*birth, engine.Commit, error) {
	under, err := ts.arbiter(t, p, arbiterOf(t, p.key))
	if err != nil {
		return nil, nil, err
	}
	there, err := ts.visible(t, p)
	if err != nil {
		return nil, nil, err
	}
	if lives(there) {
		return &birth{Home: there.Home, Tomb: there.Dot.String(), Lives: true, under: under}, nil, nil
	}
	b, err := ts.storedGrant(t, p, under)
	if err != nil {
		return nil, nil, err
	}
	if b == nil {
		b = &birth{Home: claim, Epoch: under.Epoch, Holder: under.Holder, under: under}
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

// storedGrant returns the key's outstanding grant of this tenure, or nil.
func (ts *Tables) storedGrant(t *TableRef, p place, under control.Tenure) (*birth, error) {
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
	if b.Epoch == 0 { // stored before grants named their tenure: there was only the first
		b.Epoch, b.Holder = 1, ts.cfg.Self
	}
	if b.under = (control.Tenure{Epoch: b.Epoch, Holder: b.Holder}); b.under != under {
		return nil, nil
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
