package bench

import (
	"context"
	"time"
)

// Operation is the target of a call, as the header X-Amz-Target has it.
func Operation(name string) string { return targetPrefix + name }

const targetPrefix = "DynamoDB_20120810."

// Caller is one connection to an endpoint, for who drives a load of another
// shape than this package's. It is made anew when it breaks. A Caller belongs to
// one goroutine at a time, who closes it.
type Caller struct {
	client *client
}

// NewCaller makes a connection that is opened by its first call. A call takes at
// most the timeout.
func NewCaller(e Endpoint, timeout time.Duration, now func() time.Time) (*Caller, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	t, err := newTarget(Config{Timeout: timeout, Now: now}, e)
	if err != nil {
		return nil, err
	}
	return &Caller{client: newClient(t)}, nil
}

// Call sends one signed request and returns the body of its answer, which is
// valid until the next call. An answer that is no success is a *RefusedError.
func (c *Caller) Call(ctx context.Context, operation string, body []byte) ([]byte, error) {
	return c.client.call(ctx, operation, body)
}

// Close closes the connection.
func (c *Caller) Close() { c.client.close() }

// The kinds of errors that are no answer of a server.
const (
	KindConnect = "connect" // nobody was there: nothing was sent
	KindTimeout = "timeout"
	KindLost    = "connection lost"
)

// Kind names the type of a failed call: DynamoDB's code, or what befell the
// connection.
func Kind(err error) string { return kind(err) }
