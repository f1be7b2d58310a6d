package dynamo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/api/dynamo/expr"
)

// member returns a member of a request, nil where it is missing or null.
func member(o *fastjson.Object, name string) *fastjson.Value {
	v := o.Get(name)
	if v == nil || v.Type() == fastjson.TypeNull {
		return nil
	}
	return v
}

// errType says what DynamoDB says of a value of another type than the member has.
func errType(v *fastjson.Value, want string) error {
	switch t := v.Type(); t {
	case fastjson.TypeObject:
		return errSerialization("Start of structure or map found where not expected")
	case fastjson.TypeArray:
		return errSerialization("Unrecognized collection type class java.lang." + want)
	default:
		return errSerialization(strings.ToUpper(t.String()) + "_VALUE cannot be converted to " + want)
	}
}

func readString(o *fastjson.Object, name string) (s string, there bool, err error) {
	v := member(o, name)
	if v == nil {
		return "", false, nil
	}
	if v.Type() != fastjson.TypeString {
		return "", false, errType(v, "String")
	}
	return string(v.GetStringBytes()), true, nil
}

func readBool(o *fastjson.Object, name string) (b, there bool, err error) {
	v := member(o, name)
	if v == nil {
		return false, false, nil
	}
	if b, err = v.Bool(); err != nil {
		return false, false, errType(v, "Boolean")
	}
	return b, true, nil
}

func readInt(o *fastjson.Object, name string) (n int64, there bool, err error) {
	v := member(o, name)
	if v == nil {
		return 0, false, nil
	}
	f, err := v.Float64()
	if err != nil {
		return 0, false, errType(v, "Integer")
	}
	return int64(max(min(f, 1<<53), -1<<53)), true, nil
}

// readMap returns a member that is a map or structure.
func readMap(o *fastjson.Object, name string) (*fastjson.Object, error) {
	v := member(o, name)
	if v == nil {
		return nil, nil
	}
	m, err := v.Object()
	switch {
	case err == nil:
		return m, nil
	case v.Type() == fastjson.TypeArray:
		return nil, errSerialization("Unrecognized collection type java.util.Map")
	default:
		return nil, errSerialization("Unexpected field type")
	}
}

// readList returns a member that is a list; there tells an empty one from none.
func readList(o *fastjson.Object, name string) (list []*fastjson.Value, there bool, err error) {
	v := member(o, name)
	if v == nil {
		return nil, false, nil
	}
	list, err = v.Array()
	switch {
	case err == nil:
		return list, true, nil
	case v.Type() == fastjson.TypeObject:
		return nil, false, errSerialization("Start of structure or map found where not expected")
	default:
		return nil, false, errSerialization("Unexpected field type")
	}
}

// readStructs returns a member that is a list of structures.
func readStructs(o *fastjson.Object, name string) ([]*fastjson.Object, error) {
	list, _, err := readList(o, name)
	if err != nil {
		return nil, err
	}
	out := make([]*fastjson.Object, len(list))
	for i, v := range list {
		if out[i], err = v.Object(); err != nil {
			return nil, errSerialization("Unexpected value type in payload")
		}
	}
	return out, nil
}

// readStrings returns a member that is a list of strings.
func readStrings(o *fastjson.Object, name string) (out []string, there bool, err error) {
	list, there, err := readList(o, name)
	if err != nil || !there {
		return nil, there, err
	}
	out = make([]string, len(list))
	for i, v := range list {
		if v.Type() != fastjson.TypeString {
			return nil, there, errType(v, "String")
		}
		out[i] = string(v.GetStringBytes())
	}
	return out, true, nil
}

// violations collects what is wrong with the members of a request: DynamoDB
// reports up to ten at once.
type violations []string

