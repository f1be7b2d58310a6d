package interview

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/spec"
)

// converse answers by field, with the default where nothing is given, and checks
// that the spec that comes of it is one.
func converse(t *testing.T, old *spec.Spec, answers map[string]string) *spec.Spec {
	t.Helper()
	i := New(old)
	asked := map[string]bool{}
	for {
		page, more := i.Next()
		if !more {
			break
		}
		for _, q := range page.Questions {
			answer, given := answers[q.Field]
			if !given {
				answer = q.Default
			}
			asked[q.Field] = true
			if err := q.Set(answer); err != nil {
				t.Fatalf("%s: %v", q.Field, err)
			}
		}
	}
	i.Tidy()
	for field := range answers {
		if !asked[field] {
			t.Errorf("%s was not asked", field)
		}
	}
	text, err := i.Spec.Short()
	if err != nil {
		t.Fatal(err)
	}
	s, err := spec.Load(text, "antipode.yaml")
	if err != nil {
		t.Fatalf("%v\nof\n%s", err, text)
	}
	return s
}

func regionNames(s *spec.Spec) string {
	var out []string
	for _, r := range s.Regions {
		out = append(out, string(r.Name))
	}
	return strings.Join(out, ", ")
}

func TestDefaults(t *testing.T) {
	s := converse(t, nil, nil)
	if got := regionNames(s); got != "us-east-1, us-east-2" {
		t.Errorf("regions %s", got)
	}
	d := s.Needs.Data[0]
	if d.Name != "orders" || time.Duration(*d.RTO) != 4*time.Hour || d.WrittenBy != "owner" || d.Why[0] != "continuity" || *d.Commute || d.Invariants[0] != "none" || d.Stay != nil {
		t.Errorf("%+v", d)
	}
	// What was answered once is the default of the next time.
	again := converse(t, s, nil)
	if diff := cmp.Diff(s, again); diff != "" {
		t.Errorf("answering with all defaults changes\n%s", diff)
	}
}

func TestAnswers(t *testing.T) {
	s := converse(t, nil, map[string]string{
		"users": "Frankfurt 60, ap-south-1 30 %, sao paulo 10", "company.on_call": "always", "data": "carts, archive",
		"data.carts.why": "latency,continuity", "data.carts.rto": "30 s", "data.carts.rpo": "0", "data.carts.availability": "99.99%",
		"data.carts.outage_hour": "20k", "data.carts.written_by": "anybody", "data.carts.commute": "yes", "data.carts.invariants": "unique-names",
		"data.carts.writes.p99": "80ms", "data.carts.stay": "de, IN", "data.archive.rto": "2 days", "data.archive.backup.every": "-",
		"data.archive.volume_gb": "1.5k", "data.archive.why": "-",
	})
	if got := regionNames(s); got != "eu-central-1, ap-south-1" {
		t.Errorf("regions %s", got)
	}
	if u := s.Needs.Users; len(u) != 3 || u[0].Name != "frankfurt" || *u[1].Share != 30 || u[2].Location.Code != "sa-east-1" {
		t.Errorf("users %+v", u)
	}
	carts, archive := s.Needs.Data[0], s.Needs.Data[1]
	if *carts.RPO != 0 || *carts.Availability != 99.99 || *carts.OutageHour != 20_000 || !*carts.Commute ||
		cmp.Diff([]string{"DE", "IN"}, carts.Stay) != "" || cmp.Diff([]string{"latency", "continuity"}, carts.Why) != "" || time.Duration(*carts.Writes.P99) != 80*time.Millisecond {
		t.Errorf("carts %+v", carts)
	}
	if time.Duration(*archive.RTO) != 48*time.Hour || archive.Backup != nil || *archive.VolumeGB != 1500 || archive.Why != nil {
		t.Errorf("archive %+v", archive)
	}
}

// TestOntoASpec: its regions are not asked for, its tables are the data sets, and
// it is not changed itself.
func TestOntoASpec(t *testing.T) {
	old := spec.Builtin()
	s := converse(t, old, map[string]string{"data.users.stay": "mumbai"})
	if old.Needs != nil || len(s.Tables) != 3 || len(s.Needs.Data) != 3 || s.Needs.Data[1].Name != "users" || s.Needs.Data[1].Stay[0] != "mumbai" {
		t.Errorf("%+v", s.Needs)
	}
}

