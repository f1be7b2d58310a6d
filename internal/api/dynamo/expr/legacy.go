package expr

import (
	"cmp"
	"slices"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// The ComparisonOperators of before there were expressions.
const (
	legacyEqual       = "EQ"
	legacyNotEqual    = "NE"
	legacyAtMost      = "LE"
	legacyLess        = "LT"
	legacyAtLeast     = "GE"
	legacyGreater     = "GT"
	legacyNotNull     = "NOT_NULL"
	legacyNull        = "NULL"
	legacyContains    = "CONTAINS"
	legacyNotContains = "NOT_CONTAINS"
	legacyBeginsWith  = "BEGINS_WITH"
	legacyIn          = "IN"
	legacyBetween     = "BETWEEN"
)

// The Actions of AttributeUpdates, beside ADD and DELETE.
const legacyPut = "PUT"

// ComparisonOperators lists the operators that a Comparison can have, in the
// order of DynamoDB's messages.
func ComparisonOperators() []string {
	return []string{
		legacyIn, legacyNull, legacyBetween, legacyLess, legacyNotContains, legacyEqual, legacyGreater,
		legacyNotNull, legacyNotEqual, legacyAtMost, legacyBeginsWith, legacyAtLeast, legacyContains,
	}
}

// Actions lists the actions that a Change can have, in the order of DynamoDB's messages.
func Actions() []string { return []string{opAdd, legacyPut, opDelete} }

// Comparison is a condition on a top-level attribute in the form of before
// there were expressions, as Expected, KeyConditions, QueryFilter and
// ScanFilter have it.
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/LegacyConditionalParameters.Conditions.html.
type Comparison struct {
	Name   string
	Op     string // one of ComparisonOperators
	Values []attr.Value
}

// Check refuses operands that the operator doesn't take: as many as it takes,
// of one type, which the operator can compare.
func (c *Comparison) Check() error {
	const invalid = "One or more parameter values were invalid: "
	n, takes := len(c.Values), 1
	if !slices.Contains(ComparisonOperators(), c.Op) {
		return attr.Invalid(invalid+"ComparisonOperator %s is not known", c.Op)
	}
	switch c.Op {
	case legacyNull, legacyNotNull:
		takes = 0
	case legacyBetween:
		takes = 2
	case legacyIn:
		takes = max(1, n)
	}
	if n != takes {
		return attr.Invalid(invalid+"Invalid number of argument(s) for the %s ComparisonOperator", c.Op)
	}
	for i := range c.Values {
		if c.Values[i].Type != c.Values[0].Type {
			return attr.Invalid(invalid + "AttributeValues inside AttributeValueList must be of same type")
		}
	}
	if n > 0 && !c.takesType(c.Values[0].Type) {
		return attr.Invalid(invalid+"ComparisonOperator %s is not valid for %s AttributeValue type", c.Op, c.Values[0].Type)
	}
	if c.Op == legacyBetween {
		if order, ok := attr.Compare(c.Values[0], c.Values[1]); ok && order > 0 {
			return attr.Invalid("The BETWEEN condition was provided a range where the lower bound is greater than the upper bound")
		}
	}
	return nil
}

func (c *Comparison) takesType(t attr.Type) bool {
	switch c.Op {
	case legacyEqual, legacyNotEqual:
		return true
	case legacyBeginsWith:
		return t == attr.S || t == attr.B
	case legacyContains, legacyNotContains:
		return t == attr.S || t == attr.N || t == attr.B || t == attr.BOOL || t == attr.NULL
	default:
		return t == attr.S || t == attr.N || t == attr.B
	}
}

// node is the comparison as an expression has it.
func (c *Comparison) node() *node {
	n := &node{operands: []operand{{path: path{{name: c.Name}}}}}
	for _, v := range c.Values {
		n.operands = append(n.operands, operand{value: v})
	}
	switch c.Op {
	case legacyNotEqual:
		n.op = opNotEqual
	case legacyAtMost:
		n.op = opAtMost
	case legacyLess:
		n.op = opLess
	case legacyAtLeast:
		n.op = opAtLeast
	case legacyGreater:
		n.op = opGreater
	case legacyNotNull:
		n.op = fnExists
	case legacyNull:
		n.op = fnNotExists
	case legacyContains:
		n.op = fnContains
	case legacyNotContains: // false for what is not there
		n.op = fnContains
		return &node{op: opAnd, kids: []*node{
			{op: fnExists, operands: n.operands[:1]}, {op: opNot, kids: []*node{n}},
		}}
	case legacyBeginsWith:
		n.op = fnBegins
	case legacyIn:
		n.op = opIn
	case legacyBetween:
		n.op = opBetween
	default:
		n.op = opEqual
	}
	return n
}

// CompareAll is the condition that all of the comparisons hold, or any of them.
// Of none it is nil.
func CompareAll(list []Comparison, anyOf bool) *Condition {
	root := &node{op: opAnd}
	if anyOf {
		root.op = opOr
	}
	for i := range list {
		root.kids = append(root.kids, list[i].node())
	}
	switch len(root.kids) {
	case 0:
		return nil
	case 1:
		root = root.kids[0]
	}
	return &Condition{root: root}
}

// CompareKeys is the key condition that comparisons ask for, which have been
// checked, for a table or index with these key attributes; sortName is empty
// where there is no sort key.
func CompareKeys(list []Comparison, partitionName, sortName string) (*KeyCondition, error) {
	if len(list) != 1 && len(list) != 2 {
		return nil, attr.Invalid("Conditions can be of length 1 or 2 only")
	}
	if sortName == "" && len(list) > 1 {
		return nil, errNotSupported()
	}
	var clauses []keyClause
	names := []string{partitionName, sortName}[:len(list)]
	for at, name := range names {
		i := slices.IndexFunc(list, func(c Comparison) bool { return c.Name == name })
		if i < 0 {
			return nil, errMissedKey(name)
		}
		n := list[i].node()
		switch list[i].Op {
		case legacyNull, legacyNotNull, legacyNotEqual, legacyContains, legacyNotContains, legacyIn:
			return nil, attr.Invalid("Attempted conditional constraint is not an indexable operation")
		case legacyEqual:
		default:
			if at == 0 {
				return nil, errNotSupported()
			}
		}
		c := keyClause{name: name, op: sortOp(n.op, false), low: list[i].Values[0]}
		if c.op == SortBetween {
			c.high = list[i].Values[1]
		}
		clauses = append(clauses, c)
	}
	out := &KeyCondition{partitionName: partitionName, sortName: sortName}
	return out, out.assign(clauses)
}

// Change is what AttributeUpdates asks of one top-level attribute.
// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/LegacyConditionalParameters.AttributeUpdates.html.
type Change struct {
	Name   string
	Action string     // one of Actions
	Value  attr.Value // of type None where there is none
}

// Check refuses a value that the action doesn't take.
func (c *Change) Check() error {
	const invalid = "One or more parameter values were invalid: "
	switch t := c.Value.Type; {
	case !slices.Contains(Actions(), c.Action):
		return attr.Invalid(invalid+"Action %s is not known", c.Action)
	case t == attr.None && c.Action != opDelete:
		return attr.Invalid(invalid + "Only DELETE action is allowed when no attribute value is specified")
	case c.Action == opDelete && t != attr.None && !t.IsSet():
		return attr.Invalid(invalid+"DELETE action with value is not supported for the type %s", t)
	case c.Action == opAdd && t != attr.N && t != attr.L && !t.IsSet():
		return attr.Invalid(invalid+"ADD action is not supported for the type %s", t)
	}
	return nil
}

// ChangeAll is the update that makes all of the changes, which have been
// checked and are of one attribute each. Of none it is nil.
func ChangeAll(list []Change) *Update {
	if len(list) == 0 {
		return nil
	}
	list = slices.SortedFunc(slices.Values(list), func(a, b Change) int { return cmp.Compare(a.Name, b.Name) })
	u := &Update{}
	for i, c := range list {
		a := action{section: c.Action, value: &formula{value: c.Value}, legacy: true}
		switch {
		case c.Action == legacyPut:
			a.section = opSet
		case c.Value.Type == attr.None:
			a.section = opRemove
		}
		u.actions = append(u.actions, a)
		e := element{name: c.Name}
		u.root.children = append(u.root.children, branch{e, &tree{leaf: true, action: i, via: path{e}}})
	}
	return u
}
