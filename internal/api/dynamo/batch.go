package dynamo

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/api/dynamo/expr"
	"github.com/antipode-io/antipode/internal/data/table"
)

const (
	maxBatchGet   = 100
	maxBatchWrite = 25
	// maxAnswer bounds the items of one batch in bytes; what is beyond it is
	// left to the client's next request.
	maxAnswer = 16 << 20
	// parallel is how many items of a batch are on their way to other regions,
	// or to disk, at a time.
	parallel = 25
)

// batchItem is one item of a batch.
type batchItem struct {
	table *table.TableRef
	key   table.Key
	json  *fastjson.Value // what the client sent, for UnprocessedItems and UnprocessedKeys
	req   table.WriteRequest
	size  int
	got   []byte
	err   error
}

// batchTable is the part of a batch that is about one table.
type batchTable struct {
	common
	table      *table.TableRef
	json       *fastjson.Value
	items      []*batchItem
	consistent bool
	projection *expr.Projection
	units      float64
}

// readBatch checks what both batches have in common and returns RequestItems.
func (c *call) readBatch() (m common, items *fastjson.Object, err error) {
	var v violations
	if m.capacity, err = v.enum(c.root, "ReturnConsumedCapacity", capacityIndexes, capacityTotal, "NONE"); err != nil {
		return m, nil, err
	}
	if _, err = v.enum(c.root, "ReturnItemCollectionMetrics", "SIZE", "NONE"); err != nil {
		return m, nil, err
	}
	if items, err = readMap(c.root, "RequestItems"); err != nil {
		return m, nil, err
	}
	switch {
	case items == nil:
		v.add(nil, "requestItems", notNull)
	case items.Len() == 0:
		v = append(v, "Value at 'RequestItems' failed to satisfy constraint: Member must have length greater than or equal to 1")
	default:
		v = append(badNames(items), v...)
	}
	return m, items, v.err()
}

// badNames checks the names of a batch's tables.
func badNames(items *fastjson.Object) (v violations) {
	bad := false
	items.Visit(func(key []byte, _ *fastjson.Value) {
		name := string(key)
		if _, ok := nameOfARN(name); !ok && (!isName(name) || len(name) > maxTableName) {
			bad = true
		}
	})
	if bad {
		v.add(string(items.MarshalTo(nil)), "requestItems", "Map keys must satisfy constraint: "+
			"[Member must have length less than or equal to 255, Member must have length greater than or equal to 3, "+
			namePattern+"]")
	}
	return v
}

// tableOfBatch finds one of the batch's tables.
func (c *call) tableOfBatch(m common, name string, v *fastjson.Value) (*batchTable, error) {
	b := &batchTable{common: m, json: v}
	b.name = name
	if short, ok := nameOfARN(name); ok {
		b.name = short
	}
	var err error
	b.table, err = c.table(b.name)
	return b, err
}

func (c *call) batchGet() error {
	m, items, err := c.readBatch()
	if err != nil {
		return err
	}
	var tables []*batchTable
	total := 0
	err = visitSorted(items, func(name string, v *fastjson.Value) error {
		b, err := c.readGets(m, name, v)
		if err != nil {
			return err
		}
		if total += len(b.items); total > maxBatchGet {
			return errValidation("Too many items requested for the BatchGetItem call")
		}
		tables = append(tables, b)
		return nil
	})
	if err != nil {
		return err
	}
	for _, b := range tables {
		if b.table, err = c.table(b.name); err != nil {
			return err
		}
		if err := b.bindGets(); err != nil {
			return err
		}
	}
	if err := c.get(tables); err != nil {
		return err
	}
	return c.answerGets(tables)
}

