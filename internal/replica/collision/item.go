package collision

import (
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/antipode-io/antipode"
)

// Format is the number of the format that AppendItem and AppendEntry write. It
// rises only when an older binary would misread the bytes; fields that an older
// binary may ignore are added without.
const Format = 1

// Field numbers, as docs/format/item.md has them.
const (
	itemFormat  protowire.Number = 1
	itemSibling protowire.Number = 2

	versionRegion      protowire.Number = 1
	versionZone        protowire.Number = 2
	versionIncarnation protowire.Number = 3
	versionShard       protowire.Number = 4
	versionSeq         protowire.Number = 5
	versionStamp       protowire.Number = 6
	versionEpoch       protowire.Number = 7
	versionDelete      protowire.Number = 8
	versionHome        protowire.Number = 9
	versionBody        protowire.Number = 10

	entryFormat      protowire.Number = 1
	entryVersion     protowire.Number = 2
	entryMark        protowire.Number = 3
	entryUncertainty protowire.Number = 4

	markRegion      protowire.Number = 1
	markZone        protowire.Number = 2
	markIncarnation protowire.Number = 3
	markSeq         protowire.Number = 4
)

// Names are the names of regions and zones that decoding need not allocate:
// one that is found here is taken from here. It is only read, so one Names may
// serve many goroutines. The zero value knows none, which is always right.
type Names map[string]string

// NewNames returns Names that know these regions.
func NewNames(regions ...antipode.Region) Names {
	n := make(Names, len(regions))
	for _, r := range regions {
		n[string(r)] = string(r)
	}
	return n
}

func (n Names) text(b []byte) string {
	if s, ok := n[string(b)]; ok {
		return s
	}
	return string(b)
}

// AppendItem appends the stored form of an item with these siblings, of which
// there must be at least one, in the order given (canonical, from Apply).
func AppendItem(dst []byte, siblings []Version) []byte {
	size := sizeUint(itemFormat, Format)
	for i := range siblings {
		size += protowire.SizeTag(itemSibling) + protowire.SizeBytes(sizeVersion(&siblings[i]))
	}
	dst = slices.Grow(dst, size)
	dst = appendUint(dst, itemFormat, Format)
	for i := range siblings {
		dst = protowire.AppendTag(dst, itemSibling, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(sizeVersion(&siblings[i])))
		dst = appendVersion(dst, &siblings[i])
	}
	return dst
}

// DecodeItem reads what AppendItem wrote. Bodies point into b. It fails with
// ErrMalformed or ErrFormat.
func DecodeItem(b []byte) ([]Version, error) { return Names(nil).DecodeItem(b) }

