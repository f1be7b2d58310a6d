package expr

import (
	"slices"
	"strings"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// The operators and functions of conditions, as their text has them.
const (
	opAnd       = "AND"
	opOr        = "OR"
	opNot       = "NOT"
	opEqual     = "="
	opNotEqual  = "<>"
	opLess      = "<"
	opAtMost    = "<="
	opGreater   = ">"
	opAtLeast   = ">="
	opBetween   = "BETWEEN"
	opIn        = "IN"
	fnExists    = "attribute_exists"
	fnNotExists = "attribute_not_exists"
	fnType      = "attribute_type"
	fnBegins    = "begins_with"
	fnContains  = "contains"
	fnSize      = "size"
)

// Condition is a parsed condition or filter.
type Condition struct {
	root *node
}

// node is an operator or function that is true or false: AND, OR and NOT have
// kids, all others operands.
type node struct {
	op       string
	kids     []*node
	operands []operand
}

// operand is a path, or the size of one (or of a value), or else a value.
type operand struct {
	path  path
	value attr.Value
	size  bool
}

// static is the type that an operand has whatever the item, or None.
func (o *operand) static() attr.Type {
	switch {
	case o.size:
		return attr.N
	case o.path != nil:
		return attr.None
	default:
		return o.value.Type
	}
}

// ParseCondition parses a condition or filter expression; kind is KindCondition or KindFilter.
func ParseCondition(kind Kind, text string, params *Params) (*Condition, error) {
	root, err := parseCondition(kind, text, params)
	if err != nil {
		return nil, err
	}
	return &Condition{root: root}, nil
}

func parseCondition(kind Kind, text string, params *Params) (*node, error) {
	p := newParser(kind, text, params)
	root := p.condition(p.or())
	if err := p.outcome(); err != nil {
		return nil, err
	}
	return root, nil
}

// term is what a part of an expression was read as: a condition, or an operand
// of one, or a function of which only its place tells.
type term struct {
	cond    *node
	operand operand
	call    string // the function's name
	wrapped bool   // it stands in parentheses
}

// condition takes a term where a condition is due.
func (p *parser) condition(t term) *node {
	switch {
	case t.call == fnSize:
		p.misused(t.call)
	case t.cond == nil:
		p.unexpected()
	}
	if t.cond == nil {
		return &node{op: opOr}
	}
	return t.cond
}

// asOperand takes a term where an operand is due.
func (p *parser) asOperand(t term) operand {
	switch {
	case t.call != "" && t.call != fnSize:
		p.misused(t.call)
	case t.cond != nil && t.call == "":
		p.unexpected()
	}
	return t.operand
}

func (p *parser) misused(name string) {
	p.note(classFunctionUse, "The function is not allowed to be used this way in an expression; function: %s", name)
}

func (p *parser) or() term { return p.chain(opOr, p.and) }

func (p *parser) and() term { return p.chain(opAnd, p.not) }

// chain reads one or more terms with the operator between them.
func (p *parser) chain(op string, read func() term) term {
	t := read()
	if !p.peek().keyword(op) {
		return t
	}
	n := &node{op: op, kids: []*node{p.condition(t)}}
	for p.acceptKeyword(op) {
		p.count()
		n.kids = append(n.kids, p.condition(read()))
	}
	return term{cond: n}
}

func (p *parser) not() term {
	if !p.acceptKeyword(opNot) {
		return p.comparison()
	}
	p.count()
	return term{cond: &node{op: opNot, kids: []*node{p.condition(p.not())}}}
}

// comparison reads a comparison, or what could be the whole of a condition.
func (p *parser) comparison() term {
	left := p.primary()
	if left.cond != nil && left.call == "" {
		return left
	}
	sign := p.peek()
	switch {
	case sign.kind == tokenSign && isComparator(sign.text):
		p.take()
		return p.compare(sign.text, left)
	case p.acceptKeyword(opBetween):
		return p.between(left)
	case p.acceptKeyword(opIn):
		return p.in(left)
	}
	if left.call != "" {
		p.endLeaf()
	}
	return left
}

func isComparator(sign string) bool {
	switch sign {
	case opEqual, opNotEqual, opLess, opAtMost, opGreater, opAtLeast:
		return true
	}
	return false
}

func (p *parser) compare(op string, left term) term {
	p.count()
	n := &node{op: op, operands: []operand{p.asOperand(left), p.asOperand(p.primary())}}
	p.checkDistinct(op, n.operands)
	if op != opEqual && op != opNotEqual {
		p.checkOrdered(op, n.operands)
	}
	p.endLeaf()
	return term{cond: n}
}

func (p *parser) between(left term) term {
	p.count()
	n := &node{op: opBetween, operands: []operand{p.asOperand(left), p.asOperand(p.primary())}}
	if !p.acceptKeyword(opAnd) {
		p.unexpected()
	}
	n.operands = append(n.operands, p.asOperand(p.primary()))
	p.checkOrdered(opBetween, n.operands)
	p.checkBounds(n.operands[1], n.operands[2])
	p.endLeaf()
	return term{cond: n}
}

func (p *parser) in(left term) term {
	p.count()
	n := &node{op: opIn, operands: []operand{p.asOperand(left)}}
	p.expect("(")
	n.operands = append(n.operands, p.list()...)
	if given := len(n.operands) - 1; given > maxOperands {
		p.note(classCount, "The IN operator is provided with too many operands; number of operands: %d", given)
	}
	p.endLeaf()
	return term{cond: n}
}

// list reads operands up to the closing parenthesis.
func (p *parser) list() []operand {
	var out []operand
	for p.err == nil {
		out = append(out, p.asOperand(p.primary()))
		if !p.accept(",") {
			break
		}
	}
	p.expect(")")
	return out
}

// primary reads a function, a value, a path, or anything in parentheses.
func (p *parser) primary() term {
	t := p.peek()
	switch {
	case t.is("("):
		return p.parentheses()
	case p.isCall() && !p.isKeyword(t):
		return p.call()
	case t.kind == tokenValue:
		return term{operand: operand{value: p.value()}}
	}
	return term{operand: operand{path: p.path()}}
}

func (p *parser) parentheses() term {
	p.enter()
	defer p.leave()
	p.expect("(")
	t := p.or()
	p.expect(")")
	if t.wrapped {
		p.note(classParens, "The expression has redundant parentheses;")
	}
	t.wrapped = true
	return t
}

func (p *parser) call() term {
	name := p.take().text
	p.count()
	p.expect("(")
	operands := p.list()
	if p.err != nil || !p.checkCall(name, operands) {
		return term{cond: &node{op: opOr}, call: name}
	}
	if name == fnSize {
		operands[0].size = true
		return term{operand: operands[0], call: name}
	}
	return term{cond: &node{op: name, operands: operands}, call: name}
}

// checkCall checks a function's name and operands, and tells whether there are as many as it takes.
func (p *parser) checkCall(name string, operands []operand) bool {
	takes := 2
	switch name {
	case fnExists, fnNotExists, fnSize:
		takes = 1
	case fnType, fnBegins, fnContains:
	case fnIfNotExists, fnListAppend:
		p.note(classFunctionName, "The function is not allowed in a condition expression; function: %s", name)
		return false
	default:
		p.note(classFunctionName, "Invalid function name; function: %s", name)
		return false
	}
	if len(operands) != takes {
		p.wrongCount(classCount, name, len(operands))
		return false
	}
	if takes == 2 {
		p.checkDistinct(name, operands)
	}
	p.checkFunction(name, operands)
	return true
}

func (p *parser) checkFunction(name string, operands []operand) {
	first := &operands[0]
	switch name {
	case fnExists, fnNotExists:
		if first.path == nil || first.size {
			p.note(classType, "Operator or function requires a document path; operator or function: %s", name)
		}
	case fnSize:
		if t := first.static(); t == attr.N || t == attr.BOOL || t == attr.NULL {
			p.wrongType(name, t.String())
		}
	case fnBegins:
		for i := range operands {
			if t := operands[i].static(); t != attr.None && t != attr.S && t != attr.B {
				p.wrongType(name, t.String())
				return
			}
		}
	case fnType:
		wanted := &operands[1]
		switch t := wanted.static(); {
		case t == attr.None:
			p.wrongType(name, "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}")
		case t != attr.S:
			p.wrongType(name, t.String())
		case attr.TypeOf(wanted.value.Str) == attr.None:
			p.note(classType, "Invalid attribute type name found; type: %s, "+
				"valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}", wanted.value.Str)
		}
	}
}

// checkDistinct refuses a comparison of a path with itself.
func (p *parser) checkDistinct(name string, operands []operand) {
	a, b := &operands[0], &operands[1]
	if a.path == nil || a.size || b.size || p.err != nil || !slices.Equal(a.path, b.path) {
		return
	}
	p.note(classDistinct, "The first operand must be distinct from the remaining operands for this "+
		"operator or function; operator: %s, first operand: %s", name, a.path)
}

// checkOrdered refuses operands of types that have no order.
func (p *parser) checkOrdered(op string, operands []operand) {
	for i := range operands {
		switch t := operands[i].static(); t {
		case attr.None, attr.S, attr.N, attr.B:
		default:
			p.wrongType(op, t.String())
			return
		}
	}
}

// checkBounds refuses bounds that nothing can lie between.
func (p *parser) checkBounds(low, high operand) {
	if low.path != nil || high.path != nil || low.size || high.size ||
		low.value.Type == attr.None || high.value.Type == attr.None {
		return
	}
	c, ok := attr.Compare(low.value, high.value)
	rule := "upper bound to be greater than or equal to lower bound"
	switch {
	case low.value.Type != high.value.Type:
		rule = "same data type for lower and upper bounds"
	case !ok || c <= 0:
		return
	}
	p.note(classType, "The BETWEEN operator requires %s; "+
		"lower bound operand: AttributeValue: {%s:%s}, upper bound operand: AttributeValue: {%s:%s}",
		rule, low.value.Type, scalarText(low.value), high.value.Type, scalarText(high.value))
}

// scalarText is how a message shows a value of a type that has an order.
func scalarText(v attr.Value) string {
	if v.Type != attr.B {
		return v.Str
	}
	json := string(attr.AppendValue(nil, v)) // {"B":"..."}
	return strings.TrimSuffix(strings.TrimPrefix(json, `{"B":"`), `"}`)
}

// Attributes lists the top-level attributes that the condition names, sorted.
func (c *Condition) Attributes() []string {
	names := c.root.attributes(nil)
	slices.Sort(names)
	return slices.Compact(names)
}

func (n *node) attributes(names []string) []string {
	for _, kid := range n.kids {
		names = kid.attributes(names)
	}
	for i := range n.operands {
		if to := n.operands[i].path; to != nil {
			names = append(names, to[0].name)
		}
	}
	return names
}

// CheckNoKeys refuses a filter that names one of the key attributes given. What
// is how the message calls the filter.
func (c *Condition) CheckNoKeys(what string, names ...string) error {
	used := c.Attributes()
	for _, name := range names {
		if slices.Contains(used, name) {
			return attr.Invalid("%s can only contain non-primary key attributes: Primary key attribute: %s", what, name)
		}
	}
	return nil
}
