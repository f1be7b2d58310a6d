package ship

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/engine/pebblekv"
	"github.com/antipode-io/antipode/internal/link"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// rowCopier copies shards that have journals and nothing else.
type rowCopier struct {
	store engine.Store
	log   *journal.Journal
}

func (c *rowCopier) Export(id antipode.Shard) (journal.Source, error) {
	sh := c.log.Shard(id)
	sh.Lock()
	defer sh.Unlock()
	s := &rowSource{state: sh.State()}
	snap := c.store.Snapshot()
	for _, span := range journal.Spans(id) {
		it, err := snap.Iterate(span.Lower, span.Upper)
		if err != nil {
			return nil, err
		}
		for ok := it.First(); ok; ok = it.Next() {
			s.rows = append(s.rows, journal.AppendRow(nil, it.Key(), it.Value()))
		}
		if err := it.Close(); err != nil {
			return nil, err
		}
	}
	return s, snap.Close()
}

type rowSource struct {
	state journal.State
	rows  [][]byte
}

func (s *rowSource) State() journal.State { return s.state }

func (s *rowSource) Next(dst []byte, limit int) ([]byte, bool, error) {
	for len(s.rows) > 0 && len(dst) < limit {
		dst, s.rows = append(dst, s.rows[0]...), s.rows[1:]
	}
	return dst, len(s.rows) > 0, nil
}

func (s *rowSource) Close() error { return nil }

func (c *rowCopier) Begin(id antipode.Shard) error {
	sh := c.log.Shard(id)
	sh.Lock()
	defer sh.Unlock()
	k, err := sh.Empty(c.store.NewBatch())
	if err != nil {
		return err
	}
	return k.Wait()
}

func (c *rowCopier) Install(id antipode.Shard, rows []byte) (*journal.Commit, error) {
	sh := c.log.Shard(id)
	sh.Lock()
	defer sh.Unlock()
	b := c.store.NewBatch()
	err := journal.EachRow(rows, func(key, value []byte) error {
		_, err := sh.Take(b, key, value)
		return err
	})
	if err != nil {
		b.Discard()
		return nil, err
	}
	return sh.Keep(b)
}

func (c *rowCopier) Finish(id antipode.Shard, want journal.State) (*journal.Commit, error) {
	sh := c.log.Shard(id)
	sh.Lock()
	defer sh.Unlock()
	return sh.EndCopy(want)
}

func (c *rowCopier) Abort(id antipode.Shard) error {
	if err := c.Begin(id); err != nil {
		return err
	}
	sh := c.log.Shard(id)
	sh.Lock()
	defer sh.Unlock()
	k, err := sh.GiveUp()
	if err != nil {
		return err
	}
	return k.Wait()
}

// newCopying returns a member that copies, over a disk that can crash.
func newCopying(t testing.TB, name antipode.Region, incarnation uint32, fs *vfs.MemFS) *member {
	t.Helper()
	store, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: "data"})
	check(t, err)
	t.Cleanup(func() { _ = store.Close() })
	log, err := journal.Open(journal.Config{Store: store, Origin: antipode.Origin{Region: name, Incarnation: incarnation}, RecentBytes: 1})
	check(t, err)
	m := &member{t: t, name: name, log: log}
	m.ship = New(Config{
		Journal: log, Stripes: 2, FrameBytes: 300, Copier: &rowCopier{store, log},
		Members: func(antipode.Shard) []antipode.Region { return regions },
		Session: func(*journal.Txn) Session { return m },
		Known:   func(*journal.Entry) bool { return true },
		Stamp:   func() antipode.Stamp { return antipode.MakeStamp(1, 0) },
	})
	return m
}

// cut removes an origin's entries up to seq, as a sweep does.
func (m *member) cut(rng int, o antipode.Origin, seq uint64) {
	m.t.Helper()
	d := antipode.Dot{Origin: o, Shard: antipode.ShardSet(regions) | antipode.Shard(rng), Seq: seq}
	sh := m.log.Shard(d.Shard)
	sh.Lock()
	defer sh.Unlock()
	check(m.t, m.log.Read(d.Shard, o, seq-1, seq, func(_ uint64, raw []byte) bool {
		b := m.log.NewBatch()
		m.log.Cut(b, d, raw)
		sh.Keep(b)
		m.log.WasCut(d)
		return true
	}))
}

