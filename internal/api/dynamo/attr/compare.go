package attr

import (
	"slices"
	"strings"
)

// MaxItemSize is the largest size of an item in bytes (see ItemSize).
const MaxItemSize = 400 << 10

// nestedOverhead is what a list or a map costs beside its members, each of
// which costs memberOverhead.
const (
	nestedOverhead = 3
	memberOverhead = 1
)

// ItemSize is the size of an item in bytes by DynamoDB's rules: of its names
// in UTF-8 and its values.
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html.
func ItemSize(it Item) int {
	size := 0
	for i := range it {
		size += len(it[i].Name) + Size(it[i].Value)
	}
	return size
}

// Size is the size of a value in bytes by DynamoDB's rules.
func Size(v Value) int {
	switch v.Type {
	case S, B:
		return len(v.Str)
	case N:
		return numberSize(v.Str)
	case BOOL, NULL:
		return 1
	case M:
		return nestedOverhead + memberOverhead*len(v.Map) + ItemSize(v.Map)
	case L:
		size := nestedOverhead
		for i := range v.List {
			size += memberOverhead + Size(v.List[i])
		}
		return size
	case SS, BS:
		size := 0
		for _, s := range v.Set {
			size += len(s)
		}
		return size
	case NS:
		size := 0
		for _, s := range v.Set {
			size += numberSize(s)
		}
		return size
	default:
		return 0
	}
}

// CheckItemSize refuses an item whose size is beyond MaxItemSize.
func CheckItemSize(size int) error {
	if size > MaxItemSize {
		return Invalid("Item size has exceeded the maximum allowed size")
	}
	return nil
}

// MaxDepth is how many levels a document may have, its top attribute included.
const MaxDepth = 32

func errDepth() *Error {
	return Invalid("Nesting Levels have exceeded supported limits: " +
		"Attributes in the item have nested levels beyond supported limit")
}

// CheckDepth refuses an item with an attribute of more than MaxDepth levels.
func CheckDepth(it Item) error { return checkItemDepth(it, 1) }

func checkItemDepth(it Item, level int) error {
	for i := range it {
		if err := checkDepth(&it[i].Value, level); err != nil {
			return err
		}
	}
	return nil
}

func checkDepth(v *Value, level int) error {
	if level > MaxDepth {
		return errDepth()
	}
	for i := range v.List {
		if err := checkDepth(&v.List[i], level+1); err != nil {
			return err
		}
	}
	return checkItemDepth(v.Map, level+1)
}

// Compare orders two values of one scalar type: strings by their UTF-8 bytes, numbers by
// value and exactly, binaries by unsigned bytes. For any others ok is false.
func Compare(a, b Value) (c int, ok bool) {
	if a.Type != b.Type {
		return 0, false
	}
	switch a.Type {
	case S, B:
		return strings.Compare(a.Str, b.Str), true
	case N:
		return compareNumbers(a.Str, b.Str), true
	default:
		return 0, false
	}
}

// Equal compares deeply; sets are equal in whatever order.
func Equal(a, b Value) bool {
	if a.Type != b.Type {
		return false
	}
	switch a.Type {
	case S, N, B:
		return a.Str == b.Str
	case BOOL:
		return a.Bool == b.Bool
	case M:
		return ItemsEqual(a.Map, b.Map)
	case L:
		return slices.EqualFunc(a.List, b.List, Equal)
	case SS, NS, BS:
		return len(a.Set) == len(b.Set) && slices.Equal(sortedSet(a.Type, a.Set), sortedSet(b.Type, b.Set))
	default:
		return true
	}
}

// ItemsEqual tells whether two items have the same attributes with equal values.
func ItemsEqual(a, b Item) bool {
	return slices.EqualFunc(a, b, func(x, y Member) bool {
		return x.Name == y.Name && Equal(x.Value, y.Value)
	})
}

// memberOrder is the order in which the members of a set of that type are stored.
func memberOrder(t Type) func(a, b string) int {
	if t == NS {
		return compareNumbers
	}
	return strings.Compare
}

// sortedSet returns the members of a set in stored order, the argument itself if they are.
func sortedSet(t Type, set []string) []string {
	order := memberOrder(t)
	if slices.IsSortedFunc(set, order) {
		return set
	}
	set = slices.Clone(set)
	slices.SortFunc(set, order)
	return set
}

// SetOf makes a set (t is SS, NS or BS) of members in the form of Value.Str,
// without the doubles among them.
func SetOf(t Type, members ...string) Value {
	set := slices.Clone(members)
	slices.SortFunc(set, memberOrder(t))
	return Value{Type: t, Set: slices.Compact(set)}
}

// Union is the set of what is in a or b, two sets of one type.
func Union(a, b Value) Value {
	return SetOf(a.Type, slices.Concat(a.Set, b.Set)...)
}

// Difference is the set of what is in a and not in b, two sets of one type.
// It may be empty, which no stored set is.
func Difference(a, b Value) Value {
	gone := make(map[string]struct{}, len(b.Set))
	for _, s := range b.Set {
		gone[s] = struct{}{}
	}
	out := Value{Type: a.Type}
	for _, s := range a.Set {
		if _, ok := gone[s]; !ok {
			out.Set = append(out.Set, s)
		}
	}
	return out
}
