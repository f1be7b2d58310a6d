package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func load(t testing.TB, text string) *Spec {
	t.Helper()
	s, err := Load([]byte(text), "antipode.yaml")
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, text)
	}
	return s
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files match %s (%v)", pattern, err)
	}
	return files
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, path)), got); diff != "" {
		t.Errorf("%s: -want +got\n%s", path, diff)
	}
}

// docExamples returns the YAML blocks of docs/spec.md.
func docExamples(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(read(t, "../../docs/spec.md"), -1) {
		out = append(out, string(m[1]))
	}
	if len(out) == 0 {
		t.Fatal("docs/spec.md has no example")
	}
	return out
}

// good returns specs that load: the built-in one, the samples, the documentation's.
func good(t testing.TB) map[string]string {
	t.Helper()
	builtin, err := Builtin().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{"built-in": string(builtin)}
	for i, text := range docExamples(t) {
		out["docs/spec.md "+strconv.Itoa(i)] = text
	}
	for _, f := range glob(t, "testdata/specs/*.yaml") {
		out[f] = string(read(t, f))
	}
	return out
}

func TestErrors(t *testing.T) {
	for _, f := range glob(t, "testdata/errors/*.yaml") {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".yaml"), func(t *testing.T) {
			_, err := Load(read(t, f), filepath.Base(f))
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, ErrInvalid) {
				t.Fatalf("Load = %v, want an *Error", err)
			}
			golden(t, strings.TrimSuffix(f, ".yaml")+".txt", err.Error()+"\n")
		})
	}
}

func TestBuiltin(t *testing.T) {
	s := Builtin()
	out, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/builtin.golden.yaml", string(out))
	if diff := cmp.Diff(s, load(t, string(out))); diff != "" {
		t.Error(diff)
	}
	if got := s.Warnings(); len(got) > 0 {
		t.Errorf("the built-in spec warns: %q", got)
	}
	if got, want := s.OneWay("oregon", "mumbai"), 110800*time.Microsecond; got != want {
		t.Errorf("one way from oregon to mumbai takes %v, want %v", got, want)
	}
	if got := s.OneWay("oregon", "atlantis"); got != 0 {
		t.Errorf("one way to nowhere takes %v", got)
	}
}

func TestRoundTrip(t *testing.T) {
	for name, text := range good(t) {
		s := load(t, text)
		out, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, load(t, string(out))); diff != "" {
			t.Errorf("%s: -read +read again\n%s\n%s", name, diff, out)
		}
	}
}

func TestDefaults(t *testing.T) {
	s := load(t, string(read(t, "testdata/specs/three.yaml")))
	if got, want := s.Regions[1].Addresses, (Addresses{"127.0.0.1:9100", "127.0.0.1:9101", "127.0.0.1:9102"}); got != want {
		t.Errorf("addresses of region 1: %+v, want %+v", got, want)
	}
	if got := s.Regions[2].Location; got.Code != "ap-south-1" || got.Latitude != 19.08 {
		t.Errorf("location by name: %+v", got)
	}
	tab, _ := s.Table("settings")
	if tab.Writer != "dublin" {
		t.Errorf("the default writer is %s, want dublin, the first replica in the order of the regions", tab.Writer)
	}
	if tab, _ := s.Table("blobs.v2"); *tab.RPO != 0 || len(tab.Replicas) != 3 {
		t.Errorf("blobs.v2: %+v", tab)
	}
}

func TestWithBasePort(t *testing.T) {
	s := load(t, string(read(t, "testdata/specs/three.yaml")))
	next, err := s.WithBasePort(20000)
	if err != nil {
		t.Fatal(err)
	}
	if got := next.Regions[2].Addresses.Link; got != "127.0.0.1:20202" {
		t.Errorf("default link moved to %s", got)
	}
	if got := next.Regions[0].Addresses.API; got != "0.0.0.0:443" {
		t.Errorf("an address of its own moved to %s", got)
	}
	if got := s.Regions[2].Addresses.Link; got != "127.0.0.1:9202" {
		t.Errorf("the original moved too, to %s", got)
	}
	for _, bad := range []int{0, -1, 65300, 1 << 40} {
		if _, err := s.WithBasePort(bad); err == nil {
			t.Errorf("base port %d went through", bad)
		}
	}
	clash := load(t, "regions:\n - {name: us-west-2}\n - {name: us-east-1, addresses: {api: \"127.0.0.1:8000\"}}\n")
	if _, err := clash.WithBasePort(8000); err == nil {
		t.Error("two ports at one address went through")
	}
}

