package bulk

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/ops/bench"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeTable is a server with one table, t, of the key id (S) and n (N).
type fakeTable struct {
	*httptest.Server

	mu      sync.Mutex
	items   map[string]string // by key, as text
	batches int
	// trouble, when set, answers a batch in place of the table.
	trouble func(n int, w http.ResponseWriter) bool
	// leave is how many items of each batch stay unprocessed.
	leave int
}

type object = map[string]json.RawMessage

func newFake(t *testing.T) *fakeTable {
	t.Helper()
	f := &fakeTable{items: map[string]string{}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func keyOf(item object) string {
	var n struct{ N json.Number }
	_ = json.Unmarshal(item["n"], &n)
	x, _ := n.N.Float64()
	return fmt.Sprintf("%s/%08.2f", item["id"], x)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"__type":"x#%s","message":%q}`, code, message)
}

func (f *fakeTable) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch _, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); op {
	case "DescribeTable":
		io.WriteString(w, `{"Table":{"KeySchema":[{"AttributeName":"id","KeyType":"HASH"},{"AttributeName":"n","KeyType":"RANGE"}],"AttributeDefinitions":[{"AttributeName":"n","AttributeType":"N"},{"AttributeName":"id","AttributeType":"S"}]}}`)
	case "BatchWriteItem":
		f.write(w, body)
	case "Scan":
		f.scan(w, body)
	}
}

func (f *fakeTable) write(w http.ResponseWriter, body []byte) {
	var in struct {
		RequestItems map[string][]struct{ PutRequest struct{ Item object } }
	}
	if err := json.Unmarshal(body, &in); err != nil {
		refuse(w, 400, "SerializationException", err.Error())
		return
	}
	f.batches++
	if f.trouble != nil && f.trouble(f.batches, w) {
		return
	}
	puts := in.RequestItems["t"]
	for _, p := range puts {
		if _, bad := p.PutRequest.Item["refuse"]; bad {
			refuse(w, 400, "ValidationException", "the table does not want it")
			return
		}
	}
	rest := puts[len(puts)-min(f.leave, len(puts)-1):]
	for _, p := range puts[:len(puts)-len(rest)] {
		text, _ := json.Marshal(p.PutRequest.Item)
		f.items[keyOf(p.PutRequest.Item)] = string(text)
	}
	out := map[string]any{}
	if len(rest) > 0 {
		out["t"] = rest
	}
	text, _ := json.Marshal(map[string]any{"UnprocessedItems": out})
	w.Write(text)
}

// scan gives pages of 7 items.
func (f *fakeTable) scan(w http.ResponseWriter, body []byte) {
	var in struct {
		Segment, TotalSegments int
		ExclusiveStartKey      object
	}
	_ = json.Unmarshal(body, &in)
	start := ""
	if in.ExclusiveStartKey != nil {
		start = keyOf(in.ExclusiveStartKey)
	}
	out := struct {
		Items            []json.RawMessage
		LastEvaluatedKey object `json:",omitempty"`
	}{Items: []json.RawMessage{}}
	for i, key := range slices.Sorted(maps.Keys(f.items)) {
		if i%in.TotalSegments != in.Segment || key <= start {
			continue
		}
		if len(out.Items) == 7 {
			var last object
			_ = json.Unmarshal(out.Items[6], &last)
			out.LastEvaluatedKey = object{"id": last["id"], "n": last["n"]}
			break
		}
		out.Items = append(out.Items, json.RawMessage(f.items[key]))
	}
	text, _ := json.Marshal(out)
	w.Write(text)
}

// memory is a record of progress.
type memory struct {
	text  []byte
	saves int
	// after, when set, is called after each save.
	after func()
}

func (m *memory) Load() ([]byte, error) { return m.text, nil }
func (m *memory) Remove() error         { m.text = nil; return nil }
func (m *memory) Save(text []byte) error {
	m.text = text
	m.saves++
	if m.after != nil {
		m.after()
	}
	return nil
}

func (f *fakeTable) config() Config {
	return Config{
		Endpoint: bench.Endpoint{URL: f.URL, AccessKey: "a", Secret: "s", SigningRegion: "r"}, Table: "t", Workers: 4, Patience: 5 * time.Second,
		Interval: 1, Now: time.Now, Store: &memory{},
	}
}

func file(name, text string) Input {
	return Input{Name: name, Size: int64(len(text)), Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

func (f *fakeTable) load(t *testing.T, inputs ...Input) Result {
	t.Helper()
	res, err := Import(t.Context(), ImportConfig{Config: f.config(), Inputs: inputs})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// export returns the lines, sorted.
func (f *fakeTable) export(t *testing.T, change func(*ExportConfig)) []string {
	t.Helper()
	var out bytes.Buffer
	cfg := ExportConfig{Config: f.config(), Output: Output{Writer: &out}}
	if change != nil {
		change(&cfg)
	}
	if _, err := Export(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if cfg.Gzip {
		z, err := gzip.NewReader(&out)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		text = string(all)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	slices.Sort(lines)
	return lines
}

// TestFormats reads and writes every format.
func TestFormats(t *testing.T) {
	const b = `{"Item":{"b":{"B":"AAE="},"id":{"S":"b"},"l":{"L":[{"N":"1"},{"NULL":true}]},"n":{"N":"-2.5"},"ss":{"SS":["x","y"]}}}`
	const a = `{"Item":{"f":{"BOOL":true},"id":{"S":"a, \"ä\"\n"},"m":{"M":{"k":{"S":"v"}}},"n":{"N":"12345678901234567890123456789012345678"}}}`
	const plainA = `{"f":true,"id":"a, \"ä\"\n","m":{"k":"v"},"n":12345678901234567890123456789012345678}`
	const plainB = `{"b":"AAE=","id":"b","l":[1,null],"n":-2.5,"ss":["x","y"]}`
	for name, tc := range map[string]struct {
		input Input
		want  []string
	}{
		"dynamodb": {file("x.json", a+"\n\n  "+b), []string{b, a}},
		"bare":     {file("y.json", `{"Item":{"id":{"S":"b"},"n":{"N":"1.0"}}}`+"\n"+`{"n":{"N":"2e0"},"id":{"S":"b"}}`), []string{`{"Item":{"id":{"S":"b"},"n":{"N":"1"}}}`, `{"Item":{"id":{"S":"b"},"n":{"N":"2"}}}`}},
		"json":     {file("x.jsonl", "\ufeff"+plainA+"\r\n"+plainB+"\n"), []string{`{"Item":{"b":{"S":"AAE="},"id":{"S":"b"},"l":{"L":[{"N":"1"},{"NULL":true}]},"n":{"N":"-2.5"},"ss":{"L":[{"S":"x"},{"S":"y"}]}}}`, a}},
		"csv":      {file("x.csv", "n,id,price,\"a b\"\n1e1,p,9,\n2,\"q,\n\"\"\",,z\n"), []string{`{"Item":{"a b":{"S":"z"},"id":{"S":"q,\n\""},"n":{"N":"2"}}}`, `{"Item":{"id":{"S":"p"},"n":{"N":"10"},"price":{"S":"9"}}}`}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.load(t, tc.input)
			slices.Sort(tc.want)
			if d := cmp.Diff(tc.want, f.export(t, nil)); d != "" {
				t.Error(d)
			}
		})
	}
	f := newFake(t)
	f.load(t, file("x.json", a+"\n"+b))
	if d := cmp.Diff([]string{plainB, plainA}, f.export(t, func(c *ExportConfig) { c.Format = JSON })); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{b, a}, f.export(t, func(c *ExportConfig) { c.Gzip = true })); d != "" {
		t.Error(d)
	}
	rows, err := csv.NewReader(strings.NewReader(strings.Join(f.export(t, func(c *ExportConfig) { c.Format, c.Columns = CSV, []string{"ss", "n"} }), "\n"))).ReadAll()
	if d := cmp.Diff([][]string{{`["x","y"]`, "-2.5"}, {"", "12345678901234567890123456789012345678"}, {"ss", "n"}}, rows); err != nil || d != "" {
		t.Error(err, d)
	}
	all := f.export(t, func(c *ExportConfig) { c.Format = CSV })
	if !slices.Contains(all, "id,n,b,f,l,m,ss") || !slices.Contains(all, `b,-2.5,AAE=,,"[1,null]",,"[""x"",""y""]"`) {
		t.Errorf("%q", all)
	}
}

func many(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, `{"Item":{"id":{"S":"k%d"},"n":{"N":"%d"},"v":{"S":"x"}}}`+"\n", i%10, i)
	}
	return out.String()
}

func TestImportOrderAndRetries(t *testing.T) {
	f := newFake(t)
	f.leave = 3
	f.trouble = func(n int, w http.ResponseWriter) bool {
		switch n % 7 {
		case 3:
			refuse(w, 500, "InternalServerError", "try again")
		case 5:
			refuse(w, 400, "ThrottlingException", "slower")
		default:
			return false
		}
		return true
	}
	// Every key comes several times, in any number of batches: the last one counts.
	var text strings.Builder
	for round := range 5 {
		text.WriteString(strings.ReplaceAll(many(300), `"S":"x"`, `"S":"`+strconv.Itoa(round)+`"`))
	}
	if res := f.load(t, file("a.json", text.String()), file("b.json", `{"Item":{"id":{"S":"k0"},"n":{"N":"0.0"},"v":{"S":"last"}}}`)); res.Items != 1501 || res.Bad != 0 {
		t.Errorf("%+v", res)
	}
	if len(f.items) != 300 {
		t.Errorf("%d items, want 300", len(f.items))
	}
	for key, item := range f.items {
		want := `"v":{"S":"4"}`
		if key == `{"S":"k0"}/00000.00` {
			want = `"v":{"S":"last"}`
		}
		if !strings.Contains(item, want) {
			t.Errorf("%s is %s", key, item)
		}
	}
}

func TestImportRefusals(t *testing.T) {
	good := `{"Item":{"id":{"S":"a"},"n":{"N":"1"}}}`
	for name, tc := range map[string]struct {
		input Input
		want  string
	}{
		"no JSON":       {file("d/f.json", good+"\n{"), "d/f.json:2: this is no JSON: "},
		"no object":     {file("f.json", `[]`), "f.json:1: this is no JSON object but array"},
		"no key":        {file("f.json", good+"\n\n"+`{"Item":{"id":{"S":"a"}}}`), "f.json:3: the item lacks the key attribute n"},
		"key's type":    {file("f.json", `{"Item":{"id":{"N":"1"},"n":{"N":"1"}}}`), "f.json:1: One or more parameter values were invalid: Type mismatch for key id expected: S actual: N"},
		"number":        {file("f.jsonl", `{"id":"a","n":1e200}`), "f.jsonl:1: Number overflow"},
		"large":         {file("f.jsonl", `{"id":"a","n":1,"x":"`+strings.Repeat("x", 410<<10)+`"}`), "f.jsonl:1: Item size has exceeded the maximum allowed size"},
		"UTF-8":         {file("f.jsonl", "{\"id\":\"\xff\",\"n\":1}"), "f.jsonl:1: it is not in UTF-8"},
		"deep":          {file("f.jsonl", `{"id":"a","n":1,"x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`), "f.jsonl:1: it is nested deeper than 32 levels"},
		"server":        {file("f.json", good+"\n"+strings.Replace(good, `"id"`, `"refuse":{"NULL":true},"id"`, 1)), "f.json:2: BatchWriteItem: ValidationException: the table does not want it"},
		"empty CSV":     {file("f.csv", ""), "f.csv:1: a CSV file begins with a line of attribute names, and this one is empty"},
		"CSV key":       {file("f.csv", "id,m\na,b"), `f.csv:1: no column is called "n"`},
		"CSV columns":   {file("f.csv", "id,n,id\n"), `f.csv:1: two columns are called "id"`},
		"CSV fields":    {file("f.csv", "id,n\na,1\nb,2,3\n"), "f.csv:3: wrong number of fields"},
		"CSV quote":     {file("f.csv", "id,n\n\"a\nb,2\n"), "f.csv:3: extraneous or missing \" in quoted-field"},
		"CSV number":    {file("f.csv", "id,n\na,x\n"), "f.csv:2: column n: The parameter cannot be converted to a numeric value: x"},
		"no gzip":       {file("f.json.gz", good), "unpack f.json.gz: gzip: invalid header"},
		"missing cells": {file("f.csv", "id,n\n,5\n"), "f.csv:2: the item lacks the key attribute id"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			_, err := Import(t.Context(), ImportConfig{Config: f.config(), Inputs: []Input{tc.input}})
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
	f := newFake(t)
	var mu sync.Mutex
	var told []string
	res, err := Import(t.Context(), ImportConfig{Config: f.config(), Inputs: []Input{file("f.json", good+"\nx\n"+strings.Replace(good, `"id"`, `"refuse":{"NULL":true},"id"`, 1)+"\n"+strings.Replace(good, `"1"`, `"2"`, 1))}, Bad: func(e *LineError) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf("%s:%d", e.File, e.Line))
	}})
	slices.Sort(told)
	if err != nil || res.Items != 2 || res.Bad != 2 || !slices.Equal(told, []string{"f.json:2", "f.json:3"}) {
		t.Errorf("%v %+v %v", err, res, told)
	}
	if _, err := Import(t.Context(), ImportConfig{Config: Config{Now: time.Now, Workers: -1}}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// TestImportResumes breaks an import off and takes it up again.
func TestImportResumes(t *testing.T) {
	f := newFake(t)
	store := &memory{}
	inputs := []Input{file("a.json", many(6000)), file("b.json", strings.ReplaceAll(many(6000), "k", "b"))}
	cfg := ImportConfig{Config: f.config(), Inputs: inputs}
	cfg.Store = store
	for stops := 0; ; stops++ {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		store.after = func() {
			if n++; n == 2 && stops < 3 {
				cancel()
			}
		}
		res, err := Import(ctx, cfg)
		cancel()
		if err == nil {
			if stops != 3 || res.Items != 12000 || res.Resumed == 0 || len(f.items) != 12000 || store.text != nil {
				t.Errorf("after %d stops: %+v, %d items, record %q", stops, res, len(f.items), store.text)
			}
			return
		}
		if !errors.Is(err, context.Canceled) || store.text == nil {
			t.Fatalf("%v, record %q", err, store.text)
		}
		other := cfg
		other.Inputs = []Input{file("a.json", "x")}
		if _, err := Import(t.Context(), other); !errors.Is(err, ErrOtherInput) {
			t.Errorf("other files: %v", err)
		}
	}
}

// cutBuffer is an output that can be cut off.
type cutBuffer struct{ bytes.Buffer }

func (b *cutBuffer) output() Output {
	return Output{Writer: b, Sync: func() error { return nil }, Truncate: func(n int64) error { b.Truncate(int(n)); return nil }}
}

// TestExportResumes breaks an export off and takes it up again: every item is in it once.
func TestExportResumes(t *testing.T) {
	f := newFake(t)
	f.load(t, file("a.json", many(900)))
	for _, format := range Formats() {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %t", format, packed), func(t *testing.T) {
				store, out := &memory{}, &cutBuffer{}
				cfg := ExportConfig{Config: f.config(), Output: out.output(), Gzip: packed}
				cfg.Format, cfg.Store = format, store
				stops := 0
				for ; ; stops++ {
					ctx, cancel := context.WithCancel(t.Context())
					n := 0
					store.after = func() {
						if n++; n == 10 && stops < 3 {
							cancel()
						}
					}
					res, err := Export(ctx, cfg)
					cancel()
					if err == nil {
						if res.Items != 900 || res.Resumed == 0 || store.text != nil {
							t.Errorf("%+v, record %q", res, store.text)
						}
						break
					}
					if !errors.Is(err, context.Canceled) {
						t.Fatal(err)
					}
					out.WriteString("half a line") // what a crash may leave
				}
				if stops != 3 {
					t.Errorf("%d stops", stops)
				}
				name := "x.json"
				if format == CSV {
					name = "x.csv"
				}
				if packed {
					name += ".gz"
				}
				again := newFake(t)
				if res := again.load(t, file(name, out.String())); res.Items != 900 || len(again.items) != 900 {
					t.Errorf("%+v", res)
				}
			})
		}
	}
}

