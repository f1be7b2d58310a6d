package dynamo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/antipode-io/antipode/internal/api/access"
	"github.com/antipode-io/antipode/internal/data/table"
)

func TestMain(m *testing.M) {
	// Both are fasthttp's own: one for the life of the process, one that ends
	// some seconds after its server.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

type wireError struct {
	Type    string          `json:"__type"`
	Message string          `json:"message"`
	Item    json.RawMessage `json:"Item"`
}

// refused sends a request that has to fail.
func (f *fixture) refused(op, body string) wireError {
	f.tb.Helper()
	return f.asError(op, f.call(op, body))
}

func (f *fixture) asError(op string, r *Response) wireError {
	f.tb.Helper()
	if r.Status == http.StatusOK {
		f.tb.Fatalf("%s succeeded: %s", op, r.Body)
	}
	var e wireError
	if err := json.Unmarshal(r.Body, &e); err != nil {
		f.tb.Fatalf("%s: %v in %s", op, err, r.Body)
	}
	return e
}

func header(r *Response, name string) string {
	for _, h := range r.Header {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

func TestFrame(t *testing.T) {
	f := newFixture(t)
	r := f.call("ListTables", `{}`)
	if want := strconv.FormatUint(uint64(crc32.ChecksumIEEE(r.Body)), 10); header(r, "x-amz-crc32") != want {
		t.Errorf("x-amz-crc32 %s, want %s", header(r, "x-amz-crc32"), want)
	}
	if id := header(r, "x-amzn-RequestId"); len(id) != 52 {
		t.Errorf("x-amzn-RequestId %q, want 52 characters", id)
	}
	if r.ContentType != jsonType {
		t.Errorf("content type %s", r.ContentType)
	}
	for _, tc := range []struct{ op, body, typ, message string }{
		{"TransactWriteItems", `{}`, nsService + codeUnknownOp, "TransactWriteItems is not supported by this version of antipode"},
		{"NoSuchThing", `{}`, nsService + codeUnknownOp, ""},
		{"GetItem", `{`, nsService + codeSerialization, ""},
		{"GetItem", `[]`, nsService + codeSerialization, "Unexpected token received from parser"},
		{"GetItem", strings.Repeat("[", 100000), nsService + codeSerialization, ""},
		{"GetItem", `{"TableName":1}`, nsService + codeSerialization, "NUMBER_VALUE cannot be converted to String"},
		{"GetItem", `{"TableName":{}}`, nsService + codeSerialization, "Start of structure or map found where not expected"},
		{"GetItem", strings.Repeat(" ", maxBody+1), nsService + codeTooLarge, "Request body is larger than 16777216 bytes"},
	} {
		e := f.refused(tc.op, tc.body)
		if e.Type != tc.typ || e.Message != tc.message {
			t.Errorf("%s %.20s: %s %q, want %s %q", tc.op, tc.body, e.Type, e.Message, tc.typ, tc.message)
		}
	}
}

func TestPlainRequests(t *testing.T) {
	f := newFixture(t)
	send := func(method, path string, h http.Header) *Response {
		dst := &Response{}
		f.server.Handle(context.Background(), &Request{Method: []byte(method), Path: []byte(path), Header: access.HeaderFunc(func(name string) []byte {
			if name == "Host" {
				return []byte("127.0.0.1:7100")
			}
			return []byte(h.Get(name))
		})}, dst)
		return dst
	}
	if r := send("GET", "/", nil); r.Status != 200 || string(r.Body) != "healthy: 127.0.0.1:7100 " {
		t.Errorf("GET /: %d %q", r.Status, r.Body)
	}
	if r := send("GET", "/x", nil); r.Status != 404 {
		t.Errorf("GET /x: %d", r.Status)
	}
	if r := send("PUT", "/", nil); r.Status != 404 || string(r.Body) != "<UnknownOperationException/>\n" {
		t.Errorf("PUT /: %d %q", r.Status, r.Body)
	}
	r := send("OPTIONS", "/", http.Header{"Origin": {"http://x"}, "Access-Control-Request-Headers": {"x-amz-target"}, "Access-Control-Request-Method": {"POST"}})
	if r.Status != 200 || header(r, "Access-Control-Allow-Origin") != "*" || header(r, "Access-Control-Allow-Headers") != "x-amz-target" ||
		header(r, "Access-Control-Allow-Methods") != "POST" || header(r, "Access-Control-Max-Age") != "172800" || len(r.Body) != 0 {
		t.Errorf("preflight: %+v", r)
	}
}

func TestSignatureIsRequired(t *testing.T) {
	f := newFixture(t)
	dst := &Response{}
	f.server.Handle(context.Background(), &Request{Method: []byte("POST"), Path: []byte("/"), Body: []byte("{}"), Header: access.HeaderFunc(func(name string) []byte {
		return []byte(map[string]string{"Content-Type": jsonType, "X-Amz-Target": targetPrefix + "ListTables"}[name])
	})}, dst)
	if e := f.asError("ListTables", dst); e.Type != nsService+"MissingAuthenticationTokenException" || e.Message != "Request is missing Authentication Token" {
		t.Errorf("%+v", e)
	}
	stranger := access.Key{ID: "AKIAAAAAAAAAAAAAAAAA", Secret: "x"}
	if e := f.asError("ListTables", f.callAs(stranger, "ListTables", "{}")); e.Type != nsService+"UnrecognizedClientException" {
		t.Errorf("%+v", e)
	}
	forged := access.Key{ID: f.key.ID, Secret: "x"}
	if e := f.asError("ListTables", f.callAs(forged, "ListTables", "{}")); e.Type != nsService+"InvalidSignatureException" {
		t.Errorf("%+v", e)
	}
}

func TestScopes(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	f.ok("CreateTable", createTable("users", "id", "", ""))
	reader := f.newKey(access.Scope{ReadOnly: true})
	some := f.newKey(access.Scope{Tables: []string{"carts"}})
	item := func(table, what string) string {
		return `{"TableName":"` + table + `","` + what + `":{"id":{"S":"a"}}}`
	}
	batch := `{"RequestItems":{"users":[{"PutRequest":{"Item":{"id":{"S":"a"}}}}]}}`
	for _, tc := range []struct {
		key      access.Key
		op, body string
		ok       bool
	}{
		{reader, "GetItem", item("carts", "Key"), true},
		{reader, "PutItem", item("carts", "Item"), false},
		{reader, "DeleteItem", item("carts", "Key"), false},
		{reader, "UpdateItem", item("carts", "Key"), false},
		{reader, "BatchWriteItem", batch, false},
		{reader, "DeleteTable", `{"TableName":"carts"}`, false},
		{reader, "CreateTable", createTable("more", "id", "", ""), false},
		{reader, "TagResource", `{"ResourceArn":"arn:aws:dynamodb:oregon:000000000000:table/carts","Tags":[]}`, false},
		{some, "PutItem", item("carts", "Item"), true},
		{some, "PutItem", item("users", "Item"), false},
		{some, "GetItem", item("users", "Key"), false},
		{some, "BatchWriteItem", batch, false},
		{some, "DescribeTable", `{"TableName":"users"}`, false},
		{some, "Scan", `{"TableName":"users"}`, false},
		{some, "CreateTable", createTable("more", "id", "", ""), false},
	} {
		r := f.callAs(tc.key, tc.op, tc.body)
		if tc.ok != (r.Status == 200) {
			t.Errorf("%s %s: %d %s", tc.op, tc.body, r.Status, r.Body)
		}
		if tc.ok {
			continue
		}
		if e := f.asError(tc.op, r); e.Type != nsService+codeAccessDenied || !strings.Contains(e.Message, "is not authorized to perform: dynamodb:"+tc.op) {
			t.Errorf("%s: %+v", tc.op, e)
		}
	}
	if got := string(f.callAs(some, "ListTables", "{}").Body); got != `{"TableNames":["carts"]}` {
		t.Errorf("list with a scope: %s", got)
	}
}

func TestPanicIsOneFailedRequest(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	f.tables.fail = func(table.Key) error { panic("boom") }
	put := `{"TableName":"carts","Item":{"id":{"S":"a"}}}`
	// The fake's lock is released by its defer.
	r := f.call("PutItem", put)
	if e := f.asError("PutItem", r); r.Status != 500 || e.Type != nsDynamo+codeInternal {
		t.Errorf("%d %+v", r.Status, e)
	}
	r = f.call("BatchWriteItem", `{"RequestItems":{"carts":[{"PutRequest":{"Item":{"id":{"S":"a"}}}},{"PutRequest":{"Item":{"id":{"S":"b"}}}}]}}`)
	if r.Status != 500 {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	f.tables.fail = nil
	f.ok("PutItem", put)
}

func TestErrorsOfTheTables(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	for _, tc := range []struct {
		err       error
		status    int
		code, has string
	}{
		{fmt.Errorf("write to carts: %w: oregon can't be reached", table.ErrUnavailable), 500, codeInternal, "oregon can't be reached"},
		{fmt.Errorf("%w: oregon gave no answer", table.ErrOutcomeUnknown), 500, codeInternal, "oregon gave no answer"},
		{table.ErrThrottled, 400, codeThrottling, "throttled"},
		{table.ErrClosed, 500, codeInternal, "closed"},
		{&table.Error{Code: codeConditionFailed, Message: "no"}, 400, codeConditionFailed, "no"},
		{errors.New("odd"), 500, codeInternal, "odd"},
		{context.DeadlineExceeded, 500, codeInternal, "in time"},
	} {
		f.tables.fail = func(table.Key) error { return tc.err }
		r := f.call("PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"}}}`)
		e := f.asError("PutItem", r)
		if r.Status != tc.status || !strings.HasSuffix(e.Type, "#"+tc.code) || !strings.Contains(e.Message, tc.has) {
			t.Errorf("%v: %d %+v", tc.err, r.Status, e)
		}
	}
	// A write that does something else the second time must not be repeated by
	// an SDK on its own.
	f.tables.fail = func(table.Key) error { return table.ErrOutcomeUnknown }
	for _, op := range []struct{ verb, body string }{
		{"UpdateItem", `{"TableName":"carts","Key":{"id":{"S":"a"}},"UpdateExpression":"ADD n :n","ExpressionAttributeValues":{":n":{"N":"1"}}}`},
		{"PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"}},"ConditionExpression":"attribute_not_exists(id)"}`},
	} {
		r := f.call(op.verb, op.body)
		if e := f.asError(op.verb, r); r.Status != 409 || !strings.HasSuffix(e.Type, "#"+codeOutcomeUnknown) {
			t.Errorf("%s of unknown outcome: %d %+v", op.verb, r.Status, e)
		}
	}
}

// TestMappingsAreComplete finds every exported error of the packages below in
// the table of wire codes.
func TestMappingsAreComplete(t *testing.T) {
	mapped, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	ast.Inspect(mapped, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if p, ok := s.X.(*ast.Ident); ok {
				found[p.Name+"."+s.Sel.Name] = true
			}
		}
		return true
	})
	for dir, pkg := range map[string]string{"../../data/table": "table", "../../engine": "engine", "../../hlc": "hlc", "../../control": "control"} {
		for _, name := range exportedErrors(t, dir) {
			if !found[pkg+"."+name] {
				t.Errorf("%s.%s has no wire code: add it to mappings in errors.go", pkg, name)
			}
		}
	}
}

