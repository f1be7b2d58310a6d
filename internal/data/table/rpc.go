package table

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// Methods that a region answers for its peers' tables.
const (
	methodWrite    = "table.write"
	methodGet      = "table.get"
	methodFrontier = "table.frontier"
	methodBirth    = "table.birth"
	methodMove     = "table.move"
)

// Handler answers one method for a peer.
type Handler func(ctx context.Context, from antipode.Region, body []byte) ([]byte, error)

func (ts *Tables) handlers() map[string]Handler {
	return map[string]Handler{
		methodWrite:    ts.serveWrite,
		methodGet:      ts.serveGet,
		methodFrontier: ts.serveFrontier,
		methodBirth:    ts.serveBirth,
		methodMove:     ts.serveMove,
	}
}

// call is a request to, or an answer of, another region: a small header as
// JSON, and blobs, which are items and requests as they are. See docs/format/rpc.md.
type call struct {
	Table antipode.TableID `json:"table,omitempty"`
	Verb  string           `json:"verb,omitempty"`
	Old   bool             `json:"old,omitempty"`
	New   bool             `json:"new,omitempty"`
	ID    []byte           `json:"id,omitempty"`
	Home  antipode.Region  `json:"home,omitempty"`
	// After is what the callee must have applied first.
	After string   `json:"after,omitempty"`
	Marks []string `json:"marks,omitempty"` // shards asked for, or "ORIGIN:SHARD:SEQ" of answers

	Dot     string          `json:"dot,omitempty"`
	Moved   antipode.Region `json:"moved,omitempty"`
	Code    string          `json:"code,omitempty"`
	Message string          `json:"message,omitempty"`
	Retry   string          `json:"retry,omitempty"` // a refusal that another attempt may not meet
	Kind    string          `json:"kind,omitempty"`  // of Retry: retryThrottled, retryUnknown, or out of reach
	Set     byte            `json:"set,omitempty"`   // bit i: blob i is there, though it may be empty

	Blobs [2][]byte `json:"-"`
}

// after returns the dot of After, zero where it is left out.
func (c *call) after() (antipode.Dot, error) {
	if c.After == "" {
		return antipode.Dot{}, nil
	}
	return antipode.ParseDot(c.After)
}

func (c *call) encode() ([]byte, error) {
	for i, b := range c.Blobs {
		if b != nil {
			c.Set |= 1 << i
		}
	}
	head, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode call: %w", err)
	}
	out := binary.AppendUvarint(make([]byte, 0, len(head)+len(c.Blobs[0])+len(c.Blobs[1])+16), uint64(len(head)))
	out = append(out, head...)
	for _, b := range c.Blobs {
		out = binary.AppendUvarint(out, uint64(len(b)))
		out = append(out, b...)
	}
	return out, nil
}

var errCall = errors.New("malformed call between regions")

func decodeCall(b []byte) (*call, error) {
	cut := func() ([]byte, error) {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil, errCall
		}
		part := b[w : w+int(n)]
		b = b[w+int(n):]
		return part, nil
	}
	head, err := cut()
	if err != nil {
		return nil, err
	}
	c := new(call)
	if err := json.Unmarshal(head, c); err != nil {
		return nil, fmt.Errorf("%w: %w", errCall, err)
	}
	for i := range c.Blobs {
		part, err := cut()
		if err != nil {
			return nil, err
		}
		if c.Set&(1<<i) != 0 {
			c.Blobs[i] = part
		}
	}
	return c, nil
}

// movedError says that the item belongs to another region.
type movedError struct {
	to    antipode.Region
	after antipode.Dot // what the new home must have applied to know it; zero where nothing
}

func (e *movedError) Error() string { return fmt.Sprintf("item belongs to %s", e.to) }

