package attr

import (
	"bytes"
	"encoding/base64"
	"slices"

	"github.com/valyala/fastjson"
)

// AppendItem appends the item's normalised JSON: the same bytes for equal items.
func AppendItem(dst []byte, it Item) []byte {
	dst = append(dst, '{')
	for i := range it {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, it[i].Name)
		dst = append(dst, ':')
		dst = AppendValue(dst, it[i].Value)
	}
	return append(dst, '}')
}

// AppendValue appends a value's normalised JSON, such as {"S":"a"}.
func AppendValue(dst []byte, v Value) []byte {
	dst = openValue(dst, v.Type)
	switch v.Type {
	case S, N, B:
		dst = appendScalar(dst, v.Type, v.Str)
	case BOOL:
		dst = appendBool(dst, v.Bool)
	case NULL:
		dst = appendBool(dst, true)
	case M:
		dst = AppendItem(dst, v.Map)
	case L:
		dst = append(dst, '[')
		for i := range v.List {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendValue(dst, v.List[i])
		}
		dst = append(dst, ']')
	default:
		dst = appendSet(dst, v.Type, sortedSet(v.Type, v.Set))
	}
	return append(dst, '}')
}

func openValue(dst []byte, t Type) []byte {
	dst = append(dst, `{"`...)
	dst = append(dst, t.String()...)
	return append(dst, `":`...)
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, "true"...)
	}
	return append(dst, "false"...)
}

// appendScalar appends the JSON of a value that Value keeps in Str.
func appendScalar(dst []byte, t Type, s string) []byte {
	if t != B {
		return appendString(dst, s)
	}
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, []byte(s))
	return append(dst, '"')
}

func appendSet(dst []byte, t Type, members []string) []byte {
	dst = append(dst, '[')
	for i, s := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendScalar(dst, t.Element(), s)
	}
	return append(dst, ']')
}

// appendString appends s as a JSON string. Only what must be escaped is.
func appendString[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// NormalizeItem validates an item of a client's request and appends its normalised JSON in
// one walk. The result is what ItemFromJSON and AppendItem give, without a tree
// between them. It returns the item's size by DynamoDB's rules; more than
// MaxItemSize is an error. With an error, out is of no use.
func NormalizeItem(dst []byte, v *fastjson.Value) (out []byte, size int, err error) {
	n := normalizer{dst: dst}
	if err := n.item(v, 1); err != nil {
		return nil, 0, err
	}
	if err := CheckItemSize(n.size); err != nil {
		return nil, 0, err
	}
	return n.dst, n.size, nil
}

// normalizer walks over JSON, and keeps what it wrote and how much that counts.
type normalizer struct {
	dst  []byte
	size int
}

// field is a member of a JSON object.
type field struct {
	key   []byte
	value *fastjson.Value
}

func (n *normalizer) item(v *fastjson.Value, level int) error {
	o, err := object(v)
	if err != nil {
		return err
	}
	var buf [16]field
	fields := buf[:0]
	o.Visit(func(key []byte, member *fastjson.Value) {
		fields = append(fields, field{key, member})
	})
	order := func(a, b field) int { return bytes.Compare(a.key, b.key) }
	if !slices.IsSortedFunc(fields, order) {
		slices.SortStableFunc(fields, order)
	}
	n.dst = append(n.dst, '{')
	first := true
	for i, f := range fields {
		if err := checkName(f.key, level); err != nil {
			return err
		}
		if i+1 < len(fields) && bytes.Equal(f.key, fields[i+1].key) {
			// Of two values of one name the last counts, but both must be valid.
			if _, err := readValue(f.value, level, false); err != nil {
				return err
			}
			continue
		}
		if !first {
			n.dst = append(n.dst, ',')
		}
		first = false
		n.dst = appendString(n.dst, f.key)
		n.dst = append(n.dst, ':')
		n.size += len(f.key)
		if level > 1 {
			n.size += memberOverhead
		}
		if err := n.value(f.value, level); err != nil {
			return err
		}
	}
	n.dst = append(n.dst, '}')
	return nil
}

func (n *normalizer) value(v *fastjson.Value, level int) error {
	if level > MaxDepth {
		return errDepth()
	}
	t, member, err := choose(v)
	if err != nil {
		return err
	}
	n.dst = openValue(n.dst, t)
	switch t {
	case S, N, B:
		err = n.scalar(t, member)
	case BOOL, NULL:
		var b bool
		b, err = boolean(t, member)
		n.dst = appendBool(n.dst, b)
		n.size++
	case M:
		n.size += nestedOverhead
		err = n.item(member, level+1)
	case L:
		n.size += nestedOverhead
		err = n.list(member, level+1)
	default:
		err = n.set(t, member)
	}
	n.dst = append(n.dst, '}')
	return err
}

func (n *normalizer) scalar(t Type, v *fastjson.Value) error {
	switch t {
	case S:
		b, err := text(v)
		if err != nil {
			return err
		}
		n.dst = appendString(n.dst, b)
		n.size += len(b)
	case N:
		b, err := text(v)
		if err != nil {
			return err
		}
		if plainInteger(b) { // most numbers are
			n.dst = appendString(n.dst, b)
			n.size += numberSize(string(b))
			return nil
		}
		s, err := NormalizeNumber(string(b))
		if err != nil {
			return err
		}
		n.dst = appendString(n.dst, s)
		n.size += numberSize(s)
	default:
		// The text is checked and written as it is: strict base64 has one form.
		from := len(n.dst)
		raw, err := binary(n.dst, v)
		if err != nil {
			return err
		}
		n.size += len(raw) - from
		n.dst = append(raw[:from], '"')
		n.dst = append(n.dst, v.GetStringBytes()...)
		n.dst = append(n.dst, '"')
	}
	return nil
}

func (n *normalizer) list(v *fastjson.Value, level int) error {
	a, err := elements(v)
	if err != nil {
		return err
	}
	n.dst = append(n.dst, '[')
	for i, e := range a {
		if i > 0 {
			n.dst = append(n.dst, ',')
		}
		n.size += memberOverhead
		if err := n.value(e, level); err != nil {
			return err
		}
	}
	n.dst = append(n.dst, ']')
	return nil
}

func (n *normalizer) set(t Type, v *fastjson.Value) error {
	members, err := readSet(t, v, false)
	if err != nil {
		return err
	}
	n.dst = appendSet(n.dst, t, members)
	n.size += Size(Value{Type: t, Set: members})
	return nil
}
