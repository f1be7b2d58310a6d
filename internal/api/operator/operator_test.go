package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "antipode-operator-test-token"

// fake is a region that notes what it was asked.
type fake struct {
	asked      []string
	ready      bool
	collisions int
	broken     error // after the collisions
	protection ProtectionStatus
}

func (f *fake) note(format string, args ...any) {
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
}

func (f *fake) Health() Health {
	if f.ready {
		return Health{Ready: true, State: StateLive}
	}
	return Health{State: StateDraining, Reason: "waits for a majority: mumbai and frankfurt don't answer"}
}

func (f *fake) Status(context.Context) (RegionStatus, error) { return status(), nil }

func status() RegionStatus {
	return RegionStatus{
		Name: "oregon", State: StateLive, API: "http://127.0.0.1:7100",
		LagMS:    map[string]int64{"mumbai": 3},
		Frontier: map[string]map[string]uint64{"oregon": {"1f09c2d3a4b5/7": 12}},
		Tables:   []TableStatus{{Name: "carts", Writes: antipode.WriteLocal, Rule: antipode.RuleLastWriter, Items: 5}},
		Peers:    []PeerStatus{{Name: "mumbai", Connected: true, RTTMS: 221.5}},
		Version:  "test", PID: 7, Started: time.Unix(1000, 0).UTC(),
	}
}

func collision(i int) Collision {
	return Collision{
		Table: "carts", Key: json.RawMessage(fmt.Sprintf(`{"id":{"S":"<%d>"}}`, i)), Visible: "oregon:1/1:2", First: "mumbai:1/1:1",
		FirstByMS: 4, ClockUncertaintyMS: 2, Rule: antipode.RuleLastWriter,
		Versions: []CollisionVersion{{Region: "oregon", Stamp: "s", Dot: "oregon:1/1:2", Item: json.RawMessage("null")}},
	}
}

func (f *fake) Collisions(_ context.Context, table string, limit int, visit func(Collision) error) error {
	if table != "carts" {
		return fmt.Errorf("table %s: %w", table, ErrNotFound)
	}
	for i := range f.collisions {
		if limit > 0 && i == limit {
			return nil
		}
		if err := visit(collision(i)); err != nil {
			return err
		}
	}
	return f.broken
}

func (f *fake) Home(_ context.Context, table string, key []string) (HomeStatus, error) {
	return HomeStatus{Table: table, Key: key, Home: "mumbai"}, nil
}

func (f *fake) Move(_ context.Context, table string, key []string, to antipode.Region) (HomeStatus, error) {
	f.note("move %s %q to %s", table, key, to)
	return HomeStatus{Table: table, Key: key, Home: to}, nil
}

func (f *fake) CutLink(peer antipode.Region, d Direction) error {
	f.note("cut %s %s", peer, d)
	return nil
}

func (f *fake) SkewClock(offset time.Duration) error {
	f.note("skew %v", offset)
	return nil
}

func (f *fake) Probe(_ context.Context, samples int) (ProbeStatus, error) {
	return ProbeStatus{Region: "oregon", Links: []LinkProbe{{To: "mumbai", SamplesMS: make([]float64, samples), Emulated: true, DelayMS: 111}}}, nil
}

func (f *fake) HealLink(peer antipode.Region) error {
	return fmt.Errorf("heal %s: links are not emulated: %w", peer, ErrConflict)
}

func (f *fake) DelayLink(peer antipode.Region, oneWay time.Duration) error {
	f.note("delay %s %v", peer, oneWay)
	return nil
}

func (f *fake) CreateKey(scope access.Scope) (access.Key, error) {
	return access.Key{ID: "AKIA1", Secret: "s3cret", Scope: scope}, nil
}

func (f *fake) ListKeys() ([]access.Key, error) { return []access.Key{{ID: "AKIA1"}}, nil }

func (f *fake) RotateKey(id string, grace time.Duration) (access.Key, error) {
	f.note("rotate %s %v", id, grace)
	return access.Key{ID: "AKIA2", Secret: "s"}, nil
}

func (f *fake) RevokeKey(id string) error { return errors.New("disk is full") }

func (f *fake) CreateJoinToken(_ context.Context, region antipode.Region, life time.Duration, _ bool) (string, error) {
	return fmt.Sprintf("antipode-join-1-%s-%v", region, life), nil
}

func serve(t *testing.T, f *fake) (*Client, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "antipode_test"}))
	s, err := NewServer(Config{
		Backend: f, Token: token, Gatherer: registry, Now: time.Now, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &Client{Addr: l.Addr().String(), Token: token, HTTP: client}, &log
}

func check[T any](t *testing.T, what string, want T) func(got T, err error) {
	t.Helper()
	return func(got T, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", what, diff)
		}
	}
}