// readGets reads the part of a batch that is about one table, as far as that
// goes without the table.
func (c *call) readGets(m common, name string, v *fastjson.Value) (*batchTable, error) {
	b := &batchTable{common: m, json: v}
	b.name = name
	if short, ok := nameOfARN(name); ok {
		b.name = short
	}
	o, err := asMap(v)
	if err != nil {
		return nil, err
	}
	keys, there, err := readList(o, "Keys")
	if err != nil {
		return nil, err
	}
	const at = "Value at 'RequestItems.%s.member.Keys' failed to satisfy constraint: "
	var bad violations
	switch {
	case !there:
		bad.add(nil, "requestItems."+name+".member.keys", notNull)
	case len(keys) == 0:
		bad = append(bad, fmt.Sprintf(at+"Member must have length greater than or equal to 1", name))
	case len(keys) > maxBatchGet:
		bad = append(bad, fmt.Sprintf(at+"Member must have length less than or equal to %d", name, maxBatchGet))
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	if b.consistent, _, err = readBool(o, "ConsistentRead"); err != nil {
		return nil, err
	}
	e, err := readExpressions(o, []string{string(expr.KindProjection)}, nil, []string{attributesToGet})
	if err != nil {
		return nil, err
	}
	if b.projection, err = e.readProjection(); err != nil {
		return nil, err
	}
	for _, k := range keys {
		b.items = append(b.items, &batchItem{json: k})
	}
	return b, e.params.CheckUnused()
}

func (b *batchTable) bindGets() error {
	for _, i := range b.items {
		it, err := attr.ItemFromJSON(i.json)
		if err != nil {
			return err
		}
		i.table = b.table
		if i.key, err = keyOf(it, b.table); err != nil {
			return err
		}
	}
	return b.refuseDuplicates()
}

// refuseDuplicates refuses a batch in which two items have one key.
func (b *batchTable) refuseDuplicates() error {
	seen := make(map[string]struct{}, len(b.items))
	var id []byte
	for _, i := range b.items {
		id = fmt.Appendf(id[:0], "%d:", len(i.key.Partition))
		id = append(append(id, i.key.Partition...), i.key.Sort...)
		if _, twice := seen[string(id)]; twice {
			return errValidation("Provided list of item keys contains duplicates")
		}
		seen[string(id)] = struct{}{}
	}
	return nil
}

// get reads all items. Those that another region may have to be asked for are
// read at the same time.
func (c *call) get(tables []*batchTable) error {
	var far []*batchItem
	for _, b := range tables {
		ask := b.consistent && b.table.Writes != antipode.WriteLocal && b.table.Writer != c.s.cfg.Region
		for _, i := range b.items {
			if ask {
				far = append(far, i)
				continue
			}
			i.got, i.err = c.s.cfg.Tables.Get(c.ctx, i.table, i.key, b.consistent, nil)
		}
	}
	inParallel(far, func(i *batchItem) {
		i.got, i.err = c.s.cfg.Tables.Get(c.ctx, i.table, i.key, true, nil)
	})
	return firstFatal(tables)
}

// inParallel handles items at the same time and returns when all are done.
func inParallel(items []*batchItem, handle func(*batchItem)) {
	if len(items) == 1 {
		handle(items[0])
		return
	}
	var wg sync.WaitGroup
	free := make(chan struct{}, parallel)
	for _, i := range items {
		free <- struct{}{}
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					i.err = fmt.Errorf("%w: %v", errPanic, p)
				}
				<-free
			}()
			handle(i)
		})
	}
	wg.Wait()
}

// firstFatal returns the error that makes a whole batch fail: one that another
// attempt would meet again, or any where nothing at all was done.
func firstFatal(tables []*batchTable) error {
	done := false
	var first error
	for _, b := range tables {
		for _, i := range b.items {
			switch {
			case i.err == nil:
				done = true
			case !retryable(i.err):
				return i.err
			case first == nil:
				first = i.err
			}
		}
	}
	if done {
		return nil
	}
	return first
}

// retryable reports whether an item may be handed back as unprocessed: nothing
// was done, and another attempt may do it.
func retryable(err error) bool {
	return errors.Is(err, table.ErrUnavailable) || errors.Is(err, table.ErrThrottled) ||
		errors.Is(err, table.ErrOutcomeUnknown) // what a batch can hold may be written twice
}

