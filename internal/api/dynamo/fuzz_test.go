package dynamo

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

// FuzzLegacy makes updates and conditions of parameters of before expressions:
// what comes out of them is as valid as what went in, and they agree with
// themselves wherever they are carried out.
func FuzzLegacy(f *testing.F) {
	for _, s := range [][2]string{
		{`{"n":{"Action":"ADD","Value":{"N":"1"}},"s":{"Action":"DELETE","Value":{"SS":["a"]}},"q":{"Action":"DELETE"}}`, `{"n":{"ComparisonOperator":"GT","AttributeValueList":[{"N":"1"}]}}`},
		{`{"l":{"Action":"ADD","Value":{"L":[{"M":{"x":{"NULL":true}}}]}},"b":{"Value":{"BS":["YQ=="]}}}`, `{"x":{"Exists":false},"s":{"ComparisonOperator":"NOT_CONTAINS","Value":{"S":"z"}}}`},
		{`{"n":{},"n":{"Value":{"N":"1e5"}}}`, `{"n":{"ComparisonOperator":"BETWEEN","AttributeValueList":[{"N":"1"},{"N":"9"}]}}`},
		{`{"":{"Value":{"S":""}}}`, `{"n":{"ComparisonOperator":"IN","AttributeValueList":[]},"m":null}`},
	} {
		f.Add(s[0], s[1], `{"id":{"S":"a"},"n":{"N":"3"},"s":{"SS":["a","b"]},"l":{"L":[]}}`)
	}
	tb := &table.TableRef{Name: "fuzz", Partition: control.KeyAttribute{Name: "id", Type: "S"}}
	f.Fuzz(func(t *testing.T, updates, expected, old string) {
		it, err := attr.ParseItem([]byte(old))
		if err != nil || attr.CheckItemSize(attr.ItemSize(it)) != nil {
			return
		}
		stored := attr.AppendItem(nil, it)
		payload := []byte(`{"Key":{"id":{"S":"a"}},"AttributeUpdates":` + updates + `,"Expected":` + expected + `}`)
		var first table.Decision
		for i := range 2 {
			op, _, err := Compile("UpdateItem", payload, tb)
			if err != nil {
				return
			}
			d, err := op.Decide(stored)
			if err != nil {
				return
			}
			if d.Body == nil != d.Keep {
				t.Fatalf("%s gave %+v", payload, d)
			}
			if i == 1 && string(d.Body) != string(first.Body) {
				t.Fatalf("%s gave %s and %s", payload, first.Body, d.Body)
			}
			first = d
		}
		if first.Keep {
			return
		}
		back, err := attr.ParseItem(first.Body)
		if err != nil || string(attr.AppendItem(nil, back)) != string(first.Body) {
			t.Fatalf("%s made of %s: %s, %v", payload, stored, first.Body, err)
		}
	})
}

// FuzzStartKey goes on from any ExclusiveStartKey: what is read lies behind it.
func FuzzStartKey(f *testing.F) {
	for _, s := range []string{`{"id":{"S":"a"},"n":{"N":"3"}}`, `{"id":{"S":"a"}}`, `{"id":{"S":""},"n":{"N":"x"}}`, `{}`, `[]`, `null`, `{"id":{"S":"b"},"n":{"N":"-1e-130"}}`} {
		f.Add(s, 0)
		f.Add(s, 3)
	}
	fx := newFixture(f)
	fill(fx, 20, 10)
	f.Fuzz(func(t *testing.T, start string, segment int) {
		fx.tb = t
		for _, c := range []struct{ op, body string }{
			{"Query", `{"TableName":"lines","KeyConditionExpression":"id = :i","ExpressionAttributeValues":{":i":{"S":"a"}},"Limit":3,"ExclusiveStartKey":` + start + `}`},
			{"Query", `{"TableName":"lines","KeyConditions":{"id":{"ComparisonOperator":"EQ","AttributeValueList":[{"S":"a"}]},"n":{"ComparisonOperator":"GT","AttributeValueList":[{"N":"4"}]}},"ScanIndexForward":false,"ExclusiveStartKey":` + start + `}`},
			{"Scan", `{"TableName":"lines","Limit":5,"ExclusiveStartKey":` + start + `}`},
			{"Scan", `{"TableName":"lines","TotalSegments":4,"Segment":` + itoa(segment&3) + `,"ExclusiveStartKey":` + start + `}`},
		} {
			r := fx.call(c.op, c.body)
			if r.Status >= 500 {
				t.Fatalf("%s: %d %s", c.body, r.Status, r.Body)
			}
			if r.Status == http.StatusOK && start != "null" {
				it, err := attr.ParseItem([]byte(start))
				if err != nil {
					t.Fatalf("%s goes on from what is no key", c.body)
				}
				if strings.Contains(string(r.Body), string(attr.AppendItem(nil, it)[1:])) && !strings.Contains(string(r.Body), "LastEvaluatedKey") {
					t.Fatalf("%s gives its start again: %s", c.body, r.Body)
				}
			}
		}
	})
}

// FuzzHTTP sends bytes that may be no HTTP at all, or half of it: the server
// answers or hangs up, and goes on serving.
func FuzzHTTP(f *testing.F) {
	fx := newFixture(f)
	r := fx.sign("ListTables", `{}`, fx.key)
	var whole strings.Builder
	if err := r.Write(&whole); err != nil {
		f.Fatal(err)
	}
	text := whole.String()
	for _, s := range []string{
		text, text[:len(text)-1], text[:len(text)/2], text + text, strings.Replace(text, "Content-Length: 2", "Content-Length: 99999999999999999999", 1),
		strings.Replace(text, "Content-Length: 2", "Transfer-Encoding: chunked", 1), "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\n" + strings.Repeat("a: b\r\n", 5000),
		"\x16\x03\x01\x02\x00\x01\x00", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", strings.Repeat("\x00", 100), "",
	} {
		f.Add([]byte(s))
	}
	ln := fasthttputil.NewInmemoryListener()
	done := make(chan error, 1)
	fx.server.cfg.ReadTimeout = time.Second
	go func() { done <- fx.server.Serve(context.Background(), ln) }()
	f.Cleanup(func() {
		if err := fx.server.Shutdown(context.Background()); err != nil {
			f.Error(err)
		}
		<-done
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		fx.tb = t
		conn, err := ln.Dial()
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = conn.Write(raw) // it may have hung up
			_, _ = conn.Write([]byte("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
			_ = conn.Close()
		}()
		<-sent
		again, err := ln.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if _, err := io.WriteString(again, text); err != nil {
			t.Fatal(err)
		}
		var answer fasthttp.Response
		if err := answer.Read(bufio.NewReader(again)); err != nil || answer.StatusCode() != http.StatusOK && answer.StatusCode() != http.StatusBadRequest {
			t.Fatalf("after %q: %v %d", raw, err, answer.StatusCode())
		}
	})
}