func TestWithFilesIn(t *testing.T) {
	s := load(t, string(read(t, "testdata/specs/three.yaml")))
	next := s.WithFilesIn("/srv/antipode")
	if diff := cmp.Diff(&TLS{"/srv/antipode/virginia.pem", "/etc/antipode/virginia.key"}, next.Regions[0].TLS); diff != "" {
		t.Error(diff)
	}
	if s.Regions[0].TLS.Cert != "virginia.pem" {
		t.Error("the original changed too")
	}
}

func TestResolve(t *testing.T) {
	s := load(t, `
regions:
  - {name: oregon, location: us-west-2}
  - {name: ap-south-1}
  - {name: frankfurt, location: eu-central-1, witness: true}
  - {name: a, location: eu-west-1}
  - {name: b, location: eu-west-1}
  - {name: buoy, location: {latitude: 0, longitude: 0}}
`)
	for in, want := range map[string]antipode.Region{
		"oregon": "oregon", "us-west-2": "oregon", "ap-south-1": "ap-south-1", "frankfurt": "frankfurt",
		"eu-central-1": "", "eu-west-1": "", "": "", "OREGON": "", "buoy": "buoy",
	} {
		if got, ok := s.Resolve(in); got != want || ok != (want != "") {
			t.Errorf("Resolve(%q) = %q, %v; want %q", in, got, ok, want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	a := load(t, "regions:\n  - name: us-west-2\ntables:\n  - {name: abc, key: id, writes: global}\n")
	b := load(t, "tables: # the same\n  - {writes: global, key: \"id:S\", name: abc, writer: us-west-2}\nregions: [{name: us-west-2, location: us-west-2}]\nbase_port: 7100\n")
	c := load(t, "regions:\n  - name: us-west-2\ntables:\n  - {name: abc, key: \"id:N\", writes: global}\n")
	var prints [3]string
	for i, s := range []*Spec{a, b, c} {
		p, err := s.Fingerprint()
		if err != nil || len(p) != 64 {
			t.Fatalf("%q, %v", p, err)
		}
		prints[i] = p
	}
	if prints[0] != prints[1] || prints[0] == prints[2] {
		t.Errorf("fingerprints %q: want the first two equal, the third not", prints)
	}
}

func TestWarnings(t *testing.T) {
	for text, want := range map[string][]string{
		"regions: [{name: us-west-2}]":                                                                          {"only us-west-2 keeps data"},
		"regions: [{name: us-west-2}, {name: us-east-1}]":                                                       {"two regions without a witness"},
		"regions: [{name: us-west-2}, {name: us-east-1}, {name: eu-west-1, witness: true}]":                     nil,
		"regions: [{name: us-west-2}, {name: us-east-1}, {name: w, location: us-east-1, witness: true}]":        {"us-east-1 and w are all in us-east-1"},
		"regions: [{name: us-west-2}, {name: us-east-1}, {name: eu-west-1}, {name: ap-south-1, witness: true}]": {"survives the loss of 1, no more than 3"},
		"regions: [{name: a, location: us-west-2}, {name: b, location: us-west-2}, {name: ap-south-1}]":         {"asks for us-west-2 is refused"},
	} {
		got := load(t, text).Warnings()
		if len(got) != len(want) {
			t.Errorf("%s: %q, want %q", text, got, want)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%s: %q does not say %q", text, got[i], want[i])
			}
		}
	}
}

// TestDocs: docs/spec.md tells of every field and every value of the enums.
func TestDocs(t *testing.T) {
	text := string(read(t, "../../docs/spec.md"))
	var words []string
	for _, typ := range []reflect.Type{
		reflect.TypeFor[Spec](), reflect.TypeFor[Region](), reflect.TypeFor[Addresses](), reflect.TypeFor[TLS](), reflect.TypeFor[Table](),
		reflect.TypeFor[Needs](), reflect.TypeFor[Prices](), reflect.TypeFor[Company](), reflect.TypeFor[RegionFacts](), reflect.TypeFor[Users](),
		reflect.TypeFor[Data](), reflect.TypeFor[Traffic](), reflect.TypeFor[Share](), reflect.TypeFor[Backup](),
	} {
		words = append(words, fieldsOf(typ).names...)
	}
	words = append(words, slices.Concat(onCallWords(), kindWords(), whyWords(), surviveWords(), doneWords(), writtenByWords(), invariantWords(), Strategies())...)
	words = append(words, texts(antipode.WriteModes())...)
	words = append(words, texts(antipode.Rules())...)
	for _, w := range words {
		if !strings.Contains(text, "`"+w+"`") {
			t.Errorf("docs/spec.md does not tell of `%s`", w)
		}
	}
}

// TestControl: what goes to the control group is accepted there.
func TestControl(t *testing.T) {
	for name, text := range good(t) {
		s := load(t, text)
		state := control.NewState()
		var err error
		index := uint64(0)
		for _, r := range s.ControlRegions() {
			index++
			if state, err = control.Apply(state, index, control.Command{PutRegion: &r}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, tab := range s.ControlTables() {
			index++
			if state, err = control.Apply(state, index, control.Command{CreateTable: &tab}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	want := control.Table{
		Name: "Orders", Partition: control.KeyAttribute{Name: "customer", Type: "S"}, Sort: &control.KeyAttribute{Name: "placed", Type: "N"},
		Writes: "local", Rule: "region-priority", Priority: []antipode.Region{"dublin", "virginia"},
		Replicas: []antipode.Region{"dublin", "virginia"}, RPO: "1m30s", FromSpec: true,
	}
	s := load(t, string(read(t, "testdata/specs/three.yaml")))
	if diff := cmp.Diff(want, s.ControlTables()[0], cmpopts.IgnoreUnexported(control.Table{})); diff != "" {
		t.Error(diff)
	}
	if got := s.ControlTables()[1]; got.HomeBy != antipode.HomeAttribute || got.HomeAttr != "region" {
		t.Errorf("home of blobs.v2: %q %q", got.HomeBy, got.HomeAttr)
	}
	if got := s.ControlRegions()[1].Location; got != "53.35,-6.26" {
		t.Errorf("location of dublin: %s", got)
	}
}

// TestFailoverDefaults: who is replaced by itself, and who gets its roles back.
func TestFailoverDefaults(t *testing.T) {
	const tables = `
tables:
  - {name: one, key: id, writes: global, rpo: 0s}
  - {name: two, key: id, writes: partitioned}
  - {name: three, key: id, writes: local, rule: last-writer}
`
	s := load(t, "regions: [{name: us-west-2}, {name: us-east-1}, {name: eu-west-1, witness: true, journal: true}]"+tables)
	var got []string
	for _, c := range s.ControlTables() {
		got = append(got, strings.Join([]string{c.Failover, c.Return, c.Unprotected, strconv.Itoa(c.Copies)}, " "))
	}
	if diff := cmp.Diff([]string{"lease manual degrade 1", "lease auto  0", "   0"}, got); diff != "" {
		t.Error(diff)
	}
	if !s.ControlRegions()[2].Journal || s.Lease != DefaultLease || s.ReturnAfter != DefaultReturnAfter {
		t.Errorf("%+v, lease %v, return after %v", s.ControlRegions()[2], s.Lease, s.ReturnAfter)
	}
	for _, c := range load(t, "regions: [{name: us-west-2}, {name: us-east-1}]"+tables).ControlTables()[:2] {
		if c.Failover != control.FailoverPinned {
			t.Errorf("%s fails over by %s with two voters", c.Name, c.Failover)
		}
	}
}

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("antipode.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("antipode.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func validate(t testing.TB, schema *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(doc)
}

func TestSchema(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/schema.golden.json", string(text))
	schema := compileSchema(t)
	for name, text := range good(t) {
		if err := validate(t, schema, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"field-typo", "enum", "local-without-rule", "kinds", "missing", "not-a-spec", "needs"} {
		if err := validate(t, schema, string(read(t, "testdata/errors/"+name+".yaml"))); err == nil {
			t.Errorf("the schema lets %s pass", name)
		}
	}
}

// TestHostileNesting: the parser must not be led into its quadratic corner.
func TestHostileNesting(t *testing.T) {
	for _, unit := range []string{"[", "{a: ", "- ", "? ", "a:\n", "!!x ", "&x ", "|\n", "\"", "- [\n", "{", "*x ", "a: {b: [", "\n- ", ":\n ", "#\n"} {
		start := time.Now()
		if _, err := Load([]byte(strings.Repeat(unit, maxBytes/4/len(unit))), "antipode.yaml"); err == nil {
			t.Errorf("%q repeated went through", unit)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%q repeated took %v", unit, took)
		}
	}
	if _, err := Load(make([]byte, maxBytes+1), "antipode.yaml"); err == nil {
		t.Error("a file too long went through")
	}
	if _, err := Load([]byte("regions: [{name: \xff}]"), "antipode.yaml"); err == nil {
		t.Error("a file that is not UTF-8 went through")
	}
}

// FuzzSpec: no input crashes Load; errors point into the file; what loads is
// written and read back to the same, and the group accepts it.
func FuzzSpec(f *testing.F) {
	for _, text := range good(f) {
		f.Add(text)
	}
	for _, file := range glob(f, "testdata/errors/*.yaml") {
		f.Add(string(read(f, file)))
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Load([]byte(text), "antipode.yaml")
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Problems) == 0 || err.Error() == "" {
				t.Fatalf("%#v", err)
			}
			for _, p := range e.Problems {
				if lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 1; p.Line < 0 || p.Line > lines+1 || p.Message == "" {
					t.Fatalf("%+v in %d lines", p, lines)
				}
			}
			return
		}
		out, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, load(t, string(out))); diff != "" {
			t.Fatalf("-read +read again\n%s\n%s", diff, out)
		}
	})
}

// TestSource: every value that is in the file is found, whatever else is asked
// for is found at what it belongs to.
func TestSource(t *testing.T) {
	const text = `regions:
  - name: us-west-2
tables:
  - name: carts
    key: id
    writes: global
needs:
  data:
    - {name: carts, rto: 1m, why: [law, latency]}
`
	_, src, err := Read([]byte(text), "antipode.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"tables.0.writes":        "antipode.yaml:6:13",
		"tables.0.writer":        "antipode.yaml:4:5", // a default: the table
		"needs.data.0.rto":       "antipode.yaml:9:26",
		"needs.data.0.why.1":     "antipode.yaml:9:41",
		"needs.data.0.reads.p99": "antipode.yaml:9:7",
		"needs.company.on_call":  "antipode.yaml:8:3",
		"nothing.7":              "antipode.yaml:1:1",
	} {
		if got := src.Place(path); got != want {
			t.Errorf("%s is at %s, want %s", path, got, want)
		}
	}
	if got, want := src.Excerpt(6, 13), "    4 |   - name: carts\n    5 |     key: id\n  > 6 |     writes: global\n      |             ^\n    7 | needs:\n"; got != want {
		t.Errorf("excerpt %q, want %q", got, want)
	}
	var none *Source
	if l, c := none.Position("tables"); l != 0 || c != 0 || none.Excerpt(1, 1) != "" || none.Place("tables") != "tables" {
		t.Error("no source knows a place")
	}
}
