package expr

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

func TestUpdate(t *testing.T) {
	const doc = `{"a":{"N":"1"},"l":{"L":[{"S":"0"},{"S":"1"},{"S":"2"},{"S":"3"}]},"m":{"M":{"x":{"N":"1"},"y":{"S":"s"}}},"ss":{"SS":["a","b"]}}`
	for _, c := range []struct {
		text, before, after, updatedNew string
	}{
		{"SET b = :n", `{"a":{"N":"1"}}`, `{"a":{"N":"1"},"b":{"N":"5"}}`, `{"b":{"N":"5"}}`},
		{"set a = :s", `{"a":{"N":"1"}}`, `{"a":{"S":"b"}}`, `{"a":{"S":"b"}}`},
		{"SET a = :s, b = a", `{"a":{"N":"1"}}`, `{"a":{"S":"b"},"b":{"N":"1"}}`, `{"a":{"S":"b"},"b":{"N":"1"}}`},
		{"SET a = a + :n", `{"a":{"N":"1"}}`, `{"a":{"N":"6"}}`, `{"a":{"N":"6"}}`},
		{"SET a = (:n - a)", `{"a":{"N":"1.5"}}`, `{"a":{"N":"3.5"}}`, `{"a":{"N":"3.5"}}`},
		{"SET a = (a - :n) + :n", `{"a":{"N":"1"}}`, `{"a":{"N":"1"}}`, `{"a":{"N":"1"}}`},
		{"SET a = if_not_exists(a, :n)", `{"a":{"N":"1"}}`, `{"a":{"N":"1"}}`, `{"a":{"N":"1"}}`},
		{"SET a = if_not_exists(b, :n) + :one", `{"a":{"N":"1"}}`, `{"a":{"N":"6"}}`, `{"a":{"N":"6"}}`},
		{"SET a = if_not_exists(b, if_not_exists(c, :n))", `{}`, `{"a":{"N":"5"}}`, `{"a":{"N":"5"}}`},
		{
			"SET l = list_append(:l, if_not_exists(l, :l))", `{"l":{"L":[{"S":"y"}]}}`, `{"l":{"L":[{"S":"x"},{"S":"y"}]}}`,
			`{"l":{"L":[{"S":"x"},{"S":"y"}]}}`,
		},
		{"SET m.z = :n, m.x = m.x + m.x", `{"m":{"M":{"x":{"N":"1"}}}}`, `{"m":{"M":{"x":{"N":"2"},"z":{"N":"5"}}}}`, `{"m":{"M":{"x":{"N":"2"},"z":{"N":"5"}}}}`},
		{"SET l[1] = :n, l[7] = :s, l[5] = :n", `{"l":{"L":[{"S":"0"},{"S":"1"}]}}`, `{"l":{"L":[{"S":"0"},{"N":"5"},{"N":"5"},{"S":"b"}]}}`, `{"l":{"L":[{"N":"5"}]}}`},
		{"REMOVE l[0], l[2], l[9] SET l[1] = :n", doc, strings.Replace(doc, `[{"S":"0"},{"S":"1"},{"S":"2"},{"S":"3"}]`, `[{"N":"5"},{"S":"3"}]`, 1), ``},
		{"REMOVE a, nope, m.x, m.q, ss", doc, `{"l":{"L":[{"S":"0"},{"S":"1"},{"S":"2"},{"S":"3"}]},"m":{"M":{"y":{"S":"s"}}}}`, `{}`},
		{"REMOVE m.x, m.y", `{"m":{"M":{"x":{"N":"1"},"y":{"S":"s"}}}}`, `{"m":{"M":{}}}`, `{}`},
		{"ADD a :n, b :n, m.x :n", `{"a":{"N":"1"},"m":{"M":{}}}`, `{"a":{"N":"6"},"b":{"N":"5"},"m":{"M":{"x":{"N":"5"}}}}`, ``},
		{"ADD ss :ss", `{"ss":{"SS":["c","b"]}}`, `{"ss":{"SS":["a","b","c"]}}`, ``},
		{"ADD ss :ss", `{}`, `{"ss":{"SS":["a","b"]}}`, ``},
		{"DELETE ss :ss, q :ss", `{"ss":{"SS":["c","b"]}}`, `{"ss":{"SS":["c"]}}`, `{"ss":{"SS":["c"]}}`},
		{"DELETE ss :ss", `{"ss":{"SS":["a"]},"z":{"S":""}}`, `{"z":{"S":""}}`, `{}`},
		{"ADD a :n REMOVE m SET b = m DELETE ss :ss", doc, `{"a":{"N":"6"},"b":{"M":{"x":{"N":"1"},"y":{"S":"s"}}},"l":{"L":[{"S":"0"},{"S":"1"},{"S":"2"},{"S":"3"}]}}`, ``},
		{"SET #n[0].#n = :n", `{"x":{"L":[{"M":{}}]}}`, `{"x":{"L":[{"M":{"x":{"N":"5"}}}]}}`, `{"x":{"L":[{"M":{"x":{"N":"5"}}}]}}`},
	} {
		u, err := ParseUpdate(c.text, params(t, someValues, "#n=x"))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		before := item(t, c.before)
		got, err := u.Apply(before)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if text := string(attr.AppendItem(nil, got)); text != c.after {
			t.Errorf("%s\n got %s\nwant %s", c.text, text, c.after)
		}
		if !cmp.Equal(before, item(t, c.before)) {
			t.Errorf("%s changed its argument", c.text)
		}
		if text := string(attr.AppendItem(nil, u.Touched().Apply(got))); c.updatedNew != "" && text != c.updatedNew {
			t.Errorf("%s\nUPDATED_NEW is %s\n        want %s", c.text, text, c.updatedNew)
		}
	}
}

