package expr

import (
	"strings"
	"testing"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// TestComparisons finds out for every operator and type whether it is taken, and
// that what is taken can be evaluated.
func TestComparisons(t *testing.T) {
	values := map[attr.Type]attr.Value{
		attr.S: attr.String("a"), attr.N: {Type: attr.N, Str: "1"}, attr.B: attr.Bytes([]byte("a")), attr.BOOL: attr.Bool(true), attr.NULL: attr.Null(),
		attr.M: {Type: attr.M}, attr.L: {Type: attr.L}, attr.SS: attr.SetOf(attr.SS, "a"), attr.NS: attr.SetOf(attr.NS, "1"), attr.BS: attr.SetOf(attr.BS, "a"),
	}
	taken := map[string]string{
		"EQ": "S N B BOOL NULL M L SS NS BS", "NE": "S N B BOOL NULL M L SS NS BS", "LE": "S N B", "LT": "S N B", "GE": "S N B", "GT": "S N B",
		"IN": "S N B", "BETWEEN": "S N B", "BEGINS_WITH": "S B", "CONTAINS": "S N B BOOL NULL", "NOT_CONTAINS": "S N B BOOL NULL", "NULL": "", "NOT_NULL": "",
	}
	for _, op := range ComparisonOperators() {
		var got []string
		for typ := attr.S; typ <= attr.BS; typ++ {
			c := Comparison{Name: "a", Op: op, Values: []attr.Value{values[typ]}}
			if op == "BETWEEN" {
				c.Values = append(c.Values, values[typ])
			}
			if c.Check() != nil {
				continue
			}
			got = append(got, typ.String())
			cond := CompareAll([]Comparison{c}, false)
			for _, it := range []attr.Item{nil, attr.NewItem(attr.Member{Name: "a", Value: values[typ]})} {
				if _, err := cond.Eval(it); err != nil {
					t.Errorf("%s of %s: %v", op, typ, err)
				}
			}
		}
		if s := strings.Join(got, " "); s != taken[op] {
			t.Errorf("%s takes %s, want %s", op, s, taken[op])
		}
	}
	if len(taken) != len(ComparisonOperators()) {
		t.Error("not every operator was tried")
	}
	for _, c := range []Comparison{{Op: "DOG"}, {Op: ""}, {Op: "EQ"}, {Op: "NULL", Values: []attr.Value{attr.Null()}}} {
		if c.Check() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	if CompareAll(nil, true) != nil || ChangeAll(nil) != nil {
		t.Error("something was made of nothing")
	}
	if (&Change{Action: "MUL", Value: attr.Null()}).Check() == nil {
		t.Error("an unknown action is taken")
	}
}

func TestUpdateRemovesOnly(t *testing.T) {
	for text, want := range map[string]bool{"REMOVE a": true, "REMOVE a DELETE ss :ss": true, "REMOVE a SET b = :n": false, "ADD n :n": false} {
		u, err := ParseUpdate(text, params(t, someValues))
		if err != nil {
			t.Fatal(err)
		}
		if u.RemovesOnly() != want {
			t.Errorf("%s: %t", text, !want)
		}
	}
}