func (c *call) answerGets(tables []*batchTable) error {
	c.out = append(c.out, `{"Responses":{`...)
	for n, b := range tables {
		if n > 0 {
			c.out = append(c.out, ',')
		}
		c.out = append(append(append(c.out, '"'), b.name...), `":[`...)
		first := true
		for _, i := range b.items {
			switch {
			case i.err != nil:
				continue
			case i.got == nil:
				b.units += readUnits(0, b.consistent)
				continue
			}
			if len(c.out)+len(i.got) > maxAnswer {
				i.err = table.ErrThrottled
				continue
			}
			if !first {
				c.out = append(c.out, ',')
			}
			first = false
			if err := c.appendBatched(b, i.got); err != nil {
				return err
			}
		}
		c.out = append(c.out, ']')
	}
	c.out = append(c.out, `},"UnprocessedKeys":{`...)
	first := true
	for _, b := range tables {
		c.out, first = b.appendUnprocessedKeys(c.out, first)
	}
	c.out = append(c.out, '}')
	c.appendCapacities(tables)
	c.out = append(c.out, '}')
	return nil
}

func (c *call) appendBatched(b *batchTable, stored []byte) error {
	if b.counts() {
		size, err := sizeOf(stored)
		if err != nil {
			return err
		}
		b.units += readUnits(size, b.consistent)
	}
	if b.projection == nil {
		c.out = append(c.out, stored...)
		return nil
	}
	it, err := decode(stored)
	if err != nil {
		return err
	}
	c.out = attr.AppendItem(c.out, b.projection.Apply(it))
	return nil
}

// appendUnprocessedKeys gives back the keys that were not read, with the rest
// of the request as it was, so that it can be sent again.
func (b *batchTable) appendUnprocessedKeys(dst []byte, first bool) ([]byte, bool) {
	if !slices.ContainsFunc(b.items, func(i *batchItem) bool { return i.err != nil }) {
		return dst, first
	}
	if !first {
		dst = append(dst, ',')
	}
	dst = append(append(append(dst, '"'), b.name...), `":{"Keys":[`...)
	n := 0
	for _, i := range b.items {
		if i.err == nil {
			continue
		}
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		dst = i.json.MarshalTo(dst)
	}
	dst = append(dst, ']')
	for _, name := range []string{"ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames", attributesToGet} {
		if v := b.json.Get(name); v != nil {
			dst = append(append(append(dst, `,"`...), name...), `":`...)
			dst = v.MarshalTo(dst)
		}
	}
	return append(dst, '}'), false
}

// appendCapacities appends what the batch cost, per table.
func (c *call) appendCapacities(tables []*batchTable) {
	if len(tables) == 0 || !tables[0].counts() {
		return
	}
	c.out = append(c.out, `,"ConsumedCapacity":[`...)
	for n, b := range tables {
		if n > 0 {
			c.out = append(c.out, ',')
		}
		c.out = appendCapacity(c.out, &b.common, b.units)
	}
	c.out = append(c.out, ']')
}

func (c *call) batchWrite() error {
	m, items, err := c.readBatch()
	if err != nil {
		return err
	}
	var tables []*batchTable
	var all []*batchItem
	if err := checkWriteCounts(items); err != nil {
		return err
	}
	err = visitSorted(items, func(name string, v *fastjson.Value) error {
		b, err := c.tableOfBatch(m, name, v)
		if err != nil {
			return err
		}
		if err := b.readWrites(v); err != nil {
			return err
		}
		tables = append(tables, b)
		if all = append(all, b.items...); len(all) > maxBatchWrite {
			return errValidation("Too many items requested for the BatchWriteItem call")
		}
		return nil
	})
	if err != nil {
		return err
	}
	inParallel(all, func(i *batchItem) {
		var res table.WriteResult
		if res, i.err = c.s.cfg.Tables.Write(c.ctx, i.req); i.err == nil && i.req.WantOld {
			var n int
			if n, i.err = sizeOf(res.Old); i.err == nil {
				i.size = max(i.size, n)
			}
		}
	})
	if err := firstFatal(tables); err != nil {
		return err
	}
	c.answerWrites(tables)
	return nil
}

