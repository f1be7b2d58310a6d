package dynamo

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

// step is one request and its whole answer, or the code and message of its refusal.
type step struct{ op, body, want string }

func (f *fixture) run(steps []step) {
	f.tb.Helper()
	for i, s := range steps {
		r := f.call(s.op, s.body)
		got := string(r.Body)
		if r.Status != 200 {
			e := f.asError(s.op, r)
			got = e.Type[strings.Index(e.Type, "#")+1:] + ": " + e.Message
			if len(e.Item) > 0 {
				got += " " + string(e.Item)
			}
		}
		if d := cmp.Diff(s.want, got); d != "" {
			f.tb.Errorf("step %d: %s %s\n%s", i, s.op, s.body, d)
		}
	}
}

func TestItems(t *testing.T) {
	for _, far := range []bool{false, true} {
		t.Run(fmt.Sprintf("far=%v", far), func(t *testing.T) {
			f := newFixture(t)
			f.tables.far = far
			f.ok("CreateTable", createTable("carts", "id", "", ""))
			const key = `"TableName":"carts","Key":{"id":{"S":"a"}}`
			f.run([]step{
				{"GetItem", `{` + key + `}`, `{}`},
				{"DeleteItem", `{` + key + `,"ReturnValues":"ALL_OLD"}`, `{}`},
				{"PutItem", `{"TableName":"carts","Item":{"n":{"N":"1.50"},"id":{"S":"a"}},"ReturnValues":"ALL_OLD","ReturnConsumedCapacity":"TOTAL"}`, `{"ConsumedCapacity":{"TableName":"carts","CapacityUnits":1}}`},
				{"GetItem", `{` + key + `}`, `{"Item":{"id":{"S":"a"},"n":{"N":"1.5"}}}`},
				{"GetItem", `{` + key + `,"ReturnConsumedCapacity":"TOTAL"}`, `{"Item":{"id":{"S":"a"},"n":{"N":"1.5"}},"ConsumedCapacity":{"TableName":"carts","CapacityUnits":0.5}}`},
				{"GetItem", `{` + key + `,"ReturnConsumedCapacity":"INDEXES","ConsistentRead":true,"ProjectionExpression":"n"}`, `{"Item":{"n":{"N":"1.5"}},"ConsumedCapacity":{"TableName":"carts","CapacityUnits":1,"Table":{"CapacityUnits":1}}}`},
				{"GetItem", `{` + key + `,"AttributesToGet":["id"]}`, `{"Item":{"id":{"S":"a"}}}`},
				{"GetItem", `{` + key + `,"ProjectionExpression":"x"}`, `{"Item":{}}`},
				{"PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"}},"ReturnValues":"ALL_OLD"}`, `{"Attributes":{"id":{"S":"a"},"n":{"N":"1.5"}}}`},
				{"PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"}},"ConditionExpression":"attribute_not_exists(id)"}`, `ConditionalCheckFailedException: The conditional request failed`},
				{"PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"}},"ConditionExpression":"attribute_not_exists(id)","ReturnValuesOnConditionCheckFailure":"ALL_OLD"}`, `ConditionalCheckFailedException: The conditional request failed {"id":{"S":"a"}}`},
				{"UpdateItem", `{` + key + `,"UpdateExpression":"SET n = :n, m = :m","ExpressionAttributeValues":{":n":{"N":"1"},":m":{"M":{"x":{"N":"1"}}}},"ReturnValues":"UPDATED_NEW"}`, `{"Attributes":{"m":{"M":{"x":{"N":"1"}}},"n":{"N":"1"}}}`},
				{"UpdateItem", `{` + key + `,"UpdateExpression":"ADD n :n","ExpressionAttributeValues":{":n":{"N":"2"}},"ReturnValues":"ALL_NEW","ReturnConsumedCapacity":"TOTAL"}`, `{"Attributes":{"id":{"S":"a"},"m":{"M":{"x":{"N":"1"}}},"n":{"N":"3"}},"ConsumedCapacity":{"TableName":"carts","CapacityUnits":1}}`},
				{"UpdateItem", `{` + key + `,"UpdateExpression":"SET n = n + :n","ExpressionAttributeValues":{":n":{"N":"2"}},"ReturnValues":"UPDATED_OLD"}`, `{"Attributes":{"n":{"N":"3"}}}`},
				{"UpdateItem", `{` + key + `,"UpdateExpression":"REMOVE m","ReturnValues":"UPDATED_NEW"}`, `{}`},
				{"UpdateItem", `{` + key + `,"UpdateExpression":"SET q = :n","ConditionExpression":"n = :n","ExpressionAttributeValues":{":n":{"N":"5"}},"ReturnValues":"ALL_OLD"}`, `{"Attributes":{"id":{"S":"a"},"n":{"N":"5"}}}`},
				{"UpdateItem", `{` + key + `,"ReturnValues":"ALL_NEW"}`, `{"Attributes":{"id":{"S":"a"},"n":{"N":"5"},"q":{"N":"5"}}}`},
				{"DeleteItem", `{` + key + `,"ConditionExpression":"n = :n","ExpressionAttributeValues":{":n":{"N":"6"}}}`, `ConditionalCheckFailedException: The conditional request failed`},
				{"DeleteItem", `{` + key + `,"ReturnValues":"ALL_OLD"}`, `{"Attributes":{"id":{"S":"a"},"n":{"N":"5"},"q":{"N":"5"}}}`},
				{"UpdateItem", `{` + key + `,"ReturnValues":"ALL_NEW"}`, `{"Attributes":{"id":{"S":"a"}}}`},
				{"UpdateItem", `{` + key + `,"UpdateExpression":"SET id = :n","ExpressionAttributeValues":{":n":{"S":"5"}}}`, `ValidationException: One or more parameter values were invalid: Cannot update attribute id. This attribute is part of the key`},
				{"UpdateItem", `{` + key + `,"UpdateExpression":"SET big = :n","ExpressionAttributeValues":{":n":{"S":"` + strings.Repeat("x", 400<<10) + `"}}}`, `ValidationException: Item size to update has exceeded the maximum allowed size`},
				// An update is charged for its actions, but not for the key.
				{"UpdateItem", `{` + key + `,"UpdateExpression":"SET b = :n","ExpressionAttributeValues":{":n":{"S":"` + strings.Repeat("x", 400<<10-22) + `"}}}`, `ValidationException: Item size to update has exceeded the maximum allowed size`},
				{"UpdateItem", `{` + key + `,"UpdateExpression":"SET b = :n","ExpressionAttributeValues":{":n":{"S":"` + strings.Repeat("x", 400<<10-23) + `"}}}`, `{}`},
				{"PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"},"n":{"S":"` + strings.Repeat("x", 400<<10) + `"}}}`, `ValidationException: Item size has exceeded the maximum allowed size`},
			})
		})
	}
}

