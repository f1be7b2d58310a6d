package spec

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	maxBytes = 256 << 10 // a thousand tables fit in
	// The parser takes a time and a memory that grow with the square of the
	// nesting. A spec nests five levels.
	maxFlow   = 32
	maxColumn = 2000 // of a dash, colon or question mark: what block nesting costs in width
)

// Load reads a spec. The filename is for the messages. The error is an *Error
// that lists what is wrong and how to mend it.
func Load(data []byte, filename string) (*Spec, error) {
	s, _, err := Read(data, filename)
	return s, err
}

// Read is Load, and tells where in the file each value stands.
func Read(data []byte, filename string) (*Spec, *Source, error) {
	d, text := newDecoder(data)
	s := &Spec{}
	d.load(text, s)
	if len(d.problems) == 0 {
		s.fill()
		d.check(s)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(d.problems) > 0 {
		return nil, nil, d.failure(filename, lines)
	}
	return s, newSource(filename, lines, d.at, s), nil
}

// newDecoder gives the text with the ends of lines as the parser counts them: a
// lone carriage return is one, too.
func newDecoder(data []byte) (*decoder, string) {
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
	return &decoder{at: map[any]pos{}, zero: map[any]bool{}}, text
}

// failure lists the problems in the file's order.
func (d *decoder) failure(filename string, lines []string) *Error {
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &Error{File: filename, Problems: d.problems, lines: lines}
}

// pos is where something stands in the file.
type pos struct{ line, column int }

func posOf(n ast.Node) pos {
	switch m := n.(type) {
	case *ast.MappingNode: // its own token is the colon, or the brace
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return posOf(m.Values[0].Key)
		}
	case nil:
		return pos{}
	}
	return posOfToken(n.GetToken())
}

func posOfToken(t *token.Token) pos {
	if t == nil || t.Position == nil {
		return pos{}
	}
	return pos{t.Position.Line, t.Position.Column}
}

// decoder turns the syntax tree into structs. It goes on after a mistake, to
// find the others, and remembers where each value stood.
type decoder struct {
	problems []Problem
	at       map[any]pos  // by the address of the field
	zero     map[any]bool // durations that were given as 0, which fill can't tell from none
}

func (d *decoder) problem(p pos, message, fix string) {
	d.problems = append(d.problems, Problem{p.line, p.column, message, fix})
}

func (d *decoder) load(data string, s *Spec) {
	if root := d.document(data, "a spec needs at least regions; docs/spec.md has an example"); root != nil {
		d.value(root, reflect.ValueOf(s).Elem(), "the file")
	}
}

// document reads the file's one document, or notes why there is none.
func (d *decoder) document(data, whenEmpty string) ast.Node {
	if len(data) > maxBytes {
		d.problem(pos{}, fmt.Sprintf("the file is %d bytes long; a spec has at most %d", len(data), maxBytes), "is this the right file?")
		return nil
	}
	if !utf8.ValidString(data) {
		d.problem(pos{}, "the file is not UTF-8 text", "save it as UTF-8; is this the right file?")
		return nil
	}
	root, ok := d.parse(data)
	if ok && root == nil {
		d.problem(pos{}, "the file is empty", whenEmpty)
	}
	return root
}

// parse returns the one document of the file; nil if there is nothing in it.
func (d *decoder) parse(data string) (root ast.Node, ok bool) {
	defer func() {
		// The parser meets what it was not made for with a panic now and then,
		// and whoever runs `up` on a broken file wants to hear about the file.
		if r := recover(); r != nil {
			d.problem(pos{}, fmt.Sprintf("this is no YAML that can be read (%v)", r), "write plain YAML as in docs/spec.md")
			root, ok = nil, false
		}
	}()
	tokens := lexer.Tokenize(data)
	if !d.shallow(tokens) {
		return nil, false
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		if y, ok := errors.AsType[yaml.Error](err); ok {
			d.problem(posOfToken(y.GetToken()), "the YAML is broken: "+y.GetMessage(), syntaxFix(y.GetMessage()))
		} else {
			d.problem(pos{}, "the YAML is broken: "+err.Error(), "")
		}
		return nil, false
	}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
			continue
		}
		if root != nil {
			d.problem(posOf(doc.Body), "a second document starts here", "one file is one spec: remove the line --- before it")
			return nil, false
		}
		root = doc.Body
	}
	return root, true
}

