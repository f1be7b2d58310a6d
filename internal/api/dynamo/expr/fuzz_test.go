package expr

import (
	"testing"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

func FuzzCondition(f *testing.F) {
	for _, s := range []string{
		"a = :s AND (n > :n OR NOT attribute_exists(m.x[1]))", "n BETWEEN :m AND :n", "a IN (:s, :n)", "size(a) < :n", "((a)) = :n",
		"begins_with(#a, :s)", "attribute_type(a, :typ)", "contains(l, :s)", "(((", "a.b[99999999999999] = :n", "a=:n OR", "#", ":", "é",
	} {
		f.Add(s)
	}
	it := item(f, someItem)
	f.Fuzz(func(t *testing.T, text string) {
		p := params(t, someValues, "#a=a")
		c, err := ParseCondition(KindCondition, text, p)
		if err != nil {
			message(t, err)
			return
		}
		for _, it := range []attr.Item{it, nil} {
			first, err := c.Eval(it)
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := c.Eval(it); again != first {
				t.Fatalf("%q is true and false", text)
			}
		}
		if n, err := ParseCondition(KindCondition, "NOT ("+text+")", p); err == nil {
			yes, _ := c.Eval(it)
			if no, _ := n.Eval(it); yes == no {
				t.Fatalf("%q and its negation are both %t", text, yes)
			}
		}
		if k, err := ParseKeyCondition(text, p, "a", "n"); err == nil {
			if k.CheckTypes("S", "N") == nil {
				if _, _, err := k.Bounds(); err != nil {
					t.Fatal(err)
				}
			}
		} else {
			message(t, err)
		}
	})
}

func FuzzUpdate(f *testing.F) {
	for _, s := range []string{
		"SET a = :s, m.x = m.x + :n REMOVE l[0], l[2] ADD n :n DELETE ss :ss", "SET l[9] = :n, l[1] = list_append(l, :l)",
		"SET #a = if_not_exists(q, (:n - :one))", "ADD ns :ns", "REMOVE m.y.w", "SET a = :n SET b = :n", "SET a.b = :n, a[1] = :n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseUpdate(text, params(t, someValues, "#a=a"))
		if err != nil {
			message(t, err)
			return
		}
		before := item(t, someItem)
		after, err := u.Apply(before)
		if !attr.ItemsEqual(before, item(t, someItem)) {
			t.Fatalf("%q changed its argument", text)
		}
		if err != nil {
			message(t, err)
			return
		}
		// What comes out is an item as valid as what went in.
		json := attr.AppendItem(nil, after)
		back, err := attr.ParseItem(json)
		if err != nil || !attr.ItemsEqual(back, after) {
			t.Fatalf("%q made %s: %v", text, json, err)
		}
		u.Touched().Apply(after)
	})
}

func FuzzProjection(f *testing.F) {
	for _, s := range []string{"a, m.x, l[0], l[2][0]", "#a", "a, a.b", "a.b, a[0]", "a,", "count", "m . y . w"} {
		f.Add(s)
	}
	it := item(f, someItem)
	f.Fuzz(func(t *testing.T, text string) {
		pr, err := ParseProjection(text, params(t, `{}`, "#a=a"))
		if err != nil {
			message(t, err)
			return
		}
		part := pr.Apply(it)
		if attr.ItemSize(part) > attr.ItemSize(it) {
			t.Fatalf("%q gives more than there is: %s", text, attr.AppendItem(nil, part))
		}
		if _, err := attr.ParseItem(attr.AppendItem(nil, part)); err != nil {
			t.Fatal(err)
		}
	})
}
