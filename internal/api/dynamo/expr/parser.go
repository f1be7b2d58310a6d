package expr

import (
	"slices"
	"strconv"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// class orders the things that can be wrong with a well-formed expression: of
// several, DynamoDB reports the one of the lowest class, and of these the first.
type class int

const (
	classParens class = iota
	classReserved
	classFunctionName
	classFunctionUse
	classReservedInCondition // there, functions come first
	classSection
	className // from here on, conditions report each comparison by itself
	classValue
	classOverlap
	classConflict
	classOperand
	classCount
	classDistinct
	classType
	classes
)

// parser is the state that parsing any kind of expression shares. After a
// syntax error it finds nothing but the end, so that whoever is at work returns.
type parser struct {
	kind   Kind
	text   string
	tokens []token
	pos    int
	params *Params

	nesting   int
	operators int

	err   *attr.Error // a syntax error, or a limit: comes before all notes
	notes [classes]*attr.Error
	leaf  *attr.Error // what is wrong with the first comparison that is
}

func newParser(kind Kind, text string, params *Params) *parser {
	p := &parser{kind: kind, text: text, params: params}
	switch {
	case len(text) > maxText:
		p.fail("Expression size has exceeded the maximum allowed size; expression size: %d", len(text))
	case text == "":
		p.fail("The expression can not be empty;")
	default:
		p.tokens = tokenize(text)
	}
	return p
}

// fail ends parsing.
func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = p.invalid(format, args...)
	}
	p.tokens, p.pos = nil, 0
}

func (p *parser) invalid(format string, args ...any) *attr.Error {
	return attr.Invalid("Invalid "+string(p.kind)+": "+format, args...)
}

// note keeps the first error of a class.
func (p *parser) note(c class, format string, args ...any) {
	if p.notes[c] == nil {
		p.notes[c] = p.invalid(format, args...)
	}
}

// endLeaf closes a comparison: errors in it come before those in later ones.
func (p *parser) endLeaf() {
	for c := className; c < classes && p.leaf == nil; c++ {
		p.leaf = p.notes[c]
	}
}

// outcome is the error to report once all was read, nil for none.
func (p *parser) outcome() error {
	if t := p.peek(); t.kind != tokenEnd {
		p.unexpected()
	}
	if p.err != nil {
		return p.err
	}
	for c := range classes {
		if c == className && p.leaf != nil {
			return p.leaf
		}
		if p.notes[c] != nil {
			return p.notes[c]
		}
	}
	return nil
}

func (p *parser) peek() token { return p.peekAt(0) }

func (p *parser) peekAt(n int) token {
	if p.pos+n >= len(p.tokens) {
		return token{kind: tokenEnd, from: len(p.text), to: len(p.text), text: "<EOF>"}
	}
	return p.tokens[p.pos+n]
}

func (p *parser) take() token {
	t := p.peek()
	if t.kind != tokenEnd {
		p.pos++
	}
	return t
}

// accept takes the sign if it is next.
func (p *parser) accept(sign string) bool {
	if p.peek().is(sign) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) expect(sign string) {
	if !p.accept(sign) {
		p.unexpected()
	}
}

// acceptKeyword takes the keyword if it is next.
func (p *parser) acceptKeyword(word string) bool {
	if p.peek().keyword(word) {
		p.pos++
		return true
	}
	return false
}

// unexpected reports that the next token can't stand where it does, with its neighbours.
func (p *parser) unexpected() {
	if p.err != nil {
		return
	}
	bad, after := p.peek(), p.peekAt(1)
	from, to := bad.from, bad.to
	if p.pos > 0 {
		from = p.tokens[p.pos-1].from
	}
	if after.kind != tokenEnd {
		to = after.to
	}
	if bad.kind == tokenEnd && p.pos > 0 {
		to = p.tokens[p.pos-1].to
	}
	p.fail(`Syntax error; token: "%s", near: "%s"`, bad.text, p.text[from:to])
}

// enter goes one level of parentheses deeper; leave comes back.
func (p *parser) enter() {
	p.nesting++
	if p.nesting > maxNesting {
		p.fail("The expression has redundant parentheses;")
	}
}

func (p *parser) leave() { p.nesting-- }

// count counts an operator or a function.
func (p *parser) count() {
	p.operators++
	if p.operators > maxOperators {
		p.fail("The expression contains too many operators; operator count: %d", p.operators)
	}
}

// isKeyword tells whether a word has a meaning of its own in this kind of expression, so
// that it can't name an attribute.
func (p *parser) isKeyword(t token) bool {
	switch p.kind {
	case KindProjection:
		return false
	case KindUpdate:
		return slices.ContainsFunc([]string{opSet, opRemove, opAdd, opDelete}, t.keyword)
	default:
		return slices.ContainsFunc([]string{opAnd, opOr, opNot, opBetween, opIn}, t.keyword)
	}
}

// path reads a document path.
func (p *parser) path() path {
	out := path{p.pathName()}
	for p.err == nil {
		switch {
		case p.accept("."):
			out = append(out, p.pathName())
		case p.accept("["):
			out = append(out, p.pathIndex())
			p.expect("]")
		default:
			if len(out) > maxPath {
				p.note(className, "The document path has too many nesting levels; nesting levels: %d", len(out))
			}
			return out
		}
	}
	return out
}

func (p *parser) pathName() element {
	t := p.peek()
	switch {
	case t.kind == tokenName:
		p.take()
		name, ok := p.params.name(t.text)
		if !ok {
			p.note(className, "An expression attribute name used in the document path is not defined; "+
				"attribute name: %s", t.text)
		}
		return element{name: name}
	case t.kind == tokenWord && !p.isKeyword(t):
		p.take()
		if isReserved(t.text) {
			c := classReservedInCondition
			if p.kind == KindUpdate || p.kind == KindProjection {
				c = classReserved
			}
			p.note(c, "Attribute name is a reserved keyword; reserved keyword: %s", t.text)
		}
		return element{name: t.text}
	}
	p.unexpected()
	return element{}
}

func (p *parser) pathIndex() element {
	t := p.peek()
	if t.kind != tokenNumber {
		p.unexpected()
		return element{}
	}
	p.take()
	i, err := strconv.ParseInt(t.text, 10, 32)
	if err != nil {
		p.note(className, "List index is not within the allowable range; index: [%s]", t.text)
	}
	return element{index: int(i), isIndex: true}
}

// value reads a :value that the caller has seen to be next.
func (p *parser) value() attr.Value {
	t := p.take()
	v, ok := p.params.value(t.text)
	if !ok {
		c := className
		if p.kind == KindUpdate {
			c = classValue
		}
		p.note(c, "An expression attribute value used in expression is not defined; attribute value: %s", t.text)
	}
	return v
}

// isCall tells whether a function call is next.
func (p *parser) isCall() bool {
	return p.peek().kind == tokenWord && p.peekAt(1).is("(")
}

// wrongCount notes a function that has not as many operands as it takes.
func (p *parser) wrongCount(c class, name string, n int) {
	p.note(c, "Incorrect number of operands for operator or function; "+
		"operator or function: %s, number of operands: %d", name, n)
}

// wrongType notes an operand of a type that the function or operator can't take.
func (p *parser) wrongType(name, typ string) {
	p.note(classType, "Incorrect operand type for operator or function; "+
		"operator or function: %s, operand type: %s", name, typ)
}
