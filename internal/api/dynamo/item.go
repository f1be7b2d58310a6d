package dynamo

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/api/dynamo/expr"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/engine"
)

// account is the one account that there is.
const account = "000000000000"

func (c *call) arn(name string) string {
	return "arn:aws:dynamodb:" + string(c.s.cfg.Region) + ":" + account + ":table/" + name
}

// authorize refuses what is beyond the key's scope.
func (c *call) authorize(name string) error {
	if c.op.write && c.key.Scope.ReadOnly {
		return c.errDenied(c.arn(name), "the access key is read-only")
	}
	if !c.key.Scope.AllowsTable(name) {
		return c.errDenied(c.arn(name), fmt.Sprintf("the access key is for the tables %v only", c.key.Scope.Tables))
	}
	return nil
}

// table finds a table that the key may use for this operation.
func (c *call) table(name string) (*table.TableRef, error) {
	if err := c.authorize(name); err != nil {
		return nil, err
	}
	t, err := c.s.cfg.Tables.Table(name)
	if !errors.Is(err, table.ErrNoTable) {
		return t, err
	}
	if other, ok := c.s.cfg.Control.State().Tables[name]; ok && !other.HasReplica(c.s.cfg.Region) {
		return nil, c.errElsewhere(other)
	}
	return nil, err
}

// common are members that all calls on items have.
type common struct {
	name     string
	capacity string // ReturnConsumedCapacity
}

const (
	capacityTotal   = "TOTAL"
	capacityIndexes = "INDEXES"
)

func (m *common) counts() bool { return m.capacity == capacityTotal || m.capacity == capacityIndexes }

func (c *call) getItem() error {
	var v violations
	var m common
	var err error
	if m.capacity, err = v.enum(c.root, "ReturnConsumedCapacity", capacityIndexes, capacityTotal, "NONE"); err != nil {
		return err
	}
	if m.name, err = v.tableName(c.root); err != nil {
		return err
	}
	keyJSON := member(c.root, "Key")
	if keyJSON == nil {
		v.add(nil, "key", notNull)
	}
	if err := v.err(); err != nil {
		return err
	}
	consistent, _, err := readBool(c.root, "ConsistentRead")
	if err != nil {
		return err
	}
	it, err := attr.ItemFromJSON(keyJSON)
	if err != nil {
		return err
	}
	pr, err := readGetProjection(c)
	if err != nil {
		return err
	}
	t, err := c.table(m.name)
	if err != nil {
		return err
	}
	key, err := keyOf(it, t)
	if err != nil {
		return err
	}
	size, err := c.appendGot(t, key, consistent, pr, m.counts())
	if err != nil {
		return err
	}
	if m.counts() {
		if len(c.out) > 1 {
			c.out = append(c.out, ',')
		}
		c.out = append(c.out, `"ConsumedCapacity":`...)
		c.out = appendCapacity(c.out, &m, readUnits(size, consistent))
	}
	c.out = append(c.out, '}')
	return nil
}

func readGetProjection(c *call) (*expr.Projection, error) {
	e, err := readExpressions(c.root, []string{string(expr.KindProjection)}, nil, []string{attributesToGet})
	if err != nil {
		return nil, err
	}
	pr, err := e.readProjection()
	if err != nil {
		return nil, err
	}
	return pr, e.params.CheckUnused()
}

