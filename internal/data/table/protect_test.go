package table_test

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

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

const frankfurt = antipode.Region("frankfurt")

// bubble runs a test with a cluster whose clocks are the bubble's, and which
// carries nothing before an answer: a test says what arrives.
func bubble(t *testing.T, test func(*cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{
			t: t, state: control.NewState(), regions: map[antipode.Region]*region{}, cut: map[[2]antipode.Region]bool{},
			lost: map[antipode.Region]uint32{}, stale: map[antipode.Region]*control.State{}, unhold: map[antipode.Region]bool{}, held: true,
		}
		c.now = func() time.Time { return time.Now().Add(time.Duration(c.skip.Load())) }
		for _, n := range []antipode.Region{oregon, mumbai, paris} {
			c.apply(control.Command{PutRegion: &control.Region{Name: n}})
		}
		for _, n := range []antipode.Region{oregon, mumbai, paris} {
			c.start(n, vfs.NewCrashableMem())
		}
		defer func() { // in the bubble, where its goroutines live
			time.Sleep(time.Minute) // requests of regions that crashed come to their end
			for _, r := range c.regions {
				_ = r.store.Close()
			}
		}()
		test(c)
	})
}

// pending is something that was started and has, or has not, come to its end.
type pending struct {
	mu   sync.Mutex // guards what follows
	done bool
	text string
	err  error
}

func (p *pending) now() (done bool, text string, err error) {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done, p.text, p.err
}

func start(f func() (string, error)) *pending {
	p := &pending{}
	go func() {
		text, err := f()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.done, p.text, p.err = true, text, err
	}()
	synctest.Wait()
	return p
}

func (c *cluster) writing(at antipode.Region, tbl, key, op string) *pending {
	return start(func() (string, error) { return "", c.write(at, tbl, key, op) })
}

func (c *cluster) reading(at antipode.Region, tbl, key string, consistent bool) *pending {
	return start(func() (string, error) {
		r := c.regions[at]
		t, err := r.ts.Table(tbl)
		if err != nil {
			return "", err
		}
		b, err := r.ts.Get(context.Background(), t, table.Key{Partition: []byte(key)}, consistent, nil)
		return string(b), err
	})
}

func (c *cluster) ranging(at antipode.Region, tbl string) *pending {
	return start(func() (string, error) {
		r := c.regions[at]
		t, err := r.ts.Table(tbl)
		if err != nil {
			return "", err
		}
		var all []string
		err = r.ts.Range(context.Background(), table.RangeRequest{Table: t}, func(_ table.Key, item []byte) (bool, error) {
			all = append(all, string(item))
			return true, nil
		})
		return strings.Join(all, " "), err
	})
}

func (p *pending) want(t testing.TB, what, text string) {
	t.Helper()
	if done, got, err := p.now(); !done || err != nil || got != text {
		t.Errorf("%s: done %v, got %q, error %v; want %q", what, done, got, err, text)
	}
}

func (p *pending) waits(t testing.TB, what string) {
	t.Helper()
	if done, got, err := p.now(); done {
		t.Errorf("%s was answered with %q, %v, and should wait", what, got, err)
	}
}

func (p *pending) fails(t testing.TB, what string, as error) {
	t.Helper()
	if done, _, err := p.now(); !done || !errors.Is(err, as) {
		t.Errorf("%s: done %v, error %v; want %v", what, done, err, as)
	}
}

// pass lets time go by, in a synctest bubble, in which the regions look after
// their promises.
func (c *cluster) pass(d time.Duration) {
	c.t.Helper()
	for ; d > 0; d -= table.ProtectEvery {
		time.Sleep(min(d, table.ProtectEvery))
		synctest.Wait()
		for _, r := range c.regions {
			check(c.t, r.ts.StepProtect())
		}
		synctest.Wait()
	}
}

// sever cuts a region's links to all others, or mends them.
func (c *cluster) sever(name antipode.Region, cut bool) {
	for other := range c.regions {
		c.cut[[2]antipode.Region{name, other}] = cut
		c.cut[[2]antipode.Region{other, name}] = cut
	}
}

func (c *cluster) noLease(name antipode.Region) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unhold[name] = true
}

func (c *cluster) leaseAgain(name antipode.Region) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unhold, name)
}

func rpo(bound string, edits ...func(*control.Table)) func(*control.Table) {
	return func(t *control.Table) {
		t.RPO = bound
		for _, e := range edits {
			e(t)
		}
	}
}