func exportedErrors(t *testing.T, dir string) (out []string) {
	t.Helper()
	file := dir + "/errors.go"
	if strings.HasSuffix(dir, "engine") || strings.HasSuffix(dir, "control") {
		file = dir + dir[strings.LastIndex(dir, "/"):] + ".go"
	}
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, s := range g.Specs {
			v, ok := s.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for _, n := range v.Names {
				if strings.HasPrefix(n.Name, "Err") {
					out = append(out, n.Name)
				}
			}
		}
	}
	return out
}

func TestHTTPLimits(t *testing.T) {
	f := newFixture(t)
	f.server.cfg.ReadTimeout = 200 * time.Millisecond
	f.server.http = f.server.newHTTP()
	addr := f.serve()
	raw := func(request string) string {
		var d net.Dialer
		c, err := d.DialContext(context.Background(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(c)
		return string(b)
	}
	for name, tc := range map[string]struct{ request, want string }{
		"health":        {"GET / HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\n\r\n", "healthy: h:1 "},
		"garbage":       {"\x16\x03\x01 nonsense\r\n\r\n", "400"},
		"large headers": {"POST / HTTP/1.1\r\nHost: h\r\nX-Big: " + strings.Repeat("x", 20<<10) + "\r\n\r\n", "431"},
		"large body":    {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n", "413"},
		"slow client":   {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n{", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := raw(tc.request); !strings.Contains(got, tc.want) {
				t.Errorf("answer %q, want %q in it", got, tc.want)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("empty Config accepted")
	}
	f := newFixture(t)
	c := f.server.cfg
	for _, broken := range []Config{
		{Region: c.Region, Tables: c.Tables, Control: c.Control, Keys: c.Keys},
		{Region: c.Region, Tables: c.Tables, Control: c.Control, Now: c.Now},
		{Region: c.Region, Tables: c.Tables, Keys: c.Keys, Now: c.Now},
		{Region: c.Region, Control: c.Control, Keys: c.Keys, Now: c.Now},
	} {
		if err := broken.Validate(); err == nil {
			t.Errorf("accepted %+v", broken)
		}
	}
}

// FuzzRequest sends any body to any operation, signed: nothing may panic, and
// nothing a client can say is the server's fault.
func FuzzRequest(f *testing.F) {
	fx := newFixture(f)
	fx.ok("CreateTable", createTable("fuzz", "id", "", ""))
	fx.ok("CreateTable", createTable("fuzz2", "id", "n", ""))
	fx.tables.far = true
	for _, s := range seeds() {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, op, body string) {
		if strings.ContainsAny(op, "\r\n\x00") || len(op) > 200 {
			return // no HTTP header can hold it
		}
		fx.tb = t
		r := fx.call(op, body)
		if r.Status >= 500 {
			t.Errorf("%s %q: %d %s", op, body, r.Status, r.Body)
		}
		if len(r.Body) > 0 && !json.Valid(r.Body) {
			t.Errorf("%s %q: answer is no JSON: %q", op, body, r.Body)
		}
	})
}

func seeds() [][2]string {
	return [][2]string{
		{"PutItem", `{"TableName":"fuzz","Item":{"id":{"S":"a"},"n":{"N":"1.50"},"b":{"B":"YQ=="},"l":{"L":[{"NULL":true},{"BOOL":false}]},"m":{"M":{"x":{"SS":["a","b"]}}}},"ConditionExpression":"attribute_not_exists(#a) OR n < :v","ExpressionAttributeNames":{"#a":"id"},"ExpressionAttributeValues":{":v":{"N":"5"}},"ReturnValues":"ALL_OLD","ReturnConsumedCapacity":"TOTAL","ReturnValuesOnConditionCheckFailure":"ALL_OLD"}`},
		{"UpdateItem", `{"TableName":"fuzz2","Key":{"id":{"S":"a"},"n":{"N":"1"}},"UpdateExpression":"SET c = if_not_exists(c, :z) + :o REMOVE x[1].y ADD s :s","ExpressionAttributeValues":{":z":{"N":"0"},":o":{"N":"1"},":s":{"SS":["q"]}},"ReturnValues":"UPDATED_NEW"}`},
		{"DeleteItem", `{"TableName":"fuzz","Key":{"id":{"S":"a"}},"ReturnValues":"ALL_OLD"}`},
		{"GetItem", `{"TableName":"fuzz","Key":{"id":{"S":"a"}},"ProjectionExpression":"m.x, l[0]","ConsistentRead":true,"ReturnConsumedCapacity":"INDEXES"}`},
		{"Query", `{"TableName":"fuzz2","KeyConditionExpression":"id = :i AND n BETWEEN :a AND :b","FilterExpression":"size(c) > :a","ExpressionAttributeValues":{":i":{"S":"a"},":a":{"N":"0"},":b":{"N":"9"}},"Limit":1,"ScanIndexForward":false,"ExclusiveStartKey":{"id":{"S":"a"},"n":{"N":"5"}}}`},
		{"Scan", `{"TableName":"fuzz","Segment":0,"TotalSegments":4,"Select":"COUNT","AttributesToGet":["a"]}`},
		{"BatchGetItem", `{"RequestItems":{"fuzz":{"Keys":[{"id":{"S":"a"}},{"id":{"S":"b"}}],"ProjectionExpression":"n"}},"ReturnConsumedCapacity":"TOTAL"}`},
		{"BatchWriteItem", `{"RequestItems":{"fuzz":[{"PutRequest":{"Item":{"id":{"S":"a"}}}},{"DeleteRequest":{"Key":{"id":{"S":"b"}}}}],"fuzz2":[{"PutRequest":{"Item":{"id":{"S":"a"},"n":{"N":"2"}}}}]}}`},
		{"CreateTable", createTable("made", "id", "n", `{"Key":"antipode:writes","Value":"local"},{"Key":"antipode:rule","Value":"region-priority=oregon,mumbai"}`)},
		{"DescribeTable", `{"TableName":"arn:aws:dynamodb:oregon:000000000000:table/fuzz"}`},
		{"ListTables", `{"Limit":1,"ExclusiveStartTableName":"abc"}`},
		{"TagResource", `{"ResourceArn":"arn:aws:dynamodb:oregon:000000000000:table/fuzz","Tags":[{"Key":"a","Value":"b"}]}`},
		{"UntagResource", `{"ResourceArn":"arn:aws:dynamodb:oregon:000000000000:table/fuzz","TagKeys":["a"]}`},
		{"ListTagsOfResource", `{"ResourceArn":"arn:aws:dynamodb:oregon:000000000000:table/fuzz"}`},
		{"DeleteTable", `{"TableName":"made"}`},
		{"DescribeEndpoints", `{}`},
		{"UpdateTable", `{"TableName":"fuzz","BillingMode":"PROVISIONED","ProvisionedThroughput":{"ReadCapacityUnits":1,"WriteCapacityUnits":2}}`},
		{"UpdateTable", `{"TableName":"fuzz","ReplicaUpdates":[{"Create":{"RegionName":"mumbai"}}]}`},
		{"UpdateTable", `{"TableName":"fuzz2","DeletionProtectionEnabled":true}`},
		{"UpdateGlobalTable", `{"GlobalTableName":"fuzz","ReplicaUpdates":[{"Create":{"RegionName":"mumbai"}}]}`},
		{"CreateGlobalTable", `{"GlobalTableName":"fuzz","ReplicationGroup":[{"RegionName":"mumbai"}]}`},
		{"DescribeTimeToLive", `{"TableName":"fuzz"}`},
		{"UpdateTimeToLive", `{"TableName":"fuzz","TimeToLiveSpecification":{"AttributeName":"n","Enabled":true}}`},
		{"PutItem", `{"TableName":"fuzz","Item":{"id":{"S":"a"}},"Expected":{"n":{"ComparisonOperator":"BETWEEN","AttributeValueList":[{"N":"1"},{"N":"2"}]},"id":{"Exists":true,"Value":{"S":"a"}}},"ConditionalOperator":"OR"}`},
		{"UpdateItem", `{"TableName":"fuzz","Key":{"id":{"S":"a"}},"AttributeUpdates":{"n":{"Action":"ADD","Value":{"N":"1"}},"s":{"Action":"DELETE","Value":{"SS":["x"]}},"l":{"Action":"ADD","Value":{"L":[{"S":"x"}]}},"p":{"Value":{"M":{}}},"q":{"Action":"DELETE"}},"Expected":{"n":{"ComparisonOperator":"NOT_CONTAINS","Value":{"N":"1"}}},"ReturnValues":"UPDATED_NEW"}`},
		{"Query", `{"TableName":"fuzz2","KeyConditions":{"id":{"ComparisonOperator":"EQ","AttributeValueList":[{"S":"a"}]},"n":{"ComparisonOperator":"BETWEEN","AttributeValueList":[{"N":"1"},{"N":"2"}]}},"QueryFilter":{"c":{"ComparisonOperator":"IN","AttributeValueList":[{"N":"1"}]}},"AttributesToGet":["c"]}`},
		{"Scan", `{"TableName":"fuzz","ScanFilter":{"n":{"ComparisonOperator":"NE","AttributeValueList":[{"N":"1"}]},"m":{"ComparisonOperator":"NULL"}},"ConditionalOperator":"AND","ExclusiveStartKey":{"id":{"S":"a"}},"Segment":1,"TotalSegments":2}`},
		{"PutItem", `{"TableName":"fuzz","Item":` + strings.Repeat(`{"id":{"M":`, 50) + `{}` + strings.Repeat(`}}`, 50) + `}`},
		{"GetItem", `null`},
	}
}
