package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/access"
)

// Client asks one region. The fields are not changed while it is used.
type Client struct {
	// Addr is the region's operator port: HOST:PORT for plain HTTP, or an http or https URL.
	Addr string
	// Token is the region's operator token.
	Token string
	// HTTP sends the requests. Default http.DefaultClient.
	HTTP *http.Client
}

// maxAnswer bounds an answer, and a line of a streamed one, in bytes. A status
// of a thousand tables on a hundred shards is a tenth of it.
const maxAnswer = 16 << 20

// Health asks how the region is. The error is nil when it answered, ready or not.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var h Health
	response, err := c.send(ctx, http.MethodGet, "/healthz", nil)
	if err != nil {
		return h, err
	}
	err = json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&h)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return h, fmt.Errorf("read health of %s: %w", c.Addr, err)
	}
	return h, nil
}

// Status asks what the region knows of itself and the others.
func (c *Client) Status(ctx context.Context) (RegionStatus, error) {
	var s RegionStatus
	err := c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
	return s, err
}

// Home asks which region an item belongs to.
func (c *Client) Home(ctx context.Context, table string, key []string) (HomeStatus, error) {
	var h HomeStatus
	err := c.call(ctx, http.MethodGet, "/v1/home/"+url.PathEscape(table)+"?"+url.Values{"key": key}.Encode(), nil, &h)
	return h, err
}

// Move hands an item to another region.
func (c *Client) Move(ctx context.Context, table string, key []string, to antipode.Region) (HomeStatus, error) {
	var h HomeStatus
	err := c.call(ctx, http.MethodPost, "/v1/home/"+url.PathEscape(table), moveRequest{key, to}, &h)
	return h, err
}

// CutLink makes a black hole of the link to a peer.
func (c *Client) CutLink(ctx context.Context, peer antipode.Region, d Direction) error {
	return c.link(ctx, peer, linkRequest{Action: "cut", Direction: d})
}

// HealLink undoes what CutLink did.
func (c *Client) HealLink(ctx context.Context, peer antipode.Region) error {
	return c.link(ctx, peer, linkRequest{Action: "heal"})
}

// DelayLink sets how long what the region sends to a peer takes.
func (c *Client) DelayLink(ctx context.Context, peer antipode.Region, oneWay time.Duration) error {
	return c.link(ctx, peer, linkRequest{Action: "delay", OneWayUS: oneWay.Microseconds()})
}

// SkewClock sets how far the region's wall clock is ahead of its machine's; a
// negative offset sets it behind, 0 right again.
func (c *Client) SkewClock(ctx context.Context, offset time.Duration) error {
	return c.call(ctx, http.MethodPost, "/v1/clock", clockRequest{OffsetMS: offset.Milliseconds()}, nil)
}

func (c *Client) link(ctx context.Context, peer antipode.Region, l linkRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/links/"+url.PathEscape(string(peer)), l, nil)
}

// CreateKey makes an access key. The answer holds its secret.
func (c *Client) CreateKey(ctx context.Context, scope access.Scope) (access.Key, error) {
	var k access.Key
	err := c.call(ctx, http.MethodPost, "/v1/keys", scope, &k)
	return k, err
}

// ListKeys lists the region's access keys, without their secrets.
func (c *Client) ListKeys(ctx context.Context) ([]access.Key, error) {
	var l keyList
	err := c.call(ctx, http.MethodGet, "/v1/keys", nil, &l)
	return l.Keys, err
}

// RotateKey makes a successor of a key, which ends after the grace time.
func (c *Client) RotateKey(ctx context.Context, id string, grace time.Duration) (access.Key, error) {
	var k access.Key
	err := c.call(ctx, http.MethodPost, "/v1/keys/"+url.PathEscape(id)+"/rotate", rotateRequest{int64(grace / time.Second)}, &k)
	return k, err
}

// RevokeKey ends a key.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/v1/keys/"+url.PathEscape(id)+"/revoke", struct{}{}, nil)
}

// CreateJoinToken makes a token with which a region can join, or, with replace, a
// machine that takes the place of the region's lost one.
func (c *Client) CreateJoinToken(ctx context.Context, region antipode.Region, life time.Duration, replace bool) (string, error) {
	var t tokenAnswer
	err := c.call(ctx, http.MethodPost, "/v1/tokens", tokenRequest{region, int64(life / time.Second), replace}, &t)
	return t.Token, err
}

// Collisions visits the collisions on record of a table, at most limit (0: all),
// as they arrive. It ends with visit's error, if any.
func (c *Client) Collisions(ctx context.Context, table string, limit int, visit func(Collision) error) (err error) {
	path := "/v1/collisions/" + url.PathEscape(table)
	if limit > 0 {
		path += "?limit=" + strconv.Itoa(limit)
	}
	response, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return readFailure(response)
	}
	return readCollisions(response.Body, visit)
}

// readCollisions reads the stream to its last line.
func readCollisions(r io.Reader, visit func(Collision) error) error {
	limited := &io.LimitedReader{R: r}
	d := json.NewDecoder(limited)
	for {
		limited.N = maxAnswer // for the next line
		var line collisionLine
		if err := d.Decode(&line); err != nil {
			return fmt.Errorf("%w: the list broke off before its end: %w", ErrUnreachable, err)
		}
		switch {
		case line.Error != nil:
			return line.Error
		case line.End:
			return nil
		case line.Collision == nil:
			return errors.New("read collisions: a line says nothing that is known here; the region may be newer than this program")
		}
		if err := visit(*line.Collision); err != nil {
			return err
		}
	}
}

// call sends a request and reads the answer into result, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, body, result any) (err error) {
	response, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return readFailure(response)
	}
	if result == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(result); err != nil {
		return fmt.Errorf("read answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", method, path, err)
		}
		content = bytes.NewReader(text)
	}
	base := c.Addr
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	request, err := http.NewRequestWithContext(ctx, method, base+path, content)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.Addr, err)
	}
	request.Header.Set("Authorization", "Bearer "+c.Token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the rest repeats the request
		}
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			err = op.Err // the rest repeats the address
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.Addr, err)
	}
	return response, nil
}

// readFailure reads the error that an answer tells.
func readFailure(response *http.Response) error {
	var f failure
	err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&f)
	if err != nil || f.Error == nil {
		return &Error{Status: response.StatusCode, Message: fmt.Sprintf("the answer was %s, and not from an operator port of antipode; check the address", response.Status)}
	}
	f.Error.Status = response.StatusCode
	return f.Error
}
