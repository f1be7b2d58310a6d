package expr

import (
	"slices"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

func errMissing() *attr.Error {
	return attr.Invalid("The provided expression refers to an attribute that does not exist in the item")
}

func errDataType() *attr.Error {
	return attr.Invalid("An operand in the update expression has an incorrect data type")
}

func errPath() *attr.Error {
	return attr.Invalid("The document path provided in the update expression is invalid for update")
}

// Apply returns the item as the update leaves it. It is given with its key
// attributes, alone where there is no item yet, and stays as it is. All of the update
// is computed from the item as given. A result that is too large or too deep is an error.
func (u *Update) Apply(it attr.Item) (attr.Item, error) {
	run := &run{whole: it, room: attr.MaxItemSize}
	out, err := u.applyItem(&u.root, it, run)
	if err != nil {
		return nil, err
	}
	if err := attr.CheckDepth(out); err != nil {
		return nil, err
	}
	if attr.ItemSize(out) > attr.MaxItemSize {
		return nil, errTooLarge()
	}
	return out, nil
}

func errTooLarge() *attr.Error {
	return attr.Invalid("Item size to update has exceeded the maximum allowed size")
}

// run is one application of an update. All that is computed is to be in one item
// in the end, so that no more of it need be computed than an item can hold.
type run struct {
	whole attr.Item
	room  int // bytes that are left for what is computed
}

func (r *run) take(size int) error {
	if r.room -= size; r.room < 0 {
		return errTooLarge()
	}
	return nil
}

// applyItem does what the tree says to an item or map that is part of the item whole.
func (u *Update) applyItem(t *tree, it attr.Item, r *run) (attr.Item, error) {
	out := make(attr.Item, 0, len(it)+len(t.children))
	for _, b := range t.children { // both are sorted by name
		for len(it) > 0 && it[0].Name < b.name {
			out, it = append(out, it[0]), it[1:]
		}
		var old *attr.Value
		if len(it) > 0 && it[0].Name == b.name {
			old, it = &it[0].Value, it[1:]
		}
		v, err := u.apply(b.tree, old, r)
		if err != nil {
			return nil, err
		}
		if v != nil {
			out = append(out, attr.Member{Name: b.name, Value: *v})
		}
	}
	return append(out, it...), nil
}

// apply returns what becomes of old, which is nil where there is nothing: nil
// if nothing is to be there.
func (u *Update) apply(t *tree, old *attr.Value, r *run) (*attr.Value, error) {
	if t.leaf {
		v, err := u.actions[t.action].do(old, r)
		if err == nil && v != nil {
			err = r.take(attr.Size(*v))
		}
		return v, err
	}
	indexed := t.children[0].isIndex
	switch {
	case old != nil && old.Type == attr.M && !indexed:
		it, err := u.applyItem(t, old.Map, r)
		return &attr.Value{Type: attr.M, Map: it}, err
	case old != nil && old.Type == attr.L && indexed:
		list, err := u.applyList(t, old.List, r)
		return &attr.Value{Type: attr.L, List: list}, err
	}
	return nil, errPath()
}

// applyList changes a list. Indexes are those of the list as it was: what is set
// beyond its end comes after its last element, what is removed leaves no gap.
func (u *Update) applyList(t *tree, list []attr.Value, r *run) ([]attr.Value, error) {
	out := slices.Clone(list)
	var removed []int
	for _, b := range t.children {
		var old *attr.Value
		if b.index < len(list) {
			old = &list[b.index]
		}
		v, err := u.apply(b.tree, old, r)
		switch {
		case err != nil:
			return nil, err
		case v != nil && old != nil:
			out[b.index] = *v
		case v != nil:
			out = append(out, *v)
		case old != nil:
			removed = append(removed, b.index)
		}
	}
	for _, i := range slices.Backward(removed) {
		out = slices.Delete(out, i, i+1)
	}
	return out, nil
}

// do performs an action on what is there, and returns what shall be; nil is nothing.
func (a *action) do(old *attr.Value, r *run) (*attr.Value, error) {
	switch a.section {
	case opSet:
		v, err := a.value.compute(r.whole)
		return &v, err
	case opAdd:
		if old != nil && old.Type != a.value.value.Type {
			return nil, a.mismatch()
		}
		return add(old, a.value.value)
	case opDelete:
		if old == nil {
			return nil, nil
		}
		if old.Type != a.value.value.Type {
			return nil, a.mismatch()
		}
		rest := attr.Difference(*old, a.value.value)
		if len(rest.Set) == 0 {
			return nil, nil // no set is empty
		}
		return &rest, nil
	default: // REMOVE
		return nil, nil
	}
}

// mismatch refuses an operand of another type than what is there.
func (a *action) mismatch() *attr.Error {
	if a.legacy {
		return attr.Invalid("Type mismatch for attribute to update")
	}
	return errDataType()
}

// add adds an amount to what is there, which is of the same type.
func add(old *attr.Value, amount attr.Value) (*attr.Value, error) {
	switch {
	case old == nil:
		return &amount, nil
	case amount.Type == attr.N:
		sum, err := attr.Add(*old, amount)
		return &sum, err
	case amount.Type == attr.L: // AttributeUpdates only
		return &attr.Value{Type: attr.L, List: slices.Concat(old.List, amount.List)}, nil
	default:
		union := attr.Union(*old, amount)
		return &union, nil
	}
}

// compute evaluates a formula for an item.
func (f *formula) compute(it attr.Item) (attr.Value, error) {
	switch {
	case f.op == fnIfNotExists:
		if v := f.args[0].path.find(it); v != nil {
			return *v, nil
		}
		return f.args[1].compute(it)
	case f.op == fnListAppend:
		list, err := f.collect(nil, it)
		return attr.Value{Type: attr.L, List: list}, err
	case f.op != "":
		return f.combine(it)
	case f.path == nil:
		return f.value, nil
	}
	v := f.path.find(it)
	if v == nil {
		return attr.Value{}, errMissing()
	}
	return *v, nil
}

// collect appends the elements of the list that a formula gives. However deep its
// functions nest, each element is moved once.
func (f *formula) collect(dst []attr.Value, it attr.Item) ([]attr.Value, error) {
	switch f.op {
	case fnListAppend:
		dst, err := f.args[0].collect(dst, it)
		if err != nil {
			return nil, err
		}
		return f.args[1].collect(dst, it)
	case fnIfNotExists:
		if f.args[0].path.find(it) == nil {
			return f.args[1].collect(dst, it)
		}
	}
	v, err := f.compute(it)
	switch {
	case err != nil:
		return nil, err
	case v.Type != attr.L:
		return nil, errDataType()
	case len(dst)+len(v.List) > attr.MaxItemSize: // an element has a byte at least
		return nil, errTooLarge()
	}
	return append(dst, v.List...), nil
}

// combine evaluates an operator of two formulas.
func (f *formula) combine(it attr.Item) (attr.Value, error) {
	x, err := f.args[0].compute(it)
	if err != nil {
		return attr.Value{}, err
	}
	y, err := f.args[1].compute(it)
	if err != nil {
		return attr.Value{}, err
	}
	if f.op == opPlus {
		return attr.Add(x, y)
	}
	return attr.Sub(x, y)
}
