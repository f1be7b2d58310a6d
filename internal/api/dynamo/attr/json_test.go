package attr

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fastjson"
	"pgregory.net/rapid"
)

func TestNormalizeItem(t *testing.T) {
	for _, c := range []struct {
		in, want string
		size     int
	}{
		{`{}`, `{}`, 0},
		{`{"id":{"S":"a"},"n":{"N":"1.0"}}`, `{"id":{"S":"a"},"n":{"N":"1"}}`, 3 + 3},
		{` { "b" : {"BOOL":false}, "a" : { "NULL" : true } } `, `{"a":{"NULL":true},"b":{"BOOL":false}}`, 4},
		{`{"a":{"S":"x"},"a":{"S":"yy"}}`, `{"a":{"S":"yy"}}`, 3},
		{`{"a":{"S":"x","N":null}}`, `{"a":{"S":"x"}}`, 2},
		{`{"a":{"B":"AQID"}}`, `{"a":{"B":"AQID"}}`, 4},
		{`{"a":{"S":""},"b":{"B":""}}`, `{"a":{"S":""},"b":{"B":""}}`, 2},
		{
			`{"a":{"SS":["b","a"]},"b":{"NS":["10","9","-1e0"]},"c":{"BS":["Ag==","AQ=="]}}`,
			`{"a":{"SS":["a","b"]},"b":{"NS":["-1","9","10"]},"c":{"BS":["AQ==","Ag=="]}}`, 3 + 8 + 3,
		},
		{
			`{"a":{"M":{"y":{"L":[{"S":"b"}]},"x":{"N":"2"}}}}`, `{"a":{"M":{"x":{"N":"2"},"y":{"L":[{"S":"b"}]}}}}`,
			1 + 3 + (1 + 1 + 2) + (1 + 1 + 3 + 1 + 1),
		},
		{`{"a":{"L":[]},"b":{"M":{}}}`, `{"a":{"L":[]},"b":{"M":{}}}`, 8},
		{"{\"a\":{\"S\":\"\\u00e9\\n\\t\\r\\u0001\\\"\\\\\\/\\ud83d\\ude00\"}}", "{\"a\":{\"S\":\"é\\n\\t\\r\\u0001\\\"\\\\/😀\"}}", 1 + 2 + 4 + 3 + 4},
	} {
		v, err := fastjson.Parse(c.in)
		if err != nil {
			t.Fatal(err)
		}
		got, size, err := NormalizeItem([]byte("x"), v)
		if err != nil || string(got) != "x"+c.want || size != c.size {
			t.Errorf("NormalizeItem(%s) = %s, %d, %v, want %s, %d", c.in, got, size, err, c.want, c.size)
		}
		it, err := ParseItem([]byte(c.in))
		if err != nil {
			t.Fatal(err)
		}
		if again := AppendItem(nil, it); string(again) != c.want {
			t.Errorf("AppendItem gives %s, want %s", again, c.want)
		}
		if size := ItemSize(it); size != c.size {
			t.Errorf("ItemSize(%s) = %d, want %d", c.in, size, c.size)
		}
		trusted, err := DecodeItem([]byte(c.want))
		if err != nil || !cmp.Equal(trusted, it) {
			t.Errorf("DecodeItem(%s): %v %s", c.want, err, cmp.Diff(trusted, it))
		}
	}
}