// old makes two members that hold the same, of which most was cut off, and
// returns them with a third that lost its disk.
func old(t testing.TB) (a, c, lost *member) {
	t.Helper()
	a, c, lost = uncut(t)
	for _, m := range []*member{a, c} {
		m.cut(0, a.log.Origin(), 30)
		m.cut(0, c.log.Origin(), 25)
	}
	return a, c, lost
}

func uncut(t testing.TB) (a, c, lost *member) {
	t.Helper()
	a, c = newCopying(t, "oregon", 1, vfs.NewCrashableMem()), newCopying(t, "paris", 1, vfs.NewCrashableMem())
	ac, ca := connect(t, a, c, 0), connect(t, c, a, 0)
	defer ac.close()
	defer ca.close()
	for i := range 40 {
		a.write(0, fmt.Sprint("a", i))
		c.write(0, fmt.Sprint("c", i))
		a.write(2, "x")
		ac.flow()
		ca.flow()
	}
	return a, c, newCopying(t, "mumbai", 2, vfs.NewCrashableMem())
}

func same(t *testing.T, want, got *member, rng int) {
	t.Helper()
	id := antipode.ShardSet(regions) | antipode.Shard(rng)
	w, g := want.log.Shard(id), got.log.Shard(id)
	w.Lock()
	g.Lock()
	defer w.Unlock()
	defer g.Unlock()
	if diff := cmp.Diff(w.State(), g.State()); diff != "" {
		t.Errorf("%s and %s differ: %s", want.name, got.name, diff)
	}
	if diff := cmp.Diff(w.Durable(), g.Durable()); diff != "" {
		t.Errorf("%s and %s differ in what is durable: %s", want.name, got.name, diff)
	}
}

// TestCopy gives a copy while writes go on, checks that entries of other shards
// flow in between, and goes on in both directions.
func TestCopy(t *testing.T) {
	a, _, b := old(t)
	w := connect(t, a, b, 0)
	defer w.close()
	kinds := ""
	for f := w.next(); f != nil; f = w.next() {
		kinds += fmt.Sprint(f[0])
		w.deliver(f)
		w.acks()
		if n := strings.Count(kinds, "7"); n > 0 && n < 6 {
			a.write(0, "while it is copied")
			a.write(2, "another shard")
		}
	}
	if !strings.Contains(kinds, "7373") || b.frontier(2).Seq(a.log.Origin()) != a.frontier(2).Seq(a.log.Origin()) {
		t.Errorf("kinds of frames: %s; want copies and entries by turns", kinds)
	}
	same(t, a, b, 0)
	back := connect(t, b, a, 0)
	defer back.close()
	b.write(0, "new")
	a.write(0, "new")
	w.flow()
	back.flow()
	if diff := cmp.Diff(a.frontier(0), b.frontier(0)); diff != "" || a.frontier(0).Seq(b.log.Origin()) != 1 {
		t.Errorf("after the copy: %s", diff)
	}
}

// TestCopyInterrupted loses the connection, or the power, after each part.
func TestCopyInterrupted(t *testing.T) {
	for _, crash := range []bool{false, true} {
		for parts := range 6 {
			a, _, _ := old(t)
			fs := vfs.NewCrashableMem()
			b := newCopying(t, "mumbai", 2, fs)
			w := connect(t, a, b, 0)
			for n := 0; n <= parts; {
				f := w.next()
				if f[0] == frameCopy {
					n++
				}
				w.deliver(f)
			}
			if crash {
				b = newCopying(t, "mumbai", 2, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0}))
				w.x.Close()
			} else {
				w.close()
			}
			if f := b.frontier(0); f != nil {
				t.Errorf("holds %v of half a copy", f)
			}
			w = connect(t, a, b, 0)
			w.acks()
			w.flow()
			same(t, a, b, 0)
			w.close()
		}
	}
}

// TestTwoCopies has two members offer a copy at once.
func TestTwoCopies(t *testing.T) {
	for _, interrupt := range []bool{false, true} {
		a, c, b := old(t)
		ab, cb := connect(t, a, b, 0), connect(t, c, b, 0)
		step := func(w *wire) {
			t.Helper()
			for n := 0; n < 4; {
				f := w.next()
				if f == nil {
					return
				}
				if f[0] == frameCopy {
					n++
				}
				w.deliver(f)
			}
		}
		step(ab)
		step(cb)
		if cb.x.copies[antipode.ShardSet(regions)].stage != waiting {
			t.Error("the second offer does not wait")
		}
		c.write(0, "while another's is taken")
		if interrupt {
			ab.close()
		} else {
			defer ab.close()
			ab.flow()
		}
		cb.acks()
		cb.flow()
		if diff := cmp.Diff(c.frontier(0), b.frontier(0)); diff != "" {
			t.Error(diff)
		}
		cb.close()
	}
}

