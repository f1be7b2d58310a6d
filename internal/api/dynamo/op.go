package dynamo

import (
	"fmt"
	"slices"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/api/dynamo/expr"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/engine"
)

// Verbs of writes: what is said between regions when a write is forwarded. The
// payload is the request of the operation of that name, as its client sent it.
const (
	verbPut    = "PutItem"
	verbUpdate = "UpdateItem"
	verbDelete = "DeleteItem"
)

const allOld = "ALL_OLD"

// Compile makes the operation that a forwarded write asks for, in the region
// that decides on it. It needs nothing but the table: the verb says which
// operation it is, the payload is its request. It may be called concurrently; the
// result keeps nothing of the payload. Errors are *table.Error.
func Compile(verb string, payload []byte, t *table.TableRef) (table.Op, table.Key, error) {
	var p fastjson.Parser
	v, err := p.ParseBytes(payload)
	if err != nil {
		return nil, table.Key{}, errSerialization("")
	}
	o, err := v.Object()
	if err != nil {
		return nil, table.Key{}, errSerialization("Unexpected token received from parser")
	}
	w, err := readWrite(verb, o, len(payload))
	if err != nil {
		return nil, table.Key{}, toTable(err)
	}
	op, key, err := w.bind(t)
	if err != nil {
		return nil, table.Key{}, toTable(err)
	}
	return op, key, nil
}

// write is a write that was read and checked as far as that can be done
// without its table.
type write struct {
	verb   string
	batch  bool             // part of a batch, where a put's key is checked like any key
	object *fastjson.Object // Item of a put, Key of the others
	guard  guard
	update *expr.Update
	body   []byte    // of a put
	key    attr.Item // of the others
}

// readWrite reads the parts of a request that decide on the item. The hint is
// about how long the item is, in bytes.
func readWrite(verb string, o *fastjson.Object, hint int) (*write, error) {
	w := &write{verb: verb}
	var err error
	expressionNames := []string{string(expr.KindCondition)}
	legacy := []string{expected, conditionalOperator}
	switch verb {
	case verbPut:
		v := member(o, "Item")
		if w.object, err = asMap(v); err != nil {
			return nil, err
		}
		// The item is kept by the tables, hence memory of its own.
		if w.body, _, err = attr.NormalizeItem(make([]byte, 0, hint), v); err != nil {
			return nil, err
		}
	case verbUpdate, verbDelete:
		v := member(o, "Key")
		if w.object, err = asMap(v); err != nil {
			return nil, err
		}
		if w.key, err = attr.ItemFromJSON(v); err != nil {
			return nil, err
		}
		if verb == verbUpdate {
			expressionNames = []string{string(expr.KindUpdate), string(expr.KindCondition)}
			legacy = []string{attributeUpdates, expected, conditionalOperator}
		}
	default:
		return nil, errUnknownOperation(verb + " is not known in this region; it may be older than the one that sent it")
	}
	if isPlain(o) {
		return w, nil
	}
	if err := w.readGuard(o, expressionNames, legacy); err != nil {
		return nil, enveloped(err)
	}
	return w, nil
}

func asMap(v *fastjson.Value) (*fastjson.Object, error) {
	if v == nil {
		return nil, errSerialization("Unexpected field type")
	}
	o, err := v.Object()
	if err != nil {
		return nil, errSerialization("Unexpected field type")
	}
	return o, nil
}

// isPlain reports whether a request has nothing but its subject, as most have.
func isPlain(o *fastjson.Object) bool {
	n := o.Len()
	for _, name := range [...]string{"TableName", "Item", "Key"} {
		if n > 0 && o.Get(name) != nil {
			n--
		}
	}
	return n == 0
}

