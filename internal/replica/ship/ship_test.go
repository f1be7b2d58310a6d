package ship

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine/pebblekv"
	"github.com/antipode-io/antipode/internal/link"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var regions = []antipode.Region{"oregon", "mumbai", "paris"}

// member is a journal that ships, without items.
type member struct {
	t    testing.TB
	name antipode.Region
	log  *journal.Journal
	ship *Ship

	mu      sync.Mutex
	applied []antipode.Dot
	unknown bool // the table isn't known yet
}

func newMember(t testing.TB, name antipode.Region, edit func(*Config)) *member {
	t.Helper()
	store, err := pebblekv.Open(pebblekv.Config{FS: vfs.NewMem(), Dir: "data"})
	check(t, err)
	t.Cleanup(func() { _ = store.Close() })
	log, err := journal.Open(journal.Config{Store: store, Origin: antipode.Origin{Region: name, Incarnation: 1}})
	check(t, err)
	m := &member{t: t, name: name, log: log}
	start := time.Now()
	cfg := Config{
		Journal: log, Stripes: 2,
		Members: func(antipode.Shard) []antipode.Region { return regions },
		Session: func(*journal.Txn) Session { return m },
		Known:   func(*journal.Entry) bool { m.mu.Lock(); defer m.mu.Unlock(); return !m.unknown },
		Stamp: func() antipode.Stamp {
			return antipode.MakeStamp(start.UnixMilli()+time.Since(start).Milliseconds(), 0)
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	m.ship = New(cfg)
	return m
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Apply notes what was applied.
func (m *member) Committed() {}

func (m *member) Apply(e *journal.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied = append(m.applied, e.Dot)
	return nil
}

func (m *member) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.applied)
}

func (m *member) write(rng int, body string) antipode.Dot {
	m.t.Helper()
	sh := m.log.Shard(antipode.ShardSet(regions) | antipode.Shard(rng))
	sh.Lock()
	txn := sh.Begin(m.log.NewBatch())
	e := &journal.Entry{Kind: journal.KindWrite, Mutation: antipode.Mutation{Table: 1, Key: []byte("k"), Body: []byte(body)}}
	txn.Append(e)
	c, err := txn.Commit()
	sh.Unlock()
	check(m.t, err)
	check(m.t, c.Wait())
	return e.Dot
}

func (m *member) frontier(rng int) antipode.Frontier {
	return m.log.Shard(antipode.ShardSet(regions) | antipode.Shard(rng)).Durable()
}

// wire is one connection, driven by hand.
type wire struct {
	t testing.TB
	x *Sender
	r *Receiver
}

func connect(t testing.TB, from, to *member, stripe int) *wire {
	t.Helper()
	x, err := from.ship.NewSender(to.name, stripe)
	check(t, err)
	r, err := to.ship.NewReceiver(from.name)
	check(t, err)
	w := &wire{t, x, r}
	hello, err := x.Hello()
	check(t, err)
	w.deliver(hello)
	return w
}

func (w *wire) close() { w.x.Close(); w.r.Close() }

func (w *wire) deliver(frame []byte) {
	w.t.Helper()
	reply, commits, err := w.r.Receive(frame)
	check(w.t, err)
	for _, c := range commits {
		check(w.t, c.Wait())
	}
	if reply != nil {
		check(w.t, w.x.Receive(reply))
	}
}

func (w *wire) acks() {
	w.t.Helper()
	frames, err := w.r.Ack()
	check(w.t, err)
	for _, f := range frames {
		check(w.t, w.x.Receive(f))
	}
}

func (w *wire) next() []byte {
	w.t.Helper()
	f, err := w.x.Next()
	check(w.t, err)
	return f
}

func (w *wire) flow() (frames int) {
	w.t.Helper()
	for f := w.next(); f != nil; f = w.next() {
		frames++
		w.deliver(f)
		w.acks()
	}
	return frames
}

func TestCausalOrderAndRelay(t *testing.T) {
	a, b, c := newMember(t, "oregon", nil), newMember(t, "mumbai", nil), newMember(t, "paris", nil)
	d1 := a.write(0, "1")
	ab := connect(t, a, b, 0)
	defer ab.close()
	ab.flow()
	d2 := b.write(0, "2") // has seen d1
	bc := connect(t, b, c, 0)
	defer bc.close()
	ac := connect(t, a, c, 0)
	bc.acks() // paris hears oregon now: mumbai does not relay it
	bc.flow()
	if c.applied != nil {
		t.Errorf("applied %v before what it had seen", c.applied)
	}
	ac.close() // oregon is gone before it sent anything
	bc.acks()
	bc.flow()
	if diff := cmp.Diff([]antipode.Dot{d1, d2}, c.applied); diff != "" {
		t.Errorf("paris applied: %s", diff)
	}
}

func TestUnknownTableWaits(t *testing.T) {
	a, b := newMember(t, "oregon", nil), newMember(t, "mumbai", nil)
	b.unknown = true
	d := a.write(0, "1")
	ab := connect(t, a, b, 0)
	defer ab.close()
	ab.flow()
	if b.applied != nil || b.ship.Waiting() == 0 {
		t.Errorf("applied %v of a table not known", b.applied)
	}
	b.unknown = false
	commits, err := b.ship.Kick()
	check(t, err)
	for _, k := range commits {
		check(t, k.Wait())
	}
	if diff := cmp.Diff([]antipode.Dot{d}, b.applied); diff != "" || b.ship.Waiting() != 0 {
		t.Error(diff)
	}
}

// TestBoundedWaiting checks that entries that have to wait fill a bounded room,
// that the rest is dropped, and that all of it comes in the end.
func TestBoundedWaiting(t *testing.T) {
	small := func(c *Config) { c.WaitingBytes, c.FrameBytes = 2000, 500 }
	a, b := newMember(t, "oregon", small), newMember(t, "mumbai", small)
	b.unknown = true
	const n = 200
	for range n {
		a.write(0, "0123456789012345678901234567890123456789")
	}
	ab := connect(t, a, b, 0)
	defer ab.close()
	ab.flow()
	if w := b.ship.Waiting(); w == 0 || w > 2000 {
		t.Errorf("%d bytes wait, bound 2000", w)
	}
	b.unknown = false
	for range 50 {
		commits, err := b.ship.Kick()
		check(t, err)
		for _, k := range commits {
			check(t, k.Wait())
		}
		ab.acks()
		ab.flow()
	}
	if got := b.frontier(0); got.Seq(a.log.Origin()) != n || len(b.applied) != n {
		t.Errorf("frontier %v, %d applied, want %d once each", got, len(b.applied), n)
	}
}

func TestForgotten(t *testing.T) {
	a, b := newMember(t, "oregon", nil), newMember(t, "mumbai", nil)
	a.write(0, "1")
	ab := connect(t, a, b, 0)
	ab.flow()
	ab.close()
	again := newMember(t, "oregon", nil) // the disk is gone
	x, err := again.ship.NewSender("mumbai", 0)
	check(t, err)
	defer x.Close()
	r, err := b.ship.NewReceiver("oregon")
	check(t, err)
	defer r.Close()
	hello, err := x.Hello()
	check(t, err)
	welcome, _, err := r.Receive(hello)
	check(t, err)
	if err := x.Receive(welcome); !errors.Is(err, ErrForgotten) {
		t.Errorf("a region that lost its journal: %v", err)
	}
}

func TestProtocolErrors(t *testing.T) {
	a, b := newMember(t, "oregon", nil), newMember(t, "mumbai", nil)
	for name, frame := range map[string]func(x *Sender) ([]byte, error){
		"not the peer":         func(*Sender) ([]byte, error) { return b.mustHello(t) },
		"entries before hello": func(x *Sender) ([]byte, error) { return x.codec.seal(frameEntries, []byte{1, 2}, true), nil },
		"wrong stripes": func(x *Sender) ([]byte, error) {
			return x.codec.sealJSON(frameHello, hello{Version: protocolVersion, Origin: "oregon", Stripe: 5, Stripes: 9})
		},
		"newer version": func(x *Sender) ([]byte, error) {
			return x.codec.sealJSON(frameHello, hello{Version: 99, Origin: "oregon", Stripes: 2})
		},
		"cut short": func(*Sender) ([]byte, error) { return []byte{1, 0, 0, 0, 0, 9}, nil },
		"bad zstd":  func(*Sender) ([]byte, error) { return []byte{1, flagZstd, 0, 0, 0, 1, 7}, nil },
	} {
		x, err := a.ship.NewSender("mumbai", 0)
		check(t, err)
		r, err := b.ship.NewReceiver("oregon")
		check(t, err)
		f, err := frame(x)
		check(t, err)
		if _, _, err := r.Receive(f); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
		x.Close()
		r.Close()
	}
}

func (m *member) mustHello(t *testing.T) ([]byte, error) {
	t.Helper()
	x, err := m.ship.NewSender("oregon", 0)
	check(t, err)
	defer x.Close()
	return x.Hello()
}

// TestRunner runs three members over in-memory links with a delay, cuts one
// link, and checks that all arrives and that lag is told.
func TestRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := link.NewMemoryNetwork(time.Now, regions...)
		ctx, cancel := context.WithCancel(t.Context())
		var members []*member
		var meshes []*link.Mesh
		var wg sync.WaitGroup
		for _, name := range regions {
			m := newMember(t, name, nil)
			mesh, err := link.NewMemory(ctx, network, name)
			check(t, err)
			for _, peer := range mesh.Peers() {
				check(t, mesh.SetDelay(peer, 100*time.Millisecond, 0))
			}
			runner := NewRunner(m.ship, mesh, func(err error) { t.Errorf("%s: %v", name, err) })
			wg.Go(func() { runner.Run(ctx) })
			members, meshes = append(members, m), append(meshes, mesh)
		}
		time.Sleep(5 * time.Second)
		members[0].write(1, "1")
		time.Sleep(150 * time.Millisecond)
		for _, m := range members[1:] {
			if m.count() != 1 {
				t.Errorf("%s applied %d after one delay", m.name, m.count())
			}
		}
		check(t, meshes[0].Cut("paris", link.Both))
		time.Sleep(10 * time.Second)
		for i := range 50 {
			members[0].write(i%16, fmt.Sprint(i))
		}
		time.Sleep(5 * time.Second)
		if n := members[2].count(); n != 51 {
			t.Errorf("paris has %d of 51 by relay", n)
		}
		if lag := members[2].ship.Lag()["oregon"]; lag < 10*time.Second {
			t.Errorf("lag of a region that is not heard: %v", lag)
		}
		check(t, meshes[0].Heal("paris"))
		time.Sleep(10 * time.Second)
		if lag := members[2].ship.Lag(); lag["oregon"] != 0 || lag["mumbai"] != 0 {
			t.Errorf("lag after the heal: %v", lag)
		}
		for _, m := range members {
			if m.count() != map[antipode.Region]int{"oregon": 0, "mumbai": 51, "paris": 51}[m.name] {
				t.Errorf("%s applied %d entries", m.name, m.count())
			}
		}
		cancel()
		wg.Wait()
		for _, mesh := range meshes {
			check(t, mesh.Close())
		}
	})
}

