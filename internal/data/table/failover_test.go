package table_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

func (c *cluster) get(at antipode.Region, tbl, key string, consistent bool) (string, error) {
	b, err := c.regions[at].ts.Get(context.Background(), c.ref(tbl), table.Key{Partition: []byte(key)}, consistent, nil)
	return string(b), err
}

// TestUnheardSurvivor has a survivor that was cut off while the cutoff was fixed,
// and that had got more of the lost writer than the successor.
func TestUnheardSurvivor(t *testing.T) {
	c := three(t)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	check(t, c.write(oregon, "catalog", "b", "put 1"))
	check(t, c.write(oregon, "users", "u", "put 1"))
	c.exchange()
	c.isolate(mumbai)
	check(t, c.write(oregon, "catalog", "k", "append x"))
	check(t, c.write(oregon, "catalog", "b", "blind x"))
	check(t, c.write(oregon, "users", "u", "append x"))
	c.carry(oregon, paris)
	c.rejoin(mumbai)
	c.kill(oregon)
	c.kill(paris)
	c.fence(oregon, mumbai)
	c.fence(paris, mumbai)
	c.settle()
	check(t, c.write(mumbai, "catalog", "k", "append 2"))
	c.wantStranded(oregon)
	if got := c.read(paris, "catalog", "k", false); got != "1x" {
		t.Errorf("paris while it is cut off: %q", got)
	}
	// Paris hears of it by the group first, and of nothing else.
	c.rejoin(paris)
	for _, r := range []antipode.Region{mumbai, oregon} {
		c.cut[[2]antipode.Region{r, paris}] = true
	}
	c.steps(paris)
	if got, err := c.get(paris, "catalog", "b", false); !errors.Is(err, table.ErrUnavailable) {
		t.Errorf("paris reads an item that it can't know: %q %v", got, err)
	}
	err := c.regions[paris].ts.Range(context.Background(), table.RangeRequest{Table: c.ref("catalog")},
		func(table.Key, []byte) (bool, error) { return true, nil })
	if !errors.Is(err, table.ErrUnavailable) {
		t.Errorf("paris scans a table with an item that it can't know: %v", err)
	}
	if got := c.read(paris, "users", "u", false); got != "1" {
		t.Errorf("what the version before in the journal gives: %q", got)
	}
	c.restart(paris) // it keeps to that
	if got, err := c.get(paris, "catalog", "b", false); !errors.Is(err, table.ErrUnavailable) {
		t.Errorf("after a restart, paris reads an item that it can't know: %q %v", got, err)
	}
	c.rejoin(paris)
	if got, err := c.get(paris, "catalog", "b", false); got != "1" {
		t.Errorf("a pending item is asked for: %q %v", got, err)
	}
	c.settle()
	c.back(paris)
	if n := count(t, c.regions[paris], 'p'); n != 0 {
		t.Errorf("%d items are pending still", n)
	}
	c.wantRead("catalog", "k", "12")
	c.wantRead("catalog", "b", "1")
	c.wantRead("users", "u", "1")
	want := []string{"catalog write b=x now=1 open", "catalog write k=1x now=12 open", "users write u=1x now=1 open"}
	if got := c.stranded(paris, oregon); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stranded: %q", got)
	}
	c.rejoin(oregon)
	c.settle()
	c.wantStranded(oregon, want...)
	c.wantRead("catalog", "b", "1")
}

// TestEqualise has the successor pull what only another survivor has.
func TestEqualise(t *testing.T) {
	c := three(t)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	c.exchange()
	c.cut[[2]antipode.Region{oregon, mumbai}] = true
	check(t, c.write(oregon, "catalog", "k", "append x"))
	c.carry(oregon, paris)
	c.kill(oregon)
	c.fence(oregon, mumbai)
	// Paris seals: from now on it takes no more of oregon's.
	c.steps(paris)
	if adm := c.regions[paris].ts.Admit(&journal.Entry{
		Dot: antipode.Dot{Origin: antipode.Origin{Region: oregon, Incarnation: 1}, Shard: c.ref("catalog").Shards(), Seq: 9}, Epoch: 1, Kind: journal.KindWrite,
		Mutation: antipode.Mutation{Table: c.ref("catalog").ID},
	}); adm != journal.NotYet {
		t.Errorf("an entry of a sealed tenure is admitted: %v", adm)
	}
	c.cut[[2]antipode.Region{paris, mumbai}] = true
	c.steps(mumbai) // it has not heard all that paris had: no cutoff
	for _, f := range c.state.Failovers {
		if f.Cutoff != nil {
			t.Fatal("a cutoff was fixed without what a live member had")
		}
	}
	delete(c.cut, [2]antipode.Region{paris, mumbai})
	c.settle()
	check(t, c.write(paris, "catalog", "k", "append 2"))
	c.wantRead("catalog", "k", "1x2")
	c.rejoin(oregon)
	c.settle()
	c.wantRead("catalog", "k", "1x2")
	c.wantStranded(oregon)
}

