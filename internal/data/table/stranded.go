package table

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// What became of a stranded write.
const (
	StrandedOpen      = "open"
	StrandedRestored  = "restored"
	StrandedDiscarded = "discarded"
)

// ErrNotStranded is returned for a dot that names no stranded write known here,
// or one that was decided on already.
var ErrNotStranded = errors.New("not an open stranded write")

// Stranded is an acknowledged write beyond a cutoff: no survivor that was heard
// had it. It is kept apart from the items.
type Stranded struct {
	Dot    antipode.Dot
	Table  string
	Key    Key
	Kind   journal.Kind
	Stamp  antipode.Stamp // when it was acknowledged, by its author's clock
	Home   antipode.Region
	Body   []byte // the item as it wrote it; nil for a removal or a handoff
	Delete bool

	State string // StrandedOpen, …
	By    string // who decided, and when (milliseconds since the Unix epoch)
	At    int64

	// Now is what stands in its place here: nil for no item, or, with Unknown, for
	// one that is not known here at the moment.
	Now     []byte
	Unknown bool
	// Again is the write that the region which had forwarded this one made of the
	// same request at the next holder: then the request was carried out, once. Zero where there is none.
	Again antipode.Dot
}

// storedStranded is the head of its row; the entry as it is follows.
type storedStranded struct {
	State string `json:"state"`
	By    string `json:"by,omitempty"`
	At    int64  `json:"at,omitempty"`
}

func strandedKey(d antipode.Dot) []byte {
	b := binary.BigEndian.AppendUint64([]byte{prefixStranded}, uint64(d.Shard))
	b = append(append(b, d.Origin.String()...), 0)
	return binary.BigEndian.AppendUint64(b, d.Seq)
}

func (s *storedStranded) row(raw []byte) ([]byte, error) {
	head, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	b := binary.AppendUvarint(nil, uint64(len(head)))
	return append(append(b, head...), raw...), nil
}

func readStranded(row []byte) (*storedStranded, *journal.Entry, error) {
	n, w := binary.Uvarint(row)
	if w <= 0 || n > uint64(len(row)-w) {
		return nil, nil, fmt.Errorf("%w: stranded write", engine.ErrCorrupt)
	}
	s := new(storedStranded)
	if err := json.Unmarshal(row[w:w+int(n)], s); err != nil {
		return nil, nil, fmt.Errorf("%w: stranded write: %w", engine.ErrCorrupt, err)
	}
	var names journal.Origins
	e, err := names.Decode(row[w+int(n):])
	if err != nil {
		return nil, nil, fmt.Errorf("%w: stranded write: %w", engine.ErrCorrupt, err)
	}
	return s, e, nil
}

// strand lists an entry that does not count. It returns false where it is listed
// already. The row has the whole entry: it outlives the journal.
func (c *change) strand(e *journal.Entry) (fresh bool, err error) {
	key := strandedKey(e.Dot)
	switch _, err := c.ts.cfg.Store.Get(nil, key); {
	case err == nil:
		return false, nil
	case !errors.Is(err, engine.ErrNotFound):
		return false, fmt.Errorf("list stranded write: %w", err)
	}
	row, err := (&storedStranded{State: StrandedOpen}).row(e.Raw())
	if err != nil {
		return false, fmt.Errorf("list stranded write: %w", err)
	}
	c.txn.Batch().Set(key, row)
	return true, nil
}

