package bench

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/antipode-io/antipode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(endpoints ...Endpoint) Config {
	return Config{
		Endpoints: endpoints, Table: "carts", Clients: 4, Keys: 50, ItemBytes: 200,
		Duration: 300 * time.Millisecond, Warmup: 50 * time.Millisecond, Now: time.Now,
	}
}

func TestWriteClosedLoop(t *testing.T) {
	w := newWorld(t, 0)
	cfg := config(w.endpoint("oregon"))
	res, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if res.Acknowledged == 0 || res.Write == nil || res.Write.Count != res.Acknowledged || res.Read != nil || len(res.Errors) != 0 {
		t.Fatalf("result is %+v", res)
	}
	if res.Write.P50 <= 0 || res.Write.P50 > res.Write.P99 || res.Write.P99 > res.Write.Max {
		t.Errorf("latencies are %+v", *res.Write)
	}
	if got := res.PerSecond * res.Seconds; got < float64(res.Acknowledged)*0.999 || res.Seconds < 0.3 {
		t.Errorf("%v/s for %v s don't make %d operations", res.PerSecond, res.Seconds, res.Acknowledged)
	}
	if len(w.items) == 0 || len(w.items) > cfg.Keys {
		t.Errorf("%d keys were written, want 1 to %d", len(w.items), cfg.Keys)
	}
	if len(w.sizes) != 1 || w.sizes[cfg.ItemBytes] == 0 {
		t.Errorf("items by size are %v, want all of %d bytes", w.sizes, cfg.ItemBytes)
	}
}

func TestMixFindsWhatFillWrote(t *testing.T) {
	w := newWorld(t, 0)
	cfg := config(w.endpoint("oregon"), w.endpoint("mumbai"))
	cfg.Workload, cfg.Fill = Mix, true
	res, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.items) != cfg.Keys {
		t.Errorf("%d keys there, want all %d", len(w.items), cfg.Keys)
	}
	if res.Write.Count == 0 || res.Read.Count == 0 || res.Write.Count+res.Read.Count != res.Acknowledged {
		t.Errorf("result is %+v", res)
	}
	if diff := cmp.Diff([]string{"oregon", "mumbai"}, []string{string(res.Regions[0]), string(res.Regions[1])}); diff != "" {
		t.Error(diff)
	}
}

func TestLagIsMeasuredFromAcknowledgement(t *testing.T) {
	const delay = 30 * time.Millisecond
	w := newWorld(t, delay)
	mumbai := w.endpoint("mumbai")
	mumbai.Observe = true
	cfg := config(w.endpoint("oregon"), mumbai)
	cfg.Clients, cfg.Rate, cfg.LagSamples = 1, 100, 25
	cfg.Duration = 500 * time.Millisecond
	res, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Lag) != 1 || res.Lag[0].From != "oregon" || res.Lag[0].To != "mumbai" {
		t.Fatalf("lag is %+v", res.Lag)
	}
	lag := res.Lag[0]
	if lag.FromAck.Count != 25 || lag.Unseen != 0 || lag.Skipped != 0 {
		t.Errorf("lag is %+v, want 25 samples seen", lag)
	}
	// The fake's delay counts from the write, a little before its acknowledgement.
	if ms := float64(delay.Milliseconds()); lag.FromSend.P50 < ms || lag.FromAck.P50 < ms-10 || lag.FromAck.P50 > lag.FromSend.P50 {
		t.Errorf("p50 lag is %v from acknowledgement and %v from sending, for a delay of %v ms", lag.FromAck.P50, lag.FromSend.P50, ms)
	}
}

func TestLagCountsWhatIsNeverSeen(t *testing.T) {
	w := newWorld(t, time.Hour)
	mumbai := w.endpoint("mumbai")
	mumbai.Observe = true
	cfg := config(w.endpoint("oregon"), mumbai)
	cfg.LagSamples, cfg.LagTimeout = 3, 30*time.Millisecond
	res, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if l := res.Lag[0]; l.Unseen != 3 || l.FromAck.Count != 0 {
		t.Errorf("lag is %+v, want 3 unseen", l)
	}
	var text strings.Builder
	if err := res.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "3 writes acknowledged by oregon were not seen at mumbai in time") {
		t.Errorf("report does not tell:\n%s", text.String())
	}
}

func TestOpenLoopKeepsTheRate(t *testing.T) {
	w := newWorld(t, 0)
	cfg := config(w.endpoint("oregon"))
	cfg.Rate, cfg.Warmup = 200, 0
	res, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if res.Acknowledged+res.Behind != 60 {
		t.Errorf("%d operations and %d behind, want 60 in all: 200/s for 0.3 s", res.Acknowledged, res.Behind)
	}
}

