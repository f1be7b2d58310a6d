package attr

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fastjson"
)

// maxNameSize is the largest size of an attribute's name in bytes.
const maxNameSize = 65535

const javaAttributeValue = "com.amazonaws.dynamodb.v20120810.AttributeValue"

// parsers are scratch memory for parsing stored items and test input.
var parsers fastjson.ParserPool //nolint:gochecknoglobals // a pool of memory holds no state

// tokenName is what DynamoDB calls a JSON value that is none of the wanted type.
func tokenName(v *fastjson.Value) string {
	switch v.Type() {
	case fastjson.TypeTrue:
		return "TRUE_VALUE"
	case fastjson.TypeFalse:
		return "FALSE_VALUE"
	case fastjson.TypeString:
		return "STRING_VALUE"
	default:
		if strings.ContainsAny(string(v.MarshalTo(nil)), ".eE") {
			return "DECIMAL_VALUE"
		}
		return "NUMBER_VALUE"
	}
}

// errScalar says that v was found where a scalar of the type called java is due.
func errScalar(v *fastjson.Value, java string) *Error {
	switch v.Type() {
	case fastjson.TypeArray:
		return Unreadable("Unrecognized collection type class java.lang.%s", java)
	case fastjson.TypeObject:
		return Unreadable("Start of structure or map found where not expected")
	default:
		return Unreadable("%s cannot be converted to %s", tokenName(v), java)
	}
}

// errNested says that v was found where a list, map or structure is due.
func errNested(v *fastjson.Value, java string) *Error {
	switch v.Type() {
	case fastjson.TypeArray:
		return Unreadable("Unrecognized collection type %s", java)
	case fastjson.TypeObject:
		return Unreadable("Start of structure or map found where not expected")
	default:
		return Unreadable("Unexpected field type")
	}
}

// text returns the bytes of a JSON string; they belong to the parser.
func text(v *fastjson.Value) ([]byte, error) {
	b, err := v.StringBytes()
	if err != nil {
		return nil, errScalar(v, "String")
	}
	if !utf8.Valid(b) {
		return nil, Unreadable("Invalid UTF-8 in a string")
	}
	return b, nil
}

// binary decodes base64 as strictly as DynamoDB does, behind dst.
func binary(dst []byte, v *fastjson.Value) ([]byte, error) {
	b, err := v.StringBytes()
	if err != nil {
		return nil, errScalar(v, "Blob")
	}
	if len(b)%4 != 0 {
		return nil, Unreadable("Base64 encoded length is expected a multiple of 4 bytes but found: %d", len(b))
	}
	out, err := base64.StdEncoding.Strict().AppendDecode(dst, b)
	if err == nil && !slices.ContainsFunc(b, isLineBreak) {
		return out, nil
	}
	for i, c := range b {
		padding := c == '=' && i >= len(b)-2 && strings.Trim(string(b[i:]), "=") == ""
		if !padding && !isBase64(c) {
			return nil, Unreadable("Invalid Base64 character: '%c'", c)
		}
	}
	return nil, Unreadable("Invalid last non-pad Base64 character dectected")
}

// isLineBreak finds what the decoder passes over and DynamoDB does not.
func isLineBreak(c byte) bool { return c == '\n' || c == '\r' }

func isBase64(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/'
}

// choose finds the one datatype that an attribute value's JSON has set.
func choose(v *fastjson.Value) (Type, *fastjson.Value, error) {
	if v == nil || v.Type() == fastjson.TypeNull {
		return None, nil, errEmptyValue()
	}
	o, err := v.Object()
	if err != nil {
		if v.Type() == fastjson.TypeArray {
			return None, nil, Unreadable("Unrecognized collection type class %s", javaAttributeValue)
		}
		return None, nil, Unreadable("Unexpected value type in payload")
	}
	t, found, several := None, (*fastjson.Value)(nil), false
	o.Visit(func(key []byte, member *fastjson.Value) {
		k := TypeOf(string(key))
		if k == None || member.Type() == fastjson.TypeNull {
			return // as if it weren't there
		}
		several = several || t != None
		t, found = k, member
	})
	switch {
	case several:
		return None, nil, Invalid("Supplied AttributeValue has more than one datatypes set, " +
			"must contain exactly one of the supported datatypes")
	case t == None:
		return None, nil, errEmptyValue()
	}
	return t, found, nil
}

func errEmptyValue() *Error {
	return Invalid("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes")
}

// boolean reads BOOL, and NULL, which must be true.
func boolean(t Type, v *fastjson.Value) (bool, error) {
	b, err := v.Bool()
	switch {
	case err != nil && v.Type() == fastjson.TypeString:
		return false, Unreadable("Unexpected token received from parser")
	case err != nil:
		return false, errScalar(v, "Boolean")
	case t == NULL && !b:
		return false, Invalid("One or more parameter values were invalid: " +
			"Null attribute value types must have the value of true")
	}
	return b, nil
}

// elements returns the members of a set or list.
func elements(v *fastjson.Value) ([]*fastjson.Value, error) {
	a, err := v.Array()
	if err != nil {
		return nil, errNested(v, "java.util.List")
	}
	return a, nil
}

// readSet reads a set's members in the form of Value.Str and in stored order.
// A trusted one is in order and without doubles already.
func readSet(t Type, v *fastjson.Value, trusted bool) ([]string, error) {
	a, err := elements(v)
	if err != nil {
		return nil, err
	}
	if len(a) == 0 {
		return nil, errEmptySet(t)
	}
	set := make([]string, len(a))
	for i, e := range a {
		if e.Type() == fastjson.TypeNull {
			return nil, errNullMember(t)
		}
		if set[i], err = readString(t.Element(), e, trusted); err != nil {
			return nil, err
		}
	}
	if trusted {
		return set, nil
	}
	sorted := sortedSet(t, set)
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return nil, errDuplicates(t, a)
		}
	}
	return sorted, nil
}