// appendGot starts the answer with the item, and measures that if it has to.
func (c *call) appendGot(t *table.TableRef, key table.Key, consistent bool, pr *expr.Projection, measure bool) (size int, err error) {
	const head = `{"Item":`
	if pr == nil {
		// The item's bytes go out as they were stored.
		c.out = append(c.out, head...)
		out, err := c.s.cfg.Tables.Get(c.ctx, t, key, consistent, c.out)
		switch {
		case err != nil:
			c.out = c.out[:0]
			return 0, err
		case out == nil:
			c.out = append(c.out[:0], '{')
			return 0, nil
		}
		c.out = out
		if measure {
			size, err = sizeOf(out[len(head):])
		}
		return size, err
	}
	stored, err := c.s.cfg.Tables.Get(c.ctx, t, key, consistent, c.buf[:0])
	if err != nil {
		return 0, err
	}
	c.out = append(c.out, '{')
	if stored == nil {
		return 0, nil
	}
	c.buf = stored
	full, err := decode(stored)
	if err != nil {
		return 0, err
	}
	c.out = append(c.out, head[1:]...)
	c.out = attr.AppendItem(c.out, pr.Apply(full))
	return attr.ItemSize(full), nil
}

// StoredSize measures a stored item by DynamoDB's rules, as TableSizeBytes counts
// it. What can't be measured counts with its bytes.
func StoredSize(stored []byte) int {
	n, err := sizeOf(stored)
	if err != nil {
		return len(stored)
	}
	return n
}

// sizeOf measures a stored item by DynamoDB's rules; 0 where there is none.
func sizeOf(stored []byte) (int, error) {
	if stored == nil {
		return 0, nil
	}
	n, err := attr.StoredSize(stored)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", engine.ErrCorrupt, err)
	}
	return n, nil
}

// writeItem is PutItem, UpdateItem and DeleteItem.
func (c *call) writeItem(verb string) error {
	m, returns, err := c.readWriteMembers(verb)
	if err != nil {
		return err
	}
	w, err := readWrite(verb, c.root, len(c.body))
	if err != nil {
		return err
	}
	t, err := c.table(m.name)
	if err != nil {
		return err
	}
	op, key, err := w.bind(t)
	if err != nil {
		return err
	}
	res, err := c.s.cfg.Tables.Write(c.ctx, table.WriteRequest{
		Table: t, Key: key, Op: op, Verb: verb, Payload: c.body,
		WantOld: m.counts() || returns == allOld || returns == "UPDATED_OLD",
		WantNew: (m.counts() && verb == verbUpdate) || returns == "ALL_NEW" || returns == "UPDATED_NEW",
	})
	if errors.Is(err, table.ErrOutcomeUnknown) && verb != verbUpdate && w.guard.cond == nil {
		return fmt.Errorf("%w: %w; writing it again does no harm", table.ErrUnavailable, err)
	}
	if err != nil {
		return err
	}
	return c.answerWrite(m, w, returns, &res)
}

// readWriteMembers checks the members of a single write. A bad table name
// hides what else is wrong, unless the item or its key is missing altogether.
func (c *call) readWriteMembers(verb string) (m common, returns string, err error) {
	var v, name violations
	if m.capacity, err = v.enum(c.root, "ReturnConsumedCapacity", capacityIndexes, capacityTotal, "NONE"); err != nil {
		return m, "", err
	}
	if _, err = v.enum(c.root, "ReturnItemCollectionMetrics", "SIZE", "NONE"); err != nil {
		return m, "", err
	}
	if m.name, err = name.tableName(c.root); err != nil {
		return m, "", err
	}
	v = append(v, name...)
	if returns, err = v.enum(c.root, "ReturnValues", "ALL_NEW", "UPDATED_OLD", allOld, "NONE", "UPDATED_NEW"); err != nil {
		return m, "", err
	}
	if _, err = v.enum(c.root, "ReturnValuesOnConditionCheckFailure", allOld, "NONE"); err != nil {
		return m, "", err
	}
	subject := "Key"
	if verb == verbPut {
		subject = "Item"
	}
	missing := member(c.root, subject) == nil
	if missing {
		v.add(nil, lowerFirst(subject), notNull)
	}
	if missing || len(name) == 0 {
		legacy := []string{expected}
		if verb == verbUpdate {
			legacy = append(legacy, attributeUpdates)
		}
		if err := v.legacyWords(c.root, legacy...); err != nil {
			return m, "", err
		}
	} else {
		v = name
	}
	if err := v.err(); err != nil {
		return m, "", err
	}
	if verb != verbUpdate && returns != "" && returns != allOld && returns != "NONE" {
		return m, "", enveloped(errValidation("ReturnValues can only be ALL_OLD or NONE"))
	}
	return m, returns, nil
}