// TestSecondFailover loses the successor, too.
func TestSecondFailover(t *testing.T) {
	c := three(t)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	check(t, c.write(oregon, "users", "u", "put 1"))
	c.exchange()
	c.isolate(oregon)
	check(t, c.write(oregon, "catalog", "k", "append o"))
	c.unhold[oregon] = true
	c.fence(oregon, mumbai)
	c.settle()
	check(t, c.write(paris, "catalog", "k", "append 2"))
	check(t, c.write(paris, "users", "u", "append 2"))
	c.exchange()
	c.isolate(mumbai)
	check(t, c.write(mumbai, "catalog", "k", "append m"))
	check(t, c.write(mumbai, "users", "u", "append m"))
	c.unhold[mumbai] = true
	c.fence(mumbai, paris)
	c.settle()
	check(t, c.write(paris, "catalog", "k", "append 3"))
	check(t, c.write(paris, "users", "u", "append 3"))
	c.wantRead("catalog", "k", "123")
	// Oregon comes back first, and hears of mumbai's epoch from paris only.
	c.rejoin(oregon)
	c.settle()
	c.back(oregon)
	c.wantRead("catalog", "k", "123")
	c.wantRead("users", "u", "123")
	c.rejoin(mumbai)
	c.settle()
	c.back(mumbai)
	c.wantRead("catalog", "k", "123")
	c.wantRead("users", "u", "123")
	c.wantStranded(oregon, "catalog write k=1o now=123 open")
	c.wantStranded(mumbai, "catalog write k=12m now=123 open", "users write u=12m now=123 open")
	check(t, c.write(oregon, "users", "u", "append 4"))
	c.wantRead("users", "u", "1234")
}

// TestCutoffByJournal lets a region learn of a cutoff from the successor's
// journal alone.
func TestCutoffByJournal(t *testing.T) {
	c := three(t)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	check(t, c.write(oregon, "users", "u", "put 1"))
	c.exchange()
	c.cut[[2]antipode.Region{oregon, mumbai}] = true
	c.kill(oregon)
	c.fence(oregon, mumbai)
	c.steps(paris) // seals
	c.stale[paris] = c.state
	c.steps(mumbai)
	c.steps(mumbai)
	check(t, c.write(mumbai, "catalog", "k", "append 2"))
	c.carry(mumbai, paris)
	if got := c.read(paris, "catalog", "k", false); got != "12" {
		t.Errorf("paris reads %q", got)
	}
	if h := c.regions[paris].ts.Holder(c.ref("catalog"), ""); h.Holder != mumbai || h.Epoch != 2 {
		t.Errorf("paris takes %+v for the writer", h)
	}
	check(t, c.write(paris, "catalog", "k", "append 3"))
	if got := c.read(paris, "catalog", "k", true); got != "123" {
		t.Errorf("paris reads %q", got)
	}
	// The returning writer hears of it in the same way.
	c.restart(oregon)
	delete(c.cut, [2]antipode.Region{oregon, mumbai})
	delete(c.cut, [2]antipode.Region{mumbai, oregon})
	delete(c.unhold, oregon) // it may think what it wants of its lease
	c.carry(mumbai, oregon)
	check(t, c.write(oregon, "catalog", "k", "append 4"))
	if got := c.read(mumbai, "catalog", "k", true); got != "1234" {
		t.Errorf("mumbai reads %q", got)
	}
}