// ask sends a call and maps the answer's refusals back to errors.
func (ts *Tables) ask(ctx context.Context, to antipode.Region, method string, c *call) (*call, error) {
	if ts.cfg.Call == nil {
		return nil, fmt.Errorf("%w: %s (this region runs alone)", ErrUnavailable, to)
	}
	body, err := c.encode()
	if err != nil {
		return nil, err
	}
	out, err := ts.cfg.Call(ctx, to, method, body)
	if err != nil {
		if ts.cfg.NotSent != nil && ts.cfg.NotSent(err) {
			return nil, fmt.Errorf("%w: %s can't be reached from %s; nothing was written; try again, or see `antipode status`", ErrUnavailable, to, ts.cfg.Self)
		}
		if method == methodWrite {
			return nil, fmt.Errorf("%w: %s was asked and gave no answer in time; read the item to see whether it was written", ErrOutcomeUnknown, to)
		}
		return nil, fmt.Errorf("%w: %s gave no answer in time: %w", ErrUnavailable, to, err)
	}
	answer, err := decodeCall(out)
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", to, err)
	}
	switch {
	case answer.Code != "":
		return nil, &Error{Code: answer.Code, Message: answer.Message, Item: answer.Blobs[0]}
	case answer.Retry != "":
		return nil, fmt.Errorf("%w: %s: %s", retryError(answer.Kind), to, answer.Retry)
	case answer.Moved != "":
		m := &movedError{to: answer.Moved}
		if m.after, err = answer.after(); err != nil {
			return nil, fmt.Errorf("answer of %s: %w", to, err)
		}
		return nil, m
	}
	return answer, nil
}

// Kinds of refusals that are not "out of reach, nothing was written".
const (
	retryThrottled = "throttled"
	retryUnknown   = "outcome unknown"
)

func retryKind(err error) string {
	switch {
	case errors.Is(err, ErrOutcomeUnknown):
		return retryUnknown
	case errors.Is(err, ErrThrottled):
		return retryThrottled
	}
	return ""
}

func retryError(kind string) error {
	switch kind {
	case retryThrottled:
		return ErrThrottled
	case retryUnknown:
		return ErrOutcomeUnknown
	}
	return ErrUnavailable
}

// refuse turns an error into an answer that carries it.
func refuse(err error) ([]byte, error) {
	var api *Error
	var moved *movedError
	switch {
	case errors.As(err, &api):
		return (&call{Code: api.Code, Message: api.Message, Blobs: [2][]byte{api.Item}}).encode()
	case errors.As(err, &moved):
		c := &call{Moved: moved.to}
		if !moved.after.IsZero() {
			c.After = moved.after.String()
		}
		return c.encode()
	default:
		return (&call{Retry: err.Error(), Kind: retryKind(err)}).encode()
	}
}

// open decodes a peer's call and finds its table.
func (ts *Tables) open(from antipode.Region, body []byte) (*call, *TableRef, error) {
	c, err := decodeCall(body)
	if err != nil {
		return nil, nil, err
	}
	t, ok := ts.cfg.Catalog().TableByID(c.Table)
	if !ok || !t.HasReplica(ts.cfg.Self) || !t.HasReplica(from) {
		return nil, nil, fmt.Errorf("table %d: %w", c.Table, ErrNoTable)
	}
	return c, t, nil
}

// forwardToWriter sends a write to the table's writer and waits until it has
// come back, so that the next local read sees it.
func (ts *Tables) forwardToWriter(ctx context.Context, w WriteRequest) (WriteResult, error) {
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	return ts.forward(ctx, w.Table.Writer, &w, antipode.Dot{})
}

func (ts *Tables) forward(ctx context.Context, to antipode.Region, w *WriteRequest, after antipode.Dot) (WriteResult, error) {
	req := &call{
		Table: w.Table.ID, Verb: w.Verb, Old: w.WantOld, New: w.WantNew,
		ID: newRequestID(), Blobs: [2][]byte{w.Payload},
	}
	if !after.IsZero() {
		req.After = after.String()
	}
	answer, err := ts.ask(ctx, to, methodWrite, req)
	if err != nil {
		return WriteResult{}, err
	}
	res := WriteResult{Old: answer.Blobs[0], New: answer.Blobs[1]}
	if answer.Dot == "" {
		return res, nil // nothing had to be written
	}
	if res.Dot, err = antipode.ParseDot(answer.Dot); err != nil {
		return WriteResult{}, fmt.Errorf("answer of %s: %w", to, err)
	}
	if err := ts.cfg.Journal.WaitApplied(ctx, res.Dot.Shard, res.Dot.Origin, res.Dot.Seq); err != nil {
		return WriteResult{}, fmt.Errorf("%w: it was written in %s (%s) but has not arrived here in time; it will", ErrOutcomeUnknown, to, res.Dot)
	}
	return res, nil
}

