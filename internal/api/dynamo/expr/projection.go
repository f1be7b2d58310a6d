package expr

import (
	"slices"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// Projection is a set of document paths.
type Projection struct {
	root tree
}

// ParseProjection parses a projection expression.
func ParseProjection(text string, params *Params) (*Projection, error) {
	p := newParser(KindProjection, text, params)
	out := &Projection{}
	for p.err == nil {
		if to := p.path(); p.err == nil {
			p.insert(&out.root, to, 0)
		}
		if !p.accept(",") {
			break
		}
	}
	if err := p.outcome(); err != nil {
		return nil, err
	}
	return out, nil
}

// ProjectAttributes is the projection of top-level attributes, such as those of an
// index. A name may come twice.
func ProjectAttributes(names ...string) *Projection {
	names = slices.Clone(names)
	slices.Sort(names)
	out := &Projection{}
	for _, name := range slices.Compact(names) {
		out.root.children = append(out.root.children, branch{element{name: name}, &tree{leaf: true}})
	}
	return out
}

// Attributes lists the top-level attributes that the projection names, sorted.
func (pr *Projection) Attributes() []string { return pr.root.attributes() }

// Apply returns what the projection leaves of an item: attributes that are there,
// parts of maps under their names, elements of lists one after another.
func (pr *Projection) Apply(it attr.Item) attr.Item { return projectItem(&pr.root, it) }

func projectItem(t *tree, it attr.Item) attr.Item {
	out := make(attr.Item, 0, min(len(t.children), len(it)))
	for _, b := range t.children {
		if v := it.Find(b.name); v != nil {
			if part, ok := project(b.tree, v); ok {
				out = append(out, attr.Member{Name: b.name, Value: part})
			}
		}
	}
	return out
}

func project(t *tree, v *attr.Value) (attr.Value, bool) {
	if t.leaf {
		return *v, true
	}
	switch {
	case v.Type == attr.M && !t.children[0].isIndex:
		it := projectItem(t, v.Map)
		return attr.Value{Type: attr.M, Map: it}, len(it) > 0
	case v.Type == attr.L && t.children[0].isIndex:
		var list []attr.Value
		for _, b := range t.children {
			if b.index >= len(v.List) {
				break
			}
			if part, ok := project(b.tree, &v.List[b.index]); ok {
				list = append(list, part)
			}
		}
		return attr.Value{Type: attr.L, List: list}, len(list) > 0
	}
	return attr.Value{}, false
}