// FuzzReceive feeds a receiver and a sender arbitrary frames after the hello, and
// the receiver those of a copy after it has taken an offer.
func FuzzReceive(f *testing.F) {
	a, _, b := old(f)
	w := connect(f, a, b, 0)
	hello, err := w.x.Hello()
	check(f, err)
	beat, err := w.x.Heartbeat()
	check(f, err)
	f.Add(hello)
	f.Add(beat)
	for frame := w.next(); frame != nil; frame = w.next() {
		f.Add(frame)
		reply, commits, err := w.r.Receive(frame)
		check(f, errors.Join(err, journal.Sync(commits...)))
		if reply != nil {
			f.Add(reply)
			check(f, w.x.Receive(reply))
		}
		acks, err := w.r.Ack()
		check(f, err)
		for _, frame := range acks {
			f.Add(frame)
			check(f, w.x.Receive(frame))
		}
	}
	w.close()
	f.Fuzz(func(t *testing.T, frame []byte) {
		// A fresh one each time: what it takes may be forged.
		w := connect(t, a, newCopying(t, "mumbai", 2, vfs.NewMem()), 0)
		defer w.close()
		if len(frame) > 0 && frame[0] == frameCopy {
			for next := w.next(); next != nil && len(w.x.copies) == 0; next = w.next() {
				w.deliver(next)
			}
		}
		_, commits, _ := w.r.Receive(frame)
		check(t, journal.Sync(commits...))
		_ = w.x.Receive(frame)
		c1, c2 := net.Pipe()
		go func() { _, _ = c1.Write(frame); _ = c1.Close() }()
		_, _ = readFrame(c2)
		_ = c2.Close()
	})
}