func TestOpenLoopChargesTheStallToAllItHeldUp(t *testing.T) {
	w := newWorld(t, 0)
	const stall = 120 * time.Millisecond
	w.refuse = func(call int) (int, string) {
		if call == 1 {
			<-time.After(stall) // the server, not the test, is slow
		}
		return 0, ""
	}
	cfg := config(w.endpoint("oregon"))
	cfg.Clients, cfg.Rate, cfg.Warmup = 1, 100, 0
	res, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	// One operation stalled and a dozen more should have been sent meanwhile, which
	// makes a mean of about 24 ms; charged to the one alone it would be 4 ms.
	if res.Write.Mean < 10 {
		t.Errorf("mean latency %v ms hides the operations that a stall of %v held up", res.Write.Mean, stall)
	}
}

func TestErrorsAreCountedByType(t *testing.T) {
	w := newWorld(t, 0)
	w.refuse = func(call int) (int, string) {
		switch call % 4 {
		case 0:
			return http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slow down"}`
		case 1:
			return http.StatusServiceUnavailable, `not json`
		}
		return 0, ""
	}
	cfg := config(w.endpoint("oregon"))
	cfg.Warmup = 0
	res, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	throttled, unavailable := res.Errors["ThrottlingException"], res.Errors["HTTP 503"]
	if throttled.Count == 0 || throttled.First != "ThrottlingException: slow down" || unavailable.Count == 0 {
		t.Errorf("errors are %v", res.Errors)
	}
}

func TestRefusesToStart(t *testing.T) {
	w := newWorld(t, 0)
	oregon := w.endpoint("oregon")
	gone := oregon
	gone.URL = "http://127.0.0.1:1"
	tests := map[string]struct {
		change func(*Config)
		want   error
		text   string
	}{
		"no endpoint":       {func(c *Config) { c.Endpoints = nil }, ErrInvalid, "no endpoint to drive"},
		"observed only":     {func(c *Config) { c.Endpoints[0].Observe = true }, ErrInvalid, "no endpoint to drive"},
		"no table":          {func(c *Config) { c.Table = "" }, ErrInvalid, "no table"},
		"no clock":          {func(c *Config) { c.Now = nil }, ErrInvalid, "clock"},
		"workload":          {func(c *Config) { c.Workload = "scan" }, ErrInvalid, `"scan"`},
		"url":               {func(c *Config) { c.Endpoints[0].URL = "127.0.0.1:7100" }, ErrInvalid, "http://HOST:PORT"},
		"no secret":         {func(c *Config) { c.Endpoints[0].Secret = "" }, ErrInvalid, "secret"},
		"items too large":   {func(c *Config) { c.ItemBytes = maxItemBytes + 1 }, ErrInvalid, "limit"},
		"lag of one region": {func(c *Config) { c.LagSamples = 1 }, ErrInvalid, "second endpoint"},
		"negative rate":     {func(c *Config) { c.Rate = -1 }, ErrInvalid, "negative"},
		"region down":       {func(c *Config) { c.Endpoints[0] = gone }, ErrUnusable, "check that the region is up"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := config(oregon)
			tc.change(&cfg)
			_, err := Run(t.Context(), cfg)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("error is %v, want %v with %q", err, tc.want, tc.text)
			}
		})
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	w := newWorld(t, 0)
	cfg := config(w.endpoint("oregon"))
	cfg.Duration = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Progress = func(s Snapshot) {
		if s.Phase == "measure" && s.Acknowledged > 0 && s.PerSecond > 0 && s.Mean > 0 {
			cancel()
		}
	}
	if _, err := Run(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want that the context was cancelled", err)
	}
}

func TestIntendedSpreadsEvenly(t *testing.T) {
	seen := map[time.Duration]bool{}
	for index := range 4 {
		for i := range 10 {
			seen[intended(index, i, 4, 1000)] = true
		}
	}
	for n := range 40 {
		if !seen[time.Duration(n)*time.Millisecond] {
			t.Errorf("nothing is to be sent at %d ms", n)
		}
	}
}

func TestBackoffIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < 100; n++ {
		if d := backoff(n, rng); d < 5*time.Millisecond || d > time.Second {
			t.Errorf("pause after %d failures is %v", n, d)
		}
	}
}