func TestGivingUp(t *testing.T) {
	f := newFake(t)
	f.trouble = func(_ int, w http.ResponseWriter) bool {
		refuse(w, 500, "InternalServerError", "no")
		return true
	}
	cfg := ImportConfig{Config: f.config(), Inputs: []Input{file("a.json", many(1))}}
	cfg.Patience = 50 * time.Millisecond
	if _, err := Import(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "gave up after 50ms: BatchWriteItem: InternalServerError: no") {
		t.Error(err)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte(many(3)), "x.json")
	f.Add([]byte(`{"id":"a","n":1,"x":[{}]}`), "x.jsonl")
	f.Add([]byte("id,n,x\na,1,\n\"b\n\",2e1,\"\"\"\"\n"), "x.csv")
	f.Add([]byte("\x1f\x8b"), "x.gz")
	fits := func(attr.Value) error { return nil }
	schema := []keyAttribute{{"id", "S", fits}, {"n", "N", fits}}
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		src, err := open(&Input{Name: name}, bytes.NewReader(text), "", schema)
		if err != nil {
			return
		}
		for n := 0; ; n++ {
			rec, err := src.next()
			line := (*LineError)(nil)
			switch {
			case errors.As(err, &line):
				if n > len(text) {
					t.Fatal("errors without end")
				}
				continue
			case err != nil:
				return
			}
			if rec.key == "" || rec.line < 1 || !json.Valid(rec.item) {
				t.Fatalf("%q gave %+v", text, rec)
			}
		}
	})
}
