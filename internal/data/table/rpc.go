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
	methodPull     = "table.pull"
	methodVersions = "table.versions"
	methodDecided  = "table.decided"
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
		methodPull:     ts.servePull,
		methodVersions: ts.serveVersions,
		methodDecided:  ts.serveDecided,
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
	// Epoch is that of the tenure that a request is meant for, or of the one under
	// which an answer was given; Holder names its region where it isn't the callee.
	Epoch  uint64            `json:"epoch,omitempty"`
	Holder antipode.Region   `json:"holder,omitempty"`
	Homes  []antipode.Region `json:"homes,omitempty"`
	Upto   uint64            `json:"upto,omitempty"`

	Dot     string          `json:"dot,omitempty"`
	Moved   antipode.Region `json:"moved,omitempty"`
	Code    string          `json:"code,omitempty"`
	Message string          `json:"message,omitempty"`
	Retry   string          `json:"retry,omitempty"`   // a refusal that another attempt may not meet
	Unknown string          `json:"unknown,omitempty"` // it may have been written
	// Throttled says why a bound holds it back; nothing was written.
	Throttled string `json:"throttled,omitempty"`
	Set       byte   `json:"set,omitempty"` // bit i: blob i is there, though it may be empty

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
	case answer.Unknown != "":
		return nil, fmt.Errorf("%w: %s: %s", ErrOutcomeUnknown, to, answer.Unknown)
	case answer.Throttled != "":
		return nil, fmt.Errorf("%w: %s: %s", ErrThrottled, to, answer.Throttled)
	case answer.Retry != "":
		return nil, fmt.Errorf("%w: %s: %s", ErrUnavailable, to, answer.Retry)
	case answer.Moved != "" || answer.Holder != "":
		m := &movedError{home: answer.Moved, tenure: control.Tenure{Epoch: answer.Epoch, Holder: answer.Holder}}
		if m.after, err = answer.after(); err != nil {
			return nil, fmt.Errorf("answer of %s: %w", to, err)
		}
		return nil, m
	}
	return answer, nil
}