func copies(n int) func(*control.Table) { return func(t *control.Table) { t.Copies = n } }
func block(t *control.Table)            { t.Unprotected = control.UnprotectedBlock }

// TestHiddenUntilCopied checks, in all write modes, that nothing tells of a write
// before another region has it on disk: not its answer, no read, no refusal that
// leans on it.
func TestHiddenUntilCopied(t *testing.T) {
	for _, mode := range []antipode.WriteMode{antipode.WriteGlobal, antipode.WritePartitioned, antipode.WriteLocal} {
		t.Run(string(mode), func(t *testing.T) {
			bubble(t, func(c *cluster) {
				t := c.t
				c.make("t", mode, rpo("0s"))
				key := "k"
				first := c.writing(oregon, "t", key, "put a")
				first.waits(t, "write")
				get := c.reading(oregon, "t", key, false)
				get.waits(t, "read")
				sure := c.reading(oregon, "t", key, true)
				sure.waits(t, "consistent read")
				scan := c.ranging(oregon, "t")
				scan.waits(t, "scan")
				refused := c.writing(oregon, "t", key, "create b")
				refused.waits(t, "refusal that leans on it")
				c.pass(time.Second)
				first.waits(t, "write after a second")
				c.carry(oregon, paris)
				first.want(t, "write", "")
				get.want(t, "read", "a")
				sure.want(t, "consistent read", "a")
				scan.want(t, "scan", "a")
				_, _, err := refused.now()
				if api, ok := errors.AsType[*table.Error](err); !ok || string(api.Item) != "a" {
					t.Errorf("refusal: %v", err)
				}
			})
		})
	}
}

// TestForwardedWriteWaits checks that a far client is not answered earlier.
func TestForwardedWriteWaits(t *testing.T) {
	bubble(t, func(c *cluster) {
		t := c.t
		c.make("t", antipode.WriteGlobal, rpo("0s", copies(2)))
		w := c.writing(mumbai, "t", "k", "put a")
		w.waits(t, "write")
		c.carry(oregon, mumbai)
		w.waits(t, "write with one copy of two")
		c.carry(oregon, paris)
		w.want(t, "write with two copies", "")
	})
}

// TestDegrade checks that writes go on without copies after a lease, and no
// earlier, that this is on record, also over a crash, and that it ends.
func TestDegrade(t *testing.T) {
	bubble(t, func(c *cluster) {
		t := c.t
		c.make("t", antipode.WriteGlobal, rpo("0s", leased))
		c.make("other", antipode.WriteGlobal, rpo("0s", leased))
		w := c.writing(oregon, "t", "k", "put a")
		c.exchange()
		w.want(t, "write while all are there", "")
		c.sever(oregon, true)
		w = c.writing(oregon, "t", "k", "put b")
		r := c.reading(oregon, "t", "k", false)
		c.pass(3900 * time.Millisecond)
		w.waits(t, "write within a lease")
		r.waits(t, "read within a lease")
		c.pass(200 * time.Millisecond)
		w.want(t, "write after a lease", "")
		r.want(t, "read after a lease", "b")
		c.writing(oregon, "t", "l", "put c").want(t, "next write", "")
		if got := c.stretches(oregon); got != "t: put b to put c, 2 writes, open" {
			t.Errorf("on record: %s", got)
		}
		c.writing(oregon, "other", "k", "put d").want(t, "write to another table", "")

		// It starts again alone: what was answered can be read, and it goes on at once.
		c.reboot(oregon)
		c.reading(oregon, "t", "l", false).want(t, "read after a restart", "c")
		c.writing(oregon, "t", "m", "put e").want(t, "write after a restart", "")
		if got := c.stretches(oregon); got != "t: put b to put e, 3 writes, open; other: put d to put d, 1 writes, open" {
			t.Errorf("on record after a restart: %s", got)
		}

		c.sever(oregon, false)
		c.exchange()
		c.pass(time.Second)
		if got := c.stretches(oregon); got != "t: put b to put e, 3 writes; other: put d to put d, 1 writes" {
			t.Errorf("on record after the return: %s", got)
		}
		w = c.writing(oregon, "t", "k", "put f")
		w.waits(t, "write after the return")
		c.exchange()
		w.want(t, "write after the return", "")
		c.reboot(oregon)
		if got := c.stretches(oregon); got != "t: put b to put e, 3 writes; other: put d to put d, 1 writes" {
			t.Errorf("on record in the end: %s", got)
		}
	})
}