// TestCalls: what goes in at the client comes out at the region, and back.
func TestCalls(t *testing.T) {
	f := &fake{ready: true}
	c, log := serve(t, f)
	ctx := t.Context()
	check(t, "health", Health{Ready: true, State: StateLive})(c.Health(ctx))
	check(t, "status", status())(c.Status(ctx))
	awkward := []string{"a/b?&#ü", "2"}
	check(t, "home", HomeStatus{"users", awkward, "mumbai"})(c.Home(ctx, "users", awkward))
	check(t, "move", HomeStatus{"users", awkward, "oregon"})(c.Move(ctx, "users", awkward, "oregon"))
	scope := access.Scope{ReadOnly: true, Tables: []string{"carts"}}
	check(t, "create key", access.Key{ID: "AKIA1", Secret: "s3cret", Scope: scope})(c.CreateKey(ctx, scope))
	check(t, "list keys", []access.Key{{ID: "AKIA1"}})(c.ListKeys(ctx))
	check(t, "rotate key", access.Key{ID: "AKIA2", Secret: "s"})(c.RotateKey(ctx, "AKIA1", time.Hour))
	check(t, "token", "antipode-join-1-mumbai-1h0m0s")(c.CreateJoinToken(ctx, "mumbai", time.Hour, false))
	for _, err := range []error{c.CutLink(ctx, "mumbai", Outgoing), c.DelayLink(ctx, "mumbai", 1500*time.Microsecond), c.SkewClock(ctx, -time.Hour)} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{`move users ["a/b?&#ü" "2"] to oregon`, "rotate AKIA1 1h0m0s", "cut mumbai out", "delay mumbai 1.5ms", "skew -1h0m0s"}
	if diff := cmp.Diff(want, f.asked); diff != "" {
		t.Errorf("-want +asked\n%s", diff)
	}
	if strings.Contains(log.String(), "s3cret") || strings.Contains(log.String(), token) {
		t.Errorf("a secret is in the log: %s", log)
	}
}

// TestErrors: each kind of refusal arrives as what it was.
func TestErrors(t *testing.T) {
	c, _ := serve(t, &fake{})
	ctx := t.Context()
	nobody := &Client{Addr: "127.0.0.1:1", Token: token, HTTP: c.HTTP}
	stranger := &Client{Addr: c.Addr, Token: token + "x", HTTP: c.HTTP}
	for what, test := range map[string]struct {
		err  error
		want error
		says string
	}{
		"no such table":   {c.Collisions(ctx, "nope", 0, nil), ErrNotFound, "table nope"},
		"not emulated":    {c.HealLink(ctx, "mumbai"), ErrConflict, "not emulated"},
		"own fault":       {c.RevokeKey(ctx, "AKIA1"), nil, "disk is full"},
		"delay too long":  {c.DelayLink(ctx, "mumbai", time.Hour), ErrInvalid, "from 0 to 1m0s"},
		"skew too long":   {c.SkewClock(ctx, 25*time.Hour), ErrInvalid, "at most 24h0m0s"},
		"wrong direction": {c.CutLink(ctx, "mumbai", "up"), ErrInvalid, "both, out or in"},
		"wrong action":    {c.link(ctx, "mumbai", linkRequest{Action: "burn"}), ErrInvalid, "cut, heal or delay"},
		"wrong token":     {stranger.HealLink(ctx, "mumbai"), ErrToken, "operator.token"},
		"nobody there":    {nobody.HealLink(ctx, "mumbai"), ErrUnreachable, "127.0.0.1:1"},
		"too large":       {c.call(ctx, "POST", "/v1/tokens", tokenRequest{Region: antipode.Region(strings.Repeat("x", 1<<17))}, nil), ErrInvalid, "larger than"},
		"unknown field":   {c.call(ctx, "POST", "/v1/tokens", map[string]int{"x": 1}, nil), ErrInvalid, "unknown field"},
		"unknown call":    {c.call(ctx, "DELETE", "/v1/status", nil, nil), ErrNotFound, "may be newer"},
	} {
		if test.err == nil || !strings.Contains(test.err.Error(), test.says) || test.want != nil && !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v", what, test.err)
		}
	}
	h, err := c.Health(ctx)
	if err != nil || h.Ready || h.State != StateDraining || h.Reason == "" {
		t.Errorf("health of a region that starts: %+v, %v", h, err)
	}
}

