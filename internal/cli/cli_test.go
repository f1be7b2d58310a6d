package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/spec"
)

func TestShellQuote(t *testing.T) {
	for _, word := range []string{"", "plain", "it's", "a b", "$HOME", "`id`", "\\", "ü", "a\nb", "--x=y", "*", "-n"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(word)).Output()
		if word == "-n" {
			continue // printf's own
		}
		if err != nil || string(out) != word {
			t.Errorf("%q as %s became %q, %v", word, shellQuote(word), out, err)
		}
	}
}

// TestCredentials: what is written is read back, in a file that others can't read.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	want := map[antipode.Region]profile{
		"oregon": {"oregon", "AKIA1", "abc/+=", "http://127.0.0.1:7100"},
		"mumbai": {"mumbai", "AKIA2", "x_-", "http://127.0.0.1:7200"},
	}
	if err := writeCredentials(dir, spec.Builtin(), want); err != nil {
		t.Fatal(err)
	}
	got, err := readCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(profile{})); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(filepath.Join(dir, credentialsFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add("[oregon]\naws_access_key_id = A\naws_secret_access_key=s\n")
	f.Add("[\n=\n[]]\n#x=y\n;\n[a]b]\nendpoint_url==")
	f.Fuzz(func(t *testing.T, text string) {
		for region, p := range parseCredentials(text) {
			if region == "" || p.region != region || strings.ContainsAny(p.id+p.secret, "\n") {
				t.Fatalf("%q: %+v", region, p)
			}
		}
	})
}

// statusOf is a region that answered.
func statusOf(name antipode.Region, state operator.State, lag int64, frontier map[string]map[string]uint64, tables ...operator.TableStatus) operator.RegionStatus {
	return operator.RegionStatus{Name: name, State: state, LagMS: map[string]int64{"other": lag}, Frontier: frontier, Tables: tables}
}

func reportOf(t *testing.T, statuses ...operator.RegionStatus) *report {
	t.Helper()
	s := spec.Builtin()
	r := newReport(s)
	for _, one := range statuses {
		r.full[one.Name] = one
	}
	r.merge(&install{dir: t.TempDir(), spec: s})
	return r
}

// TestMerge: one picture out of what several regions say.
func TestMerge(t *testing.T) {
	catalog := func(n int64) operator.TableStatus {
		return operator.TableStatus{Name: "catalog", Writes: antipode.WriteGlobal, Writer: "oregon", Items: n}
	}
	carts := func(n int64) operator.TableStatus {
		return operator.TableStatus{Name: "carts", Writes: antipode.WriteLocal, Rule: antipode.RuleLastWriter, Items: n}
	}
	oregon := statusOf("oregon", operator.StateLive, 0, nil, catalog(5), carts(1))
	mumbai := statusOf("mumbai", operator.StateLagging, 120, nil, catalog(9), carts(2))
	mumbai.Peers = []operator.PeerStatus{{Name: "frankfurt", Connected: true}}
	r := reportOf(t, mumbai, oregon)
	want := []regionReport{
		{Name: "oregon", State: "live", API: "http://127.0.0.1:7100", LagMS: map[string]int64{"other": 0}, Frontier: map[string]map[string]uint64{}},
		{Name: "mumbai", State: "lagging", API: "http://127.0.0.1:7200", LagMS: map[string]int64{"other": 120}, Frontier: map[string]map[string]uint64{}},
		{Name: "frankfurt", State: "live", LagMS: map[string]int64{}, Frontier: map[string]map[string]uint64{}}, // as mumbai sees it
	}
	if diff := cmp.Diff(want, r.Regions); diff != "" {
		t.Errorf("regions: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]tableReport{carts(2), catalog(5)}, r.Tables); diff != "" {
		t.Errorf("tables: the writer's count, else the highest: -want +got\n%s", diff)
	}
	if got := r.complaint(); got != "mumbai is lagging; mumbai lags 120 ms behind other" {
		t.Errorf("complaint %q", got)
	}
	if got := reportOf(t, oregon).complaint(); got != "mumbai is down ("+errNotConnected.Error()+"); frankfurt is down ("+errNotConnected.Error()+")" {
		t.Errorf("complaint %q", got)
	}
}

// TestMissing: writes that a replica has not heard of are noticed, and only those
// that were there when the waiting began count.
func TestMissing(t *testing.T) {
	shared := antipode.ShardSet([]antipode.Region{"oregon", "mumbai"}).String()
	own := antipode.ShardSet([]antipode.Region{"oregon"}).String()
	frontier := func(shard string, seq uint64) map[string]map[string]uint64 {
		return map[string]map[string]uint64{"oregon": {shard: seq}}
	}
	at := func(o, m map[string]map[string]uint64) *report {
		return reportOf(t, statusOf("oregon", operator.StateLive, 0, o), statusOf("mumbai", operator.StateLive, 0, m))
	}
	w := written{}
	w.note(at(frontier(shared, 5), nil))
	if got := w.missing(at(frontier(shared, 5), frontier(shared, 4))); got != "mumbai has not applied all that oregon wrote" {
		t.Errorf("4 of 5: %q", got)
	}
	w.note(at(frontier(shared, 9), nil))
	if got := w.missing(at(frontier(shared, 9), frontier(shared, 5))); got != "" {
		t.Errorf("5 of the 5 that there were: %q", got)
	}
	w = written{}
	w.note(at(frontier(own, 5), nil))
	if got := w.missing(at(frontier(own, 5), nil)); got != "" {
		t.Errorf("of a table that mumbai does not keep: %q", got)
	}
}

func TestCompareSpecs(t *testing.T) {
	load := func(text string) *spec.Spec {
		s, err := spec.Load([]byte(text), "antipode.yaml")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const regions = "regions: [{name: us-west-2}, {name: eu-west-1}, {name: ap-south-1, witness: true}]\n"
	was := load(regions + "tables: [{name: one, key: id, writes: global}, {name: two, key: id, writes: global}]")
	for text, want := range map[string]string{
		regions + "tables: [{name: two, key: id, writes: global}, {name: one, key: id, writes: global, writer: us-west-2}]": "",
		"base_port: 8100\n" + regions + "tables: [{name: one, key: id, writes: global}, {name: two, key: id, writes: global}]": "region us-west-2 moves from 127.0.0.1:7100 to 127.0.0.1:8100; " +
			"region eu-west-1 moves from 127.0.0.1:7200 to 127.0.0.1:8200; region ap-south-1 moves from 127.0.0.1:7300 to 127.0.0.1:8300",
		regions + "tables: [{name: one, key: id, writes: partitioned}, {name: new, key: id, writes: global}]": "table one is described differently, but exists: it stays as it is (delete it and make it anew to change it); " +
			"table new is new and will be made; table two is not in the spec any more: it stays, with its items (DeleteTable removes it)",
	} {
		changes, err := compareSpecs("d", was, load(text))
		if diff := cmp.Diff(want, strings.Join(changes, "; ")); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
	for text, want := range map[string]string{
		"regions: [{name: us-west-2}, {name: us-east-1}, {name: ap-south-1, witness: true}]": "region eu-west-1 is missing; region us-east-1 is new",
		"regions: [{name: us-west-2}, {name: eu-west-1}, {name: ap-south-1}]":                "region ap-south-1 changes between keeping data and witness",
	} {
		if _, err := compareSpecs("d", was, load(text)); !errors.Is(err, errChanged) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestTryNext: the lines to paste fit the spec's tables.
func TestTryNext(t *testing.T) {
	a := &app{name: "bin/antipode"}
	s, err := spec.Load([]byte("regions: [{name: us-west-2}, {name: eu-west-1}, {name: ap-south-1}]\n"+
		"tables: [{name: far, key: id, writes: global, replicas: [eu-west-1]}, {name: log, key: {partition: dev, sort: at:N}, writes: global, replicas: [ap-south-1, us-west-2]}]"), "antipode.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := `Try, in another terminal:
  eval "$(bin/antipode env us-west-2 --data 'my data')"
  aws dynamodb put-item --table-name log --item '{"dev": {"S": "c1"}, "at": {"N": "1"}, "n": {"N": "1"}}'
  eval "$(bin/antipode env ap-south-1 --data 'my data')"
  aws dynamodb get-item --table-name log --key '{"dev": {"S": "c1"}, "at": {"N": "1"}}'
  bin/antipode status --data 'my data'
`
	if diff := cmp.Diff(want, a.tryNext(s, "my data")); diff != "" {
		t.Error(diff)
	}
}

// TestInterrupted: Ctrl-C has an exit code of its own.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, err bytes.Buffer
	a := &app{name: "antipode", out: &out, err: &err, now: time.Now, getenv: func(string) string { return "" }}
	if code := a.run(ctx, []string{"status", "--wait", "1m", "--data", t.TempDir()}); code != exitInterrupted {
		t.Errorf("exit code %d, %s", code, &err)
	}
}
