package dynamo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/api/dynamo/expr"
)

// Members of before there were expressions. What they say becomes the same
// trees as an expression's.
const (
	attributesToGet     = "AttributesToGet"
	attributeUpdates    = "AttributeUpdates"
	conditionalOperator = "ConditionalOperator"
	expected            = "Expected"
	keyConditions       = "KeyConditions"
	queryFilter         = "QueryFilter"
	scanFilter          = "ScanFilter"

	comparisonOperator = "ComparisonOperator"
)

const invalidParameter = "One or more parameter values were invalid: "

// legacyWords checks the words of the legacy members named, those of comparisons
// and AttributeUpdates, and ConditionalOperator.
func (v *violations) legacyWords(o *fastjson.Object, names ...string) error {
	if _, err := v.enum(o, conditionalOperator, "OR", "AND"); err != nil {
		return err
	}
	for _, name := range names {
		m, err := readMap(o, name)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		word, words := comparisonOperator, expr.ComparisonOperators()
		if name == attributeUpdates {
			word, words = "Action", expr.Actions()
		}
		err = visitSorted(m, func(key string, entry *fastjson.Value) error {
			if entry.Type() == fastjson.TypeNull {
				return nil
			}
			s, err := asStruct(entry)
			if err != nil {
				return err
			}
			given, there, err := readString(s, word)
			at := lowerFirst(name) + "." + key + ".member." + lowerFirst(word)
			switch {
			case err != nil:
				return err
			case !there && name != expected && name != attributeUpdates:
				v.add(nil, at, notNull)
			case there && !slices.Contains(words, given):
				v.add(given, at, enumSet(words))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func enumSet(words []string) string {
	return "Member must satisfy enum value set: [" + strings.Join(words, ", ") + "]"
}

func asStruct(v *fastjson.Value) (*fastjson.Object, error) {
	o, err := v.Object()
	if err != nil {
		return nil, errSerialization("Unexpected value type in payload")
	}
	return o, nil
}

// anyOf reads ConditionalOperator, which needs two conditions at least.
func anyOf(o *fastjson.Object, conditions int) (bool, error) {
	word, there, err := readString(o, conditionalOperator)
	switch {
	case err != nil || !there:
		return false, err
	case conditions == 0:
		return false, errValidation("ConditionalOperator cannot be used without Filter or Expected")
	case conditions == 1:
		return false, errValidation("ConditionalOperator can only be used when Filter or Expected has two or more elements")
	}
	return word == "OR", nil
}

// readLegacyCondition reads Expected, QueryFilter or ScanFilter, nil where it
// says nothing.
func readLegacyCondition(o *fastjson.Object, name string) (*expr.Condition, error) {
	list, err := readComparisons(o, name)
	if err != nil {
		return nil, err
	}
	either, err := anyOf(o, len(list))
	if err != nil {
		return nil, err
	}
	return expr.CompareAll(list, either), nil
}

// readComparisons reads a map of comparisons by attribute, in the order of their names.
func readComparisons(o *fastjson.Object, name string) ([]expr.Comparison, error) {
	m, err := readMap(o, name)
	if err != nil || m == nil {
		return nil, err
	}
	var out []expr.Comparison
	err = visitSorted(m, func(key string, v *fastjson.Value) error {
		if v.Type() == fastjson.TypeNull {
			return errValidation(invalidParameter+"%s must not be null for Attribute: %s",
				map[bool]string{true: "ExpectedAttributeValue", false: "Condition"}[name == expected], key)
		}
		if err := attr.CheckName(key); err != nil {
			return err
		}
		s, err := asStruct(v)
		if err != nil {
			return err
		}
		c, err := readComparison(s, key, name == expected)
		if err != nil {
			return err
		}
		out = append(out, c)
		return c.Check()
	})
	return out, err
}

func readComparison(o *fastjson.Object, name string, ofExpected bool) (expr.Comparison, error) {
	c := expr.Comparison{Name: name}
	var err error
	if c.Op, _, err = readString(o, comparisonOperator); err != nil {
		return c, err
	}
	list, listed, err := readList(o, "AttributeValueList")
	if err != nil {
		return c, err
	}
	value := member(o, "Value")
	if ofExpected {
		exists, said, err := readBool(o, "Exists")
		if err != nil {
			return c, err
		}
		if err := checkExpected(&c, exists, said, value != nil, listed); err != nil {
			return c, err
		}
		if c.Op == "" { // without an operator, Value and Exists say it all
			c.Op = "EQ"
			if said && !exists {
				c.Op = "NULL"
			}
		}
		if value != nil {
			list = []*fastjson.Value{value}
		}
	}
	for _, j := range list {
		v, err := attr.FromJSON(j)
		if err != nil {
			return c, err
		}
		c.Values = append(c.Values, v)
	}
	return c, nil
}

// checkExpected refuses members of an ExpectedAttributeValue that contradict each other.
func checkExpected(c *expr.Comparison, exists, said, valued, listed bool) error {
	refuse := func(format string, args ...any) error {
		return errValidation(invalidParameter+"%s for Attribute: %s", fmt.Sprintf(format, args...), c.Name)
	}
	switch {
	case said && c.Op != "":
		return refuse("Exists and ComparisonOperator cannot be used together")
	case valued && listed:
		return refuse("Value and AttributeValueList cannot be used together")
	case c.Op == "" && listed:
		return refuse("AttributeValueList can only be used with a ComparisonOperator")
	case said && !exists && valued:
		return refuse("Value cannot be used when Exists is false")
	case valued || listed:
		return nil
	case c.Op != "" && c.Op != "NULL" && c.Op != "NOT_NULL":
		return refuse("Value or AttributeValueList must be used with ComparisonOperator: %s", c.Op)
	case c.Op == "" && !said:
		return refuse("Value must be provided when Exists is null")
	case c.Op == "" && exists:
		return refuse("Value must be provided when Exists is true")
	}
	return nil
}

// readChanges reads AttributeUpdates, nil where there are none.
func readChanges(o *fastjson.Object) (*expr.Update, error) {
	m, err := readMap(o, attributeUpdates)
	if err != nil || m == nil {
		return nil, err
	}
	var out []expr.Change
	err = visitSorted(m, func(key string, v *fastjson.Value) error {
		if v.Type() == fastjson.TypeNull {
			return errValidation(invalidParameter+"AttributeValueUpdate must not be null for Attribute: %s", key)
		}
		if err := attr.CheckName(key); err != nil {
			return err
		}
		s, err := asStruct(v)
		if err != nil {
			return err
		}
		c := expr.Change{Name: key}
		action, there, err := readString(s, "Action")
		if err != nil {
			return err
		}
		if c.Action = action; !there {
			c.Action = "PUT"
		}
		if value := member(s, "Value"); value != nil {
			if c.Value, err = attr.FromJSON(value); err != nil {
				return err
			}
		}
		out = append(out, c)
		return c.Check()
	})
	if err != nil {
		return nil, err
	}
	return expr.ChangeAll(out), nil
}