// TestLostAnswer has answers of forwarded writes get lost.
func TestLostAnswer(t *testing.T) {
	c := three(t)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	check(t, c.write(oregon, "users", "u", "put 1"))
	c.exchange()
	lost := errors.New("connection reset")
	// Never arrived, and the tenure ends without it: it is sent to the new holder.
	done := make(chan error)
	sent := make(chan struct{})
	c.intercept = func(from, to antipode.Region, method string) error {
		if method != "table.write" || from != paris || to != oregon {
			return nil
		}
		close(sent)
		return lost
	}
	go func() { done <- c.write(paris, "catalog", "k", "append 3") }()
	<-sent
	c.kill(oregon)
	c.fence(oregon, mumbai)
	c.settle()
	check(t, <-done)
	c.exchange()
	c.wantRead("catalog", "k", "13")
}

// TestStrandedAgain: a request whose write was stranded and that its forwarder
// repeated at the next holder has happened once, and the list says so.
func TestStrandedAgain(t *testing.T) {
	c := three(t)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	c.exchange()
	sent := make(chan struct{})
	c.held = true
	c.answer = func(from, to antipode.Region, method string) error {
		if method != "table.write" || from != paris || to != oregon {
			return nil
		}
		close(sent)
		return errors.New("connection reset")
	}
	done := make(chan error)
	go func() { done <- c.write(paris, "catalog", "k", "append 2") }()
	<-sent
	c.isolate(oregon)
	c.unhold[oregon] = true
	c.fence(oregon, mumbai)
	c.settle()
	check(t, <-done)
	c.answer, c.held = nil, false
	check(t, c.write(mumbai, "catalog", "k", "append 3"))
	c.rejoin(oregon)
	c.settle()
	c.back(oregon)
	c.wantRead("catalog", "k", "123")
	c.wantStranded(oregon, "catalog write k=12 now=123 open")
	for n, r := range c.regions {
		list, err := r.ts.Stranded(t.Context(), oregon)
		if err != nil || len(list) != 1 || list[0].Again.Origin.Region != mumbai {
			t.Fatalf("%s lists %+v, %v; want it carried out again in mumbai", n, list, err)
		}
		if err := r.ts.RestoreStranded(t.Context(), list[0].Dot, false, "me"); !errors.Is(err, table.ErrNotStranded) {
			t.Errorf("%s restores what has happened: %v", n, err)
		}
	}
}

// TestTombstonePutBack: a tombstone that comes back when the write after it is
// stranded is dropped, though a sweep has passed it by that time.
func TestTombstonePutBack(t *testing.T) {
	c := three(t)
	sweep := func() {
		for _, n := range roleRegions {
			check(t, c.regions[n].ts.Sweep(t.Context()))
		}
	}
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	check(t, c.write(oregon, "users", "u", "put 1"))
	c.exchange()
	check(t, c.write(oregon, "catalog", "k", "delete"))
	check(t, c.write(oregon, "users", "u", "delete"))
	c.exchange()
	c.isolate(oregon)
	check(t, c.write(oregon, "catalog", "k", "put 2"))
	check(t, c.write(oregon, "users", "u", "put 2"))
	sweep()
	c.unhold[oregon] = true
	c.fence(oregon, mumbai)
	c.settle()
	c.rejoin(oregon)
	c.settle()
	c.back(oregon)
	sweep()
	c.wantStranded(oregon, "catalog write k=2 now= open", "users write u=2 now= open")
	for _, n := range roleRegions {
		if n, r := count(t, c.regions[n], 'i'), n; n != 0 {
			t.Errorf("%s keeps %d tombstones that are stable", r, n)
		}
	}
}

// TestAnswerByJournal finds the outcome of a forwarded write in the journal.
func TestAnswerByJournal(t *testing.T) {
	c := three(t)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	c.exchange()
	c.answer = func(from, _ antipode.Region, method string) error {
		if method == "table.write" && from == paris {
			return errors.New("connection reset")
		}
		return nil
	}
	check(t, c.write(paris, "catalog", "k", "append 2"))
	c.wantRead("catalog", "k", "12")
}