func TestCollisions(t *testing.T) {
	f := &fake{collisions: 2000}
	c, _ := serve(t, f)
	list := func(limit int) ([]Collision, error) {
		var got []Collision
		err := c.Collisions(t.Context(), "carts", limit, func(c Collision) error {
			got = append(got, c)
			return nil
		})
		return got, err
	}
	all, err := list(0)
	if err != nil || len(all) != 2000 {
		t.Fatalf("%d collisions, %v", len(all), err)
	}
	if diff := cmp.Diff(collision(1999), all[1999]); diff != "" {
		t.Error(diff)
	}
	if some, err := list(3); err != nil || len(some) != 3 {
		t.Errorf("%d collisions, %v; asked for 3", len(some), err)
	}
	f.broken = fmt.Errorf("read version: %w", ErrUnavailable)
	if some, err := list(0); !errors.Is(err, ErrUnavailable) || len(some) != 2000 {
		t.Errorf("%d collisions, %v; it broke in the middle", len(some), err)
	}
	enough := errors.New("enough")
	if err := c.Collisions(t.Context(), "carts", 0, func(Collision) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("stopped by the reader: %v", err)
	}
}

// TestOpenPaths: who may see what without the token.
func TestOpenPaths(t *testing.T) {
	s, err := NewServer(Config{Backend: &fake{ready: true}, Token: token, Gatherer: prometheus.NewRegistry(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path, from, authorization string
		want                      int
	}{
		{"/healthz", "203.0.113.9:1", "", 200},
		{"/metrics", "127.0.0.1:1", "", 200},
		{"/metrics", "[::1]:1", "", 200},
		{"/metrics", "203.0.113.9:1", "", 401},
		{"/metrics", "203.0.113.9:1", "Bearer " + token, 200},
		{"/v1/status", "127.0.0.1:1", "", 401},
		{"/v1/status", "127.0.0.1:1", "Basic " + token, 401},
		{"/v1/status", "127.0.0.1:1", token, 401},
		{"/v1/status", "127.0.0.1:1", "bearer " + token, 200},
		{"/else", "127.0.0.1:1", "", 401},
		{"/else", "127.0.0.1:1", "Bearer " + token, 404},
	} {
		r := httptest.NewRequest("GET", test.path, nil)
		r.RemoteAddr = test.from
		r.Header.Set("Authorization", test.authorization)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != test.want {
			t.Errorf("%s from %s with %q: %d, want %d", test.path, test.from, test.authorization, w.Code, test.want)
		}
	}
}

func TestRefusesToServe(t *testing.T) {
	if _, err := NewServer(Config{}); err == nil || !strings.Contains(err.Error(), "Token") {
		t.Errorf("an empty Config: %v", err)
	}
	s, err := NewServer(Config{Backend: &fake{}, Token: NewToken(), Gatherer: prometheus.NewRegistry(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); !errors.Is(err, ErrNoTLS) {
		t.Errorf("served at %s without TLS: %v", l.Addr(), err)
	}
}

// FuzzServer: no request crashes the server or gets past the token, and each
// refusal is JSON that says something.
func FuzzServer(f *testing.F) {
	s, err := NewServer(Config{Backend: &fake{collisions: 2}, Token: token, Gatherer: prometheus.NewRegistry(), Now: time.Now})
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range []string{"/v1/tokens", "/v1/keys", "/v1/keys/AKIA1/rotate", "/v1/links/mumbai", "/v1/clock", "/v1/home/users"} {
		f.Add("POST", path, `{"action":"delay","one_way_us":1}`, true)
		f.Add("POST", path, `{"region":"x","life_s":9223372036854775807}`, true)
	}
	f.Add("GET", "/v1/collisions/carts?limit=99999999999999999999", "", true)
	f.Add("GET", "/v1/home/users?key=%00", "", false)
	f.Fuzz(func(t *testing.T, method, target, body string, authorised bool) {
		r, err := http.NewRequest(method, "http://127.0.0.1"+target, strings.NewReader(body))
		if err != nil || r.URL.Host != "127.0.0.1" {
			t.Skip("no request that a client could send to this server")
		}
		r.RemoteAddr = "127.0.0.1:1"
		if authorised {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if !authorised && strings.HasPrefix(r.URL.Path, "/v1/") && w.Code == http.StatusOK {
			t.Fatalf("%s %s went through without a token", method, target)
		}
		if w.Code >= 400 && r.URL.Path != "/healthz" && r.URL.Path != "/metrics" {
			var fail failure
			if err := json.Unmarshal(w.Body.Bytes(), &fail); err != nil || fail.Error == nil || fail.Error.Message == "" {
				t.Fatalf("%s %s: %d %q", method, target, w.Code, w.Body)
			}
		}
	})
}

// FuzzCollisionStream: no answer crashes the client, and one without an end is an error.
func FuzzCollisionStream(f *testing.F) {
	f.Add(`{"collision":{"table":"carts","versions":[]}}` + "\n" + `{"end":true}`)
	f.Add(`{"collision":{}}` + "\n" + `{"error":{"code":"not-found","message":"x"}}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, text string) {
		err := readCollisions(io.MultiReader(strings.NewReader(text)), func(Collision) error { return nil })
		if err == nil && !strings.Contains(strings.ToLower(text), "end") {
			t.Fatalf("%q has no end", text)
		}
	})
}