// TestCopyGivenUp has the giver vanish in the middle, and another region that has
// cut nothing send all of it as entries, of which some had waited before.
func TestCopyGivenUp(t *testing.T) {
	for _, crash := range []bool{false, true} {
		a, c, _ := uncut(t)
		a.cut(0, a.log.Origin(), 30)
		fs := vfs.NewCrashableMem()
		b := newCopying(t, "mumbai", 2, fs)
		ab, cb := connect(t, a, b, 0), connect(t, c, b, 0)
		cb.acks() // which hears oregon, so that paris does not relay it
		cb.flow()
		if b.ship.Waiting() == 0 {
			t.Fatal("nothing waits")
		}
		for n := 0; n < 3; {
			f := ab.next()
			if f[0] == frameCopy {
				n++
			}
			ab.deliver(f)
		}
		cb.flow()
		if crash {
			b = newCopying(t, "mumbai", 2, fs.CrashClone(vfs.CrashCloneCfg{}))
			if !b.log.Shard(antipode.ShardSet(regions)).Copying() {
				t.Error("half a copy passes for a shard")
			}
			cb.close()
			cb = connect(t, c, b, 0)
		}
		ab.close()
		for range 2 { // once to find half a copy, once to be told where to go on
			cb.acks()
			cb.flow()
		}
		same(t, c, b, 0)
		cb.close()
	}
}

// TestCopyNotNeeded has the entries come another way before the offer does.
func TestCopyNotNeeded(t *testing.T) {
	a, c, b := old(t)
	ab, cb := connect(t, a, b, 0), connect(t, c, b, 0)
	defer ab.close()
	defer cb.close()
	var offer []byte
	for offer = cb.next(); offer[0] != frameCopy; offer = cb.next() {
		cb.deliver(offer)
	}
	a.write(0, "only here")
	ab.flow()
	cb.deliver(offer)
	cb.acks()
	cb.flow()
	same(t, a, b, 0)
}

// TestCopyOfUnknownTables has a member be offered a copy before it hears of the
// tables, though it holds everything: those who kept the shard knew other tables.
func TestCopyOfUnknownTables(t *testing.T) {
	a, _, b := old(t)
	full := connect(t, a, b, 0)
	full.flow()
	full.close()
	known := false
	b.ship.cfg.Members = func(antipode.Shard) []antipode.Region {
		if known {
			return regions
		}
		return nil
	}
	w := connect(t, a, b, 0)
	defer w.close()
	w.flow()
	if w.x.copies[antipode.ShardSet(regions)] == nil {
		t.Fatal("no copy was offered")
	}
	known = true
	a.write(0, "the first of the new table")
	w.acks()
	w.flow()
	same(t, a, b, 0)
}

func TestCopyRefused(t *testing.T) {
	a, _, b := old(t)
	b.write(0, "its own")
	w := connect(t, a, b, 0)
	defer w.close()
	for {
		_, _, err := w.r.Receive(w.next())
		if err == nil {
			continue
		}
		if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "would lose") {
			t.Errorf("a copy for one that has written: %v", err)
		}
		break
	}
	if b.frontier(0).Seq(b.log.Origin()) != 1 {
		t.Error("its write is gone")
	}
}

// TestCopyWaitsForDisk checks that an offer leaves only when all that it names is
// durable.
func TestCopyWaitsForDisk(t *testing.T) {
	a, _, b := old(t)
	w := connect(t, a, b, 0)
	defer w.close()
	sh := a.log.Shard(antipode.ShardSet(regions))
	sh.Lock()
	txn := sh.Begin(a.log.NewBatch())
	txn.Append(&journal.Entry{Kind: journal.KindWrite})
	k, err := txn.Commit()
	sh.Unlock()
	check(t, err)
	for f := w.next(); f != nil; f = w.next() {
		if f[0] == frameCopy {
			t.Fatal("offered what a crash would lose")
		}
		w.deliver(f)
	}
	check(t, k.Wait())
	w.flow()
	same(t, a, b, 0)
}

