package bulk

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// Input is a file to import.
type Input struct {
	Name string // for messages and, by its end, for the format: .gz is unpacked, .csv is CSV
	Size int64  // in bytes; 0 where that is not known
	Open func() (io.ReadCloser, error)
}

// maxLine bounds a line in bytes: an item of DynamoDB's largest size, written as
// wastefully as JSON can.
const maxLine = 16 << 20

// record is an item of a file, ready to be sent.
type record struct {
	item []byte // normalised DynamoDB JSON
	key  string // the same for equal keys
	line int
}

// source reads a file's records one after another; io.EOF ends it. An error of
// one record is a *LineError, and the next can be read.
type source interface {
	next() (record, error)
}

// open starts to read an input, unpacked if need be.
func open(in *Input, raw io.Reader, format Format, schema []keyAttribute) (source, error) {
	name := in.Name
	if base, ok := strings.CutSuffix(name, ".gz"); ok {
		z, err := gzip.NewReader(raw)
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", in.Name, err)
		}
		raw, name = z, base
	}
	r := bufio.NewReaderSize(raw, 1<<16)
	if bom, err := r.Peek(3); err == nil && string(bom) == "\ufeff" {
		_, _ = r.Discard(len(bom)) // they are there
	}
	if format == "" && strings.HasSuffix(strings.ToLower(name), ".csv") {
		format = CSV
	}
	if format == CSV {
		return newTable(in.Name, r, schema)
	}
	return &lines{name: in.Name, r: r, format: format, schema: schema}, nil
}

// lines reads a line of JSON per item.
type lines struct {
	name   string
	r      *bufio.Reader
	format Format // "" until an item was seen
	schema []keyAttribute
	line   int
	buf    []byte
	json   fastjson.Parser
}

func (l *lines) next() (record, error) {
	for {
		text, err := l.read()
		if err != nil {
			return record{}, err
		}
		if len(text) == 0 {
			continue
		}
		item, err := l.item(text)
		if err != nil {
			return record{}, &LineError{l.name, l.line, plainError(err)}
		}
		rec, err := newRecord(item, l.schema)
		if err != nil {
			return record{}, &LineError{l.name, l.line, err}
		}
		rec.line = l.line
		return rec, nil
	}
}

// read takes a line, without white space around it.
func (l *lines) read() ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.buf = append(l.buf, part...)
		switch {
		case len(l.buf) > maxLine:
			return nil, fmt.Errorf("%s:%d: the line is longer than %d MiB, which no item takes", l.name, l.line+1, maxLine>>20)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(l.buf) == 0:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read %s after line %d: %w", l.name, l.line, err)
		}
		l.line++
		return bytes.TrimSpace(l.buf), nil
	}
}

func (l *lines) item(text []byte) (attr.Item, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("it is not in UTF-8")
	}
	v, err := l.json.ParseBytes(text)
	if err != nil {
		return nil, fmt.Errorf("this is no JSON: %w", err)
	}
	inner := wrapped(v)
	if l.format == "" {
		l.format = JSON
		if inner != nil {
			l.format = DynamoDB
		}
	}
	if l.format == JSON {
		return plainItem(v, l.schema)
	}
	if inner == nil {
		inner = v
	}
	return attr.ItemFromJSON(inner)
}

// wrapped returns the item in {"Item":{...}}, nil where that is not what v is.
func wrapped(v *fastjson.Value) *fastjson.Value {
	o, err := v.Object()
	if err != nil || o.Len() != 1 {
		return nil
	}
	if inner := o.Get("Item"); inner != nil && inner.Type() == fastjson.TypeObject {
		return inner
	}
	return nil
}

// newRecord checks an item as the table would.
func newRecord(it attr.Item, schema []keyAttribute) (record, error) {
	var key []byte
	for _, k := range schema {
		v, ok := it.Get(k.name)
		if !ok {
			return record{}, fmt.Errorf("the item lacks the key attribute %s", k.name)
		}
		if err := attr.CheckKey(k.name, k.typ, v); err != nil {
			return record{}, plainError(err)
		}
		if err := k.check(v); err != nil {
			return record{}, plainError(err)
		}
		part, err := attr.AppendKey(nil, v)
		if err != nil {
			return record{}, plainError(err)
		}
		key = append(fmt.Appendf(key, "%d:", len(part)), part...)
	}
	if err := attr.CheckItemSize(attr.ItemSize(it)); err != nil {
		return record{}, plainError(err)
	}
	return record{item: attr.AppendItem(nil, it), key: string(key)}, nil
}

// plainError leaves DynamoDB's name for an error out: the line that it is about says enough.
func plainError(err error) error {
	if e, ok := errors.AsType[*attr.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}

// csvTable reads a CSV file.
type csvTable struct {
	name    string
	r       *csv.Reader
	columns []string
	schema  []keyAttribute
}

func newTable(name string, r io.Reader, schema []keyAttribute) (*csvTable, error) {
	t := &csvTable{name: name, r: csv.NewReader(r), schema: schema}
	t.r.ReuseRecord = true
	first, err := t.r.Read()
	if errors.Is(err, io.EOF) {
		return nil, &LineError{name, 1, errors.New("a CSV file begins with a line of attribute names, and this one is empty")}
	}
	if err != nil {
		return nil, t.failed(err)
	}
	t.columns = slices.Clone(first)
	for i, c := range t.columns {
		if err := attr.CheckName(c); err != nil {
			return nil, &LineError{name, 1, fmt.Errorf("column %d: %w", i+1, plainError(err))}
		}
		if slices.Contains(t.columns[:i], c) {
			return nil, &LineError{name, 1, fmt.Errorf("two columns are called %q", c)}
		}
	}
	for _, k := range schema {
		if !slices.Contains(t.columns, k.name) {
			return nil, &LineError{name, 1, fmt.Errorf("no column is called %q, as the key attribute is; the first line has the names", k.name)}
		}
	}
	return t, nil
}

// failed gives an error of the reader the place that it has.
func (t *csvTable) failed(err error) error {
	if at, ok := errors.AsType[*csv.ParseError](err); ok {
		return &LineError{t.name, at.Line, at.Err}
	}
	return fmt.Errorf("read %s: %w", t.name, err)
}

func (t *csvTable) next() (record, error) {
	cells, err := t.r.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return record{}, io.EOF
		}
		return record{}, t.failed(err)
	}
	line, _ := t.r.FieldPos(0)
	it := make([]attr.Member, 0, len(cells))
	for i, text := range cells {
		if text == "" {
			continue
		}
		typ := "S"
		if k := slices.IndexFunc(t.schema, func(k keyAttribute) bool { return k.name == t.columns[i] }); k >= 0 {
			typ = t.schema[k].typ
		}
		if !utf8.ValidString(text) {
			return record{}, &LineError{t.name, line, fmt.Errorf("column %s is not in UTF-8", t.columns[i])}
		}
		v, err := textValue(text, typ)
		if err != nil {
			return record{}, &LineError{t.name, line, fmt.Errorf("column %s: %w", t.columns[i], plainError(err))}
		}
		it = append(it, attr.Member{Name: t.columns[i], Value: v})
	}
	rec, err := newRecord(attr.NewItem(it...), t.schema)
	if err != nil {
		return record{}, &LineError{t.name, line, err}
	}
	rec.line = line
	return rec, nil
}
