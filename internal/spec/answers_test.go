package spec

import (
	"strings"
	"testing"

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
