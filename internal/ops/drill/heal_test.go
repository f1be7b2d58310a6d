package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/ops/bench"
)

// patient is three regions that note what is done to them.
type patient struct {
	mu    sync.Mutex
	calls []string
	dead  map[antipode.Region]bool // does not answer
	fails bool                     // answers every change with an error
	cfg   Config

	failovers, stranded string // answers
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{dead: map[antipode.Region]bool{}, failovers: `{}`, stranded: `{}`}
	p.cfg = Config{
		Dir: "drills", FS: vfs.NewMem(), Now: time.Now,
		Signal:  func(pid int, s syscall.Signal) error { p.note("%v to %d", s, pid); return nil },
		Restart: func(_ context.Context, r antipode.Region) error { p.note("restart %s", r); p.die(r, false); return nil },
	}
	for _, name := range []antipode.Region{"oregon", "mumbai", "frankfurt"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(name, w, r) }))
		t.Cleanup(server.Close)
		p.cfg.Sites = append(p.cfg.Sites, Site{
			Name: name, Witness: name == "frankfurt", Operator: &operator.Client{Addr: server.URL},
			Endpoint: bench.Endpoint{Region: name, URL: server.URL, AccessKey: "a", Secret: "b", SigningRegion: string(name)},
		})
	}
	return p
}

func (p *patient) die(r antipode.Region, dead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead[r] = dead
}

func (p *patient) isDead(r antipode.Region) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead[r]
}

func (p *patient) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, fmt.Sprintf(format, args...))
}

func (p *patient) serve(name antipode.Region, w http.ResponseWriter, r *http.Request) {
	switch {
	case p.isDead(name):
		panic(http.ErrAbortHandler) // hang up
	case r.URL.Path == "/v1/status":
		_, _ = fmt.Fprintf(w, `{"name":%q,"state":"live","pid":7}`, name)
	case r.URL.Path == "/healthz":
		_, _ = w.Write([]byte(`{"ready":true}`))
	case r.URL.Path == "/v1/failovers":
		_, _ = w.Write([]byte(p.failovers))
	case r.URL.Path == "/v1/stranded":
		_, _ = w.Write([]byte(p.stranded))
	case p.fails:
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(`{"error":{"code":"internal","message":"no"}}`))
	case r.URL.Path == "/v1/stranded/discard":
		var q operator.DecideRequest
		_ = json.NewDecoder(r.Body).Decode(&q)
		p.note("%s %s %q by %s", name, r.URL.Path, q.Dots, q.By)
		_, _ = w.Write([]byte(`{}`))
	default:
		p.note("%s %s %s", name, r.URL.Path, r.Header.Get("X-Amz-Target"))
		_, _ = w.Write([]byte(`{}`))
	}
}

func (p *patient) leave(t *testing.T, in injury) {
	t.Helper()
	if err := p.cfg.FS.MkdirAll(p.cfg.Dir, dirMode); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(p.cfg.FS, "drills/"+injuryFile, in); err != nil {
		t.Fatal(err)
	}
}

// TestHealLeftBehind: whatever a drill that was killed had done is undone, and then forgotten.
func TestHealLeftBehind(t *testing.T) {
	p := newPatient(t)
	p.die("oregon", true)
	p.leave(t, injury{
		Drill: "d1", Frozen: map[string]int{"mumbai": 42}, Killed: []antipode.Region{"oregon", "mumbai"},
		Cut: [][2]antipode.Region{{"mumbai", "frankfurt"}}, Skewed: []antipode.Region{"mumbai"},
	})
	if healed, err := Heal(t.Context(), p.cfg); err != nil || !healed {
		t.Fatalf("healed %v, %v", healed, err)
	}
	want := []string{
		"continued to 42", "frankfurt /v1/links/mumbai ", "mumbai /v1/clock ", "mumbai /v1/links/frankfurt ", "restart oregon",
	}
	slices.Sort(p.calls)
	if diff := cmp.Diff(want, p.calls); diff != "" {
		t.Errorf("-want +did\n%s", diff)
	}
	if left, err := readInjury(p.cfg.FS, p.cfg.Dir); left != nil || err != nil {
		t.Errorf("it is on record still: %+v, %v", left, err)
	}
	if healed, err := Heal(t.Context(), p.cfg); err != nil || healed {
		t.Errorf("healed twice: %v, %v", healed, err)
	}
}

// TestHealRemovesTables: the drill's own, and nothing else.
func TestHealRemovesTables(t *testing.T) {
	p := newPatient(t)
	p.leave(t, injury{Drill: "d1", Tables: true})
	if _, err := Heal(t.Context(), p.cfg); err != nil {
		t.Fatal(err)
	}
	for _, c := range p.calls {
		if c != "oregon / DynamoDB_20120810.DeleteTable" {
			t.Errorf("did %s", c)
		}
	}
	if len(p.calls) != len(drillTables()) {
		t.Errorf("%d calls: %q", len(p.calls), p.calls)
	}
}