// TestNoLease checks that a region without a lease does not go on without copies:
// another one may have its roles, and knows nothing of the write.
func TestNoLease(t *testing.T) {
	bubble(t, func(c *cluster) {
		t := c.t
		c.make("t", antipode.WriteGlobal, rpo("0s", leased))
		c.make("pinned", antipode.WriteGlobal, rpo("0s"))
		c.sever(oregon, true)
		w := c.writing(oregon, "t", "k", "put a")
		r := c.reading(oregon, "t", "k", false)
		pinned := c.writing(oregon, "pinned", "k", "put b")
		c.noLease(oregon)
		c.pass(5 * time.Second)
		w.fails(t, "write", table.ErrOutcomeUnknown)
		r.fails(t, "read", table.ErrUnavailable)
		pinned.want(t, "write to a pinned table", "")
		if got := c.stretches(oregon); got != "pinned: put b to put b, 1 writes, open" {
			t.Errorf("on record: %s", got)
		}
	})
}

// TestBlock checks that a table can rather wait than go on without copies, and
// says before anything is written that it does.
func TestBlock(t *testing.T) {
	bubble(t, func(c *cluster) {
		t := c.t
		c.make("t", antipode.WriteGlobal, rpo("0s", block))
		c.sever(oregon, true)
		w := c.writing(oregon, "t", "k", "put a")
		c.pass(5 * time.Second)
		w.fails(t, "write", table.ErrOutcomeUnknown)
		w = c.writing(oregon, "t", "k", "put b")
		c.pass(5 * time.Second)
		w.fails(t, "next write", table.ErrUnavailable)
		r := c.reading(oregon, "t", "k", false)
		w = c.writing(oregon, "t", "k", "append c")
		c.sever(oregon, false)
		c.exchange()
		r.want(t, "read", "a")
		c.pass(time.Second)
		w.waits(t, "write after the return, not yet copied")
		c.exchange()
		w.want(t, "write after the return", "")
		if got := c.read(oregon, "t", "k", false); got != "ac" {
			t.Errorf("in the end: %q", got)
		}
		if got := c.stretches(oregon); got != "" {
			t.Errorf("on record: %s", got)
		}
	})
}

// TestBound checks that writes are held back, then refused, while an older one
// has not left the region in time; that those of all modes are; and that this
// ends by itself, and outlives a restart.
func TestBound(t *testing.T) {
	for _, mode := range []antipode.WriteMode{antipode.WriteGlobal, antipode.WritePartitioned, antipode.WriteLocal} {
		t.Run(string(mode), func(t *testing.T) {
			bubble(t, func(c *cluster) {
				t := c.t
				c.make("t", mode, rpo("2s"))
				w := c.writing(oregon, "t", "k", "put -")
				if mode == antipode.WritePartitioned {
					c.exchange()
				}
				w.want(t, "first write", "")
				c.exchange()
				c.sever(oregon, true)
				for i := range 5 { // 0 to 2 s
					c.writing(oregon, "t", "k", fmt.Sprintf("append %d", i)).want(t, "write within the bound", "")
					c.pass(480 * time.Millisecond)
				}
				w = c.writing(oregon, "t", "k", "append x")
				w.waits(t, "write beyond the bound")
				c.pass(1200 * time.Millisecond)
				w.fails(t, "write beyond the bound", table.ErrThrottled)
				if mode != antipode.WritePartitioned { // whose births need the arbiter
					w = c.writing(oregon, "t", "elsewhere", "put z")
					c.pass(1200 * time.Millisecond)
					w.fails(t, "write to a shard that nothing was written to", table.ErrThrottled)
				}
				c.reboot(oregon)
				w = c.writing(oregon, "t", "k", "append y")
				w.waits(t, "write after a restart")
				c.sever(oregon, false)
				c.carry(oregon, paris)
				w.want(t, "write once the others have what was before", "")
				if got := c.read(oregon, "t", "k", false); got != "-01234y" {
					t.Errorf("in the end: %q", got)
				}
			})
		})
	}
}

// TestThrottledFromAfar checks that who forwarded a write hears what it is.
func TestThrottledFromAfar(t *testing.T) {
	bubble(t, func(c *cluster) {
		t := c.t
		c.make("t", antipode.WriteGlobal, rpo("500ms"))
		c.writing(oregon, "t", "k", "put a").want(t, "write", "")
		c.pass(time.Second)
		w := c.writing(mumbai, "t", "k", "put b")
		c.pass(1200 * time.Millisecond)
		w.fails(t, "forwarded write", table.ErrThrottled)
		c.exchange()
		w = c.writing(mumbai, "t", "k", "put c")
		c.exchange()
		w.want(t, "forwarded write", "")
	})
}

