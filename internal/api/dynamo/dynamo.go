// Package dynamo is the DynamoDB front of a region: AWS JSON 1.0 over HTTP with
// verified signatures, in front of the region's tables and of the catalog that
// the regions agree on.
//
// It promises what a standard DynamoDB client sees: requests checked in
// DynamoDB's order and refused in its words, errors that SDKs retry exactly where a retry can
// help, and that no request, however malformed, ends the process. What it does
// not know yet (indexes, transactions, streams) it refuses and says so.
//
// Handle takes and gives bytes, so that the HTTP server around it can be
// exchanged, and may be called concurrently; Serve runs it behind fasthttp, once.
// Shutdown ends Serve; its caller closes nothing else.
// Compile is a function of its own, for regions that execute writes forwarded
// to them.
package dynamo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"hash/crc32"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"sync"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/api/access"
)

const (
	targetPrefix = "DynamoDB_20120810."
	jsonType     = "application/x-amz-json-1.0"
	// maxBody is DynamoDB's bound on a request in bytes.
	maxBody = 16 << 20
)

// Server answers DynamoDB requests for one region.
type Server struct {
	cfg      Config
	ops      map[string]*operation
	verifier *access.Verifier
	metrics  *metrics
	calls    sync.Pool // *call
	http     *fasthttp.Server

	mu      sync.Mutex
	stopped bool          // by Shutdown
	ln      *onceListener // while Serve runs
}

// operation is one call of the API.
type operation struct {
	name   string
	write  bool // not for read-only keys
	handle func(c *call) error
}

// New makes a Server.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	v, err := access.NewVerifier(access.VerifierConfig{
		Keys: cfg.Keys, Regions: append([]string{string(cfg.Region)}, cfg.Aliases...), Service: "dynamodb",
		Now: cfg.Now, MustSign: []string{"x-amz-target"},
	})
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, verifier: v, ops: operations()}
	if s.metrics, err = newMetrics(cfg.Registerer, s.ops); err != nil {
		return nil, err
	}
	s.calls.New = func() any { return &call{s: s} }
	s.http = s.newHTTP()
	return s, nil
}

func operations() map[string]*operation {
	out := map[string]*operation{}
	for _, o := range []*operation{
		{name: "GetItem", handle: (*call).getItem},
		{name: "PutItem", write: true, handle: func(c *call) error { return c.writeItem(verbPut) }},
		{name: "DeleteItem", write: true, handle: func(c *call) error { return c.writeItem(verbDelete) }},
		{name: "UpdateItem", write: true, handle: func(c *call) error { return c.writeItem(verbUpdate) }},
		{name: "Query", handle: (*call).query},
		{name: "Scan", handle: (*call).scan},
		{name: "BatchGetItem", handle: (*call).batchGet},
		{name: "BatchWriteItem", write: true, handle: (*call).batchWrite},
		{name: "CreateTable", write: true, handle: (*call).createTable},
		{name: "DescribeTable", handle: (*call).describeTable},
		{name: "ListTables", handle: (*call).listTables},
		{name: "DeleteTable", write: true, handle: (*call).deleteTable},
		{name: "TagResource", write: true, handle: (*call).tagResource},
		{name: "UntagResource", write: true, handle: (*call).untagResource},
		{name: "ListTagsOfResource", handle: (*call).listTags},
		{name: "UpdateTable", write: true, handle: (*call).updateTable},
		{name: "UpdateTimeToLive", write: true, handle: (*call).updateTimeToLive},
		{name: "DescribeTimeToLive", handle: (*call).describeTimeToLive},
		{name: "DescribeContinuousBackups", handle: (*call).describeBackups},
		{name: "CreateGlobalTable", write: true, handle: (*call).createGlobalTable},
		{name: "UpdateGlobalTable", write: true, handle: (*call).updateGlobalTable},
		{name: "DescribeGlobalTable", handle: (*call).describeGlobalTable},
		{name: "DescribeGlobalTableSettings", handle: (*call).globalTableSettings},
		{name: "UpdateGlobalTableSettings", write: true, handle: (*call).globalTableSettings},
		{name: "ListGlobalTables", handle: (*call).listGlobalTables},
		{name: "DescribeLimits", handle: (*call).describeLimits},
		{name: "DescribeEndpoints", handle: (*call).describeEndpoints},
	} {
		out[o.name] = o
	}
	return out
}

// Request is one HTTP request. Its memory belongs to the caller.
type Request struct {
	Method []byte
	Path   []byte // as sent
	Query  []byte // as sent, without the question mark
	Header access.Header
	Body   []byte
}

// Response is one HTTP response. Its memory is reused: Reset before each request.
type Response struct {
	Status      int
	ContentType string
	Header      []HeaderField
	Body        []byte
}

// HeaderField is one header of a response.
type HeaderField struct{ Name, Value string }

// Reset empties the response and keeps its memory.
func (r *Response) Reset() {
	r.Status, r.ContentType, r.Header, r.Body = 0, "", r.Header[:0], r.Body[:0]
}

func (r *Response) set(name, value string) {
	r.Header = append(r.Header, HeaderField{name, value})
}

