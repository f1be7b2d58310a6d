package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
)

// Calls are HTTP/2 on a connection that is authenticated already: a POST to the
// method, the body as is. The answer is 200 with the handler's bytes, or
// statusRefused with the handler's error.
const (
	statusRefused = http.StatusUnprocessableEntity
	headerCode    = "Antipode-Code"
	headerTimeout = "Antipode-Timeout" // microseconds that the caller is going to wait

	// Windows far above what a long way holds: the links bound what is on the way.
	streamWindow     = 16 << 20
	connectionWindow = 64 << 20
	// One connection carries all calls, so their number is not to be the limit.
	maxCalls = 100_000
)

// rpcSide serves calls, and makes connections for them.
type rpcSide struct {
	mesh      *Mesh
	server    *http.Server
	transport *http.Transport
	accepted  chan net.Conn
	done      chan struct{}
	once      sync.Once
}

func newRPCSide(m *Mesh) *rpcSide {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true) // net/http is handed connections that are secure already
	tuning := &http.HTTP2Config{
		MaxConcurrentStreams:          maxCalls,
		MaxReceiveBufferPerConnection: connectionWindow,
		MaxReceiveBufferPerStream:     streamWindow,
	}
	r := &rpcSide{mesh: m, accepted: make(chan net.Conn), done: make(chan struct{})}
	r.server = &http.Server{
		Handler:     r,
		Protocols:   protocols,
		HTTP2:       tuning,
		BaseContext: func(net.Listener) context.Context { return m.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
	}
	r.transport = &http.Transport{
		Protocols:          protocols,
		HTTP2:              tuning,
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, ok := ctx.Value(connKey{}).(*conn)
			if !ok {
				return nil, errors.New("no connection in the context")
			}
			return c, nil
		},
	}
	return r
}

type connKey struct{}

// serve runs the server until close.
func (r *rpcSide) serve() {
	if err := r.server.Serve(r); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		r.mesh.log.Error("call server ended", "error", err)
	}
}

func (r *rpcSide) close() {
	r.once.Do(func() { close(r.done) })
	_ = r.server.Close() // closes connections that are broken already
}

// accept hands a peer's connection to the server.
func (r *rpcSide) accept(c *conn) {
	if !r.mesh.begin() {
		_ = c.Close() // the mesh is closing
		return
	}
	c.onClose = r.mesh.wg.Done
	select {
	case r.accepted <- c:
	case <-r.done:
		_ = c.Close() // the mesh is closing
	}
}

// Accept implements net.Listener for the server.
func (r *rpcSide) Accept() (net.Conn, error) {
	select {
	case c := <-r.accepted:
		return c, nil
	case <-r.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (r *rpcSide) Close() error { return nil }

// Addr implements net.Listener.
func (r *rpcSide) Addr() net.Addr { return r.mesh.Addr() }

// ServeHTTP runs one call.
func (r *rpcSide) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	c, ok := req.Context().Value(connKey{}).(*conn)
	if !ok || !r.mesh.begin() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer r.mesh.wg.Done()
	defer func() {
		if fault := recover(); fault != nil {
			r.mesh.log.Error("call handler panicked", "peer", c.peer, "method", req.URL.Path, "panic", fault, "stack", string(debug.Stack()))
			panic(http.ErrAbortHandler) // the caller learns that the outcome is unknown
		}
	}()
	answer, err := r.run(c.peer, req)
	if err != nil {
		var refusal *RemoteError
		if errors.As(err, &refusal) && refusal.Code != "" {
			w.Header().Set(headerCode, url.QueryEscape(refusal.Code))
		}
		w.WriteHeader(statusRefused)
		answer = []byte(err.Error())
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	}
	_, _ = w.Write(answer) // fails when the caller is gone
}

func (r *rpcSide) run(from antipode.Region, req *http.Request) ([]byte, error) {
	method := strings.TrimPrefix(req.URL.Path, "/")
	r.mesh.mu.Lock()
	h := r.mesh.callHandlers[method]
	r.mesh.mu.Unlock()
	if h == nil {
		return nil, &RemoteError{Code: CodeNoHandler, Text: "method " + strconv.Quote(method) + " is not served (yet)"}
	}
	ctx := req.Context()
	if us, err := strconv.ParseInt(req.Header.Get(headerTimeout), 10, 64); err == nil && us > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(us)*time.Microsecond)
		defer cancel()
	}
	body, err := readMessage(req.Body, req.ContentLength, r.mesh.cfg.MaxMessage)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	answer, err := h(ctx, from, body)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && errors.Is(err, context.DeadlineExceeded) {
		err = &RemoteError{Code: CodeDeadline, Text: err.Error()}
	}
	return answer, err
}

