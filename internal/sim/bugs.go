package sim

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// Bug is a bug that a run plants around the code under test, to see whether the
// checkers notice.
type Bug string

// The planted bugs.
const (
	BugSkipCausalWait Bug = "skip-causal-wait" // entries are applied before what they had seen
	BugWallClock      Bug = "wall-clock"       // the later stamp replaces in silence, whatever it had seen
	BugReuseSequence  Bug = "reuse-sequence"   // a crash takes the last durable entry, its number is given out again
	BugAckEarly       Bug = "ack-early"        // own writes count as durable before they are
	BugReportEarly    Bug = "report-early"     // others' writes count as durable before they are
	BugEcho           Bug = "echo"             // own entries that come back are applied again
	BugCountAcks      Bug = "count-acks"       // acknowledgements count before what their author wrote is here
	BugForeign        Bug = "foreign"          // regions get entries of tables that they don't keep
	BugBlindForward   Bug = "blind-forward"    // a forwarded write is answered before it has come back
	BugLonelyBirth    Bug = "lonely-birth"     // nobody is asked before an item is born
	BugStaleRead      Bug = "stale-read"       // a consistent read is answered by the region asked
	BugStableAtOnce   Bug = "stable-at-once"   // what is durable here counts as durable everywhere
	BugUnknownTable   Bug = "unknown-table"    // entries of tables not known yet do not wait
)

// Bugs lists the planted bugs.
func Bugs() []Bug {
	return []Bug{
		BugSkipCausalWait, BugWallClock, BugReuseSequence, BugAckEarly, BugReportEarly, BugEcho, BugCountAcks, BugForeign,
		BugBlindForward, BugLonelyBirth, BugStaleRead, BugStableAtOnce, BugUnknownTable,
	}
}

// bugs stand where the code under test meets its surroundings.
type bugs struct{ s *simulation }

func (g bugs) is(b Bug) bool { return g.s.cfg.Bug == b }

// members is ship.Config.Members.
func (g bugs) members(c *core, id antipode.Shard) []antipode.Region {
	m := c.tables.Members(id)
	if g.is(BugForeign) && m != nil {
		m = nil
		for _, r := range g.s.order {
			m = append(m, r.name)
		}
	}
	return m
}

// Methods of docs/format/rpc.md.
const (
	methodWrite = "table.write"
	methodGet   = "table.get"
	methodBirth = "table.birth"
)

// head is the part of a call that a bug reads or makes.
type head struct {
	Table antipode.TableID `json:"table,omitempty"`
	Home  antipode.Region  `json:"home,omitempty"`
	Dot   string           `json:"dot,omitempty"`
	Set   byte             `json:"set,omitempty"`
}

func seal(h any, rest []byte) []byte {
	text, _ := json.Marshal(h) // strings and numbers: it doesn't fail
	return append(append(binary.AppendUvarint(nil, uint64(len(text))), text...), rest...)
}

func unseal(b []byte) (h head, rest []byte, ok bool) {
	rest, ok = unsealInto(b, &h)
	return h, rest, ok
}

func unsealInto(b []byte, h any) (rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) || json.Unmarshal(b[w:w+int(n)], h) != nil {
		return nil, false
	}
	return b[w+int(n):], true
}

// call is table.Config.Call.
func (g bugs) call(c *core, ctx context.Context, to antipode.Region, method string, body []byte) ([]byte, error) { //nolint:revive // the core comes first as it is the receiver
	switch {
	case g.is(BugLonelyBirth) && method == methodBirth:
		return seal(head{Home: c.site.name}, []byte{0, 0}), nil
	case g.is(BugStaleRead) && method == methodGet:
		return g.readHere(c, ctx, body)
	case g.is(BugLateForward) && method == methodWrite:
		body = forAnyTenure(body)
	}
	out, err := g.s.call(c, ctx, to, method, body)
	if err == nil && g.is(BugBlindForward) && method == methodWrite {
		if h, rest, ok := unseal(out); ok && h.Dot != "" {
			return seal(head{Set: h.Set}, rest), nil
		}
	}
	return out, err
}

// readHere answers a consistent read without asking anybody.
func (g bugs) readHere(c *core, ctx context.Context, body []byte) ([]byte, error) { //nolint:revive // as call
	h, rest, ok := unseal(body)
	if !ok {
		return nil, errBroken
	}
	n, w := binary.Uvarint(rest)
	key, _ := strings.CutSuffix(string(rest[w:w+int(n)]), encodeKey(""))
	item, err := c.tables.Get(ctx, g.s.tables[h.Table], table.Key{Partition: []byte(key)}, false, nil)
	if err != nil {
		return nil, err
	}
	var answer head
	if item != nil {
		answer.Set = 1
	}
	return seal(answer, append(append(binary.AppendUvarint(nil, uint64(len(item))), item...), 0)), nil
}