func TestItemValidation(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	f.ok("CreateTable", createTable("lines", "id", "n", ""))
	const one = "ValidationException: 1 validation error detected: "
	const invalid = "ValidationException: One or more parameter values were invalid: "
	item := func(rest string) string { return `{"TableName":"carts","Item":{"id":{"S":"a"}}` + rest + `}` }
	long := strings.Repeat("x", 2049)
	f.run([]step{
		{"PutItem", `{"Item":{"id":{"S":"a"}}}`, one + `Value null at 'tableName' failed to satisfy constraint: Member must not be null`},
		{"PutItem", `{"TableName":""}`, `ValidationException: 2 validation errors detected: Value '' at 'tableName' failed to satisfy constraint: Member must have length greater than or equal to 1; Value null at 'item' failed to satisfy constraint: Member must not be null`},
		{"PutItem", `{"TableName":"","Item":{},"ReturnValues":"X"}`, one + `Value '' at 'tableName' failed to satisfy constraint: Member must have length greater than or equal to 1`},
		{"PutItem", `{"TableName":"bad table!@#","Item":{"id":{"S":"a"}}}`, one + `Value 'bad table!@#' at 'tableName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+`},
		{"UpdateItem", `{"TableName":"","ReturnConsumedCapacity":"INVALID","ReturnValues":"INVALID"}`, `ValidationException: 4 validation errors detected: Value 'INVALID' at 'returnConsumedCapacity' failed to satisfy constraint: Member must satisfy enum value set: [INDEXES, TOTAL, NONE]; Value '' at 'tableName' failed to satisfy constraint: Member must have length greater than or equal to 1; Value 'INVALID' at 'returnValues' failed to satisfy constraint: Member must satisfy enum value set: [ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW]; Value null at 'key' failed to satisfy constraint: Member must not be null`},
		{"PutItem", item(`,"ReturnValues":"ALL_NEW"`), one + `ReturnValues can only be ALL_OLD or NONE`},
		{"PutItem", item(`,"ConditionExpression":""`), one + `Invalid ConditionExpression: The expression can not be empty;`},
		{"PutItem", item(`,"ExpressionAttributeValues":{":v":{"S":"x"}}`), one + `ExpressionAttributeValues can only be specified when using expressions`},
		{"PutItem", item(`,"ExpressionAttributeNames":{"#a":"a"}`), one + `ExpressionAttributeNames can only be specified when using expressions`},
		{"PutItem", item(`,"ConditionExpression":"a = :v","ExpressionAttributeValues":{}`), one + `ExpressionAttributeValues must not be empty`},
		{"PutItem", item(`,"ConditionExpression":"a = :v","ExpressionAttributeValues":{":v":{}}`), one + `ExpressionAttributeValues contains invalid value: Supplied AttributeValue is empty, must contain exactly one of the supported datatypes for key :v`},
		{"PutItem", item(`,"ConditionExpression":"a = :v","ExpressionAttributeValues":{":v":{"S":"x"},":u":{"S":"x"}}`), one + `Value provided in ExpressionAttributeValues unused in expressions: keys: {:u}`},
		{"PutItem", item(`,"Expected":{"a":{"Exists":false}},"ConditionExpression":"attribute_exists(a)"`), one + `Can not use both expression and non-expression parameters in the same request: Non-expression parameters: {Expected} Expression parameters: {ConditionExpression}`},
		{"PutItem", `{"TableName":"carts","Item":{"x":{"S":"a"}}}`, invalid + `Missing the key id in the item`},
		{"PutItem", `{"TableName":"carts","Item":{"id":{"N":"1"}}}`, invalid + `Type mismatch for key id expected: S actual: N`},
		{"PutItem", `{"TableName":"carts","Item":{"id":{"S":""}}}`, `ValidationException: One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: id`},
		{"PutItem", `{"TableName":"carts","Item":{"id":{"S":"` + long + `"}}}`, invalid + `Size of hashkey has exceeded the maximum size limit of2048 bytes`},
		{"PutItem", `{"TableName":"carts","Item":{"id":{"Q":"1"}}}`, `ValidationException: Supplied AttributeValue is empty, must contain exactly one of the supported datatypes`},
		{"PutItem", `{"TableName":"nothere","Item":{"id":{"S":"1"}}}`, `ResourceNotFoundException: Requested resource not found`},
		{"PutItem", `{"TableName":"carts","Item":[]}`, `SerializationException: Unexpected field type`},
		{"GetItem", `{"TableName":"carts"}`, one + `Value null at 'key' failed to satisfy constraint: Member must not be null`},
		{"GetItem", `{"TableName":"carts","Key":{}}`, `ValidationException: The provided key element does not match the schema`},
		{"GetItem", `{"TableName":"carts","Key":{"id":{"N":"1"}}}`, `ValidationException: The provided key element does not match the schema`},
		{"GetItem", `{"TableName":"lines","Key":{"id":{"S":"1"}}}`, `ValidationException: The provided key element does not match the schema`},
		{"GetItem", `{"TableName":"carts","Key":{"id":{"S":"1"}},"ProjectionExpression":"a","AttributesToGet":["a"]}`, `ValidationException: Can not use both expression and non-expression parameters in the same request: Non-expression parameters: {AttributesToGet} Expression parameters: {ProjectionExpression}`},
		{"GetItem", `{"TableName":"carts","Key":{"id":{"S":"` + long + `"}}}`, invalid + `Size of hashkey has exceeded the maximum size limit of2048 bytes`},
		{"GetItem", `{"TableName":"carts","Key":{"id":{"S":"a"}},"ConsistentRead":"yes"}`, `SerializationException: STRING_VALUE cannot be converted to Boolean`},
		{"UpdateItem", `{"TableName":"carts","Key":{"id":{"S":"a"}},"UpdateExpression":"SET a = :v","AttributeUpdates":{"a":{}},"ExpressionAttributeValues":{":v":{"S":"a"}}}`, one + `Can not use both expression and non-expression parameters in the same request: Non-expression parameters: {AttributeUpdates} Expression parameters: {UpdateExpression}`},
		{"UpdateItem", `{"TableName":"carts","Key":{"id":{"S":"a"}},"UpdateExpression":""}`, one + `Invalid UpdateExpression: The expression can not be empty;`},
	})
}