func (ts *Tables) serveWrite(ctx context.Context, from antipode.Region, body []byte) ([]byte, error) {
	c, t, err := ts.open(from, body)
	if err != nil {
		return refuse(err)
	}
	op, key, err := ts.cfg.Compile(c.Verb, c.Blobs[0], t)
	if err != nil {
		return refuse(err)
	}
	w := WriteRequest{Table: t, Key: key, Op: op, Verb: c.Verb, Payload: c.Blobs[0], WantOld: c.Old, WantNew: c.New}
	p := locate(t, key)
	var res WriteResult
	switch t.Writes {
	case antipode.WriteGlobal:
		if t.Writer != ts.cfg.Self {
			err = &movedError{to: t.Writer}
			break
		}
		res, err = ts.commit(ctx, p, &w, terms{from: from, request: c.ID})
	case antipode.WritePartitioned:
		res, err = ts.writeForPeer(ctx, from, c, p, &w)
	default:
		err = fmt.Errorf("table %s is written locally: %w", t.Name, control.ErrInvalid)
	}
	if err != nil {
		return refuse(err)
	}
	answer := &call{Blobs: [2][]byte{res.Old, res.New}}
	if !res.Dot.IsZero() {
		answer.Dot = res.Dot.String()
	}
	return answer.encode()
}

// getFrom reads an item in another region.
func (ts *Tables) getFrom(ctx context.Context, t *TableRef, p place, to antipode.Region, dst []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	answer, err := ts.ask(ctx, to, methodGet, &call{Table: t.ID, Blobs: [2][]byte{p.key}})
	if err != nil {
		return nil, err
	}
	if answer.Blobs[0] == nil {
		return nil, nil
	}
	return append(dst, answer.Blobs[0]...), nil
}

func (ts *Tables) serveGet(ctx context.Context, from antipode.Region, body []byte) ([]byte, error) {
	c, t, err := ts.open(from, body)
	if err != nil {
		return refuse(err)
	}
	p := locateEncoded(t, c.Blobs[0])
	var item []byte
	switch {
	case t.Writes == antipode.WritePartitioned:
		item, err = ts.getForPeer(ctx, c, t, p)
	case t.Writer != ts.cfg.Self:
		err = &movedError{to: t.Writer}
	default:
		item, err = ts.getHere(ctx, t, p, nil)
	}
	if err != nil {
		return refuse(err)
	}
	return (&call{Blobs: [2][]byte{item}}).encode()
}

// askFrontier asks how far a region is in the shards: what it has written that
// is, or is about to be, acknowledged.
func (ts *Tables) askFrontier(ctx context.Context, to antipode.Region, shards []antipode.Shard) ([]antipode.Frontier, error) {
	req := &call{}
	for _, s := range shards {
		req.Marks = append(req.Marks, s.String())
	}
	answer, err := ts.ask(ctx, to, methodFrontier, req)
	if err != nil {
		return nil, err
	}
	out := make([]antipode.Frontier, len(shards))
	for _, text := range answer.Marks {
		d, err := antipode.ParseDot(text)
		if err != nil {
			return nil, fmt.Errorf("answer of %s: %w", to, err)
		}
		for i, s := range shards {
			if s == d.Shard {
				out[i] = out[i].With(d.Origin, d.Seq)
			}
		}
	}
	return out, nil
}

func (ts *Tables) serveFrontier(_ context.Context, _ antipode.Region, body []byte) ([]byte, error) {
	c, err := decodeCall(body)
	if err != nil {
		return refuse(err)
	}
	answer := &call{}
	for _, text := range c.Marks {
		s, err := antipode.ParseShard(text)
		if err != nil {
			return refuse(err)
		}
		for _, m := range ts.cfg.Journal.Shard(s).Durable() {
			answer.Marks = append(answer.Marks, antipode.Dot{Origin: m.Origin, Shard: s, Seq: m.Seq}.String())
		}
	}
	return answer.encode()
}