func TestItemErrors(t *testing.T) {
	const (
		invalid = "ValidationException: One or more parameter values were invalid: "
		empty   = "ValidationException: Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"
		several = "ValidationException: Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes"
		serial  = "SerializationException: "
		levels  = "ValidationException: Nesting Levels have exceeded supported limits: Attributes in the item have nested levels beyond supported limit"
	)
	for in, want := range map[string]string{
		`{}`:                     empty,
		`null`:                   empty,
		`{"X":"a"}`:              empty,
		`{"S":null}`:             empty,
		`{"L":[{}]}`:             empty,
		`{"M":{"k":{}}}`:         empty,
		`{"L":[null]}`:           empty,
		`{"S":"a","N":"1"}`:      several,
		`{"S":"a","S":"b"}`:      several,
		`{"N":"abc"}`:            "ValidationException: The parameter cannot be converted to a numeric value: abc",
		`{"NS":["1",""]}`:        "ValidationException: The parameter cannot be converted to a numeric value: ",
		`{"NS":["1","1e126"]}`:   "ValidationException: Number overflow. Attempting to store a number with magnitude larger than supported range",
		`{"NULL":false}`:         invalid + "Null attribute value types must have the value of true",
		`{"SS":[]}`:              invalid + "An string set  may not be empty",
		`{"NS":[]}`:              invalid + "An number set  may not be empty",
		`{"BS":[]}`:              invalid + "Binary sets should not be empty",
		`{"SS":["a",null]}`:      invalid + "An string set may not have a null string as a member",
		`{"SS":["b","a","b"]}`:   invalid + "Input collection [b, a, b] contains duplicates.",
		`{"SS":["",""]}`:         invalid + "Input collection [, ] contains duplicates.",
		`{"NS":["1","1.0"]}`:     invalid + "Input collection contains duplicates.",
		`{"BS":["AA==","AA=="]}`: invalid + "Input collection [AA==, AA==]of type BS contains duplicates.",
		`{"S":1}`:                serial + "NUMBER_VALUE cannot be converted to String",
		`{"S":1.5}`:              serial + "DECIMAL_VALUE cannot be converted to String",
		`{"N":1}`:                serial + "NUMBER_VALUE cannot be converted to String",
		`{"N":true}`:             serial + "TRUE_VALUE cannot be converted to String",
		`{"S":[]}`:               serial + "Unrecognized collection type class java.lang.String",
		`{"S":{}}`:               serial + "Start of structure or map found where not expected",
		`{"BOOL":"true"}`:        serial + "Unexpected token received from parser",
		`{"BOOL":1}`:             serial + "NUMBER_VALUE cannot be converted to Boolean",
		`{"B":"abc"}`:            serial + "Base64 encoded length is expected a multiple of 4 bytes but found: 3",
		`{"B":"ab=c"}`:           serial + "Invalid Base64 character: '='",
		`{"B":"ab!c"}`:           serial + "Invalid Base64 character: '!'",
		`{"B":"\nabcabc\n"}`:     serial + "Invalid Base64 character: '\n'",
		`{"B":"AB=="}`:           serial + "Invalid last non-pad Base64 character dectected",
		`{"B":1}`:                serial + "NUMBER_VALUE cannot be converted to Blob",
		`{"L":"a"}`:              serial + "Unexpected field type",
		`{"L":{}}`:               serial + "Start of structure or map found where not expected",
		`{"M":[]}`:               serial + "Unrecognized collection type java.util.Map<java.lang.String, com.amazonaws.dynamodb.v20120810.AttributeValue>",
		`{"M":"a"}`:              serial + "Unexpected field type",
		`"a"`:                    serial + "Unexpected value type in payload",
		`[]`:                     serial + "Unrecognized collection type class com.amazonaws.dynamodb.v20120810.AttributeValue",
		deep("M", 32):            levels,
		deep("L", 32):            levels,
		`{"S":"` + "\xff" + `"}`: serial + "Invalid UTF-8 in a string",
		`{"SS":["` + "\xff\"]}":  serial + "Invalid UTF-8 in a string",
		`{"S":"` + big() + `"}`:  "ValidationException: Item size has exceeded the maximum allowed size",
	} {
		item := `{"id":{"S":"a"},"v":` + in + `}`
		v, err := fastjson.Parse(item)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := NormalizeItem(nil, v); err == nil || err.Error() != want {
			t.Errorf("NormalizeItem: %.200s: %v, want %s", in, err, want)
		}
		it, err := ParseItem([]byte(item))
		if err == nil {
			err = CheckItemSize(ItemSize(it))
		}
		if err == nil || err.Error() != want {
			t.Errorf("ParseItem: %.200s: %v, want %s", in, err, want)
		}
	}
	for _, in := range []string{deep("M", 31), deep("L", 31)} {
		if _, err := ParseItem([]byte(`{"v":` + in + `}`)); err != nil {
			t.Errorf("31 levels below an attribute: %v", err)
		}
	}
	for _, in := range []string{``, `[]`, `"a"`, `{"":{"S":"a"}}`, `{"a":{"S":"b"}`, strings.Repeat("[", 1<<20)} {
		if _, err := ParseItem([]byte(in)); err == nil {
			t.Errorf("ParseItem took %.20s", in)
		}
	}
}