// Handle answers one request. The context ends it early; what it then says of
// a write is what is known of it.
func (s *Server) Handle(ctx context.Context, req *Request, dst *Response) {
	start := s.cfg.Now()
	dst.set("x-amzn-RequestId", requestID())
	origin := len(req.Header.Peek("Origin")) > 0
	if origin {
		dst.set("Access-Control-Allow-Origin", "*")
	}
	switch {
	case string(req.Method) == "OPTIONS" && origin:
		preflight(req, dst)
		return
	case string(req.Method) != "POST":
		s.plain(req, dst)
		return
	}
	if origin {
		dst.set("Access-Control-Expose-Headers", "x-amzn-RequestId,x-amzn-ErrorType,x-amz-crc32,Date")
	}
	dst.Status, dst.ContentType = fasthttp.StatusOK, jsonType
	op, err := s.serve(ctx, req, dst)
	code := ""
	if err != nil {
		code = s.fail(op, err, dst)
	}
	dst.set("x-amz-crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(dst.Body)), 10))
	s.metrics.observe(op, code, s.cfg.Now().Sub(start))
}

// fail writes the error that the client gets and logs what it can't repair.
func (s *Server) fail(op *operation, err error, dst *Response) string {
	w := wireOf(err)
	dst.Status = w.status
	dst.Body = w.append(dst.Body[:0])
	if w.status >= fasthttp.StatusInternalServerError && !w.expected {
		s.cfg.Logger.Error("answer request", "operation", opName(op), "code", w.code, "error", err)
	}
	return w.code
}

func opName(op *operation) string {
	if op == nil {
		return "unknown"
	}
	return op.name
}

// serve finds the operation, verifies the signature and calls. A panic in it
// is one failed request, not a failed region.
func (s *Server) serve(ctx context.Context, req *Request, dst *Response) (op *operation, err error) {
	c, ok := s.calls.Get().(*call)
	if !ok {
		c = &call{s: s}
	}
	defer func() {
		if p := recover(); p != nil {
			// The call's memory may be in any state: it isn't used again.
			s.cfg.Logger.Error("panic in a request", "operation", opName(op), "panic", p, "stack", string(debug.Stack()))
			err = errPanic
			return
		}
		c.reset()
		s.calls.Put(c)
	}()
	if len(req.Body) > maxBody {
		return nil, errTooLarge
	}
	if !jsonContent(req.Header.Peek("Content-Type")) {
		return nil, errUnknownOperation("Content-Type must be " + jsonType)
	}
	target := req.Header.Peek("X-Amz-Target")
	if !bytes.HasPrefix(target, []byte(targetPrefix)) {
		return nil, errUnknownOperation("")
	}
	op, ok = s.ops[string(target[len(targetPrefix):])]
	if !ok {
		return nil, errNotHere(string(target[len(targetPrefix):]))
	}
	key, err := s.verifier.Verify(&access.Request{
		Method: req.Method, Path: req.Path, Query: req.Query, Header: req.Header, BodyHash: sha256.Sum256(req.Body),
	})
	if err != nil {
		return op, err
	}
	c.ctx, c.op, c.key, c.body, c.header = ctx, op, key, req.Body, req.Header
	if c.root, err = c.parse(req.Body); err != nil {
		return op, err
	}
	c.out = dst.Body[:0]
	err = op.handle(c)
	dst.Body = c.out
	return op, err
}

func jsonContent(t []byte) bool {
	t, _, _ = bytes.Cut(t, []byte(";"))
	t = bytes.TrimSpace(t)
	return bytes.EqualFold(t, []byte(jsonType)) || bytes.EqualFold(t, []byte("application/json"))
}

// plain answers what is no call: a health check of load balancers, or a mistake.
func (s *Server) plain(req *Request, dst *Response) {
	switch string(req.Method) {
	case "GET", "HEAD":
		if len(req.Path) > 1 {
			break
		}
		dst.Status, dst.ContentType = fasthttp.StatusOK, "text/plain"
		dst.Body = append(dst.Body, "healthy: "...)
		dst.Body = append(dst.Body, req.Header.Peek("Host")...)
		dst.Body = append(dst.Body, ' ')
		return
	}
	dst.Status, dst.ContentType = fasthttp.StatusNotFound, "text/plain"
	dst.Body = append(dst.Body, "<UnknownOperationException/>\n"...)
}

func preflight(req *Request, dst *Response) {
	dst.Status = fasthttp.StatusOK
	if h := req.Header.Peek("Access-Control-Request-Headers"); len(h) > 0 {
		dst.set("Access-Control-Allow-Headers", string(h))
	}
	if h := req.Header.Peek("Access-Control-Request-Method"); len(h) > 0 {
		dst.set("Access-Control-Allow-Methods", string(h))
	}
	dst.set("Access-Control-Max-Age", "172800")
}

// requestID looks like AWS's: 52 upper-case letters and digits. It names a
// request in logs and needs to be no secret.
func requestID() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	var b [52]byte
	for i := 0; i < len(b); {
		for n, bits := 0, rand.Uint64(); n < 12 && i < len(b); n, i, bits = n+1, i+1, bits>>5 {
			b[i] = alphabet[bits&31]
		}
	}
	return string(b[:])
}

// call is one request on its way through an operation. It is pooled: nothing
// of it outlives the request.
type call struct {
	s      *Server
	ctx    context.Context // of the request, as all of a call is
	op     *operation
	key    access.Key
	header access.Header
	body   []byte
	parser fastjson.Parser
	root   *fastjson.Object
	out    []byte // the answer so far
	buf    []byte // scratch
}

func (c *call) reset() {
	const keep = 1 << 20 // scratch beyond it is given back
	if cap(c.buf) > keep {
		c.buf = nil
	}
	if cap(c.body) > keep {
		c.parser = fastjson.Parser{} // it keeps a copy of what it parsed
	}
	c.ctx, c.op, c.key, c.header, c.body, c.root, c.out = nil, nil, access.Key{}, nil, nil, nil, nil
}

func (c *call) parse(body []byte) (*fastjson.Object, error) {
	v, err := c.parser.ParseBytes(body)
	if err != nil {
		return nil, errSerialization("")
	}
	o, err := v.Object()
	if err != nil {
		return nil, errSerialization("Unexpected token received from parser")
	}
	return o, nil
}
