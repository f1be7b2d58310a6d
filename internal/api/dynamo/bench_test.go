package dynamo

import (
	"context"
	"crypto/sha256"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/api/access"
	"github.com/antipode-io/antipode/internal/data/table"
)

const benchItem = `{"id":{"S":"user#12345678"},"name":{"S":"Ada Lovelace"},"age":{"N":"36"},"city":{"S":"London"},"score":{"N":"1234.5"},"active":{"BOOL":true},"about":{"S":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}`

// benchRequest is a signed request with fasthttp's own header, as Serve hands it over.
func benchRequest(b *testing.B, f *fixture, op, body string) *Request {
	b.Helper()
	r := f.sign(op, body, f.key)
	h := &fasthttp.RequestHeader{}
	h.SetMethod("POST")
	h.SetHost(r.Host)
	h.SetContentLength(len(body))
	for name := range r.Header {
		h.Set(name, r.Header.Get(name))
	}
	return &Request{Method: []byte("POST"), Path: []byte("/"), Header: h, Body: []byte(body)}
}

func benchHandle(b *testing.B, f *fixture, req *Request) {
	b.Helper()
	dst := &Response{}
	b.ReportAllocs()
	for b.Loop() {
		dst.Reset()
		f.server.Handle(context.Background(), req, dst)
		if dst.Status != 200 {
			b.Fatal(string(dst.Body))
		}
	}
}

func benchFixture(b *testing.B) *fixture {
	b.Helper()
	f := newFixture(b)
	f.ok("CreateTable", createTable("users", "id", "", ""))
	f.ok("PutItem", `{"TableName":"users","Item":`+benchItem+`}`)
	return f
}

const (
	benchPut = `{"TableName":"users","Item":` + benchItem + `}`
	benchKey = `{"TableName":"users","Key":{"id":{"S":"user#12345678"}}`
)

func BenchmarkHandle(b *testing.B) {
	for name, tc := range map[string][2]string{
		"PutItem":            {"PutItem", benchPut},
		"PutItem/condition":  {"PutItem", `{"TableName":"users","Item":` + benchItem + `,"ConditionExpression":"attribute_exists(id)"}`},
		"UpdateItem":         {"UpdateItem", benchKey + `,"UpdateExpression":"SET age = :a","ExpressionAttributeValues":{":a":{"N":"37"}}}`},
		"GetItem":            {"GetItem", benchKey + `}`},
		"GetItem/projection": {"GetItem", benchKey + `,"ProjectionExpression":"age"}`},
	} {
		b.Run(name, func(b *testing.B) {
			f := benchFixture(b)
			benchHandle(b, f, benchRequest(b, f, tc[0], tc[1]))
		})
	}
}

// BenchmarkStages shows what the parts of a PutItem cost.
func BenchmarkStages(b *testing.B) {
	f := benchFixture(b)
	req := benchRequest(b, f, "PutItem", benchPut)
	tb, err := f.tables.Table("users")
	if err != nil {
		b.Fatal(err)
	}
	stages := map[string]func() error{
		"verify": func() error {
			_, err := f.server.verifier.Verify(&access.Request{Method: req.Method, Path: req.Path, Header: req.Header, BodyHash: sha256.Sum256(req.Body)})
			return err
		},
		"frame": func() error {
			_, _ = requestID(), crc32.ChecksumIEEE(req.Body)
			return nil
		},
		"compile": func() error {
			_, _, err := Compile(verbPut, req.Body, tb)
			return err
		},
	}
	var p fastjson.Parser
	stages["parse"] = func() error {
		_, err := p.ParseBytes(req.Body)
		return err
	}
	for _, name := range []string{"verify", "frame", "parse", "compile"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := stages[name](); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkQueryPage(b *testing.B) {
	f := newFixture(b)
	f.ok("CreateTable", createTable("lines", "id", "n", ""))
	tb, err := f.tables.Table("lines")
	if err != nil {
		b.Fatal(err)
	}
	for i := range 100 {
		op, key, err := Compile(verbPut, []byte(`{"Item":{"id":{"S":"a"},"n":{"N":"`+itoa(i)+`"},"pad":{"S":"`+strings.Repeat("x", 200)+`"}}}`), tb)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.tables.Write(context.Background(), table.WriteRequest{Table: tb, Key: key, Op: op}); err != nil {
			b.Fatal(err)
		}
	}
	benchHandle(b, f, benchRequest(b, f, "Query", `{"TableName":"lines","KeyConditionExpression":"id = :i","ExpressionAttributeValues":{":i":{"S":"a"}}}`))
}