func TestTableKeptElsewhere(t *testing.T) {
	f := newFixture(t)
	if _, err := f.control.Propose(t.Context(), controlTable("far", "mumbai")); err != nil {
		t.Fatal(err)
	}
	f.run([]step{{"GetItem", `{"TableName":"far","Key":{"id":{"S":"a"}}}`, `ResourceNotFoundException: Requested resource not found: Table: far is kept in [mumbai] and not in oregon; ask one of these regions`}})
}

func controlTable(name string, in ...string) control.Command {
	tb := &control.Table{Name: name, Partition: control.KeyAttribute{Name: "id", Type: "S"}, Writes: "global", Writer: "mumbai"}
	for _, r := range in {
		tb.Replicas = append(tb.Replicas, regionName(r))
	}
	return control.Command{CreateTable: tb}
}

func TestBatches(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	f.ok("CreateTable", createTable("lines", "id", "n", ""))
	const one = "ValidationException: 1 validation error detected: "
	put := func(id string) string { return `{"PutRequest":{"Item":{"id":{"S":"` + id + `"}}}}` }
	var many, keys []string
	for i := range 101 {
		many = append(many, put(itoa(i)))
		keys = append(keys, `{"id":{"S":"`+itoa(i)+`"}}`)
	}
	constraint := ` failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 25, Member must have length greater than or equal to 1]`
	f.run([]step{
		{"BatchWriteItem", `{}`, one + `Value null at 'requestItems' failed to satisfy constraint: Member must not be null`},
		{"BatchWriteItem", `{"RequestItems":{}}`, one + `Value at 'RequestItems' failed to satisfy constraint: Member must have length greater than or equal to 1`},
		{"BatchWriteItem", `{"RequestItems":{"carts":[]}}`, one + `Value '{carts=[]}' at 'requestItems'` + constraint},
		{"BatchWriteItem", `{"RequestItems":{"carts":[` + put("a") + `,` + put("a") + `]}}`, `ValidationException: Provided list of item keys contains duplicates`},
		{"BatchWriteItem", `{"RequestItems":{"carts":[{"PutRequest":{"Item":{"id":{"N":"5"}}}}]}}`, `ValidationException: The provided key element does not match the schema`},
		{"BatchWriteItem", `{"RequestItems":{"carts":[{"PutRequest":{"Item":{"x":{"S":"5"}}}}]}}`, `ValidationException: The provided key element does not match the schema`},
		{"BatchWriteItem", `{"RequestItems":{"carts":[{"PutRequest":{"Item":{"id":{"S":""}}}}]}}`, `ValidationException: One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: id`},
		{"BatchWriteItem", `{"RequestItems":{"nothere":[` + put("a") + `]}}`, `ResourceNotFoundException: Requested resource not found`},
		{"BatchWriteItem", `{"RequestItems":{"carts":[` + put("a") + `,` + put("b") + `],"lines":[{"PutRequest":{"Item":{"id":{"S":"a"},"n":{"N":"1"}}}}]},"ReturnConsumedCapacity":"TOTAL"}`, `{"UnprocessedItems":{},"ConsumedCapacity":[{"TableName":"carts","CapacityUnits":2},{"TableName":"lines","CapacityUnits":1}]}`},
		{"BatchGetItem", `{"RequestItems":{"lines":{"Keys":[{"id":{"S":"a"},"n":{"N":"1"}}]},"carts":{"Keys":[{"id":{"S":"b"}},{"id":{"S":"c"}},{"id":{"S":"a"}}]}},"ReturnConsumedCapacity":"TOTAL"}`, `{"Responses":{"carts":[{"id":{"S":"b"}},{"id":{"S":"a"}}],"lines":[{"id":{"S":"a"},"n":{"N":"1"}}]},"UnprocessedKeys":{},"ConsumedCapacity":[{"TableName":"carts","CapacityUnits":1.5},{"TableName":"lines","CapacityUnits":0.5}]}`},
		{"BatchWriteItem", `{"RequestItems":{"carts":[{"DeleteRequest":{"Key":{"id":{"S":"a"}}}}]}}`, `{"UnprocessedItems":{}}`},
		{"BatchGetItem", `{"RequestItems":{"carts":{"Keys":[{"id":{"S":"a"}}]}}}`, `{"Responses":{"carts":[]},"UnprocessedKeys":{}}`},
		{"BatchGetItem", `{"RequestItems":{"carts":{"Keys":[]}}}`, one + `Value at 'RequestItems.carts.member.Keys' failed to satisfy constraint: Member must have length greater than or equal to 1`},
		{"BatchGetItem", `{"RequestItems":{"carts":{"Keys":[` + strings.Join(keys, ",") + `]}}}`, one + `Value at 'RequestItems.carts.member.Keys' failed to satisfy constraint: Member must have length less than or equal to 100`},
		{"BatchGetItem", `{"RequestItems":{"bad!name":{"Keys":[{"pk":{"S":"a"}}]}},"ReturnConsumedCapacity":"BOGUS"}`, `ValidationException: 2 validation errors detected: Value '{"bad!name":{"Keys":[{"pk":{"S":"a"}}]}}' at 'requestItems' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 255, Member must have length greater than or equal to 3, Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+]; Value 'BOGUS' at 'returnConsumedCapacity' failed to satisfy constraint: Member must satisfy enum value set: [INDEXES, TOTAL, NONE]`},
		{"BatchGetItem", `{"RequestItems":{"carts":{"Keys":[{"id":{"S":"a"}},{"id":{"S":"a"}}]}}}`, `ValidationException: Provided list of item keys contains duplicates`},
	})
	if e := f.refused("BatchWriteItem", `{"RequestItems":{"carts":[`+strings.Join(many[:26], ",")+`]}}`); !strings.HasSuffix(e.Message, constraint) {
		t.Errorf("26 writes: %s", e.Message)
	}
}

