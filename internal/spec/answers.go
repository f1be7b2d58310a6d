package spec

import (
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// ReadAnswers reads answers to the questions of antipode plan: the fields of
// needs, without that word above them, and perhaps regions. It returns the spec
// old with these needs; where there is none, one of the answers' regions, or of
// those that suggest makes of the users. The error is an *Error.
func ReadAnswers(data []byte, filename string, old *Spec, suggest func([]Users) []Region) (*Spec, error) {
	d, text := newDecoder(data)
	s := &Spec{}
	if old != nil {
		*s = *old
	}
	s.Needs = &Needs{}
	if root := d.document(text, "answers need at least data; docs/plan.md has an example"); root != nil {
		d.answers(root, s, old != nil)
	}
	if len(d.problems) == 0 {
		if len(s.Regions) == 0 {
			s.Regions = suggest(s.Needs.Users)
		}
		s.fill()
		d.check(s)
	}
	if len(d.problems) > 0 {
		return nil, d.failure(filename, strings.Split(strings.TrimSuffix(text, "\n"), "\n"))
	}
	return s, nil
}

// answers takes the regions aside and decodes the rest as needs.
func (d *decoder) answers(root ast.Node, s *Spec, haveRegions bool) {
	if one, ok := root.(*ast.MappingValueNode); ok {
		root = ast.Mapping(one.GetToken(), false, one)
	}
	m, ok := root.(*ast.MappingNode)
	if !ok {
		d.value(root, reflect.ValueOf(s.Needs).Elem(), "the file")
		return
	}
	rest := *m
	rest.Values = nil
	for _, entry := range m.Values {
		name := ""
		if key, ok := entry.Key.(*ast.StringNode); ok {
			name = key.Value
		}
		switch {
		case name == "needs":
			d.problem(posOf(entry.Key), "answers are what stands under needs, without that word", "remove the line, and two spaces before each line below it; to go by a whole spec, run antipode plan -f FILE")
		case name == "regions" && haveRegions:
			d.problem(posOf(entry.Key), "the regions are in the spec already, which these answers are for", "remove regions here, and change them there")
		case name == "regions":
			d.value(entry.Value, reflect.ValueOf(&s.Regions).Elem(), name)
		default:
			rest.Values = append(rest.Values, entry)
		}
	}
	d.value(&rest, reflect.ValueOf(s.Needs).Elem(), "the file")
	if len(s.Needs.Data) == 0 && len(d.problems) == 0 {
		d.problem(posOf(root), "no data set is named, so there is nothing to plan", "add data: [{name: orders, rto: 4h, rpo: 1h}]")
	}
}