// refuse turns an error into an answer that carries it.
func refuse(err error) ([]byte, error) {
	var api *Error
	var moved *movedError
	switch {
	case errors.As(err, &api):
		return (&call{Code: api.Code, Message: api.Message, Blobs: [2][]byte{api.Item}}).encode()
	case errors.As(err, &moved):
		c := &call{Moved: moved.home, Holder: moved.tenure.Holder, Epoch: moved.tenure.Epoch}
		if !moved.after.IsZero() {
			c.After = moved.after.String()
		}
		return c.encode()
	case errors.Is(err, ErrOutcomeUnknown):
		return (&call{Unknown: err.Error()}).encode()
	case errors.Is(err, ErrThrottled):
		return (&call{Throttled: err.Error()}).encode()
	default:
		return (&call{Retry: err.Error()}).encode()
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

func (ts *Tables) serveWrite(ctx context.Context, from antipode.Region, body []byte) ([]byte, error) {
	c, t, err := ts.open(from, body)
	if err != nil {
		return refuse(err)
	}
	compile := ts.cfg.Compile
	if c.Verb == verbRestore {
		compile = compileRestore
	}
	op, key, err := compile(c.Verb, c.Blobs[0], t)
	if err != nil {
		return refuse(err)
	}
	w := WriteRequest{Table: t, Key: key, Op: op, Verb: c.Verb, Payload: c.Blobs[0], WantOld: c.Old, WantNew: c.New}
	p := locate(t, key)
	var res WriteResult
	switch t.Writes {
	case antipode.WriteGlobal:
		var after antipode.Dot
		if after, err = c.after(); err == nil {
			err = ts.awaitHanded(ctx, after)
		}
		if err == nil {
			res, err = ts.commit(ctx, p, &w, terms{from: from, request: c.ID, meant: meant{"", c.Epoch}})
		}
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
func (ts *Tables) getFrom(ctx context.Context, to control.Tenure, t *TableRef, p place, y *way) ([]byte, error) {
	req := &call{Table: t.ID, Home: y.home, Epoch: to.Epoch, Blobs: [2][]byte{p.key}}
	if !y.after.IsZero() {
		req.After = y.after.String()
	}
	answer, err := ts.ask(ctx, to.Holder, methodGet, req)
	if err != nil {
		return nil, err
	}
	return answer.Blobs[0], nil
}

func (ts *Tables) serveGet(ctx context.Context, from antipode.Region, body []byte) ([]byte, error) {
	c, t, err := ts.open(from, body)
	if err != nil {
		return refuse(err)
	}
	p := locateEncoded(t, c.Blobs[0])
	var item []byte
	if t.Writes == antipode.WritePartitioned {
		item, err = ts.getForPeer(ctx, c, t, p)
	} else {
		var after antipode.Dot
		if after, err = c.after(); err == nil {
			err = ts.awaitHanded(ctx, after)
		}
		if err == nil {
			item, err = ts.getHeld(ctx, t, p, "", meant{"", c.Epoch})
		}
	}
	if err != nil {
		return refuse(err)
	}
	return (&call{Blobs: [2][]byte{item}}).encode()
}

// askFrontier asks the holder of roles how far it is in the shards: what it has
// written that is, or is about to be, acknowledged.
func (ts *Tables) askFrontier(ctx context.Context, to antipode.Region, t *TableRef, homes []antipode.Region, shards []antipode.Shard) ([]antipode.Frontier, error) {
	req := &call{Table: t.ID, Homes: homes}
	for _, s := range shards {
		req.Marks = append(req.Marks, s.String())
	}
	answer, err := ts.ask(ctx, to, methodFrontier, req)
	if err != nil {
		return nil, err
	}
	return answer.frontiers(shards)
}

// shard reads the one mark of a request about a shard.
func (c *call) shard() (antipode.Shard, error) {
	if len(c.Marks) != 1 {
		return 0, errCall
	}
	return antipode.ParseShard(c.Marks[0])
}

// frontiers reads the marks of an answer, shard by shard.
func (c *call) frontiers(shards []antipode.Shard) ([]antipode.Frontier, error) {
	out := make([]antipode.Frontier, len(shards))
	for _, text := range c.Marks {
		d, err := antipode.ParseDot(text)
		if err != nil {
			return nil, fmt.Errorf("answer of another region: %w", err)
		}
		for i, s := range shards {
			if s == d.Shard {
				out[i] = out[i].With(d.Origin, d.Seq)
			}
		}
	}
	return out, nil
}

// mark adds a frontier to an answer's marks.
func (c *call) mark(shard antipode.Shard, f antipode.Frontier) {
	for _, m := range f {
		c.Marks = append(c.Marks, antipode.Dot{Origin: m.Origin, Shard: shard, Seq: m.Seq}.String())
	}
}

func (ts *Tables) serveFrontier(ctx context.Context, _ antipode.Region, body []byte) ([]byte, error) {
	c, err := decodeCall(body)
	if err != nil {
		return refuse(err)
	}
	shards := make([]antipode.Shard, 0, len(c.Marks))
	for _, text := range c.Marks {
		s, err := antipode.ParseShard(text)
		if err != nil {
			return refuse(err)
		}
		shards = append(shards, s)
	}
	answer := &call{}
	tell := func() error {
		for _, s := range shards {
			answer.mark(s, ts.cfg.Journal.Shard(s).Durable())
		}
		return nil
	}
	if t, ok := ts.cfg.Catalog().TableByID(c.Table); ok {
		err = ts.whileHeld(ctx, t, c.Homes, shards, tell)
	} else {
		err = tell()
	}
	if err != nil {
		return refuse(err)
	}
	return answer.encode()
}