func (w *write) readGuard(o *fastjson.Object, names, legacy []string) error {
	e, err := readExpressions(o, names, names, legacy)
	if err != nil {
		return err
	}
	if w.verb == verbUpdate {
		text, there, err := e.text(string(expr.KindUpdate))
		if err != nil {
			return err
		}
		if there {
			w.update, err = expr.ParseUpdate(text, &e.params)
		} else {
			w.update, err = readChanges(o)
		}
		if err != nil {
			return err
		}
	}
	if e.used {
		w.guard.cond, err = e.condition(expr.KindCondition)
	} else {
		w.guard.cond, err = readLegacyCondition(o, expected)
	}
	if err != nil {
		return err
	}
	onFailure, _, err := readString(o, "ReturnValuesOnConditionCheckFailure")
	if err != nil {
		return err
	}
	w.guard.tell = onFailure == allOld
	return e.params.CheckUnused()
}

// bind makes the operation and the key, now that the table is known.
func (w *write) bind(t *table.TableRef) (table.Op, table.Key, error) {
	if w.verb == verbPut {
		if w.batch && !hasKey(w.object, t) {
			return nil, table.Key{}, errValidation(keyMismatch)
		}
		key, err := keyOfItem(w.object, t)
		return &putOp{guard: w.guard, body: w.body}, key, err
	}
	key, err := keyOf(w.key, t)
	if err != nil {
		return nil, table.Key{}, err
	}
	if w.verb == verbDelete {
		return &deleteOp{guard: w.guard}, key, nil
	}
	if w.update != nil {
		if err := w.update.CheckKeys(keyNames(t)...); err != nil {
			return nil, table.Key{}, err
		}
	}
	return &updateOp{guard: w.guard, key: w.key, update: w.update}, key, nil
}

// guard is the condition of a write.
type guard struct {
	cond *expr.Condition
	tell bool // show the item that failed it
}

// check refuses the write unless the item there (nil for none) satisfies the
// condition. It returns the item decoded, if it had to.
func (g *guard) check(old []byte) (attr.Item, error) {
	if g.cond == nil {
		return nil, nil
	}
	it, err := decode(old)
	if err != nil {
		return nil, err
	}
	ok, err := g.cond.Eval(it)
	if err != nil {
		return nil, toTable(err)
	}
	if ok {
		return it, nil
	}
	refused := &table.Error{Code: codeConditionFailed, Message: "The conditional request failed"}
	if g.tell {
		refused.Item = append([]byte(nil), old...)
	}
	return nil, refused
}

func decode(stored []byte) (attr.Item, error) {
	if stored == nil {
		return nil, nil
	}
	it, err := attr.DecodeItem(stored)
	if err != nil {
		// Not the client's doing, so not the error that its own bytes would get.
		return nil, fmt.Errorf("stored item: %w: %s", engine.ErrCorrupt, err.Error())
	}
	return it, nil
}

// putOp replaces the item.
type putOp struct {
	guard guard
	body  []byte
}

func (o *putOp) Decide(old []byte) (table.Decision, error) {
	if _, err := o.guard.check(old); err != nil {
		return table.Decision{}, err
	}
	return table.Decision{Body: o.body}, nil
}

// Blind implements table.Blind.
func (o *putOp) Blind() bool { return o.guard.cond == nil }

// deleteOp removes the item.
type deleteOp struct{ guard guard }

func (o *deleteOp) Decide(old []byte) (table.Decision, error) {
	if _, err := o.guard.check(old); err != nil {
		return table.Decision{}, err
	}
	return table.Decision{Delete: true, Keep: old == nil}, nil
}

// updateOp changes the item, or makes it out of its key.
type updateOp struct {
	guard  guard
	key    attr.Item
	update *expr.Update // nil: the item just has to be there
}

