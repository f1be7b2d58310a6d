package dynamo

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/api/dynamo/expr"
	"github.com/antipode-io/antipode/internal/data/table"
)

// pageSize bounds what one page of a query or scan reads, in bytes of items by
// DynamoDB's rules.
const pageSize = 1 << 20

const (
	selectCount     = "COUNT"
	selectSpecific  = "SPECIFIC_ATTRIBUTES"
	selectAll       = "ALL_ATTRIBUTES"
	selectProjected = "ALL_PROJECTED_ATTRIBUTES"
)

// page is one page of a query or scan.
type page struct {
	common
	limit      int64 // 0 is none
	count      bool  // only the number
	filter     *expr.Condition
	filterName string // what messages call it
	projection *expr.Projection
	start      attr.Item // ExclusiveStartKey
	req        table.RangeRequest

	matched, scanned int64
	size             int // of the items read, by DynamoDB's rules
	last             table.Key
	more             bool
}

// readPage reads what queries and scans have in common.
func (c *call) readPage(v *violations, limitAt func(*violations)) (*page, string, error) {
	p := &page{}
	var err error
	if p.capacity, err = v.enum(c.root, "ReturnConsumedCapacity", capacityIndexes, capacityTotal, "NONE"); err != nil {
		return nil, "", err
	}
	if p.name, err = v.tableName(c.root); err != nil {
		return nil, "", err
	}
	limit, limited, err := readInt(c.root, "Limit")
	if err != nil {
		return nil, "", err
	}
	if p.limit = limit; limited && limit < 1 {
		limitAt(v)
	}
	sel, err := v.enum(c.root, "Select", selectSpecific, selectCount, selectAll, selectProjected)
	if err != nil {
		return nil, "", err
	}
	p.count = sel == selectCount
	if p.req.Consistent, _, err = readBool(c.root, "ConsistentRead"); err != nil {
		return nil, "", err
	}
	return p, sel, nil
}

// readStart reads ExclusiveStartKey, as far as that goes without the table.
func (c *call) readStart(p *page) error {
	v := member(c.root, "ExclusiveStartKey")
	if v == nil {
		return nil
	}
	var err error
	if p.start, err = attr.ItemFromJSON(v); err != nil {
		if w := wireOf(err); w.code == codeValidation {
			return errValidation("The provided starting key is invalid: %s", w.message)
		}
	}
	return err
}

// checkSelect refuses a Select that contradicts the rest of the request.
func (c *call) checkSelect(sel, doing string) error {
	asked := ""
	for _, n := range []string{string(expr.KindProjection), attributesToGet} {
		if member(c.root, n) != nil {
			asked = n
		}
	}
	index, there, err := readString(c.root, "IndexName")
	if err != nil {
		return err
	}
	switch {
	case there:
		return errValidation("The table does not have the specified index: %s", index)
	case sel == selectSpecific && asked == "":
		return errValidation("Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES")
	case sel == selectProjected:
		return errValidation("ALL_PROJECTED_ATTRIBUTES can be used only when %s using an IndexName", doing)
	case (sel == selectAll || sel == selectCount) && asked != "":
		what := sel
		if sel == selectCount {
			what = "only the Count"
		}
		return errValidation("Cannot specify the %s when choosing to get %s", asked, what)
	}
	return nil
}

func (c *call) query() error {
	var v violations
	p, sel, err := c.readPage(&v, func(v *violations) {
		*v = append(*v, "Value at 'Limit' failed to satisfy constraint: Member must have value greater than or equal to 1")
	})
	if err != nil {
		return err
	}
	if err := v.legacyWords(c.root, queryFilter, keyConditions); err != nil {
		return err
	}
	if err := v.err(); err != nil {
		return err
	}
	if err := c.checkSelect(sel, "Querying"); err != nil {
		return err
	}
	if err := c.readStart(p); err != nil {
		return err
	}
	forward, there, err := readBool(c.root, "ScanIndexForward")
	if err != nil {
		return err
	}
	p.req.Reverse = there && !forward
	e, err := readExpressions(c.root,
		[]string{string(expr.KindProjection), string(expr.KindFilter), string(expr.KindKeyCondition)},
		[]string{string(expr.KindFilter), string(expr.KindKeyCondition)},
		[]string{attributesToGet, queryFilter, conditionalOperator, keyConditions})
	if err != nil {
		return err
	}
	if err := p.readFilter(e, queryFilter); err != nil {
		return err
	}
	if p.projection, err = e.readProjection(); err != nil {
		return err
	}
	text, there, err := e.text(string(expr.KindKeyCondition))
	if err != nil {
		return err
	}
	var legacy []expr.Comparison
	if !there {
		if member(c.root, keyConditions) == nil {
			return errValidation("Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.")
		}
		if legacy, err = readComparisons(c.root, keyConditions); err != nil {
			return err
		}
	}
	t, err := c.table(p.name)
	if err != nil {
		return err
	}
	kc, err := keyConditionOf(text, there, legacy, e, t)
	if err != nil {
		return err
	}
	if err := p.boundBy(kc, t); err != nil {
		return err
	}
	return c.answerPage(p)
}

