package expr

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// item reads an item's JSON.
func item(t testing.TB, json string) attr.Item {
	t.Helper()
	it, err := attr.ParseItem([]byte(json))
	if err != nil {
		t.Fatalf("%s: %v", json, err)
	}
	return it
}

// params are placeholders for tests: names "#a=b", and values as the JSON of a map without colons.
func params(t testing.TB, values string, names ...string) *Params {
	t.Helper()
	p := &Params{}
	for _, n := range names {
		if p.Names == nil {
			p.Names = map[string]string{}
		}
		key, name, _ := strings.Cut(n, "=")
		p.Names[key] = name
	}
	for _, m := range item(t, values) {
		if p.Values == nil {
			p.Values = map[string]attr.Value{}
		}
		p.Values[":"+m.Name] = m.Value
	}
	return p
}

const (
	someValues = `{"s":{"S":"b"},"n":{"N":"5"},"m":{"N":"4"},"b":{"B":"AQ=="},"t":{"BOOL":true},"z":{"NULL":true},` +
		`"l":{"L":[{"S":"x"}]},"map":{"M":{}},"ss":{"SS":["a","b"]},"ns":{"NS":["1"]},"typ":{"S":"L"},"one":{"N":"1"},"e":{"S":""}}`
	someItem = `{"id":{"S":"k"},"a":{"S":"abc"},"n":{"N":"5"},"f":{"BOOL":false},"z":{"NULL":true},"b":{"B":"AQID"},` +
		`"l":{"L":[{"S":"b"},{"N":"5"},{"L":[{"S":"deep"}]}]},"m":{"M":{"x":{"N":"1"},"y":{"M":{"w":{"S":"v"}}}}},` +
		`"ss":{"SS":["a","b","c"]},"ns":{"NS":["1","5"]}}`
)

// message is the text of an *attr.Error, "" for nil.
func message(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *attr.Error
	if !errors.As(err, &e) || e.Code != attr.CodeValidation {
		t.Fatalf("not a ValidationException: %v", err)
	}
	return e.Message
}