func TestSuggestRegions(t *testing.T) {
	at := func(lat, lon, share float64) spec.Users {
		return spec.Users{Location: spec.Location{Latitude: lat, Longitude: lon}, Share: &share}
	}
	for what, tc := range map[string]struct {
		users []spec.Users
		want  []antipode.Region
	}{
		"nobody":                           {nil, []antipode.Region{"us-east-1", "us-east-2"}},
		"one city without a region":        {[]spec.Users{at(48.1, 11.6, 1)}, []antipode.Region{"eu-central-2", "eu-central-1"}},
		"the larger group first":           {[]spec.Users{at(19, 73, 1), at(37.4, -122, 3)}, []antipode.Region{"us-west-1", "ap-south-1"}},
		"two groups in one place":          {[]spec.Users{at(51.5, -0.1, 2), at(51.4, -0.2, 1)}, []antipode.Region{"eu-west-2", "eu-west-3"}},
		"the second too near to the first": {[]spec.Users{at(50.1, 8.7, 3), at(49.9, 8.5, 2), at(1.3, 103.8, 1)}, []antipode.Region{"eu-central-1", "ap-southeast-1"}},
	} {
		var got []antipode.Region
		for _, r := range SuggestRegions(tc.users) {
			got = append(got, r.Name)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", what, diff)
		}
	}
}

// TestRefused: what can't be meant is refused with what to type, and changes nothing.
func TestRefused(t *testing.T) {
	for _, tc := range []struct{ field, answer, says string }{
		{"users", "frankfort 3", "did you mean frankfurt?"},
		{"users", "frankfurt, frankfurt", "twice"},
		{"users", "-", "at least one place"},
		{"regions", "us-wset-2", "did you mean us-west-2?"},
		{"regions", "oregon", "no place that is known here"},
		{"company.on_call", "allways", "did you mean always?"},
		{"data", "a b", "can't be a name"},
		{"data", "orders, orders", "twice"},
		{"data.orders.why", "continuity, fun", `"fun" is none of the answers`},
		{"data.orders.rto", "4", "a number with its unit"},
		{"data.orders.rto", "-4h", "a number with its unit"},
		{"data.orders.availability", "101", "up to 100"},
		{"data.orders.availability", "0", "not above 0"},
		{"data.orders.outage_hour", "much", "no number"},
		{"data.orders.commute", "perhaps", "none of the answers"},
		{"data.orders.writes.p99", "0", "0 can't be kept"},
		{"data.orders.writes.per_second", "NaN", "no number"},
		{"data.orders.writes.per_second", "Inf", "no number"},
		{"data.orders.stay", "XX", "no cloud region is known in the country"},
		{"data.orders.stay", "germany", "no place that is known here"},
	} {
		i := New(nil)
		found := false
		for {
			page, more := i.Next()
			if !more {
				break
			}
			for _, q := range page.Questions {
				if q.Field == tc.field {
					found = true
					if err := q.Set(tc.answer); err == nil || !strings.Contains(err.Error(), tc.says) {
						t.Errorf("%s %q: %v; want %q", tc.field, tc.answer, err, tc.says)
					}
				}
				if err := q.Set(q.Default); err != nil {
					t.Fatalf("the default of %s: %v", q.Field, err)
				}
			}
		}
		if !found {
			t.Errorf("%s was not asked", tc.field)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "15 min": 15 * time.Minute,
		"1 week": 7 * 24 * time.Hour, "1.5 hours": 90 * time.Minute, "500ms": 500 * time.Millisecond,
	} {
		d, err := parseDuration(text)
		if err != nil || time.Duration(d) != want {
			t.Errorf("%q: %v, %v", text, d, err)
		}
		back, err := parseDuration(Spell(time.Duration(d)))
		if err != nil || back != d {
			t.Errorf("%v is spelled %q, which is %v, %v", d, Spell(time.Duration(d)), back, err)
		}
	}
}