// syntaxFix says what the parser's message mostly comes from.
func syntaxFix(message string) string {
	switch {
	case strings.Contains(message, "\t"), strings.Contains(message, "tab "):
		return "indent with spaces: YAML forbids tabs there"
	case strings.Contains(message, "already defined"):
		return "remove one of the two"
	case strings.Contains(message, "must be specified"), strings.Contains(message, "could not find"):
		return "close the bracket or quote that was opened before this"
	case strings.Contains(message, "reserved character"):
		return "put the text in quotes"
	default:
		return "see that this line is indented like its neighbours, and that text with a colon and a space in it is in quotes"
	}
}

func (d *decoder) shallow(tokens token.Tokens) bool {
	depth := 0
	for _, t := range tokens {
		deep := false
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
			deep = depth > maxFlow
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingValueType, token.MappingKeyType:
			deep = t.Position.Column > maxColumn
		default:
		}
		if deep {
			d.problem(posOfToken(t), "this is nested far deeper than a spec ever is", "is this the right file?")
			return false
		}
	}
	return true
}

// value decodes n into v, which must be addressable. What is null is left out.
func (d *decoder) value(n ast.Node, v reflect.Value, what string) {
	switch m := n.(type) {
	case nil, *ast.NullNode:
		return
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		d.at[v.Addr().Interface()] = posOf(n)
		d.problem(posOf(n), "anchors, aliases and tags are not used in a spec", "write the value out")
		return
	case *ast.MappingValueNode: // a mapping of one entry, in some places
		n = ast.Mapping(m.GetToken(), false, m)
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	d.at[v.Addr().Interface()] = posOf(n)
	switch to := v.Addr().Interface().(type) {
	case *Location:
		d.location(to, n, what)
	case *Key:
		d.key(to, n, what)
	case *KeyAttribute:
		d.keyAttribute(to, n, what)
	case *Duration:
		d.duration(to, n, what)
	default:
		d.kind(n, v, what)
	}
}

// kind decodes what is written in just one way.
func (d *decoder) kind(n ast.Node, v reflect.Value, what string) {
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v.Addr().Interface(), what)
	case reflect.Slice:
		d.list(n, v, what)
	case reflect.String:
		var s string
		if d.text(n, &s, what, "") {
			v.SetString(s)
		}
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.problem(posOf(n), what+" is "+describe(n), "write true or false")
			return
		}
		v.SetBool(b.Value)
	case reflect.Int:
		i, err := strconv.Atoi(strings.ReplaceAll(n.GetToken().Value, "_", ""))
		if _, ok := n.(*ast.IntegerNode); !ok || err != nil {
			d.problem(posOf(n), what+" is "+describe(n), "write a whole number")
			return
		}
		v.SetInt(int64(i))
	case reflect.Float64:
		f, err := strconv.ParseFloat(strings.ReplaceAll(n.GetToken().Value, "_", ""), 64)
		_, isInt := n.(*ast.IntegerNode)
		_, isFloat := n.(*ast.FloatNode)
		if err != nil || !isInt && !isFloat && !exponent(n) {
			d.problem(posOf(n), what+" is "+describe(n), "write a number")
			return
		}
		v.SetFloat(f)
	default:
		panic("spec: no decoder for " + v.Type().String())
	}
}

// exponent reports whether a text that is not in quotes is a number like 1e+09,
// which YAML 1.2 has and the parser has not.
func exponent(n ast.Node) bool {
	t := n.GetToken()
	return t.Type == token.StringType && strings.Trim(t.Value, "0123456789.eE+-") == ""
}

func (d *decoder) text(n ast.Node, to *string, what, fix string) bool {
	switch s := n.(type) {
	case *ast.StringNode:
		*to = s.Value
	case *ast.LiteralNode:
		*to = s.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		d.problem(posOf(n), what+" is "+describe(n)+", and must be text", "put it in quotes: "+strconv.Quote(n.GetToken().Value))
		return false
	default:
		d.problem(posOf(n), what+" is "+describe(n)+", and must be text", fix)
		return false
	}
	return true
}

func (d *decoder) list(n ast.Node, v reflect.Value, what string) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		fix := "write a list: a line \"- …\" for each, or [one, two]"
		if _, isText := n.(*ast.StringNode); isText {
			fix = "write a list: [" + n.GetToken().Value + "]"
		}
		d.problem(posOf(n), what+" is "+describe(n)+", and must be a list", fix)
		return
	}
	if len(s.Values) == 0 {
		return // as if it were not there: what is written back leaves it out
	}
	// All at once, so that the addresses of the elements are final.
	v.Set(reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values)))
	for i, e := range s.Values {
		p := posOf(e)
		if _, isNull := e.(*ast.NullNode); isNull || e == nil {
			d.problem(p, "an entry of "+what+" is empty", "fill it in or remove it")
		}
		d.value(e, v.Index(i), "an entry of "+what)
	}
}

