package dynamo

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLegacyConditions compares what filters of before say with what expressions say.
func TestLegacyConditions(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("lines", "id", "n", ""))
	for i, rest := range []string{
		``, `,"a":{"N":"1"}`, `,"a":{"N":"5"}`, `,"a":{"S":"abc"}`, `,"a":{"S":"b"}`, `,"a":{"B":"YWJj"}`, `,"a":{"SS":["abc","b"]}`,
		`,"a":{"L":[{"S":"b"},{"BOOL":true},{"NULL":true}]}`, `,"a":{"NS":["1","5"]}`, `,"a":{"NULL":true}`, `,"a":{"BOOL":true}`,
		`,"a":{"M":{"x":{"N":"1"}}}`, `,"a":{"N":"1"},"b":{"N":"1"}`, `,"a":{"N":"5"},"b":{"N":"1"}`,
	} {
		f.ok("PutItem", fmt.Sprintf(`{"TableName":"lines","Item":{"id":{"S":"a"},"n":{"N":"%d"}%s}}`, i, rest))
	}
	for _, tc := range []struct{ legacy, expression, values string }{
		{`"a":{"ComparisonOperator":"EQ","AttributeValueList":[{"N":"1.0"}]}`, "a = :v", `":v":{"N":"1"}`},
		{`"a":{"ComparisonOperator":"EQ","AttributeValueList":[{"SS":["b","abc"]}]}`, "a = :v", `":v":{"SS":["abc","b"]}`},
		{`"a":{"ComparisonOperator":"EQ","AttributeValueList":[{"M":{"x":{"N":"1"}}}]}`, "a = :v", `":v":{"M":{"x":{"N":"1"}}}`},
		{`"a":{"ComparisonOperator":"NE","AttributeValueList":[{"N":"1"}]}`, "a <> :v", `":v":{"N":"1"}`},
		{`"a":{"ComparisonOperator":"LE","AttributeValueList":[{"N":"1"}]}`, "a <= :v", `":v":{"N":"1"}`},
		{`"a":{"ComparisonOperator":"LT","AttributeValueList":[{"S":"b"}]}`, "a < :v", `":v":{"S":"b"}`},
		{`"a":{"ComparisonOperator":"GE","AttributeValueList":[{"B":"YQ=="}]}`, "a >= :v", `":v":{"B":"YQ=="}`},
		{`"a":{"ComparisonOperator":"GT","AttributeValueList":[{"N":"0"}]}`, "a > :v", `":v":{"N":"0"}`},
		{`"a":{"ComparisonOperator":"NOT_NULL"}`, "attribute_exists(a)", ""},
		{`"a":{"ComparisonOperator":"NULL","AttributeValueList":[]}`, "attribute_not_exists(a)", ""},
		{`"a":{"ComparisonOperator":"CONTAINS","AttributeValueList":[{"S":"b"}]}`, "contains(a, :v)", `":v":{"S":"b"}`},
		{`"a":{"ComparisonOperator":"CONTAINS","AttributeValueList":[{"BOOL":true}]}`, "contains(a, :v)", `":v":{"BOOL":true}`},
		{`"a":{"ComparisonOperator":"NOT_CONTAINS","AttributeValueList":[{"S":"b"}]}`, "attribute_exists(a) AND NOT contains(a, :v)", `":v":{"S":"b"}`},
		{`"a":{"ComparisonOperator":"BEGINS_WITH","AttributeValueList":[{"S":"ab"}]}`, "begins_with(a, :v)", `":v":{"S":"ab"}`},
		{`"a":{"ComparisonOperator":"IN","AttributeValueList":[{"S":"b"},{"S":"abc"}]}`, "a IN (:v, :w)", `":v":{"S":"b"},":w":{"S":"abc"}`},
		{`"a":{"ComparisonOperator":"BETWEEN","AttributeValueList":[{"N":"2"},{"N":"5"}]}`, "a BETWEEN :v AND :w", `":v":{"N":"2"},":w":{"N":"5"}`},
		{`"a":{"ComparisonOperator":"GT","AttributeValueList":[{"N":"2"}]},"b":{"ComparisonOperator":"EQ","AttributeValueList":[{"N":"1"}]}`, "a > :v AND b = :w", `":v":{"N":"2"},":w":{"N":"1"}`},
		{`},"ConditionalOperator":"OR","QueryFilter":{"b":{"ComparisonOperator":"NOT_NULL"},"a":{"ComparisonOperator":"GT","AttributeValueList":[{"N":"2"}]}`, "a > :v OR attribute_exists(b)", `":v":{"N":"2"}`},
	} {
		t.Run(tc.expression, func(t *testing.T) {
			f.tb = t
			values := `":i":{"S":"a"}`
			if tc.values != "" {
				values += "," + tc.values
			}
			want := f.page("Query", `{"TableName":"lines","KeyConditionExpression":"id = :i","FilterExpression":"`+tc.expression+`","ExpressionAttributeValues":{`+values+`}}`)
			if want.Count == 0 || want.Count == want.ScannedCount {
				t.Fatalf("the filter tells nothing apart: %d of %d", want.Count, want.ScannedCount)
			}
			legacy := `"QueryFilter":{` + tc.legacy + `}`
			if strings.HasPrefix(tc.legacy, "}") {
				legacy = tc.legacy[2:] + `}`
			}
			got := f.page("Query", `{"TableName":"lines","KeyConditions":{"id":{"ComparisonOperator":"EQ","AttributeValueList":[{"S":"a"}]}},`+legacy+`}`)
			if d := cmp.Diff(want.numbers(), got.numbers()); d != "" {
				t.Error(d)
			}
			scanned := f.page("Scan", `{"TableName":"lines",`+strings.Replace(legacy, "QueryFilter", "ScanFilter", 1)+`}`)
			if d := cmp.Diff(want.numbers(), scanned.numbers()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestKeyConditions(t *testing.T) {
	f := newFixture(t)
	fill(f, 20, 10)
	q := func(sort, rest string) string {
		if sort != "" {
			sort = `,"n":` + sort
		}
		return `{"TableName":"lines","KeyConditions":{"id":{"ComparisonOperator":"EQ","AttributeValueList":[{"S":"a"}]}` + sort + `}` + rest + `}`
	}
	for _, tc := range []struct{ body, want string }{
		{q("", ""), "0 2 4 6 8 10 12 14 16 18"},
		{q(`{"ComparisonOperator":"EQ","AttributeValueList":[{"N":"4.0"}]}`, ""), "4"},
		{q(`{"ComparisonOperator":"LT","AttributeValueList":[{"N":"4"}]}`, ""), "0 2"},
		{q(`{"ComparisonOperator":"LE","AttributeValueList":[{"N":"4"}]}`, ""), "0 2 4"},
		{q(`{"ComparisonOperator":"GT","AttributeValueList":[{"N":"14"}]}`, `,"ScanIndexForward":false`), "18 16"},
		{q(`{"ComparisonOperator":"GE","AttributeValueList":[{"N":"14"}]}`, ""), "14 16 18"},
		{q(`{"ComparisonOperator":"BETWEEN","AttributeValueList":[{"N":"3"},{"N":"8"}]}`, ""), "4 6 8"},
		// Expressions of other kinds may stand beside KeyConditions.
		{q("", `,"FilterExpression":"even = :e","ExpressionAttributeValues":{":e":{"BOOL":true}},"ProjectionExpression":"n"`), "0 4 8 12 16"},
		{q("", `,"QueryFilter":{},"AttributesToGet":["n"],"Limit":3`), "0 2 4"},
	} {
		a := f.page("Query", tc.body)
		if got := strings.Join(a.numbers(), " "); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.body, got, tc.want)
		}
	}
}

func TestExpectedAndAttributeUpdates(t *testing.T) {
	for _, far := range []bool{false, true} {
		t.Run(fmt.Sprintf("far=%v", far), func(t *testing.T) {
			f := newFixture(t)
			f.tables.far = far
			f.ok("CreateTable", createTable("carts", "id", "", ""))
			const key = `"TableName":"carts","Key":{"id":{"S":"a"}}`
			const failed = `ConditionalCheckFailedException: The conditional request failed`
			update := func(changes, rest string) string {
				return `{` + key + `,"AttributeUpdates":{` + changes + `}` + rest + `}`
			}
			const allNew = `,"ReturnValues":"ALL_NEW"`
			f.run([]step{
				// What only takes away makes no item.
				{"UpdateItem", update(`"a":{"Action":"DELETE"},"s":{"Action":"DELETE","Value":{"SS":["x"]}}`, allNew), `{}`},
				{"UpdateItem", `{` + key + `,"UpdateExpression":"REMOVE a"` + allNew + `}`, `{}`},
				{"GetItem", `{` + key + `}`, `{}`},
				{"PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"}},"Expected":{"id":{"Exists":true,"Value":{"S":"a"}}}}`, failed},
				{"PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"},"v":{"N":"1"}},"Expected":{"id":{"Exists":false}}}`, `{}`},
				{"PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"}},"Expected":{"id":{"Exists":false}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}`, failed + ` {"id":{"S":"a"},"v":{"N":"1"}}`},
				{"PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"}},"Expected":{"v":{"Value":{"N":"2"}},"w":{"ComparisonOperator":"NULL"}}}`, failed},
				{"PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"},"v":{"N":"2"}},"Expected":{"v":{"Value":{"N":"2"}},"w":{"ComparisonOperator":"NULL"}},"ConditionalOperator":"OR"}`, `{}`},
				{"UpdateItem", update(`"v":{"Action":"ADD","Value":{"N":"3"}},"t":{"Value":{"S":"x"}},"s":{"Action":"ADD","Value":{"SS":["b","a"]}},"l":{"Action":"ADD","Value":{"L":[{"N":"1"}]}}`, allNew), `{"Attributes":{"id":{"S":"a"},"l":{"L":[{"N":"1"}]},"s":{"SS":["a","b"]},"t":{"S":"x"},"v":{"N":"5"}}}`},
				{"UpdateItem", update(`"s":{"Action":"DELETE","Value":{"SS":["a","z"]}},"l":{"Action":"ADD","Value":{"L":[{"N":"2"}]}},"t":{"Action":"DELETE"},"v":{"Action":"PUT","Value":{"N":"7"}}`, `,"ReturnValues":"UPDATED_NEW","Expected":{"v":{"ComparisonOperator":"GT","AttributeValueList":[{"N":"4"}]}}`), `{"Attributes":{"l":{"L":[{"N":"1"},{"N":"2"}]},"s":{"SS":["b"]},"v":{"N":"7"}}}`},
				{"UpdateItem", update(`"s":{"Action":"DELETE","Value":{"SS":["b"]}}`, `,"ReturnValues":"UPDATED_OLD"`), `{"Attributes":{"s":{"SS":["b"]}}}`},
				{"UpdateItem", update(`"v":{"Action":"ADD","Value":{"SS":["b"]}}`, ""), `ValidationException: Type mismatch for attribute to update`},
				{"UpdateItem", update(`"id":{"Value":{"S":"b"}}`, ""), `ValidationException: One or more parameter values were invalid: Cannot update attribute id. This attribute is part of the key`},
				{"UpdateItem", update(`"v":{"Value":{"S":"b"}}`, `,"Expected":{"v":{"ComparisonOperator":"LT","AttributeValueList":[{"N":"7"}]}}`), failed},
				{"UpdateItem", update(``, allNew), `{"Attributes":{"id":{"S":"a"},"l":{"L":[{"N":"1"},{"N":"2"}]},"v":{"N":"7"}}}`},
				{"UpdateItem", `{` + key + `,"AttributeUpdates":{"v":{"Value":{"N":"1"}},"v":{"Value":{"N":"2"}}},"ReturnValues":"UPDATED_NEW"}`, `{"Attributes":{"v":{"N":"2"}}}`},
				{"DeleteItem", `{` + key + `,"Expected":{"v":{"ComparisonOperator":"NE","AttributeValueList":[{"N":"2"}]}}}`, failed},
				{"DeleteItem", `{` + key + `,"Expected":{"v":{"ComparisonOperator":"IN","AttributeValueList":[{"N":"1"},{"N":"2"}]}}}`, `{}`},
			})
		})
	}
}

func TestLegacyRefusals(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	f.ok("CreateTable", createTable("lines", "id", "n", ""))
	const v, one = "ValidationException: ", "ValidationException: 1 validation error detected: "
	const invalid = "One or more parameter values were invalid: "
	const mixed = "Can not use both expression and non-expression parameters in the same request: "
	put := func(rest string) string { return `{"TableName":"carts","Item":{"id":{"S":"a"}},` + rest + `}` }
	want := func(entry string) string { return put(`"Expected":{"a":` + entry + `}`) }
	update := func(rest string) string { return `{"TableName":"carts","Key":{"id":{"S":"a"}},` + rest + `}` }
	scan := func(rest string) string { return `{"TableName":"carts",` + rest + `}` }
	query := func(conditions, rest string) string {
		return `{"TableName":"lines","KeyConditions":{` + conditions + `}` + rest + `}`
	}
	const id = `"id":{"ComparisonOperator":"EQ","AttributeValueList":[{"S":"a"}]}`
	const set = "Member must satisfy enum value set: [IN, NULL, BETWEEN, LT, NOT_CONTAINS, EQ, GT, NOT_NULL, NE, LE, BEGINS_WITH, GE, CONTAINS]"
	const without, fewer = "ConditionalOperator cannot be used without Filter or Expected", "ConditionalOperator can only be used when Filter or Expected has two or more elements"
	f.run([]step{
		{"PutItem", want(`{"Exists":true}`), one + invalid + "Value must be provided when Exists is true for Attribute: a"},
		{"PutItem", want(`{}`), one + invalid + "Value must be provided when Exists is null for Attribute: a"},
		{"PutItem", want(`null`), one + invalid + "ExpectedAttributeValue must not be null for Attribute: a"},
		{"PutItem", want(`{"Exists":false,"Value":{"S":"a"}}`), one + invalid + "Value cannot be used when Exists is false for Attribute: a"},
		{"PutItem", want(`{"ComparisonOperator":"EQ"}`), one + invalid + "Value or AttributeValueList must be used with ComparisonOperator: EQ for Attribute: a"},
		{"PutItem", want(`{"ComparisonOperator":"LT","Exists":true}`), one + invalid + "Exists and ComparisonOperator cannot be used together for Attribute: a"},
		{"PutItem", want(`{"AttributeValueList":[]}`), one + invalid + "AttributeValueList can only be used with a ComparisonOperator for Attribute: a"},
		{"PutItem", want(`{"AttributeValueList":[],"Value":{"S":"a"}}`), one + invalid + "Value and AttributeValueList cannot be used together for Attribute: a"},
		{"PutItem", want(`{"ComparisonOperator":"NULL","Value":{"S":"a"}}`), one + invalid + "Invalid number of argument(s) for the NULL ComparisonOperator"},
		{"PutItem", want(`{"ComparisonOperator":"EQ","Value":{}}`), one + "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"},
		{"PutItem", want(`{"ComparisonOperator":"eq"}`), one + "Value 'eq' at 'expected.a.member.comparisonOperator' failed to satisfy constraint: " + set},
		{"PutItem", want(`7`), "SerializationException: Unexpected value type in payload"},
		{"PutItem", put(`"ConditionalOperator":"AND"`), one + without},
		{"PutItem", put(`"ConditionalOperator":"XOR"`), one + "Value 'XOR' at 'conditionalOperator' failed to satisfy constraint: Member must satisfy enum value set: [OR, AND]"},
		{"PutItem", put(`"ConditionalOperator":"AND","Expected":{"a":{"Exists":false}}`), one + fewer},
		{"PutItem", put(`"Expected":{"a":{"Exists":false}},"ConditionalOperator":"AND","ConditionExpression":"attribute_exists(id)"`), one + mixed + "Non-expression parameters: {Expected, ConditionalOperator} Expression parameters: {ConditionExpression}"},
		{"UpdateItem", update(`"AttributeUpdates":{"a":{}},"Expected":{},"ConditionalOperator":"OR","UpdateExpression":"SET a = :a","ConditionExpression":"a = :a"`), one + mixed + "Non-expression parameters: {AttributeUpdates, Expected, ConditionalOperator} Expression parameters: {UpdateExpression, ConditionExpression}"},
		{"UpdateItem", update(`"AttributeUpdates":{"a":{}}`), one + invalid + "Only DELETE action is allowed when no attribute value is specified"},
		{"UpdateItem", update(`"AttributeUpdates":{"a":{"Action":"DELETE","Value":{"S":"a"}}}`), one + invalid + "DELETE action with value is not supported for the type S"},
		{"UpdateItem", update(`"AttributeUpdates":{"a":{"Action":"ADD","Value":{"S":"a"}}}`), one + invalid + "ADD action is not supported for the type S"},
		{"UpdateItem", update(`"AttributeUpdates":{"a":{"Action":"MUL","Value":{"S":"a"}}}`), one + "Value 'MUL' at 'attributeUpdates.a.member.action' failed to satisfy constraint: Member must satisfy enum value set: [ADD, PUT, DELETE]"},
		{"UpdateItem", update(`"AttributeUpdates":{"":{"Value":{"S":"a"}}}`), one + invalid + "Empty attribute name"},
		{"Scan", scan(`"ConditionalOperator":"OR"`), v + without},
		{"Scan", scan(`"ConditionalOperator":"OR","ScanFilter":{"a":{"ComparisonOperator":"NULL"}}`), v + fewer},
		{"Scan", scan(`"AttributesToGet":["a"],"ScanFilter":{},"ConditionalOperator":"AND","FilterExpression":"a = :v","ProjectionExpression":"b"`), v + mixed + "Non-expression parameters: {AttributesToGet, ScanFilter, ConditionalOperator} Expression parameters: {ProjectionExpression, FilterExpression}"},
		{"Scan", scan(`"AttributesToGet":["a"],"FilterExpression":"a = :v"`), v + mixed + "Non-expression parameters: {AttributesToGet} Expression parameters: {FilterExpression}"},
		{"Scan", scan(`"ScanFilter":{"a":{}}`), one + "Value null at 'scanFilter.a.member.comparisonOperator' failed to satisfy constraint: Member must not be null"},
		{"Scan", scan(`"ScanFilter":{"a":{"ComparisonOperator":"IN","AttributeValueList":[]}}`), v + invalid + "Invalid number of argument(s) for the IN ComparisonOperator"},
		{"Scan", scan(`"ScanFilter":{"a":{"ComparisonOperator":"BETWEEN","AttributeValueList":[{"S":"a"},{"N":"1"}]}}`), v + invalid + "AttributeValues inside AttributeValueList must be of same type"},
		{"Scan", scan(`"ScanFilter":{"a":{"ComparisonOperator":"BETWEEN","AttributeValueList":[{"S":"b"},{"S":"a"}]}}`), v + "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound"},
		{"Scan", scan(`"ScanFilter":{"a":{"ComparisonOperator":"LT","AttributeValueList":[{"SS":["a"]}]}}`), v + invalid + "ComparisonOperator LT is not valid for SS AttributeValue type"},
		{"Scan", scan(`"ScanFilter":{"a":{"ComparisonOperator":"BEGINS_WITH","AttributeValueList":[{"N":"1"}]}}`), v + invalid + "ComparisonOperator BEGINS_WITH is not valid for N AttributeValue type"},
		{"Query", `{"TableName":"lines"}`, v + "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."},
		{"Query", `{"TableName":"lines","ConditionalOperator":"AND"}`, v + without},
		{"Query", query(id, `,"QueryFilter":{},"ConditionalOperator":"AND","KeyConditionExpression":"id = :p","FilterExpression":"a = :v","ProjectionExpression":"b"`), v + mixed + "Non-expression parameters: {QueryFilter, ConditionalOperator, KeyConditions} Expression parameters: {ProjectionExpression, FilterExpression, KeyConditionExpression}"},
		{"Query", query(id, `,"QueryFilter":{"n":{"ComparisonOperator":"NULL"}}`), v + "QueryFilter can only contain non-primary key attributes: Primary key attribute: n"},
		{"Query", query(``, ``), v + "Conditions can be of length 1 or 2 only"},
		{"Query", query(`"n":{"ComparisonOperator":"EQ","AttributeValueList":[{"N":"1"}]}`, ``), v + "Query condition missed key schema element: id"},
		{"Query", query(id+`,"x":{"ComparisonOperator":"EQ","AttributeValueList":[{"N":"1"}]}`, ``), v + "Query condition missed key schema element: n"},
		{"Query", query(id+`,"n":{"ComparisonOperator":"EQ","AttributeValueList":[{"S":"1"}]}`, ``), v + invalid + "Condition parameter type does not match schema type"},
		{"Query", query(id+`,"n":{"ComparisonOperator":"NE","AttributeValueList":[{"N":"1"}]}`, ``), v + "Attempted conditional constraint is not an indexable operation"},
		{"Query", query(`"id":{"ComparisonOperator":"LT","AttributeValueList":[{"S":"1"}]}`, ``), v + "Query key condition not supported"},
		{"Query", query(`"id":{"ComparisonOperator":"EQ","AttributeValueList":[]}`, ``), v + invalid + "Invalid number of argument(s) for the EQ ComparisonOperator"},
		{"Query", query(`"id":{"AttributeValueList":[]}`, ``), one + "Value null at 'keyConditions.id.member.comparisonOperator' failed to satisfy constraint: Member must not be null"},
		{"BatchGetItem", `{"RequestItems":{"carts":{"Keys":[{"id":{"S":"a"}}],"AttributesToGet":["a"],"ProjectionExpression":"b"}}}`, v + mixed + "Non-expression parameters: {AttributesToGet} Expression parameters: {ProjectionExpression}"},
	})
}
