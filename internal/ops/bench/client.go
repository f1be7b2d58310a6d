package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fastjson"
)

const (
	targetPut      = "DynamoDB_20120810.PutItem"
	targetGet      = "DynamoDB_20120810.GetItem"
	targetDescribe = "DynamoDB_20120810.DescribeTable"

	// maxReply bounds what is read of an answer: an item of DynamoDB's largest
	// size, escaped, with room to spare.
	maxReply = 4 << 20
)

// target is an endpoint, ready to be called. It is shared and immutable.
type target struct {
	Endpoint
	cfg  Config
	host string // as the Host header has it
	addr string // to dial
	tls  *tls.Config
}

func newTarget(cfg Config, e Endpoint) (*target, error) {
	u, err := url.Parse(e.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: endpoint %q: %w", ErrInvalid, e.URL, err)
	}
	t := &target{Endpoint: e, cfg: cfg, host: u.Host, addr: u.Host}
	port := "80"
	if u.Scheme == "https" {
		port, t.tls = "443", e.TLS.Clone()
		if t.tls == nil {
			t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	if u.Port() == "" {
		t.addr = net.JoinHostPort(u.Hostname(), port)
	}
	if t.tls != nil && t.tls.ServerName == "" {
		t.tls.ServerName = u.Hostname()
	}
	return t, nil
}

func (t *target) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, fmt.Errorf("%w to %s: %w", errConnect, t.addr, err)
	}
	if t.tls == nil {
		return conn, nil
	}
	secure := tls.Client(conn, t.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error says more
		return nil, fmt.Errorf("%w to %s: %w", errConnect, t.addr, err)
	}
	return secure, nil
}

// client is one connection to an endpoint, made anew when it breaks. It belongs
// to one goroutine at a time.
type client struct {
	target *target
	signer *signer
	conn   net.Conn // nil until the first call and after a failed one
	undo   func() bool
	renew  time.Time // when the connection's deadline is to be set anew
	reader *bufio.Reader
	out    []byte
	reply  fasthttp.Response
	json   fastjson.Parser
}

func newClient(t *target) *client {
	return &client{target: t, signer: newSigner(t.Endpoint, t.host), reader: bufio.NewReaderSize(nil, 4096)}
}

// call sends one request and returns the body of its answer, which is valid
// until the next call. An answer that is no success is a *RefusedError.
func (c *client) call(ctx context.Context, operation string, body []byte) ([]byte, error) {
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return nil, err
		}
	}
	now := c.target.cfg.Now()
	c.signer.at(now)
	if timeout := c.target.cfg.Timeout; !now.Before(c.renew) {
		// Moving a deadline costs a timer, so it is not done for every call: an
		// operation has between seven eighths of the timeout and all of it.
		if err := c.conn.SetDeadline(now.Add(timeout)); err != nil {
			return nil, c.broken(ctx, "set the deadline", err)
		}
		c.renew = now.Add(timeout / 8)
	}
	if _, err := c.conn.Write(c.request(operation, body)); err != nil {
		return nil, c.broken(ctx, "send", err)
	}
	reply, ok, err := c.plainReply()
	if err != nil {
		return nil, c.broken(ctx, "read the answer", err)
	}
	if ok {
		return reply, nil
	}
	if err := c.reply.ReadLimitBody(c.reader, maxReply); err != nil {
		return nil, c.broken(ctx, "read the answer", err)
	}
	if c.reply.ConnectionClose() {
		c.close()
	}
	if status := c.reply.StatusCode(); status != fasthttp.StatusOK {
		return nil, refusal(&c.json, status, c.reply.Body())
	}
	return c.reply.Body(), nil
}

// plainReply waits for an answer and takes its body where the answer is what
// nearly all are: a success of stated length that came whole and keeps the
// connection. Any other is left for fasthttp to read.
func (c *client) plainReply() (body []byte, ok bool, err error) {
	if _, err := c.reader.Peek(1); err != nil {
		return nil, false, err
	}
	b, err := c.reader.Peek(c.reader.Buffered())
	if err != nil {
		return nil, false, err
	}
	head, length, ok := parsePlain(b)
	if !ok || length > len(b)-head {
		return nil, false, nil
	}
	if _, err := c.reader.Discard(head + length); err != nil {
		return nil, false, err
	}
	return b[head : head+length], true, nil
}

// parsePlain finds where the head of an answer ends and how long its body is. It
// is not ok where the answer is no success, or its head is not all there or says
// anything that the length does not settle.
func parsePlain(b []byte) (head, length int, ok bool) {
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) {
		return 0, 0, false
	}
	length = -1
	for {
		end := bytes.IndexByte(b[head:], '\n')
		if end < 0 {
			return 0, 0, false
		}
		line := bytes.TrimSuffix(b[head:head+end], []byte("\r"))
		head += end + 1
		if len(line) == 0 {
			return head, length, length >= 0
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case len(name) == len("Connection") && bytes.EqualFold(name, []byte("Connection")),
			len(name) == len("Transfer-Encoding") && bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return 0, 0, false
		case len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")):
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 31)
			if err != nil || length >= 0 {
				return 0, 0, false
			}
			length = int(n)
		}
	}
}

func (c *client) request(operation string, body []byte) []byte {
	out := append(append(c.out[:0], "POST / HTTP/1.1\r\nHost: "...), c.target.host...)
	out = append(append(out, "\r\nContent-Type: "+contentType+"\r\nX-Amz-Target: "...), operation...)
	out = append(out, "\r\nUser-Agent: antipode-bench\r\n"...)
	out = c.signer.appendHeaders(out, operation, body)
	out = strconv.AppendInt(append(out, "Content-Length: "...), int64(len(body)), 10)
	c.out = append(append(out, "\r\n\r\n"...), body...)
	return c.out
}

func (c *client) connect(ctx context.Context) error {
	conn, err := c.target.dial(ctx)
	if err != nil {
		return err
	}
	if conn, err = paired(conn); err != nil {
		return fmt.Errorf("%w to %s: %w", errConnect, c.target.addr, err)
	}
	c.conn, c.renew = conn, time.Time{}
	c.reader.Reset(conn)
	// Reads don't know of contexts, so the end of ctx closes what they read from.
	c.undo = context.AfterFunc(ctx, func() { _ = conn.Close() })
	return nil
}

// broken gives up the connection, since no one knows what it still holds.
func (c *client) broken(ctx context.Context, what string, err error) error {
	c.close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s at %s: %w", what, c.target.addr, err)
}

func (c *client) close() {
	if c.conn != nil {
		c.undo()
		_ = c.conn.Close() // nothing is left to be written
		c.conn = nil
	}
}

// refusal reads DynamoDB's error out of an answer.
func refusal(p *fastjson.Parser, status int, body []byte) error {
	e := &RefusedError{Status: status, Code: "HTTP " + strconv.Itoa(status)}
	v, err := p.ParseBytes(body)
	if err != nil {
		return e
	}
	if code := string(v.GetStringBytes("__type")); code != "" {
		e.Code = code[strings.LastIndexByte(code, '#')+1:]
	}
	e.Message = string(v.GetStringBytes("message"))
	if e.Message == "" {
		e.Message = string(v.GetStringBytes("Message"))
	}
	return e
}
