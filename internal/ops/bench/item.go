package bench

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/valyala/fastjson"
)

// attribute is one attribute of a primary key.
type attribute struct {
	name, typ string // typ is S, N or B; both are empty where there is none
}

// schema is the table's primary key.
type schema struct {
	table           string
	partition, sort attribute
}

// describe asks an endpoint for the table's key, which is also the proof that
// the endpoint is there, knows the access key and has the table.
func describe(ctx context.Context, t *target) (schema, error) {
	c := newClient(t)
	defer c.close()
	request, err := json.Marshal(map[string]string{"TableName": t.cfg.Table})
	if err != nil {
		return schema{}, fmt.Errorf("ask for table %s: %w", t.cfg.Table, err)
	}
	reply, err := c.call(ctx, targetDescribe, request)
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		return schema{}, fmt.Errorf("%w: %s answers for table %s: %w; check the table's name and the access key", ErrUnusable, t.URL, t.cfg.Table, err)
	case err != nil:
		return schema{}, fmt.Errorf("%w: %w; check that the region is up and the endpoint right", ErrUnusable, err)
	}
	return parseSchema(t.cfg.Table, reply)
}

// parseSchema reads the answer to DescribeTable.
func parseSchema(table string, reply []byte) (schema, error) {
	s := schema{table: table}
	v, err := fastjson.ParseBytes(reply)
	if err != nil {
		return s, fmt.Errorf("%w: the description of table %s is not JSON: %w", ErrUnusable, table, err)
	}
	types := make(map[string]string)
	for _, a := range v.GetArray("Table", "AttributeDefinitions") {
		types[string(a.GetStringBytes("AttributeName"))] = string(a.GetStringBytes("AttributeType"))
	}
	for _, k := range v.GetArray("Table", "KeySchema") {
		name := string(k.GetStringBytes("AttributeName"))
		a := attribute{name: name, typ: types[name]}
		if a.typ != "S" && a.typ != "N" && a.typ != "B" {
			return s, fmt.Errorf("%w: table %s has key %q of type %q; want S, N or B", ErrUnusable, table, name, a.typ)
		}
		if string(k.GetStringBytes("KeyType")) == "HASH" {
			s.partition = a
		} else {
			s.sort = a
		}
	}
	if s.partition.name == "" {
		return s, fmt.Errorf("%w: the description of table %s names no partition key", ErrUnusable, table)
	}
	return s, nil
}

// free returns the name, lengthened until it is no key's.
func (s schema) free(name string) string {
	for name == s.partition.name || name == s.sort.name {
		name += "_"
	}
	return name
}

// poolBytes is how much random text payloads are cut from: more than a
// compressor's idea of the recent past, so that it finds no repetition that real
// data would not have either.
const poolBytes = 1 << 20

// requests makes the bodies of requests out of pieces prepared once. It belongs
// to one goroutine.
type requests struct {
	prefix        string // of keys, as JSON has it; of type B, as it is
	partition     attribute
	put, get      string // up to the value of the partition key
	sort          string // the sort key, from the comma on, or nothing
	version, load string // from the comma to the value
	itemBytes     int
	nameBytes     int // what the names and the sort key count in an item
	pool          string
	rng           *rand.Rand
	key, out      []byte
}

// newPool makes the text that payloads are cut from.
func newPool(seed uint64, itemBytes int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	rng := rand.New(rand.NewPCG(seed, 0))
	pool := make([]byte, poolBytes+itemBytes)
	for i := range pool {
		pool[i] = letters[rng.Uint32()%uint32(len(letters))]
	}
	return string(pool)
}

func newRequests(cfg Config, s schema, pool string, rng *rand.Rand) *requests {
	version, load := s.free("n"), s.free("v")
	prefix := cfg.KeyPrefix
	if s.partition.typ == "S" {
		prefix = quote(prefix)
		prefix = prefix[1 : len(prefix)-1]
	}
	r := &requests{
		prefix: prefix, partition: s.partition, itemBytes: cfg.ItemBytes, pool: pool, rng: rng,
		put:       `{"TableName":` + quote(s.table) + `,"Item":{` + quote(s.partition.name) + `:{"` + s.partition.typ + `":"`,
		get:       `{"TableName":` + quote(s.table) + `,"Key":{` + quote(s.partition.name) + `:{"` + s.partition.typ + `":"`,
		version:   `,` + quote(version) + `:{"N":"`,
		load:      `,` + quote(load) + `:{"S":"`,
		nameBytes: len(s.partition.name) + len(version) + len(load),
	}
	if s.sort.name != "" {
		// One byte of zero suits every type: "0" as text, as a number, and as the
		// one byte 0 in base64.
		value := "0"
		if s.sort.typ == "B" {
			value = "AA=="
		}
		r.sort = `,` + quote(s.sort.name) + `:{"` + s.sort.typ + `":"` + value + `"}`
		r.nameBytes += len(s.sort.name) + 1
		if s.sort.typ == "N" {
			r.nameBytes += numberBytes(1) - 1
		}
	}
	return r
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""` // a string always has JSON
	}
	return string(b)
}

// numberDigits is the width of the number in a key, so that all keys are as long.
const numberDigits = 10

// appendKey appends the value of key number n, as its type has it in JSON.
func (r *requests) appendKey(dst []byte, n uint64) []byte {
	if r.partition.typ == "N" {
		return strconv.AppendUint(dst, n, 10)
	}
	r.key = append(r.key[:0], r.prefix...)
	var buf [20]byte // the digits of the largest uint64
	digits := strconv.AppendUint(buf[:0], n, 10)
	for range numberDigits - len(digits) {
		r.key = append(r.key, '0')
	}
	r.key = append(r.key, digits...)
	if r.partition.typ == "B" {
		return base64.StdEncoding.AppendEncode(dst, r.key)
	}
	return append(dst, r.key...)
}

// putItem gives the body of a PutItem of this version of key number n. It is
// valid until the next call.
func (r *requests) putItem(n, version uint64) []byte {
	out := r.appendKey(append(r.out[:0], r.put...), n)
	keyBytes := len(out) - len(r.put)
	out = append(append(out, `"}`...), r.sort...)
	before := len(out) + len(r.version)
	out = strconv.AppendUint(append(out, r.version...), version, 10)
	used := r.nameBytes + keyBytes + numberBytes(len(out)-before)
	out = append(append(out, `"}`...), r.load...)
	if size := r.itemBytes - used; size > 0 {
		at := r.rng.IntN(poolBytes)
		out = append(out, r.pool[at:at+size]...)
	}
	r.out = append(out, `"}}}`...)
	return r.out
}

// numberBytes is what DynamoDB counts for a number of so many digits.
func numberBytes(digits int) int { return (digits+1)/2 + 1 }

// getItem gives the body of a GetItem of key number n. It is valid until the
// next call.
func (r *requests) getItem(n uint64) []byte {
	out := r.appendKey(append(r.out[:0], r.get...), n)
	r.out = append(append(append(out, `"}`...), r.sort...), `}}`...)
	return r.out
}

// parseVersion reads the version out of the answer to GetItem; 0 where there is
// no item, or none of ours.
func parseVersion(p *fastjson.Parser, name string, reply []byte) (uint64, error) {
	v, err := p.ParseBytes(reply)
	if err != nil {
		return 0, fmt.Errorf("parse the answer to GetItem: %w", err)
	}
	text := v.GetStringBytes("Item", name, "N")
	if text == nil {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse the version of an item: %w", err)
	}
	return n, nil
}
