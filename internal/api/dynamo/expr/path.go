package expr

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// element is a step of a document path: into a map by name, or into a list by index.
type element struct {
	name    string
	index   int
	isIndex bool
}

func (e element) String() string {
	if e.isIndex {
		return "[" + strconv.Itoa(e.index) + "]"
	}
	return e.name
}

func compareElements(a, b element) int {
	if a.isIndex != b.isIndex {
		if a.isIndex {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(a.index, b.index), strings.Compare(a.name, b.name))
}

// path is a document path. It begins with the name of an attribute.
type path []element

// String writes the path as DynamoDB does in its messages: [a, b, [1]].
func (p path) String() string {
	parts := make([]string, len(p))
	for i, e := range p {
		parts[i] = e.String()
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// find returns what the path leads to in an item, or nil. It is shared with the item.
func (p path) find(it attr.Item) *attr.Value {
	v := it.Find(p[0].name)
	for _, e := range p[1:] {
		if v == nil {
			return nil
		}
		v = step(v, e)
	}
	return v
}

func step(v *attr.Value, e element) *attr.Value {
	switch {
	case e.isIndex && v.Type == attr.L && e.index < len(v.List):
		return &v.List[e.index]
	case !e.isIndex && v.Type == attr.M:
		return v.Map.Find(e.name)
	}
	return nil
}

// tree holds the paths of a projection or an update, which neither overlap nor conflict.
type tree struct {
	leaf     bool     // a path ends here
	action   int      // what an update does here, as an index into its actions
	via      path     // the first path that came by, for messages
	children []branch // sorted; all of them names, or all of them indexes
}

type branch struct {
	element
	*tree
}

func (t *tree) child(e element) (i int, ok bool) {
	return slices.BinarySearchFunc(t.children, e, func(b branch, e element) int {
		return compareElements(b.element, e)
	})
}

// insert adds a path, or notes why it can't stand beside the others.
func (p *parser) insert(root *tree, to path, action int) {
	if len(to) > maxPath {
		return // which was noted
	}
	t := root
	for depth, e := range to {
		if depth > 0 && t.leaf {
			p.clash(classOverlap, "overlap", t.via, to)
			return
		}
		if len(t.children) > 0 && t.children[0].isIndex != e.isIndex {
			p.clash(classConflict, "conflict", t.children[0].via, to)
			return
		}
		i, ok := t.child(e)
		if !ok {
			t.children = slices.Insert(t.children, i, branch{e, &tree{via: to}})
		}
		t = t.children[i].tree
	}
	if t.leaf || len(t.children) > 0 {
		p.clash(classOverlap, "overlap", t.via, to)
		return
	}
	t.leaf, t.action = true, action
}

func (p *parser) clash(c class, verb string, one, two path) {
	p.note(c, "Two document paths %s with each other; must remove or rewrite one of these paths; "+
		"path one: %s, path two: %s", verb, one, two)
}

// attributes lists the top-level attributes below a root.
func (t *tree) attributes() []string {
	names := make([]string, len(t.children))
	for i, b := range t.children {
		names[i] = b.name
	}
	return names
}