// Stranded lists the stranded writes that a region was the author of, decided or
// not, in the order of shard and sequence. An empty region stands for all.
func (ts *Tables) Stranded(ctx context.Context, origin antipode.Region) ([]Stranded, error) {
	var out []Stranded
	err := ts.eachRow(shardSpan(prefixStranded, nil), func(_, row []byte) error {
		s, e, err := readStranded(row)
		if err != nil || origin != "" && e.Dot.Origin.Region != origin {
			return err
		}
		t, ok := ts.cfg.Catalog().TableByID(e.Mutation.Table)
		if !ok {
			return nil // deleted since
		}
		w, err := ts.stranded(ctx, t, s, e)
		if err == nil {
			out = append(out, *w)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list stranded writes: %w", err)
	}
	return out, nil
}

func (ts *Tables) stranded(ctx context.Context, t *TableRef, s *storedStranded, e *journal.Entry) (*Stranded, error) {
	w := &Stranded{
		Dot: e.Dot, Table: t.Name, Kind: e.Kind, Stamp: e.Stamp, Home: e.Mutation.Home,
		Body: e.Mutation.Body, Delete: e.Mutation.Delete, State: s.State, By: s.By, At: s.At,
	}
	var err error
	if w.Key, err = splitKey(e.Mutation.Key); err != nil {
		return nil, err
	}
	p := locateEncoded(t, e.Mutation.Key)
	if w.Unknown = ts.pend.has(p.item) || !t.HasReplica(ts.cfg.Self); w.Unknown {
		return w, nil
	}
	if w.Again, err = ts.repeated(t, p, e); err != nil {
		return nil, err
	}
	w.Now, err = ts.getHere(ctx, t, p, nil)
	ts.listed.note(w.Dot, w.Now)
	return w, err
}

// maxBack bounds how many versions of an item are looked through for a repeated request.
const maxBack = 256

// repeated finds the write that counts of the request that a stranded write came
// from: among the item's versions, as far back as they are linked in the journal.
func (ts *Tables) repeated(t *TableRef, p place, e *journal.Entry) (antipode.Dot, error) {
	if len(e.Request) == 0 {
		return antipode.Dot{}, nil
	}
	v, err := ts.visible(t, p)
	if err != nil || v == nil {
		return antipode.Dot{}, err
	}
	var names journal.Origins
	d := v.Dot
	for range maxBack {
		if d.IsZero() {
			break
		}
		raw, err := journal.Load(ts.cfg.Store, d)
		if errors.Is(err, engine.ErrNotFound) {
			break
		}
		if err != nil {
			return antipode.Dot{}, err
		}
		was, err := names.Decode(raw)
		if err != nil {
			return antipode.Dot{}, err
		}
		if bytes.Equal(was.Request, e.Request) && d != e.Dot {
			return d, nil
		}
		d = was.Replaced
	}
	return antipode.Dot{}, nil
}

// loadStranded finds an open stranded write.
func (ts *Tables) loadStranded(d antipode.Dot) (*TableRef, *journal.Entry, error) {
	row, err := ts.cfg.Store.Get(nil, strandedKey(d))
	if errors.Is(err, engine.ErrNotFound) {
		return nil, nil, fmt.Errorf("%s: %w; list them with `antipode stranded list`", d, ErrNotStranded)
	}
	if err != nil {
		return nil, nil, err
	}
	s, e, err := readStranded(row)
	if err != nil {
		return nil, nil, err
	}
	if s.State != StrandedOpen {
		return nil, nil, fmt.Errorf("%s: %w: it was %s by %s", d, ErrNotStranded, s.State, s.By)
	}
	t, ok := ts.cfg.Catalog().TableByID(e.Mutation.Table)
	if !ok {
		return nil, nil, fmt.Errorf("%s: its table was deleted: %w", d, ErrNoTable)
	}
	return t, e, nil
}

// RestoreStranded writes a stranded write anew, as a conditional write: what
// stands in its place must be as it was when it was last listed here (or as it is
// now, where it wasn't), unless forced.
func (ts *Tables) RestoreStranded(ctx context.Context, d antipode.Dot, force bool, by string) error {
	if err := ts.ready(); err != nil {
		return fmt.Errorf("restore stranded write: %w", err)
	}
	t, e, err := ts.loadStranded(d)
	if err != nil {
		return fmt.Errorf("restore stranded write: %w", err)
	}
	if e.Kind != journal.KindWrite {
		return fmt.Errorf("restore stranded write %s: %w: it is a %s, which moved the item and wrote nothing; move the item, or discard it", d, ErrNotStranded, e.Kind)
	}
	op := &restore{Key: e.Mutation.Key, Body: e.Mutation.Body, Delete: e.Mutation.Delete, Force: force}
	if !force {
		again, err := ts.repeated(t, locateEncoded(t, e.Mutation.Key), e)
		if err != nil {
			return fmt.Errorf("restore stranded write: %w", err)
		}
		if !again.IsZero() {
			return fmt.Errorf("restore stranded write %s: %w: its request was carried out once more by whoever takes the writes now (%s); discard it, or force it", d, ErrNotStranded, again)
		}
		if op.Expect, err = ts.expected(ctx, t, e); err != nil {
			return fmt.Errorf("restore stranded write: %w", err)
		}
	}
	payload, err := json.Marshal(op)
	if err != nil {
		return fmt.Errorf("restore stranded write: %w", err)
	}
	key, err := splitKey(e.Mutation.Key)
	if err != nil {
		return fmt.Errorf("restore stranded write: %w", err)
	}
	if _, err := ts.Write(ctx, WriteRequest{Table: t, Key: key, Op: op, Verb: verbRestore, Payload: payload}); err != nil {
		return fmt.Errorf("restore stranded write %s: %w", d, err)
	}
	return ts.decideStranded(ctx, d, StrandedRestored, by)
}

func (ts *Tables) expected(ctx context.Context, t *TableRef, e *journal.Entry) ([]byte, error) {
	if body, ok := ts.listed.get(e.Dot); ok {
		return body, nil
	}
	key, err := splitKey(e.Mutation.Key)
	if err != nil {
		return nil, err
	}
	return ts.Get(ctx, t, key, true, nil)
}

// DiscardStranded records that a stranded write is not wanted.
func (ts *Tables) DiscardStranded(ctx context.Context, d antipode.Dot, by string) error {
	if _, _, err := ts.loadStranded(d); err != nil {
		return fmt.Errorf("discard stranded write: %w", err)
	}
	return ts.decideStranded(ctx, d, StrandedDiscarded, by)
}

// decideStranded records a decision here, and tells the others as far as they
// can be reached.
func (ts *Tables) decideStranded(ctx context.Context, d antipode.Dot, state, by string) error {
	s := &storedStranded{State: state, By: by, At: ts.cfg.Clock.Wall().UnixMilli()}
	if err := ts.recordStranded(d, s); err != nil {
		return err
	}
	head, err := json.Marshal(s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	for _, r := range ts.Members(d.Shard) {
		if r == ts.cfg.Self {
			continue
		}
		if _, err := ts.ask(ctx, r, methodDecided, &call{Dot: d.String(), Blobs: [2][]byte{head}}); err != nil {
			ts.cfg.Logger.Info("tell of a decision on a stranded write", "dot", d.String(), "peer", string(r), "error", err)
		}
	}
	return nil
}

func (ts *Tables) recordStranded(d antipode.Dot, s *storedStranded) error {
	row, err := ts.cfg.Store.Get(nil, strandedKey(d))
	if errors.Is(err, engine.ErrNotFound) {
		return nil // it has not arrived here
	}
	if err != nil {
		return fmt.Errorf("decide on stranded write %s: %w", d, err)
	}
	_, e, err := readStranded(row)
	if err != nil {
		return err
	}
	if row, err = s.row(e.Raw()); err != nil {
		return err
	}
	b := ts.cfg.Store.NewBatch()
	b.Set(strandedKey(d), row)
	if err := ts.durable(b); err != nil {
		return fmt.Errorf("decide on stranded write %s: %w", d, err)
	}
	return nil
}

func (ts *Tables) serveDecided(_ context.Context, _ antipode.Region, body []byte) ([]byte, error) {
	c, err := decodeCall(body)
	if err != nil {
		return refuse(err)
	}
	d, err := antipode.ParseDot(c.Dot)
	if err != nil {
		return refuse(err)
	}
	s := new(storedStranded)
	if err := json.Unmarshal(c.Blobs[0], s); err != nil {
		return refuse(fmt.Errorf("%w: %w", errCall, err))
	}
	if err := ts.recordStranded(d, s); err != nil {
		return refuse(err)
	}
	return (&call{}).encode()
}

// verbRestore is the verb of a forwarded restore.
const verbRestore = "antipode.restore"

// restore is the Op that writes a stranded write anew.
type restore struct {
	Key    []byte `json:"key"`
	Body   []byte `json:"body,omitempty"`
	Delete bool   `json:"delete,omitempty"`
	Force  bool   `json:"force,omitempty"`
	Expect []byte `json:"expect,omitempty"` // the item that must be there; nil for none
}

// Decide implements Op.
func (o *restore) Decide(old []byte) (Decision, error) {
	if !o.Force && !bytes.Equal(old, o.Expect) {
		return Decision{}, &Error{
			Code: "ConditionalCheckFailedException", Item: old,
			Message: "The item has changed since the stranded write was listed; nothing was written. List it again, or force it",
		}
	}
	return Decision{Body: o.Body, Delete: o.Delete}, nil
}

func compileRestore(_ string, payload []byte, _ *TableRef) (Op, Key, error) { //nolint:iface // it stands in for Config.Compile
	o := new(restore)
	if err := json.Unmarshal(payload, o); err != nil {
		return nil, Key{}, fmt.Errorf("%w: restore %s: %w", errCall, base64.StdEncoding.EncodeToString(payload), err)
	}
	k, err := splitKey(o.Key)
	return o, k, err
}

// listedItems remembers what was shown to stand in the place of stranded writes.
type listedItems struct {
	mu    sync.Mutex
	items map[antipode.Dot][]byte
}

// maxListed bounds it; beyond it all is forgotten, and looked at anew.
const maxListed = 100_000

func (l *listedItems) note(d antipode.Dot, item []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.items == nil || len(l.items) >= maxListed {
		l.items = make(map[antipode.Dot][]byte)
	}
	l.items[d] = bytes.Clone(item)
}

func (l *listedItems) get(d antipode.Dot) ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	item, ok := l.items[d]
	return item, ok
}
