package expr

import (
	"slices"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// SortOp is the comparison that a key condition makes with the sort key.
type SortOp uint8

// The comparisons with a sort key.
const (
	SortAny SortOp = iota // no condition on the sort key
	SortEqual
	SortLess
	SortLessEqual
	SortGreater
	SortGreaterEqual
	SortBetween
	SortBeginsWith
)

// KeyCondition is a parsed key condition: one partition and a range of sort keys.
type KeyCondition struct {
	Partition attr.Value
	Op        SortOp
	Low       attr.Value // the operand; of SortBetween the lower one
	High      attr.Value // the upper operand of SortBetween

	partitionName, sortName string
}

// keyClause is a condition on one key attribute.
type keyClause struct {
	name      string
	op        SortOp
	low, high attr.Value
}

// ParseKeyCondition parses a key condition for a table or index with these key
// attributes; sortName is empty where there is no sort key.
func ParseKeyCondition(text string, params *Params, partitionName, sortName string) (*KeyCondition, error) {
	root, err := parseCondition(KindKeyCondition, text, params)
	if err != nil {
		return nil, err
	}
	clauses, err := keyClauses(root, nil)
	if err != nil {
		return nil, err
	}
	out := &KeyCondition{partitionName: partitionName, sortName: sortName}
	if err := out.assign(clauses); err != nil {
		return nil, err
	}
	return out, nil
}

// keyClauses takes a condition apart into clauses on attributes.
func keyClauses(n *node, clauses []keyClause) ([]keyClause, error) {
	switch n.op {
	case opAnd:
		var err error
		for _, kid := range n.kids {
			if clauses, err = keyClauses(kid, clauses); err != nil {
				return nil, err
			}
		}
		return clauses, nil
	case opOr, opNot, opIn, opNotEqual, fnExists, fnNotExists, fnType, fnContains:
		return nil, attr.Invalid("Invalid operator used in KeyConditionExpression: %s", n.op)
	}
	c, err := newKeyClause(n)
	if err != nil {
		return nil, err
	}
	for _, other := range clauses {
		if other.name == c.name {
			return nil, errKeyCondition("KeyConditionExpressions must only contain one condition per key")
		}
	}
	return append(clauses, c), nil
}

func errKeyCondition(text string) *attr.Error {
	return attr.Invalid("Invalid %s: %s", KindKeyCondition, text)
}

func newKeyClause(n *node) (keyClause, error) {
	at := slices.IndexFunc(n.operands, func(o operand) bool { return o.path != nil })
	switch {
	case slices.ContainsFunc(n.operands, func(o operand) bool { return o.size }):
		return keyClause{}, errKeyCondition("KeyConditionExpressions cannot contain nested operations")
	case at != 0 && (n.op == opBetween || n.op == fnBegins):
		return keyClause{}, attr.Invalid("Invalid condition in KeyConditionExpression: "+
			"%s operator must have the key attribute as its first operand", n.op)
	case at < 0:
		return keyClause{}, attr.Invalid("Invalid condition in KeyConditionExpression: No key attribute specified")
	case slices.ContainsFunc(n.operands[at+1:], func(o operand) bool { return o.path != nil }):
		return keyClause{}, attr.Invalid("Invalid condition in KeyConditionExpression: " +
			"Multiple attribute names used in one condition")
	case len(n.operands[at].path) > 1:
		return keyClause{}, errKeyCondition("KeyConditionExpressions cannot have conditions on nested attributes")
	}
	c := keyClause{name: n.operands[at].path[0].name, op: sortOp(n.op, at > 0), low: n.operands[1-at].value}
	if n.op == opBetween {
		c.high = n.operands[2].value
	}
	return c, nil
}

// sortOp is the comparison with the attribute on the left, be it there or not.
func sortOp(op string, swapped bool) SortOp {
	if swapped {
		switch op {
		case opLess:
			return SortGreater
		case opAtMost:
			return SortGreaterEqual
		case opGreater:
			return SortLess
		case opAtLeast:
			return SortLessEqual
		}
	}
	switch op {
	case opLess:
		return SortLess
	case opAtMost:
		return SortLessEqual
	case opGreater:
		return SortGreater
	case opAtLeast:
		return SortGreaterEqual
	case opBetween:
		return SortBetween
	case fnBegins:
		return SortBeginsWith
	default:
		return SortEqual
	}
}

// assign gives the clauses to the keys.
func (k *KeyCondition) assign(clauses []keyClause) error {
	keys := 1
	if k.sortName != "" {
		keys = 2
	}
	if len(clauses) > keys {
		return attr.Invalid("The number of query conditions (%d) exceeds the number of key attributes "+
			"defined in the schema (%d)", len(clauses), keys)
	}
	i := slices.IndexFunc(clauses, func(c keyClause) bool { return c.name == k.partitionName })
	switch {
	case i < 0:
		return errMissedKey(k.partitionName)
	case clauses[i].op != SortEqual:
		return errNotSupported()
	}
	k.Partition = clauses[i].low
	if len(clauses) == 1 {
		return nil
	}
	c := clauses[1-i]
	if c.name != k.sortName {
		return errMissedKey(k.sortName)
	}
	k.Op, k.Low, k.High = c.op, c.low, c.high
	return nil
}

func errNotSupported() *attr.Error { return attr.Invalid("Query key condition not supported") }

func errMissedKey(name string) *attr.Error {
	return attr.Invalid("Query condition missed key schema element: %s", name)
}

// CheckTypes refuses operands that are not of the declared key types ("S", "N"
// or "B"), and keys that no item can have.
func (k *KeyCondition) CheckTypes(partitionType, sortType string) error {
	if err := checkOperand(k.partitionName, partitionType, k.Partition); err != nil || k.Op == SortAny {
		return err
	}
	if err := checkOperand(k.sortName, sortType, k.Low); err != nil || k.Op != SortBetween {
		return err
	}
	return checkOperand(k.sortName, sortType, k.High)
}

func checkOperand(name, typ string, v attr.Value) error {
	if v.Type.String() != typ {
		return attr.Invalid("One or more parameter values were invalid: " +
			"Condition parameter type does not match schema type")
	}
	return attr.CheckKey(name, typ, v)
}

// Bounds are the encoded sort keys (see attr.AppendKey) that satisfy the
// condition, [lower, upper). Nil is open.
func (k *KeyCondition) Bounds() (lower, upper []byte, err error) {
	if k.Op == SortAny {
		return nil, nil, nil
	}
	low, err := attr.AppendKey([]byte{}, k.Low) // not nil, even for nothing
	if err != nil {
		return nil, nil, err
	}
	switch k.Op {
	case SortLess:
		return nil, low, nil
	case SortLessEqual:
		return nil, after(low), nil
	case SortGreater:
		return after(low), nil, nil
	case SortGreaterEqual:
		return low, nil, nil
	case SortBetween:
		high, err := attr.AppendKey(nil, k.High)
		if err != nil {
			return nil, nil, err
		}
		return low, after(high), nil
	case SortBeginsWith:
		return low, afterPrefix(low), nil
	default:
		return low, after(low), nil
	}
}

// after is the first string of bytes behind b.
func after(b []byte) []byte { return append(slices.Clone(b), 0) }

// afterPrefix is the first string of bytes behind all those that begin with b,
// nil if there is none.
func afterPrefix(b []byte) []byte {
	for i, c := range slices.Backward(b) {
		if c < 0xff {
			return append(slices.Clone(b[:i]), c+1)
		}
	}
	return nil
}
