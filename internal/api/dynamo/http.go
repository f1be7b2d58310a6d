package dynamo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net"
	"strconv"
	"sync"

	"github.com/valyala/fasthttp"
)

// bodySlack is what a body may have over maxBody before its connection is
// given up: so much the client can be told of in a proper answer.
const bodySlack = 64 << 10

func (s *Server) newHTTP() *fasthttp.Server {
	return &fasthttp.Server{
		ErrorHandler:                 s.badRequest,
		Concurrency:                  s.cfg.MaxConnections,
		ReadBufferSize:               s.cfg.MaxHeader,
		ReadTimeout:                  s.cfg.ReadTimeout,
		WriteTimeout:                 s.cfg.WriteTimeout,
		IdleTimeout:                  s.cfg.IdleTimeout,
		MaxRequestBodySize:           maxBody + bodySlack,
		NoDefaultServerHeader:        true,
		DisablePreParseMultipartForm: true,
		CloseOnShutdown:              true,
		SecureErrorLogMessage:        true,
		Logger:                       httpLog{s.cfg.Logger},
	}
}

// onceListener may be closed by Shutdown and by fasthttp, in any order.
type onceListener struct {
	net.Listener
	once sync.Once
	err  error
}

// Close closes the listener the first time.
func (l *onceListener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}

// start takes the listener over, unless the server was shut down before it started.
func (s *Server) start(ln net.Listener) (net.Listener, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, false
	}
	if s.cfg.TLS != nil {
		ln = tls.NewListener(ln, s.cfg.TLS)
	} else {
		ln = patientListener{ln}
	}
	s.ln = &onceListener{Listener: ln}
	return s.ln, true
}

// Serve answers requests that come in at the listener until Shutdown, or until
// the listener fails; it closes the listener. Requests end early when the
// context does. It is called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	given := ln
	ln, ok := s.start(ln)
	if !ok {
		return given.Close()
	}
	var responses sync.Pool
	s.http.Handler = func(rc *fasthttp.RequestCtx) {
		dst, ok := responses.Get().(*Response)
		if !ok {
			dst = new(Response)
		}
		s.exchange(ctx, rc, dst)
		responses.Put(dst)
	}
	if err := s.http.Serve(ln); err != nil {
		return fmt.Errorf("serve DynamoDB API on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown stops accepting, lets running requests finish, and returns when
// they have, or when the context ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	if s.ln != nil {
		_ = s.ln.Close() // fasthttp closes it again and says what went wrong
	}
	s.mu.Unlock()
	if err := s.http.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("shut down DynamoDB API: %w", err)
	}
	return nil
}

// exchange carries one request from fasthttp to Handle and back. The body is
// built in fasthttp's own buffer, so that it isn't copied.
func (s *Server) exchange(ctx context.Context, rc *fasthttp.RequestCtx, dst *Response) {
	dst.Reset()
	dst.Body = rc.Response.SwapBody(nil)[:0]
	s.Handle(ctx, &Request{
		Method: rc.Method(), Path: rc.URI().PathOriginal(), Query: rc.URI().QueryString(),
		Header: &rc.Request.Header, Body: rc.Request.Body(),
	}, dst)
	rc.Response.SwapBody(dst.Body)
	dst.Body = nil
	writeHeader(rc, dst)
}

func writeHeader(rc *fasthttp.RequestCtx, dst *Response) {
	rc.Response.Header.DisableNormalizing() // x-amzn-RequestId stands in logs as AWS writes it
	rc.SetStatusCode(dst.Status)
	if dst.ContentType != "" {
		rc.SetContentType(dst.ContentType)
	}
	for _, h := range dst.Header {
		rc.Response.Header.Set(h.Name, h.Value)
	}
}

// badRequest answers what fasthttp could not read.
func (s *Server) badRequest(rc *fasthttp.RequestCtx, err error) {
	w := wireOf(errSerialization("The HTTP request can't be read"))
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.As(err, &small):
		w.status, w.message = fasthttp.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("The headers are larger than %d bytes", s.cfg.MaxHeader)
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		w = wireOf(errTooLarge)
	case errors.As(err, &timeout) && timeout.Timeout():
		w.status, w.message = fasthttp.StatusRequestTimeout, "The request was not sent in time"
	}
	dst := &Response{Status: w.status, ContentType: jsonType, Body: w.append(nil)}
	dst.set("x-amzn-RequestId", requestID())
	dst.set("x-amz-crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(dst.Body)), 10))
	writeHeader(rc, dst)
	rc.SetBody(dst.Body)
}

// httpLog hands fasthttp's own messages, which are about single connections, to the log.
type httpLog struct{ log *slog.Logger }

// Printf implements fasthttp.Logger.
func (l httpLog) Printf(format string, args ...any) {
	l.log.Debug("client connection", "detail", fmt.Sprintf(format, args...))
}