// structure decodes a mapping into the struct that to points to.
func (d *decoder) structure(n ast.Node, to any, what string) {
	v := reflect.ValueOf(to).Elem()
	fields := fieldsOf(v.Type())
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.problem(posOf(n), what+" is "+describe(n)+", and must have fields", "its fields are "+strings.Join(fields.names, ", "))
		return
	}
	seen, meant := map[string]bool{}, map[string]bool{}
	for _, entry := range m.Values {
		name, p := entry.Key.String(), posOf(entry.Key)
		if s, ok := entry.Key.(*ast.StringNode); ok {
			name = s.Value
		}
		i, known := fields.index[name]
		switch {
		case !known:
			near := nearest(name, fields.names)
			meant[near] = true
			d.problem(p, fmt.Sprintf("unknown field %q in %s", name, named(v.Type())), fieldFix(near, fields.names))
		case seen[name]:
			d.problem(p, fmt.Sprintf("field %q is here twice", name), "remove one of them")
		default:
			seen[name] = true
			d.value(entry.Value, v.Field(i), name)
		}
	}
	for _, name := range fields.required {
		if _, tried := d.at[v.Field(fields.index[name]).Addr().Interface()]; !tried && !meant[name] {
			d.problem(posOf(n), fmt.Sprintf("%s has no %s", named(v.Type()), name), missingFix(v.Type(), name))
		}
	}
}

func fieldFix(near string, known []string) string {
	fix := "the fields here are " + strings.Join(known, ", ")
	if near != "" {
		fix = fmt.Sprintf("did you mean %q? (%s)", near, fix)
	}
	return fix
}

// structFields is what a struct's tags say.
type structFields struct {
	names    []string // in the struct's order
	required []string
	index    map[string]int
}

func fieldsOf(t reflect.Type) structFields {
	f := structFields{index: map[string]int{}}
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		f.names = append(f.names, name)
		f.index[name] = i
		if options == "" {
			f.required = append(f.required, name)
		}
	}
	return f
}

// named says what a struct is, for a message.
func named(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Spec]():
		return "the file"
	case reflect.TypeFor[Region]():
		return "a region"
	case reflect.TypeFor[Table]():
		return "a table"
	case reflect.TypeFor[Addresses]():
		return "addresses"
	case reflect.TypeFor[TLS]():
		return "tls"
	case reflect.TypeFor[Needs]():
		return "needs"
	case reflect.TypeFor[Prices]():
		return "prices"
	case reflect.TypeFor[RegionFacts]():
		return "region of needs"
	case reflect.TypeFor[Users]():
		return "a group of users"
	case reflect.TypeFor[Data]():
		return "a data set"
	case reflect.TypeFor[Traffic]():
		return "reads or writes"
	case reflect.TypeFor[KeyAttribute]():
		return "a key attribute"
	case reflect.TypeFor[Key]():
		return "a key"
	default:
		return "a " + strings.ToLower(t.Name())
	}
}

func missingFix(t reflect.Type, name string) string {
	switch t.Name() + "." + name {
	case "Spec.regions":
		return "add at least one: regions: [{name: oregon, location: us-west-2}]"
	case "Region.name":
		return "add name: oregon, say"
	case "Users.name":
		return "add name: europe, say"
	case "Users.location":
		return "add location: eu-central-1 (a cloud region nearby), or location: {latitude: 52.5, longitude: 13.4}"
	case "Data.name":
		return "add name: with a table's name, or another word for this data"
	case "Table.name":
		return "add name: carts, say"
	case "Table.key":
		return "add key: id, or key: {partition: id, sort: ts:N}"
	case "Table.writes":
		return "add writes: with one of " + modesHelp()
	default:
		return "add " + name + ":"
	}
}

// describe says what a value is, for a message.
func describe(n ast.Node) string {
	switch m := n.(type) {
	case *ast.MappingNode:
		return "a group of fields"
	case *ast.SequenceNode:
		return "a list"
	case *ast.BoolNode:
		return "the truth value " + m.GetToken().Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	case *ast.StringNode:
		return "the text " + strconv.Quote(m.Value)
	case *ast.LiteralNode:
		return "a block of text"
	default:
		return "something else"
	}
}
