package dynamo

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fill(f *fixture, n, size int) {
	f.tb.Helper()
	f.ok("CreateTable", createTable("lines", "id", "n", ""))
	for i := range n {
		f.ok("PutItem", fmt.Sprintf(`{"TableName":"lines","Item":{"id":{"S":"%c"},"n":{"N":"%d"},"even":{"BOOL":%v},"pad":{"S":"%s"}}}`,
			'a'+i%2, i, i%4 < 2, strings.Repeat("x", size)))
	}
}

type answer struct {
	Items            []map[string]map[string]any
	Count            int
	ScannedCount     int
	LastEvaluatedKey json.RawMessage
	ConsumedCapacity struct{ CapacityUnits float64 }
}

func (f *fixture) page(op, body string) (a answer) {
	f.tb.Helper()
	if err := json.Unmarshal([]byte(f.ok(op, body)), &a); err != nil {
		f.tb.Fatal(err)
	}
	return a
}

func (a *answer) numbers() (out []string) {
	for _, i := range a.Items {
		n, _ := i["n"]["N"].(string)
		out = append(out, n)
	}
	return out
}

// all follows pages to the end.
func (f *fixture) all(op, body string) (numbers []string, pages int) {
	f.tb.Helper()
	next := ""
	for pages < 100 {
		a := f.page(op, strings.TrimSuffix(body, "}")+next+"}")
		numbers = append(numbers, a.numbers()...)
		pages++
		if a.LastEvaluatedKey == nil {
			return numbers, pages
		}
		next = `,"ExclusiveStartKey":` + string(a.LastEvaluatedKey)
	}
	f.tb.Fatal("pages without end")
	return nil, 0
}

func TestQuery(t *testing.T) {
	f := newFixture(t)
	fill(f, 20, 10)
	q := func(cond, values, rest string) string {
		return `{"TableName":"lines","KeyConditionExpression":"` + cond + `","ExpressionAttributeValues":{":i":{"S":"a"}` + values + `}` + rest + `}`
	}
	for name, tc := range map[string]struct {
		body string
		want []string
	}{
		"partition": {q("id = :i", "", ""), []string{"0", "2", "4", "6", "8", "10", "12", "14", "16", "18"}},
		"reverse":   {q("id = :i AND n > :n", `,":n":{"N":"13"}`, `,"ScanIndexForward":false`), []string{"18", "16", "14"}},
		"between":   {q("id = :i AND n BETWEEN :n AND :m", `,":n":{"N":"3"},":m":{"N":"8"}`, ""), []string{"4", "6", "8"}},
		"equal":     {q("n = :n AND id = :i", `,":n":{"N":"4.0"}`, ""), []string{"4"}},
		"filter":    {q("id = :i AND n < :n", `,":n":{"N":"9"},":e":{"BOOL":true}`, `,"FilterExpression":"even = :e"`), []string{"0", "4", "8"}},
		"nothing":   {q("id = :i AND n < :n", `,":n":{"N":"0"}`, ""), nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.page("Query", tc.body)
			if d := cmp.Diff(tc.want, a.numbers()); d != "" {
				t.Error(d)
			}
			paged, _ := f.all("Query", strings.TrimSuffix(tc.body, "}")+`,"Limit":2}`)
			if d := cmp.Diff(tc.want, paged); d != "" {
				t.Errorf("in pages of two: %s", d)
			}
		})
	}
	if a := f.page("Query", q("id = :i", `,":e":{"BOOL":true}`, `,"FilterExpression":"even = :e","Select":"COUNT","ReturnConsumedCapacity":"TOTAL"`)); a.Count != 5 || a.ScannedCount != 10 || a.Items != nil || a.ConsumedCapacity.CapacityUnits != 0.5 {
		t.Errorf("count: %+v", a)
	}
	if got := f.ok("Query", q("id = :i AND n = :n", `,":n":{"N":"2"}`, `,"ProjectionExpression":"n"`)); got != `{"Items":[{"n":{"N":"2"}}],"Count":1,"ScannedCount":1}` {
		t.Errorf("projection: %s", got)
	}
}

