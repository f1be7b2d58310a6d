package expr

import (
	"slices"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// The operators and functions of updates.
const (
	opSet         = "SET"
	opRemove      = "REMOVE"
	opAdd         = "ADD"
	opDelete      = "DELETE"
	opPlus        = "+"
	opMinus       = "-"
	fnIfNotExists = "if_not_exists"
	fnListAppend  = "list_append"
)

// Update is a parsed update expression.
type Update struct {
	root    tree
	actions []action
}

// action is what an update does at one path.
type action struct {
	section string
	value   *formula // none for REMOVE
	legacy  bool     // asked for by AttributeUpdates
}

// formula is what SET computes: an operator or function of others, or a path, or else a value.
type formula struct {
	op    string
	args  []*formula
	path  path
	value attr.Value
}

// static is the type that a formula has whatever the item, or None.
func (f *formula) static() attr.Type {
	if f.op != "" {
		return attr.None
	}
	return f.value.Type
}

// ParseUpdate parses an update expression.
func ParseUpdate(text string, params *Params) (*Update, error) {
	p := newParser(KindUpdate, text, params)
	u := &Update{}
	seen := map[string]bool{}
	for p.err == nil {
		section := p.section()
		if section == "" {
			break
		}
		if seen[section] {
			p.note(classSection, `The "%s" section can only be used once in an update expression;`, section)
		}
		seen[section] = true
		p.actions(u, section)
	}
	if err := p.outcome(); err != nil {
		return nil, err
	}
	if len(seen) == 0 { // nothing but white space
		return nil, p.invalid("The expression can not be empty;")
	}
	room := attr.MaxItemSize
	for i := range u.actions {
		room = u.actions[i].value.roomAfter(room)
	}
	if room < 0 {
		return nil, errTooLarge()
	}
	return u, nil
}

// roomAfter takes the values of a formula off what an item has room for. It stops
// measuring when there is none left.
func (f *formula) roomAfter(room int) int {
	if f == nil || room < 0 {
		return room
	}
	for _, arg := range f.args {
		room = arg.roomAfter(room)
	}
	if f.op == "" && f.path == nil {
		room -= attr.Size(f.value)
	}
	return room
}

// section takes the keyword that begins a section.
func (p *parser) section() string {
	for _, s := range []string{opSet, opRemove, opAdd, opDelete} {
		if p.acceptKeyword(s) {
			return s
		}
	}
	return ""
}

// actions reads a section's actions.
func (p *parser) actions(u *Update, section string) {
	for p.err == nil {
		to := p.path()
		a := action{section: section}
		switch section {
		case opSet:
			p.expect("=")
			a.value = p.setValue()
		case opAdd, opDelete:
			a.value = p.amount(section)
		}
		if p.err != nil {
			return
		}
		p.insert(&u.root, to, len(u.actions))
		u.actions = append(u.actions, a)
		if !p.accept(",") {
			return
		}
	}
}

// amount reads the operand of ADD and DELETE, which is a value.
func (p *parser) amount(section string) *formula {
	if p.peek().kind != tokenValue {
		p.unexpected()
		return &formula{}
	}
	v := p.value()
	switch {
	case v.Type == attr.None || v.Type.IsSet():
	case v.Type == attr.N && section == opAdd:
	default:
		p.note(classOperand, "Incorrect operand type for operator or function; operator: %s, operand type: %s",
			section, longName(v.Type))
	}
	return &formula{value: v}
}

// longName is what some messages call a type.
func longName(t attr.Type) string {
	switch t {
	case attr.S:
		return "STRING"
	case attr.N:
		return "NUMBER"
	case attr.B:
		return "BINARY"
	case attr.BOOL:
		return "BOOLEAN"
	case attr.L:
		return "LIST"
	case attr.M:
		return "MAP"
	default:
		return t.String()
	}
}

// setValue reads an operand, or a sum or difference of two.
func (p *parser) setValue() *formula {
	left := p.setOperand()
	sign := p.peek()
	if !sign.is(opPlus) && !sign.is(opMinus) {
		return left
	}
	p.take()
	p.count()
	f := &formula{op: sign.text, args: []*formula{left, p.setOperand()}}
	p.checkArgs(f, attr.N)
	return f
}

func (p *parser) setOperand() *formula {
	t := p.peek()
	switch {
	case t.is("("):
		p.enter()
		defer p.leave()
		p.take()
		f := p.setValue()
		p.expect(")")
		return f
	case p.isCall() && !p.isKeyword(t):
		return p.setCall()
	case t.kind == tokenValue:
		return &formula{value: p.value()}
	}
	return &formula{path: p.path()}
}

func (p *parser) setCall() *formula {
	f := &formula{op: p.take().text}
	p.count()
	p.expect("(")
	for p.err == nil {
		f.args = append(f.args, p.setOperand())
		if !p.accept(",") {
			break
		}
	}
	p.expect(")")
	switch f.op {
	case fnIfNotExists, fnListAppend:
	case fnExists, fnNotExists, fnType, fnBegins, fnContains, fnSize:
		p.note(classFunctionName, "The function is not allowed in an update expression; function: %s", f.op)
		return f
	default:
		p.note(classFunctionName, "Invalid function name; function: %s", f.op)
		return f
	}
	switch {
	case p.err != nil:
	case len(f.args) != 2:
		p.wrongCount(classType, f.op, len(f.args))
	case f.op == fnListAppend:
		p.checkArgs(f, attr.L)
	case f.args[0].path == nil:
		p.note(classType, "Operator or function requires a document path; operator or function: %s", f.op)
	}
	return f
}

// checkArgs refuses values of another type than an operator or function takes.
func (p *parser) checkArgs(f *formula, want attr.Type) {
	for _, arg := range f.args {
		if t := arg.static(); t != attr.None && t != want {
			p.wrongType(f.op, t.String())
			return
		}
	}
}

// Attributes lists the top-level attributes that the update writes to, sorted.
func (u *Update) Attributes() []string { return u.root.attributes() }

// What UpdateItem charges in bytes beside what it writes: for itself, for each
// SET and ADD, for an index in the path of one, and for each REMOVE and DELETE. AWS
// documents none of it; the figures are what it was seen to refuse.
const (
	chargeUpdate = 3
	chargeWrite  = 19
	chargeIndex  = 1
	chargeRemove = 2
)

// Charge is the size in bytes that UpdateItem holds against attr.MaxItemSize, beside
// that of the item: of the attributes that it writes, as they are after it, and
// of its actions. Updates in transactions are not charged.
func (u *Update) Charge(after attr.Item) int {
	size := chargeUpdate
	for _, b := range u.root.children {
		writes, cost := u.charge(b.tree)
		if v := after.Find(b.name); writes && v != nil {
			cost += len(b.name) + attr.Size(*v)
		}
		size += cost
	}
	return size
}

// charge tells what the actions below a path cost, and whether one writes.
func (u *Update) charge(t *tree) (writes bool, cost int) {
	if t.leaf {
		if s := u.actions[t.action].section; s == opSet || s == opAdd {
			return true, chargeWrite
		}
		return false, chargeRemove
	}
	for _, b := range t.children {
		w, c := u.charge(b.tree)
		writes, cost = writes || w, cost+c
		if w && b.isIndex {
			cost += chargeIndex
		}
	}
	return writes, cost
}

// RemovesOnly reports whether the update only takes away. It makes no item then
// where there is none.
func (u *Update) RemovesOnly() bool {
	return !slices.ContainsFunc(u.actions, func(a action) bool { return a.section != opRemove && a.section != opDelete })
}

// CheckKeys refuses an update that writes to one of the key attributes named.
func (u *Update) CheckKeys(names ...string) error {
	for _, name := range names {
		if _, ok := u.root.child(element{name: name}); ok {
			return attr.Invalid("One or more parameter values were invalid: "+
				"Cannot update attribute %s. This attribute is part of the key", name)
		}
	}
	return nil
}

// Touched is the projection of the paths that the update writes to: applied to
// the old item it gives UPDATED_OLD, to the new one UPDATED_NEW.
func (u *Update) Touched() *Projection { return &Projection{root: u.root} }
