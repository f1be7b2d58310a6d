package table

import (
	"context"
	"fmt"

	"github.com/antipode-io/antipode"
)

// Key is an item's primary key, encoded so that bytes sort as DynamoDB sorts
// (see EncodeString, EncodeNumber, EncodeBinary). Sort is nil where the table has none.
type Key struct {
	Partition []byte
	Sort      []byte
}

// Op is the decision part of a write, made by whoever parsed the request. It is
// called once, in the region that accepts the write, while the item is held.
type Op interface {
	// Decide looks at the item there (DynamoDB JSON, nil for none; the bytes are
	// not the Op's to keep) and says what shall be there. An error refuses the
	// write and reaches the caller of Write, from a far region too, as long as
	// it is an *Error.
	Decide(old []byte) (Decision, error)
}

// Blind is an Op whose decision is the same whatever is there, as that of a put
// without a condition. Where the write mode allows it too, what is there isn't read.
type Blind interface {
	Op
	Blind() bool
}

// Decision is what an Op wants.
type Decision struct {
	Keep   bool   // write nothing: what is there is right already
	Delete bool   // remove the item
	Body   []byte // the new item as DynamoDB JSON
}

// WriteRequest asks for one write.
type WriteRequest struct {
	Table *TableRef
	Key   Key
	Op    Op
	// Verb and Payload are the request as the client sent it, from which
	// Config.Compile makes the same Op in another region.
	Verb    string
	Payload []byte
	// WantOld and WantNew ask for the item before and after.
	WantOld, WantNew bool
}

// WriteResult is the outcome of an acknowledged write.
type WriteResult struct {
	Old, New []byte // nil where not asked for or not there
	Dot      antipode.Dot
}

// Error is a refusal with a code that the API above knows how to say. It
// survives the way from one region to another.
type Error struct {
	Code    string // the API's own word, such as ConditionalCheckFailedException
	Message string
	Item    []byte // the item that failed the condition, when asked for
}

// Error gives code and message.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Message) }

// RangeRequest asks for items in key order: all items of a partition, or of
// the whole table (a scan, in hash order).
type RangeRequest struct {
	Table     *TableRef
	Partition []byte // nil for a scan
	// Lower and Upper bound the encoded sort key: [Lower, Upper). Nil is open.
	Lower, Upper []byte
	Reverse      bool
	After        *Key // start after this key (before it, when Reverse)
	Consistent   bool
	// Segment and Segments split a scan by hash; Segments 0 is all of it.
	Segment, Segments int
}

// Visit sees one item. It returns false to stop. The bytes are valid during the call.
type Visit func(key Key, item []byte) (more bool, err error)

// Service is what the APIs need of the data. *Tables implements it.
type Service interface {
	// Table finds a table that has a replica here, by name; ErrNoTable.
	Table(name string) (*TableRef, error)
	// Get appends the item to dst and returns it, or nil with no error where there is none.
	Get(ctx context.Context, t *TableRef, key Key, consistent bool, dst []byte) ([]byte, error)
	Range(ctx context.Context, r RangeRequest, visit Visit) error
	Write(ctx context.Context, w WriteRequest) (WriteResult, error)
}
