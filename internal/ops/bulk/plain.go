package bulk

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// plainItem makes an item of a plain JSON object. Keys have the types that the
// table gives them.
func plainItem(v *fastjson.Value, schema []keyAttribute) (attr.Item, error) {
	o, err := v.Object()
	if err != nil {
		return nil, fmt.Errorf("this is no JSON object but %s", v.Type())
	}
	var members []attr.Member
	o.Visit(func(key []byte, m *fastjson.Value) {
		if err != nil {
			return
		}
		name := string(key)
		if err = attr.CheckName(name); err != nil {
			return
		}
		var value attr.Value
		i := slices.IndexFunc(schema, func(k keyAttribute) bool { return k.name == name })
		if i >= 0 && m.Type() == fastjson.TypeString {
			value, err = textValue(string(m.GetStringBytes()), schema[i].typ)
		} else {
			value, err = plainValue(m, 1)
		}
		members = append(members, attr.Member{Name: name, Value: value})
	})
	if err != nil {
		return nil, err
	}
	return attr.NewItem(members...), nil
}

// textValue makes a value of the type S, N or B of text.
func textValue(text, typ string) (attr.Value, error) {
	switch typ {
	case "N":
		return attr.Number(text)
	case "B":
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return attr.Value{}, fmt.Errorf("a binary is written in base64, which this is not: %w", err)
		}
		return attr.Bytes(b), nil
	default:
		return attr.String(text), nil
	}
}

func plainValue(v *fastjson.Value, level int) (attr.Value, error) {
	if level > attr.MaxDepth {
		return attr.Value{}, fmt.Errorf("it is nested deeper than %d levels", attr.MaxDepth)
	}
	switch v.Type() {
	case fastjson.TypeString:
		return attr.String(string(v.GetStringBytes())), nil
	case fastjson.TypeNumber:
		return attr.Number(string(v.MarshalTo(nil))) // all of its digits
	case fastjson.TypeTrue, fastjson.TypeFalse:
		return attr.Bool(v.GetBool()), nil
	case fastjson.TypeArray:
		out := attr.Value{Type: attr.L, List: []attr.Value{}}
		for _, e := range v.GetArray() {
			m, err := plainValue(e, level+1)
			if err != nil {
				return out, err
			}
			out.List = append(out.List, m)
		}
		return out, nil
	case fastjson.TypeObject:
		var members []attr.Member
		var err error
		v.GetObject().Visit(func(key []byte, m *fastjson.Value) {
			if err != nil {
				return
			}
			var value attr.Value
			value, err = plainValue(m, level+1)
			members = append(members, attr.Member{Name: string(key), Value: value})
		})
		return attr.Value{Type: attr.M, Map: attr.NewItem(members...)}, err
	default:
		return attr.Null(), nil
	}
}

// appendPlain appends an item or map as a plain JSON object.
func appendPlain(dst []byte, it attr.Item) []byte {
	dst = append(dst, '{')
	for i := range it {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendText(dst, it[i].Name), ':')
		dst = appendPlainValue(dst, &it[i].Value)
	}
	return append(dst, '}')
}

func appendPlainValue(dst []byte, v *attr.Value) []byte {
	switch v.Type {
	case attr.S:
		return appendText(dst, v.Str)
	case attr.N:
		return append(dst, v.Str...)
	case attr.B:
		return strconv.AppendQuote(dst, base64.StdEncoding.EncodeToString([]byte(v.Str)))
	case attr.BOOL:
		return strconv.AppendBool(dst, v.Bool)
	case attr.M:
		return appendPlain(dst, v.Map)
	case attr.L:
		dst = append(dst, '[')
		for i := range v.List {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendPlainValue(dst, &v.List[i])
		}
		return append(dst, ']')
	case attr.SS, attr.NS, attr.BS:
		dst = append(dst, '[')
		for i, s := range v.Set {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendPlainValue(dst, &attr.Value{Type: v.Type.Element(), Str: s})
		}
		return append(dst, ']')
	default:
		return append(dst, "null"...)
	}
}

// appendText appends a JSON string.
func appendText(dst []byte, s string) []byte {
	var a fastjson.Arena
	return a.NewString(s).MarshalTo(dst)
}

// cell is a value as it stands in a CSV file: text, or else plain JSON.
func cell(v *attr.Value) string {
	switch v.Type {
	case attr.S, attr.N:
		return v.Str
	case attr.B:
		return base64.StdEncoding.EncodeToString([]byte(v.Str))
	default:
		return string(appendPlainValue(nil, v))
	}
}
