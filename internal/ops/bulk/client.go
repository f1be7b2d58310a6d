package bulk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/ops/bench"
)

// connection asks the region, and asks again where that may help. It belongs to
// one goroutine.
type connection struct {
	caller *bench.Caller
	cfg    *Config
	json   fastjson.Parser
}

func newConnection(cfg *Config) (*connection, error) {
	caller, err := bench.NewCaller(cfg.Endpoint, cfg.Timeout, cfg.Now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &connection{caller: caller, cfg: cfg}, nil
}

func (c *connection) close() { c.caller.Close() }

// call sends a request until it is answered or refused for good. The answer is
// valid until the next call.
func (c *connection) call(ctx context.Context, operation string, body []byte) (*fastjson.Value, error) {
	w := waiting{cfg: c.cfg}
	for {
		answer, err := c.caller.Call(ctx, bench.Operation(operation), body)
		if err == nil {
			v, err := c.json.ParseBytes(answer)
			if err != nil {
				return nil, fmt.Errorf("%s: the answer is no JSON: %w", operation, err)
			}
			return v, nil
		}
		if ctx.Err() != nil || !retryable(err) {
			return nil, fmt.Errorf("%s: %w", operation, err)
		}
		if err := w.wait(ctx, fmt.Errorf("%s: %w", operation, err)); err != nil {
			return nil, err
		}
	}
}

// retryable tells whether another attempt may meet another fate. What is sent can
// be sent twice.
func retryable(err error) bool {
	var refused *bench.RefusedError
	if !errors.As(err, &refused) {
		return true
	}
	return refused.Status >= http.StatusInternalServerError || refused.Code == "ThrottlingException" ||
		refused.Code == "ProvisionedThroughputExceededException" || refused.Code == "OutcomeUnknownException"
}

// waiting spaces attempts, further and further apart.
type waiting struct {
	cfg   *Config
	since time.Time // of the first failure
	next  time.Duration
}

const longestWait = 2 * time.Second

// wait returns why to give up, or nil when it is time for another attempt.
func (w *waiting) wait(ctx context.Context, why error) error {
	now := w.cfg.Now()
	if w.since.IsZero() {
		w.since, w.next = now, 20*time.Millisecond
	}
	if now.Sub(w.since) >= w.cfg.Patience {
		return fmt.Errorf("gave up after %v: %w", w.cfg.Patience, why)
	}
	t := time.NewTimer(w.next)
	defer t.Stop()
	w.next = min(2*w.next, longestWait)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// keyAttribute is an attribute of a table's primary key.
type keyAttribute struct {
	name, typ string
	check     func(attr.Value) error // of its size
}

// schemaOf asks for the table's key over a connection of its own.
func schemaOf(ctx context.Context, cfg *Config) ([]keyAttribute, error) {
	c, err := newConnection(cfg)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.schema(ctx)
}

// schema asks for the table's key: the partition key's attribute and, if there
// is one, the sort key's.
func (c *connection) schema(ctx context.Context) ([]keyAttribute, error) {
	body := strconv.AppendQuote([]byte(`{"TableName":`), c.cfg.Table)
	v, err := c.call(ctx, "DescribeTable", append(body, '}'))
	if err != nil {
		return nil, err
	}
	table := v.Get("Table")
	var out []keyAttribute
	for _, k := range table.GetArray("KeySchema") {
		a := keyAttribute{name: string(k.GetStringBytes("AttributeName")), check: attr.CheckPartitionKeySize}
		if len(out) > 0 {
			a.check = attr.CheckSortKeySize
		}
		for _, d := range table.GetArray("AttributeDefinitions") {
			if string(d.GetStringBytes("AttributeName")) == a.name {
				a.typ = string(d.GetStringBytes("AttributeType"))
			}
		}
		if a.typ == "" {
			return nil, fmt.Errorf("DescribeTable: the key attribute %q has no type", a.name)
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("DescribeTable: table %s has no key", c.cfg.Table)
	}
	return out, nil
}