func (o *updateOp) Decide(old []byte) (table.Decision, error) {
	it, err := o.guard.check(old)
	if err != nil {
		return table.Decision{}, err
	}
	if o.update == nil && old != nil {
		return table.Decision{Keep: true}, nil
	}
	if it == nil && old != nil {
		if it, err = decode(old); err != nil {
			return table.Decision{}, err
		}
	}
	if it == nil {
		it = o.key
	}
	if o.update != nil {
		if it, err = o.update.Apply(it); err != nil {
			return table.Decision{}, toTable(err)
		}
		if old == nil && o.update.RemovesOnly() {
			return table.Decision{Keep: true}, nil
		}
	}
	if attr.ItemSize(it) > attr.MaxItemSize || (o.update != nil && o.update.Charge(it) > attr.MaxItemSize) {
		return table.Decision{}, errValidation("Item size to update has exceeded the maximum allowed size")
	}
	return table.Decision{Body: attr.AppendItem(make([]byte, 0, len(old)+64), it)}, nil
}

const keyMismatch = "The provided key element does not match the schema"

func keyNames(t *table.TableRef) []string {
	if t.Sort == nil {
		return []string{t.Partition.Name}
	}
	return []string{t.Partition.Name, t.Sort.Name}
}

// keyOfItem finds the key in an item of a request.
func keyOfItem(item *fastjson.Object, t *table.TableRef) (table.Key, error) {
	p, err := keyAttribute(item, t.Partition.Name, t.Partition.Type)
	if err != nil {
		return table.Key{}, err
	}
	if t.Sort == nil {
		return encodeKey(p, nil)
	}
	s, err := keyAttribute(item, t.Sort.Name, t.Sort.Type)
	if err != nil {
		return table.Key{}, err
	}
	return encodeKey(p, &s)
}

// hasKey reports whether an item has key attributes of the right types.
func hasKey(item *fastjson.Object, t *table.TableRef) bool {
	has := func(name, typ string) bool { return item.Get(name).Get(typ) != nil }
	return has(t.Partition.Name, t.Partition.Type) && (t.Sort == nil || has(t.Sort.Name, t.Sort.Type))
}

func keyAttribute(item *fastjson.Object, name, typ string) (attr.Value, error) {
	j := item.Get(name)
	if j == nil {
		return attr.Value{}, errValidation("One or more parameter values were invalid: Missing the key %s in the item", name)
	}
	v, err := attr.FromJSON(j)
	if err != nil {
		return attr.Value{}, err
	}
	return v, attr.CheckKey(name, typ, v)
}

// keyOf encodes a request's Key, which has the key attributes and no others.
func keyOf(it attr.Item, t *table.TableRef) (table.Key, error) {
	if len(it) != len(keyNames(t)) {
		return table.Key{}, errValidation(keyMismatch)
	}
	p, err := keyPart(it, t.Partition.Name, t.Partition.Type)
	if err != nil {
		return table.Key{}, err
	}
	if t.Sort == nil {
		return encodeKey(p, nil)
	}
	s, err := keyPart(it, t.Sort.Name, t.Sort.Type)
	if err != nil {
		return table.Key{}, err
	}
	return encodeKey(p, &s)
}

func keyPart(it attr.Item, name, typ string) (attr.Value, error) {
	v, ok := it.Get(name)
	if !ok || v.Type.String() != typ {
		return attr.Value{}, errValidation(keyMismatch)
	}
	return v, attr.CheckKey(name, typ, v)
}

// encodeKey makes the key's bytes, both parts in one piece of memory.
func encodeKey(p attr.Value, s *attr.Value) (table.Key, error) {
	if err := attr.CheckPartitionKeySize(p); err != nil {
		return table.Key{}, err
	}
	n := len(p.Str) + 8
	if s != nil {
		if err := attr.CheckSortKeySize(*s); err != nil {
			return table.Key{}, err
		}
		n += len(s.Str) + 8
	}
	b, err := attr.AppendKey(make([]byte, 0, n), p)
	if err != nil {
		return table.Key{}, err
	}
	key := table.Key{Partition: slices.Clip(b)}
	if s == nil {
		return key, nil
	}
	from := len(b)
	if b, err = attr.AppendKey(b, *s); err != nil {
		return table.Key{}, err
	}
	key.Sort = b[from:]
	return key, nil
}