// DecodeItem is the function DecodeItem without allocations for known names.
func (n Names) DecodeItem(b []byte) ([]Version, error) {
	var out []Version
	err := eachSibling(b, func(raw []byte) error {
		v, err := n.version(raw)
		out = append(out, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// DecodeSingle reads an item that has one sibling, the common case, without a
// slice for it. It returns false, and no version, for an item with several.
func DecodeSingle(b []byte) (Version, bool, error) { return Names(nil).DecodeSingle(b) }

// DecodeSingle is the function DecodeSingle without allocations for known names.
func (n Names) DecodeSingle(b []byte) (Version, bool, error) {
	raw, count, err := siblings(b)
	if err != nil || count != 1 {
		return Version{}, false, err
	}
	v, err := n.version(raw)
	if err != nil {
		return Version{}, false, err
	}
	return v, true, nil
}

// VisibleBody returns the body of the item's visible version, pointing into b,
// or deleted for a tombstone, as Visible(DecodeItem(b)) would. For an item with
// one sibling it allocates nothing.
func VisibleBody(b []byte, rule antipode.Rule, priority []antipode.Region) (body []byte, deleted bool, err error) {
	raw, count, err := siblings(b)
	if err != nil {
		return nil, false, err
	}
	if count == 1 {
		var v Version
		if err := Names(nil).fields(raw, &v, false); err != nil {
			return nil, false, err
		}
		return v.Body, v.Delete, nil
	}
	all, err := DecodeItem(b)
	if err != nil {
		return nil, false, err
	}
	v, _ := Visible(all, rule, priority)
	return v.Body, v.Delete, nil
}

// AppendEntry appends the stored form of an entry of a key's history, as
// collision records keep it.
func AppendEntry(dst []byte, e Entry) []byte {
	dst = appendUint(dst, entryFormat, Format)
	dst = protowire.AppendTag(dst, entryVersion, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(sizeVersion(&e.Version)))
	dst = appendVersion(dst, &e.Version)
	for _, m := range e.Context {
		size := sizeString(markRegion, string(m.Origin.Region)) + sizeString(markZone, m.Origin.Zone) +
			sizeUint(markIncarnation, uint64(m.Origin.Incarnation)) + sizeUint(markSeq, m.Seq)
		dst = protowire.AppendTag(dst, entryMark, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(size))
		dst = appendString(dst, markRegion, string(m.Origin.Region))
		dst = appendString(dst, markZone, m.Origin.Zone)
		dst = appendUint(dst, markIncarnation, uint64(m.Origin.Incarnation))
		dst = appendUint(dst, markSeq, m.Seq)
	}
	return appendUint(dst, entryUncertainty, uint64(max(e.Uncertainty, 0)))
}

// DecodeEntry reads what AppendEntry wrote. The body points into b. It fails
// with ErrMalformed or ErrFormat.
func DecodeEntry(b []byte) (Entry, error) { return Names(nil).DecodeEntry(b) }

// DecodeEntry is the function DecodeEntry without allocations for known names.
func (n Names) DecodeEntry(b []byte) (Entry, error) {
	var e Entry
	var format uint64
	versions := 0
	err := eachField(b, func(f field) (err error) {
		switch {
		case f.is(entryFormat, protowire.VarintType):
			format = f.number
		case f.is(entryVersion, protowire.BytesType):
			versions++
			e.Version, err = n.version(f.bytes)
		case f.is(entryMark, protowire.BytesType):
			var m antipode.Mark
			m, err = n.mark(f.bytes)
			e.Context = e.Context.With(m.Origin, m.Seq)
		case f.is(entryUncertainty, protowire.VarintType):
			if f.number > math.MaxInt64 {
				return fmt.Errorf("%w: uncertainty of %d ns", ErrMalformed, f.number)
			}
			e.Uncertainty = time.Duration(f.number)
		}
		return err
	})
	switch {
	case format > Format:
		return Entry{}, newerFormat(format)
	case err != nil:
		return Entry{}, err
	case format == 0:
		return Entry{}, fmt.Errorf("%w: no format number", ErrMalformed)
	case versions != 1:
		return Entry{}, fmt.Errorf("%w: %d versions in an entry", ErrMalformed, versions)
	}
	return e, nil
}

func (n Names) mark(b []byte) (antipode.Mark, error) {
	var m antipode.Mark
	err := eachField(b, func(f field) error {
		switch {
		case f.is(markRegion, protowire.BytesType):
			m.Origin.Region = antipode.Region(n.text(f.bytes))
		case f.is(markZone, protowire.BytesType):
			m.Origin.Zone = n.text(f.bytes)
		case f.is(markIncarnation, protowire.VarintType):
			return incarnation(&m.Origin, f.number)
		case f.is(markSeq, protowire.VarintType):
			m.Seq = f.number
		}
		return nil
	})
	if err == nil && (m.Origin.Region == "" || m.Seq == 0) {
		err = fmt.Errorf("%w: a mark without region or sequence", ErrMalformed)
	}
	return m, err
}

func sizeVersion(v *Version) int {
	n := sizeString(versionRegion, string(v.Dot.Origin.Region)) + sizeString(versionZone, v.Dot.Origin.Zone) +
		sizeUint(versionIncarnation, uint64(v.Dot.Origin.Incarnation)) + sizeFixed(versionShard, uint64(v.Dot.Shard)) +
		sizeUint(versionSeq, v.Dot.Seq) + sizeFixed(versionStamp, uint64(v.Stamp)) + sizeUint(versionEpoch, v.Epoch) +
		sizeString(versionHome, string(v.Home))
	if v.Delete {
		n += sizeUint(versionDelete, 1)
	}
	if len(v.Body) > 0 {
		n += protowire.SizeTag(versionBody) + protowire.SizeBytes(len(v.Body))
	}
	return n
}

func appendVersion(dst []byte, v *Version) []byte {
	dst = appendString(dst, versionRegion, string(v.Dot.Origin.Region))
	dst = appendString(dst, versionZone, v.Dot.Origin.Zone)
	dst = appendUint(dst, versionIncarnation, uint64(v.Dot.Origin.Incarnation))
	dst = appendFixed(dst, versionShard, uint64(v.Dot.Shard))
	dst = appendUint(dst, versionSeq, v.Dot.Seq)
	dst = appendFixed(dst, versionStamp, uint64(v.Stamp))
	dst = appendUint(dst, versionEpoch, v.Epoch)
	if v.Delete {
		dst = appendUint(dst, versionDelete, 1)
	}
	dst = appendString(dst, versionHome, string(v.Home))
	if len(v.Body) > 0 {
		dst = protowire.AppendTag(dst, versionBody, protowire.BytesType)
		dst = protowire.AppendBytes(dst, v.Body)
	}
	return dst
}

func (n Names) version(raw []byte) (Version, error) {
	var v Version
	if err := n.fields(raw, &v, true); err != nil {
		return Version{}, err
	}
	return v, nil
}

// fields reads a version's fields; strings, which may allocate, only if asked.
func (n Names) fields(raw []byte, v *Version, strings bool) error {
	region := false
	for len(raw) > 0 {
		f, rest, err := nextField(raw)
		if err != nil {
			return err
		}
		raw = rest
		switch f.wire {
		case protowire.BytesType:
			switch f.num {
			case versionBody:
				v.Body = f.bytes
			case versionRegion:
				region = len(f.bytes) > 0
			default: // the other strings, or a field from the future
			}
			if strings {
				n.versionText(v, f)
			}
		case protowire.VarintType:
			err = versionNumber(v, f)
		case protowire.Fixed64Type:
			switch f.num {
			case versionShard:
				v.Dot.Shard = antipode.Shard(f.number)
			case versionStamp:
				v.Stamp = antipode.Stamp(f.number)
			default: // a field from the future
			}
		default: // a field from the future
		}
		if err != nil {
			return err
		}
	}
	switch {
	case !region || v.Dot.Seq == 0:
		return fmt.Errorf("%w: a sibling without region or sequence", ErrMalformed)
	case v.Delete && len(v.Body) > 0:
		return fmt.Errorf("%w: a tombstone with a body", ErrMalformed)
	case len(v.Body) == 0:
		v.Body = nil // absent and empty are the same
	}
	return nil
}

func (n Names) versionText(v *Version, f field) {
	switch f.num {
	case versionRegion:
		v.Dot.Origin.Region = antipode.Region(n.text(f.bytes))
	case versionZone:
		v.Dot.Origin.Zone = n.text(f.bytes)
	case versionHome:
		v.Home = antipode.Region(n.text(f.bytes))
	default: // the body, or a field from the future
	}
}

func versionNumber(v *Version, f field) error {
	switch f.num {
	case versionIncarnation:
		return incarnation(&v.Dot.Origin, f.number)
	case versionSeq:
		v.Dot.Seq = f.number
	case versionEpoch:
		v.Epoch = f.number
	case versionDelete:
		v.Delete = protowire.DecodeBool(f.number)
	default: // a field from the future
	}
	return nil
}

func incarnation(o *antipode.Origin, n uint64) error {
	if n > math.MaxUint32 {
		return fmt.Errorf("%w: incarnation %d", ErrMalformed, n)
	}
	o.Incarnation = uint32(n)
	return nil
}

// siblings checks an item's frame and returns its last sibling and how many there are.
func siblings(b []byte) (last []byte, count int, err error) {
	format := uint64(0)
	for len(b) > 0 {
		f, rest, ferr := nextField(b)
		if ferr != nil {
			err = ferr
			break
		}
		b = rest
		switch {
		case f.is(itemFormat, protowire.VarintType):
			format = f.number
		case f.is(itemSibling, protowire.BytesType):
			last = f.bytes
			count++
		}
	}
	switch {
	case format > Format: // said before anything that may be wrong only because of it
		return nil, 0, newerFormat(format)
	case err != nil:
		return nil, 0, err
	case format == 0:
		return nil, 0, fmt.Errorf("%w: no format number", ErrMalformed)
	case count == 0:
		return nil, 0, fmt.Errorf("%w: no siblings", ErrMalformed)
	}
	return last, count, nil
}

func eachSibling(b []byte, visit func([]byte) error) error {
	if _, _, err := siblings(b); err != nil {
		return err
	}
	return eachField(b, func(f field) error {
		if f.is(itemSibling, protowire.BytesType) {
			return visit(f.bytes)
		}
		return nil
	})
}

func newerFormat(n uint64) error {
	return fmt.Errorf("%w: format %d, this one knows up to %d; upgrade this region", ErrFormat, n, Format)
}

// field is one field on the wire: bytes, or a number of either kind.
type field struct {
	num    protowire.Number
	wire   protowire.Type
	bytes  []byte
	number uint64
}

func (f field) is(num protowire.Number, wire protowire.Type) bool {
	return f.num == num && f.wire == wire
}

func eachField(b []byte, visit func(field) error) error {
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func nextField(b []byte) (field, []byte, error) {
	num, wire, n := protowire.ConsumeTag(b)
	if n < 0 {
		return field{}, nil, malformed(n)
	}
	b = b[n:]
	f := field{num: num, wire: wire}
	switch wire {
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	case protowire.VarintType:
		f.number, n = protowire.ConsumeVarint(b)
	case protowire.Fixed64Type:
		f.number, n = protowire.ConsumeFixed64(b)
	default:
		n = protowire.ConsumeFieldValue(num, wire, b)
	}
	if n < 0 {
		return field{}, nil, malformed(n)
	}
	return f, b[n:], nil
}

func malformed(n int) error { return fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n)) }

// Zero values are left out, as everywhere in protobuf.

func appendUint(dst []byte, num protowire.Number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), n)
}

func appendFixed(dst []byte, num protowire.Number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendFixed64(protowire.AppendTag(dst, num, protowire.Fixed64Type), n)
}

func appendString(dst []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, num, protowire.BytesType), s)
}

func sizeUint(num protowire.Number, n uint64) int {
	if n == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeVarint(n)
}

func sizeFixed(num protowire.Number, n uint64) int {
	if n == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeFixed64()
}

func sizeString(num protowire.Number, s string) int {
	if s == "" {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeBytes(len(s))
}
