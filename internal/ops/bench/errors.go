package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/valyala/fasthttp"
)

var (
	// ErrInvalid wraps what Validate finds.
	ErrInvalid = errors.New("invalid benchmark")
	// ErrUnusable wraps what keeps a run from starting: an endpoint that can't be
	// reached, refuses the key, or has no such table.
	ErrUnusable = errors.New("endpoint can't be used")
)

// RefusedError is an answer that is no success.
type RefusedError struct {
	Status  int    // of HTTP
	Code    string // DynamoDB's name for it, or "HTTP 503" where the answer has none
	Message string
}

// Error gives the code and what the server says of it.
func (e *RefusedError) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// errConnect marks a connection that did not come about.
var errConnect = errors.New("connect")

// kind names the type of a failed operation, as results count them.
func kind(err error) string {
	var refused *RefusedError
	var network net.Error
	switch {
	case errors.As(err, &refused):
		return refused.Code
	case errors.Is(err, errConnect):
		return KindConnect
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, fasthttp.ErrTimeout), errors.As(err, &network) && network.Timeout():
		return KindTimeout
	default:
		return KindLost
	}
}

// ErrorCount is how often one type of error came, and what the first one said.
type ErrorCount struct {
	Count int64  `json:"count"`
	First string `json:"first"`
}

// errorCounts counts errors by type. Errors are rare, so a lock will do.
type errorCounts struct {
	mu    sync.Mutex
	kinds map[string]ErrorCount
	total int64
}

func (c *errorCounts) add(kind string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds == nil {
		c.kinds = make(map[string]ErrorCount)
	}
	k := c.kinds[kind]
	if k.Count == 0 {
		k.First = err.Error()
	}
	k.Count++
	c.kinds[kind] = k
	c.total++
}
