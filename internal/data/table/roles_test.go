package table_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

func leased(t *control.Table) { t.Failover = control.FailoverLease }

// isolate cuts a region off from the others and from the group.
func (c *cluster) isolate(name antipode.Region) {
	c.mu.Lock()
	c.stale[name] = c.state
	c.mu.Unlock()
	for n := range c.regions {
		c.cut[[2]antipode.Region{name, n}], c.cut[[2]antipode.Region{n, name}] = true, true
	}
}

// kill isolates a region and takes its lease away.
func (c *cluster) kill(name antipode.Region) {
	c.isolate(name)
	c.unhold[name] = true
}

// rejoin brings a region back.
func (c *cluster) rejoin(name antipode.Region) {
	for n := range c.regions {
		if c.stale[n] == nil || n == name {
			delete(c.cut, [2]antipode.Region{name, n})
			delete(c.cut, [2]antipode.Region{n, name})
		}
	}
	c.mu.Lock()
	delete(c.stale, name)
	c.mu.Unlock()
}

// restart ends a region as a crash does, and starts it on what was durable.
func (c *cluster) restart(name antipode.Region) {
	c.t.Helper()
	c.start(name, c.regions[name].fs.CrashClone(crashed))
}

// fence ends a region's lease and gives its roles away.
func (c *cluster) fence(lost, to antipode.Region) {
	c.t.Helper()
	r := c.state.Regions[lost]
	f := &control.Fence{Region: lost, Number: r.Lease.Number, Renewed: r.Lease.Renewed, At: 1}
	for _, id := range c.state.LostWith(lost) {
		f.Assign = append(f.Assign, control.Assignment{Role: id, To: to})
	}
	c.apply(control.Command{Fence: f})
	c.unhold[lost] = true
}

// back lets a fenced region have a lease again.
func (c *cluster) back(name antipode.Region) {
	c.t.Helper()
	for id := range c.state.Failovers {
		if !c.regions[name].ts.Installed(id) {
			c.t.Fatalf("%s has not put the cutoff of failover %d in force", name, id)
		}
	}
	c.apply(control.Command{Rejoin: &control.Rejoin{Region: name, Number: c.state.Regions[name].Lease.Number, At: 2}})
	delete(c.unhold, name)
}

// steps has some regions, or all that are not isolated, do what can be done now.
func (c *cluster) steps(names ...antipode.Region) {
	c.t.Helper()
	if names == nil {
		for n := range c.regions {
			names = append(names, n)
		}
		slices.Sort(names)
	}
	for _, n := range names {
		_, err := c.regions[n].ts.StepRoles(context.Background())
		if err != nil && c.stale[n] == nil && !errors.Is(err, control.ErrNotEnough) {
			c.t.Logf("step of %s: %v", n, err)
		}
		commits, err := c.regions[n].ship.Kick()
		check(c.t, err)
		for _, k := range commits {
			check(c.t, k.Wait())
		}
	}
}

// settle steps until everything that can be done has been.
func (c *cluster) settle() {
	c.t.Helper()
	for range 8 {
		c.steps()
		c.exchange()
	}
}

func (c *cluster) ref(name string) *control.Table {
	return c.state.Tables[name]
}

func (c *cluster) stranded(at, origin antipode.Region) (out []string) {
	c.t.Helper()
	all, err := c.regions[at].ts.Stranded(context.Background(), origin)
	check(c.t, err)
	for _, s := range all {
		now := string(s.Now)
		if s.Unknown {
			now = "?"
		}
		out = append(out, fmt.Sprintf("%s %s %s=%s now=%s %s", s.Table, s.Kind, s.Key.Partition, s.Body, now, s.State))
	}
	slices.Sort(out)
	return out
}

func (c *cluster) wantStranded(origin antipode.Region, want ...string) {
	c.t.Helper()
	for n := range c.regions {
		if c.stale[n] != nil {
			continue
		}
		if diff := cmp.Diff(want, c.stranded(n, origin)); diff != "" {
			c.t.Errorf("stranded writes of %s as %s lists them: %s", origin, n, diff)
		}
	}
}

// wantRead checks that all regions that are not isolated read the same.
func (c *cluster) wantRead(tbl, key, want string) {
	c.t.Helper()
	for n := range c.regions {
		if c.stale[n] != nil {
			continue
		}
		for _, consistent := range []bool{false, true} {
			if got := c.read(n, tbl, key, consistent); got != want {
				c.t.Errorf("%s reads %s of %s as %q (consistent %v), want %q", n, key, tbl, got, consistent, want)
			}
		}
	}
	for n := range c.regions {
		if got := c.collisions(n, tbl); got != nil {
			c.t.Errorf("two timelines in %s: %v", n, got)
		}
	}
}

func three(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t, oregon, mumbai, paris)
	c.make("catalog", antipode.WriteGlobal, leased)
	c.make("users", antipode.WritePartitioned, leased)
	c.make("carts", antipode.WriteLocal, nil)
	return c
}

func keysOf(n int) (keys []string) {
	for i := range n {
		keys = append(keys, fmt.Sprint("k", i))
	}
	return keys
}