func TestPagesOfOneMegabyte(t *testing.T) {
	f := newFixture(t)
	fill(f, 40, 60000)
	n, pages := f.all("Query", `{"TableName":"lines","KeyConditionExpression":"id = :i","ExpressionAttributeValues":{":i":{"S":"a"}}}`)
	if len(n) != 20 || pages != 2 {
		t.Errorf("%d items in %d pages, want 20 in 2", len(n), pages)
	}
	n, pages = f.all("Scan", `{"TableName":"lines"}`)
	if len(n) != 40 || pages != 3 {
		t.Errorf("%d items in %d pages, want 40 in 3", len(n), pages)
	}
	a := f.page("Scan", `{"TableName":"lines","ReturnConsumedCapacity":"TOTAL","ConsistentRead":true,"Limit":2}`)
	if a.ConsumedCapacity.CapacityUnits != 30 {
		t.Errorf("two items of 60 KB cost %v units, want 30", a.ConsumedCapacity.CapacityUnits)
	}
}

// TestPagesBySize fills pages to 1 MB as DynamoDB counts it, whatever the JSON takes.
func TestPagesBySize(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("lines", "id", "n", ""))
	blob := base64.StdEncoding.EncodeToString(make([]byte, 300_000))
	for i := range 4 {
		f.ok("PutItem", fmt.Sprintf(`{"TableName":"lines","Item":{"id":{"S":"a"},"n":{"N":"%d"},"b":{"B":"%s"}}}`, i, blob))
	}
	const unitsOf3 = 220 // 3 * 300006 bytes / 4096, rounded up
	a := f.page("Scan", `{"TableName":"lines","ReturnConsumedCapacity":"TOTAL","ConsistentRead":true}`)
	if a.Count != 3 || a.LastEvaluatedKey == nil || a.ConsumedCapacity.CapacityUnits != unitsOf3 {
		t.Errorf("a page of %d items for %v units, key %s", a.Count, a.ConsumedCapacity.CapacityUnits, a.LastEvaluatedKey)
	}
	if n, pages := f.all("Query", `{"TableName":"lines","KeyConditionExpression":"id = :i","ExpressionAttributeValues":{":i":{"S":"a"}}}`); len(n) != 4 || pages != 2 {
		t.Errorf("%v in %d pages", n, pages)
	}
}

func TestScanSegments(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	for i := range 50 {
		f.ok("PutItem", fmt.Sprintf(`{"TableName":"carts","Item":{"id":{"S":"%d"},"n":{"N":"%d"}}}`, i, i))
	}
	page := f.page("Scan", `{"TableName":"carts","Segment":1,"TotalSegments":3,"Limit":7}`)
	f.run([]step{{
		"Scan", `{"TableName":"carts","Segment":2,"TotalSegments":3,"ExclusiveStartKey":` + string(page.LastEvaluatedKey) + `}`,
		"ValidationException: The provided starting key is invalid: Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. TotalSegments: 3 Segment: 2",
	}})
	seen := map[string]int{}
	for s := range 3 {
		n, _ := f.all("Scan", fmt.Sprintf(`{"TableName":"carts","Segment":%d,"TotalSegments":3,"Limit":7}`, s))
		for _, x := range n {
			seen[x]++
		}
	}
	if len(seen) != 50 {
		t.Errorf("%d of 50 items seen", len(seen))
	}
	for x, n := range seen {
		if n != 1 {
			t.Errorf("item %s seen %d times", x, n)
		}
	}
}