// add notes a violated constraint. A nil value stands for a missing one.
func (v *violations) add(value any, path, constraint string) {
	if len(*v) >= 10 {
		return
	}
	shown := "null"
	if value != nil {
		shown = fmt.Sprintf("'%v'", value)
	}
	*v = append(*v, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s", shown, path, constraint))
}

func (v *violations) err() error {
	if len(*v) == 0 {
		return nil
	}
	plural := ""
	if len(*v) > 1 {
		plural = "s"
	}
	return errValidation("%d validation error%s detected: %s", len(*v), plural, strings.Join(*v, "; "))
}

// enum reads a member that is one of a few words; "" where it is missing.
func (v *violations) enum(o *fastjson.Object, name string, words ...string) (string, error) {
	s, there, err := readString(o, name)
	if err != nil || !there {
		return "", err
	}
	if !slices.Contains(words, s) {
		v.add(s, lowerFirst(name), enumSet(words))
	}
	return s, nil
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

const notNull = "Member must not be null"

// maxTableName is the length of the longest table name.
const maxTableName = 255

const namePattern = "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return s != ""
}

// tableName reads TableName, which may be the table's ARN.
func (v *violations) tableName(o *fastjson.Object) (string, error) {
	s, there, err := readString(o, "TableName")
	if err != nil {
		return "", err
	}
	if name, ok := nameOfARN(s); ok {
		return name, nil
	}
	switch {
	case !there:
		v.add(nil, "tableName", notNull)
	case s == "":
		v.add(s, "tableName", "Member must have length greater than or equal to 1")
	case len(s) > maxTableName:
		v.add(s, "tableName", fmt.Sprintf("Member must have length less than or equal to %d", maxTableName))
	case !isName(s):
		v.add(s, "tableName", namePattern)
	}
	return s, nil
}

// nameOfARN returns the table that an ARN is of, whatever its region and account.
func nameOfARN(s string) (string, bool) {
	rest, ok := strings.CutPrefix(s, "arn:aws:dynamodb:")
	if !ok {
		return "", false
	}
	parts := strings.SplitN(rest, ":", 3)
	if len(parts) != 3 {
		return "", false
	}
	name, ok := strings.CutPrefix(parts[2], "table/")
	if !ok || !isName(name) {
		return "", false
	}
	return name, true
}

// expressions are the placeholders of a request and which expressions it has.
type expressions struct {
	o      *fastjson.Object
	params expr.Params
	used   bool // the request has an expression
}

// readExpressions reads the placeholders. The names say which members hold this
// request's expressions, which of them may use values, and beside which legacy ones
// they can't stand, each list in the order of DynamoDB's messages.
func readExpressions(o *fastjson.Object, names, withValues, legacy []string) (*expressions, error) {
	e := &expressions{o: o}
	var given []string
	for _, n := range names {
		if member(o, n) != nil {
			given = append(given, n)
		}
	}
	e.used = len(given) > 0
	if err := refuseMixed(o, given, legacy); err != nil {
		return nil, err
	}
	if err := e.readPlaceholders(); err != nil {
		return nil, err
	}
	if e.params.Names != nil && !e.used {
		return nil, errValidation("ExpressionAttributeNames can only be specified when using expressions")
	}
	if e.params.Values != nil && !slices.ContainsFunc(given, func(n string) bool { return slices.Contains(withValues, n) }) {
		text := "ExpressionAttributeValues can only be specified when using expressions"
		if len(withValues) == 1 && e.used {
			text += ": " + withValues[0] + " is null"
		}
		return nil, errValidation("%s", text)
	}
	if e.params.Names == nil && e.params.Values == nil {
		return e, nil
	}
	return e, e.params.Check()
}

// refuseMixed refuses a request that says things in the form of expressions and
// in the form of before. KeyConditions may stand beside expressions of other kinds.
func refuseMixed(o *fastjson.Object, given, legacy []string) error {
	if len(given) == 0 {
		return nil
	}
	var old []string
	for _, l := range legacy {
		if member(o, l) != nil && (l != keyConditions || slices.Contains(given, string(expr.KindKeyCondition))) {
			old = append(old, l)
		}
	}
	if len(old) == 0 {
		return nil
	}
	return errValidation("Can not use both expression and non-expression parameters in the same request: "+
		"Non-expression parameters: {%s} Expression parameters: {%s}", strings.Join(old, ", "), strings.Join(given, ", "))
}

func (e *expressions) readPlaceholders() error {
	names, err := readMap(e.o, "ExpressionAttributeNames")
	if err != nil {
		return err
	}
	if names != nil {
		e.params.Names = make(map[string]string, names.Len())
		names.Visit(func(key []byte, v *fastjson.Value) {
			switch {
			case err != nil || v.Type() == fastjson.TypeNull:
			case v.Type() != fastjson.TypeString:
				err = errType(v, "String")
			default:
				name := string(v.GetStringBytes())
				if name != "" { // which Params.Check refuses in words of its own
					err = attr.CheckName(name)
				}
				e.params.Names[string(key)] = name
			}
		})
	}
	if err != nil {
		return err
	}
	values, err := readMap(e.o, "ExpressionAttributeValues")
	if err != nil || values == nil {
		return err
	}
	e.params.Values = make(map[string]attr.Value, values.Len())
	values.Visit(func(key []byte, v *fastjson.Value) {
		if err != nil {
			return
		}
		var value attr.Value
		if value, err = attr.FromJSON(v); err == nil {
			e.params.Values[string(key)] = value
			return
		}
		if w := wireOf(err); w.code == codeValidation {
			err = errValidation("ExpressionAttributeValues contains invalid value: %s for key %s", w.message, key)
		}
	})
	return err
}

// text returns an expression; there tells an empty one from none.
func (e *expressions) text(name string) (text string, there bool, err error) {
	return readString(e.o, name)
}

func (e *expressions) condition(kind expr.Kind) (*expr.Condition, error) {
	text, there, err := e.text(string(kind))
	if err != nil || !there {
		return nil, err
	}
	return expr.ParseCondition(kind, text, &e.params)
}

func (e *expressions) projection() (*expr.Projection, error) {
	text, there, err := e.text(string(expr.KindProjection))
	if err != nil || !there {
		return nil, err
	}
	return expr.ParseProjection(text, &e.params)
}

// readProjection reads a projection in either of its forms.
func (e *expressions) readProjection() (*expr.Projection, error) {
	names, there, err := readStrings(e.o, attributesToGet)
	if err != nil || !there {
		if err != nil {
			return nil, err
		}
		return e.projection()
	}
	if len(names) == 0 {
		return nil, errValidation("1 validation error detected: Value '[]' at 'attributesToGet' failed to satisfy constraint: " +
			"Member must have length greater than or equal to 1")
	}
	sorted := slices.Sorted(slices.Values(names))
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return nil, errValidation("One or more parameter values were invalid: Duplicate value in attribute name: %s", sorted[i])
		}
	}
	return expr.ProjectAttributes(names...), nil
}