// TestCrashDuringFailover crashes each region after each step of a failover.
func TestCrashDuringFailover(t *testing.T) {
	for crash := range 6 {
		for _, who := range []antipode.Region{mumbai, paris} {
			t.Run(fmt.Sprint(who, crash), func(t *testing.T) {
				c := three(t)
				check(t, c.write(oregon, "catalog", "k", "put 1"))
				check(t, c.write(oregon, "users", "u", "put 1"))
				c.exchange()
				c.isolate(oregon)
				check(t, c.write(oregon, "catalog", "k", "append o"))
				check(t, c.write(oregon, "catalog", "k", "blind o"))
				c.unhold[oregon] = true
				c.fence(oregon, mumbai)
				n := 0
				c.proposed = func(antipode.Region, control.Command) error {
					if n++; n == crash {
						return errCut // the command is applied, and nobody hears of it
					}
					return nil
				}
				for i := range 10 {
					c.steps()
					if i == crash/2 {
						c.restart(who)
					}
					c.exchange()
				}
				c.proposed = nil
				c.settle()
				check(t, c.write(paris, "catalog", "k", "append 2"))
				check(t, c.write(paris, "users", "u", "append 2"))
				c.wantRead("catalog", "k", "12")
				c.rejoin(oregon)
				c.steps(oregon)
				c.restart(oregon)
				c.settle()
				c.back(oregon)
				c.wantRead("catalog", "k", "12")
				c.wantRead("users", "u", "12")
				c.wantStranded(oregon, "catalog write k=1o now=12 open", "catalog write k=o now=12 open")
			})
		}
	}
}

// TestPromotedWithPending promotes a region that has taken a version out and
// never learned what it replaced, after all who know are gone: it writes that
// version anew, so that what it was built on does not vanish.
func TestPromotedWithPending(t *testing.T) {
	c := three(t)
	check(t, c.write(oregon, "catalog", "b", "put 1"))
	check(t, c.write(oregon, "catalog", "c", "put 1"))
	c.exchange()
	c.isolate(mumbai)
	check(t, c.write(oregon, "catalog", "b", "blind x"))
	check(t, c.write(oregon, "catalog", "c", "blind x"))
	c.carry(oregon, paris)
	c.rejoin(mumbai)
	c.kill(oregon)
	c.kill(paris)
	c.fence(oregon, mumbai)
	c.fence(paris, mumbai)
	c.settle()
	c.rejoin(paris)
	for _, r := range []antipode.Region{mumbai, oregon} {
		c.cut[[2]antipode.Region{r, paris}] = true
	}
	c.steps(paris)
	c.back(paris)
	if n := count(t, c.regions[paris], 'p'); n != 2 {
		t.Fatalf("%d items are pending, want 2", n)
	}
	c.kill(mumbai)
	c.fence(mumbai, paris)
	c.restart(paris)
	c.steps(paris)
	c.steps(paris)
	for _, k := range []string{"b", "c"} {
		if got, err := c.get(paris, "catalog", k, true); got != "x" {
			t.Errorf("paris reads %q %v", got, err)
		}
	}
	check(t, c.write(paris, "catalog", "b", "append 2"))
	want := []string{"catalog write b=x now=x2 restored", "catalog write c=x now=x restored"}
	if got := c.stranded(paris, oregon); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stranded: %q", got)
	}
	for _, r := range []antipode.Region{mumbai, oregon} {
		c.rejoin(r)
		c.settle()
		c.back(r)
	}
	c.wantRead("catalog", "b", "x2")
	c.wantRead("catalog", "c", "x")
}

// TestRunRoles lets the loops do what the other tests do by hand.
func TestRunRoles(t *testing.T) {
	c := three(t)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	c.exchange()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, n := range []antipode.Region{mumbai, paris} {
		wg.Go(func() { c.regions[n].ts.RunRoles(ctx, c.changes) })
	}
	c.kill(oregon)
	c.fence(oregon, mumbai)
	check(t, c.write(mumbai, "catalog", "k", "append 2")) // waits until it is open
	c.switchTo(paris, c.role("catalog", ""))
	done := make(chan error)
	go func() { done <- c.write(mumbai, "catalog", "k", "append 3") }()
	for wrote := false; !wrote || c.catalog(paris).Tables["catalog"].Writer != paris; {
		select {
		case err := <-done:
			check(t, err)
			wrote = true
		default:
			c.exchange()
		}
	}
	cancel()
	wg.Wait()
	c.exchange()
	c.wantRead("catalog", "k", "123")
}