// TestHealDiscards: of stranded writes the drill's own, and no other.
func TestHealDiscards(t *testing.T) {
	p := newPatient(t)
	p.stranded = `{"stranded":[{"dot":"a","table":"carts","state":"open"},{"dot":"b","table":"antipode-drill-global","state":"open"},
		{"dot":"c","table":"antipode-drill-global","state":"discarded"}]}`
	p.leave(t, injury{Drill: "d1", Tables: true})
	if _, err := Heal(t.Context(), p.cfg); err != nil {
		t.Fatal(err)
	}
	slices.Sort(p.calls)
	want := []string{`mumbai /v1/stranded/discard ["b"] by drill d1`, `oregon /v1/stranded/discard ["b"] by drill d1`}
	if got := slices.DeleteFunc(p.calls, func(c string) bool { return strings.Contains(c, "DeleteTable") }); !slices.Equal(got, want) {
		t.Errorf("did %q; want %q", got, want)
	}
}

// TestHealFails: what can't be undone stays on record, for another try.
func TestHealFails(t *testing.T) {
	p := newPatient(t)
	p.fails = true
	p.leave(t, injury{Drill: "d1", Cut: [][2]antipode.Region{{"mumbai", "frankfurt"}}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := Heal(ctx, p.cfg); err == nil {
		t.Error("it claims to have healed")
	}
	if left, err := readInjury(p.cfg.FS, p.cfg.Dir); left == nil || err != nil || len(left.Cut) != 1 {
		t.Errorf("on record: %+v, %v", left, err)
	}
}

// TestRefusals: what makes no sense, and a system that is not well, are left alone.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(p *patient)
		want   error
	}{
		{"an unknown drill", func(p *patient) { p.cfg.Kind = "meteor" }, ErrInvalid},
		{"a witness", func(p *patient) { p.cfg.Region = "frankfurt" }, ErrInvalid},
		{"one region", func(p *patient) { p.cfg.Sites = p.cfg.Sites[1:] }, ErrInvalid},
		{"too short", func(p *patient) { p.cfg.For = time.Millisecond }, ErrInvalid},
		{"a region that is down", func(p *patient) { p.die("mumbai", true) }, ErrDegraded},
		{"a failover under way", func(p *patient) {
			p.failovers = `{"failovers":[{"id":2,"lost":"mumbai","successor":"oregon","began":1}]}`
		}, ErrDegraded},
		{"a region that is not back", func(p *patient) { p.failovers = `{"leases":[{"region":"mumbai","fenced":true}]}` }, ErrDegraded},
		{"stranded writes", func(p *patient) { p.stranded = `{"stranded":[{"dot":"a","table":"carts","state":"open"}]}` }, ErrDegraded},
		{"another drill", func(p *patient) {
			_ = p.cfg.FS.MkdirAll("drills", dirMode)
			_, _ = p.cfg.FS.Lock("drills/lock")
		}, ErrBusy},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPatient(t)
			p.cfg.Kind = LinkCut
			tc.change(p)
			if _, err := Run(t.Context(), p.cfg); !errors.Is(err, tc.want) {
				t.Errorf("Run: %v; want %v", err, tc.want)
			}
			if len(p.calls) > 0 {
				t.Errorf("did %q", p.calls)
			}
		})
	}
}

func TestComplaints(t *testing.T) {
	well := operator.RegionStatus{Name: "oregon", State: operator.StateLive, LagMS: map[string]int64{"mumbai": 400}, Peers: []operator.PeerStatus{{Name: "mumbai", Connected: true}}}
	if text := complaintOf(&well); text != "" {
		t.Errorf("a complaint of nothing: %s", text)
	}
	for _, change := range []func(s *operator.RegionStatus){
		func(s *operator.RegionStatus) { s.State = operator.StateDetached },
		func(s *operator.RegionStatus) { s.LagMS = map[string]int64{"mumbai": 1400} },
		func(s *operator.RegionStatus) { s.Peers = []operator.PeerStatus{{Name: "mumbai"}} },
		func(s *operator.RegionStatus) {
			s.Peers = []operator.PeerStatus{{Name: "mumbai", Connected: true, Cut: true}}
		},
		func(s *operator.RegionStatus) { s.Clock.SkewMS = -1 },
		func(s *operator.RegionStatus) { s.Clock.Refuses = "it is ahead" },
	} {
		s := well
		change(&s)
		if complaintOf(&s) == "" {
			t.Errorf("no complaint of %+v", s)
		}
	}
}

// TestMoves: a role moves when who knows the newest state says so, and only then.
func TestMoves(t *testing.T) {
	w := newWatch(newRun(newPatient(t).cfg))
	status := func(index uint64, writer antipode.Region) *operator.RegionStatus {
		return &operator.RegionStatus{Index: index, Roles: []operator.RoleStatus{{Table: "catalog", Holder: writer}, {Table: "users", Home: "mumbai", Holder: "mumbai"}}}
	}
	for _, step := range []struct {
		index  uint64
		writer antipode.Region
		moves  int
	}{{5, "oregon", 0}, {5, "oregon", 0}, {7, "mumbai", 1}, {6, "oregon", 1}, {7, "mumbai", 1}, {9, "oregon", 2}} {
		w.noteHoldersLocked(status(step.index, step.writer))
		if len(w.moves) != step.moves {
			t.Errorf("after state %d: %d moves %+v; want %d", step.index, len(w.moves), w.moves, step.moves)
		}
	}
}
