package drill

import (
	"strconv"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
)

// Verb is what an operation of the load does.
type Verb uint8

// The verbs. A receipt is written once, to a key of its own, and never again, so
// that its loss can't be hidden by a later write. A register is written and read
// over and over. A duel is a key that every region writes once, at one time.
const (
	Receipt Verb = iota + 1
	Put          // to a register
	Consult      // a ConsistentRead of a register
	Peek         // an eventually consistent read of a register
	Duel
)

func (v Verb) writes() bool { return v == Receipt || v == Put || v == Duel }

// Outcome is what the client knows of an operation.
type Outcome uint8

// The outcomes.
const (
	Done    Outcome = iota + 1 // acknowledged
	Unknown                    // an error that may come after the deed
	Never                      // it was not even sent
	Ended                      // the load ended before its answer
)

// perhaps reports whether an operation may have been done, or be done yet.
func (o *Op) perhaps() bool { return o.Outcome == Unknown || o.Outcome == Ended }

// failed reports whether a client was told so, or heard nothing for too long.
func (o *Op) failed() bool { return o.Outcome == Unknown || o.Outcome == Never }

// Op is one operation in the ledger. Times count from the start of the drill, on
// the client's monotonic clock.
type Op struct {
	Table, Site  int // places in Evidence.Tables and Evidence.Sites
	Verb         Verb
	Key          int64
	Value        int64 // unique per write; of a read: what it found, 0 for nothing
	Call, Return time.Duration
	Outcome      Outcome
}

// keyOf is the partition key that an operation goes to.
func keyOf(v Verb, key int64) string {
	prefix := "k"
	switch v {
	case Receipt:
		prefix = "r"
	case Duel:
		prefix = "d"
	case Put, Consult, Peek:
	}
	return prefix + strconv.FormatInt(key, 10)
}

// ledger is what the clients were told. A page belongs to one client, which
// writes it; the lock is for who reads before the end.
type ledger struct {
	mu    sync.Mutex
	pages []*page
}

type page struct {
	mu  sync.Mutex
	ops []Op
}

func (l *ledger) page() *page {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &page{}
	l.pages = append(l.pages, p)
	return p
}

func (p *page) add(o Op) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ops = append(p.ops, o)
}

// all copies what has been noted so far.
func (l *ledger) all() []Op {
	l.mu.Lock()
	pages := l.pages
	l.mu.Unlock()
	var out []Op
	for _, p := range pages {
		p.mu.Lock()
		out = append(out, p.ops...)
		p.mu.Unlock()
	}
	return out
}

// Table is a table that the drill writes.
type Table struct {
	Name   string             `json:"name"`
	Writes antipode.WriteMode `json:"writes"`
	// RPO is the promised bound on lost writes; negative: none.
	RPO time.Duration `json:"rpo"`
}

// roles reports whether a region has to hold something to write the table.
func (t *Table) roles() bool { return t.Writes != antipode.WriteLocal }

// registers is how many keys of a table are written over and over.
const registers = 64

// homeOf is the place of the region that a register is born in.
func homeOf(key int64, clients []int) int { return clients[key%int64(len(clients))] }