func TestReadValidation(t *testing.T) {
	f := newFixture(t)
	fill(f, 2, 1)
	const one = "ValidationException: 1 validation error detected: "
	q := func(rest string) string {
		return `{"TableName":"lines","KeyConditionExpression":"id = :i","ExpressionAttributeValues":{":i":{"S":"a"}}` + rest + `}`
	}
	scan := func(rest string) string { return `{"TableName":"lines"` + rest + `}` }
	f.run([]step{
		{"Query", `{"TableName":"lines"}`, `ValidationException: Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.`},
		{"Query", q(`,"Limit":0`), one + `Value at 'Limit' failed to satisfy constraint: Member must have value greater than or equal to 1`},
		{"Query", q(`,"Select":"X"`), one + `Value 'X' at 'select' failed to satisfy constraint: Member must satisfy enum value set: [SPECIFIC_ATTRIBUTES, COUNT, ALL_ATTRIBUTES, ALL_PROJECTED_ATTRIBUTES]`},
		{"Query", q(`,"Select":"ALL_PROJECTED_ATTRIBUTES"`), `ValidationException: ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName`},
		{"Query", q(`,"Select":"ALL_ATTRIBUTES","ProjectionExpression":"n"`), `ValidationException: Cannot specify the ProjectionExpression when choosing to get ALL_ATTRIBUTES`},
		{"Query", q(`,"Select":"COUNT","ProjectionExpression":"n"`), `ValidationException: Cannot specify the ProjectionExpression when choosing to get only the Count`},
		{"Query", q(`,"IndexName":"byname"`), `ValidationException: The table does not have the specified index: byname`},
		{"Query", q(`,"FilterExpression":"n > :i"`), `ValidationException: Filter Expression can only contain non-primary key attributes: Primary key attribute: n`},
		{"Query", q(`,"ExpressionAttributeNames":{"#u":"u"}`), `ValidationException: Value provided in ExpressionAttributeNames unused in expressions: keys: {#u}`},
		{"Query", q(`,"ExclusiveStartKey":{"id":{"S":"a"}}`), `ValidationException: The provided starting key is invalid`},
		{"Query", q(`,"ExclusiveStartKey":{"id":{"S":"b"},"n":{"N":"1"}}`), `ValidationException: The provided starting key is outside query boundaries based on provided conditions`},
		{"Query", q(`,"ExclusiveStartKey":{"id":{}}`), `ValidationException: The provided starting key is invalid: Supplied AttributeValue is empty, must contain exactly one of the supported datatypes`},
		{"Query", `{"TableName":"lines","KeyConditionExpression":"id = :i AND n > :n","ExpressionAttributeValues":{":i":{"S":"a"},":n":{"N":"5"}},"ExclusiveStartKey":{"id":{"S":"a"},"n":{"N":"1"}}}`, `ValidationException: The provided starting key does not match the range key predicate`},
		{"Query", `{"TableName":"lines","KeyConditionExpression":"id = :i","ExpressionAttributeValues":{":i":{"N":"1"}}}`, `ValidationException: One or more parameter values were invalid: Condition parameter type does not match schema type`},
		{"Query", `{"TableName":"lines","KeyConditions":{}}`, `ValidationException: Conditions can be of length 1 or 2 only`},
		{"Scan", scan(`,"Limit":0`), one + `Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1`},
		{"Scan", scan(`,"Segment":0`), `ValidationException: The TotalSegments parameter is required but was not present in the request when Segment parameter is present`},
		{"Scan", scan(`,"TotalSegments":4`), `ValidationException: The Segment parameter is required but was not present in the request when parameter TotalSegments is present`},
		{"Scan", scan(`,"TotalSegments":5,"Segment":5`), `ValidationException: The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: 5 is not less than TotalSegments: 5`},
		{"Scan", scan(`,"TotalSegments":4,"Segment":-1`), one + `Value '-1' at 'segment' failed to satisfy constraint: Member must have value greater than or equal to 0`},
		{"Scan", scan(`,"ExclusiveStartKey":{"bad":{"S":"p"}}`), `ValidationException: The provided starting key is invalid: The provided key element does not match the schema`},
		{"Scan", scan(`,"Select":"SPECIFIC_ATTRIBUTES"`), `ValidationException: Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES`},
		{"Scan", scan(`,"ExpressionAttributeValues":{":a":{"S":"a"}}`), `ValidationException: ExpressionAttributeValues can only be specified when using expressions`},
		{"Scan", scan(`,"ProjectionExpression":"a","ExpressionAttributeValues":{":a":{"S":"a"}}`), `ValidationException: ExpressionAttributeValues can only be specified when using expressions: FilterExpression is null`},
		{"Scan", `{"TableName":"nothere"}`, `ResourceNotFoundException: Requested resource not found`},
	})
}