// readFilter reads the filter in either of its forms.
func (p *page) readFilter(e *expressions, legacy string) (err error) {
	p.filterName = "Filter Expression"
	if p.filter, err = e.condition(expr.KindFilter); err != nil || p.filter != nil {
		return err
	}
	p.filterName = legacy
	p.filter, err = readLegacyCondition(e.o, legacy)
	return err
}

// keyConditionOf reads a key condition in either of its forms.
func keyConditionOf(text string, isText bool, legacy []expr.Comparison, e *expressions, t *table.TableRef) (*expr.KeyCondition, error) {
	sortName, sortType := "", ""
	if t.Sort != nil {
		sortName, sortType = t.Sort.Name, t.Sort.Type
	}
	var kc *expr.KeyCondition
	var err error
	if isText {
		kc, err = expr.ParseKeyCondition(text, &e.params, t.Partition.Name, sortName)
	} else {
		kc, err = expr.CompareKeys(legacy, t.Partition.Name, sortName)
	}
	if err != nil {
		return nil, err
	}
	if err := e.params.CheckUnused(); err != nil {
		return nil, err
	}
	return kc, kc.CheckTypes(t.Partition.Type, sortType)
}

// boundBy finds the partition and the range of sort keys that a query reads.
func (p *page) boundBy(kc *expr.KeyCondition, t *table.TableRef) error {
	p.req.Table = t
	if p.filter != nil {
		if err := p.filter.CheckNoKeys(p.filterName, keyNames(t)...); err != nil {
			return err
		}
	}
	if err := attr.CheckKey(t.Partition.Name, t.Partition.Type, kc.Partition); err != nil {
		return err
	}
	key, err := encodeKey(kc.Partition, nil)
	if err != nil {
		return err
	}
	p.req.Partition = key.Partition
	if p.req.Lower, p.req.Upper, err = kc.Bounds(); err != nil {
		return err
	}
	return p.startWithin()
}

// startWithin checks that a query goes on where it can have stopped.
func (p *page) startWithin() error {
	if p.start == nil {
		return nil
	}
	after, err := keyOf(p.start, p.req.Table)
	if err != nil {
		return errValidation("The provided starting key is invalid")
	}
	if !bytes.Equal(after.Partition, p.req.Partition) {
		return errValidation("The provided starting key is outside query boundaries based on provided conditions")
	}
	if bytes.Compare(after.Sort, p.req.Lower) < 0 || p.req.Upper != nil && bytes.Compare(after.Sort, p.req.Upper) >= 0 {
		return errValidation("The provided starting key does not match the range key predicate")
	}
	p.req.After = &after
	return nil
}

func (c *call) scan() error {
	var v violations
	p, sel, err := c.readPage(&v, func(v *violations) {
		v.add(0, "limit", "Member must have value greater than or equal to 1")
	})
	if err != nil {
		return err
	}
	if err := v.legacyWords(c.root, scanFilter); err != nil {
		return err
	}
	if err := c.readSegment(&v, p); err != nil {
		return err
	}
	if err := c.checkSelect(sel, "Scanning"); err != nil {
		return err
	}
	if err := c.readStart(p); err != nil {
		return err
	}
	e, err := readExpressions(c.root,
		[]string{string(expr.KindProjection), string(expr.KindFilter)}, []string{string(expr.KindFilter)},
		[]string{attributesToGet, scanFilter, conditionalOperator})
	if err != nil {
		return err
	}
	if err := p.readFilter(e, scanFilter); err != nil {
		return err
	}
	if p.projection, err = e.readProjection(); err != nil {
		return err
	}
	if err := e.params.CheckUnused(); err != nil {
		return err
	}
	t, err := c.table(p.name)
	if err != nil {
		return err
	}
	p.req.Table = t
	if p.start != nil {
		after, err := keyOf(p.start, t)
		if err != nil {
			return errValidation("The provided starting key is invalid: %s", wireOf(err).message)
		}
		if !p.req.Covers(after) {
			return errValidation("The provided starting key is invalid: Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. "+
				"TotalSegments: %d Segment: %d", p.req.Segments, p.req.Segment)
		}
		p.req.After = &after
	}
	return c.answerPage(p)
}

const maxSegments = 1000000