func TestBatchesGiveBackWhatFailed(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", `{"Key":"antipode:writer","Value":"mumbai"}`))
	f.tables.fail = func(k table.Key) error {
		if string(k.Partition) == "b" {
			return table.ErrUnavailable
		}
		return nil
	}
	f.run([]step{
		{"BatchWriteItem", `{"RequestItems":{"carts":[{"PutRequest":{"Item":{"id":{"S":"a"}}}},{"PutRequest":{"Item":{"id":{"S":"b"}}}}]}}`, `{"UnprocessedItems":{"carts":[{"PutRequest":{"Item":{"id":{"S":"b"}}}}]}}`},
		{"BatchWriteItem", `{"RequestItems":{"carts":[{"PutRequest":{"Item":{"id":{"S":"b"}}}}]}}`, `InternalServerError: region out of reach`},
		{"BatchGetItem", `{"RequestItems":{"carts":{"Keys":[{"id":{"S":"a"}},{"id":{"S":"b"}}],"ConsistentRead":true,"ProjectionExpression":"id"}}}`, `{"Responses":{"carts":[{"id":{"S":"a"}}]},"UnprocessedKeys":{"carts":{"Keys":[{"id":{"S":"b"}}],"ConsistentRead":true,"ProjectionExpression":"id"}}}`},
	})
}