// TestRestartKnowsCopies checks that a region that starts alone shows what others
// held before, and hides what they may not.
func TestRestartKnowsCopies(t *testing.T) {
	bubble(t, func(c *cluster) {
		t := c.t
		c.make("t", antipode.WriteGlobal, rpo("0s", leased))
		w := c.writing(oregon, "t", "a", "put a")
		c.exchange()
		w.want(t, "write", "")
		c.pass(2 * time.Second)
		c.sever(oregon, true)
		c.writing(oregon, "t", "b", "put b").waits(t, "write")
		c.reboot(oregon)
		c.noLease(oregon)
		c.reading(oregon, "t", "a", false).want(t, "what others held", "a")
		r := c.reading(oregon, "t", "b", false)
		c.pass(4 * time.Second)
		r.waits(t, "read of what nobody else has")
		c.pass(time.Second)
		r.fails(t, "read of what nobody else has", table.ErrUnavailable)
		c.sever(oregon, false)
		c.exchange()
		// Whoever has taken over keeps what does not count, too, and says so.
		r = c.reading(oregon, "t", "b", false)
		c.pass(time.Second)
		r.waits(t, "read of what others may have as a write that does not count")
		c.leaseAgain(oregon)
		c.pass(time.Second)
		r.want(t, "read of what others have by now", "b")
	})
}

// TestJournalingWitness checks that a witness that keeps journals counts as a
// copy, keeps no items, passes on what a lost region wrote, and survives a
// restart and the loss of its disk.
func TestJournalingWitness(t *testing.T) {
	bubble(t, func(c *cluster) {
		t := c.t
		c.apply(control.Command{PutRegion: &control.Region{Name: frankfurt, Witness: true, Journal: true}})
		c.start(frankfurt, vfs.NewCrashableMem())
		c.make("t", antipode.WriteGlobal, rpo("0s"))
		c.make("l", antipode.WriteLocal, nil)
		check(t, c.write(paris, "l", "k", "put x"))
		c.sever(mumbai, true)
		c.sever(paris, true)
		w := c.writing(oregon, "t", "k", "put a")
		w.waits(t, "write")
		c.carry(oregon, frankfurt)
		w.want(t, "write that the witness has", "")
		if n := count(t, c.regions[frankfurt], 'i'); n != 0 {
			t.Errorf("the witness keeps %d items", n)
		}
		c.reboot(frankfurt)
		c.sever(oregon, true)
		c.sever(paris, false)
		c.sever(mumbai, false)
		c.cut[[2]antipode.Region{frankfurt, oregon}], c.cut[[2]antipode.Region{oregon, frankfurt}] = true, true
		for _, r := range []antipode.Region{mumbai, paris} {
			c.cut[[2]antipode.Region{r, oregon}], c.cut[[2]antipode.Region{oregon, r}] = true, true
		}
		c.exchange()
		c.reading(paris, "t", "k", false).want(t, "read of what only the witness had", "a")
		c.sever(oregon, false)
		c.exchange()

		// Its disk is lost: it comes back as a new author and gets the journals again,
		// by copy where they were cut meanwhile.
		c.skip.Store(int64(25 * time.Hour))
		for _, r := range c.regions {
			check(t, r.ts.Sweep(context.Background()))
		}
		if n := count(t, c.regions[oregon], 'j'); n != 0 {
			t.Fatalf("%d entries were not cut", n)
		}
		check(t, c.regions[frankfurt].store.Close())
		c.lost[frankfurt]++
		c.start(frankfurt, vfs.NewCrashableMem())
		c.exchange()
		f := c.regions[frankfurt]
		served, err := f.ts.Serve(f.ts.Copies(), func() error { return nil })
		if !served || err != nil {
			t.Fatalf("filled: %v %v", served, err)
		}
		for _, id := range c.regions[oregon].log.Shards() {
			if want, got := c.regions[oregon].log.Shard(id).Applied(), f.log.Shard(id).Applied(); !got.Covers(want) {
				t.Errorf("shard %s: the witness has %v of %v", id, got, want)
			}
		}
		if n := count(t, f, 'i'); n != 0 {
			t.Errorf("the witness keeps %d items after it was filled", n)
		}
		// A region that lost its disk takes no copy from it: it has no items to give.
		check(t, c.regions[mumbai].store.Close())
		c.lost[mumbai]++
		c.start(mumbai, vfs.NewCrashableMem())
		c.sever(mumbai, true)
		c.cut[[2]antipode.Region{mumbai, frankfurt}], c.cut[[2]antipode.Region{frankfurt, mumbai}] = false, false
		c.exchange()
		if served, err := c.regions[mumbai].ts.Serve(c.regions[mumbai].ts.Copies(), func() error { return nil }); err != nil || !served {
			t.Fatalf("serve: %v %v", served, err)
		}
		if n := count(t, c.regions[mumbai], 'f'); n != 0 {
			t.Errorf("mumbai took %d journals without items from the witness", n)
		}
		c.sever(mumbai, true)
		c.sever(paris, true)
		w = c.writing(oregon, "t", "k", "put b")
		c.carry(oregon, frankfurt)
		w.want(t, "write that the new witness has", "")
	})
}