func (c *call) answerWrite(m common, w *write, returns string, res *table.WriteResult) error {
	c.out = append(c.out, '{')
	attributes, err := appendReturned(c.buf[:0], w, returns, res)
	if err != nil {
		return err
	}
	c.buf = attributes[:0]
	if len(attributes) > 0 {
		c.out = append(c.out, `"Attributes":`...)
		c.out = append(c.out, attributes...)
	}
	if m.counts() {
		size, err := writtenSize(w, res)
		if err != nil {
			return err
		}
		if len(c.out) > 1 {
			c.out = append(c.out, ',')
		}
		c.out = append(c.out, `"ConsumedCapacity":`...)
		c.out = appendCapacity(c.out, &m, writeUnits(size))
	}
	c.out = append(c.out, '}')
	return nil
}

// appendReturned appends the attributes that ReturnValues asks for, nothing
// where there are none.
func appendReturned(dst []byte, w *write, returns string, res *table.WriteResult) ([]byte, error) {
	from := res.Old
	if returns == "ALL_NEW" || returns == "UPDATED_NEW" {
		from = res.New
	}
	switch returns {
	case allOld, "ALL_NEW":
		return append(dst, from...), nil
	case "UPDATED_OLD", "UPDATED_NEW":
		if w.update == nil || from == nil {
			return dst, nil
		}
		it, err := decode(from)
		if err != nil {
			return dst, err
		}
		if it = w.update.Touched().Apply(it); len(it) > 0 {
			dst = attr.AppendItem(dst, it)
		}
	}
	return dst, nil
}

// writtenSize is the larger of the items before and after: what a write costs.
func writtenSize(w *write, res *table.WriteResult) (int, error) {
	size := 0
	for _, stored := range [][]byte{res.Old, res.New, w.body} {
		n, err := sizeOf(stored)
		if err != nil {
			return 0, err
		}
		size = max(size, n)
	}
	return size, nil
}

// readUnits is the price of a read: a unit per 4 KB begun, half of it where
// yesterday's truth is good enough. What isn't there costs like the smallest item.
func readUnits(size int, consistent bool) float64 {
	units := float64(max(1, (size+4095)/4096))
	if !consistent {
		units /= 2
	}
	return units
}

// writeUnits is the price of a write: a unit per 1 KB begun.
func writeUnits(size int) float64 { return float64(max(1, (size+1023)/1024)) }

func appendCapacity(dst []byte, m *common, units float64) []byte {
	dst = append(dst, `{"TableName":"`...)
	dst = append(dst, m.name...)
	dst = append(dst, `","CapacityUnits":`...)
	dst = strconv.AppendFloat(dst, units, 'f', -1, 64)
	if m.capacity == capacityIndexes {
		dst = append(dst, `,"Table":{"CapacityUnits":`...)
		dst = strconv.AppendFloat(dst, units, 'f', -1, 64)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// appendKeyOf appends the key attributes of a stored item.
func appendKeyOf(dst []byte, t *table.TableRef, key table.Key) ([]byte, error) {
	p, err := attr.DecodeKey(key.Partition, t.Partition.Type)
	if err != nil {
		return dst, fmt.Errorf("key of %s: %w", t.Name, err)
	}
	it := attr.Item{{Name: t.Partition.Name, Value: p}}
	if t.Sort != nil {
		s, err := attr.DecodeKey(key.Sort, t.Sort.Type)
		if err != nil {
			return dst, fmt.Errorf("key of %s: %w", t.Name, err)
		}
		it = attr.NewItem(append(it, attr.Member{Name: t.Sort.Name, Value: s})...)
	}
	return attr.AppendItem(slices.Grow(dst, 64), it), nil
}