// readSegment reads which part of a parallel scan this is.
func (c *call) readSegment(v *violations, p *page) error {
	segment, hasSegment, err := readInt(c.root, "Segment")
	if err != nil {
		return err
	}
	total, hasTotal, err := readInt(c.root, "TotalSegments")
	if err != nil {
		return err
	}
	if hasTotal && total < 1 {
		v.add(total, "totalSegments", "Member must have value greater than or equal to 1")
	}
	if hasTotal && total > maxSegments {
		v.add(total, "totalSegments", fmt.Sprintf("Member must have value less than or equal to %d", maxSegments))
	}
	if hasSegment && segment < 0 {
		v.add(segment, "segment", "Member must have value greater than or equal to 0")
	}
	if err := v.err(); err != nil {
		return err
	}
	const missing = "The %s parameter is required but was not present in the request when %s is present"
	switch {
	case hasSegment && !hasTotal:
		return errValidation(missing, "TotalSegments", "Segment parameter")
	case hasTotal && !hasSegment:
		return errValidation(missing, "Segment", "parameter TotalSegments")
	case hasTotal && segment >= total:
		return errValidation("The Segment parameter is zero-based and must be less than parameter TotalSegments: "+
			"Segment: %d is not less than TotalSegments: %d", segment, total)
	}
	p.req.Segment, p.req.Segments = int(segment), int(total)
	return nil
}

// answerPage reads the page and writes it out, item by item.
func (c *call) answerPage(p *page) error {
	c.out = append(c.out, '{')
	if !p.count {
		c.out = append(c.out, `"Items":[`...)
	}
	err := c.s.cfg.Tables.Range(c.ctx, p.req, func(key table.Key, item []byte) (bool, error) { return c.visit(p, key, item) })
	if err != nil {
		return err
	}
	if !p.count {
		c.out = append(c.out, `],`...)
	}
	c.out = append(c.out, `"Count":`...)
	c.out = strconv.AppendInt(c.out, p.matched, 10)
	c.out = append(c.out, `,"ScannedCount":`...)
	c.out = strconv.AppendInt(c.out, p.scanned, 10)
	if p.more {
		c.out = append(c.out, `,"LastEvaluatedKey":`...)
		if c.out, err = appendKeyOf(c.out, p.req.Table, p.last); err != nil {
			return err
		}
	}
	if p.counts() {
		c.out = append(c.out, `,"ConsumedCapacity":`...)
		c.out = appendCapacity(c.out, &p.common, readUnits(p.size, p.req.Consistent))
	}
	c.out = append(c.out, '}')
	return nil
}

// visit takes one item into the page, or ends the page before it.
func (c *call) visit(p *page, key table.Key, item []byte) (more bool, err error) {
	size, err := sizeOf(item)
	if err != nil {
		return false, err
	}
	if p.scanned > 0 && p.size+size > pageSize {
		p.more = true
		return false, nil
	}
	p.scanned++
	p.size += size
	p.last.Partition = append(p.last.Partition[:0], key.Partition...)
	p.last.Sort = append(p.last.Sort[:0], key.Sort...)
	if err := c.take(p, item); err != nil {
		return false, err
	}
	if p.limit > 0 && p.scanned >= p.limit {
		p.more = true
		return false, nil
	}
	return true, nil
}

// take filters, projects and appends an item. One that no expression looks
// into goes out as it was stored.
func (c *call) take(p *page, item []byte) error {
	var it attr.Item
	var err error
	if p.filter != nil || p.projection != nil {
		if it, err = decode(item); err != nil {
			return err
		}
	}
	if p.filter != nil {
		if ok, err := p.filter.Eval(it); err != nil || !ok {
			return err
		}
	}
	p.matched++
	if p.count {
		return nil
	}
	if p.matched > 1 {
		c.out = append(c.out, ',')
	}
	if p.projection != nil {
		c.out = attr.AppendItem(c.out, p.projection.Apply(it))
		return nil
	}
	c.out = append(c.out, item...)
	return nil
}

// visitSorted visits the members of a JSON object by name, so that answers and
// errors don't depend on their order. Of several of one name the last counts.
func visitSorted(o *fastjson.Object, visit func(name string, v *fastjson.Value) error) error {
	type field struct {
		name string
		v    *fastjson.Value
	}
	fields := make([]field, 0, o.Len())
	o.Visit(func(key []byte, v *fastjson.Value) { fields = append(fields, field{string(key), v}) })
	slices.SortStableFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for i, f := range fields {
		if i+1 < len(fields) && fields[i+1].name == f.name {
			continue
		}
		if err := visit(f.name, f.v); err != nil {
			return err
		}
	}
	return nil
}