// readMessage reads a body whole. Size is what its sender announced, or -1.
func readMessage(body io.Reader, size int64, most int) ([]byte, error) {
	if size > int64(most) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, most)
	}
	if size == 0 {
		return nil, nil
	}
	if size > 0 {
		out := make([]byte, size)
		_, err := io.ReadFull(body, out)
		return out, err
	}
	out, err := io.ReadAll(io.LimitReader(body, int64(most)+1))
	if err == nil && len(out) > most {
		err = fmt.Errorf("%w: at most %d bytes", ErrTooLarge, most)
	}
	return out, err
}

// rpcClient makes calls on one connection to a peer.
type rpcClient struct {
	mesh   *Mesh
	peer   antipode.Region
	conn   *conn
	http   *http.ClientConn
	once   sync.Once
	broken chan struct{} // closed when the connection is
	cause  error         // what broke it; read it after broken is closed
}

// dial connects to a peer for calls.
func (r *rpcSide) dial(ctx context.Context, to antipode.Region) (*rpcClient, error) {
	c, err := r.mesh.dial(ctx, to, KindRPC)
	if err != nil {
		return nil, err
	}
	client := &rpcClient{mesh: r.mesh, peer: to, conn: c, broken: make(chan struct{})}
	c.onBroken = client.breakDown
	if !r.mesh.begin() {
		_ = c.Close() // the mesh is closing
		return nil, ErrClosed
	}
	c.onClose = r.mesh.wg.Done
	client.http, err = r.transport.NewClientConn(context.WithValue(ctx, connKey{}, c), "http", string(to)+":0")
	if err != nil {
		_ = c.Close() // of no use
		return nil, err
	}
	return client, nil
}

// breakDown is called with what the connection's reads meet.
func (c *rpcClient) breakDown(cause error) {
	c.once.Do(func() {
		c.cause = cause
		close(c.broken)
	})
}

// close ends the connection and the calls on it.
func (c *rpcClient) close(reason error) {
	c.conn.breakOff(reason)
	_ = c.http.Close()
	_ = c.conn.Close() // broken already
}

func (c *rpcClient) call(ctx context.Context, method string, body []byte) ([]byte, error) {
	target := &url.URL{Scheme: "http", Host: string(c.peer), Path: "/" + method}
	req := (&http.Request{
		Method: http.MethodPost, URL: target, Host: target.Host,
		Header: make(http.Header, 1), ContentLength: int64(len(body)),
	}).WithContext(ctx)
	if len(body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	if until, ok := ctx.Deadline(); ok {
		left := max(until.Sub(c.mesh.cfg.Now()).Microseconds(), 1)
		req.Header.Set(headerTimeout, strconv.FormatInt(left, 10))
	}
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		return nil, c.failure(ctx, method, err)
	}
	answer, err := readMessage(resp.Body, resp.ContentLength, c.mesh.cfg.MaxMessage)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, c.failure(ctx, method, err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return answer, nil
	case statusRefused:
		code, err := url.QueryUnescape(resp.Header.Get(headerCode))
		if err != nil {
			code = resp.Header.Get(headerCode)
		}
		return nil, &RemoteError{Region: c.peer, Method: method, Code: code, Text: string(answer)}
	default:
		return nil, &UnreachableError{Region: c.peer, Err: errors.New("its links are closing")}
	}
}

// failure tells the caller's own impatience from a lost connection.
func (c *rpcClient) failure(ctx context.Context, method string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("call %s at region %s, outcome unknown: %w", method, c.peer, ended(ctx))
	case errors.Is(err, ErrTooLarge):
		return fmt.Errorf("call %s at region %s: answer: %w", method, c.peer, err)
	case c.mesh.ctx.Err() != nil:
		err = ErrClosed
	default:
		err = c.why(err)
	}
	return &UnreachableError{Region: c.peer, Sent: true, Err: err}
}

// why prefers the reason that broke the connection to what HTTP/2 makes of it.
func (c *rpcClient) why(err error) error {
	if reason := c.conn.reason.Load(); reason != nil {
		return *reason
	}
	select {
	case <-c.broken:
		if errors.Is(c.cause, io.EOF) {
			return errDropped
		}
		return c.cause
	default:
		return err
	}
}