func big() string { return strings.Repeat("a", MaxItemSize) }

func deep(typ string, levels int) string {
	before, after := `{"M":{"n":`, `}}`
	if typ == "L" {
		before, after = `{"L":[`, `]}`
	}
	return strings.Repeat(before, levels) + `{"S":"leaf"}` + strings.Repeat(after, levels)
}

func TestCheckKey(t *testing.T) {
	const invalid = "ValidationException: One or more parameter values "
	for _, c := range []struct {
		typ  string
		v    Value
		want string
	}{
		{"S", String("a"), ""},
		{"N", Value{Type: N, Str: "0"}, ""},
		{"S", String(""), invalid + "are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: id"},
		{"B", Bytes(nil), invalid + "are not valid. The AttributeValue for a key attribute cannot contain an empty binary value. Key: id"},
		{"S", Bool(true), invalid + "were invalid: Type mismatch for key id expected: S actual: BOOL"},
	} {
		err := CheckKey("id", c.typ, c.v)
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("CheckKey(%s, %v): %v, want %q", c.typ, c.v, err, c.want)
		}
	}
	long := String(strings.Repeat("a", 1025))
	if CheckPartitionKeySize(long) != nil || CheckSortKeySize(long) == nil || CheckPartitionKeySize(String(big())) == nil {
		t.Error("key sizes are not checked")
	}
}

func TestItemMembers(t *testing.T) {
	it := NewItem(Member{"b", String("1")}, Member{"a", String("2")}, Member{"b", String("3")})
	want := Item{{"a", String("2")}, {"b", String("3")}}
	if !cmp.Equal(it, want) {
		t.Fatal(cmp.Diff(it, want))
	}
	more := it.With("aa", Null()).With("b", Bool(true))
	if got := string(AppendItem(nil, more)); got != `{"a":{"S":"2"},"aa":{"NULL":true},"b":{"BOOL":true}}` {
		t.Error(got)
	}
	less := more.Without("a").Without("zz")
	if got := string(AppendItem(nil, less)); got != `{"aa":{"NULL":true},"b":{"BOOL":true}}` {
		t.Error(got)
	}
	if !cmp.Equal(it, want) {
		t.Error("With or Without changed the item")
	}
	if _, ok := it.Get("c"); ok || it.Find("c") != nil {
		t.Error("found what is not there")
	}
}

func TestSets(t *testing.T) {
	a, b := SetOf(NS, "10", "9", "10"), SetOf(NS, "9", "-1")
	if !cmp.Equal(a.Set, []string{"9", "10"}) {
		t.Error(a.Set)
	}
	if got := Union(a, b); !Equal(got, Value{Type: NS, Set: []string{"10", "-1", "9"}}) {
		t.Error(got)
	}
	if got := Difference(a, b); !cmp.Equal(got.Set, []string{"10"}) {
		t.Error(got)
	}
	if Equal(a, b) || Equal(a, Value{Type: SS, Set: a.Set}) || Equal(String("1"), Bytes([]byte("1"))) {
		t.Error("unequal values are equal")
	}
}

// values draws any valid value of up to depth levels.
func values(depth int) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		types := []Type{S, N, B, BOOL, NULL, SS, NS, BS}
		if depth > 1 {
			types = append(types, L, M)
		}
		typ := rapid.SampledFrom(types).Draw(t, "type")
		v := Value{Type: typ}
		switch typ {
		case S, N, B:
			v.Str = scalars(typ).Draw(t, "value")
		case BOOL:
			v.Bool = rapid.Bool().Draw(t, "value")
		case NULL:
		case L:
			v.List = rapid.SliceOfN(values(depth-1), 0, 4).Draw(t, "list")
		case M:
			v.Map = items(depth-1).Draw(t, "map")
		default:
			v = SetOf(typ, rapid.SliceOfN(scalars(typ.Element()), 1, 5).Draw(t, "set")...)
		}
		return v
	})
}

func scalars(t Type) *rapid.Generator[string] {
	switch t {
	case N:
		return rapid.Map(numbers(), func(s string) string {
			n, _ := NormalizeNumber(s)
			return n
		})
	case B:
		return rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 9), func(b []byte) string { return string(b) })
	default:
		return rapid.Map(rapid.String(), func(s string) string { return strings.ToValidUTF8(s, "?") })
	}
}