// TestFailover loses the writer after everything has arrived elsewhere.
func TestFailover(t *testing.T) {
	c := three(t)
	for _, k := range keysOf(20) {
		check(t, c.write(oregon, "catalog", k, "put 1"))
		check(t, c.write(oregon, "users", k, "put 1"))
	}
	c.exchange()
	c.kill(oregon)
	if err := c.write(mumbai, "catalog", "k1", "put x"); !errors.Is(err, table.ErrUnavailable) {
		t.Errorf("write without a writer: %v", err)
	}
	c.fence(oregon, mumbai)
	c.settle()
	for _, k := range keysOf(20) {
		check(t, c.write(mumbai, "catalog", k, "append 2"))
		check(t, c.write(paris, "catalog", k, "append 3"))
		check(t, c.write(paris, "users", k, "append 2"))
		check(t, c.write(mumbai, "users", k+"new", "put n"))
		check(t, c.write(paris, "users", k+"newer", "put n"))
	}
	for _, k := range keysOf(20) {
		c.wantRead("catalog", k, "123")
		c.wantRead("users", k, "12")
		c.wantRead("users", k+"new", "n")
		c.wantRead("users", k+"newer", "n")
	}
	c.wantStranded(oregon)
	if h := c.regions[paris].ts.Holder(c.ref("users"), oregon); h.Holder != mumbai || h.Epoch != 2 {
		t.Errorf("holder of oregon's homes: %+v", h)
	}
	// It comes back on its disk, and takes what it missed.
	c.restart(oregon)
	c.rejoin(oregon)
	c.settle()
	c.back(oregon)
	for _, k := range keysOf(20) {
		check(t, c.write(oregon, "catalog", k, "append 4"))
		c.wantRead("catalog", k, "1234")
		c.wantRead("users", k, "12")
	}
	c.wantStranded(oregon)
}

// TestStrandedWrites has an isolated writer go on until its lease ends: what
// nobody else has is taken out when it comes back, and listed.
func TestStrandedWrites(t *testing.T) {
	c := three(t)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	check(t, c.write(oregon, "catalog", "blind", "put 1"))
	check(t, c.write(oregon, "users", "u", "put 1"))
	check(t, c.write(oregon, "carts", "l", "put 1"))
	c.exchange()
	c.isolate(oregon)
	check(t, c.write(oregon, "catalog", "k", "append a"))
	check(t, c.write(oregon, "catalog", "k", "append b"))
	check(t, c.write(oregon, "catalog", "only", "create c"))
	check(t, c.write(oregon, "users", "u", "append a"))
	gone := ""
	for _, k := range keysOf(20) { // one whose arbiter oregon is
		if err := c.write(oregon, "users", k, "put g"); err == nil {
			gone = k
			break
		}
	}
	check(t, c.write(oregon, "carts", "l", "put 2"))
	c.unhold[oregon] = true
	if err := c.write(oregon, "catalog", "k", "append z"); !errors.Is(err, table.ErrUnavailable) || !strings.Contains(err.Error(), "lease") {
		t.Errorf("write without a lease: %v", err)
	}
	if _, err := c.regions[oregon].ts.Get(context.Background(), c.ref("catalog"), table.Key{Partition: []byte("k")}, true, nil); !errors.Is(err, table.ErrUnavailable) {
		t.Errorf("consistent read without a lease: %v", err)
	}
	if got := c.read(oregon, "catalog", "k", false); got != "1ab" {
		t.Errorf("read without a lease: %q", got)
	}
	c.fence(oregon, mumbai)
	c.settle()
	check(t, c.write(paris, "catalog", "k", "append 2"))
	check(t, c.write(paris, "users", "u2", "put 1"))
	c.wantRead("catalog", "k", "12")
	c.wantRead("users", "u", "1")
	c.rejoin(oregon)
	c.settle()
	c.wantRead("catalog", "k", "12")
	c.wantRead("catalog", "only", "")
	c.wantRead("users", "u", "1")
	c.wantRead("users", gone, "")
	c.wantStranded(oregon,
		"catalog write k=1a now=12 open", "catalog write k=1ab now=12 open", "catalog write only=c now= open",
		"users write "+gone+"=g now= open", "users write u=1a now=1 open")
	if got := c.read(mumbai, "carts", "l", false); got != "2" {
		t.Errorf("a write to a local table after its return: %q", got)
	}
	c.back(oregon)

	// Decide on them.
	dots := map[string]antipode.Dot{}
	all, err := c.regions[paris].ts.Stranded(context.Background(), oregon)
	check(t, err)
	for _, s := range all {
		dots[string(s.Key.Partition)+"="+string(s.Body)] = s.Dot
	}
	ctx := context.Background()
	check(t, c.regions[paris].ts.RestoreStranded(ctx, dots["only=c"], false, "ada"))
	c.wantRead("catalog", "only", "c")
	check(t, c.write(mumbai, "catalog", "k", "append 3"))
	var refused *table.Error
	if err := c.regions[paris].ts.RestoreStranded(ctx, dots["k=1ab"], false, "ada"); !errors.As(err, &refused) {
		t.Errorf("restore over what has changed since it was listed: %v", err)
	}
	check(t, c.regions[paris].ts.RestoreStranded(ctx, dots["k=1ab"], true, "ada"))
	check(t, c.regions[paris].ts.DiscardStranded(ctx, dots["k=1a"], "ada"))
	if err := c.regions[mumbai].ts.DiscardStranded(ctx, dots["k=1a"], "bob"); !errors.Is(err, table.ErrNotStranded) {
		t.Errorf("decide twice: %v", err)
	}
	check(t, c.regions[oregon].ts.RestoreStranded(ctx, dots["u=1a"], false, "ada"))
	c.exchange()
	c.wantRead("catalog", "k", "1ab")
	c.wantRead("users", "u", "1a")
	c.wantStranded(oregon,
		"catalog write k=1a now=1ab discarded", "catalog write k=1ab now=1ab restored", "catalog write only=c now=c restored",
		"users write "+gone+"=g now= open", "users write u=1a now=1a restored")
}
