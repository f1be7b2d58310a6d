package spec

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func suggestDublin([]Users) []Region {
	return []Region{{Name: "eu-west-1", Location: Location{Code: "eu-west-1"}}}
}

func TestReadAnswers(t *testing.T) {
	const text = "users: [{name: europe, location: eu-central-1}]\ndata:\n  - {name: orders, rto: 4h, rpo: 1h, stay: [EU]}\n"
	s, err := ReadAnswers([]byte(text), "a.yaml", nil, suggestDublin)
	if err != nil {
		t.Fatal(err)
	}
	if s.Regions[0].Name != "eu-west-1" || s.Needs.Data[0].Stay[0] != "EU" || s.Needs.Users[0].Location.Latitude == 0 {
		t.Errorf("%+v", s)
	}
	written, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(written, "again.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, again); diff != "" {
		t.Errorf("-read +written and read\n%s", diff)
	}

	s, err = ReadAnswers([]byte("regions: [{name: tokyo, location: ap-northeast-1}]\n"+text), "a.yaml", nil, suggestDublin)
	if err != nil || len(s.Regions) != 1 || s.Regions[0].Name != "tokyo" {
		t.Errorf("with regions: %v, %v", s, err)
	}

	old := Builtin()
	s, err = ReadAnswers([]byte("data: [{name: carts, stay: [oregon, mumbai]}]"), "a.yaml", old, suggestDublin)
	if err != nil || len(s.Tables) != 3 || s.Needs.Data[0].Name != "carts" || old.Needs != nil {
		t.Errorf("onto a spec: %v, %v", s, err)
	}
}

// TestAnswersErrors: each mistake is told with its line and its fix.
func TestAnswersErrors(t *testing.T) {
	for what, tc := range map[string]struct {
		text string
		old  *Spec
		want []string
	}{
		"nothing":         {"", nil, []string{"a.yaml: the file is empty", "docs/plan.md"}},
		"no data":         {"currency: EUR\n", nil, []string{"a.yaml:1:1: no data set is named", "add data:"}},
		"a list":          {"- x\n", nil, []string{"a.yaml:1:1: the file is a list"}},
		"unknown field":   {"data: [{name: orders}]\ncompanny: {on_call: always}\n", nil, []string{`a.yaml:2:1: unknown field "companny"`, `did you mean "company"?`}},
		"unknown region":  {"data: [{name: orders, stay: [us-wset-2]}]\n", nil, []string{`a.yaml:1:30: stay names "us-wset-2"`, "did you mean us-west-2?"}},
		"unknown place":   {"users: [{name: x, location: us-east-11}]\ndata: [{name: orders}]\n", nil, []string{"a.yaml:1:29:", "did you mean us-east-1?", "> 1 | users: [{name: x, location: us-east-11}]"}},
		"a whole spec":    {"needs: {data: [{name: orders}]}\n", nil, []string{"a.yaml:1:1: answers are what stands under needs", "antipode plan -f FILE"}},
		"regions twice":   {"regions: [{name: tokyo, location: ap-northeast-1}]\ndata: [{name: orders}]\n", Builtin(), []string{"a.yaml:1:1: the regions are in the spec already"}},
		"no duration":     {"data:\n  - name: orders\n    rto: 4\n", nil, []string{"a.yaml:3:10: rto is 4 of nothing"}},
		"broken YAML":     {"data: [{name: orders\n", nil, []string{"a.yaml:1:", "the YAML is broken"}},
		"unknown table's": {"data: [{name: orders, reads: {from: [{users: moon, share: 1}]}}]\nusers: [{name: noon, location: eu-west-1}]\n", nil, []string{"which is no group of users", "did you mean noon?"}},
	} {
		_, err := ReadAnswers([]byte(tc.text), "a.yaml", tc.old, suggestDublin)
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error lacks %q:\n%v", what, want, err)
			}
		}
	}
}

// TestDocumentedAnswers: the example of docs/plan.md can be read.
func TestDocumentedAnswers(t *testing.T) {
	m := regexp.MustCompile("(?s)```yaml\n(users:.*?)```").FindSubmatch(read(t, "../../docs/plan.md"))
	if m == nil {
		t.Fatal("docs/plan.md has no answers")
	}
	if s, err := ReadAnswers(m[1], "answers.yaml", nil, suggestDublin); err != nil || len(s.Needs.Data) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestReplaceNeeds: all lines but those of needs stay as they are.
func TestReplaceNeeds(t *testing.T) {
	const head, tail = "# ours\nregions: # all two\n  - {name: oregon, location: us-west-2}\n", "\n# what runs\ntables: []\n"
	rto := Duration(4 * time.Hour)
	needs := &Needs{Data: []Data{{Name: "orders", RTO: &rto}}}
	const block = "needs:\n  data:\n    - name: orders\n      rto: 4h\n"
	for what, tc := range map[string]struct{ text, want string }{
		"none yet":             {head, head + "\n" + block},
		"none, and no end":     {strings.TrimSuffix(head, "\n"), head + "\n" + block},
		"at the end":           {head + "needs:\n  currency: EUR\n  # old\n  data: []\n", head + block},
		"in the middle":        {head + "needs:\n  currency: EUR\n" + tail, head + block + tail},
		"on one line":          {head + "needs: {currency: EUR}\n" + tail, head + block + tail},
		"first":                {"needs: {currency: EUR}\n" + head, block + head},
		"Windows ends of line": {strings.ReplaceAll(head+"needs: {currency: EUR}\n"+tail, "\n", "\r\n"), head + block + tail},
	} {
		got, err := ReplaceNeeds([]byte(tc.text), "antipode.yaml", needs)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if diff := cmp.Diff(tc.want, string(got)); diff != "" {
			t.Errorf("%s: -want +got\n%s", what, diff)
		}
		if s := load(t, string(got)); s.Needs.Data[0].Name != "orders" || s.Needs.Currency != "" {
			t.Errorf("%s: read back as %+v", what, s.Needs)
		}
		again, err := ReplaceNeeds(got, "antipode.yaml", needs)
		if diff := cmp.Diff(string(got), string(again)); err != nil || diff != "" {
			t.Errorf("%s: once more: %v\n%s", what, err, diff)
		}
	}
	if _, err := ReplaceNeeds([]byte("{regions: [{name: us-west-2}]}\n"), "antipode.yaml", needs); err == nil || !strings.Contains(err.Error(), "one pair of braces") {
		t.Errorf("a spec in braces: %v", err)
	}
}

// FuzzReadAnswers: no file crashes it, a refusal says something, and what is
// accepted makes a spec that can be written and read.
func FuzzReadAnswers(f *testing.F) {
	f.Add("users: [{name: europe, location: eu-central-1}]\ndata: [{name: orders, rto: 4h, stay: [EU]}]\n")
	f.Add("regions: [{name: tokyo, location: ap-northeast-1}]\ndata: [{name: a.b, writes: {from: [{users: x, share: 1}]}}]\n")
	f.Add("needs: {data: []}\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ReadAnswers([]byte(text), "a.yaml", nil, suggestDublin)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "a.yaml") {
				t.Fatalf("the refusal does not name the file: %v", err)
			}
			return
		}
		short, err := s.Short()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Load(short, "again.yaml")
		if err != nil {
			t.Fatalf("what was accepted can't be read again: %v\n%s", err, short)
		}
		if diff := cmp.Diff(s, again); diff != "" {
			t.Fatalf("it changes when it is written: -want +got\n%s", diff)
		}
	})
}
