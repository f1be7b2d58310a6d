// Package expr is DynamoDB's expression language: conditions and filters, key
// conditions, projections and updates, parsed from a request's text and
// applied to items.
//
// Parsing takes time near linear in the text and bounded stack, whatever the text.
// What is wrong with an expression, or with an item that it is applied to, is
// said in DynamoDB's own words as an *attr.Error with the code ValidationException.
// The language is that of
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.html.
//
// Parsed expressions are immutable and may be used concurrently. A Params
// counts what was used and belongs to the one goroutine that handles its request.
// Items and values are never changed in place. Nothing needs closing.
package expr

import (
	"maps"
	"slices"
	"strings"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// Kind is the request parameter that an expression stands in; messages begin with it.
type Kind string

// The kinds of expressions.
const (
	KindCondition    Kind = "ConditionExpression"
	KindFilter       Kind = "FilterExpression"
	KindKeyCondition Kind = "KeyConditionExpression"
	KindProjection   Kind = "ProjectionExpression"
	KindUpdate       Kind = "UpdateExpression"
)

// Limits that DynamoDB sets, and one of our own.
const (
	maxText      = 4096 // bytes of an expression
	maxOperators = 300  // operators and functions in an expression
	maxPath      = 32   // elements of a document path
	maxOperands  = 100  // of IN
	maxParamKey  = 255  // bytes of a placeholder, its sign included

	// maxNesting bounds the stack that parentheses take, as maxOperators bounds what
	// else may nest. Deeper ones can't all hold one of the operators that an expression
	// may have, so some of them are redundant.
	maxNesting = maxOperators + 20
)

// Params are the placeholders of one request (or of one part of a
// transaction), shared by all its expressions.
type Params struct {
	Names  map[string]string     // ExpressionAttributeNames: "#a" and what it stands for
	Values map[string]attr.Value // ExpressionAttributeValues: ":a" and its value

	usedNames, usedValues map[string]struct{}
}

// Check refuses maps that are there but empty, and placeholders that are
// malformed. It is called before any expression is parsed.
func (p *Params) Check() error {
	if p.Names != nil && len(p.Names) == 0 {
		return attr.Invalid("ExpressionAttributeNames must not be empty")
	}
	if p.Values != nil && len(p.Values) == 0 {
		return attr.Invalid("ExpressionAttributeValues must not be empty")
	}
	for _, key := range slices.Sorted(maps.Keys(p.Names)) {
		switch {
		case len(key) > maxParamKey:
			return attr.Invalid("ExpressionAttributeNames contains invalid key: "+
				"The expression attribute map contains a key that is too long; size of key: %d", len(key))
		case !isPlaceholder(key, '#'):
			return attr.Invalid(`ExpressionAttributeNames contains invalid key: Syntax error; key: "%s"`, key)
		case p.Names[key] == "":
			return attr.Invalid("ExpressionAttributeNames contains invalid value: "+
				"Empty attribute name for key %s", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Values)) {
		switch {
		case len(key) > maxParamKey:
			return attr.Invalid("ExpressionAttributeValues contains invalid key: " +
				"The expression attribute map contains a key that is too long;")
		case !isPlaceholder(key, ':'):
			return attr.Invalid(`ExpressionAttributeValues contains invalid key: Syntax error; key: "%s"`, key)
		}
	}
	return nil
}

func isPlaceholder(key string, sign byte) bool {
	return len(key) > 1 && key[0] == sign && wordEnd(key, 1) == len(key)
}

// CheckUnused refuses placeholders that no expression used. It is called once
// all expressions of the request were parsed.
func (p *Params) CheckUnused() error {
	if unused := unused(p.Names, p.usedNames); unused != "" {
		return attr.Invalid("Value provided in ExpressionAttributeNames unused in expressions: keys: {%s}", unused)
	}
	if unused := unused(p.Values, p.usedValues); unused != "" {
		return attr.Invalid("Value provided in ExpressionAttributeValues unused in expressions: keys: {%s}", unused)
	}
	return nil
}

func unused[V any](given map[string]V, used map[string]struct{}) string {
	var keys []string
	for key := range given {
		if _, ok := used[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return strings.Join(keys, ", ")
}

func (p *Params) name(key string) (string, bool) {
	name, ok := p.Names[key]
	if ok {
		if p.usedNames == nil {
			p.usedNames = make(map[string]struct{}, len(p.Names))
		}
		p.usedNames[key] = struct{}{}
	}
	return name, ok
}

func (p *Params) value(key string) (attr.Value, bool) {
	v, ok := p.Values[key]
	if ok {
		if p.usedValues == nil {
			p.usedValues = make(map[string]struct{}, len(p.Values))
		}
		p.usedValues[key] = struct{}{}
	}
	return v, ok
}