// checkWriteCounts refuses lists of writes that are too long or empty.
func checkWriteCounts(items *fastjson.Object) error {
	return visitSorted(items, func(name string, v *fastjson.Value) error {
		list, err := v.Array()
		if err != nil {
			return errSerialization("Unexpected field type")
		}
		if len(list) > 0 && len(list) <= maxBatchWrite {
			return nil
		}
		shown := "[]"
		if len(list) > 0 {
			shown = string(v.MarshalTo(nil))
			if len(shown) > 4096 {
				shown = strings.ToValidUTF8(shown[:4096], "") + "..."
			}
		}
		var bad violations
		bad.add("{"+name+"="+shown+"}", "requestItems", fmt.Sprintf("Map value must satisfy constraint: "+
			"[Member must have length less than or equal to %d, Member must have length greater than or equal to 1]", maxBatchWrite))
		return bad.err()
	})
}

// readWrites makes each element a write of its own.
func (b *batchTable) readWrites(v *fastjson.Value) error {
	for _, e := range v.GetArray() {
		o, err := asMap(e)
		if err != nil {
			return err
		}
		put, err := readMap(o, "PutRequest")
		if err != nil {
			return err
		}
		del, err := readMap(o, "DeleteRequest")
		if err != nil {
			return err
		}
		if (put == nil) == (del == nil) {
			return errValidation("Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes")
		}
		i := &batchItem{table: b.table, json: e}
		if put != nil {
			err = b.readOne(i, verbPut, put, "Item")
		} else {
			err = b.readOne(i, verbDelete, del, "Key")
		}
		if err != nil {
			return err
		}
		b.items = append(b.items, i)
	}
	return b.refuseDuplicates()
}

func (b *batchTable) readOne(i *batchItem, verb string, o *fastjson.Object, subject string) error {
	if member(o, subject) == nil {
		var bad violations
		bad.add(nil, fmt.Sprintf("requestItems.%s.member.%d.member.%sRequest.%s", b.name, len(b.items)+1,
			map[string]string{verbPut: "put", verbDelete: "delete"}[verb], lowerFirst(subject)), notNull)
		return bad.err()
	}
	w, err := readWrite(verb, o, 512)
	if err != nil {
		return err
	}
	w.batch = true
	op, key, err := w.bind(b.table)
	if err != nil {
		return err
	}
	i.key = key
	// Forwarded, the element is a request of its own.
	var payload bytes.Buffer
	payload.WriteString(`{"` + subject + `":`)
	if verb == verbPut {
		payload.Write(w.body)
	} else {
		payload.Write(attr.AppendItem(nil, w.key))
	}
	payload.WriteByte('}')
	i.req = table.WriteRequest{Table: b.table, Key: key, Op: op, Verb: verb, Payload: payload.Bytes(), WantOld: b.counts()}
	if b.counts() && w.body != nil {
		i.size, err = sizeOf(w.body)
	}
	return err
}

func (c *call) answerWrites(tables []*batchTable) {
	c.out = append(c.out, `{"UnprocessedItems":{`...)
	first := true
	for _, b := range tables {
		n := 0
		for _, i := range b.items {
			if i.err == nil {
				b.units += writeUnits(i.size)
				continue
			}
			if n++; n == 1 {
				if !first {
					c.out = append(c.out, ',')
				}
				first = false
				c.out = append(append(append(c.out, '"'), b.name...), `":[`...)
			} else {
				c.out = append(c.out, ',')
			}
			c.out = i.json.MarshalTo(c.out)
		}
		if n > 0 {
			c.out = append(c.out, ']')
		}
	}
	c.out = append(c.out, '}')
	c.appendCapacities(tables)
	c.out = append(c.out, '}')
}
