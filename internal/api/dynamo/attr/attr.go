// Package attr is DynamoDB's data model: attribute values, items, their JSON
// form, their sizes, their order, their arithmetic and the bytes of their keys.
//
// An item is stored and served as normalised DynamoDB JSON: attribute names
// sorted, numbers in the form that DynamoDB prints, no white space. Everything
// that reads a client's JSON validates it and says what is wrong in
// DynamoDB's own words, as an *Error.
//
// Values and items are plain data without locks or owners. Functions never
// change their arguments, so a value may be read by any number of goroutines.
// There is nothing to close.
package attr

import (
	"slices"
	"strings"
)

// Type says which of DynamoDB's data types a value has.
type Type uint8

// The data types, None being the zero value, which is no valid attribute value.
const (
	None Type = iota
	S
	N
	B
	BOOL
	NULL
	M
	L
	SS
	NS
	BS
)

// String returns the type's name as it stands in JSON.
func (t Type) String() string {
	switch t {
	case S:
		return "S"
	case N:
		return "N"
	case B:
		return "B"
	case BOOL:
		return "BOOL"
	case NULL:
		return "NULL"
	case M:
		return "M"
	case L:
		return "L"
	case SS:
		return "SS"
	case NS:
		return "NS"
	case BS:
		return "BS"
	default:
		return ""
	}
}

// TypeOf is the type with that JSON name, or None.
func TypeOf(name string) Type {
	switch name {
	case "S":
		return S
	case "N":
		return N
	case "B":
		return B
	case "BOOL":
		return BOOL
	case "NULL":
		return NULL
	case "M":
		return M
	case "L":
		return L
	case "SS":
		return SS
	case "NS":
		return NS
	case "BS":
		return BS
	default:
		return None
	}
}

// IsSet tells whether t is one of SS, NS and BS.
func (t Type) IsSet() bool { return t >= SS && t <= BS }

// Element is the type of a set's members, or None when t is no set.
func (t Type) Element() Type {
	switch t {
	case SS:
		return S
	case NS:
		return N
	case BS:
		return B
	default:
		return None
	}
}

// Value is one attribute value. The field that counts is given by Type.
type Value struct {
	Type Type
	Bool bool     // BOOL
	Str  string   // S; N in normal form (see NormalizeNumber); B as raw bytes
	List []Value  // L
	Map  Item     // M
	Set  []string // SS, NS, BS: members in the form of Str, in any order
}

// String makes a string value.
func String(s string) Value { return Value{Type: S, Str: s} }

// Bytes makes a binary value.
func Bytes(b []byte) Value { return Value{Type: B, Str: string(b)} }

// Bool makes a Boolean value.
func Bool(b bool) Value { return Value{Type: BOOL, Bool: b} }

// Null makes the null value.
func Null() Value { return Value{Type: NULL} }

// Number makes a number out of decimal text, such as "-1.5e3".
func Number(s string) (Value, error) {
	n, err := NormalizeNumber(s)
	if err != nil {
		return Value{}, err
	}
	return Value{Type: N, Str: n}, nil
}

// Member is a named value of an Item.
type Member struct {
	Name  string
	Value Value
}

// Item is a set of named values, sorted by name, each name once: a whole item
// or the content of a map.
type Item []Member

func byName(m Member, name string) int { return strings.Compare(m.Name, name) }

// NewItem makes an item of members in any order; of two of one name the last counts.
func NewItem(members ...Member) Item {
	it := make(Item, len(members))
	copy(it, members)
	return sortMembers(it)
}

// Get returns the value of that name.
func (it Item) Get(name string) (Value, bool) {
	i, ok := slices.BinarySearchFunc(it, name, byName)
	if !ok {
		return Value{}, false
	}
	return it[i].Value, true
}

// Find returns a pointer to the value of that name, nil if there is none. The
// value is shared: it is to be read only.
func (it Item) Find(name string) *Value {
	i, ok := slices.BinarySearchFunc(it, name, byName)
	if !ok {
		return nil
	}
	return &it[i].Value
}

// With returns a copy of the item in which name has the value v.
func (it Item) With(name string, v Value) Item {
	i, ok := slices.BinarySearchFunc(it, name, byName)
	if ok {
		out := slices.Clone(it)
		out[i].Value = v
		return out
	}
	out := make(Item, 0, len(it)+1)
	out = append(out, it[:i]...)
	out = append(out, Member{Name: name, Value: v})
	return append(out, it[i:]...)
}

// Without returns the item without the value of that name: a copy if there was one.
func (it Item) Without(name string) Item {
	i, ok := slices.BinarySearchFunc(it, name, byName)
	if !ok {
		return it
	}
	out := make(Item, 0, len(it)-1)
	out = append(out, it[:i]...)
	return append(out, it[i+1:]...)
}

// sortMembers sorts in place by name and keeps the last of equal names.
func sortMembers(it Item) Item {
	compare := func(a, b Member) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(it, compare) {
		slices.SortStableFunc(it, compare)
	}
	out := it[:0]
	for _, m := range it {
		if n := len(out); n > 0 && out[n-1].Name == m.Name {
			out[n-1] = m
			continue
		}
		out = append(out, m)
	}
	return out
}
