// Package operator is the HTTP API for those who run a region, and its client.
// Everything below /v1/ needs the region's operator token as a bearer token;
// /healthz is open to all who reach the port, /metrics to this machine.
//
// It promises that a refused call changed nothing, that an error says what to
// do, and that bodies and times are bounded. It decides nothing: it asks the
// Backend, which the region is.
//
// A Server and a Client may be used concurrently. Whoever made the Server calls
// Shutdown; a Client holds nothing but what its http.Client does.
package operator

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/access"
)

// Server serves the API. It is an http.Handler too.
type Server struct {
	cfg    Config
	digest [sha256.Size]byte // of the token
	mux    *http.ServeMux
	http   *http.Server
}

// NewToken draws a token.
func NewToken() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return "antipode-operator-" + base64.RawURLEncoding.EncodeToString(b[:])
}

// NewServer makes a server that does not listen yet.
func NewServer(cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, digest: sha256.Sum256([]byte(cfg.Token)), mux: http.NewServeMux()}
	s.http = &http.Server{
		Handler:           s,
		TLSConfig:         cfg.TLS,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       cfg.Timeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug), // broken handshakes and the like
	}
	s.routes()
	return s, nil
}

func (s *Server) routes() {
	metrics := promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: s.cfg.Timeout})
	s.mux.HandleFunc("GET /healthz", s.health)
	s.mux.Handle("GET /metrics", s.fromHere(metrics))
	for pattern, call := range map[string]func(*http.Request) (any, error){
		"GET /v1/status":            s.status,
		"GET /v1/home/{table}":      s.home,
		"POST /v1/home/{table}":     s.move,
		"POST /v1/links/{peer}":     s.link,
		"POST /v1/clock":            s.skewClock,
		"GET /v1/probe":             s.probe,
		"GET /v1/keys":              s.listKeys,
		"POST /v1/keys":             s.createKey,
		"POST /v1/keys/{id}/rotate": s.rotateKey,
		"POST /v1/keys/{id}/revoke": s.revokeKey,
		"POST /v1/tokens":           s.createToken,
		"GET /v1/unprotected":       s.unprotected,
	} {
		s.mux.Handle(pattern, s.authorised(s.answer(call)))
	}
	for pattern, call := range s.roleCalls() {
		s.mux.Handle(pattern, s.authorised(s.answer(call)))
	}
	s.mux.Handle("GET /v1/collisions/{table}", s.authorised(http.HandlerFunc(s.collisions)))
	s.mux.Handle("/", s.authorised(http.HandlerFunc(s.unknown)))
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Serve answers what comes to the listener until Shutdown, and closes it. It
// refuses a listener that other machines can reach unless there is TLS.
func (s *Server) Serve(l net.Listener) error {
	if s.cfg.TLS == nil && !isLoopback(l.Addr().String()) {
		return errors.Join(fmt.Errorf("serve operators at %s: %w; give the region tls: {cert: FILE, key: FILE}, or listen on 127.0.0.1", l.Addr(), ErrNoTLS), l.Close())
	}
	var err error
	if s.cfg.TLS != nil {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve operators at %s: %w", l.Addr(), err)
}

// Shutdown stops accepting, and waits for calls under way until ctx ends; then it
// breaks them off.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("stop serving operators: %w", err), s.http.Close())
	}
	return nil
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// authorised lets through who has the token.
func (s *Server) authorised(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.hasToken(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="antipode operator"`)
			s.refuse(w, r, fmt.Errorf("%w: send the header Authorization: Bearer TOKEN with what is in operator.token of the region's data directory", ErrToken))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) hasToken(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	// Digests have one length, so the comparison takes the same time for every guess.
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(sum[:], s.digest[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// fromHere lets through who is on this machine, or has the token.
func (s *Server) fromHere(next http.Handler) http.Handler {
	guarded := s.authorised(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isLoopback(r.RemoteAddr) {
			next.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// answer makes a handler of a call: its result is sent as JSON.
func (s *Server) answer(call func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Timeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, s.cfg.MaxBody)
		result, err := call(r.WithContext(ctx))
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		if r.Method != http.MethodGet {
			s.cfg.Logger.Info("operator call", "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr)
		}
		s.write(w, http.StatusOK, result)
	})
}

func (s *Server) write(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.cfg.Logger.Error("operator answer can't be encoded", "error", err)
		http.Error(w, `{"error":{"code":"internal","message":"the answer can't be encoded; see the region's log"}}`, http.StatusInternalServerError)
		return
	}
	// The deadline starts with the answer: a call may take its time.
	_ = http.NewResponseController(w).SetWriteDeadline(s.cfg.Now().Add(s.cfg.Timeout))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // whoever hung up does not want it
}

// failure is the body of an answer that is no success.
type failure struct {
	Error *Error `json:"error"`
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := describe(err)
	if e.Code == codeInternal {
		s.cfg.Logger.Error("operator call failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	s.write(w, e.Status, failure{e})
}

func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	s.refuse(w, r, fmt.Errorf("%w: there is no %s %s here; the antipode that asks may be newer than this region", ErrNotFound, r.Method, r.URL.Path))
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	h := s.cfg.Backend.Health()
	status := http.StatusOK
	if !h.Ready {
		status = http.StatusServiceUnavailable
	}
	s.write(w, status, h)
}

func (s *Server) status(r *http.Request) (any, error) { return s.cfg.Backend.Status(r.Context()) }

func (s *Server) home(r *http.Request) (any, error) {
	return s.cfg.Backend.Home(r.Context(), r.PathValue("table"), r.URL.Query()["key"])
}

type moveRequest struct {
	Key []string        `json:"key"`
	To  antipode.Region `json:"to"`
}

func (s *Server) move(r *http.Request) (any, error) {
	var m moveRequest
	if err := decode(r, &m); err != nil {
		return nil, err
	}
	return s.cfg.Backend.Move(r.Context(), r.PathValue("table"), m.Key, m.To)
}

type linkRequest struct {
	Action    string    `json:"action"` // cut, heal or delay
	Direction Direction `json:"direction,omitempty"`
	OneWayUS  int64     `json:"one_way_us,omitempty"` // of delay, microseconds
}

// maxDelay keeps a mistyped delay from looking like a dead link.
const maxDelay = time.Minute

func (s *Server) link(r *http.Request) (any, error) {
	var l linkRequest
	if err := decode(r, &l); err != nil {
		return nil, err
	}
	peer := antipode.Region(r.PathValue("peer"))
	var err error
	switch l.Action {
	case "cut":
		switch l.Direction {
		case Both, Outgoing, Incoming:
			err = s.cfg.Backend.CutLink(peer, l.Direction)
		default:
			err = fmt.Errorf("%w: a link is cut in direction both, out or in, not %q", ErrInvalid, l.Direction)
		}
	case "heal":
		err = s.cfg.Backend.HealLink(peer)
	case "delay":
		if l.OneWayUS < 0 || l.OneWayUS > maxDelay.Microseconds() {
			return nil, fmt.Errorf("%w: a delay is from 0 to %v one way", ErrInvalid, maxDelay)
		}
		err = s.cfg.Backend.DelayLink(peer, time.Duration(l.OneWayUS)*time.Microsecond)
	default:
		err = fmt.Errorf("%w: a link can be told to cut, heal or delay, not %q", ErrInvalid, l.Action)
	}
	return struct{}{}, err
}

type clockRequest struct {
	OffsetMS int64 `json:"offset_ms"`
}

// maxSkew is more than any clock was ever wrong by without being noticed, and
// keeps the years of stamps within their bounds.
const maxSkew = 24 * time.Hour

func (s *Server) skewClock(r *http.Request) (any, error) {
	var q clockRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if q.OffsetMS < -maxSkew.Milliseconds() || q.OffsetMS > maxSkew.Milliseconds() {
		return nil, fmt.Errorf("%w: a clock is set at most %v ahead or behind", ErrInvalid, maxSkew)
	}
	return struct{}{}, s.cfg.Backend.SkewClock(time.Duration(q.OffsetMS) * time.Millisecond)
}

type keyList struct {
	Keys []access.Key `json:"keys"`
}

func (s *Server) listKeys(*http.Request) (any, error) {
	keys, err := s.cfg.Backend.ListKeys()
	return keyList{keys}, err
}

func (s *Server) createKey(r *http.Request) (any, error) {
	var scope access.Scope
	if err := decode(r, &scope); err != nil {
		return nil, err
	}
	return s.cfg.Backend.CreateKey(scope)
}

type rotateRequest struct {
	GraceS int64 `json:"grace_s"`
}

func (s *Server) rotateKey(r *http.Request) (any, error) {
	var q rotateRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	grace, err := seconds(q.GraceS)
	if err != nil {
		return nil, err
	}
	return s.cfg.Backend.RotateKey(r.PathValue("id"), grace)
}

func (s *Server) revokeKey(r *http.Request) (any, error) {
	return struct{}{}, s.cfg.Backend.RevokeKey(r.PathValue("id"))
}

type tokenRequest struct {
	Region  antipode.Region `json:"region,omitempty"`
	LifeS   int64           `json:"life_s"`
	Replace bool            `json:"replace,omitempty"`
}

type tokenAnswer struct {
	Token string `json:"token"`
}

func (s *Server) createToken(r *http.Request) (any, error) {
	var q tokenRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	life, err := seconds(q.LifeS)
	if err != nil {
		return nil, err
	}
	token, err := s.cfg.Backend.CreateJoinToken(r.Context(), q.Region, life, q.Replace)
	return tokenAnswer{token}, err
}

// seconds bounds a duration so that it can be reckoned with.
func seconds(n int64) (time.Duration, error) {
	const most = 10 * 365 * 24 * 3600
	if n < 0 || n > most {
		return 0, fmt.Errorf("%w: %d seconds is not between 0 and ten years", ErrInvalid, n)
	}
	return time.Duration(n) * time.Second, nil
}

// collisionLine is a line of the stream of collisions. Exactly one field is set;
// End or Error in the last one, so that a stream that was cut off shows.
type collisionLine struct {
	Collision *Collision `json:"collision,omitempty"`
	Error     *Error     `json:"error,omitempty"`
	End       bool       `json:"end,omitempty"`
}

func (s *Server) collisions(w http.ResponseWriter, r *http.Request) {
	limit := 0
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			s.refuse(w, r, fmt.Errorf("%w: limit is %q, which is no number from 0 on", ErrInvalid, text))
			return
		}
		limit = n
	}
	control := http.NewResponseController(w)
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	begun := false
	send := func(line collisionLine) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.Header().Set("Cache-Control", "no-store")
		}
		_ = control.SetWriteDeadline(s.cfg.Now().Add(s.cfg.Timeout)) // not every writer has one
		if err := out.Encode(line); err != nil {
			return fmt.Errorf("send collision: %w", err)
		}
		return r.Context().Err()
	}
	err := s.cfg.Backend.Collisions(r.Context(), r.PathValue("table"), limit, func(c Collision) error {
		return send(collisionLine{Collision: &c})
	})
	switch {
	case r.Context().Err() != nil: // nobody is there to tell
	case err != nil && !begun:
		s.refuse(w, r, err)
	case err != nil:
		_ = send(collisionLine{Error: describe(err)})
	default:
		_ = send(collisionLine{End: true})
	}
}

// decode reads a request's body: one JSON value of known fields.
func decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &Error{Status: http.StatusRequestEntityTooLarge, Code: "invalid", Message: fmt.Sprintf("the request's body is larger than %d bytes", tooLarge.Limit)}
	case err != nil:
		return fmt.Errorf("%w: the body is not the JSON that was expected: %w", ErrInvalid, err)
	case d.More():
		return fmt.Errorf("%w: more than one JSON value in the body", ErrInvalid)
	}
	return nil
}