func TestCompileRefuses(t *testing.T) {
	tb := &table.TableRef{Name: "carts", Partition: control.KeyAttribute{Name: "id", Type: "S"}}
	for _, tc := range []struct{ verb, payload, code string }{
		{"PutItem", `{`, codeSerialization},
		{"PutItem", `[]`, codeSerialization},
		{"PutItem", `{}`, codeSerialization},
		{"Explode", `{}`, codeUnknownOp},
		{"PutItem", `{"Item":{"id":{"N":"x"}}}`, codeValidation},
		{"UpdateItem", `{"Key":{"id":{"S":"x"}},"UpdateExpression":"SET id = :a","ExpressionAttributeValues":{":a":{"S":"a"}}}`, codeValidation},
	} {
		_, _, err := Compile(tc.verb, []byte(tc.payload), tb)
		var e *table.Error
		if !asTableError(err, &e) || e.Code != tc.code {
			t.Errorf("%s %s: %v, want %s as *table.Error", tc.verb, tc.payload, err, tc.code)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s[0], []byte(s[1]), []byte(`{"id":{"S":"a"},"n":{"N":"3"}}`))
	}
	tb := &table.TableRef{Name: "fuzz", Partition: control.KeyAttribute{Name: "id", Type: "S"}}
	f.Fuzz(func(t *testing.T, verb string, payload, old []byte) {
		op, key, err := Compile(verb, payload, tb)
		if err != nil {
			var e *table.Error
			if !asTableError(err, &e) {
				t.Errorf("%v is no *table.Error", err)
			}
			return
		}
		if len(key.Partition) == 0 {
			t.Error("no key and no error")
		}
		for _, old := range [][]byte{nil, old} {
			d, err := op.Decide(old)
			if err == nil && !d.Keep && !d.Delete && d.Body == nil {
				t.Error("a decision without a body")
			}
		}
	})
}