func TestConditionEval(t *testing.T) {
	it := item(t, someItem)
	for text, want := range map[string]bool{
		"a = :s": false, "n = :n": true, "n <> :n": false, "n <> :s": true, "nope <> :n": true, "nope = :n": false,
		"n > :m": true, "n >= :n": true, "n < :m": false, "n <= :m": false, "n > :s": false, ":m < n": true, "a > :b": false,
		"n BETWEEN :m AND :n": true, "n between :one and :m": false, "nope BETWEEN :m AND :n": false, ":n BETWEEN :m AND n": true,
		"n IN (:s, :m, :n)": true, "n in (:s)": false, "nope IN (:s)": false, "(n) IN ((:n))": true,
		"n = :n AND a = :s": false, "n = :n OR a = :s": true, "NOT n = :n": false, "not (n = :n and a = :s)": true,
		"a = :s OR n = :n AND f = :t": false, "n = :n OR f = :t AND a = :s": true, "NOT n = :m AND n = :n": true,
		"attribute_exists(a)": true, "attribute_not_exists(a)": false, "attribute_exists(m.y.w)": true, "attribute_exists(m.q)": false,
		"attribute_exists(l[1])": true, "attribute_exists(l[3])": false, "attribute_exists(a.b)": false, "attribute_exists(m[0])": false,
		"attribute_exists(l[2][0])": true, "attribute_not_exists(#undefinedish)": true,
		"attribute_type(l, :typ)": true, "attribute_type(a, :typ)": false,
		"begins_with(a, :s)": false, "begins_with(a, :e)": true, "begins_with(b, :b)": true, "begins_with(n, :s)": false,
		"contains(a, :s)": true, "contains(l, :s)": true, "contains(l, :n)": true, "contains(ss, :s)": true, "contains(ns, :n)": true,
		"contains(ss, :n)": false, "contains(b, :b)": true, "contains(f, :s)": false, "contains(nope, :s)": false,
		"size(a) = :n": false, "size(a) < :n": true, "size(l) < :m": true, "size(ss) <= :m": true, "size(m) > :one": true, "size(b) < :m": true,
		"size(n) = :n": false, "size(n) <> :n": true, "size(nope) > :one": false, "size(:ss) > :one": true,
		"f = :t": false, "z = :z": true, "m = :map": false, "ss <> :ss": true, "l[0] = :s": true, "m.x = :one": true, "m.#dot = :one": true,
		"((n = :n) AND (a <> :s))": true, "(n) = (:n)": true,
	} {
		c, err := ParseCondition(KindCondition, text, params(t, someValues, "#undefinedish=nope", "#dot=x"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := c.Eval(it); got != want || err != nil {
			t.Errorf("%s is %t, %v", text, got, err)
		}
	}
	c, err := ParseCondition(KindFilter, "attribute_not_exists(id) AND NOT a = :s", params(t, someValues))
	if err != nil {
		t.Fatal(err)
	}
	if ok, _ := c.Eval(nil); !ok {
		t.Error("no item has an attribute")
	}
	if got := c.Attributes(); !cmp.Equal(got, []string{"a", "id"}) {
		t.Error(got)
	}
	want := "Filter Expression can only contain non-primary key attributes: Primary key attribute: id"
	if got := message(t, c.CheckNoKeys("Filter Expression", "id", "sort")); got != want {
		t.Error(got)
	}
	if c.CheckNoKeys("Filter Expression", "sort") != nil {
		t.Error("found a key that is none")
	}
}

func TestConditionErrors(t *testing.T) {
	const (
		wrong  = "Incorrect operand type for operator or function; operator or function: "
		count  = "Incorrect number of operands for operator or function; operator or function: "
		misuse = "The function is not allowed to be used this way in an expression; function: "
		parens = "The expression has redundant parentheses;"
		same   = "The first operand must be distinct from the remaining operands for this operator or function; operator: "
	)
	for text, want := range map[string]string{
		"":                               "The expression can not be empty;",
		" ":                              `Syntax error; token: "<EOF>", near: ""`,
		"foo":                            `Syntax error; token: "<EOF>", near: "foo"`,
		"a = ":                           `Syntax error; token: "<EOF>", near: "="`,
		"id = :n a":                      `Syntax error; token: "a", near: ":n a"`,
		"a = 5 AND b":                    `Syntax error; token: "5", near: "= 5 AND"`,
		"a == :n":                        `Syntax error; token: "=", near: "== :n"`,
		"a = : n":                        `Syntax error; token: ":", near: "= : n"`,
		"a ! :n":                         `Syntax error; token: "!", near: "a ! :n"`,
		"é = :n":                         `Syntax error; token: "é", near: "é ="`,
		"(a = :n":                        `Syntax error; token: "<EOF>", near: ":n"`,
		"a = :n)":                        `Syntax error; token: ")", near: ":n)"`,
		"(a = :n) = :n":                  `Syntax error; token: "=", near: ") = :n"`,
		"a OR b = :n":                    `Syntax error; token: "OR", near: "a OR b"`,
		"a.and = :n":                     `Syntax error; token: "and", near: ".and ="`,
		"a IN ()":                        `Syntax error; token: ")", near: "()"`,
		"a[b] = :n":                      `Syntax error; token: "b", near: "[b]"`,
		"a[1 = :n":                       `Syntax error; token: "=", near: "1 = :n"`,
		"a BETWEEN :n":                   `Syntax error; token: "<EOF>", near: ":n"`,
		"size()":                         `Syntax error; token: ")", near: "()"`,
		"((a = :n))":                     parens,
		"((a)) = :n":                     parens,
		"(((a = :n) AND b = :n))":        parens,
		"f(a)":                           "Invalid function name; function: f",
		"SIZE(a) = :n":                   "Invalid function name; function: SIZE",
		"a = if_not_exists(a, :n)":       "The function is not allowed in a condition expression; function: if_not_exists",
		"size(a)":                        misuse + "size",
		"size(a) AND a = :n":             misuse + "size",
		"NOT size(a)":                    misuse + "size",
		"attribute_exists(a) = :t":       misuse + "attribute_exists",
		"size(attribute_exists(a)) = :n": misuse + "attribute_exists",
		"a = contains(a, :s)":            misuse + "contains",
		"status = :n":                    "Attribute name is a reserved keyword; reserved keyword: status",
		"a.Name = :n":                    "Attribute name is a reserved keyword; reserved keyword: Name",
		"#x = :n":                        "An expression attribute name used in the document path is not defined; attribute name: #x",
		"a = :x":                         "An expression attribute value used in expression is not defined; attribute value: :x",
		"a = :x AND #x = :n":             "An expression attribute value used in expression is not defined; attribute value: :x",
		"size(a, b) = :n":                count + "size, number of operands: 2",
		"contains(a)":                    count + "contains, number of operands: 1",
		"a = a":                          same + "=, first operand: [a]",
		"contains(#p, #p)":               same + "contains, first operand: [data]",
		"a.b[1] < a.b[1]":                same + "<, first operand: [a, b, [1]]",
		"a > :t":                         wrong + ">, operand type: BOOL",
		":ss <= a":                       wrong + "<=, operand type: SS",
		"a BETWEEN :z AND :z":            wrong + "BETWEEN, operand type: NULL",
		"size(a) > :map":                 wrong + ">, operand type: M",
		"NOT (a = :n OR a > :l)":         wrong + ">, operand type: L",
		"begins_with(a, :n)":             wrong + "begins_with, operand type: N",
		"size(:n) = :n":                  wrong + "size, operand type: N",
		"size(size(a)) = :n":             wrong + "size, operand type: N",
		"attribute_type(a, b)":           wrong + "attribute_type, operand type: {NS,SS,L,BS,N,M,B,BOOL,NULL,S}",
		"attribute_type(a, :n)":          wrong + "attribute_type, operand type: N",
		"attribute_type(a, :s)":          "Invalid attribute type name found; type: b, valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}",
		"attribute_exists(:s)":           "Operator or function requires a document path; operator or function: attribute_exists",
		"a BETWEEN :n AND :s": "The BETWEEN operator requires same data type for lower and upper bounds; " +
			"lower bound operand: AttributeValue: {N:5}, upper bound operand: AttributeValue: {S:b}",
		"a BETWEEN :n AND :m": "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; " +
			"lower bound operand: AttributeValue: {N:5}, upper bound operand: AttributeValue: {N:4}",
		"a BETWEEN :b AND :s": "The BETWEEN operator requires same data type for lower and upper bounds; " +
			"lower bound operand: AttributeValue: {B:AQ==}, upper bound operand: AttributeValue: {S:b}",
		"a[99999999999] = :n":                         "List index is not within the allowable range; index: [99999999999]",
		"a" + strings.Repeat(".b", 32) + " = :n":      "The document path has too many nesting levels; nesting levels: 33",
		"a IN (" + strings.Repeat(":n,", 100) + ":n)": "The IN operator is provided with too many operands; number of operands: 101",
		// The first of several errors, by DynamoDB's order.
		"((a = :x)) AND f(b)":  parens,
		"f(a) AND status = :n": "Invalid function name; function: f",
		"status = :x":          "Attribute name is a reserved keyword; reserved keyword: status",
		"a > :t AND b = :x":    wrong + ">, operand type: BOOL",
	} {
		_, err := ParseCondition(KindCondition, text, params(t, someValues, "#p=data"))
		if got := message(t, err); got != "Invalid ConditionExpression: "+want {
			t.Errorf("%.60s\n got %s\nwant %s", text, got, want)
		}
	}
	_, err := ParseCondition(KindFilter, "n > :t", params(t, someValues))
	if got := message(t, err); got != "Invalid FilterExpression: "+wrong+">, operand type: BOOL" {
		t.Error(got)
	}
}

func TestLimits(t *testing.T) {
	p := params(t, someValues)
	if _, err := ParseCondition(KindCondition, "a"+strings.Repeat(".b", 31)+" = :n", p); err != nil {
		t.Error(err)
	}
	if _, err := ParseCondition(KindCondition, "a IN ("+strings.Repeat(":n,", 99)+":n)", p); err != nil {
		t.Error(err)
	}
	if _, err := ParseCondition(KindCondition, "a=:n"+strings.Repeat(" OR a=:n", 149), p); err != nil {
		t.Error(err)
	}
	long := "a" + strings.Repeat("b", maxText-5) + "=:n"
	if _, err := ParseCondition(KindCondition, long+" ", p); err != nil {
		t.Error(err)
	}
	nots := strings.Repeat("NOT (", 300)
	for text, want := range map[string]string{
		"a=:n" + strings.Repeat(" OR a=:n", 150):              "too many operators; operator count: 301",
		long + "  ":                                           "Expression size has exceeded the maximum allowed size; expression size: 4097",
		strings.Repeat("(", 1_000_000):                        "expression size: 1000000",
		strings.Repeat("(", 4000):                             "redundant parentheses;",
		strings.Repeat("(", 2000) + strings.Repeat(")", 2000): "redundant parentheses;",
		strings.Repeat("NOT ", 1000):                          "too many operators; operator count: 301",
		nots + "a=:n" + strings.Repeat(")", 300):              "too many operators; operator count: 301",
		strings.Repeat("size(", 800):                          "too many operators; operator count: 301",
	} {
		start := time.Now()
		_, err := ParseCondition(KindCondition, text, p)
		if got := message(t, err); !strings.HasSuffix(got, want) {
			t.Errorf("%.20s...: %s, want %s", text, got, want)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("%.20s... took %v", text, d)
		}
	}
	deep := strings.Repeat("(a=:n OR ", 140) + "a=:n" + strings.Repeat(")", 140)
	c, err := ParseCondition(KindCondition, deep, p)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _ := c.Eval(item(t, `{"a":{"N":"5"}}`)); !ok {
		t.Error("deep condition is false")
	}
	for _, text := range []string{
		"SET a = " + strings.Repeat("(", 3000), "SET a = " + strings.Repeat("if_not_exists(a,", 250), "SET a=:n," + strings.Repeat("b,", 2000),
	} {
		if _, err := ParseUpdate(text, p); err == nil {
			t.Errorf("ParseUpdate took %.20s", text)
		}
	}
}

func TestProjection(t *testing.T) {
	it := item(t, someItem)
	for text, want := range map[string]string{
		"a":                   `{"a":{"S":"abc"}}`,
		"n, a":                `{"a":{"S":"abc"},"n":{"N":"5"}}`,
		"nope, a":             `{"a":{"S":"abc"}}`,
		"nope":                `{}`,
		"m.x, m.y.w":          `{"m":{"M":{"x":{"N":"1"},"y":{"M":{"w":{"S":"v"}}}}}}`,
		"m.q, a.b, n[0], l.x": `{}`,
		"l[2], l[0]":          `{"l":{"L":[{"S":"b"},{"L":[{"S":"deep"}]}]}}`,
		"l[2][0]":             `{"l":{"L":[{"L":[{"S":"deep"}]}]}}`,
		"l[9], l[2][5]":       `{}`,
		"#a, m . #x":          `{"a":{"S":"abc"},"m":{"M":{"x":{"N":"1"}}}}`,
		"l [ 1 ]":             `{"l":{"L":[{"N":"5"}]}}`,
	} {
		pr, err := ParseProjection(text, params(t, `{}`, "#a=a", "#x=x"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := string(attr.AppendItem(nil, pr.Apply(it))); got != want {
			t.Errorf("%s gives %s, want %s", text, got, want)
		}
	}
	pr := ProjectAttributes("n", "nope", "a", "n")
	if got := string(attr.AppendItem(nil, pr.Apply(it))); got != `{"a":{"S":"abc"},"n":{"N":"5"}}` {
		t.Error(got)
	}
	if got := pr.Attributes(); !cmp.Equal(got, []string{"a", "n", "nope"}) {
		t.Error(got)
	}
}

func TestProjectionErrors(t *testing.T) {
	const (
		overlap  = "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: "
		conflict = "Two document paths conflict with each other; must remove or rewrite one of these paths; path one: "
	)
	for text, want := range map[string]string{
		"":              "The expression can not be empty;",
		"a,":            `Syntax error; token: "<EOF>", near: ","`,
		"a b":           `Syntax error; token: "b", near: "a b"`,
		"a, !!!":        `Syntax error; token: "!", near: ", !!"`,
		":a":            `Syntax error; token: ":a", near: ":a"`,
		"(a)":           `Syntax error; token: "(", near: "(a"`,
		"a, count":      "Attribute name is a reserved keyword; reserved keyword: count",
		"or":            "Attribute name is a reserved keyword; reserved keyword: or",
		"a, #q":         "An expression attribute name used in the document path is not defined; attribute name: #q",
		"a, a":          overlap + "[a], path two: [a]",
		"a, a.b":        overlap + "[a], path two: [a, b]",
		"a.b[0].c, a.b": overlap + "[a, b, [0], c], path two: [a, b]",
		"a.b, a[1]":     conflict + "[a, b], path two: [a, [1]]",
		"a[1].b, a.c":   conflict + "[a, [1], b], path two: [a, c]",
	} {
		_, err := ParseProjection(text, params(t, `{}`))
		if got := message(t, err); got != "Invalid ProjectionExpression: "+want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestParams(t *testing.T) {
	p := params(t, `{"a":{"N":"1"},"b":{"N":"2"},"c":{"N":"3"}}`, "#a=a", "#b=b", "#c=c")
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	if _, err := ParseCondition(KindCondition, "#a = :a", p); err != nil {
		t.Fatal(err)
	}
	if got := message(t, p.CheckUnused()); got != "Value provided in ExpressionAttributeNames unused in expressions: keys: {#b, #c}" {
		t.Error(got)
	}
	if _, err := ParseProjection("#b, #c", p); err != nil {
		t.Fatal(err)
	}
	if got := message(t, p.CheckUnused()); got != "Value provided in ExpressionAttributeValues unused in expressions: keys: {:b, :c}" {
		t.Error(got)
	}
	if _, err := ParseUpdate("SET x = :b REMOVE y ADD z :c", p); err != nil {
		t.Fatal(err)
	}
	if err := p.CheckUnused(); err != nil {
		t.Error(err)
	}
	long := strings.Repeat("a", 255)
	for _, c := range []struct {
		p    Params
		want string
	}{
		{Params{Names: map[string]string{}}, "ExpressionAttributeNames must not be empty"},
		{Params{Values: map[string]attr.Value{}}, "ExpressionAttributeValues must not be empty"},
		{Params{Names: map[string]string{"#": "a"}}, `ExpressionAttributeNames contains invalid key: Syntax error; key: "#"`},
		{Params{Names: map[string]string{"a": "a"}}, `ExpressionAttributeNames contains invalid key: Syntax error; key: "a"`},
		{Params{Names: map[string]string{"#a-b": "a"}}, `ExpressionAttributeNames contains invalid key: Syntax error; key: "#a-b"`},
		{
			Params{Names: map[string]string{"#" + long: "a"}},
			"ExpressionAttributeNames contains invalid key: The expression attribute map contains a key that is too long; size of key: 256",
		},
		{Params{Names: map[string]string{"#a": ""}}, "ExpressionAttributeNames contains invalid value: Empty attribute name for key #a"},
		{Params{Values: map[string]attr.Value{":a-b": attr.Null()}}, `ExpressionAttributeValues contains invalid key: Syntax error; key: ":a-b"`},
		{
			Params{Values: map[string]attr.Value{":" + long: attr.Null()}},
			"ExpressionAttributeValues contains invalid key: The expression attribute map contains a key that is too long;",
		},
	} {
		if got := message(t, c.p.Check()); got != c.want {
			t.Errorf("got %s\nwant %s", got, c.want)
		}
	}
}

func TestReservedWords(t *testing.T) {
	words := strings.Fields(reservedWords)
	if len(words) != 573 {
		t.Errorf("%d reserved words", len(words))
	}
	for _, w := range words {
		if !isReserved(w) || !isReserved(strings.ToLower(w)) {
			t.Errorf("%s is not reserved", w)
		}
	}
	for _, w := range []string{"", "A", "STATU", "TATUS", "STATUSES", "id", strings.Repeat("a", 100), "A B"} {
		if isReserved(w) {
			t.Errorf("%q is reserved", w)
		}
	}
}

func BenchmarkEval(b *testing.B) {
	it := item(b, someItem)
	c, err := ParseCondition(KindCondition, "attribute_exists(id) AND n BETWEEN :m AND :n AND (begins_with(a, :s) OR m.y.w <> :s)", params(b, someValues))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.Eval(it)
	}
}

func BenchmarkParseCondition(b *testing.B) {
	p := params(b, someValues)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = ParseCondition(KindCondition, "attribute_exists(id) AND n BETWEEN :m AND :n", p)
	}
}
