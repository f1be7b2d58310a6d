package journal

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/antipode-io/antipode"
)

// ErrMalformed wraps what is wrong with bytes that are no entry.
var ErrMalformed = errors.New("malformed journal entry")

// Kind says what an entry does. A region stores, counts and relays kinds that
// it does not know; it only does not act on them.
type Kind uint32

// The kinds of entries.
const (
	KindWrite   Kind = 1 // an item's new version, or its removal
	KindHandoff Kind = 2 // the item belongs to Mutation.Home from here on
	KindAccept  Kind = 3 // the new home took the item over
	KindEpoch   Kind = 4 // the author holds Role of the table from here on, under Epoch; the body says what bounds earlier epochs
	KindRelease Kind = 5 // the author hands Role of the table over, and writes no more under Epoch; the body says to whom
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case KindWrite:
		return "write"
	case KindHandoff:
		return "handoff"
	case KindAccept:
		return "accept"
	case KindEpoch:
		return "epoch"
	case KindRelease:
		return "release"
	default:
		return fmt.Sprintf("kind-%d", uint32(k))
	}
}

// Admission says when another origin's entry that is next may be applied.
type Admission int

// The admissions.
const (
	Now    Admission = iota // with others
	Alone                   // in a transaction of its own: it decides on what becomes of others
	NotYet                  // it waits, and what its origin wrote after it too
)

// Hash is the SHA-256 of an encoded entry: the head of its origin's chain.
type Hash [sha256.Size]byte

// Entry is one write of one origin in one shard. See docs/format/journal.md
// for its bytes.
type Entry struct {
	Dot   antipode.Dot
	Stamp antipode.Stamp
	Epoch uint64 // of the role that wrote it; 0 in local tables
	// Context is the origin's frontier of the shard when it wrote, without its
	// own mark, which is Dot.Seq-1.
	Context     antipode.Frontier
	Uncertainty uint32 // milliseconds by which the origin's clock may be off its peers'
	Kind        Kind
	Mutation    antipode.Mutation
	Replaced    antipode.Dot    // the version that was visible before, if any
	From        antipode.Region // the region that forwarded it, if any
	Request     []byte          // the forwarder's request id
	// Role is the home whose role a handoff, an epoch or a release is about. Other
	// kinds are written under the role of Mutation.Home.
	Role antipode.Region
	Prev Hash // of the origin's entry before, in this shard

	raw []byte
}

// Raw returns the encoded entry, which is what relays pass on and chains hash.
func (e *Entry) Raw() []byte { return e.raw }

// Saw reports whether the write with this dot, of the same shard, was applied
// at e's origin when e was written.
func (e *Entry) Saw(d antipode.Dot) bool {
	if d.Origin == e.Dot.Origin {
		return d.Seq < e.Dot.Seq
	}
	return e.Context.Includes(d)
}

// FullContext returns the context with the origin's own mark.
func (e *Entry) FullContext() antipode.Frontier {
	return e.Context.Clone().With(e.Dot.Origin, e.Dot.Seq-1)
}

// formatVersion is the first byte of an encoded entry. A reader refuses a
// higher one; within a version, unknown fields are skipped and kept.
const formatVersion = 1

// Field numbers of an encoded entry. They are for ever.
const (
	fieldKind        = 1
	fieldShard       = 2
	fieldOrigin      = 3
	fieldSeq         = 4
	fieldStamp       = 5
	fieldEpoch       = 6
	fieldMark        = 7
	fieldUncertainty = 8
	fieldTable       = 9
	fieldKey         = 10
	fieldBody        = 11
	fieldDelete      = 12
	fieldHome        = 13
	fieldReplaced    = 14
	fieldFrom        = 15
	fieldRequest     = 16
	fieldPrev        = 17
	fieldRole        = 18
)

// Encode sets and returns the entry's bytes.
func (e *Entry) Encode() []byte {
	size := 160 + len(e.Mutation.Key) + len(e.Mutation.Body) + 32*len(e.Context)
	b := append(make([]byte, 0, size), formatVersion)
	b = appendUint(b, fieldKind, uint64(e.Kind))
	b = protowire.AppendTag(b, fieldShard, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, uint64(e.Dot.Shard))
	b = protowire.AppendTag(b, fieldOrigin, protowire.BytesType)
	b = appendOrigin(b, e.Dot.Origin)
	b = appendUint(b, fieldSeq, e.Dot.Seq)
	b = protowire.AppendTag(b, fieldStamp, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, uint64(e.Stamp))
	b = appendUint(b, fieldEpoch, e.Epoch)
	for _, m := range e.Context {
		b = appendMark(b, fieldMark, m)
	}
	b = appendUint(b, fieldUncertainty, uint64(e.Uncertainty))
	b = appendUint(b, fieldTable, uint64(e.Mutation.Table))
	b = appendBytes(b, fieldKey, e.Mutation.Key)
	b = appendBytes(b, fieldBody, e.Mutation.Body)
	if e.Mutation.Delete {
		b = appendUint(b, fieldDelete, 1)
	}
	b = appendBytes(b, fieldHome, []byte(e.Mutation.Home))
	if !e.Replaced.IsZero() {
		b = appendMark(b, fieldReplaced, antipode.Mark{Origin: e.Replaced.Origin, Seq: e.Replaced.Seq})
	}
	b = appendBytes(b, fieldFrom, []byte(e.From))
	b = appendBytes(b, fieldRequest, e.Request)
	if e.Prev != (Hash{}) {
		b = appendBytes(b, fieldPrev, e.Prev[:])
	}
	b = appendBytes(b, fieldRole, []byte(e.Role))
	e.raw = b
	return b
}

func appendUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

// appendOrigin writes an origin as length-delimited bytes: its text form.
func appendOrigin(b []byte, o antipode.Origin) []byte {
	if o.Zone == "" && o.Incarnation == 1 {
		return protowire.AppendString(b, string(o.Region))
	}
	return protowire.AppendString(b, o.String())
}

// appendMark writes a mark as a nested message: sequence, then origin as the rest.
func appendMark(b []byte, num protowire.Number, m antipode.Mark) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	text := string(m.Origin.Region)
	if m.Origin.Zone != "" || m.Origin.Incarnation != 1 {
		text = m.Origin.String()
	}
	b = protowire.AppendVarint(b, uint64(protowire.SizeVarint(m.Seq)+len(text)))
	b = protowire.AppendVarint(b, m.Seq)
	return append(b, text...)
}

// Origins turns the text of an origin into the Origin without allocating for
// those met before. It is not safe for concurrent use; the zero value is ready.
type Origins struct{ known map[string]antipode.Origin }

const maxKnownOrigins = 1024 // bounds what a hostile peer can make us remember

func (in *Origins) parse(b []byte) (antipode.Origin, error) {
	if o, ok := in.known[string(b)]; ok {
		return o, nil
	}
	o, err := antipode.ParseOrigin(string(b))
	if err != nil {
		return o, err
	}
	if in.known == nil || len(in.known) >= maxKnownOrigins {
		in.known = make(map[string]antipode.Origin)
	}
	in.known[string(b)] = o
	return o, nil
}

// Decode reads an entry. The entry refers to raw, which must not change.
func (in *Origins) Decode(raw []byte) (*Entry, error) {
	if len(raw) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrMalformed)
	}
	if raw[0] != formatVersion {
		return nil, fmt.Errorf("%w: format version %d, this program knows %d; upgrade it", ErrMalformed, raw[0], formatVersion)
	}
	e := &Entry{raw: raw}
	for b := raw[1:]; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
		}
		b = b[n:]
		n, err := in.field(e, num, typ, b)
		if err != nil {
			return nil, fmt.Errorf("%w: field %d: %w", ErrMalformed, num, err)
		}
		b = b[n:]
	}
	if e.Dot.Seq == 0 || e.Dot.Origin.Region == "" {
		return nil, fmt.Errorf("%w: no dot", ErrMalformed)
	}
	if e.Replaced.Seq != 0 {
		e.Replaced.Shard = e.Dot.Shard
	}
	return e, nil
}

// field consumes one field's value and returns its length.
func (in *Origins) field(e *Entry, num protowire.Number, typ protowire.Type, b []byte) (int, error) {
	switch typ {
	case protowire.VarintType:
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		e.setUint(num, v)
		return n, nil
	case protowire.Fixed64Type:
		v, n := protowire.ConsumeFixed64(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		e.setUint(num, v)
		return n, nil
	case protowire.BytesType:
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		return n, in.setBytes(e, num, v)
	default:
		n := protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		return n, nil
	}
}

func (e *Entry) setUint(num protowire.Number, v uint64) {
	switch num {
	case fieldKind:
		e.Kind = Kind(min(v, 1<<32-1)) // a larger one is one we don't know either
	case fieldShard:
		e.Dot.Shard = antipode.Shard(v)
	case fieldSeq:
		e.Dot.Seq = v
	case fieldStamp:
		e.Stamp = antipode.Stamp(v)
	case fieldEpoch:
		e.Epoch = v
	case fieldUncertainty:
		e.Uncertainty = uint32(min(v, 1<<32-1))
	case fieldTable:
		e.Mutation.Table = antipode.TableID(v)
	case fieldDelete:
		e.Mutation.Delete = v != 0
	}
}

func (in *Origins) setBytes(e *Entry, num protowire.Number, v []byte) (err error) {
	switch num {
	case fieldOrigin:
		e.Dot.Origin, err = in.parse(v)
	case fieldMark:
		var m antipode.Mark
		if m, err = in.mark(v); err == nil {
			e.Context = e.Context.With(m.Origin, m.Seq)
		}
	case fieldKey:
		e.Mutation.Key = v
	case fieldBody:
		e.Mutation.Body = v
	case fieldHome:
		e.Mutation.Home = antipode.Region(v)
	case fieldReplaced:
		var m antipode.Mark
		m, err = in.mark(v)
		e.Replaced = antipode.Dot{Origin: m.Origin, Seq: m.Seq}
	case fieldFrom:
		e.From = antipode.Region(v)
	case fieldRequest:
		e.Request = v
	case fieldPrev:
		if len(v) != len(e.Prev) {
			return fmt.Errorf("hash of %d bytes", len(v))
		}
		copy(e.Prev[:], v)
	case fieldRole:
		e.Role = antipode.Region(v)
	}
	return err
}

func (in *Origins) mark(b []byte) (antipode.Mark, error) {
	seq, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return antipode.Mark{}, protowire.ParseError(n)
	}
	o, err := in.parse(b[n:])
	return antipode.Mark{Origin: o, Seq: seq}, err
}