// errNaive ends a connection of a naive receiver, which then starts again.
var errNaive = errors.New("entries are missing")

// receive takes a frame at the receiver's end.
func (g bugs) receive(n *connection, frame []byte) ([]byte, []*journal.Commit, error) {
	if frame[0] == frameEntries {
		switch {
		case g.is(BugSkipCausalWait), g.is(BugWallClock):
			commits, err := g.naive(n, frame)
			return nil, commits, err
		case g.is(BugEcho):
			g.echo(n, frame)
		}
	}
	return n.r.Receive(frame)
}

// naive applies entries as they come.
func (g bugs) naive(n *connection, frame []byte) (commits []*journal.Commit, err error) {
	entries, err := entriesOf(g.s.payload(frame))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		k, err := g.apply(n.b, e)
		if err != nil {
			return commits, err
		}
		if k != nil {
			commits = append(commits, k)
		}
	}
	return commits, nil
}

func (g bugs) apply(c *core, e *journal.Entry) (*journal.Commit, error) {
	sh := c.log.Shard(e.Dot.Shard)
	sh.Lock()
	defer sh.Unlock()
	if e.Dot.Seq <= sh.Applied().Seq(e.Dot.Origin) {
		return nil, nil
	}
	txn := sh.Begin(c.log.NewBatch())
	saw := e.Context
	if g.is(BugSkipCausalWait) {
		e.Context = nil
	}
	err := txn.Put(e)
	e.Context = saw
	if err != nil || !c.tables.Known(e) {
		txn.Discard()
		return nil, errNaive
	}
	if g.is(BugWallClock) {
		older := false
		all := g.s.items(c.site, g.s.tables[e.Mutation.Table])
		for _, v := range all[cell{e.Mutation.Table, string(e.Mutation.Key)}] {
			if collision.Compare(v, collision.Version{Dot: e.Dot, Stamp: e.Stamp}) > 0 {
				older = true
			} else {
				e.Context = e.Context.Clone().With(v.Dot.Origin, v.Dot.Seq)
			}
		}
		if older {
			return txn.Commit()
		}
	}
	if err := c.tables.Session(txn).Apply(e); err != nil {
		txn.Discard()
		return nil, err
	}
	return txn.Commit()
}

// echo lets a region's own entries come back to it and be applied once more.
func (g bugs) echo(n *connection, frame []byte) {
	entries, err := entriesOf(g.s.payload(frame))
	if err != nil {
		return
	}
	g.s.after(g.s.between(50*time.Millisecond, 300*time.Millisecond), func() {
		c := n.a
		if c == nil {
			return
		}
		for _, e := range entries {
			if e.Dot.Origin != c.site.origin() {
				continue
			}
			sh := c.log.Shard(e.Dot.Shard)
			sh.Lock()
			txn := sh.Begin(c.log.NewBatch())
			if c.tables.Session(txn).Apply(e) == nil {
				_, _ = txn.Commit() // nobody waits for it
			} else {
				txn.Discard()
			}
			sh.Unlock()
		}
	})
}

// answer sees a frame that comes back to a sender.
func (g bugs) answer(n *connection, frame []byte) {
	if !g.is(BugCountAcks) && !g.is(BugStableAtOnce) || frame[0] != frameAck && frame[0] != frameWelcome {
		return
	}
	var h holding
	if json.Unmarshal(g.s.payload(frame), &h) != nil {
		return
	}
	for _, shard := range sortedKeys(h.Frontiers) {
		id, err := antipode.ParseShard(shard)
		if err != nil {
			continue
		}
		sh := n.a.log.Shard(id)
		if g.is(BugStableAtOnce) {
			sh.Acked(n.to, sh.Durable())
			continue
		}
		// An acknowledgement waits until its author's own writes are applied here:
		// it doesn't have to when it says that it has none but these.
		var f antipode.Frontier
		for name, seq := range h.Frontiers[shard] {
			if o, err := antipode.ParseOrigin(name); err == nil {
				if o.Region == n.to {
					seq = min(seq, sh.Applied().Seq(o))
				}
				f = f.With(o, seq)
			}
		}
		sh.Acked(n.to, f)
	}
}

// forgetLast takes the last entry of a region's own journals from its disk.
func (s *simulation) forgetLast(c *core) error {
	has, err := frontiersOf(c.store)
	if err != nil {
		return err
	}
	b := c.store.Store.NewBatch()
	for id, f := range has {
		if seq := f.Seq(c.site.origin()); seq > 0 {
			key := binary.BigEndian.AppendUint64([]byte{rowEntry}, uint64(id))
			key = append(append(key, c.site.name...), 0)
			b.Delete(binary.BigEndian.AppendUint64(key, seq))
		}
	}
	k, err := c.store.Store.Apply(b)
	if err != nil {
		return err
	}
	return k.Wait()
}

var _ table.Op = execution{}
