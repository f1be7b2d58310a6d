package expr

import (
	"slices"
	"strconv"
	"strings"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// Eval tells whether the item (nil for none) satisfies the condition.
func (c *Condition) Eval(it attr.Item) (bool, error) { return c.root.eval(it), nil }

func (n *node) eval(it attr.Item) bool {
	switch n.op {
	case opAnd:
		return !slices.ContainsFunc(n.kids, func(kid *node) bool { return !kid.eval(it) })
	case opOr:
		return slices.ContainsFunc(n.kids, func(kid *node) bool { return kid.eval(it) })
	case opNot:
		return !n.kids[0].eval(it)
	case fnExists:
		return n.operands[0].path.find(it) != nil
	case fnNotExists:
		return n.operands[0].path.find(it) == nil
	}
	return n.evalOperands(it)
}

// evalOperands evaluates what looks at its operands' values. One that is
// missing makes everything false but "not equal".
func (n *node) evalOperands(it attr.Item) bool {
	var x, y attr.Value
	left, right := n.operands[0].resolve(it, &x), n.operands[1].resolve(it, &y)
	switch n.op {
	case opNotEqual:
		return left == nil || right == nil || !attr.Equal(*left, *right)
	case opIn:
		return left != nil && n.evalIn(it, left)
	}
	if left == nil || right == nil {
		return false
	}
	switch n.op {
	case opEqual:
		return attr.Equal(*left, *right)
	case fnType:
		return left.Type.String() == right.Str
	case fnBegins:
		return left.Type == right.Type && (left.Type == attr.S || left.Type == attr.B) &&
			strings.HasPrefix(left.Str, right.Str)
	case fnContains:
		return contains(left, right)
	case opBetween:
		var z attr.Value
		high := n.operands[2].resolve(it, &z)
		return high != nil && ordered(opAtLeast, left, right) && ordered(opAtMost, left, high)
	}
	return ordered(n.op, left, right)
}

func (n *node) evalIn(it attr.Item, left *attr.Value) bool {
	for i := range n.operands[1:] {
		var y attr.Value
		if v := n.operands[i+1].resolve(it, &y); v != nil && attr.Equal(*left, *v) {
			return true
		}
	}
	return false
}

// resolve returns the operand's value for the item, nil where it has none. It may use scratch.
func (o *operand) resolve(it attr.Item, scratch *attr.Value) *attr.Value {
	v := &o.value
	if o.path != nil {
		v = o.path.find(it)
	}
	if !o.size || v == nil {
		return v
	}
	size, ok := sizeOf(v)
	if !ok {
		return nil
	}
	*scratch = attr.Value{Type: attr.N, Str: strconv.Itoa(size)}
	return scratch
}

// sizeOf is the function size: of strings and binaries their bytes, of all else the members.
func sizeOf(v *attr.Value) (n int, ok bool) {
	switch v.Type {
	case attr.S, attr.B:
		return len(v.Str), true
	case attr.L:
		return len(v.List), true
	case attr.M:
		return len(v.Map), true
	case attr.SS, attr.NS, attr.BS:
		return len(v.Set), true
	default:
		return 0, false
	}
}

func contains(in, what *attr.Value) bool {
	switch in.Type {
	case attr.S, attr.B:
		return in.Type == what.Type && strings.Contains(in.Str, what.Str)
	case attr.L:
		return slices.ContainsFunc(in.List, func(v attr.Value) bool { return attr.Equal(v, *what) })
	case attr.SS, attr.NS, attr.BS:
		return in.Type.Element() == what.Type && slices.Contains(in.Set, what.Str)
	default:
		return false
	}
}

func ordered(op string, a, b *attr.Value) bool {
	c, ok := attr.Compare(*a, *b)
	if !ok {
		return false
	}
	switch op {
	case opLess:
		return c < 0
	case opAtMost:
		return c <= 0
	case opGreater:
		return c > 0
	default:
		return c >= 0
	}
}