func items(depth int) *rapid.Generator[Item] {
	return rapid.Custom(func(t *rapid.T) Item {
		names := rapid.SliceOfN(scalars(S), 0, 5).Draw(t, "names")
		members := make([]Member, len(names))
		for i, name := range names {
			members[i] = Member{Name: "n" + name, Value: values(depth).Draw(t, "value")}
		}
		return NewItem(members...)
	})
}

func TestItemRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		it := items(4).Draw(t, "item")
		text := AppendItem(nil, it)
		if !json.Valid(text) {
			t.Fatalf("not JSON: %s", text)
		}
		checkForms(t, text, it)
	})
}

type fataler interface{ Fatalf(string, ...any) }

// checkForms compares all ways to read an item's normalised bytes.
func checkForms(t fataler, text []byte, it Item) {
	for name, read := range map[string]func([]byte) (Item, error){"ParseItem": ParseItem, "DecodeItem": DecodeItem} {
		got, err := read(text)
		if err != nil || !ItemsEqual(got, it) {
			t.Fatalf("%s(%s): %v", name, text, err)
		}
		if again := AppendItem(nil, got); !bytes.Equal(again, text) {
			t.Fatalf("%s became %s", text, again)
		}
	}
	v, err := fastjson.ParseBytes(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	norm, size, err := NormalizeItem(nil, v)
	if err != nil || !bytes.Equal(norm, text) || size != ItemSize(it) {
		t.Fatalf("NormalizeItem(%s) = %s, %d, %v, want size %d", text, norm, size, err, ItemSize(it))
	}
}

func FuzzItem(f *testing.F) {
	for _, s := range []string{
		`{"id":{"S":"a"},"n":{"N":"1.50"}}`, `{"a":{"M":{"b":{"L":[{"NULL":true},{"BOOL":false}]}}}}`,
		`{"a":{"SS":["x","y"]},"b":{"NS":["1","2e3"]},"c":{"BS":["AQ==","Ag=="]}}`, `{"a":{"B":"AQID"}}`,
		`{"a":{"S":"\ud83d\ude00\u0000\ud800"}}`, `{"a":{"S":"x","N":"1"}}`, `{"a":{}}`, `{"a":{"S":"b"},"a":{"N":"1"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		it, err := ParseItem(text)
		if v, perr := fastjson.ParseBytes(text); perr == nil {
			if _, _, nerr := NormalizeItem(nil, v); (nerr == nil) != (err == nil && ItemSize(it) <= MaxItemSize) {
				t.Fatalf("ParseItem: %v, NormalizeItem: %v", err, nerr)
			}
		}
		if err != nil {
			return
		}
		norm := AppendItem(nil, it)
		if !json.Valid(norm) {
			t.Fatalf("not JSON: %s", norm)
		}
		if ItemSize(it) <= MaxItemSize {
			checkForms(t, norm, it)
		}
	})
}

const sample = `{"id":{"S":"user#1234567890"},"name":{"S":"Some Body"},"email":{"S":"somebody@example.com"},` +
	`"visits":{"N":"12345"},"balance":{"N":"1002.50"},"active":{"BOOL":true},"tags":{"SS":["red","green","blue"]},` +
	`"address":{"M":{"street":{"S":"1 Some Street"},"city":{"S":"Somewhere"},"zip":{"N":"12345"}}},` +
	`"history":{"L":[{"S":"a"},{"S":"b"},{"N":"3"}]},"avatar":{"B":"AQIDBAUGBwgJCgsMDQ4PEA=="}}`

func BenchmarkNormalizeItem(b *testing.B) {
	v := fastjson.MustParse(sample)
	var dst []byte
	b.ReportAllocs()
	b.SetBytes(int64(len(sample)))
	for b.Loop() {
		dst, _, _ = NormalizeItem(dst[:0], v)
	}
}

func BenchmarkDecodeItem(b *testing.B) {
	it, _ := ParseItem([]byte(sample))
	text := AppendItem(nil, it)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = DecodeItem(text)
	}
}

func BenchmarkAppendItem(b *testing.B) {
	it, _ := ParseItem([]byte(sample))
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendItem(dst[:0], it)
	}
}