func TestUpdateFailures(t *testing.T) {
	const (
		nope     = "The provided expression refers to an attribute that does not exist in the item"
		dataType = "An operand in the update expression has an incorrect data type"
		document = "The document path provided in the update expression is invalid for update"
	)
	huge := params(t, `{"h":{"S":"`+strings.Repeat("x", 300<<10)+`"},"n":{"N":"1"}}`)
	it := item(t, someItem)
	for text, want := range map[string]string{
		"SET q = nope":                   nope,
		"SET q = nope + :n":              nope,
		"SET q = m.q":                    nope,
		"SET q = if_not_exists(x, nope)": nope,
		"SET q = list_append(nope, :l)":  nope,
		"SET q = a + :n":                 dataType,
		"SET q = :n - ss":                dataType,
		"SET q = list_append(a, :l)":     dataType,
		"ADD a :n":                       dataType,
		"ADD n :ss":                      dataType,
		"ADD ss :ns":                     dataType,
		"DELETE ns :ss":                  dataType,
		"DELETE n :ss":                   dataType,
		"SET nope.x = :n":                document,
		"SET a.x = :n":                   document,
		"SET m[0] = :n":                  document,
		"SET l.x = :n":                   document,
		"SET l[9].x = :n":                document,
		"REMOVE nope.x":                  document,
		"REMOVE a[1]":                    document,
		"ADD nope.x :n":                  document,
		"SET n = n + :huge":              "Number overflow. Attempting to store a number with magnitude larger than supported range",
		"SET n = n + :fine":              "Attempting to store more than 38 significant digits in a Number",
	} {
		p := params(t, someValues)
		p.Values[":huge"] = attr.Value{Type: attr.N, Str: strings.Repeat("9", 38) + strings.Repeat("0", 88)}
		p.Values[":fine"] = attr.Value{Type: attr.N, Str: "0." + strings.Repeat("0", 37) + "1"}
		if text == "SET n = n + :huge" {
			text = "SET n = :huge + :huge"
		}
		u, err := ParseUpdate(text, p)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		_, err = u.Apply(it)
		if got := message(t, err); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	const tooLarge = "Item size to update has exceeded the maximum allowed size"
	if _, err := ParseUpdate("SET x = :h, y = :h ADD n :n", huge); message(t, err) != tooLarge {
		t.Error(err)
	}
	u, err := ParseUpdate("SET x = :h ADD n :n", huge)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Apply(it.With("more", attr.String(strings.Repeat("x", 200<<10)))); message(t, err) != tooLarge {
		t.Error(err)
	}
	nested := attr.String("leaf")
	for range 31 {
		nested = attr.Value{Type: attr.L, List: []attr.Value{nested}}
	}
	u, err = ParseUpdate("SET m.x = :d", &Params{Values: map[string]attr.Value{":d": nested}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Apply(it); !strings.HasPrefix(message(t, err), "Nesting Levels have exceeded") {
		t.Error(err)
	}
	if got := message(t, u.CheckKeys("id", "m")); got != "One or more parameter values were invalid: Cannot update attribute m. This attribute is part of the key" {
		t.Error(got)
	}
	if got := u.Attributes(); u.CheckKeys("id") != nil || !cmp.Equal(got, []string{"m"}) {
		t.Error(got)
	}
}

func TestUpdateErrors(t *testing.T) {
	const (
		wrong   = "Incorrect operand type for operator or function; operator or function: "
		section = "Incorrect operand type for operator or function; operator: "
		overlap = "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: "
	)
	for text, want := range map[string]string{
		"":                                  "The expression can not be empty;",
		"  ":                                "The expression can not be empty;",
		"INVALID SYNTAX HERE":               `Syntax error; token: "INVALID", near: "INVALID SYNTAX"`,
		"ADD hits : incr":                   `Syntax error; token: ":", near: "hits : incr"`,
		"SET #n = :n, #, #n = :n":           `Syntax error; token: "#", near: ", #,"`,
		"SET a = VALUE 1":                   `Syntax error; token: "1", near: "VALUE 1"`,
		"SET a":                             `Syntax error; token: "<EOF>", near: "a"`,
		"SET a = :n,":                       `Syntax error; token: "<EOF>", near: ","`,
		"SET a = :n + :n + :n":              `Syntax error; token: "+", near: ":n + :n"`,
		"SET set = :n":                      `Syntax error; token: "set", near: "SET set ="`,
		"SET :n = :n":                       `Syntax error; token: ":n", near: "SET :n ="`,
		"ADD a b":                           `Syntax error; token: "b", near: "a b"`,
		"ADD a :n + :n":                     `Syntax error; token: "+", near: ":n + :n"`,
		"SET count = :n":                    "Attribute name is a reserved keyword; reserved keyword: count",
		"SET a = f(:n)":                     "Invalid function name; function: f",
		"SET a = size(b)":                   "The function is not allowed in an update expression; function: size",
		"SET a = :n SET b = :n":             `The "SET" section can only be used once in an update expression;`,
		"REMOVE a, #q":                      "An expression attribute name used in the document path is not defined; attribute name: #q",
		"SET a = :q":                        "An expression attribute value used in expression is not defined; attribute value: :q",
		"SET f = :n, f = :s":                overlap + "[f], path two: [f]",
		"SET a = :n REMOVE a.b":             overlap + "[a], path two: [a, b]",
		"SET a.b = :n REMOVE a[1]":          "Two document paths conflict with each other; must remove or rewrite one of these paths; path one: [a, b], path two: [a, [1]]",
		"ADD a :s":                          section + "ADD, operand type: STRING",
		"ADD a :map":                        section + "ADD, operand type: MAP",
		"DELETE a :n":                       section + "DELETE, operand type: NUMBER",
		"DELETE a :t":                       section + "DELETE, operand type: BOOLEAN",
		"SET a = b + :s":                    wrong + "+, operand type: S",
		"SET a = :ss - b":                   wrong + "-, operand type: SS",
		"SET a = list_append(b, :n)":        wrong + "list_append, operand type: N",
		"SET a = list_append(b)":            "Incorrect number of operands for operator or function; operator or function: list_append, number of operands: 1",
		"SET a = if_not_exists(:n, b)":      "Operator or function requires a document path; operator or function: if_not_exists",
		"SET a = if_not_exists(b, :n, :n)":  "Incorrect number of operands for operator or function; operator or function: if_not_exists, number of operands: 3",
		"SET a = f(b) REMOVE count, #q, :q": `Syntax error; token: ":q", near: ", :q"`,
		"SET a = f(b) REMOVE count, #q":     "Attribute name is a reserved keyword; reserved keyword: count",
	} {
		_, err := ParseUpdate(text, params(t, someValues, "#n=x"))
		if got := message(t, err); got != "Invalid UpdateExpression: "+want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	it := item(b, someItem)
	u, err := ParseUpdate("SET m.x = m.x + :n, a = :s ADD n :n", params(b, someValues))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = u.Apply(it)
	}
}

// TestUpdateCost has updates that ask for far more than an item can hold. They are
// refused before it is computed: each would take gigabytes.
func TestUpdateCost(t *testing.T) {
	list := attr.Value{Type: attr.L, List: slices.Repeat([]attr.Value{attr.Null()}, 190_000)}
	set := attr.Value{Type: attr.SS}
	for i := range 60_000 {
		set.Set = append(set.Set, fmt.Sprintf("%05d", i))
	}
	it := attr.NewItem(attr.Member{Name: "l", Value: list}, attr.Member{Name: "s", Value: set})
	values := map[string]attr.Value{":l": list, ":s": set, ":e": {Type: attr.L, List: []attr.Value{attr.Null()}}}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("a%d = list_append(l, :e)", i))
	}
	for _, text := range []string{
		"SET a = " + strings.Repeat("list_append(l, ", 200) + "l" + strings.Repeat(")", 200),
		"SET a = " + strings.Repeat("list_append(if_not_exists(nix, l), ", 100) + "l" + strings.Repeat(")", 100),
		"SET a = " + strings.Repeat("if_not_exists(nix, list_append(l, ", 60) + "l" + strings.Repeat("))", 60),
		"SET " + strings.Join(many, ", "),
		"SET " + strings.ReplaceAll(strings.Join(many, ", "), "list_append(l, :e)", "l"),
		"SET " + strings.ReplaceAll(strings.Join(many, ", "), "list_append(l, :e)", ":l"),
		"ADD " + strings.ReplaceAll(strings.Join(many, ", "), "= list_append(l, :e)", ":s"),
		"DELETE " + strings.ReplaceAll(strings.Join(many, ", "), "= list_append(l, :e)", ":s"),
	} {
		u, err := ParseUpdate(text, &Params{Values: values})
		if err == nil {
			_, err = u.Apply(it)
		}
		if err == nil || message(t, err) != "Item size to update has exceeded the maximum allowed size" {
			t.Errorf("%.60s: %v", text, err)
		}
	}
	// A message names what it is about, and no more of it than a path may have.
	long := &Params{Names: map[string]string{"#n": strings.Repeat("n", 60_000)}}
	_, err := ParseProjection(strings.Repeat("#n.", 600)+"#n, "+strings.Repeat("#n.", 600)+"#n", long)
	if got := message(t, err); len(got) > 200 {
		t.Errorf("a message of %d bytes: %.100s", len(got), got)
	}
}

func TestUpdateCharge(t *testing.T) {
	for text, want := range map[string]int{
		"SET bb = :n":               3 + 19 + 2 + 2,
		"SET bb = :n, c = :n":       3 + 2*19 + 2 + 2 + 1 + 2,
		"SET bb = :n REMOVE c":      3 + 19 + 2 + 2 + 2,
		"ADD bb :n DELETE gone :ss": 3 + 19 + 2 + 2 + 2,
		"SET m.x = :n":              3 + 19 + 1 + attr.Size(attr.Value{Type: attr.M, Map: attr.NewItem(attr.Member{Name: "x", Value: attr.Value{Type: attr.N, Str: "5"}})}),
		"SET l[0] = :n":             3 + 19 + 1 + 1 + attr.Size(attr.Value{Type: attr.L, List: []attr.Value{{Type: attr.N, Str: "5"}}}),
		"REMOVE m.x, l[0], c":       3 + 3*2,
	} {
		u, err := ParseUpdate(text, params(t, someValues))
		if err != nil {
			t.Fatal(err)
		}
		after, err := u.Apply(item(t, `{"m":{"M":{"x":{"N":"1"}}},"l":{"L":[{"N":"1"}]},"c":{"N":"7"},"untouched":{"S":"xxxxxxxxxx"}}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := u.Charge(after); got != want {
			t.Errorf("%s is charged %d, want %d", text, got, want)
		}
	}
}