func errEmptySet(t Type) *Error {
	const invalid = "One or more parameter values were invalid: "
	switch t {
	case SS:
		return Invalid(invalid + "An string set  may not be empty")
	case NS:
		return Invalid(invalid + "An number set  may not be empty")
	default:
		return Invalid(invalid + "Binary sets should not be empty")
	}
}

func errNullMember(t Type) *Error {
	const invalid = "One or more parameter values were invalid: "
	switch t {
	case SS:
		return Invalid(invalid + "An string set may not have a null string as a member")
	case NS:
		return Invalid(invalid + "An number set may not have a null string as a member")
	default:
		return Invalid(invalid + "Binary sets may not contain null or empty values")
	}
}

func errDuplicates(t Type, members []*fastjson.Value) *Error {
	const invalid = "One or more parameter values were invalid: Input collection"
	sent := make([]string, len(members))
	for i, m := range members {
		sent[i] = string(m.GetStringBytes())
	}
	list := strings.Join(sent, ", ")
	switch t {
	case SS:
		return Invalid(invalid+" [%s] contains duplicates.", list)
	case NS:
		return Invalid(invalid + " contains duplicates.")
	default:
		return Invalid(invalid+" [%s]of type BS contains duplicates.", list)
	}
}

// readString reads a value of a type that Value keeps in Str: S, N or B.
func readString(t Type, v *fastjson.Value, trusted bool) (string, error) {
	if t == B {
		b, err := binary(nil, v)
		return string(b), err
	}
	b, err := text(v)
	if err != nil {
		return "", err
	}
	if t == N && !trusted {
		return NormalizeNumber(string(b))
	}
	return string(b), nil
}

// FromJSON reads and validates one attribute value of a client's request, such
// as {"S":"a"}. The Value keeps nothing of v.
func FromJSON(v *fastjson.Value) (Value, error) { return readValue(v, 1, false) }

func readValue(v *fastjson.Value, level int, trusted bool) (Value, error) {
	if level > MaxDepth {
		return Value{}, errDepth()
	}
	t, member, err := choose(v)
	if err != nil {
		return Value{}, err
	}
	out := Value{Type: t}
	switch t {
	case S, N, B:
		out.Str, err = readString(t, member, trusted)
	case BOOL:
		out.Bool, err = boolean(t, member)
	case NULL:
		_, err = boolean(t, member)
	case M:
		out.Map, err = readItem(member, level+1, trusted)
	case L:
		out.List, err = readList(member, level+1, trusted)
	default:
		out.Set, err = readSet(t, member, trusted)
	}
	if err != nil {
		return Value{}, err
	}
	return out, nil
}

func readList(v *fastjson.Value, level int, trusted bool) ([]Value, error) {
	a, err := elements(v)
	if err != nil {
		return nil, err
	}
	list := make([]Value, len(a))
	for i, e := range a {
		if list[i], err = readValue(e, level, trusted); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// ItemFromJSON reads and validates a map of attribute values of a client's
// request: an item, or a key. Its size is not limited (see CheckItemSize). The
// Item keeps nothing of v.
func ItemFromJSON(v *fastjson.Value) (Item, error) { return readItem(v, 1, false) }

func readItem(v *fastjson.Value, level int, trusted bool) (Item, error) {
	o, err := object(v)
	if err != nil {
		return nil, err
	}
	it := make(Item, 0, o.Len())
	o.Visit(func(key []byte, member *fastjson.Value) {
		if err != nil {
			return
		}
		if err = checkName(key, level); err != nil {
			return
		}
		var value Value
		if value, err = readValue(member, level, trusted); err == nil {
			it = append(it, Member{Name: string(key), Value: value})
		}
	})
	if err != nil {
		return nil, err
	}
	return sortMembers(it), nil
}

// object returns the members of an item or a map.
func object(v *fastjson.Value) (*fastjson.Object, error) {
	if v == nil {
		return nil, Unreadable("Unexpected field type")
	}
	o, err := v.Object()
	if err != nil {
		return nil, errNested(v, "java.util.Map<java.lang.String, "+javaAttributeValue+">")
	}
	return o, nil
}

// CheckName refuses what can't be the name of a top-level attribute.
func CheckName(name string) error { return checkName([]byte(name), 1) }

func checkName(name []byte, level int) error {
	switch {
	case len(name) == 0 && level == 1:
		return Invalid("One or more parameter values were invalid: Empty attribute name")
	case len(name) > maxNameSize:
		return Invalid("One or more parameter values were invalid: "+
			"Attribute name is too large, must be less than %d bytes", maxNameSize+1)
	case !utf8.Valid(name):
		return Unreadable("Invalid UTF-8 in a string")
	}
	return nil
}

// ParseItem reads and validates an item's DynamoDB JSON.
func ParseItem(json []byte) (Item, error) { return parseItem(json, false) }

// DecodeItem reads an item that was normalised before, that is, stored bytes. It trusts
// that numbers are in normal form and sets in order. Its errors are no *Error: what
// is wrong with them is not the client's doing.
func DecodeItem(json []byte) (Item, error) {
	it, err := parseItem(json, true)
	if err != nil {
		return nil, fmt.Errorf("decode stored item of %d bytes: %s", len(json), err.Error())
	}
	return it, nil
}

func parseItem(json []byte, trusted bool) (Item, error) {
	p := parsers.Get()
	defer parsers.Put(p)
	v, err := p.ParseBytes(json)
	if err != nil {
		return nil, Unreadable("Unable to parse the item: %s", err)
	}
	return readItem(v, 1, trusted)
}