// reboot crashes a region, in a synctest bubble, and starts it on what its disk
// holds.
func (c *cluster) reboot(name antipode.Region) {
	c.t.Helper()
	old := c.regions[name]
	fs := old.fs.CrashClone(crashed)
	check(c.t, old.store.Close())
	time.Sleep(time.Millisecond) // stamps go on rising
	c.start(name, fs)
}

// stretches lists what a region answered without copies.
func (c *cluster) stretches(at antipode.Region) string {
	c.t.Helper()
	r := c.regions[at]
	all, err := r.ts.Unprotected(context.Background())
	check(c.t, err)
	var out []string
	for _, s := range all {
		text := fmt.Sprintf("%s: %s to %s, %d writes", s.Name, c.body(r, s.First.Dot), c.body(r, s.Last.Dot), s.Writes)
		if s.Open {
			text += ", open"
		} else if s.Ended == 0 {
			text += ", without an end"
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// body tells which write a dot is.
func (c *cluster) body(r *region, dot string) string {
	c.t.Helper()
	d, err := antipode.ParseDot(dot)
	check(c.t, err)
	body := "?"
	check(c.t, r.log.Read(d.Shard, d.Origin, d.Seq-1, d.Seq, func(_ uint64, raw []byte) bool {
		var names journal.Origins
		e, err := names.Decode(raw)
		check(c.t, err)
		body = "put " + string(e.Mutation.Body)
		return false
	}))
	return body
}

// TestFencedGivesNoCopy checks that a write does not wait for a region that all
// know to be lost, that this is on record, and that it ends with its return.
func TestFencedGivesNoCopy(t *testing.T) {
	bubble(t, func(c *cluster) {
		t := c.t
		c.make("t", antipode.WriteGlobal, rpo("0s", copies(2), leased))
		c.make("strict", antipode.WriteGlobal, rpo("0s", copies(2), leased, block))
		c.sever(paris, true)
		w := c.writing(oregon, "t", "k", "put a")
		c.pass(time.Second)
		w.waits(t, "write while paris may come back")
		c.fence(paris, mumbai)
		c.pass(500 * time.Millisecond)
		w.want(t, "write once paris is fenced", "")
		c.writing(oregon, "t", "k", "put b").want(t, "next write", "")
		w = c.writing(oregon, "strict", "k", "put c")
		c.pass(6 * time.Second)
		w.fails(t, "write that may not go on without", table.ErrUnavailable)
		if got := c.stretches(oregon); got != "t: put a to put b, 2 writes, open" {
			t.Errorf("on record: %s", got)
		}
		c.sever(paris, false)
		c.back(paris)
		c.exchange()
		c.pass(time.Second)
		w = c.writing(oregon, "t", "k", "put d")
		w.waits(t, "write after the return")
		c.exchange()
		w.want(t, "write after the return", "")
		if got := c.stretches(oregon); got != "t: put a to put b, 2 writes" {
			t.Errorf("on record after the return: %s", got)
		}
	})
}

// TestCountWaitsForNobody checks that the number of items is told while reads
// wait for copies: `antipode status` must answer just then.
func TestCountWaitsForNobody(t *testing.T) {
	bubble(t, func(c *cluster) {
		t := c.t
		c.make("t", antipode.WriteGlobal, rpo("0s", block))
		c.writing(oregon, "t", "k", "put a").waits(t, "write")
		c.ranging(oregon, "t").waits(t, "read")
		count := start(func() (string, error) {
			ref, err := c.regions[oregon].ts.Table("t")
			if err != nil {
				return "", err
			}
			items, _, err := c.regions[oregon].ts.Count(context.Background(), ref)
			return fmt.Sprint(items), err
		})
		count.want(t, "count", "1")
		c.exchange()
	})
}