func TestKeysOfEveryType(t *testing.T) {
	for typ, want := range map[string]string{
		"S": `{"TableName":"t","Key":{"n":{"S":"a\"b0000000007"},"v":{"B":"AA=="}}}`,
		"N": `{"TableName":"t","Key":{"n":{"N":"7"},"v":{"B":"AA=="}}}`,
		"B": `{"TableName":"t","Key":{"n":{"B":"YSJiMDAwMDAwMDAwNw=="},"v":{"B":"AA=="}}}`,
	} {
		s := schema{table: "t", partition: attribute{"n", typ}, sort: attribute{"v", "B"}}
		r := newRequests(Config{KeyPrefix: `a"b`, ItemBytes: 10}, s, newPool(1, 10), rand.New(rand.NewPCG(1, 2)))
		if diff := cmp.Diff(want, string(r.getItem(7))); diff != "" {
			t.Errorf("key of type %s: %s", typ, diff)
		}
		var put struct{ Item map[string]map[string]string }
		if err := json.Unmarshal(r.putItem(7, 42), &put); err != nil {
			t.Fatal(err)
		}
		if put.Item["n_"]["N"] != "42" || put.Item["v_"] == nil {
			t.Errorf("item is %v; version and payload should have made way for the key", put.Item)
		}
	}
}

func TestFsyncProbe(t *testing.T) {
	w := newWorld(t, 0)
	fs := vfs.NewCrashableMem()
	probe, err := NewFsyncProbe(fs, "", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(w.endpoint("oregon"))
	cfg.Fsync = probe.Sync
	res, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if res.Fsync == nil || res.Fsync.Count < 3 {
		t.Errorf("fsync is %+v", res.Fsync)
	}
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := fs.List(""); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWriteText(t *testing.T) {
	stats := Stats{Count: 10, P50: 1, P99: 2.5, P999: 3, Max: 4}
	res := Result{
		Table: "carts", Workload: Write, Regions: []antipode.Region{"oregon"}, Clients: 64, ItemBytes: 256, Keys: 1000, Rate: 2000, Seconds: 10,
		Acknowledged: 10, PerSecond: 1, Write: &stats, Behind: 7, Fsync: &stats,
		Lag:    []Lag{{From: "oregon", To: "mumbai", FromAck: stats, FromSend: stats, Skipped: 2}},
		Errors: map[string]ErrorCount{"timeout": {3, "read the answer"}},
	}
	want := strings.Join([]string{
		"carts: write, 64 clients on oregon, 256-byte items, 1000 keys, 2000/s asked for, 10.0 s",
		"",
		"1 acknowledged operations per second (10 in all)",
		"",
		"                                milliseconds  count   p50   p99  p99.9   max",
		"                                       write     10  1.00  2.50   3.00  4.00",
		"lag oregon to mumbai, from acknowledgement     10  1.00  2.50   3.00  4.00",
	}, "\n")
	var text strings.Builder
	if err := res.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(want) {
		if !strings.Contains(text.String(), strings.TrimSpace(line)) {
			t.Errorf("report lacks %q:\n%s", line, text.String())
		}
	}
	for _, remark := range []string{"The rate was not kept: 7", "2 lag samples were skipped", "3 × timeout, the first: read the answer"} {
		if !strings.Contains(text.String(), remark) {
			t.Errorf("report lacks %q:\n%s", remark, text.String())
		}
	}
}

func FuzzReplies(f *testing.F) {
	f.Add([]byte(`{"Item":{"n":{"N":"12"}}}`))
	f.Add([]byte(`{"__type":"a#B","message":"c"}`))
	f.Add([]byte(`{"Table":{"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}],"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}]}}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, reply []byte) {
		c := newClient(&target{})
		if n, err := parseVersion(&c.json, "n", reply); err != nil && n != 0 {
			t.Errorf("version %d beside the error %v", n, err)
		}
		if s, err := parseSchema("t", reply); err == nil && s.partition.typ == "" {
			t.Errorf("schema %+v without a partition key", s)
		}
		var refused *RefusedError
		if err := refusal(&c.json, http.StatusBadRequest, reply); !errors.As(err, &refused) || err.Error() == "" {
			t.Errorf("refusal is %v", err)
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	now := time.Now()
	e := Endpoint{AccessKey: "AK", Secret: "secret", SigningRegion: "us-west-2", URL: "http://127.0.0.1:7100"}
	tg, err := newTarget(Config{}, e)
	if err != nil {
		b.Fatal(err)
	}
	c := newClient(tg)
	s := schema{table: "carts", partition: attribute{"id", "S"}}
	r := newRequests(Config{ItemBytes: 256, KeyPrefix: "bench-"}, s, newPool(1, 256), rand.New(rand.NewPCG(1, 2)))
	b.ReportAllocs()
	for n := uint64(0); b.Loop(); n++ {
		c.signer.at(now)
		c.request(targetPut, r.putItem(n%100_000, n))
	}
}