// TestLateCommit has a commit become durable after its shard was emptied.
func TestLateCommit(t *testing.T) {
	a, _, b := old(t)
	w := connect(t, a, b, 0)
	a.write(4, "x")
	var late []*journal.Commit
	for f := w.next(); f != nil && late == nil; f = w.next() {
		reply, commits, err := w.r.Receive(f)
		check(t, err)
		late = commits
		if reply != nil {
			check(t, w.x.Receive(reply))
		}
	}
	id := antipode.ShardSet(regions) | 2
	check(t, b.ship.cfg.Copier.Begin(id))
	check(t, b.ship.cfg.Copier.Abort(id))
	check(t, journal.Sync(late...))
	if f := b.frontier(2); f != nil {
		t.Errorf("%v counts as durable after the shard was emptied", f)
	}
	w.close()
}

// TestCopyDamaged changes a part on its way.
func TestCopyDamaged(t *testing.T) {
	for name, damage := range map[string]func(h *copyHeader, rows []byte) []byte{
		"left out": func(h *copyHeader, rows []byte) []byte { h.Last = true; return rows },
		"forged":   func(_ *copyHeader, rows []byte) []byte { rows[len(rows)-1] ^= 1; return rows },
		"cut":      func(_ *copyHeader, rows []byte) []byte { return rows[:len(rows)-1] },
		"skipped":  func(h *copyHeader, rows []byte) []byte { h.Part++; return rows },
		"twice":    func(_ *copyHeader, rows []byte) []byte { return append(rows, rows...) },
	} {
		a, _, b := old(t)
		w := connect(t, a, b, 0)
		for {
			f := w.next()
			kind, payload, err := w.x.codec.open(f)
			check(t, err)
			if kind != frameCopy {
				w.deliver(f)
				continue
			}
			h, _, rows, err := openCopy(payload)
			check(t, err)
			if h.Part < 3 {
				w.deliver(f)
				continue
			}
			f, err = h.seal(w.x.codec, damage(&h, rows))
			check(t, err)
			if _, _, err = w.r.Receive(f); err == nil {
				continue // the chain tells with the next entry
			}
			if !errors.Is(err, ErrProtocol) && !errors.Is(err, journal.ErrForked) {
				t.Errorf("%s: %v", name, err)
			}
			break
		}
		w.close()
		if f := b.frontier(0); f != nil {
			t.Errorf("%s: holds %v", name, f)
		}
	}
}

// TestRunnerCopies lets two regions give copies to a third over links with a
// delay, while they write, and cuts a link in the middle.
func TestRunnerCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c, b := old(t)
		network := link.NewMemoryNetwork(time.Now, regions...)
		ctx, cancel := context.WithCancel(t.Context())
		meshes := make(map[antipode.Region]*link.Mesh)
		var wg sync.WaitGroup
		for _, m := range []*member{a, b, c} {
			mesh, err := link.NewMemory(ctx, network, m.name)
			check(t, err)
			for _, peer := range mesh.Peers() {
				check(t, mesh.SetDelay(peer, 40*time.Millisecond, 0))
			}
			runner := NewRunner(m.ship, mesh, func(err error) { t.Errorf("%s: %v", m.name, err) })
			wg.Go(func() { runner.Run(ctx) })
			meshes[m.name] = mesh
		}
		for i := range 100 {
			a.write(0, "a")
			c.write(0, "c")
			time.Sleep(10 * time.Millisecond)
			switch i {
			case 40:
				check(t, meshes["oregon"].Cut("mumbai", link.Both))
			case 60:
				check(t, meshes["oregon"].Heal("mumbai"))
			}
		}
		time.Sleep(20 * time.Second)
		b.write(0, "b")
		time.Sleep(2 * time.Second)
		for _, m := range []*member{b, c} {
			if diff := cmp.Diff(a.frontier(0), m.frontier(0)); diff != "" {
				t.Errorf("oregon and %s: %s", m.name, diff)
			}
		}
		if len(a.frontier(0)) != 3 {
			t.Errorf("oregon holds %v", a.frontier(0))
		}
		cancel()
		wg.Wait()
		for _, mesh := range meshes {
			check(t, mesh.Close())
		}
	})
}
