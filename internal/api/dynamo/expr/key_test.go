package expr

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

const keyValues = `{"p":{"S":"k"},"s":{"S":"m"},"t":{"S":"t"},"n":{"N":"1"},"m":{"N":"5"},"b":{"BOOL":true},"e":{"S":""},"x":{"B":"AQ=="}}`

func TestKeyCondition(t *testing.T) {
	for text, want := range map[string]SortOp{
		"p = :p":                         SortAny,
		":p = p":                         SortAny,
		"(p = :p)":                       SortAny,
		"p = :p AND s = :s":              SortEqual,
		"s < :s AND p = :p":              SortLess,
		"(p = :p) AND (s <= :s)":         SortLessEqual,
		"(p = :p AND s > :s)":            SortGreater,
		"p = :p and :s <= s":             SortGreaterEqual,
		"p = :p and :s > #s":             SortLess,
		"p = :p AND s BETWEEN :s AND :t": SortBetween,
		"begins_with(s, :s) AND #p = :p": SortBeginsWith,
	} {
		k, err := ParseKeyCondition(text, params(t, keyValues, "#p=p", "#s=s"), "p", "s")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if k.Op != want || k.Partition.Str != "k" || (want != SortAny && k.Low.Str != "m") || (want == SortBetween && k.High.Str != "t") {
			t.Errorf("%s: %+v", text, k)
		}
		if err := k.CheckTypes("S", "S"); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestKeyConditionErrors(t *testing.T) {
	const (
		invalid = "Invalid KeyConditionExpression: "
		wrong   = invalid + "Incorrect operand type for operator or function; operator or function: "
		schema  = "One or more parameter values were invalid: Condition parameter type does not match schema type"
	)
	for text, want := range map[string]string{
		"p = :p OR s = :s":               "Invalid operator used in KeyConditionExpression: OR",
		"NOT p = :p":                     "Invalid operator used in KeyConditionExpression: NOT",
		"p <> :p":                        "Invalid operator used in KeyConditionExpression: <>",
		"p = :p AND s IN (:s)":           "Invalid operator used in KeyConditionExpression: IN",
		"p = :p AND attribute_exists(s)": "Invalid operator used in KeyConditionExpression: attribute_exists",
		"p = :p AND contains(s, :s)":     "Invalid operator used in KeyConditionExpression: contains",
		"p = :p AND size(s) = :n":        invalid + "KeyConditionExpressions cannot contain nested operations",
		"p = s":                          "Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition",
		":p = :s":                        "Invalid condition in KeyConditionExpression: No key attribute specified",
		"p = :p AND begins_with(:s, s)":  "Invalid condition in KeyConditionExpression: begins_with operator must have the key attribute as its first operand",
		"p = :p AND :s BETWEEN s AND :t": "Invalid condition in KeyConditionExpression: BETWEEN operator must have the key attribute as its first operand",
		"p = :p AND s.a = :s":            invalid + "KeyConditionExpressions cannot have conditions on nested attributes",
		"p = :p AND s > :s AND s < :t":   invalid + "KeyConditionExpressions must only contain one condition per key",
		"p = :p AND p = :s":              invalid + "KeyConditionExpressions must only contain one condition per key",
		"p = :p AND s > :s AND x = :t":   "The number of query conditions (3) exceeds the number of key attributes defined in the schema (2)",
		"s = :s":                         "Query condition missed key schema element: p",
		"p = :p AND q = :s":              "Query condition missed key schema element: s",
		"p > :p":                         "Query key condition not supported",
		"begins_with(p, :p) AND s = :s":  "Query key condition not supported",
		"p = ":                           invalid + `Syntax error; token: "<EOF>", near: "="`,
		"":                               invalid + "The expression can not be empty;",
		"((p = :p))":                     invalid + "The expression has redundant parentheses;",
		"p = :p AND begins_with(s, :n)":  wrong + "begins_with, operand type: N",
		"p = :p AND s < :b":              wrong + "<, operand type: BOOL",
		"p = :p AND :b >= s":             wrong + ">=, operand type: BOOL",
		"p = :p AND s BETWEEN :b AND :b": wrong + "BETWEEN, operand type: BOOL",
		"p = :p AND s BETWEEN :t AND :s": invalid + "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; " +
			"lower bound operand: AttributeValue: {S:t}, upper bound operand: AttributeValue: {S:m}",
		"p = :p AND s = :b": schema,
		"p = :n":            schema,
		"p = :p AND s < :x": schema,
		"p = :e":            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: p",
		"p = :p AND s = :e": "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: s",
	} {
		k, err := ParseKeyCondition(text, params(t, keyValues), "p", "s")
		if err == nil {
			err = k.CheckTypes("S", "S")
		}
		if got := message(t, err); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
	if _, err := ParseKeyCondition("p = :p AND s = :s", params(t, keyValues), "p", ""); message(t, err) !=
		"The number of query conditions (2) exceeds the number of key attributes defined in the schema (1)" {
		t.Error(err)
	}
}

// Bounds must hold exactly the keys of the values that satisfy the condition.
func TestBounds(t *testing.T) {
	texts := map[string]string{
		"s = :a": "k = :a", "s < :a": "k < :a", "s <= :a": "k <= :a", "s > :a": "k > :a", "s >= :a": "k >= :a",
		"s BETWEEN :a AND :b": "k BETWEEN :a AND :b", "begins_with(s, :a)": "begins_with(k, :a)",
	}
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom([]attr.Type{attr.S, attr.N, attr.B}).Draw(t, "type")
		var v [3]attr.Value
		for i := range v {
			v[i] = attr.Value{Type: typ, Str: string(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xfe, 0xff}), 0, 4).Draw(t, "value"))}
			if typ == attr.N {
				v[i], _ = attr.Number(rapid.StringMatching(`-?[0-9]{1,3}(\.[0-9]{1,3})?`).Draw(t, "number"))
			}
		}
		if c, _ := attr.Compare(v[0], v[1]); c > 0 {
			v[0], v[1] = v[1], v[0]
		}
		for text, filter := range texts {
			if typ == attr.N && filter[0] == 'b' {
				continue
			}
			p := &Params{Values: map[string]attr.Value{":p": attr.String("x"), ":a": v[0], ":b": v[1]}}
			k, err := ParseKeyCondition("p = :p AND "+text, p, "p", "s")
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			c, err := ParseCondition(KindFilter, filter, p)
			if err != nil {
				t.Fatalf("%s: %v", filter, err)
			}
			want, _ := c.Eval(attr.NewItem(attr.Member{Name: "k", Value: v[2]}))
			lower, upper, err := k.Bounds()
			if err != nil {
				t.Fatal(err)
			}
			key, _ := attr.AppendKey(nil, v[2])
			got := (lower == nil || string(key) >= string(lower)) && (upper == nil || string(key) < string(upper))
			if got != want {
				t.Fatalf("%s: %+v is within % x and % x: %t, want %t", text, v, lower, upper, got, want)
			}
		}
	})
}
